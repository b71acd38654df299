//! What is sent: a POST of 40 bytes, without a key or with one that is counted up in place.

/// The body of each request.
pub(crate) const BODY: &str = r#"{"amount":1999,"currency":"EUR","to":42}"#;
/// The body that the backend answers each request with.
pub(crate) const ANSWER: &str = r#"{"payment":"pay_8f14e45fceea16","status":"paid"}"#;
const _: () = assert!(BODY.len() == 40 && ANSWER.len() == 48);

/// Hexadecimal digits at the end of a key that are counted up.
const DIGITS: usize = 16;

/// Which keys requests carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// None.
    None,
    /// Another one each time, counted from here.
    From(u64),
    /// So many, in turn. More than there are connections, so that no two requests for one
    /// key are under way at once.
    InTurn(u64),
    /// So many, in an order that has nothing to do with theirs.
    Across(u64),
}

/// An odd number whose multiples spread over all others (Knuth's, from the golden ratio).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a key is, but for its digits: as long as the UUID that most clients send.
const PREFIX: &str = "7c9e6679-7425-40de-9";

/// A key by its number.
pub(crate) fn key(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// The bytes of the next request.
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where the digits of the key begin.
    digits: Option<usize>,
    number: u64,
    keys: Keys,
}

impl Request {
    pub(crate) fn new(path: &str, keys: Keys) -> Self {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n",
            BODY.len()
        );
        let digits = (keys != Keys::None).then(|| {
            head.push_str("Idempotency-Key: ");
            head.push_str(PREFIX);
            let digits = head.len();
            head.push_str(&"0".repeat(DIGITS));
            head.push_str("\r\n");
            digits
        });
        let bytes = format!("{head}\r\n{BODY}").into_bytes();
        Self { bytes, digits, number: 0, keys }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        if let Some(at) = self.digits {
            let mut rest = match self.keys {
                Keys::None => 0,
                Keys::From(first) => first + self.number,
                Keys::InTurn(count) => self.number % count,
                Keys::Across(count) => self.number.wrapping_mul(SCATTER) % count,
            };
            for digit in self.bytes[at..at + DIGITS].iter_mut().rev() {
                *digit = b"0123456789abcdef"[(rest & 15) as usize];
                rest >>= 4;
            }
            self.number += 1;
        }
        &self.bytes
    }
}
