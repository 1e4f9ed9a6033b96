//! What came of a run.

mod aid;

use serde::Serialize;

pub use self::aid::SlavesOutcome;
use crate::events::{SECOND, Time};
use crate::harm::{self, Times};
use crate::peer::Peer;
use crate::plan::Case;
use crate::rng::mix;
use crate::world::{Sample, World};

/// The line counts as asked for so long after the last one came, seconds.
const SETTLED: f64 = 5.0;

/// The figures of one run. Seconds are virtual; bytes are payload.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The plan's name.
    pub plan: String,
    /// The case's.
    pub case: String,
    /// The seed of all randomness.
    pub seed: u64,
    /// Of every event and of how all peers ended: the same for the same plan, seed and program.
    pub hash: String,
    /// Events.
    pub events: u64,
    /// When it ended.
    pub ended_s: f64,
    /// Leechers that may complete, and those that did.
    pub leechers: u32,
    /// See there.
    pub complete: u32,
    /// Mean and median time from a leecher's coming to its completion, of those complete.
    pub mean_s: Option<f64>,
    /// See there.
    pub median_s: Option<f64>,
    /// First and last completion.
    pub first_s: Option<f64>,
    /// See there.
    pub last_s: Option<f64>,
    /// Mean time if all lines were always full and all content everywhere: what all leechers want by what all lines give
    /// (or the seeds' own time for one copy). No swarm is faster; a swarm whose peers come late or go is slower.
    pub bound_s: Option<f64>,
    /// Bytes that all helpers gave: repeaters, and peers whose completion does not count.
    pub up: u64,
    /// Bytes that they took.
    pub down: u64,
    /// One by the other.
    pub ratio: Option<f64>,
    /// Part of their lines that was used, from their coming to the last completion (or the end).
    pub line: Option<f64>,
    /// The same from 5 s after the last one came to the first completion.
    pub line_window: Option<f64>,
    /// Bytes that seeds and leechers sent.
    pub seeds_sent: u64,
    /// See there.
    pub leechers_sent: u64,
    /// Bytes that ordinary peers received in vain, and repeaters.
    pub wasted: u64,
    /// See there.
    pub repeaters_wasted: u64,
    /// Swarms that repeaters joined and left, addresses that they banned.
    pub joins: u32,
    /// See there.
    pub leaves: u32,
    /// See there.
    pub bans: u32,
    /// When repeaters came to hold pieces: leechers that had them already, that had all of them under way from others, and
    /// that could ask for some, all summed up over the pieces.
    pub fate: [u64; 3],
    /// Most that one repeater's cache held.
    pub cache_peak: u64,
    /// Of each swarm its name, and what repeaters gave to and took from it, where there is more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub swarms: Vec<(String, u64, u64)>,
    /// Honest leechers' times by place, of each group of them.
    pub times: Times,
    /// The case without us that shows what we cost the leechers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// It ended before all were complete, as the plan says.
    #[serde(skip)]
    pub cut: bool,
    /// Of each group of peers its name, bytes sent and received, and the mean time to completion of those complete.
    pub groups: Vec<(String, u64, u64, Option<f64>)>,
    /// Of each make of slaves, what became of its masters and of help between friends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slaves: Vec<SlavesOutcome>,
    #[serde(skip)]
    pub(crate) curve: Vec<(f64, f64, f64, f64)>,
}

impl Outcome {
    /// Where the run stood every so many seconds: time, part of the leechers complete, MiB that helpers gave and took.
    #[must_use]
    pub fn timeline(&self, step: f64) -> String {
        let (mut text, mut next) = (String::new(), step);
        for (at, complete, up, down) in &self.curve {
            if *at >= next {
                text.push_str(&format!(
                    "  {at:6.1} s {complete:4.2} {up:8.1} {down:8.1}\n"
                ));
                next += step;
            }
        }
        text
    }
}

/// Plays one case of a plan with one seed.
///
/// # Errors
/// A torrent of impossible geometry.
pub fn run(case: &Case, seed: u64) -> anyhow::Result<Outcome> {
    let mut world = World::new(&case.plan, seed)?;
    world.run();
    Ok(outcome(&world, case, seed))
}

fn outcome(world: &World, case: &Case, seed: u64) -> Outcome {
    let seconds = |at: Time| at as f64 / SECOND as f64;
    let leechers: Vec<&Peer> = world.peers.iter().filter(|p| p.honest_leecher()).collect();
    let mut took: Vec<f64> = leechers
        .iter()
        .filter_map(|peer| Some(seconds(peer.done? - peer.came)))
        .collect();
    took.sort_by(f64::total_cmp);
    let done = || leechers.iter().filter_map(|peer| peer.done);
    let (first, last) = (done().min(), done().max());
    let ended = world.events.now;
    let sum = |of: fn(&crate::repeater::Repeater) -> u64| world.repeaters.iter().map(of).sum();
    let (up, down) = world.helped();
    let settled = settled(world);
    let count = u32::try_from(took.len()).unwrap_or(0);
    let whole = count as usize == leechers.len();
    let end = if whole { last.unwrap_or(ended) } else { ended };
    Outcome {
        plan: case.plan.name.clone(),
        case: case.name.clone(),
        seed,
        hash: format!("{:016x}", hash(world)),
        events: world.events.count,
        ended_s: seconds(ended),
        leechers: u32::try_from(leechers.len()).unwrap_or(0),
        complete: count,
        mean_s: (count > 0).then(|| took.iter().sum::<f64>() / f64::from(count)),
        median_s: took.get(took.len() / 2).copied(),
        first_s: first.map(seconds),
        last_s: last.map(seconds),
        bound_s: bound(world),
        up,
        down,
        ratio: (down > 0).then(|| up as f64 / down as f64),
        line: line_use(world, came(world), end),
        line_window: line_use(world, settled, first.unwrap_or(ended)),
        seeds_sent: sent(world, false),
        leechers_sent: sent(world, true),
        wasted: world.peers.iter().map(|peer| peer.wasted).sum(),
        repeaters_wasted: sum(|r| r.wasted),
        joins: world.repeaters.iter().map(|r| r.joins).sum(),
        leaves: world.repeaters.iter().map(|r| r.leaves).sum(),
        bans: world.repeaters.iter().map(|r| r.bans).sum(),
        fate: world
            .repeaters
            .iter()
            .fold([0; 3], |sum, r| [0, 1, 2].map(|at| sum[at] + r.fate[at])),
        cache_peak: world
            .repeaters
            .iter()
            .map(|r| r.cache.peak)
            .max()
            .unwrap_or(0),
        swarms: by_swarm(world),
        groups: by_group(world),
        slaves: aid::by_make(world),
        times: harm::times(world),
        against: case.against.clone(),
        cut: case.plan.until < 1.0,
        curve: curve(world, &leechers),
    }
}

/// The fluid bound, of one swarm.
fn bound(world: &World) -> Option<f64> {
    let [swarm] = world.swarms.as_slice() else {
        return None;
    };
    let size = swarm.layout.total as f64;
    let lines = |of: fn(&Peer) -> bool| {
        let giving = world.peers.iter().filter(|peer| peer.gives() && of(peer));
        giving.map(|peer| peer.up.rate as f64).sum::<f64>()
    };
    let repeaters: f64 = world.repeaters.iter().map(|r| r.up_rate as f64).sum();
    let wanting = world
        .peers
        .iter()
        .filter(|peer| peer.honest_leecher())
        .count() as f64;
    let seeds = lines(|peer| peer.kind == crate::plan::Kind::Seed);
    let all = lines(|_| true) + repeaters;
    Some((size * wanting / all).max(size / seeds))
}

fn sent(world: &World, leechers: bool) -> u64 {
    let of_kind = world
        .peers
        .iter()
        .filter(|p| p.honest_leecher() == leechers);
    of_kind.map(|peer| peer.sent).sum()
}

fn by_swarm(world: &World) -> Vec<(String, u64, u64)> {
    if world.swarms.len() < 2 || world.plan.repeater.is_none() {
        return Vec::new();
    }
    let of = |swarm: u32| {
        let sums = world
            .repeaters
            .iter()
            .filter_map(|r| r.by_swarm.get(&swarm));
        sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let named = (0u32..).zip(&world.swarms);
    named
        .map(|(at, swarm)| (swarm.name.clone(), of(at).0, of(at).1))
        .collect()
}

fn by_group(world: &World) -> Vec<(String, u64, u64, Option<f64>)> {
    let mut groups = Vec::new();
    for (make, swarm) in world.plan.swarm.iter().enumerate() {
        for (at, group) in swarm.group.iter().enumerate() {
            let of = |peer: &&Peer| {
                world.made_by[peer.swarm as usize] == make && peer.group as usize == at
            };
            let peers: Vec<&Peer> = world.peers.iter().filter(of).collect();
            let times = peers.iter().filter_map(|p| Some((p.done? - p.came) as f64));
            let done = times.clone().count() as f64;
            let mean = times.sum::<f64>() / SECOND as f64 / done;
            groups.push((
                format!("{}.{}", swarm.name, group.name),
                peers.iter().map(|p| p.sent).sum(),
                peers.iter().map(|p| p.got).sum(),
                (done > 0.0).then_some(mean),
            ));
        }
    }
    groups
}

/// When the first repeater can have begun.
fn came(world: &World) -> Time {
    let Some(plan) = &world.plan.repeater else {
        return 0;
    };
    let dialled = plan.dialled.map_or(0.0, |[from, _]| from);
    ((plan.joins[0].max(dialled)) * SECOND as f64) as Time
}

/// When all that the plan lets come has come and settled.
fn settled(world: &World) -> Time {
    let Some(plan) = &world.plan.repeater else {
        return 0;
    };
    let peers = world.plan.swarm.iter().flat_map(|swarm| &swarm.group);
    let last = peers
        .map(|group| group.joins[1])
        .fold(plan.joins[1], f64::max);
    let count = world.peers.len().saturating_sub(1) as f64;
    let dialled = plan.dialled.map_or(0.0, |[from, step]| from + step * count);
    ((last.max(dialled) + SETTLED) * SECOND as f64) as Time
}

/// Part of the repeaters' lines that was used between two moments.
fn line_use(world: &World, from: Time, to: Time) -> Option<f64> {
    let lines = world.helpers().map(|peer| peer.up.rate);
    let line: u64 = world.repeaters.iter().map(|r| r.up_rate).chain(lines).sum();
    let within: Vec<&Sample> = world
        .samples
        .iter()
        .filter(|sample| (from..=to).contains(&sample.at))
        .collect();
    let (first, last) = (within.first()?, within.last()?);
    let seconds = (last.at - first.at) as f64 / SECOND as f64;
    (line > 0 && seconds > 0.0).then(|| (last.up - first.up) as f64 / (line as f64 * seconds))
}

/// Time, part of the leechers complete, MiB up, MiB down.
fn curve(world: &World, leechers: &[&Peer]) -> Vec<(f64, f64, f64, f64)> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let point = |sample: &Sample| {
        let at = sample.at as f64 / SECOND as f64;
        let complete = f64::from(sample.complete) / leechers.len().max(1) as f64;
        (at, complete, mib(sample.up), mib(sample.down))
    };
    world.samples.iter().map(point).collect()
}

fn hash(world: &World) -> u64 {
    let peers = world
        .peers
        .iter()
        .flat_map(|p| [p.sent, p.got, p.done.unwrap_or(0), p.count.into()]);
    let repeaters = world
        .repeaters
        .iter()
        .flat_map(|r| [r.sent, r.got, r.cache.used]);
    peers
        .chain(repeaters)
        .fold(world.events.hash, |hash, value| {
            mix(hash ^ value).rotate_left(1)
        })
}
