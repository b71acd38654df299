//! What a proxy changes in heads (RFC 9110, 7.6), in both directions.

use std::{net::IpAddr, time::SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, DATE, EXPECT, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE,
        VIA,
    },
    uri::{Authority, PathAndQuery},
};
use http_body::Body;

use crate::{
    Key,
    config::{Network, UpstreamUrl},
    engine::{
        hop::{is_hop_by_hop, strip_hop_by_hop},
        problem::Problem,
    },
    mutants::{Mutant, is_active},
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Refuses what a proxy may not forward. The HTTP library has refused malformed
/// heads before, and the connection what its version makes doubtful.
pub(crate) fn screen<B>(request: &Request<B>) -> Result<(), Problem> {
    if matches!(request.method().as_str(), "CONNECT" | "TRACE") {
        return Err(Problem::MethodNotServed);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Problem::BadRequest("The request has more than one Host header."));
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(Problem::BadRequest("The Host header names no host."));
    }
    if request.uri().path() == "*" && request.method() != Method::OPTIONS {
        return Err(Problem::BadRequest("Only OPTIONS may be asked of the server as a whole."));
    }
    match (host, request.uri().authority()) {
        (_, Some(authority)) if authority.as_str().contains('@') => {
            Err(Problem::BadRequest("The request target has a user, which names no host."))
        }
        (None, _) if request.version() == Version::HTTP_11 => {
            Err(Problem::BadRequest("An HTTP/1.1 request needs a Host header."))
        }
        (Some(host), Some(authority))
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            Err(Problem::BadRequest("The request target and the Host header name different hosts."))
        }
        _ => Ok(()),
    }
}

/// Whether it is a host, and perhaps a port (RFC 9112, 3.2). An empty one is a host.
fn is_host(host: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let colon = host.iter().rposition(|byte| !byte.is_ascii_digit());
    let name = match colon {
        Some(at) if host[at] == b':' => &host[..at],
        Some(_) | None => host,
    };
    // As nearly all of them are.
    if name.iter().all(is_plain) && host.len() - name.len() <= ":65535".len() {
        return true;
    }
    Authority::try_from(host).is_ok_and(|authority| {
        let port = &authority.as_str()[authority.host().len()..];
        !authority.as_str().contains('@') && (port.is_empty() || authority.port_u16().is_some())
    })
}

/// Who is at the other end of a client's connection.
#[derive(Debug)]
pub(crate) struct Peer {
    address: HeaderValue,
    is_trusted: bool,
}

impl Peer {
    /// `trusted` are the networks whose word is believed.
    pub(crate) fn new(address: IpAddr, trusted: &[Network]) -> Self {
        let text = address.to_canonical().to_string();
        Self {
            address: HeaderValue::try_from(text).expect("an address is digits, dots and colons"),
            is_trusted: trusted.iter().any(|network| network.contains(address)),
        }
    }

    /// The peer as an element of `Forwarded`.
    fn element(&self) -> Option<HeaderValue> {
        let address = self.address.to_str().ok()?;
        let element = if address.contains(':') {
            format!("for=\"[{address}]\";proto=http")
        } else {
            format!("for={address};proto=http")
        };
        HeaderValue::try_from(element).ok()
    }
}

/// Names the host in a header where the target alone names it, as a client of HTTP/1.0 may.
pub(crate) fn host_of_target<B>(request: &mut Request<B>) {
    if let Some(authority) = request.uri().authority()
        && !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
}

/// Says on whose behalf the request is forwarded. What an untrusted peer claims
/// about that is dropped.
pub(crate) fn forwarded(headers: &mut HeaderMap, peer: &Peer) {
    let before = if peer.is_trusted {
        let list: Vec<_> =
            headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        list.join(&b", "[..])
    } else {
        if headers.keys().any(is_claim) {
            let claims: Vec<_> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
            for claim in claims {
                headers.remove(claim);
            }
        }
        Vec::new()
    };
    let chain = if before.is_empty() {
        Ok(peer.address.clone())
    } else {
        HeaderValue::try_from([&before[..], b", ", peer.address.as_bytes()].concat())
    };
    if let Ok(chain) = chain {
        headers.insert(FORWARDED_FOR, chain);
    }
    let is_told = |headers: &HeaderMap, name| peer.is_trusted && headers.contains_key(name);
    if !is_told(headers, FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(FORWARDED_HOST, host);
    }
    // What is left of it by now is believed, and goes on with this hop's own element.
    let is_standard = headers.contains_key(FORWARDED);
    if !is_told(headers, FORWARDED_PROTO) {
        let told = if is_standard { proto_of_peer(headers) } else { None };
        let proto = told.unwrap_or(const { HeaderValue::from_static("http") });
        headers.insert(FORWARDED_PROTO, proto);
    }
    if is_standard && let Some(element) = peer.element() {
        headers.append(FORWARDED, element);
    }
}

/// The protocol that the peer was spoken to, by the last element of `Forwarded` (RFC 7239): each
/// hop adds its own, so those before it may be anybody's word.
fn proto_of_peer(headers: &HeaderMap) -> Option<HeaderValue> {
    let line = headers.get_all(FORWARDED).iter().next_back()?;
    let last = line.as_bytes().rsplit(|byte| *byte == b',').next()?;
    let mut pairs = last.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let proto = pairs.find_map(|pair| {
        let (name, value) = pair.split_at_checked(b"proto=".len())?;
        name.eq_ignore_ascii_case(b"proto=").then_some(value)
    })?;
    let proto = proto.strip_prefix(b"\"").and_then(|p| p.strip_suffix(b"\"")).unwrap_or(proto);
    if proto.eq_ignore_ascii_case(b"https") {
        Some(const { HeaderValue::from_static("https") })
    } else {
        None
    }
}

/// Whether a header says on whose behalf a request comes.
fn is_claim(name: &HeaderName) -> bool {
    *name == FORWARDED || name.as_str().starts_with("x-forwarded-")
}

/// Makes a request one of this hop's own. True if it asks for another protocol.
pub(crate) fn to_upstream<B: Body>(request: &mut Request<B>) -> bool {
    let version = request.version();
    *request.version_mut() = Version::HTTP_11;
    // The library leaves out the body of such a request, unless the head says that it has one.
    let is_chunked = matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.body().is_end_stream()
        && !request.headers().contains_key(CONTENT_LENGTH);
    // Where a body is expected, HTTP/1.1 says that there is none (RFC 9110, 8.6).
    let is_empty = request.body().is_end_stream()
        && matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH)
        && !request.headers().contains_key(CONTENT_LENGTH);
    // A keyed request has one response, so it is never a tunnel; nor is one of HTTP/1.0, whose
    // upgrade is to be ignored (RFC 9110, 7.8).
    let stays = request.extensions().get::<Key>().is_some() || version < Version::HTTP_11;
    let headers = request.headers_mut();
    let switches = headers.keys().any(|name| is_hop_by_hop(name) || *name == EXPECT)
        && for_this_hop(headers, stays);
    if is_chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if is_empty {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers.append(VIA, via(version));
    switches
}

/// Takes away what was said to this hop, and says to the next one what it has to know.
fn for_this_hop(headers: &mut HeaderMap, stays: bool) -> bool {
    let upgrade = (!stays && is_upgrade(headers))
        .then(|| protocols(headers).collect::<Vec<_>>().join(&b", "[..]))
        .and_then(|protocols| HeaderValue::from_bytes(&protocols).ok());
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| value.as_bytes().to_ascii_lowercase().windows(8).any(|w| w == b"trailers"));
    strip_hop_by_hop(headers);
    // The body of a keyed request is here already, and others are streamed on demand.
    headers.remove(EXPECT);
    let switches = upgrade.is_some();
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    switches
}

/// Addresses a request to an upstream: a path on the wire, and the client's
/// `Host` unless there was none.
pub(crate) fn address<B>(request: &mut Request<B>, url: &UpstreamUrl) {
    if request.uri().authority().is_some() || request.uri().path().is_empty() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    if !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(url.authority().as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
}

/// Fails unless everybody reads the same body, and leaves one length where the same one is there
/// several times. The library takes chunks away and no other coding: what is left of one would
/// be passed on, and recorded, as if it were the body.
pub(crate) fn one_framing(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        return if is_chunked && codings.next().is_none() || is_active(Mutant::IgnoreCodings) {
            Ok(())
        } else {
            Err("the response has a transfer coding beside chunked")
        };
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (first, others) = (lengths.next(), lengths.next().is_some());
    let is_plain = |length: &[u8]| !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if !others && first.is_none_or(|length| is_plain(length.as_bytes())) {
        return Ok(());
    }
    let lengths = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let mut lengths = lengths.flat_map(|value| value.split(|byte| *byte == b','));
    let length = lengths.next().unwrap_or_default().trim_ascii();
    let is_one = is_plain(length) && lengths.all(|other| other.trim_ascii() == length);
    let Some(length) = HeaderValue::from_bytes(length).ok().filter(|_| is_one) else {
        return Err("the response has a Content-Length that is not one number");
    };
    headers.insert(CONTENT_LENGTH, length);
    Ok(())
}

/// Makes a response one of this hop's own.
pub(crate) fn from_upstream<B>(response: &mut Response<B>) {
    let version = response.version();
    *response.version_mut() = Version::HTTP_11;
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    if !switching {
        strip_hop_by_hop(headers);
    }
    headers.append(VIA, via(version));
    // Else each of its replays would say another one (RFC 9110, 6.6.1).
    if !switching && !headers.contains_key(DATE) {
        let now = httpdate::fmt_http_date(SystemTime::now());
        headers.extend(HeaderValue::try_from(now).ok().map(|now| (DATE, now)));
    }
}

/// Whether the request asks for another protocol on this connection.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    protocols(headers).next().is_some()
        && headers.get_all(CONNECTION).iter().any(|value| {
            let mut tokens = value.as_bytes().split(|byte| *byte == b',');
            tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        })
}

/// The protocols that a connection may be handed over to, of those that the request names.
/// HTTP/2 is none of them (RFC 9113, 3.1).
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let named = headers.get_all(UPGRADE).iter().map(HeaderValue::as_bytes);
    let named = named.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    named.filter(|protocol| !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c"))
}

fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_10 => const { HeaderValue::from_static("1.0 oncegate") },
        Version::HTTP_2 => const { HeaderValue::from_static("2.0 oncegate") },
        _ => const { HeaderValue::from_static("1.1 oncegate") },
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
