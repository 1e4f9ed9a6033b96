//! Transmission's RPC, the dialect of `rpc-version` up to 17 (2.80 to 4.0), which 4.1 still serves and 5.0 will drop.
//!
//! Source: Transmission's `docs/rpc-spec.md`; shapes recorded from 3.00. There is no way to get the metainfo
//! (`torrentFile` is a path on the master's disk) and none to add a peer: 3.00 takes `peer-add` and ignores it.

use std::net::{IpAddr, SocketAddr};

use bt_wire::address::canonical;
use bt_wire::bitfield::Bitfield;
use bt_wire::ids::InfoHash;
use data_encoding::BASE64;
use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::{ConfigError, RpcConfig};
use crate::error::RpcError;
use crate::http::{Http, Reply, plain, quote};
use crate::model::{MasterPeer, MasterTorrent, Received, TorrentState, Version, bytes};

const SESSION_ID: &str = "X-Transmission-Session-Id";

/// A Transmission that is asked.
#[derive(Debug)]
pub struct Transmission {
    http: Http,
    /// The anti-CSRF token of the last 409; changes when Transmission restarts, and hourly.
    session_id: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Envelope {
    result: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Session {
    version: String,
    rpc_version: i64,
    peer_port: u16,
}

#[derive(Deserialize)]
struct Torrents<T> {
    torrents: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Torrent {
    hash_string: String,
    name: String,
    is_private: bool,
    status: i64,
    left_until_done: i64,
    have_valid: i64,
    total_size: i64,
    metadata_percent_complete: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pieces {
    piece_count: i64,
    pieces: String,
}

#[derive(Deserialize)]
struct Peers {
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    address: String,
    port: u16,
    client_name: String,
    rate_to_client: i64,
}

impl Transmission {
    pub(crate) fn new(config: &RpcConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            http: Http::new(config)?,
            session_id: Mutex::new(None),
        })
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) async fn version(&self) -> Result<Version, RpcError> {
        let session = self.session().await?;
        Ok(Version {
            client: format!("Transmission {}", plain(&session.version)),
            api: session.rpc_version.to_string(),
        })
    }

    pub(crate) async fn peer_port(&self) -> Result<u16, RpcError> {
        Ok(self.session().await?.peer_port)
    }

    pub(crate) async fn torrents(&self) -> Result<Vec<MasterTorrent>, RpcError> {
        let fields = [
            "hashString",
            "name",
            "isPrivate",
            "status",
            "leftUntilDone",
            "haveValid",
            "totalSize",
            "metadataPercentComplete",
        ];
        let list: Torrents<Torrent> = self
            .call("torrent-get", json!({ "fields": fields }))
            .await?;
        list.torrents
            .iter()
            .map(|torrent| self.torrent(torrent))
            .collect()
    }

    /// The pieces held and checked; `None` while the metadata is missing.
    pub(crate) async fn held_pieces(
        &self,
        info_hash: InfoHash,
    ) -> Result<Option<Bitfield>, RpcError> {
        let pieces: Pieces = self.one(info_hash, &["pieceCount", "pieces"]).await?;
        if pieces.piece_count == 0 {
            return Ok(None);
        }
        let bytes = BASE64
            .decode(pieces.pieces.as_bytes())
            .map_err(|e| self.http.protocol(format!("bad base64, {e}")))?;
        let count = u32::try_from(pieces.piece_count)
            .map_err(|e| self.http.protocol(format!("pieceCount: {e}")))?;
        Bitfield::from_wire(&bytes, count)
            .map(Some)
            .map_err(|e| self.http.protocol(format!("pieces: {e}")))
    }

    pub(crate) async fn peers(&self, info_hash: InfoHash) -> Result<Vec<MasterPeer>, RpcError> {
        let peers: Peers = self.one(info_hash, &["peers"]).await?;
        Ok(peers.peers.into_iter().filter_map(peer).collect())
    }

    pub(crate) fn no_add_peer(&self) -> RpcError {
        self.http.unsupported(
            "dial a peer",
            "Transmission's RPC has no such call; the slave dials the master instead",
        )
    }

    async fn session(&self) -> Result<Session, RpcError> {
        self.call(
            "session-get",
            json!({ "fields": ["version", "rpc-version", "peer-port"] }),
        )
        .await
    }

    async fn one<T: DeserializeOwned>(
        &self,
        info_hash: InfoHash,
        fields: &[&str],
    ) -> Result<T, RpcError> {
        let arguments = json!({ "ids": [info_hash.to_string()], "fields": fields });
        let mut list: Torrents<T> = self.call("torrent-get", arguments).await?;
        list.torrents
            .pop()
            .ok_or_else(|| self.http.unknown_torrent(info_hash))
    }

    fn torrent(&self, from: &Torrent) -> Result<MasterTorrent, RpcError> {
        let has_metadata = from.metadata_percent_complete >= 1.0;
        let state = match from.status {
            1 | 2 => TorrentState::Checking,
            4 if !has_metadata => TorrentState::Metadata,
            4 => TorrentState::Downloading,
            6 => TorrentState::Seeding,
            // 0 stopped, 3 and 5 waiting in the queue; and whatever comes later asks for nothing we know of.
            _ => TorrentState::Stopped,
        };
        let info_hash = from.hash_string.parse();
        Ok(MasterTorrent {
            info_hash: info_hash.map_err(|e| {
                self.http
                    .protocol(format!("hashString {}: {e}", quote(&from.hash_string)))
            })?,
            name: from.name.clone(),
            // Before the metadata it says false and cannot know.
            private: has_metadata.then_some(from.is_private),
            complete: has_metadata && state != TorrentState::Checking && from.left_until_done == 0,
            left_bytes: bytes(from.left_until_done),
            have_bytes: bytes(from.have_valid),
            total_bytes: bytes(from.total_size),
            state,
            exportable: false,
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: Value,
    ) -> Result<T, RpcError> {
        self.http.may_log_in()?;
        let body = json!({ "method": method, "arguments": arguments });
        let mut reply = self.post(&body).await?;
        if reply.status == StatusCode::CONFLICT {
            let fresh = reply.headers.get(SESSION_ID).cloned();
            let missing = || self.http.protocol(format!("HTTP 409 without {SESSION_ID}"));
            *self.session_id.lock() = Some(fresh.ok_or_else(missing)?);
            reply = self.post(&body).await?;
        }
        match reply.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(self.http.login_refused()),
            StatusCode::FORBIDDEN => {
                return Err(self.http.forbidden(
                    "its address is not in Transmission's rpc-whitelist, or too many logins failed; add it there, or restart Transmission",
                ));
            }
            StatusCode::MISDIRECTED_REQUEST => {
                return Err(self.http.forbidden(
                    "Transmission does not know itself by this host name; use its IP address, or add the name to rpc-host-whitelist",
                ));
            }
            _ => return Err(self.http.odd_status(&reply)),
        }
        self.http.forget_refusal();
        let envelope: Envelope = self.http.json(&reply.body)?;
        if envelope.result != "success" {
            return Err(self
                .http
                .protocol(format!("{method} failed, {}", quote(&envelope.result))));
        }
        serde_json::from_value(envelope.arguments)
            .map_err(|e| self.http.protocol(format!("{method}, {e}")))
    }

    async fn post(&self, body: &Value) -> Result<Reply, RpcError> {
        let mut request = self.http.client().post(self.http.base().clone()).json(body);
        if let Some((user, password)) = self.http.login() {
            request = request.basic_auth(user, Some(password));
        }
        let session_id = self.session_id.lock().clone();
        if let Some(session_id) = session_id {
            request = request.header(SESSION_ID, session_id);
        }
        self.http.send(request).await
    }
}

fn peer(from: Peer) -> Option<MasterPeer> {
    // Not an address: nothing that could be compared with one.
    let ip: IpAddr = from.address.parse().ok()?;
    Some(MasterPeer {
        address: canonical(SocketAddr::new(ip, from.port)),
        client: from.client_name,
        received: Received::Rate(bytes(from.rate_to_client)),
    })
}
