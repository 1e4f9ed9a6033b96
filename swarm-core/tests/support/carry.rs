//! What the brain orders, carried out.

use super::*;

impl Sim {
    pub(super) fn carry_out(&mut self, output: Output, inputs: &mut Vec<Input>) {
        match output {
            Output::Order(conn, order) => self.order(conn, order, inputs),
            Output::Dial(_, addr) => {
                let Some(i) = self
                    .peers
                    .iter()
                    .position(|p| p.addr == addr && p.conn.is_none())
                else {
                    inputs.push(Input::DialFailed(SWARM, addr));
                    return;
                };
                if self.peers[i].plan.dials_at.is_some_and(|at| at > self.t) {
                    inputs.push(Input::DialFailed(SWARM, addr));
                } else {
                    self.connect(i, false, inputs);
                }
            }
            Output::Retire(_, piece) => {
                assert!(
                    self.cache.contains_key(&piece),
                    "retired what is not there: {piece}"
                );
                for peer in &mut self.peers {
                    peer.leases.retain(|(p, _)| *p != piece);
                    let ours = peer.current.get(&US) == Some(&piece);
                    if ours {
                        peer.current.remove(&US);
                    }
                }
                self.released.push(piece);
            }
            Output::Note(note) => self.notes.push(note),
            Output::Leave(_) => self.left_swarm = Some(self.t),
            Output::Join(_)
            | Output::Forget(_)
            | Output::Scrape(_)
            | Output::WantPeers(_)
            | Output::Left(..)
            | Output::Listed(..)
            | Output::Friends(_)
            | Output::Rates(_)
            | Output::Save(_)
            | Output::Allow(_) => {}
        }
    }

    pub(super) fn connect(&mut self, i: usize, incoming: bool, inputs: &mut Vec<Input>) {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let mut peer_id = *b"-VP0001-000000000000";
        peer_id[19] = u8::try_from(i).expect("few peers");
        let peer = &mut self.peers[i];
        peer.conn = Some(conn);
        peer.greeted = false;
        let connected = ConnFact::Connected {
            swarm: SWARM,
            addr: peer.addr,
            incoming,
            peer_id,
            fast: true,
            extended: true,
        };
        let ext = Extended {
            donthave: peer.plan.donthave,
            reqq: Some(500),
            ..Extended::default()
        };
        let set = if peer.plan.kind == Kind::Seed {
            ConnFact::HaveAll
        } else {
            ConnFact::Bitfield(wire(&peer.have))
        };
        let mut facts = vec![connected, ConnFact::Extended(ext), set];
        if peer.plan.kind == Kind::Deaf {
            facts.push(ConnFact::Interested(true));
        }
        inputs.push(Input::Conn(conn, facts));
    }

    pub(super) fn disconnect(&mut self, i: usize) {
        let peer = &mut self.peers[i];
        peer.conn = None;
        peer.told.clear();
        peer.leases.clear();
        peer.unchoked = false;
        peer.interested = false;
        peer.we_want = false;
        peer.serves.remove(&US);
        peer.turns.remove(&US);
        peer.asked_before = false;
        peer.current.remove(&US);
        peer.facts.clear();
        peer.closed += 1;
    }

    pub(super) fn order(&mut self, conn: ConnId, order: Order, inputs: &mut Vec<Input>) {
        let Some(i) = self.peers.iter().position(|p| p.conn == Some(conn)) else {
            return;
        };
        let held =
            |piece: u32, cache: &BTreeMap<u32, Buffer>| cache.get(&piece).is_some_and(|b| b.held);
        match order {
            Order::Hello { have, role } => {
                assert_eq!(have, Shown::None);
                assert!(!self.peers[i].greeted, "hello twice");
                assert_eq!(
                    matches!(role, Role::Master(_)),
                    self.peers[i].plan.kind == Kind::Master
                );
                self.peers[i].greeted = true;
            }
            Order::Role(_) => {}
            Order::Unchoke(yes) => {
                self.peers[i].unchoked = yes;
                if !yes {
                    self.peers[i].current.remove(&US);
                }
            }
            Order::Interested(yes) => {
                assert!(
                    !yes || self.peers[i].plan.kind != Kind::Master,
                    "interested in a master"
                );
                self.peers[i].we_want = yes;
                self.peers[i].asked_before = false;
            }
            Order::Announce(piece) => {
                assert!(
                    held(piece, &self.cache),
                    "announced piece {piece}, which is not held"
                );
                self.peers[i].told.insert(piece);
            }
            Order::Withdraw(piece) => {
                if self.peers[i].plan.donthave {
                    self.peers[i].told.remove(&piece);
                }
                if self.peers[i].current.get(&US) == Some(&piece) {
                    self.peers[i].current.remove(&US);
                }
            }
            Order::Fetch(fetch) => self.lease(i, &fetch),
            Order::Revoke(piece) => self.peers[i].leases.retain(|(p, _)| *p != piece),
            Order::Close => {
                self.disconnect(i);
                inputs.push(Input::Conn(conn, vec![ConnFact::Closed(CloseReason::Ours)]));
            }
        }
    }

    /// A lease of what is still missing; of what is there already, nothing is left to do.
    pub(super) fn lease(&mut self, i: usize, fetch: &Fetch) {
        assert!(
            self.peers[i].plan.kind != Kind::Master,
            "a block request to a master"
        );
        let size = self.size(fetch.piece);
        let buffer = self.cache.entry(fetch.piece).or_default();
        if buffer.held || (buffer.missing == 0 && !buffer.contributors.is_empty()) {
            let piece = fetch.piece;
            self.peers[i].facts.push(ConnFact::LeaseDone { piece });
            return;
        }
        if buffer.contributors.is_empty() && buffer.missing == 0 {
            buffer.missing = size;
            self.fetched[fetch.piece as usize] += 1;
        }
        buffer.announce = fetch.announce.to_vec();
        let range = u64::from(fetch.blocks.end - fetch.blocks.start) * BLOCK;
        let bytes = range.min(size).min(buffer.missing);
        self.peers[i].leases.push_back((fetch.piece, bytes));
    }
}
