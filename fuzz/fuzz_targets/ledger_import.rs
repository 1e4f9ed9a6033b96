//! An export of friends and ledger, as `slavectl friends import` takes it in: no panic; nothing unsigned, and nothing of
//! other parties, gets into an account; what was taken in never falls by taking it in again.
//!
//! The pure file is included by path: the daemon around it is nothing a fuzzer needs to build.
#![no_main]

#[path = "../../repeater/src/daemon/export.rs"]
mod export;

use friends_proto::identity::PublicKey;
use friends_proto::ledger::{Account, StoreEpoch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(export) = serde_json::from_slice(data) else { return };
    let Ok(read) = export::read(export) else { return };
    assert!(read.friends.iter().all(|(_, name, _)| export::check_name(name).is_ok()));
    let epoch = StoreEpoch { number: 1, broken_at: None };
    for (own, record) in read.accounts {
        let Ok(mut account) = Account::open(own, &record, epoch) else { continue };
        let friend = PublicKey::from_bytes(&record.friend).expect("opened");
        let before = (account.given_bytes(), account.received_bytes());
        for kept in record.given.iter().chain(&record.received) {
            let signed = kept.verify().expect("opened");
            let parties = (*signed.iou().creditor(), *signed.iou().debtor());
            assert!(parties == (own, friend) || parties == (friend, own));
            account.receive(&signed);
        }
        assert_eq!(before, (account.given_bytes(), account.received_bytes()));
        let again = account.record().join(record.clone());
        assert_eq!((again.given, again.received), (record.given, record.received));
    }
});
