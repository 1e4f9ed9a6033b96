//! A rendezvous: how long a stranger stays, how many connections there are, and whom a host dials back
//! (spec/rendezvous.md).
//!
//! A host dials who announces to it, so somebody may try to have it dial others. Therefore it dials only where the
//! announce came from, and rarely: per endpoint, per address, per network, and in all.

use crate::time::Timestamp;
use bt_wire::address::Scope;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// Connections sought.
pub const SOUGHT: usize = 20;
/// Connections in all. Above it the oldest stranger gives way; to a dial-back also the oldest member.
pub const MOST: usize = 40;
/// Both extended handshakes are there by then, or the peer is a stranger.
pub const HANDSHAKE: Duration = Duration::from_secs(20);
/// A stranger that wants nothing stays so long. (Transmission decides at a 10 s timer what it wants.)
const IDLE: Duration = Duration::from_secs(20);
/// A stranger that downloads stays at most so long.
const DOWNLOAD: Duration = Duration::from_secs(600);
/// A stranger that was let go is not dialled again for so long.
pub const STRANGER_AGAIN: Duration = Duration::from_secs(1800);
/// Strangers remembered for that.
pub const STRANGERS: usize = 2000;
/// The announce URL lists an endpoint for so long after it was last proved.
pub const LISTED_FOR: Duration = Duration::from_secs(1800);
/// Endpoints listed, and those that announced and wait to be proved; each.
pub const ENDPOINTS: usize = 2000;
/// Between two `ut_pex` messages to one member (BEP 11).
pub const PEX_EVERY: Duration = Duration::from_secs(60);
/// Endpoints in one `ut_pex` message, added and dropped each (BEP 11).
pub const PEX_PEERS: usize = 50;

/// Limits of dial-backs hold within so long.
const WITHIN: Duration = Duration::from_secs(600);
/// Dial-backs of one address.
const PER_ADDRESS: usize = 4;
/// Dial-backs into one /24 (IPv6: /56).
const PER_NETWORK: usize = 16;
/// Dial-backs in all.
const IN_ALL: usize = 512;
/// Ports below it are not for others to name.
const FIRST_PORT: u16 = 1024;

/// Whether a stranger is let go: it is one for so long, and downloads what we serve or does not.
//= spec/rendezvous.md#rv-served
#[must_use]
pub fn lets_go(stranger_for: Duration, downloads: bool) -> bool {
    stranger_for >= if downloads { DOWNLOAD } else { IDLE }
}

/// Why an announcer is not dialled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoDialBack {
    /// A port below 1024.
    Port,
    /// No host's address, or of this machine or link.
    Address,
    /// A private address, and the announce did not come from the same private network.
    Private,
    /// It was let go as a stranger lately.
    Stranger,
    /// This endpoint was dialled back lately.
    Endpoint,
    /// Its address had its dial-backs.
    Pace,
    /// Its network had its dial-backs.
    Network,
    /// There are too many.
    Busy,
}

/// Whether an announcer may be dialled back at `to`, its own address and the port that it names; the announce came in
/// at our address `at`.
///
/// # Errors
/// The first rule that forbids it.
//= spec/rendezvous.md#rv-dial-scope
pub fn may_dial_back(to: SocketAddr, at: IpAddr) -> Result<(), NoDialBack> {
    let near = Scope::of(at) == Some(Scope::Private);
    match Scope::of(to.ip()) {
        _ if to.port() < FIRST_PORT => Err(NoDialBack::Port),
        None | Some(Scope::Loopback | Scope::LinkLocal) => Err(NoDialBack::Address),
        Some(Scope::Private) if !near => Err(NoDialBack::Private),
        Some(Scope::Private | Scope::Global) => Ok(()),
    }
}

/// The dial-backs of the last ten minutes.
#[derive(Debug, Default)]
pub struct DialBacks(VecDeque<(Timestamp, SocketAddr)>);

impl DialBacks {
    /// Notes a dial-back to `to`, if there may be one now.
    ///
    /// # Errors
    /// The first limit that is reached.
    //= spec/rendezvous.md#rv-dial-pace
    pub fn take(&mut self, now: Timestamp, to: SocketAddr) -> Result<(), NoDialBack> {
        while let Some((at, _)) = self.0.front()
            && now.since(*at) >= WITHIN
        {
            self.0.pop_front();
        }
        let count = |like: &dyn Fn(&SocketAddr) -> bool| {
            self.0.iter().filter(|(_, other)| like(other)).count()
        };
        if count(&|other| *other == to) > 0 {
            Err(NoDialBack::Endpoint)
        } else if count(&|other| other.ip() == to.ip()) >= PER_ADDRESS {
            Err(NoDialBack::Pace)
        } else if count(&|other| network(other.ip()) == network(to.ip())) >= PER_NETWORK {
            Err(NoDialBack::Network)
        } else if self.0.len() >= IN_ALL {
            Err(NoDialBack::Busy)
        } else {
            self.0.push_back((now, to));
            Ok(())
        }
    }
}

/// The /24 (IPv4) or /56 (IPv6) of an address.
#[must_use]
pub fn network(ip: IpAddr) -> [u8; 8] {
    let mut network = [0; 8];
    match ip {
        IpAddr::V4(ip) => network[..3].copy_from_slice(&ip.octets()[..3]),
        IpAddr::V6(ip) => {
            network[..7].copy_from_slice(&ip.octets()[..7]);
            // The last byte keeps the two families apart.
            network[7] = 6;
        }
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    //= spec/rendezvous.md#rv-dial-scope
    #[test]
    fn c1_an_announce_leads_to_no_low_port_and_to_no_address_that_is_nearer_than_its_sender() {
        let (global, private) = (addr("1.1.1.1:1").ip(), addr("10.0.0.1:1").ip());
        let check = |to: &str, at| may_dial_back(addr(to), at);
        for near in [global, private, addr("127.0.0.1:1").ip()] {
            assert_eq!(check("8.8.8.8:22", near), Err(NoDialBack::Port));
            assert_eq!(check("8.8.8.8:1023", near), Err(NoDialBack::Port));
            assert_eq!(check("8.8.8.8:1024", near), Ok(()));
            for no_host in [
                "127.0.0.1:6881",
                "169.254.1.1:6881",
                "224.0.0.1:6881",
                "0.0.0.0:6881",
            ] {
                assert_eq!(check(no_host, near), Err(NoDialBack::Address), "{no_host}");
            }
            assert_eq!(check("[::1]:6881", near), Err(NoDialBack::Address));
            assert_eq!(check("[fe80::1]:6881", near), Err(NoDialBack::Address));
        }
        assert_eq!(check("192.168.1.9:6881", global), Err(NoDialBack::Private));
        assert_eq!(check("192.168.1.9:6881", private), Ok(()));
    }

    //= spec/rendezvous.md#rv-dial-pace
    #[test]
    fn p16_a_victim_is_dialled_rarely_however_often_it_is_announced() {
        let mut dials = DialBacks::default();
        assert_eq!(dials.take(at(0), addr("1.1.1.1:2000")), Ok(()));
        assert_eq!(
            dials.take(at(599), addr("1.1.1.1:2000")),
            Err(NoDialBack::Endpoint)
        );
        for port in 2001..2004 {
            let to = SocketAddr::new(addr("1.1.1.1:1").ip(), port);
            assert_eq!(dials.take(at(1), to), Ok(()));
        }
        assert_eq!(
            dials.take(at(2), addr("1.1.1.1:3000")),
            Err(NoDialBack::Pace)
        );
        for host in 2..14 {
            let to = SocketAddr::new([1, 1, 1, host].into(), 2000);
            assert_eq!(dials.take(at(2), to), Ok(()));
        }
        assert_eq!(
            dials.take(at(2), addr("1.1.1.99:2000")),
            Err(NoDialBack::Network)
        );
        assert_eq!(dials.take(at(2), addr("1.1.2.1:2000")), Ok(()));
        assert_eq!(dials.take(at(600), addr("1.1.1.1:2000")), Ok(()));
    }

    //= spec/rendezvous.md#rv-served
    #[test]
    fn a_stranger_that_downloads_is_given_time() {
        let seconds = Duration::from_secs;
        assert!(!lets_go(seconds(19), false) && lets_go(seconds(20), false));
        assert!(!lets_go(seconds(599), true) && lets_go(seconds(600), true));
    }

    proptest! {
        #[test]
        fn whatever_is_announced_the_limits_hold(
            asks in prop::collection::vec((0u64..3000, 0u8..3, 0u8..6, 2000u16..2008), 1..900)
        ) {
            let mut asks = asks;
            asks.sort_unstable();
            let (mut dials, mut done) = (DialBacks::default(), Vec::<(u64, SocketAddr)>::new());
            for (second, net, host, port) in asks {
                let to = SocketAddr::new([9, 9, net, host].into(), port);
                if dials.take(at(second), to).is_ok() {
                    done.push((second, to));
                }
            }
            for (last, to) in &done {
                let recent = || done.iter().filter(|(at, _)| at <= last && last - at < 600);
                prop_assert_eq!(recent().filter(|(_, other)| other == to).count(), 1);
                prop_assert!(recent().filter(|(_, other)| other.ip() == to.ip()).count() <= PER_ADDRESS);
                let same = recent().filter(|(_, other)| network(other.ip()) == network(to.ip()));
                prop_assert!(same.count() <= PER_NETWORK);
            }
        }
    }
}
