//! A hint of a friend code: `host:port`, where to look for the friend.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Characters of a host name (RFC 1035, 2.3.4).
pub(crate) const MAX_NAME: usize = 253;

/// Where the friend may be found. Unauthenticated: whoever passed the code on may have written it,
/// so the dial policy applies to it as to any address a peer named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    host: Host,
    port: u16,
}

/// The host of a [`Hint`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// An address; IPv6 is written in brackets.
    Ip(IpAddr),
    /// A DNS name in lower case: 1 to 253 letters, digits, `-`, `_` and `.`, the last label not a number.
    Name(String),
}

/// Why a text is no hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HintError {
    /// No `:port` at the end, or not 1 to 65535 in plain digits.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Neither a DNS name, nor an IPv4 address, nor an IPv6 address in brackets.
    #[error("the host must be a name, an IPv4 address, or an IPv6 address in [brackets]")]
    Host,
}

impl Hint {
    /// An address to try.
    ///
    /// # Errors
    /// [`HintError::Port`] when `port` is 0.
    pub fn from_ip(ip: IpAddr, port: u16) -> Result<Self, HintError> {
        if port == 0 {
            Err(HintError::Port)
        } else {
            Ok(Self {
                host: Host::Ip(ip),
                port,
            })
        }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Hint {
    type Err = HintError;

    /// Reads `host:port`, without the `@`.
    fn from_str(text: &str) -> Result<Self, HintError> {
        let (host, port) = text.rsplit_once(':').ok_or(HintError::Port)?;
        let plain = (1..=5).contains(&port.len())
            && !port.starts_with('0')
            && port.bytes().all(|b| b.is_ascii_digit());
        let port = if plain {
            port.parse().map_err(|_| HintError::Port)?
        } else {
            return Err(HintError::Port);
        };
        Ok(Self {
            host: parse_host(host)?,
            port,
        })
    }
}

fn parse_host(text: &str) -> Result<Host, HintError> {
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner
            .parse::<Ipv6Addr>()
            .map(|ip| Host::Ip(ip.into()))
            .map_err(|_| HintError::Host);
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A last label of digits or "0x…" would be read as an IPv4 address by some resolvers (WHATWG URL, "ends in a number").
    let last = text.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit())
        || last.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("0x"));
    if text.len() > MAX_NAME || number || !text.split('.').all(label) {
        return Err(HintError::Host);
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
impl Hint {
    pub(crate) fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_strictly() {
        for good in [
            "example.org:6881",
            "192.0.2.1:1",
            "[2001:db8::1]:65535",
            "a_b-c.example:80",
            "localhost:9",
        ] {
            assert_eq!(
                good.parse::<Hint>().map(|hint| hint.to_string()),
                Ok(good.to_owned())
            );
        }
        assert_eq!(
            "Example.ORG:1".parse::<Hint>().map(|hint| hint.to_string()),
            Ok("example.org:1".to_owned())
        );
        for bad in [
            "a", "a:", "a:0", "a:01", "a:+1", "a:65536", "a: 1", "a:123456",
        ] {
            assert_eq!(bad.parse::<Hint>(), Err(HintError::Port), "{bad}");
        }
        for bad in [
            "::1:5",
            "[::1:5",
            "[192.0.2.1]:5",
            ":5",
            "a..b:5",
            "é:5",
            "1.2.3:5",
            "1.2.3.4.5:5",
            "x.0x7f:5",
            "0x7f000001:5",
            "a/b:5",
        ] {
            assert_eq!(bad.parse::<Hint>(), Err(HintError::Host), "{bad}");
        }
        assert_eq!(
            format!("{}:5", "a".repeat(64)).parse::<Hint>(),
            Err(HintError::Host)
        );
        assert_eq!(
            format!("{}a:5", "a.".repeat(127)).parse::<Hint>(),
            Err(HintError::Host)
        );
    }
}
