//! The bytes: from the swarms to the slaves, from slaves to masters and to slaves that relay, and what masters get by
//! themselves.

use super::{Conduct, Far, PIECE, World};
use swarm_core::io::{ConnFact, ConnId, Contributor, Input, PieceFact};

impl World {
    pub fn flow(&mut self) {
        for i in 0..self.slaves.len() {
            self.swarms_give(i);
            self.upload(i);
            self.by_itself(i);
        }
        for i in 0..self.slaves.len() {
            self.verify(i);
        }
    }

    fn bytes(&self, rate: u64) -> u64 {
        (rate as f64 * self.dt) as u64
    }

    /// Every torrent's swarm gives a slave its supply.
    fn swarms_give(&mut self, i: usize) {
        let bytes = self.bytes(self.slaves[i].plan.supply);
        let seeds: Vec<ConnId> = self.conns(i, |far| far == Far::Seed);
        for conn in seeds {
            self.give(i, conn, bytes);
        }
    }

    fn conns(&self, i: usize, test: impl Fn(Far) -> bool) -> Vec<ConnId> {
        let conns = self.slaves[i].conns.iter();
        conns
            .filter(|(_, conn)| test(conn.far))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Serves the leases of one connection of `i`; how much it took.
    fn give(&mut self, i: usize, id: ConnId, mut bytes: u64) -> u64 {
        let slave = &mut self.slaves[i];
        let Some(conn) = slave.conns.get_mut(&id) else {
            return 0;
        };
        let (mut facts, mut taken) = (Vec::new(), 0);
        while let Some((piece, left)) = conn.leases.front_mut().filter(|_| bytes > 0) {
            let part = bytes.min(*left);
            *left -= part;
            bytes -= part;
            taken += part;
            let (piece, done) = (*piece, *left == 0);
            let Some(buffer) = slave.cache.get_mut(&(conn.swarm, piece)) else {
                panic!("a lease without a permit");
            };
            let new = part.min(buffer.missing);
            buffer.missing -= new;
            *buffer.from.entry(id).or_default() += new;
            facts.push(ConnFact::Received {
                piece,
                bytes: u32::try_from(new).expect("small"),
                redundant: u32::try_from(part - new).expect("small"),
            });
            if done {
                conn.leases.pop_front();
                facts.push(ConnFact::LeaseDone { piece });
            }
        }
        let outstanding: u64 = conn.leases.iter().map(|(_, left)| *left).sum();
        if taken > 0 && outstanding < PIECE {
            facts.push(ConnFact::LeaseLow {
                outstanding,
                rate: slave.plan.supply,
            });
        }
        facts.into_iter().for_each(|fact| self.push(i, id, fact));
        taken
    }

    /// A slave's line is shared by whoever takes something of it.
    fn upload(&mut self, i: usize) {
        let takers: Vec<(ConnId, Far)> = self.slaves[i]
            .conns
            .iter()
            .map(|(id, conn)| (*id, conn.far))
            .collect();
        let serves_guests = self.slaves[i].plan.conduct != Conduct::ServesNothing;
        let mut active = Vec::new();
        for (id, far) in takers {
            let takes = match far {
                Far::Master(j) => (j == i || serves_guests) && self.next_piece(i, id, j),
                Far::Slave(j, other) => {
                    let lent = self.slaves[j].conns.get(&other);
                    serves_guests && lent.is_some_and(|conn| !conn.leases.is_empty())
                }
                Far::Seed => false,
            };
            if takes {
                active.push((id, far));
            }
        }
        let share = self.bytes(self.slaves[i].plan.line) / active.len().max(1) as u64;
        for (id, far) in active {
            match far {
                Far::Master(j) => self.feed_master(i, id, j, share),
                Far::Slave(j, other) => self.relay(i, id, j, other, share),
                Far::Seed => {}
            }
        }
    }

    /// What the master of `j` fetches from `i` now: something announced that it lacks and has of nobody else.
    fn next_piece(&mut self, i: usize, id: ConnId, j: usize) -> bool {
        let Some(master) = &self.masters[j] else {
            return false;
        };
        let busy: Vec<u32> = self
            .slaves
            .iter()
            .flat_map(|slave| slave.conns.values())
            .filter(|conn| conn.far == Far::Master(j))
            .filter_map(|conn| conn.current)
            .collect();
        let Some(conn) = self.slaves[i].conns.get_mut(&id).filter(|c| c.unchoked) else {
            return false;
        };
        if conn.current.is_none_or(|piece| master.have[piece as usize]) {
            let lacks = |piece: &&u32| !master.have[**piece as usize] && !busy.contains(piece);
            conn.current = conn.told.iter().find(lacks).copied();
            if let Some(piece) = conn.current {
                let left = PIECE - master.got[piece as usize];
                let bytes = u32::try_from(left).expect("small");
                self.push(i, id, ConnFact::Requested { piece, bytes });
                return true;
            }
        }
        conn.current.is_some()
    }

    fn feed_master(&mut self, i: usize, id: ConnId, j: usize, mut bytes: u64) {
        while bytes > 0 && self.next_piece(i, id, j) {
            let Some(piece) = self.slaves[i].conns.get(&id).and_then(|conn| conn.current) else {
                return;
            };
            let Some(master) = self.masters[j].as_mut() else {
                return;
            };
            let got = &mut master.got[piece as usize];
            let part = bytes.min(PIECE - *got);
            *got += part;
            bytes -= part;
            *master.downloaded.entry(i).or_default() += part;
            let whole = *got >= PIECE;
            if i != j {
                *self.slaves[i].gave.entry(j).or_default() += part;
            }
            let served = u32::try_from(part).expect("small");
            let fact = ConnFact::Served {
                piece,
                bytes: served,
            };
            self.push(i, id, fact);
            if whole {
                self.master_has(j, piece);
            }
        }
    }

    /// A master has a piece: everybody connected hears.
    fn master_has(&mut self, j: usize, piece: u32) {
        let t = self.t;
        let Some(master) = self.masters[j].as_mut() else {
            return;
        };
        master.have[piece as usize] = true;
        if master.have.iter().all(|have| *have) {
            master.done_at.get_or_insert(t);
        }
        let conns = master.conns.clone();
        for (i, conn) in conns {
            if let Some(open) = self.slaves[i].conns.get_mut(&conn) {
                open.current = open.current.filter(|p| *p != piece);
                self.push(i, conn, ConnFact::Have(piece));
            }
        }
    }

    /// From a helper's slave to a slave that relays.
    fn relay(&mut self, i: usize, id: ConnId, j: usize, other: ConnId, bytes: u64) {
        let pieces: Vec<(u32, u64)> = self.slaves[j]
            .conns
            .get(&other)
            .map_or(Vec::new(), |conn| conn.leases.iter().copied().collect());
        let mut taken = self.give(j, other, bytes);
        *self.slaves[i].gave.entry(j).or_default() += taken;
        for (piece, left) in pieces {
            let part = taken.min(left);
            taken -= part;
            let bytes = u32::try_from(part).expect("small");
            if bytes > 0 {
                self.push(i, id, ConnFact::Served { piece, bytes });
            }
        }
    }

    /// What a master gets of its swarm without us.
    fn by_itself(&mut self, i: usize) {
        let rate = self.slaves[i].plan.own;
        let salt = self.random();
        let part = rate as f64 * self.dt;
        let Some(master) = self.masters[i].as_mut() else {
            return;
        };
        master.own_part += part;
        if master.own_part >= PIECE as f64 {
            master.own_part -= PIECE as f64;
            let lacks: Vec<usize> = (0..master.have.len())
                .filter(|p| !master.have[*p])
                .collect();
            let Some(piece) = lacks.get(salt as usize % lacks.len().max(1)).copied() else {
                return;
            };
            let master = self.masters[i].as_mut().expect("there");
            master.got[piece] = PIECE;
            self.master_has(i, u32::try_from(piece).expect("few"));
        }
    }

    /// Whole pieces pass their hash.
    fn verify(&mut self, i: usize) {
        let whole: Vec<_> = self.slaves[i]
            .cache
            .iter()
            .filter(|(_, buffer)| !buffer.held && buffer.missing == 0)
            .map(|(key, _)| *key)
            .collect();
        for (torrent, piece) in whole {
            let slave = &mut self.slaves[i];
            let ok = !slave.spoiled.remove(&piece);
            let buffer = slave.cache.get_mut(&(torrent, piece)).expect("there");
            buffer.held = ok;
            let announce = buffer.announce.clone();
            let from = buffer.from.iter().map(|(conn, bytes)| Contributor {
                conn: *conn,
                bytes: u32::try_from(*bytes).expect("small"),
            });
            let contributors = from.collect();
            for (conn, bytes) in buffer.from.clone().into_iter().filter(|_| ok) {
                if let Some(other) = slave.links.get(&conn) {
                    *slave.handed.entry(*other).or_default() += bytes;
                }
            }
            if !ok {
                slave.cache.remove(&(torrent, piece));
            }
            for id in announce.into_iter().filter(|_| ok) {
                let Some(conn) = self.slaves[i].conns.get_mut(&id) else {
                    continue;
                };
                conn.told.insert(piece);
                if let Far::Slave(j, other) = conn.far {
                    self.push(j, other, ConnFact::Have(piece));
                    break;
                }
            }
            let mut facts = vec![PieceFact::Checked { ok, contributors }];
            if !ok {
                facts.push(PieceFact::Released);
            }
            self.flushed(i);
            let facts = facts.into_iter();
            let inputs = facts.map(|fact| Input::Piece(torrent, piece, fact));
            self.slaves[i].inbox.extend(inputs);
        }
    }

    /// A connection's facts come before what they led to.
    fn flushed(&mut self, i: usize) {
        let facts = core::mem::take(&mut self.slaves[i].facts);
        for (conn, facts) in facts {
            self.slaves[i].inbox.push(Input::Conn(conn, facts));
        }
    }
}
