//! Which requests a route is for: a host, and a prefix of paths.
//!
//! Both are compared as they are sent, so what no request can have is refused.

use std::net::Ipv6Addr;

use super::target::has_port;

/// A host as it is compared: in lower case, and without the dot that ends a full name.
pub(super) fn host(text: &str) -> Result<String, String> {
    const POSSIBLE: &str = "write one whole name, as pay.example or [::1], and a route for each";
    if has_port(text) {
        return Err(format!("`{text}` has a port, which belongs to no route; leave it out"));
    }
    if !text.is_ascii() {
        return Err(format!(
            "`{text}` is not how requests name it; write its ASCII form, which begins with xn--"
        ));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_address = || {
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
    };
    let is_name = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(is_part)
    };
    if name.split('.').all(is_name) || is_address() {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(format!("`{text}` is the host of no request; {POSSIBLE}"))
    }
}

/// Whether requests can have such a path.
pub(super) fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err(format!("`{text}` is no path; it begins with a slash"));
    }
    // Some clients send other letters than ASCII as they are.
    let is_impossible = |byte: u8| byte <= b' ' || matches!(byte, 0x7f | b'*' | b'?' | b'#');
    if !text.bytes().any(is_impossible) {
        return Ok(());
    }
    Err(format!(
        "`{text}` is the path of no request; write a prefix as it is sent, without spaces, query \
         and wildcards (/pay is for /pay/1 as well)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_request_can_have_is_refused() {
        for (written, compared) in [
            ("pay.example", "pay.example"),
            ("PAY.example.", "pay.example"),
            ("localhost", "localhost"),
            ("pay_1.xn--hxa.example", "pay_1.xn--hxa.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(host(written).as_deref(), Ok(compared));
        }
        for wrong in [
            "*.pay.example",
            "*",
            "pay.example/",
            "http://pay.example",
            "z\u{e4}hler.example",
            "pay example",
            "pay..example",
            ".pay.example",
            ".",
            "",
            "pay.example:80",
            "u@pay.example",
            "::1",
            "[::1",
        ] {
            assert!(host(wrong).is_err_and(|why| why.contains(wrong)), "{wrong}");
        }
        for right in ["/", "/pay", "/pay/", "/a%20b", "/~a;b=c,d@e", "/z\u{e4}hler"] {
            assert_eq!(path(right), Ok(()));
        }
        for wrong in ["", "pay", "/pay/*", "/pay?x=1", "/pay#x", "/pay 1", "/a\n", "/a\u{7f}"] {
            assert!(path(wrong).is_err_and(|why| why.contains(wrong)), "{wrong}");
        }
    }
}
