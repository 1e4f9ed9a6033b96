//! Three slaves with stores, sessions and a bad network, driven by generated steps: what must hold does.
//!
//! Messages are lost, re-ordered and repeated within a session, and end with it. A crash applies any subset of the writes
//! that were not yet synced, in any order; a store is replaced by an older copy, or is gone. Always the same cases: a failure
//! prints the seed and the shortest steps that show it.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::identity::{Identity, Zeroizing};
use crate::iou::SignedIou;
use crate::ledger::*;

const NODES: usize = 3;
const WINDOW: u64 = 1000;
const SEED: u64 = 2005;

#[derive(Debug, Clone)]
enum Step {
    /// A session of two, with the syncs on their way.
    Connect(usize, usize),
    Help {
        creditor: usize,
        debtor: usize,
        bytes: u64,
    },
    Sign {
        debtor: usize,
        creditor: usize,
    },
    /// The oldest write reaches the disk.
    Write(usize),
    /// The shell hears of it, and sends what may be sent.
    Persisted(usize),
    Deliver {
        to: usize,
        at: usize,
        keep: bool,
    },
    Lose {
        to: usize,
        at: usize,
    },
    /// Stops and opens again; the bits say which unsynced writes had reached the disk.
    Crash {
        node: usize,
        reached: u8,
        key_behind: bool,
    },
    Snapshot(usize),
    /// Opens with an older copy of the store: with its number beside the key, if the whole directory was copied.
    Restore {
        node: usize,
        copy: usize,
        whole: bool,
    },
    LoseStore(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    let pair = || (0..NODES, 1..NODES).prop_map(|(a, by)| (a, (a + by) % NODES));
    prop_oneof![
        2 => pair().prop_map(|(a, b)| Step::Connect(a, b)),
        10 => (pair(), 1..WINDOW).prop_map(|((creditor, debtor), bytes)| Step::Help { creditor, debtor, bytes }),
        10 => pair().prop_map(|(debtor, creditor)| Step::Sign { debtor, creditor }),
        12 => node().prop_map(Step::Write),
        12 => node().prop_map(Step::Persisted),
        30 => (node(), 0..4_usize, any::<bool>()).prop_map(|(to, at, keep)| Step::Deliver { to, at, keep }),
        1 => (node(), 0..4_usize).prop_map(|(to, at)| Step::Lose { to, at }),
        1 => (node(), any::<u8>(), any::<bool>())
            .prop_map(|(node, reached, key_behind)| Step::Crash { node, reached, key_behind }),
        1 => node().prop_map(Step::Snapshot),
        1 => (node(), 0..3_usize, any::<bool>()).prop_map(|(node, copy, whole)| Step::Restore { node, copy, whole }),
        1 => node().prop_map(Step::LoseStore),
    ]
}

#[derive(Debug, Clone)]
struct Disk {
    beside_key: BesideKey,
    epoch: Option<StoreEpoch>,
    records: [Option<AccountRecord>; NODES],
}

#[derive(Debug)]
struct Node {
    identity: Identity,
    disk: Disk,
    copies: Vec<Disk>,
    /// Written and not synced: whose, what, and the token of an IOU that waits for it.
    writes: Vec<(usize, AccountRecord, Option<Unpersisted>)>,
    /// Durable, and the shell has not heard.
    durable: Vec<(usize, Unpersisted)>,
    accounts: Vec<Option<Account>>,
    /// Received by its own witness and not signed yet, by creditor.
    credit: [u64; NODES],
    /// Delivered and not signed for, by debtor; never over a window.
    unsigned: [u64; NODES],
}

#[derive(Debug, Clone)]
enum Message {
    Sync(Vec<SignedIou>),
    Iou(Box<SignedIou>),
}

#[derive(Debug)]
struct World {
    nodes: Vec<Node>,
    /// Under way: from, to, what.
    wire: Vec<(usize, usize, Message)>,
    connected: [[bool; NODES]; NODES],
    /// Debtor, creditor: the largest total that left.
    sent: [[u64; NODES]; NODES],
    /// Creditor, debtor: by how much the views may differ: a window, and one for each restart that forgot what it counted.
    slack: [[u64; NODES]; NODES],
    /// One of the two lost something that only a sync gives back.
    rolled_back: [[bool; NODES]; NODES],
    /// Debtor, creditor: the debtor's disk is an older copy, and does not hold yet what it let out before.
    old_disk: [[bool; NODES]; NODES],
    /// Whose sync arrived in this session: of, at.
    synced: [[bool; NODES]; NODES],
}

fn identity(node: usize) -> Identity {
    let seed = u8::try_from(node + 1).expect("few");
    Identity::from_secret(&Zeroizing::new([seed; 32]))
}

fn total(record: Option<&IouRecord>) -> u64 {
    record.map_or(0, |kept| kept.verify().expect("ours").iou().total_bytes())
}

impl Disk {
    fn write(&mut self, friend: usize, record: AccountRecord) {
        let kept = self.records[friend].take();
        self.records[friend] = Some(match kept {
            Some(kept) => kept.join(record),
            None => record,
        });
    }

    fn received(&self, friend: usize) -> u64 {
        let record = self.records[friend].as_ref();
        total(record.and_then(|record| record.received.as_ref()))
    }
}

impl Node {
    fn new(me: usize) -> Self {
        let mut node = Self {
            identity: identity(me),
            disk: Disk {
                beside_key: BesideKey::NewKey,
                epoch: None,
                records: [const { None }; NODES],
            },
            copies: Vec::new(),
            writes: Vec::new(),
            durable: Vec::new(),
            accounts: Vec::new(),
            credit: [0; NODES],
            unsigned: [0; NODES],
        };
        node.open(me, false);
        node
    }

    fn open(&mut self, me: usize, key_behind: bool) {
        let epoch = StoreEpoch::open(self.disk.beside_key, self.disk.epoch);
        self.disk.epoch = Some(epoch);
        if !key_behind {
            self.disk.beside_key = BesideKey::Number(epoch.number);
        }
        self.writes.clear();
        self.durable.clear();
        self.credit = [0; NODES];
        self.unsigned = [0; NODES];
        let key = self.identity.public_key();
        let account = |friend: usize| match &self.disk.records[friend] {
            Some(record) => Account::open(key, record, epoch).expect("verifies"),
            None => Account::new(key, identity(friend).public_key(), epoch),
        };
        self.accounts = (0..NODES)
            .map(|friend| (friend != me).then(|| account(friend)))
            .collect();
    }

    fn account(&mut self, friend: usize) -> &mut Account {
        self.accounts[friend].as_mut().expect("a friend")
    }

    /// The friend's signed total rose.
    fn paid(&mut self, friend: usize, bytes: u64) {
        self.unsigned[friend] = self.unsigned[friend].saturating_sub(bytes);
    }
}

impl World {
    fn new() -> Self {
        Self {
            nodes: (0..NODES).map(Node::new).collect(),
            wire: Vec::new(),
            connected: [[false; NODES]; NODES],
            sent: [[0; NODES]; NODES],
            slack: [[WINDOW; NODES]; NODES],
            rolled_back: [[false; NODES]; NODES],
            old_disk: [[false; NODES]; NODES],
            synced: [[false; NODES]; NODES],
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Connect(a, b) => self.connect(a, b),
            Step::Help {
                creditor,
                debtor,
                bytes,
            } => self.help(creditor, debtor, bytes),
            Step::Sign { debtor, creditor } => self.sign(debtor, creditor),
            Step::Write(node) => self.write(node),
            Step::Persisted(node) => self.persisted(node),
            Step::Deliver { to, at, keep } => self.deliver(to, at, keep),
            Step::Lose { to, at } => {
                if let Some(index) = self.nth_to(to, at) {
                    self.wire.remove(index);
                }
            }
            Step::Crash {
                node,
                reached,
                key_behind,
            } => self.crash(node, reached, key_behind),
            Step::Snapshot(node) => {
                let copy = self.nodes[node].disk.clone();
                self.nodes[node].copies.push(copy);
            }
            Step::Restore { node, copy, whole } => self.restore(node, copy, whole),
            Step::LoseStore(node) => {
                let disk = &mut self.nodes[node].disk;
                (disk.epoch, disk.records) = (None, [const { None }; NODES]);
                self.reopen_rolled_back(node);
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        self.disconnect(a, b);
        (self.connected[a][b], self.connected[b][a]) = (true, true);
        for (from, to) in [(a, b), (b, a)] {
            self.nodes[from].account(to).begin_session();
            let shown: Vec<SignedIou> = self.nodes[from].account(to).shown().copied().collect();
            let own = self.nodes[from].account(to).received_bytes();
            self.leaves(from, to, own);
            self.wire.push((from, to, Message::Sync(shown)));
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        (self.connected[a][b], self.connected[b][a]) = (false, false);
        (self.synced[a][b], self.synced[b][a]) = (false, false);
        self.wire
            .retain(|(from, to, _)| (*from, *to) != (a, b) && (*from, *to) != (b, a));
    }

    fn help(&mut self, creditor: usize, debtor: usize, bytes: u64) {
        if !self.connected[creditor][debtor] {
            return;
        }
        let unsigned = &mut self.nodes[creditor].unsigned[debtor];
        let bytes = bytes.min(WINDOW - *unsigned);
        *unsigned += bytes;
        self.nodes[debtor].credit[creditor] += bytes;
    }

    fn sign(&mut self, debtor: usize, creditor: usize) {
        let held = self.nodes[creditor].account(debtor).given_bytes();
        let node = &mut self.nodes[debtor];
        let account = node.accounts[creditor].as_mut().expect("a friend");
        let wanted = account.received_bytes() + node.credit[creditor];
        if let Ok((record, token)) = account.prepare(&node.identity, wanted) {
            // Else it would be stale: somebody's help would never be paid for.
            assert!(
                wanted > held,
                "{debtor} signs {wanted}, {creditor} holds {held}"
            );
            node.credit[creditor] = 0;
            node.writes.push((creditor, record, Some(token)));
        }
    }

    fn write(&mut self, me: usize) {
        let node = &mut self.nodes[me];
        if node.writes.is_empty() {
            return;
        }
        let (friend, record, token) = node.writes.remove(0);
        node.disk.write(friend, record);
        node.durable.extend(token.map(|token| (friend, token)));
        self.heal(me);
    }

    fn persisted(&mut self, me: usize) {
        let Some((friend, token)) = self.nodes[me].durable.pop() else {
            return;
        };
        let signed = self.nodes[me]
            .account(friend)
            .persisted(&token)
            .expect("its own");
        if self.connected[me][friend] {
            self.leaves(me, friend, signed.iou().total_bytes());
            self.wire.push((me, friend, Message::Iou(Box::new(signed))));
        }
    }

    /// Invariant 2: what leaves is durable, or left before.
    fn leaves(&mut self, debtor: usize, creditor: usize, total: u64) {
        let durable = self.nodes[debtor].disk.received(creditor);
        let sent = &mut self.sent[debtor][creditor];
        assert!(
            durable >= total || *sent >= total,
            "{total} leaves, {durable} is durable"
        );
        *sent = total.max(*sent);
    }

    fn nth_to(&self, to: usize, at: usize) -> Option<usize> {
        let mine = |(_, entry): &(usize, &(usize, usize, Message))| entry.1 == to;
        let found: Vec<usize> = self
            .wire
            .iter()
            .enumerate()
            .filter(mine)
            .map(|(i, _)| i)
            .collect();
        found.get(at).or(found.first()).copied()
    }

    fn deliver(&mut self, to: usize, at: usize, keep: bool) {
        let Some(index) = self.nth_to(to, at) else {
            return;
        };
        let (from, _, message) = self.wire[index].clone();
        if !keep {
            self.wire.remove(index);
        }
        let node = &mut self.nodes[to];
        let record = match message {
            Message::Sync(shown) => {
                let report = node.account(from).sync(&shown).expect("ours");
                node.paid(from, report.news_bytes);
                self.synced[from][to] = true;
                Some(report.record)
            }
            Message::Iou(signed) => match node.account(from).receive(&signed) {
                Receipt::Newer {
                    record,
                    by_bytes,
                    direction,
                } => {
                    if direction == Direction::Given {
                        node.paid(from, by_bytes);
                    }
                    Some(record)
                }
                Receipt::Same | Receipt::Stale { .. } => None,
                Receipt::NotOurs => panic!("nobody sends those"),
            },
        };
        node.writes
            .extend(record.map(|record| (from, record, None)));
        self.after_sync(from, to);
    }

    /// Invariant 1: a sync of the two gives back what either lost.
    fn after_sync(&mut self, a: usize, b: usize) {
        if self.synced[a][b] && self.synced[b][a] {
            (self.rolled_back[a][b], self.rolled_back[b][a]) = (false, false);
        }
    }

    /// Invariant 5: it opens to no less than what was durable, and to all that ever left it.
    fn crash(&mut self, me: usize, reached: u8, key_behind: bool) {
        let (durable, held) = (self.nodes[me].disk.clone(), self.views()[me]);
        let writes = std::mem::take(&mut self.nodes[me].writes);
        // The later ones first: the disk keeps no order either.
        for (bit, (friend, record, _)) in writes.into_iter().enumerate().rev() {
            if reached >> (bit % 8) & 1 == 1 {
                self.nodes[me].disk.write(friend, record);
            }
        }
        self.heal(me);
        self.reopen(me, key_behind);
        for friend in (0..NODES).filter(|friend| *friend != me) {
            let kept = durable.records[friend].as_ref();
            let account = self.nodes[me].account(friend);
            let now = (account.given_bytes(), account.received_bytes());
            assert!(now.0 >= total(kept.and_then(|record| record.given.as_ref())));
            assert!(now.1 >= durable.received(friend));
            assert!(self.old_disk[me][friend] || now.1 >= self.sent[me][friend]);
            if now.0 < held[friend].0 || now.1 < held[friend].1 {
                self.roll_back(me, friend);
            }
        }
    }

    fn roll_back(&mut self, me: usize, friend: usize) {
        (self.rolled_back[me][friend], self.rolled_back[friend][me]) = (true, true);
    }

    /// A disk that holds again what left is as good as any.
    fn heal(&mut self, me: usize) {
        for friend in 0..NODES {
            self.old_disk[me][friend] &=
                self.nodes[me].disk.received(friend) < self.sent[me][friend];
        }
    }

    fn reopen(&mut self, me: usize, key_behind: bool) {
        for friend in (0..NODES).filter(|friend| *friend != me) {
            self.disconnect(me, friend);
            self.slack[me][friend] += WINDOW;
        }
        self.nodes[me].open(me, key_behind);
    }

    fn restore(&mut self, me: usize, copy: usize, whole: bool) {
        let node = &mut self.nodes[me];
        let Some(copy) = node.copies.get(copy).cloned() else {
            return;
        };
        let beside_key = if whole {
            copy.beside_key
        } else {
            node.disk.beside_key
        };
        node.disk = Disk { beside_key, ..copy };
        self.reopen_rolled_back(me);
    }

    fn reopen_rolled_back(&mut self, me: usize) {
        self.reopen(me, false);
        for friend in (0..NODES).filter(|friend| *friend != me) {
            self.roll_back(me, friend);
            self.old_disk[me][friend] = true;
        }
        self.heal(me);
    }

    /// What holds after every step.
    fn check(&mut self, before: &[[(u64, u64); NODES]; NODES], stopped: Option<usize>) {
        let now = self.views();
        for (creditor, debtor) in (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))) {
            if creditor == debtor {
                continue;
            }
            let (given, _) = now[creditor][debtor];
            let (_, received) = now[debtor][creditor];
            // Invariant 1, in memory: nothing falls but by a restart.
            for node in [creditor, debtor]
                .into_iter()
                .filter(|node| Some(*node) != stopped)
            {
                let friend = creditor + debtor - node;
                let (was, is) = (before[node][friend], now[node][friend]);
                assert!(is.0 >= was.0 && is.1 >= was.1, "{was:?} fell to {is:?}");
            }
            // Nobody is framed: no more is held than the debtor let out.
            assert!(
                given <= self.sent[debtor][creditor],
                "{given} was never signed"
            );
            if self.rolled_back[creditor][debtor] {
                continue;
            }
            // Invariant 1: the debtor knows all it let out, after any crash, and after a restore and one sync.
            assert!(
                received >= given,
                "{creditor} holds {given}, {debtor} knows of {received}"
            );
            // Invariant 3.
            let apart = received - given;
            assert!(
                apart <= self.slack[creditor][debtor],
                "the views are {apart} apart"
            );
        }
    }

    fn views(&self) -> [[(u64, u64); NODES]; NODES] {
        std::array::from_fn(|me| {
            std::array::from_fn(|friend| {
                let account = self.nodes[me].accounts[friend].as_ref();
                account.map_or((0, 0), |account| {
                    (account.given_bytes(), account.received_bytes())
                })
            })
        })
    }
}

fn stopped(step: &Step) -> Option<usize> {
    match step {
        Step::Crash { node, .. } | Step::Restore { node, .. } | Step::LoseStore(node) => {
            Some(*node)
        }
        Step::Connect(..)
        | Step::Help { .. }
        | Step::Sign { .. }
        | Step::Write(_)
        | Step::Persisted(_)
        | Step::Deliver { .. }
        | Step::Lose { .. }
        | Step::Snapshot(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    //= spec/iou.md#sync-both
    //= spec/iou.md#store-join
    #[test]
    fn what_must_hold_holds(steps in proptest::collection::vec(step(), 1..600)) {
        let mut world = World::new();
        for step in &steps {
            let before = world.views();
            world.take(step);
            world.check(&before, stopped(step));
        }
    }
}

/// The steps above reach what they are for: signatures arrive, and restored stores adopt.
#[test]
fn the_simulation_gets_somewhere() {
    let mut world = World::new();
    let round = |world: &mut World| {
        world.take(&Step::Connect(0, 1));
        for to in [0, 1] {
            world.take(&Step::Deliver {
                to,
                at: 0,
                keep: false,
            });
        }
        world.take(&Step::Help {
            creditor: 0,
            debtor: 1,
            bytes: 600,
        });
        world.take(&Step::Sign {
            debtor: 1,
            creditor: 0,
        });
        while !world.nodes[1].writes.is_empty() {
            world.take(&Step::Write(1));
        }
        world.take(&Step::Persisted(1));
        world.take(&Step::Deliver {
            to: 0,
            at: 0,
            keep: false,
        });
    };
    world.take(&Step::Snapshot(1));
    round(&mut world);
    assert_eq!(world.views()[0][1].0, 600);
    world.take(&Step::Restore {
        node: 1,
        copy: 0,
        whole: true,
    });
    assert_eq!(world.views()[1][0].1, 0);
    round(&mut world);
    assert_eq!(world.views()[0][1].0, 1200);
    assert_eq!(world.views()[1][0].1, 1200);
}
