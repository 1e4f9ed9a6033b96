//! Feeds: no panic, no stack overflow, limits hold, and no link but http(s) and magnets comes out.
//!
//! The pure files are included by path: the daemon around them is nothing a fuzzer needs to build.
#![no_main]

#[path = "../../repeater/src/discover/feeds/date.rs"]
mod date;
#[path = "../../repeater/src/discover/feeds/guard.rs"]
mod guard;
#[path = "../../repeater/src/discover/feeds/listing.rs"]
mod listing;
#[path = "../../repeater/src/discover/feeds/parse.rs"]
mod parse;

use libfuzzer_sys::fuzz_target;
use parse::{Document, ItemLink};
use url::Url;

fuzz_target!(|data: &[u8]| {
    let base = Url::parse("https://feed.example/dir/feed").expect("a URL");
    for content_type in [None, Some("text/html"), Some("application/rss+xml"), Some("text/plain")] {
        let Ok(Document::Items { items, .. }) = parse::parse(data, content_type, &base) else { continue };
        assert!(items.len() <= guard::MAX_ITEMS);
        for item in items {
            assert!(item.title.chars().count() <= 512 && !item.title.contains(char::is_control));
            match item.link {
                ItemLink::Torrent(url) => assert!(matches!(url.scheme(), "http" | "https")),
                ItemLink::Magnet(link) => assert!(link.to_ascii_lowercase().starts_with("magnet:?")),
            }
        }
    }
});
