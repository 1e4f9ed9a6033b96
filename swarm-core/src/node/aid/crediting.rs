//! What a helper is credited with, and when we sign for it. The rule is in [`crate::policy::witness`].

use crate::io::friends::{
    FriendDefence, FriendId, FriendsNote, FriendsOutput, HelpId, HelpMessage, MasterPeer,
    WitnessKind,
};
use crate::io::{Contributor, MasterId, SwarmId};
use crate::node::Node;
use crate::node::aid::asking::Asked;
use crate::node::aid::{Aid, Friend};
use crate::node::errands::HelpKey;
use crate::policy::help;
use crate::policy::witness::{self, Evidence};
use crate::swarm::Swarm;
use crate::time::Timestamp;
use friends_proto::ledger::window_bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Largest total that can be signed: 2^63 − 1.
const TOTAL_MAX: u64 = i64::MAX.unsigned_abs();

/// Evidence and credit of one help, bytes.
#[derive(Debug)]
pub(super) struct Credit {
    kind: WitnessKind,
    /// Reserved, and with the master now.
    there: u64,
    /// What the master's RPC showed to come from the helper.
    seen: u64,
    /// Blocks that we had from the helper ourselves, in pieces whose hash was right.
    relayed: u64,
    relayed_pieces: BTreeSet<u32>,
    /// That it relays was noted.
    relay_noted: bool,
    last: BTreeMap<SocketAddr, u64>,
    looked: Option<Timestamp>,
    credited: u64,
    claims: u64,
}

impl Credit {
    pub(super) fn new(kind: WitnessKind) -> Self {
        Self {
            kind,
            there: 0,
            seen: 0,
            relayed: 0,
            relayed_pieces: BTreeSet::new(),
            relay_noted: false,
            last: BTreeMap::new(),
            looked: None,
            credited: 0,
            claims: 0,
        }
    }

    /// There is something to look at.
    pub(super) fn watches(&self) -> bool {
        self.kind != WitnessKind::None
    }

    pub(super) fn credited(&self) -> u64 {
        self.credited
    }

    /// What the helper says it delivered.
    pub(super) fn claims(&self) -> u64 {
        self.claims
    }

    pub(super) fn claim(&mut self, bytes: u64) {
        self.claims = self.claims.max(bytes);
    }

    fn due(&self, piece: u64) -> u64 {
        let evidence = match self.kind {
            WitnessKind::None => Evidence::None,
            WitnessKind::Bytes => Evidence::Counted(self.seen),
            WitnessKind::Rates => Evidence::Rates(self.seen, piece),
        };
        witness::credit(self.there, evidence).saturating_add(self.relayed)
    }

    /// One look at the master: what these peers, all of them the helper, gave since the last one.
    fn look(&mut self, now: Timestamp, peers: &[MasterPeer]) {
        let first = self.looked.is_none();
        let since = self.looked.map(|at| now.since(at)).unwrap_or_default();
        self.looked = Some(now);
        for peer in peers {
            let fresh = match self.kind {
                WitnessKind::None => 0,
                WitnessKind::Rates => witness::integral(peer.value, since),
                WitnessKind::Bytes => {
                    let last = self.last.insert(peer.addr, peer.value);
                    // What it had given before the help began is no help.
                    let base = if first { peer.value } else { 0 };
                    witness::grown(last.unwrap_or(base), peer.value)
                }
            };
            self.seen = self.seen.saturating_add(fresh);
        }
    }
}

impl Friend {
    /// We owe it so much more, for this help.
    fn owe(&mut self, now: Timestamp, bytes: u64, help: Option<HelpId>) {
        if self.unsigned == 0 {
            self.unsigned_for = help;
            self.unsigned_since = now;
        }
        self.unsigned = self.unsigned.saturating_add(bytes);
    }
}

impl Aid {
    /// A piece passed its hash: blocks of it that we asked a helper for count as relayed, each for who brought it. It does
    /// not matter whether the master got the piece from elsewhere meanwhile, nor whether the help still runs.
    //= spec/friends.md#credit-relayed
    pub(in crate::node) fn relayed(
        &mut self,
        now: Timestamp,
        swarm: &Swarm,
        piece: u32,
        from: &[Contributor],
    ) {
        let size = swarm
            .layout
            .map_or(0, |layout| layout.piece_size(piece).into());
        let mut brought: BTreeMap<FriendId, u64> = BTreeMap::new();
        for giver in from.iter().filter(|giver| giver.bytes > 0) {
            if let Some(friend) = self.relayer(swarm, piece, giver) {
                *brought.entry(friend).or_default() += u64::from(giver.bytes);
            }
        }
        for (id, bytes) in brought {
            let theirs =
                |(key, asked): &(&HelpKey, &mut Asked)| (key.0, asked.swarm) == (id, swarm.id);
            if let Some((_, asked)) = self.asked.iter_mut().find(theirs) {
                if asked.credit.relayed_pieces.insert(piece) {
                    asked.credit.relayed += bytes;
                    asked.arrived = true;
                    // Once: not for having come to the master as well.
                    if asked.loan.came.remove(&piece) {
                        asked.credit.there = asked.credit.there.saturating_sub(size);
                    }
                }
            } else if let Some(friend) = self.friends.get_mut(&id) {
                friend.owe(now, bytes, None);
            }
        }
    }

    /// The friend that brought this to be handed on, if it did: it was lent the piece when it was asked for the blocks, or
    /// before that, unless it was taken back long ago.
    fn relayer(&self, swarm: &Swarm, piece: u32, giver: &Contributor) -> Option<FriendId> {
        let asked_for = || {
            let active = swarm.active.get(&piece)?;
            active.relays.get(&giver.conn).copied()
        };
        let reserved_once = || {
            let friend = *swarm.aid.links.get(&giver.conn)?;
            let theirs =
                |(key, asked): &(&HelpKey, &Asked)| (key.0, asked.swarm) == (friend, swarm.id);
            let (_, asked) = self.asked.iter().find(theirs)?;
            asked.loan.answers_for(piece).then_some(friend)
        };
        asked_for().or_else(reserved_once)
    }

    /// Whose this peer of a master's is: an endpoint where we completed a session, or an address that a session comes
    /// from. Never an address that a helper only names, nor, but for the endpoint, one that is ours as well.
    fn owner(&self, here: &[HelpKey], addr: SocketAddr) -> Option<HelpKey> {
        let online = |key: &&HelpKey| {
            let friend = self.friends.get(&key.0)?;
            friend.online.as_ref()
        };
        let exact = |key: &&HelpKey| online(key).is_some_and(|on| on.reached.contains(&addr));
        let ours = self.reach.iter().any(|own| own.ip() == addr.ip());
        let near = |key: &&HelpKey| {
            let from = |ip: IpAddr| ip.to_canonical() == addr.ip().to_canonical();
            let at =
                |on: &super::Presence| from(on.ip) || on.reached.iter().any(|end| from(end.ip()));
            !ours && online(key).is_some_and(at)
        };
        here.iter()
            .find(exact)
            .or_else(|| here.iter().find(near))
            .copied()
    }
}

impl Node {
    /// A look at a master's peers. Each counts for one helper at most. What it proves is signed for at once where that is
    /// due: the helper's window waits for it.
    pub(super) fn saw_peers(&mut self, swarm: SwarmId, master: MasterId, peers: &[MasterPeer]) {
        let now = self.desk.now;
        let here: Vec<HelpKey> = self
            .aid
            .asked
            .iter()
            .filter(|(_, asked)| (asked.swarm, asked.master) == (swarm, master))
            .map(|(key, _)| *key)
            .collect();
        let mut split: BTreeMap<HelpKey, Vec<MasterPeer>> =
            here.iter().map(|key| (*key, Vec::new())).collect();
        for peer in peers {
            let owner = self.aid.owner(&here, peer.addr);
            if let Some(theirs) = owner.and_then(|key| split.get_mut(&key)) {
                theirs.push(*peer);
            }
        }
        for (key, peers) in split {
            let Some(asked) = self.aid.asked.get_mut(&key) else {
                continue;
            };
            asked.credit.look(now, &peers);
            if !peers.is_empty()
                && let Some(from) = asked.claimed_arrival.take()
            {
                self.confirm(key, from);
            }
            self.credit_there(key);
        }
        self.sign_due();
    }

    /// Once a second: which reserved pieces the master has by now, and what that is worth.
    //= spec/friends.md#credit-once
    pub(super) fn credit_there(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&asked.swarm) else {
            return;
        };
        let (Some(layout), Some(have)) = (
            swarm.layout,
            swarm
                .links
                .get(&asked.master)
                .and_then(|link| link.have.as_ref()),
        ) else {
            return;
        };
        let loan = &mut asked.loan;
        let lapsed = loan.lapsed.keys().filter(|piece| loan.held.contains(piece));
        let came: Vec<u32> = loan
            .reserved
            .iter()
            .chain(lapsed)
            .copied()
            .filter(|piece| have.get(*piece))
            .collect();
        for piece in &came {
            let size = u64::from(layout.piece_size(*piece));
            loan.reserved.remove(piece);
            loan.lapsed.remove(piece);
            loan.held.remove(piece);
            loan.gained(size);
            // What comes to us of it is credited as relayed, once.
            let relays = swarm.relays(key.0, *piece);
            if !relays && !asked.credit.relayed_pieces.contains(piece) {
                asked.credit.there += size;
                loan.came.insert(*piece);
            }
        }
        if !came.is_empty() {
            asked.busy = now;
            swarm.unlend(key.0, came);
        }
        let due = asked.credit.due(asked.piece);
        let fresh = due.saturating_sub(asked.credit.credited);
        if fresh == 0 {
            return;
        }
        asked.credit.credited = due;
        asked.loan.moved(now);
        let relays = asked.credit.relayed > 0;
        if relays && !core::mem::replace(&mut asked.credit.relay_noted, true) {
            let note = FriendsNote::Relays(key.0, asked.swarm);
            self.desk.friends_note(note);
        }
        if let Some(friend) = self.aid.friends.get_mut(&key.0) {
            friend.owe(now, fresh, Some(key.1));
        }
    }

    /// Signs for what is due, once each friend's last signature is on its way.
    //= spec/friends.md#iou-when
    //= spec/friends.md#sync-sign
    pub(super) fn sign_due(&mut self) {
        let now = self.desk.now;
        let window = self.aid.limits.window;
        let mut full = Vec::new();
        for (id, friend) in &mut self.aid.friends {
            let waits = !friend.synced() || friend.signing.is_some();
            let window = window_bytes(window, 0);
            if waits || !help::signs(friend.unsigned, window, now.since(friend.unsigned_since)) {
                continue;
            }
            let total = friend.standing.received.checked_add(friend.unsigned);
            let Some(total) = total.filter(|total| *total <= TOTAL_MAX) else {
                full.push(*id);
                continue;
            };
            friend.signing = Some(total);
            let help = friend.unsigned_for;
            self.desk.friends(FriendsOutput::Sign(*id, total, help));
        }
        for friend in full {
            if let Some(friend) = self.aid.friends.get_mut(&friend) {
                friend.unsigned = 0;
            }
            self.desk.friend_fired(friend, FriendDefence::TotalFull);
        }
    }

    /// The signature is durable and on its way.
    pub(super) fn signed(&mut self, id: FriendId, total: u64) {
        let now = self.desk.now;
        let Some(friend) = self.aid.friends.get_mut(&id) else {
            return;
        };
        friend.signing = None;
        let fresh = total.saturating_sub(friend.standing.received);
        friend.standing.received += fresh;
        friend.unsigned = friend.unsigned.saturating_sub(fresh);
        friend.unsigned_since = now;
    }

    /// Somebody that came to the helper is our master.
    pub(super) fn confirm(&mut self, key: HelpKey, from: SocketAddr) {
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return;
        };
        // Told once for each help: a master that comes again is no news.
        if !core::mem::replace(&mut asked.arrived, true) {
            let note = FriendsNote::Arrived(key.0, asked.swarm, from);
            self.desk.friends_note(note);
        }
        self.send(key.0, HelpMessage::Arrived { id: key.1, from });
    }
}
