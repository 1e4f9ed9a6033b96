//! Where torrents and peers come from: feeds and trackers.

pub mod feeds;
pub mod http;
#[cfg(test)]
mod tls_server;
pub mod trackers;
