//! The composition root: configuration, store, engine, feeds, trackers, masters and the API become one daemon.

mod aiding;
mod announcing;
mod answers;
mod befriending;
mod bookkeeping;
mod changes;
mod export;
mod feeding;
mod helping;
mod limiting;
mod mastering;
mod naming;
mod reloading;
mod rendezvous;
mod succeeding;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bt_wire::ids::{InfoHash, PeerId};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use swarm_core::io::Limits;
use swarm_core::io::friends::{FriendsLimits, FriendsMode};
use swarm_core::policy::quota::Book;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aid::AidConfig;
use crate::allowance::Allowance;
use crate::config::{self, Config, Sources};
use crate::control::token::Token;
use crate::control::{Api, Control, server};
use crate::discover::feeds::FeedPoller;
use crate::discover::http::{Http, HttpOptions};
use crate::discover::trackers::{self, Identity, TrackerClient, TrackerCommand};
use crate::driver::{Engine, EngineConfig, EngineHandle};
use crate::friends::Friends;
use crate::store::{Store, Totals};

/// Torrents of feeds that may wait to be taken.
const FEED_EVENTS: usize = 64;
/// Answers of trackers that may wait to be taken.
const TRACKER_EVENTS: usize = 256;
/// How often totals are saved and trackers' figures brought up to date. A kill costs the totals at most 5 s: this, and
/// the store's half second.
const FIGURES: Duration = Duration::from_secs(4);
/// What connections get to send what they have queued when the daemon stops.
const DRAIN: Duration = Duration::from_secs(2);
/// What trackers get to hear `stopped`.
const FAREWELL: Duration = Duration::from_secs(6);

/// Changes the log's filter.
pub type LogFilter = Arc<dyn Fn(&str) + Send + Sync>;

/// What a daemon is started with.
pub struct Options {
    /// Validated.
    pub config: Config,
    /// Where it came from, for reloads; None = there is nothing to reload.
    pub sources: Option<Sources>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Changes the log's filter on a reload.
    pub set_log: Option<LogFilter>,
    /// Record the brain's inputs to this file, up to so many bytes.
    pub record: Option<(PathBuf, u64)>,
    /// Turns the ranking of swarms upside down; for tests only.
    pub invert_need: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    api: Option<SocketAddr>,
}

/// What the daemon's tasks share.
struct Shared {
    engine: EngineHandle,
    store: Store,
    /// Who we are to friends, and what is signed.
    friends: Arc<Friends>,
    http: Http,
    feeds: FeedPoller,
    /// None: `discovery.trackers` is off.
    trackers: Option<mpsc::Sender<TrackerCommand>>,
    sources: Option<Sources>,
    set_log: Option<LogFilter>,
    /// Of all runs before this one.
    totals: Totals,
    /// What the line carried in all runs before this one, bytes.
    carried_before: u64,
    /// Our key among the slaves of one master.
    slave_key: u64,
    known: Mutex<Known>,
    /// Held while the operator's word is carried out, so that two changes never mix.
    changing: tokio::sync::Mutex<()>,
    /// Held while the trackers' task is told of joins and registrations, so that it hears them in order.
    telling_trackers: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What changes while the daemon runs. Never locked across an await.
#[derive(Debug, Default)]
struct Known {
    config: Config,
    /// Swarms the operator had left: neither feed nor master brings them back.
    left: BTreeSet<InfoHash>,
    masters: BTreeMap<String, mastering::Entry>,
    next_master: u32,
    announcing: announcing::Table,
    watching: aiding::Watching,
    rendezvous: rendezvous::Table,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("store", &self.store.path())
            .finish_non_exhaustive()
    }
}

impl Daemon {
    /// Locks the data directory, listens, takes up what is saved, and begins.
    ///
    /// # Errors
    /// Another daemon holds the directory, an address is taken, or a file cannot be had; the text says which and what
    /// to do.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let Options {
            config,
            sources,
            metrics,
            set_log,
            record,
            invert_need,
        } = options;
        let store = open_store(config.data_dir()?).await?;
        let (totals, paused, book) = read_saved(store.clone()).await?;
        let friends = Arc::new(befriending::open(store.clone()).await?);
        let carried_before = book.total;
        let (engine, engine_events) = Engine::start(EngineConfig {
            aid: Some(AidConfig {
                friends: Arc::clone(&friends),
                limits: friends_limits(&config),
            }),
            ..engine_config(&config, book, record, invert_need)?
        })?;
        let http = http_client(&config, Arc::clone(engine.allowance()))?;
        let (feed_events, feed_inbox) = mpsc::channel(FEED_EVENTS);
        let (tracker_events, tracker_inbox) = mpsc::channel(TRACKER_EVENTS);
        let announce = config
            .discovery
            .trackers
            .then(|| identity(&engine))
            .transpose()?;
        let shared = Arc::new(Shared {
            feeds: FeedPoller::start(http.clone(), feed_events),
            trackers: announce.map(|identity| {
                trackers::start(TrackerClient::new(http.clone()), identity, tracker_events)
            }),
            engine,
            friends,
            store,
            http,
            sources,
            set_log,
            totals,
            carried_before,
            slave_key: random()?,
            known: Mutex::new(Known {
                config: config.clone(),
                ..Known::default()
            }),
            changing: tokio::sync::Mutex::default(),
            telling_trackers: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        shared.spawn(announcing::run(
            Arc::clone(&shared),
            engine_events,
            tracker_inbox,
        ));
        shared.spawn(feeding::run(Arc::clone(&shared), feed_inbox));
        shared.keep_count();
        if paused {
            shared.engine.set_paused(true).await?;
        }
        shared.take_up_saved().await?;
        shared.take_up_rendezvous().await?;
        let api = shared.serve(&config, metrics).await?;
        shared.say_hello(api);
        Ok(Self { shared, api })
    }

    /// Speaks to its engine.
    #[must_use]
    pub fn engine(&self) -> &EngineHandle {
        &self.shared.engine
    }

    /// What its API answers with.
    #[must_use]
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::new(answers::Answers(Arc::clone(&self.shared)))
    }

    /// Where its API listens; None = off.
    #[must_use]
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api
    }

    /// Tells the trackers, closes the connections, saves the state. Takes at most some 8 seconds.
    /// The data directory is free for the next daemon once the handles that [`Daemon::control`] gave are dropped too.
    pub async fn stop(self) {
        let shared = self.shared;
        shared.stop.cancel();
        shared.tasks.close();
        // A last look, so that trackers hear true figures and totals are whole.
        shared.bring_up_figures().await;
        let farewell = async {
            let Some(trackers) = &shared.trackers else {
                return;
            };
            let (reply, told) = tokio::sync::oneshot::channel();
            if trackers.send(TrackerCommand::Stop(reply)).await.is_ok()
                && tokio::time::timeout(FAREWELL, told).await.is_err()
            {
                tracing::warn!("not every tracker answered our farewell");
            }
        };
        tokio::join!(farewell, shared.engine.shutdown(DRAIN), shared.tasks.wait());
        let (store, book) = (shared.store.clone(), shared.last_book());
        let save = move || {
            if let Some(book) = book {
                store.put_book(&book)?;
            }
            store.flush()
        };
        if let Err(error) = blocking(save).await {
            tracing::warn!("{error:#}");
        }
    }
}

impl Shared {
    fn say_hello(&self, api: Option<SocketAddr>) {
        let listen: Vec<String> = self
            .engine
            .listen_addrs()
            .iter()
            .map(ToString::to_string)
            .collect();
        let (listen, data) = (listen.join(" "), self.store.path().display());
        tracing::info!(%listen, ?api, %data, "btslave {} runs", env!("CARGO_PKG_VERSION"));
    }

    /// Begins the tasks that save what is counted, and tell the time.
    fn keep_count(self: &Arc<Self>) {
        self.spawn(announcing::keep_figures(Arc::clone(self)));
        self.tasks.spawn(limiting::keep_books(Arc::clone(self)));
        self.spawn(limiting::tell_time(Arc::clone(self)));
    }

    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Does a blocking job of the store.
    async fn store<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Store) -> Result<T, crate::store::StoreError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let store = self.store.clone();
        // Tracked: a job outlives the task that asked for it, and the data directory is free only after the last one.
        let job = self.tasks.spawn_blocking(move || job(&store));
        Ok(job.await.context("the store's task ended")??)
    }

    async fn serve(
        self: &Arc<Self>,
        config: &Config,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<Option<SocketAddr>> {
        let Some(addr) = config.api.listen else {
            return Ok(None);
        };
        let file = config.token_file()?;
        let token = tokio::task::spawn_blocking(move || Token::load_or_create(&file)).await??;
        let listener = TcpListener::bind(addr).await.with_context(|| {
            format!("the API cannot listen on {addr}; is another btslave running? Choose another api.listen")
        })?;
        let bound = listener.local_addr()?;
        let api = Api::new(Arc::new(answers::Answers(Arc::clone(self))), token, metrics);
        self.tasks.spawn(server::serve(
            listener,
            api,
            server::Limits::default(),
            self.stop.clone(),
        ));
        Ok(Some(bound))
    }
}

/// Runs a blocking job of the store off the runtime's threads.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, crate::store::StoreError> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(job)
        .await
        .context("the store's task ended")??)
}

async fn open_store(dir: PathBuf) -> anyhow::Result<Store> {
    let (store, report) = blocking(move || Store::open(&dir)).await?;
    for note in report.notes {
        tracing::warn!("{note}");
    }
    Ok(store)
}

/// Statistics of all runs, whether transfers are paused, and what the line carried in which month.
async fn read_saved(store: Store) -> anyhow::Result<(Totals, bool, Book)> {
    blocking(move || {
        Ok((
            store.totals().unwrap_or_default(),
            store.paused()?,
            store.book()?,
        ))
    })
    .await
}

fn engine_config(
    config: &Config,
    book: Book,
    record: Option<(PathBuf, u64)>,
    invert_need: bool,
) -> anyhow::Result<EngineConfig> {
    Ok(EngineConfig {
        listen: config.node.listen.clone(),
        device: None,
        pex: config.discovery.pex,
        peer_id: peer_id()?,
        limits: limits(config),
        book,
        min_free: config.cache.min_free,
        data_dir: config.data_dir()?,
        seed: random()?,
        record,
        aid: None,
        invert_need,
    })
}

/// Help between friends: the brain's limits.
fn friends_limits(config: &Config) -> FriendsLimits {
    let friends = &config.friends;
    FriendsLimits {
        mode: match friends.mode {
            config::FriendsMode::Off => FriendsMode::Off,
            config::FriendsMode::Known => FriendsMode::Known,
            config::FriendsMode::Open => FriendsMode::Open,
        },
        window: friends.window,
        // Totals end at 2^63 − 1 (spec/iou.md): no debt is larger.
        credit: friends.credit.0.unwrap_or(i64::MAX.unsigned_abs()),
        open_pool: friends.open_pool,
        private_torrents: friends.private_torrents,
    }
}

/// HTTP goes out from where we listen, when that is one address.
fn http_client(config: &Config, allowance: Arc<Allowance>) -> anyhow::Result<Http> {
    let listen = config.node.listen.iter().map(SocketAddr::ip);
    let local_address = listen.into_iter().find(|ip| !ip.is_unspecified());
    Ok(Http::new(&HttpOptions {
        local_address,
        allowance,
    })?)
}

/// The brain's limits.
fn limits(config: &Config) -> Limits {
    Limits {
        upload: config.limits.upload.0,
        download: config.limits.download.0,
        month: config.limits.month.0,
        schedule: config.limits.schedule.clone(),
        connections: config.limits.connections,
        cache: config.cache.size,
        cache_memory: config.cache.memory,
        repeat: config.repeater.enabled,
        max_swarms: config.repeater.max_swarms,
    }
}

fn identity(engine: &EngineHandle) -> anyhow::Result<Identity> {
    let port = engine.listen_addrs().first().map_or(0, SocketAddr::port);
    let global = |ip: IpAddr| match ip {
        IpAddr::V6(v6)
            if bt_wire::address::Scope::of(ip) == Some(bt_wire::address::Scope::Global) =>
        {
            Some(v6)
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    let ipv6 = engine
        .listen_addrs()
        .iter()
        .find_map(|addr| global(addr.ip()));
    Ok(Identity {
        peer_id: engine.peer_id(),
        port,
        ipv6,
        seed: random()?,
    })
}

fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| anyhow::anyhow!("the system has no randomness: {e}"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// A peer id of this run (BEP 20): client and version, then letters and digits.
fn peer_id() -> anyhow::Result<PeerId> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.";
    let mut id = *b"-BS0100-............";
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)
        .map_err(|e| anyhow::anyhow!("the system has no randomness: {e}"))?;
    for (to, from) in id[8..].iter_mut().zip(bytes) {
        *to = LETTERS[usize::from(from % 64)];
    }
    Ok(PeerId(id))
}

/// Seconds since the Unix epoch.
fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
