//! qBittorrent's Web API 2.x.
//!
//! Source: qBittorrent's wiki, "WebUI API"; shapes recorded from 4.5.2 (API 2.8.19). Up to 5.1 a login answers 200 `Ok.` or `Fails.`
//! with the cookie `SID`; from 5.2 on 204 or 401 with the cookie `QBT_SID_<port>`. Both are spoken.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bt_wire::address::canonical;
use bt_wire::bitfield::Bitfield;
use bt_wire::ids::InfoHash;
use parking_lot::Mutex;
use reqwest::header::{ORIGIN, REFERER};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::{ConfigError, RpcConfig};
use crate::error::RpcError;
use crate::http::{Http, Reply, plain, quote};
use crate::model::{MasterPeer, MasterTorrent, Received, TorrentState, Version, bytes};

/// A qBittorrent that is asked.
#[derive(Debug)]
pub struct QBittorrent {
    http: Http,
    /// Its name for a torrent whose v1 infohash is not its name: hybrids go by the v2 infohash's first 20 bytes.
    names: Mutex<BTreeMap<InfoHash, String>>,
}

#[derive(Deserialize)]
struct Torrent {
    hash: String,
    #[serde(default)]
    infohash_v1: String,
    name: String,
    /// Since 5.0; null without metadata.
    #[serde(default)]
    private: Option<bool>,
    state: String,
    amount_left: i64,
    completed: i64,
    total_size: i64,
}

#[derive(Deserialize)]
struct Preferences {
    listen_port: u16,
}

#[derive(Deserialize)]
struct Added {
    added: u32,
}

#[derive(Deserialize)]
struct Peers {
    #[serde(default)]
    peers: BTreeMap<String, Peer>,
}

#[derive(Deserialize)]
struct Peer {
    ip: String,
    port: u16,
    #[serde(default)]
    client: String,
    downloaded: i64,
}

impl QBittorrent {
    pub(crate) fn new(config: &RpcConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            http: Http::new(config)?,
            names: Mutex::new(BTreeMap::new()),
        })
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) async fn version(&self) -> Result<Version, RpcError> {
        let client = self.expect_ok(self.get("app/version", &[]).await?)?;
        let api = self.expect_ok(self.get("app/webapiVersion", &[]).await?)?;
        let text = |body: &[u8]| plain(&String::from_utf8_lossy(body));
        Ok(Version {
            client: format!("qBittorrent {}", text(&client)),
            api: text(&api),
        })
    }

    pub(crate) async fn peer_port(&self) -> Result<u16, RpcError> {
        let body = self.expect_ok(self.get("app/preferences", &[]).await?)?;
        Ok(self.http.json::<Preferences>(&body)?.listen_port)
    }

    pub(crate) async fn torrents(&self) -> Result<Vec<MasterTorrent>, RpcError> {
        let body = self.expect_ok(self.get("torrents/info", &[]).await?)?;
        let list: Vec<Torrent> = self.http.json(&body)?;
        let mut names = BTreeMap::new();
        let torrents: Result<Vec<_>, _> = list
            .into_iter()
            .map(|torrent| self.torrent(torrent, &mut names))
            .collect();
        *self.names.lock() = names;
        torrents
    }

    /// The pieces held and checked; `None` while the metadata is missing.
    pub(crate) async fn held_pieces(
        &self,
        info_hash: InfoHash,
    ) -> Result<Option<Bitfield>, RpcError> {
        let states: Vec<u8> = self.of_torrent("torrents/pieceStates", info_hash).await?;
        let count = u32::try_from(states.len())
            .map_err(|e| self.http.protocol(format!("pieceStates: {e}")))?;
        if count == 0 {
            return Ok(None);
        }
        // 0 missing, 1 being downloaded, 2 there.
        let mut held = Bitfield::new(count);
        for (index, _) in (0..count).zip(&states).filter(|(_, state)| **state == 2) {
            held.set(index, true);
        }
        Ok(Some(held))
    }

    /// The .torrent file; `None` before 4.5, without metadata, and for an unknown torrent.
    pub(crate) async fn export(&self, info_hash: InfoHash) -> Result<Option<Vec<u8>>, RpcError> {
        let reply = self
            .get("torrents/export", &[("hash", &self.name(info_hash))])
            .await?;
        match reply.status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(None),
            _ => self.expect_ok(reply).map(Some),
        }
    }

    /// Tells it to dial `peer`; it does so within some seconds, also when it has finished.
    pub(crate) async fn add_peer(
        &self,
        info_hash: InfoHash,
        peer: SocketAddr,
    ) -> Result<(), RpcError> {
        let name = self.name(info_hash);
        let form = [
            ("hashes", name.clone()),
            ("peers", canonical(peer).to_string()),
        ];
        let reply = self
            .request(Method::POST, "torrents/addPeers", |request| {
                request.form(&form)
            })
            .await?;
        let answer: BTreeMap<String, Added> = self.http.json(&self.expect_ok(reply)?)?;
        match answer.get(&name) {
            None => Err(self.http.unknown_torrent(info_hash)),
            Some(Added { added: 0 }) => Err(self
                .http
                .protocol(format!("it did not take {peer} as a peer"))),
            Some(Added { .. }) => Ok(()),
        }
    }

    pub(crate) async fn peers(&self, info_hash: InfoHash) -> Result<Vec<MasterPeer>, RpcError> {
        let peers: Peers = self.of_torrent("sync/torrentPeers", info_hash).await?;
        Ok(peers.peers.into_values().filter_map(peer).collect())
    }

    async fn of_torrent<T: DeserializeOwned>(
        &self,
        path: &str,
        info_hash: InfoHash,
    ) -> Result<T, RpcError> {
        // `rid` 0 asks sync/ for the whole state; others ignore it.
        let reply = self
            .get(path, &[("hash", &self.name(info_hash)), ("rid", "0")])
            .await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Err(self.http.unknown_torrent(info_hash));
        }
        self.http.json(&self.expect_ok(reply)?)
    }

    fn name(&self, info_hash: InfoHash) -> String {
        self.names
            .lock()
            .get(&info_hash)
            .cloned()
            .unwrap_or_else(|| info_hash.to_string())
    }

    fn torrent(
        &self,
        from: Torrent,
        names: &mut BTreeMap<InfoHash, String>,
    ) -> Result<MasterTorrent, RpcError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|e| self.http.protocol(format!("hash {}: {e}", quote(text))))
        };
        let own: InfoHash = parse(&from.hash)?;
        let info_hash = if from.infohash_v1.is_empty() {
            own
        } else {
            parse(&from.infohash_v1)?
        };
        if info_hash != own {
            names.insert(info_hash, own.to_string());
        }
        let state = state(&from.state);
        let has_metadata = state != TorrentState::Metadata && from.total_size > 0;
        Ok(MasterTorrent {
            info_hash,
            name: from.name,
            private: from.private.filter(|_| has_metadata),
            complete: has_metadata && state != TorrentState::Checking && from.amount_left == 0,
            left_bytes: bytes(from.amount_left),
            have_bytes: bytes(from.completed),
            total_bytes: bytes(from.total_size),
            state,
            exportable: has_metadata,
        })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Reply, RpcError> {
        self.request(Method::GET, path, |request| request.query(query))
            .await
    }

    /// Sends; where the session is not (or no longer) good, logs in and sends once more.
    async fn request(
        &self,
        method: Method,
        path: &str,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Reply, RpcError> {
        self.http.may_log_in()?;
        let mut reply = self.http.send(fill(self.to(method.clone(), path)?)).await?;
        if reply.status == StatusCode::FORBIDDEN {
            self.log_in().await?;
            reply = self.http.send(fill(self.to(method, path)?)).await?;
        }
        match reply.status {
            StatusCode::FORBIDDEN => Err(self.http.forbidden(
                "the login went well and is then not honoured; if a reverse proxy stands between, let it pass cookies",
            )),
            // Answered before any session is looked at, so it is not the password.
            StatusCode::UNAUTHORIZED => Err(self.http.forbidden(
                "qBittorrent does not take the host name or port of this url for its own; use its IP address and its own port, \
                 or see \"Enable Host header validation\" and \"Server domains\" in its Web UI options",
            )),
            _ => Ok(reply),
        }
    }

    async fn log_in(&self) -> Result<(), RpcError> {
        let Some((username, password)) = self.http.login() else {
            return Err(self.http.login_refused());
        };
        let request = self
            .to(Method::POST, "auth/login")?
            .form(&[("username", username), ("password", password)]);
        let reply = self.http.send(request).await?;
        match reply.status {
            StatusCode::NO_CONTENT => {}
            StatusCode::OK if reply.body == b"Ok." => {}
            StatusCode::OK if reply.body == b"Fails." => return Err(self.http.login_refused()),
            StatusCode::UNAUTHORIZED => return Err(self.http.login_refused()),
            StatusCode::FORBIDDEN => {
                return Err(self.http.forbidden(
                    "qBittorrent has banned it after too many failed logins; mend user and password_file, then wait an hour or restart qBittorrent",
                ));
            }
            _ => return Err(self.http.odd_status(&reply)),
        }
        self.http.forget_refusal();
        Ok(())
    }

    /// A request that passes the check against cross-site forgery: it comes from the master's own page.
    fn to(&self, method: Method, path: &str) -> Result<RequestBuilder, RpcError> {
        let base = self.http.base();
        let url = base
            .join(&format!("api/v2/{path}"))
            .map_err(|e| self.http.protocol(e.to_string()))?;
        let request = self.http.client().request(method, url);
        Ok(request
            .header(REFERER, base.as_str())
            .header(ORIGIN, base.origin().ascii_serialization()))
    }

    fn expect_ok(&self, reply: Reply) -> Result<Vec<u8>, RpcError> {
        if reply.status == StatusCode::OK {
            Ok(reply.body)
        } else {
            Err(self.http.odd_status(&reply))
        }
    }
}

fn state(name: &str) -> TorrentState {
    match name {
        "downloading" | "stalledDL" | "forcedDL" | "allocating" => TorrentState::Downloading,
        "uploading" | "stalledUP" | "forcedUP" => TorrentState::Seeding,
        "checkingDL" | "checkingUP" | "checkingResumeData" | "moving" => TorrentState::Checking,
        "metaDL" | "forcedMetaDL" => TorrentState::Metadata,
        // paused*, stopped*, queued*, error, missingFiles, unknown; and whatever comes later asks for nothing we know of.
        _ => TorrentState::Stopped,
    }
}

fn peer(from: Peer) -> Option<MasterPeer> {
    // Not an address (I2P): nothing that could be compared with one.
    let ip: IpAddr = from.ip.parse().ok()?;
    Some(MasterPeer {
        address: canonical(SocketAddr::new(ip, from.port)),
        client: from.client,
        received: Received::Total(bytes(from.downloaded)),
    })
}
