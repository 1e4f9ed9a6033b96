//! How much help may go unsigned in the moment, and unpaid over time: tit for tat. Who decides about help asks here.

/// The window holds at least this much of the rate, in seconds. What was delivered shows late: Transmission's rates are means
/// over two seconds, looked at once a second, so with two seconds a fast helper would stand still half of the time.
const WINDOW_SECONDS: u64 = 4;
/// The ceiling grows to at most this many times where it began.
const MAX_GROWTH: u64 = 8;

/// How much help may be unsigned, in bytes: `configured_bytes`, or four seconds of the rate (bytes/s) if that is more.
#[must_use]
//= spec/iou.md#window
pub fn window_bytes(configured_bytes: u64, rate_bps: u64) -> u64 {
    configured_bytes.max(rate_bps.saturating_mul(WINDOW_SECONDS))
}

/// How far a friend's signed debt may exceed ours, in bytes: `credit_bytes`, and half of what was repaid, to at most 8 times
/// `credit_bytes`. Repaid is what the friend gave us of what we gave it: the smaller of the two signed totals.
#[must_use]
//= spec/iou.md#ceiling
pub fn ceiling_bytes(credit_bytes: u64, given_bytes: u64, received_bytes: u64) -> u64 {
    let repaid = given_bytes.min(received_bytes);
    credit_bytes
        .saturating_add(repaid / 2)
        .min(credit_bytes.saturating_mul(MAX_GROWTH))
}
