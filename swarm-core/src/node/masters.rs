//! Masters: configured, recognised, reached.

use crate::io::friends::FriendId;
use crate::io::{ConnId, MasterFact, MasterId, Note, Order, Role, SwarmId};
use crate::node::Node;
use crate::node::desk::Desk;
use crate::peer::{Class, Peer};
use crate::policy::split::{self, SplitFacts};
use crate::swarm::Swarm;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A configured master.
#[derive(Debug, Default)]
pub(crate) struct Master {
    pub(crate) name: String,
    pub(crate) share: f64,
    pub(crate) slave_key: u64,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) peer_port: Option<u16>,
    /// Bytes sent to it in swarms that are forgotten.
    pub(crate) sent_before: u64,
}

impl Master {
    fn is_at(&self, ip: IpAddr) -> bool {
        self.addrs.iter().any(|addr| addr.ip() == ip)
    }

    fn listens_on(&self, ip: IpAddr, port: u16) -> bool {
        self.peer_port == Some(port) || self.addrs.contains(&SocketAddr::new(ip, port))
    }
}

/// What a connection from a master's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Peer,
    Master(MasterId),
    /// A friend's master.
    Guest(FriendId),
    /// Perhaps a master: nothing is asked of it until it says where it listens.
    Wait,
}

impl Verdict {
    /// What the connection is to us, then.
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Master(id) => Role::Master(id),
            Self::Guest(friend) => Role::Guest(friend),
            Self::Peer | Self::Wait => Role::Peer,
        }
    }
}

/// Source = a resolved address of the master. When more than one peer comes from there (or on loopback, where one
/// machine plays many), the port it listens on decides: the one we dialled, or its BEP 10 `p`, against the
/// configured port or the one its RPC reported.
fn judge(masters: &BTreeMap<MasterId, Master>, peer: &Peer, others: usize) -> Verdict {
    let ip = peer.addr.ip();
    let Some((id, _)) = masters.iter().find(|(_, master)| master.is_at(ip)) else {
        return Verdict::Peer;
    };
    let port = if peer.incoming {
        peer.ext.listen_port
    } else {
        Some(peer.addr.port())
    };
    let crowded = others > 0 || ip.is_loopback();
    match port {
        Some(port) => {
            let exact = masters
                .iter()
                .find(|(_, master)| master.is_at(ip) && master.listens_on(ip, port));
            match exact {
                Some((id, _)) => Verdict::Master(*id),
                None if peer.incoming && !crowded => Verdict::Master(*id),
                None => Verdict::Peer,
            }
        }
        None if others == 0 && (!ip.is_loopback() || peer.ext_seen || !peer.extended) => {
            Verdict::Master(*id)
        }
        None => Verdict::Wait,
    }
}

impl Swarm {
    /// Settles who the connections from masters' addresses are.
    pub(crate) fn recognise(&mut self, desk: &mut Desk, masters: &BTreeMap<MasterId, Master>) {
        let at_master =
            |peer: &&Peer| masters.values().any(|m| m.is_at(peer.addr.ip())) || peer.is_master();
        let suspects: Vec<ConnId> = self
            .peers
            .values()
            .filter(at_master)
            .map(|peer| peer.conn)
            .collect();
        for conn in suspects {
            let verdict = self.judge(masters, conn);
            self.set_role(desk, conn, verdict);
        }
    }

    pub(crate) fn judge(&self, masters: &BTreeMap<MasterId, Master>, conn: ConnId) -> Verdict {
        let Some(peer) = self.peers.get(&conn) else {
            return Verdict::Peer;
        };
        let same = |other: &&Peer| {
            other.conn != conn && other.addr.ip() == peer.addr.ip() && !other.closing
        };
        judge(masters, peer, self.peers.values().filter(same).count())
    }

    fn set_role(&mut self, desk: &mut Desk, conn: ConnId, verdict: Verdict) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let role = verdict.role();
        peer.suspect = verdict == Verdict::Wait;
        let guest = peer.is_guest() && role == Role::Peer;
        if peer.role == role || peer.closing || guest {
            return;
        }
        if let Role::Master(old) = peer.role {
            self.links.entry(old).or_default().conn = None;
            self.master_conns.retain(|master| *master != conn);
        }
        peer.role = role;
        desk.order(conn, Order::Role(role));
        self.enter_role(desk, conn);
    }

    /// What follows from a role, at the start and when it changes.
    pub(crate) fn enter_role(&mut self, desk: &mut Desk, conn: ConnId) {
        self.retie(conn);
        self.reclass(desk.now, conn);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if !peer.only_given() {
            return;
        }
        let role = peer.role;
        if peer.interested {
            peer.interested = false;
            desk.order(conn, Order::Interested(false));
        }
        let leased: Vec<u32> = peer.leases.keys().copied().collect();
        let known = peer.known.then(|| peer.have.clone());
        for piece in leased {
            if let Some(lease) = self.end_lease(desk, conn, piece, true) {
                self.reopen(desk, piece, lease.blocks, false);
            }
        }
        let Role::Master(id) = role else {
            self.unchoke(desk, conn, true);
            return self.offer(desk, conn);
        };
        let link = self.links.entry(id).or_default();
        link.conn = Some(conn);
        link.dialling = None;
        self.master_conns.push(conn);
        desk.note(Note::MasterFound(id, conn));
        self.unchoke(desk, conn, true);
        if let Some(set) = known {
            self.has_set(desk, conn, set);
        }
    }
}

impl Node {
    /// Something about a master.
    pub(crate) fn master_fact(&mut self, id: MasterId, fact: MasterFact) {
        match fact {
            MasterFact::Configured {
                name,
                share,
                slave_key,
            } => {
                let master = self.masters.entry(id).or_default();
                (master.name, master.share, master.slave_key) = (name, share, slave_key);
                self.desk.slave_key = slave_key;
            }
            MasterFact::Resolved(addrs) => self.masters.entry(id).or_default().addrs = addrs,
            MasterFact::PeerPort(port) => {
                self.masters.entry(id).or_default().peer_port = Some(port)
            }
            MasterFact::Invited(_) => return,
            MasterFact::Removed => {
                self.masters.remove(&id);
                for swarm in self.swarms.values_mut() {
                    swarm.links.remove(&id);
                }
            }
        }
        self.desk.masters_configured = !self.masters.is_empty();
        for swarm in self.swarms.values_mut() {
            swarm.recognise(&mut self.desk, &self.masters);
        }
        self.dial_masters();
    }

    /// Where a master is dialled: its addresses, on the port its RPC reported where it did.
    pub(crate) fn master_addrs(master: &Master) -> Vec<SocketAddr> {
        let at =
            |addr: &SocketAddr| SocketAddr::new(addr.ip(), master.peer_port.unwrap_or(addr.port()));
        let mut addrs: Vec<SocketAddr> = master.addrs.iter().map(at).collect();
        addrs.dedup();
        addrs
    }

    pub(crate) fn dial_masters(&mut self) {
        for (id, master) in &self.masters {
            let addrs = Self::master_addrs(master);
            for swarm in self.swarms.values_mut() {
                swarm.dial_master(&mut self.desk, *id, &addrs);
            }
        }
    }

    /// A dial to this address failed: whether it was a master's.
    pub(crate) fn master_dial_failed(&mut self, swarm: SwarmId, addr: SocketAddr) {
        let Some(swarm) = self.swarms.get_mut(&swarm) else {
            return;
        };
        for (id, master) in &self.masters {
            let tried = swarm
                .links
                .get(id)
                .is_some_and(|link| link.dialling.is_some());
            if tried && master.is_at(addr.ip()) {
                swarm.master_failed(&self.desk, *id);
            }
        }
    }

    /// Every address that is dialled as a master and not as a peer.
    pub(crate) fn all_master_addrs(&self) -> Vec<SocketAddr> {
        self.masters.values().flat_map(Self::master_addrs).collect()
    }

    /// Pieces a master lacks in joined swarms; `None`: it was seen nowhere.
    pub(crate) fn missing(&self, id: MasterId) -> Option<u64> {
        let sets = self
            .swarms
            .values()
            .filter(|s| s.joined())
            .filter_map(|s| s.links.get(&id)?.have.as_ref());
        sets.map(|have| u64::from(have.len() - have.count_ones()))
            .reduce(|a, b| a + b)
    }

    /// The master is connected in some joined swarm where it lacks something.
    fn connected_missing(&self, id: MasterId) -> u64 {
        let linked = self.swarms.values().filter_map(|swarm| {
            let conn = swarm.links.get(&id)?.conn?;
            swarm
                .peers
                .get(&conn)
                .filter(|peer| peer.known && peer.class == Class::Master)
        });
        linked
            .map(|peer| u64::from(peer.have.len() - peer.have.count_ones()))
            .sum()
    }

    /// The rates that follow from limits and masters' needs.
    pub(crate) fn rates(&self) -> crate::io::Rates {
        let facts = self.masters.iter().map(|(id, m)| SplitFacts {
            share: m.share,
            missing: self.connected_missing(*id),
        });
        let (upload, download) = self.desk.rates();
        crate::io::Rates {
            upload,
            download,
            master_share: split::master_share(facts),
            guest_share: split::GUEST_SHARE,
        }
    }
}
