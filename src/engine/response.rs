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
    record::Recorded,
};

/// The most fields, trailers included, of a response that is recorded whole: hundreds of times as
/// many as any has. A map of headers has room for 24,576, but only for a quarter of that if
/// somebody chooses their names so that they collide.
const MOST_FIELDS: usize = 4096;

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
    /// How many headers there are, or that there are very many: what room their map needs.
    headers: u16,
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
        Self { status, headers: many(head.headers.len()), message: message.into() }
    }

    /// The upstream's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its parts; the headers in a map with room for so many `more`.
    #[must_use]
    pub fn unpack(&self, more: usize) -> Unpacked {
        let room = usize::from(self.headers).saturating_add(more);
        unpack(&self.message, room).expect("it was looked through, or written here")
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

impl Recorded {
    /// A copy of a response as [`StoredResponse::copy_of`] makes it, or only its status if it
    /// has more fields than are recorded.
    pub(crate) fn copy_of(head: &mut Parts, body: &[u8], trailers: Option<&mut HeaderMap>) -> Self {
        let fields = head.headers.len() + trailers.as_ref().map_or(0, |trailers| trailers.len());
        Self::of(StoredResponse::copy_of(head, body, trailers), fields)
    }

    fn of(stored: StoredResponse, fields: usize) -> Self {
        if fields > MOST_FIELDS { Self::StatusOnly(stored.status) } else { Self::Whole(stored) }
    }
}

/// Whole, or only its status if it has more fields than are recorded.
impl From<StoredResponse> for Recorded {
    fn from(stored: StoredResponse) -> Self {
        let is_field = |field: &Result<_, &str>| matches!(field, Ok((3 | 6, _)));
        let fields = Reader(&stored.message).filter(is_field).count();
        Self::of(stored, fields)
    }
}

/// Takes a message that a store has kept, if it can be unpacked; the error is what is damaged.
#[cfg(feature = "codec")]
pub(super) fn recorded(message: Bytes) -> Result<Recorded, &'static str> {
    use super::field;

    let (mut status, mut is_whole) = (0, true);
    let (mut headers, mut fields) = (0, 0);
    for field in Reader(&message) {
        match field? {
            (1, Value::Number(number)) => status = number,
            (2, Value::Number(number)) => is_whole = number == 0,
            (tag @ (3 | 6), Value::Bytes(field)) => {
                let (name, value) = parts(field)?;
                if !field::is_name(name) || !field::is_value(value) {
                    return Err("header");
                }
                fields += 1;
                headers += usize::from(tag == 3);
            }
            (4, Value::Bytes(_)) | (5, Value::Number(_)) => {}
            (1..=6, _) => return Err("message"),
            // Later versions may add fields that can be passed over.
            _ => {}
        }
    }
    if fields > MOST_FIELDS {
        return Err("too many headers");
    }
    let status = status_of(status)?;
    Ok(match is_whole {
        true => Recorded::Whole(StoredResponse { status, headers: many(headers), message }),
        false => Recorded::StatusOnly(status),
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

/// Counted as far as it goes.
fn many(headers: usize) -> u16 {
    headers.try_into().unwrap_or(u16::MAX)
}

/// The parts of a message, its headers in a map with `room` for so many.
fn unpack(message: &Bytes, room: usize) -> Result<Unpacked, &'static str> {
    let (mut status, mut has_trailers, mut body) = (0, false, Bytes::new());
    // What is to be added later has room made for it then.
    let mut headers = HeaderMap::try_with_capacity(room).unwrap_or_default();
    let mut trailers = HeaderMap::new();
    for field in Reader(message) {
        match field? {
            (1, Value::Number(number)) => status = number,
            (3, Value::Bytes(header)) => append(&mut headers, message, header)?,
            (4, Value::Bytes(bytes)) => body = message.slice_ref(bytes),
            (5, Value::Number(number)) => has_trailers = number != 0,
            (6, Value::Bytes(trailer)) => append(&mut trailers, message, trailer)?,
            (2, Value::Number(_)) => {}
            (1..=6, _) => return Err("message"),
            _ => {}
        }
    }
    let (status, trailers) = (status_of(status)?, has_trailers.then_some(trailers));
    Ok(Unpacked { status, headers, body, trailers })
}

fn status_of(number: u64) -> Result<StatusCode, &'static str> {
    let status = u16::try_from(number).ok().and_then(|status| StatusCode::from_u16(status).ok());
    status.ok_or("status")
}

/// The name and the value of a header.
fn parts(header: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (mut name, mut value) = (&[][..], &[][..]);
    for field in Reader(header) {
        match field? {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            (1 | 2, _) => return Err("message"),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Appends a header that lies in a message.
fn append(map: &mut HeaderMap, message: &Bytes, header: &[u8]) -> Result<(), &'static str> {
    let (name, value) = parts(header)?;
    let name = HeaderName::from_bytes(name).map_err(|_| "header")?;
    let value = HeaderValue::from_maybe_shared(message.slice_ref(value)).map_err(|_| "header")?;
    map.try_append(name, value).map_err(|_| "too many headers")?;
    Ok(())
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
