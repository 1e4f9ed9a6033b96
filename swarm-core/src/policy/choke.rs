//! Whom we serve. Slots follow the rate; a slot goes where the byte does most.
//!
//! A repeater's peers ask only for what was announced to them, so a slot costs little; slots are counted to keep each
//! served peer at a useful rate (about 48 KiB/s, four at least). Order: the peer feeds us (tit for tat), what
//! it lacks of what we hold, whether it spreads it on (fewer pieces had, more to give onwards), and how long it waited
//! (fairness over time: waiting wins in the end).
//!
//! Who fetches for a master or a friend is paid by the swarm for what it gives: then it is tit for tat as BEP 3 has it. What
//! feeds us most comes first, in as many slots as what is left of the line makes worth having, and the last slot is for
//! whoever waited longest. (Simulated, a friends' flash crowd: served in turn, each 30 leechers saw too little
//! of us to give anything back.)

use core::time::Duration;

/// A slot per so many bytes/s of the line.
const SLOT_RATE: u64 = 48 << 10;
/// Least and most slots.
const SLOTS: (u64, u64) = (4, 200);

/// Least part of the line that counts for trade, whatever masters and guests draw: one in so many.
const TRADE_PART: u64 = 4;

/// A peer with nothing asked for so long may need a word.
const QUIET: Duration = Duration::from_millis(100);
/// Between two such words.
const BETWEEN: Duration = Duration::from_millis(200);

/// An interested peer that is unchoked and lacks what was announced to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemindFacts {
    /// It has asked for nothing for so long.
    pub quiet: Duration,
    /// It was last told that it may, so long ago.
    pub told: Duration,
}

/// Whether to say the unchoke anew. Where all that it lacked
/// was on its way from others, libtorrent's queue with us runs empty, and a HAVE alone does not soon fill it again. Seen in
/// rig E4: 1.8 s from a HAVE to its first block at the median and 5 to 8 s at the 90th percentile, 2.2 s with the reminder.
#[must_use]
pub fn says_again(facts: RemindFacts) -> bool {
    facts.quiet >= QUIET && facts.told >= BETWEEN
}

/// One interested peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChokeFacts {
    /// What it gave us lately, bytes/s.
    pub feeds: f64,
    /// Bytes announced to it that it lacks.
    pub wants: u64,
    /// Piece length, bytes.
    pub piece: u64,
    /// Time since it was last served or, never served, since it came.
    pub waited: Duration,
    /// It is unchoked now: no needless turning.
    pub unchoked: bool,
}

/// The slots of a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// So many, where a byte does most.
    Gift(usize),
    /// So many, for what is given back.
    Trade(usize),
}

impl Slots {
    /// How many.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Gift(count) | Self::Trade(count) => count,
        }
    }
}

/// Slots on a line of `capacity` bytes/s.
#[must_use]
pub fn gift(capacity: u64) -> Slots {
    let slots = (capacity / SLOT_RATE).clamp(SLOTS.0, SLOTS.1);
    Slots::Gift(usize::try_from(slots).unwrap_or(usize::MAX))
}

/// Slots while we fetch for a master or a friend, on a line of `capacity` bytes/s of which masters and guests draw `elsewhere`. Two at least:
/// one for who gives most, one for who waited longest.
#[must_use]
pub fn trade(capacity: u64, elsewhere: u64) -> Slots {
    let rest = capacity
        .saturating_sub(elsewhere)
        .max(capacity / TRADE_PART);
    let slots = rest.saturating_add(SLOT_RATE / 2) / SLOT_RATE;
    Slots::Trade(usize::try_from(slots.clamp(2, SLOTS.1)).unwrap_or(usize::MAX))
}

/// Who gets the slots: indices into `facts`, best first; as many as there are slots are to be unchoked.
#[must_use]
pub fn order(facts: &[ChokeFacts], slots: Slots) -> Vec<usize> {
    let (trades, last) = match slots {
        Slots::Gift(_) => (false, usize::MAX),
        Slots::Trade(count) => (true, count.saturating_sub(1)),
    };
    let mut ranked: Vec<(f64, f64, usize)> = facts
        .iter()
        .enumerate()
        .map(|(at, peer)| (if trades { peer.feeds } else { 0.0 }, score(peer), at))
        .collect();
    ranked.sort_by(|a, b| {
        let best = b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1));
        best.then(a.2.cmp(&b.2))
    });
    let mut order: Vec<usize> = ranked.into_iter().map(|(_, _, at)| at).collect();
    if last < order.len() {
        let mut rest = order.split_off(last);
        let waited = |at: &usize| facts.get(*at).map(|peer| peer.waited);
        let longest = (0..rest.len())
            .rev()
            .max_by_key(|i| rest.get(*i).and_then(waited));
        if let Some(longest) = longest {
            order.push(rest.remove(longest));
        }
        order.append(&mut rest);
    }
    order
}

/// The higher, the sooner it is unchoked.
#[must_use]
pub fn score(facts: &ChokeFacts) -> f64 {
    let feeds = (facts.feeds / 16_384.0).min(4.0);
    let wants = (facts.wants as f64 / facts.piece.max(1) as f64).min(4.0);
    let waited = facts.waited.as_secs_f64() / 10.0;
    feeds
        + wants
        + waited
        + if facts.unchoked && facts.wants > 0 {
            1.0
        } else {
            0.0
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ChokeFacts = ChokeFacts {
        feeds: 0.0,
        wants: 100,
        piece: 100,
        waited: Duration::ZERO,
        unchoked: false,
    };

    #[test]
    fn traders_are_served_by_what_they_give_and_one_by_how_long_it_waited() {
        let fed = |feeds, waited| ChokeFacts {
            feeds,
            waited: Duration::from_secs(waited),
            ..PEER
        };
        let peers = [fed(1e3, 90), fed(9e3, 0), fed(5e3, 0), fed(0.0, 100)];
        assert_eq!(order(&peers, Slots::Trade(3)), [1, 2, 3, 0]);
        assert_eq!(order(&peers, Slots::Trade(8)), [1, 2, 0, 3]);
        assert_eq!(order(&peers, Slots::Gift(3))[..2], [3, 0]);
    }

    #[test]
    fn trade_has_the_slots_that_masters_leave() {
        let count = |capacity, elsewhere| trade(capacity, elsewhere).count();
        assert_eq!(count(256 << 10, 0), 5);
        assert_eq!(count(256 << 10, 128 << 10), 3);
        assert_eq!(count(2 << 20, 2 << 20), 11);
        assert_eq!((count(0, 0), count(u64::MAX, 0)), (2, 200));
    }

    #[test]
    fn an_unchoke_is_said_anew_to_the_quiet_and_not_all_the_time() {
        let again = |quiet, told| says_again(RemindFacts { quiet, told });
        assert!(again(QUIET, BETWEEN));
        assert!(!again(QUIET / 2, BETWEEN) && !again(QUIET, BETWEEN / 2));
    }

    #[test]
    fn slots_follow_the_line() {
        assert_eq!(gift(0), Slots::Gift(4));
        assert!(gift(2 << 20).count() >= 8);
        assert_eq!(gift(u64::MAX), Slots::Gift(200));
    }

    #[test]
    fn feeders_and_the_needy_first_but_waiting_wins_in_the_end() {
        assert!(
            score(&ChokeFacts {
                feeds: 50_000.0,
                ..PEER
            }) > score(&PEER)
        );
        assert!(score(&ChokeFacts { wants: 300, ..PEER }) > score(&PEER));
        let waited = ChokeFacts {
            waited: Duration::from_secs(120),
            ..PEER
        };
        assert!(
            score(&waited)
                > score(&ChokeFacts {
                    feeds: 1e9,
                    wants: 10_000,
                    unchoked: true,
                    ..PEER
                })
        );
    }
}
