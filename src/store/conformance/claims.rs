//! Insert if absent, else return what is there.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::task::JoinSet;

use super::{
    LONG, Suite,
    sample::{self, KEEP, done, owner, pending, unknown},
};
use crate::{
    engine::{
        policy::Keep,
        record::{Done, Record, Recorded, StoreKey},
    },
    store::Claimed,
};

const SHORT: Duration = Duration::from_millis(20);

impl Suite {
    /// A claim of an absent key inserts exactly the record that was given.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn an_absent_key_is_claimed(&self) {
        assert_eq!(self.get(&sample::key()).await, None, "a key that nobody has written");
        let record = pending(owner());
        let key = self.claimed(&record).await;
        assert_eq!(self.get(&key).await, Some(record), "what was claimed");
    }

    /// A claim of a key that is held returns exactly what is there, in every
    /// state, and changes nothing.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_held_key_shows_what_is_there(&self) {
        let first = owner();
        let retained = self.time.now().after(LONG);
        let status_only = match done(first.next().next().next(), retained, "") {
            Record::Done(done) => Record::Done(Arc::new(Done {
                response: Recorded::StatusOnly(StatusCode::ACCEPTED),
                ..Done::clone(&done)
            })),
            other => other,
        };
        let states = [
            pending(first),
            unknown(first.next()),
            done(first.next().next(), retained, &b"body \0 \xff \r\n"[..]),
            status_only,
        ];
        let key = self.claimed(&states[0]).await;
        for record in states {
            self.written(&key, &record, KEEP).await;
            let claimed = self.claim(&key, &pending(owner()), KEEP).await;
            assert_eq!(claimed, Claimed::Held(record.clone()), "a claim of a held key");
            assert_eq!(self.get(&key).await, Some(record), "after a claim that lost");
        }
    }

    /// A claim whose reply was lost can be repeated: nobody locks himself out.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_repeated_claim_is_mine(&self) {
        let fence = owner();
        let key = self.claimed(&pending(fence)).await;
        let again = self.claim(&key, &pending(fence), KEEP).await;
        assert_eq!(again, Claimed::Mine, "the same token");
        self.written(&key, &pending(fence.next()), KEEP).await;
        let late = self.claim(&key, &pending(fence), KEEP).await;
        assert_eq!(late, Claimed::Mine, "the same token, after a renewal");
        let there = self.get(&key).await;
        assert_eq!(there, Some(pending(fence.next())), "a repeated claim writes nothing");
    }

    /// Of claims at the same time exactly one wins, and all others see the winner.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn of_fifty_claims_one_wins(&self) {
        self.one_wins(sample::key()).await;
    }

    /// The same where an old record is in the way that nobody has looked at since it expired.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn of_fifty_claims_of_an_expired_key_one_wins(&self) {
        let key = sample::key();
        let keep = Keep { record: SHORT, response: None };
        assert_eq!(self.claim(&key, &pending(owner()), keep).await, Claimed::Mine);
        self.time.elapse(SHORT * 2).await;
        self.one_wins(key).await;
    }

    async fn one_wins(&self, key: StoreKey) {
        let mut claims = JoinSet::new();
        for store in self.ways(50) {
            claims.spawn(async move {
                let record = pending(owner());
                let claimed = store.claim(&key, &record, KEEP).await;
                (record, claimed.unwrap_or_else(|error| panic!("claim: {error}")))
            });
        }
        let (winners, losers): (Vec<_>, Vec<_>) = claims
            .join_all()
            .await
            .into_iter()
            .partition(|(_, claimed)| matches!(claimed, Claimed::Mine));
        assert_eq!(winners.len(), 1, "winners of fifty claims");
        for (_, claimed) in losers {
            assert_eq!(claimed, Claimed::Held(winners[0].0.clone()), "what a loser sees");
        }
        assert_eq!(self.get(&key).await.as_ref(), Some(&winners[0].0), "what is there");
    }
}
