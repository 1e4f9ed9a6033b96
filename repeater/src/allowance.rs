//! What the line may still carry: every byte sent or received is taken from here first.
//!
//! The brain says how much (`Output::Allow`) and hears how much went. Counted are peers' connections from their first
//! byte on, trackers and feeds, both directions together, TCP/IP headers left out. Masters' RPC and the API stay within
//! the operator's own machines and are not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use swarm_core::policy::quota::FAREWELL;
use tokio::sync::Notify;

/// Bytes carried between two words to the brain, while nothing is limited.
const REPORT: u64 = 16 << 20;
/// The same when the allowance is nearly used up, at least.
const REPORT_LEAST: u64 = 16 << 10;

/// Counts the line's bytes, and hands out what it may carry. Shared by everything that sends or receives.
#[derive(Debug)]
pub struct Allowance {
    /// What may be carried in this run; `u64::MAX` = no bound.
    limit: AtomicU64,
    /// Carried, or about to be.
    taken: AtomicU64,
    /// Carried. Never falls.
    carried: AtomicU64,
    /// The brain hears of it when so much was carried.
    mark: AtomicU64,
    /// A connection wanted more than there was.
    waiting: AtomicBool,
    due: Notify,
}

impl Default for Allowance {
    /// Without a bound.
    fn default() -> Self {
        Self::new(None)
    }
}

impl Allowance {
    /// Of so many bytes; `None` = no bound.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Self {
        let allowance = Self {
            limit: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            mark: AtomicU64::new(u64::MAX),
            waiting: AtomicBool::new(false),
            due: Notify::new(),
        };
        allowance.allow(limit);
        allowance
    }

    /// The line may carry so many bytes in this run. True if somebody waits for that: wake them.
    pub(crate) fn allow(&self, limit: Option<u64>) -> bool {
        self.limit
            .store(limit.unwrap_or(u64::MAX), Ordering::SeqCst);
        self.set_mark();
        self.waiting.swap(false, Ordering::SeqCst)
    }

    /// Bytes carried in this run.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst)
    }

    /// Connections may carry something.
    pub(crate) fn is_open(&self) -> bool {
        self.taken.load(Ordering::SeqCst) < self.end()
    }

    /// Takes up to `want` bytes for a connection, less or none if there are no more. After none the connection waits to
    /// be woken. What was taken goes back by [`Allowance::settle`].
    pub(crate) fn take(&self, want: u64) -> u64 {
        let took = self.take_below(self.end(), want);
        if took > 0 || want == 0 {
            return took;
        }
        self.waiting.store(true, Ordering::SeqCst);
        // Who gave some back just before does not know that we wait.
        self.take_below(self.end(), want)
    }

    /// Of `taken` bytes so many were carried. True if somebody waits for the others: wake them.
    #[must_use]
    pub(crate) fn settle(&self, taken: u64, carried: u64) -> bool {
        self.count(carried);
        if carried >= taken {
            return false;
        }
        self.taken.fetch_sub(taken - carried, Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) && self.waiting.swap(false, Ordering::SeqCst)
    }

    /// So many bytes were carried that could not be asked for: a handshake.
    pub(crate) fn spend(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::SeqCst);
        self.count(bytes);
    }

    /// For trackers and feeds, to the very end, so that a farewell can be said: all of `bytes`, or false.
    pub(crate) fn draw(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let took = self.take_below(limit, bytes);
        if took < bytes {
            self.taken.fetch_sub(took, Ordering::SeqCst);
            metrics::counter!("btslave_quota_refused_total").increment(1);
            return false;
        }
        self.count(bytes);
        true
    }

    /// Returns when the brain is to hear what was carried. Safe to cancel.
    pub(crate) async fn due(&self) {
        while !self.is_due() {
            self.due.notified().await;
        }
    }

    pub(crate) fn is_due(&self) -> bool {
        self.carried() >= self.mark.load(Ordering::SeqCst)
    }

    /// What was carried, for the brain.
    pub(crate) fn report(&self) -> u64 {
        self.set_mark();
        self.carried()
    }

    fn end(&self) -> u64 {
        let limit = self.limit.load(Ordering::SeqCst);
        if limit == u64::MAX {
            limit
        } else {
            limit.saturating_sub(FAREWELL)
        }
    }

    fn take_below(&self, end: u64, want: u64) -> u64 {
        let free = |taken: u64| end.saturating_sub(taken).min(want);
        let take = |taken: u64| (free(taken) > 0).then(|| taken + free(taken));
        self.taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .map_or(0, free)
    }

    fn count(&self, bytes: u64) {
        let carried = self.carried.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if carried >= self.mark.load(Ordering::SeqCst) {
            self.due.notify_one();
        }
    }

    /// Half way to the end, and at the end.
    fn set_mark(&self) {
        let (carried, end) = (self.carried(), self.end());
        let step = (end.saturating_sub(carried) / 2).clamp(REPORT_LEAST, REPORT);
        let mark = if carried >= end {
            u64::MAX
        } else {
            carried.saturating_add(step).min(end)
        };
        self.mark.store(mark, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn threads_together_carry_no_more_than_is_allowed_and_all_of_it() {
        let (limit, threads) = (10_000_000, 4);
        let allowance = Arc::new(Allowance::new(Some(limit + FAREWELL)));
        let carry = |n: u64| {
            let allowance = Arc::clone(&allowance);
            move || {
                let mut all = 0;
                loop {
                    let took = allowance.take(1000 + n);
                    if allowance.carried() >= limit {
                        return all;
                    }
                    // As a socket that takes less than was offered.
                    let went = took.div_ceil(2);
                    let _nobody_sleeps = allowance.settle(took, went);
                    all += went;
                }
            }
        };
        let running: Vec<_> = (0..threads).map(|n| std::thread::spawn(carry(n))).collect();
        let carried: u64 = running.into_iter().map(|t| t.join().expect("ends")).sum();
        assert_eq!((carried, allowance.carried()), (limit, limit));
        assert!(allowance.draw(FAREWELL) && !allowance.draw(1));
        allowance.allow(Some(limit));
        assert!(!allowance.is_open());
    }

    #[tokio::test]
    async fn the_brain_hears_half_way_and_at_the_end_and_who_waits_is_woken() {
        let allowance = Allowance::new(Some(1_000_000 + FAREWELL));
        allowance.spend(499_999);
        let early = tokio::time::timeout(std::time::Duration::ZERO, allowance.due());
        assert!(early.await.is_err());
        allowance.spend(1);
        allowance.due().await;
        assert_eq!(allowance.report(), 500_000);
        assert_eq!(allowance.take(600_000), 500_000);
        assert_eq!(allowance.take(1), 0);
        assert!(allowance.settle(500_000, 400_000), "somebody waits");
        assert!(!allowance.settle(0, 0));
        assert_eq!(allowance.take(600_000), 100_000);
        assert!(!allowance.settle(100_000, 100_000));
        allowance.due().await;
        assert_eq!((allowance.report(), allowance.take(1)), (1_000_000, 0));
        assert!(allowance.allow(None) && allowance.take(1) == 1);
    }
}
