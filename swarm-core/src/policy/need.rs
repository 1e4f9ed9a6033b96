//! Which swarm needs us: the prior from scrapes, the posterior from what came of our help.
//!
//! need = prior × return × echo, and nothing where the caps of its feed leave no room ([`crate::policy::feed_cap`]).
//!
//! - prior = p² / (s + 1), p = peers that still download, s = seeds (BiglyBT's peer-count rank, prior-art §8).
//!   `downloaders` (BEP 21) is better than `incomplete`. We are subtracted where we are counted. *Unknown is not
//!   zero*: a swarm nobody counted is taken for a small one with a seed.
//! - return = (u + 3P) / (d + P) / 3, P = two pieces: bytes given per byte taken, starting at a neutral 1 and
//!   believed more the more was spent; between 1/8 and 3.
//! - echo = 1 + e/2, e = networks that announced a piece we gave to somebody else, per piece given, at most 2:
//!   the swarm spreads it on (V-Formation's propagation metric, read from plain HAVEs).

use crate::io::LeaveReason;
use crate::policy::feed_cap::{self, FeedRoom};
use crate::view::NeedTerm;
use core::time::Duration;

/// Time a swarm is kept at least, before it may be left for another or for want of demand (libtorrent protects
/// young torrents for 30 min against oscillation; our pieces are cheap to drop).
pub const DWELL: Duration = Duration::from_secs(180);
/// Time after which a poor return is believed.
pub const PROBE: Duration = Duration::from_secs(60);
/// First rest after a swarm was left; doubles with each leave, up to [`REST_MAX`].
pub const REST_MIN: Duration = Duration::from_secs(600);
/// Longest rest.
pub const REST_MAX: Duration = Duration::from_secs(6 * 3600);
/// A swarm must need us this much more to push another out.
pub const OUTRANK: f64 = 2.0;
/// Prior of a swarm that nobody has counted: two downloaders, one seed.
const UNKNOWN_PRIOR: f64 = 2.0;

/// What is known of a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NeedFacts {
    /// Seeds, by scrape.
    pub complete: Option<u32>,
    /// Peers that are no seeds, by scrape.
    pub incomplete: Option<u32>,
    /// Of those, the ones that still download, by scrape.
    pub downloaders: Option<u32>,
    /// The trackers count us among `incomplete`.
    pub counts_us: bool,
    /// Connected seeds.
    pub seen_seeds: u32,
    /// Connected peers that still download.
    pub seen_downloaders: u32,
    /// Bytes taken from it for the free repeater.
    pub taken: u64,
    /// Bytes given to its strangers.
    pub given: u64,
    /// Piece length, bytes; 0 = not known.
    pub piece: u64,
    /// Networks heard announcing a piece that we had given to another.
    pub echoes: u32,
    /// It is joined: its feeds' caps keep out only those that are not.
    pub joined: bool,
    /// What its feeds leave it.
    pub room: FeedRoom,
}

/// The score and its terms; the terms' weights multiplied are the score.
#[must_use]
pub fn score(facts: &NeedFacts) -> (f64, [NeedTerm; 7]) {
    let scraped = facts
        .downloaders
        .or(facts.incomplete)
        .map(|p| p.saturating_sub(u32::from(facts.counts_us)));
    let known = |by_scrape: Option<u32>, seen: u32| {
        if seen > 0 {
            Some(by_scrape.unwrap_or(0).max(seen))
        } else {
            by_scrape
        }
    };
    let peers = known(scraped, facts.seen_downloaders);
    let seeds = known(facts.complete, facts.seen_seeds);
    let (by_peers, by_seeds) = match (peers, seeds) {
        (None, None) => (UNKNOWN_PRIOR, 1.0),
        (Some(p), s) => (
            f64::from(p) * f64::from(p),
            1.0 / (f64::from(s.unwrap_or(1)) + 1.0),
        ),
        (None, Some(s)) => (4.0, 1.0 / (f64::from(s) + 1.0)),
    };
    let stake = (facts.piece.max(1) * 2) as f64;
    let returned =
        ((facts.given as f64 + 3.0 * stake) / (facts.taken as f64 + stake) / 3.0).clamp(0.125, 3.0);
    let pieces_given = facts.given as f64 / facts.piece.max(1) as f64;
    let echo = if pieces_given < 1.0 {
        0.0
    } else {
        (f64::from(facts.echoes) / pieces_given).min(2.0)
    };
    let [places, cache] = cap_terms(facts);
    let ratio = (facts.taken > 0).then(|| facts.given as f64 / facts.taken as f64);
    let terms = [
        NeedTerm {
            name: "downloaders, squared",
            value: peers.map(f64::from),
            weight: by_peers,
        },
        NeedTerm {
            name: "seeds, plus one, divides",
            value: seeds.map(f64::from),
            weight: by_seeds,
        },
        NeedTerm {
            name: "bytes given per byte taken",
            value: ratio,
            weight: returned,
        },
        NeedTerm {
            name: "echo: heard again per piece given",
            value: (pieces_given >= 1.0).then_some(echo),
            weight: 1.0 + echo / 2.0,
        },
        NeedTerm {
            name: "scrape known",
            value: Some(f64::from(u8::from(scraped.is_some()))),
            weight: 1.0,
        },
        places,
        cache,
    ];
    (terms.iter().map(|term| term.weight).product(), terms)
}

/// What the caps of its feed leave it: nothing keeps it out, or all does.
fn cap_terms(facts: &NeedFacts) -> [NeedTerm; 2] {
    let admits = |has_room: bool| if facts.joined || has_room { 1.0 } else { 0.0 };
    [
        NeedTerm {
            name: "torrents left to its feed",
            value: facts.room.torrents.map(f64::from),
            weight: admits(facts.room.torrents != Some(0)),
        },
        NeedTerm {
            name: "cache left to its feed, bytes",
            value: facts.room.cache.map(|left| left as f64),
            weight: admits(feed_cap::fetches(facts.room, facts.piece)),
        },
    ]
}

/// One swarm among others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankFacts {
    /// Its need score.
    pub need: f64,
    /// Its place in the order of coming.
    pub place: u32,
}

/// The number that swarms are ranked by: the need.
#[must_use]
pub fn rank(facts: RankFacts) -> f64 {
    facts.need
}

/// What decides whether a joined swarm is worth staying in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StayFacts {
    /// Time since it was joined.
    pub joined_for: Duration,
    /// Time since somebody there last wanted something of what we have or could have.
    pub no_demand_for: Duration,
    /// Bytes taken for the free repeater since it was joined.
    pub taken: u64,
    /// Bytes given to strangers since it was joined.
    pub given: u64,
    /// Piece length, bytes.
    pub piece: u64,
}

/// Whether to leave, and why: nothing came back for two pieces within [`PROBE`], or nobody wanted anything for
/// [`DWELL`].
#[must_use]
pub fn leave(facts: &StayFacts) -> Option<LeaveReason> {
    let spent = facts.piece > 0 && facts.taken >= facts.piece * 2;
    if spent && facts.joined_for >= PROBE && facts.given < facts.taken / 2 {
        return Some(LeaveReason::PoorReturn);
    }
    (facts.joined_for >= DWELL && facts.no_demand_for >= DWELL).then_some(LeaveReason::NoDemand)
}

/// How long a swarm rests that was left `times` times already: 10 min, 20 min, … 6 h.
#[must_use]
pub fn rest(times: u32) -> Duration {
    REST_MIN.saturating_mul(1 << times.min(10)).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(complete: u32, incomplete: u32) -> NeedFacts {
        NeedFacts {
            complete: Some(complete),
            incomplete: Some(incomplete),
            ..NeedFacts::default()
        }
    }

    #[test]
    fn starving_comes_before_balanced_before_overseeded() {
        let scores = [counted(1, 8), counted(4, 8), counted(8, 2)].map(|facts| score(&facts).0);
        assert!(scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
    }

    #[test]
    fn unknown_is_not_zero() {
        assert!(score(&NeedFacts::default()).0 > score(&counted(0, 0)).0);
        assert!(score(&NeedFacts::default()).0 < score(&counted(1, 8)).0);
    }

    #[test]
    fn we_do_not_count_ourselves() {
        let us = NeedFacts {
            counts_us: true,
            ..counted(3, 1)
        };
        assert!(score(&us).0.abs() < f64::EPSILON);
    }

    #[test]
    fn a_full_feed_needs_nobody_and_what_is_joined_stays() {
        let room = FeedRoom {
            torrents: Some(0),
            cache: None,
        };
        let full = NeedFacts {
            room,
            ..counted(1, 8)
        };
        assert!(score(&full).0.abs() < f64::EPSILON);
        let joined = NeedFacts {
            joined: true,
            ..full
        };
        assert!(score(&joined).0 > 0.0);
        let shown = score(&full)
            .1
            .iter()
            .any(|term| term.name == "torrents left to its feed" && term.value == Some(0.0));
        assert!(shown);
    }

    #[test]
    fn downloaders_beat_incomplete() {
        let partial = NeedFacts {
            downloaders: Some(1),
            ..counted(1, 50)
        };
        assert!(score(&partial).0 < score(&counted(1, 5)).0);
    }

    #[test]
    fn return_and_echo_move_the_score_and_terms_multiply_to_it() {
        let base = NeedFacts {
            piece: 1000,
            ..counted(1, 8)
        };
        let poor = NeedFacts {
            taken: 100_000,
            given: 0,
            ..base
        };
        let rich = NeedFacts {
            taken: 100_000,
            given: 600_000,
            ..base
        };
        let echoed = NeedFacts {
            echoes: 1200,
            ..rich
        };
        assert!(
            score(&poor).0 < score(&base).0
                && score(&base).0 < score(&rich).0
                && score(&rich).0 < score(&echoed).0
        );
        let (total, terms) = score(&echoed);
        assert!((terms.iter().map(|t| t.weight).product::<f64>() - total).abs() < 1e-9);
    }

    #[test]
    fn poor_return_leaves_within_the_probe_and_rests_grow() {
        let facts = StayFacts {
            joined_for: PROBE,
            no_demand_for: Duration::ZERO,
            taken: 2000,
            given: 0,
            piece: 1000,
        };
        assert_eq!(leave(&facts), Some(LeaveReason::PoorReturn));
        assert_eq!(
            leave(&StayFacts {
                given: 1000,
                ..facts
            }),
            None
        );
        assert_eq!(
            leave(&StayFacts {
                taken: 1000,
                ..facts
            }),
            None
        );
        assert_eq!(
            leave(&StayFacts {
                joined_for: DWELL,
                no_demand_for: DWELL,
                taken: 0,
                ..facts
            }),
            Some(LeaveReason::NoDemand)
        );
        assert!(rest(0) < rest(1) && rest(30) == REST_MAX);
    }
}
