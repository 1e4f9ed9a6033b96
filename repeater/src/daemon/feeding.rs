//! What feeds bring, and which feeds there are.

use std::sync::Arc;
use std::time::Duration;

use control_api::feeds::Owner;
use control_api::units::{Size, Span};
use swarm_core::io::{Origin, SwarmFact};
use swarm_core::policy::feed_cap::FeedCap;
use tokio::sync::mpsc;

use super::Shared;
use super::naming::Naming;
use crate::config::{Config, Feed};
use crate::discover::feeds::{FeedEvent, FeedSpec};
use crate::store::SavedFeed;

/// Takes what feeds bring until the daemon stops.
pub(super) async fn run(shared: Arc<Shared>, mut inbox: mpsc::Receiver<FeedEvent>) {
    while let Some(event) = inbox.recv().await {
        if let Err(error) = shared.feed_event(event).await {
            tracing::warn!("{error:#}");
        }
    }
}

/// A feed as it is saved.
pub(super) fn saved(feed: &Feed) -> SavedFeed {
    SavedFeed {
        every_s: feed.every.0.as_secs(),
        allow: feed.allow.clone(),
        deny: feed.deny.clone(),
        max_torrent_bytes: feed.max_torrent_size.0,
    }
}

fn from_saved(url: String, saved: SavedFeed) -> Feed {
    Feed {
        url,
        every: Span(Duration::from_secs(saved.every_s)),
        allow: saved.allow,
        deny: saved.deny,
        max_torrent_size: Size(saved.max_torrent_bytes),
        ..Feed::default()
    }
}

impl Shared {
    async fn feed_event(&self, event: FeedEvent) -> anyhow::Result<()> {
        let naming = match event {
            FeedEvent::Torrent(torrent) => {
                let origin = Origin::Feed(torrent.feed_url);
                Naming::of_metainfo(torrent.metainfo, origin, torrent.named_by)
            }
            FeedEvent::Magnet(magnet) => {
                Naming::of_magnet(&magnet.link, Origin::Feed(magnet.feed_url), magnet.named_by)
            }
        };
        let naming = match naming {
            Ok(naming) => naming,
            Err(why) => {
                tracing::debug!("a feed's torrent was not taken: {why}");
                return Ok(());
            }
        };
        // A feed removed a moment ago names nothing any more.
        let Origin::Feed(feed) = &naming.add.origin else {
            return Ok(());
        };
        let followed = self.feeds.status().iter().any(|status| status.url == *feed);
        if followed && !self.was_left(naming.add.info_hash) {
            let swarm = self.name(naming).await?;
            tracing::debug!(name = %swarm.name(), swarm = %swarm.info_hash, "a feed named a swarm");
        }
        Ok(())
    }

    /// The file's feeds, then those of the store that the file does not name.
    pub(super) async fn all_feeds(&self, config: &Config) -> anyhow::Result<Vec<(Feed, Owner)>> {
        let mut all: Vec<(Feed, Owner)> = config
            .feeds
            .iter()
            .map(|feed| (feed.clone(), Owner::File))
            .collect();
        for (url, saved) in self.store(|store| store.feeds()).await? {
            if !config.feeds.iter().any(|feed| feed.url == url) {
                all.push((from_saved(url, saved), Owner::Store));
            }
        }
        Ok(all)
    }

    /// Follows a feed, or follows it anew with other filters. A failure is logged: the feed's settings were checked.
    pub(super) async fn follow(&self, feed: &Feed) {
        let cap = FeedCap {
            torrents: feed.max_torrents,
            cache: feed.max_cache.0,
        };
        if let Err(error) = self.engine.cap_feed(&feed.url, cap).await {
            tracing::warn!("{error}");
        }
        let spec = FeedSpec::new(
            &feed.url,
            feed.every.0,
            &feed.allow,
            &feed.deny,
            feed.max_torrent_size.0,
        );
        match spec {
            Ok(spec) => {
                if let Err(error) = self.feeds.add(spec).await {
                    tracing::warn!("{error}");
                }
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Follows a feed no longer; what only it named is left.
    pub(super) async fn unfollow(&self, url: &str) -> anyhow::Result<()> {
        self.feeds.remove(url).await;
        self.engine.cap_feed(url, FeedCap::default()).await?;
        let origin = Origin::Feed(url.to_owned());
        for swarm in self.engine.view().await?.node.swarms {
            if swarm.origins.contains(&origin) {
                self.engine
                    .swarm_fact(swarm.id, SwarmFact::Unnamed(origin.clone()))
                    .await?;
            }
        }
        Ok(())
    }
}
