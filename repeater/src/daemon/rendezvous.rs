//! Rendezvous: hosted, joined, left, shown; and taken up again at a start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bt_wire::address::AddressSource;
use bt_wire::ids::InfoHash;
use bt_wire::magnet::Magnet;
use bt_wire::metainfo::Metainfo;
use bt_wire::tracker::check_announce_url;
use bytes::Bytes;
use control_api::rendezvous::{
    HostRendezvous, Hosted, JoinRendezvous, JoinedRendezvous, LeaveRendezvous, LeftRendezvous,
    Rendezvous,
};
use data_encoding::BASE64;
use swarm_core::io::{Origin, PeerSource, SwarmFact, SwarmId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::answers::failed;
use super::naming::Naming;
use super::{Shared, unix_now};
use crate::cache::MemoryContent;
use crate::config::FriendsMode;
use crate::control::{Refusal, server};
use crate::discover::http::HttpRequest;
use crate::rendezvous::{
    self, AnnounceUrl, Announcement, MAX_PAYLOAD, MAX_TORRENT, Made, SERVER_LIMITS,
};
use crate::store::{SavedHost, SavedRendezvous};
use crate::swarms::{Add, Torrent};

/// Most rendezvous at a time.
const MOST: usize = 8;
/// Most trackers of one that we host, and most peers named with one that we join.
const MAX_NAMED: usize = 16;
/// Announcements that may wait for the brain.
const ANNOUNCEMENTS: usize = 64;
/// For a .torrent file behind a URL.
const FETCH: Duration = Duration::from_secs(45);
/// The port on which trackers listen by custom.
const PORT: u16 = 6969;
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

/// What a host is asked to do, read and checked.
struct Plan {
    name: String,
    listen: Option<SocketAddr>,
    url: Option<String>,
    /// The torrent's, our own announce URL first.
    trackers: Vec<String>,
}

impl Plan {
    fn new(host: HostRendezvous, peers_at: &[SocketAddr]) -> Result<Self, Refusal> {
        let name = host.name;
        rendezvous::check_name(&name)
            .map_err(|why| invalid(format!("the name {why}"), "--name NAME"))?;
        let checked = |url: &str| {
            let shown = url.escape_debug();
            check_announce_url(url)
                .map_err(|e| invalid(format!("{shown}: {e}"), "write http://HOST:PORT/announce"))
        };
        let (mut listen, mut url) = (None, None);
        if host.announce {
            let at = match &host.listen {
                Some(text) => text.parse().map_err(|_| {
                    let shown = text.escape_debug();
                    invalid(
                        format!("{shown} is not ADDRESS:PORT"),
                        "write 192.0.2.1:6969",
                    )
                })?,
                None => peers_at
                    .first()
                    .map(|addr| SocketAddr::new(addr.ip(), PORT))
                    .ok_or_else(|| invalid("no address to listen on is known", "--listen"))?,
            };
            listen = Some(at);
            url = Some(match host.url {
                Some(url) => url,
                None if at.ip().is_unspecified() => {
                    return Err(invalid(
                        format!("nobody can tell by which address others reach {at}"),
                        "say it with --url http://HOST:6969/announce, or use only other trackers with --no-announce-url --tracker URL",
                    ));
                }
                None => format!("http://{at}/announce"),
            });
        } else if host.trackers.is_empty() {
            let hint = "name one with --tracker URL, or let btslave run an announce URL";
            return Err(invalid("without a tracker nobody finds it", hint));
        }
        let trackers: Vec<String> = url.iter().cloned().chain(host.trackers).collect();
        if trackers.len() > MAX_NAMED {
            return Err(invalid(
                format!("names over {MAX_NAMED} trackers"),
                "name fewer",
            ));
        }
        for tracker in &trackers {
            checked(tracker)?;
        }
        Ok(Self {
            name,
            listen,
            url,
            trackers,
        })
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

    /// Makes a rendezvous, and hosts it.
    pub(super) async fn host_rendezvous(
        self: &Arc<Self>,
        host: HostRendezvous,
    ) -> Result<Hosted, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        self.may_meet()?;
        let plan = Plan::new(host, self.engine.listen_addrs())?;
        let salt = super::random().map_err(failed)?;
        let made = rendezvous::make(&plan.name, salt, &plan.trackers).map_err(failed)?;
        let listener = match plan.listen {
            Some(at) => Some(TcpListener::bind(at).await.map_err(|e| {
                let hint = "choose another address or port with --listen ADDRESS:PORT";
                Refusal::failed(WHAT, format!("cannot listen on {at}: {e}"), hint)
            })?),
            None => None,
        };
        let saved = SavedRendezvous {
            torrent: made.torrent.to_vec(),
            magnet: None,
            peers: Vec::new(),
            host: Some(SavedHost {
                page: made.page.to_vec(),
                listen: plan.listen,
                url: plan.url,
            }),
            added_at: unix_now(),
        };
        let hash = made.metainfo.info_hash();
        self.keep_rendezvous(hash, &saved).await.map_err(failed)?;
        self.open_host(saved, made.clone(), listener, None)
            .await
            .map_err(failed)?;
        Ok(Hosted {
            rendezvous: self.rendezvous_row(hash).await?,
            torrent: BASE64.encode(&made.torrent),
        })
    }

    async fn keep_rendezvous(&self, hash: InfoHash, saved: &SavedRendezvous) -> anyhow::Result<()> {
        let saved = saved.clone();
        self.store(move |store| store.put_rendezvous(hash, &saved))
            .await
    }

    /// Serves the payload, and the announce URL if there is a listener for it.
    async fn open_host(
        self: &Arc<Self>,
        saved: SavedRendezvous,
        made: Made,
        listener: Option<TcpListener>,
        error: Option<String>,
    ) -> anyhow::Result<()> {
        let own = saved.host.as_ref().and_then(|host| host.url.clone());
        let mut add = Add::from_metainfo(made.metainfo.clone(), Origin::Rendezvous)?;
        // To ourselves we need not announce.
        for tier in &mut add.trackers {
            tier.retain(|url| Some(url) != own.as_ref());
        }
        add.trackers.retain(|tier| !tier.is_empty());
        let (hash, torrent) = (add.info_hash, Torrent::new(made.metainfo.clone())?);
        let content = MemoryContent::new(made.page.clone(), torrent.layout);
        let id = self.engine.keep(add, torrent, Arc::new(content)).await?;
        self.register(id, AddressSource::Operator).await;
        let stop = self.stop.child_token();
        let url = listener.map(|listener| self.serve_announces(id, &made, listener, &stop));
        let entry = Entry {
            id,
            saved,
            url,
            error,
            stop,
        };
        self.known.lock().rendezvous.insert(hash, entry);
        Ok(())
    }

    fn serve_announces(
        self: &Arc<Self>,
        id: SwarmId,
        made: &Made,
        listener: TcpListener,
        stop: &CancellationToken,
    ) -> AnnounceUrl {
        let port = self
            .engine
            .listen_addrs()
            .first()
            .map_or(0, SocketAddr::port);
        let (announcements, mut inbox) = mpsc::channel::<Announcement>(ANNOUNCEMENTS);
        let allowance = Arc::clone(self.engine.allowance());
        let url = AnnounceUrl::new(made, port, announcements, allowance);
        let serving = server::serve_site(listener, url.clone(), SERVER_LIMITS, stop.clone());
        self.tasks.spawn(serving);
        let (shared, stopped) = (Arc::clone(self), stop.clone());
        self.spawn(async move {
            loop {
                let Announcement { from, at, stopped } = tokio::select! {
                    () = stopped.cancelled() => return,
                    Some(announcement) = inbox.recv() => announcement,
                    else => return,
                };
                let fact = SwarmFact::Announced { from, at, stopped };
                if shared.engine.swarm_fact(id, fact).await.is_err() {
                    return;
                }
            }
        });
        url
    }

    /// The brain says whom an announce URL names.
    pub(super) fn list_member(&self, id: SwarmId, addr: SocketAddr, on: bool) {
        let known = self.known.lock();
        let entry = known.rendezvous.values().find(|entry| entry.id == id);
        if let Some(url) = entry.and_then(|entry| entry.url.as_ref()) {
            url.list(addr, on);
        }
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
        match (join.torrent, join.source) {
            (Some(text), None) => {
                let bytes = BASE64.decode(text.as_bytes());
                small(
                    bytes
                        .map_err(|_| invalid("the torrent is no base64", ""))?
                        .into(),
                )
            }
            (None, Some(source)) if source.starts_with("magnet:") => {
                Ok((Bytes::new(), Some(source)))
            }
            (None, Some(source))
                if source.starts_with("http://") || source.starts_with("https://") =>
            {
                let request = HttpRequest {
                    url: &source,
                    named_by: AddressSource::Operator,
                    max_body: MAX_TORRENT,
                    deadline: FETCH,
                    etag: None,
                    last_modified: None,
                };
                let reply = self.http.get(&request).await.map_err(|e| {
                    let hint = "try the URL in a browser, or name the file";
                    Refusal::failed(WHAT, e.to_string(), hint)
                })?;
                small(reply.body.into())
            }
            _ => Err(invalid(
                "is neither a torrent file, nor a magnet link or http(s) URL of one",
                "see /api/openapi.json",
            )),
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
        };
        self.known.lock().rendezvous.insert(hash, entry);
        Ok(swarm.name())
    }

    /// What was there before the last stop.
    pub(super) async fn take_up_rendezvous(self: &Arc<Self>) -> anyhow::Result<()> {
        if self.known.lock().config.friends.mode == FriendsMode::Off {
            return Ok(());
        }
        for (hash, saved) in self.store(|store| store.rendezvous()).await? {
            if let Err(error) = self.take_up_one(saved).await {
                tracing::warn!(rendezvous = %hash, "it was not taken up: {error:#}");
            }
        }
        Ok(())
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
        if let Some(entry) = entry {
            entry.stop.cancel();
            let fact = SwarmFact::Unnamed(Origin::Rendezvous);
            self.engine.swarm_fact(entry.id, fact).await?;
        }
        Ok(())
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
