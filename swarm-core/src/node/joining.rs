//! Which swarms are joined, and which are left.

use crate::io::{Hold, LeaveReason, Note, Origin, Output, SwarmFact, SwarmId};
use crate::node::Node;
use crate::node::desk::Desk;
use crate::peer::Class;
use crate::policy::feed_cap;
use crate::policy::need::{self, NeedFacts, RankFacts, StayFacts};
use crate::policy::never_harm;
use crate::swarm::{Avail, Standing, Swarm};
use crate::view::NeedTerm;
use bt_wire::layout::Layout;
use core::time::Duration;

/// A feed's swarms are compared only when each was scraped, or had so long to be.
pub(crate) const SCRAPE_GRACE: Duration = Duration::from_secs(10);
/// Unjoined swarms are scraped so often.
pub(crate) const SCRAPE_EVERY: Duration = Duration::from_secs(900);

impl Swarm {
    /// What is known of its need.
    pub(crate) fn need_facts(&self) -> NeedFacts {
        let (complete, incomplete, downloaders) = self.scrape.unwrap_or((None, None, None));
        NeedFacts {
            complete,
            incomplete,
            downloaders,
            counts_us: self.joined() && self.hold == Hold::Cache,
            seen_seeds: self.avail.rivals().round() as u32,
            seen_downloaders: self.avail.downloaders,
            taken: self.account.right(),
            given: self.account.given,
            piece: self.permit(),
            echoes: self.echoes,
            joined: self.joined(),
            room: self.room,
        }
    }

    pub(crate) fn need_terms(&self) -> (f64, [NeedTerm; 7]) {
        need::score(&self.need_facts())
    }

    /// All masters that named it have everything.
    fn masters_complete(&self) -> bool {
        let done = |id| {
            self.links
                .get(id)
                .and_then(|link| link.have.as_ref())
                .is_some_and(|have| have.is_full())
        };
        self.origins.iter().all(|origin| match origin {
            Origin::Master(id) => done(id) && self.pieces() > 0,
            Origin::User | Origin::Feed(_) | Origin::Friend(_) | Origin::Rendezvous => true,
        })
    }

    /// Joined whatever the ranking says: the operator's word, kept content, or a master in need.
    pub(crate) fn must_join(&self) -> bool {
        let by_master = self
            .origins
            .iter()
            .any(|origin| matches!(origin, Origin::Master(_)));
        let by_friend = self
            .origins
            .iter()
            .any(|origin| matches!(origin, Origin::Friend(_)));
        let named = !self.origins.is_empty();
        named
            && (self.pinned
                || self.hold == Hold::Kept
                || by_friend
                || self.meets()
                || self.origins.contains(&Origin::User)
                || (by_master && !self.masters_complete()))
    }

    /// Over half the cache: not at all. The figure is the cache it would need, bytes.
    fn too_big(&self, desk: &Desk) -> Option<u64> {
        let piece = self.permit();
        (self.hold == Hold::Cache && piece > desk.params.limits.cache / 2).then_some(piece * 2)
    }

    /// May be joined for strangers' sake.
    fn eligible(&self, desk: &Desk) -> bool {
        let fits = self.layout.is_none() || self.repeats(desk);
        !self.origins.is_empty() && desk.params.limits.repeat && fits && self.hold == Hold::Cache
    }

    fn join(&mut self, desk: &mut Desk) {
        self.standing = Standing::Joined(desk.now);
        self.account.at_join = (self.account.right(), self.account.given);
        self.account.prospecting = desk.now;
        // Nothing is forgiven before it is decided whether to stay.
        self.account.halved = desk.now;
        self.demand_seen = desk.now;
        desk.stock.longest = desk
            .stock
            .longest
            .max(if self.caches() { self.permit() } else { 0 });
        desk.out.push_back(Output::Join(self.id));
        desk.note(Note::Joined(self.id, self.need));
        self.say_left(desk);
    }

    /// True figures for the trackers: total − held (promise 6).
    pub(crate) fn say_left(&mut self, desk: &mut Desk) {
        self.left_dirty = false;
        let Some(layout) = self.layout else { return };
        let left = if self.hold == Hold::Kept {
            0
        } else {
            layout.total.saturating_sub(self.held_bytes)
        };
        desk.out.push_back(Output::Left(self.id, left));
    }

    fn stay_facts(&self, desk: &Desk, since: crate::time::Timestamp) -> StayFacts {
        StayFacts {
            joined_for: desk.now.since(since),
            no_demand_for: desk.now.since(self.demand_seen),
            taken: self.account.right().saturating_sub(self.account.at_join.0),
            given: self.account.given.saturating_sub(self.account.at_join.1),
            piece: self.permit(),
        }
    }

    /// Leaves for a while, longer each time.
    fn leave_and_rest(&mut self, desk: &mut Desk, why: LeaveReason) {
        self.leave(desk, why);
        if why != LeaveReason::Outranked {
            self.rest_until = desk.now + need::rest(self.rests);
            self.rests += 1;
        }
    }

    /// The geometry became known: connections that were begun without it begin anew.
    fn learn_layout(&mut self, desk: &mut Desk, layout: Layout) {
        if self.layout.is_some() {
            return;
        }
        self.layout = Some(layout);
        let conns: Vec<_> = self.peers.keys().copied().collect();
        for conn in conns {
            if let Some(peer) = self.peers.get(&conn) {
                let addr = if peer.incoming {
                    peer.ext
                        .listen_port
                        .map(|port| std::net::SocketAddr::new(peer.addr.ip(), port))
                } else {
                    None
                };
                if let Some(addr) = addr {
                    self.named(desk, vec![addr], crate::io::PeerSource::Pex);
                }
            }
            self.close(desk, conn);
        }
        self.avail = Avail::new(layout.piece_count);
        for peer in self.peers.values_mut() {
            peer.class = Class::Unknown;
        }
        if self.joined() {
            desk.stock.longest =
                desk.stock
                    .longest
                    .max(if self.caches() { self.permit() } else { 0 });
            self.say_left(desk);
        }
    }
}

impl Node {
    /// Something about a swarm.
    pub(crate) fn swarm_fact(&mut self, id: SwarmId, fact: SwarmFact) {
        match fact {
            SwarmFact::Known {
                info_hash,
                name,
                geometry,
                private,
                hold,
                origin,
                pinned,
            } => {
                let layout = geometry.and_then(|g| Layout::new(g.piece_length, g.total).ok());
                let now = self.desk.now;
                let swarm = self
                    .swarms
                    .entry(id)
                    .or_insert_with(|| Swarm::new(id, info_hash, hold, now));
                swarm.forgotten = false;
                swarm.name = name;
                swarm.private |= private;
                swarm.pinned |= pinned;
                swarm.origins.insert(origin);
                if let Some(layout) = layout {
                    swarm.learn_layout(&mut self.desk, layout);
                }
                self.place_waiting();
            }
            SwarmFact::Unnamed(origin) => {
                let Some(swarm) = self.swarms.get_mut(&id) else {
                    return;
                };
                swarm.origins.remove(&origin);
                self.forget_unnamed(id);
            }
            SwarmFact::Leave => {
                let Some(swarm) = self.swarms.get_mut(&id) else {
                    return;
                };
                swarm.origins.clear();
                swarm.pinned = false;
                self.forget_unnamed(id);
            }
            SwarmFact::Scraped {
                complete,
                incomplete,
                downloaders,
            } => {
                let Some(swarm) = self.swarms.get_mut(&id) else {
                    return;
                };
                let old = swarm.scrape.unwrap_or((None, None, None));
                swarm.scrape = Some((
                    complete.or(old.0),
                    incomplete.or(old.1),
                    downloaders.or(old.2),
                ));
                swarm.need = swarm.need_terms().0;
            }
            SwarmFact::Peers(addrs, source) => {
                let Some(swarm) = self.swarms.get_mut(&id) else {
                    return;
                };
                swarm.named(&mut self.desk, addrs, source);
            }
            SwarmFact::Announced { from, at, stopped } => self.announced(id, from, at, stopped),
        }
        self.review();
        self.dial_all(Some(id));
    }

    pub(crate) fn forget_unnamed(&mut self, id: SwarmId) {
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        if swarm.origins.is_empty() && !swarm.forgotten {
            swarm.leave(&mut self.desk, LeaveReason::Asked);
            swarm.forgotten = true;
            self.desk.out.push_back(Output::Forget(id));
        }
        self.sweep();
    }

    /// Drops forgotten swarms once nothing of theirs is left in the shell.
    pub(crate) fn sweep(&mut self) {
        let masters = &mut self.masters;
        self.swarms.retain(|_, swarm| {
            let stays = !swarm.forgotten || !swarm.active.is_empty() || !swarm.peers.is_empty();
            for (id, link) in swarm.links.iter().filter(|_| !stays) {
                if let Some(master) = masters.get_mut(id) {
                    master.sent_before = master.sent_before.saturating_add(link.sent);
                }
            }
            stays
        });
    }

    /// The ranking number of a swarm: its need (or the reverse, for the test that must fail).
    pub(crate) fn rank(&self, swarm: &Swarm) -> f64 {
        let need = need::rank(self.desk.seen(RankFacts {
            need: swarm.need,
            place: swarm.id.0,
        }));
        if self.desk.params.invert_need {
            1.0 / (need + 0.001)
        } else {
            need
        }
    }

    /// Joins what must be joined, then the neediest; leaves what is outranked.
    pub(crate) fn review(&mut self) {
        if self.desk.stopped() {
            return;
        }
        self.count_feeds();
        self.trim_feeds();
        let ids: Vec<SwarmId> = self.swarms.keys().copied().collect();
        for id in ids {
            self.review_one(id);
        }
        self.join_neediest();
    }

    fn review_one(&mut self, id: SwarmId) {
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        if swarm.forgotten {
            return;
        }
        swarm.need = swarm.need_terms().0;
        if let Some(needs) = swarm.too_big(&self.desk) {
            if swarm.standing != Standing::TooBig {
                swarm.leave(&mut self.desk, LeaveReason::Asked);
                swarm.standing = Standing::TooBig;
                self.desk.note(Note::TooBig(id, needs));
            }
            return;
        }
        if swarm.standing == Standing::TooBig {
            swarm.standing = Standing::Out;
        }
        let due = swarm
            .scraped
            .is_none_or(|at| self.desk.now.since(at) >= SCRAPE_EVERY);
        if due && swarm.hold == Hold::Cache {
            swarm.scraped = Some(self.desk.now);
            self.desk.out.push_back(Output::Scrape(id));
        }
        if swarm.must_join() && !swarm.joined() {
            swarm.join(&mut self.desk);
        }
    }

    fn join_neediest(&mut self) {
        let now = self.desk.now;
        let free = |swarm: &&Swarm| !swarm.must_join() && !swarm.forgotten;
        let candidates = || {
            let fits = |swarm: &&Swarm| {
                let out = swarm.standing == Standing::Out && swarm.rest_until <= now;
                out && free(swarm) && swarm.eligible(&self.desk)
            };
            self.swarms.values().filter(fits)
        };
        let uncounted =
            |swarm: &Swarm| swarm.scrape.is_none() && now.since(swarm.known_since) < SCRAPE_GRACE;
        let patience = SCRAPE_GRACE * 3;
        if candidates().any(uncounted)
            && !candidates().any(|swarm| now.since(swarm.known_since) > patience)
        {
            return;
        }
        let mut ranked: Vec<(f64, SwarmId)> = candidates()
            .filter(|s| s.need > 0.0)
            .map(|s| (self.rank(s), s.id))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let joined = || {
            self.swarms
                .values()
                .filter(free)
                .filter(|swarm| swarm.joined())
        };
        let places = (self.desk.params.limits.max_swarms as usize).saturating_sub(joined().count());
        let settled =
            |s: &&Swarm| matches!(s.standing, Standing::Joined(at) if now.since(at) >= need::DWELL);
        let worst = joined()
            .filter(settled)
            .map(|s| (self.rank(s), s.id))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let mut chosen: Vec<SwarmId> = ranked.iter().take(places).map(|(_, id)| *id).collect();
        if places == 0
            && let (Some((low, out)), Some((high, id))) = (worst, ranked.first())
            && *high > low * need::OUTRANK
        {
            if let Some(swarm) = self.swarms.get_mut(&out) {
                swarm.leave_and_rest(&mut self.desk, LeaveReason::Outranked);
            }
            chosen.push(*id);
        }
        for id in chosen {
            if let Some(swarm) = self.swarms.get_mut(&id)
                && feed_cap::joins(swarm.room, swarm.permit())
            {
                swarm.join(&mut self.desk);
                self.count_feeds();
            }
        }
    }

    /// Once a second: swarms that do not repay, or in which nobody wants anything, are left for a while.
    pub(crate) fn leave_poor(&mut self) {
        for swarm in self.swarms.values_mut() {
            let Standing::Joined(since) = swarm.standing else {
                continue;
            };
            if swarm.avail.downloaders > 0 {
                swarm.demand_seen = self.desk.now;
            }
            if swarm.must_join() || swarm.master_demand() {
                continue;
            }
            let stay = self.desk.seen(swarm.stay_facts(&self.desk, since));
            let harm = never_harm::leaves(&swarm.harm(&self.desk));
            let harmed = harm.then_some(LeaveReason::Harm);
            if let Some(why) = harmed.or_else(|| need::leave(&stay)) {
                swarm.leave_and_rest(&mut self.desk, why);
            }
        }
    }
}
