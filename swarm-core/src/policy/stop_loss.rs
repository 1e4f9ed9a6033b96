//! The most a swarm may cost us: debt = max(0, taken + in flight − given) ≤ L.
//!
//! L = 4 pieces until something was given, then 8, one more per piece repaid, at most half the cache. An old debt is
//! halved, each time after twice as long, so that one dead piece cannot bar a pinned swarm for ever. (Tribler's ladder in pieces, and
//! libtorrent's one unpaid piece, made larger: with 2 a swarm of slow unchokes never got under way on the wire, rig E4.
//! Its first two pieces took 20 s each and were common by then.)

use core::time::Duration;

/// Pieces risked in a swarm that has taken nothing yet.
const UNPROVEN: u64 = 4;
/// Pieces risked in one that has.
const PROVEN: u64 = 8;
/// First time until an old debt is halved: where pieces came too late, where they were not wanted; and the longest.
const LATE: Duration = Duration::from_secs(15);
const UNWANTED: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);

/// The account of one swarm, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopLossFacts {
    /// Taken for the free repeater and not forgiven.
    pub taken: u64,
    /// Ordered and not yet arrived.
    pub in_flight: u64,
    /// Given to strangers.
    pub given: u64,
    /// Piece length.
    pub piece: u64,
    /// Cache size.
    pub cache: u64,
}

/// What is owed to us now, bytes.
#[must_use]
pub fn debt(facts: StopLossFacts) -> u64 {
    (facts.taken + facts.in_flight).saturating_sub(facts.given)
}

/// The limit L, bytes.
#[must_use]
pub fn limit(facts: StopLossFacts) -> u64 {
    let start = if facts.given == 0 { UNPROVEN } else { PROVEN };
    (start * facts.piece + facts.given / facts.piece.max(1) * facts.piece)
        .min(facts.cache / 2)
        .max(facts.piece)
}

/// One more piece may be fetched.
#[must_use]
pub fn allows(facts: StopLossFacts) -> bool {
    debt(facts) + facts.piece <= limit(facts)
}

/// Time until the next halving, after so many without anything given: 1, 2, 4 … 10 min. `late`: since the last one a
/// piece was common before we had it. That says that the swarm lives and we were slow, not that nobody wants anything:
/// 15, 30, 60 s … 10 min.
#[must_use]
pub fn halving(times: u32, late: bool) -> Duration {
    let first = if late { LATE } else { UNWANTED };
    first.saturating_mul(1 << times.min(10)).min(LONGEST)
}

/// What is forgiven at a halving: half of what is owed for pieces that arrived.
#[must_use]
pub fn forgiven(facts: StopLossFacts) -> u64 {
    debt(StopLossFacts {
        in_flight: 0,
        ..facts
    }) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: StopLossFacts = StopLossFacts {
        taken: 0,
        in_flight: 0,
        given: 0,
        piece: 10,
        cache: 1000,
    };

    #[test]
    fn four_pieces_on_credit_and_no_more() {
        let ordered = |in_flight| allows(StopLossFacts { in_flight, ..NEW });
        assert!(ordered(0) && ordered(30));
        assert!(!ordered(31) && !ordered(40));
        assert!(!allows(StopLossFacts { taken: 40, ..NEW }));
    }

    #[test]
    fn a_swarm_that_takes_gets_more_credit() {
        let facts = StopLossFacts {
            taken: 60,
            given: 1,
            ..NEW
        };
        assert!(allows(facts));
        assert!(!allows(StopLossFacts { taken: 80, ..facts }));
    }

    #[test]
    fn repaid_pieces_raise_the_limit_up_to_half_the_cache() {
        assert!(allows(StopLossFacts {
            taken: 20,
            given: 20,
            in_flight: 30,
            ..NEW
        }));
        assert_eq!(
            limit(StopLossFacts {
                given: 1_000_000,
                ..NEW
            }),
            500
        );
    }

    #[test]
    fn halvings_come_ever_later_and_sooner_where_pieces_were_late() {
        let seconds = |late| [0, 1, 2, 9].map(|times| halving(times, late).as_secs());
        assert_eq!(seconds(false), [60, 120, 240, 600]);
        assert_eq!(seconds(true), [15, 30, 60, 600]);
    }

    #[test]
    fn an_old_debt_is_forgiven_by_halves() {
        let mut facts = StopLossFacts { taken: 20, ..NEW };
        facts.taken -= forgiven(facts);
        assert!(allows(facts));
    }
}
