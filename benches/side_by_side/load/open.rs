//! The open loop: requests are due at a fixed rate, whether the server keeps up or not, and
//! a latency begins when its request was due, not when it could be sent. A server that
//! stalls is charged for everything that came due meanwhile (no coordinated omission).
//!
//! So is the server for what the load itself comes too late with, which is therefore told
//! beside: how long after it was due a request was sent that had a free connection.

use std::{
    collections::VecDeque,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use super::{Load, Outcome, PATIENCE, new_histogram};
use crate::{Result, interrupt};

impl Load {
    /// Sends `rate` requests a second for so long.
    pub(crate) fn pace(&mut self, rate: f64, duration: Duration) -> Result<Outcome> {
        // The kernel may put a wake-up off by this much; its default is 50 us.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000))?;
        let (mut lag, mut latency) = (new_histogram()?, new_histogram()?);
        let total = (rate * duration.as_secs_f64()) as u64;
        let start = self.begin();
        let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        let mut due_of = vec![start; self.connections.len()];
        let mut free_since = due_of.clone();
        let mut free: VecDeque<_> = (0..self.connections.len()).collect();
        let (mut sent, give_up) = (0, due(total) + PATIENCE);
        while sent < total || free.len() < self.connections.len() {
            let now = Instant::now();
            if now > give_up {
                let waiting = (self.connections.len() - free.len()) as u64;
                self.fail(total - sent + waiting, "the server did not keep up".to_owned());
                break;
            }
            while sent < total && due(sent) <= now {
                let Some(index) = free.pop_front() else { break };
                due_of[index] = due(sent);
                let possible = due(sent).max(free_since[index]);
                lag.saturating_record(possible.elapsed().as_nanos() as u64);
                self.send(index);
                sent += 1;
            }
            interrupt::check()?;
            let next = if sent < total && !free.is_empty() { due(sent) } else { give_up };
            self.wait(next.saturating_duration_since(Instant::now()))?;
            let now = Instant::now();
            while let Some(event) = self.ready.pop() {
                let index = event.data.u64() as usize;
                if self.receive(index) {
                    latency.saturating_record((now - due_of[index]).as_nanos() as u64);
                    free_since[index] = now;
                    free.push_back(index);
                }
            }
        }
        let outcome = self.outcome(start.elapsed(), lag, latency);
        self.reconnect_busy()?;
        Ok(outcome)
    }
}
