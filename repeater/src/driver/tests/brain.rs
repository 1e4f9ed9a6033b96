//! A brain by script: joins everything, fetches everything once, announces everything, retires what was served.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bt_wire::layout::Layout;
use swarm_core::io::{
    ConnFact, ConnId, Fetch, Hold, Input, Order, Output, PieceFact, Role, Shown, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::time::Timestamp;
use swarm_core::view::NodeView;

use super::super::looping::Brain;

/// Bytes leased to one connection at a time.
const LEASED: u64 = 4 << 20;

#[derive(Debug, Default)]
struct Peer {
    has: BTreeSet<u32>,
    all: bool,
    choking: bool,
    leased: BTreeSet<u32>,
}

#[derive(Debug)]
pub(super) struct Script {
    node: Node,
    /// Pieces that may be fetching or held at one time.
    room: usize,
    /// Retire a piece once it went out whole to somebody.
    retire: bool,
    /// Dial peers as they are told.
    swarm: Option<(SwarmId, Option<Layout>, Hold)>,
    peers: BTreeMap<ConnId, Peer>,
    fetching: BTreeSet<u32>,
    held: BTreeMap<u32, u64>,
    retiring: BTreeSet<u32>,
    fetched: BTreeSet<u32>,
    waiting: Vec<SocketAddr>,
    out: VecDeque<Output>,
}

impl Script {
    pub(super) fn new(params: Params, room: usize, retire: bool) -> Self {
        Self {
            node: Node::new(params, 0),
            room,
            retire,
            swarm: None,
            peers: BTreeMap::new(),
            fetching: BTreeSet::new(),
            held: BTreeMap::new(),
            retiring: BTreeSet::new(),
            fetched: BTreeSet::new(),
            waiting: Vec::new(),
            out: VecDeque::new(),
        }
    }

    fn order(&mut self, conn: ConnId, order: Order) {
        self.out.push_back(Output::Order(conn, order));
    }

    fn swarm_fact(&mut self, id: SwarmId, fact: SwarmFact) {
        match fact {
            SwarmFact::Known { geometry, hold, .. } => {
                let layout = geometry.map(|g| Layout::new(g.piece_length, g.total).expect("sound"));
                self.swarm = Some((id, layout, hold));
                self.out.push_back(Output::Join(id));
                self.waiting
                    .clone()
                    .into_iter()
                    .for_each(|addr| self.out.push_back(Output::Dial(id, addr)));
            }
            SwarmFact::Peers(addrs, _) => {
                self.waiting.extend(&addrs);
                addrs
                    .into_iter()
                    .for_each(|addr| self.out.push_back(Output::Dial(id, addr)));
            }
            SwarmFact::Unnamed(_)
            | SwarmFact::Leave
            | SwarmFact::Scraped { .. }
            | SwarmFact::Announced { .. } => {}
        }
    }

    fn conn_fact(&mut self, conn: ConnId, fact: ConnFact) {
        let Some((_, layout, hold)) = self.swarm else {
            return;
        };
        let peer = self.peers.entry(conn).or_insert_with(|| Peer {
            choking: true,
            ..Peer::default()
        });
        match fact {
            ConnFact::Connected { .. } => {
                let have = match (layout, hold) {
                    (None, _) => Shown::Unknown,
                    (Some(_), Hold::Kept) => Shown::All,
                    (Some(_), Hold::Cache | Hold::None) => Shown::None,
                };
                self.order(
                    conn,
                    Order::Hello {
                        have,
                        role: Role::Peer,
                    },
                );
                self.order(conn, Order::Unchoke(true));
                self.order(conn, Order::Interested(hold == Hold::Cache));
                let held: Vec<u32> = self.held.keys().copied().collect();
                held.into_iter()
                    .for_each(|piece| self.order(conn, Order::Announce(piece)));
            }
            ConnFact::HaveAll => peer.all = true,
            ConnFact::Bitfield(bits) => {
                let count = layout.map_or(0, |layout| layout.piece_count);
                let bits = bt_wire::bitfield::Bitfield::from_wire(&bits, count)
                    .expect("checked by the session");
                peer.all = bits.is_full();
                peer.has = bits.iter_ones().collect();
            }
            ConnFact::Have(piece) => drop(peer.has.insert(piece)),
            ConnFact::Choking(choking) => peer.choking = choking,
            ConnFact::LeaseDone { piece } => drop(peer.leased.remove(&piece)),
            ConnFact::LeaseLost { piece, .. } => {
                peer.leased.remove(&piece);
                self.fetching.remove(&piece);
            }
            ConnFact::Served { piece, bytes } => {
                let size = layout.map_or(0, |layout| layout.piece_size(piece));
                let Some(served) = self.held.get_mut(&piece) else {
                    return;
                };
                *served += u64::from(bytes);
                if self.retire && *served >= u64::from(size) {
                    self.held.remove(&piece);
                    self.retiring.insert(piece);
                    self.out.push_back(Output::Retire(SwarmId(0), piece));
                }
            }
            ConnFact::Closed(_) => drop(self.peers.remove(&conn)),
            ConnFact::Extended(_)
            | ConnFact::Slave(_)
            | ConnFact::HaveNone
            | ConnFact::DontHave(_)
            | ConnFact::Interested(_)
            | ConnFact::AllowedFast(_)
            | ConnFact::Requested { .. }
            | ConnFact::Refused { .. }
            | ConnFact::Received { .. }
            | ConnFact::LeaseLow { .. } => {}
        }
    }

    fn lease(&mut self) {
        let Some((_, Some(layout), Hold::Cache)) = self.swarm else {
            return;
        };
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
        for &conn in &conns {
            while let Some(peer) = self.peers.get(&conn) {
                let full = peer.leased.len() as u64 * u64::from(layout.piece_length) >= LEASED;
                let busy = self.fetching.len() + self.held.len() + self.retiring.len();
                if peer.choking || full || busy >= self.room {
                    break;
                }
                let free =
                    |piece: &u32| !self.fetching.contains(piece) && !self.fetched.contains(piece);
                let piece = (0..layout.piece_count)
                    .filter(free)
                    .find(|piece| peer.all || peer.has.contains(piece));
                let Some(piece) = piece else { break };
                let announce: Arc<[ConnId]> = conns
                    .iter()
                    .filter(|other| {
                        **other != conn && self.peers.get(other).is_some_and(|peer| !peer.all)
                    })
                    .copied()
                    .collect();
                self.fetching.insert(piece);
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.leased.insert(piece);
                }
                self.order(
                    conn,
                    Order::Fetch(Fetch {
                        piece,
                        blocks: 0..layout.block_count(piece),
                        announce,
                    }),
                );
            }
        }
    }
}

impl Brain for Script {
    fn handle(&mut self, _now: Timestamp, input: Input) {
        match input {
            Input::Swarm(id, fact) => self.swarm_fact(id, fact),
            Input::Conn(conn, facts) => facts
                .into_iter()
                .for_each(|fact| self.conn_fact(conn, fact)),
            Input::Piece(_, piece, PieceFact::Checked { ok, .. }) => {
                self.fetching.remove(&piece);
                if ok {
                    self.held.insert(piece, 0);
                    self.fetched.insert(piece);
                }
            }
            Input::Piece(_, piece, PieceFact::Released) => drop(self.retiring.remove(&piece)),
            Input::Piece(_, _, PieceFact::Damaged)
            | Input::DialFailed(..)
            | Input::Master(..)
            | Input::Friends(_)
            | Input::Limits(_)
            | Input::FeedCap(..)
            | Input::Paused(_)
            | Input::Wall(_)
            | Input::Carried(_)
            | Input::Saved(_)
            | Input::Timer => {}
        }
        self.lease();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    fn view(&self) -> NodeView {
        let mut view = self.node.view();
        view.cache.pieces = u32::try_from(self.fetched.len()).expect("small");
        view.connections = u32::try_from(self.peers.len()).expect("small");
        view
    }
}
