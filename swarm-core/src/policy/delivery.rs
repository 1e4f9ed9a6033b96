//! How a helper's pieces get to the asker's master: the first way that works, 45 s each.
//!
//! 0. the master's RPC tells it to dial the helper;
//! 1. *introduced*: the asker lists the helper in the `ut_pex` (BEP 11) it sends its own master, which then dials it;
//! 2. *dialled*: the helper dials the master, under the rule of [`super::friend_dial`];
//! 3. *relayed*: the asker fetches the pieces from the helper by ordinary BitTorrent and hands them on.
//!
//! Both sides count from the first reservation, so that no message says whose turn it is. Without a witness direct
//! delivery is a gift, so it is not asked for: only relaying earns then.

use bt_wire::address::Scope;
use core::time::Duration;
use std::net::SocketAddr;

/// Each way has so long to bring the master and the helper together.
pub const EACH: Duration = Duration::from_secs(45);
/// Most peers in one `ut_pex` message, and the least time between two (BEP 11).
pub const PEX: (usize, Duration) = (50, Duration::from_secs(60));

/// A way of delivery, in the order tried.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Delivery {
    /// The master's RPC was told to dial the helper.
    Rpc,
    /// The master learned of the helper by `ut_pex`.
    Introduced,
    /// The helper dialled the master.
    Dialled,
    /// The asker fetches and hands on.
    Relayed,
}

/// What the asker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryFacts {
    /// The master's RPC can be told to dial an address.
    pub rpc_dials: bool,
    /// The master's RPC shows what came from whom.
    pub witness: bool,
    /// The master speaks `ut_pex`.
    pub pex: bool,
    /// The torrent is private (BEP 27): by RPC and relayed only.
    pub private: bool,
    /// The asker knows where its master listens.
    pub master_known: bool,
}

/// The ways to try, in order. Relaying always works.
#[must_use]
pub fn ways(facts: &DeliveryFacts) -> Vec<Delivery> {
    let open = !facts.private;
    let direct = [
        (Delivery::Rpc, facts.rpc_dials),
        (Delivery::Introduced, facts.pex && open),
        (Delivery::Dialled, facts.master_known && open),
    ];
    let mut ways: Vec<Delivery> = direct
        .into_iter()
        .filter(|(_, can)| *can && facts.witness)
        .map(|(way, _)| way)
        .collect();
    ways.push(Delivery::Relayed);
    ways
}

/// The way whose turn it is, so long after the first reservation; the last one stays.
#[must_use]
pub fn turn(ways: &[Delivery], elapsed: Duration) -> Option<Delivery> {
    let nth = usize::try_from(elapsed.as_secs() / EACH.as_secs()).unwrap_or(usize::MAX);
    ways.get(nth).or(ways.last()).copied()
}

/// Whether our master may be told of this address by `ut_pex`: one with which we completed a session ourselves, that
/// reaches as far as the master does, never loopback (Transmission drops it) nor a port below 1024.
#[must_use]
//= spec/friends.md#pex-scope
pub fn may_introduce(helper: SocketAddr, master: SocketAddr) -> bool {
    let (Some(theirs), Some(ours)) = (Scope::of(helper.ip()), Scope::of(master.ip())) else {
        return false;
    };
    let reaches = theirs == Scope::Global || theirs == ours;
    reaches && theirs > Scope::Loopback && helper.port() >= 1024
}

/// What one master was told by `ut_pex`.
#[derive(Clone, Debug, Default)]
pub struct Introductions {
    listed: Vec<SocketAddr>,
    last: Option<crate::time::Timestamp>,
}

/// One message's worth of introductions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones.
    pub added: Vec<SocketAddr>,
    /// No longer there: has to be said before one is added anew.
    pub dropped: Vec<SocketAddr>,
}

impl Introductions {
    /// The next message towards this list of addresses; `None`: nothing new, or the last one was under a minute ago. An
    /// address that was listed and should be dialled `again` is dropped first, and added by the message after.
    //= spec/friends.md#pex-pace
    //= spec/friends.md#pex-again
    pub fn next(
        &mut self,
        now: crate::time::Timestamp,
        wanted: &[SocketAddr],
        again: &[SocketAddr],
    ) -> Option<Changes> {
        if self.last.is_some_and(|at| now.since(at) < PEX.1) {
            return None;
        }
        let stays = |addr: &SocketAddr| wanted.contains(addr) && !again.contains(addr);
        let mut dropped: Vec<SocketAddr> =
            self.listed.iter().copied().filter(|a| !stays(a)).collect();
        dropped.truncate(PEX.0);
        let mut added: Vec<SocketAddr> = wanted
            .iter()
            .copied()
            .filter(|addr| !self.listed.contains(addr))
            .collect();
        added.sort_unstable();
        added.dedup();
        added.truncate(PEX.0);
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        self.listed.retain(|addr| !dropped.contains(addr));
        self.listed.extend(&added);
        self.last = Some(now);
        Some(Changes { added, dropped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    const ALL: DeliveryFacts = DeliveryFacts {
        rpc_dials: true,
        witness: true,
        pex: true,
        private: false,
        master_known: true,
    };

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_first_that_works_each_for_45_seconds() {
        use Delivery::{Dialled, Introduced, Relayed, Rpc};
        let ways = ways(&ALL);
        assert_eq!(ways, [Rpc, Introduced, Dialled, Relayed]);
        let at = |secs| turn(&ways, Duration::from_secs(secs));
        assert_eq!(
            [at(0), at(44), at(45)],
            [Some(Rpc), Some(Rpc), Some(Introduced)]
        );
        assert_eq!(
            [at(90), at(135), at(9999)],
            [Some(Dialled), Some(Relayed), Some(Relayed)]
        );
        assert_eq!(turn(&[], Duration::ZERO), None);
    }

    //= spec/friends.md#pex-public
    #[test]
    fn a_private_torrent_is_never_named_by_pex_nor_dialled() {
        let private = DeliveryFacts {
            private: true,
            ..ALL
        };
        assert_eq!(ways(&private), [Delivery::Rpc, Delivery::Relayed]);
    }

    #[test]
    fn without_a_witness_only_relaying_earns() {
        let blind = DeliveryFacts {
            witness: false,
            ..ALL
        };
        assert_eq!(ways(&blind), [Delivery::Relayed]);
    }

    //= spec/friends.md#pex-scope
    #[test]
    fn only_addresses_that_the_master_can_reach_are_introduced() {
        let master = addr("198.18.0.2:51413");
        assert!(may_introduce(addr("198.18.3.1:6881"), master));
        for bad in [
            "127.0.0.1:6881",
            "198.18.3.1:80",
            "10.0.0.7:6881",
            "0.0.0.0:6881",
            "224.0.0.1:6881",
        ] {
            assert!(!may_introduce(addr(bad), master), "{bad}");
        }
        assert!(may_introduce(addr("10.0.0.7:6881"), addr("10.0.0.9:51413")));
        assert!(!may_introduce(
            addr("127.0.0.1:6881"),
            addr("127.0.0.1:51413")
        ));
    }

    //= spec/friends.md#pex-pace
    //= spec/friends.md#pex-again
    #[test]
    fn one_message_a_minute_of_at_most_fifty_and_anew_only_after_dropped() {
        let mut book = Introductions::default();
        let many: Vec<SocketAddr> = (0..60)
            .map(|n| addr(&format!("198.18.1.{n}:6881")))
            .collect();
        let at = Timestamp::from_millis;
        let first = book.next(at(0), &many, &[]).expect("news");
        assert_eq!((first.added.len(), first.dropped.len()), (50, 0));
        assert_eq!(book.next(at(59_999), &many, &[]), None);
        let second = book.next(at(60_000), &many, &many[..1]).expect("news");
        assert_eq!(
            (second.added.len(), second.dropped),
            (10, many[..1].to_vec())
        );
        let third = book.next(at(120_000), &many, &[]).expect("news");
        assert_eq!((third.added, third.dropped.len()), (many[..1].to_vec(), 0));
        assert_eq!(book.next(at(180_000), &many, &[]), None);
    }
}
