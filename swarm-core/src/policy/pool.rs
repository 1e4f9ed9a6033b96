//! What all acquaintances have together: one pool of bytes, so that a thousand fresh keys are worth no more than one.
//!
//! Every byte to an acquaintance is drawn from the pool before it goes. The pool holds at most `friends.open_pool`, and
//! is refilled at 1 % of the line. One network (/24 of IPv4, /56 of IPv6) has at most a sixteenth of it, and of the
//! refill. While friends fill the line only the refill may be drawn. What was drawn and signed for while nobody else wanted the line goes back: the line was to spare.

use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Part of the line that refills it: one in so many.
const REFILL_PART: u64 = 100;
/// A network's part of the pool: one in so many.
const NETWORK_PART: u64 = 16;
/// Networks remembered while their own part is not full. When there are more, newcomers get nothing.
pub const NETWORKS: usize = 4096;

/// The network of an acquaintance, as the shell numbers it: equal for two addresses of one /24 or /56.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct NetworkTag(pub u64);

/// The pool.
#[derive(Clone, Debug)]
pub struct Pool {
    cap: u64,
    whole: Level,
    /// Of what flowed in, what may be drawn while friends fill the line.
    trickle: Level,
    networks: BTreeMap<NetworkTag, Level>,
    refused: u64,
}

/// A bucket: what is in it, and since when.
#[derive(Clone, Copy, Debug)]
struct Level {
    bytes: u64,
    /// Of the next byte, in byte × microseconds.
    part: u64,
    at: Timestamp,
}

impl Level {
    fn refill(&mut self, now: Timestamp, rate: u64, cap: u64) {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        let drops = u128::from(rate) * u128::from(micros) + u128::from(self.part);
        let bytes = u64::try_from(drops / 1_000_000).unwrap_or(u64::MAX);
        self.part = u64::try_from(drops % 1_000_000).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(bytes).min(cap);
        if self.bytes == cap {
            self.part = 0;
        }
    }
}

impl Pool {
    /// A full pool of so many bytes.
    #[must_use]
    pub fn new(cap: u64, now: Timestamp) -> Self {
        let whole = Level {
            bytes: cap,
            part: 0,
            at: now,
        };
        Self {
            cap,
            whole,
            trickle: Level { bytes: 0, ..whole },
            networks: BTreeMap::new(),
            refused: 0,
        }
    }

    /// A new size, from a reload: what is in it stays, up to that.
    pub fn resize(&mut self, cap: u64) {
        self.cap = cap;
        self.whole.bytes = self.whole.bytes.min(cap);
        self.trickle.bytes = self.trickle.bytes.min(cap);
        for level in self.networks.values_mut() {
            level.bytes = level.bytes.min(cap / NETWORK_PART);
        }
    }

    /// Time passes on a line of `capacity` bytes/s.
    pub fn refill(&mut self, now: Timestamp, capacity: u64) {
        let rate = capacity / REFILL_PART;
        let share = self.cap / NETWORK_PART;
        self.whole.refill(now, rate, self.cap);
        self.trickle.refill(now, rate, self.cap);
        self.networks.retain(|_, level| {
            level.refill(now, rate / NETWORK_PART, share);
            level.bytes < share
        });
    }

    /// What an acquaintance of this network could draw now.
    #[must_use]
    pub fn room(&self, network: NetworkTag) -> u64 {
        let share = self.cap / NETWORK_PART;
        let own = match self.networks.get(&network) {
            Some(level) => level.bytes,
            None if self.networks.len() >= NETWORKS => 0,
            None => share,
        };
        own.min(self.whole.bytes)
    }

    /// Takes up to `bytes` out; how much it was.
    //= spec/friends.md#credit-pool
    pub fn draw(&mut self, network: NetworkTag, bytes: u64) -> u64 {
        let taken = bytes.min(self.room(network));
        if taken < bytes {
            self.refused += 1;
        }
        if taken == 0 {
            return 0;
        }
        let at = self.whole.at;
        let full = Level {
            bytes: self.cap / NETWORK_PART,
            part: 0,
            at,
        };
        let own = self.networks.entry(network).or_insert(full);
        own.bytes -= taken;
        self.whole.bytes -= taken;
        // What is drawn, in whichever way, flowed in some time ago.
        self.trickle.bytes = self.trickle.bytes.min(self.whole.bytes);
        taken
    }

    /// The same while friends fill the line: all of `bytes`, or nothing until so much flowed in.
    pub fn draw_trickle(&mut self, network: NetworkTag, bytes: u64) -> u64 {
        if self.trickle.bytes < bytes || self.room(network) < bytes {
            return 0;
        }
        self.trickle.bytes -= bytes;
        self.draw(network, bytes)
    }

    /// Puts back what was drawn and not sent, or signed for while the line was to spare.
    pub fn put_back(&mut self, network: NetworkTag, bytes: u64) {
        self.whole.bytes = self.whole.bytes.saturating_add(bytes).min(self.cap);
        if let Some(own) = self.networks.get_mut(&network) {
            own.bytes = own.bytes.saturating_add(bytes).min(self.cap / NETWORK_PART);
        }
    }

    /// Bytes in it.
    #[must_use]
    pub fn level(&self) -> u64 {
        self.whole.bytes
    }

    /// How often somebody wanted more than there was: the counter of this defence.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use proptest::prelude::*;

    const CAP: u64 = 64 << 20;
    const START: Timestamp = Timestamp(1_000_000);

    #[test]
    fn p12_a_thousand_fresh_keys_get_no_more_than_one_pool() {
        let mut pool = Pool::new(CAP, START);
        let got: u64 = (0..1000)
            .map(|key| pool.draw(NetworkTag(key), 4 << 20))
            .sum();
        assert_eq!(got, CAP);
        assert!(pool.refused() >= 1000 - 16, "{}", pool.refused());
    }

    #[test]
    fn a_network_has_a_sixteenth() {
        let mut pool = Pool::new(CAP, START);
        let got: u64 = (0..1000).map(|_| pool.draw(NetworkTag(7), 4 << 20)).sum();
        assert_eq!(got, CAP / 16);
    }

    #[test]
    fn it_is_refilled_at_a_hundredth_of_the_line_however_often_one_looks() {
        let (mut often, mut once) = (Pool::new(CAP, START), Pool::new(CAP, START));
        for network in 0..16 {
            often.draw(NetworkTag(network), CAP / 16);
            once.draw(NetworkTag(network), CAP / 16);
        }
        let line = 12_345;
        for ms in 1..=60_000 {
            often.refill(START + Duration::from_millis(ms), line);
        }
        once.refill(START + Duration::from_secs(60), line);
        assert_eq!((often.level(), once.level()), (123 * 60, 123 * 60));
    }

    #[test]
    fn while_friends_fill_the_line_only_what_flows_in_is_drawn() {
        let mut pool = Pool::new(CAP, START);
        assert_eq!(pool.draw_trickle(NetworkTag(1), 1), 0);
        pool.refill(START + Duration::from_secs(10), 100_000);
        assert_eq!(pool.draw_trickle(NetworkTag(1), 10_001), 0);
        assert_eq!(pool.draw_trickle(NetworkTag(1), 10_000), 10_000);
        assert_eq!(pool.draw_trickle(NetworkTag(2), 1), 0);
    }

    #[test]
    fn a_crowd_of_networks_is_not_remembered_without_bound() {
        let mut pool = Pool::new(u64::MAX, START);
        for network in 0..NETWORKS as u64 + 100 {
            pool.draw(NetworkTag(network), 1);
        }
        assert_eq!(pool.networks.len(), NETWORKS);
        assert_eq!(pool.refused(), 100);
    }

    proptest! {
        #[test]
        fn out_of_it_comes_no_more_than_was_in_it_and_came_in(
            draws in prop::collection::vec((0u64..40, 0u64..8 << 20, 0u64..5000), 1..200),
            line in 0u64..32 << 20,
        ) {
            let mut pool = Pool::new(CAP, START);
            let mut now = START;
            let mut all = 0u64;
            let mut per: BTreeMap<u64, u64> = BTreeMap::new();
            for (network, bytes, ms) in draws {
                now = now + Duration::from_millis(ms);
                pool.refill(now, line);
                let got = pool.draw(NetworkTag(network), bytes);
                all += got;
                *per.entry(network).or_default() += got;
                let came = now.since(START).as_secs_f64() * (line / 100) as f64;
                prop_assert!(all as f64 <= CAP as f64 + came + 1.0);
                for sum in per.values() {
                    prop_assert!(*sum as f64 <= (CAP as f64 + came) / 16.0 + 2.0);
                }
            }
        }
    }
}
