mod help;
mod simulation;

use super::*;
use crate::identity::{Identity, PublicKey, Zeroizing};
use crate::iou::{Iou, MAX_TOTAL, SignedIou, TermsError};

const WHOLE: StoreEpoch = StoreEpoch {
    number: 1,
    broken_at: None,
};
const BROKEN: StoreEpoch = StoreEpoch {
    number: 9,
    broken_at: Some(9),
};

fn identity(seed: u8) -> Identity {
    Identity::from_secret(&Zeroizing::new([seed; 32]))
}

fn key(seed: u8) -> PublicKey {
    identity(seed).public_key()
}

/// What `debtor` signed to owe `creditor`.
fn signed(creditor: u8, debtor: u8, total: u64) -> SignedIou {
    Iou::new(key(creditor), key(debtor), total)
        .expect("terms")
        .sign(&identity(debtor))
        .expect("debtor")
}

/// The account of 1 with its friend 2.
fn account() -> Account {
    Account::new(key(1), key(2), WHOLE)
}

fn synced() -> Account {
    let mut account = account();
    account.begin_session();
    account.sync(&[]).expect("nothing shown");
    account
}

fn sign(account: &mut Account, total: u64) -> SignedIou {
    let (_, token) = account.prepare(&identity(1), total).expect("may sign");
    account.persisted(&token).expect("its own token")
}

#[test]
fn p3_a_replayed_iou_changes_nothing() {
    let mut account = synced();
    let iou = signed(1, 2, 100);
    assert!(matches!(
        account.receive(&iou),
        Receipt::Newer {
            by_bytes: 100,
            direction: Direction::Given,
            ..
        }
    ));
    let before = account.record();
    for _ in 0..1000 {
        assert_eq!(account.receive(&iou), Receipt::Same);
    }
    assert_eq!(account.record(), before);
}

#[test]
fn p5_a_lower_total_is_stale() {
    let mut account = synced();
    account.receive(&signed(1, 2, 100));
    let stale = Receipt::Stale {
        direction: Direction::Given,
        held_bytes: 100,
        shown_bytes: 99,
    };
    assert_eq!(account.receive(&signed(1, 2, 99)), stale);
    assert_eq!(account.given_bytes(), 100);
}

#[test]
fn p4_the_larger_total_counts_and_the_contradiction_is_shown() {
    let mut account = synced();
    account.receive(&signed(1, 2, 100));
    account.begin_session();
    let report = account.sync(&[signed(1, 2, 40)]).expect("ours");
    let contradiction = Contradiction {
        held_bytes: 100,
        shown_bytes: 40,
    };
    assert_eq!(report.contradiction, Some(contradiction));
    assert_eq!(account.given_bytes(), 100);
    // A friend with the same or more contradicts nothing.
    for honest in [100, 150] {
        account.begin_session();
        let report = account.sync(&[signed(1, 2, honest)]).expect("ours");
        assert_eq!(report.contradiction, None);
    }
    assert_eq!(account.given_bytes(), 150);
}

#[test]
fn p8_a_friend_that_lost_its_ledger_is_shown_its_own_signature() {
    let mut account = synced();
    account.receive(&signed(1, 2, 100));
    account.begin_session();
    let report = account.sync(&[]).expect("nothing shown");
    assert_eq!(report.contradiction.map(|c| c.shown_bytes), Some(0));
    let mut friend = Account::new(key(2), key(1), BROKEN);
    friend.begin_session();
    let shown: Vec<SignedIou> = account.shown().copied().collect();
    assert_eq!(friend.sync(&shown).expect("ours").adopted_bytes, 100);
    assert_eq!(friend.received_bytes(), 100);
    assert_eq!(friend.state(), State::Synced);
}

#[test]
fn p6_p13_ious_between_others_change_nothing() {
    let mut account = synced();
    let before = account.record();
    for foreign in [
        signed(1, 3, 5),
        signed(3, 1, 5),
        signed(2, 3, 5),
        signed(3, 2, 5),
    ] {
        assert_eq!(account.receive(&foreign), Receipt::NotOurs);
        assert_eq!(account.sync(&[signed(1, 2, 7), foreign]), Err(NotOurs));
    }
    assert_eq!(account.record(), before);
}

#[test]
fn p7_a_restored_store_signs_nothing_before_one_sync_and_adopts() {
    let mut whole = synced();
    let old = whole.record();
    let newest = sign(&mut whole, 500);
    let mut restored = Account::open(key(1), &old, BROKEN).expect("verifies");
    assert_eq!(restored.state(), State::Restored);
    assert_eq!(
        restored.prepare(&identity(1), 10).err(),
        Some(SignRefusal::NotSynced)
    );
    restored.begin_session();
    let report = restored.sync(&[newest]).expect("ours");
    assert_eq!(report.adopted_bytes, 500);
    let refusal = SignRefusal::NotMore { held_bytes: 500 };
    assert_eq!(restored.prepare(&identity(1), 500).err(), Some(refusal));
    assert_eq!(sign(&mut restored, 501).iou().total_bytes(), 501);
}

#[test]
fn every_session_begins_with_a_sync_even_of_a_synced_account() {
    let mut account = synced();
    sign(&mut account, 1);
    account.begin_session();
    assert_eq!(account.state(), State::Synced);
    assert_eq!(
        account.prepare(&identity(1), 2).err(),
        Some(SignRefusal::NotSynced)
    );
}

#[test]
fn p9_nothing_leaves_before_it_is_durable() {
    let mut account = synced();
    let (record, token) = account.prepare(&identity(1), 100).expect("may sign");
    // Not shown, not repeated, not replaced; but in the record of whatever happens meanwhile.
    assert_eq!(account.shown().count(), 0);
    assert_eq!(
        account.prepare(&identity(1), 200).err(),
        Some(SignRefusal::Unpersisted)
    );
    let Receipt::Newer { record: later, .. } = account.receive(&signed(1, 2, 7)) else {
        panic!("newer");
    };
    assert_eq!(later.received, record.received);
    assert!(record.received.is_some());
    // A crash here opens to what was recorded.
    let reopened = Account::open(key(1), &record, WHOLE).expect("verifies");
    assert_eq!(reopened.received_bytes(), 100);
    let mut other = synced();
    assert_eq!(other.persisted(&token), Err(WrongToken));
    assert_eq!(
        account.persisted(&token).map(|iou| iou.iou().total_bytes()),
        Ok(100)
    );
    assert_eq!(account.persisted(&token), Err(WrongToken));
    assert_eq!(account.shown().count(), 2);
}

#[test]
fn a_larger_own_signature_seen_while_another_is_persisted_is_what_leaves() {
    let mut account = synced();
    let (_, token) = account.prepare(&identity(1), 100).expect("may sign");
    assert!(matches!(
        account.receive(&signed(2, 1, 300)),
        Receipt::Newer {
            direction: Direction::Received,
            by_bytes: 300,
            ..
        }
    ));
    let kept = account
        .record()
        .received
        .expect("some")
        .verify()
        .expect("ours");
    assert_eq!(kept.iou().total_bytes(), 300);
    assert_eq!(
        account.persisted(&token).map(|iou| iou.iou().total_bytes()),
        Ok(300)
    );
}

#[test]
fn p10_totals_end_at_their_limit() {
    let mut account = synced();
    sign(&mut account, MAX_TOTAL);
    let over = SignRefusal::Terms(TermsError::TooLarge(MAX_TOTAL + 1));
    assert_eq!(
        account.prepare(&identity(1), MAX_TOTAL + 1).err(),
        Some(over)
    );
    account.receive(&signed(1, 2, MAX_TOTAL));
    assert_eq!(ceiling_bytes(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn an_account_is_signed_for_by_its_own_identity_only() {
    let mut account = synced();
    assert_eq!(
        account.prepare(&identity(2), 1).err(),
        Some(SignRefusal::NotDebtor)
    );
}

//= spec/iou.md#open-verify
#[test]
fn a_record_is_verified_when_it_is_opened() {
    let mut account = synced();
    account.receive(&signed(1, 2, 100));
    sign(&mut account, 50);
    let good = account.record();
    assert_eq!(
        Account::open(key(1), &good, WHOLE)
            .expect("verifies")
            .record(),
        good
    );
    let mut forged = good.clone();
    forged.given.as_mut().expect("some").signature[3] ^= 1;
    assert!(matches!(
        Account::open(key(1), &forged, WHOLE),
        Err(OpenError::Iou(_))
    ));
    let swapped = AccountRecord {
        given: good.received.clone(),
        received: good.given.clone(),
        ..good.clone()
    };
    assert_eq!(
        Account::open(key(1), &swapped, WHOLE).err(),
        Some(OpenError::NotOurs)
    );
    assert_eq!(
        Account::open(key(3), &good, WHOLE).err(),
        Some(OpenError::NotOurs)
    );
    let no_key = AccountRecord {
        friend: [2; 32],
        ..good
    };
    assert!(matches!(
        Account::open(key(1), &no_key, WHOLE),
        Err(OpenError::Key(_))
    ));
}

#[test]
fn joined_records_keep_the_larger_totals_in_any_order() {
    let mut account = synced();
    let mut records = vec![account.record()];
    for total in [10, 20] {
        sign(&mut account, total);
        records.push(account.record());
        account.receive(&signed(1, 2, total));
        records.push(account.record());
    }
    let newest = account.record();
    let forward = records.iter().cloned().reduce(AccountRecord::join);
    let backward = records.iter().rev().cloned().reduce(AccountRecord::join);
    assert_eq!(forward, Some(newest.clone()));
    assert_eq!(backward, Some(newest.clone()));
    // What is no IOU never wins.
    let mut junk = newest.clone();
    junk.given.as_mut().expect("some").iou = vec![0xff; 108];
    assert_eq!(junk.clone().join(newest.clone()), newest);
    assert_eq!(newest.clone().join(junk).given, newest.given);
}

#[test]
fn a_broken_store_is_noticed_and_remembered() {
    let first = StoreEpoch::open(BesideKey::NewKey, None);
    assert_eq!(first, WHOLE);
    let next = |beside, store| StoreEpoch::open(beside, Some(store));
    let second = next(BesideKey::Number(1), first);
    assert_eq!((second.number, second.broken_at), (2, None));
    // A crash between the two writes leaves the store one ahead.
    assert_eq!(next(BesideKey::Number(1), second).broken_at, None);
    assert_eq!(next(BesideKey::Number(1), second).number, 3);
    // An older store, a store of another key, a lost number, a lost store.
    let lost = |beside, store| StoreEpoch::open(beside, store).broken_at;
    assert_eq!(lost(BesideKey::Number(7), Some(second)), Some(8));
    assert_eq!(lost(BesideKey::Number(0), Some(second)), Some(3));
    assert_eq!(lost(BesideKey::Missing, Some(second)), Some(3));
    assert_eq!(lost(BesideKey::NewKey, Some(second)), Some(3));
    assert_eq!(lost(BesideKey::Missing, None), Some(1));
    assert_eq!(lost(BesideKey::Number(7), None), Some(8));
    // Remembered over later, whole openings.
    let broken = StoreEpoch::open(BesideKey::Number(7), None);
    let later = next(BesideKey::Number(8), broken);
    assert_eq!((later.number, later.broken_at), (9, Some(8)));
}

#[test]
fn states_follow_the_last_sync_and_the_last_break() {
    let mut account = account();
    assert_eq!(account.state(), State::Fresh);
    assert_eq!(
        Account::new(key(1), key(2), BROKEN).state(),
        State::Restored
    );
    account.sync(&[]).expect("nothing shown");
    let record = account.record();
    let opened = |number, broken_at| {
        Account::open(key(1), &record, StoreEpoch { number, broken_at })
            .expect("verifies")
            .state()
    };
    assert_eq!(opened(2, None), State::Synced);
    assert_eq!(opened(2, Some(2)), State::Restored);
    assert_eq!(opened(3, Some(2)), State::Restored);
    assert_eq!(opened(3, Some(1)), State::Synced);
}
