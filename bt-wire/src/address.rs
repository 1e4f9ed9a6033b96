//! Which addresses may be named by whom, and how peers are written compactly.
//!
//! An address has a scope. A source (feed, tracker, peer, redirect) may name only addresses of its own scope or a
//! wider one, so a loopback tracker may name loopback peers and the internet never can. Ports below 1024 and what the
//! scopes forbid are the operator's alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far an address reaches, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This machine.
    Loopback,
    /// This link.
    LinkLocal,
    /// This site: RFC 1918, RFC 4193, and a provider's shared space (RFC 6598).
    Private,
    /// Everybody. 198.18.0.0/15 (RFC 2544 benchmarks) counts as global, so that laboratories can play internet.
    Global,
}

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSource {
    /// The operator's own words: configuration, command line, API.
    Operator,
    /// Somebody whose own address has this scope: tracker, peer, feed, redirect.
    Named {
        /// The scope of the source's own address.
        by: Scope,
    },
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// Port 0.
    #[error("port 0 cannot be dialled")]
    PortZero,
    /// A port below 1024, named by somebody else than the operator.
    #[error("ports below 1024 are for the operator to name")]
    PrivilegedPort,
    /// Unspecified, multicast, broadcast, documentation or reserved.
    #[error("not the address of a host")]
    NotAHost,
    /// The address's scope is narrower than its source's.
    #[error("a source may not name addresses of a narrower scope than its own")]
    NarrowerScope,
}

impl Scope {
    /// The scope of `ip`; none for what is no host's own address (unspecified, multicast, broadcast, documentation,
    /// reserved). IPv4 inside IPv6 (mapped, NAT64, 6to4) has the scope of the IPv4 address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        let [a, b, c, _] = ip.octets();
        match (a, b, c) {
            (127, ..) => Some(Self::Loopback),
            (169, 254, _) => Some(Self::LinkLocal),
            (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => {
                Some(Self::Private)
            }
            (0 | 224..=255, ..) | (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) => None,
            _ => Some(Self::Global),
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        if let Some(v4) = ip.to_ipv4_mapped() {
            return Self::of_v4(v4);
        }
        let embedded = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Some(Self::Loopback),
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                Self::of_v4(embedded(high, low))
            }
            [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => None,
            [0xfe80..=0xfebf, ..] => Some(Self::LinkLocal),
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(Self::Private),
            [0x2000..=0x3fff, ..] => Some(Self::Global),
            _ => None,
        }
    }
}

/// Whether a source of one scope may name an address of another: only its own scope or a wider one.
#[must_use]
pub fn may_name(source: Scope, target: Scope) -> bool {
    target >= source
}

/// Whether `addr`, named by `source`, may be dialled (rows B12, C3).
///
/// # Errors
/// The first rule that forbids it.
pub fn dialable(addr: SocketAddr, source: AddressSource) -> Result<(), Refusal> {
    if addr.port() == 0 {
        return Err(Refusal::PortZero);
    }
    match source {
        AddressSource::Operator => {
            let ip = addr.ip().to_canonical();
            let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            if ip.is_unspecified() || ip.is_multicast() || broadcast {
                Err(Refusal::NotAHost)
            } else {
                Ok(())
            }
        }
        AddressSource::Named { by } => {
            let target = Scope::of(addr.ip()).ok_or(Refusal::NotAHost)?;
            if addr.port() < 1024 {
                Err(Refusal::PrivilegedPort)
            } else if may_name(by, target) {
                Ok(())
            } else {
                Err(Refusal::NarrowerScope)
            }
        }
    }
}

/// One spelling per address: IPv4 mapped into IPv6 becomes IPv4; flow label and IPv6 scope id are dropped.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Appends the compact form of `addr`: 6 bytes for IPv4 (BEP 23), 18 for IPv6 (BEP 7).
pub fn encode_compact(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// The IPv4 peers in a compact string (6 bytes each, BEP 23). An incomplete last entry is left out.
pub fn decode_compact_v4(bytes: &[u8]) -> impl ExactSizeIterator<Item = SocketAddr> + '_ {
    let (entries, _) = bytes.as_chunks::<6>();
    entries.iter().map(|&[a, b, c, d, high, low]| {
        SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            u16::from_be_bytes([high, low]),
        )
    })
}

/// The IPv6 peers in a compact string (18 bytes each, BEP 7). An incomplete last entry is left out.
pub fn decode_compact_v6(bytes: &[u8]) -> impl ExactSizeIterator<Item = SocketAddr> + '_ {
    let (entries, _) = bytes.as_chunks::<18>();
    entries.iter().map(|entry| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&entry[..16]);
        canonical(SocketAddr::new(
            IpAddr::from(octets),
            u16::from_be_bytes([entry[16], entry[17]]),
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(ip: &str) -> Option<Scope> {
        Scope::of(ip.parse().expect("an address"))
    }

    #[test]
    fn scopes() {
        let table: [(Option<Scope>, &[&str]); 5] = [
            (
                Some(Scope::Loopback),
                &[
                    "127.0.0.1",
                    "127.255.0.9",
                    "::1",
                    "::ffff:127.0.0.1",
                    "64:ff9b::7f00:1",
                ],
            ),
            (
                Some(Scope::LinkLocal),
                &["169.254.169.254", "fe80::1", "febf::1", "2002:a9fe:a9fe::1"],
            ),
            (
                Some(Scope::Private),
                &[
                    "10.1.2.3",
                    "172.16.0.1",
                    "172.31.255.1",
                    "192.168.1.1",
                    "100.64.0.1",
                    "fd00::1",
                ],
            ),
            (
                Some(Scope::Global),
                &[
                    "1.1.1.1",
                    "198.18.0.1",
                    "198.19.255.1",
                    "172.32.0.1",
                    "2606:4700::1",
                    "2002:101:101::",
                ],
            ),
            (
                None,
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "224.0.0.1",
                    "255.255.255.255",
                    "240.0.0.1",
                    "192.0.2.1",
                    "198.51.100.1",
                    "203.0.113.7",
                    "::",
                    "ff02::1",
                    "2001:db8::1",
                    "3fff::1",
                    "::127.0.0.1",
                    "100::1",
                ],
            ),
        ];
        for (want, ips) in table {
            for ip in ips {
                assert_eq!(scope(ip), want, "{ip}");
            }
        }
    }

    #[test]
    fn b12_c3_the_internet_cannot_name_inner_addresses_or_low_ports() {
        let named = AddressSource::Named { by: Scope::Global };
        let check = |addr: &str, source| dialable(addr.parse().expect("an address"), source);
        assert_eq!(check("127.0.0.1:6881", named), Err(Refusal::NarrowerScope));
        assert_eq!(check("10.0.0.1:6881", named), Err(Refusal::NarrowerScope));
        assert_eq!(check("[fe80::1]:6881", named), Err(Refusal::NarrowerScope));
        assert_eq!(
            check("[::ffff:192.168.0.1]:6881", named),
            Err(Refusal::NarrowerScope)
        );
        assert_eq!(check("127.0.0.1:22", named), Err(Refusal::PrivilegedPort));
        assert_eq!(check("1.1.1.1:1023", named), Err(Refusal::PrivilegedPort));
        assert_eq!(check("1.1.1.1:0", named), Err(Refusal::PortZero));
        assert_eq!(check("0.0.0.0:6881", named), Err(Refusal::NotAHost));
        assert_eq!(check("224.0.0.1:6881", named), Err(Refusal::NotAHost));
        assert_eq!(check("1.1.1.1:1024", named), Ok(()));
        let loopback = AddressSource::Named {
            by: Scope::Loopback,
        };
        assert_eq!(check("127.0.0.1:6881", loopback), Ok(()));
        assert_eq!(check("10.0.0.1:6881", loopback), Ok(()));
        let private = AddressSource::Named { by: Scope::Private };
        assert_eq!(check("[::1]:6881", private), Err(Refusal::NarrowerScope));
        assert_eq!(check("1.1.1.1:6881", private), Ok(()));
    }

    #[test]
    fn the_operator_may_name_any_host() {
        let check =
            |addr: &str| dialable(addr.parse().expect("an address"), AddressSource::Operator);
        for addr in ["127.0.0.1:80", "10.0.0.1:22", "203.0.113.7:6881", "[::1]:1"] {
            assert_eq!(check(addr), Ok(()), "{addr}");
        }
        assert_eq!(check("127.0.0.1:0"), Err(Refusal::PortZero));
        for addr in [
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "[::ffff:0.0.0.0]:1",
        ] {
            assert_eq!(check(addr), Err(Refusal::NotAHost), "{addr}");
        }
    }

    proptest! {
        #[test]
        fn compact_round_trips(v4: [u8; 4], v6: [u8; 16], port: u16, tail in 0usize..6) {
            let four = SocketAddr::new(IpAddr::from(v4), port);
            let six = canonical(SocketAddr::new(IpAddr::from(v6), port));
            let mut bytes = Vec::new();
            encode_compact(four, &mut bytes);
            bytes.extend(std::iter::repeat_n(0, tail));
            prop_assert_eq!(decode_compact_v4(&bytes).collect::<Vec<_>>(), vec![four]);
            prop_assume!(six.is_ipv6());
            bytes.clear();
            encode_compact(six, &mut bytes);
            prop_assert_eq!(decode_compact_v6(&bytes).collect::<Vec<_>>(), vec![six]);
        }
    }
}
