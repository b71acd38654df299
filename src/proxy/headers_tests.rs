use http_body_util::Empty;

use super::*;

#[test]
fn a_response_has_one_framing() {
    const LENGTH: HeaderName = CONTENT_LENGTH;
    const CODING: HeaderName = TRANSFER_ENCODING;
    for (lines, length) in [
        (&[][..], Some(&[][..])),
        (&[(LENGTH, "5")], Some(&["5"])),
        (&[(LENGTH, "5, 5")], Some(&["5"])),
        (&[(LENGTH, "5"), (LENGTH, "5 ,5")], Some(&["5"])),
        (&[(LENGTH, "5, 6")], None),
        (&[(LENGTH, "5"), (LENGTH, "6")], None),
        (&[(LENGTH, "")], None),
        (&[(LENGTH, "+5")], None),
        (&[(LENGTH, "5,")], None),
        (&[(CODING, "chunked")], Some(&[])),
        (&[(CODING, "Chunked"), (LENGTH, "5")], Some(&["5"])),
        (&[(CODING, "gzip, chunked")], None),
        (&[(CODING, "gzip")], None),
        (&[(CODING, "chunked, chunked")], None),
        (&[(CODING, "gzip"), (CODING, "chunked")], None),
        (&[(CODING, "identity"), (LENGTH, "5")], None),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        let framing = one_framing(&mut headers);
        assert_eq!(framing.is_ok(), length.is_some(), "{lines:?}");
        if let Some(length) = length {
            let left: Vec<_> = headers.get_all(LENGTH).iter().collect();
            assert_eq!(left, length, "{lines:?}");
        }
    }
}

fn request(lines: &[(&str, &str)]) -> Request<Empty<&'static [u8]>> {
    lines
        .iter()
        .fold(Request::post("/pay"), |r, (name, value)| r.header(*name, *value))
        .body(Empty::new())
        .unwrap()
}

#[test]
fn what_a_proxy_may_not_forward_is_refused() {
    assert_eq!(screen(&request(&[("host", "a")])), Ok(()));
    assert!(screen(&request(&[])).is_err());
    assert!(screen(&request(&[("host", "a"), ("host", "a")])).is_err());
    let mut absolute = request(&[("host", "b")]);
    *absolute.uri_mut() = "http://a/pay".parse().unwrap();
    assert!(screen(&absolute).is_err());
    let mut all = request(&[("host", "a")]);
    *all.uri_mut() = "*".parse().unwrap();
    assert!(screen(&all).is_err());
    *all.method_mut() = Method::OPTIONS;
    assert_eq!(screen(&all), Ok(()));
    let mut connect = request(&[("host", "a")]);
    *connect.method_mut() = http::Method::CONNECT;
    assert_eq!(screen(&connect), Err(Problem::MethodNotServed));
}

#[test]
fn an_untrusted_peer_cannot_say_who_it_speaks_for() {
    let peer: IpAddr = "192.0.2.7".parse().unwrap();
    let lines = [
        ("host", "pay"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=x"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/admin"),
    ];
    let mut headers = request(&lines).headers().clone();
    forwarded(&mut headers, &Peer::new(peer, &[]));
    assert_eq!(headers[FORWARDED_FOR], "192.0.2.7");
    assert_eq!(
        (&headers[FORWARDED_PROTO], &headers[FORWARDED_HOST]),
        (&HeaderValue::from_static("http"), &HeaderValue::from_static("pay"))
    );
    let dropped = [FORWARDED.as_str(), "x-forwarded-port", "x-forwarded-prefix"];
    assert!(dropped.iter().all(|name| !headers.contains_key(*name)), "{headers:?}");

    let mut headers = request(&lines).headers().clone();
    forwarded(&mut headers, &Peer::new(peer, &["192.0.2.0/24".parse().unwrap()]));
    assert_eq!(
        (&headers[FORWARDED_FOR], &headers[FORWARDED_PROTO]),
        (&HeaderValue::from_static("10.0.0.1, 192.0.2.7"), &HeaderValue::from_static("https"))
    );
    assert!(dropped.iter().all(|name| headers.contains_key(*name)), "{headers:?}");
}

#[test]
fn what_a_trusted_peer_says_in_the_standards_words_goes_on() {
    let trusted = ["192.0.2.0/24", "2001:db8::/32"].map(|block| block.parse().unwrap());
    for (peer, said, proto, own) in [
        ("192.0.2.7", "for=10.0.0.1;proto=https", "https", "for=192.0.2.7;proto=http"),
        ("192.0.2.7", "for=a, for=10.0.0.1; Proto=\"HTTPS\"", "https", "for=192.0.2.7;proto=http"),
        ("192.0.2.7", "proto=https, for=10.0.0.1;proto=http", "http", "for=192.0.2.7;proto=http"),
        ("2001:db8::1", "for=x;proto=ftp", "http", "for=\"[2001:db8::1]\";proto=http"),
    ] {
        let mut headers = request(&[("host", "pay"), ("forwarded", said)]).headers().clone();
        forwarded(&mut headers, &Peer::new(peer.parse().unwrap(), &trusted));
        assert_eq!(headers[FORWARDED_PROTO], proto, "{said}");
        assert_eq!(headers.get_all(FORWARDED).iter().collect::<Vec<_>>(), [said, own]);
    }
    let lines = [("host", "pay"), ("forwarded", "proto=https"), ("x-forwarded-proto", "http")];
    let mut headers = request(&lines).headers().clone();
    forwarded(&mut headers, &Peer::new("192.0.2.7".parse().unwrap(), &trusted));
    assert_eq!(headers[FORWARDED_PROTO], "http", "the peer has said it in both ways");
    let mut headers = request(&[("host", "pay")]).headers().clone();
    forwarded(&mut headers, &Peer::new("192.0.2.7".parse().unwrap(), &trusted));
    assert!(!headers.contains_key(FORWARDED), "nobody has used it");
}

#[test]
fn a_request_becomes_this_hops_own() {
    let mut one = request(&[
        ("connection", "keep-alive, x-private"),
        ("x-private", "1"),
        ("te", "trailers, deflate"),
        ("expect", "100-continue"),
        ("via", "1.1 edge"),
    ]);
    assert!(!to_upstream(&mut one));
    assert_eq!(one.headers()[CONTENT_LENGTH], "0", "a POST says that it has no body");
    assert!(!one.headers().contains_key("x-private") && !one.headers().contains_key(EXPECT));
    assert_eq!(
        (&one.headers()[TE], &one.headers()[CONNECTION]),
        (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("te"))
    );
    let vias: Vec<_> = one.headers().get_all(VIA).iter().collect();
    assert_eq!(vias, ["1.1 edge", "1.1 oncegate"]);
    let mut socket = request(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    assert!(to_upstream(&mut socket));
    assert_eq!(
        (&socket.headers()[UPGRADE], &socket.headers()[CONNECTION]),
        (&HeaderValue::from_static("websocket"), &HeaderValue::from_static("upgrade"))
    );
}

#[test]
fn http_2_is_never_offered_to_the_service() {
    for (given, kept) in [
        ("h2c", None),
        ("H2C,", None),
        (" , h2c", None),
        ("websocket, h2c", Some("websocket")),
        ("h2c,websocket , tls/1.0", Some("websocket, tls/1.0")),
    ] {
        let mut one = request(&[("connection", "upgrade"), ("upgrade", given)]);
        assert_eq!(is_upgrade(one.headers()), kept.is_some(), "{given}");
        assert_eq!(to_upstream(&mut one), kept.is_some(), "{given}");
        let upgrade = one.headers().get(UPGRADE).map(|value| value.to_str().unwrap());
        assert_eq!(upgrade, kept, "{given}");
    }
    let lines = [("connection", "upgrade"), ("upgrade", "h2c"), ("upgrade", "websocket")];
    let mut two = request(&lines);
    assert!(to_upstream(&mut two));
    assert_eq!(two.headers().get_all(UPGRADE).iter().collect::<Vec<_>>(), ["websocket"]);
}
