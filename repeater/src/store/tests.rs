#![allow(clippy::unwrap_used)]

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

mod crash;
mod ious;
mod keys;
mod torn;

const HASH: InfoHash = InfoHash([7; 20]);

fn feed(n: u64) -> SavedFeed {
    SavedFeed {
        every_s: n,
        allow: vec!["a".into()],
        deny: vec![],
        max_torrent_bytes: Some(n),
    }
}

fn master() -> SavedMaster {
    let rpc = SavedRpc {
        kind: "aria2".into(),
        url: "http://h/".into(),
        user: String::new(),
        password_file: String::new(),
    };
    SavedMaster {
        address: "home:51413".into(),
        share_permille: 500,
        rpc: Some(rpc),
    }
}

fn swarm(content: SwarmContent) -> SavedSwarm {
    let source = SwarmSource::Feed("http://f/".into());
    SavedSwarm {
        content,
        pinned: true,
        peers: vec!["[::1]:6881".parse().unwrap()],
        source,
        added_at: 9,
    }
}

fn fill(store: &Store, feeds: u64) {
    for n in 0..feeds {
        store
            .put_feed(&format!("http://feed/{n:02}"), &feed(n))
            .unwrap();
    }
    store.put_master("home", &master()).unwrap();
    store
        .put_swarm(HASH, &swarm(SwarmContent::Metainfo(vec![1; 200_000])))
        .unwrap();
    store.set_paused(true).unwrap();
}

fn assert_filled(store: &Store, feeds: u64) {
    let expected: Vec<_> = (0..feeds)
        .map(|n| (format!("http://feed/{n:02}"), feed(n)))
        .collect();
    assert_eq!(store.feeds().unwrap(), expected);
    assert_eq!(
        store.masters().unwrap(),
        vec![("home".to_owned(), master())]
    );
    assert_eq!(
        store.swarm(HASH).unwrap(),
        Some(swarm(SwarmContent::Metainfo(vec![1; 200_000])))
    );
    assert!(store.paused().unwrap());
}

fn open(dir: &Path) -> (Store, Vec<StoreNote>) {
    let (store, report) = Store::open(dir).unwrap();
    (store, report.notes)
}

#[test]
fn everything_survives_a_restart_and_a_removal_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, notes) = open(dir.path());
    assert_eq!(notes, vec![]);
    fill(&store, 5);
    let totals = Totals {
        uploaded: 1 << 60,
        downloaded: 2,
        wasted: 3,
    };
    store.put_totals(&totals).unwrap();
    store.flush().unwrap();
    drop(store);
    let (store, notes) = open(dir.path());
    assert_eq!(notes, vec![]);
    assert_filled(&store, 5);
    assert_eq!(store.totals().unwrap(), totals);
    assert!(store.remove_feed("http://feed/00").unwrap());
    assert!(!store.remove_feed("http://feed/00").unwrap());
    assert!(store.remove_swarm(HASH).unwrap());
    drop(store);
    let (store, notes) = open(dir.path());
    assert_eq!(notes, vec![]);
    assert_eq!(store.feeds().unwrap().len(), 4);
    assert_eq!((store.swarms(), store.swarm(HASH).unwrap()), (vec![], None));
    assert_eq!(
        fs::read_dir(dir.path().join("torrents")).unwrap().count(),
        0
    );
    let mode = fs::metadata(dir.path().join("settings.journal"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn f4_a_second_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = open(dir.path());
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::Locked { .. })
    ));
}

/// A filled store's directory, to be copied and damaged.
fn template(feeds: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    fill(&store, feeds);
    store.flush().unwrap();
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn database_files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("db"))
        .unwrap()
        .map(|e| e.unwrap().path());
    let mut files: Vec<_> = files.filter(|p| p.is_file()).collect();
    files.sort();
    files
}

type Damage = Box<dyn Fn(&mut Vec<u8>)>;

/// Every kind of damage to one file: emptied, cut at points, bits flipped at points, overwritten.
fn damages(length: usize) -> Vec<(String, Damage)> {
    let mut out: Vec<(String, Damage)> = vec![
        ("emptied".into(), Box::new(Vec::clear)),
        ("zeroed".into(), Box::new(|b| b.fill(0))),
        ("garbage".into(), Box::new(|b| b.fill(0xa5))),
    ];
    for part in 1..8usize {
        let at = length * part / 8;
        out.push((format!("cut at {at}"), Box::new(move |b| b.truncate(at))));
        out.push((format!("flip at {at}"), Box::new(move |b| b[at] ^= 0x10)));
    }
    out.push((
        "last byte cut".into(),
        Box::new(|b| b.truncate(b.len() - 1)),
    ));
    out.push(("first bit flipped".into(), Box::new(|b| b[0] ^= 1)));
    out
}

#[test]
fn f1_a_torn_database_opens_to_the_last_acknowledged_settings() {
    let template = template(12);
    let mut moved = 0;
    for file in database_files(template.path()) {
        let name = file.strip_prefix(template.path()).unwrap();
        for (what, damage) in damages(
            usize::try_from(fs::metadata(&file).unwrap().len())
                .unwrap()
                .min(60_000),
        ) {
            let dir = tempfile::tempdir().unwrap();
            copy(template.path(), dir.path());
            let mut bytes = fs::read(&file).unwrap();
            if bytes.is_empty() {
                continue;
            }
            damage(&mut bytes);
            fs::write(dir.path().join(name), bytes).unwrap();
            let (store, notes) = open(dir.path());
            assert_filled(&store, 12);
            for note in &notes {
                assert!(
                    !matches!(
                        note,
                        StoreNote::ChangesLost { .. } | StoreNote::DatabaseOff { .. }
                    ),
                    "{note}"
                );
                if let StoreNote::DatabaseMoved { moved_to, .. } = note {
                    assert!(moved_to.exists());
                    moved += 1;
                }
            }
            store.put_feed("http://feed/new", &feed(1)).unwrap();
            drop(store);
            let (store, notes) = open(dir.path());
            assert_eq!(notes, vec![], "{what}: repaired once is repaired");
            assert_eq!(store.feeds().unwrap().len(), 13);
        }
    }
    assert!(
        moved > 0,
        "no damage made sled refuse: the test damages the wrong bytes"
    );
}

#[test]
fn f1_a_missing_database_is_rebuilt() {
    let dir = template(3);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let (store, _) = open(dir.path());
    assert_filled(&store, 3);
    drop(store);
    fs::remove_file(dir.path().join("settings.journal")).unwrap();
    let (store, notes) = open(dir.path());
    assert_filled(&store, 3);
    assert!(
        matches!(notes[..], [StoreNote::RestoredFromDatabase { .. }]),
        "{notes:?}"
    );
}

#[test]
fn f1_a_damaged_journal_is_restored_from_the_database() {
    let template = template(12);
    let length = fs::metadata(template.path().join(journal::NAME))
        .unwrap()
        .len();
    for (what, damage) in damages(usize::try_from(length).unwrap()) {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        let path = dir.path().join(journal::NAME);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let (store, notes) = open(dir.path());
        assert_filled(&store, 12);
        assert!(
            notes
                .iter()
                .any(|n| matches!(n, StoreNote::RestoredFromDatabase { .. })),
            "{what}: {notes:?}"
        );
        for note in &notes {
            if let StoreNote::JournalDamaged { moved_to, .. } = note {
                assert_eq!(
                    fs::read(moved_to).unwrap(),
                    bytes,
                    "the damaged file is kept"
                );
            }
        }
        drop(store);
        assert_eq!(
            open(dir.path()).1,
            vec![],
            "{what}: repaired once is repaired"
        );
    }
}

#[test]
fn f1_when_both_are_damaged_the_loss_is_said() {
    let dir = template(12);
    let path = dir.path().join(journal::NAME);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for file in database_files(dir.path()) {
        fs::write(file, b"torn").unwrap();
    }
    let (store, notes) = open(dir.path());
    assert!(
        notes
            .iter()
            .any(|n| matches!(n, StoreNote::JournalDamaged { .. })),
        "{notes:?}"
    );
    let feeds = store.feeds().unwrap();
    assert!(
        !feeds.is_empty() && feeds.len() < 12,
        "a prefix: {}",
        feeds.len()
    );
    assert!(
        feeds
            .iter()
            .all(|(url, f)| *url == format!("http://feed/{:02}", f.every_s)),
        "nothing invented"
    );
}

#[test]
fn f1_a_changed_torrent_file_is_named_and_never_returned() {
    let dir = template(1);
    let path = dir.path().join(format!("torrents/{HASH}.torrent"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (store, notes) = open(dir.path());
    assert!(
        matches!(&notes[..], [StoreNote::TorrentLost { .. }]),
        "{notes:?}"
    );
    assert!(matches!(store.swarm(HASH), Err(StoreError::Damaged { .. })));
    assert_eq!(store.feeds().unwrap().len(), 1);
    store
        .put_swarm(HASH, &swarm(SwarmContent::Metainfo(vec![1; 200_000])))
        .unwrap();
    assert_filled(&store, 1);
}

#[test]
fn f5_links_inside_the_data_directory_are_refused() {
    for name in ["settings.journal", "torrents", "db"] {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let target = if name == "settings.journal" {
            outside.path().join("f")
        } else {
            outside.path().to_owned()
        };
        symlink(&target, data.join(name)).unwrap();
        assert!(
            matches!(Store::open(&data), Err(StoreError::Symlink { .. })),
            "{name}"
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let outside = dir.path().join("precious");
    fs::write(&outside, "p").unwrap();
    symlink(
        &outside,
        dir.path().join(format!("torrents/{HASH}.torrent")),
    )
    .unwrap();
    let put = store.put_swarm(HASH, &swarm(SwarmContent::Metainfo(vec![1])));
    assert!(matches!(put, Err(StoreError::Symlink { .. })));
    assert_eq!(fs::read(&outside).unwrap(), b"p");
    assert_eq!(
        store.swarms(),
        vec![],
        "what could not be written is not remembered"
    );
}

/// A disk with room for `left` more bytes; syncs cost one.
#[derive(Debug)]
struct SmallDisk {
    left: Arc<AtomicUsize>,
}

impl SmallDisk {
    fn take(&self, want: usize) -> usize {
        let left = self.left.load(Ordering::SeqCst);
        let got = want.min(left);
        self.left.store(left - got, Ordering::SeqCst);
        got
    }
}

impl Disk for SmallDisk {
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let got = self.take(bytes.len());
        RealDisk.write(file, &bytes[..got])?;
        if got < bytes.len() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.take(1) == 0 {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            RealDisk.sync(file)
        }
    }

    fn sync_names(&self, dir: &File) -> io::Result<()> {
        RealDisk.sync_names(dir)
    }
}

#[test]
fn f2_a_full_disk_at_each_write_leaves_the_old_settings_and_a_living_store() {
    for room in (0..360).step_by(17) {
        let dir = tempfile::tempdir().unwrap();
        let left = Arc::new(AtomicUsize::new(100_000));
        let lock = DirLock::acquire(dir.path()).unwrap();
        let (store, _) = Store::open_on(
            lock,
            Box::new(SmallDisk {
                left: Arc::clone(&left),
            }),
        )
        .unwrap();
        store.put_feed("http://feed/0", &feed(0)).unwrap();
        left.store(room, Ordering::SeqCst);
        let mut held = 1;
        for n in 1..6 {
            match store.put_feed(&format!("http://feed/{n}"), &feed(n)) {
                Ok(()) => held += 1,
                Err(StoreError::Full { .. }) => {}
                Err(e) => panic!("{e}"),
            }
            assert_eq!(store.feeds().unwrap().len(), held);
        }
        let torrent = store.put_swarm(HASH, &swarm(SwarmContent::Metainfo(vec![1; 1000])));
        assert!(matches!(torrent, Err(StoreError::Full { .. })));
        assert!(held < 6);
        left.store(100_000, Ordering::SeqCst);
        store.put_feed("http://feed/later", &feed(7)).unwrap();
        let expected = store.feeds().unwrap();
        assert_eq!(expected.len(), held + 1);
        drop(store);
        let (store, notes) = open(dir.path());
        assert_eq!(notes, vec![]);
        assert_eq!(store.feeds().unwrap(), expected);
        assert_eq!(store.swarms(), vec![]);
    }
}

#[test]
fn f2_a_failed_append_that_is_the_last_word_does_not_come_back_torn() {
    let dir = tempfile::tempdir().unwrap();
    let left = Arc::new(AtomicUsize::new(100_000));
    let lock = DirLock::acquire(dir.path()).unwrap();
    let (store, _) = Store::open_on(
        lock,
        Box::new(SmallDisk {
            left: Arc::clone(&left),
        }),
    )
    .unwrap();
    store.put_feed("http://feed/0", &feed(0)).unwrap();
    left.store(30, Ordering::SeqCst);
    store.put_feed("http://feed/1", &feed(1)).expect_err("full");
    drop(store);
    let (store, notes) = open(dir.path());
    assert_eq!(notes, vec![]);
    assert_eq!(store.feeds().unwrap().len(), 1);
}

#[test]
fn a_database_lost_while_running_costs_statistics_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put_feed("http://feed/0", &feed(0)).unwrap();
    store.inner.state.lock().index = None;
    store.put_feed("http://feed/1", &feed(1)).unwrap();
    assert!(matches!(
        store.put_totals(&Totals::default()),
        Err(StoreError::Index { .. })
    ));
    drop(store);
    let (store, notes) = open(dir.path());
    assert_eq!(notes, vec![StoreNote::DatabaseCorrected]);
    assert_eq!(store.feeds().unwrap().len(), 2);
}
