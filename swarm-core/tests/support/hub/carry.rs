//! The shells: what becomes of the brains' orders.

use super::{
    Conduct, Conn, Far, MASTER, Meeting, World, friend, master_addr, seed_addr, slave_addr, swarm,
};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use swarm_core::io::friends::{
    FriendFact, FriendId, FriendsInput, FriendsNote, FriendsOutput, HelpId, HelpMessage, MasterPeer,
};
use swarm_core::io::{
    CloseReason, ConnFact, ConnId, Extended, Fetch, Input, Note, Order, Origin, Output, PeerSource,
    PieceFact, Role, SwarmFact, SwarmId,
};

/// One way of a session, and of a journal's fsync.
const DELAY: f64 = 0.05;

impl World {
    pub fn carry_out(&mut self, i: usize, output: Output) {
        match output {
            Output::Order(conn, order) => self.order(i, conn, order),
            Output::Dial(torrent, addr) => self.dial(i, torrent, addr),
            Output::Join(torrent) => {
                let seed = vec![seed_addr(torrent)];
                let peers = SwarmFact::Peers(seed, PeerSource::Tracker);
                self.slaves[i].inbox.push(Input::Swarm(torrent, peers));
            }
            Output::Retire(torrent, piece) => {
                let slave = &mut self.slaves[i];
                assert!(slave.cache.remove(&(torrent, piece)).is_some());
                for conn in slave.conns.values_mut().filter(|c| c.swarm == torrent) {
                    conn.leases.retain(|(p, _)| *p != piece);
                    conn.current = conn.current.filter(|p| *p != piece);
                }
                slave
                    .inbox
                    .push(Input::Piece(torrent, piece, PieceFact::Released));
            }
            Output::Friends(output) => self.friends(i, output),
            Output::Note(Note::Friends(note)) => {
                if let FriendsNote::WeHelp(FriendId(j), _) = note {
                    *self.slaves[i].helped.entry(j as usize).or_default() += 1;
                }
                self.slaves[i].notes.push((self.t, note));
            }
            Output::Forget(torrent) => {
                self.slaves[i].known.remove(&torrent);
            }
            Output::Leave(_)
            | Output::Scrape(_)
            | Output::WantPeers(_)
            | Output::Left(..)
            | Output::Rates(_)
            | Output::Save(_)
            | Output::Allow(_)
            | Output::Listed(..)
            | Output::Note(_) => {}
        }
    }

    /// Keeps book of what is reserved with whom, by what the asker says, and hears. No piece is with two helpers, nor with
    /// one while its asker fetches it itself.
    pub fn watch_loans(&mut self, own: usize, far: usize, message: &HelpMessage, here: usize) {
        let asker_of = |id: &HelpId| {
            if id.0 & 1 == 0 {
                own.min(far)
            } else {
                own.max(far)
            }
        };
        match message {
            HelpMessage::Reserve { id, pieces } if asker_of(id) == own && here == own => {
                for piece in pieces {
                    let fetching = self.slaves[own].cache.get(&(swarm(own), *piece));
                    assert!(
                        fetching.is_none_or(|buffer| buffer.held),
                        "{own} fetches {piece}"
                    );
                    let other = self.lent.insert((own, *piece), far);
                    assert_eq!(other, None, "{own} reserved {piece} with {far}");
                    self.reserved.0 += 1;
                }
            }
            HelpMessage::Release { id, pieces } if asker_of(id) == here => {
                for piece in pieces {
                    if self.lent.get(&(here, *piece)) == Some(&(own + far - here)) {
                        self.lent.remove(&(here, *piece));
                        self.reserved.1 += 1;
                    }
                }
            }
            HelpMessage::Stop { id, .. } if asker_of(id) == here => {
                let with = own + far - here;
                self.lent
                    .retain(|(asker, _), helper| *asker != here || *helper != with);
            }
            HelpMessage::Ask(_)
            | HelpMessage::Offer { .. }
            | HelpMessage::Decline { .. }
            | HelpMessage::Reserve { .. }
            | HelpMessage::Progress { .. }
            | HelpMessage::Fetching { .. }
            | HelpMessage::Release { .. }
            | HelpMessage::Arrived { .. }
            | HelpMessage::Stop { .. } => {}
        }
    }

    fn mail(&mut self, delay: f64, to: usize, from: usize, fact: FriendFact) {
        let input = Input::Friends(FriendsInput::Friend(friend(from), fact));
        self.mail.push((self.t + delay, to, input));
    }

    fn friends(&mut self, i: usize, output: FriendsOutput) {
        match output {
            FriendsOutput::Send(FriendId(j), message) => {
                self.watch_loans(i, j as usize, &message, i);
                let message = self.distorted(i, message);
                self.mail(DELAY, j as usize, i, FriendFact::Message(message));
            }
            FriendsOutput::Sign(FriendId(j), total, help) => self.sign(i, j as usize, total, help),
            FriendsOutput::Keep(..) => {}
            FriendsOutput::FetchMeta {
                friend: from,
                info_hash,
                ..
            } => {
                let torrent = SwarmId(info_hash[0].into());
                self.slaves[i].known.insert(torrent);
                let known = self.known(torrent, Origin::Friend(from));
                self.mail.push((self.t + 2.0 * DELAY, i, known));
            }
            FriendsOutput::Reach(FriendId(j), at) => {
                if let Some(addr) = at.first() {
                    self.mail(DELAY, i, j as usize, FriendFact::Reached(*addr));
                }
            }
            FriendsOutput::Invite(_, torrent, addr) => self.master_dials(i, torrent, addr),
            FriendsOutput::Introduce { added, .. } => {
                for addr in added {
                    self.slaves[i].introduced.push((self.t, addr));
                    if self.meeting == Meeting::Introduced {
                        self.master_dials(i, swarm(i), addr);
                    }
                }
            }
            FriendsOutput::Watch(_, torrent, yes) => {
                if yes {
                    self.slaves[i].watches.insert(torrent);
                } else {
                    self.slaves[i].watches.remove(&torrent);
                }
            }
        }
    }

    /// What a liar's shell makes of a message.
    fn distorted(&self, i: usize, message: HelpMessage) -> HelpMessage {
        match (self.slaves[i].plan.conduct, message) {
            (
                Conduct::ClaimsDouble,
                HelpMessage::Progress {
                    id,
                    held,
                    delivered,
                    bytes,
                },
            ) => HelpMessage::Progress {
                id,
                held,
                delivered,
                bytes: bytes * 2,
            },
            (_, message) => message,
        }
    }

    fn sign(&mut self, i: usize, j: usize, total: u64, help: Option<HelpId>) {
        let before = self.slaves[i].signed.get(&j).copied().unwrap_or(0);
        assert!(total > before, "{i} signs {total} for {j} after {before}");
        let conduct = self.slaves[i].plan.conduct;
        self.mail(DELAY, i, j, FriendFact::Signed(total));
        if conduct == Conduct::NeverSigns {
            return;
        }
        self.slaves[i].signed.insert(j, total);
        self.mail(2.0 * DELAY, j, i, FriendFact::Iou(total, help));
        if conduct == Conduct::ShowsOldIou {
            self.mail(3.0 * DELAY, j, i, FriendFact::Iou(before, None));
        }
    }

    /// Once a second every watched master is looked at.
    pub fn look(&mut self) {
        if self.t < self.next_look {
            return;
        }
        self.next_look = self.t + 1.0;
        for i in 0..self.slaves.len() {
            let Some(master) = &self.masters[i] else {
                continue;
            };
            let peers: Vec<MasterPeer> = master
                .downloaded
                .iter()
                .map(|(j, bytes)| MasterPeer {
                    addr: slave_addr(*j),
                    value: *bytes,
                })
                .collect();
            if self.slaves[i].watches.contains(&swarm(i)) {
                let look = FriendsInput::MasterPeers(swarm(i), MASTER, peers);
                self.slaves[i].inbox.push(Input::Friends(look));
            }
        }
    }

    fn dial(&mut self, i: usize, torrent: SwarmId, addr: SocketAddr) {
        self.slaves[i].dialled.push((self.t, addr));
        if addr == seed_addr(torrent) {
            let conn = self.fresh_conn();
            self.connect(i, conn, torrent, Far::Seed, addr, false);
            self.push(i, conn, ConnFact::HaveAll);
            return self.push(i, conn, ConnFact::Choking(false));
        }
        let masters = 0..self.masters.len();
        let master = masters
            .into_iter()
            .find(|j| self.masters[*j].is_some() && master_addr(*j) == addr);
        if let Some(j) = master.filter(|j| swarm(*j) == torrent)
            && (j == i || self.meeting == Meeting::Dialled)
        {
            return self.meet(i, j, addr, false);
        }
        let slave = (0..self.slaves.len()).find(|j| *j != i && slave_addr(*j) == addr);
        match slave.filter(|j| self.slaves[*j].known.contains(&torrent)) {
            Some(j) => self.link(i, j, torrent),
            None => self.slaves[i].inbox.push(Input::DialFailed(torrent, addr)),
        }
    }

    /// The master of `i` dials a helper's slave.
    fn master_dials(&mut self, i: usize, torrent: SwarmId, addr: SocketAddr) {
        let slave = (0..self.slaves.len()).find(|j| slave_addr(*j) == addr);
        if let Some(j) = slave.filter(|j| self.slaves[*j].known.contains(&torrent)) {
            let from = SocketAddr::new(master_addr(i).ip(), 40_000);
            self.meet(j, i, from, true);
        }
    }

    /// Slave `i` and the master of `j` are connected.
    pub fn meet(&mut self, i: usize, j: usize, addr: SocketAddr, incoming: bool) {
        let conn = self.fresh_conn();
        let Some(master) = self.masters[j].as_mut() else {
            return;
        };
        if master.conns.contains_key(&i) {
            return;
        }
        master.conns.insert(i, conn);
        let have = master.have.clone();
        self.connect(i, conn, swarm(j), Far::Master(j), addr, incoming);
        self.push(i, conn, ConnFact::Bitfield(wire(&have)));
        self.push(i, conn, ConnFact::Interested(true));
    }

    /// Two slaves are connected, and know whose connection it is.
    fn link(&mut self, i: usize, j: usize, torrent: SwarmId) {
        let (a, b) = (self.fresh_conn(), self.fresh_conn());
        let back = SocketAddr::new(slave_addr(i).ip(), 40_001);
        self.connect(i, a, torrent, Far::Slave(j, b), slave_addr(j), false);
        self.connect(j, b, torrent, Far::Slave(i, a), back, true);
        for (own, conn, other) in [(i, a, j), (j, b, i)] {
            self.push(own, conn, ConnFact::HaveNone);
            self.slaves[own].links.insert(conn, other);
            let linked = FriendFact::Linked(conn);
            self.mail(2.0 * DELAY, own, other, linked);
        }
    }

    fn connect(
        &mut self,
        i: usize,
        conn: ConnId,
        torrent: SwarmId,
        far: Far,
        addr: SocketAddr,
        incoming: bool,
    ) {
        let mut peer_id = match far {
            Far::Slave(..) => *b"-BS0100-000000000000",
            Far::Seed | Far::Master(_) => *b"-VP0001-000000000000",
        };
        peer_id[12..20].copy_from_slice(&conn.0.to_be_bytes());
        let link = Conn {
            far,
            swarm: torrent,
            told: BTreeSet::new(),
            unchoked: false,
            leases: VecDeque::new(),
            current: None,
        };
        self.slaves[i].conns.insert(conn, link);
        let connected = ConnFact::Connected {
            swarm: torrent,
            addr,
            incoming,
            peer_id,
            fast: true,
            extended: true,
        };
        self.push(i, conn, connected);
        let extended = Extended {
            pex: self.meeting == Meeting::Introduced,
            listen_port: matches!(far, Far::Master(_)).then_some(51413),
            ..Extended::default()
        };
        self.push(i, conn, ConnFact::Extended(extended));
    }

    pub fn push(&mut self, i: usize, conn: ConnId, fact: ConnFact) {
        self.slaves[i].facts.entry(conn).or_default().push(fact);
    }

    fn order(&mut self, i: usize, id: ConnId, order: Order) {
        let Some(conn) = self.slaves[i].conns.get_mut(&id) else {
            return;
        };
        let far = conn.far;
        let tell = match order {
            Order::Announce(piece) => {
                conn.told.insert(piece);
                let torrent = conn.swarm;
                let held = self.slaves[i].cache.get(&(torrent, piece));
                assert!(
                    held.is_some_and(|buffer| buffer.held),
                    "announced, not held"
                );
                Some(ConnFact::Have(piece))
            }
            Order::Withdraw(piece) => {
                conn.told.remove(&piece);
                conn.current = conn.current.filter(|p| *p != piece);
                Some(ConnFact::DontHave(piece))
            }
            Order::Unchoke(yes) => {
                conn.unchoked = yes;
                Some(ConnFact::Choking(!yes))
            }
            Order::Interested(yes) => {
                assert!(
                    !yes || !matches!(far, Far::Master(_)) || self.early,
                    "interested in a master"
                );
                Some(ConnFact::Interested(yes))
            }
            Order::Fetch(fetch) => {
                assert!(!matches!(far, Far::Master(_)), "a request to a master");
                self.lease(i, id, &fetch);
                None
            }
            Order::Revoke(piece) => {
                conn.leases.retain(|(p, _)| *p != piece);
                None
            }
            Order::Close => {
                self.close(i, id, CloseReason::Ours);
                None
            }
            Order::Role(role) | Order::Hello { role, .. } => {
                let master = matches!(far, Far::Master(_));
                let ours = matches!(role, Role::Master(_)) && far != Far::Master(i);
                assert!(
                    !ours && (!master || role != Role::Peer || self.early),
                    "{i}: {far:?} is {role:?}"
                );
                None
            }
        };
        if let (Some(fact), Far::Slave(j, other)) = (tell, far) {
            self.push(j, other, fact);
        }
    }

    fn lease(&mut self, i: usize, id: ConnId, fetch: &Fetch) {
        let slave = &mut self.slaves[i];
        let Some(conn) = slave.conns.get_mut(&id) else {
            return;
        };
        // What the master has is no longer reserved.
        let lacks = |master: &super::Master| !master.have[fetch.piece as usize];
        let ours = conn.swarm == swarm(i) && self.masters[i].as_ref().is_some_and(lacks);
        if let Some(helper) = self.lent.get(&(i, fetch.piece)).filter(|_| ours) {
            let theirs = matches!(conn.far, Far::Slave(j, _) if j == *helper);
            assert!(theirs, "{i} fetches {}, which {helper} has", fetch.piece);
        }
        let key = (conn.swarm, fetch.piece);
        let fresh = !slave.cache.contains_key(&key);
        let buffer = slave.cache.entry(key).or_default();
        if fresh {
            buffer.missing = super::PIECE;
        }
        buffer.announce = fetch.announce.to_vec();
        let range = u64::from(fetch.blocks.end - fetch.blocks.start) * 16_384;
        conn.leases
            .push_back((fetch.piece, range.min(buffer.missing)));
    }

    pub fn close(&mut self, i: usize, id: ConnId, why: CloseReason) {
        let Some(conn) = self.slaves[i].conns.remove(&id) else {
            return;
        };
        self.push(i, id, ConnFact::Closed(why));
        match conn.far {
            Far::Master(j) => {
                if let Some(master) = self.masters[j].as_mut() {
                    master.conns.remove(&i);
                }
            }
            Far::Slave(j, other) => {
                if self.slaves[j].conns.contains_key(&other) {
                    self.close(j, other, CloseReason::Remote);
                }
            }
            Far::Seed => {}
        }
    }
}

fn wire(have: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| {
        let bit = |(i, bit): (usize, &bool)| u8::from(*bit) << (7 - i);
        bits.iter().enumerate().map(bit).sum()
    };
    have.chunks(8).map(byte).collect()
}
