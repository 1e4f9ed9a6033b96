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
/// Before that its gain says nothing. A helper that comes late finds every slot in the swarm taken.
const SETTLED: Duration = Duration::from_secs(3);
/// Who is short itself keeps all of its line but what is spare beyond this part.
const BUSY_PART: u64 = 4;
/// A newcomer with nothing to give waits for somebody's optimistic slot, which turns every 30 s, and then for a piece.
pub const FIRST: Duration = Duration::from_secs(60);
/// Least patience later.
const LATER: Duration = Duration::from_secs(20);
/// Seconds of its own line that the asker keeps ahead at most: what comes easily at first is not let pass.
pub const OWN_S: u64 = 60;
/// Part of the cache that all helps together may commit: one in so many.
const ROOM_PART: u64 = 2;
/// Seconds of the offered rate that one help's room holds. (Simulated, 6 friends in a young swarm of 30: 181 s with these,
/// 205 s with thirty.)
const ROOM_S: u64 = 120;

/// A connected master in one swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortFacts {
    /// Bytes it lacks.
    pub missing: u64,
    /// Bytes/s at which it gains pieces, from us and everybody.
    pub gains: u64,
    /// Piece length, bytes.
    pub piece: u64,
    /// It has been connected so long.
    pub since: Duration,
}

/// Whether help should be asked for.
#[must_use]
pub fn short(facts: &ShortFacts) -> bool {
    let soon = facts.gains.saturating_mul(SHORT.as_secs());
    facts.since >= SETTLED && facts.missing > soon.max(facts.piece * 2)
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
    let few = facts.piece.saturating_mul(4);
    // Half of what is left is for whoever asks next, and may have earned more.
    let most = (free / 2).max(few).min(free);
    let room = most.min(rate.saturating_mul(ROOM_S).max(few));
    if room < facts.piece {
        return Err(Decline::TooBig);
    }
    Ok(Terms { rate, room })
}

/// Bytes of reservations to keep with a helper: all its room, for in a young swarm a helper takes what whoever lets it in has,
/// and a master never runs dry (Transmission looks at such a peer again only after ten seconds). Simulated with 30 leechers
/// and 6 friends, a master took 219 s so, and 247 s when no more than twenty seconds' worth was lent. An eighth of the
/// room is left, because the two sides do not hear of a piece's arrival at the same moment.
#[must_use]
pub fn ahead(room: u64, piece: u64) -> u64 {
    (room - room / 8).max(piece)
}

/// Seconds of its line that the asker keeps to itself: so many, or all the time that its master still needs, of what it
/// lacks and gains each second.
#[must_use]
pub fn own_seconds(missing: u64, gains: u64) -> u64 {
    (missing / gains.max(1)).min(OWN_S)
}

/// Bytes of pieces that the asker itself holds ahead of what its line carries to its masters, while helpers are at work: what
/// goes out in so many seconds, or four pieces. What it is still fetching does not count: in a slow swarm that is many
/// pieces at once, and none of them waits for the line.
#[must_use]
pub fn own_ahead(rate: u64, seconds: u64, piece: u64) -> u64 {
    rate.saturating_mul(seconds).max(piece.saturating_mul(4))
}

/// Of what an idle peer offers, so many pieces are named to the asker: others may be at the first.
pub const NAMED_EACH: usize = 4;
/// Pieces that an asker looks at in one word about what could be begun: what is named and not begun stays lent, and would be
/// withheld from others.
pub const NAMED: usize = 32;

/// A helper that made no progress for so long has its reservations taken back: max(20 s, 4 × piece/rate), at most
/// five minutes; [`FIRST`] at least until it had `begun` to hold any.
#[must_use]
pub fn patience(piece: u64, rate: u64, begun: bool) -> Duration {
    let pieces = piece.saturating_mul(4_000) / rate.max(1);
    let least = if begun { LATER } else { FIRST };
    Duration::from_millis(pieces.min(300_000)).max(least)
}

/// How many of the slowest helper's open pieces an idle one steals: half, and the last, when they would take it over ten
/// seconds.
#[must_use]
pub fn steals(open: usize, piece: u64, rate: u64) -> usize {
    let takes = (open as u64).saturating_mul(piece) / rate.max(1);
    if takes >= 10 { open.div_ceil(2) } else { 0 }
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
            since: Duration::from_secs(2),
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
    fn idle_offers_the_line_and_two_minutes_of_room_or_half_of_what_there_is() {
        let room =
            |cache| answer(&AnswerFacts { cache, ..FACTS }).map(|terms| (terms.rate, terms.room));
        assert_eq!(room(1024 * MIB), Ok((MIB, 120 * MIB)));
        assert_eq!(room(256 * MIB), Ok((MIB, 64 * MIB)));
        assert_eq!(room(2 * MIB), Ok((MIB, MIB)));
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
    fn the_asker_keeps_what_its_line_carries_before_all_is_done() {
        assert_eq!([own_seconds(MIB, 0), own_seconds(9 * MIB, MIB)], [60, 9]);
        assert_eq!(own_ahead(MIB, 9, MIB / 4), 9 * MIB);
        assert_eq!(own_ahead(0, 60, MIB / 4), MIB);
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
        assert_eq!((steals(1, MIB, 1), steals(0, MIB, 1)), (1, 0));
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
                prop_assert!(ahead(terms.room, piece) <= terms.room);
            }
        }
    }
}
