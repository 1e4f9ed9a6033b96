//! What is lent to a helper: reserved ahead within its room, taken back without progress, stolen by who is idle.

use crate::io::SwarmId;
use crate::io::friends::{FriendDefence, HelpMessage, StopReason};
use crate::node::Node;
use crate::node::errands::HelpKey;
use crate::policy::delivery;
use crate::policy::{help, witness};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

use super::asking::{Asked, Need, Stage};

/// After so many take-backs in a row without any progress the help ends.
const PATIENCE: u32 = 3;

/// The reservations of one help.
#[derive(Debug, Default)]
pub(super) struct Loan {
    /// What the helper offered, bytes/s.
    offered: u64,
    /// What it brings of what was lent, bytes/s, and the bytes since that was last reckoned.
    pace: f64,
    fresh: u64,
    /// The best pace so far.
    best: f64,
    pub(super) room: u64,
    /// When it said that it is in the swarm: the ways of delivery are tried from then on.
    pub(super) begun: Option<Timestamp>,
    pub(super) reserved: BTreeSet<u32>,
    /// Of those, what the helper says it holds.
    pub(super) held: BTreeSet<u32>,
    /// What it says it is fetching.
    pub(super) fetching: BTreeSet<u32>,
    /// Taken back; creditable until then, if the helper says it held them.
    pub(super) lapsed: BTreeMap<u32, Timestamp>,
    /// With the master by now, and credited as brought there.
    pub(super) came: BTreeSet<u32>,
    pub(super) progress: Timestamp,
    failures: u32,
    /// It held a piece once.
    began: bool,
    /// Bytes that it brought, of what was lent.
    pub(super) brought: u64,
}

impl Loan {
    pub(super) fn begin(&mut self, now: Timestamp, rate: u64, room: u64) {
        (self.offered, self.room, self.progress) = (rate, room, now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reserved.is_empty()
    }

    /// Everything reserved.
    pub(super) fn pieces(&self) -> Vec<u32> {
        self.reserved.iter().copied().collect()
    }

    /// A piece came, or is held: there is progress.
    pub(super) fn moved(&mut self, now: Timestamp) {
        self.progress = now;
        self.failures = 0;
        self.began = true;
    }

    /// A second went by.
    pub(super) fn roll(&mut self) {
        let fresh = core::mem::take(&mut self.fresh) as f64;
        self.pace += (fresh - self.pace) * 0.25;
        self.best = self.best.max(self.pace);
    }

    /// A lent piece is with the master.
    pub(super) fn gained(&mut self, bytes: u64) {
        self.fresh += bytes;
        self.brought += bytes;
    }

    /// The rate that its patience is reckoned by: the best seen, or what it offered.
    fn rate(&self) -> u64 {
        if self.best >= 1.0 {
            self.best as u64
        } else {
            self.offered
        }
    }

    /// This piece's blocks are the helper's to bring to us: reserved once, and not taken back for long.
    pub(super) fn answers_for(&self, piece: u32) -> bool {
        self.came.contains(&piece) || self.lapsed.contains_key(&piece)
    }

    /// Takes a piece back; it stays creditable for a while.
    fn lapse(&mut self, now: Timestamp, piece: u32) {
        self.reserved.remove(&piece);
        self.lapsed.insert(piece, now + witness::LAPSED);
    }
}

impl Asked {
    /// Most bytes that may stand reserved: the helper's room, or what was asked for and did not come yet.
    pub(super) fn limit(&self) -> u64 {
        let wanted = self.want.saturating_sub(self.loan.brought);
        self.loan
            .room
            .min(wanted.next_multiple_of(self.piece.max(1)))
    }

    /// What may be stolen of it: what it does not hold yet, or everything while it does not reach our master.
    fn open(&self) -> Vec<u32> {
        let loan = &self.loan;
        let stays = |piece: &&u32| self.arrived && loan.held.contains(piece);
        loan.reserved
            .iter()
            .filter(|p| !stays(p))
            .copied()
            .collect()
    }
}

impl Node {
    /// Reserves as much with a helper as it should have ahead.
    pub(super) fn lend(&mut self, key: HelpKey) {
        let runs = |asked: &&Asked| asked.stage == Stage::Running;
        let id = self.aid.asked.get(&key).map(|asked| asked.swarm);
        let here = self.aid.asked.values().filter(|a| Some(a.swarm) == id);
        let here = here.count();
        let need = id.and_then(|id| self.aid.needs.get(&id));
        let gains = need.map_or(0, Need::gains);
        let Some(asked) = self.aid.asked.get(&key).filter(runs) else {
            return;
        };
        let Some(swarm) = self.swarms.get(&asked.swarm) else {
            return;
        };
        // Nobody has more than its part of what the master lacks, ourselves counted: or our own line would run dry.
        let missing = swarm
            .needy()
            .map_or(0, |(_, conn)| swarm.missing_bytes(conn));
        let part = missing.div_ceil(here as u64 + 1);
        let loan = &asked.loan;
        let out = loan.reserved.len() as u64 * asked.piece;
        let part = part.next_multiple_of(asked.piece.max(1));
        let ahead = help::ahead(loan.room, asked.piece).min(part);
        // Half of what is ahead may be used up before more is said: fewer, larger messages.
        let short = ahead.min(asked.limit()).saturating_sub(out);
        if short < asked.piece || (out > ahead / 2 && out > asked.piece) {
            return;
        }
        let count = usize::try_from(short / asked.piece).unwrap_or(usize::MAX);
        let seed = u64::from(key.0.0).wrapping_add(1) << 32 | u64::from(key.1.0);
        let mut pieces = swarm.loanable(seed, gains, &asked.ways);
        // What was taken from it is for others first.
        pieces.retain(|piece| !loan.lapsed.contains_key(piece));
        pieces.truncate(count);
        self.hand(key, pieces);
    }

    /// Reserves these pieces, which nobody has, with a helper.
    pub(super) fn hand(&mut self, key: HelpKey, mut pieces: Vec<u32>) {
        let now = self.desk.now;
        let Some(asked) = self.aid.asked.get_mut(&key).filter(|_| !pieces.is_empty()) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&asked.swarm) else {
            return;
        };
        pieces.sort_unstable();
        let loan = &mut asked.loan;
        if loan.reserved.is_empty() {
            loan.progress = now;
        }
        for piece in &pieces {
            swarm.aid.lent.insert(*piece, key.0);
            loan.reserved.insert(*piece);
            loan.lapsed.remove(piece);
        }
        asked.busy = now;
        self.send(key.0, HelpMessage::Reserve { id: key.1, pieces });
    }

    /// The helper says how far it is.
    pub(super) fn progressed(&mut self, key: HelpKey, held: &[u32], bytes: u64) {
        let now = self.desk.now;
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return self.out_of_turn(key);
        };
        asked.credit.claim(bytes);
        let loan = &mut asked.loan;
        loan.begun.get_or_insert(now);
        for piece in held {
            let ours = loan.reserved.contains(piece) || loan.lapsed.contains_key(piece);
            if ours && loan.held.insert(*piece) {
                loan.moved(now);
            }
        }
        self.deliver(key);
    }

    /// Without progress for too long, what the helper has is taken back. What it holds waits until every way of delivery
    /// had its time.
    pub(super) fn take_back(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return;
        };
        asked.loan.lapsed.retain(|_, until| *until > now);
        let loan = &mut asked.loan;
        loan.held
            .retain(|piece| loan.reserved.contains(piece) || loan.lapsed.contains_key(piece));
        let patience = help::patience(asked.piece, loan.rate(), loan.began);
        if loan.reserved.is_empty() || now.since(loan.progress) < patience {
            return;
        }
        let ways = u32::try_from(asked.ways.len()).unwrap_or(u32::MAX);
        let on_the_way = !asked.arrived
            && loan
                .begun
                .is_some_and(|at| now.since(at) < delivery::EACH * ways);
        let back: Vec<u32> = loan
            .reserved
            .iter()
            .copied()
            .filter(|piece| !(on_the_way && loan.held.contains(piece)))
            .collect();
        if back.is_empty() {
            return;
        }
        loan.progress = now;
        loan.failures += 1;
        let hopeless = loan.failures >= PATIENCE;
        self.desk.friend_fired(key.0, FriendDefence::NoProgress);
        self.take_from(key, back);
        if hopeless {
            self.end_asked(key, Some(StopReason::NoDelivery), true);
        }
    }

    /// Takes pieces back from a helper.
    pub(super) fn take_from(&mut self, key: HelpKey, pieces: Vec<u32>) {
        let now = self.desk.now;
        let Some(asked) = self.aid.asked.get_mut(&key).filter(|_| !pieces.is_empty()) else {
            return;
        };
        pieces
            .iter()
            .for_each(|piece| asked.loan.lapse(now, *piece));
        if let Some(swarm) = self.swarms.get_mut(&asked.swarm) {
            swarm.unlend(key.0, pieces.iter().copied());
        }
        self.send(key.0, HelpMessage::Release { id: key.1, pieces });
    }

    /// The helper gives pieces up. It has less room than it said.
    pub(super) fn given_up(&mut self, key: HelpKey, pieces: &[u32]) {
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return;
        };
        let back: Vec<u32> = pieces
            .iter()
            .copied()
            .filter(|piece| asked.loan.reserved.remove(piece))
            .collect();
        asked.loan.room = asked.loan.reserved.len() as u64 * asked.piece;
        let nothing_left = asked.loan.room == 0;
        if let Some(swarm) = self.swarms.get_mut(&asked.swarm) {
            swarm.unlend(key.0, back);
        }
        if nothing_left {
            self.end_asked(key, Some(StopReason::Done), true);
        }
    }

    /// Where nothing is left to lend, and we or a helper are idle, half of what the slowest helper has not begun is there for
    /// the taking; of one that does not reach our master, half of all it has.
    pub(super) fn steal(&mut self) {
        let swarms: BTreeSet<SwarmId> = self.aid.asked.values().map(|asked| asked.swarm).collect();
        for id in swarms {
            let Some(swarm) = self.swarms.get(&id) else {
                continue;
            };
            let here = |(_, asked): &(&HelpKey, &Asked)| {
                asked.swarm == id && asked.stage == Stage::Running
            };
            let mut running = self.aid.asked.iter().filter(here);
            let ours = swarm.fetching == 0 && !swarm.sated();
            let idle = ours || running.any(|(_, asked)| asked.loan.is_empty());
            if !idle || !swarm.lendable(0).is_empty() {
                continue;
            }
            let slowest = self
                .aid
                .asked
                .iter()
                .filter(here)
                .map(|(key, asked)| {
                    let pace = (asked.loan.pace as u64).max(1);
                    let open = asked.open().len();
                    let count = help::steals(open, asked.piece, pace);
                    (open as u64 * asked.piece / pace, count, *key)
                })
                .filter(|(_, count, _)| *count > 0)
                .max();
            let Some((_, count, key)) = slowest else {
                continue;
            };
            let Some(asked) = self.aid.asked.get(&key) else {
                continue;
            };
            let mut open = asked.open();
            let last = open.split_off(open.len().saturating_sub(count));
            self.take_from(key, last);
        }
    }
}
