//! Values of the file that parse themselves, so that an error points at them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// For ever, as far as a clock is concerned: a time that is as far away can be told, which is
/// not so for all that can be written.
const FOR_EVER: Duration = Duration::from_secs(100 * 31_557_600);

/// A duration as people write it: `30s`, `24h`, `500ms`. At most a hundred years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let duration = humantime::parse_duration(&text);
        duration.map(|duration| Self(duration.min(FOR_EVER))).map_err(|error| {
            de::Error::custom(format!("`{text}` is no duration ({error}); write 500ms, 30s or 24h"))
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

/// A number of bytes as people write it: `1MiB`, `64 KiB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 1MiB, 64KiB or 4096")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
                usize::try_from(value).map(Size).map_err(|_| E::custom("a size is not negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                let size = text.parse::<bytesize::ByteSize>().map_err(|_| {
                    E::custom(format!("`{text}` is no size; write 1MiB, 64KiB or 4096"))
                })?;
                usize::try_from(size.as_u64()).map(Size).map_err(|_| {
                    E::custom(format!("`{text}` is more than this machine can address"))
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Size {
    /// The largest unit of which it is a multiple.
    fn unit(self) -> Option<(usize, &'static str)> {
        const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        UNITS.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit() {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.unit() {
            Some(_) => serializer.collect_str(self),
            None => serializer.serialize_u64(self.0 as u64),
        }
    }
}

/// A value with a text form of its own: a key source, a header name, an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|error: T::Err| {
            let error = error.to_string();
            let named = error.contains(text.as_str());
            de::Error::custom(if named { error } else { format!("`{text}`: {error}") })
        })
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An HTTP status code, written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) http::StatusCode);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = u16::deserialize(deserializer)?;
        // 1xx never ends an exchange.
        match http::StatusCode::from_u16(code) {
            Ok(status) if (200..600).contains(&code) => Ok(Self(status)),
            _ => Err(de::Error::custom(format!("{code} is no final HTTP status (200 to 599)"))),
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0.as_u16())
    }
}

/// An address block of proxies whose forwarding headers are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: std::net::IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` lies in the block.
    #[must_use]
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        let prefix = u32::from(self.prefix);
        match (self.address, address.to_canonical()) {
            (V4(block), V4(address)) => {
                let shift = 32 - prefix;
                block.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (V6(block), V6(address)) => {
                let shift = 128 - prefix;
                block.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (V4(_), V6(_)) | (V6(_), V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is no address block; write 10.0.0.0/8 or 192.0.2.7");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: std::net::IpAddr = address.parse().map_err(|_| error())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| error())?;
        if prefix > longest {
            return Err(error());
        }
        // Peers are compared by their address of IPv4, where they have one.
        Ok(match address {
            std::net::IpAddr::V6(mapped) if prefix >= 96 => match mapped.to_ipv4_mapped() {
                Some(address) => Self { address: address.into(), prefix: prefix - 96 },
                None => Self { address, prefix },
            },
            address => Self { address, prefix },
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_say() {
        let contains = |block: &str, address: &str| {
            block.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("::ffff:10.0.0.0/104", "10.1.1.1"));
        assert!(!contains("::ffff:10.0.0.0/104", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(contains("::1", "::1") && !contains("::1", "::2"));
        for wrong in ["10.0.0.0/33", "ten", "10.0.0.0/", ""] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[derive(Deserialize, Serialize)]
    struct Probe {
        size: Size,
        span: Span,
    }

    #[test]
    fn values_print_as_they_are_written() {
        let text = "size = \"64MiB\"\nspan = \"1m 30s\"\n";
        let probe: Probe = toml::from_str(text).unwrap();
        assert_eq!((probe.size, probe.span), (Size(64 << 20), Span(Duration::from_secs(90))));
        assert_eq!(toml::to_string(&probe).unwrap(), text);
        let long = "size = 1\nspan = \"18446744073709551615s\"";
        assert_eq!(toml::from_str::<Probe>(long).unwrap().span, Span(FOR_EVER));
        let error = toml::from_str::<Probe>("size = \"many\"\nspan = \"1s\"").err().unwrap();
        assert!(error.to_string().contains("line 1") && error.to_string().contains("no size"));
    }
}
