//! The 68 bytes each way, within a deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bt_wire::handshake::{Handshake, LENGTH, NotAHandshake, Reserved};
use bt_wire::ids::InfoHash;

use super::home::unix_now;
use super::{Network, Stream};
use crate::swarms::Swarm;

/// From the first byte we could read to the last of the handshake (row B6).
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection ends at the handshake. Each has a counter, by its `reason`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("no whole handshake within 10 s")]
    Silent,
    #[error(transparent)]
    NotBitTorrent(#[from] NotAHandshake),
    #[error("an infohash that is not joined")]
    UnknownInfoHash,
    #[error("another infohash than the one asked for")]
    WrongInfoHash,
    #[error("a connection to ourselves")]
    Ourselves,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Refused {
    fn count(&self) {
        let reason = match self {
            Self::Silent => "silent",
            Self::NotBitTorrent(_) => "not_bittorrent",
            Self::UnknownInfoHash => "unknown_infohash",
            Self::WrongInfoHash => "wrong_infohash",
            Self::Ourselves => "ourselves",
            Self::Io(_) => "closed",
        };
        metrics::counter!("btslave_handshakes_refused_total", "reason" => reason).increment(1);
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Io(error) => error,
            other @ (Refused::Silent
            | Refused::NotBitTorrent(_)
            | Refused::UnknownInfoHash
            | Refused::WrongInfoHash
            | Refused::Ourselves) => Self::other(other),
        }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    let result = tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or(Err(Refused::Silent));
    if let Err(refused) = &result {
        refused.count();
    }
    result
}

async fn read(network: &Network, stream: &mut Stream) -> Result<Handshake, Refused> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes).await?;
    network.allowance.spend(LENGTH as u64);
    Ok(Handshake::decode(&bytes)?)
}

async fn write(network: &Network, stream: &mut Stream, info_hash: InfoHash) -> io::Result<()> {
    let ours = Handshake {
        reserved: Reserved::ours(false),
        info_hash,
        peer_id: network.peer_id,
    };
    stream.write_all(&ours.encode()).await?;
    network.allowance.spend(LENGTH as u64);
    Ok(())
}

/// What an incoming connection is for.
#[derive(Debug)]
pub(super) enum Place {
    /// A swarm that is joined.
    Swarm(Arc<Swarm>),
    /// The home of a friend and us.
    Home(InfoHash),
}

/// They speak first; they learn nothing of us unless they name a swarm that is joined, or a home.
pub(super) async fn incoming(
    network: &Network,
    stream: &mut Stream,
) -> Result<(Place, Handshake), Refused> {
    within(async {
        let theirs = read(network, stream).await?;
        let swarm = network
            .swarms
            .find(theirs.info_hash)
            .filter(|swarm| swarm.is_joined());
        let is_home = || {
            let friends = network.friends.as_ref();
            friends.is_some_and(|friends| friends.is_home(theirs.info_hash, unix_now()))
        };
        let place = match swarm {
            Some(swarm) => Place::Swarm(swarm),
            None if is_home() => Place::Home(theirs.info_hash),
            None => return Err(Refused::UnknownInfoHash),
        };
        if theirs.peer_id == network.peer_id {
            return Err(Refused::Ourselves);
        }
        write(network, stream, theirs.info_hash).await?;
        Ok((place, theirs))
    })
    .await
}

/// We speak first.
//= spec/friends.md#dial-silent
pub(super) async fn outgoing(
    network: &Network,
    stream: &mut Stream,
    info_hash: InfoHash,
) -> Result<Handshake, Refused> {
    within(async {
        write(network, stream, info_hash).await?;
        let theirs = read(network, stream).await?;
        if theirs.info_hash != info_hash {
            return Err(Refused::WrongInfoHash);
        }
        if theirs.peer_id == network.peer_id {
            return Err(Refused::Ourselves);
        }
        Ok(theirs)
    })
    .await
}
