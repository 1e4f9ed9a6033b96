//! Rendezvous: joined, left, shown; and taken up again at a start.

mod hosting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bt_wire::address::AddressSource;
use bt_wire::ids::InfoHash;
use bt_wire::magnet::Magnet;
use bt_wire::metainfo::Metainfo;
use bytes::Bytes;
use control_api::rendezvous::{
    JoinRendezvous, JoinedRendezvous, LeaveRendezvous, LeftRendezvous, Rendezvous,
};
use data_encoding::BASE64;
use swarm_core::io::{Origin, PeerSource, SwarmFact, SwarmId};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::answers::failed;
use super::naming::{Naming, Source};
use super::{Shared, unix_now};
use crate::config::FriendsMode;
use crate::control::Refusal;
use crate::rendezvous::{AnnounceUrl, MAX_PAYLOAD, MAX_TORRENT, Made};
use crate::store::SavedRendezvous;

/// Most rendezvous at a time.
const MOST: usize = 8;
/// Most trackers of one that we host, and most peers named with one that we join.
const MAX_NAMED: usize = 16;
const WHAT: &str = "rendezvous";
const SHOW_HINT: &str = "`slavectl rendezvous show` lists them";

/// A rendezvous that we host or joined.
#[derive(Debug)]
pub(super) struct Entry {
    id: SwarmId,
    saved: SavedRendezvous,
    url: Option<AnnounceUrl>,
    /// Why the announce URL does not work.
    error: Option<String>,
    stop: CancellationToken,
    /// Serves the announce URL; at its end the address is free.
    serving: Option<JoinHandle<()>>,
}

/// By infohash.
pub(super) type Table = BTreeMap<InfoHash, Entry>;

fn invalid(why: impl Into<String>, hint: &str) -> Refusal {
    Refusal::invalid(WHAT, why, hint)
}

/// Why a torrent is no rendezvous.
//= spec/rendezvous.md#rv-torrent
fn check(meta: &Metainfo) -> Result<(), &'static str> {
    if meta.private {
        Err("the torrent is private, and a rendezvous is public")
    } else if meta.total > MAX_PAYLOAD {
        Err("its payload is over 1 MiB, and that of a rendezvous is a page")
    } else {
        Ok(())
    }
}

impl Shared {
    /// Why there can be no more of them now.
    fn may_meet(&self) -> Result<(), Refusal> {
        let known = self.known.lock();
        if known.config.friends.mode == FriendsMode::Off {
            let hint = "write mode = \"known\" or \"open\" there, then `slavectl reload`";
            let why = "the configuration has friends.mode = \"off\"";
            return Err(Refusal::conflict(WHAT, why, hint));
        }
        if known.rendezvous.len() >= MOST {
            let why = format!("{MOST} are the most at a time");
            return Err(Refusal::conflict(WHAT, why, "leave one first"));
        }
        Ok(())
    }

    async fn keep_rendezvous(&self, hash: InfoHash, saved: &SavedRendezvous) -> anyhow::Result<()> {
        let saved = saved.clone();
        self.store(move |store| store.put_rendezvous(hash, &saved))
            .await
    }

    /// Joins a rendezvous; again = adds peers.
    pub(super) async fn join_rendezvous(
        &self,
        join: JoinRendezvous,
    ) -> Result<JoinedRendezvous, Refusal> {
        let mut peers = Vec::new();
        for peer in &join.peers {
            let addr = peer.parse::<SocketAddr>().ok().filter(|a| a.port() != 0);
            peers.push(addr.filter(|_| peers.len() < MAX_NAMED).ok_or_else(|| {
                let shown = peer.escape_debug();
                invalid(
                    format!("peer {shown} is not ADDRESS:PORT, or one too many"),
                    "",
                )
            })?);
        }
        let (torrent, magnet) = self.named_rendezvous(join).await?;
        let _one_at_a_time = self.changing.lock().await;
        let (hash, naming) = naming(&torrent, magnet.as_deref()).map_err(|why| {
            invalid(
                why,
                "to join an ordinary torrent, use `slavectl swarms add`",
            )
        })?;
        if let Some(joined) = self.joined_before(hash, &peers).await? {
            return Ok(joined);
        }
        self.may_meet()?;
        if self.engine.find(hash).is_some() {
            let hint = format!("`slavectl swarms leave {hash}` first");
            return Err(Refusal::conflict(
                WHAT,
                "is known as an ordinary swarm",
                hint,
            ));
        }
        let saved = SavedRendezvous {
            torrent: torrent.to_vec(),
            magnet,
            peers,
            host: None,
            added_at: unix_now(),
        };
        self.keep_rendezvous(hash, &saved).await.map_err(failed)?;
        let name = self.open_member(naming, saved).await.map_err(failed)?;
        Ok(JoinedRendezvous {
            info_hash: hash.to_string(),
            name,
            new: true,
        })
    }

    /// The .torrent file and the magnet link that somebody names; one of them is there.
    async fn named_rendezvous(
        &self,
        join: JoinRendezvous,
    ) -> Result<(Bytes, Option<String>), Refusal> {
        let small = |bytes: Bytes| {
            let fits = bytes.len() <= MAX_TORRENT;
            let why = "its torrent file is over 32 KiB, and that of a rendezvous is small";
            fits.then_some((bytes, None)).ok_or_else(|| {
                invalid(
                    why,
                    "to join an ordinary torrent, use `slavectl swarms add`",
                )
            })
        };
        let neither = || {
            let why = "is neither a torrent file, nor a magnet link or http(s) URL of one";
            invalid(why, "see /api/openapi.json")
        };
        match (join.torrent, join.source) {
            (Some(text), None) => {
                let bytes = BASE64.decode(text.as_bytes());
                small(
                    bytes
                        .map_err(|_| invalid("the torrent is no base64", ""))?
                        .into(),
                )
            }
            (None, Some(source)) => match Source::of(source) {
                Some(Source::Magnet(link)) => Ok((Bytes::new(), Some(link))),
                Some(Source::Url(url)) => small(self.fetch_torrent(WHAT, &url, MAX_TORRENT).await?),
                None => Err(neither()),
            },
            (None, None) | (Some(_), Some(_)) => Err(neither()),
        }
    }

    /// If it is one of ours already: dials the peers, and keeps them.
    async fn joined_before(
        &self,
        hash: InfoHash,
        peers: &[SocketAddr],
    ) -> Result<Option<JoinedRendezvous>, Refusal> {
        let (id, saved) = {
            let mut known = self.known.lock();
            let Some(entry) = known.rendezvous.get_mut(&hash) else {
                return Ok(None);
            };
            let kept = &mut entry.saved.peers;
            kept.retain(|peer| !peers.contains(peer));
            kept.splice(0..0, peers.iter().copied());
            kept.truncate(MAX_NAMED);
            (entry.id, entry.saved.clone())
        };
        self.keep_rendezvous(hash, &saved).await.map_err(failed)?;
        self.dial_named(id, peers.to_vec()).await.map_err(failed)?;
        let name = self.engine.find(hash).map(|swarm| swarm.name());
        Ok(Some(JoinedRendezvous {
            info_hash: hash.to_string(),
            name: name.unwrap_or_default(),
            new: false,
        }))
    }

    async fn dial_named(&self, id: SwarmId, peers: Vec<SocketAddr>) -> anyhow::Result<()> {
        if !peers.is_empty() {
            let fact = SwarmFact::Peers(peers, PeerSource::User);
            self.engine.swarm_fact(id, fact).await?;
        }
        Ok(())
    }

    async fn open_member(&self, naming: Naming, saved: SavedRendezvous) -> anyhow::Result<String> {
        let hash = naming.add.info_hash;
        let swarm = self.name(naming).await?;
        self.dial_named(swarm.id, saved.peers.clone()).await?;
        let entry = Entry {
            id: swarm.id,
            saved,
            url: None,
            error: None,
            stop: CancellationToken::new(),
            serving: None,
        };
        self.known.lock().rendezvous.insert(hash, entry);
        Ok(swarm.name())
    }

    /// What was there before the last stop, or before friends were switched off; what of it is there again.
    pub(super) async fn take_up_rendezvous(self: &Arc<Self>) -> anyhow::Result<Vec<InfoHash>> {
        let mut taken = Vec::new();
        if self.known.lock().config.friends.mode == FriendsMode::Off {
            return Ok(taken);
        }
        for (hash, saved) in self.store(|store| store.rendezvous()).await? {
            match self.take_up_one(saved).await {
                Ok(()) => taken.push(hash),
                Err(error) => {
                    tracing::warn!(rendezvous = %hash, "it was not taken up: {error:#}");
                }
            }
        }
        Ok(taken)
    }

    /// Friends are switched off: all are left, and saved for when they are on again.
    pub(super) async fn rest_rendezvous(&self) -> anyhow::Result<Vec<InfoHash>> {
        let all = std::mem::take(&mut self.known.lock().rendezvous);
        let mut left = Vec::new();
        for (hash, entry) in all {
            self.let_go(entry).await?;
            left.push(hash);
        }
        Ok(left)
    }

    /// Leaves the swarm, and frees the announce URL's address.
    async fn let_go(&self, entry: Entry) -> anyhow::Result<()> {
        entry.stop.cancel();
        let fact = SwarmFact::Unnamed(Origin::Rendezvous);
        self.engine.swarm_fact(entry.id, fact).await?;
        // It is answered after that: from then on the infohash may be named anew.
        self.engine.view().await?;
        match entry.serving {
            Some(serving) => serving.await.context("the announce URL"),
            None => Ok(()),
        }
    }

    async fn take_up_one(self: &Arc<Self>, saved: SavedRendezvous) -> anyhow::Result<()> {
        let torrent = Bytes::from(saved.torrent.clone());
        let Some(host) = saved.host.clone() else {
            let (_, naming) =
                naming(&torrent, saved.magnet.as_deref()).map_err(anyhow::Error::msg)?;
            return self.open_member(naming, saved).await.map(drop);
        };
        let made = Made {
            metainfo: Metainfo::from_torrent(torrent.clone())?,
            torrent,
            page: host.page.into(),
        };
        let (mut listener, mut error) = (None, None);
        if let Some(at) = host.listen {
            match TcpListener::bind(at).await {
                Ok(bound) => listener = Some(bound),
                Err(e) => {
                    let why = format!("cannot listen on {at}: {e}; free it and restart btslave");
                    tracing::warn!("the announce URL of a rendezvous {why}");
                    error = Some(why);
                }
            }
        }
        self.open_host(saved, made, listener, error).await
    }

    /// The metadata of a magnet link came. A private torrent is no rendezvous: it is left.
    pub(super) async fn rendezvous_metadata(&self, id: SwarmId) -> anyhow::Result<()> {
        let swarm = self.engine.swarms().get(id);
        let Some((swarm, torrent)) = swarm.and_then(|s| Some((s.clone(), s.torrent()?.clone())))
        else {
            return Ok(());
        };
        let file = super::announcing::torrent_file(&torrent.meta.info_bytes, &swarm.trackers());
        let hash = swarm.info_hash;
        let sound = check(&torrent.meta).and_then(|()| {
            let why = "its torrent file is over 32 KiB";
            (file.len() <= MAX_TORRENT).then_some(()).ok_or(why)
        });
        if let Err(why) = sound {
            tracing::warn!(rendezvous = %hash, "it is left: {why}");
            metrics::counter!("btslave_rendezvous_refused_total", "reason" => "torrent")
                .increment(1);
            return self.forget_rendezvous(hash).await;
        }
        let saved = {
            let mut known = self.known.lock();
            let Some(entry) = known.rendezvous.get_mut(&hash) else {
                return Ok(());
            };
            entry.saved.torrent = file;
            entry.saved.clone()
        };
        self.keep_rendezvous(hash, &saved).await
    }

    async fn forget_rendezvous(&self, hash: InfoHash) -> anyhow::Result<()> {
        self.store(move |store| store.remove_rendezvous(hash))
            .await?;
        let entry = self.known.lock().rendezvous.remove(&hash);
        match entry {
            Some(entry) => self.let_go(entry).await,
            None => Ok(()),
        }
    }

    /// Leaves one, and hosts it no longer.
    pub(super) async fn leave_rendezvous(
        &self,
        leave: LeaveRendezvous,
    ) -> Result<LeftRendezvous, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let begins = leave.info_hash.map(|hash| hash.to_ascii_lowercase());
        let hash = {
            let known = self.known.lock();
            let meant = |hash: &&InfoHash| {
                let whole = hash.to_string();
                begins
                    .as_ref()
                    .is_none_or(|begins| whole.starts_with(begins))
            };
            let mut all = known.rendezvous.keys().filter(meant);
            match (all.next(), all.next()) {
                (Some(hash), None) => *hash,
                (None, _) => {
                    let why = "there is none, or none whose infohash begins so";
                    return Err(Refusal::not_found(WHAT, why, SHOW_HINT));
                }
                (Some(_), Some(_)) => {
                    let hint = "name the infohash, or its beginning; `slavectl rendezvous show` lists them";
                    return Err(invalid("there are several", hint));
                }
            }
        };
        self.forget_rendezvous(hash).await.map_err(failed)?;
        Ok(LeftRendezvous {
            info_hash: hash.to_string(),
        })
    }

    /// All rendezvous, by name.
    pub(super) async fn rendezvous_rows(&self) -> Result<Vec<Rendezvous>, Refusal> {
        let view = self.engine.view().await.map_err(failed)?.node;
        let rows = self
            .known
            .lock()
            .rendezvous
            .iter()
            .map(|(hash, entry)| (*hash, entry.id, entry.saved.clone(), entry.error.clone()))
            .collect::<Vec<_>>();
        let rows = rows.into_iter().map(|(hash, id, saved, error)| {
            let swarm = view.swarms.iter().find(|swarm| swarm.id == id);
            let meeting = swarm.and_then(|swarm| swarm.meeting);
            let known = self.engine.swarms().get(id);
            let joined = known.as_ref().is_some_and(|swarm| swarm.is_joined());
            let metadata = known
                .as_ref()
                .is_some_and(|swarm| swarm.torrent().is_none());
            let state = match (joined, metadata, view.paused || view.month.spent) {
                (false, _, true) => "paused",
                (false, _, false) => "known",
                (true, true, _) => "metadata",
                (true, false, _) => "joined",
            };
            let name = known.map_or_else(String::new, |swarm| swarm.name());
            let url = saved.host.as_ref().and_then(|host| host.url.clone());
            let torrent_url = url.as_ref().and_then(|url| {
                let base = url.strip_suffix("/announce")?;
                Some(format!("{base}/rendezvous.torrent"))
            });
            Rendezvous {
                info_hash: hash.to_string(),
                role: if saved.host.is_some() {
                    "host"
                } else {
                    "member"
                }
                .to_owned(),
                state: state.to_owned(),
                magnet: magnet_of(hash, &saved),
                announce_url: url,
                torrent_url,
                error,
                peers: swarm.map_or(0, |swarm| swarm.peers),
                members: meeting.map_or(0, |meeting| meeting.members),
                listed: meeting.map_or(0, |meeting| meeting.listed),
                strangers_let_go: meeting.map_or(0, |meeting| meeting.strangers_let_go),
                trackers: self.tracker_rows(id),
                added_at: saved.added_at,
                name,
            }
        });
        let mut rows: Vec<Rendezvous> = rows.collect();
        rows.sort_by(|a, b| (&a.name, &a.info_hash).cmp(&(&b.name, &b.info_hash)));
        Ok(rows)
    }

    async fn rendezvous_row(&self, hash: InfoHash) -> Result<Rendezvous, Refusal> {
        let rows = self.rendezvous_rows().await?.into_iter();
        let row = rows
            .into_iter()
            .find(|row| row.info_hash == hash.to_string());
        row.context("the rendezvous was left at the same moment")
            .map_err(failed)
    }

    /// Whether it is one of ours, which `swarms leave` does not leave.
    pub(super) fn is_rendezvous(&self, hash: InfoHash) -> bool {
        self.known.lock().rendezvous.contains_key(&hash)
    }
}

/// A torrent or magnet link as a rendezvous to join.
fn naming(torrent: &Bytes, magnet: Option<&str>) -> Result<(InfoHash, Naming), String> {
    let named = AddressSource::Operator;
    let naming = match magnet.filter(|_| torrent.is_empty()) {
        Some(link) => Naming::of_magnet(link, Origin::Rendezvous, named)?,
        None => {
            let meta = Metainfo::from_torrent(torrent.clone()).map_err(|e| e.to_string())?;
            check(&meta)?;
            Naming::of_metainfo(meta, Origin::Rendezvous, named)?
        }
    };
    Ok((naming.add.info_hash, naming))
}

fn magnet_of(hash: InfoHash, saved: &SavedRendezvous) -> String {
    let meta = Metainfo::from_torrent(saved.torrent.clone()).ok();
    let magnet = meta.map(|meta| Magnet {
        info_hash_v1: Some(hash),
        name: Some(meta.name.clone()),
        trackers: meta.trackers.concat(),
        ..Magnet::default()
    });
    let made = magnet.map(|magnet| magnet.to_string());
    made.or_else(|| saved.magnet.clone()).unwrap_or_default()
}
