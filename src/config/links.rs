//! Variables that somebody else sets in a process's environment.
//!
//! Kubernetes tells every container where the Services of its namespace are, in variables that
//! begin with their names. A Service named `oncegate`, or `oncegate-redis`, has ones that begin
//! like settings:
//!
//! | variable | value |
//! |---|---|
//! | `ONCEGATE_SERVICE_HOST` | `10.0.0.11` |
//! | `ONCEGATE_SERVICE_PORT`, `ONCEGATE_SERVICE_PORT_HTTP` | `8080` |
//! | `ONCEGATE_PORT`, `ONCEGATE_PORT_8080_TCP` | `tcp://10.0.0.11:8080` |
//! | `ONCEGATE_PORT_8080_TCP_PROTO`, `_PORT`, `_ADDR` | `tcp`, `8080`, `10.0.0.11` |
//!
//! No setting has such a name, since what belongs to a section has two underscores. The value is
//! looked at as well, so that a setting that was guessed, as `ONCEGATE_SERVER_PORT=8080`, is not
//! passed over.

use std::net::{IpAddr, SocketAddr};

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Whether a variable says where a Service is. `name` is what follows `ONCEGATE`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let ends = |end: &str| name.ends_with(end);
    ends("_SERVICE_HOST") && is_host(value)
        || (ends("_SERVICE_PORT") || name.contains("_SERVICE_PORT_")) && is_port(value)
        || ends("_PORT") && is_url(value, None)
        || is_port_link(name, value)
}

/// Whether a variable is one of those with a port in their name.
fn is_port_link(name: &str, value: &str) -> bool {
    let Some((_, rest)) = name.rsplit_once("_PORT_") else { return false };
    let mut parts = rest.splitn(3, '_');
    let port = parts.next().filter(|port| is_port(port));
    let (Some(port), Some(protocol)) = (port, parts.next()) else { return false };
    let protocol = protocol.to_ascii_lowercase();
    PROTOCOLS.contains(&&*protocol)
        && match parts.next() {
            None => is_url(value, Some((&protocol, port))),
            Some("PROTO") => value == protocol,
            Some("PORT") => value == port,
            Some("ADDR") => is_host(value),
            Some(_) => false,
        }
}

fn is_host(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok()
}

fn is_port(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u16>().is_ok()
}

/// Whether it is a URL as in `tcp://10.0.0.11:8080`, of this protocol and port if they are known.
fn is_url(value: &str, of: Option<(&str, &str)>) -> bool {
    let Some((protocol, address)) = value.split_once("://") else { return false };
    let Ok(address) = address.parse::<SocketAddr>() else { return false };
    of.map_or(PROTOCOLS.contains(&protocol), |(wanted, port)| {
        protocol == wanted && address.port().to_string() == port
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_sets_is_told_from_settings() {
        for (name, value) in [
            ("_SERVICE_HOST", "10.0.0.11"),
            ("_SERVICE_HOST", "fd00::1"),
            ("_SERVICE_PORT", "8080"),
            ("_SERVICE_PORT_HTTP", "8080"),
            ("_SERVICE_PORT_HTTP_ADMIN", "9901"),
            ("_PORT", "tcp://10.0.0.11:8080"),
            ("_PORT", "udp://[fd00::1]:53"),
            ("_PORT_8080_TCP", "tcp://10.0.0.11:8080"),
            ("_PORT_8080_TCP_PROTO", "tcp"),
            ("_PORT_8080_TCP_PORT", "8080"),
            ("_PORT_8080_TCP_ADDR", "10.0.0.11"),
            ("_REDIS_SERVICE_HOST", "10.0.0.12"),
            ("_REDIS_PORT", "tcp://10.0.0.12:6379"),
            ("_REDIS_PORT_6379_TCP_ADDR", "10.0.0.12"),
            ("_PORT_PORT_53_UDP", "udp://10.0.0.13:53"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("_SERVER__LISTEN", "10.0.0.11:8080"),
            ("_SERVER__PORT", "tcp://10.0.0.11:8080"),
            ("_UPSTREAM__SERVICE_HOST", "10.0.0.11"),
            ("_SERVER_PORT", "8080"),
            ("_PORT", "8080"),
            ("_PORT", "http://10.0.0.11:8080"),
            ("_PORT_8080_TCP", "tcp://10.0.0.11:8081"),
            ("_PORT_8080_TCP_PROTO", "udp"),
            ("_PORT_8080_ICMP", "icmp://10.0.0.11:8080"),
            ("_PORT_8080_TCP_PORT", "+8080"),
            ("_SERVICE_HOST", "gate.example"),
            ("_SERVICE_PORT", ""),
            ("_SERVICE_PORTS", "8080"),
            ("_LISTEN", "10.0.0.11:8080"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
