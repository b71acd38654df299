//! The thread that works on the tables: what the journal holds is moved into them, and
//! what has expired is removed.
//!
//! Nobody waits for it: a claim is answered when the journal has it. So it has a lower
//! priority than whoever is waited for, and removes in small steps with pauses, so that
//! the claims' forced writes find the disk free, and with every move as many as the move
//! may have added. When it falls behind, the [committer](super::committer) slows down.
//!
//! A database whose write has failed has to be opened anew, so nothing is begun that the disk
//! may have no room for: what is to be moved waits for it, in memory and in the journal.

use std::{
    mem,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{
    disk::Space,
    recent::{Fuse, Shared},
    row::Changes,
    shelf,
    tables::{Broken, Layout, Reader},
};
use crate::mutants::{Mutant, is_active};

/// The most expired entries that one step removes.
const SWEEP: usize = 512;

/// How long one step looks for more to remove.
const SWEEP_TIME: Duration = Duration::from_millis(5);

/// How long the thread waits for work before it looks for expired entries.
const IDLE: Duration = Duration::from_secs(1);

/// How long it waits before it looks for room again.
const NO_ROOM: Duration = Duration::from_millis(200);

/// What the tables may grow by with one step, whatever is in it,
const LEAST: u64 = 8 << 20;

/// and for each change, or each key that is removed, as far as there are so many pages: what is
/// written anew is at most each of them.
const EACH: u64 = 4096;

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
    /// How many bytes of the journal they take.
    pub(super) weight: usize,
}

/// The thread's own things.
pub(super) struct Mover {
    pub(super) shared: Arc<Shared>,
    pub(super) moves: Receiver<Move>,
    pub(super) layout: Layout,
    /// What waits for room.
    pub(super) waiting: Option<Move>,
}

impl Mover {
    /// Works until the committer is gone and everything was moved that has room.
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
            // There is one at a time.
            self.waiting = work.or(self.waiting.take());
            pause = self.turn();
        }
    }

    /// Returns for how long there is nothing to do; after a write has failed there is nothing.
    fn turn(&mut self) -> Duration {
        if self.shared.failed.load(Relaxed) {
            return IDLE;
        }
        self.step().unwrap_or_else(|error| {
            tracing::error!(%error, "the embedded store could not write its tables");
            // What was acknowledged is in the journal, which is read when the file is opened.
            self.shared.failed.store(true, Relaxed);
            IDLE
        })
    }

    /// Returns for how long there is nothing to do.
    fn step(&mut self) -> Result<Duration, Broken> {
        let (begun, now) = (Instant::now(), self.shared.ambient.now());
        let room = self.shared.room();
        let waits = !self.finds_room(room);
        if waits && room.left < LEAST {
            return Ok(NO_ROOM);
        }
        if !waits && let Some(Move { changes, last, .. }) = self.waiting.take() {
            let sweep = SWEEP + 2 * changes.len();
            let sweep = if room.left >= room.most(changes.len() + sweep, 0) { sweep } else { 0 };
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
        let pause = if waits { NO_ROOM } else { IDLE };
        if !tables.is_due(now)? {
            return Ok(pause);
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
        Ok(if swept == 0 { pause } else { begun.elapsed() })
    }

    /// Whether there is room for what is to be moved.
    fn finds_room(&self, room: Space) -> bool {
        let most = self
            .waiting
            .as_ref()
            .map_or(LEAST, |Move { changes, weight, .. }| room.most(changes.len(), *weight));
        let lacks = room.left < most && !is_active(Mutant::MoveWithoutRoom);
        if lacks != self.shared.lacks_room.swap(lacks, Relaxed) {
            let (left, wanted) = (room.left >> 20, most >> 20);
            match lacks {
                true => tracing::error!(
                    "the disk of the embedded store has {left} MiB left: its tables wait until \
                     there are {wanted}, and when memory is full requests are refused"
                ),
                false => tracing::info!("the tables of the embedded store have room again"),
            }
        }
        !lacks
    }
}

impl Space {
    /// What a step may need for so many keys, whose rows have so many bytes.
    fn most(self, keys: usize, bytes: usize) -> u64 {
        LEAST + 3 * bytes as u64 + (EACH * keys as u64).min(self.tables)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use redb::{Database, backends::InMemoryBackend};

    use super::*;
    use crate::{
        ambient::System,
        store::embedded::{common::Common, disk::Room, meta},
    };

    /// However much is to be moved, small tables do not ask for a large disk.
    #[test]
    fn what_is_written_anew_is_at_most_what_is_there() {
        let room = |tables| Space { left: 0, tables };
        assert_eq!(room(0).most(0, 0), LEAST);
        assert_eq!(room(4 << 20).most(16_384, 1 << 20), LEAST + (3 << 20) + (4 << 20));
        assert_eq!(room(1 << 30).most(16_384, 1 << 20), LEAST + (3 << 20) + (64 << 20));
    }

    #[test]
    fn after_a_write_has_failed_there_is_nothing_to_do() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        meta::prepare(&database, &System).unwrap().unwrap();
        let layout = Layout::open(&database, Box::new(Common::default())).unwrap();
        let mut layout = layout.unwrap();
        let tables = Reader::open(&database, &mut layout).unwrap();
        let room = Room::unknown();
        let shared = Arc::new(Shared::new(database, tables, Arc::new(System), room));
        shared.failed.store(true, Relaxed);
        let (_moves, moves) = mpsc::channel();
        let mut mover = Mover { shared, moves, layout, waiting: None };
        for waiting in [None, Some(Move { changes: Arc::default(), last: 1, weight: 0 })] {
            mover.waiting = waiting;
            assert_eq!(mover.turn(), IDLE);
        }
    }
}
