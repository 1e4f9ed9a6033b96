//! Masters: where they are, what their RPC says, and the torrents they miss.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_wire::address::AddressSource;
use bt_wire::ids::InfoHash;
use bt_wire::metainfo::Metainfo;
use control_api::feeds::Owner;
use master_link::{MasterRpc, MasterTorrent, RpcConfig, RpcError, TorrentState};
use swarm_core::io::{MasterFact, MasterId, Origin, PeerSource, SwarmFact, SwarmId};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::naming::Naming;
use crate::config::{Config, Master, Rpc, RpcKind, split_address};
use crate::store::{SavedMaster, SavedRpc};
use crate::swarms::Add;

/// Between two looks at a master's torrents.
const POLL: Duration = Duration::from_secs(4);
/// The same after a failure.
const POLL_FAILED: Duration = Duration::from_secs(15);
/// A name is looked up again after this, and while it leads nowhere, or nobody answers there, sooner.
const RESOLVE: Duration = Duration::from_secs(300);
/// The same while the master cannot be reached.
const RESOLVE_FAILED: Duration = Duration::from_secs(20);
/// A master is asked again to dial us after this, while it is not connected.
const INVITE: Duration = Duration::from_secs(60);
/// Torrents of one master that are followed at a time.
const MAX_FOLLOWED: usize = 500;
/// Longest password file, in bytes.
const MAX_PASSWORD: u64 = 4096;

/// A master that is served.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: MasterId,
    pub(super) master: Master,
    pub(super) owner: Owner,
    /// None = not asked yet.
    pub(super) rpc: Option<Result<(), String>>,
    stop: CancellationToken,
}

/// A torrent that is followed because the master misses it.
struct Followed {
    swarm: SwarmId,
    invited: Option<Instant>,
}

/// A master as it is saved.
pub(super) fn saved(master: &Master) -> SavedMaster {
    SavedMaster {
        address: master.address.clone(),
        // 0 to 1 was checked.
        share_permille: (master.share * 1000.0).round().clamp(0.0, 1000.0) as u16,
        rpc: master.rpc.as_ref().map(|rpc| SavedRpc {
            kind: rpc.kind.word().to_owned(),
            url: rpc.url.clone(),
            user: rpc.user.clone(),
            password_file: rpc.password_file.to_string_lossy().into_owned(),
        }),
    }
}

fn from_saved(name: String, saved: SavedMaster) -> Master {
    let rpc = saved.rpc.and_then(|rpc| {
        let kind = RpcKind::from_word(&rpc.kind)?;
        Some(Rpc {
            kind,
            url: rpc.url,
            user: rpc.user,
            password_file: rpc.password_file.into(),
        })
    });
    Master {
        name,
        address: saved.address,
        share: f64::from(saved.share_permille) / 1000.0,
        rpc,
    }
}

/// The addresses that `HOST:PORT` leads to now.
pub(super) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = split_address(address).ok_or_else(|| "is not HOST:PORT".to_owned())?;
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| e.to_string())?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        Err("the name leads to no address".to_owned())
    } else {
        Ok(found)
    }
}

fn password(file: &Path) -> Result<String, String> {
    use std::io::Read as _;
    if file.as_os_str().is_empty() {
        return Ok(String::new());
    }
    let fail = |e: std::io::Error| format!("password_file {}: {e}", file.display());
    let mut text = String::new();
    std::fs::File::open(file)
        .map_err(fail)?
        .take(MAX_PASSWORD)
        .read_to_string(&mut text)
        .map_err(fail)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A client of a master's RPC.
pub(super) async fn rpc_client(rpc: &Rpc) -> Result<MasterRpc, String> {
    let file = rpc.password_file.clone();
    let password = tokio::task::spawn_blocking(move || password(&file))
        .await
        .map_err(|e| e.to_string())??;
    let kind = match rpc.kind {
        RpcKind::Transmission => master_link::RpcKind::Transmission,
        RpcKind::Qbittorrent => master_link::RpcKind::QBittorrent,
    };
    let config = RpcConfig {
        kind,
        url: rpc.url.clone(),
        user: rpc.user.clone(),
        password,
    };
    MasterRpc::new(&config).map_err(|e| e.to_string())
}

impl Shared {
    /// The operator's name for a master.
    pub(super) fn master_name(&self, id: MasterId) -> String {
        let known = self.known.lock();
        let name = known
            .masters
            .iter()
            .find(|(_, entry)| entry.id == id)
            .map(|(name, _)| name.clone());
        name.unwrap_or_else(|| format!("master {}", id.0))
    }

    /// The file's masters, then those of the store that the file does not name.
    pub(super) async fn all_masters(
        &self,
        config: &Config,
    ) -> anyhow::Result<Vec<(Master, Owner)>> {
        let mut all: Vec<(Master, Owner)> = config
            .masters
            .iter()
            .map(|one| (one.clone(), Owner::File))
            .collect();
        for (name, saved) in self.store(|store| store.masters()).await? {
            if !config.masters.iter().any(|master| master.name == name) {
                all.push((from_saved(name, saved), Owner::Store));
            }
        }
        Ok(all)
    }

    /// Serves a master. One of the same name is replaced.
    pub(super) async fn serve_master(
        self: &Arc<Self>,
        master: Master,
        owner: Owner,
    ) -> anyhow::Result<()> {
        self.unserve_master(&master.name).await?;
        let stop = self.stop.child_token();
        let id = {
            let mut known = self.known.lock();
            let id = MasterId(known.next_master);
            known.next_master = known.next_master.saturating_add(1);
            let entry = Entry {
                id,
                master: master.clone(),
                owner,
                rpc: None,
                stop: stop.clone(),
            };
            known.masters.insert(master.name.clone(), entry);
            id
        };
        let fact = MasterFact::Configured {
            name: master.name.clone(),
            share: master.share,
            slave_key: self.slave_key,
        };
        self.engine.master_fact(id, fact).await?;
        let shared = Arc::clone(self);
        self.spawn(async move {
            let address = master.address.clone();
            let resolving = shared.keep_resolved(id, &address);
            let following = async {
                match &master.rpc {
                    Some(rpc) => shared.keep_following(id, &master, rpc).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = resolving => {}
                () = following => {}
            }
        });
        Ok(())
    }

    /// Serves a master no longer; what only it named is left.
    pub(super) async fn unserve_master(&self, name: &str) -> anyhow::Result<()> {
        let Some(entry) = self.known.lock().masters.remove(name) else {
            return Ok(());
        };
        entry.stop.cancel();
        let origin = Origin::Master(entry.id);
        for swarm in self.engine.view().await?.node.swarms {
            if swarm.origins.contains(&origin) {
                self.engine
                    .swarm_fact(swarm.id, SwarmFact::Unnamed(origin.clone()))
                    .await?;
            }
        }
        self.engine
            .master_fact(entry.id, MasterFact::Removed)
            .await?;
        Ok(())
    }

    async fn keep_resolved(&self, id: MasterId, address: &str) {
        let mut known = Vec::new();
        loop {
            let wait = match resolve(address).await {
                Ok(found) => {
                    if found != known {
                        tracing::debug!(master = %self.master_name(id), addresses = ?found, "resolved");
                        known.clone_from(&found);
                        if self
                            .engine
                            .master_fact(id, MasterFact::Resolved(found))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    if self.is_reached(id).await {
                        RESOLVE
                    } else {
                        RESOLVE_FAILED
                    }
                }
                Err(why) => {
                    tracing::warn!(master = %self.master_name(id), "{address}: {why}");
                    RESOLVE_FAILED
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn is_reached(&self, id: MasterId) -> bool {
        use swarm_core::view::MasterState::{Complete, Connected};
        let Ok(view) = self.engine.view().await else {
            return false;
        };
        view.node
            .masters
            .iter()
            .any(|master| master.id == id && matches!(master.state, Connected | Complete))
    }

    /// Follows the master's unfinished torrents until it is served no longer.
    async fn keep_following(&self, id: MasterId, master: &Master, rpc: &Rpc) {
        let mut followed = BTreeMap::new();
        let mut client = None;
        let mut ports_known = None;
        let mut told = false;
        loop {
            let result = async {
                let client = match &client {
                    Some(client) => client,
                    None => client.insert(rpc_client(rpc).await?),
                };
                self.poll_master(id, client, &mut followed, &mut ports_known)
                    .await
            };
            let result: Result<(), String> = result.await;
            let wait = if result.is_ok() { POLL } else { POLL_FAILED };
            if result.is_ok() && !told {
                self.tell_rpc(id, rpc.kind).await;
                told = true;
            }
            self.rpc_said(&master.name, id, result);
            tokio::time::sleep(wait).await;
        }
    }

    /// Remembers how the RPC stands; says so when it changes.
    fn rpc_said(&self, name: &str, id: MasterId, result: Result<(), String>) {
        let mut known = self.known.lock();
        let Some(entry) = known.masters.get_mut(name).filter(|entry| entry.id == id) else {
            return;
        };
        let result = Some(result);
        if entry.rpc != result {
            match &result {
                Some(Err(why)) => tracing::warn!(master = name, "{why}"),
                Some(Ok(())) | None => tracing::info!(master = name, "the master's RPC answers"),
            }
            entry.rpc = result;
        }
    }

    async fn poll_master(
        &self,
        id: MasterId,
        client: &MasterRpc,
        followed: &mut BTreeMap<InfoHash, Followed>,
        port_known: &mut Option<Instant>,
    ) -> Result<(), String> {
        let said = |e: RpcError| e.to_string();
        if port_known.is_none_or(|at| at.elapsed() > RESOLVE) {
            let port = client.peer_port().await.map_err(said)?;
            *port_known = Some(Instant::now());
            if port != 0 {
                self.engine
                    .master_fact(id, MasterFact::PeerPort(port))
                    .await
                    .map_err(|e| e.to_string())?;
            }
        }
        let torrents = client.torrents().await.map_err(said)?;
        let missing = |torrent: &&MasterTorrent| {
            !torrent.complete
                && matches!(
                    torrent.state,
                    TorrentState::Downloading | TorrentState::Metadata
                )
        };
        let wanted: BTreeMap<InfoHash, &MasterTorrent> = torrents
            .iter()
            .filter(missing)
            .take(MAX_FOLLOWED)
            .map(|torrent| (torrent.info_hash, torrent))
            .collect();
        for (hash, torrent) in &wanted {
            if !followed.contains_key(hash)
                && !self.was_left(*hash)
                && let Some(swarm) = self.follow_torrent(id, client, torrent).await?
            {
                followed.insert(
                    *hash,
                    Followed {
                        swarm,
                        invited: None,
                    },
                );
            }
        }
        let checking = |hash: &InfoHash| {
            torrents
                .iter()
                .any(|t| t.info_hash == *hash && t.state == TorrentState::Checking)
        };
        let gone: Vec<InfoHash> = followed
            .keys()
            .filter(|hash| !wanted.contains_key(hash) && !checking(hash))
            .copied()
            .collect();
        for hash in gone {
            if let Some(Followed { swarm, .. }) = followed.remove(&hash) {
                let fact = SwarmFact::Unnamed(Origin::Master(id));
                self.engine
                    .swarm_fact(swarm, fact)
                    .await
                    .map_err(|e| e.to_string())?;
            }
        }
        self.invite(id, client, followed).await
    }

    /// Names a torrent the master misses. None: it cannot be had yet, or the master is to be asked again.
    async fn follow_torrent(
        &self,
        id: MasterId,
        client: &MasterRpc,
        torrent: &MasterTorrent,
    ) -> Result<Option<SwarmId>, String> {
        let origin = Origin::Master(id);
        let file = if torrent.exportable {
            client
                .export(torrent.info_hash)
                .await
                .map_err(|e| e.to_string())?
        } else {
            None
        };
        let meta = file
            .and_then(|file| Metainfo::from_torrent(file).ok())
            .filter(|meta| meta.info_hash() == torrent.info_hash);
        let naming = match meta {
            // What the master's owner loaded there is the operator's own word.
            Some(meta) => match Naming::of_metainfo(meta, origin, AddressSource::Operator) {
                Ok(naming) => naming,
                Err(_) => return Ok(None),
            },
            None => {
                let known = self
                    .engine
                    .find(torrent.info_hash)
                    .is_some_and(|swarm| swarm.torrent().is_some());
                if torrent.private == Some(true) && !known {
                    tracing::debug!(name = %bt_wire::metainfo::display_text(&torrent.name), "a private torrent of the master needs its .torrent file: slavectl swarms add FILE");
                    return Ok(None);
                }
                // Its metadata comes from peers, the master among them (ut_metadata).
                let add = Add {
                    info_hash: torrent.info_hash,
                    name: bt_wire::metainfo::display_text(&torrent.name),
                    torrent: None,
                    trackers: Vec::new(),
                    origin,
                    pinned: false,
                };
                Naming {
                    add,
                    named_by: AddressSource::Operator,
                    peers: (Vec::new(), PeerSource::Tracker),
                }
            }
        };
        let swarm = self.name(naming).await.map_err(|e| e.to_string())?;
        tracing::info!(name = %swarm.name(), master = %self.master_name(id), "the master misses a torrent");
        Ok(Some(swarm.id))
    }

    /// Asks the master to dial us for joined torrents where it is not connected.
    async fn invite(
        &self,
        id: MasterId,
        client: &MasterRpc,
        followed: &mut BTreeMap<InfoHash, Followed>,
    ) -> Result<(), String> {
        if !matches!(client, MasterRpc::QBittorrent(_)) || followed.is_empty() {
            return Ok(());
        }
        let view = self.engine.view().await.map_err(|e| e.to_string())?;
        let master = view.node.masters.iter().find(|master| master.id == id);
        let addresses = master
            .map(|master| master.addresses.clone())
            .unwrap_or_default();
        let Some(us) = self.our_address(&addresses) else {
            return Ok(());
        };
        for (hash, torrent) in followed {
            let Some(swarm) = view
                .node
                .swarms
                .iter()
                .find(|swarm| swarm.id == torrent.swarm)
            else {
                continue;
            };
            let connected = swarm.peer_list.iter().any(|peer| peer.master == Some(id));
            let joined = self
                .engine
                .find(*hash)
                .is_some_and(|swarm| swarm.is_joined());
            let lately = torrent.invited.is_some_and(|at| at.elapsed() < INVITE);
            if connected || lately || !joined {
                continue;
            }
            torrent.invited = Some(Instant::now());
            client
                .add_peer(*hash, us)
                .await
                .map_err(|e| e.to_string())?;
            self.engine
                .master_fact(id, MasterFact::Invited(torrent.swarm))
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Where the master at one of `addresses` can dial us: the address we listen on, or, where that is any, the one
    /// the way to it begins at.
    fn our_address(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        addresses.iter().find_map(|master| {
            let same_family = |addr: &&SocketAddr| addr.is_ipv4() == master.is_ipv4();
            let listen = self.engine.listen_addrs().iter().find(same_family)?;
            if listen.ip().is_unspecified() {
                way_to(*master).map(|ip| SocketAddr::new(ip, listen.port()))
            } else {
                Some(*listen)
            }
        })
    }
}

/// The source address of packets to `target`. Sends nothing.
fn way_to(target: SocketAddr) -> Option<IpAddr> {
    let any = if target.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}
