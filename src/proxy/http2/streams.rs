//! How much one HTTP/2 connection has under way.
//!
//! A client may reset a stream at any time, and the protocol then counts the stream
//! as gone. An exchange whose key is claimed is finished all the same, so it goes on
//! counting here: or a client could have any number under way at no cost of its own.
//!
//! An exchange without a key ends with its stream, so that a client which resets what it has just
//! begun has the service begin and drop any number of them. One that does this most of the time
//! is sent away, by the measure of Envoy: more than half of 500 streams and more were reset
//! within a second, without an answer.
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
use tokio::{sync::Notify, time::Instant};

use super::{super::link::Link, MAX_UNDER_WAY, request};
use crate::{
    engine::problem::Problem,
    mutants::{Mutant, is_active},
};

/// How soon a reset is hasty, and how many streams there are before anybody is judged by that.
const SOON: Duration = Duration::from_secs(1);
const FIRST: usize = 500;

/// The exchanges of a connection.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    count: Mutex<Count>,
    flooded: Notify,
}

#[derive(Debug)]
struct Count {
    /// How many there were.
    begun: usize,
    /// How many of them were reset at once.
    hasty: usize,
    under_way: usize,
    /// How many of them wait for their client.
    stuck: usize,
    /// When the last one began, ended, or went on.
    since: Instant,
}

impl Streams {
    pub(super) fn new() -> Self {
        let since = Instant::now();
        let count = Count { begun: 0, hasty: 0, under_way: 0, stuck: 0, since };
        Self(Arc::new(Shared { count: Mutex::new(count), flooded: Notify::new() }))
    }

    /// An exchange begins; it ends with the last clone of its slot.
    pub(super) fn begin(&self) -> Unanswered {
        let since = Instant::now();
        let mut count = self.count();
        count.begun += 1;
        count.under_way += 1;
        count.since = since;
        let is_free = count.under_way <= MAX_UNDER_WAY;
        drop(count);
        let slot = Slot(Arc::new(Taken { streams: self.clone(), is_free }));
        Unanswered { slot, since, is_answered: false }
    }

    /// Returns when most of the streams were reset at once.
    pub(super) async fn flooded(&self) {
        self.0.flooded.notified().await;
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
        self.0.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn is_flooded(&self) -> bool {
        self.begun >= FIRST && 2 * self.hasty > self.begun && !is_active(Mutant::AllowHaste)
    }

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

/// A stream that has no answer yet.
#[derive(Debug)]
pub(super) struct Unanswered {
    slot: Slot,
    since: Instant,
    is_answered: bool,
}

impl Unanswered {
    pub(super) const fn slot(&self) -> &Slot {
        &self.slot
    }

    /// It has one, which is on its way.
    pub(super) fn answering(mut self) -> Answering {
        self.is_answered = true;
        Answering { slot: self.slot.clone(), waits: false }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // What goes on without its stream has its own limit.
        let goes_on = Arc::strong_count(&self.slot.0) > 1;
        if self.is_answered || goes_on || self.since.elapsed() >= SOON {
            return;
        }
        let streams = &self.slot.0.streams;
        let mut count = streams.count();
        count.hasty += 1;
        if count.is_flooded() {
            streams.0.flooded.notify_one();
        }
    }
}

/// A stream that is answered. Nobody waits for its client any more when it is gone.
#[derive(Debug)]
pub(super) struct Answering {
    slot: Slot,
    waits: bool,
}

impl Answering {
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
            let stream = streams.begin();
            let admitted = stream.slot().admit(&mut request);
            assert_eq!(admitted.is_ok(), number < MAX_UNDER_WAY, "{number}");
            // The stream is reset; the request is on its way.
            drop(stream);
            running.push(request);
        }
        running.clear();
        assert_eq!(streams.count().under_way, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_begins_with_the_end_of_the_last_exchange() {
        let (streams, limit) = (Streams::new(), Duration::from_secs(10));
        let begun = Instant::now();
        let stream = streams.begin();
        let waiting = streams.clone();
        let quiet = tokio::spawn(async move { waiting.quiet_for(limit).await });
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert!(!quiet.is_finished());
        drop(stream);
        quiet.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 35);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_whose_client_takes_nothing_is_quiet() {
        let (streams, limit) = (Streams::new(), Duration::from_secs(10));
        let (begins, begun) = ([streams.begin(), streams.begin()], Instant::now());
        let slots = begins.each_ref().map(|stream| stream.slot().clone());
        let mut answers = begins.map(Unanswered::answering);
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
