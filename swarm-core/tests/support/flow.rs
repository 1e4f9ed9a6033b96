//! What peers pick, and the bytes that flow between them and us.

use super::*;

impl Sim {
    /// The rarest piece of `offer` that `j` lacks, not yet asked of another unless nothing else is left.
    pub(super) fn pick(&mut self, j: usize, offer: &dyn Fn(usize) -> bool) -> Option<u32> {
        let busy: BTreeSet<u32> = self.peers[j].current.values().copied().collect();
        let salt = self.random();
        let holders = |p: usize| self.peers.iter().filter(|peer| peer.have[p]).count();
        let wanted = (0..self.count as usize).filter(|p| !self.peers[j].have[*p] && offer(*p));
        let key = |p: &usize| {
            let asked = busy.contains(&u32::try_from(*p).expect("small"));
            (
                asked,
                self.peers[j].got[*p] == 0,
                holders(*p),
                (*p as u64).wrapping_mul(salt | 1) % 1009,
            )
        };
        wanted
            .min_by_key(key)
            .map(|p| u32::try_from(p).expect("small"))
    }

    pub(super) fn upload_of(&mut self, i: usize) {
        let served: Vec<usize> = self.peers[i].serves.iter().copied().collect();
        let mut active = Vec::new();
        for j in served {
            if j == US {
                if !self.peers[i].leases.is_empty() {
                    active.push(US);
                }
                continue;
            }
            if self.current(j, i).is_some() {
                active.push(j);
            }
        }
        let share = (self.peers[i].plan.up as f64 * self.dt / active.len().max(1) as f64) as u64;
        for j in active {
            if j == US {
                self.give_us(i, share)
            } else {
                self.serve_peer(i, j, share)
            }
        }
    }

    /// What `j` is fetching from `i` (or from us).
    pub(super) fn current(&mut self, j: usize, i: usize) -> Option<u32> {
        if let Some(piece) = self.peers[j].current.get(&i).copied() {
            return Some(piece);
        }
        let offered: Vec<bool> = if i == US {
            (0..self.count)
                .map(|p| self.peers[j].told.contains(&p))
                .collect()
        } else {
            self.peers[i].have.clone()
        };
        let piece = self.pick(j, &|p| offered[p])?;
        self.peers[j].current.insert(i, piece);
        if i == US {
            let bytes =
                u32::try_from(self.size(piece) - self.peers[j].got[piece as usize]).expect("small");
            self.peers[j]
                .facts
                .push(ConnFact::Requested { piece, bytes });
        }
        Some(piece)
    }

    pub(super) fn serve_peer(&mut self, i: usize, j: usize, mut bytes: u64) {
        while bytes > 0 {
            let Some(piece) = self.current(j, i) else {
                return;
            };
            let size = self.size(piece);
            let peer = &mut self.peers[j];
            let part = bytes.min(size - peer.got[piece as usize]);
            peer.got[piece as usize] += part;
            *peer.gave.entry(i).or_default() += part;
            bytes -= part;
            if let Some((_, sent)) = self
                .peers
                .get_mut(i)
                .and_then(|giver| giver.turns.get_mut(&j))
            {
                *sent += part;
            }
            let peer = &mut self.peers[j];
            if i == US {
                self.up += part;
                peer.from_us += part;
                if peer.plan.kind == Kind::Master {
                    self.to_master += part;
                }
                peer.facts.push(ConnFact::Served {
                    piece,
                    bytes: u32::try_from(part).expect("small"),
                });
            }
            if peer.got[piece as usize] >= size {
                peer.have[piece as usize] = true;
                peer.current.retain(|_, p| *p != piece);
                peer.facts.push(ConnFact::Have(piece));
                if peer.have.iter().all(|have| *have) && peer.done_at.is_none() {
                    peer.done_at = Some(self.t);
                }
            }
        }
    }

    pub(super) fn give_us(&mut self, i: usize, mut bytes: u64) {
        let conn = self.peers[i].conn.expect("connected");
        while bytes > 0 {
            let Some((piece, left)) = self.peers[i].leases.front_mut() else {
                return;
            };
            let part = bytes.min(*left);
            *left -= part;
            let (piece, done) = (*piece, *left == 0);
            bytes -= part;
            if let Some((_, sent)) = self.peers[i].turns.get_mut(&US) {
                *sent += part;
            }
            let Some(buffer) = self.cache.get_mut(&piece) else {
                panic!("lease without a permit")
            };
            let new = part.min(buffer.missing);
            buffer.missing -= new;
            let gave = u32::try_from(new).expect("small");
            let before = buffer.contributors.iter_mut().find(|one| one.conn == conn);
            match before {
                Some(one) => one.bytes += gave,
                None => buffer.contributors.push(Contributor { conn, bytes: gave }),
            }
            self.down += part;
            let redundant = u32::try_from(part - new).expect("small");
            let bytes = u32::try_from(new).expect("small");
            self.peers[i].facts.push(ConnFact::Received {
                piece,
                bytes,
                redundant,
            });
            if done {
                self.peers[i].leases.pop_front();
                self.peers[i].facts.push(ConnFact::LeaseDone { piece });
            }
        }
        let outstanding: u64 = self.peers[i].leases.iter().map(|(_, left)| *left).sum();
        if outstanding < self.piece / 2 {
            let rate = 0;
            self.peers[i]
                .facts
                .push(ConnFact::LeaseLow { outstanding, rate });
        }
    }

    pub(super) fn our_upload(&mut self) {
        let mut active = Vec::new();
        for j in 0..self.peers.len() {
            let downloads = matches!(self.peers[j].plan.kind, Kind::Leecher | Kind::Master);
            if self.peers[j].conn.is_none() || !downloads {
                continue;
            }
            let wants = self.peers[j]
                .told
                .iter()
                .any(|p| !self.peers[j].have[*p as usize]);
            if wants != self.peers[j].interested {
                self.peers[j].interested = wants;
                self.peers[j].facts.push(ConnFact::Interested(wants));
            }
            if wants && self.peers[j].unchoked && self.current(j, US).is_some() {
                active.push(j);
            }
        }
        let share = (self.up_rate * self.dt / active.len().max(1) as f64) as u64;
        for j in active {
            self.serve_peer(US, j, share);
        }
    }

    pub(super) fn flush(&mut self) {
        let mut inputs = Vec::new();
        for peer in &mut self.peers {
            let facts = std::mem::take(&mut peer.facts);
            if let (Some(conn), false) = (peer.conn, facts.is_empty()) {
                inputs.push(Input::Conn(conn, facts));
            }
        }
        let whole: Vec<u32> = self
            .cache
            .iter()
            .filter(|(_, b)| !b.held && b.missing == 0)
            .map(|(piece, _)| *piece)
            .collect();
        for piece in whole {
            let Some(buffer) = self.cache.get_mut(&piece) else {
                continue;
            };
            buffer.held = true;
            let (announce, contributors) = (buffer.announce.clone(), buffer.contributors.clone());
            for peer in self
                .peers
                .iter_mut()
                .filter(|p| p.conn.is_some_and(|conn| announce.contains(&conn)))
            {
                peer.told.insert(piece);
            }
            inputs.push(Input::Piece(
                SWARM,
                piece,
                PieceFact::Checked {
                    ok: true,
                    contributors,
                },
            ));
        }
        if self.node.poll_timeout().is_some_and(|at| at <= self.now()) {
            inputs.push(Input::Timer);
        }
        self.feed(inputs);
    }
}
