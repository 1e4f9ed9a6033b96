//! What people see of the brain: a snapshot for `slavectl`, the API and the metrics.
//!
//! Field names follow the contract's `status`; the shell adds what only it knows (trackers, RPC, listen addresses).

use crate::io::friends::{FriendId, HelpId};
use crate::io::{ConnId, MasterId, Origin, SwarmId};
use crate::policy::quota::Month;
use crate::policy::tit_for_tat::{Nearness, Standing, Turn};
use serde::Serialize;
use std::net::SocketAddr;

/// The whole node at one moment. Byte counts are payload, this run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeView {
    /// Stopped by the operator.
    pub paused: bool,
    /// The month's quota.
    pub month: MonthView,
    /// Upload rate in force, bytes/s, by limit and schedule; `None` = unlimited.
    pub upload_limit_bps: Option<u64>,
    /// Download rate in force.
    pub download_limit_bps: Option<u64>,
    /// Payload bytes sent.
    pub uploaded_bytes: u64,
    /// Payload bytes received and needed.
    pub downloaded_bytes: u64,
    /// Payload bytes received that nobody could use: redundant, or of a piece whose hash failed.
    pub wasted_bytes: u64,
    /// Payload sent, bytes/s, averaged over some seconds.
    pub upload_rate_bps: u64,
    /// Payload received, bytes/s, averaged over some seconds.
    pub download_rate_bps: u64,
    /// What the upload line can carry, bytes/s: the limit, or the probed capacity when there is none.
    pub upload_capacity_bps: u64,
    /// Open connections.
    pub connections: u32,
    /// The cache.
    pub cache: CacheView,
    /// Every swarm known, by number.
    pub swarms: Vec<SwarmView>,
    /// Every master, by number.
    pub masters: Vec<MasterView>,
    /// Friends, and the help between us.
    pub aid: AidView,
}

/// The month's quota. Bytes are everything the line carries, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MonthView {
    /// The month the operator's clock shows; `None` before it was told.
    pub month: Option<Month>,
    /// The quota; `None` = unlimited.
    pub limit_bytes: Option<u64>,
    /// Used in this month. After a kill, what had been reserved counts as used.
    pub used_bytes: u64,
    /// It is used up: everything stopped until the next month, or a larger quota.
    pub spent: bool,
}

/// The cache as the brain accounts for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheView {
    /// The hard cap, bytes.
    pub limit_bytes: u64,
    /// Permits taken, bytes: being fetched, held, and retired but not yet released.
    pub used_bytes: u64,
    /// Most that `used_bytes` ever was.
    pub peak_bytes: u64,
    /// Pieces held.
    pub pieces: u32,
}

/// Where a swarm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SwarmState {
    /// Known, not joined: waiting for its scrape, or other swarms need us more.
    Known,
    /// Joined.
    Joined,
    /// Left for a while because it returned too little.
    Resting,
    /// Too big for the cache.
    TooBig,
}

/// One term of a swarm's need score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NeedTerm {
    /// What it is, in a few words.
    pub name: &'static str,
    /// What was observed; `None` = not known.
    pub value: Option<f64>,
    /// By how much it multiplies the score (the first term: what it contributes).
    pub weight: f64,
}

/// One swarm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SwarmView {
    /// Its number.
    pub id: SwarmId,
    /// v1 infohash.
    pub info_hash: [u8; 20],
    /// Display name.
    pub name: String,
    /// Where it stands.
    pub state: SwarmState,
    /// Need score: the higher, the sooner it is joined.
    pub need: f64,
    /// The score term by term: their weights multiplied are `need`.
    pub need_terms: Vec<NeedTerm>,
    /// Who named it.
    pub origins: Vec<Origin>,
    /// Never left by our own decision.
    pub pinned: bool,
    /// BEP 27.
    pub private: bool,
    /// Kept whole, outside the cache.
    pub kept: bool,
    /// It is a rendezvous.
    pub meeting: Option<MeetingView>,
    /// Pieces in all, once the geometry is known.
    pub total_pieces: Option<u32>,
    /// Piece length in bytes, once the geometry is known.
    pub piece_length: Option<u32>,
    /// Connections.
    pub peers: u32,
    /// Of those, the ones that want something of us.
    pub interested_peers: u32,
    /// Addresses known.
    pub known_addresses: u32,
    /// Pieces held in the cache.
    pub held_pieces: u32,
    /// Pieces being fetched.
    pub fetching_pieces: u32,
    /// Permits taken, bytes.
    pub used_bytes: u64,
    /// Payload sent.
    pub uploaded_bytes: u64,
    /// Payload received and needed.
    pub downloaded_bytes: u64,
    /// Of `uploaded_bytes`, what went to masters.
    pub to_master_bytes: u64,
    /// Payload nobody could use.
    pub wasted_bytes: u64,
    /// Its connections.
    pub peer_list: Vec<PeerView>,
}

/// What a rendezvous shows beyond an ordinary swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MeetingView {
    /// Connections that are slaves.
    pub members: u32,
    /// Endpoints that our announce URL names.
    pub listed: u32,
    /// Peers let go as strangers, this run.
    pub strangers_let_go: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerView {
    /// Its number.
    pub conn: ConnId,
    /// Where it is.
    pub addr: SocketAddr,
    /// Client name, as it says; empty when it does not.
    pub client: String,
    /// Our master, if it is one.
    pub master: Option<MasterId>,
    /// `I` it dialled us, `S` seed, `R` repeater, `u` it is unchoked by us, `i` it is interested, `U` it unchokes us,
    /// `W` we are interested, `d` it honours `lt_donthave`.
    pub flags: String,
    /// Pieces it has.
    pub have_pieces: u32,
    /// Payload to it, bytes/s.
    pub up_rate_bps: u64,
    /// Payload from it, bytes/s.
    pub down_rate_bps: u64,
    /// Payload to it.
    pub uploaded_bytes: u64,
    /// Payload from it.
    pub downloaded_bytes: u64,
}

/// One master.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MasterView {
    /// Its number.
    pub id: MasterId,
    /// The operator's name for it.
    pub name: String,
    /// Where it is looked for.
    pub addresses: Vec<SocketAddr>,
    /// Connected anywhere, complete everywhere, or not reached.
    pub state: MasterState,
    /// Its share of our upload while it misses something, 0 to 1.
    pub share: f64,
    /// Pieces it lacks, over all joined swarms where it was seen; `None` = it was seen nowhere.
    pub missing_pieces: Option<u32>,
    /// Payload sent to it, this run.
    pub to_master_bytes: u64,
}

/// How we stand with a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MasterState {
    /// Its name resolves to nothing yet.
    Unresolved,
    /// No connection.
    Unreachable,
    /// Connected, and it misses something.
    Connected,
    /// Connected, and it misses nothing.
    Complete,
}

/// Friends, and the help between us.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AidView {
    /// Friends and acquaintances, by number.
    pub friends: Vec<FriendView>,
    /// Helps that we asked for, then those that we give.
    pub helps: Vec<HelpView>,
    /// The operator's word, by infohash.
    pub wishes: Vec<WishView>,
    /// Swarms where a master of ours lacks something.
    pub needs: Vec<NeedView>,
    /// What the pool of acquaintances holds.
    pub pool_bytes: u64,
}

/// The operator's word about help with one torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WishView {
    /// v1 infohash.
    pub info_hash: [u8; 20],
    /// No help with it; else help is asked for.
    pub stopped: bool,
    /// Bytes of help asked for and not had; `None` = until the master has everything.
    pub left_bytes: Option<u64>,
}

/// A swarm where a master of ours lacks something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NeedView {
    /// Where.
    pub swarm: SwarmId,
    /// Which master; the first of several.
    pub master: MasterId,
    /// What it lacks.
    pub missing_bytes: u64,
    /// Bytes/s that it gains.
    pub gains_bps: u64,
    /// That is so slow that help is asked for by itself.
    pub short: bool,
}

/// One friend or acquaintance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FriendView {
    /// Its number.
    pub id: FriendId,
    /// Friend or acquaintance.
    pub nearness: Nearness,
    /// A session stands.
    pub online: bool,
    /// What stands between us, bytes.
    pub standing: Standing,
    /// What we owe it and have not signed for yet.
    pub unsigned_bytes: u64,
}

/// One help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HelpView {
    /// With whom.
    pub friend: FriendId,
    /// Its number.
    pub id: HelpId,
    /// Where; `None`: the swarm is not known yet.
    pub swarm: Option<SwarmId>,
    /// We give it.
    pub given: bool,
    /// Where it stands.
    pub state: HelpState,
    /// Pieces reserved and not delivered.
    pub reserved_pieces: u32,
    /// What the helper counts as delivered.
    pub claimed_bytes: u64,
    /// What the asker signed for (seen by the helper), or credits (seen by the asker).
    pub signed_bytes: u64,
    /// Whose turn it is, of helps that we give.
    pub turn: Option<Turn>,
}

/// Where a help stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HelpState {
    /// We asked, and wait for the answer.
    Asked,
    /// We offered.
    Offered,
    /// Pieces were reserved.
    Running,
    /// Nothing more is reserved; what is under way is still credited.
    Ending,
}
