use http::Request;

use super::*;

fn policy(sources: &[&str]) -> Policy {
    Policy {
        keys: sources.iter().map(|source| source.parse().unwrap()).collect(),
        ..Policy::default()
    }
}

fn look(
    sources: &[&str],
    request: http::request::Builder,
    body: &str,
) -> Result<Option<String>, KeyError> {
    let (head, ()) = request.body(()).unwrap().into_parts();
    find(&policy(sources), &Hasher::new(b""), &head, body.as_bytes())
        .map(|found| found.map(|found| found.key.as_str().to_owned()))
}

fn header(value: &[u8]) -> Result<Option<String>, KeyError> {
    let value = HeaderValue::from_bytes(value).unwrap();
    look(&["header:Idempotency-Key"], Request::post("/").header("idempotency-key", value), "")
}

#[test]
fn quoted_and_bare_are_one_key() {
    let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    assert_eq!(header(uuid.as_bytes()), Ok(Some(uuid.to_owned())));
    assert_eq!(header(format!("\"{uuid}\"").as_bytes()), Ok(Some(uuid.to_owned())));
    assert_eq!(header(br#""a\"b";v=1"#), Ok(Some("a\"b".to_owned())));
}

#[test]
fn malformed_values_are_refused_each_with_its_reason() {
    let long = "x".repeat(256);
    for (value, error) in [
        (&b""[..], KeyError::Empty),
        (b"\"\"", KeyError::Empty),
        (long.as_bytes(), KeyError::TooLong),
        (b"two words", KeyError::Character),
        (b"caf\xe9", KeyError::Character),
        ("caf\u{e9}".as_bytes(), KeyError::Character),
        (b"a,b", KeyError::Comma),
        (b"\"open", KeyError::Quoting),
        (b"\"a\" b", KeyError::Quoting),
        (b"\"two words\"", KeyError::Character),
    ] {
        assert_eq!(header(value), Err(error), "{value:?}");
    }
    assert_eq!(header("x".repeat(255).as_bytes()), Ok(Some("x".repeat(255))));
}

#[test]
fn a_repeated_or_nominated_header_is_refused() {
    let twice = Request::post("/").header("idempotency-key", "a").header("idempotency-key", "a");
    assert_eq!(look(&["header:Idempotency-Key"], twice, ""), Err(KeyError::Repeated));
    let nominated = Request::post("/")
        .header("idempotency-key", "a")
        .header("connection", "close, Idempotency-KEY");
    assert_eq!(look(&["header:Idempotency-Key"], nominated, ""), Err(KeyError::HopByHop));
    let taken_away = Request::post("/").header("connection", "idempotency-key");
    assert_eq!(look(&["header:Idempotency-Key"], taken_away, ""), Err(KeyError::HopByHop));
}

#[test]
fn a_number_is_the_key_that_is_written_there() {
    let of = |number: &str| {
        let body = format!(r#"{{"other":[1,{{"id":7}}],"id":0,"id":{number}}}"#);
        look(&["json:/id"], Request::post("/"), &body)
    };
    for number in ["12345678901234567890123", "12345678901234567890124", "1.10", "-1", "1e2", "0.1"]
    {
        assert_eq!(of(number), Ok(Some(number.to_owned())));
    }
    assert_eq!(of("null"), Ok(None));
    for other in ["true", r#"{"$oid":"507f"}"#, "[1]", r#""\ud800""#] {
        assert_eq!(of(other), Err(KeyError::NotText), "{other}");
    }
    let nested = r#"{"a/b":[{"~":"x"},{"~":"y"}]}"#;
    for (pointer, expected) in [
        ("json:/a~1b/1/~0", Some("y")),
        ("json:/a~1b/01/~0", None),
        ("json:/a~1b/+1/~0", None),
        ("json:/a~1b/2/~0", None),
        ("json:/a~1b/0/~0/x", None),
        ("json:/a~1b/0/x", None),
    ] {
        let found = look(&[pointer], Request::post("/"), nested);
        assert_eq!(found, Ok(expected.map(str::to_owned)), "{pointer}");
    }
}

#[test]
fn every_source_yields_its_key() {
    let request = || Request::post("/pay?ref=a%20b&id=q7");
    let cases = [
        ("json:/payment/id", r#"{"payment":{"id":"p1"}}"#, Some("p1")),
        ("json:/payment/id", r#"{"payment":{"id":12}}"#, Some("12")),
        ("json:/payment/id", r#"{"payment":{"id":null}}"#, None),
        ("json:/payment/id", "not json", None),
        ("form:id", "a=1&id=f%2D1", Some("f-1")),
        ("query:id", "", Some("q7")),
        ("body:<MsgId>([^<]+)</MsgId>", "<x><MsgId>m-1</MsgId></x>", Some("m-1")),
    ];
    for (source, body, key) in cases {
        assert_eq!(look(&[source], request(), body), Ok(key.map(str::to_owned)), "{source}");
    }
    assert_eq!(look(&["query:ref"], request(), ""), Err(KeyError::Character));
}

#[test]
fn content_tells_requests_apart_by_everything_that_matters() {
    let post = |path: &str, who: &str, body: &str| {
        let request = Request::post(path).header("authorization", who);
        look(&["content"], request, body).unwrap().unwrap()
    };
    let one = post("/a", "ann", "1");
    assert_eq!(one, post("/a", "ann", "1"));
    for other in [post("/b", "ann", "1"), post("/a", "bob", "1"), post("/a", "ann", "2")] {
        assert_ne!(one, other);
    }
}

#[test]
fn the_first_source_wins_and_the_body_is_read_only_when_it_may_matter() {
    let policy = policy(&["header:Idempotency-Key", "json:/id"]);
    let glance_at = |request: http::request::Builder| glance(&policy, &request.body(()).unwrap());
    assert!(matches!(
        glance_at(Request::post("/").header("idempotency-key", "a")),
        Ok(Glance::Found(_))
    ));
    assert!(matches!(glance_at(Request::post("/")), Ok(Glance::InBody)));
    assert!(glance_at(Request::post("/").header("idempotency-key", "")).is_err());
    let plain = Request::post("/").body(()).unwrap();
    assert!(matches!(glance(&Policy::default(), &plain), Ok(Glance::Absent)));
}

#[test]
fn sources_print_as_they_are_written() {
    for text in ["json:/a/b", "form:id", "query:id", "body:(a+)", "content", "header:x-id"] {
        assert_eq!(text.parse::<KeySource>().unwrap().to_string(), text);
    }
    for wrong in [
        "",
        "header:",
        "header:a b",
        "json:a",
        "form:",
        "query:",
        "body:a",
        "body:(",
        "cookie:x",
        "Content",
    ] {
        assert!(wrong.parse::<KeySource>().is_err(), "{wrong}");
    }
}
