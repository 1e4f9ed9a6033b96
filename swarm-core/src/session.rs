//! One connection after its handshake: who may ask whom for what. Pure; runs in the shell's connection task and in
//! simulators alike (BEP 3, 6, 10, 54; what clients really do: ARCHITECTURE.md).
//!
//! Drive it like this. Hand in what comes ([`Session::on_message`], [`Session::on_block`], [`Session::on_order`],
//! [`Session::on_timeout`] at [`Session::poll_timeout`]); then write every [`Session::poll_message`], and blocks by
//! [`Session::poll_block`] as the line allows; then take [`Session::poll_event`] and, when [`Session::facts_due`],
//! [`Session::take_facts`]. Any [`Violation`] closes the connection.
//!
//! What holds at all times: nothing goes out before [`Order::Hello`]; a block goes out only if it was asked for, we did
//! not choke, its piece stood announced to this peer, and the shell holds it; with BEP 6 each request is answered exactly
//! once. What a peer can make us remember is bounded: its requests and our rejects under 1 MiB, all else by a few KiB and
//! two bits for each piece.

mod download;
mod facts;
mod incoming;
mod pipeline;
mod upload;
mod violation;

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;

use bt_wire::bitfield::Bitfield;
use bt_wire::extension::{ExtendedHandshake, HANDSHAKE, MetadataMessage, PexMessage};
use bt_wire::layout::Layout;
use bt_wire::message::{BlockRef, Message};
use bytes::Bytes;

use self::download::Download;
use self::facts::Facts;
use self::upload::Upload;
pub use self::violation::{Counters, Violation};
use crate::io::{ConnFact, LeaseEnd, Order, Role};
use crate::time::Timestamp;

/// Without a word for this long we send a keep-alive: before the two minutes after which peers close (BEP 3).
const KEEPALIVE: Duration = Duration::from_secs(100);
/// Without a word from them for this long the connection is closed: two of their keep-alives missed.
const IDLE: Duration = Duration::from_secs(240);
/// Events that wait for the shell; more are dropped and counted.
const MOST_EVENTS: usize = 64;
/// The same for friends' frames: a lost one ends their session, and they may come in bursts.
const MOST_FRAMES: usize = 512;

/// What a session is made of.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// How the content falls into pieces; `None` until the metadata is known (then only extended messages matter, and
    /// the connection is replaced once it is).
    pub layout: Option<Layout>,
    /// Both handshakes had the bit of BEP 6.
    pub fast: bool,
    /// Both handshakes had the bit of BEP 10.
    pub extended: bool,
    /// Our extended handshake; `reqq` is filled in by role.
    pub hello: ExtendedHandshake,
    /// Requests to queue.
    pub limits: SessionLimits,
}

/// Requests a peer may have in our queue at once: what we announce as `reqq`. 1 to 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// For masters. Transmission asks for at most so many blocks in its one pulse a second: 20,000 are 312 MiB, and with
    /// 10,000 a 256 MiB torrent cost it a pulse more.
    pub reqq_master: u32,
    /// For everybody else.
    pub reqq_peer: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            reqq_master: 20_000,
            reqq_peer: 2_000,
        }
    }
}

/// What [`Session::poll_transmit`] gives to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A message, as it is.
    Message(Message),
    /// A block to be read from the cache and written as a `piece` message; then [`Session::wrote_block`], or
    /// [`Session::block_unavailable`].
    Block(BlockRef),
}

/// What to do with a block that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockVerdict {
    /// Asked for and still needed: to be copied into its piece.
    Wanted,
    /// Read it off the socket and throw it away. Counted as waste.
    Redundant,
}

/// What came in for the shell itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Their extended handshake: the shell needs `m`, `metadata_size` and `yourip` of it. The fact is told as well.
    Extended(Box<ExtendedHandshake>),
    /// A `ut_metadata` message (BEP 9).
    Metadata(MetadataMessage),
    /// A `ut_pex` message (BEP 11).
    Pex(PexMessage),
    /// Their DHT port (BEP 5).
    Port(u16),
    /// A frame of friends, where we offered to take any.
    Friends(Bytes),
}

/// What waits to go out or up.
#[derive(Debug, Default)]
struct Outbox {
    control: VecDeque<Message>,
    facts: Facts,
    events: VecDeque<Event>,
}

/// One connection. See the module.
#[derive(Debug)]
pub struct Session {
    cfg: SessionConfig,
    role: Role,
    greeted: bool,
    up: Upload,
    down: Download,
    out: Outbox,
    count: Counters,
    /// What they have, for telling news from repeats; empty without a layout.
    theirs: Bitfield,
    /// They said something about their set.
    set_known: bool,
    their_interest: bool,
    our_interest: bool,
    choked: bool,
    donthave: Option<u8>,
    heard: Timestamp,
    sent: Timestamp,
}

impl Session {
    /// A session that begins at `now`. It says nothing until [`Order::Hello`].
    #[must_use]
    pub fn new(cfg: SessionConfig, now: Timestamp) -> Self {
        Self {
            role: Role::Peer,
            greeted: false,
            up: Upload::new(cfg.fast, cfg.layout, cfg.limits.reqq_peer),
            down: Download::new(cfg.fast, cfg.layout),
            out: Outbox::default(),
            count: Counters::default(),
            theirs: Bitfield::new(cfg.layout.map_or(0, |layout| layout.piece_count)),
            set_known: false,
            their_interest: false,
            our_interest: false,
            choked: true,
            donthave: None,
            heard: now,
            sent: now,
            cfg,
        }
    }

    /// A message from the peer. A `piece` should go to [`Session::on_block`] instead: its verdict is lost here.
    ///
    /// # Errors
    /// What closes the connection.
    pub fn on_message(&mut self, now: Timestamp, message: Message) -> Result<(), Violation> {
        self.heard = now;
        match message {
            Message::KeepAlive => {}
            Message::Choke => self.on_choke(now, true),
            Message::Unchoke => self.on_choke(now, false),
            Message::Interested => self.on_interest(now, true),
            Message::NotInterested => self.on_interest(now, false),
            Message::Have(piece) => return self.on_have(now, piece),
            Message::Bitfield(bits) => return self.on_bitfield(now, &bits),
            Message::HaveAll => self.on_whole_set(now, true),
            Message::HaveNone => self.on_whole_set(now, false),
            Message::Request(block) => return self.on_request(now, block),
            Message::Cancel(block) => self.up.cancel(block, &mut self.out),
            Message::Piece { piece, begin, data } => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                return self
                    .on_block(
                        now,
                        BlockRef {
                            piece,
                            begin,
                            length,
                        },
                    )
                    .map(|_| ());
            }
            Message::Port(port) => self.event(Event::Port(port)),
            Message::Suggest(_) => self.count.suggests_ignored += 1,
            Message::Reject(block) => self.down.reject(now, block, &mut self.count, &mut self.out),
            Message::AllowedFast(piece) => {
                self.check(piece)?;
                if self.down.allowed_fast(piece, &mut self.count) {
                    self.out.facts.edge(now, ConnFact::AllowedFast(piece));
                }
            }
            Message::Extended { id, payload } => return self.on_extended(now, id, &payload),
            Message::Unknown { .. } => self.count.unknown_messages += 1,
        }
        Ok(())
    }

    /// The header of a block from the peer; its bytes are to be used only if [`BlockVerdict::Wanted`].
    ///
    /// # Errors
    /// What closes the connection.
    pub fn on_block(&mut self, now: Timestamp, block: BlockRef) -> Result<BlockVerdict, Violation> {
        self.heard = now;
        self.down.block(now, block, &mut self.count, &mut self.out)
    }

    /// A standing order of the brain. [`Order::Fetch`] only once the cache gave its permit: otherwise
    /// [`Session::lease_lost`]. [`Order::Close`] is the shell's to carry out.
    pub fn on_order(&mut self, now: Timestamp, order: Order) {
        match order {
            Order::Hello { have, role } => {
                if self.greeted {
                    return;
                }
                self.greeted = true;
                self.set_role(role);
                let set = self.up.show(&have);
                let hello = self.cfg.extended.then(|| self.hello());
                for message in set.into_iter().chain(hello) {
                    self.out.control.push_front(message);
                }
            }
            Order::Role(role) => {
                let before = self.reqq();
                self.set_role(role);
                // BEP 10 lets a handshake be repeated; the last word counts.
                if self.greeted && self.cfg.extended && self.reqq() != before {
                    let hello = self.hello();
                    self.out.control.push_back(hello);
                }
            }
            Order::Unchoke(unchoke) => self.up.unchoke(now, unchoke, &mut self.out),
            Order::Interested(interested) => {
                if self.our_interest {
                    self.out.control.push_back(Message::NotInterested);
                }
                if interested {
                    self.out.control.push_back(Message::Interested);
                }
                self.our_interest = interested;
            }
            Order::Announce(piece) => self.up.announce(piece, &mut self.out),
            Order::Withdraw(piece) => self.up.withdraw(now, piece, self.donthave, &mut self.out),
            Order::Fetch(fetch) => self.down.fetch(now, &fetch, &mut self.out),
            Order::Revoke(piece) => self
                .down
                .give_up(now, piece, LeaseEnd::Revoked, &mut self.out),
            Order::Close => {}
        }
    }

    /// The piece's hash matched, wherever its blocks came from: what is outstanding of it here is cancelled.
    pub fn piece_verified(&mut self, now: Timestamp, piece: u32) {
        self.down
            .give_up(now, piece, LeaseEnd::Revoked, &mut self.out);
    }

    /// The shell ends a lease, or does not begin it ([`LeaseEnd::NoRoom`]).
    pub fn lease_lost(&mut self, now: Timestamp, piece: u32, why: LeaseEnd) {
        if self.down.has_lease(piece) {
            self.down.give_up(now, piece, why, &mut self.out);
        } else {
            self.out.facts.edge(now, ConnFact::LeaseLost { piece, why });
        }
    }

    /// A block taken by [`Session::poll_block`] was handed to the socket.
    pub fn wrote_block(&mut self, now: Timestamp, block: BlockRef) {
        self.sent = now;
        self.out.facts.add(
            now,
            ConnFact::Served {
                piece: block.piece,
                bytes: block.length,
            },
        );
    }

    /// A block taken by [`Session::poll_block`] cannot be read: rejected, or dropped without BEP 6.
    pub fn block_unavailable(&mut self, now: Timestamp, block: BlockRef) {
        self.count.refused_unavailable += 1;
        self.up.refuse(now, block, &mut self.out);
    }

    /// Sends an extended message under the peer's `id` for it (`m` of [`Event::Extended`]).
    pub fn send_extended(&mut self, id: u8, payload: Bytes) {
        self.out
            .control
            .push_back(Message::Extended { id, payload });
    }

    /// The next message to write: answers first, then our own requests as the pipeline has room.
    pub fn poll_message(&mut self, now: Timestamp) -> Option<Message> {
        if !self.greeted {
            return None;
        }
        let message = match self.out.control.pop_front() {
            Some(message) => message,
            None => Message::Request(self.down.next_request(now, &mut self.out)?),
        };
        self.sent = now;
        self.up.drained();
        Some(message)
    }

    /// Payload bytes of the block [`Session::poll_block`] would give: what to ask the bucket for.
    #[must_use]
    pub fn next_block_len(&self) -> Option<u32> {
        self.up
            .peek()
            .filter(|_| self.greeted)
            .map(|block| block.length)
    }

    /// Payload bytes of all requests that may be answered now.
    #[must_use]
    pub fn upload_backlog(&self) -> u64 {
        if self.greeted { self.up.backlog() } else { 0 }
    }

    /// The next block to write. Write what [`Session::poll_message`] has before it: an `lt_donthave` or a choke must not
    /// be overtaken.
    pub fn poll_block(&mut self) -> Option<BlockRef> {
        if !self.greeted {
            return None;
        }
        self.up.drained();
        self.up.pop()
    }

    /// [`Session::poll_message`], then [`Session::poll_block`]: for drivers without a limit on upload.
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<Transmit> {
        match self.poll_message(now) {
            Some(message) => Some(Transmit::Message(message)),
            None => self.poll_block().map(Transmit::Block),
        }
    }

    /// What came in for the shell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When [`Session::take_facts`] should be called: `now` after an edge or 1 MiB, else 5 ms after the first fact.
    #[must_use]
    pub fn facts_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.out.facts.due(now)
    }

    /// All facts since the last call, in order; amounts of one piece are summed up.
    pub fn take_facts(&mut self) -> Vec<ConnFact> {
        self.out.facts.take()
    }

    /// When to call [`Session::on_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let keepalive = self.greeted.then(|| self.sent + KEEPALIVE);
        [Some(self.heard + IDLE), keepalive, self.down.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Keep-alive, request time-out, silence.
    ///
    /// # Errors
    /// [`Violation::Silent`].
    pub fn on_timeout(&mut self, now: Timestamp) -> Result<(), Violation> {
        if now >= self.heard + IDLE {
            return Err(Violation::Silent);
        }
        if self.greeted && now >= self.sent + KEEPALIVE {
            self.sent = now;
            if self.out.control.is_empty() {
                self.out.control.push_back(Message::KeepAlive);
            }
        }
        self.count.timeouts += u64::from(self.down.on_timeout(now, &mut self.out));
        Ok(())
    }

    /// How often each defence fired.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.count
    }

    /// Requests of ours under way, and how many may be.
    #[must_use]
    pub fn in_flight(&self) -> (u32, u32) {
        self.down.in_flight()
    }

    /// Requests of theirs that wait.
    #[must_use]
    pub fn queued_requests(&self) -> usize {
        self.up.queued()
    }

    /// What they draw their blocks from: the pieces announced to them.
    #[must_use]
    pub fn announced(&self) -> &Bitfield {
        self.up.announced()
    }

    /// Measured download rate from this peer, bytes/s.
    #[must_use]
    pub fn download_rate(&self) -> u64 {
        self.down.rate()
    }

    fn check(&self, piece: u32) -> Result<(), Violation> {
        match self.cfg.layout {
            Some(layout) if piece >= layout.piece_count => Err(Violation::NoSuchPiece(piece)),
            Some(_) | None => Ok(()),
        }
    }

    fn event(&mut self, event: Event) {
        let most = if matches!(event, Event::Friends(_)) {
            MOST_FRAMES
        } else {
            MOST_EVENTS
        };
        if self.out.events.len() < most {
            self.out.events.push_back(event);
        } else {
            self.count.events_dropped += 1;
        }
    }

    fn reqq(&self) -> u32 {
        match self.role {
            Role::Master(_) | Role::Guest(_) => self.cfg.limits.reqq_master,
            Role::Peer => self.cfg.limits.reqq_peer,
        }
    }

    fn set_role(&mut self, role: Role) {
        self.role = role;
        self.up.set_reqq(self.reqq());
    }

    fn hello(&self) -> Message {
        let hello = ExtendedHandshake {
            reqq: Some(self.reqq()),
            ..self.cfg.hello.clone()
        };
        Message::Extended {
            id: HANDSHAKE,
            payload: hello.encode().into(),
        }
    }
}
