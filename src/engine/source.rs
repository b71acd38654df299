//! Where a configuration says that keys come from.

use std::{fmt, str::FromStr};

use http::HeaderName;
use regex::bytes::Regex;

/// A place to look for a key, named the way the configuration names it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeySource {
    /// `header:NAME`.
    Header(HeaderName),
    /// `json:/pointer` (RFC 6901): a string or a number in a JSON body.
    Json(String),
    /// `form:NAME`: a field of an urlencoded body.
    Form(String),
    /// `query:NAME`: a query parameter.
    Query(String),
    /// `body:REGEX`: the first group of a linear-time expression.
    Body(Regex),
    /// `content`: the digest of the request itself.
    Content,
}

/// A key source that could not be read from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySourceError {
    /// No such kind of source.
    #[error(
        "`{0}` is no key source; use header:NAME, json:/pointer, form:NAME, query:NAME, body:REGEX or content"
    )]
    Unknown(String),
    /// Not a header name (RFC 9110, 5.1).
    #[error("`{0}` is not a header name")]
    Header(String),
    /// Not an RFC 6901 pointer.
    #[error("`{0}` is not a JSON pointer; it begins with a slash, as in json:/payment/id")]
    Pointer(String),
    /// Not a regular expression, or one without a group.
    #[error("body expression: {0}")]
    Expression(String),
}

impl FromStr for KeySource {
    type Err = KeySourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "content" => Ok(Self::Content),
            Some(("header", name)) => {
                name.parse().map(Self::Header).map_err(|_| KeySourceError::Header(name.to_owned()))
            }
            Some(("json", pointer)) if pointer.starts_with('/') => {
                Ok(Self::Json(pointer.to_owned()))
            }
            Some(("json", pointer)) => Err(KeySourceError::Pointer(pointer.to_owned())),
            Some(("form", name)) if !name.is_empty() => Ok(Self::Form(name.to_owned())),
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            Some(("body", expression)) => {
                let regex = Regex::new(expression)
                    .map_err(|error| KeySourceError::Expression(error.to_string()))?;
                if regex.captures_len() < 2 {
                    return Err(KeySourceError::Expression(format!(
                        "`{expression}` has no group; the first group is the key"
                    )));
                }
                Ok(Self::Body(regex))
            }
            _ => Err(KeySourceError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer}"),
            Self::Form(name) => write!(f, "form:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Body(expression) => write!(f, "body:{expression}"),
            Self::Content => f.write_str("content"),
        }
    }
}
