//! What to fetch next: all wanted absent pieces in order, for masters, friends and strangers.

use crate::io::ConnId;
use crate::node::desk::Desk;
use crate::policy::piece_yield::{self, PlanFacts};
use crate::policy::{forward, pick};
use crate::swarm::{Plan, Swarm, Why};
use crate::time::Timestamp;
use core::time::Duration;
use std::collections::BTreeMap;

/// Entries of a plan looked at for one connection before giving up until the next event.
const LOOK: usize = 2048;
/// A plan that ran out is not rebuilt more often; the tick plans for strangers anyway.
const REBUILD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

impl Swarm {
    /// Free repeating is on and worth it for pieces of this size (policy.md: at most an eighth of the cache).
    pub(crate) fn repeats(&self, desk: &Desk) -> bool {
        let limits = &desk.params.limits;
        limits.repeat && self.caches() && self.pieces() > 1 && self.permit() <= limits.cache / 8
    }

    fn wanted(&self, desk: &Desk, piece: u32, why: Why) -> bool {
        !self.active.contains_key(&piece)
            && match why {
                Why::Master => self.master_lacks(piece) && !self.aid.lent.contains_key(&piece),
                Why::Friend => self.aid.due(piece),
                Why::Free => {
                    piece_yield::worth(&desk.seen(self.plan_facts(desk, piece, 0.0))).is_some()
                }
            }
    }

    /// The best absent piece of a plan that this connection has.
    pub(super) fn best_planned(&mut self, desk: &mut Desk, conn: ConnId, why: Why) -> Option<u32> {
        let pause = match why {
            Why::Master | Why::Friend => REBUILD.0,
            Why::Free => REBUILD.1,
        };
        let plan = self.plan(why);
        let built = plan.built;
        if plan.queue.is_empty() && built.is_none_or(|at| desk.now.since(at) >= pause) {
            self.rebuild(desk, why);
        }
        let mut queue = core::mem::take(&mut self.plan(why).queue);
        while queue
            .last()
            .is_some_and(|piece| !self.wanted(desk, *piece, why))
        {
            queue.pop();
        }
        let found = self.peers.get(&conn).and_then(|peer| {
            let fits =
                |piece: &&u32| peer.offers(**piece, desk.now) && self.wanted(desk, **piece, why);
            queue.iter().rev().take(LOOK).find(fits).copied()
        });
        self.plan(why).queue = queue;
        found
    }

    fn plan(&mut self, why: Why) -> &mut Plan {
        match why {
            Why::Master => &mut self.master_plan,
            Why::Friend => &mut self.friend_plan,
            Why::Free => &mut self.free_plan,
        }
    }

    fn plan_facts(&self, desk: &Desk, piece: u32, wait: f64) -> PlanFacts {
        let scraped = self.scrape.and_then(|(_, incomplete, _)| incomplete);
        PlanFacts {
            piece: self.avail.facts(piece),
            downloaders: self.avail.downloaders,
            proven: self.account.given > 0 || piece_yield::few(self.avail.downloaders, scraped),
            scarce: piece_yield::scarce(desk.params.limits.cache, self.permit()),
            wait,
        }
    }

    /// What downloaders gain meanwhile of what they lack, when all who have a piece and do not choke us send it together.
    fn wait_for(&self, now: Timestamp, piece: u32) -> f64 {
        let holders = self.peers.values().filter(|peer| peer.gives(piece));
        let supply: u64 = holders
            .map(|peer| peer.down_rate().max(pick::UNKNOWN_RATE))
            .sum();
        let seconds = self.permit() as f64 / supply.max(1) as f64;
        let age = self.avail.age(now, piece).as_secs_f64();
        self.hazard * seconds.min(age)
    }

    /// Sorts all wanted absent pieces anew, best last.
    pub(crate) fn rebuild(&mut self, desk: &mut Desk, why: Why) {
        let salt = desk.rng.next();
        let absent = (0..self.pieces()).filter(|piece| self.wanted(desk, *piece, why));
        let plan = match why {
            Why::Master | Why::Friend => {
                let places = match why {
                    Why::Friend => self.aid.places(),
                    Why::Master | Why::Free => BTreeMap::new(),
                };
                let key = |piece: u32| {
                    let facts = self.avail.facts(piece);
                    let lot = forward::weight(&self.info_hash, piece, desk.slave_key);
                    let rarest = pick::rarest_first(facts.seeds + facts.holders, lot);
                    (places.get(&piece).copied(), rarest)
                };
                let mut keyed: Vec<_> = absent.map(|piece| (key(piece), piece)).collect();
                keyed.sort_by(|a, b| b.cmp(a));
                keyed.into_iter().map(|(_, piece)| piece).collect()
            }
            Why::Free => {
                let lot = |piece: u32| forward::weight(&self.info_hash, piece, salt);
                let worth = |piece: u32| {
                    let facts = self.plan_facts(desk, piece, self.wait_for(desk.now, piece));
                    piece_yield::worth(&desk.seen(facts))
                };
                let mut keyed: Vec<_> = absent
                    .filter_map(|piece| Some((worth(piece)?, lot(piece), piece)))
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                keyed.into_iter().map(|(_, _, piece)| piece).collect()
            }
        };
        *self.plan(why) = Plan {
            queue: plan,
            built: Some(desk.now),
        };
    }
}
