//! The messages of the session itself, and of the ledger: hello, sync, iou, bye.

use bt_wire::bencode::Item;

use super::fields::Fields;
use super::terms::{number_of, numbered};
use super::{Entries, Fault, MessageError};
use crate::identity::{PUBLIC_BYTES, SIGNATURE_BYTES, Signature};

/// Longest signed IOU, in bytes.
pub const MAX_SIGNED_IOU: usize = 512;

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

/// A signed IOU as it is kept and shown: the IOU and the 64 bytes of its signature. Unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIou(Vec<u8>);

/// What both sides keep of each other, shown at the start of a session and never answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sync {
    /// The newest IOU by which the receiver of this message owes its sender.
    pub credit: Option<SignedIou>,
    /// The newest IOU by which the sender of this message owes its receiver.
    pub debt: Option<SignedIou>,
}

/// A new IOU of the sender to the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIou {
    /// The IOU.
    pub iou: SignedIou,
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

/// Bytes that are no signed IOU by their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signed IOU is {} to {MAX_SIGNED_IOU} bytes long", SIGNATURE_BYTES + 1)]
pub struct BadLength;

impl SignedIou {
    /// Bytes of a signed IOU; only the length is looked at.
    ///
    /// # Errors
    /// [`BadLength`] without a byte before the signature, or over [`MAX_SIGNED_IOU`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, BadLength> {
        if (SIGNATURE_BYTES + 1..=MAX_SIGNED_IOU).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(BadLength)
        }
    }

    /// All the bytes: the IOU and its signature.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn maybe(fields: Fields<'_>, field: &'static str) -> Result<Option<Self>, MessageError> {
        let bytes = fields.maybe_bytes(field, SIGNATURE_BYTES + 1..=MAX_SIGNED_IOU)?;
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
            credit: SignedIou::maybe(fields, "credit")?,
            debt: SignedIou::maybe(fields, "debt")?,
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
        SignedIou::maybe(fields, "iou")?
            .map(|iou| Self { iou })
            .ok_or_else(|| fields.error("iou", Fault::Missing))
    }

    pub(super) fn write(&self) -> Entries {
        vec![("iou", self.iou.item())]
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
