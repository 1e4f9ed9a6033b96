//! Friends: who they are, whom a connection is with, and the desk between their sessions and the brain.
//!
//! Every connection to a peer has a `talk`: it shows our tags, recognises a friend by its own, and carries the session.
//! What the sessions bring goes to the one `desk`, which keeps the ledger: it verifies what friends sign, makes durable
//! what we sign, and turns messages into the brain's facts and the brain's decisions into messages. The secret key stays
//! here; the brain knows friends by number.

mod desk;
mod ledger;
mod metadata;
mod roster;
pub(crate) mod talk;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bt_wire::ids::InfoHash;
use friends_proto::identity::{Identity, PublicKey, Zeroizing};
use friends_proto::pair::{NONCE_BYTES, PairKey, Role};
use friends_proto::recognition::{Known, Meeting, Nonces, Recognition, meet, padding_bytes};
use friends_proto::session::{BackOff, End, Secrets};
use parking_lot::{Mutex, RwLock};
use swarm_core::io::friends::{FriendId, FriendsLimits, FriendsMode, FriendsOutput};
use tokio::sync::mpsc;

use crate::friends::Friends;
pub(crate) use desk::{Command, Desk};
pub use roster::RosterError;
use talk::{Report, TalkId};

/// What sessions report that may wait for the desk; a connection over it waits, and its socket is not read.
const REPORTS: usize = 1024;
/// Decisions of the brain that may wait for the desk.
const ORDERS: usize = 4096;
/// Wishes of the operator that may wait for the desk.
const COMMANDS: usize = 16;
/// Seconds of a day, by which a pair's home changes.
const DAY: u64 = 86_400;

/// Everything that help between friends needs to begin.
#[derive(Debug, Clone)]
pub struct AidConfig {
    /// Who we are, whom we added, and the ledger.
    pub friends: Arc<Friends>,
    /// The operator's limits; with [`FriendsMode::Off`] nothing is said of friends to anybody.
    pub limits: FriendsLimits,
}

/// What the operator allows connections to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    mode: FriendsMode,
    private_torrents: bool,
}

impl Rules {
    fn new(limits: &FriendsLimits) -> Self {
        Self {
            mode: limits.mode,
            private_torrents: limits.private_torrents,
        }
    }
}

/// What all connections share of friends.
pub(crate) struct Circle {
    identity: Arc<Identity>,
    rules: RwLock<Rules>,
    known: RwLock<Arc<Vec<Known>>>,
    names: RwLock<BTreeMap<FriendId, String>>,
    heard: Mutex<Nonces>,
    /// Who broke a session that stood.
    broke: Mutex<BackOff<PublicKey>>,
    /// From where one was broken before it stood.
    broke_from: Mutex<BackOff<IpAddr>>,
    /// With whom a session stands.
    online: Mutex<BTreeSet<PublicKey>>,
    reports: mpsc::Sender<Report>,
    orders: mpsc::Sender<FriendsOutput>,
    commands: mpsc::Sender<Command>,
    next_talk: AtomicU64,
}

impl std::fmt::Debug for Circle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circle")
            .field("known", &self.known.read().len())
            .finish_non_exhaustive()
    }
}

/// The desk's ends of the queues.
#[derive(Debug)]
pub(crate) struct Queues {
    reports: mpsc::Receiver<Report>,
    orders: mpsc::Receiver<FriendsOutput>,
    commands: mpsc::Receiver<Command>,
}

impl Circle {
    pub(crate) fn new(config: &AidConfig) -> Result<(Arc<Self>, Queues), RosterError> {
        let (reports, from_talks) = mpsc::channel(REPORTS);
        let (orders, from_brain) = mpsc::channel(ORDERS);
        let (commands, from_operator) = mpsc::channel(COMMANDS);
        let friends = Self {
            identity: Arc::clone(config.friends.identity()),
            rules: RwLock::new(Rules::new(&config.limits)),
            known: RwLock::new(Arc::new(roster::known(&config.friends)?)),
            names: RwLock::default(),
            heard: Mutex::default(),
            broke: Mutex::new(BackOff::new()),
            broke_from: Mutex::new(BackOff::new()),
            online: Mutex::default(),
            reports,
            orders,
            commands,
            next_talk: AtomicU64::new(0),
        };
        let queues = Queues {
            reports: from_talks,
            orders: from_brain,
            commands: from_operator,
        };
        Ok((Arc::new(friends), queues))
    }

    /// Whether a connection for such a torrent says anything about friends.
    //= spec/friends.md#private-silent
    pub(crate) fn speaks(&self, private: bool) -> bool {
        let rules = *self.rules.read();
        rules.mode != FriendsMode::Off && (!private || rules.private_torrents)
    }

    /// Whether we meet those whom we did not add.
    fn is_open(&self) -> bool {
        self.rules.read().mode == FriendsMode::Open
    }

    fn is_off(&self) -> bool {
        self.rules.read().mode == FriendsMode::Off
    }

    /// What the brain decided. It never waits: a desk that is so far behind ends all its sessions and begins anew.
    pub(crate) fn order(&self, order: FriendsOutput) {
        if self.orders.try_send(order).is_err() {
            metrics::counter!("btslave_friend_orders_lost_total").increment(1);
            // A desk that reads neither queue has ended.
            drop(self.commands.try_send(Command::Restart));
        }
    }

    /// What the operator wants.
    pub(crate) async fn command(&self, command: Command) {
        // A desk that has ended needs nothing.
        drop(self.commands.send(command).await);
    }

    /// The operator's name for a friend.
    pub(crate) fn name(&self, id: FriendId) -> String {
        let names = self.names.read();
        names
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("friend {}", id.0))
    }

    /// Our field for one connection; none when the system has no randomness.
    //= spec/friends.md#field-fresh
    //= spec/friends.md#field-tags
    fn field(&self, infohash: &InfoHash, role: Role) -> Option<Recognition> {
        let known = Arc::clone(&self.known.read());
        let mut nonce = [0; NONCE_BYTES];
        let mut padding = vec![0; padding_bytes(known.len())];
        getrandom::fill(&mut nonce).ok()?;
        getrandom::fill(&mut padding).ok()?;
        let open = self.is_open();
        Recognition::new(&known, infohash, role, nonce, &padding, open).ok()
    }

    /// Who sent this field, `role` being the sender's.
    fn meet(
        &self,
        ours: &Recognition,
        theirs: &Recognition,
        infohash: &InfoHash,
        role: Role,
    ) -> Option<Far> {
        let known = Arc::clone(&self.known.read());
        let mut heard = self.heard.lock();
        let before = heard.repeated();
        let met = meet(ours, Some(theirs), &known, infohash, role, &mut heard);
        if heard.repeated() > before {
            count_defence("ReplayedNonce");
        }
        match met {
            Meeting::Friend(friend) => Some(Far::Friend(Box::new(friend.clone()))),
            Meeting::Acquaintance => Some(Far::Acquaintance),
            Meeting::Nobody => None,
        }
    }

    /// Whether a session may begin from there with this friend, or with whoever it may be.
    //= spec/friends.md#session-back-off
    fn may_begin(&self, key: Option<&PublicKey>, from: IpAddr, now: Duration) -> bool {
        let may = key.is_none_or(|key| self.broke.lock().may_begin(key, now))
            && self.broke_from.lock().may_begin(&from.to_canonical(), now);
        if !may {
            count_defence("BackOff");
        }
        may
    }

    /// A session is over: who has to wait for the next one. `proved`: whose it was, once it stood.
    fn ended(&self, proved: Option<PublicKey>, from: IpAddr, end: End, now: Duration) {
        metrics::counter!("btslave_friend_sessions_ended_total", "why" => end_name(end))
            .increment(1);
        if !end.backs_off() {
            return;
        }
        match proved {
            Some(key) => self.broke.lock().broke(key, now),
            None => self.broke_from.lock().broke(from.to_canonical(), now),
        }
    }

    fn new_talk(&self) -> TalkId {
        TalkId(self.next_talk.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a friend's and our home of these days has this infohash: nobody else can name it.
    pub(crate) fn is_home(&self, infohash: InfoHash, unix_s: u64) -> bool {
        if self.is_off() {
            return false;
        }
        let today = unix_s / DAY;
        let known = Arc::clone(&self.known.read());
        known.iter().any(|friend| {
            (today.saturating_sub(1)..=today.saturating_add(1))
                .any(|day| friend.pair.home(day) == infohash)
        })
    }
}

/// Whom a connection may be with, as its tags tell.
#[derive(Debug, Clone)]
enum Far {
    /// A friend.
    Friend(Box<Known>),
    /// Nobody on our list; both sides are in open mode.
    Acquaintance,
}

impl Far {
    /// Whose tag it was.
    fn key(&self) -> Option<PublicKey> {
        match self {
            Self::Friend(friend) => Some(friend.key),
            Self::Acquaintance => None,
        }
    }
}

/// Our and a friend's home now.
pub(crate) fn home(pair: &PairKey, unix_s: u64) -> InfoHash {
    pair.home(unix_s / DAY)
}

/// Secrets for one session.
fn secrets() -> Option<Secrets> {
    let (mut fixed, mut ephemeral) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    getrandom::fill(&mut *fixed).ok()?;
    getrandom::fill(&mut *ephemeral).ok()?;
    Some(Secrets { fixed, ephemeral })
}

/// A defence of ours fired against a friend, or somebody who plays one.
fn count_defence(defence: &'static str) {
    metrics::counter!("btslave_friend_defence_total", "defence" => defence).increment(1);
}

fn end_name(end: End) -> &'static str {
    match end {
        End::BadFrame(_) => "BadFrame",
        End::OwnKey => "OwnKey",
        End::BadKey => "BadKey",
        End::BadSignature => "BadSignature",
        End::Version => "Version",
        End::Timeout => "Timeout",
        End::Exhausted => "Exhausted",
        End::Bye(_) => "Bye",
        End::Ours(_) => "Ours",
        End::Setup => "Setup",
    }
}
