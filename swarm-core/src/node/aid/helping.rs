//! The helper: what we answer, what friends reserve with us, who comes to fetch it, how it ends.

use crate::io::friends::{
    Ask, FriendDefence, FriendId, FriendsNote, FriendsOutput, HelpId, HelpMessage, StopReason,
};
use crate::io::{ConnId, Hold, Origin, SwarmId};
use crate::node::aid::Aid;
use crate::node::errands::{Errand, HelpKey};
use crate::node::{Arrival, Node};
use crate::peer::Peer;
use crate::policy::delivery::Delivery;
use crate::policy::friend_dial::NoDial;
use crate::policy::help::{self, AnswerFacts, Decline};
use crate::policy::tit_for_tat::{Turn, Want};
use crate::swarm::Swarm;
use crate::time::Timestamp;
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What is unsigned so long after a help's end is disputed: a session that broke may come back until then.
//= spec/friends.md#iou-late
const SETTLES: Duration = Duration::from_secs(60);

/// A help that we offered or give.
#[derive(Debug)]
pub(super) struct Help {
    pub(super) info_hash: [u8; 20],
    size: u64,
    pub(super) piece: u64,
    pub(super) swarm: Option<SwarmId>,
    pub(super) masters: Vec<SocketAddr>,
    pub(super) ways: Vec<Delivery>,
    pub(super) since: Timestamp,
    /// When the first piece was reserved.
    pub(super) begun: Option<Timestamp>,
    /// When we were in the swarm: the ways of delivery are tried from then on.
    pub(super) placed: Option<Timestamp>,
    pub(super) rate: u64,
    pub(super) room: u64,
    /// Reserved before the metadata was there.
    waiting: BTreeSet<u32>,
    meta_asked: bool,
    /// Where the guest is, and whether its friend says that it is its master.
    pub(super) from: Option<SocketAddr>,
    pub(super) guest: Option<ConnId>,
    pub(super) confirmed: bool,
    pub(super) dialled: bool,
    pub(super) refused_dials: BTreeSet<NoDial>,
    pub(super) served: Served,
}

/// The account of one help, bytes.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// By connections that are gone.
    pub(super) before: u64,
    /// What the guest's connection carried before it was one.
    pub(super) skipped: u64,
    pub(super) delivered: u64,
    pub(super) signed: u64,
    /// Taken from the pool of acquaintances.
    pub(super) drawn: u64,
    pub(super) rate: f64,
    pub(super) last_bytes: u64,
    pub(super) told_held: BTreeSet<u32>,
    pub(super) told_bytes: u64,
    /// What was told to be under way.
    pub(super) told_fetching: BTreeSet<u32>,
    /// When it was last told how far this help is.
    pub(super) told_at: Timestamp,
    /// Since when it has been up against the window.
    pub(super) stuck: Option<Timestamp>,
    pub(super) stuck_noted: bool,
    /// What it would draw if it could, bytes/s.
    pub(super) want: f64,
    /// For how many seconds it has been served.
    pub(super) seconds: u32,
    pub(super) turn: Option<Turn>,
    pub(super) pool_dry: bool,
}

impl Served {
    pub(super) fn unsigned(&self) -> u64 {
        self.delivered.saturating_sub(self.signed)
    }
}

impl Aid {
    /// The help, if any, whose master a new connection may be: it comes from where the friend says its master is, or from
    /// where the friend itself is, or we dialled it there. A slave (by its peer id) is none.
    pub(in crate::node) fn guest(&self, arrival: &Arrival) -> Option<HelpKey> {
        let came = (arrival.addr, arrival.incoming, arrival.peer_id);
        let waits = |(key, help): &(&HelpKey, &Help)| {
            help.swarm == Some(arrival.swarm) && self.may_be_guest(**key, help, came)
        };
        self.helps.iter().find(waits).map(|(key, _)| *key)
    }

    fn may_be_guest(
        &self,
        key: HelpKey,
        help: &Help,
        (addr, incoming, peer_id): (SocketAddr, bool, [u8; 20]),
    ) -> bool {
        let same = |ip: IpAddr| ip.to_canonical() == addr.ip().to_canonical();
        let online = self.friends.get(&key.0).and_then(|f| f.online.as_ref());
        let named = if incoming {
            help.masters.iter().any(|master| same(master.ip()))
                || online.is_some_and(|on| same(on.ip))
        } else {
            help.masters.contains(&addr)
        };
        named && help.begun.is_some() && help.from.is_none() && !peer_id.starts_with(b"-BS")
    }

    /// A peer that was connected before the help began, and may be its master: that one will not connect twice.
    fn early_guest(&self, key: HelpKey, swarm: &Swarm) -> Option<ConnId> {
        let help = self.helps.get(&key)?;
        let fits = |peer: &&Peer| {
            let came = (peer.addr, peer.incoming, peer.peer_id);
            let open = !peer.closing && !peer.suspect && !peer.only_given();
            open && self.may_be_guest(key, help, came)
        };
        swarm.peers.values().find(fits).map(|peer| peer.conn)
    }
}

impl Node {
    pub(super) fn decline(&mut self, friend: FriendId, id: HelpId, why: Decline) {
        self.desk.friends_note(FriendsNote::WeDeclined(friend, why));
        if why == Decline::Private {
            self.desk.friend_fired(friend, FriendDefence::Private);
        }
        self.send(friend, HelpMessage::Decline { id, why });
    }

    pub(super) fn swarm_of(&self, info_hash: &[u8; 20]) -> Option<SwarmId> {
        self.swarms
            .values()
            .find(|swarm| swarm.info_hash == *info_hash && !swarm.forgotten)
            .map(|swarm| swarm.id)
    }

    /// A friend asks.
    pub(super) fn asked_by(&mut self, friend: FriendId, ask: Ask) {
        let key = (friend, ask.id);
        if self.aid.asked.contains_key(&key) {
            return self.desk.friend_fired(friend, FriendDefence::OutOfTurn);
        }
        //= spec/friends.md#help-again
        self.end_help(key, None);
        match self.judge_ask(friend, &ask) {
            Err(why) => self.decline(friend, ask.id, why),
            Ok(terms) => {
                let ways: Vec<Delivery> = ask.deliveries;
                let help = Help {
                    info_hash: ask.info_hash,
                    size: ask.size,
                    piece: ask.piece_length.into(),
                    swarm: None,
                    masters: ask.master,
                    ways: ways.clone(),
                    since: self.desk.now,
                    begun: None,
                    placed: None,
                    dialled: false,
                    rate: terms.rate,
                    room: terms.room,
                    waiting: BTreeSet::new(),
                    from: None,
                    guest: None,
                    meta_asked: false,
                    confirmed: false,
                    refused_dials: BTreeSet::new(),
                    served: Served {
                        want: terms.rate as f64,
                        ..Served::default()
                    },
                };
                self.aid.helps.insert(key, help);
                let note = FriendsNote::WeOffer(friend, ask.wanted, terms.rate);
                self.desk.friends_note(note);
                let offer = HelpMessage::Offer {
                    id: ask.id,
                    rate: terms.rate.max(1),
                    room: terms.room,
                    deliveries: ways,
                    at: self.aid.reach.clone(),
                };
                self.send(friend, offer);
            }
        }
    }

    fn judge_ask(&mut self, friend: FriendId, ask: &Ask) -> Result<help::Terms, Decline> {
        if self.aid.is_stopped(&ask.info_hash) {
            return Err(Decline::Off);
        }
        let known = self
            .swarm_of(&ask.info_hash)
            .and_then(|id| self.swarms.get(&id));
        let private = ask.private || known.is_some_and(|swarm| swarm.private);
        if private && !self.aid.limits.private_torrents {
            return Err(Decline::Private);
        }
        let matches = known.is_none_or(|swarm| {
            let fits = swarm.layout.is_none_or(|layout| {
                layout.piece_length == ask.piece_length && layout.total == ask.size
            });
            fits && swarm.hold == Hold::Cache
        });
        if !matches || ask.size == 0 {
            return Err(Decline::Invalid);
        }
        let line = self.line();
        let turn = self.turn_for(friend, line.spare);
        let wants = self.aid.friends.get(&friend).ok_or(Decline::Off)?;
        let network = wants.online.as_ref().map(|online| online.network);
        let mine = self.aid.helps.keys().filter(|key| key.0 == friend).count();
        let committed = self.aid.helps.values().filter(|help| help.begun.is_some());
        let short = self.is_short();
        help::answer(&AnswerFacts {
            nearness: wants.nearness,
            turn,
            capacity: line.capacity,
            spare: line.spare,
            short,
            piece: ask.piece_length.into(),
            wanted: ask.wanted,
            cache: self.desk.params.limits.cache,
            committed: committed.map(|help| help.room).sum(),
            helps: (self.aid.helps.len(), mine),
            pool: network.map_or(0, |tag| self.aid.pool.room(tag)),
        })
    }

    /// What a newcomer of this friend's would get of the line now.
    fn turn_for(&mut self, friend: FriendId, spare: u64) -> Turn {
        let (_, mut wants) = self.wants();
        let Some(who) = self.aid.friends.get(&friend) else {
            return Turn::Refused;
        };
        wants.push(Want {
            nearness: who.nearness,
            standing: who.at_risk(),
            rate: spare,
        });
        let turns = crate::policy::tit_for_tat::turns(&self.line(), &wants);
        turns.last().copied().unwrap_or(Turn::Rank)
    }

    /// A friend gives us pieces to fetch.
    //= spec/friends.md#reserve-room
    pub(super) fn reserved(&mut self, key: HelpKey, pieces: &[u32]) {
        let now = self.desk.now;
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return self.out_of_turn(key);
        };
        if help.begun.is_none() && now.since(help.since) >= help::OFFER_EXPIRES {
            return self.end_help(key, Some(StopReason::UnknownId));
        }
        if help.begun.is_none() {
            help.begun = Some(now);
        }
        let count = u32::try_from(help.size.div_ceil(help.piece.max(1))).unwrap_or(u32::MAX);
        let there = help.swarm.and_then(|id| self.swarms.get(&id));
        let mut standing = there.map_or(help.waiting.len(), |swarm| swarm.errand_left(key)) as u64;
        let mut surplus = Vec::new();
        for piece in pieces {
            let fits = *piece < count && (standing + 1).saturating_mul(help.piece) <= help.room;
            if fits && help.waiting.insert(*piece) {
                standing += 1;
            } else if !fits {
                surplus.push(*piece);
            }
        }
        if !surplus.is_empty() {
            self.desk.friend_fired(key.0, FriendDefence::OverRoom);
            let id = key.1;
            self.send(
                key.0,
                HelpMessage::Release {
                    id,
                    pieces: surplus,
                },
            );
        }
        self.place(key);
    }

    /// Puts what was reserved to work, as soon as the swarm and its metadata are known.
    pub(super) fn place(&mut self, key: HelpKey) {
        let Some(help) = self.aid.helps.get(&key).filter(|help| help.begun.is_some()) else {
            return;
        };
        let (info_hash, piece, size) = (help.info_hash, help.piece, help.size);
        let Some(id) = self.swarm_of(&info_hash) else {
            return self.want_meta(key, info_hash);
        };
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        if swarm.private && !self.aid.limits.private_torrents {
            self.desk.friend_fired(key.0, FriendDefence::Private);
            return self.end_help(key, Some(StopReason::Refused));
        }
        let Some(layout) = swarm.layout else {
            return self.want_meta(key, info_hash);
        };
        if u64::from(layout.piece_length) != piece || layout.total != size {
            return self.end_help(key, Some(StopReason::Refused));
        }
        let first = !swarm.aid.given.contains_key(&key);
        swarm.origins.insert(Origin::Friend(key.0));
        let errand = swarm.aid.given.entry(key).or_insert_with(Errand::default);
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        help.swarm = Some(id);
        errand.pieces.extend(core::mem::take(&mut help.waiting));
        if first {
            help.placed = Some(self.desk.now);
            help.served.told_at = self.desk.now;
            self.desk.friends_note(FriendsNote::WeHelp(key.0, id));
            let ready = HelpMessage::Progress {
                id: key.1,
                held: Vec::new(),
                delivered: Vec::new(),
                bytes: 0,
            };
            self.send(key.0, ready);
            self.review();
        }
        self.go_on(id);
    }

    /// A swarm is known, or known better.
    pub(in crate::node) fn place_waiting(&mut self) {
        let waits = |(key, help): (&HelpKey, &Help)| help.swarm.is_none().then_some(*key);
        let keys: Vec<HelpKey> = self.aid.helps.iter().filter_map(waits).collect();
        for key in keys {
            self.place(key);
        }
    }

    fn want_meta(&mut self, key: HelpKey, info_hash: [u8; 20]) {
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        // Asked for once: the shell says when it cannot be had.
        if !core::mem::replace(&mut help.meta_asked, true) {
            self.desk.friends(FriendsOutput::FetchMeta {
                friend: key.0,
                help: key.1,
                info_hash,
            });
        }
    }

    /// There is something new to fetch.
    fn go_on(&mut self, id: SwarmId) {
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        swarm.friend_plan.built = None;
        swarm.friend_plan.queue.clear();
        let conns: Vec<ConnId> = swarm.peers.keys().copied().collect();
        for conn in conns {
            swarm.consider_interest(&mut self.desk, conn);
            swarm.top_up(&mut self.desk, conn);
        }
    }

    /// The asker takes pieces back. What its master was told of stays announced: it may not hear of a withdrawal.
    //= spec/friends.md#release-stop
    pub(super) fn taken_back(&mut self, key: HelpKey, pieces: &[u32]) {
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        let Some(swarm) = help.swarm.and_then(|id| self.swarms.get_mut(&id)) else {
            help.waiting.retain(|piece| !pieces.contains(piece));
            return;
        };
        let told = |conn: &ConnId, piece: &u32| {
            swarm
                .peers
                .get(conn)
                .is_some_and(|peer| peer.told.contains_key(piece))
        };
        let conn = swarm.aid.given.get(&key).and_then(|errand| errand.conn);
        let back: Vec<u32> = pieces
            .iter()
            .copied()
            .filter(|piece| !conn.is_some_and(|conn| told(&conn, piece)))
            .collect();
        if let Some(errand) = swarm.aid.given.get_mut(&key) {
            for piece in back {
                errand.pieces.remove(&piece);
            }
        }
    }

    /// The connection of a guest was greeted.
    pub(in crate::node) fn guest_came(&mut self, key: HelpKey, id: SwarmId, conn: ConnId) {
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        let Some(peer) = swarm.peers.get(&conn) else {
            return;
        };
        let (addr, dialled, before) = (peer.addr, !peer.incoming, peer.up.total);
        swarm.welcome(&mut self.desk, key, conn);
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        (help.from, help.guest, help.confirmed) = (Some(addr), Some(conn), false);
        // What it had of us before is no part of this help.
        help.served.skipped = before;
        if dialled {
            self.aid.dials.proven(addr.ip());
        }
        self.desk
            .friends_note(FriendsNote::Arrived(key.0, id, addr));
        self.say_arrived(key, addr);
        self.take_turns();
        self.allow(key);
    }

    /// Looks for a guest that is here already.
    pub(super) fn adopt(&mut self, key: HelpKey) {
        let id = self.aid.helps.get(&key).and_then(|help| help.swarm);
        let Some(swarm) = id.and_then(|id| self.swarms.get(&id)) else {
            return;
        };
        if let Some(conn) = self.aid.early_guest(key, swarm) {
            self.guest_came(key, swarm.id, conn);
        }
    }

    /// Its friend says that the guest is its master.
    pub(super) fn guest_confirmed(&mut self, key: HelpKey, from: SocketAddr) {
        if let Some(help) = self.aid.helps.get_mut(&key)
            && help.from == Some(from)
        {
            help.confirmed = true;
            self.allow(key);
        }
    }

    /// The help is over. What stays unsigned has a minute to be signed for. `tell`: the other side hears why.
    pub(super) fn end_help(&mut self, key: HelpKey, tell: Option<StopReason>) {
        self.count_served(key);
        let Some(help) = self.aid.helps.remove(&key) else {
            return;
        };
        if let Some(why) = tell {
            self.send(key.0, HelpMessage::Stop { id: key.1, why });
        }
        if let Some(friend) = self.aid.friends.get_mut(&key.0) {
            if help.served.unsigned() > 0 {
                let due = self.desk.now + SETTLES;
                friend.unsettled.push((due, help.served.unsigned()));
            }
            if let Some(online) = &friend.online {
                let unused = help.served.drawn.saturating_sub(help.served.delivered);
                self.aid.pool.put_back(online.network, unused);
            }
        }
        if help.begun.is_some() {
            let note = FriendsNote::WeHelped(key.0, help.served.delivered, help.served.signed);
            self.desk.friends_note(note);
        }
        let Some(id) = help.swarm else { return };
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        swarm.dismiss(&mut self.desk, key);
        if !swarm.aid.given.keys().any(|other| other.0 == key.0) {
            swarm.origins.remove(&Origin::Friend(key.0));
            self.forget_unnamed(id);
        }
    }
}
