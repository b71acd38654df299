//! What an embedded store may take.

use std::time::Duration;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// The part of the memory that there is, which is for pages unless it is said otherwise.
const PART: u64 = 16;

/// As much at the least: half of it has room for what a transaction writes.
const LEAST: u64 = 96 << 20;

/// How to use the memory and the disk of the machine.
///
/// # Defaults
/// Two seconds for an answer of the disk. For pages of the tables a sixteenth of the memory of the machine, or of what the control
/// group of this process may take (of a container, or a unit of systemd) if that is less; 96 MiB
/// at the least.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use oncegate::{
///     ambient::System,
///     store::{EmbeddedOptions, EmbeddedStore},
/// };
///
/// // Room for the index of ten million records.
/// let options = EmbeddedOptions { page_cache: 640 << 20, ..EmbeddedOptions::default() };
/// let store = EmbeddedStore::open_with("./oncegate-data", Arc::new(System), options)?;
/// # Ok::<(), oncegate::store::StoreError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// The most memory for pages of the tables, in bytes. It is taken as records come, some 60
    /// bytes for each, and not before there are hundreds of thousands of them.
    ///
    /// Records that are read again soon are in the cache of done records anyway, and responses
    /// are read from their file. A new key costs the same with any size, as long as half of it
    /// has room for what a transaction writes, some 32 MiB. An old record is found microseconds
    /// sooner when its page of the index is here.
    ///
    /// What tells new keys from old ones takes another 1.5 bytes a record, and is no part of
    /// this.
    pub page_cache: usize,
    /// How long an operation waits for the disk. Beyond it nobody knows whether it lasts, as with
    /// a remote store whose reply is late; and as long as the disk does not answer, what comes is
    /// refused at once, so that nothing piles up.
    ///
    /// A look for an old record whose page of the index is not in memory is not bounded.
    pub reply_timeout: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        let part = memory().map_or(LEAST, |memory| (memory / PART).max(LEAST));
        Self {
            page_cache: usize::try_from(part).unwrap_or(usize::MAX),
            reply_timeout: Duration::from_secs(2),
        }
    }
}

/// How many bytes of memory this process may take, as far as the system says.
fn memory() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let whole = system.total_memory();
    let mut limited = || {
        let this = sysinfo::get_current_pid().ok()?;
        let only = ProcessesToUpdate::Some(&[this]);
        system.refresh_processes_specifics(only, true, ProcessRefreshKind::nothing());
        Some(system.process(this)?.cgroup_limits()?.total_memory)
    };
    Some(limited().map_or(whole, |limited| limited.min(whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_page_cache_is_part_of_the_memory() {
        let (memory, usual) = (memory().unwrap(), EmbeddedOptions::default().page_cache as u64);
        assert!(memory > 128 << 20, "{memory} bytes of memory");
        assert!(usual == LEAST || usual == memory / PART, "{usual} of {memory}");
    }
}
