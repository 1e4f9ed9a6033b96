//! How a store that was restored, lost or exchanged is noticed.

use serde::{Deserialize, Serialize};

/// What is kept beside the secret key: the number of the last opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BesideKey {
    /// The key was made just now: there is no earlier store to miss.
    NewKey,
    /// The key is old and its number is lost.
    Missing,
    /// The number.
    Number(u64),
}

/// What is kept in the store about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreEpoch {
    /// Counts openings; the same number is kept beside the key.
    pub number: u64,
    /// The opening at which the store was last found not to be the one that the key was last used with.
    pub broken_at: Option<u64>,
}

impl StoreEpoch {
    /// The epoch of a store that is being opened. The caller makes it durable in the store first, then its number beside
    /// the key, then lets accounts sign; so a crash in between leaves the store one ahead, which is no break.
    ///
    /// A copy of the whole directory, or a copy of the store taken since the last opening, has the right number and is not
    /// noticed here: the sync at the start of every session is what makes it harmless.
    #[must_use]
    //= spec/iou.md#epoch
    //= spec/iou.md#epoch-break
    pub fn open(beside_key: BesideKey, in_store: Option<Self>) -> Self {
        let (whole, last) = match (beside_key, in_store) {
            (BesideKey::NewKey, None) => (true, 0),
            (BesideKey::Number(key), Some(store)) => (
                store.number == key || Some(store.number) == key.checked_add(1),
                key.max(store.number),
            ),
            (BesideKey::Number(key), None) => (false, key),
            (BesideKey::NewKey | BesideKey::Missing, Some(store)) => (false, store.number),
            (BesideKey::Missing, None) => (false, 0),
        };
        let number = last.saturating_add(1);
        let broken_at = if whole {
            in_store.and_then(|store| store.broken_at)
        } else {
            Some(number)
        };
        Self { number, broken_at }
    }

    /// The same opening, with a part of the store found unreadable: its accounts begin as restored.
    #[must_use]
    pub fn damaged(self) -> Self {
        Self {
            broken_at: Some(self.number),
            ..self
        }
    }
}
