//! What to give up when room is needed: the lowest remaining yield first.
//!
//! A piece announced to a master that lacks it is never given up before all its blocks went out; after that only for
//! another master's piece, until the master says HAVE (Transmission does so once a second only, and the cache would
//! stand still meanwhile). A piece committed to a peer that never forgets is given up only when that commitment is stale.
//! Dead pieces (nobody connected lacks them) go first, then the least wanted, then the longest unasked.

use core::time::Duration;

/// A piece unasked for so long no longer counts as drawing.
pub const IDLE: Duration = Duration::from_secs(15);
/// What it costs, in copies, to close the connections whose commitments are stale: dead pieces go before.
const STALE: f64 = 0.25;

/// One held piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictFacts {
    /// Masters that were told, lack it, and were not sent all of it.
    pub masters: u32,
    /// A master was sent all of it, and has not said HAVE yet.
    pub delivered: bool,
    /// A master that is away lacked it when last seen.
    pub absent_master: bool,
    /// Live commitments: told, lack it, never forget, not stale.
    pub firm: u32,
    /// Stale commitments: giving it up costs these connections.
    pub stale: u32,
    /// Connected downloaders that lack it.
    pub lack: u32,
    /// Time since it was last requested or verified.
    pub idle: Duration,
}

/// Who needs the room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// A master's piece: goes before any stranger's.
    Master,
    /// A stranger's piece of this expected yield, in copies.
    Free(f64),
}

/// The cost of giving it up: lower goes first; `None` = it stays.
#[must_use]
pub fn cost(facts: EvictFacts, purpose: Purpose) -> Option<f64> {
    if facts.masters > 0 || facts.firm > 0 || (facts.delivered && purpose != Purpose::Master) {
        return None;
    }
    let idle = facts.idle >= IDLE;
    // Who let a commitment grow stale draws nothing: it is no reason to keep the piece, and however many of them there
    // are, they delay no more than one would. Else two peers that never say HAVE would hold the cache for good.
    let drawing = f64::from(facts.lack.saturating_sub(facts.stale));
    let remaining = drawing * if idle { 0.25 } else { 1.0 };
    let closing = if facts.stale > 0 { STALE } else { 0.0 };
    let cost = remaining + closing + if facts.absent_master { 1000.0 } else { 0.0 };
    match purpose {
        Purpose::Master => Some(cost),
        Purpose::Free(copies) => (!facts.absent_master && cost < copies / 2.0).then_some(cost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: EvictFacts = EvictFacts {
        masters: 0,
        delivered: false,
        absent_master: false,
        firm: 0,
        stale: 0,
        lack: 0,
        idle: Duration::ZERO,
    };

    #[test]
    fn promised_pieces_stay() {
        for purpose in [Purpose::Master, Purpose::Free(8.0)] {
            assert_eq!(cost(EvictFacts { masters: 1, ..DEAD }, purpose), None);
            assert_eq!(cost(EvictFacts { firm: 1, ..DEAD }, purpose), None);
        }
    }

    #[test]
    fn peers_that_never_say_have_do_not_hold_the_cache() {
        let held_by = |stale| EvictFacts {
            stale,
            lack: stale,
            idle: IDLE,
            ..DEAD
        };
        for stale in [1, 2, 100] {
            assert!(cost(held_by(stale), Purpose::Free(1.0)).is_some());
        }
        assert!(cost(DEAD, Purpose::Master) < cost(held_by(1), Purpose::Master));
    }

    #[test]
    fn a_delivered_piece_goes_for_a_master_only() {
        let delivered = EvictFacts {
            delivered: true,
            ..DEAD
        };
        assert_eq!(cost(delivered, Purpose::Free(8.0)), None);
        assert_eq!(cost(delivered, Purpose::Master), Some(0.0));
        let other = EvictFacts {
            masters: 1,
            ..delivered
        };
        assert_eq!(cost(other, Purpose::Master), None);
    }

    #[test]
    fn dead_first_then_least_wanted_and_strangers_do_not_push_out_better_pieces() {
        let wanted = EvictFacts { lack: 6, ..DEAD };
        assert!(cost(DEAD, Purpose::Master) < cost(wanted, Purpose::Master));
        assert_eq!(cost(wanted, Purpose::Free(5.0)), None);
        assert!(
            cost(
                EvictFacts {
                    idle: IDLE,
                    ..wanted
                },
                Purpose::Free(5.0)
            )
            .is_some()
        );
        assert_eq!(
            cost(
                EvictFacts {
                    absent_master: true,
                    ..DEAD
                },
                Purpose::Free(5.0)
            ),
            None
        );
    }
}
