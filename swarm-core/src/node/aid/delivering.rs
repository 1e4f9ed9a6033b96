//! How a helper and a master come together. The ways and their order are in [`crate::policy::delivery`].

use crate::io::friends::{FriendDefence, FriendId, FriendsOutput, HelpMessage};
use crate::io::{ConnId, MasterId, Output, PeerSource};
use crate::node::Node;
use crate::node::errands::HelpKey;
use crate::policy::delivery::{self, Delivery};
use crate::policy::friend_dial::Knowledge;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::asking::Stage;

/// A way that did not work yet is tried again so often while its time lasts.
const AGAIN: core::time::Duration = core::time::Duration::from_secs(10);

/// The first message to a master waits at most so long for helpers that were asked at the same time.
const GATHER: core::time::Duration = core::time::Duration::from_secs(3);

impl Node {
    /// The asker's part: what this moment's way needs of us.
    pub(super) fn deliver(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return;
        };
        let (Stage::Running, Some(begun), false) = (asked.stage, asked.loan.begun, asked.arrived)
        else {
            return;
        };
        let Some(mut way) = delivery::turn(&asked.ways, now.since(begun)) else {
            return;
        };
        // It was asked to, and could not: an introduction has the time of both.
        let dials = self.aid.rpc.get(&asked.master).is_some_and(|rpc| rpc.dials);
        if way == Delivery::Rpc && !dials {
            if !asked.ways.contains(&Delivery::Introduced) {
                return;
            }
            way = Delivery::Introduced;
        }
        let due = asked
            .tried
            .get(&way)
            .is_none_or(|at| now.since(*at) >= AGAIN);
        if !due {
            return;
        }
        asked.tried.insert(way, now);
        let (swarm, master, at) = (asked.swarm, asked.master, asked.at.clone());
        let online = self.aid.friends.get(&key.0).and_then(|f| f.online.as_ref());
        let own = online.and_then(|on| at.iter().find(|end| on.reached.contains(end)));
        match (way, own.copied()) {
            //= spec/friends.md#deliver-proved
            (Delivery::Rpc, Some(addr)) => {
                let invite = FriendsOutput::Invite(master, swarm, addr);
                self.desk.friends(invite);
            }
            (Delivery::Relayed, Some(addr)) => self.dial_helper(key, addr),
            (Delivery::Rpc | Delivery::Introduced | Delivery::Relayed, None) if !at.is_empty() => {
                self.desk.friends(FriendsOutput::Reach(key.0, at));
            }
            (Delivery::Rpc | Delivery::Introduced | Delivery::Dialled | Delivery::Relayed, _) => {}
        }
    }

    /// An endpoint turned out to be the friend's own: what waited for that goes on.
    pub(super) fn reached(&mut self, friend: FriendId) {
        let of = |key: &&HelpKey| key.0 == friend;
        let keys: Vec<HelpKey> = self.aid.asked.keys().filter(of).copied().collect();
        for key in keys {
            if let Some(asked) = self.aid.asked.get_mut(&key) {
                asked.tried.remove(&Delivery::Rpc);
                asked.tried.remove(&Delivery::Relayed);
            }
            self.deliver(key);
        }
    }

    /// To relay we fetch from the helper's slave as from any peer.
    fn dial_helper(&mut self, key: HelpKey, at: SocketAddr) {
        let Some(asked) = self.aid.asked.get(&key) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&asked.swarm) else {
            return;
        };
        let linked = swarm.aid.links.values().any(|friend| *friend == key.0);
        if !linked {
            swarm.named(&mut self.desk, vec![at], PeerSource::User);
            self.dial_all(Some(asked.swarm));
        }
    }

    /// A helper of this master's may be known in a moment: the first message waits for it, because the next one may go only a
    /// minute later.
    fn meets_soon(&self, master: MasterId) -> bool {
        self.aid.asked.iter().any(|(key, asked)| {
            let online = self.aid.friends.get(&key.0).and_then(|f| f.online.as_ref());
            let known = online.is_some_and(|on| asked.at.iter().any(|at| on.reached.contains(at)));
            let new = self.desk.now.since(asked.since) < GATHER;
            let introduces = asked.ways.contains(&Delivery::Introduced);
            asked.master == master && introduces && new && !(known && asked.loan.begun.is_some())
        })
    }

    /// What our masters should know of by `ut_pex`, at most one message a minute each.
    pub(super) fn introduce(&mut self) {
        let now = self.desk.now;
        let mut wanted: BTreeMap<ConnId, Vec<SocketAddr>> = self
            .aid
            .introduced
            .keys()
            .map(|conn| (*conn, Vec::new()))
            .collect();
        for (key, asked) in &self.aid.asked {
            let Some(swarm) = self.swarms.get(&asked.swarm).filter(|swarm| !swarm.private) else {
                continue;
            };
            let link = swarm.links.get(&asked.master).and_then(|link| link.conn);
            let Some(master) = link.and_then(|conn| swarm.peers.get(&conn)) else {
                continue;
            };
            let online = self.aid.friends.get(&key.0).and_then(|f| f.online.as_ref());
            let Some(online) = online.filter(|_| asked.tried.contains_key(&Delivery::Introduced))
            else {
                continue;
            };
            //= spec/friends.md#deliver-proved
            let fit = asked.at.iter().filter(|at| {
                online.reached.contains(at) && delivery::may_introduce(**at, master.addr)
            });
            let waits = !self.aid.introduced.contains_key(&master.conn);
            //= spec/friends.md#pex-spoken
            if master.ext.pex && !(waits && self.meets_soon(asked.master)) {
                wanted.entry(master.conn).or_default().extend(fit);
            }
        }
        let conns = &self.conns;
        self.aid
            .introduced
            .retain(|conn, _| conns.contains_key(conn));
        for (conn, addrs) in wanted {
            if !conns.contains_key(&conn) {
                continue;
            }
            let book = self.aid.introduced.entry(conn).or_default();
            if let Some(changes) = book.next(now, &addrs, &[]) {
                self.desk.friends(FriendsOutput::Introduce {
                    conn,
                    added: changes.added,
                    dropped: changes.dropped,
                });
            }
        }
    }

    /// The helper's part: when it is its turn, it dials the master under the dial rule.
    pub(super) fn dial_for(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        let (Some(begun), Some(swarm)) = (help.placed, help.swarm) else {
            return;
        };
        let turn = delivery::turn(&help.ways, now.since(begun));
        if turn != Some(Delivery::Dialled) || help.from.is_some() {
            return;
        }
        let Some(friend) = self.aid.friends.get(&key.0).and_then(|f| f.online.as_ref()) else {
            return;
        };
        let Some(swarm) = self.swarms.get(&swarm).filter(|swarm| swarm.joined()) else {
            return;
        };
        for addr in help.masters.clone() {
            let known = Knowledge {
                learned: swarm.named_by(addr) == Some(PeerSource::Tracker),
                allowed: swarm.named_by(addr) == Some(PeerSource::User),
            };
            match self.aid.dials.try_dial(now, addr, friend.ip, known) {
                Ok(()) => {
                    help.dialled = true;
                    self.desk.out.push_back(Output::Dial(swarm.id, addr));
                }
                Err(why) if !help.dialled && help.refused_dials.insert(why) => {
                    self.desk.friend_fired(key.0, FriendDefence::NoDial(why));
                }
                Err(_) => {}
            }
        }
    }

    /// `arrived`, from either side.
    pub(super) fn arrived(&mut self, key: HelpKey, from: SocketAddr) {
        if self.aid.helps.contains_key(&key) {
            return self.guest_confirmed(key, from);
        }
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return self.out_of_turn(key);
        };
        let at = from.ip().to_canonical();
        let connected = self.swarms.get(&asked.swarm).is_some_and(|swarm| {
            let conns = swarm
                .master_conns
                .iter()
                .filter_map(|conn| swarm.peers.get(conn));
            conns
                .into_iter()
                .any(|peer| peer.addr.ip().to_canonical() == at)
        });
        let configured = self
            .masters
            .get(&asked.master)
            .is_some_and(|master| master.addrs.iter().any(|a| a.ip().to_canonical() == at));
        if connected || configured {
            self.confirm(key, from);
        } else {
            asked.claimed_arrival = Some(from);
        }
    }

    /// A guest came: its friend says whether it is its master.
    pub(super) fn say_arrived(&mut self, key: HelpKey, from: SocketAddr) {
        self.send(key.0, HelpMessage::Arrived { id: key.1, from });
    }
}
