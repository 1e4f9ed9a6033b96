//! Peer connections: listening, dialling, hand-shaking, and one task for each connection that runs its session.

mod conn;
mod half_open;
mod handshake;
mod home;
pub(crate) mod mailbox;
mod metadata;
pub(crate) mod meter;
mod pex;
mod socket;
mod stream;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bt_wire::ids::PeerId;
use parking_lot::Mutex;
use swarm_core::io::{CloseReason, ConnId, Input, MasterId, SwarmId};
use swarm_core::policy::quota::Book;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aid::Circle;
use crate::allowance::Allowance;
use crate::cache::Cache;
use crate::driver::{Clock, Outbox};
use crate::swarms::{Swarm, SwarmTable};
use friends_proto::pair::Role;
use half_open::HalfOpen;
use handshake::Place;
pub(crate) use home::unix_now;
use mailbox::Mailboxes;
pub(crate) use metadata::MetadataTurn;
use meter::Meter;
pub use socket::ListenError;
use stream::Stream;

/// Dials under way at one time.
const MAX_DIALS: usize = 48;
/// Incoming connections that have not shaken hands yet; the oldest gives way to a new one.
const MAX_HALF_OPEN: usize = 256;
/// Connections beyond the operator's limit, so that the brain can choose which one to close.
const SPARE_CONNECTIONS: usize = 32;
/// Pause after the kernel refused to accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) peer_id: PeerId,
    pub(crate) swarms: Arc<SwarmTable>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) boxes: Arc<Mailboxes>,
    pub(crate) meter: Meter,
    pub(crate) clock: Clock,
    pub(crate) facts: mpsc::Sender<Input>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) counters: Counters,
    /// What all of it may carry.
    pub(crate) allowance: Arc<Allowance>,
    /// The book of the month's quota that is to be kept durably.
    pub(crate) book: watch::Sender<Option<Book>>,
    pub(crate) limit: AtomicU32,
    pub(crate) device: Option<String>,
    /// Peer exchange is wanted (`discovery.pex`).
    pub(crate) pex: bool,
    /// None: friends are off.
    pub(crate) friends: Option<Arc<Circle>>,
    /// Masters configured: with one, we say so to other slaves.
    pub(crate) masters: Mutex<BTreeSet<MasterId>>,
    listen: Vec<SocketAddr>,
    runtime: tokio::runtime::Handle,
    next_conn: AtomicU64,
    dials: Semaphore,
    half_open: HalfOpen,
}

/// Byte counters of this run.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Payload handed to sockets.
    pub(crate) up: AtomicU64,
    /// Payload taken from sockets.
    pub(crate) down: AtomicU64,
}

/// What [`Network::open`] needs.
pub(crate) struct Parts {
    pub(crate) peer_id: PeerId,
    pub(crate) swarms: Arc<SwarmTable>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) clock: Clock,
    pub(crate) facts: mpsc::Sender<Input>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) connections: u32,
    pub(crate) allowance: Allowance,
    pub(crate) device: Option<String>,
    /// Peer exchange is wanted (`discovery.pex`).
    pub(crate) pex: bool,
    /// None: friends are off.
    pub(crate) friends: Option<Arc<Circle>>,
}

impl Network {
    /// Listens and starts to accept. The addresses listened on are known afterwards, port 0 resolved.
    pub(crate) fn open(parts: Parts, listen: &[SocketAddr]) -> Result<Arc<Self>, ListenError> {
        let device = parts.device.as_deref();
        let listeners = listen
            .iter()
            .map(|addr| socket::listen(*addr, device))
            .collect::<Result<Vec<_>, _>>()?;
        let bound = |(listener, addr): (&TcpListener, &SocketAddr)| {
            listener
                .local_addr()
                .map_err(|cause| ListenError { addr: *addr, cause })
        };
        let bound = listeners
            .iter()
            .zip(listen)
            .map(bound)
            .collect::<Result<Vec<_>, _>>()?;
        let network = Arc::new(Self {
            peer_id: parts.peer_id,
            swarms: parts.swarms,
            cache: parts.cache,
            boxes: Arc::new(Mailboxes::default()),
            meter: Meter::new(parts.clock),
            clock: parts.clock,
            facts: parts.facts,
            outbox: parts.outbox,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            counters: Counters::default(),
            allowance: Arc::new(parts.allowance),
            book: watch::Sender::new(None),
            limit: AtomicU32::new(parts.connections),
            device: parts.device,
            pex: parts.pex,
            friends: parts.friends,
            masters: Mutex::default(),
            listen: bound,
            runtime: tokio::runtime::Handle::current(),
            next_conn: AtomicU64::new(1),
            dials: Semaphore::new(MAX_DIALS),
            half_open: HalfOpen::new(MAX_HALF_OPEN),
        });
        network.meter.start(&network.boxes, &network.stop);
        for listener in listeners {
            network.tasks.spawn(Arc::clone(&network).accept(listener));
        }
        Ok(network)
    }

    pub(crate) fn listen_addrs(&self) -> &[SocketAddr] {
        &self.listen
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, addr)) => self.incoming(stream, addr),
                Err(error) => {
                    tracing::debug!(%error, "accept");
                    metrics::counter!("btslave_accept_errors_total").increment(1);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn incoming(self: &Arc<Self>, stream: tokio::net::TcpStream, addr: SocketAddr) {
        // Not a byte of it is read: who connects must not use up what is left.
        if !self.allowance.is_open() {
            metrics::counter!("btslave_quota_refused_total").increment(1);
            return;
        }
        if self.boxes.len() >= self.limit.load(Ordering::Relaxed) as usize + SPARE_CONNECTIONS {
            metrics::counter!("btslave_connections_refused_total").increment(1);
            return;
        }
        let ticket = self.half_open.enter();
        let network = Arc::clone(self);
        self.tasks.spawn(async move {
            let Ok(mut stream) = Stream::tcp(stream) else {
                return;
            };
            let shaken = tokio::select! {
                () = ticket.evicted() => return,
                () = network.stop.cancelled() => return,
                shaken = handshake::incoming(&network, &mut stream) => shaken,
            };
            drop(ticket);
            match shaken {
                Ok((Place::Swarm(swarm), theirs)) => {
                    conn::run(network, stream, addr, true, swarm, theirs).await;
                }
                Ok((Place::Home(hash), theirs)) => {
                    home::run(network, stream, addr, Role::Acceptor, hash, theirs).await;
                }
                Err(error) => tracing::debug!(%addr, %error, "incoming handshake"),
            }
        });
    }

    /// Dials in the background; failure is reported to the brain.
    pub(crate) fn dial(self: &Arc<Self>, swarm: SwarmId, addr: SocketAddr) {
        let network = Arc::clone(self);
        let dialling = async move {
            let shaken = tokio::select! {
                () = network.stop.cancelled() => return,
                shaken = network.outgoing(swarm, addr) => shaken,
            };
            match shaken {
                Ok((stream, swarm, theirs)) => {
                    conn::run(network, stream, addr, false, swarm, theirs).await
                }
                Err(error) => {
                    tracing::debug!(%addr, %error, "dial");
                    // The driver may be gone.
                    drop(network.facts.send(Input::DialFailed(swarm, addr)).await);
                }
            }
        };
        // The driver that calls this runs on a runtime of its own.
        self.tasks.spawn_on(dialling, &self.runtime);
    }

    async fn outgoing(
        &self,
        swarm: SwarmId,
        addr: SocketAddr,
    ) -> io::Result<(Stream, Arc<Swarm>, bt_wire::handshake::Handshake)> {
        // A tracker or peer that names ourselves costs no connection (row C3).
        if self.listen_addrs().contains(&addr) {
            metrics::counter!("btslave_dials_refused_total", "reason" => "ourselves").increment(1);
            return Err(io::Error::other("our own address"));
        }
        if !self.allowance.is_open() {
            metrics::counter!("btslave_quota_refused_total").increment(1);
            return Err(io::Error::other("the month's quota is used up"));
        }
        let _turn = self.dials.acquire().await.map_err(io::Error::other)?;
        let gone = || io::Error::other("the swarm was left meanwhile");
        let swarm = self
            .swarms
            .get(swarm)
            .filter(|swarm| swarm.is_joined())
            .ok_or_else(gone)?;
        let mut stream =
            Stream::tcp(socket::dial(addr, &self.listen, self.device.as_deref()).await?)?;
        let theirs = handshake::outgoing(self, &mut stream, swarm.info_hash).await?;
        Ok((stream, swarm, theirs))
    }

    /// The line may carry so many bytes in this run.
    pub(crate) fn allow(&self, bytes: Option<u64>) {
        if self.allowance.allow(bytes) {
            self.wake_waiting();
        }
    }

    /// Of `taken` bytes of the allowance so many were carried.
    pub(crate) fn settle(&self, taken: u64, carried: u64) {
        if self.allowance.settle(taken, carried) {
            self.wake_waiting();
        }
    }

    fn wake_waiting(&self) {
        for mailbox in self.boxes.all() {
            mailbox.poke();
        }
    }

    /// No new connections; those there are close.
    pub(crate) fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        for mailbox in self.boxes.all() {
            mailbox.close(CloseReason::Ours);
        }
    }

    fn new_conn(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }
}
