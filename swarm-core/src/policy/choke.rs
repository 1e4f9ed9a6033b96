//! Whom we serve. Slots follow the rate; a slot goes where the byte does most.
//!
//! A repeater's peers ask only for what was announced to them, so a slot costs little; slots are counted to keep each
//! served peer at a useful rate (about 48 KiB/s, four at least). Order: the peer feeds us (tit for tat), what
//! it lacks of what we hold, whether it spreads it on (fewer pieces had, more to give onwards), and how long it waited
//! (fairness over time: waiting wins in the end).
//!
//! While a master or a friend waits, what we give others pays for its pieces, and they pay by the rule of BEP 3: the slots go
//! to those that gave us most, but one of five, which turns, and what nobody paid for, which turns, too; as many slots as
//! make what masters and guests leave of the line worth having. (Plan *slaves*, one slave on a line of 40 KiB/s, by the
//! order above: it gave 37 MiB for 23.5; by tit for tat 32 for 29.5, with 3, 4 or 6 slots.)
//!
//! A turn goes to who could bring most of what we fetch for others, for many have little of it: in plan *friends-flash-crowd*
//! a leecher that let a helper in and was asked for nothing had 7 to 17 of 512 pieces that the master lacked, most of them
//! with other helpers by then. (Plan *slaves*, the same, means of eight seeds: 57.7 KiB/s for the master where a turn went
//! to who waited longest, 58.6 so.) Who gave nothing in its turn waits until the others had as many.

use core::time::Duration;

/// A slot per so many bytes/s of the line.
const SLOT_RATE: u64 = 48 << 10;
/// Least and most slots.
const SLOTS: (u64, u64) = (4, 200);
/// A slot per so many bytes/s of what is left for those that pay: what an ordinary home line with eight slots gives in
/// return. Who gives more to each pays for nothing. (Plan *friends-flash-crowd*, 6 and 10 friends, means of 16 seeds: 175
/// and 155 s with 48 KiB/s, 168 and 153 with 32, 171 and 159 with 24; each ± 3 s.)
const PAYER_RATE: u64 = 32 << 10;
/// Least slots while a master or a friend waits.
const PAYERS: u64 = 3;
/// Least part of the line that is for payers, whatever masters and guests draw: one in so many.
const PAYERS_PART: u64 = 4;

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

/// While a master waits, one slot of so many turns, and stays for so long with whom it came to (BEP 3).
const OPTIMISTIC: usize = 5;
/// See there.
pub const TURN: Duration = Duration::from_secs(30);

/// Of so many slots those that turn, when so many peers paid lately: what nobody paid for turns, too.
#[must_use]
pub fn turning(slots: usize, payers: usize) -> usize {
    let unpaid = slots.saturating_sub(payers);
    (slots / OPTIMISTIC).max(1).max(unpaid).min(slots)
}

/// Turns in a row in which a peer gave nothing, after another one in which it gave `paid` bytes.
#[must_use]
pub fn fruitless(before: u32, paid: u64) -> u32 {
    if paid > 0 {
        0
    } else {
        before.saturating_add(1)
    }
}

/// What a peer gave us lately, in bytes, after another round of choking in which it gave `bytes`: a round ago counts half.
#[must_use]
pub fn fed(before: u64, bytes: u64) -> u64 {
    (before / 2).saturating_add(bytes)
}

/// One interested peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChokeFacts {
    /// What it gave us lately, bytes/s.
    pub feeds: f64,
    /// A master or a friend waits: bytes that it [paid](fed) with for its pieces.
    pub paid: Option<u64>,
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

/// Upload slots while a master or a friend waits, on a line of `capacity` bytes/s of which masters and guests draw
/// `elsewhere`. (Plan *friends-flash-crowd*, 6 friends: with slots for the whole line 205 s, so 184 s.)
#[must_use]
pub fn payers(capacity: u64, elsewhere: u64) -> usize {
    let least = capacity / PAYERS_PART;
    let rest = capacity.saturating_sub(elsewhere).max(least);
    let slots = rest.saturating_add(PAYER_RATE / 2) / PAYER_RATE;
    usize::try_from(slots.clamp(PAYERS, SLOTS.1)).unwrap_or(usize::MAX)
}

/// The higher, the sooner it is unchoked.
#[must_use]
pub fn score(facts: &ChokeFacts) -> f64 {
    if let Some(paid) = facts.paid {
        return paid as f64 + if facts.unchoked { 0.5 } else { 0.0 };
    }
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
        paid: None,
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
    fn one_slot_of_five_turns_and_at_least_one_and_what_nobody_paid_for() {
        let of = |payers| [0, 1, 4, 5, 10, 200].map(|slots| turning(slots, payers));
        assert_eq!(of(usize::MAX), [0, 1, 1, 1, 2, 40]);
        assert_eq!(of(3), [0, 1, 1, 2, 7, 197]);
        assert_eq!(of(0), [0, 1, 4, 5, 10, 200]);
    }

    #[test]
    fn turns_that_brought_nothing_are_counted_until_one_does() {
        assert_eq!((fruitless(0, 0), fruitless(1, 0)), (1, 2));
        assert_eq!((fruitless(7, 1), fruitless(u32::MAX, 0)), (0, u32::MAX));
    }

    #[test]
    fn while_a_master_waits_who_paid_most_goes_first_however_long_others_waited() {
        let of = |paid, unchoked, waited| {
            let waited = Duration::from_secs(waited);
            score(&ChokeFacts {
                paid: Some(paid),
                unchoked,
                waited,
                ..PEER
            })
        };
        assert!(of(2, false, 0) > of(1, true, 9_000));
        assert!(of(1, true, 0) > of(1, false, 9_000));
    }

    #[test]
    fn what_was_given_is_forgotten_by_halves() {
        assert_eq!(fed(fed(1000, 0), 16), 266);
        assert_eq!(fed(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn payers_have_the_slots_that_masters_leave() {
        assert_eq!(payers(256 << 10, 0), 8);
        assert_eq!(payers(256 << 10, 64 << 10), 6);
        assert_eq!(payers(2 << 20, 2 << 20), 16);
        assert_eq!((payers(0, 0), payers(u64::MAX, 0)), (3, 200));
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
