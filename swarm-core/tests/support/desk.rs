//! One brain, and what a test says to it in its friends' place.

use std::net::SocketAddr;

use swarm_core::io::friends::{
    Ask, FriendDefence, FriendFact, FriendId, FriendsInput, FriendsLimits, FriendsMode,
    FriendsNote, FriendsOutput, HelpId, HelpMessage, RpcPowers, WitnessKind,
};
use swarm_core::io::{
    ConnFact, ConnId, Geometry, Hold, Input, Limits, MasterFact, MasterId, Note, Origin, Output,
    SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::delivery::Delivery;
use swarm_core::policy::pool::NetworkTag;
use swarm_core::policy::tit_for_tat::{Nearness, Standing};
use swarm_core::time::Timestamp;

pub const PIECE: u32 = 65_536;
pub const PIECES: u32 = 64;
pub const HASH: [u8; 20] = [7; 20];
pub const SWARM: SwarmId = SwarmId(1);

pub struct Desk {
    pub node: Node,
    pub now: u64,
    pub out: Vec<FriendsOutput>,
    pub notes: Vec<FriendsNote>,
    pub dials: Vec<SocketAddr>,
}

impl Desk {
    pub fn new() -> Self {
        let limits = Limits {
            upload: Some(1 << 20),
            connections: 100,
            cache: 64 << 20,
            cache_memory: 64 << 20,
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
        }
    }

    pub fn feed(&mut self, input: Input) {
        self.node.handle(Timestamp::from_millis(self.now), input);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Friends(output) => self.out.push(output),
                Output::Note(Note::Friends(note)) => self.notes.push(note),
                Output::Dial(_, addr) => self.dials.push(addr),
                Output::Order(..)
                | Output::Join(_)
                | Output::Leave(_)
                | Output::Forget(_)
                | Output::Scrape(_)
                | Output::WantPeers(_)
                | Output::Left(..)
                | Output::Retire(..)
                | Output::Rates(_)
                | Output::Save(_)
                | Output::Allow(_)
                | Output::Listed(..)
                | Output::Note(_) => {}
            }
        }
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
                endpoint: Some(SocketAddr::from((host, 6881))),
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
