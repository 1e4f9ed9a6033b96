//! The signed IOU: the debtor's word for all the help it ever received from the creditor (`spec/iou.md`).
//!
//! Bytes from anywhere become an [`UnverifiedIou`] when they are canonical, and a [`SignedIou`] only when the debtor's
//! signature over those exact bytes holds. There is no other way to a [`SignedIou`].

use bt_wire::bencode::{Document, Item, KeyOrder, Limits};

use crate::identity::{
    BadSignature, Identity, KeyError, PUBLIC_BYTES, PublicKey, SIGNATURE_BYTES, Signature,
};

/// What is put in front of an IOU's bytes before they are signed.
pub const DOMAIN: &[u8] = b"bs_friends iou 1\0";
/// Largest total, in bytes: 2^63 − 1.
pub const MAX_TOTAL: u64 = i64::MAX as u64;
/// Longest IOU of this version, in bytes: with a total of 19 digits.
pub const MAX_IOU_BYTES: usize = 108;
/// Longest bencoded IOU with its signature, in bytes.
pub const MAX_SIGNED_BYTES: usize = MAX_IOU_BYTES + 79;

/// The version that this module reads and writes.
const VERSION: i64 = 1;
/// The longest bytes looked at; longer than any IOU, so that one of another version can say so.
const MAX_LOOKED_AT: usize = 1024;
const LIMITS: Limits = Limits {
    depth: 4,
    tokens: 64,
    string: 1024,
    keys: KeyOrder::Sorted,
};

/// What an IOU says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iou {
    creditor: PublicKey,
    debtor: PublicKey,
    total_bytes: u64,
}

/// An IOU in canonical form with a signature that nobody has checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnverifiedIou {
    iou: Iou,
    signature: Signature,
}

/// An IOU that its debtor signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIou {
    iou: Iou,
    signature: Signature,
}

/// Why there can be no IOU of these parties and this total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Nobody owes himself.
    #[error("creditor and debtor are the same key")]
    SameParty,
    /// Over [`MAX_TOTAL`].
    #[error("the total {0} is over 2^63 - 1 bytes")]
    TooLarge(u64),
}

/// Why bytes are refused as an IOU. What the receiver does: a malformed or forged one ends the session, one of another
/// version is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IouError {
    /// Not the one canonical encoding of an IOU.
    #[error("these bytes are not a canonical IOU")]
    Malformed,
    /// Canonical bencode of another version.
    #[error("the IOU is of version {0}, and this program knows version {VERSION}; update BTSlave")]
    Version(i64),
    /// A party's key is refused.
    #[error("a key in the IOU is refused: {0}")]
    Key(#[from] KeyError),
    /// The terms are impossible.
    #[error("the IOU is impossible: {0}")]
    Terms(#[from] TermsError),
    /// The signature is not the debtor's over these bytes.
    #[error("the IOU is forged: {0}")]
    Forged(#[from] BadSignature),
}

impl Iou {
    /// The IOU that `debtor` owes `creditor` for `total_bytes`, 0 to [`MAX_TOTAL`].
    ///
    /// # Errors
    /// [`TermsError`]
    //= spec/iou.md#iou-parties
    //= spec/iou.md#iou-total
    pub fn new(
        creditor: PublicKey,
        debtor: PublicKey,
        total_bytes: u64,
    ) -> Result<Self, TermsError> {
        if creditor == debtor {
            return Err(TermsError::SameParty);
        }
        if total_bytes > MAX_TOTAL {
            return Err(TermsError::TooLarge(total_bytes));
        }
        Ok(Self {
            creditor,
            debtor,
            total_bytes,
        })
    }

    /// Reads the canonical bytes.
    ///
    /// # Errors
    /// [`IouError`], never [`IouError::Forged`]
    //= spec/iou.md#iou-canonical
    //= spec/iou.md#iou-version
    pub fn decode(bytes: &[u8]) -> Result<Self, IouError> {
        if bytes.len() > MAX_LOOKED_AT {
            return Err(IouError::Malformed);
        }
        let document = Document::parse(bytes, &LIMITS).map_err(|_| IouError::Malformed)?;
        let fields = document.root().as_dict().ok_or(IouError::Malformed)?;
        match fields.int("v") {
            Some(VERSION) => {}
            Some(other) => return Err(IouError::Version(other)),
            None => return Err(IouError::Malformed),
        }
        let key = |name: &str| {
            let bytes = fields.bytes(name).ok_or(IouError::Malformed)?;
            let bytes: &[u8; PUBLIC_BYTES] = bytes.try_into().map_err(|_| IouError::Malformed)?;
            Ok::<_, IouError>(PublicKey::from_bytes(bytes)?)
        };
        let total = fields.int("t").and_then(|total| u64::try_from(total).ok());
        let iou = Self::new(key("c")?, key("d")?, total.ok_or(IouError::Malformed)?)?;
        // One IOU, one spelling: this also refuses keys that do not belong here.
        if iou.encode() == bytes {
            Ok(iou)
        } else {
            Err(IouError::Malformed)
        }
    }

    /// The canonical bytes, at most [`MAX_IOU_BYTES`]: bencode of `{c, d, t, v}`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Within i64 by construction.
        let total = i64::try_from(self.total_bytes).unwrap_or(i64::MAX);
        Item::dict([
            ("c", Item::bytes(self.creditor.as_bytes())),
            ("d", Item::bytes(self.debtor.as_bytes())),
            ("t", Item::Int(total)),
            ("v", Item::Int(VERSION)),
        ])
        .encode()
    }

    /// Signs it. Only the ledger does so, which makes it durable before it lets it out.
    ///
    /// # Errors
    /// [`NotDebtor`] when `me` is not the debtor.
    //= spec/iou.md#signing
    pub(crate) fn sign(&self, me: &Identity) -> Result<SignedIou, NotDebtor> {
        if me.public_key() != self.debtor {
            return Err(NotDebtor);
        }
        Ok(SignedIou {
            iou: *self,
            signature: me.sign(&signed_bytes(&self.encode())),
        })
    }

    /// Who gave the help.
    #[must_use]
    pub fn creditor(&self) -> &PublicKey {
        &self.creditor
    }

    /// Who received the help and signs.
    #[must_use]
    pub fn debtor(&self) -> &PublicKey {
        &self.debtor
    }

    /// All the help ever received, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

/// An IOU is signed by its debtor alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an IOU is signed by its debtor, and this identity is not the debtor")]
pub(crate) struct NotDebtor;

impl UnverifiedIou {
    /// Reads an IOU's bytes and the signature that came with them.
    ///
    /// # Errors
    /// [`IouError`], never [`IouError::Forged`]
    pub fn from_parts(iou: &[u8], signature: &[u8]) -> Result<Self, IouError> {
        let iou = Iou::decode(iou)?;
        let signature: [u8; SIGNATURE_BYTES] =
            signature.try_into().map_err(|_| IouError::Malformed)?;
        Ok(Self {
            iou,
            signature: Signature(signature),
        })
    }

    /// Reads the bencoded pair `{i: iou, s: signature}`, as [`SignedIou::encode`] writes it.
    ///
    /// # Errors
    /// [`IouError`], never [`IouError::Forged`]
    //= spec/iou.md#signed-encoding
    pub fn decode(bytes: &[u8]) -> Result<Self, IouError> {
        if bytes.len() > 2 * MAX_LOOKED_AT {
            return Err(IouError::Malformed);
        }
        let document = Document::parse(bytes, &LIMITS).map_err(|_| IouError::Malformed)?;
        let fields = document.root().as_dict().ok_or(IouError::Malformed)?;
        let (iou, signature) = (fields.bytes("i"), fields.bytes("s"));
        let (Some(iou), Some(signature), 2) = (iou, signature, fields.iter().count()) else {
            return Err(IouError::Malformed);
        };
        Self::from_parts(iou, signature)
    }

    /// Checks the debtor's signature over the domain and the exact bytes.
    ///
    /// # Errors
    /// [`BadSignature`]
    //= spec/iou.md#verifying
    pub fn verify(&self) -> Result<SignedIou, BadSignature> {
        let message = signed_bytes(&self.iou.encode());
        self.iou.debtor.verify(&message, &self.signature)?;
        Ok(SignedIou {
            iou: self.iou,
            signature: self.signature,
        })
    }

    /// What it claims.
    #[must_use]
    pub fn iou(&self) -> &Iou {
        &self.iou
    }
}

impl SignedIou {
    /// Reads and verifies an IOU's bytes and its signature.
    ///
    /// # Errors
    /// [`IouError`]
    pub fn from_parts(iou: &[u8], signature: &[u8]) -> Result<Self, IouError> {
        Ok(UnverifiedIou::from_parts(iou, signature)?.verify()?)
    }

    /// Reads and verifies the bencoded pair `{i: iou, s: signature}`.
    ///
    /// # Errors
    /// [`IouError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, IouError> {
        Ok(UnverifiedIou::decode(bytes)?.verify()?)
    }

    /// The bencoded pair `{i: iou, s: signature}`, at most [`MAX_SIGNED_BYTES`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Item::dict([
            ("i", Item::bytes(self.iou.encode())),
            ("s", Item::bytes(self.signature.0)),
        ])
        .encode()
    }

    /// What it says.
    #[must_use]
    pub fn iou(&self) -> &Iou {
        &self.iou
    }

    /// The debtor's signature.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

fn signed_bytes(iou: &[u8]) -> Vec<u8> {
    [DOMAIN, iou].concat()
}

#[cfg(test)]
mod tests;
