//! The asker: when a master is short, whom we ask, what their answers begin and end.

use crate::io::friends::{
    Ask, FriendDefence, FriendId, FriendsNote, FriendsOutput, HelpId, HelpMessage, StopReason,
    WitnessKind,
};
use crate::io::{ConnId, MasterId, Role, SwarmId};
use crate::node::Node;
use crate::node::errands::HelpKey;
use crate::policy::delivery::{self, Delivery, DeliveryFacts};
use crate::policy::help::{self, Decline, ShortFacts};
use crate::policy::tit_for_tat;
use crate::swarm::Swarm;
use crate::time::Timestamp;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::crediting::Credit;
use super::lending::Loan;

/// What is still credited after the last piece was lent: the witness looks once a second.
const CLOSING: Duration = Duration::from_secs(3);
/// With nothing to lend for so long the help ends.
const IDLE: Duration = Duration::from_secs(10);

/// How a swarm's master fares.
#[derive(Debug)]
pub(super) struct Need {
    conn: ConnId,
    since: Timestamp,
    had: u32,
    /// Bytes/s that it gains.
    gains: f64,
}

impl Need {
    fn new(now: Timestamp, conn: ConnId, had: u32) -> Self {
        Self {
            conn,
            since: now,
            had,
            gains: 0.0,
        }
    }

    /// Bytes/s that it gains.
    pub(super) fn gains(&self) -> u64 {
        self.gains as u64
    }
}

/// Where an asked help stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No answer yet.
    Waiting,
    Running,
    /// Nothing more to lend, since then; what is under way is still credited.
    Closing(Timestamp),
}

/// A help that we asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) swarm: SwarmId,
    pub(super) master: MasterId,
    pub(super) stage: Stage,
    pub(super) since: Timestamp,
    pub(super) want: u64,
    pub(super) piece: u64,
    pub(super) ways: Vec<Delivery>,
    /// Where the helper says it listens.
    pub(super) at: Vec<SocketAddr>,
    pub(super) loan: Loan,
    pub(super) credit: Credit,
    /// When something was last lent or came.
    pub(super) busy: Timestamp,
    /// When each way was last tried.
    pub(super) tried: BTreeMap<Delivery, Timestamp>,
    /// Who came to the helper, and may be our master.
    pub(super) claimed_arrival: Option<SocketAddr>,
    /// The master is with it.
    pub(super) arrived: bool,
}

impl Swarm {
    /// The first connected master that lacks something, and is known.
    pub(super) fn needy(&self) -> Option<(MasterId, ConnId)> {
        self.master_conns.iter().find_map(|conn| {
            let peer = self.peers.get(conn)?;
            match peer.role {
                Role::Master(id) if peer.known && !peer.have.is_full() => Some((id, *conn)),
                Role::Master(_) | Role::Peer | Role::Guest(_) => None,
            }
        })
    }

    /// Whether every connected master has everything, as far as is known.
    pub(super) fn masters_full(&self) -> bool {
        let mut masters = self.master_conns.iter().filter_map(|c| self.peers.get(c));
        masters.all(|peer| peer.known && peer.have.is_full())
    }

    /// What helpers could be lent now, best first, if they bring it in one of these ways to a master that gains so many
    /// bytes/s: what nobody is on, or else what our own line does not carry soon.
    pub(super) fn loanable(&self, lot: u64, gains: u64, ways: &[Delivery]) -> Vec<u32> {
        let pieces = self.lendable(lot);
        // What we relay is absent here: the helper's slave brings it to us.
        if !pieces.is_empty() || ways == [Delivery::Relayed] {
            return pieces;
        }
        let missing = self.needy().map_or(0, |(_, conn)| self.missing_bytes(conn));
        self.spare(lot, help::own_seconds(missing, gains))
    }

    pub(super) fn missing_bytes(&self, conn: ConnId) -> u64 {
        let have = self.peers.get(&conn).map(|peer| &peer.have);
        have.map_or(0, |have| {
            u64::from(have.len() - have.count_ones()) * self.permit()
        })
    }
}

impl Node {
    /// Once a second, for all helps that we asked for.
    pub(super) fn tick_asked(&mut self) {
        self.measure_needs();
        self.close_wishes();
        let needy: Vec<SwarmId> = self.aid.needs.keys().copied().collect();
        for swarm in needy {
            self.seek(swarm);
        }
        let keys: Vec<HelpKey> = self.aid.asked.keys().copied().collect();
        for key in &keys {
            self.credit_there(*key);
            if let Some(asked) = self.aid.asked.get_mut(key) {
                asked.loan.roll();
            }
            self.take_back(*key);
        }
        self.steal();
        for key in keys {
            self.lend(key);
            self.deliver(key);
            self.close_idle(key);
        }
        self.introduce();
        self.sign_due();
    }

    fn measure_needs(&mut self) {
        let now = self.desk.now;
        let swarms = &self.swarms;
        self.aid.needs.retain(|id, _| {
            let needy = swarms.get(id).and_then(Swarm::needy);
            needy.is_some()
        });
        for (id, swarm) in swarms {
            let Some((_, conn)) = swarm.needy() else {
                continue;
            };
            let had = swarm.peers.get(&conn).map_or(0, |p| p.have.count_ones());
            let need = self
                .aid
                .needs
                .entry(*id)
                .or_insert_with(|| Need::new(now, conn, had));
            if need.conn != conn {
                *need = Need::new(now, conn, had);
            }
            let fresh = u64::from(had.saturating_sub(need.had)) * swarm.permit();
            need.gains += (fresh as f64 - need.gains) * 0.1;
            need.had = had;
        }
    }

    /// Whether a master of ours is short in any swarm.
    pub(super) fn is_short(&self) -> bool {
        self.aid.needs.keys().any(|id| self.short_in(*id))
    }

    pub(super) fn short_in(&self, id: SwarmId) -> bool {
        let (Some(need), Some(swarm)) = (self.aid.needs.get(&id), self.swarms.get(&id)) else {
            return false;
        };
        let facts = ShortFacts {
            missing: swarm.missing_bytes(need.conn),
            gains: need.gains as u64,
            piece: swarm.permit(),
            since: self.desk.now.since(need.since),
        };
        help::short(&facts)
    }

    /// Asks whoever may help in this swarm, if help is wanted there.
    //= spec/friends.md#ask-own-need
    //= spec/friends.md#ask-private
    pub(super) fn seek(&mut self, id: SwarmId) {
        let Some(swarm) = self.swarms.get(&id).filter(|swarm| swarm.joined()) else {
            return;
        };
        let by_hand = self.aid.asked_by_hand(&swarm.info_hash);
        let wanted = by_hand.is_some() || self.short_in(id);
        if !wanted || self.aid.is_stopped(&swarm.info_hash) || swarm.needy().is_none() {
            return;
        }
        if swarm.private && !self.aid.limits.private_torrents {
            return self.refuse_private(swarm.info_hash);
        }
        let gains = self.aid.needs.get(&id).map_or(0, Need::gains);
        if swarm.loanable(0, gains, &self.ways(swarm)).is_empty() {
            return;
        }
        let here = self.aid.asked.values().filter(|a| a.swarm == id).count();
        let able = self.candidates(id, help::HELPERS.saturating_sub(here));
        let most = self.share_of(id, by_hand.unwrap_or(u64::MAX), able.len());
        for friend in able.into_iter().filter(|_| most > 0) {
            self.ask(friend, id, most);
        }
    }

    /// Friends that may be asked now, who owes us most first.
    fn candidates(&self, id: SwarmId, most: usize) -> Vec<FriendId> {
        let now = self.desk.now;
        let busy = |friend: FriendId| {
            let with = |(key, asked): (&HelpKey, &Asked)| key.0 == friend && asked.swarm == id;
            self.aid.asked.iter().any(with)
        };
        let mut able: Vec<_> = self
            .aid
            .friends
            .iter()
            .filter(|(who, friend)| {
                let rests = friend.retry.get(&id).is_some_and(|(_, next)| *next > now);
                friend.synced() && self.aid.admits(**who) && !rests && !busy(**who)
            })
            .map(|(who, friend)| {
                let first = tit_for_tat::asked_first(&friend.standing);
                (friend.nearness, first, *who)
            })
            .collect();
        able.sort_unstable();
        able.into_iter().take(most).map(|(_, _, who)| who).collect()
    }

    /// Where a needy master is reached, as far as we know.
    fn needy_at(&self, swarm: &Swarm, master: MasterId, conn: ConnId) -> Vec<SocketAddr> {
        let known = self.masters.get(&master);
        let mut addrs = known.map_or(Vec::new(), Self::master_addrs);
        let peer = swarm.peers.get(&conn).filter(|peer| !peer.incoming);
        addrs.extend(peer.map(|peer| peer.addr));
        addrs.sort_unstable();
        addrs.dedup();
        addrs
    }

    /// How helpers could bring something to the needy master here.
    fn ways(&self, swarm: &Swarm) -> Vec<Delivery> {
        let Some((master, conn)) = swarm.needy() else {
            return Vec::new();
        };
        let rpc = self.aid.rpc.get(&master).copied().unwrap_or_default();
        delivery::ways(&DeliveryFacts {
            rpc_dials: rpc.dials,
            witness: rpc.witness != WitnessKind::None,
            pex: swarm.peers.get(&conn).is_some_and(|peer| peer.ext.pex),
            private: swarm.private,
            master_known: !self.needy_at(swarm, master, conn).is_empty(),
        })
    }

    fn ask(&mut self, friend: FriendId, id: SwarmId, most: u64) {
        let now = self.desk.now;
        let Some(swarm) = self.swarms.get(&id) else {
            return;
        };
        let (Some((master, conn)), Some(layout)) = (swarm.needy(), swarm.layout) else {
            return;
        };
        let Some(online) = self
            .aid
            .friends
            .get(&friend)
            .and_then(|f| f.online.as_ref())
        else {
            return;
        };
        let help = HelpId(self.aid.next_id.wrapping_mul(2) | u32::from(!online.smaller));
        self.aid.next_id = self.aid.next_id.wrapping_add(1);
        let mut addrs = self.needy_at(swarm, master, conn);
        addrs.truncate(8);
        let rpc = self.aid.rpc.get(&master).copied().unwrap_or_default();
        let ways = self.ways(swarm);
        let want = swarm.missing_bytes(conn).min(most).clamp(1, layout.total);
        let ask = Ask {
            id: help,
            info_hash: swarm.info_hash,
            size: layout.total,
            piece_length: layout.piece_length,
            wanted: want,
            master: addrs,
            deliveries: ways.clone(),
            private: swarm.private,
        };
        let asked = Asked {
            swarm: id,
            master,
            stage: Stage::Waiting,
            since: now,
            want,
            piece: swarm.permit(),
            ways,
            at: Vec::new(),
            loan: Loan::default(),
            credit: Credit::new(rpc.witness),
            busy: now,
            tried: BTreeMap::new(),
            claimed_arrival: None,
            arrived: false,
        };
        self.aid.asked.insert((friend, help), asked);
        self.desk.friends_note(FriendsNote::Asked(friend, id));
        self.send(friend, HelpMessage::Ask(ask));
    }

    pub(super) fn offered(
        &mut self,
        key: HelpKey,
        rate: u64,
        room: u64,
        ways: &[Delivery],
        at: Vec<SocketAddr>,
    ) {
        let now = self.desk.now;
        let waits = |asked: &&mut Asked| asked.stage == Stage::Waiting;
        let Some(asked) = self.aid.asked.get_mut(&key).filter(waits) else {
            return self.out_of_turn(key);
        };
        asked.ways.retain(|way| ways.contains(way));
        if asked.ways.is_empty() || room < asked.piece {
            return self.end_asked(key, Some(StopReason::NoDelivery), true);
        }
        asked.stage = Stage::Running;
        (asked.since, asked.busy) = (now, now);
        asked.at = at;
        asked.loan.begin(now, rate, room);
        let (swarm, master) = (asked.swarm, asked.master);
        let watches = asked.credit.watches() && self.aid.watched.insert((master, swarm));
        if watches {
            self.desk.friends(FriendsOutput::Watch(master, swarm, true));
        }
        self.desk
            .friends_note(FriendsNote::HelpBegins(key.0, swarm, rate));
        self.lend(key);
        self.deliver(key);
    }

    pub(super) fn declined(&mut self, key: HelpKey, why: Decline) {
        if self.aid.asked.contains_key(&key) {
            self.desk.friends_note(FriendsNote::Declined(key.0, why));
            self.end_asked(key, None, true);
        }
    }

    /// Ends what got no answer, and what there is nothing more to lend to.
    fn close_idle(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return;
        };
        match asked.stage {
            Stage::Waiting if now.since(asked.since) >= help::ANSWER_WITHIN => {
                self.end_asked(key, Some(StopReason::Done), true);
            }
            Stage::Running if asked.loan.is_empty() && now.since(asked.busy) >= IDLE => {
                asked.stage = Stage::Closing(now);
            }
            Stage::Closing(since) if now.since(since) >= CLOSING => {
                let useless = asked.credit.credited() == 0;
                self.end_asked(key, Some(StopReason::Done), useless);
            }
            Stage::Waiting | Stage::Running | Stage::Closing(_) => {}
        }
    }

    /// The help is over: what was lent is ours again, what we owe is signed. `tell`: the other side hears why.
    pub(super) fn end_asked(&mut self, key: HelpKey, tell: Option<StopReason>, failed: bool) {
        let Some(asked) = self.aid.asked.remove(&key) else {
            return;
        };
        let now = self.desk.now;
        if let Some(swarm) = self.swarms.get_mut(&asked.swarm) {
            swarm.unlend(key.0, asked.loan.pieces());
        }
        if let Some(friend) = self.aid.friends.get_mut(&key.0) {
            let brought = asked.credit.credited() > 0;
            let before = friend.retry.get(&asked.swarm).filter(|_| !brought);
            let before = before.map_or(0, |(fails, _)| *fails);
            let fails = if failed { before + 1 } else { 0 };
            friend
                .retry
                .insert(asked.swarm, (fails, now + help::retry(fails.max(1))));
        }
        let place = (asked.master, asked.swarm);
        let others = self
            .aid
            .asked
            .values()
            .any(|other| (other.master, other.swarm) == place);
        if !others && self.aid.watched.remove(&place) {
            self.desk
                .friends(FriendsOutput::Watch(place.0, place.1, false));
        }
        if let Some(why) = tell {
            self.send(key.0, HelpMessage::Stop { id: key.1, why });
        }
        let (claims, credited) = (asked.credit.claims(), asked.credit.credited());
        if asked.stage != Stage::Waiting {
            if claims > credited.saturating_add(asked.piece) {
                self.desk
                    .friend_fired(key.0, FriendDefence::Claims(claims - credited));
            }
            let note = FriendsNote::HelpEnded(key.0, asked.swarm, claims, credited);
            self.desk.friends_note(note);
            self.wish_served(asked.swarm, credited);
        }
    }
}
