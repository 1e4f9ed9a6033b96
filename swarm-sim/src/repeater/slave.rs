//! A slave: one of our nodes with a master, with friends, or both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use swarm_core::io::friends::{FriendsInput, FriendsLimits, RpcPowers, WitnessKind};
use swarm_core::io::{Input, Limits, MasterFact, MasterId, Origin, SwarmFact};
use swarm_core::params::Params;
use swarm_core::policy::tit_for_tat::Nearness;

use super::ledger::Ledger;
use super::{Repeater, address, peer_id, swarm_id};
use crate::events::{Event, SECOND, Time};
use crate::plan::{Client, Conduct, Meeting, SlavePlan};
use crate::rng::mix;
use crate::world::World;

/// The only master that a slave has.
pub(super) const MASTER: MasterId = MasterId(1);
/// A slave looks at its master's list of torrents within so long after something changed there.
const LIST: Time = 2 * SECOND;

/// What makes a repeater a slave.
#[derive(Debug)]
pub(crate) struct Slave {
    /// Its place among the plan's makes.
    pub(crate) make: usize,
    pub(crate) conduct: Conduct,
    pub(crate) key: u32,
    /// Keys that it shows to some friends instead of its own.
    pub(super) masks: BTreeMap<u32, u32>,
    pub(super) keys_left: u32,
    /// Its friends, by their keys, and how close they are to it.
    pub(crate) friends: BTreeMap<u32, Nearness>,
    /// The peers that are its master: one for each torrent that it ever wants.
    pub(crate) masters: Vec<u32>,
    /// Swarms that the master's list named last.
    named: BTreeSet<u32>,
    /// Swarms in which it looks at its master's peers, and when next.
    pub(super) watched: BTreeMap<u32, Time>,
    pub(crate) ledger: Ledger,
    /// Bytes of help that went out, by whose key.
    pub(crate) gave: BTreeMap<u32, Gave>,
}

/// Help that went out to one key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gave {
    pub(crate) bytes: u64,
    pub(crate) last: Time,
}

impl Slave {
    /// The key by which this friend knows it.
    pub(crate) fn key_for(&self, friend: u32) -> u32 {
        self.masks.get(&friend).copied().unwrap_or(self.key)
    }
}

impl World {
    /// All slaves of the plan, their masters and their friends.
    pub(crate) fn add_slaves(&mut self, seed: u64) {
        let makes = self.plan.slave.clone();
        for (make, plan) in makes.iter().enumerate() {
            let masters = self.masters_of(plan);
            let count = plan.count as usize;
            let pairs = masters.len().min(count).max(1);
            for number in 0..count {
                let mine = |at: &usize| at % pairs == number % pairs;
                let mine = (0..masters.len()).filter(mine).map(|at| masters[at]);
                self.add_slave(seed, make, mine.collect());
            }
        }
        for (make, plan) in makes.iter().enumerate() {
            self.befriend(make, plan);
        }
    }

    /// The peers that are the masters of a make.
    pub(crate) fn masters_of(&self, plan: &SlavePlan) -> Vec<u32> {
        let named = plan.master.as_deref().and_then(|name| name.split_once('.'));
        let Some((swarm, group)) = named else {
            return Vec::new();
        };
        let in_it = |(_, peer): &(u32, &crate::peer::Peer)| {
            let make = &self.plan.swarm[self.made_by[peer.swarm as usize]];
            make.name == swarm && make.group[peer.group as usize].name == group
        };
        let peers = (0u32..).zip(&self.peers).filter(in_it);
        peers.map(|(id, _)| id).collect()
    }

    fn add_slave(&mut self, seed: u64, make: usize, masters: Vec<u32>) {
        let plan = self.plan.slave[make].clone();
        let id = u32::try_from(self.peers.len() + self.repeaters.len()).unwrap_or(u32::MAX);
        let key = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.keys.push(id);
        for master in &masters {
            self.owners.entry(*master).or_default().push(id);
        }
        let limits = Limits {
            upload: Some(plan.up),
            download: plan.down,
            month: None,
            schedule: Vec::new(),
            connections: plan.connections,
            cache: plan.cache,
            cache_memory: plan.cache,
            repeat: plan.repeat,
            max_swarms: plan.max_swarms,
        };
        let mut params = Params::new(limits, peer_id(id, true));
        let friends = &self.plan.friends;
        params.friends = FriendsLimits {
            mode: friends.mode,
            window: friends.window,
            credit: friends.credit,
            open_pool: friends.open_pool,
            private_torrents: false,
        };
        let brain = mix(seed.wrapping_add(u64::from(id) << 32));
        let slave = Slave {
            make,
            conduct: plan.conduct,
            key,
            masks: BTreeMap::new(),
            keys_left: plan.keys.saturating_sub(1),
            friends: BTreeMap::new(),
            masters,
            named: BTreeSet::new(),
            watched: BTreeMap::new(),
            ledger: Ledger::default(),
            gave: BTreeMap::new(),
        };
        let mut repeater = Repeater::new(params, brain);
        repeater.slave = Some(Box::new(slave));
        self.repeaters.push(repeater);
        self.events.at(0, Event::Join(id));
    }

    /// Makes friends of all slaves of a make, with whom the plan says.
    fn befriend(&mut self, make: usize, plan: &SlavePlan) {
        let of = |world: &Self, wanted: &dyn Fn(usize) -> bool| -> Vec<u32> {
            let slaves = world.repeaters.iter().filter_map(|r| r.slave.as_ref());
            let fits = slaves.filter(|slave| wanted(slave.make));
            fits.map(|slave| slave.key).collect()
        };
        let named = |at: usize| plan.friends.contains(&self.plan.slave[at].name);
        let candidates = of(self, &named);
        for own in of(self, &|at| at == make) {
            let mut left = candidates.clone();
            let mut wanted = plan.friends_each.unwrap_or(u32::MAX);
            while wanted > 0 && !left.is_empty() {
                let at = self
                    .rng
                    .below(u32::try_from(left.len()).unwrap_or(u32::MAX));
                let other = match plan.friends_each {
                    Some(_) => left.swap_remove(at as usize),
                    None => left.remove(0),
                };
                if other != own {
                    self.know(own, other);
                    wanted -= 1;
                }
            }
        }
    }

    /// Two keys are friends from now on; a whitewasher is an acquaintance.
    fn know(&mut self, a: u32, b: u32) {
        for (own, other) in [(a, b), (b, a)] {
            let stranger = self
                .slave_of(other)
                .is_some_and(|slave| slave.conduct == Conduct::Whitewasher);
            let nearness = if stranger {
                Nearness::Acquaintance
            } else {
                Nearness::Friend
            };
            let node = self.keys[own as usize];
            if let Some(slave) = self.slave_mut(node) {
                slave.friends.insert(other, nearness);
            }
        }
    }

    /// The slave whose key this is.
    pub(crate) fn slave_of(&self, key: u32) -> Option<&Slave> {
        let node = *self.keys.get(key as usize)?;
        self.repeater(node).slave.as_deref()
    }

    pub(crate) fn slave_mut(&mut self, node: u32) -> Option<&mut Slave> {
        self.repeater_mut(node).slave.as_deref_mut()
    }

    /// A slave comes: it is told where it is reached, of its master and of its friends.
    pub(super) fn slave_joins(&mut self, node: u32) {
        let powers = self.powers(node);
        let Some(slave) = self.slave_mut(node) else {
            return;
        };
        let (make, has_master) = (slave.make, !slave.masters.is_empty());
        let friends: Vec<(u32, Nearness)> = slave.friends.iter().map(|(k, n)| (*k, *n)).collect();
        let share = self.plan.slave[make].share;
        let inputs = &mut self.repeater_mut(node).inputs;
        let reach = FriendsInput::Reach(vec![address(node)]);
        inputs.push_back(Input::Friends(reach));
        if has_master {
            let configured = MasterFact::Configured {
                name: "home".into(),
                share,
                slave_key: mix(node.into()),
            };
            inputs.push_back(Input::Master(MASTER, configured));
            inputs.push_back(Input::Friends(FriendsInput::Rpc(MASTER, powers)));
        }
        for (friend, nearness) in friends {
            self.session_begins(node, friend, nearness);
        }
        self.turn(node);
    }

    /// What the RPC of a slave's master can do.
    fn powers(&self, node: u32) -> RpcPowers {
        let masters = self.repeater(node).slave.as_ref().map(|s| &s.masters);
        let first = masters.and_then(|masters| masters.first());
        let client = first.map(|master| {
            let peer = &self.peers[*master as usize];
            self.plan.swarm[self.made_by[peer.swarm as usize]].group[peer.group as usize].client
        });
        let meeting = self.plan.friends.meeting;
        RpcPowers {
            dials: meeting == Meeting::Rpc,
            witness: match client {
                _ if meeting == Meeting::Relayed => WitnessKind::None,
                Some(Client::Libtorrent) => WitnessKind::Bytes,
                Some(Client::Transmission) => WitnessKind::Rates,
                None => WitnessKind::None,
            },
        }
    }

    /// A master's list of torrents changes: its slaves will see.
    pub(crate) fn list_changes(&mut self, master: u32) {
        for slave in self.owners.get(&master).into_iter().flatten() {
            self.events.after(LIST, Event::MasterList(*slave));
        }
    }

    /// A slave looks at its master's list.
    pub(crate) fn master_list(&mut self, node: u32) {
        let Some(slave) = self.repeater(node).slave.as_ref() else {
            return;
        };
        let here = slave
            .masters
            .iter()
            .filter(|m| self.peers[**m as usize].here);
        let here: Vec<u32> = here.copied().collect();
        let now: BTreeSet<u32> = here.iter().map(|m| self.peers[*m as usize].swarm).collect();
        let addrs: Vec<SocketAddr> = here.iter().map(|master| address(*master)).collect();
        let known: Vec<Input> = now
            .difference(&slave.named)
            .map(|swarm| self.known(*swarm, Origin::Master(MASTER)))
            .collect();
        let unnamed = SwarmFact::Unnamed(Origin::Master(MASTER));
        let gone = slave.named.difference(&now);
        let gone: Vec<Input> = gone
            .map(|swarm| Input::Swarm(swarm_id(*swarm), unnamed.clone()))
            .collect();
        if let Some(slave) = self.slave_mut(node) {
            slave.named = now;
        }
        let inputs = &mut self.repeater_mut(node).inputs;
        inputs.push_back(Input::Master(MASTER, MasterFact::Resolved(addrs)));
        inputs.extend(known.into_iter().chain(gone));
        self.turn(node);
    }

    /// The master of a slave in this swarm, where it is there.
    pub(super) fn master_in(&self, node: u32, swarm: u32) -> Option<u32> {
        let slave = self.repeater(node).slave.as_ref()?;
        let there = |master: &&u32| {
            let peer = &self.peers[**master as usize];
            peer.here && peer.swarm == swarm
        };
        slave.masters.iter().find(there).copied()
    }
}
