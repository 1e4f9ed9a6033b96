//! Everything there is in a run, and what happens in it.

use std::collections::BTreeMap;

use bt_wire::layout::Layout;

use crate::bits;
use crate::events::{Event, Events, Msg, SECOND, Time};
use crate::limiter::Limiter;
use crate::link::End;
use crate::peer::{Habits, Peer, Uplink};
use crate::plan::{Group, Kind, Plan, SwarmPlan};
use crate::repeater::{Letter, Repeater, allowed_fast};
use crate::rng::Rng;

/// A peer that lost a connection asks the tracker for others so much later.
const REANNOUNCE: Time = 60 * SECOND;
/// Connections to others that a peer accepts over what it seeks.
const SPARE_PEERS: u32 = 2;

/// One swarm: its geometry, and who is in it.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) pieces: u32,
    pub(crate) piece: u64,
    /// Bytes and number of blocks that ordinary peers ask for.
    pub(crate) block: u64,
    pub(crate) blocks: u32,
    /// Who its tracker knows, in the order of coming.
    pub(crate) members: Vec<u32>,
    /// What happened so far, for those who look at the outcome.
    pub(crate) wanted: u32,
    pub(crate) complete: u32,
}

impl Swarm {
    fn new(plan: &SwarmPlan, number: u32) -> anyhow::Result<Self> {
        let piece = u32::try_from(plan.piece)?;
        let layout = Layout::new(piece, plan.size)?;
        let name = if plan.count == 1 {
            plan.name.clone()
        } else {
            format!("{}-{number}", plan.name)
        };
        Ok(Self {
            name,
            layout,
            pieces: layout.piece_count,
            piece: plan.piece,
            block: plan.block,
            blocks: u32::try_from(plan.piece / plan.block)?,
            members: Vec::new(),
            wanted: 0,
            complete: 0,
        })
    }

    pub(crate) fn piece_len(&self, piece: u32) -> u64 {
        self.layout.piece_size(piece).into()
    }

    /// Blocks of an ordinary peer's length in a piece.
    pub(crate) fn blocks_in(&self, piece: u32) -> u32 {
        let blocks = self.piece_len(piece).div_ceil(self.block);
        u32::try_from(blocks).unwrap_or(0)
    }
}

/// A moment of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Time,
    /// Bytes that all helpers gave and took so far.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Leechers complete.
    pub(crate) complete: u32,
}

/// A run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) events: Events,
    pub(crate) rng: Rng,
    pub(crate) latency: Time,
    /// Thousandths of a block.
    pub(crate) overhead: u64,
    pub(crate) acknowledge: u64,
    pub(crate) connection_s: Option<f64>,
    pub(crate) swarms: Vec<Swarm>,
    /// Peers have the first numbers, repeaters the ones after them.
    pub(crate) peers: Vec<Peer>,
    pub(crate) repeaters: Vec<Repeater>,
    pub(crate) ends: Vec<End>,
    /// The node of each key that slaves show to each other.
    pub(crate) keys: Vec<u32>,
    /// The slaves of each peer that is a master.
    pub(crate) owners: BTreeMap<u32, Vec<u32>>,
    /// What is under way between slaves, and to whom.
    pub(crate) letters: BTreeMap<u32, (u32, Letter)>,
    pub(crate) letters_sent: u32,
    pub(crate) samples: Vec<Sample>,
    pub(crate) plan: Plan,
    /// Swarm plan of each swarm.
    pub(crate) made_by: Vec<usize>,
    pub(crate) scratch: Vec<crate::events::Block>,
    pub(crate) spare: Vec<Vec<u32>>,
    limit: Time,
    sample: Time,
}

impl World {
    /// Sets the scene.
    ///
    /// # Errors
    /// A torrent of impossible geometry.
    pub(crate) fn new(plan: &Plan, seed: u64) -> anyhow::Result<Self> {
        let micros = |seconds: f64| (seconds * SECOND as f64) as Time;
        let mut world = Self {
            events: Events::default(),
            rng: Rng::new(seed),
            latency: micros(plan.latency_ms / 1_000.0),
            overhead: (plan.overhead * 1_000.0) as u64,
            acknowledge: (plan.acknowledge * 1_000.0) as u64,
            connection_s: plan.connection_s,
            swarms: Vec::new(),
            peers: Vec::new(),
            repeaters: Vec::new(),
            ends: Vec::new(),
            keys: Vec::new(),
            owners: BTreeMap::new(),
            letters: BTreeMap::new(),
            letters_sent: 0,
            samples: Vec::new(),
            plan: plan.clone(),
            made_by: Vec::new(),
            scratch: Vec::new(),
            spare: Vec::new(),
            limit: micros(plan.seconds),
            sample: micros(plan.sample_s).max(1),
        };
        for (make, swarm) in plan.swarm.iter().enumerate() {
            for number in 1..=swarm.count {
                world.swarms.push(Swarm::new(swarm, number)?);
                world.made_by.push(make);
                for group in 0..swarm.group.len() {
                    world.populate(make, group);
                }
            }
        }
        let repeaters = plan.repeater.as_ref().map_or(0, |repeater| repeater.count);
        for number in 0..repeaters {
            world.add_repeater(seed, number);
        }
        world.add_slaves(seed);
        world.events.after(world.sample, Event::Sample);
        Ok(world)
    }

    fn populate(&mut self, make: usize, group: usize) {
        let swarm = u32::try_from(self.swarms.len() - 1).unwrap_or(0);
        let plan = self.plan.swarm[make].group[group].clone();
        for _ in 0..plan.count {
            let id = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
            let mut peer = newcomer(&plan, swarm, self.swarms[swarm as usize].pieces);
            if plan.limited {
                peer.limiter = Some(Limiter::new(self.rng.next()));
            }
            peer.allowed = self.allowed(id, swarm);
            peer.group = u32::try_from(group).unwrap_or(0);
            let [from, to] = plan.joins;
            let at = from + (to - from) * self.rng.unit();
            if plan.begins_with > 0.0 && peer.kind == Kind::Leecher {
                for piece in 0..self.swarms[swarm as usize].pieces {
                    if self.rng.unit() < plan.begins_with {
                        bits::set(&mut peer.have, piece, true);
                    }
                }
                peer.count = bits::count(&peer.have);
            }
            self.swarms[swarm as usize].wanted += u32::from(peer.honest_leecher());
            self.peers.push(peer);
            self.events
                .at((at * SECOND as f64) as Time, Event::Join(id));
        }
    }

    /// Pieces that a peer may ask for though it is choked (BEP 6): by its address, so the same from everybody.
    pub(crate) fn allowed(&self, node: u32, swarm: u32) -> Vec<u32> {
        let pieces = self.swarms[swarm as usize].pieces;
        let network = if self.plan.one_network { 0 } else { node };
        allowed_fast(network, swarm, pieces).collect()
    }

    /// Runs until the plan's end.
    pub(crate) fn run(&mut self) {
        while let Some(event) = self.events.next() {
            if self.events.now > self.limit {
                break;
            }
            if matches!(event, Event::Sample) {
                self.sample();
                if self.over() {
                    break;
                }
                self.events.after(self.sample, Event::Sample);
            }
            self.happen(event);
        }
    }

    fn over(&self) -> bool {
        let sum = |of: fn(&Swarm) -> u32| self.swarms.iter().map(of).map(f64::from).sum::<f64>();
        let (wanted, complete) = (sum(|s| s.wanted), sum(|s| s.complete));
        wanted > 0.0 && complete >= wanted * self.plan.until
    }

    fn sample(&mut self) {
        let (up, down) = self.helped();
        self.samples.push(Sample {
            at: self.events.now,
            up,
            down,
            complete: self.swarms.iter().map(|swarm| swarm.complete).sum(),
        });
    }

    /// Peers that stand in for a repeater.
    pub(crate) fn helpers(&self) -> impl Iterator<Item = &Peer> {
        let stand_in = |peer: &&Peer| peer.kind == Kind::Leecher && !peer.counted;
        self.peers.iter().filter(stand_in)
    }

    /// Bytes that repeaters, and those who stand in for them, gave and took.
    pub(crate) fn helped(&self) -> (u64, u64) {
        let repeaters = self.repeaters.iter().map(|r| (r.sent, r.got));
        let all = repeaters.chain(self.helpers().map(|peer| (peer.sent, peer.got)));
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join(node) if self.is_repeater(node) => self.repeater_joins(node),
            Event::Join(node) => self.join(node),
            Event::Leave(node) => self.leave(node),
            Event::Sent(node) => self.sent(node),
            Event::Tick(node) => self.tick(node),
            Event::Heard(end, msg) => self.hear(end, msg),
            Event::Rechoke(node) => self.rechoke(node),
            Event::Watch(end) => self.watched(end),
            Event::Idle(end) => self.idle_look(end),
            Event::Dial(from, to, swarm) => self.dial(from, to, swarm),
            Event::Break(end) => self.broken(end),
            Event::Timer(node) => self.repeater_timer(node),
            Event::Line(node) => self.line_wakes(node),
            Event::Conn(node, conn) => self.conn_wakes(node, conn),
            Event::Scraped(node, swarm) => self.scraped(node, swarm),
            Event::Named(node, swarm) => self.named(node, swarm),
            Event::Letter(number) => self.letter(number),
            Event::MasterList(node) => self.master_list(node),
            Event::Witness(node, swarm) => self.witness(node, swarm),
            Event::Oracle(node) => self.ask_oracle(node),
            Event::Sample => {}
        }
    }

    fn hear(&mut self, end: u32, msg: Msg) {
        let at = &self.ends[end as usize];
        if !at.open {
            return;
        }
        let node = at.node;
        if self.is_repeater(node) {
            self.repeater_hears(node, end, msg);
        } else {
            self.heard(end, msg);
        }
    }

    pub(crate) fn is_repeater(&self, node: u32) -> bool {
        node as usize >= self.peers.len()
    }

    /// A peer comes, and connects to those that the tracker names.
    fn join(&mut self, node: u32) {
        let now = self.events.now;
        let peer = &mut self.peers[node as usize];
        (peer.here, peer.came) = (true, now);
        let (swarm, sought) = (peer.swarm, peer.sought);
        let (group, kind) = (peer.group as usize, peer.kind);
        // The first round comes with the first second, and all others in step with it.
        peer.next_round = now + SECOND / 2 + Time::from(self.rng.below(1_000_000));
        peer.next_optimistic = peer.next_round;
        let next = peer.next_round;
        // A crowd chokes nobody.
        if kind != Kind::Crowd {
            self.events.at(next, Event::Rechoke(node));
        }
        let life = self.plan.swarm[self.made_by[swarm as usize]].group[group].life_s;
        if let Some(mean) = life {
            let life = self.rng.exponential(mean) * SECOND as f64;
            self.events.after(life as Time, Event::Leave(node));
        }
        if matches!(kind, Kind::Seed | Kind::Crowd) && self.peers[node as usize].gives() {
            self.peers[node as usize].done = Some(now);
        }
        for other in self.named_by_tracker(swarm, node, sought) {
            self.try_connect(node, other, swarm);
        }
        self.swarms[swarm as usize].members.push(node);
        self.list_changes(node);
    }

    /// Some members of a swarm, at random, without one.
    pub(crate) fn named_by_tracker(&mut self, swarm: u32, without: u32, most: u32) -> Vec<u32> {
        let members = &self.swarms[swarm as usize].members;
        let count = u32::try_from(members.len()).unwrap_or(0);
        if count <= most {
            return members.iter().copied().filter(|m| *m != without).collect();
        }
        let mut named = Vec::with_capacity(most as usize);
        for _ in 0..most * 2 {
            let member = members[self.rng.below(count) as usize];
            if member != without && named.len() < most as usize && !named.contains(&member) {
                named.push(member);
            }
        }
        named
    }

    /// A peer connects to another node, if both will.
    pub(crate) fn try_connect(&mut self, from: u32, to: u32, swarm: u32) -> bool {
        let crowded = |world: &Self, node: u32, spare: u32| {
            let peer = &world.peers[node as usize];
            peer.conns.len() >= (peer.sought * spare) as usize
        };
        let refuses = |world: &Self, node: u32, other: u32, spare: u32| {
            !world.is_repeater(node)
                && (crowded(world, node, spare)
                    || !world.peers[node as usize].here
                    || world.peers[node as usize].banned.contains(&other)
                    || world.connected(node, other))
        };
        if from == to
            || refuses(self, from, to, SPARE_PEERS)
            || refuses(self, to, from, SPARE_PEERS)
        {
            return false;
        }
        if self.is_repeater(to) && !self.repeater_accepts(to, swarm) {
            return false;
        }
        self.connect(from, to, swarm);
        true
    }

    fn leave(&mut self, node: u32) {
        let peer = &mut self.peers[node as usize];
        if !core::mem::take(&mut peer.here) {
            return;
        }
        let swarm = peer.swarm as usize;
        for end in peer.conns.clone() {
            self.disconnect(end, node);
        }
        self.swarms[swarm].members.retain(|member| *member != node);
        self.list_changes(node);
    }

    /// A peer has everything.
    pub(crate) fn completed(&mut self, node: u32) {
        let peer = &self.peers[node as usize];
        let (swarm, honest) = (peer.swarm as usize, peer.honest_leecher());
        let group = &self.plan.swarm[self.made_by[swarm]].group[peer.group as usize];
        if let Some(stays) = group.stays_s {
            let stays = (stays * SECOND as f64) as Time;
            self.events.after(stays, Event::Leave(node));
        }
        self.swarms[swarm].complete += u32::from(honest);
    }

    fn broken(&mut self, end: u32) {
        if !self.ends[end as usize].open {
            return;
        }
        let at = &self.ends[end as usize];
        let (from, to, swarm) = (at.node, self.other(end), at.swarm);
        self.disconnect(end, u32::MAX);
        if !self.is_repeater(from) {
            self.events.after(REANNOUNCE, Event::Dial(from, to, swarm));
        }
    }

    /// A peer's dial, or a repeater's.
    fn dial(&mut self, from: u32, to: u32, swarm: u32) {
        let met = self.try_connect(from, to, swarm);
        if self.is_repeater(from) {
            self.repeater_dialled(from, to, swarm, met);
        }
    }
}

fn newcomer(plan: &Group, swarm: u32, pieces: u32) -> Peer {
    let whole = matches!(
        plan.kind,
        Kind::Seed | Kind::Crowd | Kind::Braggart | Kind::Poisoner
    );
    let have = if whole {
        bits::full(pieces)
    } else {
        bits::empty(pieces)
    };
    Peer {
        swarm,
        group: 0,
        kind: plan.kind,
        counted: plan.counted,
        habits: Habits::of(plan.client),
        slots: if plan.kind == Kind::Crowd {
            u32::MAX
        } else {
            plan.slots
        },
        sought: plan.peers,
        here: false,
        came: 0,
        done: None,
        conns: Vec::new(),
        up: Uplink {
            rate: plan.up,
            ..Uplink::default()
        },
        limiter: None,
        allowed: Vec::new(),
        down_rate: plan.down.unwrap_or(0),
        down_busy: 0,
        count: bits::count(&have),
        have,
        taken: bits::empty(pieces),
        partial: Vec::new(),
        copies: vec![0; pieces as usize].into(),
        unchoked: 0,
        next_round: 0,
        next_optimistic: 0,
        banned: Vec::new(),
        trust: Vec::new(),
        sent: 0,
        got: 0,
        wasted: 0,
    }
}
