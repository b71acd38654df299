//! Compare the fence, then replace or remove.

use tokio::task::JoinSet;

use super::{
    LONG, Suite,
    sample::{self, KEEP, done, owner, pending, unknown},
};
use crate::{
    engine::record::{Fence, Record, Token},
    store::{Claimed, Write},
};

impl Suite {
    /// An owner replaces his record, and may repeat the write when its reply was
    /// lost.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn an_owner_swaps_and_repeats_it(&self) {
        let first = owner();
        let key = self.claimed(&pending(first)).await;
        let record = done(first.next(), self.time.now().after(LONG), "created");
        for attempt in ["the first", "the repeated"] {
            let write = self.swap(&key, first, &record, KEEP).await;
            assert_eq!(write, Write::Applied, "{attempt} swap");
            assert_eq!(self.get(&key).await.as_ref(), Some(&record), "after {attempt} swap");
        }
    }

    /// Who has another token can neither replace nor remove, and changes nothing.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn another_token_is_fenced(&self) {
        let (mine, other) = (owner(), owner());
        let key = self.claimed(&pending(mine)).await;
        let record = done(other.next(), self.time.now().after(LONG), "stolen");
        let late = Fence { revision: u32::MAX, ..other };
        assert_eq!(self.swap(&key, other, &record, KEEP).await, Write::Fenced, "another token");
        assert_eq!(self.swap(&key, late, &record, KEEP).await, Write::Fenced, "whatever revision");
        assert_eq!(self.remove(&key, late).await, Write::Fenced, "removal by another token");
        assert_eq!(self.get(&key).await, Some(pending(mine)), "after writes that were fenced");
    }

    /// A write that was delayed on its way does not undo a later one of the same
    /// owner, and neither does a delayed claim or removal.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_delayed_write_does_not_undo_a_later_one(&self) {
        let first = owner();
        let (renewal, last) = (first.next(), first.next().next());
        let key = self.claimed(&pending(first)).await;
        let record = done(last, self.time.now().after(LONG), "created");
        assert_eq!(self.swap(&key, last, &record, KEEP).await, Write::Applied);
        let delayed = self.swap(&key, first, &pending(renewal), KEEP).await;
        assert_eq!(delayed, Write::Fenced, "revision 1 after revision 2");
        assert_eq!(self.remove(&key, renewal).await, Write::Fenced, "removal of revision 1");
        assert_eq!(self.claim(&key, &pending(first), KEEP).await, Claimed::Mine);
        assert_eq!(self.get(&key).await, Some(record), "after delayed writes");
    }

    /// Tokens compare as bytes and revisions as numbers, whatever they look like
    /// as text.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn fences_compare_as_bytes_and_numbers(&self) {
        let order = [0_u32, 0x7f, 0x80, 0xff, 0x100, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        for odd in [[0; 16], [0xff; 16], *b"\r\n$-1\r\n\0%s{}[]\xc3\x28"] {
            let mut token = owner().token;
            token.0[..8].copy_from_slice(&odd[..8]);
            let twin = Token(std::array::from_fn(|at| token.0[at] ^ u8::from(at == 15)));
            let key = self.claimed(&pending(Fence::new(token))).await;
            for (place, revision) in order.into_iter().enumerate().skip(1) {
                let before = Fence { token, revision: order[place - 1] };
                let fence = Fence { token, revision };
                self.written(&key, &pending(fence), KEEP).await;
                let old = self.swap(&key, before, &pending(before), KEEP).await;
                assert_eq!(old, Write::Fenced, "{} after {revision}", before.revision);
                let fence = Fence { token: twin, revision };
                let other = self.swap(&key, fence, &pending(fence), KEEP).await;
                assert_eq!(other, Write::Fenced, "a token that differs in its last bit");
            }
        }
    }

    /// A swap never creates a record: one that was released stays released.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_swap_of_an_absent_key_is_fenced(&self) {
        let fence = owner();
        let key = sample::key();
        let write = self.swap(&key, fence, &pending(fence.next()), KEEP).await;
        assert_eq!(write, Write::Fenced, "an absent key");
        assert_eq!(self.get(&key).await, None, "after a swap that was fenced");
    }

    /// A new owner replaces one whose record he has seen, may repeat that, and
    /// shuts the old owner out; but he must have seen the newest record.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_takeover_replaces_the_owner_it_saw(&self) {
        let (old, new) = (owner(), owner());
        let key = self.claimed(&pending(old)).await;
        self.written(&key, &unknown(old.next()), KEEP).await;
        let stale = self.swap(&key, old, &pending(new), KEEP).await;
        assert_eq!(stale, Write::Fenced, "a takeover that saw an older record");
        for attempt in ["the first", "the repeated"] {
            let write = self.swap(&key, old.next(), &pending(new), KEEP).await;
            assert_eq!(write, Write::Applied, "{attempt} takeover");
            assert_eq!(self.get(&key).await, Some(pending(new)), "after {attempt} takeover");
        }
        let late = done(old.next().next(), self.time.now().after(LONG), "late");
        assert_eq!(self.swap(&key, late.fence(), &late, KEEP).await, Write::Fenced, "old owner");
        self.written(&key, &pending(new.next()), KEEP).await;
        let repeated = self.swap(&key, old.next(), &pending(new), KEEP).await;
        assert_eq!(repeated, Write::Fenced, "a delayed takeover after a later write");
        assert_eq!(self.get(&key).await, Some(pending(new.next())));
    }

    /// Of takeovers at the same time exactly one wins.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn of_twenty_takeovers_one_wins(&self) {
        let old = owner();
        let key = self.claimed(&unknown(old)).await;
        let mut takeovers = JoinSet::new();
        for store in self.ways(20) {
            takeovers.spawn(async move {
                let record = pending(owner());
                let write = store.swap(&key, old, &record, KEEP).await;
                (record, write.unwrap_or_else(|error| panic!("swap: {error}")))
            });
        }
        let ends = takeovers.join_all().await;
        let winners: Vec<&Record> = ends
            .iter()
            .filter(|(_, write)| *write == Write::Applied)
            .map(|(record, _)| record)
            .collect();
        assert_eq!(winners.len(), 1, "winners of twenty takeovers");
        assert_eq!(self.get(&key).await.as_ref(), winners.first().copied(), "what is there");
    }

    /// An owner removes his record, may repeat that, and the key is free then. An
    /// absent key counts as removed.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn an_owner_removes_his_record(&self) {
        let fence = owner();
        let key = self.claimed(&pending(fence)).await;
        self.written(&key, &done(fence.next(), self.time.now().after(LONG), "x"), KEEP).await;
        assert_eq!(self.remove(&key, fence.next()).await, Write::Applied, "the owner");
        assert_eq!(self.get(&key).await, None, "after the removal");
        assert_eq!(self.remove(&key, fence.next()).await, Write::Applied, "repeated");
        assert_eq!(self.remove(&key, owner()).await, Write::Applied, "an absent key");
        let next = pending(owner());
        assert_eq!(self.claim(&key, &next, KEEP).await, Claimed::Mine, "a key that was removed");
        assert_eq!(self.get(&key).await, Some(next));
    }

    /// An owner's removal and others' takeovers at the same time: what is taken over stays, and
    /// what is removed is taken over by nobody.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_removal_removes_no_takeover(&self) {
        for round in 0..20 {
            let old = owner();
            let key = self.claimed(&unknown(old)).await;
            let mut ends = JoinSet::new();
            for (at, store) in self.ways(8).enumerate() {
                ends.spawn(async move {
                    let takes_over = (at / 2 + round) % 2 == 0;
                    let record = takes_over.then(|| pending(owner()));
                    let write = match &record {
                        Some(record) => store.swap(&key, old, record, KEEP).await,
                        None => store.remove(&key, old).await,
                    };
                    (record, write.unwrap_or_else(|error| panic!("a race: {error}")))
                });
            }
            let applied = ends.join_all().await.into_iter();
            let applied = applied.filter(|(_, write)| *write == Write::Applied);
            let (taken, removed): (Vec<_>, Vec<_>) =
                applied.map(|(record, _)| record).partition(Option::is_some);
            let there = self.get(&key).await;
            match &*taken {
                [] => assert_eq!(there, None, "what was removed"),
                [taken] => {
                    assert_eq!(removed.len(), 0, "removals of what was taken over");
                    assert_eq!(there, *taken, "what was taken over");
                }
                more => panic!("{} takeovers of one record", more.len()),
            }
        }
    }

    /// A record that is not done shows no response of an earlier one, and a later
    /// one shows its own.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_pending_record_shows_no_old_response(&self) {
        let (old, new) = (owner(), owner());
        let retained = self.time.now().after(LONG);
        let key = self.claimed(&pending(old)).await;
        self.written(&key, &done(old.next(), retained, "old"), KEEP).await;
        let takeover = self.swap(&key, old.next(), &pending(new), KEEP).await;
        assert_eq!(takeover, Write::Applied, "a takeover of a done record");
        assert_eq!(self.get(&key).await, Some(pending(new)));
        self.written(&key, &done(new.next(), retained, "new"), KEEP).await;
        assert_eq!(self.get(&key).await, Some(done(new.next(), retained, "new")));

        // A head of a done record whose own response is gone must not find an older one,
        // whichever way the older record went.
        for removed in [false, true] {
            let (third, fourth) = (owner(), owner());
            let key = self.claimed(&pending(third)).await;
            self.written(&key, &done(third.next(), retained, "older"), KEEP).await;
            if removed {
                assert_eq!(self.remove(&key, third.next()).await, Write::Applied);
                assert_eq!(self.claim(&key, &pending(fourth), KEEP).await, Claimed::Mine);
            } else {
                let takeover = self.swap(&key, third.next(), &pending(fourth), KEEP).await;
                assert_eq!(takeover, Write::Applied);
            }
            let tombstone = match done(fourth.next(), retained, "") {
                Record::Done(done) => Record::Expired(done.tombstone()),
                other => other,
            };
            self.written(&key, &tombstone, KEEP).await;
            assert_eq!(self.get(&key).await, Some(tombstone), "no response of an older record");
        }
    }

    /// A large response is kept byte for byte.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_response_of_a_mebibyte_is_kept(&self) {
        let fence = owner();
        let body: Vec<u8> = (0..1_u32 << 20).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect();
        let record = done(fence.next(), self.time.now().after(LONG), body);
        let key = self.claimed(&pending(fence)).await;
        self.written(&key, &record, KEEP).await;
        assert!(self.get(&key).await.as_ref() == Some(&record), "a large response, read");
        let claimed = self.claim(&key, &pending(owner()), KEEP).await;
        assert!(claimed == Claimed::Held(record), "a large response, claimed");
    }
}
