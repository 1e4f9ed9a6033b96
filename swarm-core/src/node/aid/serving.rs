//! The helper's second by second: what went out, whose turn it is, how much more may go before it is signed for.

use crate::io::ConnId;
use crate::io::friends::{FriendDefence, FriendId, FriendsOutput, HelpId, HelpMessage, StopReason};
use crate::node::Node;
use crate::node::errands::HelpKey;
use crate::policy::delivery::{self, Delivery};
use crate::policy::help;
use crate::policy::tit_for_tat::{self, Line, Nearness, Turn, Want};
use core::time::Duration;
use friends_proto::ledger::window_bytes;

use super::helping::Help;

/// Part of the line that counts as full.
const FULL: f64 = 0.85;
/// Seconds that a guest has to fill the line before what it draws is taken for what it wants.
const SETTLED: u32 = 10;
/// Against the window for so long, the help ends: the friend does not sign.
const UNPAID: Duration = Duration::from_secs(60);
/// Against it for so long, that is worth a word: signatures take a moment.
const STUCK: Duration = Duration::from_secs(5);
/// The friend hears how far a help is at least so often.
const TELLS: Duration = Duration::from_secs(10);
/// With nothing reserved for so long, the help ends.
const FORGOTTEN: Duration = Duration::from_secs(300);

impl Help {
    /// What it would draw if it could: at first all that was offered. On a line that is not full it draws what it can. On a
    /// full one it may want more than it gets: if it takes all that it was thought to want, or its part, a quarter more.
    fn reckon(&mut self, full: bool, part: f64) {
        let (served, most) = (&mut self.served, self.rate as f64);
        let serves = matches!(served.turn, Some(Turn::Serve(_)));
        if !serves || self.guest.is_none() {
            served.seconds = 0;
            return;
        }
        served.seconds += 1;
        if !full && served.seconds > SETTLED {
            served.want += (served.rate * 1.25 - served.want) * 0.1;
        } else if full && served.rate >= served.want.min(part) * 0.9 {
            served.want *= 1.25;
        }
        served.want = served.want.clamp(most / 16.0, most);
    }
}

impl Node {
    /// The line as friends see it.
    pub(super) fn line(&self) -> Line {
        let to_masters: f64 = self
            .swarms
            .values()
            .flat_map(|swarm| swarm.master_conns.iter().filter_map(|c| swarm.peers.get(c)))
            .map(|master| master.up.rate)
            .sum();
        let capacity = self.desk.capacity();
        Line {
            capacity: capacity as u64,
            spare: (capacity - to_masters).max(0.0) as u64,
            window: self.aid.limits.window,
            credit: self.aid.limits.credit,
        }
    }

    /// Who draws on the line, and how much it would: nothing before its guest came.
    pub(super) fn wants(&self) -> (Vec<HelpKey>, Vec<Want>) {
        let running = self
            .aid
            .helps
            .iter()
            .filter(|(_, help)| help.begun.is_some());
        let want = |(key, help): (&HelpKey, &Help)| {
            let friend = self.aid.friends.get(&key.0)?;
            let rate = if help.guest.is_some() {
                help.served.want as u64
            } else {
                0
            };
            let want = Want {
                nearness: friend.nearness,
                standing: friend.at_risk(),
                rate: rate.max(1),
            };
            Some((*key, want))
        };
        running.filter_map(want).unzip()
    }

    /// Once a second, for all helps that we give.
    pub(super) fn tick_helps(&mut self) {
        let now = self.desk.now;
        self.aid.pool.refill(now, self.desk.capacity() as u64);
        let full = self.desk.up.rate >= self.desk.capacity() * FULL;
        let drawing = self
            .aid
            .helps
            .values()
            .filter(|help| help.served.seconds > 0);
        let part = self.desk.capacity() / drawing.count().max(1) as f64;
        let keys: Vec<HelpKey> = self.aid.helps.keys().copied().collect();
        for key in &keys {
            self.place(*key);
            self.count_served(*key);
            if let Some(help) = self.aid.helps.get_mut(key) {
                let fresh = help.served.delivered - help.served.last_bytes;
                help.served.last_bytes = help.served.delivered;
                help.served.rate += (fresh as f64 - help.served.rate) * 0.2;
                help.reckon(full, part);
            }
        }
        self.take_turns();
        for key in keys {
            self.adopt(key);
            self.relay_for(key);
            self.dial_for(key);
            self.allow(key);
            self.say_progress(key);
            self.say_fetching(key);
            self.end_stale(key);
        }
        self.settle_old();
    }

    pub(super) fn take_turns(&mut self) {
        let (keys, wants) = self.wants();
        let line = self.line();
        let turns = tit_for_tat::turns(&line, &wants);
        for (place, index) in tit_for_tat::order(&line, &wants).into_iter().enumerate() {
            let Some((key, turn)) = keys.get(index).zip(turns.get(index)) else {
                continue;
            };
            let swarm = self.aid.helps.get(key).and_then(|help| help.swarm);
            if let Some(swarm) = swarm.and_then(|id| self.swarms.get_mut(&id)) {
                let served = matches!(turn, Turn::Serve(_) | Turn::Trickle);
                swarm.put_in_place(*key, served.then_some(place));
            }
        }
        for (key, turn) in keys.into_iter().zip(turns) {
            let Some(help) = self.aid.helps.get_mut(&key) else {
                continue;
            };
            let was = help.served.turn.replace(turn);
            let waits = !matches!(turn, Turn::Serve(_));
            let waited = was.is_some_and(|was| !matches!(was, Turn::Serve(_)));
            if waits && !waited {
                self.desk.friend_fired(key.0, FriendDefence::Waits(turn));
            }
        }
    }

    /// Counts what went to the guest.
    pub(super) fn count_served(&mut self, key: HelpKey) {
        let gone = core::mem::take(&mut self.desk.gone_guests);
        for (conn, bytes) in gone {
            self.guest_left(conn, bytes);
        }
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        let guest = help.swarm.and_then(|id| {
            let swarm = self.swarms.get(&id)?;
            swarm.peers.get(&swarm.aid.given.get(&key)?.conn?)
        });
        let delivered = help.served.before
            + guest.map_or(0, |peer| peer.up.total.saturating_sub(help.served.skipped));
        let fresh = delivered.saturating_sub(help.served.delivered);
        help.served.delivered += fresh;
        if let Some(friend) = self.aid.friends.get_mut(&key.0) {
            friend.standing.delivered = friend.standing.delivered.saturating_add(fresh);
            let paid = friend.ahead.min(fresh);
            friend.ahead -= paid;
            help.served.signed += paid;
        }
    }

    /// A guest's connection is gone: what it had stays counted, and its help waits for it to come again.
    fn guest_left(&mut self, conn: ConnId, bytes: u64) {
        let left = self
            .aid
            .helps
            .values_mut()
            .find(|help| help.guest == Some(conn));
        if let Some(help) = left {
            help.served.before += bytes.saturating_sub(help.served.skipped);
            (help.guest, help.from, help.confirmed) = (None, None, false);
        }
    }

    /// All helps of one friend share its window: how many there are, and the bytes that the others had unsigned or may
    /// still ask for.
    fn with_this_friend(&self, key: HelpKey) -> (u64, u64) {
        let of = |(other, help): &(&HelpKey, &Help)| other.0 == key.0 && help.begun.is_some();
        let (mut together, mut elsewhere) = (0, 0u64);
        for (other, help) in self.aid.helps.iter().filter(of) {
            together += 1;
            if *other != key {
                let swarm = help.swarm.and_then(|id| self.swarms.get(&id));
                let pending = swarm.map_or(0, |swarm| swarm.pending_in(*other));
                elsewhere = elsewhere.saturating_add(help.served.unsigned() + pending);
            }
        }
        (together.max(1), elsewhere)
    }

    /// Says anew how much may stand announced to the guest and not sent: within the window, and the pool.
    //= spec/iou.md#window-pause
    pub(super) fn allow(&mut self, key: HelpKey) {
        self.count_served(key);
        let now = self.desk.now;
        let (together, elsewhere) = self.with_this_friend(key);
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        let Some(id) = help.swarm else { return };
        let Some(friend) = self.aid.friends.get(&key.0) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        let Some(conn) = swarm.aid.given.get(&key).and_then(|errand| errand.conn) else {
            return;
        };
        let sent = swarm.peers.get(&conn).map_or(0, |peer| peer.up.total);
        let served = &mut help.served;
        let window = window_bytes(self.aid.limits.window, served.rate as u64).max(help.piece);
        let all = tit_for_tat::unsigned_room(&friend.at_risk(), window);
        let room = all.saturating_sub(served.unsigned() + elsewhere) / together;
        //= spec/friends.md#arrive-provisional
        let mut allow = if help.confirmed {
            room
        } else {
            room.min(help.piece.saturating_sub(served.delivered))
        };
        let trickles = served.turn == Some(Turn::Trickle);
        match served.turn {
            None | Some(Turn::Serve(_)) => {}
            Some(Turn::Trickle) => allow = allow.min(help.piece),
            Some(Turn::Rank | Turn::Ceiling | Turn::Refused) => allow = 0,
        }
        if friend.nearness == Nearness::Acquaintance {
            let lacks = (served.delivered + allow).saturating_sub(served.drawn);
            let network = friend.online.as_ref().map(|online| online.network);
            let got = network.map_or(0, |tag| {
                if trickles {
                    self.aid.pool.draw_trickle(tag, lacks)
                } else {
                    self.aid.pool.draw(tag, lacks)
                }
            });
            served.drawn += got;
            allow = allow.min(served.drawn.saturating_sub(served.delivered));
            let dry = got < lacks && allow < help.piece;
            if dry && !core::mem::replace(&mut served.pool_dry, true) {
                self.desk.friend_fired(key.0, FriendDefence::Pool);
            }
        }
        let full = room < help.piece;
        if !full {
            (served.stuck, served.stuck_noted) = (None, false);
        } else if served.stuck.is_none() {
            served.stuck = Some(now);
        }
        if let Some(errand) = swarm.aid.given.get_mut(&key) {
            errand.until = sent.saturating_add(allow);
        }
        swarm.offer(&mut self.desk, conn);
    }

    /// Relayed: the friend's own slave is the guest, and needs no confirming.
    fn relay_for(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(help) = self.aid.helps.get_mut(&key).filter(|h| h.from.is_none()) else {
            return;
        };
        let (Some(begun), Some(id)) = (help.placed, help.swarm) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        if delivery::turn(&help.ways, now.since(begun)) != Some(Delivery::Relayed) {
            return;
        }
        let link = swarm.aid.links.iter().find(|(_, friend)| **friend == key.0);
        let Some((conn, addr)) = link.and_then(|(c, _)| Some((*c, swarm.peers.get(c)?.addr)))
        else {
            return;
        };
        (help.from, help.guest, help.confirmed) = (Some(addr), Some(conn), true);
        // What it had of us before is no part of this help.
        help.served.skipped = swarm.peers.get(&conn).map_or(0, |peer| peer.up.total);
        swarm.welcome(&mut self.desk, key, conn);
    }

    /// Tells what is held and delivered since last time.
    //= spec/friends.md#progress-send
    fn say_progress(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        let Some(swarm) = help.swarm.and_then(|id| self.swarms.get_mut(&id)) else {
            return;
        };
        let pieces = swarm.aid.given.get(&key).map(|errand| &errand.pieces);
        let mut held: Vec<u32> = pieces
            .into_iter()
            .flatten()
            .copied()
            .filter(|piece| swarm.holds(*piece) && !help.served.told_held.contains(piece))
            .collect();
        held.truncate(32_768);
        help.served.told_held.extend(&held);
        let guest = help.guest.and_then(|conn| swarm.peers.get(&conn));
        let mut delivered = Vec::new();
        if let (Some(peer), Some(errand)) = (guest, swarm.aid.given.get_mut(&key)) {
            delivered.extend(errand.pieces.iter().copied().filter(|p| peer.have.get(*p)));
            for piece in &delivered {
                errand.pieces.remove(piece);
                help.served.told_held.remove(piece);
            }
        }
        let bytes = help.served.delivered;
        let news = !held.is_empty() || !delivered.is_empty() || bytes != help.served.told_bytes;
        if news || now.since(help.served.told_at) >= TELLS {
            (help.served.told_bytes, help.served.told_at) = (bytes, now);
            self.send(
                key.0,
                HelpMessage::Progress {
                    id: key.1,
                    held,
                    delivered,
                    bytes,
                },
            );
        }
    }

    fn end_stale(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        if help.begun.is_none() {
            if now.since(help.since) >= help::OFFER_EXPIRES {
                self.aid.helps.remove(&key);
            }
            return;
        }
        let idle = help
            .swarm
            .and_then(|id| self.swarms.get(&id)?.aid.given.get(&key))
            .is_none_or(|errand| errand.pieces.is_empty());
        if !idle {
            help.since = now;
        }
        let stuck = help.served.stuck.map_or(Duration::ZERO, |at| now.since(at));
        if stuck >= STUCK && !core::mem::replace(&mut help.served.stuck_noted, true) {
            self.desk.friend_fired(key.0, FriendDefence::Window);
        }
        if stuck >= UNPAID {
            self.end_help(key, Some(StopReason::Unpaid));
        } else if now.since(help.since) >= FORGOTTEN {
            self.end_help(key, Some(StopReason::Leaving));
        }
    }

    /// They signed for so much more: first for the help they name, then for the others that run, oldest first, then for those
    /// that are over, then for what was disputed; what is left, for what is delivered next, up to a window.
    //= spec/iou.md#late-payment
    pub(super) fn signed_for(&mut self, id: FriendId, mut bytes: u64, first: Option<HelpId>) {
        let scarce = self.aid.helps.values().any(|help| {
            help.served
                .turn
                .is_some_and(|turn| !matches!(turn, Turn::Serve(_)))
        });
        let Some(friend) = self.aid.friends.get_mut(&id) else {
            return;
        };
        friend.standing.given = friend.standing.given.saturating_add(bytes);
        let network = friend.online.as_ref().map(|online| online.network);
        let of = |key: &&HelpKey| key.0 == id;
        let mut keys: Vec<HelpKey> = self.aid.helps.keys().filter(of).copied().collect();
        keys.sort_by_key(|key| (Some(key.1) != first, *key));
        for key in keys {
            self.count_served(key);
            if let Some(help) = self.aid.helps.get_mut(&key) {
                let part = bytes.min(help.served.unsigned());
                help.served.signed += part;
                bytes -= part;
                if let Some(tag) = network.filter(|_| !scarce && help.served.drawn > 0) {
                    self.aid.pool.put_back(tag, part);
                }
            }
            self.allow(key);
        }
        let Some(friend) = self.aid.friends.get_mut(&id) else {
            return;
        };
        for (_, left) in &mut friend.unsettled {
            let part = bytes.min(*left);
            *left -= part;
            bytes -= part;
        }
        friend.unsettled.retain(|(_, left)| *left > 0);
        let part = bytes.min(friend.standing.disputed);
        friend.standing.disputed -= part;
        let ahead = friend.ahead.saturating_add(bytes - part);
        friend.ahead = ahead.min(self.aid.limits.window);
    }

    /// What was not signed for in time is disputed; what is to be remembered is kept.
    //= spec/iou.md#disputed
    fn settle_old(&mut self) {
        let now = self.desk.now;
        let mut disputes = Vec::new();
        for (id, friend) in &mut self.aid.friends {
            let due = friend.unsettled.iter().filter(|(at, _)| *at <= now);
            let bytes: u64 = due.map(|(_, bytes)| *bytes).sum();
            friend.unsettled.retain(|(at, _)| *at > now);
            if bytes > 0 {
                friend.standing.disputed = friend.standing.disputed.saturating_add(bytes);
                disputes.push((*id, bytes));
            }
            let kept = (friend.standing.delivered, friend.standing.disputed);
            if kept.1 != friend.kept.1 || kept.0 >= friend.kept.0.saturating_add(64 << 20) {
                friend.kept = kept;
                self.desk.friends(FriendsOutput::Keep(*id, kept.0, kept.1));
            }
        }
        for (id, bytes) in disputes {
            self.desk.friend_fired(id, FriendDefence::Disputed(bytes));
        }
    }
}
