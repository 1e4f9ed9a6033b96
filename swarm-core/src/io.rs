//! The only door between the brain and a shell: facts come in as [`Input`], decisions go out as [`Output`].
//!
//! Block bytes and single requests never pass here. The shell reports facts about pieces, batched per connection;
//! the brain answers with standing orders, which are idempotent: the latest word about a thing wins.
//! Everything is plain data that serialises, so that a recorded run replays byte for byte.

pub mod friends;

use crate::policy::feed_cap::FeedCap;
use crate::policy::quota::{Book, Month};
use crate::policy::rendezvous::NoDialBack;
use crate::policy::schedule::Window;
use crate::time::Timestamp;
use core::ops::Range;
use friends::{FriendId, FriendsInput, FriendsNote, FriendsOutput};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A swarm, as this node numbers it. Infohashes are attributes of a swarm: a hybrid torrent has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SwarmId(pub u32);

/// One connection, numbered by the shell in the order of their handshakes. Never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// A configured master, numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MasterId(pub u32);

/// What the shell tells the brain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// Something about a swarm.
    Swarm(SwarmId, SwarmFact),
    /// Facts of one connection, in the order in which they happened there.
    Conn(ConnId, Vec<ConnFact>),
    /// A piece changed hands inside the shell's cache.
    Piece(SwarmId, u32, PieceFact),
    /// A dial that [`Output::Dial`] asked for did not lead to a handshake.
    DialFailed(SwarmId, SocketAddr),
    /// Something about a master.
    Master(MasterId, MasterFact),
    /// Something about friends.
    Friends(FriendsInput),
    /// New operator limits, from the configuration or a reload.
    Limits(Limits),
    /// What a feed, by its URL, may cost, from the configuration or a reload. The default: no cap.
    FeedCap(String, FeedCap),
    /// `true`: stop transferring and leave every swarm, keep the catalogue. `false`: go on.
    Paused(bool),
    /// What the operator's clock shows, in the operator's time zone. Told at the start and whenever it shows another
    /// minute, be it the next one or not: a clock that is set, or changes to summer time, needs no word of its own.
    Wall(Wall),
    /// Bytes the line carried since the run began, both directions together. Never less than before.
    Carried(u64),
    /// The book of [`Output::Save`] with this total is durable.
    Saved(u64),
    /// A moment that [`crate::node::Node::poll_timeout`] named has come. Carries nothing; the time is the batch's.
    Timer,
}

/// What the operator's clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// The calendar month.
    pub month: Month,
    /// Minute of the week, 0 (Monday 00:00) to 10,079.
    pub minute: u16,
}

/// Who named a swarm. Promise 4: no swarm is joined without one of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Origin {
    /// The operator, by `slavectl swarms add`.
    User,
    /// A torrent feed, by its URL.
    Feed(String),
    /// A master's own list of torrents.
    Master(MasterId),
    /// A friend that we help there.
    Friend(FriendId),
    /// The operator, by `slavectl rendezvous`: a swarm of slaves, by which they find each other.
    Rendezvous,
}

/// How the shell holds a swarm's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// In the bounded cache: pieces come and go.
    Cache,
    /// Whole and for good, outside the cache: the only thing that may look like a seed.
    Kept,
    /// Not at all: a rendezvous, of which we are a member.
    None,
}

/// Facts about a swarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SwarmFact {
    /// The swarm is known, or known better than before. Repeats merge: origins add up, `pinned` sticks once true.
    Known {
        /// v1 infohash, 20 bytes (of a hybrid: the v1 one). Input to rendezvous hashing and shown to people.
        info_hash: [u8; 20],
        /// Display name.
        name: String,
        /// Piece length and total length in bytes; `None` until the metadata of a magnet link arrives.
        geometry: Option<Geometry>,
        /// BEP 27.
        private: bool,
        /// Where the content lives.
        hold: Hold,
        /// Who named it.
        origin: Origin,
        /// Never left by the brain's own decision (the cache cap still holds).
        pinned: bool,
    },
    /// This origin names the swarm no longer; with the last origin gone the swarm is left and forgotten.
    Unnamed(Origin),
    /// The operator wants it left: forgotten, whatever names it, until named again by the user.
    Leave,
    /// A tracker's scrape (BEP 48; `downloaders` by BEP 21), or the counts in an announce reply. `None` = not said.
    Scraped {
        /// Seeds.
        complete: Option<u32>,
        /// Peers that are no seeds.
        incomplete: Option<u32>,
        /// Of those, the ones that still download.
        downloaders: Option<u32>,
    },
    /// Addresses of peers, already passed by the address scope rule.
    Peers(Vec<SocketAddr>, PeerSource),
    /// Somebody announced at our own announce URL, which is this rendezvous'.
    Announced {
        /// The address that the request came from, and the port that it names.
        from: SocketAddr,
        /// Our own address, which it came to.
        at: IpAddr,
        /// `event` was `stopped`.
        stopped: bool,
    },
}

/// Where a peer's address came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PeerSource {
    /// The operator (`--peer`). Dialled first, redialled for as long as the swarm is joined.
    User,
    /// A tracker.
    Tracker,
    /// Peer exchange (BEP 11).
    Pex,
    /// A magnet link's `x.pe`.
    Magnet,
}

/// Piece length and total length of a torrent's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Bytes in every piece but the last.
    pub piece_length: u32,
    /// Bytes in all.
    pub total: u64,
}

/// Facts of one connection. The first is always `Connected`, the last always `Closed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConnFact {
    /// Both BitTorrent handshakes are done. The session sends nothing until [`Order::Hello`].
    Connected {
        /// The swarm whose infohash was named.
        swarm: SwarmId,
        /// The far end.
        addr: SocketAddr,
        /// They dialled us.
        incoming: bool,
        /// Their peer id.
        peer_id: [u8; 20],
        /// Both sides speak BEP 6.
        fast: bool,
        /// Both sides speak BEP 10.
        extended: bool,
    },
    /// Their BEP 10 handshake.
    Extended(Extended),
    /// Their first BEP 10 handshake has a sound recognition field (friends.md, 2.1): it is a slave. `true`: in open mode.
    Slave(bool),
    /// Their whole set, in wire order (checked for length and spare bits); replaces what was known.
    Bitfield(Vec<u8>),
    /// They have every piece (BEP 6, or a full bitfield).
    HaveAll,
    /// They have nothing (BEP 6).
    HaveNone,
    /// They have this piece now.
    Have(u32),
    /// They have this piece no longer (BEP 54).
    DontHave(u32),
    /// They want (or no longer want) what we have.
    Interested(bool),
    /// They choke (or unchoke) us.
    Choking(bool),
    /// They serve us this piece even while they choke us (BEP 6).
    AllowedFast(u32),
    /// Requests for blocks of this piece entered our queue.
    Requested {
        /// Piece index.
        piece: u32,
        /// Bytes asked for.
        bytes: u32,
    },
    /// Blocks of this piece were handed to the socket.
    Served {
        /// Piece index.
        piece: u32,
        /// Payload bytes.
        bytes: u32,
    },
    /// Requests were refused by the session: not announced, not held, or over the queue's bound.
    Refused {
        /// Piece index.
        piece: u32,
        /// Bytes refused.
        bytes: u32,
    },
    /// Blocks we asked for arrived. `redundant` counts bytes nobody needed any more.
    Received {
        /// Piece index.
        piece: u32,
        /// Payload bytes that were needed.
        bytes: u32,
        /// Payload bytes that were not.
        redundant: u32,
    },
    /// The session has less than `low-water` bytes of leases left to request; more would keep the pipe full.
    LeaseLow {
        /// Bytes leased and not yet received.
        outstanding: u64,
        /// Measured download rate from this peer, bytes/s.
        rate: u64,
    },
    /// Every block of the leased range arrived (the piece may still wait for other ranges).
    LeaseDone {
        /// Piece index.
        piece: u32,
    },
    /// The lease is over without all its blocks: what arrived stays in the piece's buffer.
    LeaseLost {
        /// Piece index.
        piece: u32,
        /// Why.
        why: LeaseEnd,
    },
    /// The connection is gone. Everything announced to it is forgotten, every lease it had is lost (no `LeaseLost` follows).
    Closed(CloseReason),
}

/// Why a lease ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseEnd {
    /// They choked us (and it was no allowed-fast piece).
    Choked,
    /// They rejected it (BEP 6), or said `lt_donthave`.
    Rejected,
    /// No block came for the time-out of the session.
    TimedOut,
    /// The shell's cache had no permit, or could not make room.
    NoRoom,
    /// [`Order::Revoke`] was carried out.
    Revoked,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// They closed, or the network did.
    Remote,
    /// We asked for it by [`Order::Close`].
    Ours,
    /// They broke the protocol.
    Protocol,
    /// Nothing was heard for the idle time-out, or the handshake took too long.
    Silent,
    /// They did not read what we sent, or their mailbox overflowed.
    Stuck,
}

/// What matters of a BEP 10 handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extended {
    /// Requests they queue, clamped by bt-wire.
    pub reqq: Option<u32>,
    /// They honour `lt_donthave` (BEP 54).
    pub donthave: bool,
    /// They speak `ut_pex` (BEP 11).
    pub pex: bool,
    /// They say they will not download (BEP 21).
    pub upload_only: bool,
    /// `bs_repeater`: 1 = free repeater (no demand of its own), 2 = serving a master.
    pub repeater: Option<u8>,
    /// `p`: the port they listen on.
    pub listen_port: Option<u16>,
    /// `v`: client name and version, as sent.
    pub client: Option<String>,
}

/// Who gave of a piece, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contributor {
    /// The connection: it may be gone by now.
    pub conn: ConnId,
    /// Bytes of the blocks that it was the first to bring whole: none, if it wrote a part of one.
    pub bytes: u32,
}

/// Facts about a piece in the shell's cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceFact {
    /// All blocks were there and the hash was compared. On `ok`, HAVE already went to the connections that the
    /// fetch order named and that were still open. Otherwise the buffer is thrown away and its permit returned.
    Checked {
        /// The hash matched.
        ok: bool,
        /// Connections that gave blocks.
        contributors: Vec<Contributor>,
    },
    /// The last clone of the piece's bytes is gone: its permit is free. Follows [`Output::Retire`], a failed
    /// check and an abandoned fetch.
    Released,
    /// A held piece could not be read back (disk error): treat it as gone, `Released` follows.
    Damaged,
}

/// Facts about a master, the user's ordinary client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MasterFact {
    /// It is configured so, or anew.
    Configured {
        /// The operator's name for it.
        name: String,
        /// Share of our upload, 0 to 1, while it misses something.
        share: f64,
        /// Our key among the slaves of one master, for rendezvous hashing.
        slave_key: u64,
    },
    /// Its name resolves to these (address and peer port). Peers from these addresses are it.
    Resolved(Vec<SocketAddr>),
    /// The peer port its RPC reported: decides when several peers come from its address.
    PeerPort(u16),
    /// Its RPC was asked to dial us for this swarm; nothing to decide, shown to people.
    Invited(SwarmId),
    /// It is configured no longer.
    Removed,
}

/// The operator's limits. `None` = unlimited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Upload, bytes/s, payload and protocol overhead.
    pub upload: Option<u64>,
    /// Download, bytes/s.
    pub download: Option<u64>,
    /// Both directions together in a calendar month, bytes.
    pub month: Option<u64>,
    /// Windows of the week with rates of their own; the first that holds the minute decides.
    pub schedule: Vec<Window>,
    /// Connections in all.
    pub connections: u32,
    /// `cache.size`, bytes.
    pub cache: u64,
    /// Bytes of it that may lie in memory; where this is less than `cache` the rest is a disk tier and one
    /// piece stays free for moving.
    pub cache_memory: u64,
    /// `repeater.enabled`.
    pub repeat: bool,
    /// `repeater.max_swarms`.
    pub max_swarms: u32,
}

impl Default for Limits {
    /// An unlimited line, 200 connections, four swarms to repeat, and no cache yet.
    fn default() -> Self {
        Self {
            upload: None,
            download: None,
            month: None,
            schedule: Vec::new(),
            connections: 200,
            cache: 0,
            cache_memory: 0,
            repeat: true,
            max_swarms: 4,
        }
    }
}

/// What the brain decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// A standing order to one connection.
    Order(ConnId, Order),
    /// Dial this address and hand-shake for this swarm.
    Dial(SwarmId, SocketAddr),
    /// Join: listen for its infohash, announce to its trackers.
    Join(SwarmId),
    /// Leave: `stopped` to its trackers, no more hand-shakes for it. Its connections were ordered closed before.
    Leave(SwarmId),
    /// Forget it: no origin names it any more.
    Forget(SwarmId),
    /// Scrape its trackers.
    Scrape(SwarmId),
    /// Ask its trackers for more peers, as soon as their intervals allow.
    WantPeers(SwarmId),
    /// What to tell its trackers: bytes left = total − held (promise 6).
    Left(SwarmId, u64),
    /// The cache gives up this piece once its last clone is gone; [`PieceFact::Released`] follows. Also abandons a
    /// fetch in progress.
    Retire(SwarmId, u32),
    /// Weights and rates of the bucket tree, latest wins.
    Rates(Rates),
    /// A decision about friends.
    Friends(FriendsOutput),
    /// Keep this book durably, then answer [`Input::Saved`]. A later one replaces one that is not written yet. The next
    /// run gets the last one that was written.
    Save(Book),
    /// The line may carry so many bytes in this run, all together (as [`Input::Carried`] counts); `None` = no bound.
    /// Connections keep [`crate::policy::quota::FAREWELL`] away from it. Until the first one: no bound if
    /// [`Limits::month`] is `None`, else nothing.
    Allow(Option<u64>),
    /// Our announce URL names this endpoint (`true`), or names it no longer.
    Listed(SwarmId, SocketAddr, bool),
    /// Something worth a log line or a counter.
    Note(Note),
}

/// Standing orders to one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Begin: send our BEP 10 handshake and this set. Exactly one, first.
    Hello {
        /// What to show.
        have: Shown,
        /// What it is to us; decides the `reqq` we announce and the bucket it draws from.
        role: Role,
    },
    /// It turned out to be this (a master recognised later).
    Role(Role),
    /// Unchoke it (`false`: choke it; its queue is rejected or dropped). An unchoke that stands is said anew.
    Unchoke(bool),
    /// Tell it that we are (not) interested. Interest that stands already is taken back and said anew.
    Interested(bool),
    /// Send HAVE for a held piece. From now on its requests for it are answered.
    Announce(u32),
    /// Take it back: `lt_donthave` where it is honoured, then reject what is outstanding. No request for it is
    /// answered any more.
    Withdraw(u32),
    /// Request these blocks. Several leases queue up in order.
    Fetch(Fetch),
    /// Give up the lease on this piece: cancel what is outstanding.
    Revoke(u32),
    /// Close the connection.
    Close,
}

/// What we show of ourselves at the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// Nothing: Have None, or an explicit all-zero bitfield without BEP 6 (rqbit wants one).
    None,
    /// Kept content: Have All or a full bitfield.
    All,
    /// The swarm's geometry is not known yet: nothing is sent, only metadata is exchanged.
    Unknown,
}

/// What a connection is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// A peer of the swarm.
    Peer,
    /// Our master: we give and never request (promise 3).
    Master(MasterId),
    /// A friend's master, or its slave that fetches for it: we give what is reserved, and never request.
    Guest(FriendId),
}

/// A lease: these blocks of this piece are this connection's to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Piece index.
    pub piece: u32,
    /// Blocks of 16 KiB within the piece.
    pub blocks: Range<u32>,
    /// Connections that get HAVE the instant the piece verifies, without a round trip through the brain.
    pub announce: Arc<[ConnId]>,
}

/// The upload and download bucket tree: global → class → swarm → peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Upload limit, bytes/s.
    pub upload: Option<u64>,
    /// Download limit, bytes/s.
    pub download: Option<u64>,
    /// Of the upload line, the share guaranteed to masters while both sides have demand, 0 to 1. What one side
    /// cannot use goes to the other.
    pub master_share: f64,
    /// Of what they leave, the share guaranteed to friends' masters.
    pub guest_share: f64,
}

/// Something worth a log line or a counter. The shell words it; the brain only says what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Note {
    /// A swarm was joined: its need score and who named it.
    Joined(SwarmId, f64),
    /// A swarm was left: why.
    Left(SwarmId, LeaveReason),
    /// An address was refused by the dial policy, or has a connection already.
    NotDialled(SocketAddr, Defence),
    /// A defence fired against a connection.
    Fired(ConnId, Defence),
    /// A peer's address was banned for this swarm (bad data).
    Banned(SwarmId, IpAddr),
    /// A master was recognised on this connection.
    MasterFound(MasterId, ConnId),
    /// A torrent was refused for the free repeater or at all, with the cache size it would need, in bytes.
    TooBig(SwarmId, u64),
    /// Bytes nobody could use: failed hash or redundant.
    Wasted(SwarmId, u64),
    /// Something between friends.
    Friends(FriendsNote),
    /// `true`: the month's quota is used up, and everything stops. `false`: there is a new one.
    QuotaSpent(bool),
}

/// Why a swarm was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaveReason {
    /// The operator said so, or the last origin went.
    Asked,
    /// Paused.
    Paused,
    /// The month's quota is used up.
    Quota,
    /// It returned too little for what was spent on it.
    PoorReturn,
    /// It gave us more in an hour than it got.
    Harm,
    /// Its feed has a smaller cap now.
    FeedCap,
    /// Another swarm needs us more.
    Outranked,
    /// Nobody there wants anything from us.
    NoDemand,
}

/// Defences that the brain itself fires; each has a counter of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Defence {
    /// Dial back-off per address.
    DialBackoff,
    /// Already connected to this address for this swarm.
    AlreadyConnected,
    /// The same peer id is connected already (self connection, or a duplicate).
    DuplicatePeer,
    /// Over the connection limit.
    ConnectionLimit,
    /// A hash failure pinned on one contributor.
    SmartBan,
    /// More than 1.1 copies of a piece to one address.
    CopyLimit,
    /// A commitment it never used up: choked and closed.
    StaleCommitment,
    /// The swarm is over its stop-loss.
    StopLoss,
    /// Known addresses per swarm are bounded.
    AddressLimit,
    /// A peer of a rendezvous that is no slave: let go.
    Stranger,
    /// Who announced at our announce URL is not dialled back.
    NoDialBack(NoDialBack),
}

/// One batch of inputs, as the driver takes them from its channels: recorded and replayed as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The moment of the whole batch.
    pub now: Timestamp,
    /// In the order taken.
    pub inputs: Vec<Input>,
}
