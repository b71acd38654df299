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
fn a_recorded_response_keeps_the_order_of_its_headers() {
    let lines: [(&str, &[u8]); 4] =
        [("content-length", b"0"), ("location", b"/1"), ("etag", b"1"), ("vary", b"x")];
    let mut head = http::Response::new(()).into_parts().0;
    head.headers = headers(&lines);
    let stored = StoredResponse::new(head, Bytes::new(), None);
    let names: Vec<_> = stored.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["location", "etag", "vary"]);
}

#[test]
fn a_fence_admits_its_own_repeats_and_nothing_newer() {
    let first = Fence::new(Token([1; 16]));
    let second = first.next();
    assert!(first.admits(first) && second.admits(first));
    assert!(!first.admits(second), "a delayed write must not undo a later one");
    assert!(!second.admits(Fence::new(Token([2; 16]))));
}

#[test]
fn store_keys_round_trip_as_text() {
    let key = StoreKey::from_bytes([0xab; 32]);
    assert_eq!(StoreKey::from_hex(&key.to_string()), Some(key));
    assert_eq!(StoreKey::from_hex("ab"), None);
}
