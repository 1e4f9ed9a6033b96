//! When help is asked for, of whom, and what is offered.
//!
//! Asked for when a master is short: what it lacks would take over half a minute at the rate at which it gains. Who
//! declined is asked again after 30 s, doubling to 30 minutes. Offered is the line that our own masters and better friends
//! leave; who is short itself declines `busy` unless over a quarter of its line is spare. An offer holds nothing, and is
//! over after 10 s.

use crate::policy::tit_for_tat::{Nearness, Turn};
use core::time::Duration;

/// An offer that no reservation followed is over.
pub const OFFER_EXPIRES: Duration = Duration::from_secs(10);
/// An ask without an answer is over.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Helpers of one swarm at once; also the most asks that one need sends out (row P17).
pub const HELPERS: usize = 16;
/// Helps given at once; each takes room and a connection.
pub const HELPS: usize = 32;
/// Helps given at once to one friend.
pub const HELPS_EACH: usize = 4;
/// First wait before asking again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1800));
/// A master is short when what it lacks takes longer than this.
const SHORT: Duration = Duration::from_secs(30);
/// Who is short itself keeps all of its line but what is spare beyond this part.
const BUSY_PART: u64 = 4;
/// A newcomer with nothing to give waits for somebody's optimistic slot, which turns every 30 s, and then for a piece.
pub const FIRST: Duration = Duration::from_secs(60);
/// Least patience later.
const LATER: Duration = Duration::from_secs(20);
/// Part of the cache that all helps together may commit: one in so many.
const ROOM_PART: u64 = 2;
/// Seconds of the offered rate that one help's room holds.
const ROOM_S: u64 = 30;

/// A connected master in one swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortFacts {
    /// Bytes it lacks.
    pub missing: u64,
    /// Bytes/s at which it gains pieces, from us and everybody.
    pub gains: u64,
    /// Piece length, bytes.
    pub piece: u64,
    /// It has been connected so long: before the first ten seconds its gain says nothing.
    pub since: Duration,
}

/// Whether help should be asked for.
#[must_use]
pub fn short(facts: &ShortFacts) -> bool {
    let soon = facts.gains.saturating_mul(SHORT.as_secs());
    facts.since >= Duration::from_secs(10) && facts.missing > soon.max(facts.piece * 2)
}

/// Wait after the `fails`-th failure in a row (1, 2, …) to get help from a friend.
#[must_use]
pub fn retry(fails: u32) -> Duration {
    let times = 1u32 << fails.saturating_sub(1).min(10);
    (RETRY.0 * times).min(RETRY.1)
}

/// Why help is declined.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Decline {
    /// Short itself, or others come first.
    Busy,
    /// Too much was left unsigned.
    Disputed,
    /// The pool of acquaintances is empty.
    Pool,
    /// A piece takes more room than can be given.
    TooBig,
    /// The torrent is private.
    Private,
    /// Friends are off, or this one is none.
    Off,
    /// As many helps as there may be are running.
    Limit,
    /// The ask makes no sense: no bytes, no pieces, an infohash of other content.
    Invalid,
}

/// What an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFacts {
    /// Friend or acquaintance.
    pub nearness: Nearness,
    /// What it would get of the line among all that want it.
    pub turn: Turn,
    /// What the upload line carries, bytes/s.
    pub capacity: u64,
    /// Of it, what our own masters leave.
    pub spare: u64,
    /// A master of ours is short.
    pub short: bool,
    /// The torrent's piece length as the ask says, bytes.
    pub piece: u64,
    /// What the asker wants, bytes.
    pub wanted: u64,
    /// The cache, and of it what helps have committed, bytes.
    pub cache: u64,
    /// See `cache`.
    pub committed: u64,
    /// Helps running, in all and for this one.
    pub helps: (usize, usize),
    /// What the pool has for this one, bytes (acquaintances only).
    pub pool: u64,
}

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bytes/s.
    pub rate: u64,
    /// Bytes of reservations that may stand at once: at least one piece.
    pub room: u64,
}

/// Offer or decline.
///
/// # Errors
/// The first reason to decline.
pub fn answer(facts: &AnswerFacts) -> Result<Terms, Decline> {
    if facts.wanted == 0 || facts.piece == 0 {
        return Err(Decline::Invalid);
    }
    if facts.helps.0 >= HELPS || facts.helps.1 >= HELPS_EACH {
        return Err(Decline::Limit);
    }
    let rate = match facts.turn {
        Turn::Refused => return Err(Decline::Disputed),
        Turn::Rank | Turn::Ceiling => return Err(Decline::Busy),
        Turn::Trickle => facts.capacity / 100,
        Turn::Serve(rate) => rate,
    };
    if facts.short && facts.spare <= facts.capacity / BUSY_PART {
        return Err(Decline::Busy);
    }
    if facts.nearness == Nearness::Acquaintance && facts.pool < facts.piece {
        return Err(Decline::Pool);
    }
    let free = (facts.cache / ROOM_PART).saturating_sub(facts.committed);
    let room = free.min(rate.saturating_mul(ROOM_S).max(facts.piece * 4));
    if room < facts.piece {
        return Err(Decline::TooBig);
    }
    Ok(Terms { rate, room })
}

/// Pieces that are lent at least.
const LEAST: u64 = 8;

/// Bytes of reservations to keep with a helper of this rate, measured and offered: twenty seconds of the one and two of the
/// other, so that no round trip is waited for and a master never runs dry (Transmission looks at such a peer again only
/// after ten seconds). At least eight pieces, so that whoever lets the helper in has one of them: in a young swarm of 30
/// leechers, simulated with 6 friends, a master took 301 s with four and 261 s with eight, and with sixteen those who came
/// first took the line of who paid back. An eighth of its room is left, because the two sides do not hear of a piece's
/// arrival at the same moment.
#[must_use]
pub fn ahead(room: u64, (rate, offered): (u64, u64), piece: u64) -> u64 {
    let most = (room - room / 8).max(piece);
    let soon = rate.saturating_mul(20).max(offered.saturating_mul(2));
    most.min(soon.max(piece.saturating_mul(LEAST)))
}

/// Bytes of pieces that the asker itself holds ahead of what its line carries to its masters, while helpers are at work: what
/// goes out in the next twenty seconds, or four pieces. What it is still fetching does not count: in a slow swarm that is
/// many pieces at once, and none of them waits for the line.
#[must_use]
pub fn own_ahead(rate: u64, piece: u64) -> u64 {
    rate.saturating_mul(20).max(piece.saturating_mul(4))
}

/// A helper that made no progress for so long has its reservations taken back: max(20 s, 4 × piece/rate), at most
/// five minutes; [`FIRST`] at least until it had `begun` to hold any.
#[must_use]
pub fn patience(piece: u64, rate: u64, begun: bool) -> Duration {
    let pieces = piece.saturating_mul(4_000) / rate.max(1);
    let least = if begun { LATER } else { FIRST };
    Duration::from_millis(pieces.min(300_000)).max(least)
}

/// How many of the slowest helper's open pieces an idle one steals: half, when they would take it over ten seconds.
#[must_use]
pub fn steals(open: usize, piece: u64, rate: u64) -> usize {
    let takes = (open as u64).saturating_mul(piece) / rate.max(1);
    if takes >= 10 { open / 2 } else { 0 }
}

/// When the debtor signs: at half a window, or a second after the first unsigned byte.
#[must_use]
pub fn signs(unsigned: u64, window: u64, since_first: Duration) -> bool {
    unsigned > 0 && (unsigned >= window / 2 || since_first >= Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const FACTS: AnswerFacts = AnswerFacts {
        nearness: Nearness::Friend,
        turn: Turn::Serve(MIB),
        capacity: 2 * MIB,
        spare: 2 * MIB,
        short: false,
        piece: MIB / 4,
        wanted: 100 * MIB,
        cache: 256 * MIB,
        committed: 0,
        helps: (0, 0),
        pool: 0,
    };

    #[test]
    fn a_master_is_short_when_what_it_lacks_takes_over_half_a_minute() {
        let facts = ShortFacts {
            missing: 100 * MIB,
            gains: MIB,
            piece: MIB,
            since: Duration::from_secs(10),
        };
        assert!(short(&facts));
        assert!(!short(&ShortFacts {
            gains: 4 * MIB,
            ..facts
        }));
        assert!(!short(&ShortFacts {
            missing: 2 * MIB,
            gains: 0,
            ..facts
        }));
        assert!(!short(&ShortFacts {
            since: Duration::from_secs(9),
            ..facts
        }));
    }

    #[test]
    fn waits_double_from_thirty_seconds_to_thirty_minutes() {
        let seconds: Vec<u64> = (1..=8).map(|fails| retry(fails).as_secs()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(retry(u32::MAX).as_secs(), 1800);
    }

    #[test]
    fn idle_offers_the_line_and_thirty_seconds_of_room() {
        let terms = answer(&FACTS);
        assert_eq!(
            terms,
            Ok(Terms {
                rate: MIB,
                room: 30 * MIB
            })
        );
        let full = AnswerFacts {
            committed: 128 * MIB,
            ..FACTS
        };
        assert_eq!(answer(&full), Err(Decline::TooBig));
    }

    #[test]
    fn who_is_short_declines_unless_over_a_quarter_of_the_line_is_spare() {
        let short = AnswerFacts {
            short: true,
            spare: MIB / 2,
            ..FACTS
        };
        assert_eq!(answer(&short), Err(Decline::Busy));
        assert!(
            answer(&AnswerFacts {
                spare: MIB / 2 + 1,
                ..short
            })
            .is_ok()
        );
    }

    #[test]
    fn every_decline_has_its_cause() {
        let declines = [
            (AnswerFacts { wanted: 0, ..FACTS }, Decline::Invalid),
            (
                AnswerFacts {
                    helps: (HELPS, 0),
                    ..FACTS
                },
                Decline::Limit,
            ),
            (
                AnswerFacts {
                    helps: (4, HELPS_EACH),
                    ..FACTS
                },
                Decline::Limit,
            ),
            (
                AnswerFacts {
                    turn: Turn::Refused,
                    ..FACTS
                },
                Decline::Disputed,
            ),
            (
                AnswerFacts {
                    turn: Turn::Ceiling,
                    ..FACTS
                },
                Decline::Busy,
            ),
            (
                AnswerFacts {
                    turn: Turn::Rank,
                    ..FACTS
                },
                Decline::Busy,
            ),
            (
                AnswerFacts {
                    nearness: Nearness::Acquaintance,
                    ..FACTS
                },
                Decline::Pool,
            ),
            (
                AnswerFacts {
                    piece: 200 * MIB,
                    ..FACTS
                },
                Decline::TooBig,
            ),
        ];
        for (facts, why) in declines {
            assert_eq!(answer(&facts), Err(why));
        }
    }

    #[test]
    fn patience_is_twenty_seconds_or_four_pieces_and_a_minute_at_first() {
        assert_eq!(patience(MIB, 4 * MIB, true).as_secs(), 20);
        assert_eq!(patience(MIB, 4 * MIB, false).as_secs(), 60);
        assert_eq!(patience(16 * MIB, MIB, false).as_secs(), 64);
        assert_eq!(patience(u64::MAX, 0, true).as_secs(), 300);
    }

    #[test]
    fn half_of_a_slow_helpers_pieces_are_stolen_and_none_of_a_fast_ones() {
        assert_eq!((steals(8, MIB, MIB / 2), steals(8, MIB, 8 * MIB)), (4, 0));
    }

    //= spec/friends.md#iou-when
    #[test]
    fn it_signs_at_half_a_window_or_after_a_second() {
        let brief = Duration::from_millis(999);
        assert!(!signs(0, 4 * MIB, Duration::from_secs(9)));
        assert!(!signs(2 * MIB - 1, 4 * MIB, brief) && signs(2 * MIB, 4 * MIB, brief));
        assert!(signs(1, 4 * MIB, Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn an_offer_has_room_for_a_piece_and_never_over_half_the_cache(
            piece in 1u64..1 << 26, cache in 0u64..1 << 34, committed in 0u64..1 << 34, rate in 0u64..1 << 32,
        ) {
            let facts = AnswerFacts { piece, cache, committed, turn: Turn::Serve(rate), ..FACTS };
            if let Ok(terms) = answer(&facts) {
                prop_assert!(terms.room >= piece);
                prop_assert!(terms.room + committed <= cache / 2);
                prop_assert!(ahead(terms.room, (terms.rate, terms.rate), piece) <= terms.room);
            }
        }
    }
}
