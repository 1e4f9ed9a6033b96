//! What a helper tells of its fetching: what is under way, what idle peers could bring beside what is reserved, and what is
//! here and reserved with another. (Watched on the wire half a minute before a master in a crowd was done: of 59 pieces that
//! it lacked 15 were begun and asked of nobody, one helper was choked by all, and of another's six open peers four were
//! idle.)

use crate::node::errands::HelpKey;
use crate::peer::Peer;
use crate::policy::{forward, help, pick};
use crate::swarm::{Active, Stage, Swarm};
use crate::time::Timestamp;
use std::collections::BTreeSet;

impl Swarm {
    /// Begun, and nobody that lets us ask has it: it waits for somebody's next unchoke.
    pub(crate) fn stalled(&self, piece: u32) -> bool {
        let active = self.active.get(&piece);
        let idle = |active: &Active| active.stage == Stage::Fetching && active.leases.is_empty();
        active.is_some_and(idle) && !self.peers.values().any(|peer| peer.gives(piece))
    }

    /// Pieces of a help that are under way: begun, and not [stalled](Self::stalled).
    pub(crate) fn errand_fetching(&self, key: HelpKey) -> BTreeSet<u32> {
        let pieces = self.aid.given.get(&key).map(|errand| &errand.pieces);
        let fetched = |piece: &u32| {
            let active = self.active.get(piece);
            active.is_some_and(|active| active.stage == Stage::Fetching) && !self.stalled(*piece)
        };
        pieces
            .into_iter()
            .flatten()
            .copied()
            .filter(fetched)
            .collect()
    }

    /// Pieces not reserved for this help that its guest lacks as far as we know: those held here, once it came, and those
    /// that idle peers offer, rarest first; none while the guest waits for its turn.
    pub(crate) fn errand_next(&self, now: Timestamp, key: HelpKey) -> BTreeSet<u32> {
        let mut next = BTreeSet::new();
        let Some(errand) = self.aid.given.get(&key).filter(|e| e.place.is_some()) else {
            return next;
        };
        let guest = errand.conn.and_then(|conn| self.peers.get(&conn));
        if let Some(guest) = guest {
            let held = self.active.iter().filter(|(_, a)| a.stage == Stage::Held);
            let held = held.map(|(piece, _)| *piece);
            let news = |piece: &u32| !guest.have.get(*piece) && !errand.pieces.contains(piece);
            // As many again are for what idle peers offer.
            next.extend(held.filter(news).take(help::NAMED / 2));
        }
        let absent = |piece: &u32| !self.active.contains_key(piece);
        let idle = |peer: &&Peer| {
            let busy = |piece: &u32| absent(piece) && peer.offers(*piece, now);
            peer.may_fetch() && peer.outstanding == 0 && !errand.pieces.iter().any(busy)
        };
        let idle: Vec<&Peer> = self.peers.values().filter(idle).collect();
        if idle.is_empty() {
            return next;
        }
        let lacks = |piece: &u32| guest.is_none_or(|guest| !guest.have.get(*piece));
        let rank = |piece: &u32| {
            let facts = self.avail.facts(*piece);
            let lot = forward::weight(&self.info_hash, *piece, key.1.0.into());
            pick::rarest_first(facts.seeds + facts.holders, lot)
        };
        let mut pieces: Vec<u32> = (0..self.pieces()).filter(absent).filter(lacks).collect();
        pieces.sort_by_cached_key(rank);
        for peer in idle {
            let fits = |piece: &&u32| !next.contains(*piece) && peer.offers(**piece, now);
            let some: Vec<u32> = pieces
                .iter()
                .filter(fits)
                .take(help::NAMED_EACH)
                .copied()
                .collect();
            next.extend(some);
            if next.len() >= help::NAMED {
                break;
            }
        }
        next
    }
}
