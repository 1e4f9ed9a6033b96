//! Moving house with keys that were replaced (row P20): what was signed with them, and who follows whom, comes along.

use super::succession::{NEW, OLD, indebted, statement};
use super::*;

/// What was packed of the friend of `seed`: whether with our key of now, given, received.
fn packed(friends: &Friends, seed: u8) -> Vec<(bool, u64, u64)> {
    let luggage = friends.pack().unwrap();
    let friend = far(seed).public_key();
    let of = luggage.accounts.iter();
    let of = of.filter(|one| one.record.friend == *friend.as_bytes());
    let total = |kept: &Option<friends_proto::ledger::IouRecord>| {
        let kept = kept.as_ref().map(|kept| kept.verify().unwrap());
        kept.map_or(0, |signed| signed.iou().total_bytes())
    };
    of.map(|one| {
        let now = one.own == luggage.owner;
        (now, total(&one.record.given), total(&one.record.received))
    })
    .collect()
}

#[test]
fn p20_a_friends_former_key_moves_house_with_its_ledger() {
    let (dir, friends) = indebted();
    friends.follow(&statement(OLD, NEW)).unwrap();
    trade(&friends, NEW, 700, 10);
    assert_eq!(packed(&friends, OLD), [(true, 5_000, 3_000)]);
    let luggage = friends.pack().unwrap();
    assert_eq!(luggage.successions, [statement(OLD, NEW)]);

    let there = moved(dir.path());
    let new = open(there.path());
    let report = new.unpack(luggage.clone(), 0).unwrap();
    assert_eq!((report.friends_added, report.ious_adopted), (1, 4));
    let again = new.unpack(luggage.clone(), 0).unwrap();
    assert_eq!((again.friends_added, again.ious_adopted), (0, 0));
    assert_eq!(again.ious_known, 4);
    drop(new);
    let new = open(there.path());
    assert_eq!(totals(&new, NEW), (5_700, 3_010));
    assert_eq!(new.list(), friends.list());
    let old = new.add(far(OLD).public_key(), named("old"));
    assert!(matches!(old, Err(AddError::Replaced)), "{old:?}");
    assert_eq!(new.pack().unwrap().successions, luggage.successions);
}

#[test]
fn p20_a_statement_that_comes_too_late_is_not_taken_over() {
    let (dir, friends) = indebted();
    friends.follow(&statement(OLD, NEW)).unwrap();
    let luggage = friends.pack().unwrap();
    let there = moved(dir.path());
    let new = open(there.path());
    new.add(far(OLD).public_key(), named("far")).unwrap();
    new.follow(&statement(OLD, 66)).unwrap();
    new.unpack(luggage, 0).unwrap();
    assert_eq!(new.pack().unwrap().successions, [statement(OLD, 66)]);
    assert_eq!(new.newest(&far(OLD).public_key()), far(66).public_key());
}

/// The directory of [`indebted`] after our own key was replaced twice, with something signed with each.
fn rekeyed() -> (tempfile::TempDir, Friends, Luggage) {
    let (dir, friends) = indebted();
    let first = friends.pack().unwrap();
    friends.replace_own_key().unwrap();
    drop(friends);
    let friends = open(dir.path());
    trade(&friends, OLD, 400, 30);
    friends.replace_own_key().unwrap();
    drop(friends);
    let friends = open(dir.path());
    trade(&friends, OLD, 60, 7);
    (dir, friends, first)
}

#[test]
fn p20_what_our_former_keys_signed_moves_house() {
    let (dir, friends, _) = rekeyed();
    let mut all = packed(&friends, OLD);
    all.sort_unstable();
    assert_eq!(
        all,
        [(false, 400, 30), (false, 5_000, 3_000), (true, 60, 7)]
    );
    assert_eq!(totals(&friends, OLD), (5_460, 3_037));
    assert!(
        friends
            .check()
            .unwrap()
            .iter()
            .all(|one| one.account.is_ok())
    );
    let luggage = friends.pack().unwrap();

    let there = moved(dir.path());
    let new = open(there.path());
    let report = new.unpack(luggage.clone(), 0).unwrap();
    assert_eq!((report.ious_adopted, report.ious_known), (6, 0));
    assert_eq!(totals(&new, OLD), (5_460, 3_037), "at once");
    let again = new.unpack(luggage, 0).unwrap();
    assert_eq!((again.ious_adopted, again.ious_known), (0, 6));
    assert_eq!(
        new.own_succession().unwrap(),
        friends.own_succession().unwrap()
    );
    drop(new);
    let new = open(there.path());
    assert_eq!(totals(&new, OLD), (5_460, 3_037));
    let mut there = packed(&new, OLD);
    there.sort_unstable();
    assert_eq!(there, all);
}

/// An export from before our key was replaced is still ours, and lowers nothing.
#[test]
fn p20_an_export_of_our_former_key_is_taken_in() {
    let (dir, friends, first) = rekeyed();
    let report = friends.unpack(first.clone(), 0).unwrap();
    assert_eq!((report.ious_adopted, report.ious_known), (0, 2));
    assert_eq!(totals(&friends, OLD), (5_460, 3_037));

    // In a house that has nothing but the new key and the statements.
    let there = moved(dir.path());
    let new = open(there.path());
    let stranger = new.unpack(first.clone(), 0);
    assert!(
        matches!(stranger, Err(ImportError::OtherOwner)),
        "{stranger:?}"
    );
    let successions = friends.pack().unwrap().successions;
    let report = new
        .unpack(
            Luggage {
                successions,
                ..first
            },
            0,
        )
        .unwrap();
    assert_eq!((report.ious_adopted, report.ious_known), (2, 0));
    assert_eq!(totals(&new, OLD), (5_000, 3_000));
}

/// Whoever made a statement that leads to our key would need our secret; one that leads elsewhere makes nobody us.
#[test]
fn p20_accounts_of_somebody_elses_former_key_are_refused() {
    let (_dir, friends) = indebted();
    let mut luggage = friends.pack().unwrap();
    luggage.accounts[0].own = far(7).public_key();
    luggage.successions = vec![statement(7, 8)];
    let refused = friends.unpack(luggage.clone(), 0);
    assert!(
        matches!(refused, Err(ImportError::OtherOwner)),
        "{refused:?}"
    );
    luggage.owner = far(7).public_key();
    let refused = friends.unpack(luggage, 0);
    assert!(
        matches!(refused, Err(ImportError::OtherOwner)),
        "{refused:?}"
    );
}

/// All of it is checked before any of it is taken.
#[test]
fn p20_a_forged_account_of_a_former_key_is_refused() {
    let (dir, friends, _) = rekeyed();
    let mut luggage = friends.pack().unwrap();
    let owner = luggage.owner;
    let former = luggage.accounts.iter().position(|one| one.own != owner);
    let record = &mut luggage.accounts[former.unwrap()].record;
    record.given.as_mut().unwrap().signature[3] ^= 1;
    let there = moved(dir.path());
    let new = open(there.path());
    let refused = new.unpack(luggage, 0);
    assert!(
        matches!(refused, Err(ImportError::Account { .. })),
        "{refused:?}"
    );
    assert_eq!((new.list().len(), new.check().unwrap().len()), (0, 0));
}
