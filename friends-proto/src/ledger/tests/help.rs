use super::*;

#[test]
fn the_window_is_four_seconds_of_the_rate_or_more() {
    assert_eq!(window_bytes(4 << 20, 1 << 20), 4 << 20);
    assert_eq!(window_bytes(4 << 20, 3 << 20), 12 << 20);
    assert_eq!(window_bytes(4 << 20, u64::MAX), u64::MAX);
}

#[test]
fn p11_the_ceiling_grows_with_what_is_repaid() {
    let mib = 1 << 20;
    assert_eq!(ceiling_bytes(64 * mib, 1000 * mib, 0), 64 * mib);
    assert_eq!(ceiling_bytes(64 * mib, 1000 * mib, 100 * mib), 114 * mib);
    // What they gave before they were given anything is no repayment.
    assert_eq!(ceiling_bytes(64 * mib, 100 * mib, 1000 * mib), 114 * mib);
    assert_eq!(ceiling_bytes(64 * mib, u64::MAX, u64::MAX), 512 * mib);
}
