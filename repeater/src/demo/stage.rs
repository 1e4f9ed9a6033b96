//! The demo's cast: seeds, leechers and a master on loopback, and the swarms they make.

use super::content::DemoTorrent;
use super::downloader::Downloader;
use super::site::Site;
use crate::cache::MemoryContent;
use crate::driver::{Engine, EngineConfig, EngineEvents, EngineHandle};
use crate::swarms::{Add, Torrent};
use anyhow::{Context, Result};
use bt_wire::ids::PeerId;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use swarm_core::io::{Limits, Origin};
use swarm_core::policy::quota::Book;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// An engine of this very daemon that holds torrents whole and serves them.
#[derive(Debug)]
pub(super) struct Seed {
    pub(super) engine: EngineHandle,
    /// Its news, which nobody needs: the site lists it.
    _events: EngineEvents,
    pub(super) address: SocketAddr,
}

impl Seed {
    /// Seeds these torrents from `ip` at `rate` bytes/s, and is listed by the site's tracker.
    pub(super) async fn start(
        site: &Site,
        ip: &str,
        rate: u64,
        torrents: &[&DemoTorrent],
        dir: &Path,
    ) -> Result<Self> {
        let limits = Limits {
            upload: Some(rate),
            download: None,
            month: None,
            schedule: Vec::new(),
            connections: 50,
            cache: 0,
            cache_memory: 0,
            repeat: false,
            max_swarms: 0,
        };
        let mut peer_id = *b"-BS0100-000000000000";
        getrandom::fill(&mut peer_id[8..]).context("no randomness for a peer id")?;
        let (engine, events) = Engine::start(EngineConfig {
            listen: vec![format!("{ip}:0").parse()?],
            device: None,
            pex: false,
            peer_id: PeerId(peer_id),
            limits,
            book: Book::default(),
            min_free: 0,
            data_dir: dir.to_owned(),
            seed: 1,
            record: None,
            aid: None,
            invert_need: false,
        })?;
        let address = *engine
            .listen_addrs()
            .first()
            .context("a seed without an address")?;
        for torrent in torrents {
            let add = Add {
                pinned: true,
                ..Add::from_metainfo(torrent.metainfo.clone(), Origin::User)?
            };
            let meta = Torrent::new(torrent.metainfo.clone())?;
            let content = MemoryContent::new(torrent.content.clone(), meta.layout);
            engine.keep(add, meta, Arc::new(content)).await?;
            site.list(torrent, address, 0);
        }
        Ok(Self {
            engine,
            _events: events,
            address,
        })
    }
}

/// A downloader that takes connections on `ip`, and its address.
pub(super) async fn downloader(
    torrent: &DemoTorrent,
    ip: &str,
    number: u8,
    rate: u64,
    stop: &CancellationToken,
) -> Result<(Arc<Downloader>, SocketAddr)> {
    let downloader = Downloader::new(torrent.clone(), number, rate)?;
    let listener = TcpListener::bind((ip, 0))
        .await
        .with_context(|| format!("the demo cannot listen on {ip}"))?;
    let address = listener.local_addr()?;
    let (peer, stop) = (Arc::clone(&downloader), stop.clone());
    tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok((stream, _)) = listener.accept() => drop(open.spawn(Arc::clone(&peer).talk(stream, false))),
            }
        }
    });
    Ok((downloader, address))
}

/// Makes a downloader dial a peer; the connection ends with either side or with `stop`.
pub(super) fn dial(
    downloader: &Arc<Downloader>,
    from: SocketAddr,
    to: SocketAddr,
    stop: &CancellationToken,
) {
    let (downloader, stop) = (Arc::clone(downloader), stop.clone());
    tokio::spawn(async move {
        let talk = async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from.ip(), 0))?;
            let stream: TcpStream = socket.connect(to).await?;
            downloader.talk(stream, true).await
        };
        // A peer of the demo that hangs up is no failure of the demo: what counts is whether the content arrives.
        tokio::select! {
            () = stop.cancelled() => {}
            _ended = talk => {}
        }
    });
}

/// One swarm of the demo.
#[derive(Debug)]
pub(super) struct DemoSwarm {
    pub(super) torrent: DemoTorrent,
    pub(super) leechers: Vec<Arc<Downloader>>,
}

/// `count` leechers on `127.{net}.0.1…`, each at `rate` bytes/s, connected to `seeds` and to each other, listed by the site.
pub(super) async fn swarm(
    site: &Site,
    torrent: &DemoTorrent,
    seeds: &[SocketAddr],
    (net, count, rate): (u8, u8, u64),
    stop: &CancellationToken,
) -> Result<DemoSwarm> {
    let mut leechers: Vec<(Arc<Downloader>, SocketAddr)> = Vec::new();
    for number in 1..=count {
        let ip = format!("127.{net}.0.{number}");
        let (leecher, address) =
            downloader(torrent, &ip, net.wrapping_mul(16) + number, rate, stop).await?;
        for to in seeds
            .iter()
            .copied()
            .chain(leechers.iter().map(|(_, address)| *address))
        {
            dial(&leecher, address, to, stop);
        }
        site.list(torrent, address, torrent.content.len() as u64);
        leechers.push((leecher, address));
    }
    Ok(DemoSwarm {
        torrent: torrent.clone(),
        leechers: leechers.into_iter().map(|(leecher, _)| leecher).collect(),
    })
}
