use super::*;

//= spec/iou.md#disputed
//= spec/iou.md#refusal
#[test]
fn p15_help_stops_one_window_after_the_last_iou() {
    let mut account = synced();
    let window = window_bytes(4 << 20, 1 << 20);
    assert_eq!(window, 4 << 20);
    assert_eq!(window_bytes(4 << 20, 3 << 20), 6 << 20);
    account.meter_mut().deliver(1, 3 << 20);
    assert_eq!(account.meter().room_bytes(1, window), 1 << 20);
    account.meter_mut().deliver(1, 1 << 20);
    assert_eq!(account.meter().room_bytes(1, window), 0);
    account.receive(&signed(1, 2, 2 << 20), Some(1));
    assert_eq!(account.meter().room_bytes(1, window), 2 << 20);
    assert_eq!(account.meter_mut().end(1), 2 << 20);
    assert_eq!(account.meter().disputed_bytes(), 2 << 20);
    // Half of all was left unsigned, but not a whole window; then it is more than both.
    assert!(!account.meter().refused(window));
    account.meter_mut().deliver(2, 3 << 20);
    account.meter_mut().end(2);
    assert!(account.meter().refused(window));
    // Signed late after all.
    account.receive(&signed(1, 2, 6 << 20), None);
    assert_eq!(account.meter().disputed_bytes(), 1 << 20);
    assert!(!account.meter().refused(window));
}

//= spec/iou.md#late-payment
#[test]
fn a_signature_pays_for_its_own_help_first() {
    let mut meter = Meter::default();
    meter.deliver(1, 10);
    meter.deliver(2, 10);
    meter.sign(Some(2), 15);
    assert_eq!((meter.room_bytes(1, 10), meter.room_bytes(2, 10)), (5, 10));
    meter.sign(None, 8);
    assert_eq!(meter.unsigned_bytes(), 0);
    // Three bytes were signed before they were counted.
    meter.deliver(1, 5);
    assert_eq!(meter.unsigned_bytes(), 2);
}

#[test]
fn p11_the_ceiling_grows_with_what_is_repaid() {
    let mib = 1 << 20;
    assert_eq!(ceiling_bytes(64 * mib, 1000 * mib, 0), 64 * mib);
    assert_eq!(ceiling_bytes(64 * mib, 1000 * mib, 100 * mib), 114 * mib);
    assert_eq!(ceiling_bytes(64 * mib, 100 * mib, 1000 * mib), 114 * mib);
    assert_eq!(ceiling_bytes(64 * mib, u64::MAX, u64::MAX), 512 * mib);
    assert_eq!(headroom_bytes(64 * mib, 0, 0), 64 * mib);
    assert_eq!(headroom_bytes(64 * mib, 64 * mib, 0), 0);
    assert_eq!(headroom_bytes(64 * mib, 200 * mib, 0), 0);
    assert_eq!(headroom_bytes(64 * mib, 164 * mib, 100 * mib), 50 * mib);
}
