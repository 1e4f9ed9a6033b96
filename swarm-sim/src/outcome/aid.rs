//! What slaves and their friends did for masters.

use serde::Serialize;

use crate::events::{SECOND, Time};
use crate::peer::Peer;
use crate::plan::{Conduct, SlavePlan};
use crate::repeater::Slave;
use crate::world::World;

/// The slaves of one make. Bytes are payload.
#[derive(Clone, Debug, Serialize)]
pub struct SlavesOutcome {
    /// What they are called.
    pub name: String,
    /// Torrents that their masters wanted, and those that were complete.
    pub wanted: u32,
    /// See there.
    pub complete: u32,
    /// Mean time from a master's coming to its completion, of those complete.
    pub mean_s: Option<f64>,
    /// What one master took, from its coming to its completion or the end, bytes/s: the mean.
    pub rate: Option<f64>,
    /// The same if all were fluid (`bound`).
    pub bound_rate: Option<f64>,
    /// Help that they gave to friends, as it went out.
    pub gave: u64,
    /// Of that, what friends signed for.
    pub signed: u64,
    /// Help that they had from friends, as it went out there.
    pub had: u64,
    /// What they signed for.
    pub owe: u64,
    /// Most that one of their keys had from one helper.
    pub most_had: u64,
    /// Most that one helper gave to all of them together.
    pub most_from_one: u64,
    /// When they last had help.
    pub last_had_s: Option<f64>,
    /// Keys that they showed.
    pub keys: u32,
}

/// One line for each make of slaves.
pub(super) fn by_make(world: &World) -> Vec<SlavesOutcome> {
    let makes = world.plan.slave.iter().enumerate();
    makes
        .map(|(make, plan)| of_make(world, make, plan))
        .collect()
}

/// All slaves, with their nodes.
fn slaves(world: &World) -> impl Iterator<Item = &Slave> {
    world.repeaters.iter().filter_map(|r| r.slave.as_deref())
}

fn of_make(world: &World, make: usize, plan: &SlavePlan) -> SlavesOutcome {
    let mine = || slaves(world).filter(|slave| slave.make == make);
    let masters = world.masters_of(plan);
    let masters: Vec<&Peer> = masters.iter().map(|m| &world.peers[*m as usize]).collect();
    let came: Vec<&&Peer> = masters
        .iter()
        .filter(|m| m.here || m.done.is_some())
        .collect();
    let took: Vec<f64> = came
        .iter()
        .filter_map(|peer| Some((peer.done? - peer.came) as f64 / SECOND as f64))
        .collect();
    let rates: Vec<f64> = came.iter().map(|peer| rate(world, peer)).collect();
    // What helpers gave to keys of ours, pair by pair.
    let is_mine = |key: &u32| world.slave_of(*key).is_some_and(|s| s.make == make);
    let (mut had, mut most_had, mut most_from_one, mut last) = (0, 0, 0, None::<Time>);
    for helper in slaves(world) {
        let ours = helper.gave.iter().filter(|(key, _)| is_mine(key));
        let mut of_one = 0;
        for (_, gave) in ours {
            of_one += gave.bytes;
            most_had = most_had.max(gave.bytes);
            last = last.max(Some(gave.last));
        }
        had += of_one;
        most_from_one = most_from_one.max(of_one);
    }
    let sum = |of: fn(&Slave) -> u64| mine().map(of).sum::<u64>();
    SlavesOutcome {
        name: plan.name.clone(),
        wanted: u32::try_from(masters.len()).unwrap_or(u32::MAX),
        complete: u32::try_from(took.len()).unwrap_or(u32::MAX),
        mean_s: mean(&took),
        rate: mean(&rates),
        bound_rate: bound(world, &masters),
        gave: sum(|slave| slave.gave.values().map(|gave| gave.bytes).sum()),
        signed: sum(|slave| slave.ledger.owed.values().sum()),
        had,
        owe: sum(|slave| slave.ledger.owes.values().sum()),
        most_had,
        most_from_one,
        last_had_s: last.map(|at| at as f64 / SECOND as f64),
        keys: u32::try_from(
            world
                .keys
                .iter()
                .filter(|node| {
                    let slave = world.repeater(**node).slave.as_deref();
                    slave.is_some_and(|slave| slave.make == make)
                })
                .count(),
        )
        .unwrap_or(u32::MAX),
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    (count > 0.0).then(|| values.iter().sum::<f64>() / count)
}

/// Bytes/s that a master took while it wanted something.
fn rate(world: &World, peer: &Peer) -> f64 {
    let until = peer.done.unwrap_or(world.events.now);
    let seconds = until.saturating_sub(peer.came).max(1) as f64 / SECOND as f64;
    peer.got.saturating_sub(peer.wasted) as f64 / seconds
}

/// The fluid bound of a swarm's only master, bytes/s. Whoever wants something gets its part of what the seeds inject, s,
/// and what it gives: the master u + s. A helper of line u gives the master m = (u + s) / 2, because it must give the swarm
/// the other half to be fed m. And nobody is faster than the seeds inject.
fn bound(world: &World, masters: &[&Peer]) -> Option<f64> {
    let ([_], [master]) = (world.swarms.as_slice(), masters) else {
        return None;
    };
    let honest = |r: &&crate::repeater::Repeater| {
        let conduct = r.slave.as_deref().map(|slave| slave.conduct);
        conduct == Some(Conduct::Honest)
    };
    let helpers: Vec<f64> = world
        .repeaters
        .iter()
        .filter(honest)
        .map(|r| r.up_rate as f64)
        .collect();
    let wants = |peer: &&Peer| peer.kind == crate::plan::Kind::Leecher;
    let leechers = world.peers.iter().filter(wants).count();
    let seeds: f64 = world
        .peers
        .iter()
        .filter(|peer| peer.gives() && !wants(peer))
        .map(|peer| peer.up.rate as f64)
        .sum();
    let part = seeds / (leechers + helpers.len()) as f64;
    let helped: f64 = helpers.iter().map(|up| (up + part) / 2.0).sum();
    Some((master.up.rate as f64 + part + helped).min(seeds))
}
