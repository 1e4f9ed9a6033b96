//! The bucket tree on the wall clock: who may send or receive how much now. Unlimited costs one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use swarm_core::bucket::{Class, Tree};
use swarm_core::io::{ConnId, Rates, SwarmId};
use swarm_core::time::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::mailbox::Mailboxes;
use crate::driver::Clock;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// One direction of the line.
#[derive(Debug)]
pub(crate) struct Line {
    direction: Direction,
    limited: AtomicBool,
    tree: Mutex<Tree>,
    /// When to advance the tree. Changed only under the tree's lock, so that no wish is lost.
    armed: Mutex<Option<Timestamp>>,
    arm: Notify,
    clock: Clock,
}

impl Line {
    fn new(direction: Direction, clock: Clock) -> Self {
        Self {
            direction,
            limited: AtomicBool::new(false),
            tree: Mutex::new(Tree::new(None, 0.5)),
            armed: Mutex::new(None),
            arm: Notify::new(),
            clock,
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Asks for `bytes`; what is not granted now comes by the mailbox.
    pub(crate) fn request(&self, conn: ConnId, bytes: u32) -> u32 {
        let mut tree = self.tree.lock();
        let grant = tree.request(self.clock.now(), conn, bytes);
        if grant.arm.is_some() {
            *self.armed.lock() = grant.arm;
            self.arm.notify_one();
        }
        grant.bytes
    }

    /// Bytes that had to go without asking.
    pub(crate) fn spend(&self, conn: ConnId, bytes: u32) {
        if self.is_limited() {
            self.tree.lock().spend(self.clock.now(), conn, bytes);
        }
    }

    pub(crate) fn refund(&self, bytes: u32) {
        if bytes > 0 && self.is_limited() {
            self.tree.lock().refund(bytes);
        }
    }

    fn set(&self, rate: Option<u64>, rates: &Rates) {
        let mut tree = self.tree.lock();
        tree.set_rate(self.clock.now(), rate);
        tree.set_master_share(rates.master_share);
        tree.set_guest_share(rates.guest_share);
        self.limited.store(rate.is_some(), Ordering::Relaxed);
        *self.armed.lock() = Some(self.clock.now());
        self.arm.notify_one();
    }

    /// Hands out grants until `stop`.
    async fn run(self: Arc<Self>, boxes: Arc<Mailboxes>, stop: CancellationToken) {
        let mut grants = Vec::new();
        loop {
            let at = *self.armed.lock();
            let wait = at.map(|at| at.since(self.clock.now()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.arm.notified() => continue,
                () = sleep(wait), if wait.is_some() => {}
            }
            {
                let mut tree = self.tree.lock();
                *self.armed.lock() = tree.advance(self.clock.now(), &mut grants);
            }
            for (conn, bytes) in grants.drain(..) {
                match (boxes.get(conn), self.direction) {
                    (Some(mailbox), Direction::Up) => mailbox.grant(bytes, 0),
                    (Some(mailbox), Direction::Down) => mailbox.grant(0, bytes),
                    (None, _) => self.refund(bytes),
                }
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    tokio::time::sleep(wait.unwrap_or_default()).await;
}

/// Both directions.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) up: Arc<Line>,
    pub(crate) down: Arc<Line>,
}

impl Meter {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            up: Arc::new(Line::new(Direction::Up, clock)),
            down: Arc::new(Line::new(Direction::Down, clock)),
        }
    }

    pub(crate) fn start(&self, boxes: &Arc<Mailboxes>, stop: &CancellationToken) {
        for line in [&self.up, &self.down] {
            tokio::spawn(Arc::clone(line).run(Arc::clone(boxes), stop.clone()));
        }
    }

    pub(crate) fn set(&self, rates: &Rates) {
        self.up.set(rates.upload, rates);
        self.down.set(rates.download, rates);
    }

    /// A connection, or a connection that turned out to be a master's.
    pub(crate) fn insert(&self, conn: ConnId, class: Class, swarm: SwarmId) {
        for line in [&self.up, &self.down] {
            line.tree.lock().insert(conn, class, swarm);
        }
    }

    pub(crate) fn remove(&self, conn: ConnId) {
        for line in [&self.up, &self.down] {
            line.tree.lock().remove(conn);
        }
    }
}
