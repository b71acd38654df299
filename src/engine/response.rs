//! A response as it is recorded.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_LENGTH};

use super::hop::{remove_in_order, strip_hop_by_hop};

/// A response without the connection that it came over.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResponse {
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
    /// Strips what belongs to one connection (RFC 9110, 7.6.1) and what the next
    /// sender computes anew.
    ///
    /// Everything is copied: what came off a connection is a slice of a read buffer,
    /// and a record of a few bytes would keep the whole of it in memory.
    #[must_use]
    pub fn new(mut head: http::response::Parts, body: Bytes, trailers: Option<HeaderMap>) -> Self {
        strip_hop_by_hop(&mut head.headers);
        Self {
            status: head.status,
            headers: own(head.headers),
            body: Bytes::copy_from_slice(&body),
            trailers: trailers.map(own),
        }
    }
}

/// How many fields an answer adds to the recorded ones. A map keeps its room when it is
/// cloned, and one that must grow costs more than the clone.
pub(super) const ADDED: usize = 4;

/// The same fields but for the length, whose values lie in one place that nobody else keeps.
fn own(mut headers: HeaderMap) -> HeaderMap {
    remove_in_order(&mut headers, &CONTENT_LENGTH);
    // The HTTP library uses maps again, so this one may have room for the fields of a browser.
    if headers.capacity() > 2 * (headers.len() + ADDED) {
        let mut less = HeaderMap::with_capacity(headers.len() + ADDED);
        less.extend(headers);
        headers = less;
    }
    headers.reserve(ADDED);
    let mut copies = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    headers.values().for_each(|value| copies.extend_from_slice(value.as_bytes()));
    let mut copies = copies.freeze();
    for value in headers.values_mut() {
        // What was a value is one.
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(copies.split_to(value.len())) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        map
    }

    #[test]
    fn a_recorded_response_keeps_no_read_buffer() {
        let buffer = Bytes::from(vec![b'x'; 8192]);
        let mut head = http::Response::new(()).into_parts().0;
        let value = HeaderValue::from_maybe_shared(buffer.slice(..10)).unwrap();
        head.headers.insert("x-name", value.clone());
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), value)]);
        let stored = StoredResponse::new(head, buffer.slice(20..50), Some(trailers));
        assert_eq!(stored.body, buffer.slice(20..50));
        assert_eq!(stored.headers["x-name"], "xxxxxxxxxx");
        assert_eq!(stored.trailers.as_ref().unwrap()["x-sum"], "xxxxxxxxxx");
        assert!(buffer.is_unique(), "nothing else keeps the buffer");
    }

    #[test]
    fn a_recorded_response_keeps_no_room_for_more_headers_than_it_has() {
        let lines: [(&str, &[u8]); 3] =
            [("etag", b"1"), ("set-cookie", b"a"), ("set-cookie", b"b")];
        let mut head = http::Response::new(()).into_parts().0;
        head.headers = HeaderMap::with_capacity(100);
        head.headers.extend(headers(&lines));
        let stored = StoredResponse::new(head, Bytes::new(), None).headers;
        assert!(stored.capacity() <= 2 * (3 + ADDED), "{}", stored.capacity());
        assert_eq!(stored, headers(&lines));
    }

    #[test]
    fn a_recorded_response_keeps_the_order_of_its_headers() {
        let lines: [(&str, &[u8]); 4] =
            [("content-length", b"0"), ("location", b"/1"), ("etag", b"1"), ("vary", b"x")];
        let mut head = http::Response::new(()).into_parts().0;
        head.headers = headers(&lines);
        let stored = StoredResponse::new(head, Bytes::new(), None);
        let names: Vec<_> = stored.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["location", "etag", "vary"]);
    }
}
