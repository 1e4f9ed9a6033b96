//! Which blocks an end is asked for: rarest first, whole pieces where it is fast enough, random until four pieces are
//! here (libtorrent 2.0 `piece_picker.cpp`).

use crate::bits::{self, Ones};
use crate::events::Block;
use crate::peer::{GOT, OPEN, Peer};
use crate::world::World;

/// Pieces to have before rarity counts (`initial_picker_threshold`).
const RANDOM_FIRST: u32 = 4;
/// Most candidate words held on the stack.
const WORDS: usize = 64;

/// How well a piece suits, lower is better: its class, then chance.
type Suit = (u32, u32);

impl World {
    /// Fills `into` with blocks to ask this end for, at least `room` of them if there are so many. With `contiguous`
    /// blocks preferred in a row, more than `room` may come.
    pub(crate) fn pick(&mut self, end: u32, room: usize, contiguous: usize, into: &mut Vec<Block>) {
        let mut candidates = self.candidates(end);
        let mut backup = Vec::new();
        while into.len() < room {
            let Some(piece) = self.best(end, &candidates) else {
                break;
            };
            bits::set(&mut candidates, piece, false);
            self.add(
                end,
                piece,
                room,
                contiguous,
                &mut candidates,
                into,
                &mut backup,
            );
        }
        let missing = room.saturating_sub(into.len());
        into.extend(backup.into_iter().take(missing));
    }

    /// Pieces that this end shows, we lack, and some block of which is open.
    fn candidates(&self, end: u32) -> Vec<u64> {
        let peer = &self.peers[self.ends[end as usize].node as usize];
        let shown = match &self.ends[end as usize].shown {
            Some(shown) => shown,
            None => &self.peers[self.other(end) as usize].have,
        };
        let mut words = Vec::with_capacity(shown.len().min(WORDS));
        let mine = peer.have.iter().zip(&peer.taken);
        words.extend(shown.iter().zip(mine).map(|(s, (h, t))| s & !h & !t));
        if !self.ends[end as usize].unchoked {
            for (at, word) in (0u32..).zip(&mut words) {
                let here = peer.allowed.iter().filter(|piece| **piece / 64 == at);
                *word &= here.fold(0, |mask, piece| mask | 1 << (piece % 64));
            }
        }
        words
    }

    fn best(&mut self, end: u32, candidates: &[u64]) -> Option<u32> {
        let peer = &self.peers[self.ends[end as usize].node as usize];
        let rng = &mut self.rng;
        let salt = u32::try_from(rng.next() >> 32).unwrap_or(0);
        let random_first = peer.count < RANDOM_FIRST;
        let mut best: Option<(Suit, u32)> = None;
        for (at, &word) in (0u32..).zip(candidates) {
            for bit in Ones(word) {
                let piece = at * 64 + bit;
                let class = class(peer, piece, random_first);
                if best.is_some_and(|((least, _), _)| class > least) {
                    continue;
                }
                let chance = (piece ^ salt).wrapping_mul(0x9e37_79b1).rotate_left(15) ^ salt;
                if best.is_none_or(|(suit, _)| (class, chance) < suit) {
                    best = Some(((class, chance), piece));
                }
            }
        }
        best.map(|(_, piece)| piece)
    }

    /// Adds blocks of a piece, and of its neighbours where several in a row are preferred.
    #[allow(
        clippy::too_many_arguments,
        reason = "the picker's state, taken apart to be borrowed part by part"
    )]
    fn add(
        &self,
        end: u32,
        piece: u32,
        room: usize,
        contiguous: usize,
        candidates: &mut [u64],
        into: &mut Vec<Block>,
        backup: &mut Vec<Block>,
    ) {
        let peer = &self.peers[self.ends[end as usize].node as usize];
        let swarm = &self.swarms[peer.swarm as usize];
        if let Some(at) = peer.partial_of(piece) {
            let part = &peer.partial[at];
            let open = || {
                let indices = (0u32..).zip(&part.blocks);
                let open = indices.filter(|(_, owner)| **owner == OPEN);
                open.map(|(index, _)| Block::new(piece, index))
            };
            let shared = part
                .blocks
                .iter()
                .any(|owner| *owner != OPEN && *owner != GOT && *owner != end);
            let foreign = part.givers.iter().any(|giver| *giver != self.other(end));
            if (shared || foreign) && peer.on_parole(self.other(end)) {
                return;
            }
            if shared && contiguous > longest_run(&part.blocks) {
                if backup.len() < room {
                    backup.extend(open());
                }
            } else if contiguous > 0 {
                into.extend(open());
            } else {
                let missing = room - into.len();
                into.extend(open().take(missing));
            }
            return;
        }
        let (from, to) = self.expand(peer, piece, contiguous, swarm.blocks, candidates);
        let mut preferred = contiguous;
        for piece in from..to {
            bits::set(candidates, piece, false);
            for index in 0..swarm.blocks_in(piece) {
                if preferred == 0 && into.len() >= room {
                    return;
                }
                preferred = preferred.saturating_sub(1);
                into.push(Block::new(piece, index));
            }
        }
    }

    /// The pieces around one that may be taken with it.
    fn expand(
        &self,
        peer: &Peer,
        piece: u32,
        contiguous: usize,
        blocks: u32,
        candidates: &[u64],
    ) -> (u32, u32) {
        let whole = u32::try_from(contiguous)
            .unwrap_or(0)
            .div_ceil(blocks)
            .max(1);
        let free = |other: u32| bits::get(candidates, other) && peer.partial_of(other).is_none();
        let least = (piece + 1).saturating_sub(whole);
        let mut from = piece;
        while from > least && free(from - 1) {
            from -= 1;
        }
        let most = from + whole;
        let mut to = piece + 1;
        while to < most && free(to) {
            to += 1;
        }
        (from, to)
    }

    /// A block that another end was asked for, of a piece that this one has.
    pub(crate) fn pick_busy(&mut self, end: u32) -> Option<Block> {
        let node = self.ends[end as usize].node as usize;
        let shown: Vec<usize> = (0..self.peers[node].partial.len())
            .filter(|at| {
                let part = &self.peers[node].partial[*at];
                part.open == 0 && self.shows(end, part.piece)
            })
            .collect();
        let lot = self.rng.below(u32::try_from(shown.len()).unwrap_or(0)) as usize;
        let part = &self.peers[node].partial[*shown.get(lot)?];
        let busy: Vec<u32> = (0u32..)
            .zip(&part.blocks)
            .filter(|(_, owner)| **owner != GOT && **owner != end && **owner != OPEN)
            .map(|(index, _)| index)
            .collect();
        let piece = part.piece;
        let lot = self.rng.below(u32::try_from(busy.len()).unwrap_or(0)) as usize;
        Some(Block::new(piece, *busy.get(lot)?))
    }
}

/// Which pieces go before which: the rarer, and among the equally rare those that are begun. Before four pieces are here:
/// those begun, then any.
fn class(peer: &Peer, piece: u32, random_first: bool) -> u32 {
    let fresh = u32::from(peer.partial_of(piece).is_none());
    if random_first {
        return fresh;
    }
    u32::from(peer.copies[piece as usize]) * 2 + fresh
}

fn longest_run(blocks: &[u32]) -> usize {
    blocks
        .split(|owner| *owner != OPEN)
        .map(<[u32]>::len)
        .max()
        .unwrap_or(0)
}
