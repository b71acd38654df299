//! Asking the backend what became of a request: the question and the judgement.
//!
//! A lookup that finds the operation is proof that it was executed. One that does
//! not find it is proof only after the *quiescence*: before that, the first
//! attempt may still be on its way.

use std::{fmt, str::FromStr, time::Duration};

use http::{HeaderName, Method, StatusCode, request::Parts, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::facet;
use crate::mutants::{Mutant, is_active};

/// What is left as it is in a value (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a route learns an unknown outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconcile {
    /// The question.
    pub request: Template,
    /// The answers that mean "executed".
    pub executed: Matcher,
    /// The answers that mean "not executed", once the quiescence has passed.
    pub not_executed: Matcher,
    /// How long after the last word of its owner a request cannot be on its way any
    /// more: at least the upstream's time-outs and the lease.
    pub quiescence: Duration,
    /// How long a lookup may take.
    pub timeout: Duration,
}

/// What a lookup proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The operation is there.
    Executed,
    /// The operation is not there.
    NotExecuted,
    /// Neither: the outcome stays unknown.
    Inconclusive,
}

impl Reconcile {
    /// Judges the answer to a lookup. One in which the operation would have to be found,
    /// and which cannot be read, proves nothing.
    #[must_use]
    pub fn judge(&self, status: StatusCode, body: &[u8]) -> Finding {
        let document = serde_json::from_slice(body).ok();
        let is_unreadable = document.is_none()
            && self.executed.json.is_some()
            && self.executed.status.contains(&status)
            && !is_active(Mutant::UnreadableIsAbsent);
        if self.executed.matches(status, document.as_ref()) {
            Finding::Executed
        } else if self.not_executed.matches(status, document.as_ref()) && !is_unreadable {
            Finding::NotExecuted
        } else {
            Finding::Inconclusive
        }
    }
}

/// Which answers count: a status, and perhaps something in a JSON body.
#[derive(Clone, Debug, PartialEq)]
pub struct Matcher {
    /// Any of these.
    pub status: Vec<StatusCode>,
    /// A JSON pointer (RFC 6901) to something that must be there.
    pub json: Option<String>,
    /// The value that it must have.
    pub equals: Option<serde_json::Value>,
}

impl Matcher {
    /// Whether an answer counts, whose body is this document if it is JSON.
    #[must_use]
    pub fn matches(&self, status: StatusCode, document: Option<&serde_json::Value>) -> bool {
        if !self.status.contains(&status) {
            return false;
        }
        let Some(pointer) = &self.json else { return true };
        let found = document.and_then(|document| document.pointer(pointer));
        match (found, &self.equals) {
            (None | Some(serde_json::Value::Null), _) => false,
            (Some(_), None) => true,
            (Some(found), Some(expected)) => found == expected,
        }
    }
}

/// A lookup with gaps: `GET /payments?reference={json:/reference}`.
///
/// ```
/// use oncegate::engine::reconcile::Template;
///
/// let template: Template = "GET /payments?reference={json:/id}".parse()?;
/// assert_eq!(template.to_string(), "GET /payments?reference={json:/id}");
/// assert!("POST /payments".parse::<Template>().is_err());
/// # Ok::<(), oncegate::engine::reconcile::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    method: Method,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Text(String),
    Gap(Gap),
}

#[derive(Clone, Debug, PartialEq)]
enum Gap {
    Key,
    Json(String),
    Header(HeaderName),
    Query(String),
}

/// A template that could not be read from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Not `GET` or `HEAD` and a path.
    #[error("`{0}` is no lookup; write GET /path?reference={{key}}")]
    Request(String),
    /// No such placeholder.
    #[error(
        "`{{{0}}}` fills no gap; use {{key}}, {{json:/pointer}}, {{header:NAME}} or {{query:NAME}}"
    )]
    Gap(String),
}

impl Template {
    /// Fills the gaps from the request whose outcome is unknown, values
    /// percent-encoded. `None` when the request has no value for a gap, an empty one or one of
    /// dots alone, for which services look elsewhere, or the result is no request target.
    #[must_use]
    pub fn fill(&self, key: &str, head: &Parts, body: &[u8]) -> Option<(Method, PathAndQuery)> {
        let mut target = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => target.push_str(text),
                Segment::Gap(gap) => {
                    let value = gap.value(key, head, body)?;
                    if matches!(&*value, "" | "." | "..") {
                        return None;
                    }
                    target.extend(utf8_percent_encode(&value, RESERVED));
                }
            }
        }
        Some((self.method.clone(), target.parse().ok()?))
    }
}

impl Gap {
    fn value(&self, key: &str, head: &Parts, body: &[u8]) -> Option<String> {
        match self {
            Self::Key => Some(key.to_owned()),
            Self::Json(pointer) => super::key::in_json(pointer, body).ok().flatten(),
            Self::Header(name) => head.headers.get(name)?.to_str().ok().map(str::to_owned),
            Self::Query(name) => facet::query(&head.uri, name).map(std::borrow::Cow::into_owned),
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let error = || TemplateError::Request(text.to_owned());
        let (method, target) = text.split_once(' ').ok_or_else(error)?;
        let method = match method {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => return Err(error()),
        };
        if !target.starts_with('/') {
            return Err(error());
        }
        let mut segments = Vec::new();
        let mut rest = target;
        while let Some((before, after)) = rest.split_once('{') {
            let (gap, after) = after.split_once('}').ok_or_else(error)?;
            segments.push(Segment::Text(before.to_owned()));
            segments.push(Segment::Gap(gap.parse()?));
            rest = after;
        }
        segments.push(Segment::Text(rest.to_owned()));
        Ok(Self { method, segments })
    }
}

impl FromStr for Gap {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let error = || TemplateError::Gap(text.to_owned());
        match text.split_once(':') {
            None if text == "key" => Ok(Self::Key),
            Some(("json", pointer)) if pointer.starts_with('/') => {
                Ok(Self::Json(pointer.to_owned()))
            }
            Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| error()),
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.method)?;
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Text(text) => f.write_str(text),
            Segment::Gap(Gap::Key) => f.write_str("{key}"),
            Segment::Gap(Gap::Json(pointer)) => write!(f, "{{json:{pointer}}}"),
            Segment::Gap(Gap::Header(name)) => write!(f, "{{header:{name}}}"),
            Segment::Gap(Gap::Query(name)) => write!(f, "{{query:{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, body: &str) -> Option<String> {
        let request = http::Request::post("/pay?ref=q%201").header("x-id", "h/1").body(());
        let (head, ()) = request.unwrap().into_parts();
        let template: Template = template.parse().unwrap();
        template.fill("k&1", &head, body.as_bytes()).map(|(_, target)| target.to_string())
    }

    #[test]
    fn gaps_are_filled_and_encoded() {
        let body = r#"{"reference":"a b/c?d=\u00e4","amount":7}"#;
        assert_eq!(
            fill("GET /p?r={json:/reference}&a={json:/amount}", body).unwrap(),
            "/p?r=a%20b%2Fc%3Fd%3D%C3%A4&a=7"
        );
        assert_eq!(
            fill("GET /p/{key}/{header:X-Id}?q={query:ref}", "").unwrap(),
            "/p/k%261/h%2F1?q=q%201"
        );
        assert_eq!(fill("GET /p/{json:/none}", body), None);
        assert_eq!(fill("GET /p/{header:none}", body), None);
        for elsewhere in ["", ".", ".."] {
            let body = format!(r#"{{"reference":"{elsewhere}"}}"#);
            assert_eq!(fill("GET /p/{json:/reference}", &body), None, "{elsewhere:?}");
        }
    }

    #[test]
    fn what_is_no_lookup_is_refused() {
        for wrong in [
            "",
            "GET",
            "GET p",
            "POST /p",
            "GET /p?{",
            "GET /{cookie:x}",
            "GET /{json:x}",
            "GET /{}",
        ] {
            assert!(wrong.parse::<Template>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn neither_answer_is_no_answer() {
        let matcher = |status: u16, json: Option<&str>, equals| Matcher {
            status: vec![StatusCode::from_u16(status).unwrap()],
            json: json.map(str::to_owned),
            equals,
        };
        let reconcile = Reconcile {
            request: "GET /p".parse().unwrap(),
            executed: matcher(200, Some("/0/state"), Some("paid".into())),
            not_executed: matcher(404, None, None),
            quiescence: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        let judge = |status: u16, body: &str| {
            reconcile.judge(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        assert_eq!(judge(200, r#"[{"state":"paid"}]"#), Finding::Executed);
        assert_eq!(judge(404, ""), Finding::NotExecuted);
        for (status, body) in
            [(200, r#"[{"state":"open"}]"#), (200, "[]"), (200, "no json"), (500, ""), (401, "")]
        {
            assert_eq!(judge(status, body), Finding::Inconclusive, "{status} {body}");
        }
        // A list that may be empty: only one that can be read is.
        let list = Reconcile { not_executed: matcher(200, None, None), ..reconcile };
        let judge = |body: &str| list.judge(StatusCode::OK, body.as_bytes());
        assert_eq!(judge(r#"[{"state":"paid"}]"#), Finding::Executed);
        assert_eq!(judge("[]"), Finding::NotExecuted);
        assert_eq!(judge("\u{1f}\u{8b}"), Finding::Inconclusive);
    }
}
