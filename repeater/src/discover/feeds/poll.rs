//! One poll of one feed: fetch the document, choose, fetch the torrents, hand them over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bt_wire::address::{AddressSource, Scope};
use bt_wire::metainfo::{MAX_TORRENT, Metainfo};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;

use super::folder;
use super::parse::{Document, FeedItem, ItemLink, MAX_DOCUMENT, parse};
use super::spec::{FeedPlace, FeedSpec};
use super::state::{BYTES_PER_POLL, FeedLedger, Polled};
use crate::discover::http::{Http, HttpError, HttpReply, HttpRequest};

/// For one document or .torrent file.
const FETCH_DEADLINE: Duration = Duration::from_secs(60);
/// For one poll; what is left then waits for the next.
const POLL_DEADLINE: Duration = Duration::from_secs(300);

/// A torrent a feed named. It is not private, can be joined, and fits the feed's size limit.
#[derive(Debug, Clone)]
pub struct FeedTorrent {
    /// The feed, as the operator wrote it.
    pub feed_url: String,
    /// The item's title; a stranger's text.
    pub title: String,
    /// What the .torrent file says.
    pub metainfo: Metainfo,
    /// The .torrent file itself.
    pub bytes: Bytes,
    /// Who named it: its trackers and peers are held to this scope.
    pub named_by: AddressSource,
}

/// A magnet link a feed named. Whether it is private shows only with its metadata: drop it then (promise 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedMagnet {
    /// The feed, as the operator wrote it.
    pub feed_url: String,
    /// The item's title; a stranger's text.
    pub title: String,
    /// The link, as written.
    pub link: String,
    /// Who named it.
    pub named_by: AddressSource,
}

/// What feeds bring.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// A torrent.
    Torrent(Box<FeedTorrent>),
    /// A magnet link.
    Magnet(FeedMagnet),
}

/// A poll that brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PollError {
    /// For people.
    pub reason: String,
    /// The wait the server asked for.
    pub retry_after: Option<Duration>,
}

impl From<HttpError> for PollError {
    fn from(error: HttpError) -> Self {
        let seconds = if let HttpError::Status { retry_after_s, .. } = &error {
            *retry_after_s
        } else {
            None
        };
        Self {
            reason: error.to_string(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }
}

impl PollError {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// Counts a defence.
fn refused(reason: &'static str, count: usize) {
    metrics::counter!("btslave_feed_refused_total", "reason" => reason).increment(count as u64);
}

/// Polls a feed once; what it finds goes to `events`, waiting while that is full.
/// `validators`: `ETag` and `Last-Modified` of the last good poll.
pub async fn poll_feed(
    http: &Http,
    spec: &FeedSpec,
    validators: (Option<&str>, Option<&str>),
    ledger: &mut FeedLedger,
    events: &mpsc::Sender<FeedEvent>,
) -> Result<Polled, PollError> {
    let mut poll = Poll {
        http,
        spec,
        ledger,
        events,
        named_by: AddressSource::Named {
            by: Scope::Loopback,
        },
        until: Instant::now() + POLL_DEADLINE,
        bytes_left: BYTES_PER_POLL,
        unfetched: false,
    };
    match spec.place() {
        FeedPlace::Http(url) => poll.over_http(url, validators).await,
        FeedPlace::Folder(path) => poll.folder(path).await,
    }
}

struct Poll<'a> {
    http: &'a Http,
    spec: &'a FeedSpec,
    ledger: &'a mut FeedLedger,
    events: &'a mpsc::Sender<FeedEvent>,
    /// Who names the items: the feed's server.
    named_by: AddressSource,
    until: Instant,
    bytes_left: u64,
    /// A fetch failed and is to be tried again.
    unfetched: bool,
}

impl Poll<'_> {
    async fn over_http(
        &mut self,
        url: &Url,
        validators: (Option<&str>, Option<&str>),
    ) -> Result<Polled, PollError> {
        let (etag, last_modified) = validators;
        let request = HttpRequest {
            url: url.as_str(),
            named_by: AddressSource::Operator,
            // The document may itself be a .torrent file; a list over its own cap is refused by the parser.
            max_body: MAX_DOCUMENT.max(MAX_TORRENT),
            deadline: FETCH_DEADLINE,
            etag,
            last_modified,
        };
        let mut reply = self.http.get(&request).await?;
        if reply.status == 304 {
            return Ok(Polled::default());
        }
        self.named_by = reply.speaks_as;
        let body = Bytes::from(std::mem::take(&mut reply.body));
        match read_document(&reply, body.clone()).await? {
            Document::Torrent => {
                let metainfo = Metainfo::from_torrent(body.clone())
                    .map_err(|e| PollError::new(e.to_string()))?;
                let title = metainfo.name.clone();
                self.deliver(title, metainfo, body).await;
                Ok(self.polled(reply, 1, None, false))
            }
            Document::Items {
                items,
                refused: bad,
                ttl,
            } => {
                refused("scheme", bad);
                let count = items.len();
                let more = self.take(items).await;
                Ok(self.polled(reply, count, ttl, more))
            }
        }
    }

    fn polled(&self, reply: HttpReply, items: usize, ttl: Option<Duration>, more: bool) -> Polled {
        // With fetches to repeat, the document is wanted again even if it did not change.
        let (etag, last_modified) = if self.unfetched {
            (None, None)
        } else {
            (reply.etag, reply.last_modified)
        };
        Polled {
            items: Some(items),
            ttl,
            etag,
            last_modified,
            more,
        }
    }

    /// Takes the items a poll may take; true if some are left.
    async fn take(&mut self, items: Vec<FeedItem>) -> bool {
        let (chosen, mut more) = self.ledger.choose(items, |item| self.spec.wants(item));
        if more {
            refused("quota", 1);
        }
        for item in chosen {
            if self.bytes_left == 0 || Instant::now() >= self.until {
                refused("quota", 1);
                more = true;
                break;
            }
            self.take_item(item).await;
        }
        more
    }

    async fn take_item(&mut self, item: FeedItem) {
        let url = match &item.link {
            ItemLink::Torrent(url) => url.clone(),
            ItemLink::Magnet(link) => {
                let FeedItem { title, .. } = &item;
                let magnet = FeedMagnet {
                    feed_url: self.spec.url().to_owned(),
                    title: title.clone(),
                    link: link.clone(),
                    named_by: self.named_by,
                };
                self.send(FeedEvent::Magnet(magnet)).await;
                self.ledger.done(item.link);
                return;
            }
        };
        let limit = usize::try_from(self.bytes_left)
            .unwrap_or(usize::MAX)
            .min(MAX_TORRENT);
        let request = HttpRequest {
            url: url.as_str(),
            named_by: self.named_by,
            max_body: limit,
            deadline: FETCH_DEADLINE,
            etag: None,
            last_modified: None,
        };
        match self.http.get(&request).await {
            Ok(reply) => {
                self.ledger.done(item.link);
                self.read_torrent(item.title, reply.body.into()).await;
            }
            Err(
                HttpError::Timeout { .. }
                | HttpError::Network { .. }
                | HttpError::Quota { .. }
                | HttpError::Status { .. },
            ) => {
                self.unfetched = true;
                self.ledger.failed(item.link);
            }
            Err(error) => {
                if matches!(error, HttpError::TooLarge { .. }) {
                    self.bytes_left = self.bytes_left.saturating_sub(limit as u64);
                }
                tracing::debug!("feed item: {error}");
                self.ledger.done(item.link);
            }
        }
    }

    async fn read_torrent(&mut self, title: String, bytes: Bytes) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
        match Metainfo::from_torrent(bytes.clone()) {
            Ok(metainfo) => self.deliver(title, metainfo, bytes).await,
            Err(_) => refused("bad_torrent", 1),
        }
    }

    /// Hands over a torrent that may come from a feed.
    async fn deliver(&mut self, title: String, metainfo: Metainfo, bytes: Bytes) {
        if metainfo.private {
            return refused("private", 1);
        }
        if metainfo.joinable().is_err() {
            return refused("not_joinable", 1);
        }
        if !self.spec.fits(metainfo.total) {
            return refused("torrent_size", 1);
        }
        if !self.spec.wants_title(&title) || !self.ledger.first_time(metainfo.info_hash()) {
            return refused("repeated_or_unwanted", 1);
        }
        let feed_url = self.spec.url().to_owned();
        let torrent = FeedTorrent {
            feed_url,
            title,
            metainfo,
            bytes,
            named_by: self.named_by,
        };
        self.send(FeedEvent::Torrent(Box::new(torrent))).await;
    }

    async fn send(&self, event: FeedEvent) {
        // An error means that the daemon is stopping.
        let _ = self.events.send(event).await;
    }

    async fn folder(&mut self, path: &Path) -> Result<Polled, PollError> {
        let files = blocking(folder::list, path.to_owned()).await?;
        let count = files.len();
        let wants = |item: &FeedItem| self.spec.wants_title(&item.title);
        let (chosen, more) = self
            .ledger
            .choose(files.iter().map(folder::Found::item).collect(), wants);
        for item in chosen {
            let Some(found) = files.iter().find(|f| f.link == item.link) else {
                continue;
            };
            match blocking(folder::read, found.path.clone()).await {
                Ok(bytes) => self.read_torrent(item.title, bytes.into()).await,
                Err(_) => refused("bad_torrent", 1),
            }
            self.ledger.done(item.link);
        }
        Ok(Polled {
            items: Some(count),
            more,
            ..Polled::default()
        })
    }
}

async fn read_document(reply: &HttpReply, body: Bytes) -> Result<Document, PollError> {
    let (content_type, base) = (reply.content_type.clone(), reply.url.clone());
    let parsed =
        tokio::task::spawn_blocking(move || parse(&body, content_type.as_deref(), &base)).await;
    match parsed {
        Ok(Ok(document)) => Ok(document),
        Ok(Err(e)) => {
            refused(e.label(), 1);
            Err(PollError::new(e.to_string()))
        }
        Err(_) => {
            refused("panic", 1);
            Err(PollError::new(
                "the feed made the parser fail; please report it with the feed's address",
            ))
        }
    }
}

async fn blocking<T: Send + 'static>(
    call: fn(&Path) -> std::io::Result<T>,
    path: PathBuf,
) -> Result<T, PollError> {
    let shown = path.display().to_string();
    let done = tokio::task::spawn_blocking(move || call(&path)).await;
    let error = |e: &dyn std::fmt::Display| {
        PollError::new(format!("{shown}: {e}; check the path and its permissions"))
    };
    done.map_err(|e| error(&e))?.map_err(|e| error(&e))
}
