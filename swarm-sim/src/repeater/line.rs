//! What a connection of a repeater has to say and to give goes out, as the bucket tree allows.

use bt_wire::extension::LtDontHave;
use bt_wire::layout::BLOCK;
use bt_wire::message::{BlockRef, Message, PIECE_HEADER};
use swarm_core::io::{ConnId, Input, Note};
use swarm_core::time::Timestamp;

use crate::events::{Block, Event, Msg, SECOND};
use crate::world::World;

/// Most bytes asked of the bucket tree at once.
const MOST_ASKED: u64 = 256 << 10;

impl World {
    /// Sends what a connection has to send, and takes the facts that are due.
    pub(crate) fn look_at(&mut self, node: u32, id: u32) {
        let now = self.timestamp();
        let repeater = self.repeater_mut(node);
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return;
        };
        conn.dirty = false;
        let end = conn.end;
        loop {
            let repeater = self.repeater_mut(node);
            let Some(conn) = repeater.conns[id as usize].as_mut() else {
                return;
            };
            while conn.session.poll_event().is_some() {}
            match conn.session.poll_message(now) {
                Some(message) => self.speak(end, &message),
                None => break,
            }
        }
        while self.send_block(node, id) {}
        self.take_facts(node, id, now);
    }

    fn take_facts(&mut self, node: u32, id: u32, now: Timestamp) {
        let repeater = self.repeater_mut(node);
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return;
        };
        let due = conn.session.facts_due(now);
        if !conn.facts.is_empty() || due.is_some_and(|at| at <= now) {
            let mut facts = core::mem::take(&mut conn.facts);
            facts.extend(conn.session.take_facts());
            repeater
                .inputs
                .push_back(Input::Conn(ConnId(id.into()), facts));
        }
        let Some(conn) = self.repeater(node).conns[id as usize].as_ref() else {
            return;
        };
        let next = [conn.session.facts_due(now), conn.session.poll_timeout()];
        if let Some(at) = next.into_iter().flatten().min() {
            self.book(node, id, at.0);
        }
    }

    fn speak(&mut self, end: u32, message: &Message) {
        let msg = match message {
            Message::Choke => Msg::Choke,
            Message::Unchoke => Msg::Unchoke,
            Message::Interested => Msg::Interested,
            Message::NotInterested => Msg::NotInterested,
            Message::Have(piece) => Msg::Have(*piece),
            Message::Request(block) => Msg::Request(sixteen(block)),
            Message::Cancel(block) => Msg::Cancel(sixteen(block)),
            Message::Reject(block) => Msg::Reject(self.as_asked(end ^ 1, block)),
            Message::Extended { payload, .. } => match LtDontHave::parse(payload) {
                Some(LtDontHave { piece }) => Msg::DontHave(piece),
                None => return,
            },
            // What is said first was heard when the connection began.
            Message::KeepAlive
            | Message::Bitfield(_)
            | Message::HaveAll
            | Message::HaveNone
            | Message::Piece { .. }
            | Message::Port(_)
            | Message::Suggest(_)
            | Message::AllowedFast(_)
            | Message::Unknown { .. } => return,
        };
        self.say(end, msg);
    }

    /// The block in the length that its asker uses.
    fn as_asked(&self, asker: u32, block: &BlockRef) -> Block {
        let unit = self.ends[asker as usize].unit;
        let index = u64::from(block.begin) / unit;
        Block::new(block.piece, u32::try_from(index).unwrap_or(0))
    }

    /// Sends one block if there is one and the tree grants it.
    fn send_block(&mut self, node: u32, id: u32) -> bool {
        let now = self.timestamp();
        let repeater = self.repeater_mut(node);
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return false;
        };
        let Some(length) = conn.session.next_block_len() else {
            // Nothing is queued: what was granted for requests that were taken back or choked away is others'.
            repeater.tree.refund(core::mem::take(&mut conn.granted));
            if core::mem::take(&mut conn.asked) > 0 {
                conn.granted = repeater.tree.request(now, ConnId(id.into()), 0).bytes;
            }
            return false;
        };
        let need = length + PIECE_HEADER as u32;
        if conn.granted < need && conn.asked == 0 {
            let all = conn.session.upload_backlog();
            let all = all.clamp(need.into(), MOST_ASKED.max(need.into()));
            let ask = u32::try_from(all)
                .unwrap_or(need)
                .saturating_sub(conn.granted);
            let grant = repeater.tree.request(now, ConnId(id.into()), ask);
            conn.granted += grant.bytes;
            conn.asked = ask - grant.bytes;
            if let Some(at) = grant.arm {
                self.arm(node, at);
            }
        }
        let repeater = self.repeater_mut(node);
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return false;
        };
        if conn.granted < need {
            return false;
        }
        conn.granted -= need;
        let Some(block) = conn.session.poll_block() else {
            return false;
        };
        let (end, swarm) = (conn.end, conn.swarm);
        if !repeater.cache.holds((swarm, block.piece)) {
            conn.session.block_unavailable(now, block);
            return true;
        }
        conn.session.wrote_block(now, block);
        self.gave(node, id, end, swarm, &block);
        true
    }

    /// A block goes out: on the line after those before it.
    fn gave(&mut self, node: u32, id: u32, end: u32, swarm: u32, block: &BlockRef) {
        let now = self.events.now;
        let asked = self.as_asked(end ^ 1, block);
        let whole = self.block_len(end ^ 1, asked);
        let bytes = u64::from(block.length);
        let repeater = self.repeater_mut(node);
        repeater.sent += bytes;
        repeater.by_swarm.entry(swarm).or_default().0 += bytes;
        repeater.up_busy = repeater.up_busy.max(now) + bytes * SECOND / repeater.up_rate.max(1);
        let left = repeater.up_busy;
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return;
        };
        if let (Some(friend), Some(slave)) = (conn.guest, repeater.slave.as_mut()) {
            let gave = slave.gave.entry(friend).or_default();
            (gave.bytes, gave.last) = (gave.bytes + bytes, now);
        }
        if whole > bytes {
            let key = asked.piece() << 12 | asked.index();
            let sent = conn.parts.entry(key).or_default();
            *sent += bytes;
            if *sent < whole {
                return;
            }
            conn.parts.remove(&key);
        }
        self.deliver(end, left, whole, Msg::Data(asked));
    }

    fn arm(&mut self, node: u32, at: Timestamp) {
        let repeater = self.repeater_mut(node);
        if repeater.line_timer.is_none_or(|booked| at.0 < booked) {
            repeater.line_timer = Some(at.0);
            self.events.at(at.0, Event::Line(node));
        }
    }

    /// The line has room again.
    pub(crate) fn line_wakes(&mut self, node: u32) {
        self.hand_out(node);
        self.turn(node);
    }

    /// The tree hands out what has become free.
    pub(crate) fn hand_out(&mut self, node: u32) {
        let now = self.timestamp();
        let repeater = self.repeater_mut(node);
        if repeater.line_timer.is_some_and(|at| at <= now.0) {
            repeater.line_timer = None;
        }
        let mut grants = Vec::new();
        let next = repeater.tree.advance(now, &mut grants);
        for (conn, bytes) in grants {
            let Ok(id) = u32::try_from(conn.0) else {
                continue;
            };
            if let Some(at) = repeater.conns[id as usize].as_mut() {
                at.granted += bytes;
                at.asked = at.asked.saturating_sub(bytes);
                repeater.touch(id);
            } else {
                repeater.tree.refund(bytes);
            }
        }
        if let Some(at) = next {
            self.arm(node, at);
        }
    }

    /// What a note says for the outcome.
    pub(crate) fn noted(&mut self, node: u32, note: &Note) {
        let repeater = self.repeater_mut(node);
        match note {
            Note::Joined(..) => repeater.joins += 1,
            Note::Left(..) => repeater.leaves += 1,
            Note::Banned(..) => repeater.bans += 1,
            Note::NotDialled(..)
            | Note::Fired(..)
            | Note::MasterFound(..)
            | Note::TooBig(..)
            | Note::Friends(_)
            | Note::QuotaSpent(_)
            | Note::Wasted(..) => {}
        }
    }
}

/// A block of 16 KiB as the run names it.
fn sixteen(block: &BlockRef) -> Block {
    Block::new(block.piece, block.begin / BLOCK)
}
