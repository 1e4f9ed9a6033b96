//! What is asked of a torn store, by name: it opens to the last acknowledged state, or signs nothing before one sync and
//! then adopts; never to less, silently.

use friends_proto::identity::PublicKey;

use super::ious::{
    Far, GIVEN, RECEIVED, assert_adopts, assert_whole_or_restored, befriended, exchange,
    far_friend, indebted, meet,
};
use super::*;
use crate::friends::Friends;

fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(prefix)
    };
    database_files(dir).into_iter().filter(named).collect()
}

/// Does `damage` to each file of the database whose name begins with `prefix`, and demands the last acknowledged state.
fn each_torn(prefix: &str, what: &str, damage: impl Fn(&mut Vec<u8>)) {
    let (template, far) = indebted();
    // A second stop, so that every kind of file is there.
    drop(befriended(template.path()));
    let mut torn = 0;
    for file in files(template.path(), prefix) {
        let mut bytes = fs::read(&file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        damage(&mut bytes);
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        let name = file.strip_prefix(template.path()).unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        assert!(assert_whole_or_restored(dir.path(), &far, what), "{what}");
        torn += 1;
    }
    assert!(torn > 0, "there is no {prefix} in a database");
}

#[test]
fn snapshots_emptied() {
    each_torn("snap.", "emptied", Vec::clear);
}

#[test]
fn snapshots_halved() {
    each_torn("snap.", "halved", |bytes| bytes.truncate(bytes.len() / 2));
}

#[test]
fn snapshots_bit_flipped() {
    for at in [0, 3, 7, 12, 20] {
        each_torn("snap.", "flipped", |bytes| {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
        });
    }
}

#[test]
fn database_truncated() {
    for part in 0..8 {
        each_torn("db", "truncated", |bytes| {
            bytes.truncate(bytes.len() * part / 8)
        });
    }
}

#[test]
fn directory_gone() {
    let (dir, far) = indebted();
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    assert!(assert_whole_or_restored(dir.path(), &far, "database gone"));
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    fs::remove_file(dir.path().join(journal::NAME)).unwrap();
    // All but the key; what the last check signed is with the friend, who has seen none of it.
    assert!(!assert_whole_or_restored(dir.path(), &far, "all gone"));
}

/// A directory whose database is as old as an exchange before the last one, in one opening; the far end; what it held then.
fn with_an_older_database() -> (tempfile::TempDir, Far, u64) {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let (friends, _) = befriended(dir.path());
    let mut far = Far::new(friends.identity().public_key());
    friends.add(Far::key(), far_friend()).unwrap();
    meet(&friends, &mut far);
    exchange(&friends, &mut far, 2_000, 3_000);
    copy(&dir.path().join("db"), old.path());
    let bytes = fs::read(dir.path().join(journal::NAME)).unwrap();
    let seq = journal::replay(&bytes).unwrap().seq;
    exchange(&friends, &mut far, GIVEN, RECEIVED);
    drop(friends);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    copy(old.path(), &dir.path().join("db"));
    (dir, far, seq)
}

/// Each place at which the journal can be cut with no record damaged, or in the middle of one, behind change `seq`.
fn cuts(bytes: &[u8], seq: u64) -> Vec<(usize, u64, journal::End)> {
    let mut cuts = Vec::new();
    for at in 0..=bytes.len() {
        let replay = journal::replay(&bytes[..at]).unwrap();
        let middle = replay.end == journal::End::Torn && at as u64 == replay.good + 9;
        if replay.seq >= seq && (replay.end == journal::End::Clean || middle) {
            cuts.push((at, replay.seq, replay.end));
        }
    }
    cuts
}

#[test]
fn a_cut_journal_with_an_older_sound_database_is_not_believed() {
    let (template, far, seq) = with_an_older_database();
    let bytes = fs::read(template.path().join(journal::NAME)).unwrap();
    let (mut noticed, mut unseen) = (0, 0);
    for (at, left, end) in cuts(&bytes, seq) {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        fs::write(dir.path().join(journal::NAME), &bytes[..at]).unwrap();
        let what = format!("cut at {at}, {} changes behind the database", left - seq);
        // As a crash would leave them, or as a copy of that moment: the sync is what makes these harmless.
        let as_then = left == seq || (left == seq + 1 && end == journal::End::Clean);
        if as_then {
            assert_adopts(dir.path(), &far, &what);
            unseen += 1;
        } else {
            assert_whole_or_restored(dir.path(), &far, &what);
            noticed += 1;
        }
    }
    assert!(noticed > 20 && unseen == 3, "{noticed}, {unseen}");
}

#[test]
fn a_database_that_failed_in_a_run_leaves_a_doubt_for_the_next() {
    let (dir, mut far) = indebted();
    let old = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let (friends, _) = Friends::open(store.clone()).unwrap();
    meet(&friends, &mut far);
    copy(&dir.path().join("db"), old.path());
    let journal = fs::metadata(dir.path().join(journal::NAME)).unwrap().len();
    store.inner.state.lock().index.as_mut().unwrap().fail();
    exchange(&friends, &mut far, GIVEN + 3_000, RECEIVED + 3_000);
    assert!(store.inner.state.lock().index.is_none());
    drop((friends, store));
    // What it wrote was lost, and so was the journal's end: the two agree, on less.
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    copy(old.path(), &dir.path().join("db"));
    let file = File::options()
        .write(true)
        .open(dir.path().join(journal::NAME))
        .unwrap();
    file.set_len(journal).unwrap();
    let (friends, _) = befriended(dir.path());
    let standing = friends.standing(&Far::key(), 0).unwrap().unwrap();
    assert_eq!((standing.given, standing.received), (GIVEN, RECEIVED));
    assert_eq!(standing.state, friends_proto::ledger::State::Restored);
}

#[test]
fn a_damaged_friend_is_put_aside_and_the_rest_is_used() {
    let (dir, far) = indebted();
    let sound = PublicKey::from_bytes(Far::key().as_bytes()).unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let rows = [
        (vec![0xf9; 32], vec![1, 2, 3]),
        (b"no key".to_vec(), store.raw_rows(FRIENDS)[0].1.clone()),
    ];
    for (key, value) in &rows {
        store
            .change((FRIENDS, key.clone()), Some(value.clone()))
            .unwrap();
    }
    store
        .change((FEEDS, b"http://f/".to_vec()), Some(vec![1]))
        .unwrap();
    drop(store);
    let (store, report) = Store::open(dir.path()).unwrap();
    let named = report.notes.iter().map(|note| {
        let StoreNote::ValueDamaged {
            what,
            key,
            moved_to,
            ..
        } = note
        else {
            panic!("{note}")
        };
        (*what, key.as_str(), fs::read(moved_to).unwrap())
    });
    let hex = "f9".repeat(32);
    let expected = [
        ("saved feed", "http://f/", vec![1]),
        ("saved friend", "no key", rows[1].1.clone()),
        ("saved friend", hex.as_str(), rows[0].1.clone()),
    ];
    assert!(named.eq(expected), "{:?}", report.notes);
    assert_eq!(store.friends().unwrap(), vec![(sound, far_friend())]);
    drop(store);
    assert_eq!(befriended(dir.path()).1, vec![], "said once");
    assert!(assert_whole_or_restored(
        dir.path(),
        &far,
        "friends damaged"
    ));
}

#[test]
fn an_account_survives_the_damage_of_its_friends_row() {
    let (dir, far) = indebted();
    let (store, _) = Store::open(dir.path()).unwrap();
    let key = (FRIENDS, Far::key().as_bytes().to_vec());
    store.change(key, Some(vec![1])).unwrap();
    drop(store);
    let (friends, notes) = befriended(dir.path());
    assert!(
        matches!(notes[..], [StoreNote::ValueDamaged { .. }]),
        "{notes:?}"
    );
    assert_eq!(friends.list(), vec![]);
    drop(friends);
    assert!(assert_whole_or_restored(dir.path(), &far, "added again"));
}
