//! Once a second: rates, the gate, stale promises, dials; every ten seconds the slots.

use crate::io::{ConnId, SwarmId};
use crate::node::Node;
use crate::node::desk::Desk;
use crate::peer::Class;
use crate::policy::belief;
use crate::policy::gate::{self, ChanceFacts, Draw, GateFacts};
use crate::policy::stop_loss;
use crate::swarm::{Stage, Standing, Swarm, Why};
use crate::time::Timestamp;
use bt_wire::bitfield::Bitfield;
use core::time::Duration;

/// The tick.
pub(crate) const TICK: Duration = Duration::from_secs(1);
const RECHOKE: Duration = Duration::from_secs(10);
/// A peer that said nothing of its set for so long has nothing.
const SILENT: Duration = Duration::from_secs(2);

impl Swarm {
    /// Bytes that will keep the line busy, and bytes still coming.
    fn demand(&self, desk: &Desk, horizon: f64) -> (f64, f64) {
        let fair = desk.capacity() / f64::from(self.avail.downloaders.max(1));
        let draws = self
            .peers
            .values()
            .filter(|peer| !peer.only_given() && !peer.closing)
            .map(|peer| Draw {
                pending: peer.pending(self.permit()),
                rate: peer.up.rate.max(fair / 2.0),
                asks: peer.asks(desk.now, gate::DEAF_AFTER),
            });
        let coming = self
            .active
            .values()
            .filter(|a| a.stage == Stage::Fetching && a.why == Why::Free);
        (
            gate::backlog(draws, horizon),
            coming.map(|a| a.expected * a.size as f64).sum(),
        )
    }

    fn roll(&mut self, seconds: f64) {
        self.up.roll(seconds);
        self.down.roll(seconds);
        let spreading = self.avail.spreading();
        if seconds > 0.0 {
            let hazard =
                core::mem::take(&mut self.gains) as f64 / seconds / spreading.max(1) as f64;
            self.hazard += (hazard.min(1.0) - self.hazard) * (0.2 * seconds).min(1.0);
        }
        for peer in self.peers.values_mut() {
            peer.up.roll(seconds);
            peer.down.roll(seconds);
        }
    }

    fn assume_empty(&mut self, desk: &mut Desk) {
        let silent: Vec<ConnId> = self
            .peers
            .values()
            .filter(|peer| !peer.known && !peer.closing && desk.now.since(peer.since) >= SILENT)
            .map(|peer| peer.conn)
            .collect();
        for conn in silent {
            self.has_set(desk, conn, Bitfield::new(self.pieces()));
        }
    }

    /// How far each seed is believed: by when it last gave, or let us ask. Who was not asked is believed, and who took a
    /// piece from us before it was a seed.
    fn weigh_seeds(&mut self, now: Timestamp) {
        let (mut doubted, piece) = (0.0, self.permit());
        for peer in self.peers.values_mut().filter(|p| p.class == Class::Seed) {
            if !peer.interested || peer.is_open(now) || peer.up.total >= piece {
                peer.open = now;
            }
            doubted += 1.0 - belief::weight(now.since(peer.open));
        }
        self.avail.doubted = doubted;
    }

    /// What one swarm does on the tick, but for its part of the gate.
    fn tick(&mut self, desk: &mut Desk, rechoke: bool) {
        self.expire_dials(desk);
        if self.layout.is_none() {
            return;
        }
        self.assume_empty(desk);
        self.weigh_seeds(desk.now);
        self.age_commitments(desk);
        self.age_deliveries(desk);
        self.abandon_orphans(desk);
        self.forgive(desk);
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
        for conn in conns {
            self.consider_interest(desk, conn);
            self.offer(desk, conn);
            self.prompt(desk, conn);
        }
        if rechoke {
            self.rechoke(desk);
            self.drop_useless_seeds(desk);
        }
        if self.left_dirty && self.joined() {
            self.say_left(desk);
        }
    }

    /// An old debt is halved, each time after twice as long, until something is given again.
    fn forgive(&mut self, desk: &Desk) {
        let account = &mut self.account;
        if account.given > account.given_then {
            account.halvings = 0;
        }
        if desk.now.since(account.halved) >= stop_loss::halving(account.halvings, account.late) {
            account.halved = desk.now;
            account.given_then = account.given;
            account.halvings += 1;
            account.late = false;
            self.account.forgiven += stop_loss::forgiven(self.loss(desk));
        }
    }

    /// Plans afresh and fills every pipe, the fastest peers first.
    fn fill(&mut self, desk: &mut Desk) {
        if !self.joined() || !self.caches() {
            return;
        }
        if self.master_demand() {
            self.rebuild(desk, Why::Master);
        }
        if self.errand_demand() {
            self.rebuild(desk, Why::Friend);
        }
        if self.repeats(desk) && self.allow > 0.0 {
            self.rebuild(desk, Why::Free);
        }
        let mut peers: Vec<(u64, ConnId)> = self
            .peers
            .values()
            .filter(|p| p.may_fetch())
            .map(|p| (p.down_rate(), p.conn))
            .collect();
        peers.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, conn) in peers {
            self.top_up(desk, conn);
        }
    }
}

impl Node {
    /// Everything that happens by the clock.
    pub(crate) fn tick(&mut self) {
        let now = self.desk.now;
        let seconds = now.since(self.ticked).as_secs_f64();
        self.ticked = now;
        self.next_tick = now + TICK;
        self.desk.up.roll(seconds);
        self.desk.down.roll(seconds);
        self.desk.probed = (self.desk.probed * 0.998).max(self.desk.up.rate * 1.5);
        let rechoke = now >= self.next_rechoke;
        if rechoke {
            self.next_rechoke = now + RECHOKE;
        }
        for swarm in self.swarms.values_mut() {
            swarm.roll(seconds);
            swarm.tick(&mut self.desk, rechoke);
        }
        self.tick_meetings();
        self.leave_poor();
        self.review();
        self.aid_tick();
        self.share_line();
        self.shrink();
        for swarm in self.swarms.values_mut() {
            swarm.fill(&mut self.desk);
        }
        self.dial_masters();
        self.dial_all(None);
        self.desk.freed = true;
        self.rates_due = true;
        self.sweep();
    }

    /// The gate: who may order how much until the next tick. The neediest swarm has the line; the others what it
    /// left unused after it had its chance.
    fn share_line(&mut self) {
        let capacity = self.desk.capacity();
        let mut ranked: Vec<(f64, SwarmId)> = self
            .swarms
            .values()
            .filter(|s| s.joined() && s.repeats(&self.desk))
            .map(|s| (self.rank(s), s.id))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut before = 0.0;
        let mut held_back = false;
        for (_, id) in ranked {
            let now = self.desk.now;
            let Some(swarm) = self.swarms.get_mut(&id) else {
                continue;
            };
            let horizon = gate::horizon(swarm.fetch_s, swarm.lag_s);
            let (backlog, coming) = swarm.demand(&self.desk, horizon);
            let carried = self.desk.up.rate;
            swarm.backlog = backlog;
            swarm.allow = gate::allowance(&self.desk.seen(GateFacts {
                capacity,
                carried,
                horizon_s: horizon,
                before,
                backlog,
                coming,
                held_back,
            }));
            before += backlog + coming;
            let Standing::Joined(since) = swarm.standing else {
                continue;
            };
            held_back |= gate::goes_first(&ChanceFacts {
                capacity,
                carried,
                joined_for: now.since(since),
                downloaders: swarm.avail.downloaders,
                planned: !swarm.free_plan.queue.is_empty(),
            });
        }
    }

    /// After a reload with a smaller cache: the least needed goes until it fits.
    fn shrink(&mut self) {
        for _ in 0..256 {
            let stock = self.desk.stock;
            if stock.used.saturating_sub(stock.retiring) <= self.desk.cap()
                || !self.evict_anywhere()
            {
                return;
            }
        }
    }

    /// When the clock is next looked at.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        let busy = self
            .swarms
            .values()
            .any(|swarm| swarm.joined() || !swarm.peers.is_empty());
        let starved = !self.desk.starved.is_empty() && self.desk.no_room_until > self.desk.now;
        let soon = starved.then_some(self.desk.no_room_until);
        if busy {
            return Some(soon.map_or(self.next_tick, |at| at.min(self.next_tick)));
        }
        let later = self
            .swarms
            .values()
            .filter(|swarm| !swarm.forgotten)
            .map(|swarm| {
                let scrape = swarm
                    .scraped
                    .map_or(self.desk.now, |at| at + super::joining::SCRAPE_EVERY);
                let grace = swarm.known_since + super::joining::SCRAPE_GRACE;
                let wakes = [scrape, grace, swarm.rest_until];
                wakes
                    .into_iter()
                    .filter(|at| *at > self.desk.now)
                    .min()
                    .unwrap_or(scrape)
            });
        later
            .min()
            .filter(|_| !self.desk.stopped())
            .map(|at| at.max(self.next_tick))
    }
}
