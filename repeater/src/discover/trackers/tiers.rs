//! Which tracker is announced to, and when (BEP 12, BEP 31). Pure: `now` is any monotonic time since a fixed start.

use std::time::Duration;

use bt_wire::tracker::{
    AnnounceResponse, Event, MAX_INTERVAL, Retry, UrlRefusal, check_announce_url,
};
use url::Url;

/// Trackers used of one torrent; a torrent may name more.
pub const MAX_TRACKERS: usize = 32;
/// First wait after a failed announce; doubled with each further one.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(30);
/// Longest wait of the back-off.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(3600);
/// Least time between announces to a tracker that names none.
const MIN_WAIT: Duration = Duration::from_secs(120);

/// A failed announce, by what it means for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Back off and try again.
    Later,
    /// Try again after this time (BEP 31 `retry in`, HTTP `Retry-After`).
    After(Duration),
    /// Never again: HTTP 410, `retry in: never`.
    Gone,
}

impl From<Retry> for Failed {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::Unsaid => Self::Later,
            Retry::After(wait) => Self::After(wait),
            Retry::Never => Self::Gone,
        }
    }
}

/// One announce to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Where.
    pub url: Url,
    /// `started` until this tracker has once answered, then nothing.
    pub event: Event,
    /// What this tracker gave us last time.
    pub tracker_id: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tracker {
    url: Url,
    /// Not to be asked before.
    not_before: Duration,
    failures: u32,
    gone: bool,
    /// It may know of us: owed a `stopped`.
    announced: bool,
    /// It has answered: `started` is done.
    answered: bool,
    id: Option<Vec<u8>>,
}

/// A torrent's trackers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierState {
    tiers: Vec<Vec<Tracker>>,
    /// When to announce next.
    due: Duration,
    /// Not to announce before, however much peers are wanted.
    not_before: Duration,
    in_flight: bool,
    /// The tracker that answered last.
    current: Option<Url>,
}

/// splitmix64: enough to spread load over a tier, and the same everywhere for the same seed.
fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn shuffle<T>(list: &mut [T], seed: &mut u64) {
    for last in (1..list.len()).rev() {
        let bound = last as u64 + 1;
        let other = usize::try_from(next_random(seed) % bound).unwrap_or(last);
        list.swap(last, other);
    }
}

impl TierState {
    /// A torrent's tiers as its metainfo lists them, each shuffled by `seed`; the first announce is due at `now`.
    /// Also returns the URLs that will not be asked, and why; a URL named twice is asked once.
    #[must_use]
    pub fn new(
        tiers: &[Vec<String>],
        mut seed: u64,
        now: Duration,
    ) -> (Self, Vec<(String, UrlRefusal)>) {
        let (mut out, mut refused): (Vec<Vec<Tracker>>, _) = (Vec::new(), Vec::new());
        let mut seen: Vec<Url> = Vec::new();
        for tier in tiers {
            let mut good = Vec::new();
            for text in tier {
                match check_announce_url(text) {
                    Ok(url) if seen.contains(&url) || seen.len() >= MAX_TRACKERS => {}
                    Ok(url) => {
                        seen.push(url.clone());
                        good.push(Tracker::new(url));
                    }
                    Err(e) => refused.push((text.clone(), e)),
                }
            }
            shuffle(&mut good, &mut seed);
            if !good.is_empty() {
                out.push(good);
            }
        }
        (
            Self {
                tiers: out,
                due: now,
                not_before: now,
                in_flight: false,
                current: None,
            },
            refused,
        )
    }

    /// When the next announce is due; None while one is under way and where no tracker is left.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        if self.in_flight {
            return None;
        }
        let ready = self.all().filter(|t| !t.gone).map(|t| t.not_before).min()?;
        Some(self.due.max(ready))
    }

    /// The announce due at `now`, if one is; it is then under way until [`Self::on_ok`] or [`Self::on_error`].
    pub fn take(&mut self, now: Duration) -> Option<Due> {
        if self.next_due()? > now {
            return None;
        }
        let tracker = self
            .tiers
            .iter_mut()
            .flatten()
            .find(|t| !t.gone && t.not_before <= now)?;
        self.in_flight = true;
        tracker.announced = true;
        let event = if tracker.answered {
            Event::None
        } else {
            Event::Started
        };
        Some(Due {
            url: tracker.url.clone(),
            event,
            tracker_id: tracker.id.clone(),
        })
    }

    /// Notes an answer. The tracker moves to the head of its tier. True: it is another one than answered before,
    /// at which a private torrent drops its peers (BEP 27).
    pub fn on_ok(&mut self, now: Duration, url: &Url, response: &AnnounceResponse) -> bool {
        self.in_flight = false;
        for tier in &mut self.tiers {
            if let Some(at) = tier.iter().position(|t| t.url == *url) {
                if let Some(head) = tier.get_mut(..=at) {
                    head.rotate_right(1);
                }
                if let Some(tracker) = tier.first_mut() {
                    tracker.failures = 0;
                    tracker.answered = true;
                    tracker.id = response.tracker_id.clone().or(tracker.id.take());
                }
            }
        }
        let least = response
            .min_interval
            .unwrap_or(response.interval.min(MIN_WAIT));
        let interval = response
            .interval
            .max(response.min_interval.unwrap_or_default());
        self.due = now.saturating_add(interval);
        self.not_before = now.saturating_add(least);
        let switched = self.current.as_ref().is_some_and(|c| c != url);
        self.current = Some(url.clone());
        switched
    }

    /// Notes a failure. The next tracker, if one is ready, is due at once.
    pub fn on_error(&mut self, now: Duration, url: &Url, failed: Failed) {
        self.in_flight = false;
        if let Some(tracker) = self.tiers.iter_mut().flatten().find(|t| t.url == *url) {
            let back_off = BACK_OFF_FIRST
                .saturating_mul(1 << tracker.failures.min(16))
                .min(BACK_OFF_MAX);
            tracker.failures = tracker.failures.saturating_add(1);
            tracker.gone = failed == Failed::Gone;
            let wait = match failed {
                Failed::Later => back_off,
                Failed::After(wait) => wait.clamp(BACK_OFF_FIRST, MAX_INTERVAL),
                Failed::Gone => Duration::ZERO,
            };
            tracker.not_before = now.saturating_add(wait);
        }
        self.due = now;
    }

    /// Asks for peers before the interval is over, as early as the tracker allows.
    pub fn need_peers(&mut self, now: Duration) {
        self.due = self.due.min(self.not_before.max(now));
    }

    /// The announces that tell every tracker which may know of us that we leave. Announcing starts anew after it.
    pub fn stop(&mut self) -> Vec<Due> {
        self.in_flight = false;
        self.current = None;
        let known = self
            .tiers
            .iter_mut()
            .flatten()
            .filter(|t| t.announced && !t.gone);
        known
            .map(|t| {
                t.announced = false;
                t.answered = false;
                Due {
                    url: t.url.clone(),
                    event: Event::Stopped,
                    tracker_id: t.id.take(),
                }
            })
            .collect()
    }

    /// Makes the first announce after a stop due at `now`.
    pub fn restart(&mut self, now: Duration) {
        self.due = now;
        self.not_before = now;
    }

    /// Trackers to scrape, the best first.
    pub fn scrapable(&self) -> impl Iterator<Item = &Url> {
        self.all().filter(|t| !t.gone).map(|t| &t.url)
    }

    fn all(&self) -> impl Iterator<Item = &Tracker> {
        self.tiers.iter().flatten()
    }
}

impl Tracker {
    fn new(url: Url) -> Self {
        let not_before = Duration::ZERO;
        Self {
            url,
            not_before,
            failures: 0,
            gone: false,
            announced: false,
            answered: false,
            id: None,
        }
    }
}

#[cfg(test)]
#[path = "tiers_tests.rs"]
mod tests;
