//! Why a part of the demo cannot go on: each names the flag or the peer, and
//! what to do.

use std::{error::Error as StdError, io, net::SocketAddr, path::PathBuf, time::Duration};

use super::ledger::LedgerError;

/// Why a part of the demo cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr} ({flag}): {source}; choose another address")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The ledger's file cannot be opened.
    #[error(
        "cannot open the ledger {} (--data): {reason}; is another process using the folder?",
        path.display()
    )]
    OpenLedger {
        /// The file.
        path: PathBuf,
        /// What the database or the system said.
        reason: Box<dyn StdError + Send + Sync>,
    },
    /// The ledger failed while it was in use.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The link would perhaps break nothing.
    #[error(
        "so few payments may all come through a link that breaks so little, and then there is \
         no story: --payments must be {0} or more, or --before and --after higher"
    )]
    TooFew(u64),
    /// There is no folder for temporary data.
    #[error("cannot make a temporary data folder: {0}; point TMPDIR at a folder with room")]
    Scratch(io::Error),
    /// A peer did not come up in time.
    #[error("{what} at {peer} ({flag}) did not answer within {waited:?}: {last}; is it running?")]
    NotReady {
        /// What was waited for.
        what: &'static str,
        /// Where.
        peer: String,
        /// The flag that names it.
        flag: &'static str,
        /// How long.
        waited: Duration,
        /// What the last attempt met.
        last: String,
    },
    /// The ledger's service answered something else than asked for.
    #[error("the ledger at {peer} could not {doing}: {reason}")]
    Service {
        /// Where.
        peer: String,
        /// What it was asked.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
    /// A gate could not be started.
    #[error("cannot start a gate in front of {upstream}: {reason}")]
    Gate {
        /// The gate's upstream.
        upstream: String,
        /// What the gate said.
        reason: Box<dyn StdError + Send + Sync>,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}
