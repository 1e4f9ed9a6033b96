//! How long we stay interested, and when interest that is met by a choke is said anew.
//!
//! Interest outlives its last reason by a minute, or seeds and peers turn away. libtorrent, and with it qBittorrent and
//! Deluge, gives a free slot to a peer at the moment that it becomes interested, and else only when slots turn: each
//! 15 s, an optimistic one each 30 s. A choke often leaves such a free slot behind, so interest is said once more at once,
//! and then once in a while. The peer's own rule decides; who has no free slot loses ten bytes.

use core::time::Duration;

/// Interest lives on for so long after the last reason for it.
pub const HYSTERESIS: Duration = Duration::from_secs(60);
/// Interest is said anew at most so often.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether interest is to be said anew to a peer that chokes us, `since` it was last said.
#[must_use]
pub fn says_again(since: Duration) -> bool {
    since >= AGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ten_seconds_at_most() {
        assert!(!says_again(Duration::from_millis(9_999)) && says_again(AGAIN));
    }
}
