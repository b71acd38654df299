use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn head(lines: &[(&'static str, &'static str)]) -> Parts {
    let mut head = http::Response::new(()).into_parts().0;
    head.headers = headers(lines);
    head
}

#[test]
fn a_recorded_response_keeps_no_read_buffer() {
    let buffer = Bytes::from(vec![b'x'; 8192]);
    let mut head = head(&[]);
    let value = HeaderValue::from_maybe_shared(buffer.slice(..10)).unwrap();
    head.headers.insert("x-name", value.clone());
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), value)]);
    let stored = StoredResponse::new(head, buffer.slice(20..50), Some(trailers));
    assert!(buffer.is_unique(), "nothing else keeps the buffer");
    let unpacked = stored.unpack(0);
    assert_eq!(unpacked.body, buffer.slice(20..50));
    assert_eq!(unpacked.headers["x-name"], "xxxxxxxxxx");
    assert_eq!(unpacked.trailers.unwrap()["x-sum"], "xxxxxxxxxx");
}

#[test]
fn a_recorded_response_keeps_the_order_of_its_headers() {
    let lines = [
        ("content-length", "0"),
        ("set-cookie", "a"),
        ("connection", "close"),
        ("location", "/1"),
        ("etag", ""),
        ("set-cookie", "b"),
        ("vary", "x"),
    ];
    let stored = StoredResponse::new(head(&lines), Bytes::new(), None).unpack(4);
    let kept = [lines[1], lines[5], lines[3], lines[4], lines[6]];
    assert_eq!(stored.headers, headers(&kept));
    let names: Vec<_> = stored.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["set-cookie", "location", "etag", "vary"]);
    assert_eq!((stored.trailers, stored.headers.capacity() >= 9), (None, true));
}

#[test]
fn what_is_copied_from_has_lost_the_same() {
    let mut head = head(&[("content-length", "4"), ("te", "x"), ("etag", "1")]);
    let mut trailers = headers(&[("content-length", "4"), ("x-sum", "1")]);
    let stored = StoredResponse::copy_of(&mut head, b"paid", Some(&mut trailers)).unpack(0);
    assert_eq!((&stored.headers, stored.trailers.as_ref()), (&head.headers, Some(&trailers)));
    assert_eq!(head.headers, headers(&[("etag", "1")]));
    assert_eq!(trailers, headers(&[("x-sum", "1")]));
}

#[test]
fn nothing_of_a_response_is_shown() {
    let stored = StoredResponse::new(head(&[("x-name", "secret")]), "secret".into(), None);
    let shown = format!("{stored:?}");
    assert!(shown.contains("200") && !shown.contains("secret"), "{shown}");
}
