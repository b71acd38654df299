//! JSON bodies that mean the same feed the same bytes into a digest.
//!
//! White space, the order of members and the spelling of strings do not count.
//! Numbers count as they are written (`1` is not `1.0`, and no precision is
//! lost), a repeated member counts every time, and a body that is not JSON
//! counts byte by byte: when in doubt, two bodies differ.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fingerprint::Digest;

/// Nesting beyond this is compared as text; it bounds the work per body.
const MAX_DEPTH: usize = 48;

/// Digests `body` as JSON, leaving out the members that `ignore` points to
/// (RFC 6901). Falls back to the exact bytes.
pub(super) fn digest(body: &[u8], ignore: &[String], digest: &mut Digest) {
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(value) => {
            digest.count(1);
            let mut path = String::new();
            walk(value, &mut path, 0, ignore, digest);
        }
        Err(_) => {
            digest.count(0);
            digest.field(body);
        }
    }
}

fn walk(value: &RawValue, path: &mut String, depth: usize, ignore: &[String], digest: &mut Digest) {
    let text = value.get().trim();
    match text.as_bytes().first() {
        Some(b'{') if depth < MAX_DEPTH => match members(text) {
            Ok(mut members) => {
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                digest.field(b"{");
                for (name, value) in members {
                    let parent = path.len();
                    path.push('/');
                    path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    if !ignore.iter().any(|pointer| pointer == path) {
                        // So that no name is the end of the object.
                        if name.starts_with(['}', '~']) {
                            digest.field(format!("~{name}").as_bytes());
                        } else {
                            digest.field(name.as_bytes());
                        }
                        walk(value, path, depth + 1, ignore, digest);
                    }
                    path.truncate(parent);
                }
                digest.field(b"}");
            }
            Err(_) => digest.field(text.as_bytes()),
        },
        Some(b'[') if depth < MAX_DEPTH => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(items) => {
                digest.field(b"[");
                for (index, item) in items.into_iter().enumerate() {
                    let parent = path.len();
                    path.push('/');
                    path.push_str(&index.to_string());
                    if !ignore.iter().any(|pointer| pointer == path) {
                        walk(item, path, depth + 1, ignore, digest);
                    }
                    path.truncate(parent);
                }
                digest.field(b"]");
            }
            Err(_) => digest.field(text.as_bytes()),
        },
        Some(b'"') => match serde_json::from_str::<String>(text) {
            Ok(string) => {
                digest.field(b"\"");
                digest.field(string.as_bytes());
            }
            Err(_) => digest.field(text.as_bytes()),
        },
        _ => digest.field(text.as_bytes()),
    }
}

/// What `pointer` (RFC 6901) points to in `body`, as it is written; of a member that is
/// repeated, the last.
pub(super) fn find<'a>(body: &'a [u8], pointer: &str) -> Option<&'a RawValue> {
    let document: &RawValue = serde_json::from_slice(body).ok()?;
    pointer.split('/').skip(1).try_fold(document, |value, step| {
        let step = step.replace("~1", "/").replace("~0", "~");
        let text = value.get();
        match text.as_bytes().first()? {
            b'{' => {
                let mut members = members(text).ok()?.into_iter().rev();
                members.find(|(name, _)| *name == step).map(|(_, value)| value)
            }
            b'[' if step == "0" || !step.starts_with(['0', '+']) => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                items.into_iter().nth(step.parse().ok()?)
            }
            _ => None,
        }
    })
}

/// The members of an object as written, repeats included.
fn members(text: &str) -> serde_json::Result<Vec<(String, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str, ignore: &[&str]) -> [u8; 32] {
        let ignore: Vec<String> = ignore.iter().map(ToString::to_string).collect();
        let mut out = Digest::new(&[0; 32]);
        digest(body.as_bytes(), &ignore, &mut out);
        out.finish()
    }

    #[test]
    fn spelling_does_not_count() {
        let one = of(r#"{"amount":1,"to":{"iban":"DE1","name":"A/B"}}"#, &[]);
        assert_eq!(
            one,
            of("{ \"to\": {\"name\":\"\\u0041\\/B\",\n\"iban\":\"DE1\"}, \"amount\": 1 }", &[])
        );
    }

    #[test]
    fn meaning_counts() {
        let bodies = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"b":1}"#,
            r#"[{"a":1}]"#,
            r#"{"a":10000000000000000001}"#,
            r#"{"a":10000000000000000002}"#,
            r#"{"a":null}"#,
            "{}",
            "",
            "not json",
            r#"{"a":1} x"#,
            r#"{"a":"\ud800"}"#,
            r#"{"!":{"!":{"}":"7"}},"\"":5}"#,
            r#"{"!":{"!":{},"\"":7},"}":"5"}"#,
            r#"{"~}":1}"#,
            r#"{"}":1}"#,
        ];
        for (i, one) in bodies.iter().enumerate() {
            for two in &bodies[i + 1..] {
                assert_ne!(of(one, &[]), of(two, &[]), "{one} and {two}");
            }
        }
    }

    #[test]
    fn left_out_members_do_not_count_wherever_they_are() {
        let ignore = ["/sent_at", "/items/0/a~1b"];
        let one = of(r#"{"sent_at":1,"items":[{"a/b":1,"c":2}]}"#, &ignore);
        assert_eq!(one, of(r#"{"items":[{"c":2,"a/b":9}],"sent_at":2}"#, &ignore));
        assert_eq!(one, of(r#"{"items":[{"c":2}]}"#, &ignore));
        assert_ne!(one, of(r#"{"items":[{"c":3}]}"#, &ignore));
    }

    #[test]
    fn deep_nesting_is_bounded() {
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(100), "]".repeat(100));
        assert_ne!(of(&deep("1"), &[]), of(&deep("2"), &[]));
        let _ = of(&"[".repeat(100_000), &[]);
    }
}
