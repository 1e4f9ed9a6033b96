//! Two friends exchange IOUs, and the power of either is cut at any write or sync (`disk`). Whatever image that leaves:
//! it opens, to nothing less than was acknowledged; nothing is signed before a sync; after it both hold what either had.

mod disk;

use std::path::Path;

use friends_proto::identity::PublicKey;
use friends_proto::iou::SignedIou;
use friends_proto::ledger::SignRefusal;
use proptest::prelude::*;

use super::*;
use crate::friends::{Friends, SignError};
use disk::{CutDisk, Random};

/// No IOU is for more than so much above the last one.
const WINDOW: u64 = 1_000;

/// One friend, and what is demanded of its store.
struct End {
    open: Option<(Store, Friends)>,
    disk: CutDisk,
    dir: tempfile::TempDir,
    /// Our newest IOU that left: given out by `sign`, while there was power.
    left: u64,
    /// The friend's newest IOU that we were told is durable.
    kept: u64,
    /// What we ever began to sign for, which is what was delivered: no store may show more.
    tried: u64,
    /// A session stands, and the friend has shown what it holds.
    synced: bool,
}

fn open(dir: &Path, disk: &CutDisk) -> Result<(Store, Friends), StoreError> {
    let lock = DirLock::acquire(dir)?;
    let (store, _) = Store::open_on(lock, Box::new(disk.clone()))?;
    let (friends, _) = Friends::open(store.clone())?;
    Ok((store, friends))
}

impl End {
    fn new(random: &mut Random) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = CutDisk::new(dir.path(), Random(random.0));
        random.coin();
        let open = Some(open(dir.path(), &disk).unwrap());
        disk.acknowledged();
        Self {
            open,
            disk,
            dir,
            left: 0,
            kept: 0,
            tried: 0,
            synced: false,
        }
    }

    fn friends(&self) -> &Friends {
        &self.open.as_ref().unwrap().1
    }

    fn save(&self, n: u64) {
        let (store, _) = self.open.as_ref().unwrap();
        store.put_feed("http://feed/", &large(n)).unwrap();
        if !self.disk.is_cut() {
            self.disk.acknowledged();
        }
    }

    fn key(&self) -> PublicKey {
        self.friends().identity().public_key()
    }

    fn befriend(&self, key: PublicKey) {
        let friend = SavedFriend {
            name: "far".into(),
            hints: vec![],
            added_at: 5,
            last_seen: None,
        };
        self.friends().add(key, friend).unwrap();
        self.disk.acknowledged();
    }

    /// Given, received.
    fn totals(&self, far: &PublicKey) -> (u64, u64) {
        let totals = self
            .friends()
            .with_account(far, |one| (one.given_bytes(), one.received_bytes()));
        totals.unwrap()
    }

    /// Signs for `by` more. None: refused, or the power was cut.
    fn sign(&mut self, far: &PublicKey, by: u64) -> Option<SignedIou> {
        let total = self.totals(far).1 + by;
        self.tried = self.tried.max(total);
        let signed = self.friends().sign(far, total, 0);
        if self.disk.is_cut() {
            return None;
        }
        let signed = signed.unwrap();
        self.disk.acknowledged();
        self.left = total;
        Some(signed)
    }

    fn receive(&mut self, far: &PublicKey, signed: &SignedIou) {
        let record = self.friends().with_account(far, |one| {
            one.receive(signed);
            one.record()
        });
        self.friends().persist(record.unwrap(), 0).unwrap();
        if !self.disk.is_cut() {
            self.disk.acknowledged();
            self.kept = self.kept.max(signed.iou().total_bytes());
        }
    }

    fn shows(&mut self, far: &PublicKey) -> Vec<SignedIou> {
        let shown = self.friends().with_account(far, |one| {
            one.begin_session();
            one.shown().copied().collect()
        });
        self.synced = false;
        shown.unwrap()
    }

    fn sync(&mut self, far: &PublicKey, shown: &[SignedIou]) {
        let report = self
            .friends()
            .with_account(far, |one| one.sync(shown).unwrap());
        let report = report.unwrap();
        assert_eq!(report.contradiction, None, "an honest friend fell back");
        self.friends().persist(report.record, 0).unwrap();
        if !self.disk.is_cut() {
            self.disk.acknowledged();
            let (given, received) = self.totals(far);
            (self.kept, self.left) = (self.kept.max(given), self.left.max(received));
            self.synced = true;
        }
    }

    /// The computer starts again from `image`, perhaps to lose its power again while the store is being opened.
    fn start(
        &mut self,
        mut image: tempfile::TempDir,
        far: &PublicKey,
        theirs: u64,
        random: &mut Random,
    ) {
        self.open = None;
        loop {
            let disk = CutDisk::new(image.path(), Random(random.0));
            if random.coin() {
                disk.cut_in(random.below(16));
            }
            let opened = open(image.path(), &disk);
            if let Some(next) = disk.take_image() {
                drop(opened);
                image = next;
                continue;
            }
            disk.acknowledged();
            (self.open, self.disk) = (Some(opened.unwrap()), disk);
            self.dir = image;
            break;
        }
        self.synced = false;
        let (given, received) = self.totals(far);
        assert!(
            received >= self.left,
            "{} left, and {received} is found",
            self.left
        );
        assert!(
            given >= self.kept,
            "{} was kept, and {given} is found",
            self.kept
        );
        assert!(
            received <= self.tried && given <= theirs,
            "nobody signed for {given}, {received}"
        );
        let early = self.friends().sign(far, received + 1, 0);
        assert!(
            matches!(early, Err(SignError::Refused(SignRefusal::NotSynced))),
            "{early:?}"
        );
    }
}

/// Two friends, the moments of their exchange, and what was ever owed in each direction.
struct World {
    ends: [End; 2],
    keys: [PublicKey; 2],
    random: Random,
    cuts: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let ends = [End::new(&mut random), End::new(&mut random)];
        let keys = [ends[0].key(), ends[1].key()];
        ends[0].befriend(keys[1]);
        ends[1].befriend(keys[0]);
        let mut world = Self {
            ends,
            keys,
            random,
            cuts: 0,
        };
        if world.random.below(3) == 0 {
            // Near the size at which the journal is rewritten.
            (0..16).for_each(|n| world.ends[0].save(n));
        }
        world
    }

    fn step(&mut self) {
        let me = self.random.below(2);
        let victim = self.random.below(4);
        if victim < 2 {
            let steps = self.random.below(10);
            self.ends[victim].disk.cut_in(steps);
        }
        match self.random.below(8) {
            0 | 1 => self.meet(),
            2 => self.ends[me].save(self.ends[me].left),

            _ => self.pay(me),
        }
        for end in 0..2 {
            // Without a write nothing happened at the moment: it is now.
            let image = self.ends[end].disk.take_image();
            let image = image.or_else(|| (end == victim).then(|| self.ends[end].disk.cut()));
            if let Some(image) = image {
                self.cuts += 1;
                let theirs = self.ends[1 - end].tried;
                let far = self.keys[1 - end];
                self.ends[end].start(image, &far, theirs, &mut self.random);
                // The session is over for both.
                self.ends[1 - end].synced = false;
            }
        }
    }

    fn is_cut(&self) -> bool {
        self.ends.iter().any(|end| end.disk.is_cut())
    }

    /// Both show what they hold; either may be gone before it has heard the other.
    fn meet(&mut self) {
        let [one, two] = self.keys;
        let shown = [self.ends[0].shows(&two), self.ends[1].shows(&one)];
        self.ends[0].sync(&two, &shown[1]);
        if !self.is_cut() {
            self.ends[1].sync(&one, &shown[0]);
        }
    }

    fn pay(&mut self, debtor: usize) {
        if !self.ends.iter().all(|end| end.synced) {
            return self.meet();
        }
        let by = 1 + self.random.below(usize::try_from(WINDOW).unwrap()) as u64;
        let (me, far) = (self.keys[debtor], self.keys[1 - debtor]);
        let signed = self.ends[debtor].sign(&far, by);
        if let Some(signed) = signed {
            // It may be lost on its way, with the connection.
            if self.random.below(8) > 0 {
                self.ends[1 - debtor].receive(&me, &signed);
            } else {
                self.ends.iter_mut().for_each(|end| end.synced = false);
            }
        }
        if !self.is_cut() {
            let (theirs, ours) = (
                self.ends[1 - debtor].totals(&me).0,
                self.ends[debtor].totals(&far).1,
            );
            assert!(
                theirs <= ours && ours - theirs <= WINDOW,
                "the views differ: {theirs}, {ours}"
            );
        }
    }

    /// After one more sync both hold what either ever had.
    fn settle(&mut self) {
        self.meet();
        for (creditor, debtor) in [(0, 1), (1, 0)] {
            let given = self.ends[creditor].totals(&self.keys[debtor]).0;
            let received = self.ends[debtor].totals(&self.keys[creditor]).1;
            assert_eq!(given, received);
            assert!(received >= self.ends[debtor].left && given >= self.ends[creditor].kept);
        }
    }
}

fn large(n: u64) -> SavedFeed {
    SavedFeed {
        deny: vec!["x".repeat(60_000)],
        ..feed(n)
    }
}

fn cases() -> u32 {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn f1_a_power_cut_at_any_write_loses_nothing_acknowledged(seed in any::<u64>()) {
        let mut world = World::new(seed);
        for _ in 0..24 {
            world.step();
        }
        world.settle();
        prop_assert!(world.cuts > 0);
    }
}
