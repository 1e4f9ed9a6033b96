//! Whom we serve. Slots follow the rate; a slot goes where the byte does most.
//!
//! A repeater's peers ask only for what was announced to them, so a slot costs little; slots are counted to keep each
//! served peer at a useful rate (about 48 KiB/s, four at least). Order: the peer feeds us (tit for tat), what
//! it lacks of what we hold, whether it spreads it on (fewer pieces had, more to give onwards), and how long it waited
//! (fairness over time: waiting wins in the end).

use core::time::Duration;

/// A slot per so many bytes/s of the line.
const SLOT_RATE: u64 = 48 << 10;
/// Least and most slots.
const SLOTS: (u64, u64) = (4, 200);

/// A peer with nothing asked for so long may need a word.
const QUIET: Duration = Duration::from_millis(100);
/// Between two such words.
const BETWEEN: Duration = Duration::from_millis(200);

/// An interested peer that is unchoked and lacks what was announced to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemindFacts {
    /// It has asked for nothing for so long.
    pub quiet: Duration,
    /// It was last told that it may, so long ago.
    pub told: Duration,
}

/// Whether to say the unchoke anew. Where all that it lacked
/// was on its way from others, libtorrent's queue with us runs empty, and a HAVE alone does not soon fill it again. Seen in
/// rig E4: 1.8 s from a HAVE to its first block at the median and 5 to 8 s at the 90th percentile, 2.2 s with the reminder.
#[must_use]
pub fn says_again(facts: RemindFacts) -> bool {
    facts.quiet >= QUIET && facts.told >= BETWEEN
}

/// One interested peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChokeFacts {
    /// What it gave us lately, bytes/s.
    pub feeds: f64,
    /// Bytes announced to it that it lacks.
    pub wants: u64,
    /// Piece length, bytes.
    pub piece: u64,
    /// Time since it was last served or, never served, since it came.
    pub waited: Duration,
    /// It is unchoked now: no needless turning.
    pub unchoked: bool,
}

/// Upload slots on a line of `capacity` bytes/s.
#[must_use]
pub fn slots(capacity: u64) -> usize {
    usize::try_from((capacity / SLOT_RATE).clamp(SLOTS.0, SLOTS.1)).unwrap_or(usize::MAX)
}

/// The higher, the sooner it is unchoked.
#[must_use]
pub fn score(facts: &ChokeFacts) -> f64 {
    let feeds = (facts.feeds / 16_384.0).min(4.0);
    let wants = (facts.wants as f64 / facts.piece.max(1) as f64).min(4.0);
    let waited = facts.waited.as_secs_f64() / 10.0;
    feeds
        + wants
        + waited
        + if facts.unchoked && facts.wants > 0 {
            1.0
        } else {
            0.0
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ChokeFacts = ChokeFacts {
        feeds: 0.0,
        wants: 100,
        piece: 100,
        waited: Duration::ZERO,
        unchoked: false,
    };

    #[test]
    fn an_unchoke_is_said_anew_to_the_quiet_and_not_all_the_time() {
        let again = |quiet, told| says_again(RemindFacts { quiet, told });
        assert!(again(QUIET, BETWEEN));
        assert!(!again(QUIET / 2, BETWEEN) && !again(QUIET, BETWEEN / 2));
    }

    #[test]
    fn slots_follow_the_line() {
        assert_eq!(slots(0), 4);
        assert!(slots(2 << 20) >= 8);
        assert_eq!(slots(u64::MAX), 200);
    }

    #[test]
    fn feeders_and_the_needy_first_but_waiting_wins_in_the_end() {
        assert!(
            score(&ChokeFacts {
                feeds: 50_000.0,
                ..PEER
            }) > score(&PEER)
        );
        assert!(score(&ChokeFacts { wants: 300, ..PEER }) > score(&PEER));
        let waited = ChokeFacts {
            waited: Duration::from_secs(120),
            ..PEER
        };
        assert!(
            score(&waited)
                > score(&ChokeFacts {
                    feeds: 1e9,
                    wants: 10_000,
                    unchoked: true,
                    ..PEER
                })
        );
    }
}
