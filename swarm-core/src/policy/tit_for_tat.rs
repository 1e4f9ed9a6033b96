//! Tit for tat between friends: how far help goes unsigned, how far it goes unpaid, and who comes first.
//!
//! - The *window* bounds a theft in the moment: bytes given in one help and not signed yet, [`friends_proto::ledger::window_bytes`].
//! - The *ceiling* bounds it over time: net signed (given − received) up to `friends.credit`, plus half of what was
//!   repaid, at most eight times the credit. It binds only where somebody else wants the line.
//! - With line to spare everyone is helped. Where it is scarce: friends by received against given, then acquaintances
//!   (see [`super::pool`]; they keep its refill even when friends fill the line), then whoever is over the ceiling.
//! - What a friend left unsigned in helps that are over, its *disputed* bytes, counts against the window of the next ones,
//!   until it is a quarter of what was delivered: so a thief has one window, once. When nothing is left it is refused.
//!
//! Everything is whole numbers of bytes, so that two machines agree.

use core::cmp::{Ordering, Reverse};
use friends_proto::ledger::ceiling_bytes;
use serde::{Deserialize, Serialize};

/// Refused when disputed is over one part in so many of what was delivered.
const DISPUTED_PART: u64 = 4;
/// Nobody is served with less than one part in so many of the line: it would only split it.
const LEAST_PART: u64 = 16;

/// What stands between us and one friend, bytes, over all time. All but `disputed` only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Help we gave, as far as they signed for it.
    pub given: u64,
    /// Help we had from them, as far as we signed for it.
    pub received: u64,
    /// Help we gave, signed or not.
    pub delivered: u64,
    /// Of helps that are over, what they never signed for.
    pub disputed: u64,
}

/// How close the other side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Nearness {
    /// Both added each other's code.
    Friend,
    /// They added ours (`friends.mode = "open"`).
    Acquaintance,
}

/// What they owe us, signed; nothing when we owe them.
#[must_use]
pub fn owed(standing: &Standing) -> u64 {
    standing.given.saturating_sub(standing.received)
}

/// They owe as much as they may, or more.
#[must_use]
pub fn over_ceiling(standing: &Standing, credit: u64) -> bool {
    owed(standing) >= ceiling_bytes(credit, standing.given, standing.received)
}

/// Of a window, what disputed bytes leave: all of it while they are less than a quarter of what was delivered by a
/// window; nothing when they are over both.
#[must_use]
pub fn unsigned_room(standing: &Standing, window: u64) -> u64 {
    let most = window.max(standing.delivered / DISPUTED_PART);
    most.saturating_sub(standing.disputed).min(window)
}

/// They left so much unsigned that they get no more.
//= spec/iou.md#refusal
#[must_use]
pub fn refused(standing: &Standing, window: u64) -> bool {
    unsigned_room(standing, window) == 0
}

/// Who comes first: `Less` = `a` before `b`. (received + w) / (given + disputed + w), with one window `w` on both sides,
/// so that a newcomer stands at one and the first bytes weigh little.
#[must_use]
pub fn by_merit(a: &Standing, b: &Standing, window: u64) -> Ordering {
    // Quarters, so that the products stay below 2^128 whatever the totals: each side's pair is fixed, so the order is total.
    let w = u128::from(window.max(16));
    let earned = |s: &Standing| (u128::from(s.received) + w) >> 2;
    let spent = |s: &Standing| (u128::from(s.given) + u128::from(s.disputed) + w) >> 2;
    let cross = |x: u128, y: u128| x.saturating_mul(y);
    cross(earned(b), spent(a)).cmp(&cross(earned(a), spent(b)))
}

/// One that wants the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Friend or acquaintance.
    pub nearness: Nearness,
    /// What stands between us.
    pub standing: Standing,
    /// What it would draw, bytes/s.
    pub rate: u64,
}

/// What the ranking needs of ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What the upload line carries, bytes/s.
    pub capacity: u64,
    /// Of it, what our own masters leave, bytes/s.
    pub spare: u64,
    /// `friends.window`, bytes.
    pub window: u64,
    /// `friends.credit`, bytes.
    pub credit: u64,
}

/// Whether somebody is served, or why it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Turn {
    /// Served, with this many bytes/s expected.
    Serve(u64),
    /// An acquaintance while friends fill the line: what flows into the pool, and no more.
    Trickle,
    /// Others come first, and the line is full.
    Rank,
    /// It owes more than it may while others want the line.
    Ceiling,
    /// It left too much unsigned.
    Refused,
}

/// The order in which the line is given out: indices into `wants`, best first.
#[must_use]
pub fn order(line: &Line, wants: &[Want]) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..wants.len()).collect();
    let key = |want: &Want| {
        let over = want.nearness == Nearness::Friend && over_ceiling(&want.standing, line.credit);
        (over, want.nearness)
    };
    ranked.sort_by(|a, b| {
        let (Some(x), Some(y)) = (wants.get(*a), wants.get(*b)) else {
            return Ordering::Equal;
        };
        key(x)
            .cmp(&key(y))
            .then_with(|| by_merit(&x.standing, &y.standing, line.window))
            .then(a.cmp(b))
    });
    ranked
}

/// Whose turn it is, one answer per want in the order given.
#[must_use]
//= spec/friends.md#credit-ceiling
pub fn turns(line: &Line, wants: &[Want]) -> Vec<Turn> {
    let mut answers = vec![Turn::Rank; wants.len()];
    let mut rest = line.spare;
    let least = (line.capacity / LEAST_PART).max(1);
    for index in order(line, wants) {
        let (Some(want), Some(answer)) = (wants.get(index), answers.get_mut(index)) else {
            continue;
        };
        *answer = if refused(&want.standing, line.window) {
            Turn::Refused
        } else if rest >= least {
            let part = want.rate.min(rest);
            rest -= part;
            Turn::Serve(part)
        } else if want.nearness == Nearness::Friend && over_ceiling(&want.standing, line.credit) {
            Turn::Ceiling
        } else if want.nearness == Nearness::Acquaintance {
            Turn::Trickle
        } else {
            Turn::Rank
        };
    }
    answers
}

/// Whom to ask first, smallest first: who owes us most, then whom we owe least.
#[must_use]
pub fn asked_first(standing: &Standing) -> (Reverse<u64>, u64) {
    (
        Reverse(owed(standing)),
        standing.received.saturating_sub(standing.given),
    )
}

#[cfg(test)]
mod tests;
