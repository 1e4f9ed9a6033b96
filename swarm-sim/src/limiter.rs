//! A line as libtorrent limits it (2.0 `bandwidth_manager.cpp`, `bandwidth_channel.cpp`, `peer_connection.cpp`): bytes are
//! handed out twice a second, in equal parts to the connections that asked for some, and a connection asks for what it
//! sends in a second. All that a connection says waits for its bytes, small messages behind blocks.
//!
//! So a message may wait for half a second and more, and who comes to a busy line gets his share of it only slowly: seen on
//! the wire, 90 s from 20 to 50 KiB/s of a seed's 1 MiB/s among nine.

use std::collections::VecDeque;

use crate::events::{Event, Msg, SECOND, Time};
use crate::link::End;
use crate::world::World;

/// Between two handings out (`tick_interval`).
const TICK: Time = SECOND / 2;
/// Ticks after which a connection takes what it was given so far.
const PATIENCE: u32 = 20;
/// Blocks on their way out of one connection: half of what it sent in the last second, within these (`send_buffer_*`).
const LEAST_AHEAD: u64 = 10 << 10;
const MOST_AHEAD: u64 = 500 << 10;
/// Bytes of a small message, and around a block.
const SMALL: u64 = 9;
const HEADER: u64 = 13;

/// A connection's wish for bytes.
#[derive(Debug)]
struct Wish {
    end: u32,
    bytes: u64,
    given: u64,
    patience: u32,
}

/// The limiter of one node.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// Bytes to hand out; below zero after headers were counted.
    left: i64,
    wishes: Vec<Wish>,
    ticking: bool,
    /// When its ticks come, within [`TICK`].
    phase: Time,
}

impl Limiter {
    pub(crate) fn new(phase: Time) -> Self {
        Self {
            phase: phase % TICK,
            ..Self::default()
        }
    }

    /// Headers of bytes that went or came: less is left for others.
    pub(crate) fn charge(&mut self, bytes: u64) {
        self.left -= i64::try_from(bytes).unwrap_or(0);
    }

    fn next_tick(&self, now: Time) -> Time {
        (now + TICK - self.phase) / TICK * TICK + self.phase
    }
}

/// What one connection has on its way out.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: VecDeque<(Msg, u64)>,
    bytes: u64,
    /// Bytes it may send.
    quota: u64,
    waiting: bool,
    second: Time,
    this_second: u64,
    last_second: u64,
    rate: u64,
}

impl Outgoing {
    fn roll(&mut self, now: Time) {
        let second = now / SECOND;
        for _ in 0..(second - self.second).min(30) {
            self.last_second = self.this_second;
            self.rate = self.rate * 4 / 5 + self.this_second / 5;
            self.this_second = 0;
        }
        self.second = second;
    }
}

impl World {
    /// Says something through a limiter.
    pub(crate) fn say_limited(&mut self, end: u32, msg: Msg) {
        let out = &mut self.ends[end as usize].out;
        out.queue.push_back((msg, SMALL));
        out.bytes += SMALL;
        self.push_out(end);
    }

    /// Sends what a connection may; asks for more bytes.
    pub(crate) fn push_out(&mut self, end: u32) {
        let now = self.events.now;
        loop {
            self.fill(end);
            let at = &mut self.ends[end as usize];
            if !at.open || at.out.queue.is_empty() {
                return;
            }
            self.wish(end, now);
            let at = &mut self.ends[end as usize];
            let Some((msg, left)) = at.out.queue.front_mut() else {
                return;
            };
            let part = at.out.quota.min(*left);
            if part == 0 {
                return;
            }
            let msg = *msg;
            *left -= part;
            let whole = *left == 0;
            at.out.quota -= part;
            at.out.bytes -= part;
            at.out.this_second += part;
            let node = at.node as usize;
            let headers = part * self.overhead / 1_000;
            if let Some(limiter) = &mut self.peers[node].limiter {
                limiter.charge(headers);
            }
            if whole {
                self.ends[end as usize].out.queue.pop_front();
                self.goes_out(end, msg);
            }
        }
    }

    fn goes_out(&mut self, end: u32, msg: Msg) {
        let (Msg::Data(block) | Msg::Poison(block)) = msg else {
            return self.events.after(self.latency, Event::Heard(end ^ 1, msg));
        };
        let bytes = self.block_len(end ^ 1, block);
        self.deliver(end, self.events.now, bytes, msg);
        let at = &mut self.ends[end as usize];
        at.sent_round += bytes;
        at.sent_slot += bytes;
        self.peers[at.node as usize].sent += bytes;
    }

    /// Moves requests of the other end to what goes out, as far ahead as its rate allows.
    fn fill(&mut self, end: u32) {
        let now = self.events.now;
        let kind = self.peers[self.ends[end as usize].node as usize].kind;
        loop {
            let out = &mut self.ends[end as usize].out;
            out.roll(now);
            let ahead = (out.last_second / 2).clamp(LEAST_AHEAD, MOST_AHEAD);
            if out.bytes >= ahead {
                return;
            }
            let Some(block) = self.ends[end as usize].requests.pop_front() else {
                return;
            };
            let bytes = self.block_len(end ^ 1, block) + HEADER;
            let msg = if kind == crate::plan::Kind::Poisoner {
                Msg::Poison(block)
            } else {
                Msg::Data(block)
            };
            let out = &mut self.ends[end as usize].out;
            out.queue.push_back((msg, bytes));
            out.bytes += bytes;
        }
    }

    /// Asks the limiter for what the connection will send in a second.
    fn wish(&mut self, end: u32, now: Time) {
        let at = &mut self.ends[end as usize];
        let End { out, node, .. } = at;
        let wanted = out.bytes.max(out.rate);
        if out.waiting || out.quota >= wanted {
            return;
        }
        let bytes = wanted - out.quota;
        let peer = &mut self.peers[*node as usize];
        let rate = i64::try_from(peer.up.rate).unwrap_or(i64::MAX);
        let Some(limiter) = &mut peer.limiter else {
            return;
        };
        let after = limiter.left - i64::try_from(bytes).unwrap_or(0);
        if after >= rate {
            limiter.left = after;
            out.quota += bytes;
            return;
        }
        out.waiting = true;
        limiter.wishes.push(Wish {
            end,
            bytes,
            given: 0,
            patience: PATIENCE,
        });
        if !core::mem::replace(&mut limiter.ticking, true) {
            let at = limiter.next_tick(now);
            self.events.at(at, Event::Tick(*node));
        }
    }

    /// Hands out half a second's bytes.
    pub(crate) fn tick(&mut self, node: u32) {
        let now = self.events.now;
        let peer = &mut self.peers[node as usize];
        let rate = i64::try_from(peer.up.rate).unwrap_or(i64::MAX);
        let Some(limiter) = &mut peer.limiter else {
            return;
        };
        limiter.ticking = false;
        let ends = &self.ends;
        limiter.wishes.retain(|wish| ends[wish.end as usize].open);
        if limiter.wishes.is_empty() {
            return;
        }
        limiter.left = (limiter.left + rate / 2).min(rate * 3);
        let count = limiter.wishes.len() as u64;
        let share = u64::try_from(limiter.left).unwrap_or(0) / count;
        let mut given = Vec::new();
        let left = &mut limiter.left;
        limiter.wishes.retain_mut(|wish| {
            let part = share.min(wish.bytes - wish.given);
            wish.given += part;
            wish.patience = wish.patience.saturating_sub(1);
            *left -= i64::try_from(part).unwrap_or(0);
            let over = wish.given == wish.bytes || (wish.patience == 0 && wish.given > 0);
            if over {
                given.push((wish.end, wish.given));
            }
            !over
        });
        if !limiter.wishes.is_empty() {
            limiter.ticking = true;
            self.events.at(now + TICK, Event::Tick(node));
        }
        for (end, bytes) in given {
            let out = &mut self.ends[end as usize].out;
            out.waiting = false;
            out.quota += bytes;
            self.push_out(end);
        }
    }
}
