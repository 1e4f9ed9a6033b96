//! The engine: the brain on its own thread, and the handle by which the rest of the daemon speaks to it.

mod looping;
mod outbox;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bt_wire::ids::{InfoHash, PeerId};
use swarm_core::io::friends::{FriendId, FriendsInput, FriendsLimits};
use swarm_core::io::{Input, Limits, MasterFact, MasterId, SwarmFact, SwarmId, Wall};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::policy::feed_cap::FeedCap;
use swarm_core::policy::quota::Book;
use swarm_core::time::Timestamp;
use swarm_core::view::NodeView;
use tokio::sync::{mpsc, oneshot, watch};

use crate::aid::{AidConfig, Circle, Command, Desk, RosterError};
use crate::allowance::Allowance;
use crate::cache::{Cache, CacheConfig, CacheError, KeptContent, Usage};
use crate::net::{ListenError, Network, Parts};
use crate::record::{Header, RecordError, Recorder};
use crate::swarms::{Add, KeepError, Swarm, SwarmTable, Torrent, verify_kept};
use looping::{Brain, Control, Driver};
pub use outbox::EngineEvent;
pub(crate) use outbox::Outbox;

/// Inputs of connections that may wait for the driver; a sender over it waits, and its socket is not read.
const FACTS: usize = 4096;
/// Inputs of everybody else that may wait for the driver.
const CONTROLS: usize = 1024;

/// The brain's clock: microseconds since the engine started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn now(self) -> Timestamp {
        self.at(Instant::now())
    }

    pub(crate) fn at(self, instant: Instant) -> Timestamp {
        Timestamp(
            u64::try_from(instant.saturating_duration_since(self.0).as_micros())
                .unwrap_or(u64::MAX),
        )
    }
}

/// What an engine is started with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where to listen. A non-wildcard address is also the source of outgoing connections. Port 0: any.
    pub listen: Vec<SocketAddr>,
    /// `node.bind_device`: every peer socket is bound to it.
    pub device: Option<String>,
    /// `discovery.pex`: take peers from ut_pex (BEP 11) in public swarms.
    pub pex: bool,
    /// Our peer id, new for each run.
    pub peer_id: PeerId,
    /// The operator's limits; `cache` and `cache_memory` are `cache.size` and `cache.memory`.
    pub limits: Limits,
    /// The book of the month's quota as it was saved last.
    pub book: Book,
    /// `cache.min_free`, bytes.
    pub min_free: u64,
    /// Where the disk tier's `cache.bin` lies. Not touched when all of the cache is in memory, but for removing it.
    pub data_dir: PathBuf,
    /// Seed of the brain's randomness (policy only).
    pub seed: u64,
    /// Record all inputs to this file, up to so many bytes.
    pub record: Option<(PathBuf, u64)>,
    /// Help between friends; None: nothing is said of any, whatever is set later.
    pub aid: Option<AidConfig>,
    /// Turns the ranking of swarms upside down; for tests only.
    #[doc(hidden)]
    pub invert_need: bool,
}

/// The engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The disk tier cannot be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The recording cannot be made.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The list of friends cannot be used.
    #[error(transparent)]
    Friends(#[from] RosterError),
    /// No thread, or no runtime on it.
    #[error("cannot start the driver's thread: {0} (raise the limit on processes or memory)")]
    Thread(#[source] std::io::Error),
}

/// The engine has stopped; only a daemon on its way out sees this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Stopped;

/// The node at one moment: what the brain shows and what only the shell knows.
#[derive(Debug, Clone, serde::Serialize)]
pub struct View {
    /// The brain's part.
    pub node: NodeView,
    /// The cache as it is counted, byte by byte.
    pub cache: Usage,
    /// Payload bytes handed to sockets, this run.
    pub sent_bytes: u64,
    /// Payload bytes taken from sockets, this run, wanted or not.
    pub received_bytes: u64,
    /// Everything else the line carried, both directions: protocol, trackers, feeds, and blocks that are under way.
    pub overhead_bytes: u64,
    /// Microseconds since the engine started.
    pub uptime_us: u64,
}

/// Starts engines.
#[derive(Debug)]
pub struct Engine;

/// Speaks to a running engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    control: mpsc::Sender<Control>,
    network: Arc<Network>,
    done: Arc<tokio::sync::Mutex<Option<oneshot::Receiver<()>>>>,
    plannable: (u64, u64),
}

/// The news of an engine. Exactly one reader.
#[derive(Debug)]
pub struct EngineEvents(Arc<Outbox>);

impl EngineEvents {
    /// The next one. Never ends; safe to cancel.
    pub async fn next(&mut self) -> EngineEvent {
        self.0.next().await
    }
}

impl Engine {
    /// Listens, opens the cache and starts the driver's thread. Connections run on the current runtime.
    ///
    /// # Errors
    /// An address, the cache file, the recording or the thread cannot be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: EngineConfig) -> Result<(EngineHandle, EngineEvents), StartError> {
        Self::start_with(config, |params, seed| Box::new(Node::new(params, seed)))
    }

    fn start_with(
        config: EngineConfig,
        brain: impl FnOnce(Params, u64) -> Box<dyn Brain>,
    ) -> Result<(EngineHandle, EngineEvents), StartError> {
        let cache = Cache::open(&CacheConfig {
            size: config.limits.cache,
            memory: config.limits.cache_memory,
            min_free: config.min_free,
            data_dir: config.data_dir.clone(),
        })?;
        let plannable = cache.plannable();
        let limits = clamp(config.limits, plannable);
        let mut params = Params::new(limits.clone(), config.peer_id.0);
        params.invert_need = config.invert_need;
        params.book = config.book;
        let aid = config.aid;
        if let Some(aid) = &aid {
            params.friends = aid.limits.clone();
        }
        let (circle, queues) = aid.as_ref().map(Circle::new).transpose()?.unzip();
        let header = Header {
            params: params.clone(),
            seed: config.seed,
        };
        let recorder = config
            .record
            .as_ref()
            .map(|(path, max)| Recorder::create(path, *max, &header))
            .transpose()?;
        let (control, control_queue) = mpsc::channel(CONTROLS);
        let (facts, facts_queue) = mpsc::channel(FACTS);
        let outbox = Arc::new(Outbox::default());
        let parts = Parts {
            peer_id: config.peer_id,
            swarms: Arc::default(),
            cache,
            clock: Clock(Instant::now()),
            facts,
            outbox: Arc::clone(&outbox),
            connections: limits.connections,
            allowance: Allowance::new(limits.month.map(|_| 0)),
            device: config.device,
            pex: config.pex,
            friends: circle,
        };
        let network = Network::open(parts, &config.listen)?;
        if let (Some(aid), Some(queues)) = (aid, queues) {
            let desk = Desk::run(Arc::clone(&network), aid, queues);
            network.tasks.spawn(desk);
        }
        let driver = Driver {
            node: brain(params, config.seed),
            network: Arc::clone(&network),
            control: control_queue,
            facts: facts_queue,
            recorder,
        };
        let done = start_thread(driver).map_err(StartError::Thread)?;
        let done = Arc::new(tokio::sync::Mutex::new(Some(done)));
        Ok((
            EngineHandle {
                control,
                network,
                done,
                plannable,
            },
            EngineEvents(outbox),
        ))
    }
}

/// The brain plans with what the cache can really hold.
fn clamp(mut limits: Limits, plannable: (u64, u64)) -> Limits {
    limits.cache = limits.cache.min(plannable.0);
    limits.cache_memory = limits.cache_memory.min(plannable.1);
    limits
}

fn start_thread(driver: Driver) -> std::io::Result<oneshot::Receiver<()>> {
    let (done, wait) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("btslave-driver".into())
        .stack_size(1 << 20)
        .spawn(move || {
            runtime.block_on(driver.run());
            let _ = done.send(());
        })?;
    Ok(wait)
}

impl EngineHandle {
    async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.control
            .send(Control::Input(input))
            .await
            .map_err(|_| Stopped)
    }

    /// Knows a swarm, or knows it better (trackers add up, a pin sticks). The brain decides whether to join.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn add(&self, add: Add) -> Result<SwarmId, Stopped> {
        let swarm = self.network.swarms.add(add, None);
        self.tell_known(&swarm).await?;
        Ok(swarm.id)
    }

    /// Kept content: hashed whole here, then served for good from outside the cache.
    ///
    /// # Errors
    /// A piece that cannot be read or does not match. An engine that has stopped is no error here.
    pub async fn keep(
        &self,
        add: Add,
        torrent: Torrent,
        content: Arc<dyn KeptContent>,
    ) -> Result<SwarmId, KeepError> {
        let checked = (torrent.clone(), Arc::clone(&content));
        let hashing = tokio::task::spawn_blocking(move || verify_kept(&checked.0, &*checked.1));
        if let Ok(result) = hashing.await {
            result?;
        }
        let swarm = self.network.swarms.add(
            Add {
                torrent: Some(torrent),
                ..add
            },
            Some(content),
        );
        // A stopped engine keeps nothing: the daemon is on its way out.
        let _ = self.tell_known(&swarm).await;
        Ok(swarm.id)
    }

    async fn tell_known(&self, swarm: &Swarm) -> Result<(), Stopped> {
        match swarm.known_fact() {
            Some(fact) => self.swarm_fact(swarm.id, fact).await,
            None => Ok(()),
        }
    }

    /// Peers, scrapes, origins that went, the operator's wish to leave.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn swarm_fact(&self, swarm: SwarmId, fact: SwarmFact) -> Result<(), Stopped> {
        self.input(Input::Swarm(swarm, fact)).await
    }

    /// News of a master.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn master_fact(&self, master: MasterId, fact: MasterFact) -> Result<(), Stopped> {
        match &fact {
            MasterFact::Configured { .. } => drop(self.network.masters.lock().insert(master)),
            MasterFact::Removed => drop(self.network.masters.lock().remove(&master)),
            MasterFact::Resolved(_) | MasterFact::PeerPort(_) | MasterFact::Invited(_) => {}
        }
        self.input(Input::Master(master, fact)).await
    }

    /// Something about friends that the daemon knows: what a master's RPC can do and shows, and the operator's asks.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn friends_input(&self, input: FriendsInput) -> Result<(), Stopped> {
        self.input(Input::Friends(input)).await
    }

    /// The list of friends has changed. Sessions with those who stay go on. Does nothing with friends off.
    ///
    /// # Errors
    /// The list cannot be used; the old one stands.
    pub async fn friends_changed(&self) -> Result<(), RosterError> {
        let Some(friends) = &self.network.friends else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        friends.command(Command::Reload(reply)).await;
        // An engine that has stopped has no list.
        answer.await.unwrap_or(Ok(()))
    }

    /// New limits for friends. Helps and sessions that they no longer allow end.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn set_friends_limits(&self, limits: FriendsLimits) -> Result<(), Stopped> {
        self.friends_input(FriendsInput::Limits(limits.clone()))
            .await?;
        let Some(friends) = &self.network.friends else {
            return Ok(());
        };
        let (reply, done) = oneshot::channel();
        friends.command(Command::Limits(limits, reply)).await;
        done.await.map_err(|_| Stopped)
    }

    /// The operator's name for a friend.
    #[must_use]
    pub fn friend_name(&self, id: FriendId) -> String {
        let friends = self.network.friends.as_ref();
        friends.map_or_else(|| format!("friend {}", id.0), |friends| friends.name(id))
    }

    /// New limits. Cache sizes only shrink while running: to grow, restart.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn set_limits(&self, limits: Limits) -> Result<(), Stopped> {
        self.network
            .limit
            .store(limits.connections, Ordering::Relaxed);
        self.input(Input::Limits(clamp(limits, self.plannable)))
            .await
    }

    /// What a feed may cost; the default: no cap.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn cap_feed(&self, url: &str, cap: FeedCap) -> Result<(), Stopped> {
        self.input(Input::FeedCap(url.to_owned(), cap)).await
    }

    /// What the operator's clock shows.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn wall(&self, wall: Wall) -> Result<(), Stopped> {
        self.input(Input::Wall(wall)).await
    }

    /// The books of the month's quota that are to be kept durably, the latest only. Say [`EngineHandle::saved`] of each.
    #[must_use]
    pub fn books(&self) -> watch::Receiver<Option<Book>> {
        self.network.book.subscribe()
    }

    /// The book with this total is durable.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn saved(&self, total: u64) -> Result<(), Stopped> {
        self.input(Input::Saved(total)).await
    }

    /// What the line may carry, for those who use it besides the engine.
    #[must_use]
    pub fn allowance(&self) -> &Arc<Allowance> {
        &self.network.allowance
    }

    /// `true`: leave every swarm, keep the catalogue.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn set_paused(&self, paused: bool) -> Result<(), Stopped> {
        self.input(Input::Paused(paused)).await
    }

    /// Everything people are shown. Inputs sent before it are in it.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn view(&self) -> Result<View, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.control
            .send(Control::View(reply))
            .await
            .map_err(|_| Stopped)?;
        let counters = &self.network.counters;
        let (sent, received) = (
            counters.up.load(Ordering::Relaxed),
            counters.down.load(Ordering::Relaxed),
        );
        Ok(View {
            node: answer.await.map_err(|_| Stopped)?,
            cache: self.network.cache.usage(),
            sent_bytes: sent,
            received_bytes: received,
            overhead_bytes: self
                .network
                .allowance
                .carried()
                .saturating_sub(sent + received),
            uptime_us: self.network.clock.now().0,
        })
    }

    /// The swarms known, with metadata and trackers.
    #[must_use]
    pub fn swarms(&self) -> &SwarmTable {
        &self.network.swarms
    }

    /// By infohash.
    #[must_use]
    pub fn find(&self, info_hash: InfoHash) -> Option<Arc<Swarm>> {
        self.network.swarms.find(info_hash)
    }

    /// The addresses listened on, port 0 resolved.
    #[must_use]
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        self.network.listen_addrs()
    }

    /// Our peer id of this run.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.network.peer_id
    }

    /// The cache as counted right now, without asking the driver.
    #[must_use]
    pub fn cache_usage(&self) -> Usage {
        self.network.cache.usage()
    }

    /// Closes all connections (what they have queued may still go out until the deadline), then stops the driver.
    pub async fn shutdown(&self, deadline: Duration) {
        self.network.close();
        if tokio::time::timeout(deadline, self.network.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("connections did not end in time");
        }
        drop(self.control.send(Control::Stop).await);
        if let Some(done) = self.done.lock().await.take() {
            // The driver may have ended before.
            drop(done.await);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
