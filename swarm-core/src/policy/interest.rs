//! How long we stay interested, and when interest that is met by a choke is said anew.
//!
//! Interest outlives its last reason by a minute, or seeds and peers turn away. libtorrent, and with it qBittorrent and
//! Deluge, gives a free slot to a peer at the moment that it becomes interested, and else only when slots turn: each
//! 15 s, an optimistic one each 30 s. A choke often leaves such a free slot behind, so interest is said once more at once,
//! and then once in a while. The peer's own rule decides; who has no free slot loses ten bytes.

use core::time::Duration;

/// Interest lives on for so long after the last reason for it.
pub const HYSTERESIS: Duration = Duration::from_secs(60);
/// Interest is said anew at most so often.
const AGAIN: Duration = Duration::from_secs(10);

/// One peer that we may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterestFacts {
    /// It has something that we may fetch.
    pub useful: bool,
    /// Time since it last had.
    pub unuseful_for: Duration,
    /// We told it that we are interested.
    pub interested: bool,
    /// It chokes us.
    pub chokes: bool,
    /// Time since we last said whether we are.
    pub said: Duration,
}

/// Whether we are interested.
#[must_use]
pub fn wishes(facts: InterestFacts) -> bool {
    facts.useful || (facts.interested && facts.unuseful_for < HYSTERESIS)
}

/// Whether interest is to be said anew, to a peer that chokes us.
#[must_use]
pub fn says_again(facts: InterestFacts) -> bool {
    wishes(facts) && facts.chokes && facts.said >= AGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: InterestFacts = InterestFacts {
        useful: true,
        unuseful_for: Duration::ZERO,
        interested: true,
        chokes: true,
        said: Duration::ZERO,
    };

    #[test]
    fn every_ten_seconds_at_most() {
        let again = |said| says_again(InterestFacts { said, ..IDLE });
        assert!(!again(Duration::from_millis(9_999)) && again(AGAIN));
        assert!(!says_again(InterestFacts {
            said: AGAIN,
            chokes: false,
            ..IDLE
        }));
    }

    #[test]
    fn it_outlives_its_reason_by_a_minute() {
        let after = |unuseful_for| {
            wishes(InterestFacts {
                useful: false,
                unuseful_for,
                ..IDLE
            })
        };
        assert!(after(Duration::from_secs(59)) && !after(HYSTERESIS));
    }
}
