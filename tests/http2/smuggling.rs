//! Row 25 of `docs/faults.md`: what HTTP/2 can carry and HTTP/1.1 would read otherwise.

use crate::{
    both,
    support::{
        backend::Backend,
        client::{Connection, post, send},
        eventually,
        http2::{DATA, END_HEADERS, END_STREAM, End, HEADERS, Raw, block, frame},
    },
};

type Field = (&'static [u8], &'static [u8]);

const METHOD: Field = (b":method", b"POST");
const SCHEME: Field = (b":scheme", b"http");
const PATH: Field = (b":path", b"/pay");
const AUTHORITY: Field = (b":authority", b"gate");
const KEY: Field = (b"idempotency-key", b"k");
const HIDDEN: &[u8] = b"0\r\n\r\nPOST /hidden HTTP/1.1\r\nHost: gate\r\nContent-Length: 0\r\n\r\n";

/// A request that is not to reach the backend: what it tries, its fields, its body.
struct Attempt(&'static str, Vec<Field>, &'static [u8]);

fn with(what: &'static str, field: Field) -> Attempt {
    Attempt(what, vec![METHOD, SCHEME, PATH, AUTHORITY, KEY, field], HIDDEN)
}

fn instead(what: &'static str, field: Field) -> Attempt {
    let usual = [METHOD, SCHEME, PATH, AUTHORITY, KEY];
    let fields = usual.map(|usual| if usual.0 == field.0 { field } else { usual });
    Attempt(what, fields.to_vec(), b"")
}

fn attempts() -> Vec<Attempt> {
    let mut all = vec![
        with("a transfer coding", (b"transfer-encoding", b"chunked")),
        with("a transfer coding in capitals", (b"Transfer-Encoding", b"chunked")),
        with("an unknown transfer coding", (b"transfer-encoding", b"identity")),
        with("connection", (b"connection", b"close")),
        with("connection that names the key", (b"connection", b"idempotency-key")),
        with("keep-alive", (b"keep-alive", b"timeout=5")),
        with("proxy-connection", (b"proxy-connection", b"keep-alive")),
        with("an upgrade", (b"upgrade", b"websocket")),
        with("te that is not trailers", (b"te", b"chunked")),
        with("te with more than trailers", (b"te", b"trailers, chunked")),
        with("a length that is too short", (b"content-length", b"4")),
        with("a length of nothing", (b"content-length", b"0")),
        with("a length that is too long", (b"content-length", b"4000")),
        with("a length that is no number", (b"content-length", b"+61")),
        with("a list of lengths", (b"content-length", b"61, 61")),
        with("an empty length", (b"content-length", b"")),
        with("a line break in a value", (b"x-evil", b"a\r\ntransfer-encoding: chunked")),
        with("CR in a value", (b"x-evil", b"a\rb")),
        with("LF in a value", (b"x-evil", b"a\nb")),
        with("NUL in a value", (b"x-evil", b"a\0b")),
        with("a line break in a name", (b"x-evil: a\r\nx-more", b"b")),
        with("a colon in a name", (b"transfer-encoding: chunked\r\nx", b"b")),
        with("a space in a name", (b"transfer-encoding ", b"chunked")),
        with("a tab before a name", (b"\ttransfer-encoding", b"chunked")),
        with("NUL in a name", (b"x\0evil", b"b")),
        with("an empty name", (b"", b"b")),
        with("an upper-case name", (b"X-Upper", b"b")),
        with("a pseudo header after regular ones", (b":path", b"/hidden")),
        with("an unknown pseudo header", (b":evil", b"1")),
        with("a status in a request", (b":status", b"200")),
        with("a protocol without CONNECT", (b":protocol", b"websocket")),
        with("another host", (b"host", b"evil")),
        with("a host with a line break", (b"host", b"gate\r\nx: y")),
        instead(
            "a line break in the path",
            (b":path", b"/pay HTTP/1.1\r\nHost: evil\r\n\r\nGET /hidden"),
        ),
        instead("a space in the path", (b":path", b"/pay HTTP/1.1")),
        instead("a tab in the path", (b":path", b"/pay\tHTTP/1.1")),
        instead("NUL in the path", (b":path", b"/pay\0")),
        instead("no slash", (b":path", b"pay")),
        instead("a query without a path", (b":path", b"?x=/pay")),
        instead("an empty path", (b":path", b"")),
        instead("a whole URL as the path", (b":path", b"http://evil/pay")),
        instead("a host before the path", (b":path", b"@evil/pay")),
        instead("an asterisk with POST", (b":path", b"*")),
        instead("a space in the method", (b":method", b"GET /hidden HTTP/1.1\r\nx:")),
        instead("a line break in the method", (b":method", b"POST\r\n")),
        instead("an empty method", (b":method", b"")),
        instead("CONNECT with a path", (b":method", b"CONNECT")),
        instead("TRACE", (b":method", b"TRACE")),
        instead("a path in the scheme", (b":scheme", b"http://evil/?")),
        instead("a line break in the scheme", (b":scheme", b"http\r\nx: y")),
        instead("a line break in the authority", (b":authority", b"gate\r\nx: y")),
        instead("a space in the authority", (b":authority", b"gate evil")),
        instead("a path in the authority", (b":authority", b"gate/evil")),
        instead("a user in the authority", (b":authority", b"user@gate")),
        instead("an empty authority", (b":authority", b"")),
    ];
    let whole = [METHOD, SCHEME, PATH, AUTHORITY, KEY];
    for (what, missing) in [("no method", 0), ("no scheme", 1), ("no path", 2), ("no authority", 3)]
    {
        let mut fields = whole.to_vec();
        fields.remove(missing);
        all.push(Attempt(what, fields, b""));
    }
    for (what, twice) in
        [("two methods", 0), ("two schemes", 1), ("two paths", 2), ("two authorities", 3)]
    {
        let mut fields = whole.to_vec();
        fields.insert(twice, whole[twice]);
        all.push(Attempt(what, fields, b""));
    }
    let after =
        [(b"x-first" as &[u8], b"1" as &[u8]), METHOD, SCHEME, PATH, AUTHORITY, KEY].to_vec();
    all.push(Attempt("pseudo headers after the others", after, b""));
    let hosts = [METHOD, SCHEME, PATH, KEY, (b"host", b"gate"), (b"host", b"evil")].to_vec();
    all.push(Attempt("two hosts", hosts, b""));
    let lengths = (b"content-length" as &[u8], b"61" as &[u8]);
    let lengths = [&whole[..], &[lengths, lengths]].concat();
    all.push(Attempt("two equal lengths", lengths, HIDDEN));
    let lengths = [&whole[..], &[(b"content-length", b"61"), (b"content-length", b"4")]].concat();
    all.push(Attempt("two lengths", lengths, HIDDEN));
    let tunnel =
        vec![(b":method" as &[u8], b"CONNECT" as &[u8]), (b":authority", b"evil:443"), KEY];
    all.push(Attempt("a tunnel", tunnel, b""));
    all
}

/// Every attempt, with a key and without.
#[tokio::test]
async fn http_2_to_http_1() {
    let (backend, gate) = both("").await;
    for Attempt(what, fields, body) in attempts() {
        for keyed in [true, false] {
            let fields: Vec<_> = fields.iter().copied().filter(|f| keyed || *f != KEY).collect();
            let mut raw = Raw::open(gate.address).await;
            let ends = if body.is_empty() { END_STREAM } else { 0 };
            raw.write(&frame(HEADERS, END_HEADERS | ends, 1, &block(&fields))).await;
            if !body.is_empty() {
                raw.try_write(&frame(DATA, END_STREAM, 1, body)).await;
            }
            if let End::Answered(answer) = raw.end_of(1).await {
                let problem: serde_json::Value = serde_json::from_slice(&answer)
                    .unwrap_or_else(|_| panic!("{what}: {}", String::from_utf8_lossy(&answer)));
                let status = problem["status"].as_u64().unwrap();
                assert!((400..500).contains(&status), "{what}: {problem}");
            }
            assert_eq!(backend.requests().pop().map(|seen| seen.line), None, "{what}");
        }
    }
    still_serves(&backend, gate.address).await;
}

/// What is allowed, however odd: the backend sees exactly one request, and it is the one
/// that was meant.
#[tokio::test]
async fn a_body_is_a_body() {
    let (backend, gate) = both("").await;
    let length: Field = (b"content-length", b"61");
    for (what, more) in [
        ("no length", &[][..]),
        ("the right length", &[length]),
        ("a trailer that is announced", &[(b"trailer", b"content-length")]),
        ("an expectation", &[(b"expect", b"100-continue")]),
        ("an empty value", &[(b"x-empty", b"")]),
        ("the same host", &[(b"host", b"GATE")]),
        ("a method override", &[(b"x-http-method-override", b"DELETE")]),
    ] {
        let before = backend.count();
        let fields = [&[METHOD, SCHEME, PATH, AUTHORITY][..], more].concat();
        let mut raw = Raw::open(gate.address).await;
        raw.write(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        let trailers = block(&[(b"content-length", b"4"), (b"transfer-encoding", b"chunked")]);
        let (half, rest) = HIDDEN.split_at(5);
        raw.write(&frame(DATA, 0, 1, half)).await;
        if what == "a trailer that is announced" {
            raw.write(&frame(DATA, 0, 1, rest)).await;
            raw.write(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers)).await;
            // The trailers are malformed, which may be noticed before or after the head left.
            assert_ne!(raw.end_of(1).await, End::Gone);
            assert!(backend.requests()[before..].iter().all(|seen| seen.path() == "/pay"));
            continue;
        }
        raw.write(&frame(DATA, END_STREAM, 1, rest)).await;
        assert_eq!(raw.end_of(1).await, End::Answered(HIDDEN.to_vec()), "{what}");
        let seen = backend.requests().split_off(before);
        assert_eq!((seen.len(), seen[0].path(), &seen[0].body[..]), (1, "/pay", HIDDEN), "{what}");
    }
    still_serves(&backend, gate.address).await;
}

/// Nothing of the attempts is left, neither in the gate nor on its connections upstream.
async fn still_serves(backend: &Backend, gate: std::net::SocketAddr) {
    let before = backend.count();
    let mut client = Connection::open(gate).await;
    for number in 0..20 {
        let key = format!("after-{number}");
        client.write(&post("/pay", &key, &key)).await;
        assert_eq!(client.answer().await.unwrap().text(), key);
    }
    let fresh = send(gate, &post("/pay", "k", "fresh")).await;
    assert_eq!((fresh.status, fresh.header("idempotent-replayed")), (201, ""), "k was claimed");
    eventually("all is counted", async || backend.count() == before + 21).await;
    assert!(backend.requests().iter().all(|seen| seen.path() == "/pay"));
}
