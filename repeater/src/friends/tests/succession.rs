//! Row P20: a key that may be in other hands is replaced, on both sides, and nothing that was signed is lost.

use std::os::unix::fs::PermissionsExt as _;

use friends_proto::iou::{DOMAIN, Iou, SignedIou};
use friends_proto::succession::Succession;

use super::*;
use crate::friends::FollowError;

pub(super) const OLD: u8 = 1;
pub(super) const NEW: u8 = 2;

pub(super) fn statement(old: u8, new: u8) -> Succession {
    Succession::sign(&far(old), &far(new)).unwrap()
}

/// A directory in which the friend of `OLD` signed 5,000 and we 3,000.
pub(super) fn indebted() -> (tempfile::TempDir, Friends) {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    friends.add(far(OLD).public_key(), named("far")).unwrap();
    trade(&friends, OLD, 5_000, 3_000);
    (dir, friends)
}

//= spec/identity.md#succession-effect
#[test]
fn p20_a_friends_new_key_takes_the_old_ones_place_and_its_ledger() {
    let (dir, friends) = indebted();
    friends.follow(&statement(OLD, NEW)).unwrap();
    friends.follow(&statement(OLD, NEW)).unwrap();
    let list = friends.list();
    assert_eq!(list, vec![(far(NEW).public_key(), named("far"))]);
    assert!(friends.is_replaced(&far(OLD).public_key()));
    assert_eq!(totals(&friends, NEW), (5_000, 3_000));
    trade(&friends, NEW, 700, 10);
    assert_eq!(totals(&friends, NEW), (5_700, 3_010));
    drop(friends);
    let friends = open(dir.path());
    assert_eq!(totals(&friends, NEW), (5_700, 3_010));
    assert_eq!(friends.list(), list);
}

/// What a thief of the old key signs comes too late, by whichever way.
//= spec/identity.md#succession-effect
//= spec/identity.md#succession-once
#[test]
fn p20_nothing_new_of_the_old_key_counts() {
    let recorder = crate::control::metrics::detached().unwrap();
    ::metrics::with_local_recorder(&recorder, || {
        let (_dir, friends) = indebted();
        friends.follow(&statement(OLD, NEW)).unwrap();
        let (me, old) = (friends.identity().public_key(), far(OLD).public_key());
        let bytes = Iou::new(me, old, 9_000).unwrap().encode();
        let signature = far(OLD).sign(&[DOMAIN, &bytes].concat());
        let later = SignedIou::from_parts(&bytes, &signature.0).unwrap();
        let mut luggage = friends.pack().unwrap();
        let mut records = luggage.accounts.iter_mut();
        let of_old = |one: &&mut PackedAccount| one.record.friend == *old.as_bytes();
        let record = &mut records.find(of_old).unwrap().record;
        record.given = Some((&later).into());
        luggage.friends.push((old, named("far again")));
        friends.unpack(luggage, 0).unwrap();
        assert_eq!(totals(&friends, NEW), (5_000, 3_000));
        assert_eq!(friends.list().len(), 1);

        let again = friends.add(old, named("old"));
        assert!(matches!(again, Err(AddError::Replaced)), "{again:?}");
        let second = friends.follow(&statement(OLD, 66));
        assert!(
            matches!(second, Err(FollowError::Contradicts)),
            "{second:?}"
        );
        let back = friends.follow(&statement(NEW, OLD));
        assert!(matches!(back, Err(FollowError::Contradicts)), "{back:?}");
    });
    let text = recorder.handle().render();
    let counter = "btslave_friend_defence_total{defence=\"SecondSuccession\"} 1";
    assert!(text.contains(counter), "{text}");
}

#[test]
fn a_statement_of_nobody_or_to_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let friends = open(dir.path());
    let unknown = friends.follow(&statement(OLD, NEW));
    assert!(matches!(unknown, Err(FollowError::Unknown)), "{unknown:?}");
    friends.add(far(OLD).public_key(), named("far")).unwrap();
    friends.add(far(NEW).public_key(), named("other")).unwrap();
    let taken = friends.follow(&statement(OLD, NEW));
    assert!(matches!(taken, Err(FollowError::Taken(_))), "{taken:?}");
    assert_eq!(friends.list().len(), 2);
}

/// Our own: the new key waits for the next start, and what was signed with the old one still counts.
//= spec/identity.md#succession-own
#[test]
fn p20_our_new_key_counts_from_the_next_start_on_with_the_old_ledger() {
    let (dir, friends) = indebted();
    let me = friends.identity().public_key();
    assert_eq!(friends.own_succession().unwrap(), None);
    let made = friends.replace_own_key().unwrap();
    assert_eq!(friends.replace_own_key().unwrap(), made, "it waits");
    assert_eq!(*made.old(), me);
    assert_eq!(friends.identity().public_key(), me, "until the next start");
    trade(&friends, OLD, 6_000, 4_000);
    drop(friends);

    let friends = open(dir.path());
    assert_eq!(friends.identity().public_key(), *made.new_key());
    assert_eq!(friends.own_succession().unwrap(), Some(made));
    assert_eq!(totals(&friends, OLD), (6_000, 4_000));
    trade(&friends, OLD, 700, 10);
    assert_eq!(totals(&friends, OLD), (6_700, 4_010));
    friends.follow(&statement(OLD, NEW)).unwrap();
    assert_eq!(totals(&friends, NEW), (6_700, 4_010), "on both sides");
    drop(friends);
    let friends = open(dir.path());
    assert_eq!(totals(&friends, NEW), (6_700, 4_010));
    assert!(!dir.path().join("identity.next").exists());
    let key = std::fs::metadata(dir.path().join("identity.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

/// Cut off after any step, the exchange is finished at the next start.
#[test]
fn p20_an_exchange_that_is_cut_off_is_finished() {
    let (dir, friends) = indebted();
    let key = dir.path().join("identity.key");
    let next = dir.path().join("identity.next");
    let made = friends.replace_own_key().unwrap();
    drop(friends);
    let (old_key, new_key) = (std::fs::read(&key).unwrap(), std::fs::read(&next).unwrap());
    let put = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let whole = || {
        let friends = open(dir.path());
        assert_eq!(friends.identity().public_key(), *made.new_key());
        assert_eq!(totals(&friends, OLD), (5_000, 3_000));
        assert!(!next.exists());
    };
    whole();
    // The store was changed, and the key was not yet.
    put(&key, &old_key);
    put(&next, &new_key);
    whole();
    // The key was changed, and the one that waits was not removed yet.
    put(&next, &new_key);
    whole();
}
