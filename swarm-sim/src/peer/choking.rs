//! Whom a peer lets ask (libtorrent 2.0 `choker.cpp`, `session_impl.cpp`): who gave most goes first; a seed lets those
//! stay to whom it sends fastest until they had 20 pieces and a minute. One slot of five is optimistic, for whoever waited
//! longest.

use core::cmp::Reverse;

use crate::events::{Event, Msg, SECOND, Time};
use crate::plan::Kind;
use crate::world::World;

/// Pieces after which a seed lets another have the slot (`seeding_piece_quota`), and the least time of a slot.
const QUOTA: u64 = 20;
const LEAST: Time = 60 * SECOND;
/// One slot of so many is optimistic.
const OPTIMISTIC: u32 = 5;

impl World {
    /// The other end wants something, or nothing any more.
    pub(crate) fn is_wanted(&mut self, end: u32, yes: bool) {
        let at = &mut self.ends[end as usize];
        at.wanted = yes;
        let node = at.node;
        let peer = &self.peers[node as usize];
        if !peer.gives() {
            return;
        }
        if yes {
            if at.unchokes {
                self.say(end, Msg::Unchoke);
            } else if peer.unchoked < peer.slots {
                self.unchoke(end);
            }
        } else if at.unchokes {
            if core::mem::take(&mut at.optimistic) {
                self.peers[node as usize].next_optimistic = self.events.now;
            }
            self.choke(end);
            self.round_soon(node);
        }
    }

    fn unchoke(&mut self, end: u32) {
        let now = self.events.now;
        let at = &mut self.ends[end as usize];
        if core::mem::replace(&mut at.unchokes, true) {
            return;
        }
        (at.slot_since, at.sent_slot) = (now, 0);
        self.peers[at.node as usize].unchoked += 1;
        self.say(end, Msg::Unchoke);
    }

    /// Chokes: what waits is rejected, the block on the line still goes.
    fn choke(&mut self, end: u32) {
        let at = &mut self.ends[end as usize];
        if !core::mem::take(&mut at.unchokes) {
            return;
        }
        at.optimistic = false;
        let node = at.node as usize;
        let waiting = core::mem::take(&mut at.requests);
        self.peers[node].unchoked -= 1;
        self.say(end, Msg::Choke);
        for block in waiting {
            if self.allowed_anyway(end, block) {
                self.ends[end as usize].requests.push_back(block);
            } else {
                self.say(end, Msg::Reject(block));
            }
        }
    }

    /// Brings the next round forward to within a second.
    pub(crate) fn round_soon(&mut self, node: u32) {
        let peer = &mut self.peers[node as usize];
        let soon = self.events.now + SECOND;
        if peer.here && peer.kind != Kind::Crowd && peer.next_round > soon {
            peer.next_round = soon;
            self.events.at(soon, Event::Rechoke(node));
        }
    }

    /// A choking round, if its time has come.
    pub(crate) fn rechoke(&mut self, node: u32) {
        let now = self.events.now;
        let peer = &mut self.peers[node as usize];
        if !peer.here || !peer.gives() || now < peer.next_round {
            return;
        }
        peer.next_round = now + peer.habits.round;
        let (next, slots) = (peer.next_round, peer.slots);
        self.events.at(next, Event::Rechoke(node));
        let optimistic = (slots / OPTIMISTIC).max(1);
        self.regular(node, slots.saturating_sub(optimistic) as usize);
        let peer = &mut self.peers[node as usize];
        if now >= peer.next_optimistic {
            peer.next_optimistic = now + peer.habits.optimistic;
            self.optimistic(node, optimistic as usize);
        }
    }

    fn regular(&mut self, node: u32, slots: usize) {
        let now = self.events.now;
        let swarm = self.peers[node as usize].swarm as usize;
        let quota = QUOTA * self.swarms[swarm].piece;
        let mut ranked = Vec::new();
        let conns = core::mem::take(&mut self.peers[node as usize].conns);
        for &end in &conns {
            let at = &mut self.ends[end as usize];
            let (got, sent) = (
                core::mem::take(&mut at.got_round),
                core::mem::take(&mut at.sent_round),
            );
            if !at.wanted {
                if at.unchokes {
                    self.choke(end);
                }
                continue;
            }
            let had_enough =
                at.unchokes && at.sent_slot > quota && now.saturating_sub(at.slot_since) > LEAST;
            let sent = if at.unchokes { sent } else { 0 };
            ranked.push((Reverse(got), had_enough, Reverse(sent), at.slot_since, end));
        }
        self.peers[node as usize].conns = conns;
        ranked.sort_unstable();
        for (place, &(_, _, _, _, end)) in ranked.iter().enumerate() {
            if place < slots {
                if core::mem::take(&mut self.ends[end as usize].optimistic) {
                    self.peers[node as usize].next_optimistic = now;
                }
                self.unchoke(end);
            } else if !self.ends[end as usize].optimistic {
                self.choke(end);
            }
        }
    }

    fn optimistic(&mut self, node: u32, slots: usize) {
        let now = self.events.now;
        let mut waiting: Vec<(Time, u64, u32)> = Vec::new();
        let mut had: Vec<u32> = Vec::new();
        for &end in &self.peers[node as usize].conns {
            let at = &self.ends[end as usize];
            if at.optimistic {
                had.push(end);
            }
            if at.wanted && (!at.unchokes || at.optimistic) {
                waiting.push((at.optimistic_since, self.rng.next(), end));
            }
        }
        waiting.sort_unstable();
        for &(_, _, end) in waiting.iter().take(slots) {
            had.retain(|other| *other != end);
            let at = &mut self.ends[end as usize];
            (at.optimistic, at.optimistic_since) = (true, now);
            self.unchoke(end);
        }
        for end in had {
            self.choke(end);
        }
    }
}
