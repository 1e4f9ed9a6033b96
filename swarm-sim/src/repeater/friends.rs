//! What friends say to each other, and what a slave's shell does for them: sessions, signatures, meetings, the witness.

use swarm_core::io::friends::{
    FriendFact, FriendId, FriendsInput, FriendsOutput, HelpMessage, MasterPeer,
};
use swarm_core::io::{Input, Origin, SwarmId};
use swarm_core::policy::help::Decline;
use swarm_core::policy::pool::NetworkTag;
use swarm_core::policy::tit_for_tat::{Nearness, Standing};

use super::ledger::Iou;
use super::slave::MASTER;
use super::{address, node_at, swarm_id};
use crate::events::{Event, SECOND, Time};
use crate::plan::{Client, Conduct};
use crate::world::World;

/// A signature is durable so long after it was ordered.
const DURABLE: Time = SECOND / 100;
/// qBittorrent dials so long after its RPC was told to, and a peer that heard of another by `ut_pex` (both measured).
const INVITED: Time = 4 * SECOND;
const INTRODUCED: Time = SECOND;
/// The RPC is asked so often what the master had of whom.
const WITNESS: Time = SECOND;

/// What is under way to a slave.
#[derive(Debug)]
pub(crate) enum Letter {
    /// From this key to that one.
    Said(u32, u32, FriendFact),
    Signed(Iou),
    /// From its own shell.
    Own(Input),
}

impl World {
    fn send(&mut self, wait: Time, to: u32, letter: Letter) {
        self.letters_sent = self.letters_sent.wrapping_add(1);
        self.letters.insert(self.letters_sent, (to, letter));
        self.events.after(wait, Event::Letter(self.letters_sent));
    }

    fn own(&mut self, wait: Time, node: u32, friend: u32, fact: FriendFact) {
        let input = Input::Friends(FriendsInput::Friend(FriendId(friend), fact));
        self.send(wait, node, Letter::Own(input));
    }

    /// The first words of a session, on one side.
    pub(super) fn session_begins(&mut self, node: u32, friend: u32, nearness: Nearness) {
        let at = self.keys[friend as usize];
        let Some(slave) = self.slave_mut(node) else {
            return;
        };
        let total = |of: &std::collections::BTreeMap<u32, u64>| of.get(&friend).copied();
        let given = total(&slave.ledger.owed).unwrap_or(0);
        let received = total(&slave.ledger.owes).unwrap_or(0);
        let smaller = slave.key_for(friend) < friend;
        slave.friends.insert(friend, nearness);
        let standing = Standing {
            given,
            received,
            delivered: given,
            disputed: 0,
        };
        let facts = [
            FriendFact::Known { nearness, standing },
            FriendFact::Online {
                smaller,
                ip: address(at).ip(),
                // Each key comes from a network of its own.
                network: NetworkTag(friend.into()),
                endpoint: Some(address(at)),
            },
            FriendFact::Synced { given, received },
        ];
        for fact in facts {
            self.tell_friend(node, friend, fact);
        }
    }

    fn tell_friend(&mut self, node: u32, friend: u32, fact: FriendFact) {
        let input = Input::Friends(FriendsInput::Friend(FriendId(friend), fact));
        self.repeater_mut(node).inputs.push_back(input);
    }

    /// Two of our nodes are connected, and find out whether they are friends.
    pub(super) fn recognise(&mut self, node: u32, other: u32, conn: u32) {
        let (Some(slave), Some(far)) = (
            self.repeater(node).slave.as_ref(),
            self.repeater(other).slave.as_ref(),
        ) else {
            return;
        };
        let friend = far.key_for(slave.key);
        if slave.friends.contains_key(&friend) {
            let linked = FriendFact::Linked(swarm_core::io::ConnId(conn.into()));
            self.own(2 * self.latency, node, friend, linked);
        }
    }

    /// Something arrives.
    pub(crate) fn letter(&mut self, number: u32) {
        let Some((node, letter)) = self.letters.remove(&number) else {
            return;
        };
        match letter {
            Letter::Own(input) => self.repeater_mut(node).inputs.push_back(input),
            Letter::Said(from, to, fact) => self.hears_friend(node, from, to, fact),
            Letter::Signed(iou) => {
                let Some(slave) = self.slave_mut(node) else {
                    return;
                };
                let own = slave.key_for(iou.debtor);
                if slave.ledger.accept(own, &iou) {
                    self.tell_friend(node, iou.debtor, FriendFact::Iou(iou.total, None));
                }
            }
        }
        self.turn(node);
    }

    fn hears_friend(&mut self, node: u32, from: u32, to: u32, fact: FriendFact) {
        let Some(slave) = self.slave_mut(node).filter(|s| s.key_for(from) == to) else {
            return;
        };
        let conduct = slave.conduct;
        if let (Conduct::FreeRider | Conduct::Whitewasher, FriendFact::Message(message)) =
            (conduct, &fact)
        {
            if let HelpMessage::Ask(ask) = message {
                let (id, why) = (ask.id, Decline::Busy);
                return self.say_friend(node, from, HelpMessage::Decline { id, why });
            }
            let over = matches!(
                message,
                HelpMessage::Decline { .. } | HelpMessage::Stop { .. }
            );
            if over && conduct == Conduct::Whitewasher {
                self.tell_friend(node, from, fact);
                return self.fresh_key(node, from);
            }
        }
        self.tell_friend(node, from, fact);
    }

    fn say_friend(&mut self, node: u32, friend: u32, message: HelpMessage) {
        let Some(slave) = self.slave_mut(node) else {
            return;
        };
        let own = slave.key_for(friend);
        let Some(to) = self.keys.get(friend as usize).copied() else {
            return;
        };
        let said = Letter::Said(own, friend, FriendFact::Message(message));
        self.send(self.latency, to, said);
    }

    /// A whitewasher comes again as somebody else, as long as it has keys.
    fn fresh_key(&mut self, node: u32, friend: u32) {
        let to = self.keys[friend as usize];
        let fresh = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let Some(slave) = self.slave_mut(node) else {
            return;
        };
        let old = slave.key_for(friend);
        let more = slave.keys_left > 0;
        if more {
            slave.keys_left -= 1;
            slave.masks.insert(friend, fresh);
            self.keys.push(node);
        }
        self.tell_friend(node, friend, FriendFact::Removed);
        self.tell_friend(to, old, FriendFact::Offline);
        if more {
            self.session_begins(node, friend, Nearness::Friend);
            self.session_begins(to, fresh, Nearness::Acquaintance);
        }
        self.events.after(0, Event::Timer(to));
    }

    /// What the brain decides about friends.
    pub(super) fn carry_out_for_friends(&mut self, node: u32, output: FriendsOutput) {
        match output {
            FriendsOutput::Send(FriendId(friend), message) => {
                self.say_friend(node, friend, message);
            }
            FriendsOutput::Sign(FriendId(friend), total, _) => self.sign(node, friend, total),
            // A run has no second start.
            FriendsOutput::Keep(..) => {}
            FriendsOutput::FetchMeta {
                friend, info_hash, ..
            } => {
                let [a, b, c, d, ..] = info_hash;
                let known = self.known(u32::from_be_bytes([a, b, c, d]), Origin::Friend(friend));
                self.send(4 * self.latency, node, Letter::Own(known));
            }
            FriendsOutput::Reach(FriendId(friend), at) => {
                if let Some(addr) = at.first() {
                    let reached = FriendFact::Reached(*addr);
                    self.own(4 * self.latency, node, friend, reached);
                }
            }
            FriendsOutput::Invite(_, swarm, addr) => {
                let master = self.master_in(node, swarm.0 - 1);
                if let (Some(master), Some(to)) = (master, node_at(addr)) {
                    let dial = Event::Dial(master, to, swarm.0 - 1);
                    self.events.after(INVITED, dial);
                }
            }
            FriendsOutput::Introduce { conn, added, .. } => {
                let at = usize::try_from(conn.0).unwrap_or(usize::MAX);
                let conn = self.repeater(node).conns.get(at);
                let Some((end, swarm)) = conn.and_then(|c| c.as_ref()).map(|c| (c.end, c.swarm))
                else {
                    return;
                };
                let master = self.other(end);
                for to in added.into_iter().filter_map(node_at) {
                    let dial = Event::Dial(master, to, swarm);
                    self.events.after(INTRODUCED, dial);
                }
            }
            FriendsOutput::Watch(_, swarm, yes) => self.watch_master(node, swarm, yes),
        }
    }

    /// Signs durably and sends: who steals signs nothing, whatever its brain thinks.
    fn sign(&mut self, node: u32, friend: u32, total: u64) {
        let Some(slave) = self.slave_mut(node) else {
            return;
        };
        if slave.conduct == Conduct::Honest {
            let own = slave.key_for(friend);
            let Some(iou) = slave.ledger.sign(own, friend, total) else {
                return;
            };
            let to = self.keys[friend as usize];
            self.send(DURABLE + self.latency, to, Letter::Signed(iou));
        }
        self.own(DURABLE, node, friend, FriendFact::Signed(total));
    }

    fn watch_master(&mut self, node: u32, swarm: SwarmId, yes: bool) {
        let swarm = swarm.0 - 1;
        let next = self.events.now + WITNESS;
        let Some(slave) = self.slave_mut(node) else {
            return;
        };
        if !yes {
            slave.watched.remove(&swarm);
        } else if slave.watched.insert(swarm, next) != Some(next) {
            self.events.at(next, Event::Witness(node, swarm));
        }
    }

    /// A look at what a master had of whom.
    pub(crate) fn witness(&mut self, node: u32, swarm: u32) {
        let now = self.events.now;
        let master = self.master_in(node, swarm);
        let Some(slave) = self.slave_mut(node) else {
            return;
        };
        if slave.watched.get(&swarm) != Some(&now) {
            return;
        }
        slave.watched.insert(swarm, now + WITNESS);
        self.events.after(WITNESS, Event::Witness(node, swarm));
        let Some(master) = master else { return };
        let at = &self.peers[master as usize];
        let make = &self.plan.swarm[self.made_by[swarm as usize]];
        let rates = make.group[at.group as usize].client == Client::Transmission;
        let conns = at.conns.clone();
        let peers = conns.into_iter().map(|end| {
            let addr = address(self.other(end));
            let at = &mut self.ends[end as usize];
            let value = if rates { at.flow.rate(now) } else { at.got };
            MasterPeer { addr, value }
        });
        let look = FriendsInput::MasterPeers(swarm_id(swarm), MASTER, peers.collect());
        self.repeater_mut(node)
            .inputs
            .push_back(Input::Friends(look));
        self.turn(node);
    }
}
