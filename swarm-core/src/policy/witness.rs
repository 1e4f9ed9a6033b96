//! How much of a help is credited. The master cannot sign, and a HAVE proves nothing about who delivered, so the credit
//! is the lesser of what was reserved and is there now, and what was seen to come from the helper.
//!
//! Evidence by what the master's RPC tells: payload bytes by address (qBittorrent, exact); rates by address
//! (Transmission, `rateToClient` once a second; its integral plus one piece); bytes of our own hash-checked pieces where
//! we relay. Without any, direct delivery is a gift. So no ledger exceeds what was delivered by over one piece per help.

use core::time::Duration;

/// A piece taken back from a helper that then reports it held stays creditable so long.
pub const LAPSED: Duration = Duration::from_secs(60);
/// Between two looks at a rate no more than so long is counted: a look that failed proves nothing.
const LOOK: Duration = Duration::from_secs(2);

/// What was seen to come from one helper during one help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing can be seen: a gift.
    None,
    /// Payload bytes that the master counted from the helper's addresses.
    Counted(u64),
    /// The integral of the rates that the master reported, bytes; the piece length.
    Rates(u64, u64),
    /// Bytes of pieces that we had from the helper and whose hash was right.
    Relayed(u64),
}

/// Bytes seen.
#[must_use]
pub fn seen(evidence: Evidence) -> u64 {
    match evidence {
        Evidence::None => 0,
        Evidence::Counted(bytes) | Evidence::Relayed(bytes) => bytes,
        Evidence::Rates(0, _) => 0,
        Evidence::Rates(bytes, piece) => bytes.saturating_add(piece),
    }
}

/// Bytes to credit for the whole help so far: what was reserved and is now there, as far as it was seen to come.
#[must_use]
//= spec/friends.md#credit-witness
pub fn credit(reserved_and_there: u64, evidence: Evidence) -> u64 {
    reserved_and_there.min(seen(evidence))
}

/// A counter of the master's that may start anew (it reconnected): grows by what it grew since last time.
#[must_use]
pub fn grown(last: u64, now: u64) -> u64 {
    if now >= last { now - last } else { now }
}

/// Bytes that a rate (bytes/s), reported `since` after the last report, stands for.
#[must_use]
pub fn integral(rate: u64, since: Duration) -> u64 {
    let micros = u64::try_from(since.min(LOOK).as_micros()).unwrap_or(0);
    u64::try_from(u128::from(rate) * u128::from(micros) / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_have_alone_earns_nothing_and_bytes_alone_neither() {
        assert_eq!(credit(1000, Evidence::None), 0);
        assert_eq!(credit(1000, Evidence::Counted(0)), 0);
        assert_eq!(credit(0, Evidence::Counted(1000)), 0);
        assert_eq!(credit(1000, Evidence::Relayed(600)), 600);
    }

    #[test]
    fn a_rate_that_was_never_seen_earns_no_piece() {
        assert_eq!(credit(1000, Evidence::Rates(0, 256)), 0);
        assert_eq!(credit(1000, Evidence::Rates(1, 256)), 257);
    }

    #[test]
    fn a_look_that_failed_counts_two_seconds() {
        assert_eq!(integral(1000, Duration::from_secs(1)), 1000);
        assert_eq!(integral(1000, Duration::from_secs(3600)), 2000);
        assert_eq!(integral(u64::MAX, Duration::from_secs(2)), u64::MAX);
    }

    #[test]
    fn a_counter_that_started_anew_counts_from_nothing() {
        assert_eq!((grown(5, 8), grown(8, 5), grown(5, 5)), (3, 5, 0));
    }

    proptest! {
        /// The master's counters add up to what was delivered, cut into reports in any way and begun anew at any time.
        #[test]
        fn the_credit_never_exceeds_what_was_delivered_by_over_a_piece(
            parts in prop::collection::vec((0u64..1 << 20, prop::bool::weighted(0.1)), 0..40),
            reserved in 0u64..1 << 30,
            piece in 1u64..1 << 22,
        ) {
            let (mut delivered, mut counter, mut last, mut counted) = (0u64, 0u64, 0u64, 0u64);
            for (bytes, anew) in parts {
                if anew {
                    counter = 0;
                }
                delivered += bytes;
                counter += bytes;
                // A restart between two looks loses what was not looked at; it never adds.
                counted += grown(last, counter);
                last = counter;
            }
            prop_assert!(counted <= delivered);
            prop_assert!(credit(reserved, Evidence::Counted(counted)) <= delivered);
            prop_assert!(credit(reserved, Evidence::Rates(counted, piece)) <= delivered + piece);
        }
    }
}
