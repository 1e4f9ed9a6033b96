//! Where the ledger is kept.

use friends_proto::ledger::{AccountRecord, StoreEpoch};

/// The ledger could not be read or written; the text says what and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreFailed(pub String);

/// A durable ledger. Its methods may block.
pub trait FriendStore: Send + Sync {
    /// How this opening of the store stands to those before.
    fn epoch(&self) -> StoreEpoch;

    /// Every account.
    ///
    /// # Errors
    /// It cannot be read.
    fn accounts(&self) -> Result<Vec<AccountRecord>, StoreFailed>;

    /// Keeps this account, on disk and synced when it returns.
    ///
    /// # Errors
    /// It is not durable: whatever depends on it must not leave.
    fn persist(&self, record: &AccountRecord) -> Result<(), StoreFailed>;
}
