//! A rendezvous: the torrent that a host makes, and the announce URL that it may run (spec/rendezvous.md).

mod announce;
mod limits;

#[cfg(test)]
mod tests;

use bt_wire::metainfo::{Metainfo, MetainfoBuilder, MetainfoError};
use bytes::Bytes;
use sha1::{Digest as _, Sha1};

pub(crate) use announce::{AnnounceUrl, Announcement, SERVER_LIMITS};

/// Longest .torrent file of a rendezvous, in bytes.
pub(crate) const MAX_TORRENT: usize = 32 << 10;
/// Largest payload of a rendezvous, in bytes.
pub(crate) const MAX_PAYLOAD: u64 = 1 << 20;
/// Longest name, in characters.
pub(crate) const MAX_NAME: usize = 64;
/// Bytes in a piece.
const PIECE: u32 = 16 << 10;

/// A new rendezvous.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) metainfo: Metainfo,
    /// The .torrent file.
    pub(crate) torrent: Bytes,
    /// The payload: a page that says what it is.
    pub(crate) page: Bytes,
}

/// A torrent could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error(transparent)]
    Create(#[from] bt_wire::metainfo::CreateError),
    #[error(transparent)]
    Read(#[from] MetainfoError),
}

/// Why a name is none; it becomes part of a file's name and of a page.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let sound = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.');
    if !(1..=MAX_NAME).contains(&name.chars().count()) || name.trim() != name {
        Err("must be 1 to 64 characters, with no space at either end")
    } else if !name.chars().all(sound) || name.starts_with('.') {
        Err("may hold letters, digits, spaces, and - _ . (not first)")
    } else {
        Ok(())
    }
}

/// Makes the torrent of a rendezvous. `salt` is random, so that no two have the same infohash; each of `trackers` is a
/// tier of its own.
//= spec/rendezvous.md#rv-torrent
pub(crate) fn make(name: &str, salt: u64, trackers: &[String]) -> Result<Made, MakeError> {
    let page = Bytes::from(page(name, salt));
    let pieces = page
        .chunks(PIECE as usize)
        .map(|piece| Sha1::digest(piece).into());
    let file = format!("{name}.html");
    let mut torrent = MetainfoBuilder::single(file, page.len() as u64, PIECE)
        .pieces(pieces)
        .created_by(concat!("BTSlave ", env!("CARGO_PKG_VERSION")));
    for tracker in trackers {
        torrent = torrent.tier([tracker.as_str()]);
    }
    let torrent = Bytes::from(torrent.build()?);
    Ok(Made {
        metainfo: Metainfo::from_torrent(torrent.clone())?,
        torrent,
        page,
    })
}

fn page(name: &str, salt: u64) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{name}</title>\n<h1>{name}</h1>\n\
         <p>This torrent is a rendezvous: a place where BTSlaves find each other. A BTSlave helps the BitTorrent client \
         of whoever runs it to data, and helps the slaves of friends, which help back.</p>\n\
         <p>There is nothing in this torrent but this page. An ordinary client that has it is let go; there is no harm \
         in that. If you run a BTSlave, join with the torrent file or its magnet link:</p>\n\
         <pre>slavectl rendezvous join TORRENT</pre>\n\
         <p>Being here earns nobody anything: what slaves give each other is between the two of them.</p>\n\
         <p><small>{salt:016x}</small></p>\n</html>\n"
    )
}
