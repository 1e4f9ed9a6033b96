//! Whether a master that a friend named is dialled (row P16: a help request must not aim at a victim).
//!
//! Only where the friend's own authenticated connection comes from, or where we learned the address for that infohash
//! ourselves (a tracker, the DHT, two unrelated /16s of peers), or where the operator allowed it. Never loopback or link-local; private
//! only if the friend is there, too; no port below 1024. Until it has answered with the infohash once, one try per 10
//! minutes over all friends; then one per 5 s. The address counts without its port: a host is a victim on any.

use crate::time::Timestamp;
use bt_wire::address::Scope;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Between two tries of a host that has not answered with the infohash yet.
pub const UNPROVEN: Duration = Duration::from_secs(600);
/// And of one that has.
pub const PROVEN: Duration = Duration::from_secs(5);
/// Hosts remembered. When there are more that were tried lately, no other is dialled.
const HOSTS: usize = 4096;

/// How we come to know an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// A tracker, the DHT or two unrelated networks named it for this infohash.
    pub learned: bool,
    /// The operator allowed it.
    pub allowed: bool,
}

/// Why it is not dialled.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum NoDial {
    /// A port below 1024.
    Port,
    /// No host's address, loopback, or a network that the friend is not in.
    Scope,
    /// Nobody but the friend says that it is there.
    Hearsay,
    /// Tried too recently, for whichever friend.
    TooSoon,
}

/// Where and when was dialled for friends.
#[derive(Clone, Debug, Default)]
pub struct FriendDials {
    hosts: BTreeMap<IpAddr, Tried>,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    at: Timestamp,
    proven: bool,
}

impl Tried {
    fn rests(&self, now: Timestamp) -> bool {
        now.since(self.at) < if self.proven { PROVEN } else { UNPROVEN }
    }
}

impl FriendDials {
    /// Whether `addr` may be dialled now for a friend whose connection comes from `friend`; a yes counts as a try.
    ///
    /// # Errors
    /// The first rule that forbids it.
    //= spec/friends.md#dial-pace
    pub fn try_dial(
        &mut self,
        now: Timestamp,
        addr: SocketAddr,
        friend: IpAddr,
        known: Knowledge,
    ) -> Result<(), NoDial> {
        let host = addr.ip().to_canonical();
        permitted(addr, friend.to_canonical(), known)?;
        if self.hosts.get(&host).is_some_and(|tried| tried.rests(now)) {
            return Err(NoDial::TooSoon);
        }
        if self.hosts.len() >= HOSTS && !self.hosts.contains_key(&host) {
            self.hosts.retain(|_, tried| tried.rests(now));
            if self.hosts.len() >= HOSTS {
                return Err(NoDial::TooSoon);
            }
        }
        let tried = self.hosts.entry(host).or_insert(Tried {
            at: now,
            proven: false,
        });
        tried.at = now;
        Ok(())
    }

    /// The host answered with the right infohash.
    pub fn proven(&mut self, host: IpAddr) {
        if let Some(tried) = self.hosts.get_mut(&host.to_canonical()) {
            tried.proven = true;
        }
    }
}

//= spec/friends.md#dial-known
//= spec/friends.md#dial-scope
fn permitted(addr: SocketAddr, friend: IpAddr, known: Knowledge) -> Result<(), NoDial> {
    let host = addr.ip().to_canonical();
    if addr.port() < 1024 {
        return Err(NoDial::Port);
    }
    match Scope::of(host) {
        None | Some(Scope::Loopback | Scope::LinkLocal) => return Err(NoDial::Scope),
        Some(Scope::Private) if Scope::of(friend) != Some(Scope::Private) => {
            return Err(NoDial::Scope);
        }
        Some(Scope::Private | Scope::Global) => {}
    }
    if host == friend || known.learned || known.allowed {
        Ok(())
    } else {
        Err(NoDial::Hearsay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOTHING: Knowledge = Knowledge {
        learned: false,
        allowed: false,
    };
    const LEARNED: Knowledge = Knowledge {
        learned: true,
        allowed: false,
    };

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn p16_fifty_friends_that_name_one_victim_get_one_try_in_ten_minutes() {
        let mut dials = FriendDials::default();
        let victim = addr("198.18.7.7:8080");
        let mut tries = 0;
        for second in 0..1200 {
            for friend in 0..50u8 {
                let from = IpAddr::from([198, 18, 1, friend]);
                let to = SocketAddr::new(victim.ip(), 8080 + u16::from(friend));
                let now = Timestamp::from_millis(second * 1000);
                tries += u32::from(dials.try_dial(now, to, from, LEARNED).is_ok());
                assert!(dials.try_dial(now, to, from, NOTHING).is_err());
            }
        }
        assert_eq!(tries, 2);
    }

    //= spec/friends.md#dial-scope
    #[test]
    fn p16_places_that_are_nobodys_business_are_never_dialled() {
        let global = ip("198.18.1.1");
        let cases = [
            ("203.0.113.7:80", global, NoDial::Port),
            ("203.0.113.7:6881", global, NoDial::Scope),
            ("127.0.0.1:6881", ip("127.0.0.1"), NoDial::Scope),
            ("169.254.1.1:6881", ip("169.254.1.1"), NoDial::Scope),
            ("192.168.0.9:6881", global, NoDial::Scope),
            ("[::ffff:127.0.0.1]:6881", global, NoDial::Scope),
            ("198.18.1.2:6881", global, NoDial::Hearsay),
        ];
        for (to, from, why) in cases {
            let known = if why == NoDial::Hearsay {
                NOTHING
            } else {
                LEARNED
            };
            let mut dials = FriendDials::default();
            assert_eq!(
                dials.try_dial(Timestamp::ZERO, addr(to), from, known),
                Err(why),
                "{to}"
            );
        }
    }

    #[test]
    fn the_friends_own_address_and_a_shared_lan_are_fine() {
        let mut dials = FriendDials::default();
        let home = ip("198.18.1.1");
        let now = Timestamp::ZERO;
        assert_eq!(
            dials.try_dial(now, SocketAddr::new(home, 51413), home, NOTHING),
            Ok(())
        );
        assert_eq!(
            dials.try_dial(now, addr("10.1.1.1:51413"), ip("10.1.1.1"), NOTHING),
            Ok(())
        );
    }

    #[test]
    fn who_answered_with_the_infohash_is_tried_again_after_five_seconds() {
        let mut dials = FriendDials::default();
        let home = ip("198.18.1.1");
        let to = SocketAddr::new(home, 51413);
        let at = Timestamp::from_millis;
        assert_eq!(dials.try_dial(at(0), to, home, NOTHING), Ok(()));
        assert_eq!(
            dials.try_dial(at(6000), to, home, NOTHING),
            Err(NoDial::TooSoon)
        );
        dials.proven(home);
        assert_eq!(
            dials.try_dial(at(4999), to, home, NOTHING),
            Err(NoDial::TooSoon)
        );
        assert_eq!(dials.try_dial(at(5000), to, home, NOTHING), Ok(()));
    }

    proptest! {
        /// Whatever the friends name, and however often: to any one host at most one try in ten minutes before it answers.
        #[test]
        fn no_host_is_tried_twice_in_ten_minutes(
            asks in prop::collection::vec((0u8..4, 1024u16..2000, 0u8..50, 0u64..60), 1..300),
        ) {
            let mut dials = FriendDials::default();
            let mut now = Timestamp::ZERO;
            let mut last: BTreeMap<u8, Timestamp> = BTreeMap::new();
            for (host, port, friend, wait) in asks {
                now = now + Duration::from_secs(wait);
                let to = SocketAddr::from(([198, 18, 7, host], port));
                let from = IpAddr::from([198, 18, 1, friend]);
                if dials.try_dial(now, to, from, LEARNED).is_ok()
                    && let Some(before) = last.insert(host, now)
                {
                    prop_assert!(now.since(before) >= UNPROVEN);
                }
            }
        }
    }
}
