//! Expected uploads of a piece, in copies.
//!
//! yield = L / (1 + S·w + H·v): L downloaders lack it; S seeds and H other peers hold it besides us and compete for
//! the requests. A seed with a free slot serves anything; a downloader's line is shared with all it exchanges with.
//! Weights w = 0.75, v = 0.05 and the goal of 2.3 copies: tuned on the virtual swarm of rig E4 (tests/support), means of
//! eight runs. There the goal is a plain trade: 2.3 gives a ratio of 4.8 and 66 % of the line, 1.6 gives 4.4 and 70 %; a
//! larger v costs both. A swarm of 1 seed and 8 downloaders passes, one of 4 seeds and 8 downloaders does not.
//! Seeds, free repeaters (`bs_repeater` = 1) and upload-only peers are
//! no demand: they are in neither L nor the threshold (libtorrent share mode's step-6 fault).

/// How much a seed competes with us for one request.
const SEED: f64 = 0.75;
/// How much another holder competes.
const HOLDER: f64 = 0.05;
/// Copies a piece should bring in a large swarm.
const GOAL: f64 = 2.3;
/// In a small swarm: this part of its downloaders.
const SMALL: f64 = 0.42;

/// Who has a piece and who lacks it, us left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YieldFacts {
    /// Downloaders that lack it.
    pub lack: u32,
    /// Seeds.
    pub seeds: u32,
    /// Other holders.
    pub holders: u32,
}

/// Expected uploads, in copies of the piece.
#[must_use]
pub fn copies(facts: YieldFacts) -> f64 {
    f64::from(facts.lack)
        / (1.0 + SEED * f64::from(facts.seeds) + HOLDER * f64::from(facts.holders))
}

/// What is left of a yield when the piece arrives only after so many seconds: downloaders gain `hazard` of what they
/// lack each second, from others.
#[must_use]
pub fn on_arrival(copies: f64, hazard: f64, seconds: f64) -> f64 {
    copies * (1.0 - hazard * seconds).max(0.0)
}

/// Least yield worth a fetch in a swarm of so many downloaders, in copies: never below one, for a byte taken from a
/// swarm must come back.
#[must_use]
pub fn threshold(downloaders: u32) -> f64 {
    (SMALL * f64::from(downloaders)).clamp(1.0, GOAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_pieces_yield_more() {
        let y = |lack, seeds, holders| {
            copies(YieldFacts {
                lack,
                seeds,
                holders,
            })
        };
        assert!(y(8, 1, 0) > y(7, 1, 1) && y(7, 1, 1) > y(4, 1, 4));
        assert!(y(8, 1, 0) > y(8, 4, 0));
    }

    #[test]
    fn late_pieces_yield_less() {
        assert!(on_arrival(4.0, 0.02, 8.0) < on_arrival(4.0, 0.02, 2.0));
        assert!(on_arrival(4.0, 1.0, 8.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_starving_swarm_passes_and_an_overseeded_one_does_not() {
        let y = |lack, seeds, holders| {
            copies(YieldFacts {
                lack,
                seeds,
                holders,
            })
        };
        assert!(y(8, 1, 0) >= threshold(8));
        assert!(y(8, 4, 0) < threshold(8));
        assert!(y(4, 2, 0) < threshold(4) && y(4, 4, 0) < threshold(4));
        assert!(y(3, 1, 0) >= threshold(3) && y(2, 1, 0) >= threshold(2));
        assert!(y(2, 8, 0) < threshold(2));
        assert!(y(1, 1, 0) < threshold(1));
    }
}
