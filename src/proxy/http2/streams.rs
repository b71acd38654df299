//! How much one HTTP/2 connection has under way.
//!
//! A client may reset a stream at any time, and the protocol then counts the stream
//! as gone. An exchange whose key is claimed is finished all the same, so it goes on
//! counting here: or a client could have any number under way at no cost of its own.
//!
//! An exchange that only waits for its client to make room for a piece of the answer is
//! nothing that the gate does. A connection on which nothing else is under way is as idle
//! as one without any exchange, however many signs of life its client gives.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Request;
use http_body::Body;
use tokio::time::Instant;

use super::{super::link::Link, MAX_UNDER_WAY, request};
use crate::{
    engine::problem::Problem,
    mutants::{Mutant, is_active},
};

/// The exchanges of a connection.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    under_way: usize,
    /// How many of them wait for their client.
    stuck: usize,
    /// When the last one began, ended, or went on.
    since: Instant,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Count { under_way: 0, stuck: 0, since: Instant::now() })))
    }

    /// An exchange begins; it ends with the last clone of what is returned.
    pub(super) fn begin(&self) -> Slot {
        let mut count = self.count();
        count.under_way += 1;
        count.since = Instant::now();
        let is_free = count.under_way <= MAX_UNDER_WAY;
        drop(count);
        Slot(Arc::new(Taken { streams: self.clone(), is_free }))
    }

    /// Returns when nothing has been under way for as long as `limit`.
    pub(super) async fn quiet_for(&self, limit: Duration) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + limit).await;
            let now = Instant::now();
            let count = self.count();
            since = if count.is_busy() { now } else { count.since.max(since) };
            if now >= since + limit {
                return;
            }
        }
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        // A panic while the lock is held leaves a number and a time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn is_busy(&self) -> bool {
        let stuck = if is_active(Mutant::CountStuckStreams) { 0 } else { self.stuck };
        self.under_way > stuck
    }
}

/// The place of one exchange. The stream holds it, and so does the request on its
/// way to the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Slot(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    streams: Streams,
    is_free: bool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut count = self.streams.count();
        count.under_way -= 1;
        count.since = Instant::now();
    }
}

/// A stream that is answered. Nobody waits for its client any more when it is gone.
#[derive(Debug)]
pub(super) struct Answering {
    slot: Slot,
    waits: bool,
}

impl Answering {
    pub(super) const fn new(slot: Slot) -> Self {
        Self { slot, waits: false }
    }

    /// Whether the client has to take something before the exchange goes on.
    pub(super) fn waits_for_client(&mut self, waits: bool) {
        if self.waits == waits {
            return;
        }
        self.waits = waits;
        let mut count = self.slot.0.streams.count();
        if waits {
            count.stuck += 1;
        } else {
            count.stuck -= 1;
        }
        count.since = Instant::now();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.waits_for_client(false);
    }
}

impl Link for Slot {
    type Busy = Self;

    fn begin(&self) -> Self {
        self.clone()
    }

    fn admit<B: Body>(&self, request: &mut Request<B>) -> Result<(), Problem> {
        if !self.0.is_free {
            return Err(Problem::Overloaded);
        }
        request::translate(request)?;
        if !is_active(Mutant::ForgetResetStreams) {
            request.extensions_mut().insert(self.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_still_counts() {
        let streams = Streams::new();
        let mut running = Vec::new();
        for number in 0..=MAX_UNDER_WAY {
            let mut request = Request::post("http://gate/pay").body(String::new()).unwrap();
            let slot = streams.begin();
            let admitted = slot.admit(&mut request);
            assert_eq!(admitted.is_ok(), number < MAX_UNDER_WAY, "{number}");
            // The stream is reset; the request is on its way.
            drop(slot);
            running.push(request);
        }
        running.clear();
        assert_eq!(streams.count().under_way, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_begins_with_the_end_of_the_last_exchange() {
        let (streams, limit) = (Streams::new(), Duration::from_secs(10));
        let begun = Instant::now();
        let slot = streams.begin();
        let waiting = streams.clone();
        let quiet = tokio::spawn(async move { waiting.quiet_for(limit).await });
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert!(!quiet.is_finished());
        drop(slot);
        quiet.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 35);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_whose_client_takes_nothing_is_quiet() {
        let (streams, limit) = (Streams::new(), Duration::from_secs(10));
        let (slots, begun) = ([streams.begin(), streams.begin()], Instant::now());
        let mut answers = slots.each_ref().map(|slot| Answering::new(slot.clone()));
        let waiting = streams.clone();
        let quiet = tokio::spawn(async move { waiting.quiet_for(limit).await });
        for answer in &mut answers {
            answer.waits_for_client(true);
            tokio::time::sleep(Duration::from_secs(25)).await;
            assert!(!quiet.is_finished(), "the other one goes on, or this one has");
            answer.waits_for_client(false);
        }
        for answer in &mut answers {
            answer.waits_for_client(true);
        }
        quiet.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 60);
        let counts = || {
            let count = streams.count();
            (count.under_way, count.stuck)
        };
        assert_eq!(counts(), (2, 2));
        drop(answers);
        assert_eq!(counts(), (2, 0), "what runs without its stream");
        drop(slots);
        assert_eq!(counts(), (0, 0));
    }
}
