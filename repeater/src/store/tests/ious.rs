//! What is signed survives whatever happens to the disk, or nothing is signed before the friend has shown what it holds.

use friends_proto::identity::{Identity, PublicKey, Zeroizing};
use friends_proto::iou::SignedIou;
use friends_proto::ledger::{Account, SignRefusal, State, StoreEpoch};

use super::*;
use crate::friends::{Friends, SignError};

/// What the two have signed in `template`.
pub(super) const GIVEN: u64 = 7_000;
pub(super) const RECEIVED: u64 = 12_000;

/// The far end: it signs for us.
pub(super) struct Far {
    identity: Identity,
    account: Account,
}

impl Far {
    pub(super) fn new(me: PublicKey) -> Self {
        let identity = Identity::from_secret(&Zeroizing::new([9; 32]));
        let epoch = StoreEpoch {
            number: 1,
            broken_at: None,
        };
        let mut account = Account::new(identity.public_key(), me, epoch);
        account.sync(&[]).unwrap();
        Self { identity, account }
    }

    pub(super) fn key() -> PublicKey {
        Identity::from_secret(&Zeroizing::new([9; 32])).public_key()
    }

    fn sign(&mut self, total: u64) -> SignedIou {
        let (_, token) = self.account.prepare(&self.identity, total).unwrap();
        self.account.persisted(&token).unwrap()
    }

    fn shown(&self) -> Vec<SignedIou> {
        self.account.shown().copied().collect()
    }
}

pub(super) fn befriended(dir: &Path) -> (Friends, Vec<StoreNote>) {
    let (store, report) = Store::open(dir).unwrap();
    let (friends, notes) = Friends::open(store).unwrap();
    (friends, [report.notes, notes].concat())
}

/// A session begins: both show what they hold.
pub(super) fn meet(friends: &Friends, far: &mut Far) {
    let shown = far.shown();
    let report = friends.with_account(&Far::key(), |account| {
        account.begin_session();
        let ours: Vec<_> = account.shown().copied().collect();
        far.account.sync(&ours).unwrap();
        account.sync(&shown).unwrap()
    });
    friends.persist(report.unwrap().record, 0).unwrap();
}

/// They give and take until `GIVEN` and `RECEIVED`, from where they are.
pub(super) fn exchange(friends: &Friends, far: &mut Far, to_given: u64, to_received: u64) {
    let (mut given, mut received) = totals(friends);
    while given < to_given || received < to_received {
        if given < to_given {
            given += 1_000;
            let signed = far.sign(given);
            let record = friends.with_account(&Far::key(), |account| {
                account.receive(&signed);
                account.record()
            });
            friends.persist(record.unwrap(), 0).unwrap();
        }
        if received < to_received {
            received += 1_000;
            let signed = friends.sign(&Far::key(), received, 0).unwrap();
            far.account.receive(&signed);
        }
    }
}

fn totals(friends: &Friends) -> (u64, u64) {
    let standing = friends.standing(&Far::key(), 0).unwrap();
    standing.map_or((0, 0), |standing| (standing.given, standing.received))
}

fn state(friends: &Friends) -> State {
    friends.standing(&Far::key(), 0).unwrap().unwrap().state
}

pub(super) fn far_friend() -> SavedFriend {
    SavedFriend {
        name: "far".into(),
        hints: vec!["192.0.2.1:6881".into()],
        added_at: 5,
        last_seen: None,
    }
}

/// A directory in which `GIVEN` and `RECEIVED` are acknowledged, and the far end.
pub(super) fn indebted() -> (tempfile::TempDir, Far) {
    let dir = tempfile::tempdir().unwrap();
    let (friends, notes) = befriended(dir.path());
    assert_eq!(notes, vec![]);
    let mut far = Far::new(friends.identity().public_key());
    friends.add(Far::key(), far_friend()).unwrap();
    meet(&friends, &mut far);
    exchange(&friends, &mut far, GIVEN, RECEIVED);
    drop(friends);
    (dir, far)
}

/// The last acknowledged state, or a ledger that says it may be an old copy, refuses to sign, and adopts at the next sync.
/// True: it was all there.
pub(super) fn assert_whole_or_restored(dir: &Path, far: &Far, what: &str) -> bool {
    let (whole, noticed) = adopts(dir, far, what);
    assert!(whole || noticed, "{what}: less, silently");
    whole
}

/// It refuses to sign, and adopts at the next sync.
pub(super) fn assert_adopts(dir: &Path, far: &Far, what: &str) {
    adopts(dir, far, what);
}

/// Whether it was all there, and whether something was found to be missing.
fn adopts(dir: &Path, far: &Far, what: &str) -> (bool, bool) {
    let (friends, _) = befriended(dir);
    if friends.list().is_empty() {
        friends.add(Far::key(), far_friend()).unwrap();
    }
    let whole = totals(&friends) == (GIVEN, RECEIVED);
    let noticed = state(&friends) == State::Restored;
    let early = friends.sign(&Far::key(), 1_000_000, 0);
    assert!(
        matches!(early, Err(SignError::Refused(SignRefusal::NotSynced))),
        "{what}: {early:?}"
    );
    let mut far = Far {
        identity: Identity::from_secret(&Zeroizing::new([9; 32])),
        account: Account::open(
            Far::key(),
            &far.account.record(),
            StoreEpoch {
                number: 1,
                broken_at: None,
            },
        )
        .unwrap(),
    };
    meet(&friends, &mut far);
    assert_eq!(totals(&friends), (GIVEN, RECEIVED), "{what}: not adopted");
    assert_eq!(state(&friends), State::Synced, "{what}");
    let low = friends.sign(&Far::key(), RECEIVED, 0);
    assert!(
        matches!(low, Err(SignError::Refused(SignRefusal::NotMore { .. }))),
        "{what}"
    );
    friends.sign(&Far::key(), RECEIVED + 1, 0).unwrap();
    drop(friends);
    let (friends, notes) = befriended(dir);
    assert_eq!(notes, vec![], "{what}: repaired once is repaired");
    assert_eq!(totals(&friends), (GIVEN, RECEIVED + 1), "{what}");
    (whole, noticed)
}

#[test]
fn friends_and_ious_survive_a_restart_and_so_does_the_identity() {
    let (dir, far) = indebted();
    let (friends, notes) = befriended(dir.path());
    assert_eq!(notes, vec![]);
    assert_eq!(friends.list(), vec![(Far::key(), far_friend())]);
    assert_eq!(state(&friends), State::Synced);
    let me = friends.identity().public_key();
    drop(friends);
    assert!(assert_whole_or_restored(dir.path(), &far, "untouched"));
    assert_eq!(befriended(dir.path()).0.identity().public_key(), me);
}

#[test]
fn f1_one_torn_file_loses_no_iou() {
    let (template, far) = indebted();
    let mut files = database_files(template.path());
    files.push(template.path().join(journal::NAME));
    let mut tried = 0;
    for file in files {
        let name = file.strip_prefix(template.path()).unwrap();
        let length = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
        if length == 0 {
            continue;
        }
        for (what, damage) in damages(length.min(60_000)) {
            let dir = tempfile::tempdir().unwrap();
            copy(template.path(), dir.path());
            let mut bytes = fs::read(&file).unwrap();
            damage(&mut bytes);
            fs::write(dir.path().join(name), bytes).unwrap();
            let what = format!("{} {what}", name.display());
            assert!(assert_whole_or_restored(dir.path(), &far, &what), "{what}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
}

#[test]
fn f1_with_both_copies_torn_nothing_is_signed_before_a_sync() {
    let (template, far) = indebted();
    let journal = fs::read(template.path().join(journal::NAME)).unwrap();
    let mut lost = 0;
    for (what, damage) in damages(journal.len()) {
        for database in ["torn", "gone"] {
            let dir = tempfile::tempdir().unwrap();
            copy(template.path(), dir.path());
            let mut bytes = journal.clone();
            damage(&mut bytes);
            fs::write(dir.path().join(journal::NAME), bytes).unwrap();
            if database == "gone" {
                fs::remove_dir_all(dir.path().join("db")).unwrap();
            } else {
                for file in database_files(dir.path()) {
                    fs::write(file, b"torn").unwrap();
                }
            }
            let what = format!("journal {what}, database {database}");
            lost += u32::from(!assert_whole_or_restored(dir.path(), &far, &what));
        }
    }
    assert!(
        lost > 20,
        "the damage is too small to lose anything: {lost}"
    );
}

#[test]
fn f1_a_journal_cut_between_records_is_noticed_when_the_database_is_gone() {
    let (template, far) = indebted();
    let bytes = fs::read(template.path().join(journal::NAME)).unwrap();
    for cut in 0..bytes.len() {
        let replayed = journal::replay(&bytes[..cut]).unwrap();
        if replayed.end != journal::End::Clean {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        fs::write(dir.path().join(journal::NAME), &bytes[..cut]).unwrap();
        fs::remove_dir_all(dir.path().join("db")).unwrap();
        assert_whole_or_restored(dir.path(), &far, &format!("cut at {cut}"));
    }
}

#[test]
fn f1_a_store_that_is_gone_is_missed_by_the_key() {
    let (dir, far) = indebted();
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    fs::remove_file(dir.path().join(journal::NAME)).unwrap();
    assert!(!assert_whole_or_restored(dir.path(), &far, "store gone"));
}

#[test]
fn an_old_backup_signs_nothing_before_a_sync_and_then_adopts() {
    let dir = tempfile::tempdir().unwrap();
    let backup = tempfile::tempdir().unwrap();
    let (friends, _) = befriended(dir.path());
    let mut far = Far::new(friends.identity().public_key());
    friends.add(Far::key(), far_friend()).unwrap();
    meet(&friends, &mut far);
    exchange(&friends, &mut far, 2_000, 3_000);
    drop(friends);
    copy(dir.path(), backup.path());
    let (friends, _) = befriended(dir.path());
    meet(&friends, &mut far);
    exchange(&friends, &mut far, GIVEN, RECEIVED);
    drop(friends);
    // The next opening is two behind the key's number.
    drop(befriended(dir.path()));

    // The whole directory, number and all: the epoch cannot tell, the sync does.
    let whole = tempfile::tempdir().unwrap();
    copy(backup.path(), whole.path());
    let (friends, _) = befriended(whole.path());
    assert_eq!(totals(&friends), (2_000, 3_000));
    let early = friends.sign(&Far::key(), 4_000, 0);
    assert!(matches!(
        early,
        Err(SignError::Refused(SignRefusal::NotSynced))
    ));
    meet(&friends, &mut far);
    assert_eq!(totals(&friends), (GIVEN, RECEIVED));
    drop(friends);

    // The store alone, under the key that is in use.
    for name in [journal::NAME, "db"] {
        let path = dir.path().join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
            copy(&backup.path().join(name), &path);
        } else {
            fs::copy(backup.path().join(name), &path).unwrap();
        }
    }
    assert!(!assert_whole_or_restored(dir.path(), &far, "old store"));
}

#[test]
fn an_iou_that_does_not_stand_up_is_put_aside_and_counted() {
    let (dir, far) = indebted();
    let recorder = crate::control::metrics::detached().unwrap();
    let metrics = recorder.handle();
    ::metrics::with_local_recorder(&recorder, || {
        let (store, _) = Store::open(dir.path()).unwrap();
        let mut bytes = store.raw_rows(IOUS)[0].1.clone();
        let at = bytes.len() - 60;
        bytes[at] ^= 1;
        let key = (IOUS, Far::key().as_bytes().to_vec());
        store.change(key, Some(bytes.clone())).unwrap();
        drop(store);
        let (store, report) = Store::open(dir.path()).unwrap();
        assert_eq!(report.notes, vec![]);
        let (friends, notes) = Friends::open(store).unwrap();
        let [StoreNote::AccountDamaged { moved_to, .. }] = &notes[..] else {
            panic!("{notes:?}")
        };
        assert_eq!(fs::read(moved_to).unwrap(), bytes);
        assert_eq!(state(&friends), State::Restored);
    });
    let line = "btslave_ledger_quarantined_total 1";
    assert!(metrics.render().contains(line), "{}", metrics.render());
    assert!(!assert_whole_or_restored(dir.path(), &far, "forged"));
}

#[test]
fn an_account_that_is_filed_under_another_key_is_put_aside() {
    let (dir, far) = indebted();
    let (store, _) = Store::open(dir.path()).unwrap();
    let other = Identity::from_secret(&Zeroizing::new([8; 32])).public_key();
    let bytes = store.raw_rows(IOUS)[0].1.clone();
    let key = (IOUS, other.as_bytes().to_vec());
    store.change(key, Some(bytes)).unwrap();
    drop(store);
    let (friends, notes) = befriended(dir.path());
    assert!(
        matches!(notes[..], [StoreNote::AccountDamaged { .. }]),
        "{notes:?}"
    );
    assert_eq!(friends.check().unwrap().len(), 1);
    assert_eq!(
        (totals(&friends), state(&friends)),
        ((GIVEN, RECEIVED), State::Restored)
    );
    drop(friends);
    assert!(assert_whole_or_restored(dir.path(), &far, "filed twice"));
}

#[test]
fn a_former_account_that_does_not_stand_up_is_shown_and_put_aside() {
    let (dir, _) = indebted();
    let (friends, _) = befriended(dir.path());
    friends.replace_own_key().unwrap();
    drop(friends);
    let (friends, notes) = befriended(dir.path());
    assert_eq!((totals(&friends), notes), ((GIVEN, RECEIVED), vec![]));
    drop(friends);
    let (store, _) = Store::open(dir.path()).unwrap();
    let (key, mut bytes) = store.raw_rows(FORMER)[0].clone();
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    store.change((FORMER, key), Some(bytes.clone())).unwrap();
    let checked = store.checked_former().unwrap();
    assert!(
        checked.len() == 1 && checked[0].account.is_err(),
        "{checked:?}"
    );
    drop(store);
    let (friends, notes) = befriended(dir.path());
    let [StoreNote::AccountDamaged { moved_to, .. }] = &notes[..] else {
        panic!("{notes:?}")
    };
    assert_eq!(fs::read(moved_to).unwrap(), bytes);
    assert_eq!(totals(&friends), (0, 0));
    assert!(
        friends
            .check()
            .unwrap()
            .iter()
            .all(|one| one.former.is_none())
    );
}

/// Opened, and in session with the friend, when there is room for so many bytes more.
fn on_a_full_disk(dir: &Path, far: &mut Far, room: usize) -> Friends {
    let left = Arc::new(AtomicUsize::new(100_000));
    let disk = SmallDisk {
        left: Arc::clone(&left),
    };
    let lock = DirLock::acquire(dir).unwrap();
    let (store, _) = Store::open_on(lock, Box::new(disk)).unwrap();
    let (friends, _) = Friends::open(store).unwrap();
    meet(&friends, far);
    left.store(room, Ordering::SeqCst);
    friends
}

#[test]
fn f2_an_iou_that_could_not_be_written_does_not_come_out() {
    for room in 0..60 {
        let (dir, mut far) = indebted();
        let friends = on_a_full_disk(dir.path(), &mut far, room * 11);
        let mut out = RECEIVED;
        for total in [20_000, 30_000] {
            if let Ok(signed) = friends.sign(&Far::key(), total, 0) {
                out = signed.iou().total_bytes();
            }
        }
        drop(friends);
        let (friends, _) = befriended(dir.path());
        assert!(
            totals(&friends).1 >= out,
            "room {room}: let out {out}, kept less"
        );
    }
}

/// Cut off anywhere between signing, writing and sending, and opened again: what left is kept, a total is never signed with
/// other bytes than before, and what could not be written is counted.
#[test]
fn p9_a_crash_between_signing_and_sending_leaves_one_iou_for_a_total() {
    let recorder = crate::control::metrics::detached().unwrap();
    ::metrics::with_local_recorder(&recorder, || {
        let mut out = std::collections::BTreeMap::new();
        let (dir, mut far) = indebted();
        for room in 0..60 {
            let friends = on_a_full_disk(dir.path(), &mut far, room * 40);
            for total in [RECEIVED + room as u64 + 1, RECEIVED + room as u64 + 2] {
                let Ok(signed) = friends.sign(&Far::key(), total, 0) else {
                    continue;
                };
                let before = out.insert(total, signed.encode());
                assert!(before.is_none_or(|before| before == signed.encode()));
            }
            drop(friends);
            let (friends, _) = befriended(dir.path());
            let most = out.keys().max().copied().unwrap_or(RECEIVED);
            assert!(totals(&friends).1 >= most, "room {room}");
        }
        assert!(out.len() > 30, "{}", out.len());
    });
    let text = recorder.handle().render();
    let failures = "btslave_store_write_failures_total ";
    let count = text.lines().find_map(|line| line.strip_prefix(failures));
    assert!(count.is_some_and(|count| count != "0"), "{text}");
}

#[test]
fn a_record_never_lowers_what_is_kept() {
    let (dir, _) = indebted();
    let (store, _) = Store::open(dir.path()).unwrap();
    let opened = store.open_ledger().unwrap();
    let me = opened.identity.public_key();
    let mut older = Account::new(me, Far::key(), opened.epoch).record();
    older.delivered_bytes = 3;
    store.put_account(older, 0).unwrap();
    let again = store.checked_accounts(&me, opened.epoch).unwrap();
    let account = again[0].account.as_ref().unwrap();
    assert_eq!(
        (account.given_bytes(), account.received_bytes()),
        (GIVEN, RECEIVED)
    );
    assert_eq!(account.delivered_bytes(), 3);
}

#[test]
fn a_new_month_counts_from_its_beginning() {
    let (dir, mut far) = indebted();
    let (friends, _) = befriended(dir.path());
    let month = |friends: &Friends, at| {
        let standing = friends.standing(&Far::key(), at).unwrap().unwrap();
        (standing.given_month, standing.received_month)
    };
    assert_eq!(month(&friends, 0), (GIVEN, RECEIVED));
    let february = 40 * 86_400;
    assert_eq!(month(&friends, february), (0, 0));
    meet(&friends, &mut far);
    friends.sign(&Far::key(), RECEIVED + 5, february).unwrap();
    friends.sign(&Far::key(), RECEIVED + 9, february).unwrap();
    assert_eq!(month(&friends, february), (0, 9));
}

#[test]
fn a_crash_between_the_repair_and_the_ledgers_note_keeps_the_doubt() {
    let (dir, far) = indebted();
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let path = dir.path().join(journal::NAME);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 60]).unwrap();
    // The daemon dies after the store is repaired.
    drop(open(dir.path()));
    assert!(!assert_whole_or_restored(
        dir.path(),
        &far,
        "repaired, then killed"
    ));
}

#[test]
fn with_both_numbers_lost_a_sync_of_before_does_not_count() {
    let (dir, _) = indebted();
    for _ in 0..3 {
        let (friends, _) = befriended(dir.path());
        meet(&friends, &mut Far::new(friends.identity().public_key()));
    }
    let (store, _) = Store::open(dir.path()).unwrap();
    store.remove(IDENTITY, b"self").unwrap();
    drop(store);
    fs::remove_file(dir.path().join("identity.epoch")).unwrap();
    let (friends, _) = befriended(dir.path());
    assert_eq!(totals(&friends), (GIVEN, RECEIVED));
    assert_eq!(state(&friends), State::Restored);
}
