//! The messages of the session itself, and of the ledger: hello, sync, iou, bye.

use bt_wire::bencode::Item;

use super::fields::Fields;
use super::terms::{HelpId, id_entry, number_of, numbered};
use super::{Entries, Fault, MessageError};
use crate::identity::{PUBLIC_BYTES, Signature};

/// Longest signed IOU in a message, in bytes; more than version 1 needs.
pub const MAX_IOU_FIELD: usize = 512;

/// The first message of each side: who it is, proved for this session alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The sender's identity; not yet checked to be a key.
    pub key: [u8; PUBLIC_BYTES],
    /// The identity's signature over this session.
    pub signature: Signature,
    /// Lowest version of the messages that the sender speaks, at least 1.
    pub lowest: u8,
    /// Highest version, at least `lowest`.
    pub highest: u8,
    /// The version that holds from now on: the responder's choice, absent from the initiator.
    pub chosen: Option<u8>,
}

/// The bytes of a signed IOU ([`crate::iou::UnverifiedIou::decode`] reads them). Only their length was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IouBytes(Vec<u8>);

/// What both sides keep of each other, shown at the start of a session and never answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sync {
    /// The newest IOU by which the receiver of this message owes its sender.
    pub credit: Option<IouBytes>,
    /// The newest IOU by which the sender of this message owes its receiver.
    pub debt: Option<IouBytes>,
}

/// A new IOU of the sender to the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIou {
    /// The IOU.
    pub iou: IouBytes,
    /// The help it pays for first, if it is for one.
    pub help: Option<HelpId>,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByeReason {
    /// The sender stops, or leaves the swarm.
    Leaving,
    /// Another session of the same two stays.
    Duplicate,
    /// The receiver is no friend any more.
    NotAFriend,
    /// The session has sent all the messages it may.
    Exhausted,
    /// Any other reason, unknown numbers included.
    Other,
}

impl ByeReason {
    const NUMBERED: [(u8, Self); 5] = [
        (0, Self::Leaving),
        (1, Self::Duplicate),
        (2, Self::NotAFriend),
        (3, Self::Exhausted),
        (4, Self::Other),
    ];
}

/// The session ends; the BitTorrent connection may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bye {
    /// Why.
    pub why: ByeReason,
}

/// No byte, or too many for a signed IOU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signed IOU is 1 to {MAX_IOU_FIELD} bytes long")]
pub struct BadLength;

impl IouBytes {
    /// Bytes of a signed IOU; only the length is looked at.
    ///
    /// # Errors
    /// [`BadLength`] without a byte, or over [`MAX_IOU_FIELD`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, BadLength> {
        if (1..=MAX_IOU_FIELD).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(BadLength)
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn maybe(fields: Fields<'_>, field: &'static str) -> Result<Option<Self>, MessageError> {
        let bytes = fields.maybe_bytes(field, 1..=MAX_IOU_FIELD)?;
        Ok(bytes.map(|bytes| Self(bytes.to_vec())))
    }

    fn item(&self) -> Item {
        Item::bytes(&self.0)
    }
}

fn version(fields: Fields<'_>, field: &'static str) -> Result<u8, MessageError> {
    fields.int(field, 1..=255)?;
    fields.byte(field)
}

impl Hello {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let (lowest, highest) = (version(fields, "lowest")?, version(fields, "highest")?);
        if highest < lowest {
            return Err(fields.error("highest", Fault::Range));
        }
        let chosen = fields.maybe_int("chosen", 1..=255)?;
        Ok(Self {
            key: fields.array("key")?,
            signature: Signature(fields.array("sig")?),
            lowest,
            highest,
            chosen: chosen.map(|_| version(fields, "chosen")).transpose()?,
        })
    }

    pub(super) fn write(&self) -> Entries {
        let mut entries = vec![
            ("key", Item::bytes(self.key)),
            ("sig", Item::bytes(self.signature.0)),
            ("lowest", Item::Int(self.lowest.into())),
            ("highest", Item::Int(self.highest.into())),
        ];
        entries.extend(
            self.chosen
                .map(|chosen| ("chosen", Item::Int(chosen.into()))),
        );
        entries
    }
}

impl Sync {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            credit: IouBytes::maybe(fields, "credit")?,
            debt: IouBytes::maybe(fields, "debt")?,
        })
    }

    pub(super) fn write(&self) -> Entries {
        [("credit", &self.credit), ("debt", &self.debt)]
            .into_iter()
            .filter_map(|(name, iou)| Some((name, iou.as_ref()?.item())))
            .collect()
    }
}

impl NewIou {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let iou = IouBytes::maybe(fields, "iou")?;
        Ok(Self {
            iou: iou.ok_or_else(|| fields.error("iou", Fault::Missing))?,
            help: HelpId::maybe(fields)?,
        })
    }

    pub(super) fn write(&self) -> Entries {
        let mut entries = vec![("iou", self.iou.item())];
        entries.extend(self.help.map(id_entry));
        entries
    }
}

impl Bye {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let why = numbered(&ByeReason::NUMBERED, fields.byte("why")?, ByeReason::Other);
        Ok(Self { why })
    }

    pub(super) fn write(self) -> Entries {
        vec![("why", number_of(&ByeReason::NUMBERED, self.why))]
    }
}
