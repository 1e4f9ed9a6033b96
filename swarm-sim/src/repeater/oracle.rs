//! One who knows all: the yardstick for choosing swarms.

use swarm_core::io::{Input, SwarmFact};

use super::swarm_id;
use crate::events::{Event, SECOND, Time};
use crate::world::World;

/// Between two looks.
const LOOK: Time = 10 * SECOND;

impl World {
    /// Puts a repeater into the swarms where a byte saves most now, and takes it out of the others.
    pub(crate) fn ask_oracle(&mut self, node: u32) {
        let Some(plan) = &self.plan.repeater else {
            return;
        };
        let most = plan.max_swarms as usize;
        let count = u32::try_from(self.swarms.len()).unwrap_or(0);
        let mut ranked: Vec<(f64, u32)> = (0..count)
            .map(|swarm| (self.saving(swarm), swarm))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (place, (saving, swarm)) in ranked.into_iter().enumerate() {
            let chosen = place < most && saving > 0.0;
            let in_it = self.repeater(node).joined.contains(&swarm);
            if chosen && !in_it {
                self.introduce(node, swarm, false);
            } else if !chosen && in_it {
                let leave = Input::Swarm(swarm_id(swarm), SwarmFact::Leave);
                self.repeater_mut(node).inputs.push_back(leave);
            }
        }
        self.turn(node);
        self.events.after(LOOK, Event::Oracle(node));
    }

    /// Leecher seconds that a byte given to a swarm saves: its leechers will be done when all that they lack went over
    /// the lines of all, L / U; a byte/s more makes that sooner by L / U², for each of them.
    fn saving(&self, swarm: u32) -> f64 {
        let pieces = self.swarms[swarm as usize].pieces;
        let piece = self.swarms[swarm as usize].piece as f64;
        let (mut leechers, mut lack, mut up) = (0.0, 0.0, 0.0);
        for peer in self.peers.iter().filter(|p| p.swarm == swarm && p.here) {
            if peer.gives() {
                up += peer.up.rate as f64;
            }
            if peer.wants() {
                leechers += 1.0;
                lack += f64::from(pieces - peer.count) * piece;
            }
        }
        if up > 0.0 {
            leechers * lack / (up * up)
        } else {
            0.0
        }
    }
}
