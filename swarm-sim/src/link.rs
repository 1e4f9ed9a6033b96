//! Connections: two ends each, what they said to each other, and how bytes get from one to the other.

use std::collections::VecDeque;

use crate::bits::{self, Bits};
use crate::events::{Block, Event, Msg, SECOND, Time};
use crate::limiter::Outgoing;
use crate::peer::Flow;
use crate::plan::Kind;
use crate::world::World;

/// Bytes under way to one node that its line has not taken in yet: a window of TCP.
const WINDOW: u64 = 256 << 10;

/// One end of a connection. The other end of end `e` is `e ^ 1`.
#[derive(Debug)]
pub(crate) struct End {
    /// Whose.
    pub(crate) node: u32,
    pub(crate) swarm: u32,
    pub(crate) open: bool,
    /// Bytes in a block that this end asks for.
    pub(crate) unit: u64,
    /// We let them ask.
    pub(crate) unchokes: bool,
    /// They let us ask, as far as we heard.
    pub(crate) unchoked: bool,
    /// We said that we want something of them.
    pub(crate) interested: bool,
    /// They want something of us, as far as we heard.
    pub(crate) wanted: bool,
    /// What they showed us piece by piece; `None`: they are an ordinary peer, and show what they have.
    pub(crate) shown: Option<Bits>,
    /// What we ask of them.
    pub(crate) flow: Flow,
    /// What they ask of us.
    pub(crate) requests: VecDeque<Block>,
    /// What goes out through a limiter.
    pub(crate) out: Outgoing,
    /// In its line's turn.
    pub(crate) queued: bool,
    /// Sent to them, and not arrived.
    pub(crate) flying: u64,
    /// Bytes from them.
    pub(crate) got: u64,
    /// Bytes from and to them since the last choking round.
    pub(crate) got_round: u64,
    pub(crate) sent_round: u64,
    /// Bytes to them since their slot began, and when that was.
    pub(crate) sent_slot: u64,
    pub(crate) slot_since: Time,
    /// They have the optimistic slot, and when they last got it.
    pub(crate) optimistic: bool,
    pub(crate) optimistic_since: Time,
    /// A repeater's own number of this connection.
    pub(crate) conn: u32,
    /// Until when a crowd's line to them is busy.
    pub(crate) busy: Time,
}

impl End {
    fn new(node: u32, swarm: u32, unit: u64, now: Time) -> Self {
        Self {
            node,
            swarm,
            open: true,
            unit,
            unchokes: false,
            unchoked: false,
            interested: false,
            wanted: false,
            shown: None,
            flow: Flow::new(now),
            requests: VecDeque::new(),
            out: Outgoing::default(),
            queued: false,
            flying: 0,
            got: 0,
            got_round: 0,
            sent_round: 0,
            sent_slot: 0,
            slot_since: 0,
            optimistic: false,
            optimistic_since: 0,
            conn: 0,
            busy: 0,
        }
    }
}

impl World {
    /// The node at the other end.
    pub(crate) fn other(&self, end: u32) -> u32 {
        self.ends[(end ^ 1) as usize].node
    }

    /// A connection between two nodes of a swarm. The first one dialled.
    pub(crate) fn connect(&mut self, from: u32, to: u32, swarm: u32) {
        let first = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let now = self.events.now;
        for node in [from, to] {
            let unit = if self.is_repeater(node) {
                u64::from(bt_wire::layout::BLOCK)
            } else {
                self.swarms[swarm as usize].block
            };
            self.ends.push(End::new(node, swarm, unit, now));
        }
        for (end, node) in [(first, from), (first + 1, to)] {
            if !self.is_repeater(node) {
                self.peers[node as usize].conns.push(end);
            }
        }
        for (end, node) in [(first, from), (first + 1, to)] {
            if self.is_repeater(node) {
                self.repeater_connected(node, end, end == first + 1);
            } else {
                self.met(end);
            }
        }
        if let Some(mean) = self.connection_s {
            let life = self.rng.exponential(mean) * SECOND as f64;
            self.events.after(life as Time, Event::Break(first));
        }
    }

    /// Whether the two are connected in that swarm.
    pub(crate) fn connected(&self, peer: u32, other: u32) -> bool {
        let conns = &self.peers[peer as usize].conns;
        conns.iter().any(|end| self.other(*end) == other)
    }

    /// Ends a connection, both ends of it.
    pub(crate) fn disconnect(&mut self, end: u32, by: u32) {
        for end in [end, end ^ 1] {
            let at = &mut self.ends[end as usize];
            if !at.open {
                return;
            }
            at.open = false;
            let node = at.node;
            if self.is_repeater(node) {
                self.repeater_disconnected(node, end, by == node);
            } else {
                self.parted(end);
            }
        }
    }

    /// Says something to the other end.
    pub(crate) fn say(&mut self, end: u32, msg: Msg) {
        let node = self.ends[end as usize].node;
        if !self.is_repeater(node) && self.peers[node as usize].limiter.is_some() {
            return self.say_limited(end, msg);
        }
        self.events.after(self.latency, Event::Heard(end ^ 1, msg));
    }

    /// Bytes in a block that `asker` asks for.
    pub(crate) fn block_len(&self, asker: u32, block: Block) -> u64 {
        let end = &self.ends[asker as usize];
        let piece = self.swarms[end.swarm as usize].piece_len(block.piece());
        piece
            .saturating_sub(u64::from(block.index()) * end.unit)
            .min(end.unit)
    }

    /// Bytes arrive at a node after they left the other's line: at once, or in their turn on its own line.
    pub(crate) fn deliver(&mut self, from: u32, left: Time, bytes: u64, msg: Msg) {
        let to = self.other(from);
        let arrives = left + self.latency;
        let (rate, busy) = if self.is_repeater(to) {
            let repeater = self.repeater_mut(to);
            (repeater.down_rate, &mut repeater.down_busy)
        } else {
            let peer = &mut self.peers[to as usize];
            (peer.down_rate, &mut peer.down_busy)
        };
        let at = match rate {
            0 => arrives,
            rate => {
                *busy = arrives.max(*busy) + bytes * SECOND / rate;
                *busy
            }
        };
        self.ends[from as usize].flying += bytes;
        self.events.at(at, Event::Heard(from ^ 1, msg));
    }

    /// Bytes arrived: their sender may go on.
    pub(crate) fn landed(&mut self, end: u32, bytes: u64) {
        let sender = end ^ 1;
        let at = &mut self.ends[sender as usize];
        at.flying = at.flying.saturating_sub(bytes);
        let node = at.node;
        if !self.is_repeater(node) {
            self.queue_up(sender);
        }
    }

    /// An end with something to send gets in its line's turn.
    pub(crate) fn queue_up(&mut self, end: u32) {
        let at = &mut self.ends[end as usize];
        if at.queued || !at.open || at.requests.is_empty() || at.flying >= WINDOW.max(2 * at.unit) {
            return;
        }
        let node = at.node;
        if self.peers[node as usize].kind == Kind::Crowd {
            return self.crowd_gives(end);
        }
        let at = &mut self.ends[end as usize];
        if self.peers[node as usize].limiter.is_some() {
            return self.push_out(end);
        }
        at.queued = true;
        self.peers[node as usize].up.turn.push_back(end);
        self.send_next(node);
    }

    /// A crowd gives each connection a line of its own, with one block on it and one waiting.
    fn crowd_gives(&mut self, end: u32) {
        let now = self.events.now;
        loop {
            let at = &mut self.ends[end as usize];
            if at.flying >= 2 * at.unit {
                return;
            }
            let (node, busy) = (at.node as usize, at.busy.max(now));
            let Some(block) = at.requests.pop_front() else {
                return;
            };
            let bytes = self.block_len(end ^ 1, block);
            let peer = &mut self.peers[node];
            peer.sent += bytes;
            let left = busy + bytes * SECOND / peer.up.rate.max(1);
            self.ends[end as usize].busy = left;
            self.deliver(end, left, bytes, Msg::Data(block));
        }
    }

    /// The line's next block, if it is free.
    pub(crate) fn send_next(&mut self, node: u32) {
        if self.peers[node as usize].up.sending.is_some() {
            return;
        }
        while let Some(end) = self.peers[node as usize].up.turn.pop_front() {
            let at = &mut self.ends[end as usize];
            at.queued = false;
            if !at.open {
                continue;
            }
            let Some(block) = at.requests.pop_front() else {
                continue;
            };
            let bytes = self.block_len(end ^ 1, block);
            let up = &mut self.peers[node as usize].up;
            up.sending = Some((end, block));
            let owed = core::mem::take(&mut up.owed) / 1_000;
            let wire = bytes + bytes * self.overhead / 1_000 + owed;
            let rate = up.rate.max(1);
            self.events.after(wire * SECOND / rate, Event::Sent(node));
            return;
        }
    }

    /// The line has sent its block.
    pub(crate) fn sent(&mut self, node: u32) {
        let Some((end, block)) = self.peers[node as usize].up.sending.take() else {
            return;
        };
        if self.ends[end as usize].open {
            let bytes = self.block_len(end ^ 1, block);
            let poison = self.peers[node as usize].kind == Kind::Poisoner;
            let msg = if poison {
                Msg::Poison(block)
            } else {
                Msg::Data(block)
            };
            self.deliver(end, self.events.now, bytes, msg);
            self.peers[node as usize].sent += bytes;
            let at = &mut self.ends[end as usize];
            at.sent_round += bytes;
            at.sent_slot += bytes;
            self.queue_up(end);
        }
        self.send_next(node);
    }

    /// What the other end shows to this one.
    pub(crate) fn shows(&self, end: u32, piece: u32) -> bool {
        match &self.ends[end as usize].shown {
            Some(shown) => bits::get(shown, piece),
            None => bits::get(&self.peers[self.other(end) as usize].have, piece),
        }
    }
}
