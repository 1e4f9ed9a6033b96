//! How a swarm comes in, whoever names it, and what is taken up again at a start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_wire::address::{AddressSource, dialable};
use bt_wire::ids::InfoHash;
use bt_wire::magnet::Magnet;
use bt_wire::metainfo::Metainfo;
use bytes::Bytes;
use swarm_core::io::{Origin, PeerSource, SwarmFact};

use super::Shared;
use crate::control::Refusal;
use crate::discover::http::HttpRequest;
use crate::store::{SavedSwarm, SwarmContent};
use crate::swarms::{Add, Swarm};

/// For a .torrent file behind a URL.
const FETCH: Duration = Duration::from_secs(45);

/// What a person names a torrent by, when it is no file.
pub(super) enum Source {
    /// A magnet link.
    Magnet(String),
    /// Where a .torrent file is.
    Url(String),
}

impl Source {
    /// The URL schemes say which; `None`: it is neither.
    pub(super) fn of(text: String) -> Option<Self> {
        let is = |scheme: &str| {
            let start = text.get(..scheme.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        };
        if is("magnet:") {
            Some(Self::Magnet(text))
        } else if is("http://") || is("https://") {
            Some(Self::Url(text))
        } else {
            None
        }
    }
}

/// A swarm to name.
pub(super) struct Naming {
    pub(super) add: Add,
    /// Whose word the trackers and peers stand by.
    pub(super) named_by: AddressSource,
    /// Peers, and where they come from. Those that `named_by` may not name are left out.
    pub(super) peers: (Vec<SocketAddr>, PeerSource),
}

impl Naming {
    /// A parsed .torrent file.
    pub(super) fn of_metainfo(
        meta: Metainfo,
        origin: Origin,
        named_by: AddressSource,
    ) -> Result<Self, String> {
        let add = Add::from_metainfo(meta, origin).map_err(|e| e.to_string())?;
        Ok(Self {
            add,
            named_by,
            peers: (Vec::new(), PeerSource::User),
        })
    }

    /// A magnet link, with its own peers.
    pub(super) fn of_magnet(
        link: &str,
        origin: Origin,
        named_by: AddressSource,
    ) -> Result<Self, String> {
        let magnet: Magnet = link
            .parse()
            .map_err(|e: bt_wire::magnet::MagnetError| e.to_string())?;
        if magnet.info_hash_v1.is_none() {
            return Err(bt_wire::metainfo::NotJoinable::V2Only.to_string());
        }
        let add = Add::from_magnet(&magnet, origin);
        Ok(Self {
            add,
            named_by,
            peers: (magnet.peers, PeerSource::Magnet),
        })
    }
}

impl Shared {
    /// The .torrent file, of `max` bytes at most, behind a URL that the operator named.
    pub(super) async fn fetch_torrent(
        &self,
        what: &'static str,
        url: &str,
        max: usize,
    ) -> Result<Bytes, Refusal> {
        let request = HttpRequest {
            url,
            named_by: AddressSource::Operator,
            max_body: max,
            deadline: FETCH,
            etag: None,
            last_modified: None,
        };
        let reply = self.http.get(&request).await.map_err(|e| {
            let hint = "try the URL in a browser, or hand in the file";
            Refusal::failed(what, e.to_string(), hint)
        })?;
        Ok(reply.body.into())
    }

    /// Tells the engine and the trackers of a swarm, or tells them more of it.
    pub(super) async fn name(&self, naming: Naming) -> anyhow::Result<Arc<Swarm>> {
        let Naming {
            add,
            named_by,
            peers: (mut peers, source),
        } = naming;
        let hash = add.info_hash;
        let id = self.engine.add(add).await?;
        self.register(id, named_by).await;
        peers.retain(|peer| dialable(*peer, named_by).is_ok());
        if !peers.is_empty() {
            self.engine
                .swarm_fact(id, SwarmFact::Peers(peers, source))
                .await?;
        }
        // Between the two it can only be forgotten by the operator's own word.
        self.engine
            .find(hash)
            .ok_or_else(|| anyhow::anyhow!("the swarm was left at the same moment; add it again"))
    }

    /// Whether the operator had this swarm left: then only the operator brings it back.
    pub(super) fn was_left(&self, hash: InfoHash) -> bool {
        self.known.lock().left.contains(&hash)
    }

    /// What was there before the last stop: swarms, feeds and masters, the file's and the store's.
    pub(super) async fn take_up_saved(self: &Arc<Self>) -> anyhow::Result<()> {
        for hash in self.store.swarms() {
            match self.store(move |store| store.swarm(hash)).await {
                Ok(Some(saved)) => {
                    if let Err(error) = self.take_up(saved).await {
                        tracing::warn!(swarm = %hash, "a saved swarm was not taken up: {error:#}");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        let config = self.known.lock().config.clone();
        for feed in self.all_feeds(&config).await? {
            self.follow(&feed.0).await;
        }
        for (master, owner) in self.all_masters(&config).await? {
            self.serve_master(master, owner).await?;
        }
        self.take_up_wishes().await
    }

    async fn take_up(&self, saved: SavedSwarm) -> anyhow::Result<()> {
        let mut naming = match saved.content {
            SwarmContent::Metainfo(file) => Naming::of_metainfo(
                Metainfo::from_torrent(file)?,
                Origin::User,
                AddressSource::Operator,
            ),
            SwarmContent::Magnet(link) => {
                Naming::of_magnet(&link, Origin::User, AddressSource::Operator)
            }
        }
        .map_err(anyhow::Error::msg)?;
        naming.add.pinned = saved.pinned;
        let swarm = self.name(naming).await?;
        if !saved.peers.is_empty() {
            self.engine
                .swarm_fact(swarm.id, SwarmFact::Peers(saved.peers, PeerSource::User))
                .await?;
        }
        Ok(())
    }
}
