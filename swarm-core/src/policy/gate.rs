//! The download gate: fetch for strangers only when the upload line would otherwise run dry (the seed page's rule).
//!
//! backlog = Σ over peers of min(what is announced to it and not yet sent, its draw × horizon), plus what the
//! pieces now being fetched are expected to bring. Room = capacity × horizon − backlog. Capacity is the line's
//! limit, or its probed capacity, never the measured rate: that would lock in a slow line.
//! The horizon is the time a piece takes from the decision to its first request: fetching it, plus announce →
//! request (0.3 ms to 10 s by client, RESULTS.md), plus two seconds of the gate's own step. Peers that do not
//! request count nothing.

use core::time::Duration;

/// The gate's own step and slack.
const SLACK_S: f64 = 2.0;
/// Longest horizon, seconds: beyond it a cache would be filled for demand that may be gone.
const HORIZON_MAX_S: f64 = 30.0;
/// A peer that was told of something and asked for nothing for so long does not draw.
pub const DEAF_AFTER: Duration = Duration::from_secs(12);

/// One peer's part of the backlog.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Bytes announced to it, lacked by it, and not yet sent.
    pub pending: u64,
    /// What it draws from us, bytes/s (or is expected to, when it is new).
    pub rate: f64,
    /// It has requested something lately, or had no time to.
    pub asks: bool,
}

/// How far ahead to look, seconds, from the mean time of a fetch and the mean time from announce to request.
#[must_use]
pub fn horizon(fetch_s: f64, lag_s: f64) -> f64 {
    (fetch_s + lag_s.min(10.0) + SLACK_S).min(HORIZON_MAX_S)
}

/// Bytes that will keep the line busy without any further fetch.
#[must_use]
pub fn backlog(draws: impl Iterator<Item = Draw>, horizon_s: f64) -> f64 {
    draws
        .filter(|draw| draw.asks)
        .map(|draw| (draw.pending as f64).min(draw.rate * horizon_s))
        .sum()
}

/// Bytes of expected uploads that may still be ordered. Negative or zero: the gate is shut.
#[must_use]
pub fn room(capacity: f64, horizon_s: f64, backlog: f64, coming: f64) -> f64 {
    capacity * horizon_s - backlog - coming
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_shuts_the_gate() {
        let busy = (0..8).map(|_| Draw {
            pending: 10_000_000,
            rate: 250_000.0,
            asks: true,
        });
        assert!(room(2_000_000.0, 5.0, backlog(busy, 5.0), 0.0) <= 0.0);
    }

    #[test]
    fn peers_that_do_not_request_count_nothing() {
        let deaf = (0..8).map(|_| Draw {
            pending: 10_000_000,
            rate: 250_000.0,
            asks: false,
        });
        assert!(room(2_000_000.0, 5.0, backlog(deaf, 5.0), 0.0) >= 10_000_000.0);
    }

    #[test]
    fn what_is_coming_counts_and_slow_drawers_count_only_what_they_draw() {
        let slow = [Draw {
            pending: 10_000_000,
            rate: 1000.0,
            asks: true,
        }];
        assert!((backlog(slow.into_iter(), 5.0) - 5000.0).abs() < 1.0);
        assert!(room(1000.0, 5.0, 0.0, 6000.0) < 0.0);
    }

    #[test]
    fn the_horizon_is_bounded() {
        assert!(horizon(1000.0, 1000.0) <= HORIZON_MAX_S);
        assert!(horizon(0.0, 0.0) >= SLACK_S);
    }
}
