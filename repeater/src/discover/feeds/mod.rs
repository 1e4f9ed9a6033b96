//! Feeds: documents that list torrents.

mod date;
mod guard;
mod listing;
mod parse;

pub use guard::{MAX_DEPTH, MAX_ITEMS};
pub use parse::{Document, FeedError, FeedItem, ItemLink, MAX_DOCUMENT, parse};
