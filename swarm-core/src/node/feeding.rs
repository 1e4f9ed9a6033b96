//! What each feed uses of its caps.

use crate::io::{LeaveReason, Origin, SwarmId};
use crate::node::Node;
use crate::node::desk::Desk;
use crate::policy::evict::Purpose;
use crate::policy::feed_cap::{self, FeedCap, FeedRoom, FeedUse};
use crate::swarm::{Stage, Swarm};

fn url(origin: &Origin) -> Option<&String> {
    match origin {
        Origin::Feed(url) => Some(url),
        Origin::User | Origin::Master(_) | Origin::Friend(_) | Origin::Rendezvous => None,
    }
}

impl Swarm {
    /// The feeds it is joined for; none where somebody else named it, too.
    fn feeds(&self) -> impl Iterator<Item = &String> {
        let only = self.origins.iter().all(|origin| url(origin).is_some());
        self.origins.iter().filter_map(url).filter(move |_| only)
    }

    /// What its feeds leave it.
    pub(crate) fn feed_room(&self, desk: &Desk) -> FeedRoom {
        let rooms = self.feeds().map(|url| {
            let feed = desk.feeds.get(url).copied().unwrap_or_default();
            feed_cap::room(feed)
        });
        feed_cap::widest(rooms, self.permit())
    }

    /// A piece was begun: it counts at once for all its feeds.
    pub(crate) fn charge_feeds(&self, desk: &mut Desk) {
        self.adjust_feeds(desk, |used, piece| used.saturating_add(piece));
    }

    /// A piece was given up.
    pub(crate) fn refund_feeds(&self, desk: &mut Desk) {
        self.adjust_feeds(desk, |used, piece| used.saturating_sub(piece));
    }

    fn adjust_feeds(&self, desk: &mut Desk, adjust: fn(u64, u64) -> u64) {
        for url in self.feeds() {
            if let Some(feed) = desk.feeds.get_mut(url) {
                feed.used = adjust(feed.used, self.permit());
            }
        }
    }
}

impl Node {
    /// The operator caps a feed, or caps it no longer.
    pub(crate) fn cap_feed(&mut self, url: String, cap: FeedCap) {
        if cap == FeedCap::default() {
            self.desk.feeds.remove(&url);
        } else {
            self.desk.feeds.entry(url).or_default().cap = cap;
        }
        self.count_feeds();
        self.desk.freed = true;
        self.review();
    }

    /// Counts what each capped feed has in use, and what that leaves to its torrents.
    pub(crate) fn count_feeds(&mut self) {
        if self.desk.feeds.is_empty() {
            for swarm in self.swarms.values_mut() {
                swarm.room = FeedRoom::default();
            }
            return;
        }
        for (url, feed) in &mut self.desk.feeds {
            let its = |swarm: &&Swarm| swarm.feeds().any(|named| named == url);
            let swarms = self.swarms.values().filter(its);
            let (joined, used) = swarms.fold((0, 0), |(joined, used), swarm| {
                let stays = swarm.active.values().filter(|a| a.stage != Stage::Retiring);
                let takes = stays.count() as u64 * swarm.permit();
                (joined + u32::from(swarm.joined()), used + takes)
            });
            (feed.joined, feed.used) = (joined, used);
        }
        for swarm in self.swarms.values_mut() {
            swarm.room = swarm.feed_room(&self.desk);
        }
    }

    /// After a cap became smaller: the least needy of a feed's torrents are left, the least needed pieces given up.
    pub(crate) fn trim_feeds(&mut self) {
        let over: Vec<(String, FeedUse)> = self
            .desk
            .feeds
            .iter()
            .filter(|(_, feed)| feed_cap::surplus(**feed) > 0 || feed_cap::overfull(**feed))
            .map(|(url, feed)| (url.clone(), *feed))
            .collect();
        if over.is_empty() {
            return;
        }
        for (url, feed) in over {
            let mut its: Vec<(f64, SwarmId)> = self
                .swarms
                .values()
                .filter(|swarm| swarm.joined() && !swarm.must_join())
                .filter(|swarm| swarm.feeds().any(|named| *named == url))
                .map(|swarm| (self.rank(swarm), swarm.id))
                .collect();
            its.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            for (_, id) in its.iter().take(feed_cap::surplus(feed) as usize) {
                if let Some(swarm) = self.swarms.get_mut(id) {
                    swarm.leave(&mut self.desk, LeaveReason::FeedCap);
                }
            }
            let mut excess = feed.used.saturating_sub(feed.cap.cache.unwrap_or(u64::MAX));
            while excess > 0 {
                let of_feed = |swarm: &Swarm| swarm.feeds().any(|named| *named == url);
                let Some(freed) = self.evict_cheapest(Purpose::Master, of_feed) else {
                    break;
                };
                excess = excess.saturating_sub(freed);
            }
        }
        self.count_feeds();
    }
}
