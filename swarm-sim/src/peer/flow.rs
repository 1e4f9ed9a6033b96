//! What one end asks of the other: its queue of requests, and how deep it is (libtorrent 2.0 `peer_connection.cpp`,
//! `request_blocks.cpp`).

use std::collections::VecDeque;

use crate::events::{Block, SECOND, Time};

/// Blocks worth this many seconds are asked for ahead (`request_queue_time`).
const QUEUE_SECONDS: u64 = 3;
/// Most requests under way (`max_out_request_queue`), and fewest.
const MOST: u32 = 500;
const LEAST: u32 = 2;
/// Requests under way at the start.
const START: u32 = 4;
/// Slow start is over when a second brought less than this more than the one before.
const GROWTH: u64 = 5_000;

/// Requests of one end to the other.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Chosen for this peer and not asked for yet: nobody else is asked for them.
    pub(crate) reserved: VecDeque<Block>,
    /// Asked for.
    pub(crate) asked: VecDeque<Block>,
    pub(crate) desired: u32,
    pub(crate) snubbed: bool,
    /// There was less to ask for than there was room.
    pub(crate) endgame: bool,
    /// An [`crate::events::Event::Watch`] and an [`crate::events::Event::Idle`] are booked.
    pub(crate) watched: bool,
    pub(crate) idle_booked: bool,
    pub(crate) last_request: Time,
    pub(crate) last_block: Time,
    slow_start: bool,
    second: Time,
    this_second: u64,
    last_second: u64,
    /// Bytes/s, over some five seconds.
    rate: u64,
}

impl Flow {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            reserved: VecDeque::new(),
            asked: VecDeque::new(),
            desired: START,
            snubbed: false,
            endgame: false,
            watched: false,
            idle_booked: false,
            last_request: 0,
            last_block: now,
            slow_start: true,
            second: now / SECOND,
            this_second: 0,
            last_second: 0,
            rate: 0,
        }
    }

    /// Closes the seconds that are over.
    fn roll(&mut self, now: Time) {
        let second = now / SECOND;
        let over = second - self.second;
        self.second = second;
        for _ in 0..over.min(30) {
            if self.slow_start
                && self.last_second > 0
                && self.last_second + GROWTH >= self.this_second
            {
                self.slow_start = false;
            }
            self.last_second = self.this_second;
            self.rate = self.rate * 4 / 5 + self.this_second / 5;
            self.this_second = 0;
        }
        if over > 30 {
            self.rate = 0;
        }
    }

    /// Bytes/s that come this way.
    pub(crate) fn rate(&mut self, now: Time) -> u64 {
        self.roll(now);
        self.rate
    }

    /// A block came in.
    pub(crate) fn received(&mut self, now: Time, bytes: u64, block: u64) {
        self.roll(now);
        self.this_second += bytes;
        self.last_block = now;
        if self.slow_start {
            self.desired += 1;
        }
        self.resize(block);
    }

    /// How many requests to keep under way, in blocks of this length.
    pub(crate) fn depth(&mut self, now: Time, block: u64) -> u32 {
        self.roll(now);
        self.resize(block);
        self.desired
    }

    fn resize(&mut self, block: u64) {
        if self.snubbed {
            self.desired = 1;
            return;
        }
        if !self.slow_start {
            self.desired = u32::try_from(QUEUE_SECONDS * self.rate / block).unwrap_or(MOST);
        }
        self.desired = self.desired.clamp(LEAST, MOST);
    }

    /// No block came in time.
    pub(crate) fn snub(&mut self) {
        (self.snubbed, self.slow_start, self.desired) = (true, false, 1);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reserved.is_empty() && self.asked.is_empty()
    }
}
