//! The announce URL of a host (BEP 3, 7, 23): whoever asks is told of members, and dialled back to become one.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bt_wire::address::canonical;
use bt_wire::ids::InfoHash;
use bt_wire::tracker::{Announced, announce_answer, announce_failure};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::limits::{Requests, Seat, Seats};
use crate::allowance::Allowance;
use crate::control::server::{Ends, Limits, Site};

/// What one announce URL bears.
pub(crate) const SERVER_LIMITS: Limits = Limits {
    connections: 256,
    head_timeout: Duration::from_secs(10),
    lifetime: Duration::from_secs(20),
};
/// Endpoints in one answer.
const MOST: usize = 50;
/// When members are to announce again.
const INTERVAL: Duration = Duration::from_secs(1800);
/// What heads of a request and an answer weigh, for the month's quota, in bytes.
const HEADS: u64 = 512;
const ANNOUNCE: &str = "/announce";
const TORRENT: &str = "/rendezvous.torrent";

/// Somebody announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// The request's own address, and the port that it names.
    pub(crate) from: SocketAddr,
    /// Our address, which it came to.
    pub(crate) at: IpAddr,
    /// It leaves.
    pub(crate) stopped: bool,
}

/// One host's announce URL. Clones share it.
#[derive(Clone)]
pub(crate) struct AnnounceUrl(Arc<Inner>);

struct Inner {
    info_hash: InfoHash,
    torrent: Bytes,
    page: Bytes,
    /// Where the host itself takes peers.
    port: u16,
    listed: Mutex<BTreeSet<SocketAddr>>,
    requests: Mutex<Requests>,
    seats: Seats,
    announcements: mpsc::Sender<Announcement>,
    allowance: Arc<Allowance>,
}

impl std::fmt::Debug for AnnounceUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnnounceUrl({})", self.0.info_hash)
    }
}

fn refused(reason: &'static str) {
    metrics::counter!("btslave_rendezvous_refused_total", "reason" => reason).increment(1);
}

impl AnnounceUrl {
    /// For one rendezvous, whose host takes peers on `port`.
    pub(crate) fn new(
        made: &super::Made,
        port: u16,
        announcements: mpsc::Sender<Announcement>,
        allowance: Arc<Allowance>,
    ) -> Self {
        Self(Arc::new(Inner {
            info_hash: made.metainfo.info_hash(),
            torrent: made.torrent.clone(),
            page: made.page.clone(),
            port,
            listed: Mutex::default(),
            requests: Mutex::default(),
            seats: Seats::default(),
            announcements,
            allowance,
        }))
    }

    /// Names an endpoint from now on (`true`), or no longer.
    pub(crate) fn list(&self, addr: SocketAddr, on: bool) {
        let mut listed = self.0.listed.lock();
        if on {
            listed.insert(addr);
        } else {
            listed.remove(&addr);
        }
    }

    //= spec/rendezvous.md#rv-announce-hash
    fn announce(&self, query: &str, ends: Ends) -> Vec<u8> {
        let announced = match Announced::parse(query) {
            Ok(announced) if announced.info_hash == self.0.info_hash => announced,
            Ok(_) => {
                refused("infohash");
                return announce_failure("this tracker is for one torrent alone, and not for this");
            }
            Err(why) => {
                refused("query");
                return announce_failure(&why.to_string());
            }
        };
        let from = canonical(SocketAddr::new(ends.remote, announced.port));
        let announcement = Announcement {
            from,
            at: ends.local.to_canonical(),
            stopped: announced.stopped,
        };
        if self.0.announcements.try_send(announcement).is_err() {
            refused("busy");
        }
        metrics::counter!("btslave_rendezvous_announces_total").increment(1);
        let most = if announced.stopped {
            0
        } else {
            announced.numwant.map_or(MOST, |wanted| {
                usize::try_from(wanted).unwrap_or(MOST).min(MOST)
            })
        };
        announce_answer(INTERVAL, &self.draw(most, from, ends.local))
    }

    /// At most `most` endpoints at random, ourselves first, without the asker's own.
    //= spec/rendezvous.md#rv-answer
    fn draw(&self, most: usize, but: SocketAddr, local: IpAddr) -> Vec<SocketAddr> {
        let mut listed: Vec<SocketAddr> = self.0.listed.lock().iter().copied().collect();
        listed.retain(|addr| *addr != but);
        let mut random = [0; 4 * MOST];
        if getrandom::fill(&mut random).is_err() {
            // Without randomness nobody is drawn; the next announce is answered better.
            listed.clear();
        }
        let (words, _) = random.as_chunks::<4>();
        for (at, word) in words.iter().enumerate().take(listed.len()) {
            let left = listed.len() - at;
            let pick = at + u32::from_le_bytes(*word) as usize % left;
            listed.swap(at, pick);
        }
        let us = canonical(SocketAddr::new(local, self.0.port));
        let mut drawn = vec![us];
        drawn.extend(listed.into_iter().filter(|addr| *addr != us));
        drawn.truncate(most);
        drawn
    }

    fn respond(&self, request: &Request<Body>, ends: Ends) -> Response {
        if !self.0.allowance.is_open() {
            metrics::counter!("btslave_quota_refused_total").increment(1);
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            refused("method");
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let (kind, body) = match request.uri().path() {
            _ if !self.0.requests.lock().take(Instant::now(), ends.remote) => {
                refused("network");
                let why = "your network asks too often; come back in ten minutes";
                ("text/plain", announce_failure(why).into())
            }
            ANNOUNCE => {
                let query = request.uri().query().unwrap_or_default();
                ("text/plain", self.announce(query, ends).into())
            }
            TORRENT => ("application/x-bittorrent", self.0.torrent.clone()),
            "/" => ("text/html; charset=utf-8", self.0.page.clone()),
            _ => {
                refused("path");
                return StatusCode::NOT_FOUND.into_response();
            }
        };
        let uri = request
            .uri()
            .path_and_query()
            .map_or(0, |uri| uri.as_str().len());
        self.0.allowance.spend((uri + body.len()) as u64 + HEADS);
        ([(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

impl Site for AnnounceUrl {
    type Seat = Seat;

    fn seat(&self, remote: IpAddr) -> Option<Seat> {
        let seat = self.0.seats.take(remote);
        if seat.is_none() {
            refused("seats");
        }
        seat
    }

    async fn answer(&self, request: Request<Body>, ends: Ends) -> Response {
        let mut response = self.respond(&request, ends);
        let headers = [
            (header::CONNECTION, "close"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; frame-ancestors 'none'",
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        for (name, value) in headers {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn refused(&self, reason: &'static str) {
        refused(reason);
    }
}
