//! Facts of one connection, applied to its swarm.

use crate::io::{ConnFact, ConnId, Defence, Extended, Note, Order, Role};
use crate::node::desk::Desk;
use crate::peer::{Class, Peer};
use crate::swarm::Swarm;
use crate::time::Timestamp;
use bt_wire::bitfield::Bitfield;
use std::net::{IpAddr, SocketAddr};

impl Swarm {
    /// One fact of a connection that is known here. `Connected`, `Extended` and `Closed` are the node's business.
    pub(crate) fn conn_fact(&mut self, desk: &mut Desk, conn: ConnId, fact: ConnFact) {
        match fact {
            ConnFact::Connected { .. }
            | ConnFact::Extended(_)
            | ConnFact::Slave(_)
            | ConnFact::Closed(_) => {}
            ConnFact::Bitfield(bytes) => {
                if let Ok(set) = Bitfield::from_wire(&bytes, self.pieces()) {
                    self.has_set(desk, conn, set);
                }
            }
            ConnFact::HaveAll => self.has_set(desk, conn, Bitfield::full(self.pieces())),
            ConnFact::HaveNone => self.has_set(desk, conn, Bitfield::new(self.pieces())),
            ConnFact::Have(piece) => self.has(desk, conn, piece),
            ConnFact::DontHave(piece) => self.has_no_more(desk, conn, piece),
            ConnFact::Interested(yes) => self.wants_us(desk, conn, yes),
            ConnFact::Choking(yes) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.chokes_us = yes;
                    if !yes {
                        peer.open = desk.now;
                    }
                }
                if yes {
                    self.consider_interest(desk, conn);
                }
                self.top_up(desk, conn);
            }
            ConnFact::AllowedFast(piece) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.allowed.insert(piece);
                }
                self.top_up(desk, conn);
            }
            ConnFact::Requested { piece, .. } => self.requested(desk, conn, piece),
            ConnFact::Served { piece, bytes } => self.served(desk, conn, piece, bytes.into()),
            ConnFact::Refused { piece, .. } => self.undelivered(desk, conn, piece),
            ConnFact::Received {
                piece,
                bytes,
                redundant,
            } => {
                self.received(desk, conn, piece, bytes.into(), redundant.into());
            }
            ConnFact::LeaseLow { rate, .. } => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.told_rate = rate;
                }
                self.top_up(desk, conn);
            }
            ConnFact::LeaseDone { piece } => {
                self.lease_done(desk, conn, piece);
                self.top_up(desk, conn);
            }
            ConnFact::LeaseLost { piece, why } => self.lease_lost(desk, conn, piece, why),
        }
    }

    /// Its whole set.
    pub(crate) fn has_set(&mut self, desk: &mut Desk, conn: ConnId, set: Bitfield) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        self.avail.leave(peer.class, &peer.have);
        peer.class = Class::Unknown;
        peer.have = set;
        peer.known = true;
        let told: Vec<u32> = peer
            .told
            .keys()
            .copied()
            .filter(|piece| peer.have.get(*piece))
            .collect();
        for piece in told {
            self.untell(desk, conn, piece);
        }
        if let Some(Peer {
            delivered, have, ..
        }) = self.peers.get_mut(&conn)
        {
            delivered.retain(|piece, _| !have.get(*piece));
        }
        self.reclass(desk.now, conn);
        self.note_master_set(conn);
        self.offer(desk, conn);
        self.consider_interest(desk, conn);
        self.top_up(desk, conn);
        self.wake_idle(desk, conn);
    }

    /// A master's arrival, or its loss of a piece, opens work for everybody else.
    pub(crate) fn wake_idle(&mut self, desk: &mut Desk, conn: ConnId) {
        if !self.peers.get(&conn).is_some_and(Peer::is_master) {
            return;
        }
        self.master_plan.built = None;
        self.master_plan.queue.clear();
        let idle: Vec<ConnId> = self
            .peers
            .values()
            .filter(|peer| peer.may_fetch())
            .map(|peer| peer.conn)
            .collect();
        for conn in idle {
            self.top_up(desk, conn);
        }
    }

    fn note_master_set(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        if let Role::Master(id) = peer.role {
            self.links.entry(id).or_default().have = Some(peer.have.clone());
        }
    }

    /// Counts the peer by what it is now.
    pub(crate) fn reclass(&mut self, now: Timestamp, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let class = peer.classify();
        if class != peer.class {
            self.avail.leave(peer.class, &peer.have);
            self.avail.enter(now, class, &peer.have);
            peer.class = class;
        }
        if class == Class::Seed
            && let Some(known) = self.book.get_mut(&peer.addr)
        {
            known.seed = true;
        }
    }

    fn has(&mut self, desk: &mut Desk, conn: ConnId, piece: u32) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if !peer.have.set(piece, true) {
            return;
        }
        peer.known = true;
        peer.delivered.remove(&piece);
        let (class, full, addr) = (peer.class, peer.have.is_full(), peer.addr);
        self.avail.gained(desk.now, class, piece);
        self.gains += u64::from(class == Class::Downloader);
        if class == Class::Unknown || full {
            self.reclass(desk.now, conn);
        }
        self.echo(addr, piece);
        self.untell(desk, conn, piece);
        if let Some(Role::Master(id)) = self.peers.get(&conn).map(|peer| peer.role) {
            if let Some(have) = self.links.entry(id).or_default().have.as_mut() {
                have.set(piece, true);
            } else {
                self.note_master_set(conn);
            }
            return;
        }
        if self.active.contains_key(&piece) {
            return;
        }
        let idle = self
            .peers
            .get(&conn)
            .is_some_and(|p| p.may_fetch() && p.leases.is_empty());
        if self.peers.get(&conn).is_some_and(|peer| !peer.interested) {
            self.consider_interest(desk, conn);
        }
        if idle {
            self.top_up(desk, conn);
        }
    }

    /// A piece we gave to somebody is announced by another network: the swarm spreads it on.
    fn echo(&mut self, addr: SocketAddr, piece: u32) {
        let Some(active) = self.active.get_mut(&piece) else {
            return;
        };
        let addr = copy_key(addr);
        let given_to_others = active.served.keys().any(|other| *other != addr);
        if given_to_others
            && !active.served.contains_key(&addr)
            && active.echoes.insert(network(addr))
        {
            self.echoes += 1;
        }
    }

    fn has_no_more(&mut self, desk: &mut Desk, conn: ConnId, piece: u32) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.delivered.remove(&piece);
        let class = peer.class;
        let was_full = class == Class::Seed;
        if was_full {
            self.avail.leave(class, &peer.have);
            peer.class = Class::Unknown;
        }
        if !peer.have.set(piece, false) {
            return;
        }
        if was_full {
            self.reclass(desk.now, conn);
        } else {
            self.avail.lost(class, piece);
        }
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if peer.shown.get(piece) {
            peer.shown.set(piece, false);
            desk.order(conn, Order::Withdraw(piece));
        }
        self.note_master_set(conn);
        self.offer(desk, conn);
    }

    fn requested(&mut self, desk: &Desk, conn: ConnId, piece: u32) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.last_asked = Some(desk.now);
        if let Some(told) = peer.told.get_mut(&piece) {
            if told.asked.is_none() && !matches!(peer.role, Role::Master(_)) {
                let lag = desk.now.since(told.at).as_secs_f64();
                self.lag_s += (lag.min(10.0) - self.lag_s) * 0.05;
            }
            told.asked = Some(desk.now);
        }
        if let Some(active) = self.active.get_mut(&piece) {
            active.touched = desk.now;
        }
    }

    fn served(&mut self, desk: &mut Desk, conn: ConnId, piece: u32, bytes: u64) {
        self.up.add(bytes);
        desk.up.add(bytes);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.up.add(bytes);
        peer.last_served = desk.now;
        let size = self
            .active
            .get(&piece)
            .map_or(u64::MAX, |active| active.size);
        let mut whole = false;
        if let Some(told) = peer.told.get_mut(&piece) {
            told.served += bytes;
            whole = told.served >= size;
            if whole {
                told.sent = Some(desk.now);
            }
        }
        let (addr, role) = (peer.addr, peer.role);
        if let Role::Master(id) = role {
            self.to_master += bytes;
            self.links.entry(id).or_default().sent += bytes;
            if whole {
                self.delivered_to(desk, conn, piece);
            }
            return;
        }
        if let Role::Guest(_) = role {
            return;
        }
        self.account.given += bytes;
        self.account.hour.gave(desk.now, bytes);
        self.demand_seen = desk.now;
        if self.hold == crate::io::Hold::Cache {
            self.count_copies(desk, conn, addr, piece, bytes);
        }
    }

    /// At most 1.1 copies of a piece to one address (policy.md: against gaming).
    fn count_copies(
        &mut self,
        desk: &mut Desk,
        conn: ConnId,
        addr: SocketAddr,
        piece: u32,
        bytes: u64,
    ) {
        let Some(active) = self.active.get_mut(&piece) else {
            return;
        };
        let count = active.served.entry(copy_key(addr)).or_default();
        *count += bytes;
        if *count > active.size + active.size / 10 + 32_768 {
            desk.note(Note::Fired(conn, Defence::CopyLimit));
            self.close(desk, conn);
        }
    }

    /// BEP 10 facts, merged over what is known.
    pub(crate) fn extended(&mut self, desk: &mut Desk, conn: ConnId, ext: Extended) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.ext = ext;
        peer.ext_seen = true;
        self.retie(conn);
        self.reclass(desk.now, conn);
        self.offer(desk, conn);
    }
}

/// An address without its port, but on loopback, where one machine plays many.
fn copy_key(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_loopback() {
        addr
    } else {
        SocketAddr::new(addr.ip(), 0)
    }
}

/// The /24 (IPv4) or /48 (IPv6) of an address; on loopback the port, where one machine plays many.
fn network(addr: SocketAddr) -> [u8; 6] {
    let mut key = [0; 6];
    match addr.ip() {
        IpAddr::V4(v4) if v4.is_loopback() => key[..2].copy_from_slice(&addr.port().to_be_bytes()),
        IpAddr::V4(v4) => key[..3].copy_from_slice(&v4.octets()[..3]),
        IpAddr::V6(v6) => key.copy_from_slice(&v6.octets()[..6]),
    }
    key
}
