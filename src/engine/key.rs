//! Where a key comes from, and what a valid key is.
//!
//! 1. Sources are tried in order; the first that yields a value wins.
//! 2. A value that is present and malformed is an error, not a reason to look
//!    further: a client that means to be protected is never silently not.
//! 3. `"abc"` (RFC 8941 string) and `abc` are the same key. A bare value is
//!    taken as it is, because a UUID that begins with a digit is no structured
//!    field item, and that is what most clients send.

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header::CONNECTION, request::Parts};

pub use super::source::{KeySource, KeySourceError};
use super::{canonical, facet, fingerprint::Hasher, policy::Policy};

/// The longest key that is accepted, in bytes.
pub const MAX_KEY: usize = 255;

/// A valid key: 1 to 255 visible ASCII characters.
///
/// Put one into a request's extensions to key it from code that runs outside
/// the layer; the layer puts the key it found there for the code inside.
///
/// ```
/// use oncegate::Key;
///
/// assert_eq!(Key::new("8e03978e")?.as_str(), "8e03978e");
/// assert!(Key::new("two words").is_err());
/// # Ok::<(), oncegate::engine::key::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`KeyError`] when the text is empty, too long or not visible ASCII.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        match text.len() {
            0 => Err(KeyError::Empty),
            1..=MAX_KEY if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self(text.into()))
            }
            1..=MAX_KEY => Err(KeyError::Character),
            _ => Err(KeyError::TooLong),
        }
    }

    /// The key as the client meant it, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Keys are secrets of the client's: they are not shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// Why a key was refused. The message is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing between the quotes, or an empty value.
    #[error("the key is empty; send 1 to 255 visible ASCII characters")]
    Empty,
    /// More than [`MAX_KEY`] bytes.
    #[error("the key is longer than 255 characters")]
    TooLong,
    /// White space, a control character, or a byte outside ASCII.
    #[error("the key has a character that is not visible ASCII")]
    Character,
    /// A comma in a bare value: two keys joined on their way here.
    #[error("the key has a comma; send one key, or put it in quotes")]
    Comma,
    /// The header was given twice.
    #[error("the key was given more than once")]
    Repeated,
    /// Begins with a quote and is not an RFC 8941 string.
    #[error("the key begins with a quote and is not an RFC 8941 string")]
    Quoting,
    /// The member of a JSON body is neither text nor a number, or is no valid text.
    #[error("the key in the body is neither text nor a number")]
    NotText,
    /// `Connection` names the key header, so a hop would have removed it.
    #[error("the Connection header names the key header; a key must reach every hop")]
    HopByHop,
}

/// A key and the header line that carried it, if one did.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key.
    pub key: Key,
    /// The header to echo, as the client wrote it.
    pub echo: Option<(HeaderName, HeaderValue)>,
}

/// What the head alone says about the key.
#[derive(Debug)]
pub enum Glance {
    /// The head carries a key.
    Found(Found),
    /// A source that comes first, or the only ones, lie in the body.
    InBody,
    /// No source can yield a key.
    Absent,
}

/// Looks for a key without the body, so that a request without one is passed on
/// before a byte of its body was read.
///
/// # Errors
/// [`KeyError`] when a source holds a malformed key.
pub fn glance<B>(policy: &Policy, request: &Request<B>) -> Result<Glance, KeyError> {
    if let Some(key) = request.extensions().get::<Key>() {
        return Ok(Glance::Found(Found { key: key.clone(), echo: None }));
    }
    for source in &policy.keys {
        match source {
            KeySource::Header(name) => {
                if let Some(found) = in_header(name, request.headers())? {
                    return Ok(Glance::Found(found));
                }
            }
            KeySource::Query(name) => {
                if let Some(value) = facet::query(request.uri(), name) {
                    return Key::new(&value).map(|key| Glance::Found(Found { key, echo: None }));
                }
            }
            KeySource::Json(_) | KeySource::Form(_) | KeySource::Body(_) | KeySource::Content => {
                return Ok(Glance::InBody);
            }
        }
    }
    Ok(Glance::Absent)
}

/// Looks for a key in the whole request.
///
/// # Errors
/// [`KeyError`] when a source holds a malformed key.
pub fn find(
    policy: &Policy,
    hasher: &Hasher,
    head: &Parts,
    body: &[u8],
) -> Result<Option<Found>, KeyError> {
    for source in &policy.keys {
        let value = match source {
            KeySource::Header(name) => match in_header(name, &head.headers)? {
                Some(found) => return Ok(Some(found)),
                None => continue,
            },
            KeySource::Query(name) => facet::query(&head.uri, name),
            KeySource::Json(pointer) => in_json(pointer, body)?.map(Cow::Owned),
            KeySource::Form(name) => {
                form_urlencoded::parse(body).find(|(key, _)| key == name).map(|(_, value)| value)
            }
            KeySource::Body(expression) => expression
                .captures(body)
                .and_then(|groups| groups.get(1))
                .map(|group| String::from_utf8_lossy(group.as_bytes())),
            KeySource::Content => Some(Cow::Owned(hasher.content_key(policy, head, body))),
        };
        if let Some(value) = value {
            return Key::new(&value).map(|key| Some(Found { key, echo: None }));
        }
    }
    Ok(None)
}

fn in_header(name: &HeaderName, headers: &HeaderMap) -> Result<Option<Found>, KeyError> {
    // Most requests have neither, and to go through a few names is less than two look-ups.
    let (mut is_there, mut has_connection) = (false, false);
    for held in headers.keys() {
        is_there |= held == name;
        has_connection |= held == CONNECTION;
    }
    // Also when it is not there: a proxy before this one may have taken it away.
    if has_connection && nominated(name, headers) {
        return Err(KeyError::HopByHop);
    }
    if !is_there {
        return Ok(None);
    }
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(KeyError::Repeated);
    }
    let key = parse(value)?;
    Ok(Some(Found { key, echo: Some((name.clone(), value.clone())) }))
}

fn parse(value: &HeaderValue) -> Result<Key, KeyError> {
    let bytes = value.as_bytes();
    if bytes.first() == Some(&b'"') {
        let item: sfv::Item = sfv::Parser::new(bytes).parse().map_err(|_| KeyError::Quoting)?;
        let text = item.bare_item.as_string().ok_or(KeyError::Quoting)?;
        return Key::new(text.as_str());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.len() <= MAX_KEY && is_bare(bytes) => {
            Ok(Key(text.into()))
        }
        _ if bytes.contains(&b',') => Err(KeyError::Comma),
        Ok(text) => Key::new(text),
        Err(_) => Err(KeyError::Character),
    }
}

/// Whether all bytes may stand in a key without quotes. Looks at every one, and so at many
/// at a time.
fn is_bare(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |bare, byte| bare & byte.is_ascii_graphic() & (*byte != b','))
}

fn nominated(name: &HeaderName, headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// The text or number that `pointer` leads to; `null` is none.
pub(super) fn in_json(pointer: &str, body: &[u8]) -> Result<Option<String>, KeyError> {
    let Some(found) = canonical::find(body, pointer) else { return Ok(None) };
    let text = found.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map(Some).map_err(|_| KeyError::NotText),
        // As it is written: no number is too long for a name.
        Some(b'-' | b'0'..=b'9') => Ok(Some(text.to_owned())),
        None | Some(b'n') => Ok(None),
        Some(_) => Err(KeyError::NotText),
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
