//! What a store keeps of an account. Nothing in a record is believed before its signatures are checked again.

use serde::{Deserialize, Serialize};

use crate::identity::{KeyError, PUBLIC_BYTES};
use crate::iou::{Iou, IouError, SignedIou};

/// An IOU as it is kept: its exact bytes and the debtor's signature over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IouRecord {
    /// Canonical bytes, at most [`crate::iou::MAX_IOU_BYTES`].
    pub iou: Vec<u8>,
    /// 64 bytes.
    pub signature: Vec<u8>,
}

/// All that is kept about one friend. A later record of the same account never says less than an earlier one; a store that
/// holds two of them keeps their [`AccountRecord::join`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// The friend's public key.
    pub friend: [u8; PUBLIC_BYTES],
    /// The newest IOU in which the friend is the debtor.
    pub given: Option<IouRecord>,
    /// The newest IOU in which we are the debtor.
    pub received: Option<IouRecord>,
    /// The opening of the store ([`super::StoreEpoch::number`]) in which the last sync was.
    pub synced_at: Option<u64>,
    /// All that was ever delivered to the friend, in bytes, by our own count.
    pub delivered_bytes: u64,
    /// What the friend left unsigned when a help ended.
    pub disputed_bytes: u64,
}

/// Why a record cannot be believed. The store sets it aside; the account is opened as restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The friend's key is none.
    #[error("the friend's key in the record is refused: {0}")]
    Key(#[from] KeyError),
    /// An IOU does not stand up to a check.
    #[error("an IOU in the record is refused: {0}")]
    Iou(#[from] IouError),
    /// An IOU between others, or in the wrong place.
    #[error("an IOU in the record is not between these two, or is in the wrong direction")]
    NotOurs,
}

impl IouRecord {
    /// Checks the signature again.
    ///
    /// # Errors
    /// [`IouError`]
    pub fn verify(&self) -> Result<SignedIou, IouError> {
        SignedIou::from_parts(&self.iou, &self.signature)
    }

    /// The total that the bytes claim; `None` when they are no IOU.
    fn claimed(&self) -> Option<u64> {
        Iou::decode(&self.iou).ok().map(|iou| iou.total_bytes())
    }

    fn larger(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let claimed = |record: &Option<Self>| record.as_ref().and_then(Self::claimed);
        if claimed(&b) > claimed(&a) {
            b
        } else {
            a.or(b)
        }
    }
}

impl From<&SignedIou> for IouRecord {
    fn from(signed: &SignedIou) -> Self {
        Self {
            iou: signed.iou().encode(),
            signature: signed.signature().0.to_vec(),
        }
    }
}

impl AccountRecord {
    /// Both records of one friend in one: the larger totals and the later sync of both, the counts of `later`.
    #[must_use]
    //= spec/iou.md#store-join
    pub fn join(self, later: Self) -> Self {
        Self {
            friend: later.friend,
            given: IouRecord::larger(self.given, later.given),
            received: IouRecord::larger(self.received, later.received),
            synced_at: self.synced_at.max(later.synced_at),
            delivered_bytes: later.delivered_bytes,
            disputed_bytes: later.disputed_bytes,
        }
    }
}
