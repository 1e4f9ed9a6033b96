//! Who signed for what. Signatures are stand-ins: a checksum with the signer's key in it, which nobody in a run computes
//! for another.

use std::collections::BTreeMap;

use crate::rng::mix;

/// A signed word: so many bytes in all does `debtor` owe `creditor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Iou {
    pub(crate) creditor: u32,
    pub(crate) debtor: u32,
    pub(crate) total: u64,
    signature: u64,
}

impl Iou {
    pub(crate) fn sign(debtor: u32, creditor: u32, total: u64) -> Self {
        Self {
            creditor,
            debtor,
            total,
            signature: stand_in(debtor, creditor, total),
        }
    }

    /// Its debtor signed it, as it is.
    pub(crate) fn holds(&self) -> bool {
        self.signature == stand_in(self.debtor, self.creditor, self.total)
    }
}

fn stand_in(debtor: u32, creditor: u32, total: u64) -> u64 {
    mix(mix(u64::from(debtor) << 32 | u64::from(creditor)) ^ total)
}

/// One slave's ledger: the largest total of each direction, by friend.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What it signed.
    pub(crate) owes: BTreeMap<u32, u64>,
    /// What others signed for it.
    pub(crate) owed: BTreeMap<u32, u64>,
}

impl Ledger {
    /// Takes an IOU in; false: it is not for us, or nobody signed it.
    pub(crate) fn accept(&mut self, own: u32, iou: &Iou) -> bool {
        if iou.creditor != own || !iou.holds() {
            return false;
        }
        let total = self.owed.entry(iou.debtor).or_default();
        *total = iou.total.max(*total);
        true
    }

    /// Signs; `None`: less than was signed before.
    pub(crate) fn sign(&mut self, own: u32, friend: u32, total: u64) -> Option<Iou> {
        let before = self.owes.entry(friend).or_default();
        if total <= *before {
            return None;
        }
        *before = total;
        Some(Iou::sign(own, friend, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_total_counts_and_nothing_unsigned_or_anothers() {
        let mut ledger = Ledger::default();
        let signed = [5, 3, 8].map(|total| Iou::sign(2, 1, total));
        assert!(signed.iter().all(|iou| ledger.accept(1, iou)));
        let forged = Iou {
            total: 9,
            ..signed[0]
        };
        assert!(!ledger.accept(1, &forged) && !ledger.accept(7, &signed[0]));
        assert_eq!(ledger.owed.get(&2), Some(&8));
        assert!(ledger.sign(1, 2, 4).is_some() && ledger.sign(1, 2, 4).is_none());
    }
}
