//! Pieces that a helper could begin at once are its own before those that it only has reserved: in a young swarm it takes what
//! whoever lets it in has. (Plan *friends-flash-crowd*, 6 and 10 friends, means of 16 seeds: 180 and 170 s without, 168 and
//! 153 s with. Without, 2.2 of 5.2 peers that let a helper in had nothing to bring of what was reserved with it.)

use crate::io::friends::HelpMessage;
use crate::node::Node;
use crate::node::errands::HelpKey;
use crate::policy::help;
use std::collections::BTreeMap;

use super::asking::{Asked, Stage};
use super::lending::Loan;

impl Loan {
    /// Nothing of it is there, nor under way.
    fn untouched(&self, piece: u32) -> bool {
        !self.fetching.contains(&piece) && !self.held.contains(&piece)
    }
}

impl Node {
    /// Tells what we fetch in this help and what we could begin, when there is something new in it.
    //= spec/friends.md#fetching-send
    pub(super) fn say_fetching(&mut self, key: HelpKey) {
        let now = self.desk.now;
        let Some(help) = self.aid.helps.get_mut(&key) else {
            return;
        };
        let Some(swarm) = help.swarm.and_then(|id| self.swarms.get(&id)) else {
            return;
        };
        let fetching = swarm.errand_fetching(key);
        let next = swarm.errand_next(now, key);
        if next.is_empty() && fetching == help.served.told_fetching {
            return;
        }
        help.served.told_fetching.clone_from(&fetching);
        let message = HelpMessage::Fetching {
            id: key.1,
            now: fetching.into_iter().collect(),
            next: next.into_iter().collect(),
        };
        self.send(key.0, message);
    }

    /// The helper says what it is at, and what it could begin: of that it gets what is free, and what others have not begun.
    //= spec/friends.md#grant-untouched
    pub(super) fn fetching(&mut self, key: HelpKey, at: Vec<u32>, next: &[u32]) {
        let Some(asked) = self.aid.asked.get_mut(&key) else {
            return self.out_of_turn(key);
        };
        if asked.stage != Stage::Running {
            return;
        }
        let loan = &mut asked.loan;
        loan.fetching = at.into_iter().collect();
        let most = usize::try_from(asked.limit() / asked.piece.max(1)).unwrap_or(usize::MAX);
        let mut grants = self.grantable(key, next);
        grants.truncate(most);
        self.make_way(key, most - grants.len());
        let free = self
            .aid
            .asked
            .get(&key)
            .map_or(0, |asked| most.saturating_sub(asked.loan.reserved.len()));
        grants.truncate(free);
        let mut taken: BTreeMap<HelpKey, Vec<u32>> = BTreeMap::new();
        for (piece, holder) in &grants {
            if let Some(holder) = holder {
                taken.entry(*holder).or_default().push(*piece);
            }
        }
        for (holder, pieces) in taken {
            self.take_from(holder, pieces);
        }
        self.hand(key, grants.into_iter().map(|(piece, _)| piece).collect());
    }

    /// Of these pieces those that this helper may have, and from whom.
    fn grantable(&self, key: HelpKey, next: &[u32]) -> Vec<(u32, Option<HelpKey>)> {
        let swarm = self
            .aid
            .asked
            .get(&key)
            .and_then(|asked| self.swarms.get(&asked.swarm));
        let Some(swarm) = swarm else {
            return Vec::new();
        };
        let here = |asked: &Asked| asked.swarm == swarm.id && asked.stage == Stage::Running;
        let may = |piece: u32| {
            let ours = swarm.active.contains_key(&piece) && !swarm.stalled(piece);
            if !swarm.master_lacks(piece) || ours {
                return None;
            }
            let Some(lender) = swarm.aid.lent.get(&piece) else {
                return Some((piece, None));
            };
            let mut others = self
                .aid
                .asked
                .iter()
                .filter(|(other, asked)| other.0 == *lender && here(asked));
            let (holder, asked) = others.find(|(_, asked)| asked.loan.reserved.contains(&piece))?;
            (*holder != key && asked.loan.untouched(piece)).then_some((piece, Some(*holder)))
        };
        next.iter()
            .take(help::NAMED)
            .filter_map(|piece| may(*piece))
            .collect()
    }

    /// Takes so much of what a helper has not begun back that no more than `most` pieces stand.
    fn make_way(&mut self, key: HelpKey, most: usize) {
        let Some(asked) = self.aid.asked.get(&key) else {
            return;
        };
        let loan = &asked.loan;
        let over = loan.reserved.len().saturating_sub(most);
        let untouched = loan
            .reserved
            .iter()
            .rev()
            .copied()
            .filter(|piece| loan.untouched(*piece));
        let back: Vec<u32> = untouched.take(over).collect();
        self.take_from(key, back);
    }
}
