//! Feeds: documents that list torrents.
//!
//! Pure: [`parse`] (bytes to items), [`FeedState`] and [`FeedLedger`] (when to poll, what to take).
//! IO: [`poll_feed`] does one poll, [`FeedPoller`] owns all feeds.

mod date;
mod folder;
mod guard;
mod listing;
mod parse;
mod poll;
mod poller;
mod spec;
mod state;

pub use guard::{MAX_DEPTH, MAX_ITEMS};
pub use parse::{Document, FeedError, FeedItem, ItemLink, MAX_DOCUMENT, parse};
pub use poll::{FeedEvent, FeedMagnet, FeedTorrent, PollError, poll_feed};
pub use poller::{AddFeedError, FeedPoller, FeedStatus, MAX_FEEDS};
pub use spec::{FeedPlace, FeedSpec, FeedSpecError, shown};
pub use state::{
    BACK_OFF_FIRST, BACK_OFF_MAX, BYTES_PER_POLL, EVERY_MIN, FETCHES_PER_POLL, FeedLedger,
    FeedStanding, FeedState, Polled, TTL_MAX,
};

#[cfg(test)]
mod tests;
