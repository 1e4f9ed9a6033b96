//! A swarm of slaves: strangers are let go, members hear of each other, and a host lists who announced to it
//! (spec/rendezvous.md).

use crate::io::friends::FriendsOutput;
use crate::io::{ConnId, Defence, Hold, Note, Origin, Output, SwarmId};
use crate::node::desk::Desk;
use crate::node::{Arrival, Node};
use crate::peer::Peer;
use crate::policy::rendezvous::{self, DialBacks, NoDialBack};
use crate::swarm::Swarm;
use crate::time::Timestamp;
use crate::view::MeetingView;
use bt_wire::address::{Scope, may_name};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What a rendezvous has beyond an ordinary swarm.
#[derive(Debug, Default)]
pub(crate) struct Meeting {
    dial_backs: DialBacks,
    /// Endpoints that announced here, and when: listed once they are proved.
    asked: BTreeMap<SocketAddr, Timestamp>,
    /// Of those, who answered there when dialled.
    answered: BTreeMap<SocketAddr, [u8; 20]>,
    /// Endpoints that the announce URL names, and since when they have not been proved anew.
    listed: BTreeMap<SocketAddr, Timestamp>,
    /// Strangers that were let go, and when.
    strangers: BTreeMap<SocketAddr, Timestamp>,
    /// What each member was told by `ut_pex`, and when.
    told: BTreeMap<ConnId, (Timestamp, BTreeSet<SocketAddr>)>,
    let_go: u64,
}

impl Peer {
    /// Where it listens, as far as it says.
    fn endpoint(&self) -> Option<SocketAddr> {
        if self.incoming {
            let port = self.ext.listen_port?;
            Some(SocketAddr::new(self.addr.ip(), port))
        } else {
            Some(self.addr)
        }
    }
}

impl Swarm {
    /// It is a rendezvous.
    pub(crate) fn meets(&self) -> bool {
        self.origins.contains(&Origin::Rendezvous)
    }

    /// A session stood, its friend's tag was seen, or it speaks of friends and one of us is not in open mode.
    fn is_proved(&self, desk: &Desk, peer: &Peer) -> bool {
        let met = peer.stood || self.aid.links.contains_key(&peer.conn);
        met || peer.slave.is_some_and(|open| !(open && desk.friends_open))
    }

    /// It was let go as a stranger lately.
    //= spec/rendezvous.md#rv-polite
    pub(crate) fn is_stranger(&self, desk: &Desk, addr: SocketAddr) -> bool {
        let at = self.meeting.strangers.get(&addr);
        at.is_some_and(|at| desk.now.since(*at) < rendezvous::STRANGER_AGAIN)
    }

    /// Somebody announced to us and says that it listens on `from`, whose address is its own.
    //= spec/rendezvous.md#rv-dial-back
    fn announced(&mut self, desk: &mut Desk, from: SocketAddr, at: IpAddr) {
        if let Err(why) = self.dial_back(desk, from, at) {
            desk.note(Note::NotDialled(from, Defence::NoDialBack(why)));
        }
    }

    fn dial_back(
        &mut self,
        desk: &mut Desk,
        from: SocketAddr,
        at: IpAddr,
    ) -> Result<(), NoDialBack> {
        rendezvous::may_dial_back(from, at)?;
        if self.is_stranger(desk, from) {
            return Err(NoDialBack::Stranger);
        }
        let asked = &mut self.meeting.asked;
        if asked.len() >= rendezvous::ENDPOINTS && !asked.contains_key(&from) {
            return Err(NoDialBack::Busy);
        }
        asked.insert(from, desk.now);
        let here = |peer: &&Peer| peer.reached == Some(from) && self.is_proved(desk, peer);
        if self.peers.values().any(|peer| here(&peer)) {
            self.list(desk, from);
            return Ok(());
        }
        self.meeting.dial_backs.take(desk.now, from)?;
        desk.out.push_back(Output::Dial(self.id, from));
        Ok(())
    }

    fn list(&mut self, desk: &mut Desk, addr: SocketAddr) {
        let listed = &mut self.meeting.listed;
        let known = listed.contains_key(&addr);
        if !known && listed.len() >= rendezvous::ENDPOINTS {
            return desk.note(Note::NotDialled(
                addr,
                Defence::NoDialBack(NoDialBack::Busy),
            ));
        }
        listed.insert(addr, desk.now);
        if !known {
            desk.out.push_back(Output::Listed(self.id, addr, true));
        }
    }

    fn unlist(&mut self, desk: &mut Desk, addr: SocketAddr) {
        if self.meeting.listed.remove(&addr).is_some() {
            desk.out.push_back(Output::Listed(self.id, addr, false));
        }
    }

    /// More is known of a connection: who announced and is proved now is listed.
    pub(crate) fn consider_listing(&mut self, desk: &mut Desk, conn: ConnId) {
        let proved = |peer: &&Peer| !peer.closing && self.is_proved(desk, peer);
        let peer = self.peers.get(&conn).filter(proved);
        let reached = peer.and_then(|peer| peer.reached);
        if let Some(addr) = reached.filter(|addr| self.meeting.asked.contains_key(addr)) {
            self.list(desk, addr);
        }
    }

    /// Its first extended handshake has a sound recognition field.
    pub(crate) fn is_slave(&mut self, desk: &mut Desk, conn: ConnId, open: bool) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.slave = Some(open);
        }
        self.consider_listing(desk, conn);
    }

    /// Both handshakes are done. Who answers where somebody announced from is who listens there, and so are its other
    /// connections from that address.
    pub(super) fn met(&mut self, desk: &mut Desk, conn: ConnId, arrival: &Arrival) {
        let (ip, peer_id) = (arrival.addr.ip(), arrival.peer_id);
        let meeting = &mut self.meeting;
        let addr = if arrival.incoming {
            let answered = meeting.answered.iter();
            let mut here = answered.filter(|(at, id)| at.ip() == ip && **id == peer_id);
            here.next().map(|(at, _)| *at)
        } else if meeting.asked.contains_key(&arrival.addr) {
            meeting.answered.insert(arrival.addr, peer_id);
            Some(arrival.addr)
        } else {
            None
        };
        let Some(addr) = addr else {
            return;
        };
        let same = |peer: &&mut Peer| peer.peer_id == peer_id && peer.addr.ip() == ip;
        let theirs = self.peers.values_mut().filter(same);
        let conns = theirs.map(|peer| {
            peer.reached = Some(addr);
            peer.conn
        });
        for other in conns.filter(|other| *other != conn).collect::<Vec<_>>() {
            self.consider_listing(desk, other);
        }
    }

    /// Makes room for a connection that is about to be let in; false: there is none.
    pub(crate) fn has_seat(&mut self, desk: &mut Desk, conn: ConnId, incoming: bool) -> bool {
        let others = || {
            let others = self.peers.values();
            others.filter(|peer| peer.conn != conn && !peer.closing)
        };
        if others().count() < rendezvous::MOST {
            return true;
        }
        let strangers_first = |peer: &&Peer| (peer.slave.is_some(), peer.since, peer.conn);
        let oldest = others().min_by_key(strangers_first);
        let Some(goes) = oldest.filter(|peer| peer.slave.is_none() || !incoming) else {
            return false;
        };
        let goes = goes.conn;
        desk.note(Note::Fired(goes, Defence::ConnectionLimit));
        self.close(desk, goes);
        true
    }

    /// Once a second.
    fn meet(&mut self, desk: &mut Desk) {
        self.let_strangers_go(desk);
        self.age_lists(desk);
        let members: Vec<ConnId> = self
            .peers
            .values()
            .filter(|peer| peer.slave.is_some() && peer.ext.pex && !peer.closing)
            .map(|peer| peer.conn)
            .collect();
        for conn in members {
            self.tell_of_others(desk, conn);
        }
    }

    /// Strangers are closed without a word and without a ban.
    //= spec/rendezvous.md#rv-stranger
    //= spec/rendezvous.md#rv-polite
    fn let_strangers_go(&mut self, desk: &mut Desk) {
        let (now, serves) = (desk.now, self.hold == Hold::Kept);
        let mut leaving = Vec::new();
        for peer in self.peers.values_mut().filter(|peer| !peer.closing) {
            let late = now.since(peer.since) >= rendezvous::HANDSHAKE;
            if peer.slave.is_some() || !(peer.ext_seen || !peer.extended || late) {
                continue;
            }
            let since = *peer.stranger.get_or_insert(now);
            let downloads = serves && peer.wants_us && !peer.have.is_full();
            if rendezvous::lets_go(now.since(since), downloads) {
                leaving.push((peer.conn, peer.endpoint()));
            }
        }
        for (conn, endpoint) in leaving {
            self.meeting.let_go += 1;
            let remembered = &mut self.meeting.strangers;
            if let Some(addr) = endpoint.filter(|_| remembered.len() < rendezvous::STRANGERS) {
                remembered.insert(addr, now);
            }
            desk.note(Note::Fired(conn, Defence::Stranger));
            self.close(desk, conn);
        }
    }

    fn age_lists(&mut self, desk: &mut Desk) {
        let now = desk.now;
        let still: Vec<SocketAddr> = self
            .peers
            .values()
            .filter(|peer| !peer.closing && self.is_proved(desk, peer))
            .filter_map(|peer| peer.reached)
            .collect();
        for addr in still {
            if let Some(at) = self.meeting.listed.get_mut(&addr) {
                *at = now;
            }
        }
        let old = |at: &Timestamp| now.since(*at) >= rendezvous::LISTED_FOR;
        self.meeting.strangers.retain(|_, at| !old(at));
        // Who keeps being listed keeps having asked.
        let listed = &self.meeting.listed;
        self.meeting
            .asked
            .retain(|addr, at| !old(at) || listed.contains_key(addr));
        let asked = &self.meeting.asked;
        self.meeting
            .answered
            .retain(|addr, _| asked.contains_key(addr));
        let gone: Vec<SocketAddr> = listed
            .iter()
            .filter(|(_, at)| old(at))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in gone {
            self.unlist(desk, addr);
        }
    }

    /// Names to a member the endpoints of the others that we reached ourselves.
    //= spec/rendezvous.md#rv-pex
    fn tell_of_others(&mut self, desk: &mut Desk, conn: ConnId) {
        let Some(to) = self.peers.get(&conn) else {
            return;
        };
        let before = self.meeting.told.get(&conn);
        if before.is_some_and(|(at, _)| desk.now.since(*at) < rendezvous::PEX_EVERY) {
            return;
        }
        let scope = Scope::of(to.addr.ip()).unwrap_or(Scope::Global);
        let nameable = |addr: &SocketAddr| {
            let named = Scope::of(addr.ip()).is_some_and(|of| may_name(scope, of));
            named && to.endpoint() != Some(*addr)
        };
        let others = self.peers.values();
        let others = others.filter(|p| p.conn != conn && p.slave.is_some() && !p.closing);
        let now: BTreeSet<SocketAddr> = others
            .filter_map(|peer| peer.reached)
            .filter(nameable)
            .collect();
        let mut told = before.map(|(_, told)| told.clone()).unwrap_or_default();
        let most = rendezvous::PEX_PEERS;
        let added: Vec<SocketAddr> = now.difference(&told).take(most).copied().collect();
        let dropped: Vec<SocketAddr> = told.difference(&now).take(most).copied().collect();
        if added.is_empty() && dropped.is_empty() {
            return;
        }
        told.extend(&added);
        told.retain(|addr| now.contains(addr));
        self.meeting.told.insert(conn, (desk.now, told));
        desk.friends(FriendsOutput::Introduce {
            conn,
            added,
            dropped,
        });
    }

    /// A connection is gone.
    pub(crate) fn forget_member(&mut self, conn: ConnId) {
        self.meeting.told.remove(&conn);
    }

    /// It is left: nobody is listed any more.
    pub(crate) fn disband(&mut self, desk: &mut Desk) {
        let listed: Vec<SocketAddr> = self.meeting.listed.keys().copied().collect();
        for addr in listed {
            self.unlist(desk, addr);
        }
        self.meeting.asked.clear();
        self.meeting.answered.clear();
    }

    pub(crate) fn meeting_view(&self) -> Option<MeetingView> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let members = self.peers.values().filter(|peer| peer.slave.is_some());
        self.meets().then(|| MeetingView {
            members: count(members.count()),
            listed: count(self.meeting.listed.len()),
            strangers_let_go: self.meeting.let_go,
        })
    }
}

impl Node {
    /// Somebody announced at our own announce URL.
    pub(crate) fn announced(&mut self, id: SwarmId, from: SocketAddr, at: IpAddr, stopped: bool) {
        let hosted = |swarm: &&mut Swarm| swarm.joined() && swarm.meets();
        let Some(swarm) = self.swarms.get_mut(&id).filter(hosted) else {
            return;
        };
        //= spec/rendezvous.md#rv-answer
        if stopped {
            swarm.meeting.asked.remove(&from);
            swarm.meeting.answered.remove(&from);
            swarm.unlist(&mut self.desk, from);
        } else {
            swarm.announced(&mut self.desk, from, at);
        }
    }

    /// A session stands on this connection.
    pub(crate) fn session_stood(&mut self, conn: ConnId) {
        let Some(swarm) = self.conns.get(&conn).and_then(|id| self.swarms.get_mut(id)) else {
            return;
        };
        if let Some(peer) = swarm.peers.get_mut(&conn) {
            peer.stood = true;
        }
        swarm.consider_listing(&mut self.desk, conn);
    }

    pub(crate) fn tick_meetings(&mut self) {
        for swarm in self.swarms.values_mut() {
            if swarm.meets() && swarm.joined() {
                swarm.meet(&mut self.desk);
            }
        }
    }
}
