//! Any bytes as an IOU, alone and with a signature, and as what a store or an import holds: no panic; what is read is its
//! own only spelling; nothing unsigned gets into an account.
#![no_main]

use friends_proto::identity::{Identity, Zeroizing};
use friends_proto::iou::{Iou, MAX_IOU_BYTES, MAX_SIGNED_BYTES, UnverifiedIou};
use friends_proto::ledger::{Account, AccountRecord, IouRecord, StoreEpoch};
use libfuzzer_sys::fuzz_target;

fn account(data: &[u8]) {
    let Some((split, rest)) = data.split_first() else { return };
    let (iou, signature) = rest.split_at(usize::from(*split).min(rest.len()));
    let key = |seed| Identity::from_secret(&Zeroizing::new([seed; 32])).public_key();
    let kept = IouRecord { iou: iou.to_vec(), signature: signature.to_vec() };
    let record = AccountRecord {
        friend: *key(2).as_bytes(),
        given: Some(kept.clone()),
        received: None,
        synced_at: None,
        delivered_bytes: 0,
        disputed_bytes: 0,
    };
    let epoch = StoreEpoch { number: 1, broken_at: None };
    if let Ok(account) = Account::open(key(1), &record, epoch) {
        assert_eq!(kept.verify().expect("opened").iou().total_bytes(), account.given_bytes());
    }
    assert_eq!(record.clone().join(record.clone()), record);
}

fuzz_target!(|data: &[u8]| {
    if let Ok(iou) = Iou::decode(data) {
        assert!(data.len() <= MAX_IOU_BYTES);
        assert_eq!(iou.encode(), data, "one spelling only");
    }
    if let Ok(unverified) = UnverifiedIou::decode(data) {
        assert!(data.len() <= MAX_SIGNED_BYTES + 8);
        if let Ok(signed) = unverified.verify() {
            assert_eq!(signed.encode(), data, "one spelling only");
        }
    }
    account(data);
});
