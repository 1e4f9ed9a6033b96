//! What two friends owe each other, and when it may be signed (`spec/iou.md`, from Ledger on).
//!
//! Per friend there are two directions, and of each only the newest IOU counts: the one with the largest validly signed
//! total. Taking the larger of two is a join, so that repetition, re-ordering, loss and restored copies do no harm. Both
//! sides keep both directions, and show each other both before anything is signed: whoever lost its own newest signature
//! gets it back from the other side.
//!
//! Pure: [`Account`] gives records for a store, and is told when they are durable.

mod account;
mod credit;
mod epoch;
mod outcome;
mod record;

pub use account::{Account, Unpersisted};
pub use credit::{ceiling_bytes, window_bytes};
pub use epoch::{BesideKey, StoreEpoch};
pub use outcome::{
    Contradiction, Direction, NotOurs, Receipt, SignRefusal, State, SyncReport, WrongToken,
};
pub use record::{AccountRecord, IouRecord, OpenError};

#[cfg(test)]
mod tests;
