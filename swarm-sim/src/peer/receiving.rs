//! Blocks that arrive, and the pieces they make.

use crate::bits;
use crate::events::{Block, Msg};
use crate::peer::{GOT, sharing};
use crate::world::World;

/// Points of trust: for a right piece, for a wrong one, when a node is banned, and the most (libtorrent's
/// `trust_points`).
const RIGHT: i32 = 1;
const WRONG: i32 = -2;
const BANNED: i32 = -7;
const TRUSTED: i32 = 8;

impl World {
    /// What a peer hears at one of its ends.
    pub(crate) fn heard(&mut self, end: u32, msg: Msg) {
        match msg {
            Msg::Choke => {
                self.ends[end as usize].unchoked = false;
                self.release(end, false);
            }
            Msg::Unchoke => {
                let at = &mut self.ends[end as usize];
                at.unchoked = true;
                if at.interested {
                    self.request_more(end);
                }
            }
            Msg::Interested => self.is_wanted(end, true),
            Msg::NotInterested => self.is_wanted(end, false),
            Msg::Have(piece) => self.hears_have(end, piece),
            Msg::DontHave(piece) => self.hears_dont_have(end, piece),
            Msg::Request(block) => self.asked(end, block),
            Msg::Cancel(block) => self.cancelled(end, block),
            Msg::Reject(block) => self.rejected(end, block),
            Msg::Data(block) => self.received(end, block, false),
            Msg::Poison(block) => self.received(end, block, true),
        }
    }

    fn received(&mut self, end: u32, block: Block, poison: bool) {
        let now = self.events.now;
        let bytes = self.block_len(end, block);
        self.landed(end, bytes);
        let at = &mut self.ends[end as usize];
        let node = at.node as usize;
        at.got += bytes;
        at.got_round += bytes;
        at.flow.received(now, bytes, at.unit);
        let place = at.flow.asked.iter().position(|asked| *asked == block);
        if let Some(place) = place {
            at.flow.asked.remove(place);
            at.flow.snubbed = false;
        }
        let acknowledge = self.acknowledge;
        let peer = &mut self.peers[node];
        peer.got += bytes;
        match &mut peer.limiter {
            Some(limiter) => limiter.charge(bytes * acknowledge / 1_000),
            None => peer.up.owed += bytes * acknowledge,
        }
        let part = peer.partial_of(block.piece());
        let useful = part.is_some_and(|at| !sharing::is_here(&peer.partial[at], block.index()));
        let Some(part) = part.filter(|_| useful) else {
            peer.wasted += bytes;
            return self.request_more(end);
        };
        self.store(node, end, part, block, poison);
        if self.ends[end as usize].open {
            self.request_more(end);
        }
    }

    fn store(&mut self, node: usize, end: u32, part: usize, block: Block, poison: bool) {
        let giver = self.other(end);
        let peer = &mut self.peers[node];
        let partial = &mut peer.partial[part];
        let owner = &mut partial.blocks[block.index() as usize];
        if *owner == crate::peer::OPEN {
            partial.open -= 1;
            if partial.open == 0 {
                bits::set(&mut peer.taken, block.piece(), true);
            }
        }
        *owner = GOT;
        partial.missing -= 1;
        partial.poisoned |= poison;
        if partial.givers.last() != Some(&giver) && !partial.givers.contains(&giver) {
            partial.givers.push(giver);
        }
        let (whole, doubled) = (partial.missing == 0, partial.doubled);
        if doubled {
            self.cancel_elsewhere(node, end, block);
        }
        if whole {
            self.finish(node, part);
        }
    }

    /// All blocks are here: the hash is right, or somebody lied.
    fn finish(&mut self, node: usize, part: usize) {
        let peer = &mut self.peers[node];
        let partial = peer.partial.swap_remove(part);
        bits::set(&mut peer.taken, partial.piece, false);
        let id = u32::try_from(node).unwrap_or(u32::MAX);
        if !partial.poisoned && !self.peers[node].trust.is_empty() {
            for giver in &partial.givers {
                self.peers[node].judge(*giver, RIGHT);
            }
        }
        if partial.poisoned {
            self.distrust(id, &partial.givers, partial.piece);
        } else {
            self.gained(id, partial.piece);
        }
        self.spare.push(partial.blocks);
    }

    /// A piece was wrong. Its only giver is banned; of several, each one whose trust is used up. Those who remain bring
    /// whole pieces alone from now on (libtorrent's parole), so that the next wrong one has a name.
    fn distrust(&mut self, node: u32, givers: &[u32], piece: u32) {
        let bytes = self.swarms[self.peers[node as usize].swarm as usize].piece_len(piece);
        self.peers[node as usize].wasted += bytes;
        for giver in givers {
            let peer = &mut self.peers[node as usize];
            let left = peer.judge(*giver, WRONG);
            if givers.len() > 1 && left > BANNED {
                continue;
            }
            peer.banned.push(*giver);
            let conns = peer.conns.clone();
            for end in conns {
                if self.other(end) == *giver {
                    self.disconnect(end, node);
                }
            }
        }
    }
}

impl crate::peer::Peer {
    /// Changes how far a node is trusted, and says how far that is. Who never gave anything wrong is not counted.
    fn judge(&mut self, node: u32, points: i32) -> i32 {
        let known = self.trust.iter().position(|(other, _)| *other == node);
        let at = match known {
            Some(at) => at,
            None if points > 0 => return 0,
            None => {
                self.trust.push((node, 0));
                self.trust.len() - 1
            }
        };
        self.trust[at].1 = (self.trust[at].1 + points).min(TRUSTED);
        self.trust[at].1
    }

    /// Whether a node gave to a wrong piece and has not made up for it.
    pub(crate) fn on_parole(&self, node: u32) -> bool {
        self.trust
            .iter()
            .any(|(other, left)| *other == node && *left < 0)
    }
}
