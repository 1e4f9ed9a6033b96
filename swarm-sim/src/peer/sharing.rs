//! Requests: when they are made, watched and taken back (libtorrent 2.0 `request_blocks.cpp`, `peer_connection.cpp`).

use crate::events::{Block, Event, Msg, SECOND};
use crate::peer::{GOT, OPEN, Partial};
use crate::world::World;

/// Pieces that a rate brings within so many seconds are taken whole, several in a row (`whole_pieces_threshold`).
const WHOLE_SECONDS: u64 = 20;
const MOST_IN_A_ROW: u64 = 8 << 20;
/// Nothing came for so long: snubbed (`piece_timeout`).
const SNUB: u64 = 20 * SECOND;
/// An idle end looks again for a block that another was asked for so often.
const LOOK_AGAIN: u64 = 5 * SECOND;

impl World {
    /// Asks for more where the queue has room.
    pub(crate) fn request_more(&mut self, end: u32) {
        let now = self.events.now;
        let at = &mut self.ends[end as usize];
        let (node, unit) = (at.node as usize, at.unit);
        if !at.open || !at.interested || !self.peers[node].wants() {
            return;
        }
        let depth = at.flow.depth(now, unit);
        let under_way = at.flow.asked.len() + at.flow.reserved.len();
        let room = (depth as usize).saturating_sub(under_way);
        if room > 0 {
            self.choose(end, room);
        }
        self.send_requests(end);
        self.watch(end);
    }

    fn choose(&mut self, end: u32, room: usize) {
        let now = self.events.now;
        let at = &mut self.ends[end as usize];
        let (node, swarm) = (at.node as usize, at.swarm as usize);
        let piece_len = self.swarms[swarm].piece;
        let in_row = (at.flow.rate(now) * WHOLE_SECONDS).min(MOST_IN_A_ROW) / piece_len;
        let idle = at.flow.is_empty();
        let contiguous = in_row * u64::from(self.swarms[swarm].blocks);
        let mut chosen = core::mem::take(&mut self.scratch);
        chosen.clear();
        self.pick(end, room, contiguous as usize, &mut chosen);
        let mut left = room;
        for &block in &chosen {
            if contiguous == 0 && left == 0 {
                break;
            }
            self.take(node, end, block);
            self.ends[end as usize].flow.reserved.push_back(block);
            left = left.saturating_sub(1);
        }
        self.scratch = chosen;
        let at = &mut self.ends[end as usize];
        at.flow.endgame = left > 0 && at.unchoked;
        let peer = &self.peers[node];
        // Every missing piece is under way already.
        let strict = self.swarms[swarm].pieces - peer.count
            <= u32::try_from(peer.partial.len()).unwrap_or(u32::MAX);
        if left > 0
            && idle
            && strict
            && self.ends[end as usize].unchoked
            && self.ends[end as usize].flow.reserved.is_empty()
        {
            self.double(end);
        }
    }

    /// Asks for one block that another was asked for, too.
    fn double(&mut self, end: u32) {
        let Some(block) = self.pick_busy(end) else {
            return;
        };
        let node = self.ends[end as usize].node as usize;
        let peer = &mut self.peers[node];
        if let Some(at) = peer.partial_of(block.piece()) {
            peer.partial[at].doubled = true;
        }
        self.ends[end as usize].flow.reserved.push_back(block);
    }

    /// A block is this end's to bring.
    fn take(&mut self, node: usize, end: u32, block: Block) {
        let (piece, index) = (block.piece(), block.index() as usize);
        let swarm = self.peers[node].swarm as usize;
        let blocks = self.swarms[swarm].blocks_in(piece);
        let peer = &mut self.peers[node];
        let at = peer.partial_of(piece).unwrap_or_else(|| {
            let mut states = self.spare.pop().unwrap_or_default();
            states.clear();
            states.resize(blocks as usize, OPEN);
            peer.partial.push(Partial {
                piece,
                blocks: states,
                open: blocks,
                missing: blocks,
                givers: Vec::new(),
                poisoned: false,
                doubled: false,
            });
            peer.partial.len() - 1
        });
        let part = &mut peer.partial[at];
        if let Some(owner) = part.blocks.get_mut(index).filter(|owner| **owner == OPEN) {
            *owner = end;
            part.open -= 1;
            if part.open == 0 {
                crate::bits::set(&mut peer.taken, piece, true);
            }
        }
    }

    fn send_requests(&mut self, end: u32) {
        let now = self.events.now;
        let flow = &mut self.ends[end as usize].flow;
        let room = (flow.desired as usize).saturating_sub(flow.asked.len());
        for _ in 0..room {
            let flow = &mut self.ends[end as usize].flow;
            let Some(block) = flow.reserved.pop_front() else {
                return;
            };
            if flow.asked.is_empty() {
                flow.last_block = now;
            }
            flow.last_request = now;
            flow.asked.push_back(block);
            self.say(end, Msg::Request(block));
        }
    }

    /// Books the looks that a waiting or an idle end needs.
    fn watch(&mut self, end: u32) {
        let at = &mut self.ends[end as usize];
        if !at.flow.asked.is_empty() {
            if !core::mem::replace(&mut at.flow.watched, true) {
                self.events.after(SNUB, Event::Watch(end));
            }
        } else if at.interested
            && at.flow.endgame
            && !core::mem::replace(&mut at.flow.idle_booked, true)
        {
            self.events.after(LOOK_AGAIN, Event::Idle(end));
        }
    }

    /// Snubs an end whose blocks do not come: what it was to bring is open to others, and one block is asked for at a
    /// time.
    pub(crate) fn watched(&mut self, end: u32) {
        let now = self.events.now;
        let at = &mut self.ends[end as usize];
        at.flow.watched = false;
        if !at.open || at.flow.asked.is_empty() {
            return;
        }
        let due = at.flow.last_block + SNUB;
        if due > now {
            at.flow.watched = true;
            return self.events.at(due, Event::Watch(end));
        }
        at.flow.snub();
        let node = at.node as usize;
        let waiting: Vec<Block> = at.flow.asked.iter().copied().collect();
        self.release(end, false);
        for block in waiting {
            self.reopen(node, end, block);
        }
        let flow = &mut self.ends[end as usize].flow;
        flow.watched = true;
        flow.last_block = now;
        self.events.after(SNUB, Event::Watch(end));
    }

    /// An end that had nothing to ask for looks again.
    pub(crate) fn idle_look(&mut self, end: u32) {
        let at = &mut self.ends[end as usize];
        at.flow.idle_booked = false;
        if at.open && at.interested && at.unchoked && at.flow.is_empty() && at.flow.endgame {
            at.flow.last_request = self.events.now;
            self.request_more(end);
        }
    }

    /// The other end answers a request by nothing.
    pub(crate) fn rejected(&mut self, end: u32, block: Block) {
        let at = &mut self.ends[end as usize];
        let node = at.node as usize;
        let Some(place) = at.flow.asked.iter().position(|asked| *asked == block) else {
            return;
        };
        at.flow.asked.remove(place);
        self.reopen(node, end, block);
        let at = &self.ends[end as usize];
        if at.unchoked && at.interested && at.flow.reserved.is_empty() && at.flow.asked.len() < 2 {
            self.request_more(end);
        }
    }

    /// A request of the other end: queued where it may ask, rejected where not.
    pub(crate) fn asked(&mut self, end: u32, block: Block) {
        let at = &self.ends[end as usize];
        let peer = &self.peers[at.node as usize];
        let holds = crate::bits::get(&peer.have, block.piece());
        if !peer.gives() {
            return;
        }
        let may = at.unchokes || self.allowed_anyway(end, block);
        if !may || !holds || at.requests.len() >= peer.habits.reqq as usize {
            return self.say(end, Msg::Reject(block));
        }
        self.ends[end as usize].requests.push_back(block);
        self.queue_up(end);
    }

    /// Whether the other end may ask for this block though it is choked.
    pub(crate) fn allowed_anyway(&self, end: u32, block: Block) -> bool {
        let other = self.other(end);
        match self.peers.get(other as usize) {
            Some(peer) => peer.allowed.contains(&block.piece()),
            None => {
                let swarm = self.ends[end as usize].swarm;
                self.allowed(other, swarm).contains(&block.piece())
            }
        }
    }

    /// The other end takes a request back: answered by a reject, if by nothing else (BEP 6).
    pub(crate) fn cancelled(&mut self, end: u32, block: Block) {
        let requests = &mut self.ends[end as usize].requests;
        if let Some(place) = requests.iter().position(|asked| *asked == block) {
            requests.remove(place);
            self.say(end, Msg::Reject(block));
        }
    }

    /// Takes back what other ends of this node were asked for of a block that is here.
    pub(crate) fn cancel_elsewhere(&mut self, node: usize, end: u32, block: Block) {
        let others: Vec<u32> = self.peers[node].conns.clone();
        for other in others.into_iter().filter(|other| *other != end) {
            let flow = &mut self.ends[other as usize].flow;
            flow.reserved.retain(|reserved| *reserved != block);
            if flow.asked.contains(&block) {
                self.say(other, Msg::Cancel(block));
            }
        }
    }
}

/// Whether a block of a piece is here.
pub(crate) fn is_here(part: &Partial, index: u32) -> bool {
    part.blocks
        .get(index as usize)
        .is_none_or(|owner| *owner == GOT)
}
