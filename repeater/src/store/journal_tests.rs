#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::disk::RealDisk;
use super::*;

fn journal_of(changes: &[(Key, Option<Vec<u8>>)], start: &Settings) -> (Vec<u8>, Vec<Settings>) {
    let mut bytes = snapshot(start, 5).unwrap();
    let mut states = vec![start.clone()];
    for (i, (key, value)) in changes.iter().enumerate() {
        push_record(&mut bytes, 6 + i as u64, key, value.as_deref()).unwrap();
        let mut next = states.last().unwrap().clone();
        match value {
            Some(value) => next.insert(key.clone(), value.clone()),
            None => next.remove(key),
        };
        states.push(next);
    }
    (bytes, states)
}

fn key() -> impl Strategy<Value = Key> {
    (1u8..=4, prop::collection::vec(any::<u8>(), 0..8))
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

type History = (Settings, Vec<(Key, Option<Vec<u8>>)>);

fn history() -> impl Strategy<Value = History> {
    (
        prop::collection::btree_map(key(), value(), 0..6),
        prop::collection::vec((key(), prop::option::of(value())), 0..12),
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read((start, changes) in history()) {
        let (bytes, states) = journal_of(&changes, &start);
        let replay = replay(&bytes).unwrap();
        prop_assert_eq!(replay.end, End::Clean);
        prop_assert!(replay.complete);
        prop_assert_eq!(replay.seq, 5 + changes.len() as u64);
        prop_assert_eq!(&replay.settings, states.last().unwrap());
    }

    #[test]
    fn f1_a_cut_anywhere_gives_a_prefix((start, changes) in history(), at in any::<prop::sample::Index>()) {
        let (bytes, states) = journal_of(&changes, &start);
        let cut = at.index(bytes.len());
        let replay = replay(&bytes[..cut]).unwrap();
        prop_assert!(replay.good <= cut as u64);
        if replay.complete && replay.good > 0 {
            prop_assert_eq!(&replay.settings, &states[usize::try_from(replay.seq - 5).unwrap()]);
        } else {
            prop_assert!(cut == 0 || replay.end != End::Clean);
        }
    }

    #[test]
    fn f1_a_flipped_bit_anywhere_is_noticed((start, changes) in history(), at in any::<prop::sample::Index>()) {
        let (mut bytes, states) = journal_of(&changes, &start);
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let replay = replay(&bytes).unwrap();
        prop_assert_ne!(replay.end, End::Clean);
        prop_assert!(replay.good <= (bit / 8) as u64);
        if replay.complete {
            prop_assert_eq!(&replay.settings, &states[usize::try_from(replay.seq - 5).unwrap()]);
        }
        // Of a broken snapshot only true entries are seen.
        for (k, v) in &replay.settings {
            prop_assert!(states.iter().any(|s| s.get(k) == Some(v)));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = replay(&bytes);
    }
}

#[test]
fn a_repeated_or_skipped_number_is_damage() {
    let put = (1u8, b"k".to_vec());
    for wrong in [5u64, 7] {
        let mut bytes = snapshot(&Settings::new(), 5).unwrap();
        push_record(&mut bytes, wrong, &put, Some(b"v")).unwrap();
        assert_eq!(replay(&bytes).unwrap().end, End::Damaged);
    }
}

#[test]
fn a_newer_journal_is_refused_by_its_number() {
    let mut bytes = snapshot(&Settings::new(), 5).unwrap();
    bytes[4] = 9;
    let crc = crc32c::crc32c(&bytes[..24]).to_le_bytes();
    bytes[24..28].copy_from_slice(&crc);
    assert!(matches!(
        replay(&bytes),
        Err(StoreError::Newer {
            found: 9,
            supported: 1,
            ..
        })
    ));
}

#[test]
fn over_a_mebibyte_the_journal_is_rewritten_to_what_holds() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open_root(temp.path()).unwrap();
    let mut journal = Journal::open(&dir, &RealDisk, &replay(&[]).unwrap(), false).unwrap();
    let key = (1u8, b"k".to_vec());
    let mut settings = Settings::new();
    let mut largest = 0;
    for n in 0..60u8 {
        let value = vec![n; 50_000];
        journal
            .append(&dir, &RealDisk, &settings, &key, Some(&value))
            .unwrap();
        settings.insert(key.clone(), value);
        largest = largest.max(std::fs::metadata(dir.path(NAME)).unwrap().len());
    }
    assert!(
        largest > COMPACT_AT && largest < COMPACT_AT + 60_000,
        "{largest}"
    );
    let again = replay(&std::fs::read(dir.path(NAME)).unwrap()).unwrap();
    assert_eq!(
        (again.end, again.seq, again.settings),
        (End::Clean, 60, settings)
    );
}
