//! How to ask a master things: thin clients of the RPC interfaces that ordinary BitTorrent clients have.
//!
//! A master needs no change and no plugin. Where it has an RPC, the slave learns from it which torrents are unfinished,
//! what they miss, where the master listens and, where that is possible, tells the master to dial it.
//! Names and formats live here; what to do with the answers is decided elsewhere.
//!
//! | | Transmission | qBittorrent |
//! |---|---|---|
//! | dialect | `rpc-version` ≤ 17 (3.x, 4.0) and the same, still served, up to 5.0 | Web API 2.x: 4.x, 5.x, and 5.2's login |
//! | metainfo | no | since 4.5 |
//! | add a peer | no | yes |
//! | bytes per peer | rate only | exact |

#![forbid(unsafe_code)]

mod config;
mod error;
mod http;
mod model;
mod qbittorrent;
mod rpc;
mod transmission;

pub use config::{ConfigError, RpcConfig, RpcKind};
pub use error::RpcError;
pub use http::{MAX_BODY, ensure_crypto_provider};
pub use model::{MasterPeer, MasterTorrent, Received, TestReport, TorrentState, Version};
pub use qbittorrent::QBittorrent;
pub use rpc::MasterRpc;
pub use transmission::Transmission;
