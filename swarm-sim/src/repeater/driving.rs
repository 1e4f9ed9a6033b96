//! The driver: inputs to the node, its outputs carried out, as the daemon does it.

use swarm_core::bucket::Class;
use swarm_core::io::{
    ConnFact, ConnId, Contributor, Fetch, Input, LeaseEnd, Order, Output, PieceFact, Role,
};

use super::{Repeater, node_at, swarm_id};
use crate::events::{Event, Time};
use crate::world::World;

impl Repeater {
    /// A connection is to be looked at.
    pub(crate) fn touch(&mut self, id: u32) {
        if let Some(conn) = self.conns[id as usize].as_mut()
            && !core::mem::replace(&mut conn.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// What a connection is to the node decides what part of the line it has.
    fn takes_for(&mut self, id: u32, role: Role) {
        let Some(conn) = self.conns[id as usize].as_mut() else {
            return;
        };
        let swarm = swarm_id(conn.swarm);
        let class = match role {
            Role::Master(_) => Class::Masters,
            Role::Guest(_) => Class::Guests,
            Role::Peer => Class::Swarm,
        };
        conn.guest = match role {
            Role::Guest(friend) => Some(friend.0),
            Role::Master(_) | Role::Peer => None,
        };
        self.tree.insert(ConnId(id.into()), class, swarm);
    }

    fn obey(&mut self, now: swarm_core::time::Timestamp, id: u32, order: Order) {
        if let Some(conn) = self.conns[id as usize].as_mut() {
            conn.session.on_order(now, order);
            self.touch(id);
        }
    }
}

impl World {
    /// Lets a repeater think and act until nothing is left to do at this moment.
    pub(crate) fn turn(&mut self, node: u32) {
        let now = self.timestamp();
        loop {
            while let Some(id) = self.repeater_mut(node).dirty.pop() {
                self.look_at(node, id);
            }
            let repeater = self.repeater_mut(node);
            if repeater.inputs.is_empty() {
                break;
            }
            while let Some(input) = repeater.inputs.pop_front() {
                repeater.node.handle(now, input);
            }
            while let Some(output) = self.repeater_mut(node).node.poll_output() {
                self.carry_out(node, output);
            }
        }
        let repeater = self.repeater_mut(node);
        let next = repeater.node.poll_timeout().map(|at| at.0.max(now.0));
        if let Some(at) = next.filter(|at| repeater.timer.is_none_or(|booked| *at < booked)) {
            repeater.timer = Some(at);
            self.events.at(at, Event::Timer(node));
        }
    }

    pub(crate) fn repeater_timer(&mut self, node: u32) {
        let now = self.events.now;
        let repeater = self.repeater_mut(node);
        if repeater.timer.is_some_and(|at| at <= now) {
            repeater.timer = None;
            repeater.inputs.push_back(Input::Timer);
        }
        self.turn(node);
    }

    fn carry_out(&mut self, node: u32, output: Output) {
        match output {
            Output::Order(conn, order) => self.order(node, conn, order),
            Output::Dial(swarm, addr) => match node_at(addr) {
                Some(to) => {
                    let swarm = swarm.0 - 1;
                    let wait = 2 * self.latency;
                    self.events.after(wait, Event::Dial(node, to, swarm));
                }
                None => {
                    let failed = Input::DialFailed(swarm, addr);
                    self.repeater_mut(node).inputs.push_back(failed);
                }
            },
            Output::Join(swarm) => {
                let swarm = swarm.0 - 1;
                self.repeater_mut(node).joined.insert(swarm);
                self.swarms[swarm as usize].members.push(node);
                self.ask_for_peers(node, swarm);
            }
            Output::Leave(swarm) => {
                let swarm = swarm.0 - 1;
                self.repeater_mut(node).joined.remove(&swarm);
                let members = &mut self.swarms[swarm as usize].members;
                members.retain(|member| *member != node);
            }
            Output::Scrape(swarm) => {
                let event = Event::Scraped(node, swarm.0 - 1);
                self.events.after(super::TRACKER, event);
            }
            Output::WantPeers(swarm) => self.ask_for_peers(node, swarm.0 - 1),
            Output::Retire(swarm, piece) => {
                let repeater = self.repeater_mut(node);
                repeater.cache.release((swarm.0 - 1, piece));
                let released = Input::Piece(swarm, piece, PieceFact::Released);
                repeater.inputs.push_back(released);
            }
            Output::Rates(rates) => {
                let now = self.timestamp();
                let repeater = self.repeater_mut(node);
                repeater.tree.set_rate(now, rates.upload);
                repeater.tree.set_master_share(rates.master_share);
                repeater.tree.set_guest_share(rates.guest_share);
                self.hand_out(node);
            }
            Output::Note(note) => self.noted(node, &note),
            Output::Friends(output) => self.carry_out_for_friends(node, output),
            // No rendezvous, and no month to count.
            Output::Forget(_)
            | Output::Left(..)
            | Output::Listed(..)
            | Output::Save(_)
            | Output::Allow(_) => {}
        }
    }

    fn order(&mut self, node: u32, conn: ConnId, order: Order) {
        let now = self.timestamp();
        let Ok(id) = u32::try_from(conn.0) else {
            return;
        };
        let repeater = self.repeater_mut(node);
        let Some(at) = repeater.conns[id as usize].as_ref() else {
            return;
        };
        match order {
            Order::Fetch(fetch) => self.fetch(node, id, fetch),
            Order::Close => {
                let end = at.end;
                self.disconnect(end, node);
            }
            Order::Hello { role, .. } | Order::Role(role) => {
                repeater.takes_for(id, role);
                repeater.obey(now, id, order);
            }
            other @ (Order::Unchoke(_)
            | Order::Interested(_)
            | Order::Announce(_)
            | Order::Withdraw(_)
            | Order::Revoke(_)) => repeater.obey(now, id, other),
        }
    }

    /// A lease: begins if the cache has a permit for its piece.
    fn fetch(&mut self, node: u32, id: u32, fetch: Fetch) {
        let now = self.timestamp();
        let piece = fetch.piece;
        let at = node as usize - self.peers.len();
        let repeater = &mut self.repeaters[at];
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return;
        };
        let layout = self.swarms[conn.swarm as usize].layout;
        let begun = repeater.cache.begin(
            (conn.swarm, piece),
            layout.piece_size(piece),
            layout.piece_length.into(),
            fetch.blocks.clone(),
            &fetch.announce,
        );
        match begun {
            None => conn.session.lease_lost(now, piece, LeaseEnd::NoRoom),
            Some(blocks) if blocks.is_empty() => conn.facts.push(ConnFact::LeaseDone { piece }),
            Some(blocks) => conn
                .session
                .on_order(now, Order::Fetch(Fetch { blocks, ..fetch })),
        }
        repeater.touch(id);
    }

    /// A piece is whole: HAVE goes out to its audience before the node hears of it.
    pub(crate) fn repeater_checked(
        &mut self,
        node: u32,
        key: (u32, u32),
        ok: bool,
        contributors: Vec<Contributor>,
        announce: &[ConnId],
    ) {
        let now = self.timestamp();
        let (swarm, piece) = key;
        let fate = self.fate(swarm, piece);
        let repeater = self.repeater_mut(node);
        for (sum, count) in repeater.fate.iter_mut().zip(fate) {
            *sum += count;
        }
        for conn in announce {
            if let Ok(id) = u32::try_from(conn.0) {
                repeater.obey(now, id, Order::Announce(piece));
            }
        }
        // What the connections have to say of it goes first.
        while let Some(id) = self.repeater_mut(node).dirty.pop() {
            self.look_at(node, id);
        }
        let repeater = self.repeater_mut(node);
        let checked = PieceFact::Checked { ok, contributors };
        repeater
            .inputs
            .push_back(Input::Piece(swarm_id(swarm), piece, checked));
        if !ok {
            let released = PieceFact::Released;
            repeater
                .inputs
                .push_back(Input::Piece(swarm_id(swarm), piece, released));
        }
    }

    /// Leechers of a swarm that have a piece, that have all of it under way, and that could ask for some of it.
    fn fate(&self, swarm: u32, piece: u32) -> [u64; 3] {
        let mut fate = [0; 3];
        let members = &self.swarms[swarm as usize].members;
        let peers = members.iter().filter_map(|id| self.peers.get(*id as usize));
        let leechers = peers.filter(|peer| peer.kind == crate::plan::Kind::Leecher);
        for peer in leechers {
            let at = if !peer.lacks(piece) {
                0
            } else if crate::bits::get(&peer.taken, piece) {
                1
            } else {
                2
            };
            fate[at] += 1;
        }
        fate
    }

    /// A connection's own clock.
    pub(crate) fn conn_wakes(&mut self, node: u32, id: u32) {
        let now = self.timestamp();
        let repeater = self.repeater_mut(node);
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return;
        };
        if conn.wake.is_none_or(|at| at > now.0) {
            return;
        }
        conn.wake = None;
        let end = conn.end;
        let due = conn.session.poll_timeout().is_some_and(|at| at <= now);
        let silent = due && conn.session.on_timeout(now).is_err();
        repeater.touch(id);
        if silent {
            self.disconnect(end, node);
        }
        self.turn(node);
    }

    /// Books the next look at a connection.
    pub(crate) fn book(&mut self, node: u32, id: u32, at: Time) {
        let repeater = self.repeater_mut(node);
        if let Some(conn) = repeater.conns[id as usize].as_mut()
            && conn.wake.is_none_or(|booked| at < booked)
        {
            conn.wake = Some(at);
            self.events.at(at, Event::Conn(node, id));
        }
    }
}
