//! The demo's web site on loopback: an RSS feed, the .torrent files it names, and their tracker.

use super::content::DemoTorrent;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bt_wire::address::encode_compact;
use bt_wire::bencode::Item;
use parking_lot::Mutex;
use percent_encoding::percent_decode;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Seconds between announces the tracker asks for.
const INTERVAL: i64 = 5;

/// The site, and what its tracker knows.
#[derive(Debug, Clone)]
pub(super) struct Site {
    address: SocketAddr,
    state: Arc<Mutex<Swarms>>,
}

#[derive(Debug, Default)]
struct Swarms {
    torrents: Vec<DemoTorrent>,
    peers: BTreeMap<[u8; 20], BTreeMap<SocketAddr, u64>>,
}

impl Site {
    /// Listens on a free port of `127.0.0.1` and serves until `stop`.
    pub(super) async fn start(stop: CancellationToken) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("the demo's web site cannot listen on loopback")?;
        let site = Self {
            address: listener.local_addr()?,
            state: Arc::default(),
        };
        let router = Router::new()
            .route("/feed.rss", get(feed))
            .route("/torrents/{name}", get(torrent_file))
            .route("/announce", get(announce))
            .route("/scrape", get(scrape))
            .with_state(site.clone())
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
        });
        Ok(site)
    }

    pub(super) fn feed_url(&self) -> String {
        format!("http://{}/feed.rss", self.address)
    }

    pub(super) fn announce_url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// Puts torrents into the feed.
    pub(super) fn publish(&self, torrents: &[DemoTorrent]) {
        self.state.lock().torrents = torrents.to_vec();
    }

    /// Lists a peer that does not announce by itself; `left` bytes are missing to it.
    pub(super) fn list(&self, torrent: &DemoTorrent, peer: SocketAddr, left: u64) {
        self.state
            .lock()
            .peers
            .entry(torrent.info_hash())
            .or_default()
            .insert(peer, left);
    }
}

async fn feed(State(site): State<Site>) -> Response {
    let mut xml = String::from(
        "<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>Demo images</title>",
    );
    for torrent in &site.state.lock().torrents {
        let (address, name) = (site.address, torrent.name);
        let _infallible = write!(
            xml,
            "<item><title>{name}</title><enclosure url=\"http://{address}/torrents/{name}.torrent\" length=\"{}\" \
             type=\"application/x-bittorrent\"/></item>",
            torrent.file.len()
        );
    }
    xml.push_str("</channel></rss>");
    ([(header::CONTENT_TYPE, "application/rss+xml")], xml).into_response()
}

async fn torrent_file(State(site): State<Site>, Path(name): Path<String>) -> Response {
    let state = site.state.lock();
    match state
        .torrents
        .iter()
        .find(|torrent| name.strip_suffix(".torrent") == Some(torrent.name))
    {
        Some(torrent) => (
            [(header::CONTENT_TYPE, "application/x-bittorrent")],
            torrent.file.clone(),
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn announce(
    State(site): State<Site>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = parse(query.as_deref().unwrap_or_default());
    let field = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
    };
    let number = |name| field(name).and_then(|v| std::str::from_utf8(v).ok()?.parse::<u64>().ok());
    let Some(info_hash) = field("info_hash").and_then(|v| <[u8; 20]>::try_from(v).ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(port) = number("port").and_then(|port| u16::try_from(port).ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut state = site.state.lock();
    let peers = state.peers.entry(info_hash).or_default();
    let this = SocketAddr::new(from.ip(), port);
    if field("event") == Some(b"stopped") {
        peers.remove(&this);
    } else {
        peers.insert(this, number("left").unwrap_or(u64::MAX));
    }
    let mut compact = Vec::new();
    peers
        .keys()
        .filter(|peer| **peer != this)
        .for_each(|peer| encode_compact(*peer, &mut compact));
    let mut reply = counts(peers);
    reply.push(("interval", Item::Int(INTERVAL)));
    reply.push(("peers", Item::bytes(&compact)));
    Bytes::from(Item::dict(reply).encode()).into_response()
}

async fn scrape(State(site): State<Site>, RawQuery(query): RawQuery) -> Response {
    let state = site.state.lock();
    let hashes = parse(query.as_deref().unwrap_or_default())
        .into_iter()
        .filter(|(key, _)| key == "info_hash");
    let files = hashes.filter_map(|(_, hash)| {
        let peers = state
            .peers
            .get(&<[u8; 20]>::try_from(hash.as_slice()).ok()?)?;
        let mut counts = counts(peers);
        counts.push(("downloaded", Item::Int(0)));
        Some((hash, Item::dict(counts)))
    });
    Bytes::from(Item::dict([("files", Item::dict(files))]).encode()).into_response()
}

fn counts(peers: &BTreeMap<SocketAddr, u64>) -> Vec<(&'static str, Item)> {
    let seeds = peers.values().filter(|left| **left == 0).count() as i64;
    vec![
        ("complete", Item::Int(seeds)),
        ("incomplete", Item::Int(peers.len() as i64 - seeds)),
    ]
}

/// Pairs of a query string, percent-decoded as bytes: an infohash is no text.
fn parse(query: &str) -> Vec<(String, Vec<u8>)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), percent_decode(value.as_bytes()).collect()))
        .collect()
}
