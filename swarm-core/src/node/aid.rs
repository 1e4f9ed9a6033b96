//! Help between friends: who they are (here), what we ask of them (`asking`, `lending`, `crediting`, `delivering`), and
//! what we do for them (`helping`, `serving`). What it means for the pieces of one swarm is in [`super::errands`].

mod asking;
mod crediting;
mod delivering;
mod granting;
mod helping;
mod lending;
mod serving;
mod viewing;
mod wishing;

use crate::io::friends::{
    FriendDefence, FriendFact, FriendId, FriendsInput, FriendsLimits, FriendsMode, FriendsOutput,
    HelpId, HelpMessage, RpcPowers, StopReason,
};
use crate::io::{ConnId, MasterId, SwarmId};
use crate::node::Node;
use crate::node::errands::HelpKey;
use crate::policy::delivery::Introductions;
use crate::policy::friend_dial::FriendDials;
use crate::policy::help;
use crate::policy::pool::{NetworkTag, Pool};
use crate::policy::tit_for_tat::{Nearness, Standing};
use crate::time::Timestamp;
use asking::{Asked, Need, Stage};
use core::time::Duration;
use helping::Help;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use wishing::Wish;

pub(super) use viewing::view;

/// Help survives a session's end by so long.
const RECONNECT: Duration = Duration::from_secs(60);

/// A friend or acquaintance.
#[derive(Debug)]
struct Friend {
    nearness: Nearness,
    standing: Standing,
    online: Option<Presence>,
    /// When its session ended.
    gone: Timestamp,
    /// The total that is being made durable, signed and sent.
    signing: Option<u64>,
    /// What we owe it and have not signed for, and since when.
    unsigned: u64,
    unsigned_since: Timestamp,
    /// The help that the first of it came in.
    unsigned_for: Option<HelpId>,
    /// What it signed for before we had counted it as delivered.
    ahead: u64,
    /// What it has not signed for, of helps that are over, and when that is disputed.
    unsettled: Vec<(Timestamp, u64)>,
    /// Failures in a row to get help of it, by swarm, and when to ask again.
    retry: BTreeMap<SwarmId, (u32, Timestamp)>,
    kept: (u64, u64),
    /// When it was last told that it speaks of a help that is unknown.
    corrected: Option<Timestamp>,
}

/// A session that stands.
#[derive(Debug)]
struct Presence {
    smaller: bool,
    ip: IpAddr,
    network: NetworkTag,
    /// Where we completed a session ourselves.
    reached: BTreeSet<SocketAddr>,
    synced: bool,
}

impl Friend {
    /// It may be another than it was: what failed before says little.
    fn forgets_failures(&mut self, now: Timestamp) {
        for (fails, next) in self.retry.values_mut() {
            *fails = 0;
            *next = (*next).min(now + help::retry(1));
        }
    }

    /// Both sides know what is signed; returned is what they signed for that we did not know.
    fn synced_at(&mut self, given: u64, received: u64) -> u64 {
        let signed = given.saturating_sub(self.standing.given);
        // What was signed when the last session ended is not owed a second time.
        let known = received.saturating_sub(self.standing.received);
        self.standing.received += known;
        self.unsigned = self.unsigned.saturating_sub(known);
        if let Some(online) = self.online.as_mut() {
            online.synced = true;
        }
        signed
    }

    fn new(nearness: Nearness, standing: Standing) -> Self {
        Self {
            nearness,
            standing,
            online: None,
            gone: Timestamp::ZERO,
            signing: None,
            unsigned: 0,
            unsigned_since: Timestamp::ZERO,
            unsigned_for: None,
            ahead: 0,
            unsettled: Vec::new(),
            retry: BTreeMap::new(),
            kept: (standing.delivered, standing.disputed),
            corrected: None,
        }
    }

    fn synced(&self) -> bool {
        self.online.as_ref().is_some_and(|online| online.synced)
    }

    /// What stands between us, with what is not settled yet taken as disputed.
    fn at_risk(&self) -> Standing {
        let unsettled: u64 = self.unsettled.iter().map(|(_, bytes)| bytes).sum();
        Standing {
            disputed: self.standing.disputed.saturating_add(unsettled),
            ..self.standing
        }
    }

    /// Its session ended too long ago for its helps to go on.
    fn lost(&self, now: Timestamp) -> bool {
        self.online.is_none() && now.since(self.gone) >= RECONNECT
    }
}

/// Everything about friends.
#[derive(Debug)]
pub(super) struct Aid {
    limits: FriendsLimits,
    reach: Vec<SocketAddr>,
    friends: BTreeMap<FriendId, Friend>,
    /// Helps that we asked for.
    asked: BTreeMap<HelpKey, Asked>,
    /// Helps that we give.
    helps: BTreeMap<HelpKey, Help>,
    needs: BTreeMap<SwarmId, Need>,
    /// The operator's word, by infohash.
    wishes: BTreeMap<[u8; 20], Wish>,
    pool: Pool,
    dials: FriendDials,
    rpc: BTreeMap<MasterId, RpcPowers>,
    watched: BTreeSet<(MasterId, SwarmId)>,
    introduced: BTreeMap<ConnId, Introductions>,
    next_id: u32,
}

impl Aid {
    pub(super) fn new(limits: &FriendsLimits) -> Self {
        Self {
            limits: limits.clone(),
            reach: Vec::new(),
            friends: BTreeMap::new(),
            asked: BTreeMap::new(),
            helps: BTreeMap::new(),
            needs: BTreeMap::new(),
            wishes: BTreeMap::new(),
            pool: Pool::new(limits.open_pool, Timestamp::ZERO),
            dials: FriendDials::default(),
            rpc: BTreeMap::new(),
            watched: BTreeSet::new(),
            introduced: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// With this one help is exchanged. Where it was met does not matter.
    //= spec/rendezvous.md#rv-no-credit
    fn admits(&self, friend: FriendId) -> bool {
        self.friends
            .get(&friend)
            .is_some_and(|f| match self.limits.mode {
                FriendsMode::Off => false,
                FriendsMode::Known => f.nearness == Nearness::Friend,
                FriendsMode::Open => true,
            })
    }
}

impl Node {
    /// Something about friends.
    pub(super) fn friends_input(&mut self, input: FriendsInput) {
        match input {
            FriendsInput::Limits(limits) => {
                self.desk.friends_open = limits.mode == FriendsMode::Open;
                self.aid.pool.resize(limits.open_pool);
                self.aid.limits = limits;
                let all: Vec<FriendId> = self.aid.friends.keys().copied().collect();
                let out: Vec<FriendId> = all.into_iter().filter(|f| !self.aid.admits(*f)).collect();
                for friend in out {
                    self.end_all(friend, StopReason::Leaving);
                }
            }
            FriendsInput::Reach(addrs) => self.aid.reach = addrs,
            FriendsInput::Stood(conn) => self.session_stood(conn),
            FriendsInput::Friend(id, fact) => self.friend_fact(id, fact),
            FriendsInput::Rpc(master, powers) => {
                self.aid.rpc.insert(master, powers);
            }
            FriendsInput::MasterPeers(swarm, master, peers) => {
                self.saw_peers(swarm, master, &peers)
            }
            FriendsInput::Ask(info_hash, bytes) => self.ask_by_hand(info_hash, bytes),
            FriendsInput::Stop(info_hash) => self.stop_by_hand(info_hash),
            FriendsInput::ByItself(info_hash) => self.forget_wish(info_hash),
        }
    }

    fn friend_fact(&mut self, id: FriendId, fact: FriendFact) {
        if let FriendFact::Known { nearness, standing } = fact {
            let friend = self
                .aid
                .friends
                .entry(id)
                .or_insert_with(|| Friend::new(nearness, standing));
            friend.nearness = nearness;
            friend.standing.given = friend.standing.given.max(standing.given);
            friend.standing.received = friend.standing.received.max(standing.received);
            return;
        }
        let now = self.desk.now;
        let Some(friend) = self.aid.friends.get_mut(&id) else {
            return;
        };
        match fact {
            FriendFact::Known { .. } => {}
            FriendFact::Removed => {
                self.end_all(id, StopReason::Leaving);
                self.aid.friends.remove(&id);
            }
            FriendFact::Online {
                smaller,
                ip,
                network,
                endpoint,
            } => {
                friend.forgets_failures(now);
                friend.online = Some(Presence {
                    smaller,
                    ip,
                    network,
                    reached: endpoint.into_iter().collect(),
                    synced: false,
                });
            }
            FriendFact::Synced { given, received } => {
                let signed = friend.synced_at(given, received);
                self.signed_for(id, signed, None);
                self.ask_whether_known(id);
            }
            FriendFact::Reached(addr) => {
                let online = friend.online.as_mut();
                if online.is_some_and(|online| online.reached.insert(addr)) {
                    self.reached(id);
                }
            }
            FriendFact::Offline => {
                friend.online = None;
                friend.signing = None;
                friend.gone = now;
            }
            FriendFact::Linked(conn) => self.linked(id, conn),
            FriendFact::Message(message) => self.friend_said(id, message),
            FriendFact::Iou(total, help) => {
                let signed = total.saturating_sub(friend.standing.given);
                if total < friend.standing.given {
                    self.desk.friend_fired(id, FriendDefence::StaleIou);
                }
                self.signed_for(id, signed, help);
            }
            FriendFact::Signed(total) => self.signed(id, total),
            FriendFact::MetaFailed(help) => self.end_help((id, help), Some(StopReason::Refused)),
        }
    }

    fn friend_said(&mut self, from: FriendId, message: HelpMessage) {
        if !self.aid.admits(from) {
            if let HelpMessage::Ask(ask) = message {
                self.decline(from, ask.id, crate::policy::help::Decline::Off);
            }
            return;
        }
        match message {
            HelpMessage::Ask(ask) => self.asked_by(from, ask),
            HelpMessage::Offer {
                id,
                rate,
                room,
                deliveries,
                at,
            } => self.offered((from, id), rate, room, &deliveries, at),
            HelpMessage::Decline { id, why } => self.declined((from, id), why),
            HelpMessage::Reserve { id, pieces } => self.reserved((from, id), &pieces),
            HelpMessage::Progress {
                id,
                held,
                delivered: _,
                bytes,
            } => self.progressed((from, id), &held, bytes),
            HelpMessage::Fetching { id, now, next } => self.fetching((from, id), now, &next),
            HelpMessage::Release { id, pieces } => self.released_by((from, id), &pieces),
            HelpMessage::Arrived { id, from: addr } => self.arrived((from, id), addr),
            HelpMessage::Stop { id, why } => self.stopped_by((from, id), why),
        }
    }

    /// A BitTorrent connection is a friend's slave's own.
    fn linked(&mut self, friend: FriendId, conn: ConnId) {
        let Some(id) = self.conns.get(&conn) else {
            return;
        };
        if let Some(swarm) = self.swarms.get_mut(id) {
            swarm.aid.links.insert(conn, friend);
            swarm.top_up(&mut self.desk, conn);
            swarm.consider_listing(&mut self.desk, conn);
        }
    }

    /// Pieces come back: from a helper that gives them up, or from an asker that takes them back.
    fn released_by(&mut self, key: HelpKey, pieces: &[u32]) {
        if self.aid.helps.contains_key(&key) {
            self.taken_back(key, pieces);
        } else if self.aid.asked.contains_key(&key) {
            if !pieces.is_empty() {
                self.given_up(key, pieces);
            }
        } else {
            self.out_of_turn(key);
        }
    }

    fn stopped_by(&mut self, key: HelpKey, why: StopReason) {
        if self.aid.helps.contains_key(&key) {
            self.end_help(key, None);
        } else if self.aid.asked.contains_key(&key) {
            self.end_asked(key, None, why != StopReason::Done);
        } else if why != StopReason::UnknownId {
            self.desk.friend_fired(key.0, FriendDefence::OutOfTurn);
        }
    }

    /// A message for a help that is unknown: said so, so that the other side does not wait, but once a second at most.
    //= spec/friends.md#help-unknown-id
    fn out_of_turn(&mut self, key: HelpKey) {
        let now = self.desk.now;
        self.desk.friend_fired(key.0, FriendDefence::OutOfTurn);
        let Some(friend) = self.aid.friends.get_mut(&key.0) else {
            return;
        };
        let lately = |at: Timestamp| now.since(at) < Duration::from_secs(1);
        if friend.corrected.is_some_and(lately) {
            return;
        }
        friend.corrected = Some(now);
        self.send(
            key.0,
            HelpMessage::Stop {
                id: key.1,
                why: StopReason::UnknownId,
            },
        );
    }

    /// A session stands: a helper that has died since the last one has forgotten what we asked of it, and would say nothing.
    /// Nothing is released, and it answers if it knows no such help.
    //= spec/friends.md#help-goes-on
    fn ask_whether_known(&mut self, friend: FriendId) {
        let runs =
            |(key, asked): &(&HelpKey, &Asked)| key.0 == friend && asked.stage != Stage::Waiting;
        let running = self.aid.asked.iter().filter(runs);
        let ids: Vec<HelpId> = running.map(|(key, _)| key.1).collect();
        for id in ids {
            let pieces = Vec::new();
            self.send(friend, HelpMessage::Release { id, pieces });
        }
    }

    /// Everything with this friend ends.
    fn end_all(&mut self, friend: FriendId, why: StopReason) {
        let of = |key: &&HelpKey| key.0 == friend;
        let helps: Vec<HelpKey> = self.aid.helps.keys().filter(of).copied().collect();
        let asked: Vec<HelpKey> = self.aid.asked.keys().filter(of).copied().collect();
        for key in helps {
            self.end_help(key, Some(why));
        }
        for key in asked {
            self.end_asked(key, Some(why), true);
        }
    }

    fn send(&mut self, friend: FriendId, message: HelpMessage) {
        let stands = self
            .aid
            .friends
            .get(&friend)
            .is_some_and(|f| f.online.is_some());
        if stands {
            self.desk.friends(FriendsOutput::Send(friend, message));
        }
    }

    /// Once a second.
    pub(super) fn aid_tick(&mut self) {
        if self.aid.friends.is_empty() {
            return;
        }
        let lost: Vec<FriendId> = self
            .aid
            .friends
            .iter()
            .filter(|(_, friend)| friend.lost(self.desk.now))
            .map(|(id, _)| *id)
            .collect();
        for friend in lost {
            self.end_all(friend, StopReason::Leaving);
        }
        self.tick_helps();
        self.tick_asked();
    }
}

#[cfg(test)]
mod tests;
