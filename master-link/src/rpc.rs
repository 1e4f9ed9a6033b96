//! One face for every kind of master.

use std::net::SocketAddr;

use bt_wire::bitfield::Bitfield;
use bt_wire::ids::InfoHash;

use crate::config::{ConfigError, RpcConfig, RpcKind};
use crate::error::RpcError;
use crate::http::Http;
use crate::model::{MasterPeer, MasterTorrent, TestReport, Version};
use crate::qbittorrent::QBittorrent;
use crate::transmission::Transmission;

/// A master's RPC. Logs in by itself when first asked and whenever the session ran out; may be asked from several tasks at once.
///
/// Every call ends within about a minute (three requests of at most 20 seconds) and may fail as [`RpcError`] says.
#[derive(Debug)]
pub enum MasterRpc {
    /// Transmission.
    Transmission(Transmission),
    /// qBittorrent.
    QBittorrent(QBittorrent),
}

impl MasterRpc {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError`] when the configuration cannot be used.
    pub fn new(config: &RpcConfig) -> Result<Self, ConfigError> {
        match config.kind {
            RpcKind::Transmission => Transmission::new(config).map(Self::Transmission),
            RpcKind::QBittorrent => QBittorrent::new(config).map(Self::QBittorrent),
        }
    }

    /// Logs in and asks for version and port, for a person: tried even when a login was refused a moment ago.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn test(&self) -> Result<TestReport, RpcError> {
        self.http().forget_refusal();
        Ok(TestReport {
            version: self.version().await?,
            peer_port: self.peer_port().await?,
        })
    }

    /// Which program answers.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn version(&self) -> Result<Version, RpcError> {
        match self {
            Self::Transmission(master) => master.version().await,
            Self::QBittorrent(master) => master.version().await,
        }
    }

    /// The port the master listens on for peers; 0 when the system chose one that it does not tell.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn peer_port(&self) -> Result<u16, RpcError> {
        match self {
            Self::Transmission(master) => master.peer_port().await,
            Self::QBittorrent(master) => master.peer_port().await,
        }
    }

    /// All torrents of the master, finished ones too.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn torrents(&self) -> Result<Vec<MasterTorrent>, RpcError> {
        match self {
            Self::Transmission(master) => master.torrents().await,
            Self::QBittorrent(master) => master.torrents().await,
        }
    }

    /// The pieces the master holds; `None` while it has no metadata. What is not held is missing, wanted or not.
    ///
    /// # Errors
    /// [`RpcError`]; [`RpcError::UnknownTorrent`] when the master has it not.
    pub async fn held_pieces(&self, info_hash: InfoHash) -> Result<Option<Bitfield>, RpcError> {
        match self {
            Self::Transmission(master) => master.held_pieces(info_hash).await,
            Self::QBittorrent(master) => master.held_pieces(info_hash).await,
        }
    }

    /// The .torrent file, at most [`crate::MAX_BODY`] bytes, unchecked. `None` when this master cannot give it:
    /// Transmission, qBittorrent before 4.5, no metadata yet, no such torrent.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn export(&self, info_hash: InfoHash) -> Result<Option<Vec<u8>>, RpcError> {
        match self {
            Self::Transmission(_) => Ok(None),
            Self::QBittorrent(master) => master.export(info_hash).await,
        }
    }

    /// Tells the master to dial `peer` for this torrent. It answers at once and dials some seconds later, or never.
    ///
    /// # Errors
    /// [`RpcError`]; [`RpcError::Unsupported`] from Transmission, without asking it.
    pub async fn add_peer(&self, info_hash: InfoHash, peer: SocketAddr) -> Result<(), RpcError> {
        match self {
            Self::Transmission(master) => Err(master.no_add_peer()),
            Self::QBittorrent(master) => master.add_peer(info_hash, peer).await,
        }
    }

    /// The peers the master is connected with for this torrent, and what it gets from each.
    ///
    /// # Errors
    /// [`RpcError`]; [`RpcError::UnknownTorrent`] when the master has it not.
    pub async fn peers(&self, info_hash: InfoHash) -> Result<Vec<MasterPeer>, RpcError> {
        match self {
            Self::Transmission(master) => master.peers(info_hash).await,
            Self::QBittorrent(master) => master.peers(info_hash).await,
        }
    }

    fn http(&self) -> &Http {
        match self {
            Self::Transmission(master) => master.http(),
            Self::QBittorrent(master) => master.http(),
        }
    }
}
