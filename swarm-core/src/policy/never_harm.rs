//! A swarm never pays for us: over any hour it got as much from us as it gave, or we leave it.
//!
//! The rule is the operator's promise to strangers (a byte taken is an investment; who does not pay back is a leech), and
//! the window is the one of trackers' hit-and-run rules, shortened from days to an hour. Per swarm, minute by minute:
//!
//! - T, G: bytes taken and given over the last hour; in flight, what is ordered. T counts everything that came for
//!   strangers' sake, wrong and redundant bytes, too, and runs up to a minute longer than G, so that no hour is
//!   counted short.
//! - Prospecting, the first hour: T + in flight + a piece ≤ G + [`PROSPECT`] pieces. More than that nobody loses to us,
//!   whatever is forgiven meanwhile ([`crate::policy::stop_loss`]).
//! - Afterwards: T + in flight + a piece ≤ G, so that what is taken is covered when it is ordered; and T > G, because what
//!   was given has grown older than an hour, means leaving. After an hour in which nothing was taken, a new prospecting
//!   begins.

use crate::time::Timestamp;
use core::time::Duration;

/// The time over which accounts are even.
pub const HOUR: Duration = Duration::from_secs(3600);
/// Pieces that prospecting may cost. In the plans no honest swarm comes to owe so much: their runs are the same without.
pub const PROSPECT: u64 = 16;
/// Whole minutes remembered, and the one under way.
const MINUTES: usize = 61;

/// What one swarm gave and got, minute by minute.
#[derive(Clone, Copy, Debug)]
pub struct Hour {
    /// Bytes taken and given, at the minute modulo [`MINUTES`].
    minutes: [(u64, u64); MINUTES],
    minute: u64,
}

impl Default for Hour {
    fn default() -> Self {
        Self {
            minutes: [(0, 0); MINUTES],
            minute: 0,
        }
    }
}

impl Hour {
    /// Forgets the minutes that are over an hour old.
    fn turn(&mut self, now: Timestamp) {
        let minute = now.since(Timestamp::ZERO).as_secs() / 60;
        let over = minute.saturating_sub(self.minute).min(MINUTES as u64);
        for later in 1..=over {
            let at = (self.minute + later) % MINUTES as u64;
            if let Some(old) = self.minutes.get_mut(at as usize) {
                *old = (0, 0);
            }
        }
        // A long pause empties all of them, wherever the last one stood.
        self.minute = self.minute.max(minute);
    }

    fn current(&mut self, now: Timestamp) -> Option<&mut (u64, u64)> {
        self.turn(now);
        let at = self.minute % MINUTES as u64;
        self.minutes.get_mut(at as usize)
    }

    /// Bytes came.
    pub fn took(&mut self, now: Timestamp, bytes: u64) {
        if let Some((taken, _)) = self.current(now) {
            *taken = taken.saturating_add(bytes);
        }
    }

    /// Bytes went.
    pub fn gave(&mut self, now: Timestamp, bytes: u64) {
        if let Some((_, given)) = self.current(now) {
            *given = given.saturating_add(bytes);
        }
    }

    /// Bytes taken in the last hour and up to a minute more, and given in the last hour and up to a minute less.
    pub fn sums(&mut self, now: Timestamp) -> (u64, u64) {
        self.turn(now);
        let oldest = (self.minute + 1) % MINUTES as u64;
        let taken = self.minutes.iter().map(|minute| minute.0).sum();
        let given = self.minutes.iter().enumerate();
        let given = given.filter(|(at, _)| *at as u64 != oldest);
        (taken, given.map(|(_, minute)| minute.1).sum())
    }
}

/// How one swarm stands with us. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HarmFacts {
    /// Time since prospecting began there.
    pub prospected_for: Duration,
    /// Taken over the last hour.
    pub taken: u64,
    /// Given over the last hour.
    pub given: u64,
    /// Ordered and not yet arrived.
    pub in_flight: u64,
    /// Piece length.
    pub piece: u64,
}

/// What may still be owed to the swarm, bytes.
fn credit(facts: &HarmFacts) -> u64 {
    if facts.prospected_for < HOUR {
        PROSPECT.saturating_mul(facts.piece)
    } else {
        0
    }
}

/// One more piece may be fetched.
#[must_use]
pub fn allows(facts: &HarmFacts) -> bool {
    let owed = facts.taken + facts.in_flight + facts.piece;
    owed <= facts.given.saturating_add(credit(facts))
}

/// Nothing was taken for an hour: prospecting may begin anew.
#[must_use]
pub fn begins_anew(facts: &HarmFacts) -> bool {
    facts.prospected_for >= HOUR && facts.taken == 0 && facts.in_flight == 0
}

/// The hour was harm: it is left.
#[must_use]
pub fn leaves(facts: &HarmFacts) -> bool {
    facts.prospected_for >= HOUR && facts.taken > facts.given
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECE: u64 = 100;

    fn at(second: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(second)
    }

    #[test]
    fn the_hour_forgets_what_was_given_before_what_was_taken() {
        let mut hour = Hour::default();
        hour.took(at(10), 7);
        hour.gave(at(10), 9);
        assert_eq!(hour.sums(at(59 * 60)), (7, 9));
        assert_eq!(hour.sums(at(60 * 60)), (7, 0));
        assert_eq!(hour.sums(at(61 * 60)), (0, 0));
        hour.took(at(100_000), 5);
        assert_eq!(hour.sums(at(100_000)), (5, 0));
        assert_eq!(hour.sums(at(1_000_000)), (0, 0));
    }

    #[test]
    fn prospecting_is_bounded_and_afterwards_all_is_covered() {
        let new = HarmFacts {
            prospected_for: Duration::ZERO,
            taken: 15 * PIECE,
            given: 0,
            in_flight: 0,
            piece: PIECE,
        };
        assert!(allows(&new) && !leaves(&new));
        assert!(!allows(&HarmFacts {
            in_flight: PIECE,
            ..new
        }));
        let old = HarmFacts {
            prospected_for: HOUR,
            ..new
        };
        assert!(!allows(&old) && leaves(&old));
        let paid = HarmFacts {
            given: 16 * PIECE,
            ..old
        };
        assert!(allows(&paid) && !leaves(&paid));
        let quiet = HarmFacts { taken: 0, ..old };
        assert!(begins_anew(&quiet) && !begins_anew(&old) && !begins_anew(&new));
    }

    /// One swarm under the rule, and everything that happened to it.
    #[derive(Default)]
    struct Stay {
        hour: Hour,
        began: u64,
        in_flight: u64,
        taken: Vec<(u64, u64)>,
        given: Vec<(u64, u64)>,
    }

    impl Stay {
        fn facts(&mut self, now: u64) -> HarmFacts {
            let (taken, given) = self.hour.sums(at(now));
            HarmFacts {
                prospected_for: Duration::from_secs(now - self.began),
                taken,
                given,
                in_flight: self.in_flight,
                piece: PIECE,
            }
        }

        fn over(list: &[(u64, u64)], from: u64, to: u64) -> u64 {
            let within = list.iter().filter(|(when, _)| (from..=to).contains(when));
            within.map(|(_, bytes)| bytes).sum()
        }
    }

    proptest! {
        /// Whatever comes and goes: an hour of a stay is even, or the swarm is left; and no hour at all costs it more
        /// than prospecting may.
        #[test]
        fn no_hour_is_harm(
            steps in prop::collection::vec((0u64..900, 0u8..4, 0u64..400), 1..400)
        ) {
            let (mut stay, mut now) = (Stay::default(), 0);
            for (wait, what, bytes) in steps {
                now += wait;
                let facts = stay.facts(now);
                if begins_anew(&facts) {
                    stay.began = now;
                }
                let facts = stay.facts(now);
                match what {
                    0 | 1 if allows(&facts) => stay.in_flight += PIECE,
                    0 | 1 => {}
                    2 => {
                        let come = bytes.min(stay.in_flight);
                        stay.in_flight -= come;
                        stay.hour.took(at(now), come);
                        stay.taken.push((now, come));
                    }
                    _ => {
                        stay.hour.gave(at(now), bytes);
                        stay.given.push((now, bytes));
                    }
                }
                let from = now.saturating_sub(3600);
                let taken = Stay::over(&stay.taken, from, now);
                let given = Stay::over(&stay.given, from, now);
                let facts = stay.facts(now);
                prop_assert!(facts.taken >= taken && facts.given <= given);
                let whole_hour = now - stay.began >= 3600;
                prop_assert!(!whole_hour || taken <= given || leaves(&facts));
                if leaves(&facts) {
                    // Left: what is under way is given up, and the next stay begins.
                    stay.in_flight = 0;
                    stay.began = now;
                }
            }
        }

        /// An hour of prospecting costs no more than it may, whatever is given when.
        #[test]
        fn prospecting_costs_what_it_may(steps in prop::collection::vec((0u64..20, 0u64..300), 1..200)) {
            let (mut stay, mut now) = (Stay::default(), 0);
            let (mut taken, mut given) = (0u64, 0u64);
            for (wait, bytes) in steps {
                now += wait;
                if now >= 3000 {
                    break;
                }
                if allows(&stay.facts(now)) {
                    stay.hour.took(at(now), PIECE);
                    taken += PIECE;
                } else {
                    stay.hour.gave(at(now), bytes);
                    given += bytes;
                }
                prop_assert!(taken <= given + PROSPECT * PIECE);
            }
        }
    }
}
