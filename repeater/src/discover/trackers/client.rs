//! Asking one tracker one thing over HTTP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bt_wire::address::{AddressSource, Refusal, dialable};
use bt_wire::ids::InfoHash;
use bt_wire::tracker::{
    AnnounceRequest, AnnounceResponse, MAX_RESPONSE, ScrapeResponse, TrackerError, TrackerPeer,
    scrape_query, scrape_url, with_query,
};
use url::Url;

use super::tiers::Failed;
use crate::discover::http::{Http, HttpError, HttpRequest};

/// For one announce or scrape.
pub const DEADLINE: Duration = Duration::from_secs(40);
/// For `stopped`: nobody waits for it.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Torrents in one scrape, so that the URL stays short.
pub const SCRAPE_AT_ONCE: usize = 40;

/// What a tracker answered, its peers checked.
#[derive(Debug, Clone)]
pub struct Announced {
    /// The answer as it came.
    pub response: AnnounceResponse,
    /// The peers that may be dialled, each once.
    pub peers: Vec<SocketAddr>,
}

/// Why an announce or scrape brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The tracker refused, or its reply cannot be read.
    #[error("{url}: {source}")]
    Tracker {
        /// The tracker, masked.
        url: String,
        /// What it said.
        source: TrackerError,
    },
    /// The URL follows no convention for scraping (BEP 48).
    #[error("{url}: this tracker cannot be scraped; its announces must do")]
    NoScrape {
        /// The tracker, masked.
        url: String,
    },
}

impl AskError {
    /// What the error means for the next announce.
    #[must_use]
    pub fn failed(&self) -> Failed {
        match self {
            Self::Http(HttpError::Status { status: 410, .. }) => Failed::Gone,
            Self::Http(HttpError::Status {
                retry_after_s: Some(seconds),
                ..
            }) => Failed::After(Duration::from_secs(*seconds)),
            Self::Tracker {
                source: TrackerError::Failure { retry, .. },
                ..
            } => (*retry).into(),
            Self::Http(_) | Self::Tracker { .. } | Self::NoScrape { .. } => Failed::Later,
        }
    }
}

/// Counts a defence.
pub(super) fn refused(reason: &'static str, count: usize) {
    metrics::counter!("btslave_tracker_refused_total", "reason" => reason).increment(count as u64);
}

/// Asks trackers. Clones share connections.
#[derive(Debug, Clone)]
pub struct TrackerClient {
    http: Http,
}

impl TrackerClient {
    /// A client over `http`.
    #[must_use]
    pub fn new(http: Http) -> Self {
        Self { http }
    }

    /// Announces. `named_by`: who named the tracker. Peers the tracker may not name, and repeated ones, are left out
    /// and counted.
    pub async fn announce(
        &self,
        url: &Url,
        named_by: AddressSource,
        request: &AnnounceRequest,
        deadline: Duration,
    ) -> Result<Announced, AskError> {
        let whole = with_query(url, &request.query());
        let (body, speaks_as) = self.ask(&whole, named_by, deadline).await?;
        let response = AnnounceResponse::parse(&body).map_err(|e| tracker_error(url, e))?;
        refused("interval_clamped", usize::from(response.clamped));
        refused("peer_unreadable", response.peers_ignored);
        let peers = filter(&response.peers, speaks_as);
        Ok(Announced { response, peers })
    }

    /// Scrapes some torrents, at most [`SCRAPE_AT_ONCE`] of them.
    pub async fn scrape(
        &self,
        announce: &Url,
        named_by: AddressSource,
        hashes: &[InfoHash],
    ) -> Result<ScrapeResponse, AskError> {
        let no_scrape = || AskError::NoScrape {
            url: crate::discover::http::masked(announce),
        };
        let url = scrape_url(announce).ok_or_else(no_scrape)?;
        let hashes = hashes
            .get(..hashes.len().min(SCRAPE_AT_ONCE))
            .unwrap_or_default();
        let (body, _) = self
            .ask(&with_query(&url, &scrape_query(hashes)), named_by, DEADLINE)
            .await?;
        ScrapeResponse::parse(&body).map_err(|e| tracker_error(&url, e))
    }

    async fn ask(
        &self,
        url: &Url,
        named_by: AddressSource,
        deadline: Duration,
    ) -> Result<(Vec<u8>, AddressSource), AskError> {
        let request = HttpRequest {
            url: url.as_str(),
            named_by,
            max_body: MAX_RESPONSE,
            deadline,
            etag: None,
            last_modified: None,
        };
        let reply = self.http.get(&request).await?;
        Ok((reply.body, reply.speaks_as))
    }
}

fn tracker_error(url: &Url, source: TrackerError) -> AskError {
    AskError::Tracker {
        url: crate::discover::http::masked(url),
        source,
    }
}

/// The peers a tracker may name, each once (attack row C3).
fn filter(peers: &[TrackerPeer], speaks_as: AddressSource) -> Vec<SocketAddr> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for TrackerPeer { addr, .. } in peers {
        match dialable(*addr, speaks_as) {
            Ok(()) if seen.insert(*addr) => out.push(*addr),
            Ok(()) => refused("peer_repeated", 1),
            Err(Refusal::PortZero) => refused("peer_port_zero", 1),
            Err(Refusal::PrivilegedPort) => refused("peer_privileged_port", 1),
            Err(Refusal::NotAHost) => refused("peer_not_a_host", 1),
            Err(Refusal::NarrowerScope) => refused("peer_scope", 1),
        }
    }
    out
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
