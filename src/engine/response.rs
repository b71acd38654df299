//! A response as it is recorded.
//!
//! | tag | field of the message |
//! |---|---|
//! | 1 | status |
//! | 2 | 1 if there is nothing else, because the body was too long |
//! | 3 | a header: 1 its name, 2 its value; repeated |
//! | 4 | the body |
//! | 5 | 1 if there are trailers |
//! | 6 | a trailer, like a header; repeated |

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_LENGTH, response::Parts,
};

use super::{
    hop::{remove_in_order, strip_hop_by_hop},
    message::{self, Fields, Reader, Sink, Value},
};

/// A response without the connection that it came over.
///
/// It lies in one piece of memory, as the protobuf message that stores keep. For each one that
/// is asked for thousands are at hand, so what counts is how little one takes and how fast it
/// is let go; and it shares nothing: what came off a connection is a slice of a read buffer,
/// of which a record of a few bytes would keep the whole.
///
/// ```
/// use oncegate::engine::record::StoredResponse;
///
/// let head = http::Response::builder().status(201).header("location", "/payments/1");
/// let (head, ()) = head.body(()).unwrap().into_parts();
/// let stored = StoredResponse::new(head, "paid".into(), None);
/// let response = stored.unpack(0);
/// assert_eq!((response.status.as_u16(), &response.body[..]), (201, &b"paid"[..]));
/// ```
#[derive(Clone, PartialEq)]
pub struct StoredResponse {
    status: StatusCode,
    message: Bytes,
}

/// What a recorded response consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// The upstream's status.
    pub status: StatusCode,
    /// End-to-end headers; repeats kept, bytes opaque, framing left out.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

impl StoredResponse {
    /// Copies a response, and leaves out what belongs to one connection (RFC 9110, 7.6.1) and
    /// what the next sender computes anew.
    #[must_use]
    pub fn new(mut head: Parts, body: Bytes, mut trailers: Option<HeaderMap>) -> Self {
        Self::copy_of(&mut head, &body, trailers.as_mut())
    }

    /// The same for a response that is needed afterwards: what is left out is removed from it.
    #[must_use]
    pub fn copy_of(head: &mut Parts, body: &[u8], mut trailers: Option<&mut HeaderMap>) -> Self {
        strip_hop_by_hop(&mut head.headers);
        for map in [Some(&mut head.headers), trailers.as_deref_mut()].into_iter().flatten() {
            remove_in_order(map, &CONTENT_LENGTH);
        }
        let status = head.status;
        let fields = Whole { status, headers: &head.headers, body, trailers: trailers.as_deref() };
        let mut message = Vec::with_capacity(fields.length());
        fields.put(&mut message);
        Self { status, message: message.into() }
    }

    /// The upstream's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its parts; the headers in a map with room for so many `more`.
    #[must_use]
    pub fn unpack(&self, more: usize) -> Unpacked {
        let (unpacked, _) = read(&self.message, more).expect("it was read once, or written here");
        unpacked
    }

    /// The message.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }
}

impl fmt::Debug for StoredResponse {
    /// Without what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, length) = (self.status, self.message.len());
        f.debug_struct("StoredResponse")
            .field("status", &status)
            .field("length", &length)
            .finish_non_exhaustive()
    }
}

/// Reads a message that a store has kept; the error is what is damaged.
#[cfg(feature = "codec")]
pub(super) fn recorded(message: Bytes) -> Result<super::record::Recorded, &'static str> {
    use super::record::Recorded;

    let (Unpacked { status, .. }, is_whole) = read(&message, 0)?;
    Ok(if is_whole {
        Recorded::Whole(StoredResponse { status, message })
    } else {
        Recorded::StatusOnly(status)
    })
}

/// A message that has more than a status.
struct Whole<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    body: &'a [u8],
    trailers: Option<&'a HeaderMap>,
}

impl Fields for Whole<'_> {
    fn put(&self, out: &mut impl Sink) {
        message::number(1, self.status.as_u16().into(), out);
        for (name, value) in self.headers {
            message::pair(3, name.as_str().as_bytes(), value.as_bytes(), out);
        }
        message::bytes(4, self.body, out);
        message::number(5, self.trailers.is_some().into(), out);
        for (name, value) in self.trailers.into_iter().flatten() {
            message::pair(6, name.as_str().as_bytes(), value.as_bytes(), out);
        }
    }
}

/// The parts of a message, and whether it has more than a status.
fn read(message: &Bytes, more: usize) -> Result<(Unpacked, bool), &'static str> {
    let is_header = |field: &Result<_, &str>| matches!(field, Ok((3, _)));
    let headers = Reader(message).filter(is_header).count();
    let (mut status, mut is_whole, mut has_trailers) = (0, true, false);
    let (mut headers, mut trailers) = (HeaderMap::with_capacity(headers + more), HeaderMap::new());
    let mut body = Bytes::new();
    for field in Reader(message) {
        match field? {
            (1, Value::Number(number)) => status = number,
            (2, Value::Number(number)) => is_whole = number == 0,
            (3, Value::Bytes(header)) => append(&mut headers, message, header)?,
            (4, Value::Bytes(bytes)) => body = message.slice_ref(bytes),
            (5, Value::Number(number)) => has_trailers = number != 0,
            (6, Value::Bytes(trailer)) => append(&mut trailers, message, trailer)?,
            (1..=6, _) => return Err("message"),
            // Later versions may add fields that can be passed over.
            _ => {}
        }
    }
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or("status")?;
    let trailers = has_trailers.then_some(trailers);
    Ok((Unpacked { status, headers, body, trailers }, is_whole))
}

/// Appends a header that lies in a message.
fn append(map: &mut HeaderMap, message: &Bytes, header: &[u8]) -> Result<(), &'static str> {
    let (mut name, mut value) = (&[][..], &[][..]);
    for field in Reader(header) {
        match field? {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            (1 | 2, _) => return Err("message"),
            _ => {}
        }
    }
    let name = HeaderName::from_bytes(name).map_err(|_| "header")?;
    let value = HeaderValue::from_maybe_shared(message.slice_ref(value)).map_err(|_| "header")?;
    map.try_append(name, value).map_err(|_| "too many headers")?;
    Ok(())
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
