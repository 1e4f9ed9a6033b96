//! What a peer may not do, and how often each defence fired.

use bt_wire::bitfield::BitfieldError;
use bt_wire::extension::ExtensionError;
use bt_wire::message::BlockRef;

use crate::io::CloseReason;

/// Why the connection has to be closed. [`Violation::bans`] says whether the address is to be refused for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A bitfield of the wrong length, or with a spare bit set (row B2). Drop.
    #[error(transparent)]
    BadBitfield(#[from] BitfieldError),
    /// A piece index the torrent does not have. Drop.
    #[error("the torrent has no piece {0}")]
    NoSuchPiece(u32),
    /// A request that is not inside its piece (row B4). Drop.
    #[error("request for {} bytes at {} is outside piece {}", .0.length, .0.begin, .0.piece)]
    BadRequest(BlockRef),
    /// A block that is not inside its piece. Drop.
    #[error("block of {} bytes at {} is outside piece {}", .0.length, .0.begin, .0.piece)]
    BadBlock(BlockRef),
    /// An extended handshake that cannot be read (row B10). Drop.
    #[error(transparent)]
    BadExtended(#[from] ExtensionError),
    /// Requests without end, and our answers not read (row B5). Ban.
    #[error("requests without end, and reads no answer")]
    RequestFlood,
    /// Blocks without end that nobody asked for. Ban.
    #[error("sends blocks that were not asked for")]
    Unrequested,
    /// Nothing was heard for 240 s. Drop.
    #[error("nothing was heard for 240 s")]
    Silent,
}

impl Violation {
    /// Whether this was malice rather than a mistake: refuse its address for a while.
    #[must_use]
    pub fn bans(&self) -> bool {
        matches!(self, Self::RequestFlood | Self::Unrequested)
    }

    /// What to tell the brain.
    #[must_use]
    pub fn close_reason(&self) -> CloseReason {
        match self {
            Self::Silent => CloseReason::Silent,
            Self::RequestFlood => CloseReason::Stuck,
            Self::BadBitfield(_)
            | Self::NoSuchPiece(_)
            | Self::BadRequest(_)
            | Self::BadBlock(_)
            | Self::BadExtended(_)
            | Self::Unrequested => CloseReason::Protocol,
        }
    }
}

/// How often each defence fired, and what was tolerated, on this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests while we choked them (row B8: allowed-fast is not granted by us).
    pub refused_choked: u64,
    /// Requests for pieces not announced to them, or taken back.
    pub refused_unannounced: u64,
    /// Requests over our announced `reqq` (row B5).
    pub refused_full: u64,
    /// Blocks the shell could not read.
    pub refused_unavailable: u64,
    /// Dropped for a flood of requests.
    pub floods: u64,
    /// Blocks nobody needed any more.
    pub blocks_redundant: u64,
    /// Of those, blocks that were never asked for.
    pub blocks_unrequested: u64,
    /// Rejects of what was not asked for.
    pub rejects_unknown: u64,
    /// Request time-outs.
    pub timeouts: u64,
    /// Bitfields, have-alls and have-nones after the first word about their set (row B3, and aria2).
    pub sets_replaced: u64,
    /// HAVE of what they had, `lt_donthave` of what they had not, repeated choke and interest flags.
    pub repeats: u64,
    /// Allowed-fast pieces over 64, or repeated.
    pub allowed_fast_ignored: u64,
    /// `suggest` messages: the brain picks.
    pub suggests_ignored: u64,
    /// Messages and extensions of unknown ids.
    pub unknown_messages: u64,
    /// Extended messages that could not be read, and values in them that were clamped.
    pub extended_malformed: u64,
    /// Events dropped because the shell did not take them.
    pub events_dropped: u64,
}
