//! Whom we dial and when: exponential back-off per address, one connection per peer and swarm, a bounded number of
//! connections and addresses; masters sooner and for ever.

use core::time::Duration;

/// Addresses remembered per swarm.
pub const ADDRESSES: usize = 2000;
/// Dials under way per swarm.
pub const HALF_OPEN: usize = 12;
/// Connections sought per swarm.
pub const SOUGHT: usize = 60;
/// Seeds kept where only strangers are served; more of them would sit idle (libtorrent issue 3223).
pub const SEEDS_KEPT: usize = 2;
/// A dial without an answer by then has failed.
pub const DIAL_LOST: Duration = Duration::from_secs(90);
/// Dial failures of an ordinary address until it is forgotten.
pub const FORGET_AFTER: u32 = 6;
/// A master with nothing to get is looked up so often: Transmission purges idle peers.
const MASTER_IDLE: Duration = Duration::from_secs(300);
/// A master for which something waits is tried at least so often.
const MASTER_WANTED: Duration = Duration::from_secs(15);
/// For so long after a swarm was joined its master is tried at least every [`MASTER_FRESH_STEP`].
const MASTER_FRESH: Duration = Duration::from_secs(120);
const MASTER_FRESH_STEP: Duration = Duration::from_secs(8);

/// Wait after the `fails`-th failure in a row (1, 2, …) to reach a peer: 5 s, 15 s, 45 s … one hour. An operator's own
/// address: 1, 2, 4 … 60 s.
#[must_use]
pub fn backoff(fails: u32, by_operator: bool) -> Duration {
    let step = fails.saturating_sub(1).min(12);
    if by_operator {
        Duration::from_secs(1 << step.min(6)).min(Duration::from_secs(60))
    } else {
        Duration::from_secs(5 * 3u64.pow(step.min(7))).min(Duration::from_secs(3600))
    }
}

/// Wait after the `fails`-th failure in a row to reach a master: 1, 2, 4, 8 … s, up to what the case is worth.
#[must_use]
pub fn master_backoff(fails: u32, something_to_give: bool, joined_for: Duration) -> Duration {
    let most = if something_to_give {
        MASTER_WANTED
    } else {
        MASTER_IDLE
    };
    let most = if joined_for < MASTER_FRESH {
        most.min(MASTER_FRESH_STEP)
    } else {
        most
    };
    Duration::from_secs(1 << fails.saturating_sub(1).min(10)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        assert!(
            backoff(1, false) < backoff(2, false)
                && backoff(99, false) == Duration::from_secs(3600)
        );
        assert_eq!(backoff(1, true), Duration::from_secs(1));
        assert_eq!(backoff(99, true), Duration::from_secs(60));
    }

    #[test]
    fn masters_are_tried_quickly_at_first_then_every_five_minutes_unless_something_waits() {
        let young = Duration::from_secs(10);
        let old = Duration::from_secs(1000);
        assert_eq!(
            [1, 2, 3, 4, 5].map(|n| master_backoff(n, false, young).as_secs()),
            [1, 2, 4, 8, 8]
        );
        assert_eq!(master_backoff(20, false, old), MASTER_IDLE);
        assert_eq!(master_backoff(20, true, old), MASTER_WANTED);
    }
}
