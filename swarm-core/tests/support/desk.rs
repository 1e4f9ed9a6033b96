//! One brain, and what a test says to it in its friends' place, with as much of a shell as serves its leases.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use swarm_core::io::friends::{
    Ask, FriendDefence, FriendFact, FriendId, FriendsInput, FriendsLimits, FriendsMode,
    FriendsNote, FriendsOutput, HelpId, HelpMessage, RpcPowers, WitnessKind,
};
use swarm_core::io::{
    ConnFact, ConnId, Contributor, Fetch, Geometry, Hold, Input, LeaseEnd, Limits, MasterFact,
    MasterId, Note, Order, Origin, Output, PieceFact, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::delivery::Delivery;
use swarm_core::policy::pool::NetworkTag;
use swarm_core::policy::tit_for_tat::{Nearness, Standing};
use swarm_core::time::Timestamp;

pub const PIECE: u32 = 65_536;
pub const PIECES: u32 = 64;
const BLOCK: u32 = 16_384;
pub const HASH: [u8; 20] = [7; 20];
pub const SWARM: SwarmId = SwarmId(1);

pub struct Desk {
    pub node: Node,
    pub now: u64,
    pub out: Vec<FriendsOutput>,
    pub notes: Vec<FriendsNote>,
    pub dials: Vec<SocketAddr>,
    pub orders: Vec<(ConnId, Order)>,
    /// Connections that serve every lease at once.
    pub gives: BTreeSet<ConnId>,
    /// What each heard of, and was not taken back.
    pub told: BTreeMap<ConnId, BTreeSet<u32>>,
    /// What each took of it.
    pub took: BTreeMap<ConnId, BTreeSet<u32>>,
    /// Blocks that are there, by piece.
    pub cache: BTreeMap<u32, BTreeSet<u32>>,
    follows: VecDeque<Input>,
}

impl Desk {
    pub fn new() -> Self {
        Self::with_cache(64 << 20)
    }

    pub fn with_cache(cache: u64) -> Self {
        let limits = Limits {
            upload: Some(1 << 20),
            connections: 100,
            cache,
            cache_memory: cache,
            repeat: false,
            max_swarms: 0,
            ..Limits::default()
        };
        let mut params = Params::new(limits, *b"-BS0100-ourselves!!!");
        params.friends = FriendsLimits {
            mode: FriendsMode::Known,
            ..FriendsLimits::default()
        };
        Self {
            node: Node::new(params, 1),
            now: 0,
            out: Vec::new(),
            notes: Vec::new(),
            dials: Vec::new(),
            orders: Vec::new(),
            gives: BTreeSet::new(),
            told: BTreeMap::new(),
            took: BTreeMap::new(),
            cache: BTreeMap::new(),
            follows: VecDeque::new(),
        }
    }

    pub fn feed(&mut self, input: Input) {
        self.follows.push_back(input);
        while let Some(input) = self.follows.pop_front() {
            self.node.handle(Timestamp::from_millis(self.now), input);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Order(conn, order) => self.order(conn, order),
                Output::Retire(_, piece) => self.retire(piece),
                Output::Friends(output) => self.out.push(output),
                Output::Note(Note::Friends(note)) => self.notes.push(note),
                Output::Dial(_, addr) => self.dials.push(addr),
                Output::Join(_)
                | Output::Leave(_)
                | Output::Forget(_)
                | Output::Scrape(_)
                | Output::WantPeers(_)
                | Output::Left(..)
                | Output::Rates(_)
                | Output::Save(_)
                | Output::Allow(_)
                | Output::Listed(..)
                | Output::Note(_) => {}
            }
        }
    }

    fn order(&mut self, conn: ConnId, order: Order) {
        match &order {
            Order::Fetch(fetch) if self.gives.contains(&conn) => self.give(conn, fetch),
            Order::Announce(piece) => {
                assert!(self.holds(*piece), "announced piece {piece}, not held");
                self.told.entry(conn).or_default().insert(*piece);
            }
            Order::Withdraw(piece) => {
                self.told.entry(conn).or_default().remove(piece);
            }
            Order::Close => {
                self.told.remove(&conn);
            }
            Order::Fetch(_)
            | Order::Hello { .. }
            | Order::Role(_)
            | Order::Unchoke(_)
            | Order::Interested(_)
            | Order::Revoke(_) => {}
        }
        self.orders.push((conn, order));
    }

    pub fn holds(&self, piece: u32) -> bool {
        let blocks = self.cache.get(&piece);
        blocks.is_some_and(|blocks| blocks.len() as u32 == PIECE / BLOCK)
    }

    fn give(&mut self, conn: ConnId, fetch: &Fetch) {
        let piece = fetch.piece;
        let blocks = self.cache.entry(piece).or_default();
        let had = blocks.len();
        blocks.extend(fetch.blocks.clone());
        let bytes = u32::try_from(blocks.len() - had).expect("few") * BLOCK;
        let redundant = 0;
        let facts = vec![
            ConnFact::Received {
                piece,
                bytes,
                redundant,
            },
            ConnFact::LeaseDone { piece },
        ];
        self.follows.push_back(Input::Conn(conn, facts));
        if self.holds(piece) {
            for hears in fetch.announce.iter() {
                self.told.entry(*hears).or_default().insert(piece);
            }
            let checked = PieceFact::Checked {
                ok: true,
                contributors: vec![Contributor { conn, bytes }],
            };
            self.follows.push_back(Input::Piece(SWARM, piece, checked));
        }
    }

    /// What stands announced is kept: nobody here hears of a withdrawal.
    fn retire(&mut self, piece: u32) {
        for (conn, told) in &self.told {
            let took = self
                .took
                .get(conn)
                .is_some_and(|took| took.contains(&piece));
            assert!(
                took || !told.contains(&piece),
                "{piece} is promised to {conn:?}"
            );
        }
        self.cache.remove(&piece);
        let released = Input::Piece(SWARM, piece, PieceFact::Released);
        self.follows.push_back(released);
    }

    /// A peer connects to us from there, and has these pieces.
    pub fn comes(&mut self, conn: ConnId, addr: SocketAddr, has: ConnFact) {
        let connected = ConnFact::Connected {
            swarm: SWARM,
            addr,
            incoming: true,
            peer_id: [u8::try_from(conn.0).expect("few"); 20],
            fast: true,
            extended: true,
        };
        let wants = ConnFact::Interested(true);
        self.feed(Input::Conn(conn, vec![connected, has, wants]));
    }

    /// A seed that serves every lease.
    pub fn seed(&mut self, conn: ConnId) {
        self.gives.insert(conn);
        self.comes(conn, ([198, 19, 0, 7], 40_000).into(), ConnFact::HaveAll);
        self.feed(Input::Conn(conn, vec![ConnFact::Choking(false)]));
    }

    /// It chokes us, and what it was asked for of these pieces is lost but a block of the first.
    pub fn chokes(&mut self, conn: ConnId, pieces: &[u32]) {
        let lost = |piece: &u32| ConnFact::LeaseLost {
            piece: *piece,
            why: LeaseEnd::Choked,
        };
        let mut facts = vec![ConnFact::Received {
            piece: pieces[0],
            bytes: BLOCK,
            redundant: 0,
        }];
        facts.extend(pieces.iter().map(lost));
        facts.push(ConnFact::Choking(true));
        self.feed(Input::Conn(conn, facts));
    }

    /// A peer fetches a whole piece that it was told of.
    pub fn takes(&mut self, conn: ConnId, piece: u32) {
        assert!(self.told[&conn].contains(&piece), "not told of {piece}");
        self.took.entry(conn).or_default().insert(piece);
        let bytes = PIECE;
        let facts = vec![
            ConnFact::Requested { piece, bytes },
            ConnFact::Served { piece, bytes },
            ConnFact::Have(piece),
        ];
        self.feed(Input::Conn(conn, facts));
    }

    /// Pieces that a connection was asked for, in order.
    pub fn asked_of(&self, conn: ConnId) -> Vec<u32> {
        let orders = self.orders.iter().filter(|(to, _)| *to == conn);
        let pieces = orders.filter_map(|(_, order)| {
            if let Order::Fetch(fetch) = order {
                Some(fetch.piece)
            } else {
                None
            }
        });
        pieces.collect()
    }

    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1000;
            self.feed(Input::Timer);
        }
    }

    pub fn fact(&mut self, friend: u32, fact: FriendFact) {
        self.feed(Input::Friends(FriendsInput::Friend(FriendId(friend), fact)));
    }

    pub fn says(&mut self, friend: u32, message: HelpMessage) {
        self.fact(friend, FriendFact::Message(message));
    }

    pub fn friend(&mut self, friend: u32, standing: Standing) {
        let host = [198, 18, 1, u8::try_from(friend).expect("few")];
        self.met(friend, standing, Some((host, 6881).into()));
    }

    /// A session stands; `endpoint`: where we opened it.
    pub fn met(&mut self, friend: u32, standing: Standing, endpoint: Option<SocketAddr>) {
        self.fact(
            friend,
            FriendFact::Known {
                nearness: Nearness::Friend,
                standing,
            },
        );
        let host = [198, 18, 1, u8::try_from(friend).expect("few")];
        self.fact(
            friend,
            FriendFact::Online {
                smaller: true,
                ip: host.into(),
                network: NetworkTag(1),
                endpoint,
            },
        );
    }

    pub fn synced(&mut self, friend: u32, given: u64, received: u64) {
        self.friend(friend, Standing::default());
        self.fact(friend, FriendFact::Synced { given, received });
    }

    pub fn known(&mut self, origin: Origin, private: bool) {
        let fact = SwarmFact::Known {
            info_hash: HASH,
            name: "t".into(),
            geometry: Some(Geometry {
                piece_length: PIECE,
                total: u64::from(PIECES * PIECE),
            }),
            private,
            hold: Hold::Cache,
            origin,
            pinned: false,
        };
        self.feed(Input::Swarm(SWARM, fact));
    }

    /// A master that lacks everything, and a seed that has it.
    pub fn needy_master(&mut self, private: bool) {
        let master = SocketAddr::from(([198, 18, 0, 2], 51413));
        let configured = MasterFact::Configured {
            name: "home".into(),
            share: 0.5,
            slave_key: 1,
        };
        self.feed(Input::Master(MasterId(1), configured));
        self.feed(Input::Master(
            MasterId(1),
            MasterFact::Resolved(vec![master]),
        ));
        self.known(Origin::Master(MasterId(1)), private);
        let seed = SocketAddr::from(([198, 19, 0, 1], 6881));
        for (id, addr, set) in [
            (1, master, ConnFact::HaveNone),
            (2, seed, ConnFact::HaveAll),
        ] {
            let connected = ConnFact::Connected {
                swarm: SWARM,
                addr,
                incoming: false,
                peer_id: [u8::try_from(id).expect("few"); 20],
                fast: true,
                extended: true,
            };
            self.feed(Input::Conn(ConnId(id), vec![connected, set]));
        }
        let powers = RpcPowers {
            dials: true,
            witness: WitnessKind::Bytes,
        };
        self.feed(Input::Friends(FriendsInput::Rpc(MasterId(1), powers)));
    }

    pub fn sent(&self, test: impl Fn(&HelpMessage) -> bool) -> usize {
        let is = |out: &&FriendsOutput| matches!(out, FriendsOutput::Send(_, m) if test(m));
        self.out.iter().filter(is).count()
    }

    pub fn fired(&self, test: impl Fn(&FriendDefence) -> bool) -> usize {
        let is = |note: &&FriendsNote| matches!(note, FriendsNote::Fired(_, why) if test(why));
        self.notes.iter().filter(is).count()
    }
}

pub fn ask(id: u32, master: &str) -> HelpMessage {
    HelpMessage::Ask(Ask {
        id: HelpId(id),
        info_hash: HASH,
        size: u64::from(PIECES * PIECE),
        piece_length: PIECE,
        wanted: 1 << 20,
        master: vec![master.parse().expect("an address")],
        deliveries: vec![Delivery::Dialled],
        private: false,
    })
}

pub fn reserve(id: u32, pieces: std::ops::Range<u32>) -> HelpMessage {
    HelpMessage::Reserve {
        id: HelpId(id),
        pieces: pieces.collect(),
    }
}
