//! What friends say inside a session: one bencoded dictionary a message (BEP 3), canonical, at most [`MAX_MESSAGE`] bytes.
//!
//! `m` names the type. Types and keys that a receiver does not know mean nothing to it. Nothing is allocated by an
//! announced length: a message is at most as large in memory as it was on the wire.

mod course;
mod fields;
mod help;
mod meta;
mod opening;
mod pieces;
mod terms;

use bt_wire::bencode::{self, Document, Item, Limits};

pub use course::{Arrived, Fetching, Progress, Release, Reserve, Stop, StopReason};
pub use help::{
    AnnounceUrl, Ask, Decline, DeclineReason, MAX_HELPER_ENDPOINTS, MAX_MASTER_ENDPOINTS,
    MAX_PIECE_LENGTH, MAX_RATE, MAX_TRACKER_URL, MAX_TRACKERS, Offer,
};
pub use meta::{MAX_META, META_PART, Meta, MetaAsk, MetaNone};
pub use opening::{BadLength, Bye, ByeReason, Hello, IouBytes, MAX_IOU_FIELD, NewIou, Sync};
pub use pieces::{BadPieceSet, MAX_BITMAP, PieceSet};
pub use terms::{Deliveries, HelpId, TorrentHash};

use fields::Fields;

/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 16 << 10;
/// Largest count of bytes in any field: 2⁶³ − 1.
pub const MAX_TOTAL: u64 = i64::MAX.unsigned_abs();
/// Deepest nesting: the dictionary, a list in it, and room for what later versions bring.
const MAX_DEPTH: u32 = 8;
/// Most values and keys together.
const MAX_TOKENS: u32 = 1024;

/// The fields of a message to be written.
type Entries = Vec<(&'static str, Item)>;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `hello`: who I am.
    Hello(Hello),
    /// `sync`: what I hold of our IOUs.
    Sync(Sync),
    /// `ask`: help my master.
    Ask(Ask),
    /// `offer`: I can.
    Offer(Offer),
    /// `decline`: I cannot.
    Decline(Decline),
    /// `meta-ask`: show me the info dictionary.
    MetaAsk(MetaAsk),
    /// `meta`: a part of it.
    Meta(Meta),
    /// `meta-none`: I have none for you.
    MetaNone(MetaNone),
    /// `reserve`: these pieces are yours.
    Reserve(Reserve),
    /// `progress`: so far am I.
    Progress(Progress),
    /// `fetching`: I am at these, and could begin those.
    Fetching(Fetching),
    /// `iou`: I owe you.
    Iou(NewIou),
    /// `release`: these pieces go back.
    Release(Release),
    /// `arrived`: the master came, or it is the master indeed.
    Arrived(Arrived),
    /// `stop`: this help ends.
    Stop(Stop),
    /// `bye`: this session ends.
    Bye(Bye),
}

/// Bytes that are no message. What the caller does is in the variant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// End the session: the sender does not speak this protocol.
    #[error(transparent)]
    End(#[from] FrameError),
    /// Ignore the message and go on.
    #[error(transparent)]
    Ignore(#[from] MessageError),
}

/// Not one canonical dictionary with a type in it: the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Over [`MAX_MESSAGE`].
    #[error("a message of {0} bytes")]
    TooLong(usize),
    /// Not bencode, not canonical, or over the limits.
    #[error(transparent)]
    Bencode(#[from] bencode::Error),
    /// Not a dictionary.
    #[error("a message that is not a dictionary")]
    NotADict,
    /// No `m`, or one that is no byte string.
    #[error("a message without a type")]
    NoType,
}

/// A message that means nothing to us: it is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A type of another version.
    #[error("a message of a type that is not known")]
    UnknownType,
    /// A field is not as the type demands.
    #[error("field {field} of message {message}: {fault}")]
    Field {
        /// The type.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// It is of another bencode type.
    #[error("of the wrong type")]
    Type,
    /// Its value or length is out of range.
    #[error("out of range")]
    Range,
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError::End`] or [`DecodeError::Ignore`].
    //= spec/friends.md#message-canonical
    //= spec/friends.md#message-unknown
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(FrameError::TooLong(bytes.len()).into());
        }
        let limits = Limits {
            depth: MAX_DEPTH,
            tokens: MAX_TOKENS,
            ..Limits::strict()
        };
        let document = Document::parse(bytes, &limits).map_err(FrameError::from)?;
        let dict = document.root().as_dict().ok_or(FrameError::NotADict)?;
        let name = dict.bytes("m").ok_or(FrameError::NoType)?;
        let with = |message| Fields::new(dict, message);
        Ok(match name {
            b"hello" => Self::Hello(Hello::read(with("hello"))?),
            b"sync" => Self::Sync(Sync::read(with("sync"))?),
            b"ask" => Self::Ask(Ask::read(with("ask"))?),
            b"offer" => Self::Offer(Offer::read(with("offer"))?),
            b"decline" => Self::Decline(Decline::read(with("decline"))?),
            b"meta-ask" => Self::MetaAsk(MetaAsk::read(with("meta-ask"))?),
            b"meta" => Self::Meta(Meta::read(with("meta"))?),
            b"meta-none" => Self::MetaNone(MetaNone::read(with("meta-none"))?),
            b"reserve" => Self::Reserve(Reserve::read(with("reserve"))?),
            b"progress" => Self::Progress(Progress::read(with("progress"))?),
            b"fetching" => Self::Fetching(Fetching::read(with("fetching"))?),
            b"iou" => Self::Iou(NewIou::read(with("iou"))?),
            b"release" => Self::Release(Release::read(with("release"))?),
            b"arrived" => Self::Arrived(Arrived::read(with("arrived"))?),
            b"stop" => Self::Stop(Stop::read(with("stop"))?),
            b"bye" => Self::Bye(Bye::read(with("bye"))?),
            _ => return Err(MessageError::UnknownType.into()),
        })
    }

    /// The bytes: canonical, and within [`MAX_MESSAGE`] for every value whose fields keep to their ranges.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let entries = match self {
            Self::Hello(message) => message.write(),
            Self::Sync(message) => message.write(),
            Self::Ask(message) => message.write(),
            Self::Offer(message) => message.write(),
            Self::Decline(message) => message.write(),
            Self::MetaAsk(message) => message.write(),
            Self::Meta(message) => message.write(),
            Self::MetaNone(message) => message.write(),
            Self::Reserve(message) => message.write(),
            Self::Progress(message) => message.write(),
            Self::Fetching(message) => message.write(),
            Self::Iou(message) => message.write(),
            Self::Release(message) => message.write(),
            Self::Arrived(message) => message.write(),
            Self::Stop(message) => message.write(),
            Self::Bye(message) => message.write(),
        };
        let name = ("m", Item::from(self.name()));
        Item::dict(entries.into_iter().chain([name])).encode()
    }

    /// The type, as `m` names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Sync(_) => "sync",
            Self::Ask(_) => "ask",
            Self::Offer(_) => "offer",
            Self::Decline(_) => "decline",
            Self::MetaAsk(_) => "meta-ask",
            Self::Meta(_) => "meta",
            Self::MetaNone(_) => "meta-none",
            Self::Reserve(_) => "reserve",
            Self::Progress(_) => "progress",
            Self::Fetching(_) => "fetching",
            Self::Iou(_) => "iou",
            Self::Release(_) => "release",
            Self::Arrived(_) => "arrived",
            Self::Stop(_) => "stop",
            Self::Bye(_) => "bye",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
