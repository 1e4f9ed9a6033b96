//! Addresses: remembered, dialled, banned; connections closed.

use crate::io::{ConnId, Defence, LeaveReason, MasterId, Note, Order, Output, PeerSource};
use crate::node::desk::Desk;
use crate::peer::{Class, Peer};
use crate::policy::{belief, dial, rendezvous};
use crate::swarm::{Address, Standing, Swarm};
use core::cmp::Reverse;
use core::time::Duration;
use std::net::SocketAddr;

/// Trackers are asked for more peers at most so often.
const ASK_AGAIN: Duration = Duration::from_secs(60);

impl Swarm {
    /// Somebody named addresses.
    pub(crate) fn named(&mut self, desk: &mut Desk, addrs: Vec<SocketAddr>, source: PeerSource) {
        for addr in addrs {
            if self.book.len() >= dial::ADDRESSES && !self.book.contains_key(&addr) {
                desk.note(Note::NotDialled(addr, Defence::AddressLimit));
                continue;
            }
            let known = self.book.entry(addr).or_insert(Address {
                source,
                fails: 0,
                next: desk.now,
                dialling: None,
                conn: None,
                seed: false,
                silent: 0,
                ours: false,
            });
            known.source = known.source.min(source);
            if known.conn.is_some() {
                desk.note(Note::NotDialled(addr, Defence::AlreadyConnected));
            } else if known.next > desk.now {
                if source == PeerSource::User {
                    known.next = desk.now;
                } else {
                    desk.note(Note::NotDialled(addr, Defence::DialBackoff));
                }
            }
        }
    }

    fn serves_only_strangers(&self) -> bool {
        !self.master_demand() && self.hold == crate::io::Hold::Cache
    }

    /// Dials as many addresses as the policy and `budget` connections allow; returns how many.
    pub(crate) fn dial(&mut self, desk: &mut Desk, budget: usize, masters: &[SocketAddr]) -> usize {
        if !self.joined() || desk.stopped() {
            return 0;
        }
        let under_way = self
            .book
            .values()
            .filter(|known| known.dialling.is_some())
            .count();
        let sought = if self.meets() {
            rendezvous::SOUGHT
        } else {
            dial::SOUGHT
        };
        let sought = sought.saturating_sub(self.peers.len() + under_way);
        let most = budget
            .min(sought)
            .min(dial::HALF_OPEN.saturating_sub(under_way));
        let no_seeds =
            self.serves_only_strangers() && self.avail.rivals() >= dial::SEEDS_KEPT as f64;
        let ripe = |addr: &SocketAddr, known: &Address| {
            let free = known.dialling.is_none()
                && known.conn.is_none()
                && !known.ours
                && known.next <= desk.now;
            let useful = known.source == PeerSource::User || !(no_seeds && known.seed);
            let wanted = useful && !masters.contains(addr) && !self.is_stranger(desk, *addr);
            free && wanted && !self.banned.contains(&addr.ip())
        };
        let mut ready: Vec<(PeerSource, bool, u64, SocketAddr)> = self
            .book
            .iter()
            .filter(|(addr, known)| ripe(addr, known))
            .map(|(addr, known)| (known.source, known.seed, known.next.0, *addr))
            .collect();
        ready.sort_unstable();
        ready.truncate(most);
        for (_, _, _, addr) in &ready {
            if let Some(known) = self.book.get_mut(addr) {
                known.dialling = Some(desk.now);
            }
            desk.out.push_back(Output::Dial(self.id, *addr));
        }
        if ready.len() < most
            && self
                .asked_peers
                .is_none_or(|at| desk.now.since(at) >= ASK_AGAIN)
        {
            self.asked_peers = Some(desk.now);
            desk.out.push_back(Output::WantPeers(self.id));
        }
        ready.len()
    }

    /// Whom we dialled there is connected by another way: not dialled again while that connection stands.
    pub(crate) fn tie_to_twin(&mut self, addr: SocketAddr, twin: ConnId) {
        if let Some(known) = self.book.get_mut(&addr) {
            known.conn.get_or_insert(twin);
        }
    }

    /// A dial failed, or was lost on the way.
    pub(crate) fn dial_failed(&mut self, desk: &Desk, addr: SocketAddr) {
        let Some(known) = self.book.get_mut(&addr) else {
            return;
        };
        known.dialling = None;
        known.fails += 1;
        known.next = desk.now + dial::backoff(known.fails, known.source == PeerSource::User);
        if known.fails >= dial::FORGET_AFTER
            && known.source != PeerSource::User
            && known.conn.is_none()
        {
            self.book.remove(&addr);
        }
    }

    pub(crate) fn expire_dials(&mut self, desk: &Desk) {
        let late = |at: &Option<_>| at.is_some_and(|at| desk.now.since(at) >= dial::DIAL_LOST);
        let lost: Vec<SocketAddr> = self
            .book
            .iter()
            .filter(|(_, known)| late(&known.dialling))
            .map(|(addr, _)| *addr)
            .collect();
        lost.into_iter()
            .for_each(|addr| self.dial_failed(desk, addr));
    }

    fn joined_for(&self, desk: &Desk) -> Duration {
        match self.standing {
            Standing::Joined(at) => desk.now.since(at),
            Standing::Out | Standing::TooBig => Duration::ZERO,
        }
    }

    /// We hold a piece that this master lacked when last heard.
    fn something_for(&self, id: MasterId) -> bool {
        let have = self.links.get(&id).and_then(|link| link.have.as_ref());
        have.is_some_and(|have| {
            self.active
                .iter()
                .any(|(piece, a)| a.stage == crate::swarm::Stage::Held && !have.get(*piece))
        })
    }

    /// Tries to reach a master in this swarm, when its turn has come.
    pub(crate) fn dial_master(&mut self, desk: &mut Desk, id: MasterId, addrs: &[SocketAddr]) {
        // Without the geometry too: the master may be the one that has the metadata.
        let ours = self.hold == crate::io::Hold::Cache;
        if !self.joined() || !ours || desk.stopped() || addrs.is_empty() {
            return;
        }
        let link = self.links.entry(id).or_default();
        if link
            .dialling
            .is_some_and(|at| desk.now.since(at) >= dial::DIAL_LOST)
        {
            link.dialling = None;
        }
        if link.conn.is_some() || link.dialling.is_some() || link.next > desk.now {
            return;
        }
        let turn = link.fails as usize % addrs.len();
        link.dialling = Some(desk.now);
        if let Some(addr) = addrs.get(turn) {
            desk.out.push_back(Output::Dial(self.id, *addr));
        }
    }

    /// The master was not reached, or went: when to try next.
    pub(crate) fn master_failed(&mut self, desk: &Desk, id: MasterId) {
        let (gives, joined_for) = (self.something_for(id), self.joined_for(desk));
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.dialling = None;
        link.fails += 1;
        link.next = desk.now + dial::master_backoff(link.fails, gives, joined_for);
    }

    /// Orders a connection closed. What was announced to it binds no longer; it is choked first.
    pub(crate) fn close(&mut self, desk: &mut Desk, conn: ConnId) {
        if self.peers.get(&conn).is_none_or(|peer| peer.closing) {
            return;
        }
        self.unchoke(desk, conn, false);
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.closing = true;
        }
        desk.order(conn, Order::Close);
        self.unbind(desk, conn);
    }

    /// Everything that bound us to a connection is over.
    pub(crate) fn unbind(&mut self, desk: &mut Desk, conn: ConnId) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let told: Vec<u32> = peer.told.keys().copied().collect();
        let leased: Vec<u32> = peer.leases.keys().copied().collect();
        for piece in told {
            self.untell(desk, conn, piece);
        }
        for piece in leased {
            if let Some(lease) = self.end_lease(desk, conn, piece, false) {
                self.reopen(desk, piece, lease.blocks, false);
            }
        }
        self.reclass(desk.now, conn);
        desk.starved.remove(&(self.id, conn));
    }

    /// The connection is gone.
    pub(crate) fn gone(&mut self, desk: &mut Desk, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.closing = true;
        }
        self.unbind(desk, conn);
        let Some(peer) = self.peers.remove(&conn) else {
            return;
        };
        if peer.is_guest() {
            desk.gone_guests.push((conn, peer.up.total));
        }
        self.aid.forget(conn);
        self.forget_member(conn);
        self.master_conns.retain(|master| *master != conn);
        let lived = desk.now.since(peer.since);
        if let crate::io::Role::Master(id) = peer.role {
            let link = self.links.entry(id).or_default();
            link.conn = None;
            if lived >= Duration::from_secs(10) {
                link.fails = 0;
            }
            self.master_failed(desk, id);
        }
        self.forget_conn(desk, conn, lived, &peer);
    }

    /// Frees every address that led to the connection. Only the one that was dialled for it waits: of another nothing is
    /// known but that the same peer answered there.
    fn forget_conn(&mut self, desk: &Desk, conn: ConnId, lived: Duration, peer: &Peer) {
        // One that dialled us is dialled back where it says it listens: the way to begin anew after a stale promise.
        let back = peer
            .ext
            .listen_port
            .filter(|_| peer.incoming)
            .map(|port| SocketAddr::new(peer.addr.ip(), port));
        if let Some(addr) =
            back.filter(|_| peer.shown.count_ones() > 0 && self.book.len() < dial::ADDRESSES)
        {
            self.book.entry(addr).or_insert(Address {
                source: PeerSource::Pex,
                fails: 0,
                next: desk.now + Duration::from_secs(5),
                dialling: None,
                conn: None,
                seed: false,
                silent: 0,
                ours: false,
            });
        }
        let named = self.book.values_mut();
        for known in named.filter(|known| known.conn == Some(conn)) {
            known.conn = None;
        }
        let dialled = self.book.get_mut(&peer.addr).filter(|_| !peer.incoming);
        let Some(known) = dialled else {
            return;
        };
        known.fails = if lived >= Duration::from_secs(30) {
            known.silent
        } else {
            known.fails + 1
        };
        // It was closed because the geometry came: the next one begins with a bitfield.
        let anew = peer.shown.len() == 0 && self.layout.is_some();
        let wait = dial::backoff(known.fails.max(1), known.source == PeerSource::User);
        known.next = desk.now
            + if anew {
                Duration::from_millis(500)
            } else {
                wait
            };
    }

    /// Seeds beyond the few that a repeater needs are let go, when enough have shown that they give: they could only sit
    /// idle. One that was silent for long goes whether others have or not, and is tried again ever later.
    pub(crate) fn drop_useless_seeds(&mut self, desk: &mut Desk) {
        if !self.serves_only_strangers() || self.avail.seeds as usize <= dial::SEEDS_KEPT {
            return;
        }
        let silent = |peer: &Peer| desk.now.since(peer.open);
        let shown = |peer: &&Peer| peer.class == Class::Seed && !peer.chokes_us;
        let enough = self.peers.values().filter(shown).count() >= dial::SEEDS_KEPT;
        let named = |addr| {
            self.book
                .get(&addr)
                .is_some_and(|known| known.source == PeerSource::User)
        };
        let idle = |peer: &&Peer| {
            peer.class == Class::Seed
                && peer.leases.is_empty()
                && !peer.closing
                && !named(peer.addr)
        };
        let mut seeds: Vec<(Reverse<Duration>, u64, ConnId)> = self
            .peers
            .values()
            .filter(idle)
            .map(|peer| (Reverse(silent(peer)), peer.down.total, peer.conn))
            .collect();
        seeds.sort_unstable();
        seeds.truncate(self.avail.seeds as usize - dial::SEEDS_KEPT);
        for (Reverse(silent), _, conn) in seeds {
            let liar = belief::given_up(silent);
            let addr = self.peers.get(&conn).map(|peer| peer.addr);
            if let Some(known) = addr.filter(|_| liar).and_then(|at| self.book.get_mut(&at)) {
                known.silent += 1;
            }
            if liar || enough {
                self.close(desk, conn);
            }
        }
    }

    /// Leaves: everything is closed and retired; the shell says `stopped`.
    pub(crate) fn leave(&mut self, desk: &mut Desk, why: LeaveReason) {
        if !self.joined() {
            return;
        }
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
        for conn in conns {
            self.close(desk, conn);
        }
        let pieces: Vec<u32> = self.active.keys().copied().collect();
        for piece in pieces {
            self.retire(desk, piece);
        }
        self.disband(desk);
        self.standing = Standing::Out;
        for known in self.book.values_mut() {
            known.dialling = None;
        }
        for link in self.links.values_mut() {
            link.dialling = None;
            link.next = desk.now;
            link.fails = 0;
        }
        desk.note(Note::Left(self.id, why));
        desk.out.push_back(Output::Leave(self.id));
    }

    /// Refuses a connection that was never let in.
    pub(crate) fn refuse(desk: &mut Desk, conn: ConnId, why: Defence) {
        desk.note(Note::Fired(conn, why));
        desk.order(conn, Order::Close);
    }
}
