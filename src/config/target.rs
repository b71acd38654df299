//! Addresses of upstreams and stores.

use std::{fmt, path::PathBuf, str::FromStr};

use http::{Uri, uri::Authority};

/// `http://host:port` of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    authority: Authority,
}

impl UpstreamUrl {
    /// The host, without brackets around an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, 80 unless given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(80)
    }

    /// Host and port as they were written.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl FromStr for UpstreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("`{text}` is no URL ({error}); write http://host:port"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "`{text}`: TLS to the upstream is not supported yet; write http://"
                ));
            }
            _ => return Err(format!("`{text}` has no scheme; write http://host:port")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("`{text}`: an upstream has no path; requests keep theirs"));
        }
        match uri.authority() {
            Some(authority) if authority.port_u16().is_none() && has_port(authority.as_str()) => {
                Err(format!("`{text}` has no port from 0 to 65535 behind its colon"))
            }
            Some(authority) if !authority.as_str().contains('@') => {
                Ok(Self { authority: authority.clone() })
            }
            _ => Err(format!("`{text}` has no plain host; write http://host:port")),
        }
    }
}

/// Whether something stands where a port would.
pub(super) fn has_port(authority: &str) -> bool {
    authority.rfind(':').is_some_and(|colon| !authority[colon..].contains(']'))
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`.
    Memory,
    /// `file:FOLDER`.
    File(PathBuf),
    /// `redis://...`.
    Redis(String),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KNOWN: &str = "use memory:, file:FOLDER or redis://HOST:PORT";
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("file", "")) => Err(format!("`{text}` names no folder; {KNOWN}")),
            Some(("file", folder)) => Ok(Self::File(folder.trim_start_matches("//").into())),
            Some(("redis", rest)) if rest.len() > 2 && is_redis(text) => {
                Ok(Self::Redis(text.to_owned()))
            }
            _ => Err(format!("`{}` is no store; {KNOWN}", masked(text))),
        }
    }
}

/// The address without the password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::File(folder) => write!(f, "file:{}", folder.display()),
            Self::Redis(url) => f.write_str(&masked(url)),
        }
    }
}

/// Whether the store would take it.
fn is_redis(url: &str) -> bool {
    #[cfg(feature = "redis")]
    let is_one = redis::IntoConnectionInfo::into_connection_info(url).is_ok();
    #[cfg(not(feature = "redis"))]
    let is_one = url.starts_with("redis://");
    is_one
}

fn masked(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}***{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_plain_hosts() {
        let url: UpstreamUrl = "http://[::1]:9000".parse().unwrap();
        assert_eq!((url.host(), url.port()), ("::1", 9000));
        assert_eq!("http://legacy/".parse::<UpstreamUrl>().unwrap().port(), 80);
        for wrong in [
            "legacy:9000",
            "https://x",
            "http://x/path",
            "http://u:p@x",
            "",
            "http://",
            "http://x:90000",
            "http://x:http",
            "http://[::1]:",
        ] {
            assert!(wrong.parse::<UpstreamUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn store_addresses_hide_their_password() {
        let url: StoreUrl = "redis://:secret@cache:6379/1".parse().unwrap();
        assert_eq!(url.to_string(), "redis://***@cache:6379/1");
        assert_eq!("file:./data".parse(), Ok(StoreUrl::File("./data".into())));
        #[cfg(feature = "redis")]
        for wrong in ["redis://cache:port", "redis://cache/one"] {
            assert!(wrong.parse::<StoreUrl>().is_err(), "{wrong}");
        }
        for wrong in ["memory", "file:", "redis:", "redis://", "http://x", "memory:x"] {
            assert!(wrong.parse::<StoreUrl>().is_err(), "{wrong}");
        }
    }
}
