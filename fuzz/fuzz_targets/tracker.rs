//! Trackers' replies and URLs: no panic, limits hold.
#![no_main]

use bt_wire::tracker::{
    AnnounceResponse, Announced, MAX_INTERVAL, MAX_PEERS, MAX_QUERY, MIN_INTERVAL, ScrapeResponse, check_announce_url,
    scrape_url, with_query,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(reply) = AnnounceResponse::parse(data) {
        assert!(reply.peers.len() <= MAX_PEERS);
        assert!((MIN_INTERVAL..=MAX_INTERVAL).contains(&reply.interval));
        assert!(reply.min_interval.is_none_or(|min| (MIN_INTERVAL..=MAX_INTERVAL).contains(&min)));
    }
    if let Ok(reply) = ScrapeResponse::parse(data) {
        for (hash, _) in &reply.files {
            assert!(reply.get(*hash).is_some());
        }
    }
    if let Some(query) = std::str::from_utf8(data).ok()
        && let Ok(read) = Announced::parse(query)
    {
        assert!(query.len() <= MAX_QUERY && read.port > 0);
    }
    if let Some(url) = std::str::from_utf8(data).ok().and_then(|text| check_announce_url(text).ok()) {
        assert!(matches!(url.scheme(), "http" | "https") && url.host().is_some());
        let asked = with_query(&url, "info_hash=%00");
        assert!(asked.query().is_some_and(|query| query.ends_with("info_hash=%00")));
        if let Some(scrape) = scrape_url(&url) {
            assert_eq!((scrape.host(), scrape.port()), (url.host(), url.port()));
        }
    }
});
