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
/// A less needy swarm may use the line after the neediest had so long to fill it.
const CHANCE: Duration = Duration::from_secs(20);
/// Part of the line that counts as filled.
const FILLED: f64 = 0.6;

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

/// What decides how much one swarm may order until the next tick. Rates are bytes/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateFacts {
    /// What the line can carry, and what it carries.
    pub capacity: f64,
    /// See there.
    pub carried: f64,
    /// How far ahead to look, seconds.
    pub horizon_s: f64,
    /// Bytes that keep the line busy, of swarms that go before; of this one; and of what is coming in this one.
    pub before: f64,
    /// See there.
    pub backlog: f64,
    /// See there.
    pub coming: f64,
    /// A needier swarm still has its chance, or fills the line.
    pub held_back: bool,
}

/// Bytes of expected uploads that a swarm may order: the neediest has the line, the others what it left unused.
#[must_use]
pub fn allowance(facts: &GateFacts) -> f64 {
    let GateFacts {
        capacity,
        horizon_s,
        backlog,
        coming,
        ..
    } = *facts;
    if facts.held_back {
        return 0.0;
    }
    let room_left = room(capacity, horizon_s, facts.before + backlog + coming, 0.0);
    if facts.before > 0.0 {
        let idle = (capacity - facts.carried).max(0.0);
        room_left.min(room(idle, horizon_s, backlog, coming))
    } else {
        room_left
    }
}

/// One swarm, as the less needy ones wait for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChanceFacts {
    /// What the line can carry, and what it carries, bytes/s.
    pub capacity: f64,
    /// See there.
    pub carried: f64,
    /// Time since it was joined.
    pub joined_for: Duration,
    /// Connected downloaders.
    pub downloaders: u32,
    /// There are pieces that it could fetch.
    pub planned: bool,
}

/// Whether less needy swarms have to wait: it fills the line, or may still come to.
#[must_use]
pub fn goes_first(facts: &ChanceFacts) -> bool {
    let filled = facts.carried >= facts.capacity * FILLED;
    let may_fill = facts.downloaders == 0 || facts.planned;
    filled || (may_fill && facts.joined_for < CHANCE)
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
    fn the_neediest_has_the_line_and_the_others_what_it_leaves() {
        let first = GateFacts {
            capacity: 100.0,
            carried: 0.0,
            horizon_s: 10.0,
            before: 0.0,
            backlog: 200.0,
            coming: 100.0,
            held_back: false,
        };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(allowance(&first), 700.0));
        let second = GateFacts {
            before: 600.0,
            ..first
        };
        assert!(close(allowance(&second), 100.0));
        assert!(
            allowance(&GateFacts {
                carried: 100.0,
                ..second
            }) < 0.0
        );
        assert!(close(
            allowance(&GateFacts {
                held_back: true,
                ..first
            }),
            0.0
        ));
    }

    #[test]
    fn others_wait_while_it_fills_the_line_or_may_come_to() {
        let young = ChanceFacts {
            capacity: 100.0,
            carried: 0.0,
            joined_for: Duration::ZERO,
            downloaders: 3,
            planned: true,
        };
        let old = ChanceFacts {
            joined_for: CHANCE,
            ..young
        };
        assert!(goes_first(&young) && !goes_first(&old));
        assert!(!goes_first(&ChanceFacts {
            planned: false,
            ..young
        }));
        assert!(goes_first(&ChanceFacts {
            planned: false,
            downloaders: 0,
            ..young
        }));
        assert!(goes_first(&ChanceFacts {
            carried: 60.0,
            ..old
        }));
    }

    #[test]
    fn the_horizon_is_bounded() {
        assert!(horizon(1000.0, 1000.0) <= HORIZON_MAX_S);
        assert!(horizon(0.0, 0.0) >= SLACK_S);
    }
}
