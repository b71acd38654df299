//! Closed loops: a connection sends its next request when it has its answer.

use std::time::{Duration, Instant};

use super::{Load, Outcome, PATIENCE, new_histogram};
use crate::{Result, interrupt};

/// How long a number of answers may take.
const LONG: Duration = Duration::from_secs(60);

impl Load {
    /// Keeps every connection busy. Finds out how much a server bears; says nothing about
    /// latency.
    pub(crate) fn saturate(&mut self, duration: Duration) -> Result<Outcome> {
        self.run_closed(u64::MAX, duration)
    }

    /// The same until there are `count` answers.
    pub(crate) fn take(&mut self, count: u64) -> Result<Outcome> {
        self.run_closed(count, LONG)
    }

    fn run_closed(&mut self, count: u64, duration: Duration) -> Result<Outcome> {
        let start = self.begin();
        let end = start + duration;
        for index in 0..self.connections.len() {
            self.send(index);
        }
        let mut now = start;
        while now < end && self.answers < count {
            interrupt::check()?;
            self.wait(end - now)?;
            while let Some(event) = self.ready.pop() {
                let index = event.data.u64() as usize;
                if self.receive(index) && self.answers < count {
                    self.send(index);
                }
            }
            now = Instant::now();
        }
        let outcome = self.outcome(start.elapsed(), new_histogram()?, new_histogram()?);
        // What is still on its way belongs to no measurement.
        self.reconnect_busy()?;
        Ok(outcome)
    }

    /// One exchange on each connection, one after the other.
    ///
    /// # Errors
    /// At the first answer that is not right.
    pub(crate) fn each_once(&mut self) -> Result<()> {
        for index in 0..self.connections.len() {
            self.begin();
            self.send(index);
            let until = Instant::now() + PATIENCE;
            while self.answers == 0 && self.failures == 0 && Instant::now() < until {
                interrupt::check()?;
                self.wait(PATIENCE)?;
                while let Some(event) = self.ready.pop() {
                    self.receive(event.data.u64() as usize);
                }
            }
            if self.answers == 0 {
                let why = self.first_failure.take().unwrap_or_else(|| "no answer".to_owned());
                return Err(format!("connection {index}: {why}").into());
            }
        }
        Ok(())
    }
}
