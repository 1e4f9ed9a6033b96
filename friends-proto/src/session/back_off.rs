//! After a session that broke the protocol there is none for ten minutes.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long no new session is begun with whoever broke one.
pub const BACK_OFF: Duration = Duration::from_secs(600);
/// Most entries kept; the one that would end first makes room.
pub const MAX_BACK_OFFS: usize = 1024;

/// Who has to wait. `Who` is the friend's key once a session stood, and before that the address: until then anybody could
/// have broken it in the friend's name.
#[derive(Debug, Clone, Default)]
pub struct BackOff<Who> {
    until: BTreeMap<Who, Duration>,
}

impl<Who: Ord + Clone> BackOff<Who> {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            until: BTreeMap::new(),
        }
    }

    /// `who` broke a session.
    //= spec/friends.md#session-back-off
    pub fn broke(&mut self, who: Who, now: Duration) {
        self.until.retain(|_, until| *until > now);
        if self.until.len() >= MAX_BACK_OFFS && !self.until.contains_key(&who) {
            let first = self.until.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(first, _)| first.clone()) {
                self.until.remove(&first);
            }
        }
        self.until.insert(who, now.saturating_add(BACK_OFF));
    }

    /// Whether a session may be begun with `who`.
    #[must_use]
    pub fn may_begin(&self, who: &Who, now: Duration) -> bool {
        self.until.get(who).is_none_or(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    //= spec/friends.md#session-back-off
    fn ten_minutes_and_no_longer() {
        let mut waiting = BackOff::new();
        let at = Duration::from_secs(5);
        assert!(waiting.may_begin(&1, at));
        waiting.broke(1, at);
        assert!(!waiting.may_begin(&1, at + BACK_OFF - Duration::from_nanos(1)));
        assert!(waiting.may_begin(&1, at + BACK_OFF) && waiting.may_begin(&2, at));
    }

    #[test]
    fn p24_a_crowd_of_breakers_takes_no_memory() {
        let mut waiting = BackOff::new();
        for who in 0..10_000_u32 {
            waiting.broke(who, Duration::from_millis(who.into()));
        }
        assert_eq!(waiting.until.len(), MAX_BACK_OFFS);
        assert!(!waiting.may_begin(&9_999, Duration::from_secs(10)));
        assert!(waiting.may_begin(&0, Duration::from_secs(10)));
    }
}
