//! What help between friends needs of the masters' RPC: to dial a helper, and to show what came from whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use master_link::{MasterRpc, Received};
use swarm_core::io::friends::{FriendsInput, MasterPeer, RpcPowers, WitnessKind};
use swarm_core::io::{MasterId, SwarmId};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::mastering::rpc_client;
use crate::config::{Rpc, RpcKind};

/// Between two looks at a master's peers.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at masters' peers under way.
pub(super) type Watching = BTreeMap<(MasterId, SwarmId), CancellationToken>;

/// What a program's RPC can do for a help.
fn powers(kind: RpcKind) -> RpcPowers {
    match kind {
        RpcKind::Qbittorrent => RpcPowers {
            dials: true,
            witness: WitnessKind::Bytes,
        },
        RpcKind::Transmission => RpcPowers {
            dials: false,
            witness: WitnessKind::Rates,
        },
    }
}

impl Shared {
    fn rpc_of(&self, master: MasterId) -> Option<Rpc> {
        let known = self.known.lock();
        let entry = known.masters.values().find(|entry| entry.id == master)?;
        entry.master.rpc.clone()
    }

    /// The RPC answers: what it can do for a help.
    pub(super) async fn tell_rpc(&self, master: MasterId, kind: RpcKind) {
        self.tell_powers(master, powers(kind)).await;
    }

    async fn tell_powers(&self, master: MasterId, powers: RpcPowers) {
        // A stopped engine needs nothing.
        let _ = self
            .engine
            .friends_input(FriendsInput::Rpc(master, powers))
            .await;
    }

    /// Tells a master to dial a helper.
    pub(super) fn invite_helper(
        self: &Arc<Self>,
        master: MasterId,
        swarm: SwarmId,
        at: SocketAddr,
    ) {
        let Some((rpc, swarm)) = self.rpc_of(master).zip(self.engine.swarms().get(swarm)) else {
            return;
        };
        let shared = Arc::clone(self);
        self.spawn(async move {
            let told = async {
                let client = rpc_client(&rpc).await?;
                let told = client.add_peer(swarm.info_hash, at).await;
                told.map_err(|e| e.to_string())
            };
            if let Err(why) = told.await {
                let name = shared.master_name(master);
                tracing::warn!(master = %name, "it could not be told of a friend that helps: {why}");
                let without = RpcPowers {
                    dials: false,
                    ..powers(rpc.kind)
                };
                shared.tell_powers(master, without).await;
            }
        });
    }

    /// Begins or ends to look at a master's peers of a swarm.
    pub(super) fn watch_peers(self: &Arc<Self>, master: MasterId, swarm: SwarmId, on: bool) {
        let mut known = self.known.lock();
        if let Some(stop) = known.watching.remove(&(master, swarm)) {
            stop.cancel();
        }
        if !on {
            return;
        }
        let stop = self.stop.child_token();
        known.watching.insert((master, swarm), stop.clone());
        drop(known);
        let shared = Arc::clone(self);
        self.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = shared.keep_watching(master, swarm) => {}
            }
        });
    }

    async fn keep_watching(&self, master: MasterId, swarm: SwarmId) {
        let (Some(rpc), Some(known)) = (self.rpc_of(master), self.engine.swarms().get(swarm))
        else {
            return;
        };
        let mut client: Option<MasterRpc> = None;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let seen = async {
                let client = match &client {
                    Some(client) => client,
                    None => client.insert(rpc_client(&rpc).await?),
                };
                let peers = client.peers(known.info_hash).await;
                peers.map_err(|e| e.to_string())
            };
            let seen: Result<_, String> = seen.await;
            let peers = match seen {
                Ok(peers) => peers,
                Err(why) => {
                    tracing::debug!(master = %self.master_name(master), "its peers: {why}");
                    continue;
                }
            };
            let peers = peers.into_iter().map(|peer| MasterPeer {
                addr: peer.address,
                value: match peer.received {
                    Received::Total(bytes) | Received::Rate(bytes) => bytes,
                },
            });
            let input = FriendsInput::MasterPeers(swarm, master, peers.collect());
            if self.engine.friends_input(input).await.is_err() {
                return;
            }
        }
    }
}
