//! How many requests to keep under way: bandwidth × delay, found by slow start and then kept by measuring.

use core::time::Duration;

use bt_wire::layout::BLOCK;

use crate::time::Timestamp;

/// Requests under way at the start.
const START: u32 = 16;
/// Never fewer (unless snubbed or the peer queues less): one block being sent, others waiting behind it.
const LEAST: u32 = 4;
/// Never more. What the fastest clients ask of each other (measured: 1,613 to 2,000 at `reqq` 2,000).
const MOST: u32 = 2_000;
/// Requests a peer queues that does not say: what clients assume of each other.
const UNSAID_REQQ: u32 = 250;
/// A rate is measured over at least this long.
const WINDOW: Duration = Duration::from_millis(250);
/// Blocks the peer should always have to send, in time at the present rate.
const AHEAD: Duration = Duration::from_millis(500);

/// The measured rate, and the depth that follows from it.
#[derive(Debug)]
pub(super) struct Pipeline {
    reqq: u32,
    depth: u32,
    slow_start: bool,
    snubbed: bool,
    /// Bytes/s, smoothed.
    rate: u64,
    window: Option<Timestamp>,
    bytes: u64,
    /// Shortest time from a request to its block.
    rtt: Option<Duration>,
    sample: Option<(u32, u32, Timestamp)>,
}

impl Pipeline {
    pub(super) fn new() -> Self {
        Self {
            reqq: UNSAID_REQQ,
            depth: START,
            slow_start: true,
            snubbed: false,
            rate: 0,
            window: None,
            bytes: 0,
            rtt: None,
            sample: None,
        }
    }

    pub(super) fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq.max(1);
    }

    /// Requests to keep under way.
    pub(super) fn depth(&self) -> u32 {
        if self.snubbed {
            1
        } else {
            self.depth.min(self.reqq)
        }
    }

    /// Bytes/s.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// No block came in time: one request at a time until one does.
    pub(super) fn snub(&mut self) {
        (self.snubbed, self.slow_start, self.rate, self.window) = (true, true, 0, None);
        self.depth = START;
    }

    pub(super) fn requested(&mut self, now: Timestamp, piece: u32, block: u32) {
        if self.sample.is_none() {
            self.sample = Some((piece, block, now));
        }
        if self.window.is_none() {
            (self.window, self.bytes) = (Some(now), 0);
        }
    }

    /// Nothing is under way any more: time that passes says nothing of the peer.
    pub(super) fn idle(&mut self) {
        (self.window, self.sample) = (None, None);
    }

    /// A block came; `full` if the depth kept us from asking for more.
    pub(super) fn received(
        &mut self,
        now: Timestamp,
        piece: u32,
        block: u32,
        bytes: u32,
        full: bool,
    ) {
        self.snubbed = false;
        if let Some((_, _, at)) = self.sample.filter(|&(p, b, _)| (p, b) == (piece, block)) {
            let rtt = now.since(at);
            self.rtt = Some(self.rtt.map_or(rtt, |least| least.min(rtt)));
            self.sample = None;
        }
        self.bytes += u64::from(bytes);
        if full && self.slow_start {
            self.depth = (self.depth + 1).min(MOST);
        }
        let Some(start) = self.window else { return };
        let elapsed = now.since(start);
        if elapsed >= WINDOW {
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            self.measured(self.bytes.saturating_mul(1_000_000) / micros);
            (self.window, self.bytes, self.sample) = (Some(now), 0, None);
        }
    }

    fn measured(&mut self, rate: u64) {
        // Slow start is over when more requests under way brought less than a tenth more.
        self.slow_start &= rate > self.rate + self.rate / 10;
        self.rate = if self.rate == 0 {
            rate
        } else {
            (self.rate + rate) / 2
        };
        let ahead = AHEAD
            .max(self.rtt.unwrap_or_default().saturating_mul(2))
            .min(Duration::from_secs(4));
        let micros = u64::try_from(ahead.as_micros()).unwrap_or(0);
        let blocks = (self.rate / 1_000).saturating_mul(micros) / 1_000 / u64::from(BLOCK);
        let target = u32::try_from(blocks).unwrap_or(MOST).clamp(LEAST, MOST);
        self.depth = if self.slow_start {
            self.depth.max(target)
        } else {
            target
        };
    }
}
