//! What an HTTP/1 connection and its exchanges know of each other.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{tunnel::Tunnel, turn::Turn};
use crate::mutants::{Mutant, is_active};

/// How long a head of HTTP/1 may be, in either direction, and how much of a body the HTTP
/// library holds. Beyond it the library answers a request with 431, and takes a response for
/// none.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// Heads are kept up to this length, which is beyond what the library reads: it may have read
/// a little of what follows.
const KEPT: usize = 2 * MAX_HEAD;

/// Room that is kept from exchange to exchange. A longer head is given up when it was looked at.
const USUAL_HEAD: usize = 8 << 10;

/// Shared by a connection and its exchanges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    busy: AtomicBool,
    /// How many exchanges have begun; wraps.
    exchanges: AtomicUsize,
    /// The number of the exchange if nobody has seen the end of its request's body, else 0.
    unread: AtomicUsize,
    /// The same as long as somebody wants it, whether or not it was answered already.
    wanted: AtomicUsize,
    /// Nothing was to be done for a while.
    resting: AtomicBool,
    head: Mutex<Head>,
    /// What the connection becomes when HTTP has ended on it.
    tunnel: Mutex<Option<Tunnel>>,
    turn: Turn,
}

/// What arrived since the last exchange, and is no part of its body.
#[derive(Debug, Default)]
struct Head {
    /// The head of the next request, and perhaps more.
    bytes: Vec<u8>,
    /// The number of the exchange that this head begins. What was pipelined behind it begins
    /// others, and none of them is kept.
    exchange: usize,
}

impl Pace {
    /// An exchange begins; it ends when the guard is dropped. The body of the one before
    /// is over, or there would be no other head.
    pub(crate) fn begin(&self) -> Busy {
        self.0.busy.store(true, Ordering::Relaxed);
        self.0.exchanges.fetch_add(1, Ordering::Relaxed);
        self.0.unread.store(0, Ordering::Relaxed);
        self.0.wanted.store(0, Ordering::Relaxed);
        self.rest(false);
        Busy(self.clone())
    }

    /// The request of this exchange has a body.
    pub(crate) fn unread(&self) -> Unread {
        let exchange = self.exchanges();
        self.0.unread.store(exchange, Ordering::Relaxed);
        self.0.wanted.store(exchange, Ordering::Relaxed);
        Unread { pace: self.clone(), exchange }
    }

    /// Whether the head that began this exchange has a `Content-Length`. Needed for
    /// requests with a `Transfer-Encoding` only: the HTTP library silently drops the
    /// other length, but who sends both may be hiding a request (RFC 9112, 6.1).
    ///
    /// False for a request that was pipelined behind another one; the library then
    /// believes the chunks and closes the connection.
    pub(crate) fn head_has_length(&self) -> bool {
        let Head { bytes: ref head, exchange } = *self.head();
        if exchange != self.exchanges() {
            return false;
        }
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut fields);
        // What was too long to keep, or has too many fields to look at, is in doubt.
        if head.len() == KEPT || !head.is_empty() && request.parse(head).is_err() {
            return true;
        }
        request.headers.iter().any(|field| field.name.eq_ignore_ascii_case("content-length"))
    }

    /// The connection goes on as a tunnel when HTTP has ended on it.
    pub(crate) fn switch(&self, tunnel: Tunnel) {
        *self.0.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// What was given to [`switch`](Self::switch).
    pub(crate) fn switched(&self) -> Option<Tunnel> {
        self.0.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether nothing was to be done for a while, and nothing is.
    pub(crate) fn is_resting(&self) -> bool {
        self.0.resting.load(Ordering::Relaxed) && !self.is_busy()
    }

    pub(super) fn turn(&self) -> &Turn {
        &self.0.turn
    }

    pub(super) fn rest(&self, resting: bool) {
        self.0.resting.store(resting, Ordering::Relaxed);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Relaxed)
    }

    pub(super) fn exchanges(&self) -> usize {
        self.0.exchanges.load(Ordering::Relaxed)
    }

    /// Whether the request's body was read to its end.
    pub(super) fn has_read_all(&self) -> bool {
        self.0.unread.load(Ordering::Relaxed) == 0
    }

    /// Whether what comes is the rest of a request's body that somebody wants.
    pub(super) fn wants_more(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed) != 0 && !is_active(Mutant::TakeRestForHead)
    }

    /// Keeps what has come of a head. True if that is more than usual.
    pub(super) fn keep(&self, bytes: &[u8], first: bool) -> bool {
        let mut head = self.head();
        if first {
            head.bytes.clear();
            head.exchange = self.exchanges().wrapping_add(1);
        }
        let room = KEPT - head.bytes.len();
        head.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        head.bytes.len() > USUAL_HEAD
    }

    /// The exchange has begun, so nobody looks at its head any more.
    pub(super) fn forget_head(&self) {
        self.head().bytes = Vec::new();
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        // A panic while the lock is held leaves a list of bytes.
        self.0.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exchange that is under way.
#[derive(Debug)]
pub(crate) struct Busy(Pace);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.store(false, Ordering::Relaxed);
    }
}

/// A request body whose end nobody has seen. One that is dropped leaves its connection in
/// doubt until the next exchange: what comes may still be that body.
#[derive(Debug)]
pub(crate) struct Unread {
    pace: Pace,
    exchange: usize,
}

impl Unread {
    /// The turn of the connection that the body comes from.
    pub(super) fn turn(&self) -> &Turn {
        self.pace.turn()
    }

    /// The end was seen, which matters as long as no other exchange has begun.
    pub(super) fn end(self) {
        self.clear(&self.pace.0.unread);
    }

    fn clear(&self, state: &AtomicUsize) {
        let _ = state.compare_exchange(self.exchange, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.clear(&self.pace.0.wanted);
    }
}
