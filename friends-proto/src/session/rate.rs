//! How many messages a session may carry: 50 a second, and 200 at once.

use std::time::Duration;

/// Messages a second, in each direction.
pub const MESSAGES_A_SECOND: u32 = 50;
/// Messages that may come at once.
pub const BURST: u32 = 200;

/// One message in the bucket's unit, so that a microsecond's refill is a whole number.
const MESSAGE: u64 = 1_000_000;

/// A bucket of messages. Time is any clock that never runs backwards; one that does fills nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    level: u64,
    filled: Duration,
}

impl Bucket {
    pub(super) fn full(now: Duration) -> Self {
        Self {
            level: u64::from(BURST) * MESSAGE,
            filled: now,
        }
    }

    /// Takes one message out.
    ///
    /// # Errors
    /// How long to wait until there is one.
    //= spec/friends.md#session-rate
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.filled).as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let level = passed
            .saturating_mul(u64::from(MESSAGES_A_SECOND))
            .saturating_add(self.level);
        self.level = level.min(u64::from(BURST) * MESSAGE);
        self.filled = self.filled.max(now);
        if let Some(rest) = self.level.checked_sub(MESSAGE) {
            self.level = rest;
            Ok(())
        } else {
            let missing = MESSAGE - self.level;
            Err(Duration::from_micros(
                missing.div_ceil(u64::from(MESSAGES_A_SECOND)),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate() {
        let start = Duration::from_secs(1000);
        let mut bucket = Bucket::full(start);
        assert!((0..BURST).all(|_| bucket.take(start).is_ok()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(20)));
        // 10,000 a second for ten seconds: 500 pass.
        let passed = (1..=100_000_u64)
            .filter(|at| bucket.take(start + Duration::from_micros(at * 100)).is_ok())
            .count();
        assert_eq!(passed, 500);
    }

    #[test]
    fn p23_a_clock_that_jumps_gives_nothing_away() {
        let start = Duration::from_secs(1 << 40);
        let mut bucket = Bucket::full(start);
        assert!((0..BURST).all(|_| bucket.take(start).is_ok()));
        let back = Duration::ZERO;
        assert!(bucket.take(back).is_err());
        assert!(bucket.take(start).is_err());
        let ten_years = start + Duration::from_secs(10 * 366 * 86_400);
        assert!((0..BURST).all(|_| bucket.take(ten_years).is_ok()));
        assert!(bucket.take(ten_years).is_err());
        assert!(bucket.take(Duration::MAX).is_ok());
    }
}
