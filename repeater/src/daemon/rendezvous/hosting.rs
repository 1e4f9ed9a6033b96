//! The host's part of a rendezvous.

use std::net::SocketAddr;
use std::sync::Arc;

use bt_wire::address::AddressSource;
use bt_wire::tracker::check_announce_url;
use control_api::rendezvous::{HostRendezvous, Hosted};
use data_encoding::BASE64;
use swarm_core::io::{Origin, SwarmFact, SwarmId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::answers::failed;
use super::super::{Shared, random, unix_now};
use super::{Entry, MAX_NAMED, WHAT, invalid};
use crate::cache::MemoryContent;
use crate::control::{Refusal, server};
use crate::rendezvous::{self, AnnounceUrl, Announcement, Made, SERVER_LIMITS};
use crate::store::{SavedHost, SavedRendezvous};
use crate::swarms::{Add, Torrent};

/// Announcements that may wait for the brain.
const ANNOUNCEMENTS: usize = 64;
/// The port on which trackers listen by custom.
const PORT: u16 = 6969;

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
    /// Makes a rendezvous, and hosts it.
    pub(in crate::daemon) async fn host_rendezvous(
        self: &Arc<Self>,
        host: HostRendezvous,
    ) -> Result<Hosted, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        self.may_meet()?;
        let plan = Plan::new(host, self.engine.listen_addrs())?;
        let salt = random().map_err(failed)?;
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

    /// Serves the payload, and the announce URL if there is a listener for it.
    pub(super) async fn open_host(
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
        let serving = listener.map(|listener| self.serve_announces(id, &made, listener, &stop));
        let (url, serving) = serving.unzip();
        let entry = Entry {
            id,
            saved,
            url,
            error,
            stop,
            serving,
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
    ) -> (AnnounceUrl, JoinHandle<()>) {
        let port = self
            .engine
            .listen_addrs()
            .first()
            .map_or(0, SocketAddr::port);
        let (announcements, mut inbox) = mpsc::channel::<Announcement>(ANNOUNCEMENTS);
        let allowance = Arc::clone(self.engine.allowance());
        let url = AnnounceUrl::new(made, port, announcements, allowance);
        let serving = server::serve_site(listener, url.clone(), SERVER_LIMITS, stop.clone());
        let serving = self.tasks.spawn(serving);
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
        (url, serving)
    }

    /// The brain says whom an announce URL names.
    pub(in crate::daemon) fn list_member(&self, id: SwarmId, addr: SocketAddr, on: bool) {
        let known = self.known.lock();
        let entry = known.rendezvous.values().find(|entry| entry.id == id);
        if let Some(url) = entry.and_then(|entry| entry.url.as_ref()) {
            url.list(addr, on);
        }
    }
}
