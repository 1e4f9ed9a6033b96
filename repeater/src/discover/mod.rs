//! Where torrents and peers come from: feeds and trackers.
