//! Duplicates within one process: one of them looks at the store, the others
//! look at him.
//!
//! The first request with a key leads: he claims, executes, records. While he
//! does, every duplicate in the process reads his view of the key and costs the
//! store nothing. If the key is claimed by another process, one task polls for
//! all who wait.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use crate::engine::record::{Record, StoreKey, Timestamp};

/// The keys that somebody in this process is busy with.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    keys: Mutex<Seats>,
}

type Seats = HashMap<StoreKey, Seat, BuildHasherDefault<Prefix>>;

/// What the leader for a key shows, to whom. Most keys are never followed, and a channel
/// costs more than everything else here.
#[derive(Debug)]
enum Seat {
    Alone(View),
    Followed(watch::Sender<View>),
}

/// What the leader knows about a key.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// He asks the store, or tells it that the key is free.
    Looking,
    /// This was there when the store was asked or told.
    Seen(Record, Moment),
    /// This was there when the store was asked, and the backend's answer to a lookup
    /// after that changed nothing.
    Asked(Record, Moment),
    /// This is there: its owner is in this process and at work. A claim of his never
    /// shows a lease that passes.
    Owned(Record),
    /// The store did not answer him, or refused.
    StoreDown(Down),
}

/// What is known of a key when the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// Nothing. The policy decides whether a request passes.
    Silent,
    /// There is a record, or there was one and it was lost. Nothing passes.
    Taken,
}

/// A time, by the wall clock that leases go by and by the one that never steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) wall: Timestamp,
    pub(crate) at: Instant,
}

/// A place in the queue for a key.
#[derive(Debug)]
pub(crate) enum Place {
    /// Nobody is busy with it: lead.
    Lead(Lead),
    /// Somebody is; watch him.
    Follow(watch::Receiver<View>),
}

/// The leadership for a key. Dropping it ends it; who followed then looks anew.
#[derive(Debug)]
pub(crate) struct Lead {
    waiters: Arc<Waiters>,
    key: StoreKey,
    /// The seat was left, and may be somebody else's.
    finished: bool,
}

impl Waiters {
    pub(crate) fn join(self: &Arc<Self>, key: &StoreKey) -> Place {
        match self.seats().entry(*key) {
            hash_map::Entry::Occupied(mut entry) => Place::Follow(entry.get_mut().follow()),
            hash_map::Entry::Vacant(entry) => {
                entry.insert(Seat::Alone(View::Looking));
                Place::Lead(Lead { waiters: Arc::clone(self), key: *key, finished: false })
            }
        }
    }

    /// How many keys somebody is busy with.
    pub(crate) fn len(&self) -> usize {
        self.seats().len()
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        // Each use is one call on the map or a seat, so a panic leaves nothing half done.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn follow(&mut self) -> watch::Receiver<View> {
        match self {
            Self::Followed(followers) => followers.subscribe(),
            Self::Alone(view) => {
                let (followers, follower) = watch::channel(view.clone());
                *self = Self::Followed(followers);
                follower
            }
        }
    }

    fn show(&mut self, view: View) {
        match self {
            Self::Alone(seen) => *seen = view,
            Self::Followed(followers) => drop(followers.send_replace(view)),
        }
    }
}

impl Lead {
    /// Tells the followers. Who begins to follow later sees the new view.
    pub(crate) fn show(&self, view: View) {
        if let Some(seat) = self.waiters.seats().get_mut(&self.key) {
            seat.show(view);
        }
    }

    /// Tells the followers for the last time. The place is free before they hear
    /// of it, so whoever must act on the news can lead.
    pub(crate) fn finish(mut self, view: View) {
        if let Some(mut seat) = self.leave() {
            seat.show(view);
        }
    }

    /// Follows one's own view, to wait with everybody else.
    pub(crate) fn subscribe(&self) -> watch::Receiver<View> {
        let mut seats = self.waiters.seats();
        seats.get_mut(&self.key).expect("a leader has a seat until he leaves it").follow()
    }

    /// Whether anybody watches.
    pub(crate) fn is_watched(&self) -> bool {
        match self.waiters.seats().get(&self.key) {
            Some(Seat::Followed(followers)) => followers.receiver_count() > 0,
            Some(Seat::Alone(_)) | None => false,
        }
    }

    pub(crate) fn key(&self) -> &StoreKey {
        &self.key
    }

    fn leave(&mut self) -> Option<Seat> {
        self.finished = true;
        self.waiters.seats().remove(&self.key)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.finished {
            self.leave();
        }
    }
}

/// Store keys are hashes: their first bytes are as good as any hash of them.
#[derive(Debug, Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        let (prefix, _) = bytes.split_at(bytes.len().min(8));
        self.0 = prefix.iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    }

    /// The length that precedes an array.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StoreKey = StoreKey::from_bytes([3; 32]);

    fn lead(waiters: &Arc<Waiters>) -> Lead {
        match waiters.join(&KEY) {
            Place::Lead(lead) => lead,
            Place::Follow(_) => panic!("somebody leads"),
        }
    }

    #[tokio::test]
    async fn the_second_follows_until_the_first_is_gone() {
        let waiters = Arc::new(Waiters::default());
        let first = lead(&waiters);
        let Place::Follow(mut view) = waiters.join(&KEY) else { panic!("two leaders") };
        assert!(first.is_watched());
        first.show(View::StoreDown(Down::Silent));
        view.changed().await.unwrap();
        drop(first);
        assert!(view.changed().await.is_err());
        assert_eq!(waiters.len(), 0);
    }

    #[tokio::test]
    async fn the_place_is_free_when_the_last_news_arrives() {
        let waiters = Arc::new(Waiters::default());
        let first = lead(&waiters);
        let Place::Follow(mut view) = waiters.join(&KEY) else { panic!("two leaders") };
        first.finish(View::StoreDown(Down::Silent));
        view.changed().await.unwrap();
        let second = lead(&waiters);
        assert_eq!(waiters.len(), 1, "finishing twice must not remove the next leader");
        drop(second);
    }
}
