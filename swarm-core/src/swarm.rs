//! One swarm as the brain sees it: geometry, who has what, our stock in it, its masters, its addresses.

use crate::io::friends::FriendId;
use crate::io::{ConnId, Hold, MasterId, Origin, PeerSource, SwarmId};
use crate::node::errands::Errands;
use crate::node::rendezvous::Meeting;
use crate::peer::{Class, Meter, Peer, Tie};
use crate::policy::belief;
use crate::policy::feed_cap::FeedRoom;
use crate::policy::never_harm::Hour;
use crate::policy::piece_yield::{self, YieldFacts};
use crate::time::Timestamp;
use bt_wire::bitfield::Bitfield;
use bt_wire::layout::Layout;
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Why a piece is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A master lacks it.
    Master,
    /// A friend reserved it with us.
    Friend,
    /// Strangers lack it.
    Free,
}

/// Where a piece is between absent and absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Fetching,
    Held,
    Retiring,
}

/// How many peers that lack a held piece were told of it, by how that binds us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ties {
    pub(crate) masters: u32,
    pub(crate) soft: u32,
    pub(crate) firm: u32,
    pub(crate) stale: u32,
}

impl Ties {
    fn of(&mut self, tie: Tie) -> &mut u32 {
        match tie {
            Tie::Master => &mut self.masters,
            Tie::Soft => &mut self.soft,
            Tie::Firm => &mut self.firm,
            Tie::Stale => &mut self.stale,
        }
    }

    pub(crate) fn add(&mut self, tie: Tie) {
        *self.of(tie) += 1;
    }

    pub(crate) fn drop(&mut self, tie: Tie) {
        let count = self.of(tie);
        *count = count.saturating_sub(1);
    }

    pub(crate) fn binding(self) -> bool {
        self.firm + self.stale > 0
    }

    pub(crate) fn none(self) -> bool {
        self == Self::default()
    }
}

/// A piece that is not absent.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) stage: Stage,
    pub(crate) why: Why,
    pub(crate) size: u64,
    pub(crate) since: Timestamp,
    /// Blocks nobody is asked for.
    pub(crate) uncovered: Vec<Range<u32>>,
    /// Connections with a lease on it.
    pub(crate) leases: Vec<ConnId>,
    /// Friends' slaves that were asked for blocks of it while it was lent to them, gone ones too.
    pub(crate) relays: BTreeMap<ConnId, FriendId>,
    /// Bytes that arrived.
    pub(crate) got: u64,
    /// Expected uploads, copies.
    pub(crate) expected: f64,
    pub(crate) announce: Arc<[ConnId]>,
    pub(crate) ties: Ties,
    /// Last request for it, or the moment it was verified.
    pub(crate) touched: Timestamp,
    /// Bytes sent, by address.
    pub(crate) served: BTreeMap<SocketAddr, u64>,
    /// Networks that announced it after we gave it to somebody else.
    pub(crate) echoes: BTreeSet<[u8; 6]>,
}

/// Holders and demand per piece, kept up to date with every HAVE.
#[derive(Debug, Default)]
pub(crate) struct Avail {
    downloaders_have: Vec<u16>,
    others_have: Vec<u16>,
    /// When a downloader was first seen to have a piece; zero: none has.
    appeared: Vec<Timestamp>,
    pub(crate) seeds: u32,
    /// What the weights of the seeds lack of one each, at the last tick.
    pub(crate) doubted: f64,
    pub(crate) downloaders: u32,
}

impl Avail {
    pub(crate) fn new(pieces: u32) -> Self {
        let zero = vec![0; pieces as usize];
        Self {
            downloaders_have: zero.clone(),
            appeared: vec![Timestamp::ZERO; pieces as usize],
            others_have: zero,
            seeds: 0,
            doubted: 0.0,
            downloaders: 0,
        }
    }

    fn table(&mut self, class: Class) -> Option<&mut Vec<u16>> {
        match class {
            Class::Downloader => Some(&mut self.downloaders_have),
            Class::Other => Some(&mut self.others_have),
            Class::Unknown | Class::Seed | Class::Master | Class::Guest => None,
        }
    }

    fn headcount(&mut self, class: Class) -> Option<&mut u32> {
        match class {
            Class::Downloader => Some(&mut self.downloaders),
            Class::Seed => Some(&mut self.seeds),
            Class::Unknown | Class::Other | Class::Master | Class::Guest => None,
        }
    }

    pub(crate) fn enter(&mut self, now: Timestamp, class: Class, have: &Bitfield) {
        if let Some(count) = self.headcount(class) {
            *count += 1;
        }
        have.iter_ones()
            .for_each(|piece| self.gained(now, class, piece));
    }

    pub(crate) fn leave(&mut self, class: Class, have: &Bitfield) {
        if let Some(count) = self.headcount(class) {
            *count = count.saturating_sub(1);
        }
        if self.table(class).is_some() {
            have.iter_ones().for_each(|piece| self.lost(class, piece));
        }
    }

    pub(crate) fn gained(&mut self, now: Timestamp, class: Class, piece: u32) {
        if class == Class::Downloader
            && let Some(at) = self.appeared.get_mut(piece as usize)
            && *at == Timestamp::ZERO
        {
            *at = now;
        }
        if let Some(count) = self
            .table(class)
            .and_then(|table| table.get_mut(piece as usize))
        {
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn lost(&mut self, class: Class, piece: u32) {
        if let Some(count) = self
            .table(class)
            .and_then(|table| table.get_mut(piece as usize))
        {
            *count = count.saturating_sub(1);
        }
    }

    /// Holders and lackers of a piece.
    pub(crate) fn facts(&self, piece: u32) -> YieldFacts {
        let of = |table: &[u16]| table.get(piece as usize).copied().map_or(0, u32::from);
        let by_downloaders = of(&self.downloaders_have);
        YieldFacts {
            lack: self.downloaders.saturating_sub(by_downloaders),
            seeds: self.seeds,
            rivals: self.rivals(),
            holders: by_downloaders + of(&self.others_have),
        }
    }

    /// Seeds that compete with us.
    pub(crate) fn rivals(&self) -> f64 {
        belief::rivals(self.seeds, self.doubted)
    }

    /// Copies that the swarm lacks of pieces that more than seeds have.
    pub(crate) fn spreading(&self) -> u64 {
        let lack = |have: &u16| u64::from(self.downloaders.saturating_sub(u32::from(*have)));
        self.downloaders_have
            .iter()
            .filter(|have| **have > 0)
            .map(lack)
            .sum()
    }

    /// For how long somebody besides seeds has had it.
    pub(crate) fn age(&self, now: Timestamp, piece: u32) -> Duration {
        let at = self.appeared.get(piece as usize).copied();
        at.filter(|at| *at != Timestamp::ZERO)
            .map_or(Duration::ZERO, |at| now.since(at))
    }

    pub(crate) fn lack(&self, piece: u32) -> u32 {
        self.facts(piece).lack
    }

    pub(crate) fn copies(&self, piece: u32) -> f64 {
        piece_yield::copies(self.facts(piece))
    }
}

/// A known address.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) source: PeerSource,
    pub(crate) fails: u32,
    pub(crate) next: Timestamp,
    pub(crate) dialling: Option<Timestamp>,
    pub(crate) conn: Option<ConnId>,
    /// It was a seed when last seen.
    pub(crate) seed: bool,
    /// Times it was let go because it said that it is a seed and gave nothing.
    pub(crate) silent: u32,
    /// It is ourselves.
    pub(crate) ours: bool,
}

/// A master in this swarm.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) conn: Option<ConnId>,
    /// What it had when last heard.
    pub(crate) have: Option<Bitfield>,
    pub(crate) fails: u32,
    pub(crate) next: Timestamp,
    pub(crate) dialling: Option<Timestamp>,
    pub(crate) sent: u64,
}

/// Absent pieces in the order in which they should be fetched, best last; rebuilt on the tick or when used up.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) queue: Vec<u32>,
    pub(crate) built: Option<Timestamp>,
}

/// The account of free repeating, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    pub(crate) taken: u64,
    /// Of that, what was wrong: the fault of a peer, and not of the swarm.
    pub(crate) wrong: u64,
    pub(crate) in_flight: u64,
    pub(crate) given: u64,
    pub(crate) forgiven: u64,
    pub(crate) halved: Timestamp,
    /// Halvings since something was given, and `given` at the last of them.
    pub(crate) halvings: u32,
    /// A piece came too late since the last of them.
    pub(crate) late: bool,
    pub(crate) given_then: u64,
    /// `taken`, without what was wrong, and `given` when it was joined.
    pub(crate) at_join: (u64, u64),
    /// The last hour, and when prospecting began.
    pub(crate) hour: Hour,
    pub(crate) prospecting: Timestamp,
}

/// Where a swarm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Out,
    Joined(Timestamp),
    TooBig,
}

/// One swarm.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) id: SwarmId,
    pub(crate) info_hash: [u8; 20],
    pub(crate) name: String,
    pub(crate) layout: Option<Layout>,
    pub(crate) private: bool,
    pub(crate) hold: Hold,
    pub(crate) origins: BTreeSet<Origin>,
    pub(crate) pinned: bool,
    pub(crate) known_since: Timestamp,
    pub(crate) standing: Standing,
    pub(crate) rest_until: Timestamp,
    pub(crate) rests: u32,
    /// Nobody names it: it goes as soon as its last piece and connection have.
    pub(crate) forgotten: bool,
    pub(crate) scrape: Option<(Option<u32>, Option<u32>, Option<u32>)>,
    pub(crate) scraped: Option<Timestamp>,
    pub(crate) asked_peers: Option<Timestamp>,
    pub(crate) need: f64,
    /// What its feeds leave it.
    pub(crate) room: FeedRoom,
    pub(crate) peers: BTreeMap<ConnId, Peer>,
    pub(crate) avail: Avail,
    pub(crate) active: BTreeMap<u32, Active>,
    pub(crate) fetching: u32,
    pub(crate) held: u32,
    pub(crate) held_bytes: u64,
    pub(crate) left_dirty: bool,
    /// Pieces being fetched that have uncovered blocks.
    pub(crate) partial: BTreeSet<u32>,
    pub(crate) master_conns: Vec<ConnId>,
    pub(crate) links: BTreeMap<MasterId, Link>,
    pub(crate) master_plan: Plan,
    pub(crate) friend_plan: Plan,
    pub(crate) free_plan: Plan,
    /// Bytes of expected uploads that strangers' fetches may still order before the next tick.
    pub(crate) allow: f64,
    /// Bytes that strangers will draw of what is announced to them, at the last tick.
    pub(crate) backlog: f64,
    /// Mean seconds from first lease to verified, and from announce to request.
    pub(crate) fetch_s: f64,
    pub(crate) lag_s: f64,
    pub(crate) fetches: (u64, u64),
    pub(crate) account: Account,
    pub(crate) echoes: u32,
    pub(crate) demand_seen: Timestamp,
    /// HAVEs of downloaders since the last tick, and the part that they gain each second of what they lack and
    /// others than seeds have.
    pub(crate) gains: u64,
    pub(crate) hazard: f64,
    pub(crate) book: BTreeMap<SocketAddr, Address>,
    pub(crate) banned: BTreeSet<IpAddr>,
    pub(crate) strikes: BTreeMap<IpAddr, u32>,
    /// Pieces whose hash failed with several contributors: fetched from one peer only.
    pub(crate) alone: BTreeSet<u32>,
    pub(crate) up: Meter,
    pub(crate) down: Meter,
    pub(crate) wasted: u64,
    /// Who has the slots that turn, and since when.
    pub(crate) turns: BTreeMap<ConnId, Timestamp>,
    pub(crate) to_master: u64,
    pub(crate) aid: Errands,
    pub(crate) meeting: Meeting,
}

impl Account {
    /// What was taken and was right.
    pub(crate) fn right(&self) -> u64 {
        self.taken.saturating_sub(self.wrong)
    }
}

impl Swarm {
    /// A swarm that was just named.
    pub(crate) fn new(id: SwarmId, info_hash: [u8; 20], hold: Hold, now: Timestamp) -> Self {
        Self {
            id,
            info_hash,
            name: String::new(),
            layout: None,
            private: false,
            hold,
            origins: BTreeSet::new(),
            pinned: false,
            known_since: now,
            standing: Standing::Out,
            rest_until: Timestamp::ZERO,
            rests: 0,
            forgotten: false,
            scrape: None,
            scraped: None,
            asked_peers: None,
            need: 0.0,
            room: FeedRoom::default(),
            peers: BTreeMap::new(),
            avail: Avail::default(),
            active: BTreeMap::new(),
            fetching: 0,
            held: 0,
            held_bytes: 0,
            left_dirty: false,
            partial: BTreeSet::new(),
            master_conns: Vec::new(),
            links: BTreeMap::new(),
            master_plan: Plan::default(),
            friend_plan: Plan::default(),
            free_plan: Plan::default(),
            allow: 0.0,
            backlog: 0.0,
            fetch_s: 3.0,
            lag_s: 0.5,
            fetches: (0, 0),
            account: Account::default(),
            echoes: 0,
            demand_seen: now,
            gains: 0,
            hazard: 0.0,
            book: BTreeMap::new(),
            banned: BTreeSet::new(),
            strikes: BTreeMap::new(),
            alone: BTreeSet::new(),
            up: Meter::default(),
            down: Meter::default(),
            wasted: 0,
            turns: BTreeMap::new(),
            to_master: 0,
            aid: Errands::default(),
            meeting: Meeting::default(),
        }
    }

    pub(crate) fn joined(&self) -> bool {
        matches!(self.standing, Standing::Joined(_))
    }

    pub(crate) fn pieces(&self) -> u32 {
        self.layout.map_or(0, |layout| layout.piece_count)
    }

    /// Bytes of a permit: a full piece length, whatever the piece's own size.
    pub(crate) fn permit(&self) -> u64 {
        self.layout
            .map_or(0, |layout| u64::from(layout.piece_length))
    }

    /// The cache is its home, and the geometry known.
    pub(crate) fn caches(&self) -> bool {
        self.hold == Hold::Cache && self.layout.is_some()
    }

    /// A connected master lacks this piece, and was not sent all of it just now.
    pub(crate) fn master_lacks(&self, piece: u32) -> bool {
        self.master_conns
            .iter()
            .filter_map(|conn| self.peers.get(conn))
            .any(|m| m.known && !m.have.get(piece) && !m.delivered.contains_key(&piece))
    }

    /// A connected master has this piece.
    pub(crate) fn master_has(&self, piece: u32) -> bool {
        let mut masters = self.master_conns.iter().filter_map(|c| self.peers.get(c));
        masters.any(|master| master.have.get(piece))
    }

    /// A connected master was sent all of this piece, and has not said HAVE yet.
    pub(crate) fn delivered(&self, piece: u32) -> bool {
        self.master_conns
            .iter()
            .filter_map(|conn| self.peers.get(conn))
            .any(|master| master.delivered.contains_key(&piece))
    }

    /// A master that is away lacked this piece when last heard.
    pub(crate) fn absent_master_lacks(&self, piece: u32) -> bool {
        self.links
            .values()
            .any(|l| l.conn.is_none() && l.have.as_ref().is_some_and(|have| !have.get(piece)))
    }

    /// A connected master lacks anything.
    pub(crate) fn master_demand(&self) -> bool {
        self.master_conns
            .iter()
            .filter_map(|conn| self.peers.get(conn))
            .any(|m| m.known && !m.have.is_full())
    }

    /// Bytes of distinct held pieces that are committed to peers that never forget.
    pub(crate) fn committed(&self) -> u64 {
        self.active.values().filter(|a| a.ties.binding()).count() as u64 * self.permit()
    }
}
