//! From the head of an HTTP/2 request to one that could have come by HTTP/1.1.
//!
//! The HTTP library has refused what RFC 9113 calls malformed: names and values with
//! forbidden bytes, connection-specific headers, pseudo headers that are missing,
//! repeated, unknown or late, and a length that the DATA frames contradict. Refused
//! here is what it lets pass and what would be read in two ways behind this hop.

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{CONTENT_LENGTH, COOKIE, HOST},
    uri::{Authority, PathAndQuery},
};

use crate::{
    engine::problem::Problem,
    mutants::{Mutant, is_active},
};

/// Moves the authority into `Host`, and joins the crumbs of a cookie.
pub(super) fn translate<B>(request: &mut Request<B>) -> Result<(), Problem> {
    // A tunnel has no path; it is refused with the other methods that are not served.
    if request.method() == Method::CONNECT {
        return Ok(());
    }
    let path = path(request)?;
    one_length(request.headers())?;
    let host = host(request.headers(), request.uri().authority())?;
    *request.uri_mut() = Uri::from(path);
    let headers = request.headers_mut();
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    join_cookies(headers);
    Ok(())
}

fn path<B>(request: &Request<B>) -> Result<PathAndQuery, Problem> {
    // Who may ask for the asterisk is the same for every version.
    let is_path = |path: &&PathAndQuery| path.as_str().starts_with('/') || path.as_str() == "*";
    let path = request.uri().path_and_query().filter(is_path);
    path.cloned().ok_or(Problem::BadRequest("The :path does not begin with a slash."))
}

/// Two lengths, equal as they are, would be two lines, which not everybody takes for one.
fn one_length(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get_all(CONTENT_LENGTH).iter().count() {
        0 | 1 => Ok(()),
        _ => Err(Problem::BadRequest("The request has more than one Content-Length.")),
    }
}

/// The `Host` to set; `None` when the right one is there.
fn host(
    headers: &HeaderMap,
    authority: Option<&Authority>,
) -> Result<Option<HeaderValue>, Problem> {
    let named = headers.get_all(HOST);
    let Some(authority) = authority else {
        return if named.iter().next().is_some() {
            Ok(None)
        } else {
            Err(Problem::BadRequest("The request has neither :authority nor Host."))
        };
    };
    let authority = authority.as_str();
    if authority.contains('@') {
        return Err(Problem::BadRequest("The :authority names a user."));
    }
    let mut others =
        named.iter().filter(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
    if others.next().is_some() && !is_active(Mutant::AcceptTwoHosts) {
        return Err(Problem::BadRequest(
            "The :authority and the Host header name different hosts.",
        ));
    }
    if named.iter().next().is_some() {
        return Ok(None);
    }
    HeaderValue::from_str(authority)
        .map(Some)
        .map_err(|_| Problem::BadRequest("The :authority is no host."))
}

/// One `Cookie` line, as HTTP/1.1 has it (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    let sensitive = headers.get_all(COOKIE).iter().any(HeaderValue::is_sensitive);
    // Values that may stand in headers stay such when they are joined.
    if let Ok(mut cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        cookie.set_sensitive(sensitive);
        headers.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Empty;

    use super::*;

    fn request(uri: &str, lines: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        lines
            .iter()
            .fold(Request::post(uri), |request, (name, value)| request.header(*name, *value))
            .body(Empty::new())
            .unwrap()
    }

    #[test]
    fn the_authority_becomes_the_host() {
        let mut one = request("http://gate:80/pay?x=1", &[("cookie", "a=1"), ("cookie", "b=2")]);
        translate(&mut one).unwrap();
        assert_eq!(
            (one.uri(), &one.headers()[HOST]),
            (&"/pay?x=1".parse().unwrap(), &"gate:80".parse().unwrap())
        );
        let cookies: Vec<_> = one.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
        let mut same = request("http://gate/pay", &[("host", "GATE")]);
        translate(&mut same).unwrap();
        assert_eq!(same.headers()[HOST], "GATE");
    }

    #[test]
    fn what_two_readers_would_read_in_two_ways_is_refused() {
        for (uri, lines) in [
            ("http://a/", &[("host", "b")][..]),
            ("http://a/", &[("host", "a"), ("host", "b")]),
            ("http://user@a/", &[]),
            ("/", &[]),
            ("http://a/", &[("content-length", "1"), ("content-length", "1")]),
        ] {
            assert!(translate(&mut request(uri, lines)).is_err(), "{uri} {lines:?}");
        }
    }
}
