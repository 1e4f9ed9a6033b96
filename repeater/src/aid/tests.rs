//! Engines with the real brain, and friends, on this machine's loopback.

mod acquaintances;
mod asking;
mod defences;
pub(crate) mod player;
mod sessions;
mod strangers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_wire::ids::PeerId;
use bt_wire::metainfo::{Metainfo, MetainfoBuilder};
use friends_proto::identity::{Identity, PublicKey, Zeroizing};
use swarm_core::io::friends::{FriendsLimits, FriendsMode};
use swarm_core::io::{Limits, Origin, PeerSource, SwarmFact, SwarmId};
use swarm_core::policy::quota::Book;

use super::AidConfig;
use crate::driver::tests::counter;
use crate::driver::{Engine, EngineConfig, EngineEvents, EngineHandle};
use crate::friends::Friends;
use crate::store::{SavedFriend, Store};
use crate::swarms::Add;

/// The secret of a friend in these tests.
pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_secret(&Zeroizing::new([seed; 32]))
}

struct Side {
    engine: EngineHandle,
    friends: Arc<Friends>,
    events: EngineEvents,
    _dir: tempfile::TempDir,
}

fn saved(name: &str, at: &[SocketAddr]) -> SavedFriend {
    SavedFriend {
        name: name.to_owned(),
        hints: at.iter().map(ToString::to_string).collect(),
        added_at: 1,
        last_seen: None,
    }
}

impl Side {
    fn start(mode: FriendsMode, private_torrents: bool) -> Self {
        counter("");
        let dir = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(&dir.path().join("state")).expect("a store");
        let (friends, _) = Friends::open(store).expect("an identity");
        let friends = Arc::new(friends);
        let mut peer_id = *b"-BS0100-............";
        peer_id[8..].copy_from_slice(&friends.identity().public_key().as_bytes()[..12]);
        let limits = FriendsLimits {
            mode,
            private_torrents,
            ..FriendsLimits::default()
        };
        let config = EngineConfig {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            device: None,
            pex: true,
            peer_id: PeerId(peer_id),
            book: Book::default(),
            limits: Limits {
                month: None,
                schedule: Vec::new(),
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
            aid: Some(AidConfig {
                friends: Arc::clone(&friends),
                limits,
            }),
            invert_need: false,
        };
        let (engine, events) = Engine::start(config).expect("starts");
        Self {
            engine,
            friends,
            events,
            _dir: dir,
        }
    }

    fn known() -> Self {
        Self::start(FriendsMode::Known, false)
    }

    fn key(&self) -> PublicKey {
        self.friends.identity().public_key()
    }

    async fn add(&self, name: &str, key: PublicKey, at: &[SocketAddr]) {
        self.friends.add(key, saved(name, at)).expect("new");
        self.engine.friends_changed().await.expect("a sound list");
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

    fn is_online(&self) -> bool {
        let list = self.friends.list().into_iter();
        let online = |key| {
            let standing = self.friends.standing(&key, 0).expect("a store");
            standing.is_some_and(|standing| standing.online)
        };
        list.map(|(key, _)| key).any(online)
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
