//! Whether honest leechers are done later because of us.
//!
//! Two runs of one scene, with us and without, differ by chance from the first second on, and which leecher is third is
//! chance as well. So leechers of one make are compared by place: the mean time of whoever is k-th, over the runs with us,
//! against the same over the runs without.

use crate::events::SECOND;
use crate::world::World;

/// Places looked at of a large group.
const PLACES: usize = 200;

/// Seconds from coming to completion by place, of each group of honest leechers; `None`: not complete.
pub type Times = Vec<Vec<Option<f64>>>;

pub(crate) fn times(world: &World) -> Times {
    let mut groups = Vec::new();
    for (make, swarm) in world.plan.swarm.iter().enumerate() {
        for group in 0..swarm.group.len() {
            let peers = world.peers.iter().filter(|peer| {
                let its = world.made_by[peer.swarm as usize] == make;
                its && peer.group as usize == group && peer.honest_leecher()
            });
            let took = peers.map(|peer| Some((peer.done? - peer.came) as f64 / SECOND as f64));
            let mut took: Vec<Option<f64>> = took.collect();
            took.sort_by(|a, b| {
                let end = |time: &Option<f64>| time.unwrap_or(f64::INFINITY);
                end(a).total_cmp(&end(b))
            });
            if !took.is_empty() {
                groups.push(thinned(took));
            }
        }
    }
    groups
}

fn thinned(took: Vec<Option<f64>>) -> Vec<Option<f64>> {
    if took.len() <= PLACES {
        return took;
    }
    let last = took.len() - 1;
    (0..PLACES)
        .map(|place| took[place * last / (PLACES - 1)])
        .collect()
}

/// By what part the worst place is later with us (`ours`) than without (`without`), each a run's times; below zero: sooner.
/// Infinite: somebody is not complete who would be. `cut`: the runs ended before all were. `None`: nothing to compare.
#[must_use]
pub fn latest(ours: &[&Times], without: &[&Times], cut: bool) -> Option<f64> {
    let groups = without.first()?.len();
    let mut worst: Option<f64> = None;
    for group in 0..groups {
        let places = without.first()?.get(group)?.len();
        for place in 0..places {
            let Some(before) = mean(without, group, place) else {
                continue;
            };
            let later = match mean(ours, group, place) {
                Some(after) => after / before - 1.0,
                None if cut => continue,
                None => f64::INFINITY,
            };
            worst = Some(worst.map_or(later, |worst: f64| worst.max(later)));
        }
    }
    worst
}

fn mean(runs: &[&Times], group: usize, place: usize) -> Option<f64> {
    let times: Option<Vec<f64>> = runs
        .iter()
        .map(|run| *run.get(group)?.get(place)?)
        .collect();
    let times = times.filter(|times| !times.is_empty())?;
    Some(times.iter().sum::<f64>() / times.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(places: &[f64]) -> Times {
        vec![places.iter().map(|time| Some(*time)).collect()]
    }

    #[test]
    fn the_worst_place_decides() {
        let (a, b) = (run(&[10.0, 20.0]), run(&[12.0, 20.0]));
        let (c, d) = (run(&[9.0, 22.0]), run(&[10.0, 24.0]));
        let worst = latest(&[&c, &d], &[&a, &b], false).unwrap();
        assert!((worst - 0.15).abs() < 1e-9, "{worst}");
        assert!(latest(&[&a], &[&a], false).unwrap().abs() < 1e-9);
        assert_eq!(latest(&[&a], &[], false), None);
    }

    #[test]
    fn who_is_never_done_is_harmed_unless_the_run_was_cut() {
        let whole = run(&[10.0, 20.0]);
        let broken: Times = vec![vec![Some(10.0), None]];
        assert_eq!(latest(&[&broken], &[&whole], false), Some(f64::INFINITY));
        assert_eq!(latest(&[&broken], &[&whole], true), Some(0.0));
        assert_eq!(latest(&[&whole], &[&broken], false), Some(0.0));
    }

    #[test]
    fn a_large_group_keeps_its_ends() {
        let many: Vec<Option<f64>> = (0..10_000).map(|at| Some(f64::from(at))).collect();
        let thin = thinned(many);
        assert_eq!(
            (thin.len(), thin[0], thin[199]),
            (200, Some(0.0), Some(9_999.0))
        );
    }
}
