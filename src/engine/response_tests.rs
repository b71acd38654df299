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

#[test]
fn of_a_response_with_thousands_of_headers_the_status_is_recorded() {
    let of = |count: usize, trailers: usize| {
        let names =
            |count| (0..count).map(|number| HeaderName::try_from(format!("x-{number}")).unwrap());
        let map = |count| names(count).map(|name| (name, HeaderValue::from_static("1"))).collect();
        let mut head = head(&[]);
        head.headers = map(count);
        let by_hand = StoredResponse::new(head.clone(), "paid".into(), Some(map(trailers)));
        let recorded = Recorded::copy_of(&mut head, b"paid", Some(&mut map(trailers)));
        assert_eq!(Recorded::from(by_hand), recorded);
        recorded
    };
    assert!(matches!(of(MOST_FIELDS - 1, 1), Recorded::Whole(_)));
    assert_eq!(of(MOST_FIELDS, 1), Recorded::StatusOnly(StatusCode::OK));
}

/// What a store gives back.
#[cfg(feature = "codec")]
mod kept {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A message that has so many times this header.
    fn with_headers(count: usize, header: &[u8]) -> Bytes {
        let mut message = vec![8, 200, 1];
        for _ in 0..count {
            message.extend([26, header.len() as u8]);
            message.extend(header);
        }
        message.into()
    }

    #[test]
    fn a_message_with_thousands_of_headers_is_damaged() {
        for (count, header) in [(25_000, &[][..]), (25_000, &[10, 1, b'a']), (4097, &[10, 1, b'a'])]
        {
            assert!(recorded(with_headers(count, header)).is_err(), "{count}");
        }
        let Ok(Recorded::Whole(stored)) = recorded(with_headers(MOST_FIELDS, &[10, 1, b'a']))
        else {
            panic!("so many are recorded");
        };
        assert_eq!(stored.unpack(usize::MAX).headers.len(), MOST_FIELDS);
    }

    /// Messages that are nearly such as we write.
    fn messages() -> impl Strategy<Value = Bytes> {
        let bytes = || {
            prop_oneof![
                4 => vec(prop_oneof![b'a'..=b'z', Just(b'-'), Just(b'A')], 0..8),
                1 => vec(any::<u8>(), 0..8),
            ]
        };
        let pair = (bytes(), bytes(), 0..12_u8).prop_map(|(name, value, change)| {
            let mut pair = Vec::new();
            message::bytes(1, &name, &mut pair);
            message::bytes(2, &value, &mut pair);
            if change == 0 {
                message::number(2, 1, &mut pair);
            }
            pair
        });
        let content = prop_oneof![3 => pair, 1 => bytes()];
        let field = (1..=7_u8, prop_oneof![Just(0), 0..1000_u64], content, 0..30_u8);
        let fields = vec(field, 0..8).prop_map(|fields| {
            let mut out = vec![8, 200, 1];
            for (tag, number, bytes, change) in fields {
                match (tag, change) {
                    (1 | 2 | 5, 1..) | (_, 0) => message::number(tag, number, &mut out),
                    _ => message::bytes(tag, &bytes, &mut out),
                }
            }
            out
        });
        (fields, any::<prop::sample::Index>(), 0..4_u8).prop_map(|(mut message, end, change)| {
            if change == 0 {
                message.truncate(end.index(message.len() + 1));
            }
            message.into()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_taken_can_be_unpacked_and_nothing_else(message in messages()) {
            let unpacked = unpack(&message, 0);
            match recorded(message) {
                Err(what) => prop_assert_eq!(unpacked, Err(what)),
                Ok(Recorded::StatusOnly(status)) => prop_assert_eq!(unpacked.unwrap().status, status),
                Ok(Recorded::Whole(stored)) => prop_assert_eq!(unpacked, Ok(stored.unpack(3))),
            }
        }
    }
}
