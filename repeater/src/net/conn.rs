//! One connection: its session, and its socket. The task never waits while it could read, write or obey.

mod download;
mod friend;
mod reader;
mod upload;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_wire::extension::{BS_FRIENDS, ExtendedHandshake, ExtensionIds, UT_METADATA, UT_PEX};
use bt_wire::handshake::Handshake;
use bt_wire::message::BlockRef;
use bytes::Bytes;
use friends_proto::pair;
use swarm_core::bucket::Class;
use swarm_core::io::{
    CloseReason, ConnFact, ConnId, Fetch, Input, Order, PeerSource, Role, SwarmFact,
};
use swarm_core::session::{Counters, Event, Session, SessionConfig, SessionLimits};
use swarm_core::time::Timestamp;

use super::mailbox::{Mail, Mailbox};
use super::metadata::{Metadata, Outcome};
use super::pex::Pex;
use super::{Network, Stream};
use crate::aid::talk::{Link, Talk};
use crate::cache::{Fetching, Waiter};
use crate::driver::EngineEvent;
use crate::swarms::{Swarm, Torrent};
use reader::Reader;
use writer::Writer;

/// How often a connection without metadata looks whether somebody has it now.
const METADATA_TICK: Duration = Duration::from_secs(1);
/// A socket that takes nothing for this long although something waits is given up.
const STUCK: Duration = Duration::from_secs(120);
/// What remains in the queue may take this long to go out when we close.
const LINGER: Duration = Duration::from_secs(2);
/// Client name and version, as peers see it.
const CLIENT: &str = concat!("BTSlave ", env!("CARGO_PKG_VERSION"));

/// Everything one connection has.
struct Conn {
    net: Arc<Network>,
    id: ConnId,
    addr: SocketAddr,
    swarm: Arc<Swarm>,
    /// The metadata as it was when the connection began; the session's layout is its.
    torrent: Option<Arc<Torrent>>,
    stream: Stream,
    session: Session,
    mailbox: Arc<Mailbox>,
    waiter: Arc<dyn Waiter>,
    mail: Mail,
    reader: Reader,
    writer: Writer,
    /// Pieces leased here.
    leases: BTreeMap<u32, Arc<Fetching>>,
    /// Leases that wait for a permit, and until when.
    waiting: VecDeque<(Instant, Fetch)>,
    /// Blocks asked of the disk tier, under way.
    reading: usize,
    /// Blocks to be asked of the disk tier when it has room.
    later: Vec<BlockRef>,
    /// The kept piece served last.
    kept: Option<(u32, Bytes)>,
    up: Credit,
    down: Credit,
    master: bool,
    /// Facts that only the shell can know.
    facts: Vec<ConnFact>,
    metadata: Metadata,
    pex: Pex,
    /// With a friend, maybe; none where we say nothing of friends.
    talk: Option<Talk>,
    /// What came for it, in order.
    heard: VecDeque<friend::Heard>,
    /// Of the oldest HAVE on its way out: when the last block of its piece came in.
    forwarding: Option<Instant>,
    /// The socket took nothing since.
    blocked: Option<Instant>,
    /// The allowance was used up when we wanted to read or write: we wait to be woken.
    dry: bool,
    /// Other tasks were given something urgent: let them run.
    polite: bool,
    counted: Counters,
    done: Vec<BlockRef>,
}

/// Bytes of one direction that the bucket tree granted.
#[derive(Debug, Default)]
struct Credit {
    granted: u32,
    /// Asked for and not granted yet.
    asked: u32,
}

/// Runs a connection whose handshakes are done, to its end.
pub(super) async fn run(
    net: Arc<Network>,
    stream: Stream,
    addr: SocketAddr,
    incoming: bool,
    swarm: Arc<Swarm>,
    theirs: Handshake,
) {
    let id = net.new_conn();
    let mailbox = net.boxes.insert(id);
    if net.stop.is_cancelled() {
        net.boxes.remove(id);
        return;
    }
    net.meter.insert(id, Class::Swarm, swarm.id);
    let far = Far {
        addr,
        incoming,
        handshake: &theirs,
    };
    let mut conn = Conn::new(net, id, stream, swarm, far, mailbox);
    conn.facts.push(ConnFact::Connected {
        swarm: conn.swarm.id,
        addr,
        incoming,
        peer_id: theirs.peer_id.0,
        fast: theirs.reserved.fast(),
        extended: theirs.reserved.extended(),
    });
    tracing::debug!(conn = id.0, %addr, incoming, swarm = %conn.swarm.info_hash, "connected");
    let why = conn.drive().await;
    conn.finish(why).await;
}

/// The far end of a connection.
struct Far<'a> {
    addr: SocketAddr,
    /// It dialled us.
    incoming: bool,
    handshake: &'a Handshake,
}

impl Conn {
    fn new(
        net: Arc<Network>,
        id: ConnId,
        stream: Stream,
        swarm: Arc<Swarm>,
        far: Far<'_>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let (addr, theirs) = (far.addr, far.handshake);
        let torrent = swarm.torrent().cloned();
        let role = if far.incoming {
            pair::Role::Acceptor
        } else {
            pair::Role::Opener
        };
        let link = Link {
            infohash: swarm.info_hash,
            role,
            addr,
            conn: Some(id),
            mailbox: Arc::clone(&mailbox),
            our_id: net.peer_id,
            their_id: theirs.peer_id,
        };
        let talk = friend::talk(&net, torrent.as_deref(), link);
        let cfg = SessionConfig {
            layout: torrent.as_ref().map(|torrent| torrent.layout),
            fast: theirs.reserved.fast(),
            extended: theirs.reserved.extended(),
            hello: hello(&net, &swarm, torrent.as_deref(), addr, talk.as_ref()),
            limits: SessionLimits::default(),
        };
        Self {
            id,
            addr,
            torrent,
            stream,
            session: Session::new(cfg, net.clock.now()),
            waiter: Arc::clone(&mailbox) as Arc<dyn Waiter>,
            mailbox,
            mail: Mail::default(),
            reader: Reader::new(id),
            writer: Writer::default(),
            leases: BTreeMap::new(),
            waiting: VecDeque::new(),
            reading: 0,
            later: Vec::new(),
            kept: None,
            up: Credit::default(),
            down: Credit::default(),
            master: false,
            facts: Vec::new(),
            metadata: Metadata::new(id, addr.ip(), Arc::clone(&swarm)),
            pex: Pex::default(),
            talk,
            heard: VecDeque::new(),
            forwarding: None,
            blocked: None,
            dry: false,
            polite: false,
            counted: Counters::default(),
            done: Vec::new(),
            swarm,
            net,
        }
    }

    fn now(&self) -> Timestamp {
        self.net.clock.now()
    }

    /// Turns until the connection ends.
    async fn drive(&mut self) -> CloseReason {
        loop {
            match self.turn().await {
                Ok(()) => {}
                Err(why) => return why,
            }
        }
    }

    /// Obey, speak, listen, report; then wait if nothing of it made progress.
    async fn turn(&mut self) -> Result<(), CloseReason> {
        self.dry = false;
        self.read_mail()?;
        self.transmit();
        let wrote = self.write()?;
        let read = self.read()?;
        if std::mem::take(&mut self.polite) {
            tokio::task::yield_now().await;
        }
        self.take_events().await?;
        self.flush_facts().await;
        let spoke = self.talk().await;
        if wrote || read || spoke {
            tokio::task::consume_budget().await;
            return Ok(());
        }
        self.wait().await
    }

    fn read_mail(&mut self) -> Result<(), CloseReason> {
        let mut mail = std::mem::take(&mut self.mail);
        if self.mailbox.take(&mut mail) {
            let now = self.now();
            for order in mail.orders.drain(..) {
                self.obey(now, order)?;
            }
            for (wanted, bytes) in mail.blocks.drain(..) {
                self.block_was_read(now, wanted, bytes);
            }
            self.up.receive(std::mem::take(&mut mail.granted_up));
            self.down.receive(std::mem::take(&mut mail.granted_down));
            if let Some(at) = mail.last_block_in.take() {
                self.forwarding.get_or_insert(at);
            }
            if std::mem::take(&mut mail.room) {
                self.room(now);
            }
            self.heard
                .extend(mail.say.drain(..).map(friend::Heard::Say));
            for message in mail.pex.drain(..) {
                self.introduce(&message);
            }
            if let Some(why) = mail.close.take() {
                return Err(why);
            }
        }
        self.mail = mail;
        Ok(())
    }

    fn obey(&mut self, now: Timestamp, order: Order) -> Result<(), CloseReason> {
        match order {
            Order::Fetch(fetch) => self.fetch(now, fetch),
            Order::Revoke(piece) => {
                self.stop_waiting(now, piece);
                self.session.on_order(now, Order::Revoke(piece));
            }
            Order::Close => return Err(CloseReason::Ours),
            Order::Hello { role, .. } | Order::Role(role) => {
                self.master = matches!(role, Role::Master(_));
                let class = match role {
                    Role::Master(_) => Class::Masters,
                    Role::Guest(_) => Class::Guests,
                    Role::Peer => Class::Swarm,
                };
                self.net.meter.insert(self.id, class, self.swarm.id);
                self.session.on_order(now, order);
            }
            Order::Unchoke(_) | Order::Interested(_) | Order::Announce(_) | Order::Withdraw(_) => {
                self.session.on_order(now, order);
            }
        }
        Ok(())
    }

    /// What the session has for the shell itself.
    async fn take_events(&mut self) -> Result<(), CloseReason> {
        let (mut out, now) = (Vec::new(), Instant::now());
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Extended(theirs) => {
                    self.metadata
                        .extended(theirs.m.ut_metadata, theirs.metadata_size);
                    self.pex.extended(theirs.m.ut_pex);
                    self.heard.push_back(friend::Heard::Extended(theirs));
                }
                Event::Friends(frame) => self.heard.push_back(friend::Heard::Frame(frame)),
                Event::Metadata(message) => {
                    match self.metadata.on_message(now, message, &mut out) {
                        Outcome::Nothing => {}
                        Outcome::Ready => self.metadata_ready().await,
                        Outcome::Lied => return Err(CloseReason::Protocol),
                    }
                }
                Event::Pex(message) => {
                    let closed = self.swarm.is_private() || !self.net.pex;
                    let peers = self.pex.on_message(now, self.addr.ip(), closed, &message);
                    if !peers.is_empty() {
                        let fact = SwarmFact::Peers(peers, PeerSource::Pex);
                        self.send(Input::Swarm(self.swarm.id, fact)).await;
                    }
                }
                Event::Port(_) => {}
            }
        }
        if self.torrent.is_none() {
            if self.swarm.torrent().is_some() {
                return Err(CloseReason::Ours);
            }
            self.metadata.poll(now, &mut out);
        }
        for (id, payload) in out {
            self.session.send_extended(id, payload);
            self.polite = true;
        }
        Ok(())
    }

    async fn metadata_ready(&mut self) {
        tracing::info!(swarm = %self.swarm.info_hash, name = %self.swarm.name(), "metadata received");
        if let Some(known) = self.swarm.known_fact() {
            self.send(Input::Swarm(self.swarm.id, known)).await;
        }
        self.net
            .outbox
            .push(EngineEvent::MetadataReady(self.swarm.id));
    }

    /// To the driver. Waits when it has too much to do; a driver that is gone needs nothing.
    async fn send(&self, input: Input) {
        drop(self.net.facts.send(input).await);
    }

    async fn flush_facts(&mut self) {
        let now = self.now();
        if self.facts.is_empty() && self.session.facts_due(now).is_none_or(|due| due > now) {
            return;
        }
        let mut facts = std::mem::take(&mut self.facts);
        facts.extend(self.session.take_facts());
        self.leases.retain(|_, fetching| !fetching.is_over());
        let counters = self.session.counters();
        if counters != self.counted {
            count(&self.counted, &counters);
            self.counted = counters;
        }
        if !facts.is_empty() {
            self.send(Input::Conn(self.id, facts)).await;
        }
    }

    /// Until the socket, the mailbox or a timer has something.
    async fn wait(&mut self) -> Result<(), CloseReason> {
        let now = self.now();
        let mut until = self.session.poll_timeout();
        let mut sooner = |at: Timestamp| until = Some(until.map_or(at, |until| until.min(at)));
        if let Some(due) = self.session.facts_due(now) {
            sooner(due);
        }
        if self.torrent.is_none() {
            sooner(now + METADATA_TICK);
        }
        if let Some((until, _)) = self.waiting.front() {
            sooner(self.net.clock.at(*until));
        }
        if let Some(since) = self.blocked {
            sooner(self.net.clock.at(since + STUCK));
        }
        if let Some(at) = self.talk.as_ref().and_then(Talk::deadline) {
            sooner(friend::timestamp(at));
        }
        let sleep = until.map_or(METADATA_TICK, |until| until.since(now));
        let (read, write) = (
            !self.dry && self.may_read(),
            !self.dry && !self.writer.is_empty(),
        );
        tokio::select! {
            biased;
            () = self.mailbox.ready() => return Ok(()),
            ready = self.stream.ready(write, read), if read || write => {
                return ready.map(drop).map_err(|_| CloseReason::Remote);
            }
            () = tokio::time::sleep(sleep) => {}
        }
        self.on_timeout()
    }

    fn on_timeout(&mut self) -> Result<(), CloseReason> {
        let now = self.now();
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session
                .on_timeout(now)
                .map_err(|violation| self.violated(&violation))?;
        }
        if self.blocked.is_some_and(|since| since.elapsed() >= STUCK) {
            metrics::counter!("btslave_stuck_peers_total").increment(1);
            return Err(CloseReason::Stuck);
        }
        self.expire_waiting(now);
        Ok(())
    }

    fn violated(&self, violation: &swarm_core::session::Violation) -> CloseReason {
        tracing::debug!(conn = self.id.0, addr = %self.addr, %violation, "closed");
        metrics::counter!("btslave_violations_total", "kind" => kind(violation)).increment(1);
        violation.close_reason()
    }

    /// Says goodbye to the brain and, when it was our wish, lets what is queued go out.
    async fn finish(mut self, why: CloseReason) {
        tracing::debug!(conn = self.id.0, addr = %self.addr, ?why, "connection ends");
        self.net.boxes.remove(self.id);
        self.net.meter.up.refund(self.up.granted);
        self.net.meter.down.refund(self.down.granted);
        self.net.meter.remove(self.id);
        self.leases.clear();
        self.facts.extend(self.session.take_facts());
        self.facts.push(ConnFact::Closed(why));
        count(&self.counted, &self.session.counters());
        let facts = std::mem::take(&mut self.facts);
        self.send(Input::Conn(self.id, facts)).await;
        if let Some(talk) = &mut self.talk {
            talk.close().await;
        }
        if why == CloseReason::Ours {
            let lingering = async {
                while !self.writer.is_empty() {
                    let took = self.net.allowance.take(self.writer.len() as u64);
                    if took == 0 {
                        break;
                    }
                    let most = usize::try_from(took).unwrap_or(usize::MAX);
                    let wrote = self.writer.write(&self.stream, most, &mut self.done);
                    self.net.settle(took, self.writer.take_written() as u64);
                    match wrote {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.stream.ready(true, false).await?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                self.stream.shutdown().await
            };
            // A peer that is gone already, or does not read, misses nothing of ours.
            drop(tokio::time::timeout(LINGER, lingering).await);
        }
    }
}

impl Credit {
    fn receive(&mut self, bytes: u32) {
        self.granted = self.granted.saturating_add(bytes);
        self.asked = self.asked.saturating_sub(bytes);
    }
}

/// Our side of BEP 10 for this connection.
fn hello(
    net: &Network,
    swarm: &Swarm,
    torrent: Option<&Torrent>,
    addr: SocketAddr,
    talk: Option<&Talk>,
) -> ExtendedHandshake {
    let private = swarm.is_private();
    let m = ExtensionIds {
        ut_metadata: Some(UT_METADATA),
        ut_pex: (net.pex && !private).then_some(UT_PEX),
        //= spec/friends.md#field-together
        bs_friends: talk.map(|_| BS_FRIENDS),
        ..ExtensionIds::ours()
    };
    let same_family = net
        .listen_addrs()
        .iter()
        .find(|listen| listen.is_ipv4() == addr.is_ipv4());
    let repeater = if net.masters.lock().is_empty() { 1 } else { 2 };
    ExtendedHandshake {
        m,
        v: Some(CLIENT.into()),
        p: same_family
            .or(net.listen_addrs().first())
            .map(SocketAddr::port),
        yourip: Some(addr.ip()),
        metadata_size: torrent
            .and_then(|torrent| u32::try_from(torrent.meta.info_bytes.len()).ok()),
        bs_repeater: swarm.kept().is_none().then_some(repeater),
        bs_friends: talk.map(Talk::field),
        ..ExtendedHandshake::default()
    }
}

fn kind(violation: &swarm_core::session::Violation) -> &'static str {
    use swarm_core::session::Violation;
    match violation {
        Violation::BadBitfield(_) => "bad_bitfield",
        Violation::NoSuchPiece(_) => "no_such_piece",
        Violation::BadRequest(_) => "bad_request",
        Violation::BadBlock(_) => "bad_block",
        Violation::BadExtended(_) => "bad_extended",
        Violation::RequestFlood => "request_flood",
        Violation::Unrequested => "unrequested",
        Violation::Silent => "silent",
    }
}

/// What a session counted since the last time.
fn count(before: &Counters, now: &Counters) {
    type Field = (&'static str, fn(&Counters) -> u64);
    let fields: [Field; 16] = [
        ("refused_choked", |c| c.refused_choked),
        ("refused_unannounced", |c| c.refused_unannounced),
        ("refused_full", |c| c.refused_full),
        ("refused_unavailable", |c| c.refused_unavailable),
        ("floods", |c| c.floods),
        ("blocks_redundant", |c| c.blocks_redundant),
        ("blocks_unrequested", |c| c.blocks_unrequested),
        ("rejects_unknown", |c| c.rejects_unknown),
        ("timeouts", |c| c.timeouts),
        ("sets_replaced", |c| c.sets_replaced),
        ("repeats", |c| c.repeats),
        ("allowed_fast_ignored", |c| c.allowed_fast_ignored),
        ("suggests_ignored", |c| c.suggests_ignored),
        ("unknown_messages", |c| c.unknown_messages),
        ("extended_malformed", |c| c.extended_malformed),
        ("events_dropped", |c| c.events_dropped),
    ];
    for (name, get) in fields {
        let fresh = get(now) - get(before);
        if fresh > 0 {
            metrics::counter!("btslave_session_total", "what" => name).increment(fresh);
        }
    }
}
