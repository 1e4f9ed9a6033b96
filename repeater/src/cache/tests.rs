use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;
use sha1::{Digest, Sha1};
use swarm_core::io::{ConnId, Contributor};

use super::*;

const PIECE: u32 = 4 * BLOCK;
const P: u64 = PIECE as u64;

struct Told(mpsc::SyncSender<Option<(Wanted, Option<Bytes>)>>);

impl Waiter for Told {
    fn room(&self) {
        drop(self.0.try_send(None));
    }

    fn block(&self, wanted: Wanted, bytes: Option<Bytes>) {
        drop(self.0.try_send(Some((wanted, bytes))));
    }
}

struct Rig {
    cache: Arc<Cache>,
    waiter: Arc<dyn Waiter>,
    told: mpsc::Receiver<Option<(Wanted, Option<Bytes>)>>,
    dir: tempfile::TempDir,
}

fn rig(size: u64, memory: u64) -> Rig {
    rig_in(tempfile::tempdir().expect("a directory"), size, memory)
}

fn rig_in(dir: tempfile::TempDir, size: u64, memory: u64) -> Rig {
    let config = CacheConfig {
        size,
        memory,
        min_free: 0,
        data_dir: dir.path().to_path_buf(),
    };
    let cache = Cache::open(&config).expect("a cache");
    let (tell, told) = mpsc::sync_channel(10_000);
    Rig {
        cache,
        waiter: Arc::new(Told(tell)),
        told,
        dir,
    }
}

fn content(piece: u32) -> Vec<u8> {
    (0..PIECE)
        .map(|at| (at.wrapping_mul(31) ^ piece.wrapping_mul(977) ^ (at >> 8)) as u8)
        .collect()
}

fn hash(piece: u32) -> PieceHash {
    PieceHash::Sha1(Sha1::digest(content(piece)).into())
}

/// This connection brought all of a piece.
fn whole(conn: u64) -> Contributor {
    Contributor {
        conn: ConnId(conn),
        bytes: PIECE,
    }
}

fn key(piece: u32) -> Key {
    (SwarmId(0), piece)
}

impl Rig {
    fn begin(&self, piece: u32) -> Begin {
        self.cache
            .begin(key(piece), PIECE, PIECE, hash(piece), &self.waiter)
            .expect("supported")
    }

    /// Waits for room as a connection would.
    fn begin_waiting(&self, piece: u32) -> Arc<Fetching> {
        loop {
            match self.begin(piece) {
                Begin::Ready(fetching) => return fetching,
                Begin::Wait => drop(
                    self.told
                        .recv_timeout(Duration::from_secs(10))
                        .expect("room comes"),
                ),
                Begin::NoRoom => panic!("no room for piece {piece}: {:?}", self.cache.usage()),
            }
        }
    }

    fn fill(&self, fetching: &Fetching, bytes: &[u8]) -> bool {
        // Out of order, so that the hash must catch up.
        for block in [2, 0, 3, 1] {
            let range = block * BLOCK..(block + 1) * BLOCK;
            let source = &bytes[range.start as usize..range.end as usize];
            let copy = |target: &mut [u8]| {
                target.copy_from_slice(source);
                Ok::<_, ()>(source.len())
            };
            fetching
                .fill(ConnId(1), range, copy)
                .expect("wanted")
                .expect("no error");
            match fetching.finish_block(ConnId(1), block) {
                Arrival::More => {}
                Arrival::Redundant => panic!("new block"),
                Arrival::Complete(complete) => return self.cache.checked(complete),
            }
        }
        panic!("all blocks came");
    }

    fn hold(&self, piece: u32) {
        let fetching = self.begin_waiting(piece);
        assert!(self.fill(&fetching, &content(piece)));
    }

    fn read(&self, piece: u32, begin: u32, len: u32) -> Option<Bytes> {
        let wanted = Wanted {
            key: key(piece),
            begin,
            len,
        };
        loop {
            match self.cache.block(wanted, &self.waiter) {
                Lookup::Here(bytes) => return Some(bytes),
                Lookup::Gone => return None,
                Lookup::Later => {}
                Lookup::Reading => loop {
                    let told = self
                        .told
                        .recv_timeout(Duration::from_secs(10))
                        .expect("an answer");
                    if let Some((got, bytes)) = told {
                        assert_eq!(got, wanted);
                        return bytes;
                    }
                },
            }
        }
    }

    fn facts(&self) -> Vec<(u32, PieceFact)> {
        let mut facts = Vec::new();
        self.cache.drain_facts(&mut facts);
        facts
            .into_iter()
            .map(|((_, piece), fact)| (piece, fact))
            .collect()
    }

    fn released(&self) -> Vec<u32> {
        let released = |(piece, fact)| (fact == PieceFact::Released).then_some(piece);
        self.facts().into_iter().filter_map(released).collect()
    }

    fn file_len(&self) -> u64 {
        std::fs::metadata(self.dir.path().join("cache.bin"))
            .expect("there")
            .len()
    }
}

#[test]
fn a_piece_is_held_served_and_released_with_its_last_clone() {
    let rig = rig(4 * P, 4 * P);
    rig.hold(7);
    assert_eq!(
        rig.facts(),
        [(
            7,
            PieceFact::Checked {
                ok: true,
                contributors: vec![whole(1)]
            }
        )]
    );
    let block = rig.read(7, BLOCK, BLOCK).expect("held");
    assert_eq!(block, content(7)[BLOCK as usize..2 * BLOCK as usize]);
    rig.cache.retire(key(7));
    assert_eq!(rig.read(7, 0, BLOCK), None);
    assert_eq!(
        (rig.released(), rig.cache.usage().memory_bytes),
        (vec![], P)
    );
    assert!(
        matches!(rig.begin(7), Begin::NoRoom),
        "a key is free only once it is released"
    );
    drop(block);
    assert_eq!(
        (rig.released(), rig.cache.usage().memory_bytes),
        (vec![7], 0)
    );
}

#[test]
fn b7_a_piece_of_wrong_bytes_is_never_held() {
    let rig = rig(4 * P, 4 * P);
    let fetching = rig.begin_waiting(3);
    let mut bytes = content(3);
    bytes[40_000] ^= 1;
    assert!(!rig.fill(&fetching, &bytes));
    assert_eq!(rig.read(3, 0, BLOCK), None);
    let bad = PieceFact::Checked {
        ok: false,
        contributors: vec![whole(1)],
    };
    assert_eq!(rig.facts(), [(3, bad), (3, PieceFact::Released)]);
    assert_eq!(rig.cache.usage().memory_bytes, 0);
}

#[test]
fn an_abandoned_fetch_gives_its_permit_back_and_takes_no_more_bytes() {
    let rig = rig(2 * P, 2 * P);
    let fetching = rig.begin_waiting(0);
    let _other = rig.begin_waiting(1);
    assert!(matches!(rig.begin(2), Begin::NoRoom));
    rig.cache.retire(key(0));
    assert_eq!(rig.released(), [0]);
    assert!(
        fetching
            .fill(ConnId(2), 0..BLOCK, |_| Ok::<_, ()>(0))
            .is_none()
    );
    assert!(matches!(
        fetching.finish_block(ConnId(2), 0),
        Arrival::Redundant
    ));
    assert!(matches!(rig.begin(2), Begin::Ready(_)));
}

#[test]
fn pieces_go_to_disk_for_room_and_come_back_whole() {
    // 512 KiB in memory: 256 KiB are kept back for reading, four pieces fit.
    let rig = rig(16 * P, 8 * P);
    for piece in 0..11 {
        rig.hold(piece);
    }
    assert_eq!(rig.file_len(), 8 * P);
    assert!(rig.cache.usage().disk_bytes >= 7 * P);
    for piece in 0..11 {
        let bytes = content(piece);
        assert_eq!(rig.read(piece, 0, PIECE).expect("held"), bytes);
        assert_eq!(rig.read(piece, 5, 20_000).expect("held"), bytes[5..20_005]);
        assert_eq!(rig.read(piece, 1, PIECE), None, "past the end");
    }
    let usage = rig.cache.usage();
    assert!(
        usage.high_water_bytes <= 16 * P && usage.memory_bytes <= 8 * P,
        "{usage:?}"
    );
    (0..11).for_each(|piece| rig.cache.retire(key(piece)));
    let mut released = rig.released();
    released.sort_unstable();
    assert_eq!(released, (0..11).collect::<Vec<_>>());
    assert_eq!(
        (rig.cache.usage().memory_bytes, rig.cache.usage().disk_bytes),
        (0, 0)
    );
}

#[test]
fn f1_a_bit_flipped_on_disk_is_never_served() {
    let rig = rig(16 * P, 8 * P);
    for piece in 0..11 {
        rig.hold(piece);
    }
    rig.facts();
    let path = rig.dir.path().join("cache.bin");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes
        .iter_mut()
        .step_by(1000)
        .for_each(|byte| *byte ^= 0x10);
    std::fs::write(&path, &bytes).expect("writable");
    let (mut good, mut gone) = (0, 0);
    for piece in 0..11 {
        match rig.read(piece, 0, PIECE) {
            Some(read) => {
                assert_eq!(read, content(piece));
                good += 1;
            }
            None => gone += 1,
        }
    }
    assert!(gone >= 7 && good >= 1, "{gone} gone, {good} good");
    let facts = rig.facts();
    assert_eq!(
        facts
            .iter()
            .filter(|(_, fact)| *fact == PieceFact::Damaged)
            .count(),
        gone
    );
    assert_eq!(
        facts
            .iter()
            .filter(|(_, fact)| *fact == PieceFact::Released)
            .count(),
        gone
    );
}

#[test]
fn r2_what_an_earlier_run_left_is_cut_to_size_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache.bin");
    std::fs::write(&path, vec![9; 40 * PIECE as usize]).expect("writable");
    let rig = rig_in(dir, 6 * P, 4 * P);
    assert_eq!(rig.file_len(), 2 * P);
    assert_eq!(rig.cache.usage(), Usage::default());
    let again = rig_in(rig.dir, 6 * P, 6 * P);
    assert!(
        !again.dir.path().join("cache.bin").exists(),
        "no disk tier, no file"
    );
}

#[test]
fn f5_the_disk_tier_is_not_opened_through_a_symbolic_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("precious");
    std::fs::write(&target, "do not touch").expect("writable");
    std::os::unix::fs::symlink(&target, dir.path().join("cache.bin")).expect("a link");
    let config = CacheConfig {
        size: 2 * P,
        memory: P,
        min_free: 0,
        data_dir: dir.path().to_path_buf(),
    };
    assert!(Cache::open(&config).is_err());
    assert_eq!(std::fs::read(&target).expect("readable"), b"do not touch");
}

#[test]
fn f2_without_free_space_the_cache_lives_on_in_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = CacheConfig {
        size: 16 * P,
        memory: 8 * P,
        min_free: u64::MAX,
        data_dir: dir.path().to_path_buf(),
    };
    let cache = Cache::open(&config).expect("a cache");
    let (tell, told) = mpsc::sync_channel(100);
    let rig = Rig {
        cache,
        waiter: Arc::new(Told(tell)),
        told,
        dir,
    };
    for piece in 0..4 {
        rig.hold(piece);
    }
    assert!(matches!(rig.begin(4), Begin::NoRoom));
    assert_eq!(rig.cache.usage().disk_bytes, 0);
    rig.cache.retire(key(0));
    rig.hold(4);
    assert_eq!(rig.read(4, 0, PIECE).expect("held"), content(4));
}

#[derive(Debug, Clone)]
enum Step {
    Begin(u32),
    Fill(u32, bool),
    Retire(u32),
    Read(u32),
    DropClones,
}

fn step() -> impl Strategy<Value = Step> {
    let piece = 0u32..14;
    prop_oneof![
        4 => piece.clone().prop_map(Step::Begin),
        4 => (piece.clone(), any::<bool>()).prop_map(|(piece, good)| Step::Fill(piece, good)),
        2 => piece.clone().prop_map(Step::Retire),
        2 => piece.prop_map(Step::Read),
        1 => Just(Step::DropClones),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn r2_permits_never_exceed_the_cap(disk in 0u64..8, steps in prop::collection::vec(step(), 1..120)) {
        let size = (6 + disk) * P;
        let rig = rig(size, 6 * P);
        let mut fetching: HashMap<u32, Arc<Fetching>> = HashMap::new();
        let mut clones = Vec::new();
        for step in steps {
            match step {
                Step::Begin(piece) => {
                    if let Begin::Ready(begun) = rig.begin(piece) {
                        fetching.insert(piece, begun);
                    }
                }
                Step::Fill(piece, good) => {
                    if let Some(begun) = fetching.remove(&piece).filter(|begun| !begun.is_over()) {
                        let mut bytes = content(piece);
                        bytes[9] ^= u8::from(!good);
                        prop_assert_eq!(rig.fill(&begun, &bytes), good);
                    }
                }
                Step::Retire(piece) => rig.cache.retire(key(piece)),
                Step::Read(piece) => {
                    let wanted = Wanted { key: key(piece), begin: 0, len: BLOCK };
                    if let Lookup::Here(bytes) = rig.cache.block(wanted, &rig.waiter) {
                        prop_assert_eq!(&bytes[..], &content(piece)[..BLOCK as usize]);
                        clones.push(bytes);
                    }
                }
                Step::DropClones => clones.clear(),
            }
            let usage = rig.cache.usage();
            prop_assert!(usage.memory_bytes <= 6 * P, "{:?}", usage);
            prop_assert!(usage.memory_bytes + usage.disk_bytes <= size, "{:?}", usage);
            prop_assert!(usage.high_water_bytes <= size, "{:?}", usage);
        }
        drop((clones, fetching));
        (0..14).for_each(|piece| rig.cache.retire(key(piece)));
        // The disk thread may still have a piece in its hands; it lets go by itself.
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        while rig.cache.usage().memory_bytes + rig.cache.usage().disk_bytes > 0 {
            prop_assert!(std::time::Instant::now() < patience, "{:?}", rig.cache.usage());
            while rig.told.try_recv().is_ok() {}
            std::thread::yield_now();
        }
    }
}
