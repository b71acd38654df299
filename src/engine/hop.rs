//! Headers that belong to one connection (RFC 9110, 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING},
};

use crate::mutants::{Mutant, is_active};

/// Removes the headers that speak to the next hop only: the fixed ones and those
/// that `Connection` nominates. The order of what stays is kept.
///
/// A length beside a `Transfer-Encoding` goes as well: the chunks say where the message ends
/// (RFC 9112, 6.3), and what stayed would be believed by the next hop.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let Some(first) = headers.keys().position(is_hop_by_hop) else { return };
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .map(HeaderValue::as_bytes)
        // The usual ones name no other header.
        .filter(|value| !matches!(*value, b"keep-alive" | b"close"))
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| *name != TRAILER && !is_for_everybody(name))
        .collect();
    let (mut is_alone, mut is_chunked) = (true, false);
    for (index, name) in headers.keys().enumerate().skip(first) {
        if is_hop_by_hop(name) {
            is_alone &= index == first;
            is_chunked |= *name == TRANSFER_ENCODING;
        }
    }
    let is_overruled =
        is_chunked && headers.contains_key(CONTENT_LENGTH) && !is_active(Mutant::BelieveLength);
    if nominated.is_empty() && is_alone && !is_overruled {
        remove_at(headers, first);
    } else {
        let goes = |name: &HeaderName| {
            is_hop_by_hop(name)
                || nominated.contains(name)
                || is_overruled && *name == CONTENT_LENGTH
        };
        retain(headers, |name| !goes(name));
    }
}

/// Removes a header. The order of what stays is kept.
pub(super) fn remove_in_order(headers: &mut HeaderMap, name: &HeaderName) {
    if let Some(place) = headers.keys().position(|key| key == name) {
        remove_at(headers, place);
    }
}

/// What a client cannot take from the service by nominating it: who it speaks for, and
/// where a message ends.
fn is_for_everybody(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "host" | "content-length" | "forwarded" | "via")
        || name.starts_with("x-forwarded-")
}

/// Whether a header speaks to the next hop only.
///
/// Compared as text: the length alone decides most comparisons.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

/// Removes the header at `place`.
///
/// `HeaderMap::remove` moves the last one into the gap, which keeps the order where the gap
/// is one of the last two. Servers like to put `Connection` and `Content-Length` there.
fn remove_at(headers: &mut HeaderMap, place: usize) {
    let Some(name) = headers.keys().nth(place).cloned() else { return };
    if place + 2 >= headers.keys_len() {
        headers.remove(name);
    } else {
        retain(headers, |other| *other != name);
    }
}

/// Removes headers and keeps the order of the others.
fn retain(headers: &mut HeaderMap, stays: impl Fn(&HeaderName) -> bool) {
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut last = None;
    for (name, value) in std::mem::take(headers) {
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| stays(name)) {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays_wherever_one_goes() {
        for place in 0..4 {
            let mut names =
                ["server", "date", "etag", "vary"].map(HeaderName::from_static).to_vec();
            let mut map = HeaderMap::new();
            for name in &names {
                map.append(name, HeaderValue::from_static("1"));
                map.append(name, HeaderValue::from_static("2"));
            }
            remove_in_order(&mut map, &names.remove(place));
            assert_eq!(map.keys().cloned().collect::<Vec<_>>(), names);
            assert_eq!(map.len(), 6);
        }
    }

    #[test]
    fn a_length_beside_chunks_goes_with_them() {
        for (lines, left) in [
            (&["content-length", "transfer-encoding"][..], &[][..]),
            (&["transfer-encoding", "etag", "content-length"], &["etag"]),
            (&["content-length", "connection"], &["content-length"]),
        ] {
            let mut map = HeaderMap::new();
            for name in lines {
                map.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
            }
            strip_hop_by_hop(&mut map);
            assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), left, "{lines:?}");
        }
    }

    #[test]
    fn hop_by_hop_goes_and_the_order_stays() {
        let lines: [(&str, &[u8]); 7] = [
            ("keep-alive", b"timeout=5"),
            ("set-cookie", b"a=1"),
            ("connection", b"x-hop, close"),
            ("x-hop", b"1"),
            ("location", b"/1"),
            ("set-cookie", b"b=2"),
            ("x-latin", b"caf\xe9"),
        ];
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        strip_hop_by_hop(&mut map);
        let left: Vec<_> =
            map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(
            left,
            [
                ("set-cookie", &b"a=1"[..]),
                ("set-cookie", b"b=2"),
                ("location", b"/1"),
                ("x-latin", b"caf\xe9"),
            ]
        );
    }
}
