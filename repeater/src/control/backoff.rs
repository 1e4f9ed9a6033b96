//! Failures to show the token, by source address: ten are answered, after that each costs a growing wait.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures before the first wait.
pub(super) const FREE_FAILURES: u32 = 10;
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After this long without a failure an address is forgotten.
const FORGET: Duration = Duration::from_secs(300);
/// Addresses remembered; beyond, the one longest silent goes.
const MAX_ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Failures {
    by_address: BTreeMap<IpAddr, Entry>,
}

#[derive(Debug)]
struct Entry {
    count: u32,
    last: Instant,
    until: Instant,
}

impl Failures {
    /// Counts a failure. `Some` = refuse with this wait: the address has used up its free failures.
    pub(super) fn failed(&mut self, from: IpAddr, now: Instant) -> Option<Duration> {
        self.by_address
            .retain(|_, entry| now.duration_since(entry.last) < FORGET);
        if self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(&from) {
            let oldest = self
                .by_address
                .iter()
                .min_by_key(|(_, entry)| entry.last)
                .map(|(ip, _)| *ip);
            oldest.map(|ip| self.by_address.remove(&ip));
        }
        let entry = self.by_address.entry(from).or_insert(Entry {
            count: 0,
            last: now,
            until: now,
        });
        entry.last = now;
        if now < entry.until {
            return Some(entry.until - now);
        }
        entry.count = entry.count.saturating_add(1);
        let over = entry.count.checked_sub(FREE_FAILURES + 1)?;
        let wait = Duration::from_secs(1 << over.min(6)).min(LONGEST);
        entry.until = now + wait;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_waits_double_and_end() {
        let (mut failures, ip) = (Failures::default(), IpAddr::from([127, 0, 0, 1]));
        let mut now = Instant::now();
        for _ in 0..FREE_FAILURES {
            assert_eq!(failures.failed(ip, now), None);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(failures.failed(ip, now), Some(wait));
            assert_eq!(
                failures.failed(ip, now),
                Some(wait),
                "within the wait nothing is added"
            );
            now += wait;
        }
        assert_eq!(failures.failed(IpAddr::from([127, 0, 0, 2]), now), None);
        assert_eq!(failures.failed(ip, now + FORGET), None);
    }

    #[test]
    fn d6_memory_is_bounded() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for n in 0..5000u32 {
            failures.failed(
                IpAddr::from(n.to_be_bytes()),
                now + Duration::from_millis(n.into()),
            );
        }
        assert_eq!(failures.by_address.len(), MAX_ADDRESSES);
    }
}
