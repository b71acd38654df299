//! A response as it is recorded.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_LENGTH, response::Parts};

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
    /// Copies a response, and strips it of what belongs to one connection (RFC 9110, 7.6.1)
    /// and of what the next sender computes anew.
    #[must_use]
    pub fn new(mut head: Parts, body: Bytes, mut trailers: Option<HeaderMap>) -> Self {
        Self::copy_of(&mut head, &body, trailers.as_mut())
    }

    /// The same for a response that is needed afterwards: what is stripped is stripped where
    /// it is.
    ///
    /// Nothing is shared: what came off a connection is a slice of a read buffer, and a record
    /// of a few bytes would keep the whole of it in memory. All values and the body lie in one
    /// piece, and maps have no more room than they need, since thousands of records are at
    /// hand for each one that is looked at.
    #[must_use]
    pub fn copy_of(head: &mut Parts, body: &[u8], mut trailers: Option<&mut HeaderMap>) -> Self {
        strip_hop_by_hop(&mut head.headers);
        for map in [Some(&mut head.headers), trailers.as_deref_mut()].into_iter().flatten() {
            remove_in_order(map, &CONTENT_LENGTH);
        }
        let trailers = trailers.as_deref();
        let maps = [Some(&head.headers), trailers];
        let values = || maps.into_iter().flatten().flat_map(HeaderMap::values);
        let length = values().map(HeaderValue::len).sum::<usize>() + body.len();
        let mut piece = BytesMut::with_capacity(length);
        values().for_each(|value| piece.extend_from_slice(value.as_bytes()));
        piece.extend_from_slice(body);
        let mut piece = piece.freeze();
        Self {
            status: head.status,
            headers: from_piece(&head.headers, &mut piece),
            trailers: trailers.map(|trailers| from_piece(trailers, &mut piece)),
            body: piece,
        }
    }

    /// The headers in a map of one's own, with room for `more`.
    #[must_use]
    pub fn headers_and_room(&self, more: usize) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.headers.len() + more);
        for (name, value) in &self.headers {
            map.append(name, value.clone());
        }
        map
    }
}

/// The same fields, whose values lie at the beginning of `piece`, from where they are taken.
fn from_piece(fields: &HeaderMap, piece: &mut Bytes) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        // What was a value is one.
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(piece.split_to(value.len())) {
            copy.set_sensitive(value.is_sensitive());
            map.append(name, copy);
        }
    }
    map
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
        assert!(stored.capacity() <= 2 * 3, "{}", stored.capacity());
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
