//! Facts on their way to the brain, coalesced: one message for every block would cost more than the block.

use core::time::Duration;

use crate::io::ConnFact;
use crate::time::Timestamp;

/// Longest wait of a fact that is no edge.
const WAIT: Duration = Duration::from_millis(5);
/// Payload bytes after which a batch is due.
const BYTES: u64 = 1 << 20;
/// Facts after which a batch is due.
const COUNT: usize = 512;
/// How far back an amount looks for one to be added to.
const REACH: usize = 8;

/// A batch in the making.
#[derive(Debug, Default)]
pub(super) struct Facts {
    list: Vec<ConnFact>,
    first: Timestamp,
    bytes: u64,
    due: bool,
}

impl Facts {
    /// An edge: the brain should hear of it now.
    pub(super) fn edge(&mut self, now: Timestamp, fact: ConnFact) {
        self.push(now, fact);
        self.due = true;
    }

    /// May wait a little.
    pub(super) fn push(&mut self, now: Timestamp, fact: ConnFact) {
        if self.list.is_empty() {
            self.first = now;
        }
        self.list.push(fact);
        self.due |= self.list.len() >= COUNT;
    }

    /// An amount: added to a fact of the same kind and piece, if no edge came since.
    pub(super) fn add(&mut self, now: Timestamp, fact: ConnFact) {
        self.bytes = self.bytes.saturating_add(amount(&fact).unwrap_or(0));
        self.due |= self.bytes >= BYTES;
        let recent = self.list.iter_mut().rev().take(REACH);
        for earlier in recent.take_while(|earlier| amount(earlier).is_some()) {
            if merge(earlier, &fact) {
                return;
            }
        }
        self.push(now, fact);
    }

    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        if self.list.is_empty() {
            None
        } else {
            Some(if self.due { now } else { self.first + WAIT })
        }
    }

    pub(super) fn take(&mut self) -> Vec<ConnFact> {
        self.bytes = 0;
        self.due = false;
        core::mem::take(&mut self.list)
    }
}

/// Payload bytes of a fact that can be added up.
fn amount(fact: &ConnFact) -> Option<u64> {
    if let ConnFact::Requested { bytes, .. }
    | ConnFact::Served { bytes, .. }
    | ConnFact::Refused { bytes, .. } = fact
    {
        return Some(u64::from(*bytes));
    }
    if let ConnFact::Received {
        bytes, redundant, ..
    } = fact
    {
        return Some(u64::from(*bytes) + u64::from(*redundant));
    }
    None
}

fn merge(into: &mut ConnFact, fact: &ConnFact) -> bool {
    use ConnFact::{Received, Refused, Requested, Served};
    let (sum, more) = match (into, fact) {
        (
            Requested { piece, bytes },
            Requested {
                piece: same,
                bytes: more,
            },
        )
        | (
            Served { piece, bytes },
            Served {
                piece: same,
                bytes: more,
            },
        )
        | (
            Refused { piece, bytes },
            Refused {
                piece: same,
                bytes: more,
            },
        ) if piece == same => (bytes, *more),
        (
            Received {
                piece,
                bytes,
                redundant,
            },
            Received {
                piece: same,
                bytes: more,
                redundant: waste,
            },
        ) if piece == same => {
            *redundant = redundant.saturating_add(*waste);
            (bytes, *more)
        }
        _ => return false,
    };
    *sum = sum.saturating_add(more);
    true
}
