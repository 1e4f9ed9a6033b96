//! The friends' part of the door: facts about friends and their messages come in, decisions about help go out.
//!
//! The brain neither signs nor checks signatures, and sees no key: the shell numbers friends, verifies what they sign, and
//! carries out [`FriendsOutput::Sign`] durably before it sends. Byte totals are at most 2^63 − 1 (spec of the IOU).

use crate::io::{ConnId, MasterId, SwarmId};
use crate::policy::delivery::Delivery;
use crate::policy::friend_dial::NoDial;
use crate::policy::help::Decline;
use crate::policy::pool::NetworkTag;
use crate::policy::tit_for_tat::{Nearness, Standing, Turn};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// A friend or acquaintance, as the shell numbers it. Never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FriendId(pub u32);

/// A help, unique within a pair of friends: the lowest bit is 0 when the asker has the smaller key of the two, else 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HelpId(pub u32);

/// With whom help is exchanged: `friends.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FriendsMode {
    /// With nobody.
    #[default]
    Off,
    /// With those whose code we added.
    Known,
    /// With acquaintances, too.
    Open,
}

/// The operator's limits for friends, from `[friends]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendsLimits {
    /// `friends.mode`.
    pub mode: FriendsMode,
    /// `friends.window`, bytes: unsigned help to one friend before pausing (or 4 s of the rate, if more).
    pub window: u64,
    /// `friends.credit`, bytes: signed help given minus received, per friend, while others want the line.
    pub credit: u64,
    /// `friends.open_pool`, bytes: what all acquaintances have together.
    pub open_pool: u64,
    /// `friends.private_torrents`: private torrents, too; by RPC and relayed only.
    pub private_torrents: bool,
}

impl Default for FriendsLimits {
    /// Off, with the contract's figures.
    fn default() -> Self {
        Self {
            mode: FriendsMode::Off,
            window: 4 << 20,
            credit: 64 << 20,
            open_pool: 64 << 20,
            private_torrents: false,
        }
    }
}

/// What the shell tells about friends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FriendsInput {
    /// New limits, from a reload.
    Limits(FriendsLimits),
    /// Where friends and their masters can reach us.
    Reach(Vec<SocketAddr>),
    /// Something about one friend.
    Friend(FriendId, FriendFact),
    /// A session stands on this BitTorrent connection, with a friend or an acquaintance.
    Stood(ConnId),
    /// What a master's RPC can do for us.
    Rpc(MasterId, RpcPowers),
    /// A look at a master's peers of one swarm.
    MasterPeers(SwarmId, MasterId, Vec<MasterPeer>),
    /// The operator asks for help with the torrent of this infohash (`slavectl aid ask`), for so many bytes; `None` = all
    /// that a master of ours lacks there. Lasts until [`FriendsNote::AskDone`].
    Ask([u8; 20], Option<u64>),
    /// The operator wants no help with this torrent, neither to us nor from us, until it asks again.
    Stop([u8; 20]),
    /// The operator's word about this torrent no longer counts.
    ByItself([u8; 20]),
}

/// Facts about one friend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FriendFact {
    /// It is a friend, or an acquaintance; what the ledger and [`FriendsOutput::Keep`] say. Repeats replace.
    Known {
        /// Friend or acquaintance.
        nearness: Nearness,
        /// The ledger's totals, and what was kept.
        standing: Standing,
    },
    /// It is neither any more.
    Removed,
    /// A session stands. Nothing is signed before [`FriendFact::Synced`].
    Online {
        /// Our key is the smaller of the two.
        smaller: bool,
        /// Where its authenticated connection comes from.
        ip: IpAddr,
        /// The /24 or /56 of that.
        network: NetworkTag,
        /// Where it listens, if we dialled it and completed the session there.
        endpoint: Option<SocketAddr>,
    },
    /// Both sides showed what they hold; the ledger's totals after that.
    Synced {
        /// Largest total it signed for us.
        given: u64,
        /// Largest total we signed for it.
        received: u64,
    },
    /// We dialled it here and completed a session.
    Reached(SocketAddr),
    /// The session is over.
    Offline,
    /// This BitTorrent connection is the friend's own slave's.
    Linked(ConnId),
    /// A message of its.
    Message(HelpMessage),
    /// An IOU of its for us, verified, of this total, and the help that it pays for first. Whatever it says, the largest
    /// counts.
    Iou(u64, Option<HelpId>),
    /// What [`FriendsOutput::Sign`] ordered is durable, and on its way.
    Signed(u64),
    /// The metadata that [`FriendsOutput::FetchMeta`] ordered cannot be had, or is not the torrent's.
    MetaFailed(HelpId),
}

/// What a master's RPC can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RpcPowers {
    /// It can be told to dial an address.
    pub dials: bool,
    /// What it shows of its peers.
    pub witness: WitnessKind,
}

/// What a master's RPC shows of its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WitnessKind {
    /// Nothing.
    #[default]
    None,
    /// Payload bytes per peer (qBittorrent).
    Bytes,
    /// Rates per peer (Transmission).
    Rates,
}

/// One peer of a master's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterPeer {
    /// Its address.
    pub addr: SocketAddr,
    /// Payload bytes that the master had from it ([`WitnessKind::Bytes`]), or bytes/s ([`WitnessKind::Rates`]).
    pub value: u64,
}

/// What friends say to each other about a help. Sets of pieces rise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelpMessage {
    /// A slave whose master is short of data asks.
    Ask(Ask),
    /// A helper is ready. Nothing is held for it; it expires after 10 s.
    Offer {
        /// The help.
        id: HelpId,
        /// Bytes/s.
        rate: u64,
        /// Bytes of reservations that may stand at once.
        room: u64,
        /// The deliveries that the helper can take part in.
        deliveries: Vec<Delivery>,
        /// Where it listens; empty: it cannot be reached.
        at: Vec<SocketAddr>,
    },
    /// No offer.
    Decline {
        /// The help.
        id: HelpId,
        /// Why.
        why: Decline,
    },
    /// The asker gives these pieces to the helper, on top of those before.
    Reserve {
        /// The help.
        id: HelpId,
        /// The pieces.
        pieces: Vec<u32>,
    },
    /// How far the helper is.
    Progress {
        /// The help.
        id: HelpId,
        /// Pieces that it holds, not told before.
        held: Vec<u32>,
        /// Pieces that it delivered whole, not told before.
        delivered: Vec<u32>,
        /// Payload bytes that it delivered in this help, by its own count.
        bytes: u64,
    },
    /// What the helper is at, and what it could begin.
    Fetching {
        /// The help.
        id: HelpId,
        /// Pieces that it is fetching and does not hold yet, all of them.
        now: Vec<u32>,
        /// Pieces not reserved with it that peers with nothing else to bring would send it at once.
        next: Vec<u32>,
    },
    /// Pieces go back, from either side.
    Release {
        /// The help.
        id: HelpId,
        /// The pieces.
        pieces: Vec<u32>,
    },
    /// From the helper: somebody who may be the master came from here. From the asker: it is the master.
    Arrived {
        /// The help.
        id: HelpId,
        /// The far end of the helper's connection, as the helper sees it.
        from: SocketAddr,
    },
    /// The help ends, with all that is still reserved.
    Stop {
        /// The help.
        id: HelpId,
        /// Why.
        why: StopReason,
    },
}

/// An ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The help that it begins.
    pub id: HelpId,
    /// v1 infohash.
    pub info_hash: [u8; 20],
    /// Bytes of the torrent's content.
    pub size: u64,
    /// Bytes of a piece.
    pub piece_length: u32,
    /// Bytes wanted.
    pub wanted: u64,
    /// Where the master listens.
    pub master: Vec<SocketAddr>,
    /// The deliveries that the asker can take part in.
    pub deliveries: Vec<Delivery>,
    /// The torrent is private (BEP 27).
    pub private: bool,
}

/// Why a help ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StopReason {
    /// Nothing more is wanted.
    Done,
    /// The sender knows no help of this id.
    UnknownId,
    /// What was given stays unsigned.
    Unpaid,
    /// No delivery worked.
    NoDelivery,
    /// The sender goes away, or wants its line.
    Leaving,
    /// Any other reason.
    Refused,
}

/// What the brain decides about friends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FriendsOutput {
    /// Send this in the friend's session.
    Send(FriendId, HelpMessage),
    /// Make durable, sign and send: we owe this friend so many bytes in all, first for this help. Answered by
    /// [`FriendFact::Signed`].
    Sign(FriendId, u64, Option<HelpId>),
    /// Keep this about the friend with the ledger; later ones replace it. Bytes delivered to it, and bytes disputed.
    Keep(FriendId, u64, u64),
    /// Get the metadata of this help's torrent from the friend, check it against the infohash, read its private flag
    /// first, and make the swarm [`crate::io::SwarmFact::Known`] with [`crate::io::Origin::Friend`].
    FetchMeta {
        /// From whom.
        friend: FriendId,
        /// For which help.
        help: HelpId,
        /// Of which torrent.
        info_hash: [u8; 20],
    },
    /// Dial one of these and complete a session with the friend there; answered by [`FriendFact::Reached`].
    Reach(FriendId, Vec<SocketAddr>),
    /// Tell the master by its RPC to dial this address for this swarm.
    Invite(MasterId, SwarmId, SocketAddr),
    /// Send this connection one `ut_pex` message: `added` with one `added.f` byte of 0 each, and `dropped`.
    Introduce {
        /// Our master's connection.
        conn: ConnId,
        /// At most 50.
        added: Vec<SocketAddr>,
        /// At most 50.
        dropped: Vec<SocketAddr>,
    },
    /// Look at this master's peers of this swarm once a second (`true`), or no longer.
    Watch(MasterId, SwarmId, bool),
}

/// What happened between friends, for the log and the counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FriendsNote {
    /// We asked for help in this swarm.
    Asked(FriendId, SwarmId),
    /// It declined.
    Declined(FriendId, Decline),
    /// It helps us, at this rate in bytes/s.
    HelpBegins(FriendId, SwarmId, u64),
    /// Its help is over: bytes it claims, bytes we credited.
    HelpEnded(FriendId, SwarmId, u64, u64),
    /// We declined its ask.
    WeDeclined(FriendId, Decline),
    /// It asked for so many bytes, and we offered this rate in bytes/s.
    WeOffer(FriendId, u64, u64),
    /// We help it.
    WeHelp(FriendId, SwarmId),
    /// Our help is over: bytes we gave, bytes it signed for.
    WeHelped(FriendId, u64, u64),
    /// Its master came to us, or we reached it; or it says that our master came to it.
    Arrived(FriendId, SwarmId, SocketAddr),
    /// It brings us pieces itself, and we hand them on.
    Relays(FriendId, SwarmId),
    /// What the operator asked for with [`FriendsInput::Ask`] is had, or cannot be.
    AskDone([u8; 20]),
    /// A defence fired against it.
    Fired(FriendId, FriendDefence),
}

/// Defences against friends; each has a counter of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FriendDefence {
    /// It had a window unsigned: nothing more is announced until it signs.
    Window,
    /// Others wait for the line, and it does not come first.
    Waits(Turn),
    /// It stopped signing: the help ended, and so many bytes are disputed.
    Disputed(u64),
    /// The pool of acquaintances had no more for it.
    Pool,
    /// It reserved more than the room it was offered, or pieces that do not exist.
    OverRoom,
    /// It made no progress: its reservations were taken back.
    NoProgress,
    /// It claims more than was seen to come from it, bytes.
    Claims(u64),
    /// An IOU below what it signed before: stale, ignored (row P5).
    StaleIou,
    /// The master that it named is not dialled (row P16).
    NoDial(NoDial),
    /// A message for a help that we do not know, or out of turn.
    OutOfTurn,
    /// A private torrent: nothing was said, or it was declined (row P18).
    Private,
    /// Our total to it cannot grow (row P10).
    TotalFull,
}

impl FriendDefence {
    /// The name of its counter: of the kind, without the figures.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Window => "Window",
            Self::Waits(_) => "Waits",
            Self::Disputed(_) => "Disputed",
            Self::Pool => "Pool",
            Self::OverRoom => "OverRoom",
            Self::NoProgress => "NoProgress",
            Self::Claims(_) => "Claims",
            Self::StaleIou => "StaleIou",
            Self::NoDial(_) => "NoDial",
            Self::OutOfTurn => "OutOfTurn",
            Self::Private => "Private",
            Self::TotalFull => "TotalFull",
        }
    }
}
