//! Values of a request that say on whose behalf it was made.
//!
//! Facets partition the key space (`scope`) and take part in the fingerprint
//! (`principal`). They are read, never verified: a facet only keeps two callers apart. A whole
//! `Authorization` is as good as the caller's word to the backend; a claim of a token, or a user
//! without his password, is not, since the backend hears nothing of a replay.

use std::{borrow::Cow, fmt, str::FromStr};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{
    HeaderName, Uri,
    header::{AUTHORIZATION, HOST},
    request::Parts,
};

use super::fingerprint::Digest;
use crate::mutants::{Mutant, is_active};

/// One value of a request, named the way the configuration names it.
///
/// ```
/// use oncegate::engine::facet::Facet;
///
/// let facet: Facet = "header:X-Account-Id".parse()?;
/// assert_eq!(facet.to_string(), "header:x-account-id");
/// assert!("cookie:session".parse::<Facet>().is_err());
/// # Ok::<(), oncegate::engine::facet::FacetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Facet {
    /// `host`: the authority that the request names, without regard to case.
    Host,
    /// `header:NAME`: every value of a header, in order.
    Header(HeaderName),
    /// `query:NAME`: the first value of a query parameter, decoded.
    Query(String),
    /// `basic:user`: the user of `Authorization: Basic`.
    BasicUser,
    /// `jwt:CLAIM`: a claim of the bearer token, without verifying it.
    JwtClaim(String),
}

/// A facet that could not be read from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no value of a request; use host, header:NAME, query:NAME, basic:user or jwt:CLAIM"
)]
pub struct FacetError(String);

impl FromStr for Facet {
    type Err = FacetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || FacetError(text.to_owned());
        match text.split_once(':') {
            None if text == "host" => Ok(Self::Host),
            Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| error()),
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            Some(("basic", "user")) => Ok(Self::BasicUser),
            Some(("jwt", claim)) if !claim.is_empty() => Ok(Self::JwtClaim(claim.to_owned())),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Facet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::BasicUser => f.write_str("basic:user"),
            Self::JwtClaim(claim) => write!(f, "jwt:{claim}"),
        }
    }
}

impl Facet {
    /// The same on behalf of whom a request was made. Credentials without the value that is asked
    /// for, or that cannot be read, count as they are: two strangers are not one caller. In a
    /// scope they must not, since a token that is renewed would make a retry another key.
    pub(crate) fn digest_principal(&self, head: &Parts, digest: &mut Digest) {
        let user = |user: Option<&[u8]>, digest: &mut Digest| {
            digest.optional(user);
            let has_any = head.headers.contains_key(AUTHORIZATION);
            if user.is_none() && has_any && !is_active(Mutant::StrangersAreAlike) {
                Self::Header(AUTHORIZATION).digest(head, digest);
            }
        };
        match self {
            Self::Host | Self::Header(_) | Self::Query(_) => self.digest(head, digest),
            Self::BasicUser => user(basic_user(head).as_deref(), digest),
            Self::JwtClaim(claim) => {
                user(jwt_claim(head, claim).as_deref().map(str::as_bytes), digest);
            }
        }
    }

    /// Feeds this request's value into a digest. A value that is absent and a
    /// value that is empty are told apart, and so are one header with two
    /// values and two values in one.
    pub(crate) fn digest(&self, head: &Parts, digest: &mut Digest) {
        match self {
            Self::Header(name) => {
                let values = head.headers.get_all(name);
                digest.count(values.iter().count());
                values.iter().for_each(|value| digest.field(value.as_bytes()));
            }
            Self::Host => digest.optional(host(head).as_deref().map(str::as_bytes)),
            Self::Query(name) => {
                digest.optional(query(&head.uri, name).as_deref().map(str::as_bytes));
            }
            Self::BasicUser => digest.optional(basic_user(head).as_deref()),
            Self::JwtClaim(claim) => {
                digest.optional(jwt_claim(head, claim).as_deref().map(str::as_bytes));
            }
        }
    }
}

fn host(head: &Parts) -> Option<String> {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let header = || head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = authority.or_else(header)?;
    // The dot at the end says that the name is whole.
    Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

/// The first value of a query parameter, percent-decoded.
pub(crate) fn query<'a>(uri: &'a Uri, name: &str) -> Option<Cow<'a, str>> {
    let pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn credentials<'a>(head: &'a Parts, scheme: &str) -> Option<&'a str> {
    let value = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (name, rest) = value.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn basic_user(head: &Parts) -> Option<Vec<u8>> {
    let mut pair = STANDARD.decode(credentials(head, "basic")?).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.truncate(colon);
    Some(pair)
}

fn jwt_claim(head: &Parts, claim: &str) -> Option<String> {
    let payload = credentials(head, "bearer")?.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims.get(claim).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(facet: &str, request: http::request::Builder) -> [u8; 32] {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut digest = Digest::new(&[0; 32]);
        facet.parse::<Facet>().unwrap().digest(&head, &mut digest);
        digest.finish()
    }

    fn get() -> http::request::Builder {
        http::Request::get("/payments?account=7")
    }

    #[test]
    fn absent_is_not_empty() {
        assert_ne!(
            digest_of("header:x-id", get()),
            digest_of("header:x-id", get().header("x-id", ""))
        );
    }

    #[test]
    fn host_ignores_case_and_form() {
        let absolute = http::Request::get("http://PAY.example/payments");
        assert_eq!(
            digest_of("host", absolute),
            digest_of("host", get().header("host", "pay.EXAMPLE."))
        );
    }

    #[test]
    fn basic_user_leaves_the_password_out() {
        let one = get().header("authorization", format!("Basic {}", STANDARD.encode("ann:1")));
        let two = get().header("authorization", format!("basic {}", STANDARD.encode("ann:2")));
        let other = get().header("authorization", format!("Basic {}", STANDARD.encode("bob:1")));
        let one = digest_of("basic:user", one);
        assert_eq!(one, digest_of("basic:user", two));
        assert_ne!(one, digest_of("basic:user", other));
    }

    /// An opaque token, one that has no such claim, a pair without its padding.
    #[test]
    fn strangers_are_told_apart_as_principals() {
        let print = |facet: &str, credentials: Option<&str>| {
            let mut request = get();
            if let Some(credentials) = credentials {
                request = request.header("authorization", credentials);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let mut digest = Digest::new(&[0; 32]);
            facet.parse::<Facet>().unwrap().digest_principal(&head, &mut digest);
            digest.finish()
        };
        for (facet, one, other) in [
            ("jwt:sub", "Bearer opaque-1", "Bearer opaque-2"),
            ("jwt:sub", "Bearer e30.eyJhIjoxfQ.a", "Bearer e30.eyJhIjoyfQ.a"),
            ("basic:user", "Basic YW5u", "Basic Ym9i"),
        ] {
            assert_ne!(print(facet, Some(one)), print(facet, Some(other)), "{one}");
            assert_ne!(print(facet, Some(one)), print(facet, None), "{one}");
            assert_eq!(print(facet, Some(one)), print(facet, Some(one)), "{one}");
        }
        let (ann, again) = ("Bearer e30.eyJzdWIiOiJhIn0.1", "Bearer e30.eyJzdWIiOiJhIn0.2");
        assert_eq!(print("jwt:sub", Some(ann)), print("jwt:sub", Some(again)));
    }

    #[test]
    fn jwt_claim_survives_a_refreshed_token() {
        let token = |claims: &str, signature: &str| {
            let payload = URL_SAFE_NO_PAD.encode(claims);
            get().header("authorization", format!("Bearer e30.{payload}.{signature}"))
        };
        let one = digest_of("jwt:sub", token(r#"{"sub":"ann","exp":1}"#, "a"));
        assert_eq!(one, digest_of("jwt:sub", token(r#"{"sub":"ann","exp":2}"#, "b")));
        assert_ne!(one, digest_of("jwt:sub", token(r#"{"sub":"bob","exp":1}"#, "a")));
    }
}
