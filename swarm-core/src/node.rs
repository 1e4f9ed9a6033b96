//! The brain: facts in, decisions out.

use crate::io::{Input, Output};
use crate::params::Params;
use crate::time::Timestamp;
use crate::view::{CacheView, NodeView};
use std::collections::VecDeque;

/// Every decision of one BTSlave: swarms, peers, pieces, masters.
#[derive(Debug)]
pub struct Node {
    params: Params,
    seed: u64,
    now: Timestamp,
    out: VecDeque<Output>,
}

impl Node {
    /// A node that knows nothing yet. `seed` feeds the only randomness there is.
    #[must_use]
    pub fn new(params: Params, seed: u64) -> Self {
        Self { params, seed, now: Timestamp::ZERO, out: VecDeque::new() }
    }

    /// Takes one fact. Time never runs backwards: an earlier `now` counts as the latest one seen.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.now = self.now.max(now);
        if let Input::Limits(limits) = input {
            self.params.limits = limits;
        }
    }

    /// The next decision, in order. Drain until `None` after every batch.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to hand in [`Input::Timer`] at the latest; `None`: never, for now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        (self.seed == u64::MAX).then_some(self.now)
    }

    /// Everything people are shown.
    #[must_use]
    pub fn view(&self) -> NodeView {
        NodeView {
            paused: false,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
            wasted_bytes: 0,
            upload_rate_bps: 0,
            download_rate_bps: 0,
            upload_capacity_bps: self.params.limits.upload.unwrap_or(0),
            connections: 0,
            cache: CacheView { limit_bytes: self.params.limits.cache, ..CacheView::default() },
            swarms: Vec::new(),
            masters: Vec::new(),
        }
    }
}
