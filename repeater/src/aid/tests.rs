//! Engines with the real brain, and friends, on this machine's loopback.

mod sessions;
mod strangers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_wire::ids::PeerId;
use bt_wire::metainfo::{Metainfo, MetainfoBuilder};
use friends_proto::friend_code::{FriendCode, Hint};
use friends_proto::identity::{Identity, Zeroizing};
use friends_proto::ledger::{AccountRecord, StoreEpoch};
use parking_lot::Mutex;
use swarm_core::io::friends::{FriendsLimits, FriendsMode};
use swarm_core::io::{Limits, Origin, PeerSource, SwarmFact, SwarmId};

use super::{Friend, FriendStore, FriendsConfig, StoreFailed};
use crate::driver::tests::counter;
use crate::driver::{Engine, EngineConfig, EngineEvents, EngineHandle};
use crate::swarms::Add;

/// A ledger in memory, that can be made to fail.
pub(crate) struct MemoryStore {
    records: Mutex<BTreeMap<[u8; 32], AccountRecord>>,
    fails: Mutex<bool>,
}

impl MemoryStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            fails: Mutex::new(false),
        })
    }
}

impl FriendStore for MemoryStore {
    fn epoch(&self) -> StoreEpoch {
        StoreEpoch {
            number: 1,
            broken_at: None,
        }
    }

    fn accounts(&self) -> Result<Vec<AccountRecord>, StoreFailed> {
        Ok(self.records.lock().values().cloned().collect())
    }

    fn persist(&self, record: &AccountRecord) -> Result<(), StoreFailed> {
        if *self.fails.lock() {
            return Err(StoreFailed("the disk is full".to_owned()));
        }
        let mut records = self.records.lock();
        records.insert(record.friend, record.clone());
        Ok(())
    }
}

pub(crate) fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_secret(&Zeroizing::new([seed; 32])))
}

pub(crate) fn friend(name: &str, seed: u8, at: &[SocketAddr]) -> Friend {
    let hint = |addr: &SocketAddr| Hint::from_ip(addr.ip(), addr.port()).expect("a port");
    let hints = at.iter().map(hint).collect();
    Friend {
        name: name.to_owned(),
        code: FriendCode::new(identity(seed).public_key(), hints).expect("few hints"),
    }
}

struct Side {
    engine: EngineHandle,
    _events: EngineEvents,
    _dir: tempfile::TempDir,
}

fn friends(seed: u8, store: Arc<dyn FriendStore>, list: Vec<Friend>) -> FriendsConfig {
    FriendsConfig {
        identity: identity(seed),
        store,
        friends: list,
        limits: FriendsLimits {
            mode: FriendsMode::Known,
            ..FriendsLimits::default()
        },
    }
}

impl Side {
    fn start(seed: u8, friends: Option<FriendsConfig>) -> Self {
        counter("");
        let dir = tempfile::tempdir().expect("a directory");
        let config = EngineConfig {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            device: None,
            pex: true,
            peer_id: PeerId([seed; 20]),
            limits: Limits {
                upload: None,
                download: None,
                connections: 100,
                cache: 8 << 20,
                cache_memory: 8 << 20,
                repeat: true,
                max_swarms: 4,
            },
            min_free: 0,
            data_dir: dir.path().to_path_buf(),
            seed: 1,
            record: None,
            friends,
            invert_need: false,
        };
        let (engine, events) = Engine::start(config).expect("starts");
        Self {
            engine,
            _events: events,
            _dir: dir,
        }
    }

    fn known(seed: u8, list: Vec<Friend>) -> Self {
        Self::start(seed, Some(friends(seed, MemoryStore::new(), list)))
    }

    fn addr(&self) -> SocketAddr {
        self.engine.listen_addrs()[0]
    }

    /// Joins a torrent, and waits until it is joined.
    async fn join(&self, meta: &Metainfo) -> SwarmId {
        let add = Add {
            pinned: true,
            ..Add::from_metainfo(meta.clone(), Origin::User).expect("joinable")
        };
        let id = self.engine.add(add).await.expect("runs");
        let joined = || async {
            let swarm = self.engine.swarms().get(id);
            swarm.is_some_and(|swarm| swarm.is_joined())
        };
        until(joined).await;
        id
    }

    async fn dial(&self, swarm: SwarmId, addr: SocketAddr) {
        let fact = SwarmFact::Peers(vec![addr], PeerSource::User);
        self.engine.swarm_fact(swarm, fact).await.expect("runs");
    }

    async fn is_online(&self) -> bool {
        self.engine.friends().await.iter().any(|one| one.online)
    }

    async fn connections(&self) -> u32 {
        self.engine.view().await.expect("runs").node.connections
    }
}

/// Asks until the answer is yes; each question is answered by the engine's own progress.
async fn until<F: Future<Output = bool>>(ask: impl Fn() -> F) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .expect("within a minute");
}

fn torrent(private: bool) -> Metainfo {
    let file = MetainfoBuilder::single("shared", 65_536, 16_384)
        .pieces([[1; 20], [2; 20], [3; 20], [4; 20]])
        .private(private)
        .build()
        .expect("a torrent");
    Metainfo::from_torrent(file).expect("sound")
}
