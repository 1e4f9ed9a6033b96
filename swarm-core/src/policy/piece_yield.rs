//! Expected uploads of a piece, in copies.
//!
//! yield = L / (1 + S·w + H·v): L downloaders lack it; S seeds, as far as they are believed, and H other peers hold it besides us and compete for
//! the requests. A seed with a free slot serves anything; a downloader's line is shared with all it exchanges with.
//! Weights w = 0.75 and v = 0.05 and the goal of 2.9 copies: tuned on the virtual swarm of rig E4 (tests/support), means of
//! eight runs. There the goal is a plain trade: with 2.3 a ratio of 4.4 and 67 % of the line, with 2.9 4.8 and 62 %; a
//! larger v costs both. On the wire a piece that only one downloader has brings 4.8 copies when it arrives within 14 s,
//! one that two have 3.5, three 3, and one that only the seed has 7.3: a third of those who still lack it have it on its
//! way from others. A swarm of 1 seed and 8 downloaders passes, one of 4 seeds and 8 downloaders does not.
//! Seeds, free repeaters (`bs_repeater` = 1) and upload-only peers are
//! no demand: they are in neither L nor the threshold (libtorrent share mode's step-6 fault).

/// How much a seed competes with us for one request.
const SEED: f64 = 0.75;
/// How much another holder competes.
const HOLDER: f64 = 0.05;
/// Copies a piece should bring in a large swarm.
const GOAL: f64 = 2.9;
/// In a small swarm: this part of its downloaders.
const SMALL: f64 = 0.42;
/// The same where the cache has room for few pieces, and not the line is what is short of: what only the seed has, or
/// one other.
const SCARCE_GOAL: f64 = 3.6;
const SCARCE_SMALL: f64 = 0.45;
/// An ordinary seed has slots for so many downloaders and us.
const SLOTS: u32 = 4;
/// Fewer pieces than this in the whole cache are few.
const FEW: u64 = 16;

/// Who has a piece and who lacks it, us left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct YieldFacts {
    /// Downloaders that lack it.
    pub lack: u32,
    /// Seeds.
    pub seeds: u32,
    /// Of them, those believed to have a slot free ([`crate::policy::belief`]).
    pub rivals: f64,
    /// Other holders.
    pub holders: u32,
}

/// An absent piece that may be planned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanFacts {
    /// Who has it and who lacks it.
    pub piece: YieldFacts,
    /// Downloaders in all.
    pub downloaders: u32,
    /// The swarm has taken something from us, or has [few] downloaders.
    pub proven: bool,
    /// The cache holds few pieces of this length.
    pub scarce: bool,
    /// Part that downloaders gain each second of what they lack, times the seconds until we have the piece.
    pub wait: f64,
}

/// What a piece is worth, in copies; `None`: not a fetch.
#[must_use]
pub fn worth(facts: &PlanFacts) -> Option<f64> {
    let copies = on_arrival(copies(facts.piece), facts.wait);
    let least = threshold(facts.downloaders, facts.proven, facts.scarce);
    (copies >= least).then_some(copies)
}

/// Expected uploads, in copies of the piece.
#[must_use]
pub fn copies(facts: YieldFacts) -> f64 {
    f64::from(facts.lack) / (1.0 + SEED * facts.rivals + HOLDER * f64::from(facts.holders))
}

/// What is left of a yield when the piece arrives only after a while: downloaders gain a part of what they lack each
/// second, from others. That is e⁻ˣ of it, x = that part × seconds, by the first terms of its series.
#[must_use]
pub fn on_arrival(copies: f64, x: f64) -> f64 {
    copies / (1.0 + x + x * x / 2.0)
}

/// A cache of so many bytes holds few pieces of this length.
#[must_use]
pub fn scarce(cache: u64, piece: u64) -> bool {
    cache / piece.max(1) < FEW
}

/// So few downloaders that the seed has a slot for us too, whatever we give: there a piece must bring its share from the
/// first one on. One that one of three has too brings 0.8 copies and not 2.3, and such pieces were an eighth of what was
/// taken (plan *three-leechers*: with one for all a ratio of 2.08, so 2.22). `connected` may be those who came so far;
/// `scraped`: how many a tracker counts, us among them.
#[must_use]
pub fn few(connected: u32, scraped: Option<u32>) -> bool {
    connected.max(scraped.map_or(0, |all| all.saturating_sub(1))) <= SLOTS
}

/// Least yield worth a fetch in a swarm of so many downloaders, in copies: never below one, for a byte taken from a
/// swarm must come back. `proven`: it has taken something from us, or has [few] downloaders. Until then one will do, for
/// nobody unchokes us for long who got nothing from us: what the first pieces bring is not only their copies.
#[must_use]
pub fn threshold(downloaders: u32, proven: bool, scarce: bool) -> f64 {
    let (part, goal) = match (proven, scarce) {
        (false, _) => (SMALL, 1.0),
        (true, false) => (SMALL, GOAL),
        (true, true) => (SCARCE_SMALL, SCARCE_GOAL),
    };
    (part * f64::from(downloaders)).clamp(1.0, goal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every seed is believed.
    fn y(lack: u32, seeds: u32, holders: u32) -> f64 {
        copies(YieldFacts {
            lack,
            seeds,
            rivals: f64::from(seeds),
            holders,
        })
    }

    #[test]
    fn rare_pieces_yield_more() {
        assert!(y(8, 1, 0) > y(7, 1, 1) && y(7, 1, 1) > y(4, 1, 4));
        assert!(y(8, 1, 0) > y(8, 4, 0));
    }

    #[test]
    fn where_the_cache_is_small_a_piece_has_to_bring_more() {
        assert!(scarce(4 << 20, 512 << 10) && !scarce(16 << 20, 512 << 10));
        let of = |lack, holders| y(lack, 1, holders);
        let least = threshold(8, true, true);
        assert!(of(8, 0) >= least && of(7, 1) >= least && of(6, 2) < least);
        assert!(of(6, 2) >= threshold(8, true, false));
    }

    #[test]
    fn in_a_small_swarm_no_piece_is_begun_that_another_has_too() {
        assert!(few(3, None) && few(4, Some(5)) && few(1, Some(4)));
        assert!(!few(5, None) && !few(1, Some(9)) && !few(5, Some(1)));
        let of = |lack, holders| y(lack, 1, holders);
        let least = threshold(3, few(3, None), false);
        assert!(of(3, 0) >= least && of(2, 1) < least);
        assert!(of(2, 1) >= threshold(3, false, false));
    }

    #[test]
    fn a_seed_that_is_not_believed_does_not_compete() {
        let of = |rivals| {
            copies(YieldFacts {
                lack: 8,
                seeds: 6,
                rivals,
                holders: 0,
            })
        };
        assert!(of(6.0) < threshold(8, true, false) && of(1.3) >= threshold(8, true, false));
    }

    #[test]
    fn late_pieces_yield_less() {
        assert!(on_arrival(4.0, 0.16) < on_arrival(4.0, 0.04));
        let none = (on_arrival(4.0, 0.0) - 4.0).abs();
        assert!(none < f64::EPSILON && on_arrival(4.0, 8.0) < 0.1);
    }

    #[test]
    fn a_starving_swarm_passes_and_an_overseeded_one_does_not() {
        assert!(y(8, 1, 0) >= threshold(8, true, false));
        assert!(y(8, 4, 0) < threshold(8, true, false));
        assert!(y(4, 2, 0) < threshold(4, true, false) && y(4, 4, 0) < threshold(4, true, false));
        assert!(y(3, 1, 0) >= threshold(3, true, false) && y(2, 1, 0) >= threshold(2, true, false));
        assert!(y(2, 8, 0) < threshold(2, true, false));
        assert!(y(1, 1, 0) < threshold(1, true, false));
    }
}
