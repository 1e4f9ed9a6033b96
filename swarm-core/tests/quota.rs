//! The month's quota over kills, clock jumps and late disks: whatever happens, what the line carried since it
//! first carried anything in the month the clock shows stays within the quota; and nothing but kills costs any of it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use swarm_core::io::{
    Geometry, Hold, Input, LeaveReason, Limits, Note, Origin, Output, SwarmFact, SwarmId, Wall,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::quota::{Book, FAREWELL, Month, chunk};
use swarm_core::time::Timestamp;

const MIB: u64 = 1 << 20;
const NOV: Month = 2026 * 12 + 10;

#[derive(Clone, Debug)]
enum Op {
    /// Connections carry so many bytes, if they may; the brain hears of it, or not yet.
    Carry(u64, bool),
    /// So do trackers and feeds, to the very end.
    Ask(u64),
    /// The book that was to be written is.
    Write,
    /// The process is killed; what was being written is on the disk, or is not.
    Kill(bool),
    /// The clock shows another month, so far from where it began.
    Clock(Month),
    /// The operator changes the quota to so many MiB.
    Limit(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0u64..4 * MIB, prop::bool::weighted(0.8)).prop_map(|(n, told)| Op::Carry(n, told)),
        2 => (0u64..100_000).prop_map(Op::Ask),
        8 => Just(Op::Write),
        2 => any::<bool>().prop_map(Op::Kill),
        3 => (-3..4).prop_map(Op::Clock),
        1 => (-400..400).prop_map(Op::Clock),
    ]
}

/// A shell that carries bytes, a disk that keeps the book, and the truth about both.
struct World {
    limit: Option<u64>,
    node: Node,
    month: Month,
    carried: u64,
    allowed: Option<u64>,
    disk: Book,
    writing: Option<Book>,
    /// Bytes carried in all runs.
    truth: u64,
    /// What that was when first something was carried while the clock showed each month.
    first: BTreeMap<Month, u64>,
    now: Timestamp,
    outputs: Vec<Output>,
}

fn node(limit: Option<u64>, book: &Book) -> Node {
    let mut params = Params::new(limits(limit), [7; 20]);
    params.book = book.clone();
    Node::new(params, 1)
}

fn limits(month: Option<u64>) -> Limits {
    Limits {
        month,
        connections: 10,
        cache: MIB,
        cache_memory: MIB,
        ..Limits::default()
    }
}

impl World {
    fn new(limit: Option<u64>) -> Self {
        let mut world = Self {
            limit,
            node: node(limit, &Book::default()),
            month: NOV,
            carried: 0,
            allowed: limit.map(|_| 0),
            disk: Book::default(),
            writing: None,
            truth: 0,
            first: BTreeMap::new(),
            now: Timestamp::ZERO,
            outputs: Vec::new(),
        };
        world.clock(NOV);
        world
    }

    fn tell(&mut self, input: Input) {
        self.now.0 += 1000;
        self.node.handle(self.now, input);
        while let Some(output) = self.node.poll_output() {
            match &output {
                Output::Save(book) => self.writing = Some(book.clone()),
                Output::Allow(bytes) => self.allowed = *bytes,
                Output::Order(..)
                | Output::Dial(..)
                | Output::Join(_)
                | Output::Leave(_)
                | Output::Forget(_)
                | Output::Scrape(_)
                | Output::WantPeers(_)
                | Output::Left(..)
                | Output::Retire(..)
                | Output::Rates(_)
                | Output::Friends(_)
                | Output::Listed(..)
                | Output::Note(_) => {}
            }
            self.outputs.push(output);
        }
    }

    fn clock(&mut self, month: Month) {
        self.month = month;
        self.tell(Input::Wall(Wall { month, minute: 0 }));
    }

    fn write(&mut self) {
        if let Some(book) = self.writing.take() {
            let total = book.total;
            self.disk = book;
            self.tell(Input::Saved(total));
        }
    }

    /// Carries what it may of `bytes`; all of it while there is no quota.
    fn carry(&mut self, bytes: u64, keep: u64) -> u64 {
        let may = self.allowed.map_or(bytes, |allowed| {
            allowed.saturating_sub(keep + self.carried).min(bytes)
        });
        if may > 0 {
            self.first.entry(self.month).or_insert(self.truth);
        }
        self.carried += may;
        self.truth += may;
        may
    }

    fn used(&self) -> u64 {
        self.truth - self.first.get(&self.month).unwrap_or(&self.truth)
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Carry(bytes, told) => {
                self.carry(*bytes, FAREWELL);
                if *told {
                    self.tell(Input::Carried(self.carried));
                }
            }
            Op::Ask(bytes) => {
                self.carry(*bytes, 0);
                self.tell(Input::Carried(self.carried));
            }
            Op::Write => self.write(),
            Op::Kill(written) => {
                if let Some(book) = self.writing.take().filter(|_| *written) {
                    self.disk = book;
                }
                (self.carried, self.allowed) = (0, self.limit.map(|_| 0));
                self.node = node(self.limit, &self.disk);
                self.clock(self.month);
            }
            Op::Clock(offset) => self.clock(NOV + offset),
            Op::Limit(mib) => {
                self.limit = Some(mib * MIB);
                self.tell(Input::Limits(limits(self.limit)));
            }
        }
    }

    /// Carries until nothing more may be.
    fn exhaust(&mut self) {
        loop {
            let may = self.carry(chunk(self.limit), FAREWELL);
            self.tell(Input::Carried(self.carried));
            self.write();
            if may == 0 {
                return;
            }
        }
    }

    fn notes(&mut self) -> Vec<Note> {
        let outputs = std::mem::take(&mut self.outputs).into_iter();
        let note = |output| {
            if let Output::Note(note) = output {
                Some(note)
            } else {
                None
            }
        };
        outputs.filter_map(note).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_month_never_carries_more_than_its_quota(
        mib in 1u64..64,
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut world = World::new(Some(mib * MIB));
        for op in &ops {
            let before = world.truth;
            world.run(op);
            prop_assert!(
                world.truth == before || world.used() <= mib * MIB,
                "{} of {} bytes used after {op:?}", world.used(), mib * MIB
            );
        }
        let before = world.truth;
        world.exhaust();
        world.run(&Op::Ask(FAREWELL));
        prop_assert!(world.truth == before || world.used() <= mib * MIB, "{} used at the end", world.used());
    }

    /// A kill costs at most a chunk and the farewell; a month without kills is used to its end.
    #[test]
    fn what_is_not_lost_to_kills_can_be_used(mib in 4u64..256, kills in 0u64..3) {
        let mut world = World::new(Some(mib * MIB));
        world.write();
        for _ in 0..kills {
            world.run(&Op::Carry(1000, true));
            world.write();
            world.run(&Op::Kill(true));
            world.write();
        }
        world.exhaust();
        let lost = kills * chunk(world.limit);
        prop_assert!(world.used() + FAREWELL + lost >= mib * MIB);
        prop_assert!(world.node.view().month.spent);
    }

    /// A larger quota goes on where the smaller one stopped, a smaller one stops at once.
    #[test]
    fn a_new_limit_counts_what_was_used(first in 1u64..32, then in 1u64..32) {
        let mut world = World::new(Some(first * MIB));
        world.write();
        world.exhaust();
        world.run(&Op::Limit(then));
        world.write();
        prop_assert_eq!(world.node.view().month.spent, then <= first);
        world.exhaust();
        prop_assert_eq!(world.used(), first.max(then) * MIB - FAREWELL);
    }
}

fn join(world: &mut World) {
    let known = SwarmFact::Known {
        info_hash: [1; 20],
        name: "a".to_owned(),
        geometry: Some(Geometry {
            piece_length: 16_384,
            total: 1 << 18,
        }),
        private: false,
        hold: Hold::Cache,
        origin: Origin::User,
        pinned: false,
    };
    world.tell(Input::Swarm(SwarmId(1), known));
}

#[test]
fn a_spent_quota_leaves_every_swarm_and_the_next_month_joins_them_again() {
    let mut world = World::new(Some(8 * MIB));
    world.write();
    join(&mut world);
    assert!(
        world
            .notes()
            .iter()
            .any(|note| matches!(note, Note::Joined(..)))
    );
    world.exhaust();
    assert_eq!(world.used(), 8 * MIB - FAREWELL);
    let left = Note::Left(SwarmId(1), LeaveReason::Quota);
    assert_eq!(world.notes(), [Note::QuotaSpent(true), left]);
    // The farewell is there still, and no more.
    assert_eq!(world.carry(MIB, 0), FAREWELL);
    world.tell(Input::Carried(world.carried));
    join(&mut world);
    world.run(&Op::Kill(false));
    world.write();
    join(&mut world);
    assert_eq!(
        world.notes(),
        [Note::QuotaSpent(true)],
        "a restart opens nothing"
    );
    assert_eq!(world.carry(MIB, 0), 0);

    world.clock(NOV + 1);
    world.write();
    let notes = world.notes();
    assert!(
        matches!(notes[..], [Note::QuotaSpent(false), Note::Joined(..)]),
        "{notes:?}"
    );
    assert!(world.carry(100_000, FAREWELL) == 100_000);
}

#[test]
fn without_a_quota_all_is_counted_and_nothing_waits() {
    let mut world = World::new(None);
    assert_eq!(world.carry(500 * MIB, 0), 500 * MIB);
    world.tell(Input::Carried(world.carried));
    world.write();
    world.run(&Op::Limit(400));
    let view = world.node.view().month;
    assert_eq!((view.used_bytes, view.spent), (500 * MIB, true));
}
