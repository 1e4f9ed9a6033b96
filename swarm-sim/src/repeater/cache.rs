//! The cache as the daemon counts it: a permit for each piece from its first lease to its release.

use std::collections::BTreeMap;

use bt_wire::layout::BLOCK;
use core::ops::Range;
use swarm_core::io::{ConnId, Contributor};

/// A piece in the cache.
#[derive(Debug)]
pub(crate) struct Slot {
    permit: u64,
    size: u32,
    pub(crate) held: bool,
    here: Vec<bool>,
    missing: u32,
    poisoned: bool,
    contributors: Vec<Contributor>,
    announce: Vec<ConnId>,
}

/// What a block's arrival meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    More,
    Redundant,
    /// The last one: whether the hash is right, who gave, and who hears of it at once.
    Complete(bool, Vec<Contributor>, Vec<ConnId>),
}

/// All pieces of one repeater, by swarm and piece.
#[derive(Debug)]
pub(crate) struct Cache {
    cap: u64,
    pub(crate) used: u64,
    pub(crate) peak: u64,
    slots: BTreeMap<(u32, u32), Slot>,
}

impl Cache {
    pub(crate) fn new(cap: u64) -> Self {
        Self {
            cap,
            used: 0,
            peak: 0,
            slots: BTreeMap::new(),
        }
    }

    /// A lease of a piece of `size` bytes: takes its permit if it has none. The blocks still missing of those asked for,
    /// or `None` without a permit.
    pub(crate) fn begin(
        &mut self,
        key: (u32, u32),
        size: u32,
        permit: u64,
        blocks: Range<u32>,
        announce: &[ConnId],
    ) -> Option<Range<u32>> {
        if !self.slots.contains_key(&key) {
            if self.used + permit > self.cap {
                return None;
            }
            self.used += permit;
            self.peak = self.peak.max(self.used);
            let count = size.div_ceil(BLOCK);
            self.slots.insert(
                key,
                Slot {
                    permit,
                    size,
                    held: false,
                    here: vec![false; count as usize],
                    missing: count,
                    poisoned: false,
                    contributors: Vec::new(),
                    announce: Vec::new(),
                },
            );
        }
        let slot = self.slots.get_mut(&key)?;
        for conn in announce {
            if !slot.announce.contains(conn) {
                slot.announce.push(*conn);
            }
        }
        let here = |block: u32| slot.here.get(block as usize).copied().unwrap_or(true);
        let mut blocks = blocks;
        while !blocks.is_empty() && here(blocks.start) {
            blocks.start += 1;
        }
        while !blocks.is_empty() && here(blocks.end - 1) {
            blocks.end -= 1;
        }
        Some(blocks)
    }

    /// A block came in.
    pub(crate) fn arrived(
        &mut self,
        key: (u32, u32),
        block: u32,
        from: ConnId,
        poison: bool,
    ) -> Arrival {
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| !slot.held) else {
            return Arrival::Redundant;
        };
        let Some(here) = slot.here.get_mut(block as usize).filter(|here| !**here) else {
            return Arrival::Redundant;
        };
        *here = true;
        slot.missing -= 1;
        slot.poisoned |= poison;
        let bytes = slot.size.saturating_sub(block * BLOCK).min(BLOCK);
        match slot.contributors.iter_mut().find(|one| one.conn == from) {
            Some(one) => one.bytes += bytes,
            None => slot.contributors.push(Contributor { conn: from, bytes }),
        }
        if slot.missing > 0 {
            return Arrival::More;
        }
        let contributors = core::mem::take(&mut slot.contributors);
        if slot.poisoned {
            self.release(key);
            return Arrival::Complete(false, contributors, Vec::new());
        }
        slot.held = true;
        Arrival::Complete(true, contributors, core::mem::take(&mut slot.announce))
    }

    pub(crate) fn holds(&self, key: (u32, u32)) -> bool {
        self.slots.get(&key).is_some_and(|slot| slot.held)
    }

    /// Gives a piece's permit back.
    pub(crate) fn release(&mut self, key: (u32, u32)) {
        if let Some(slot) = self.slots.remove(&key) {
            self.used -= slot.permit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_bound_what_is_held() {
        let mut cache = Cache::new(2 * u64::from(BLOCK));
        let (size, permit) = (BLOCK, u64::from(BLOCK));
        let mut begin = |piece| cache.begin((0, piece), size, permit, 0..1, &[]).is_some();
        assert_eq!([begin(0), begin(1), begin(2)], [true, true, false]);
        let by = |conn| Contributor {
            conn: ConnId(conn),
            bytes: BLOCK,
        };
        let whole = Arrival::Complete(true, vec![by(1)], vec![]);
        assert_eq!(cache.arrived((0, 0), 0, ConnId(1), false), whole);
        assert_eq!(
            cache.arrived((0, 0), 0, ConnId(1), false),
            Arrival::Redundant
        );
        assert!(cache.holds((0, 0)) && !cache.holds((0, 1)));
        let wrong = Arrival::Complete(false, vec![by(2)], vec![]);
        assert_eq!(cache.arrived((0, 1), 0, ConnId(2), true), wrong);
        assert_eq!((cache.used, cache.peak), (permit, 2 * permit));
    }
}
