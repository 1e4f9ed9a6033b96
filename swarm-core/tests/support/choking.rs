//! Whom the virtual peers unchoke: libtorrent's rules, which decide how a free repeater gets under way.

use std::collections::BTreeSet;

use swarm_core::io::{ConnFact, LeaseEnd};

use super::{Kind, Sim, US};

impl Sim {
    /// Every 15 s, as libtorrent does it with so many slots. A leecher: the best givers since the last time, and one
    /// optimistic slot that turns every 30 s. A seed: who waited longest among those that had their turn of
    /// 60 s and 20 pieces; before that everybody keeps his slot.
    pub(super) fn peers_rechoke(&mut self) {
        let turn = self.rechokes.is_multiple_of(2);
        self.rechokes += 1;
        for i in 0..self.peers.len() {
            if self.peers[i].plan.up == 0 {
                continue;
            }
            let mut wanting = self.wanting(i);
            let salt = self.random() | 1;
            let lot = |j: usize| (j as u64).wrapping_mul(salt) % 1009;
            let peer = &self.peers[i];
            if peer.plan.kind == Kind::Seed {
                let sated = |j: &usize| {
                    let (since, bytes) = peer.turns.get(j).copied().unwrap_or((self.t, 0));
                    peer.serves.contains(j) && self.t - since >= 60.0 && bytes >= 20 * self.piece
                };
                wanting.sort_by_key(|j| (sated(j), !peer.serves.contains(j), lot(*j)));
            } else {
                let given = |j: &usize| peer.gave.get(j).copied().unwrap_or(0);
                wanting.sort_by_key(|j| (std::cmp::Reverse(given(j)), lot(*j)));
            }
            let rest = wanting.split_off(wanting.len().min(self.slots - 1));
            let kept = peer.optimistic.filter(|j| !turn && rest.contains(j));
            let next = kept.or_else(|| rest.iter().copied().min_by_key(|j| lot(*j)));
            wanting.extend(next.filter(|_| turn || kept.is_some()));
            self.peers[i].optimistic = next;
            self.serve(i, wanting.into_iter().collect());
            self.peers[i].gave.clear();
        }
    }

    /// Who wants something of this peer.
    fn wanting(&self, i: usize) -> Vec<usize> {
        let others = (0..self.peers.len()).filter(|j| {
            let peer = &self.peers[*j];
            *j != i && peer.plan.kind == Kind::Leecher && peer.done_at.is_none()
        });
        let us = self.peers[i].we_want && self.peers[i].conn.is_some();
        others.chain(us.then_some(US)).collect()
    }

    fn serve(&mut self, i: usize, served: BTreeSet<usize>) {
        let was = std::mem::take(&mut self.peers[i].serves);
        for j in &served {
            if !was.contains(j) {
                self.peers[i].turns.insert(*j, (self.t, 0));
            }
        }
        let changed = was.contains(&US) != served.contains(&US);
        self.peers[i].serves = served;
        if changed {
            self.tell_choke(i);
        }
    }

    /// A free slot is given at once.
    pub(super) fn fill_slots(&mut self) {
        for i in 0..self.peers.len() {
            if self.peers[i].plan.up == 0 || self.peers[i].serves.len() >= self.slots {
                continue;
            }
            let fresh = self.peers[i].we_want
                && self.peers[i].conn.is_some()
                && !self.peers[i].asked_before;
            if fresh {
                self.peers[i].asked_before = true;
                let mut served = self.peers[i].serves.clone();
                served.insert(US);
                self.serve(i, served);
            }
        }
    }

    fn tell_choke(&mut self, i: usize) {
        let served = self.peers[i].serves.contains(&US);
        if self.peers[i].conn.is_some() {
            self.peers[i].facts.push(ConnFact::Choking(!served));
            if !served {
                let lost: Vec<u32> = self.peers[i].leases.drain(..).map(|(p, _)| p).collect();
                for piece in lost {
                    let why = LeaseEnd::Choked;
                    self.peers[i].facts.push(ConnFact::LeaseLost { piece, why });
                }
            }
        }
    }
}
