//! When a feed is polled, and how much of it is taken. Pure: `now` is any monotonic time since a fixed start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bt_wire::ids::InfoHash;

use super::parse::{FeedItem, ItemLink};

/// First wait after a failed poll; doubled with each further one.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(60);
/// Longest wait of the back-off.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(6 * 3600);
/// Longest time between polls a publisher (`ttl`, `Retry-After`) can ask for.
pub const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest time between polls, whatever is configured.
pub const EVERY_MIN: Duration = Duration::from_secs(10);
/// Torrents fetched in one poll.
pub const FETCHES_PER_POLL: usize = 200;
/// .torrent bytes fetched in one poll.
pub const BYTES_PER_POLL: u64 = 256 << 20;
/// Wait between polls while a feed has more than one poll may take.
const MORE_AFTER: Duration = Duration::from_secs(60);
/// Times a link is tried that cannot be fetched.
const ATTEMPTS: u8 = 3;
/// Links remembered per feed, so that none is fetched twice.
const REMEMBERED: usize = 2 * super::MAX_ITEMS;

/// A feed's schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedState {
    every: Duration,
    ttl: Duration,
    due: Duration,
    failures: u32,
    error: Option<String>,
    last_ok: Option<u64>,
    items: usize,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// What a good poll found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Polled {
    /// Items in the document; None = not modified.
    pub items: Option<usize>,
    /// Shortest time between polls asked for by the publisher.
    pub ttl: Option<Duration>,
    /// `ETag` for the next poll.
    pub etag: Option<String>,
    /// `Last-Modified` for the next poll.
    pub last_modified: Option<String>,
    /// Items are left that this poll had no quota for.
    pub more: bool,
}

/// A feed's standing in one word, for the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedStanding {
    /// Not polled yet.
    New,
    /// The last poll was good.
    Ok,
    /// The last poll failed; the next is later than usual.
    Failing,
}

impl FeedState {
    /// A feed to be polled every `every`, for the first time at `now`.
    #[must_use]
    pub fn new(every: Duration, now: Duration) -> Self {
        Self {
            every: every.max(EVERY_MIN),
            ttl: Duration::ZERO,
            due: now,
            failures: 0,
            error: None,
            last_ok: None,
            items: 0,
            etag: None,
            last_modified: None,
        }
    }

    /// When the next poll is due.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Makes the next poll due now, on the operator's word.
    pub fn poll_now(&mut self, now: Duration) {
        self.due = self.due.min(now);
    }

    /// `ETag` and `Last-Modified` to ask with.
    #[must_use]
    pub fn validators(&self) -> (Option<&str>, Option<&str>) {
        (self.etag.as_deref(), self.last_modified.as_deref())
    }

    /// Notes a good poll at `now`, `unix_s` seconds after the Unix epoch.
    pub fn on_ok(&mut self, now: Duration, unix_s: u64, polled: Polled) {
        self.failures = 0;
        self.error = None;
        self.last_ok = Some(unix_s);
        if let Some(items) = polled.items {
            self.items = items;
            self.ttl = polled.ttl.unwrap_or_default().min(TTL_MAX);
            // With items left the whole document is wanted again.
            (self.etag, self.last_modified) = if polled.more {
                (None, None)
            } else {
                (polled.etag, polled.last_modified)
            };
        }
        let wait = if polled.more {
            MORE_AFTER
        } else {
            self.every.max(self.ttl)
        };
        self.due = now.saturating_add(wait);
    }

    /// Notes a failed poll. `retry_after`: what the server asked for.
    pub fn on_error(&mut self, now: Duration, error: String, retry_after: Option<Duration>) {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let wait = BACK_OFF_FIRST
            .saturating_mul(1 << doublings)
            .min(BACK_OFF_MAX);
        self.due = now.saturating_add(wait.max(retry_after.unwrap_or_default().min(TTL_MAX)));
        self.error = Some(error);
    }

    /// Standing in a word.
    #[must_use]
    pub fn standing(&self) -> FeedStanding {
        match (&self.error, self.last_ok) {
            (Some(_), _) => FeedStanding::Failing,
            (None, Some(_)) => FeedStanding::Ok,
            (None, None) => FeedStanding::New,
        }
    }

    /// Items in the last good document.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// Last good poll, in seconds since the Unix epoch.
    #[must_use]
    pub fn last_ok(&self) -> Option<u64> {
        self.last_ok
    }

    /// Why the last poll failed.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

/// What a feed has been asked for already (attack row E4): no link is fetched twice, no torrent delivered twice.
#[derive(Debug, Clone, Default)]
pub struct FeedLedger {
    /// Attempts that failed; `ATTEMPTS` = dealt with.
    links: BTreeMap<ItemLink, u8>,
    hashes: BTreeSet<InfoHash>,
}

impl FeedLedger {
    /// The items to take in one poll, and whether some are left for the next: first those never tried, in order, then
    /// those that failed, so that dead links hold nothing up. `wanted`: title and size filter.
    pub fn choose(
        &self,
        items: Vec<FeedItem>,
        wanted: impl Fn(&FeedItem) -> bool,
    ) -> (Vec<FeedItem>, bool) {
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        let mut links = BTreeSet::new();
        for item in items {
            if wanted(&item) && links.insert(item.link.clone()) {
                match self.links.get(&item.link) {
                    None => fresh.push(item),
                    Some(&tries) if tries < ATTEMPTS => again.push(item),
                    Some(_) => {}
                }
            }
        }
        let more = fresh.len() > FETCHES_PER_POLL;
        fresh.append(&mut again);
        fresh.truncate(FETCHES_PER_POLL);
        (fresh, more)
    }

    /// Notes that a link was dealt with, whatever came of it.
    pub fn done(&mut self, link: ItemLink) {
        self.note(link, |_| ATTEMPTS);
    }

    /// Notes that a link could not be fetched for now; after three times it is not tried again.
    pub fn failed(&mut self, link: ItemLink) {
        self.note(link, |tries| tries.saturating_add(1));
    }

    fn note(&mut self, link: ItemLink, change: impl FnOnce(u8) -> u8) {
        if self.links.len() >= REMEMBERED {
            // Forgetting costs a second fetch; remembering for ever costs memory to whoever writes the feed.
            self.links.clear();
        }
        let tries = self.links.entry(link).or_default();
        *tries = change(*tries);
    }

    /// True the first time a torrent comes.
    pub fn first_time(&mut self, hash: InfoHash) -> bool {
        if self.hashes.len() >= REMEMBERED {
            self.hashes.clear();
        }
        self.hashes.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn polled() -> Polled {
        Polled {
            items: Some(3),
            etag: Some("e".into()),
            ..Polled::default()
        }
    }

    #[test]
    fn ttl_lengthens_the_interval_and_a_later_document_may_take_it_back() {
        let mut state = FeedState::new(15 * MINUTE, MINUTE);
        assert_eq!((state.due(), state.standing()), (MINUTE, FeedStanding::New));
        state.on_ok(
            MINUTE,
            7,
            Polled {
                ttl: Some(60 * MINUTE),
                ..polled()
            },
        );
        assert_eq!(state.due(), 61 * MINUTE);
        assert_eq!(
            (state.standing(), state.last_ok(), state.items()),
            (FeedStanding::Ok, Some(7), 3)
        );
        assert_eq!(state.validators(), (Some("e"), None));
        state.on_ok(61 * MINUTE, 8, Polled::default());
        assert_eq!(
            state.due(),
            121 * MINUTE,
            "not modified: the ttl still holds"
        );
        assert_eq!(state.validators(), (Some("e"), None));
        state.on_ok(121 * MINUTE, 9, polled());
        assert_eq!(state.due(), 136 * MINUTE);
        state.on_ok(
            Duration::ZERO,
            9,
            Polled {
                ttl: Some(Duration::MAX),
                ..polled()
            },
        );
        assert_eq!(state.due(), TTL_MAX);
    }

    #[test]
    fn errors_back_off_to_a_cap_and_a_good_poll_forgets_them() {
        let mut state = FeedState::new(15 * MINUTE, Duration::ZERO);
        let waits: Vec<u64> = (0..11)
            .map(|_| {
                state.on_error(Duration::ZERO, "no".into(), None);
                state.due().as_secs() / 60
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
        assert_eq!(
            (state.standing(), state.error()),
            (FeedStanding::Failing, Some("no"))
        );
        state.on_error(Duration::ZERO, "no".into(), Some(600 * MINUTE));
        assert_eq!(state.due(), 600 * MINUTE);
        state.poll_now(MINUTE);
        assert_eq!(state.due(), MINUTE);
        state.on_ok(MINUTE, 1, polled());
        assert_eq!((state.due(), state.error()), (16 * MINUTE, None));
        state.on_error(Duration::ZERO, "no".into(), None);
        assert_eq!(state.due(), MINUTE);
    }

    #[test]
    fn with_items_left_the_document_is_wanted_again_soon() {
        let mut state = FeedState::new(15 * MINUTE, Duration::ZERO);
        state.on_ok(
            Duration::ZERO,
            1,
            Polled {
                more: true,
                ..polled()
            },
        );
        assert_eq!(
            (state.due(), state.validators()),
            (MORE_AFTER, (None, None))
        );
    }

    fn item(n: usize) -> FeedItem {
        let link = ItemLink::Torrent(format!("http://h.example/{n}").parse().expect("url"));
        FeedItem {
            title: n.to_string(),
            link,
            claimed_bytes: None,
            published: None,
        }
    }

    #[test]
    fn e4_a_poll_takes_its_quota_and_repeats_nothing() {
        let mut ledger = FeedLedger::default();
        let items = || {
            (0..500)
                .flat_map(|n| [item(n), item(n)])
                .collect::<Vec<_>>()
        };
        let mut taken = Vec::new();
        for expected in [FETCHES_PER_POLL, FETCHES_PER_POLL, 100, 0] {
            let (fresh, more) = ledger.choose(items(), |_| true);
            assert_eq!(
                (fresh.len(), more),
                (expected, expected == FETCHES_PER_POLL)
            );
            for item in fresh {
                ledger.done(item.link);
                taken.push(item.title);
            }
        }
        assert_eq!(taken, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
        let (fresh, _) = FeedLedger::default().choose(vec![item(0), item(1)], |i| i.title == "1");
        assert_eq!(fresh, [item(1)]);
        assert!(ledger.first_time(InfoHash([1; 20])));
        assert!(!ledger.first_time(InfoHash([1; 20])));
    }

    #[test]
    fn e4_dead_links_go_behind_and_are_given_up() {
        let mut ledger = FeedLedger::default();
        let dead = || vec![item(0), item(1)];
        for _ in 0..3 {
            let (fresh, _) = ledger.choose(dead(), |_| true);
            assert_eq!(fresh, dead());
            fresh.into_iter().for_each(|i| ledger.failed(i.link));
            let (fresh, _) = ledger.choose(vec![item(0), item(7)], |_| true);
            assert_eq!(fresh[0], item(7));
        }
        assert_eq!(ledger.choose(dead(), |_| true), (vec![], false));
    }

    proptest! {
        #[test]
        fn the_next_poll_is_never_in_the_past_nor_beyond_the_cap(steps in prop::collection::vec((0u8..3, 0u64..1 << 40), 1..50)) {
            let mut state = FeedState::new(15 * MINUTE, Duration::ZERO);
            let mut now = Duration::ZERO;
            for (kind, n) in steps {
                now += Duration::from_secs(n % 1000);
                let asked = Some(Duration::from_secs(n));
                match kind {
                    0 => state.on_ok(now, n, Polled { ttl: asked, ..polled() }),
                    1 => state.on_ok(now, n, Polled::default()),
                    _ => state.on_error(now, "e".into(), asked),
                }
                prop_assert!(state.due() > now);
                prop_assert!(state.due() <= now + TTL_MAX);
            }
        }
    }
}
