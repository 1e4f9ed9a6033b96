//! How far a seed is believed to compete with us.
//!
//! The yield of a piece is divided among its holders *with a free slot*. A seed that has one lets us ask at once; one that
//! leaves us choked though we are interested, or lets our requests time out, has none, or has nothing at all: it only says
//! that it is a seed. Its weight is 1 / (1 + (t / 15 s)²), t = time since it last gave or let us ask without failing. Seeds
//! that say nothing for 45 s are let go before others, and tried again ever later.
//!
//! A seed that was a leecher when we met it, and took a piece from us, is believed: it is busy with others, and what it
//! serves to them nobody asks of us.
//!
//! One seed is believed while any claims to be one: the pieces that nobody else has come from somewhere. So five silent
//! liars beside a seed count, after a minute, for a third of a seed and not for five (plan *liars*: they kept us out).

use core::time::Duration;

/// Half of a seed's weight is gone after so long.
const HALF_S: f64 = 15.0;
/// Below this weight a seed is let go.
const GONE: f64 = 0.1;

/// Weight of a seed that has given nothing, and let us ask nothing, for so long: 1 to 0.
#[must_use]
pub fn weight(silent: Duration) -> f64 {
    let x = silent.as_secs_f64() / HALF_S;
    1.0 / (1.0 + x * x)
}

/// Nothing is expected of it any more.
#[must_use]
pub fn given_up(silent: Duration) -> bool {
    weight(silent) < GONE
}

/// Seeds that compete with us, of so many connected, when `doubted` is what their weights lack of one each.
#[must_use]
pub fn rivals(seeds: u32, doubted: f64) -> f64 {
    let seeds = f64::from(seeds);
    (seeds - doubted).max(seeds.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_wears_a_claim_down() {
        let at = |seconds| weight(Duration::from_secs(seconds));
        assert!((at(0) - 1.0).abs() < 1e-9 && (at(15) - 0.5).abs() < 1e-9);
        assert!(at(60) < 0.06);
        assert!(!given_up(Duration::from_secs(44)) && given_up(Duration::from_secs(46)));
    }

    #[test]
    fn five_liars_beside_a_seed_count_for_less_than_another_seed() {
        let doubted = 5.0 * (1.0 - weight(Duration::from_secs(60)));
        assert!(rivals(6, doubted) < 1.4);
        assert!((rivals(6, 0.0) - 6.0).abs() < 1e-9);
    }

    #[test]
    fn one_seed_is_believed_and_none_is_not_invented() {
        assert!((rivals(3, 3.0) - 1.0).abs() < 1e-9 && (rivals(1, 1.0) - 1.0).abs() < 1e-9);
        assert!(rivals(0, 0.0).abs() < 1e-9);
    }
}
