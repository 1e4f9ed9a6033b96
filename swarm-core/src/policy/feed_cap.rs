//! What one feed may cost: torrents joined at a time for its sake, and bytes of cache that they may take.
//!
//! Both are the operator's hard bounds; room = cap − what is in use. A torrent that several feeds name uses whichever of
//! them has room for it. What the user, a master or a friend names, too, is theirs and no feed's.

use serde::{Deserialize, Serialize};

/// The caps of one feed; `None`: no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedCap {
    /// Torrents joined at a time.
    pub torrents: Option<u32>,
    /// Cache that its torrents may take, bytes.
    pub cache: Option<u64>,
}

/// A feed's caps and what of them is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedUse {
    /// The caps.
    pub cap: FeedCap,
    /// Torrents joined for its sake.
    pub joined: u32,
    /// Cache that they take, bytes.
    pub used: u64,
}

/// What is left of the caps; `None`: no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedRoom {
    /// Torrents.
    pub torrents: Option<u32>,
    /// Cache, bytes.
    pub cache: Option<u64>,
}

/// What is left to one feed.
#[must_use]
pub fn room(feed: FeedUse) -> FeedRoom {
    FeedRoom {
        torrents: feed.cap.torrents.map(|cap| cap.saturating_sub(feed.joined)),
        cache: feed.cap.cache.map(|cap| cap.saturating_sub(feed.used)),
    }
}

/// What is left to a torrent: the room of the feed that has most for it, a piece being `piece` bytes. No feed: no cap.
#[must_use]
pub fn widest(rooms: impl Iterator<Item = FeedRoom>, piece: u64) -> FeedRoom {
    let most = |room: &FeedRoom| {
        let (torrents, cache) = (
            room.torrents.unwrap_or(u32::MAX),
            room.cache.unwrap_or(u64::MAX),
        );
        (torrents > 0 && cache >= piece, torrents, cache)
    };
    rooms.max_by_key(most).unwrap_or_default()
}

/// One more torrent may be joined.
#[must_use]
pub fn joins(room: FeedRoom, piece: u64) -> bool {
    room.torrents != Some(0) && fetches(room, piece)
}

/// One more piece may be fetched.
#[must_use]
pub fn fetches(room: FeedRoom, piece: u64) -> bool {
    room.cache.is_none_or(|left| left >= piece)
}

/// Torrents over the cap, to be left.
#[must_use]
pub fn surplus(feed: FeedUse) -> u32 {
    feed.cap
        .torrents
        .map_or(0, |cap| feed.joined.saturating_sub(cap))
}

/// Its torrents take more cache than they may.
#[must_use]
pub fn overfull(feed: FeedUse) -> bool {
    feed.cap.cache.is_some_and(|cap| feed.used > cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(torrents: Option<u32>, cache: Option<u64>, joined: u32, used: u64) -> FeedUse {
        FeedUse {
            cap: FeedCap { torrents, cache },
            joined,
            used,
        }
    }

    #[test]
    fn a_full_feed_joins_and_fetches_nothing_more() {
        let full = room(feed(Some(2), Some(100), 2, 90));
        assert!(!joins(full, 10) && fetches(full, 10) && !fetches(full, 11));
        assert!(!joins(room(feed(None, Some(100), 0, 95)), 10));
        assert!(joins(room(FeedUse::default()), u64::MAX));
    }

    #[test]
    fn a_torrent_uses_the_feed_that_has_room() {
        let full = room(feed(Some(1), None, 1, 0));
        let small = room(feed(None, Some(5), 0, 0));
        let free = room(feed(Some(3), Some(100), 1, 0));
        assert_eq!(widest([full, small, free].into_iter(), 10), free);
        assert_eq!(widest([].into_iter(), 10), FeedRoom::default());
    }

    #[test]
    fn smaller_caps_leave_a_surplus() {
        assert_eq!(surplus(feed(Some(1), None, 3, 0)), 2);
        assert_eq!(surplus(feed(None, None, 3, 0)), 0);
        assert!(overfull(feed(None, Some(9), 1, 10)) && !overfull(feed(None, Some(10), 1, 10)));
    }
}
