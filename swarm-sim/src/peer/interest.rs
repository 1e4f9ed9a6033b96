//! Meeting, parting, and who wants something of whom.

use crate::bits;
use crate::events::Msg;
use crate::limiter::Outgoing;
use crate::peer::{GOT, OPEN};
use crate::plan::Kind;
use crate::world::World;

impl World {
    /// A peer's end of a new connection to an ordinary peer learns what the other shows. What a repeater shows comes
    /// by messages.
    pub(crate) fn met(&mut self, end: u32) {
        let (node, other) = (self.ends[end as usize].node, self.other(end));
        if self.is_repeater(other) {
            let pieces = self.swarms[self.ends[end as usize].swarm as usize].pieces;
            self.ends[end as usize].shown = Some(bits::empty(pieces));
        } else {
            self.count_copies(node, other, true);
        }
        if self.peers[node as usize].kind == Kind::Tease {
            self.ends[end as usize].interested = true;
            self.say(end, Msg::Interested);
        } else {
            self.look(end);
        }
    }

    fn count_copies(&mut self, node: u32, other: u32, more: bool) {
        let (node, other) = (node as usize, other as usize);
        let have = core::mem::take(&mut self.peers[other].have);
        let copies = &mut self.peers[node].copies;
        for piece in bits::ones(&have) {
            let count = &mut copies[piece as usize];
            *count = if more {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
        }
        self.peers[other].have = have;
    }

    /// A peer's end of a connection that is over: nothing of it stays.
    pub(crate) fn parted(&mut self, end: u32) {
        let (node, other) = (self.ends[end as usize].node, self.other(end));
        self.release(end, true);
        if let Some(shown) = self.ends[end as usize].shown.take() {
            for piece in bits::ones(&shown) {
                let count = &mut self.peers[node as usize].copies[piece as usize];
                *count = count.saturating_sub(1);
            }
        } else {
            self.count_copies(node, other, false);
        }
        let at = &mut self.ends[end as usize];
        at.requests.clear();
        at.out = Outgoing::default();
        let unchoked = core::mem::take(&mut at.unchokes);
        let peer = &mut self.peers[node as usize];
        peer.unchoked -= u32::from(unchoked);
        peer.conns.retain(|conn| *conn != end);
        if unchoked {
            self.round_soon(node);
        }
    }

    /// Says that we are interested where that has become so.
    pub(crate) fn look(&mut self, end: u32) {
        let node = self.ends[end as usize].node as usize;
        if self.ends[end as usize].interested || !self.peers[node].wants() {
            return;
        }
        if self.useful(end) {
            self.become_interested(end);
        }
    }

    fn useful(&self, end: u32) -> bool {
        let mine = &self.peers[self.ends[end as usize].node as usize].have;
        match &self.ends[end as usize].shown {
            Some(shown) => bits::offers(shown, mine),
            None => bits::offers(&self.peers[self.other(end) as usize].have, mine),
        }
    }

    fn become_interested(&mut self, end: u32) {
        self.ends[end as usize].interested = true;
        self.say(end, Msg::Interested);
        self.request_more(end);
    }

    /// Takes interest back where there is nothing to want any more.
    fn look_away(&mut self, end: u32) {
        let wants = self.peers[self.ends[end as usize].node as usize].wants();
        if self.ends[end as usize].interested && !(wants && self.useful(end)) {
            self.ends[end as usize].interested = false;
            self.say(end, Msg::NotInterested);
        }
    }

    /// The other end, a repeater, shows a piece.
    pub(crate) fn hears_have(&mut self, end: u32, piece: u32) {
        let at = &mut self.ends[end as usize];
        let Some(shown) = &mut at.shown else { return };
        if !bits::set(shown, piece, true) {
            return;
        }
        let node = at.node as usize;
        self.peers[node].copies[piece as usize] += 1;
        // libtorrent: a HAVE makes it ask only where it wanted nothing before (`incoming_have`).
        let peer = &self.peers[node];
        if peer.wants() && peer.lacks(piece) && !self.ends[end as usize].interested {
            self.become_interested(end);
        }
    }

    /// The other end takes a piece back (BEP 54).
    pub(crate) fn hears_dont_have(&mut self, end: u32, piece: u32) {
        let at = &mut self.ends[end as usize];
        let node = at.node as usize;
        let Some(shown) = &mut at.shown else { return };
        if self.peers[node].habits.donthave && bits::set(shown, piece, false) {
            let count = &mut self.peers[node].copies[piece as usize];
            *count = count.saturating_sub(1);
        }
    }

    /// A whole and good piece: everybody hears of it, and what we wanted is looked at anew.
    pub(crate) fn gained(&mut self, node: u32, piece: u32) {
        let swarm = self.peers[node as usize].swarm as usize;
        let peer = &mut self.peers[node as usize];
        bits::set(&mut peer.have, piece, true);
        peer.count += 1;
        if peer.count == self.swarms[swarm].pieces {
            peer.done = Some(self.events.now);
            self.completed(node);
        }
        let conns = core::mem::take(&mut self.peers[node as usize].conns);
        for &end in &conns {
            self.tell(end, piece);
        }
        for &end in &conns {
            if self.ends[end as usize].open && self.ends[end as usize].interested {
                self.look_away(end);
            }
        }
        // Nobody parts while they are told.
        self.peers[node as usize].conns = conns;
    }

    fn tell(&mut self, end: u32, piece: u32) {
        let other = self.other(end);
        if self.is_repeater(other) {
            return self.say(end, Msg::Have(piece));
        }
        let peer = &mut self.peers[other as usize];
        peer.copies[piece as usize] += 1;
        if peer.wants() && peer.lacks(piece) && !self.ends[(end ^ 1) as usize].interested {
            self.become_interested(end ^ 1);
        }
    }

    /// Blocks that this end was to bring are open to others again; `all`: those under way, too.
    pub(crate) fn release(&mut self, end: u32, all: bool) {
        let flow = &mut self.ends[end as usize].flow;
        let mut blocks = core::mem::take(&mut flow.reserved);
        if all {
            blocks.append(&mut flow.asked);
        }
        let node = self.ends[end as usize].node as usize;
        for block in blocks {
            self.reopen(node, end, block);
        }
    }

    /// One block is open again, unless it is here or another brings it.
    pub(crate) fn reopen(&mut self, node: usize, end: u32, block: crate::events::Block) {
        let peer = &mut self.peers[node];
        let Some(at) = peer.partial_of(block.piece()) else {
            return;
        };
        let part = &mut peer.partial[at];
        let Some(owner) = part.blocks.get_mut(block.index() as usize) else {
            return;
        };
        if *owner != end || *owner == GOT {
            return;
        }
        *owner = OPEN;
        part.open += 1;
        bits::set(&mut peer.taken, block.piece(), false);
        let part = &peer.partial[at];
        if part.open == part.missing && part.open as usize == part.blocks.len() {
            peer.partial.swap_remove(at);
        }
    }
}
