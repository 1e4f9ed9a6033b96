//! Announce: what we tell a tracker and what it answers.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::address::{canonical, decode_compact_v4, decode_compact_v6};
use crate::bencode::{Dict, Document, Error, Limits, Node, Value};
use crate::extension;
use crate::ids::{InfoHash, PeerId};

/// Most peers kept of one reply.
pub const MAX_PEERS: usize = 200;
/// Shortest interval believed; shorter ones are raised to it.
pub const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// Longest interval believed; longer ones are cut to it.
pub const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// What stands in for an interval that is absent, zero or negative.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1800);
/// Characters kept of a tracker's texts.
const MAX_TEXT: usize = 512;
/// Longest tracker id sent back, in bytes.
const MAX_TRACKER_ID: usize = 256;

/// RFC 3986's unreserved characters stay; every other byte is escaped.
const BYTES: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What happened since the last announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing: a regular announce.
    None,
    /// First announce.
    Started,
    /// The download became complete. A repeater never says so.
    Completed,
    /// Last announce.
    Stopped,
    /// Downloads nothing more though incomplete (BEP 21).
    Paused,
}

/// An announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who we are.
    pub peer_id: PeerId,
    /// Where we listen.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes we do not hold: total − held, always the truth.
    pub left: u64,
    /// What happened.
    pub event: Event,
    /// Peers wanted; none = the tracker's default.
    pub numwant: Option<u32>,
    /// Recognises us if our address changes; shown to this tracker only.
    pub key: Option<u32>,
    /// What the tracker gave us last time.
    pub tracker_id: Option<Vec<u8>>,
    /// Our global IPv6 address, where we announce over IPv4 (BEP 7).
    pub ipv6: Option<Ipv6Addr>,
}

/// A peer named by a tracker. Hearsay: [`crate::address::dialable`] decides about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackerPeer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its peer id, where the tracker says it (never in compact replies).
    pub peer_id: Option<PeerId>,
}

/// A tracker's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// When to announce again: [`MIN_INTERVAL`] to [`MAX_INTERVAL`]; 30 minutes if absent, zero or negative.
    pub interval: Duration,
    /// The least time between announces, clamped likewise; none if absent, zero or negative.
    pub min_interval: Option<Duration>,
    /// Peers, at most [`MAX_PEERS`].
    pub peers: Vec<TrackerPeer>,
    /// Entries left out: past the limit, host names, bad addresses. For the caller's counter.
    pub peers_ignored: usize,
    /// Seeds.
    pub complete: Option<u32>,
    /// Everybody else.
    pub incomplete: Option<u32>,
    /// Completed downloads ever.
    pub downloaded: Option<u32>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// To be sent back next time.
    pub tracker_id: Option<Vec<u8>>,
    /// For people; may hold control characters.
    pub warning: Option<String>,
    /// An interval was out of range: for the caller's counter.
    pub clamped: bool,
}

/// When a tracker that failed wants to be asked again (BEP 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It did not say: back off.
    Unsaid,
    /// After this time, at most [`MAX_INTERVAL`].
    After(Duration),
    /// Never.
    Never,
}

/// No answer to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// The tracker said no.
    #[error("the tracker refused: {reason}")]
    Failure {
        /// Its words, at most 512 characters; may hold control characters.
        reason: String,
        /// When to try again.
        retry: Retry,
    },
    /// The reply is not bencode: probably a web page.
    #[error("the tracker's reply is not bencode ({0})")]
    Bencode(#[from] Error),
    /// The reply is bencode but no dictionary.
    #[error("the tracker's reply is not a dictionary")]
    NotADict,
}

impl Event {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Started => Some("started"),
            Self::Completed => Some("completed"),
            Self::Stopped => Some("stopped"),
            Self::Paused => Some("paused"),
        }
    }
}

impl AnnounceRequest {
    /// The query string, to be joined with [`super::with_query`]. Infohash and peer id are escaped byte by byte.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = format!(
            "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact=1",
            percent_encode(&self.info_hash.0, BYTES),
            percent_encode(&self.peer_id.0, BYTES),
            self.port,
            self.uploaded,
            self.downloaded,
            self.left,
        );
        let event = self.event.name().map(|name| ("event", name.to_owned()));
        let numwant = self.numwant.map(|count| ("numwant", count.to_string()));
        let key = self.key.map(|key| ("key", format!("{key:08X}")));
        let id = self
            .tracker_id
            .as_ref()
            .map(|id| ("trackerid", percent_encode(id, BYTES).to_string()));
        let ipv6 = self.ipv6.map(|ip| {
            (
                "ipv6",
                percent_encode(ip.to_string().as_bytes(), BYTES).to_string(),
            )
        });
        for (name, value) in [event, numwant, key, id, ipv6].into_iter().flatten() {
            // Writing into a String cannot fail.
            let _ = write!(query, "&{name}={value}");
        }
        query
    }
}

impl AnnounceResponse {
    /// Reads a reply of at most [`super::MAX_RESPONSE`] bytes. Bytes after the document are ignored.
    ///
    /// # Errors
    /// A failure told by the tracker, or a reply that cannot be read.
    pub fn parse(body: &[u8]) -> Result<Self, TrackerError> {
        let limits = Limits {
            depth: 16,
            ..Limits::default()
        };
        let (document, _) = Document::parse_prefix(body, &limits)?;
        let dict = document.root().as_dict().ok_or(TrackerError::NotADict)?;
        failure(dict)?;
        let (interval, cut) = interval(dict, "interval");
        let (min_interval, min_cut) = self::interval(dict, "min interval");
        let mut response = Self {
            interval: interval.unwrap_or(DEFAULT_INTERVAL),
            min_interval,
            peers: Vec::new(),
            peers_ignored: 0,
            complete: count(dict, "complete"),
            incomplete: count(dict, "incomplete"),
            downloaded: count(dict, "downloaded"),
            external_ip: dict.bytes("external ip").and_then(extension::ip),
            tracker_id: dict
                .bytes("tracker id")
                .filter(|id| id.len() <= MAX_TRACKER_ID)
                .map(<[u8]>::to_vec),
            warning: dict.bytes("warning message").map(text),
            clamped: cut || min_cut,
        };
        response.read_peers(dict);
        Ok(response)
    }

    fn read_peers(&mut self, dict: Dict<'_>) {
        match dict.get("peers").map(Node::value) {
            Some(Value::Bytes(compact)) => {
                decode_compact_v4(compact).for_each(|addr| self.keep(Some(addr), None))
            }
            Some(Value::List(list)) => {
                for entry in list.iter() {
                    let entry = entry.as_dict();
                    let id = entry
                        .and_then(|entry| entry.bytes("peer id"))
                        .and_then(<[u8]>::as_array::<20>);
                    self.keep(entry.and_then(dict_peer), id.map(|&id| PeerId(id)));
                }
            }
            Some(Value::Int(_) | Value::Dict(_)) | None => {}
        }
        decode_compact_v6(dict.bytes("peers6").unwrap_or_default())
            .for_each(|addr| self.keep(Some(addr), None));
    }

    fn keep(&mut self, addr: Option<SocketAddr>, peer_id: Option<PeerId>) {
        match addr {
            Some(addr) if self.peers.len() < MAX_PEERS => {
                self.peers.push(TrackerPeer { addr, peer_id })
            }
            Some(_) | None => self.peers_ignored += 1,
        }
    }
}

/// A peer in the old dictionary form; host names are not resolved, a tracker could aim them at anything.
fn dict_peer(entry: Dict<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = entry.get("ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(entry.int("port")?).ok()?;
    Some(canonical(SocketAddr::new(ip, port)))
}

/// Seconds under `key`, clamped; whether clamping or replacing was needed.
fn interval(dict: Dict<'_>, key: &str) -> (Option<Duration>, bool) {
    match dict.int(key) {
        None => (None, false),
        Some(seconds) if seconds <= 0 => (None, true),
        Some(seconds) => {
            let asked = Duration::from_secs(seconds.unsigned_abs());
            let clamped = asked.clamp(MIN_INTERVAL, MAX_INTERVAL);
            (Some(clamped), clamped != asked)
        }
    }
}

/// A count under `key`; negative and impossible ones are unknown.
pub(super) fn count(dict: Dict<'_>, key: &str) -> Option<u32> {
    dict.int(key).and_then(|count| u32::try_from(count).ok())
}

/// The tracker's refusal, if it is one (BEP 3, BEP 31).
pub(super) fn failure(dict: Dict<'_>) -> Result<(), TrackerError> {
    let Some(reason) = dict.bytes("failure reason") else {
        return Ok(());
    };
    let retry = match dict.get("retry in").map(Node::value) {
        Some(Value::Bytes(b"never")) => Retry::Never,
        Some(Value::Int(minutes)) if minutes > 0 => Retry::After(
            Duration::from_secs(minutes.unsigned_abs().saturating_mul(60)).min(MAX_INTERVAL),
        ),
        Some(Value::Bytes(minutes)) => match std::str::from_utf8(minutes)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
        {
            Some(minutes) if minutes > 0 => {
                Retry::After(Duration::from_secs(u64::from(minutes) * 60).min(MAX_INTERVAL))
            }
            Some(_) | None => Retry::Unsaid,
        },
        Some(Value::Int(_) | Value::List(_) | Value::Dict(_)) | None => Retry::Unsaid,
    };
    Err(TrackerError::Failure {
        reason: text(reason),
        retry,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .take(MAX_TEXT)
        .collect()
}

#[cfg(test)]
mod tests;
