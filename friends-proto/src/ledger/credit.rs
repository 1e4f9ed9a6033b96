//! How much signed help a friend may be ahead of us: tit for tat over time.

/// The ceiling grows to at most this many times where it began.
const MAX_GROWTH: u64 = 8;

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

/// What may still be given before the friend's net signed debt reaches its ceiling, in bytes; 0 when it is over.
#[must_use]
pub fn headroom_bytes(credit_bytes: u64, given_bytes: u64, received_bytes: u64) -> u64 {
    ceiling_bytes(credit_bytes, given_bytes, received_bytes)
        .saturating_add(received_bytes)
        .saturating_sub(given_bytes)
}
