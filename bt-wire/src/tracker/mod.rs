//! HTTP trackers: announce (BEP 3, 7, 21, 23, 24, 31) and scrape (BEP 48), and what a tracker reads and answers itself.
//! The transport is the shell's.

mod announce;
mod scrape;
mod serve;
mod url;

pub use announce::{
    AnnounceRequest, AnnounceResponse, Event, MAX_INTERVAL, MAX_PEERS, MIN_INTERVAL, Retry,
    TrackerError, TrackerPeer,
};
pub use scrape::{ScrapeEntry, ScrapeResponse, scrape_query, scrape_url};
pub use serve::{Announced, MAX_QUERY, NotAnAnnounce, announce_answer, announce_failure};
pub use url::{MAX_URL, UrlRefusal, check_announce_url};

/// Longest reply a caller should read, in bytes (row C4).
pub const MAX_RESPONSE: usize = 2 << 20;

/// Joins a query to a URL that may already have one.
#[must_use]
pub fn with_query(url: &::url::Url, query: &str) -> ::url::Url {
    let mut joined = url.clone();
    let whole = match url.query() {
        Some(own) if !own.is_empty() => format!("{own}&{query}"),
        Some(_) | None => query.to_owned(),
    };
    joined.set_query(Some(&whole));
    joined.set_fragment(None);
    joined
}
