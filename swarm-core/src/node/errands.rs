//! What help between friends means within one swarm: pieces that friends reserved with us, pieces that we lent to helpers,
//! and the connections over which they go.

use crate::io::friends::{FriendId, HelpId};
use crate::io::{ConnId, Order, PeerSource, Role};
use crate::node::desk::Desk;
use crate::policy::{forward, help, pick};
use crate::swarm::{Active, Stage, Swarm};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// One help between two: whose, and which.
pub(crate) type HelpKey = (FriendId, HelpId);

/// All errands of one swarm.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// Helps that we give here.
    pub(crate) given: BTreeMap<HelpKey, Errand>,
    /// Pieces that helpers fetch for our master: not fetched by ourselves.
    pub(crate) lent: BTreeMap<u32, FriendId>,
    /// Connections of friends' slaves.
    pub(crate) links: BTreeMap<ConnId, FriendId>,
}

/// One help that we give.
#[derive(Debug, Default)]
pub(crate) struct Errand {
    /// Reserved, and not yet with the guest.
    pub(crate) pieces: BTreeSet<u32>,
    /// The guest's connection.
    pub(crate) conn: Option<ConnId>,
    /// Its connection may carry so many bytes in all: what stands announced and was not sent is within it.
    pub(crate) until: u64,
    /// Its place among the helps that have a turn on our line, the best being 0: in this order their pieces are fetched.
    pub(crate) place: Option<usize>,
}

impl Errand {
    /// The pieces to fetch for it: none while it waits for its turn.
    fn due(&self) -> impl Iterator<Item = (u32, usize)> {
        let place = self.place;
        let pieces = self.pieces.iter();
        pieces.filter_map(move |piece| Some((*piece, place?)))
    }
}

impl Errands {
    /// Whose turn it is reserved this piece with us.
    pub(crate) fn due(&self, piece: u32) -> bool {
        let due = |errand: &Errand| errand.place.is_some() && errand.pieces.contains(&piece);
        self.given.values().any(due)
    }

    /// The pieces to fetch, each with the best place of those that reserved it.
    pub(crate) fn places(&self) -> BTreeMap<u32, usize> {
        let mut places = BTreeMap::new();
        for (piece, place) in self.given.values().flat_map(Errand::due) {
            let best = places.entry(piece).or_insert(place);
            *best = place.min(*best);
        }
        places
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.links.remove(&conn);
        for errand in self.given.values_mut() {
            errand.conn = errand.conn.filter(|guest| *guest != conn);
        }
    }

    fn of(&self, conn: ConnId) -> Option<&Errand> {
        self.given.values().find(|errand| errand.conn == Some(conn))
    }
}

impl Swarm {
    /// A master lacks this piece, or it is reserved for a guest that lacks it as far as we know.
    pub(crate) fn awaited(&self, piece: u32) -> bool {
        let lacks = |guest: ConnId| {
            let guest = self.peers.get(&guest);
            guest.is_none_or(|guest| !guest.have.get(piece))
        };
        let reserved =
            |errand: &Errand| errand.pieces.contains(&piece) && errand.conn.is_none_or(lacks);
        self.master_lacks(piece) || self.aid.given.values().any(reserved)
    }

    /// A reserved piece is absent.
    pub(crate) fn errand_demand(&self) -> bool {
        let absent = |piece: &u32| !self.active.contains_key(piece);
        self.aid
            .given
            .values()
            .any(|errand| errand.due().any(|(piece, _)| absent(&piece)))
    }

    /// Pieces of a help that its guest does not have yet.
    pub(crate) fn errand_left(&self, key: HelpKey) -> usize {
        let Some(errand) = self.aid.given.get(&key) else {
            return 0;
        };
        let guest = errand.conn.and_then(|conn| self.peers.get(&conn));
        let lacks = |piece: &&u32| guest.is_none_or(|peer| !peer.have.get(**piece));
        errand.pieces.iter().filter(lacks).count()
    }

    /// Whether this guest hears of this piece: it is reserved for it, and within what may stand unsigned.
    pub(crate) fn guest_deserves(&self, conn: ConnId, piece: u32) -> bool {
        let (Some(errand), Some(peer)) = (self.aid.of(conn), self.peers.get(&conn)) else {
            return false;
        };
        let size = self
            .layout
            .map_or(0, |layout| u64::from(layout.piece_size(piece)));
        let promised = peer.up.total + self.pending_to(peer) + size;
        errand.pieces.contains(&piece) && promised <= errand.until
    }

    /// Bytes that stand announced to a peer, and were not sent.
    pub(crate) fn pending_to(&self, peer: &crate::peer::Peer) -> u64 {
        let Some(layout) = self.layout else { return 0 };
        let left = |(piece, told): (&u32, &crate::peer::Told)| {
            u64::from(layout.piece_size(*piece)).saturating_sub(told.served)
        };
        peer.told.iter().map(left).sum()
    }

    /// Bytes that stand announced to the guest of a help, and were not sent.
    pub(crate) fn pending_in(&self, key: HelpKey) -> u64 {
        let guest = self.aid.given.get(&key).and_then(|errand| errand.conn);
        let peer = guest.and_then(|conn| self.peers.get(&conn));
        peer.map_or(0, |peer| self.pending_to(peer))
    }

    /// A helper's piece that this connection, its slave's, has for us.
    pub(crate) fn relayable(&self, now: Timestamp, conn: ConnId) -> Option<u32> {
        let friend = self.aid.links.get(&conn)?;
        let peer = self.peers.get(&conn)?;
        let fits = |(piece, lender): (&u32, &FriendId)| {
            let absent = !self.active.contains_key(piece);
            let ours = lender == friend && absent && peer.offers(*piece, now);
            (ours && self.master_lacks(*piece)).then_some(*piece)
        };
        self.aid.lent.iter().find_map(fits)
    }

    /// Blocks of this piece are asked for, or had, of this friend's slave, to be handed on.
    pub(crate) fn relays(&self, friend: FriendId, piece: u32) -> bool {
        let active = self.active.get(&piece);
        active.is_some_and(|active| active.relays.values().any(|from| *from == friend))
    }

    /// The piece is lent to another than whom this connection belongs to.
    pub(crate) fn lent_elsewhere(&self, conn: ConnId, piece: u32) -> bool {
        let lender = self.aid.lent.get(&piece);
        lender.is_some_and(|friend| self.aid.links.get(&conn) != Some(friend))
    }

    /// Whose pieces come before whose.
    pub(crate) fn put_in_place(&mut self, key: HelpKey, place: Option<usize>) {
        let Some(errand) = self.aid.given.get_mut(&key) else {
            return;
        };
        if core::mem::replace(&mut errand.place, place) != place {
            self.friend_plan.built = None;
            self.friend_plan.queue.clear();
        }
    }

    /// Makes a connection the guest of a help: from now on it is only given to.
    //= spec/friends.md#arrive-master
    pub(crate) fn welcome(&mut self, desk: &mut Desk, key: HelpKey, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn).filter(|peer| !peer.closing) else {
            return;
        };
        let Some(errand) = self.aid.given.get_mut(&key) else {
            return;
        };
        errand.conn = Some(conn);
        let role = Role::Guest(key.0);
        if peer.role != role {
            peer.role = role;
            desk.order(conn, Order::Role(role));
            self.enter_role(desk, conn);
        }
    }

    /// Lets a guest go: what it was told of binds no longer.
    pub(crate) fn dismiss(&mut self, desk: &mut Desk, key: HelpKey) {
        let errand = self.aid.given.remove(&key);
        if let Some(conn) = errand.and_then(|errand| errand.conn) {
            self.close(desk, conn);
        }
    }

    /// Gives back what a helper had: we may fetch it ourselves.
    pub(crate) fn unlend(&mut self, friend: FriendId, pieces: impl IntoIterator<Item = u32>) {
        for piece in pieces {
            if self.aid.lent.get(&piece) == Some(&friend) {
                self.aid.lent.remove(&piece);
            }
        }
        self.master_plan.built = None;
        self.master_plan.queue.clear();
    }

    /// Bytes/s that go to the masters here.
    fn master_rate(&self) -> u64 {
        let masters = self.master_conns.iter().filter_map(|c| self.peers.get(c));
        masters.map(|master| master.up.rate as u64).sum()
    }

    /// Pieces that we hold, that a master lacks, and that no helper has: what waits for our line.
    fn waiting_for_masters(&self) -> impl Iterator<Item = u32> {
        let waits = |(piece, active): &(&u32, &Active)| {
            let held = active.stage == Stage::Held;
            held && self.master_lacks(**piece) && !self.aid.lent.contains_key(*piece)
        };
        self.active.iter().filter(waits).map(|(piece, _)| *piece)
    }

    /// Pieces that go out to the masters in so many seconds.
    fn soon(&self, seconds: u64) -> usize {
        let ahead = help::own_ahead(self.master_rate(), seconds, self.permit());
        usize::try_from(ahead / self.permit().max(1)).unwrap_or(usize::MAX)
    }

    /// While helpers are at work, we hold as much for the masters as our line carries soon: the rest is for them.
    pub(crate) fn sated(&self) -> bool {
        !self.aid.lent.is_empty() && self.waiting_for_masters().count() >= self.soon(help::OWN_S)
    }

    /// Of what we hold for the masters, what our line does not carry in so many seconds, and none of which went out yet: a
    /// helper may bring that sooner.
    pub(crate) fn spare(&self, key: u64, seconds: u64) -> Vec<u32> {
        let waiting = self.waiting_for_masters().count();
        let mut fresh: Vec<u32> = self.waiting_for_masters().collect();
        fresh.retain(|piece| self.untouched(*piece));
        fresh.sort_by_cached_key(|piece| forward::weight(&self.info_hash, *piece, key));
        fresh.truncate(waiting.saturating_sub(self.soon(seconds)));
        fresh
    }

    fn untouched(&self, piece: u32) -> bool {
        let masters = self.master_conns.iter().filter_map(|c| self.peers.get(c));
        masters
            .filter_map(|master| master.told.get(&piece))
            .all(|told| told.served == 0)
    }

    /// Pieces that may be lent, best first: a master lacks them, nobody is on them, and the swarm has them. Rarest first,
    /// among equals by rendezvous with `key`, so that each helper begins elsewhere.
    //= spec/friends.md#reserve-disjoint
    pub(crate) fn lendable(&self, key: u64) -> Vec<u32> {
        let free = |piece: &u32| {
            let facts = self.avail.facts(*piece);
            self.master_lacks(*piece)
                && !self.active.contains_key(piece)
                && !self.aid.lent.contains_key(piece)
                && facts.seeds + facts.holders > 0
        };
        let rank = |piece: &u32| {
            let facts = self.avail.facts(*piece);
            let lot = forward::weight(&self.info_hash, *piece, key);
            pick::rarest_first(facts.seeds + facts.holders, lot)
        };
        let mut pieces: Vec<u32> = (0..self.pieces()).filter(free).collect();
        pieces.sort_by_cached_key(rank);
        pieces
    }

    /// Who named this address to us.
    pub(crate) fn named_by(&self, addr: SocketAddr) -> Option<PeerSource> {
        self.book.get(&addr).map(|known| known.source)
    }

    /// We hold this piece.
    pub(crate) fn holds(&self, piece: u32) -> bool {
        self.active
            .get(&piece)
            .is_some_and(|active| active.stage == Stage::Held)
    }
}
