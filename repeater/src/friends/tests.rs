#![allow(clippy::unwrap_used)]

use std::path::Path;

use friends_proto::identity::Zeroizing;
use friends_proto::ledger::{OpenError, Receipt};

use super::*;

mod moving_keys;
mod succession;

fn open(dir: &Path) -> Friends {
    Friends::open(Store::open(dir).unwrap().0).unwrap().0
}

fn far(seed: u8) -> Identity {
    Identity::from_secret(&Zeroizing::new([seed; 32]))
}

fn named(name: &str) -> SavedFriend {
    SavedFriend {
        name: name.to_owned(),
        hints: vec![],
        added_at: 1,
        last_seen: None,
    }
}

/// `me` and the friend of `seed` meet, and sign these totals for each other.
fn trade(friends: &Friends, seed: u8, given: u64, received: u64) {
    let (me, other) = (friends.identity().public_key(), far(seed));
    let key = other.public_key();
    let epoch = StoreEpoch {
        number: 1,
        broken_at: None,
    };
    let mut account = Account::new(key, me, epoch);
    let ours = |account: &mut Account| account.shown().copied().collect::<Vec<_>>();
    account
        .sync(&friends.with_account(&key, ours).unwrap())
        .unwrap();
    friends.with_account(&key, |account| account.sync(&[]).unwrap());
    friends.sign(&key, received, 0).unwrap();
    let (_, token) = account.prepare(&other, given).unwrap();
    let signed = account.persisted(&token).unwrap();
    let receipt = friends.with_account(&key, |account| account.receive(&signed));
    let Some(Receipt::Newer { record, .. }) = receipt else {
        panic!("{receipt:?}")
    };
    friends.persist(record, 0).unwrap();
}

fn totals(friends: &Friends, seed: u8) -> (u64, u64) {
    let standing = friends
        .standing(&far(seed).public_key(), 0)
        .unwrap()
        .unwrap();
    (standing.given, standing.received)
}

#[test]
fn p22_own_code_a_known_friend_and_a_taken_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    let me = friends.identity().public_key();
    assert!(matches!(friends.add(me, named("me")), Err(AddError::Own)));
    let a = far(1).public_key();
    friends.add(a, named("a")).unwrap();
    assert!(matches!(friends.add(a, named("b")), Err(AddError::Known(name)) if name == "a"));
    let taken = friends.add(far(2).public_key(), named("a"));
    assert!(matches!(taken, Err(AddError::NameTaken(_))));
    assert_eq!(friends.list().len(), 1);
}

#[test]
fn the_list_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    let key = |n: usize| {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&n.to_le_bytes());
        Identity::from_secret(&Zeroizing::new(secret)).public_key()
    };
    for n in 0..MAX_FRIENDS {
        let mut known = friends.known.lock();
        known.friends.insert(key(n), named(&n.to_string()));
    }
    let one_more = friends.add(key(MAX_FRIENDS), named("one more"));
    assert!(matches!(one_more, Err(AddError::Full)));
}

#[test]
fn a_removed_friends_ious_are_kept_and_count_again() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    let key = far(1).public_key();
    friends.add(key, named("a")).unwrap();
    trade(&friends, 1, 500, 300);
    assert!(friends.remove(&key).unwrap());
    assert!(!friends.remove(&key).unwrap());
    drop(friends);
    let friends = open(dir.path());
    assert_eq!(friends.list(), vec![]);
    assert_eq!(friends.check().unwrap().len(), 1);
    friends.add(key, named("again")).unwrap();
    assert_eq!(totals(&friends, 1), (500, 300));
}

#[test]
fn a_session_shows_and_is_remembered_as_last_seen() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    let key = far(1).public_key();
    friends.add(key, named("a")).unwrap();
    let online = |friends: &Friends| friends.standing(&key, 0).unwrap().unwrap().online;
    assert!(!online(&friends));
    friends.seen(&key, true, 77).unwrap();
    assert!(online(&friends));
    friends.seen(&key, false, 99).unwrap();
    assert!(!online(&friends));
    friends.seen(&far(2).public_key(), true, 99).unwrap();
    drop(friends);
    assert_eq!(open(dir.path()).list()[0].1.last_seen, Some(99));
}

/// The same identity in a second, new directory, as when moving house.
fn moved(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    std::fs::copy(from.join("identity.key"), to.path().join("identity.key")).unwrap();
    to
}

#[test]
fn moving_house_brings_everything_and_asks_for_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    for (seed, name) in [(1, "a"), (2, "b")] {
        friends.add(far(seed).public_key(), named(name)).unwrap();
        trade(&friends, seed, 500, 300);
    }
    let luggage = friends.pack().unwrap();
    let there = moved(dir.path());
    let new = open(there.path());
    new.add(far(3).public_key(), named("a")).unwrap();
    let report = new.unpack(luggage.clone(), 0).unwrap();
    assert_eq!(
        (report.friends_added, report.ious_adopted, report.ious_known),
        (2, 4, 0)
    );
    let again = new.unpack(luggage, 0).unwrap();
    assert_eq!(
        (again.friends_added, again.ious_adopted, again.ious_known),
        (0, 0, 4)
    );
    drop(new);
    let new = open(there.path());
    assert_eq!((totals(&new, 1), totals(&new, 2)), ((500, 300), (500, 300)));
    let mut names: Vec<_> = new
        .list()
        .into_iter()
        .map(|(_, friend)| friend.name)
        .collect();
    names.sort();
    assert_eq!(names, ["a", "a (2)", "b"]);
    let standing = new.standing(&far(1).public_key(), 0).unwrap().unwrap();
    assert_eq!(standing.state, friends_proto::ledger::State::Restored);
    let early = new.sign(&far(1).public_key(), 301, 0);
    assert!(matches!(
        early,
        Err(SignError::Refused(SignRefusal::NotSynced))
    ));
}

#[test]
fn an_older_export_lowers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    friends.add(far(1).public_key(), named("a")).unwrap();
    trade(&friends, 1, 500, 300);
    let old = friends.pack().unwrap();
    trade(&friends, 1, 900, 700);
    let report = friends.unpack(old, 0).unwrap();
    assert_eq!((report.ious_adopted, report.ious_known), (0, 2));
    assert_eq!(totals(&friends, 1), (900, 700));
    drop(friends);
    assert_eq!(totals(&open(dir.path()), 1), (900, 700));
}

#[test]
fn a_forged_or_foreign_export_changes_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let friends = open(dir.path());
    friends.add(far(1).public_key(), named("a")).unwrap();
    friends.add(far(2).public_key(), named("b")).unwrap();
    trade(&friends, 1, 500, 300);
    trade(&friends, 2, 500, 300);
    let good = friends.pack().unwrap();
    let foreign = open(other.path()).unpack(good.clone(), 0);
    assert!(matches!(foreign, Err(ImportError::OtherOwner)));

    let there = moved(dir.path());
    let new = open(there.path());
    let mut forged = good.clone();
    forged.accounts[1].record.given.as_mut().unwrap().signature[5] ^= 1;
    let refused = new.unpack(forged, 0);
    assert!(matches!(
        refused,
        Err(ImportError::Account {
            at: 2,
            why: OpenError::Iou(_)
        })
    ));
    let mut swapped = good.clone();
    let account = &mut swapped.accounts[0].record;
    std::mem::swap(&mut account.given, &mut account.received);
    let refused = new.unpack(swapped, 0);
    assert!(matches!(
        refused,
        Err(ImportError::Account {
            at: 1,
            why: OpenError::NotOurs
        })
    ));
    assert_eq!((new.list().len(), new.check().unwrap().len()), (0, 0));
}

#[test]
fn what_is_not_durable_is_neither_packed_nor_shown() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    let key = far(1).public_key();
    friends.add(key, named("a")).unwrap();
    trade(&friends, 1, 500, 300);
    let prepared = friends.with_account(&key, |account| account.prepare(friends.identity(), 400));
    prepared.unwrap().unwrap();
    let packed = friends.pack().unwrap();
    let kept = packed.accounts[0]
        .record
        .received
        .as_ref()
        .unwrap()
        .verify()
        .unwrap();
    assert_eq!(kept.iou().total_bytes(), 300);
    assert_eq!(totals(&friends, 1), (500, 300));
}

#[test]
fn months_are_those_of_the_calendar() {
    for (at, year, of_year) in [
        (0, 1970, 0),
        (951_782_400, 2000, 1),
        (951_868_800, 2000, 2),
        (1_798_761_599, 2026, 11),
        (1_798_761_600, 2027, 0),
    ] {
        assert_eq!(month(at), 12 * year + of_year, "{at}");
    }
}
