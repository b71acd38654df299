//! What goes by itself, and what stays.

use std::time::Duration;

use super::{
    LONG, STEP, Suite,
    sample::{KEEP, done, owner, pending, unknown},
};
use crate::{
    engine::{policy::Keep, record::Record},
    store::{Claimed, Write},
};

/// Soon over.
const SHORT: Duration = Duration::from_millis(40);

/// A response that goes soon, under a record that stays.
const SHORT_RESPONSE: Keep = Keep { record: LONG, response: Some(SHORT) };

impl Suite {
    /// When the retention has passed the response is gone, and what is left says
    /// whose it was and when.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_response_goes_and_its_tombstone_stays(&self) {
        let fence = owner();
        let key = self.claimed(&pending(fence)).await;
        let record = done(fence.next(), self.time.now().after(SHORT), "soon gone");
        self.written(&key, &record, SHORT_RESPONSE).await;
        let left = self.until(&key, "the response is gone", is_no_response).await;
        let Record::Done(done) = record else { unreachable!("`done` makes done records") };
        let tombstone = Record::Expired(done.tombstone());
        assert_eq!(left.as_ref(), Some(&tombstone), "what is left of a response");
        let claimed = self.claim(&key, &pending(owner()), KEEP).await;
        assert_eq!(claimed, Claimed::Held(tombstone), "a claim within the tombstone's time");
    }

    /// When the record's time has passed, the key is absent and can be claimed:
    /// done records, claims and unknown outcomes alike.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_record_goes_and_its_key_is_free(&self) {
        let retained = self.time.now().after(SHORT / 2);
        let fence = owner();
        for last in
            [pending(fence.next()), unknown(fence.next()), done(fence.next(), retained, "gone")]
        {
            let key = self.claimed(&pending(fence)).await;
            let keep = Keep { record: SHORT, response: Some(SHORT / 2) };
            self.written(&key, &last, keep).await;
            self.until(&key, "the record is gone", Option::is_none).await;
            let late = self.swap(&key, fence.next(), &pending(fence.next()), KEEP).await;
            assert_eq!(late, Write::Fenced, "a write to a record that has expired");
            let next = pending(owner());
            assert_eq!(self.claim(&key, &next, KEEP).await, Claimed::Mine, "a free key");
            assert_eq!(self.get(&key).await, Some(next));
        }
    }

    /// A record is as old as its last writing, however long it is to be kept.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn what_is_kept_for_ever_is_young(&self) {
        for keep in [LONG, Duration::MAX] {
            let keep = Keep { record: keep, response: None };
            let (key, fence) = (super::sample::key(), owner());
            assert_eq!(self.claim(&key, &pending(fence), keep).await, Claimed::Mine);
            // A store that cannot tell says so.
            if let Some((aged, age)) = self.age(&key).await {
                assert_eq!(aged, fence);
                assert!(age < LONG, "{age:?} of a record that was just written");
            }
        }
    }

    /// The age of a record tells whose it is and how long ago he last wrote: a lookup that finds
    /// nothing, and an operator, are believed by it.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn an_age_counts_from_the_last_writing(&self) {
        assert_eq!(self.age(&super::sample::key()).await, None, "the age of nothing");
        // The swap's age has to be asked for soon after it, which a slow machine may miss.
        for doubling in 0..8 {
            let waited = SHORT * (1 << doubling);
            let fence = owner();
            let key = self.claimed(&pending(fence)).await;
            self.time.elapse(waited).await;
            // A store that cannot tell says so.
            let Some((aged, age)) = self.age(&key).await else { return };
            assert_eq!(aged, fence);
            // Stores count in milliseconds.
            assert!(age + STEP >= waited, "{age:?} after {waited:?}");
            self.written(&key, &pending(fence.next()), KEEP).await;
            let (aged, age) = self.age(&key).await.expect("it has told that of this record");
            assert_eq!(aged, fence.next(), "whose age it is after a swap");
            assert_eq!(self.remove(&key, fence.next()).await, Write::Applied);
            assert_eq!(self.age(&key).await, None, "the age of what was removed");
            if age < waited {
                return;
            }
        }
        panic!("the age was asked for too late eight times, or counts from before the swap");
    }

    /// A swap, as a renewal of the lease is one, starts the record's time anew.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_swap_renews_the_keep(&self) {
        // The swap has to come within the first keep, which a slow machine may miss.
        for doubling in 0..8 {
            let keep = Keep { record: SHORT * (1 << doubling), response: None };
            let fence = owner();
            let key = super::sample::key();
            assert_eq!(self.claim(&key, &pending(fence), keep).await, Claimed::Mine);
            let renewed = pending(fence.next());
            if self.swap(&key, fence, &renewed, KEEP).await == Write::Fenced {
                continue;
            }
            self.time.elapse(keep.record + SHORT).await;
            assert_eq!(self.get(&key).await, Some(renewed), "a record that was renewed");
            return;
        }
        panic!("the swap came too late eight times, or renews nothing");
    }

    /// The end of an old response's retention leaves a newer response alone.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn an_old_responses_end_leaves_the_new_one(&self) {
        let (old, new) = (owner(), owner());
        let now = self.time.now();
        let key = self.claimed(&pending(old)).await;
        let first = done(old.next(), now.after(SHORT), "old");
        self.written(&key, &first, SHORT_RESPONSE).await;
        let takeover = self.swap(&key, old.next(), &pending(new), SHORT_RESPONSE).await;
        assert_eq!(takeover, Write::Applied);
        let record = done(new.next(), now.after(LONG), "new");
        self.written(&key, &record, KEEP).await;
        self.time.elapse(SHORT * 2).await;
        // Stores that sweep while they write get something to write.
        self.claimed(&pending(owner())).await;
        assert_eq!(self.get(&key).await, Some(record), "after the old response's time");
    }

    /// A new owner may take over a tombstone, and what he records is shown.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_tombstone_is_taken_over(&self) {
        let (old, new) = (owner(), owner());
        let key = self.claimed(&pending(old)).await;
        let first = done(old.next(), self.time.now().after(SHORT), "old");
        self.written(&key, &first, SHORT_RESPONSE).await;
        self.until(&key, "the response is gone", is_no_response).await;
        let takeover = self.swap(&key, old.next(), &pending(new), KEEP).await;
        assert_eq!(takeover, Write::Applied, "a takeover of a tombstone");
        assert_eq!(self.get(&key).await, Some(pending(new)));
        let record = done(new.next(), self.time.now().after(LONG), "new");
        self.written(&key, &record, KEEP).await;
        assert_eq!(self.get(&key).await, Some(record), "the new owner's response");
    }
}

fn is_no_response(record: &Option<Record>) -> bool {
    !matches!(record, Some(Record::Done(_)))
}
