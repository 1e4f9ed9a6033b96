//! What comes of dealing with an account.

use super::record::AccountRecord;
use crate::iou::TermsError;

/// Which way help went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// We gave it; the friend owes and signs.
    Given,
    /// We received it; we owe and sign.
    Received,
}

/// How sure we are to know our own newest signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A new friend in a store that was never broken: there is nothing to know.
    Fresh,
    /// The store was lost, restored or damaged, or the record imported: the friend may hold more than we do.
    Restored,
    /// The friend has shown what it holds, since the store was last found broken.
    Synced,
}

/// What an IOU that came in meant. Only [`Receipt::Newer`] changes anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The total rose. In [`Direction::Received`] it is our own signature, which we had lost.
    Newer {
        /// Who owes.
        direction: Direction,
        /// By how many bytes.
        by_bytes: u64,
        /// To be made durable.
        record: AccountRecord,
    },
    /// The total we hold.
    Same,
    /// Less than we hold: late, repeated, or from an old copy. No fraud, and no effect.
    Stale {
        /// Who owes.
        direction: Direction,
        /// The total we hold.
        held_bytes: u64,
        /// The total we were shown.
        shown_bytes: u64,
    },
    /// Between other parties. The session ends.
    NotOurs,
}

/// A friend showed less of its own debt than it has signed: its store is an old copy, or it hides something. The larger
/// total counts; the operator is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction {
    /// The total it has signed, which we hold and have shown it.
    pub held_bytes: u64,
    /// The total it showed; 0 for none.
    pub shown_bytes: u64,
}

/// What a sync brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReport {
    /// By how many bytes our own signed debt was larger than we knew: our store was an old copy.
    pub adopted_bytes: u64,
    /// By how many bytes the friend's signed debt was larger than we knew.
    pub news_bytes: u64,
    /// The friend knew less of its own debt than we do.
    pub contradiction: Option<Contradiction>,
    /// To be made durable.
    pub record: AccountRecord,
}

/// A sync showed an IOU between other parties. The session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the friend showed an IOU that is not between us")]
pub struct NotOurs;

/// Why nothing is signed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignRefusal {
    /// No sync in this session: we may have signed more than we know.
    #[error("nothing is signed before this session's sync")]
    NotSynced,
    /// The IOU signed before is not durable yet; after a failed write it never will be, until the store is opened anew.
    #[error("the IOU signed before is not durable yet")]
    Unpersisted,
    /// Totals only rise.
    #[error("the total does not rise above the {held_bytes} bytes signed before")]
    NotMore {
        /// The total signed before.
        held_bytes: u64,
    },
    /// The IOU cannot be.
    #[error("the IOU is impossible: {0}")]
    Terms(#[from] TermsError),
    /// The identity is not the account's.
    #[error("the account belongs to another identity")]
    NotDebtor,
}

/// The token is not of the IOU that this account waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this account has signed no such IOU")]
pub struct WrongToken;
