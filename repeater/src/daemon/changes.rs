//! The operator's word: each change is durable before it is answered, and survives a restart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_wire::address::AddressSource;
use bt_wire::ids::InfoHash;
use bt_wire::metainfo::{MAX_TORRENT, Metainfo};
use bytes::Bytes;
use control_api::feeds::{FeedsChanged, Owner};
use control_api::masters::{AddMaster, Master, MasterTest, TestStep};
use control_api::swarms::Added;
use swarm_core::io::{Origin, PeerSource, SwarmFact};

use super::answers::failed;
use super::naming::{Naming, Source};
use super::{Shared, feeding, mastering, unix_now};
use crate::config::{self, RpcKind};
use crate::control::{AddOptions, Refusal};
use crate::store::{SavedSwarm, SwarmContent, SwarmSource};

/// For each step of a master's test.
const STEP: Duration = Duration::from_secs(45);
/// For a connection to a master's port.
const CONNECT: Duration = Duration::from_secs(5);

impl Shared {
    /// Adds the torrent of a .torrent file.
    pub(super) async fn add_torrent(
        &self,
        file: Bytes,
        options: AddOptions,
    ) -> Result<Added, Refusal> {
        let refuse = |why: String| {
            Refusal::invalid(
                "torrent",
                why,
                "`slavectl torrent show FILE` looks at one offline",
            )
        };
        let bytes = file.clone();
        let meta = tokio::task::spawn_blocking(move || Metainfo::from_torrent(bytes))
            .await
            .map_err(failed)?;
        let naming = Naming::of_metainfo(
            meta.map_err(|e| refuse(e.to_string()))?,
            Origin::User,
            AddressSource::Operator,
        );
        self.add(
            naming.map_err(refuse)?,
            SwarmContent::Metainfo(file.to_vec()),
            options,
        )
        .await
    }

    /// Adds a magnet link, or the .torrent file behind a URL.
    pub(super) async fn add_source(
        &self,
        source: String,
        options: AddOptions,
    ) -> Result<Added, Refusal> {
        match Source::of(source.clone()) {
            Some(Source::Magnet(link)) => {
                let naming = Naming::of_magnet(&link, Origin::User, AddressSource::Operator);
                let naming = naming.map_err(|why| {
                    Refusal::invalid("magnet link", why, "copy the whole link, in quotes")
                })?;
                self.add(naming, SwarmContent::Magnet(link), options).await
            }
            Some(Source::Url(url)) => {
                let file = self.fetch_torrent("torrent", &url, MAX_TORRENT).await?;
                self.add_torrent(file, options).await
            }
            None => Err(Refusal::invalid(
                format!("`{}`", source.escape_debug()),
                "is neither a magnet link nor an http(s) URL",
                "upload a .torrent file instead",
            )),
        }
    }

    async fn add(
        &self,
        mut naming: Naming,
        content: SwarmContent,
        options: AddOptions,
    ) -> Result<Added, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let hash = naming.add.info_hash;
        let new = self.engine.find(hash).is_none();
        let AddOptions { peers, pin } = options;
        let (pinned, all) = self
            .save_swarm(hash, content, pin, peers.clone())
            .await
            .map_err(failed)?;
        self.known.lock().left.remove(&hash);
        naming.add.pinned = pinned;
        let swarm = self.name(naming).await.map_err(failed)?;
        // Whoever adds again with peers wants these dialled again.
        let peers = if new { all } else { peers };
        if !peers.is_empty() {
            let fact = SwarmFact::Peers(peers, PeerSource::User);
            self.engine
                .swarm_fact(swarm.id, fact)
                .await
                .map_err(failed)?;
        }
        Ok(Added {
            info_hash: hash.to_string(),
            name: swarm.name(),
            new,
            pinned,
        })
    }

    /// Saves a swarm of the operator's, merged with what is saved of it. Returns its pin and all its peers.
    async fn save_swarm(
        &self,
        hash: InfoHash,
        content: SwarmContent,
        pin: bool,
        peers: Vec<SocketAddr>,
    ) -> anyhow::Result<(bool, Vec<SocketAddr>)> {
        /// Peers of the operator's that are kept for one swarm, the latest.
        const MAX_PEERS: usize = 200;
        self.store(move |store| {
            // A damaged one is replaced by this.
            let old = store.swarm(hash).ok().flatten();
            let mut saved = SavedSwarm {
                content,
                pinned: pin,
                peers,
                source: SwarmSource::User,
                added_at: unix_now(),
            };
            if let Some(old) = old {
                saved.pinned |= old.pinned;
                saved.added_at = old.added_at;
                let known: Vec<SocketAddr> = old
                    .peers
                    .into_iter()
                    .filter(|peer| !saved.peers.contains(peer))
                    .collect();
                saved.peers.extend(known);
                if matches!(
                    (&old.content, &saved.content),
                    (SwarmContent::Metainfo(_), SwarmContent::Magnet(_))
                ) {
                    saved.content = old.content;
                }
            }
            saved.peers.truncate(MAX_PEERS);
            store.put_swarm(hash, &saved)?;
            Ok((saved.pinned, saved.peers))
        })
        .await
    }

    /// Leaves and forgets a swarm. False: there is none.
    pub(super) async fn leave(&self, hash: InfoHash) -> Result<bool, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        if self.is_rendezvous(hash) {
            let hint = format!("`slavectl rendezvous leave {hash}`");
            let what = format!("swarm {hash}");
            return Err(Refusal::conflict(what, "is a rendezvous", hint));
        }
        let saved = self
            .store(move |store| store.remove_swarm(hash))
            .await
            .map_err(failed)?;
        let Some(swarm) = self.engine.find(hash) else {
            return Ok(saved);
        };
        self.known.lock().left.insert(hash);
        self.forget_wish(hash).await;
        self.engine
            .swarm_fact(swarm.id, SwarmFact::Leave)
            .await
            .map_err(failed)?;
        Ok(true)
    }

    pub(super) async fn pause(&self, paused: bool) -> Result<(), Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        self.store(move |store| store.set_paused(paused))
            .await
            .map_err(failed)?;
        self.engine.set_paused(paused).await.map_err(failed)
    }

    pub(super) async fn add_feed(&self, url: String) -> Result<FeedsChanged, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let what = format!("feed {}", url.escape_debug());
        if self
            .known
            .lock()
            .config
            .feeds
            .iter()
            .any(|feed| feed.url == url)
        {
            return Ok(FeedsChanged { urls: vec![url] });
        }
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            let hint = "write an http(s) URL; a local folder belongs into the configuration file, as [[feed]]";
            return Err(Refusal::invalid(
                what,
                "the daemon opens no path that a caller names",
                hint,
            ));
        }
        let feed = config::Feed {
            url: url.clone(),
            ..config::Feed::default()
        };
        config::check_feed(&feed).map_err(|(_, why, hint)| Refusal::invalid(what, why, hint))?;
        let (key, saved) = (url.clone(), feeding::saved(&feed));
        self.store(move |store| store.put_feed(&key, &saved))
            .await
            .map_err(failed)?;
        self.follow(&feed).await;
        Ok(FeedsChanged { urls: vec![url] })
    }

    pub(super) async fn remove_feed(&self, url: String) -> Result<FeedsChanged, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let what = format!("feed {}", url.escape_debug());
        if self
            .known
            .lock()
            .config
            .feeds
            .iter()
            .any(|feed| feed.url == url)
        {
            let hint = "remove its [[feed]] there, then `slavectl reload`";
            return Err(Refusal::conflict(
                what,
                "the configuration file names it",
                hint,
            ));
        }
        let key = url.clone();
        if !self
            .store(move |store| store.remove_feed(&key))
            .await
            .map_err(failed)?
        {
            return Err(Refusal::not_found(
                what,
                "is not followed",
                "`slavectl feeds` lists those followed",
            ));
        }
        self.unfollow(&url).await.map_err(failed)?;
        Ok(FeedsChanged { urls: vec![url] })
    }

    pub(super) async fn poll_feeds(&self, url: Option<String>) -> Result<FeedsChanged, Refusal> {
        let urls: Vec<String> = match &url {
            Some(url) => vec![url.clone()],
            None => self
                .feeds
                .status()
                .into_iter()
                .map(|status| status.url)
                .collect(),
        };
        if self.feeds.poll_now(url.as_deref()).await || url.is_none() {
            return Ok(FeedsChanged { urls });
        }
        let what = format!("feed {}", urls.concat().escape_debug());
        Err(Refusal::not_found(
            what,
            "is not followed",
            "`slavectl feeds` lists those followed",
        ))
    }

    pub(super) async fn add_master(self: &Arc<Self>, add: AddMaster) -> Result<Master, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let what = format!("master {}", add.name.escape_debug());
        if self
            .known
            .lock()
            .config
            .masters
            .iter()
            .any(|master| master.name == add.name)
        {
            let hint =
                "change its [[master]] there, then `slavectl reload`; or choose another name";
            return Err(Refusal::conflict(
                what,
                "the configuration file names it",
                hint,
            ));
        }
        let mut master = config::Master {
            name: add.name,
            address: add.address,
            ..config::Master::default()
        };
        master.share = add.share.unwrap_or(master.share);
        if let Some(rpc) = add.rpc {
            let kind = RpcKind::from_word(&rpc.kind).ok_or_else(|| {
                Refusal::invalid(
                    what.clone(),
                    format!("rpc kind `{}` is not known", rpc.kind.escape_debug()),
                    "write transmission or qbittorrent",
                )
            })?;
            master.rpc = Some(config::Rpc {
                kind,
                url: rpc.url,
                user: String::new(),
                password_file: std::path::PathBuf::new(),
            });
        }
        config::check_master(&master).map_err(|(key, why, hint)| {
            let hint = if key == "rpc.url" {
                "an RPC with a password belongs into the configuration file, as [[master]]"
            } else {
                hint
            };
            Refusal::invalid(what, format!("{key}: {why}"), hint)
        })?;
        let (name, saved) = (master.name.clone(), mastering::saved(&master));
        self.store(move |store| store.put_master(&name, &saved))
            .await
            .map_err(failed)?;
        let name = master.name.clone();
        self.serve_master(master, Owner::Store)
            .await
            .map_err(failed)?;
        let view = self.engine.view().await.map_err(failed)?;
        let row = self
            .master_rows(&view.node)
            .into_iter()
            .find(|row| row.name == name);
        row.ok_or_else(|| failed(anyhow::anyhow!("the master was removed at the same moment")))
    }

    pub(super) async fn remove_master(&self, name: String) -> Result<(), Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let what = format!("master {}", name.escape_debug());
        if self
            .known
            .lock()
            .config
            .masters
            .iter()
            .any(|master| master.name == name)
        {
            let hint = "remove its [[master]] there, then `slavectl reload`";
            return Err(Refusal::conflict(
                what,
                "the configuration file names it",
                hint,
            ));
        }
        let key = name.clone();
        if !self
            .store(move |store| store.remove_master(&key))
            .await
            .map_err(failed)?
        {
            return Err(Refusal::not_found(
                what,
                "is not served",
                "`slavectl master` lists those served",
            ));
        }
        self.unserve_master(&name).await.map_err(failed)
    }

    pub(super) async fn test_master(&self, name: String) -> Result<MasterTest, Refusal> {
        let master = self
            .known
            .lock()
            .masters
            .get(&name)
            .map(|entry| entry.master.clone());
        let master = master.ok_or_else(|| {
            Refusal::not_found(
                format!("master {}", name.escape_debug()),
                "is not served",
                "`slavectl master` lists those served",
            )
        })?;
        let mut steps = Vec::new();
        let mut step = |name: &str, result: Result<String, String>| {
            let ok = result.is_ok();
            let detail = result.unwrap_or_else(|why| why);
            steps.push(TestStep {
                step: name.to_owned(),
                ok,
                detail,
            });
        };
        let found = mastering::resolve(&master.address).await;
        step(
            "name",
            found.clone().map(|found| {
                found
                    .iter()
                    .map(|addr| addr.ip().to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            }),
        );
        if let Ok(found) = &found {
            step("port", connect(found).await);
        }
        if let Some(rpc) = &master.rpc {
            let test = async {
                let client = mastering::rpc_client(rpc).await?;
                let report = client.test().await.map_err(|e| e.to_string())?;
                Ok(format!(
                    "{} answers; it listens on port {}",
                    report.version.client, report.peer_port
                ))
            };
            let result = tokio::time::timeout(STEP, test)
                .await
                .unwrap_or_else(|_| Err("no answer in time".to_owned()));
            step("rpc", result);
        }
        Ok(MasterTest {
            ok: steps.iter().all(|step| step.ok),
            name,
            steps,
        })
    }
}

/// Whether a TCP connection to one of the addresses comes about; it is closed at once.
async fn connect(addresses: &[SocketAddr]) -> Result<String, String> {
    let mut why = String::new();
    for addr in addresses {
        match tokio::time::timeout(CONNECT, dial(*addr)).await {
            Ok(Ok(_)) => return Ok(format!("{addr} takes connections")),
            Ok(Err(e)) => {
                why = format!("{addr}: {e}; does the client run, and listen on that port?")
            }
            Err(_) => why = format!("{addr}: no answer; is a firewall in between?"),
        }
    }
    Err(why)
}

async fn dial(addr: SocketAddr) -> std::io::Result<()> {
    use tokio::net::TcpSocket;
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.connect(addr).await.map(drop)
}
