//! [`Control`]: what the API asks of the daemon.

use std::sync::Arc;

use bt_wire::ids::InfoHash;
use bytes::Bytes;
use control_api::aid::{Aid, HelpAsked};
use control_api::feeds::{AddFeed, Feed, FeedsChanged};
use control_api::friends::{
    AddFriend, Friend, FriendsExport, Imported, LedgerAccount, LedgerCheck, OwnCode, OwnSuccession,
};
use control_api::masters::{AddMaster, Master, MasterRpc, MasterTest};
use control_api::node::{CacheReport, CacheSwarm, Reloaded};
use control_api::rendezvous::{
    HostRendezvous, Hosted, JoinRendezvous, JoinedRendezvous, LeaveRendezvous, LeftRendezvous,
    Rendezvous,
};
use control_api::status::{CacheStatus, Session, Status};
use control_api::swarms::{Added, SwarmDetail, SwarmRow, SwarmState, Why, WhyTerm};
use swarm_core::io::Origin;
use swarm_core::view::{MasterState, NodeView, SwarmView};

use super::Shared;
use crate::control::{AddOptions, Control, HelpWith, Refusal, Reply};
use crate::discover::feeds::FeedStanding;
use crate::driver::View;

/// The daemon behind its API.
pub(super) struct Answers(pub(super) Arc<Shared>);

/// The daemon cannot do it just now.
pub(super) fn failed(error: impl Into<anyhow::Error>) -> Refusal {
    let error: anyhow::Error = error.into();
    Refusal::failed("btslave", format!("{error:#}"), "its log says more")
}

pub(super) fn no_swarm(hash: InfoHash) -> Refusal {
    Refusal::not_found(
        format!("swarm {hash}"),
        "nobody named it",
        "`slavectl swarms` lists those known; `slavectl swarms add` adds one",
    )
}

impl Shared {
    pub(super) async fn view(&self) -> Result<View, Refusal> {
        self.engine.view().await.map_err(failed)
    }

    fn row(&self, view: &SwarmView, paused: bool) -> SwarmRow {
        use swarm_core::view::SwarmState as Brain;
        let metadata = self
            .engine
            .swarms()
            .get(view.id)
            .is_none_or(|swarm| swarm.torrent().is_none());
        let state = match view.state {
            Brain::TooBig => SwarmState::TooBig,
            Brain::Joined if metadata => SwarmState::Metadata,
            Brain::Joined => SwarmState::Joined,
            Brain::Known | Brain::Resting if paused => SwarmState::Paused,
            Brain::Resting => SwarmState::Resting,
            Brain::Known => SwarmState::Known,
        };
        SwarmRow {
            info_hash: InfoHash(view.info_hash).to_string(),
            name: view.name.clone(),
            state,
            need: Some(view.need),
            peers: view.peers,
            interested_peers: view.interested_peers,
            held_pieces: view.held_pieces,
            uploaded_bytes: view.uploaded_bytes,
            downloaded_bytes: view.downloaded_bytes,
            to_master_bytes: view.to_master_bytes,
            pinned: view.pinned,
        }
    }

    /// The neediest first; among equals, by infohash.
    fn rows(&self, node: &NodeView) -> Vec<SwarmRow> {
        ranked(node)
            .into_iter()
            .map(|swarm| self.row(swarm, node.paused || node.month.spent))
            .collect()
    }

    fn origins(&self, view: &SwarmView) -> Vec<String> {
        view.origins
            .iter()
            .map(|origin| match origin {
                Origin::User => "user".to_owned(),
                Origin::Rendezvous => "rendezvous".to_owned(),
                Origin::Friend(id) => format!("friend {}", id.0),
                Origin::Feed(url) => format!("feed {}", crate::discover::feeds::shown(url)),
                Origin::Master(id) => format!("master {}", self.master_name(*id)),
            })
            .collect()
    }

    async fn feed_rows(&self) -> Result<Vec<Feed>, Refusal> {
        let config = self.known.lock().config.clone();
        let all = self.all_feeds(&config).await.map_err(failed)?;
        let standing = self.feeds.status();
        let rows = all.into_iter().map(|(feed, owner)| {
            let status = standing.iter().find(|status| status.url == feed.url);
            let state = match status.map(|status| status.standing) {
                None | Some(FeedStanding::New) => "waiting",
                Some(FeedStanding::Ok) => "ok",
                Some(FeedStanding::Failing) => "failed",
            };
            Feed {
                state: state.to_owned(),
                items: status.map_or(0, |status| u32::try_from(status.items).unwrap_or(u32::MAX)),
                last_ok: status.and_then(|status| status.last_ok),
                error: status.and_then(|status| status.error.clone()),
                every_s: feed.every.0.as_secs(),
                owner,
                url: feed.url,
            }
        });
        Ok(rows.collect())
    }

    pub(super) fn master_rows(&self, node: &NodeView) -> Vec<Master> {
        let known = self.known.lock();
        let rows = known.masters.values().map(|entry| {
            let view = node.masters.iter().find(|view| view.id == entry.id);
            let state = match view.map(|view| view.state) {
                None | Some(MasterState::Unresolved) => "unresolved",
                Some(MasterState::Unreachable) => "unreachable",
                Some(MasterState::Connected) => "connected",
                Some(MasterState::Complete) => "complete",
            };
            let rpc = entry.master.rpc.as_ref().map(|rpc| MasterRpc {
                kind: rpc.kind.word().to_owned(),
                url: rpc.url.clone(),
                state: match &entry.rpc {
                    None => "waiting",
                    Some(Ok(())) => "ok",
                    Some(Err(_)) => "failed",
                }
                .to_owned(),
                error: entry.rpc.clone().and_then(Result::err),
            });
            Master {
                name: entry.master.name.clone(),
                address: entry.master.address.clone(),
                state: state.to_owned(),
                rpc,
                to_master_bytes: view.map_or(0, |view| view.to_master_bytes),
                missing_pieces: view
                    .and_then(|view| view.missing_pieces)
                    .map_or(0, u64::from),
                share: entry.master.share,
                owner: entry.owner,
            }
        });
        rows.collect()
    }

    async fn status(&self) -> Result<Status, Refusal> {
        let view = self.view().await?;
        let feeds = self.feed_rows().await?;
        let friends = self.friends_status().await?;
        let node = &view.node;
        let totals = self.add_totals(node);
        let limit_bytes = self.known.lock().config.cache.size;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer_id: self.engine.peer_id().to_string(),
            listen: self
                .engine
                .listen_addrs()
                .iter()
                .map(ToString::to_string)
                .collect(),
            uptime_s: view.uptime_us / 1_000_000,
            paused: node.paused,
            month: super::limiting::month(&node.month),
            uploaded_bytes: totals.uploaded,
            downloaded_bytes: totals.downloaded,
            session: Session {
                uploaded_bytes: node.uploaded_bytes,
                downloaded_bytes: node.downloaded_bytes,
            },
            wasted_bytes: totals.wasted,
            upload_rate_bps: node.upload_rate_bps,
            download_rate_bps: node.download_rate_bps,
            upload_limit_bps: node.upload_limit_bps,
            download_limit_bps: node.download_limit_bps,
            cache: CacheStatus {
                limit_bytes,
                used_bytes: used(&view),
                pieces: node.cache.pieces,
            },
            connections: node.connections,
            swarms: self.rows(node),
            masters: self.master_rows(node),
            friends,
            feeds,
        })
    }

    async fn detail(&self, hash: InfoHash) -> Result<SwarmDetail, Refusal> {
        let view = self.view().await?;
        let swarm = view
            .node
            .swarms
            .iter()
            .find(|swarm| swarm.info_hash == hash.0)
            .ok_or_else(|| no_swarm(hash))?;
        let torrent = self
            .engine
            .swarms()
            .get(swarm.id)
            .and_then(|swarm| swarm.torrent().cloned());
        let counts = self
            .known
            .lock()
            .announcing
            .get(&swarm.id)
            .map(|entry| entry.counts)
            .unwrap_or_default();
        Ok(SwarmDetail {
            row: self.row(swarm, view.node.paused || view.node.month.spent),
            private: swarm.private,
            piece_length: swarm.piece_length,
            piece_count: swarm.total_pieces,
            total_bytes: torrent.map(|torrent| torrent.layout.total),
            seeds: counts.complete,
            downloaders: counts.downloaders.or(counts.incomplete),
            origins: self.origins(swarm),
            trackers: self.tracker_rows(swarm.id),
        })
    }

    async fn why(&self, hash: InfoHash) -> Result<Why, Refusal> {
        let view = self.view().await?;
        let ranked = ranked(&view.node);
        let at = ranked
            .iter()
            .position(|swarm| swarm.info_hash == hash.0)
            .ok_or_else(|| no_swarm(hash))?;
        let swarm = ranked[at];
        let row = self.row(swarm, view.node.paused);
        let terms = swarm.need_terms.iter().map(|term| WhyTerm {
            term: term.name.to_owned(),
            value: term.value,
            weight: term.weight,
        });
        Ok(Why {
            info_hash: row.info_hash,
            name: row.name,
            state: row.state,
            need: row.need,
            rank: u32::try_from(at + 1).unwrap_or(u32::MAX),
            of: u32::try_from(ranked.len()).unwrap_or(u32::MAX),
            terms: terms.collect(),
            origins: self.origins(swarm),
        })
    }

    async fn cache(&self) -> Result<CacheReport, Refusal> {
        let view = self.view().await?;
        let held = view
            .node
            .swarms
            .iter()
            .filter(|swarm| swarm.held_pieces > 0 && !swarm.kept);
        let cache = self.known.lock().config.cache;
        Ok(CacheReport {
            limit_bytes: cache.size,
            used_bytes: used(&view),
            high_water_bytes: view.cache.high_water_bytes,
            memory_limit_bytes: cache.memory,
            pieces: view.node.cache.pieces,
            swarms: held
                .map(|swarm| CacheSwarm {
                    info_hash: InfoHash(swarm.info_hash).to_string(),
                    name: swarm.name.clone(),
                    held_pieces: swarm.held_pieces,
                    held_bytes: swarm.used_bytes,
                })
                .collect(),
        })
    }
}

fn used(view: &View) -> u64 {
    view.cache
        .memory_bytes
        .saturating_add(view.cache.disk_bytes)
}

fn ranked(node: &NodeView) -> Vec<&SwarmView> {
    let mut swarms: Vec<&SwarmView> = node.swarms.iter().collect();
    swarms.sort_by(|a, b| {
        b.need
            .total_cmp(&a.need)
            .then(a.info_hash.cmp(&b.info_hash))
    });
    swarms
}

impl Control for Answers {
    fn status(&self) -> Reply<'_, Status> {
        Box::pin(self.0.status())
    }
    fn swarms(&self) -> Reply<'_, Vec<SwarmRow>> {
        Box::pin(async { Ok(self.0.rows(&self.0.view().await?.node)) })
    }
    fn swarm(&self, hash: InfoHash) -> Reply<'_, SwarmDetail> {
        Box::pin(self.0.detail(hash))
    }
    fn why(&self, hash: InfoHash) -> Reply<'_, Why> {
        Box::pin(self.0.why(hash))
    }
    fn add_torrent(&self, file: Bytes, options: AddOptions) -> Reply<'_, Added> {
        Box::pin(self.0.add_torrent(file, options))
    }
    fn add_source(&self, source: String, options: AddOptions) -> Reply<'_, Added> {
        Box::pin(self.0.add_source(source, options))
    }
    fn leave(&self, hash: InfoHash) -> Reply<'_, ()> {
        Box::pin(async move {
            self.0
                .leave(hash)
                .await?
                .then_some(())
                .ok_or_else(|| no_swarm(hash))
        })
    }
    fn feeds(&self) -> Reply<'_, Vec<Feed>> {
        Box::pin(self.0.feed_rows())
    }
    fn add_feed(&self, feed: AddFeed) -> Reply<'_, FeedsChanged> {
        Box::pin(self.0.add_feed(feed.url))
    }
    fn remove_feed(&self, url: String) -> Reply<'_, FeedsChanged> {
        Box::pin(self.0.remove_feed(url))
    }
    fn poll_feeds(&self, url: Option<String>) -> Reply<'_, FeedsChanged> {
        Box::pin(self.0.poll_feeds(url))
    }
    fn masters(&self) -> Reply<'_, Vec<Master>> {
        Box::pin(async { Ok(self.0.master_rows(&self.0.view().await?.node)) })
    }
    fn add_master(&self, master: AddMaster) -> Reply<'_, Master> {
        Box::pin(self.0.add_master(master))
    }
    fn remove_master(&self, name: String) -> Reply<'_, ()> {
        Box::pin(self.0.remove_master(name))
    }
    fn test_master(&self, name: String) -> Reply<'_, MasterTest> {
        Box::pin(self.0.test_master(name))
    }
    fn friends(&self) -> Reply<'_, Vec<Friend>> {
        Box::pin(self.0.friend_rows())
    }
    fn add_friend(&self, friend: AddFriend) -> Reply<'_, Friend> {
        Box::pin(self.0.add_friend(friend))
    }
    fn remove_friend(&self, name: String) -> Reply<'_, ()> {
        Box::pin(self.0.remove_friend(name))
    }
    fn own_code(&self) -> Reply<'_, OwnCode> {
        Box::pin(async { self.0.own_code() })
    }
    fn own_succession(&self) -> Reply<'_, OwnSuccession> {
        Box::pin(self.0.own_succession())
    }
    fn replace_own_key(&self) -> Reply<'_, OwnSuccession> {
        Box::pin(self.0.replace_own_key())
    }
    fn follow_friend(&self, statement: String) -> Reply<'_, Friend> {
        Box::pin(self.0.follow_friend(statement))
    }
    fn ledger(&self) -> Reply<'_, Vec<LedgerAccount>> {
        Box::pin(self.0.ledger())
    }
    fn verify_ledger(&self) -> Reply<'_, LedgerCheck> {
        Box::pin(self.0.verify_ledger())
    }
    fn export_friends(&self) -> Reply<'_, FriendsExport> {
        Box::pin(self.0.export_friends())
    }
    fn import_friends(&self, export: FriendsExport) -> Reply<'_, Imported> {
        Box::pin(self.0.import_friends(export))
    }
    fn rendezvous(&self) -> Reply<'_, Vec<Rendezvous>> {
        Box::pin(self.0.rendezvous_rows())
    }
    fn host_rendezvous(&self, host: HostRendezvous) -> Reply<'_, Hosted> {
        Box::pin(self.0.host_rendezvous(host))
    }
    fn join_rendezvous(&self, join: JoinRendezvous) -> Reply<'_, JoinedRendezvous> {
        Box::pin(self.0.join_rendezvous(join))
    }
    fn leave_rendezvous(&self, leave: LeaveRendezvous) -> Reply<'_, LeftRendezvous> {
        Box::pin(self.0.leave_rendezvous(leave))
    }
    fn aid(&self) -> Reply<'_, Aid> {
        Box::pin(self.0.aid())
    }
    fn ask_for_help(&self, with: HelpWith, bytes: Option<u64>) -> Reply<'_, HelpAsked> {
        Box::pin(self.0.ask_for_help(with, bytes))
    }
    fn stop_help(&self, hash: InfoHash) -> Reply<'_, ()> {
        Box::pin(self.0.stop_help(hash))
    }
    fn cache(&self) -> Reply<'_, CacheReport> {
        Box::pin(self.0.cache())
    }
    fn pause(&self, paused: bool) -> Reply<'_, ()> {
        Box::pin(self.0.pause(paused))
    }
    fn reload(&self) -> Reply<'_, Reloaded> {
        Box::pin(self.0.reload())
    }
}
