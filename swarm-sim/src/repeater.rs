//! One of our nodes: the daemon's own `Node`, sessions and bucket tree, on a virtual line and a virtual cache.

mod cache;
mod conn;
mod driving;
mod friends;
mod ledger;
mod line;
mod oracle;
mod slave;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use swarm_core::bucket::{Class, Tree};
use swarm_core::io::{Geometry, Hold, Input, Limits, Origin, PeerSource, SwarmFact, SwarmId};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::feed_cap::FeedCap;
use swarm_core::time::Timestamp;

use self::cache::Cache;
pub(crate) use self::conn::Conn;
pub(crate) use self::friends::Letter;
pub(crate) use self::slave::Slave;
use crate::events::{Event, SECOND, Time};
use crate::rng::mix;
use crate::world::World;

/// The feed that names the swarms.
const FEED: &str = "virtual";
/// What every address listens on.
const PORT: u16 = 6881;
/// Peers that a tracker names at a time (`numwant`).
const NUMWANT: u32 = 50;
/// Pieces in an allowed fast set (libtorrent's `allowed_fast_set_size`).
const ALLOWED_FAST: u64 = 5;
/// A tracker answers so fast.
const TRACKER: Time = SECOND / 5;

/// One repeater.
#[derive(Debug)]
pub(crate) struct Repeater {
    pub(crate) node: Node,
    pub(crate) conns: Vec<Option<Box<Conn>>>,
    pub(crate) cache: Cache,
    pub(crate) tree: Tree,
    /// Inputs that wait for the node.
    pub(crate) inputs: VecDeque<Input>,
    /// Connections to look at.
    pub(crate) dirty: Vec<u32>,
    /// Swarms that it is in.
    pub(crate) joined: BTreeSet<u32>,
    pub(crate) here: bool,
    /// Until when what goes up keeps the line busy.
    pub(crate) up_busy: Time,
    pub(crate) up_rate: u64,
    pub(crate) down_rate: u64,
    pub(crate) down_busy: Time,
    pub(crate) timer: Option<Time>,
    pub(crate) line_timer: Option<Time>,
    /// Payload bytes given and taken, in all and for each swarm.
    pub(crate) sent: u64,
    pub(crate) got: u64,
    pub(crate) by_swarm: BTreeMap<u32, (u64, u64)>,
    pub(crate) wasted: u64,
    /// Swarms joined and left, addresses banned.
    pub(crate) joins: u32,
    pub(crate) leaves: u32,
    pub(crate) bans: u32,
    /// At the moments when pieces became ours: leechers that had them, that had all of them under way from others, and
    /// that could ask us.
    pub(crate) fate: [u64; 3],
    /// What makes it a slave, if it is one.
    pub(crate) slave: Option<Box<Slave>>,
}

impl Repeater {
    fn new(params: Params, brain: u64) -> Self {
        let (cache, up) = (params.limits.cache, params.limits.upload);
        let down = params.limits.download;
        Self {
            node: Node::new(params, brain),
            conns: Vec::new(),
            cache: Cache::new(cache),
            tree: Tree::new(up, 0.5),
            inputs: VecDeque::new(),
            dirty: Vec::new(),
            joined: BTreeSet::new(),
            here: false,
            up_busy: 0,
            up_rate: up.unwrap_or(0),
            down_rate: down.unwrap_or(0),
            down_busy: 0,
            timer: None,
            line_timer: None,
            sent: 0,
            got: 0,
            by_swarm: BTreeMap::new(),
            wasted: 0,
            joins: 0,
            leaves: 0,
            bans: 0,
            fate: [0; 3],
            slave: None,
        }
    }
}

pub(crate) fn class() -> Class {
    Class::Swarm
}

/// The swarm as the node numbers it.
pub(crate) fn swarm_id(swarm: u32) -> SwarmId {
    SwarmId(swarm + 1)
}

/// The node's address: each has a network of its own.
pub(crate) fn address(node: u32) -> SocketAddr {
    let [_, a, b, c] = node.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(100 + a, b, c, 1)), PORT)
}

/// The node at an address.
pub(crate) fn node_at(addr: SocketAddr) -> Option<u32> {
    match addr.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Some(u32::from_be_bytes([0, a.checked_sub(100)?, b, c]))
        }
        IpAddr::V6(_) => None,
    }
}

/// Pieces that a node may ask for though it is choked (BEP 6): by its address, so the same from everybody; nodes of one
/// network have the same.
pub(crate) fn allowed_fast(network: u32, swarm: u32, pieces: u32) -> impl Iterator<Item = u32> {
    let seed = u64::from(network) << 32 | u64::from(swarm) << 3;
    (0..ALLOWED_FAST).map(move |at| (mix(seed ^ at) % u64::from(pieces.max(1))) as u32)
}

/// The peer id of a node, one of ours or another.
pub(crate) fn peer_id(node: u32, ours: bool) -> [u8; 20] {
    let mut id = if ours {
        *b"-BS0100-000000000000"
    } else {
        *b"-VP0001-000000000000"
    };
    id[16..].copy_from_slice(&node.to_be_bytes());
    id
}

impl World {
    pub(crate) fn repeater_mut(&mut self, node: u32) -> &mut Repeater {
        let at = node as usize - self.peers.len();
        &mut self.repeaters[at]
    }

    pub(crate) fn repeater(&self, node: u32) -> &Repeater {
        &self.repeaters[node as usize - self.peers.len()]
    }

    /// A repeater of the plan, that comes later.
    pub(crate) fn add_repeater(&mut self, seed: u64, number: u32) {
        let Some(plan) = self.plan.repeater.clone() else {
            return;
        };
        let id = u32::try_from(self.peers.len() + self.repeaters.len()).unwrap_or(u32::MAX);
        let limits = Limits {
            upload: Some(plan.up),
            download: plan.down,
            month: None,
            schedule: Vec::new(),
            connections: plan.connections,
            cache: plan.cache,
            cache_memory: plan.cache,
            repeat: true,
            max_swarms: plan.max_swarms,
        };
        let mut params = Params::new(limits, peer_id(id, true));
        params.off = plan.off;
        let brain = mix(seed.wrapping_add(u64::from(number) << 32));
        self.repeaters.push(Repeater::new(params, brain));
        let [from, to] = plan.joins;
        let at = from + (to - from) * self.rng.unit();
        self.events
            .at((at * SECOND as f64) as Time, Event::Join(id));
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp(self.events.now)
    }

    /// A repeater comes: it is told of all swarms.
    pub(crate) fn repeater_joins(&mut self, node: u32) {
        let plan = self.plan.repeater.as_ref();
        let feed = plan.is_some_and(|plan| plan.feed);
        self.repeater_mut(node).here = true;
        if self.repeater(node).slave.is_some() {
            return self.slave_joins(node);
        }
        if self.plan.repeater.as_ref().is_some_and(|plan| plan.oracle) {
            return self.ask_oracle(node);
        }
        let cap = self.plan.repeater.as_ref().map(|plan| FeedCap {
            torrents: plan.feed_torrents,
            cache: plan.feed_cache,
        });
        if let Some(cap) = cap.filter(|cap| *cap != FeedCap::default()) {
            let cap = Input::FeedCap(FEED.into(), cap);
            self.repeater_mut(node).inputs.push_back(cap);
        }
        for swarm in 0..u32::try_from(self.swarms.len()).unwrap_or(0) {
            self.introduce(node, swarm, feed);
        }
        self.expect_dials(node);
        self.turn(node);
    }

    /// Tells a repeater of a swarm.
    fn introduce(&mut self, node: u32, swarm: u32, feed: bool) {
        let origin = if feed {
            Origin::Feed(FEED.into())
        } else {
            Origin::User
        };
        let known = self.known(swarm, origin);
        self.repeater_mut(node).inputs.push_back(known);
    }

    /// What a node is told of a swarm.
    fn known(&self, swarm: u32, origin: Origin) -> Input {
        let at = &self.swarms[swarm as usize];
        let mut info_hash = [0; 20];
        info_hash[..4].copy_from_slice(&swarm.to_be_bytes());
        let known = SwarmFact::Known {
            info_hash,
            name: at.name.clone(),
            geometry: Some(Geometry {
                piece_length: at.layout.piece_length,
                total: at.layout.total,
            }),
            private: false,
            hold: Hold::Cache,
            origin,
            pinned: false,
        };
        Input::Swarm(swarm_id(swarm), known)
    }

    /// Where the plan has peers dial the repeater, they do so one after the other.
    fn expect_dials(&mut self, node: u32) {
        let Some([from, step]) = self.plan.repeater.as_ref().and_then(|plan| plan.dialled) else {
            return;
        };
        let peers = u32::try_from(self.peers.len()).unwrap_or(0);
        for peer in 0..peers {
            let at = from + step * f64::from(peer);
            let swarm = self.peers[peer as usize].swarm;
            self.events
                .at((at * SECOND as f64) as Time, Event::Dial(peer, node, swarm));
        }
    }

    /// A tracker answers a scrape.
    pub(crate) fn scraped(&mut self, node: u32, swarm: u32) {
        let at = &self.swarms[swarm as usize];
        let members = || {
            at.members
                .iter()
                .filter(|member| !self.is_repeater(**member))
        };
        let whole = |member: &&u32| {
            let peer = &self.peers[**member as usize];
            peer.count == at.pieces
        };
        let complete = u32::try_from(members().filter(whole).count()).unwrap_or(0);
        let all = u32::try_from(at.members.len()).unwrap_or(0);
        let fake = self
            .plan
            .repeater
            .as_ref()
            .and_then(|plan| plan.fake_scrape.as_ref());
        let more = fake.map_or(0, |(name, more)| {
            if at.name.starts_with(name.as_str()) {
                *more
            } else {
                0
            }
        });
        let fact = SwarmFact::Scraped {
            complete: Some(complete),
            incomplete: Some(all - complete + more),
            downloaders: None,
        };
        let repeater = self.repeater_mut(node);
        repeater
            .inputs
            .push_back(Input::Swarm(swarm_id(swarm), fact));
        self.turn(node);
    }

    /// A tracker names peers.
    pub(crate) fn named(&mut self, node: u32, swarm: u32) {
        if !self.repeater(node).joined.contains(&swarm) {
            return;
        }
        let named = self.named_by_tracker(swarm, node, NUMWANT);
        let named = named.into_iter().map(address).collect();
        let fact = SwarmFact::Peers(named, PeerSource::Tracker);
        let repeater = self.repeater_mut(node);
        repeater
            .inputs
            .push_back(Input::Swarm(swarm_id(swarm), fact));
        self.turn(node);
    }

    /// Asks a tracker for peers, if there is one for repeaters.
    pub(crate) fn ask_for_peers(&mut self, node: u32, swarm: u32) {
        let dialled = self.plan.repeater.as_ref().and_then(|plan| plan.dialled);
        if dialled.is_none() {
            self.events.after(TRACKER, Event::Named(node, swarm));
        }
    }

    /// Whether a repeater would let somebody in.
    pub(crate) fn repeater_accepts(&self, node: u32, swarm: u32) -> bool {
        let repeater = self.repeater(node);
        repeater.here && repeater.joined.contains(&swarm)
    }

    /// The end of a dial that the node asked for.
    pub(crate) fn repeater_dialled(&mut self, node: u32, to: u32, swarm: u32, met: bool) {
        if !met {
            let failed = Input::DialFailed(swarm_id(swarm), address(to));
            self.repeater_mut(node).inputs.push_back(failed);
        }
        self.turn(node);
    }
}
