//! The thread that works on the tables: what the journal holds is moved into them, and
//! what has expired is removed.
//!
//! Nobody waits for it: a claim is answered when the journal has it. So it has a lower
//! priority than whoever is waited for, and removes in small steps with pauses, so that
//! the claims' forced writes find the disk free, and with every move as many as the move
//! may have added. When it falls behind, the [committer](super::committer) slows down.

use std::{
    mem,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    recent::Shared,
    row::Changes,
    shelf,
    tables::{Broken, Layout, Reader},
};

/// The most expired entries that one step removes.
const SWEEP: usize = 512;

/// How long one step looks for more to remove.
const SWEEP_TIME: Duration = Duration::from_millis(5);

/// How long the thread waits for work before it looks for expired entries.
const IDLE: Duration = Duration::from_secs(1);

/// By how much the thread is nicer than others (`setpriority(2)`): one that serves requests
/// gets nine times its share of a processor that both want.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Changes that are to be moved.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) changes: Arc<Changes>,
    /// The last frame of the journal that is in them.
    pub(super) last: u64,
}

/// The thread's own things.
pub(super) struct Mover {
    pub(super) shared: Arc<Shared>,
    pub(super) moves: Receiver<Move>,
    pub(super) layout: Layout,
}

impl Mover {
    /// Works until the committer is gone and everything was moved.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _panic = Fuse(&shared);
        step_back();
        let mut pause = IDLE;
        loop {
            let work = match self.moves.recv_timeout(pause) {
                Ok(next) => Some(next),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            pause = self.turn(work);
        }
    }

    /// Returns for how long there is nothing to do; after a write has failed there is nothing.
    fn turn(&mut self, work: Option<Move>) -> Duration {
        if self.shared.failed.load(Relaxed) {
            return IDLE;
        }
        self.step(work).unwrap_or_else(|error| {
            tracing::error!(%error, "the embedded store could not write its tables");
            // What was acknowledged is in the journal, which is read when the file is opened.
            self.shared.failed.store(true, Relaxed);
            IDLE
        })
    }

    /// Returns for how long there is nothing to do.
    fn step(&mut self, work: Option<Move>) -> Result<Duration, Broken> {
        let (begun, now) = (Instant::now(), self.shared.ambient.now());
        if let Some(Move { changes, last }) = work {
            let sweep = SWEEP + 2 * changes.len();
            let (database, layout) = (&self.shared.database, &mut self.layout);
            let swept = shelf::store(database, layout, &changes, last, now, sweep)?;
            let tables = Arc::new(Reader::open(database, layout)?);
            let mut recent = self.shared.recent_mut();
            let moved = (recent.moving.take(), mem::replace(&mut recent.tables, tables));
            recent.moved += 1;
            drop(recent);
            // To free thousands of rows takes a while, and nobody need wait for it.
            drop((moved, changes));
            return Ok(if swept == sweep { Duration::ZERO } else { IDLE });
        }
        let tables = Arc::clone(&self.shared.recent().tables);
        if !tables.is_due(now)? {
            return Ok(IDLE);
        }
        drop(tables);
        let (database, layout) = (&self.shared.database, &mut self.layout);
        let swept = shelf::sweep(database, layout, now, SWEEP, SWEEP_TIME)?;
        // The pages that were left can be used again when nobody looks at them any more. Where
        // nothing could be removed nothing is due from now on.
        let tables = Arc::new(Reader::open(database, layout)?);
        let before = mem::replace(&mut self.shared.recent_mut().tables, tables);
        drop(before);
        // Half of the time is left to others.
        Ok(if swept == 0 { IDLE } else { begun.elapsed() })
    }
}

/// Gives the thread that calls it a lower priority. Only Linux has priorities of threads;
/// elsewhere they compete as equals.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        // Others only wait a little longer.
        tracing::debug!(%error, "the thread of the tables keeps its priority");
    }
}

/// Says so when the thread panics: otherwise others would wait for it.
struct Fuse<'s>(&'s Shared);

impl Drop for Fuse<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use redb::{Database, backends::InMemoryBackend};

    use super::*;
    use crate::{
        ambient::System,
        store::embedded::{common::Common, meta},
    };

    #[test]
    fn after_a_write_has_failed_there_is_nothing_to_do() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        meta::prepare(&database, &System).unwrap().unwrap();
        let layout = Layout::open(&database, Box::new(Common::default())).unwrap();
        let mut layout = layout.unwrap();
        let tables = Reader::open(&database, &mut layout).unwrap();
        let shared = Arc::new(Shared::new(database, tables, Arc::new(System)));
        shared.failed.store(true, Relaxed);
        let (_moves, moves) = mpsc::channel();
        let mut mover = Mover { shared, moves, layout };
        for work in [None, Some(Move { changes: Arc::default(), last: 1 })] {
            assert_eq!(mover.turn(work), IDLE);
        }
    }
}
