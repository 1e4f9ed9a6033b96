//! What the demo's swarms share: small torrents of made-up bytes, the same on every run.

use anyhow::{Context, Result};
use bt_wire::metainfo::{Metainfo, MetainfoBuilder};
use bytes::Bytes;
use sha1::{Digest, Sha1};

/// Piece length of every demo torrent, bytes.
pub(super) const PIECE_LENGTH: u32 = 256 << 10;

/// A torrent with its content.
#[derive(Debug, Clone)]
pub(super) struct DemoTorrent {
    pub(super) name: &'static str,
    pub(super) metainfo: Metainfo,
    /// The .torrent file.
    pub(super) file: Bytes,
    pub(super) content: Bytes,
}

impl DemoTorrent {
    /// v1 infohash.
    pub(super) fn info_hash(&self) -> [u8; 20] {
        self.metainfo.info_hash().0
    }
}

/// A torrent of `length` bytes, told apart by `name`, announced at `tracker`.
pub(super) fn torrent(name: &'static str, length: usize, tracker: &str) -> Result<DemoTorrent> {
    let content = Bytes::from(noise(name, length));
    let hashes: Vec<[u8; 20]> = content
        .chunks(PIECE_LENGTH as usize)
        .map(|piece| Sha1::digest(piece).into())
        .collect();
    let file = MetainfoBuilder::single(name, content.len() as u64, PIECE_LENGTH)
        .pieces(hashes)
        .tier([tracker])
        .build()?;
    let metainfo =
        Metainfo::from_torrent(file.clone()).context("the demo's own torrent does not parse")?;
    Ok(DemoTorrent {
        name,
        metainfo,
        file: file.into(),
        content,
    })
}

/// Bytes that do not compress and depend on `name` alone (splitmix64).
fn noise(name: &str, length: usize) -> Vec<u8> {
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |s, b| {
        s.rotate_left(8) ^ u64::from(b)
    });
    let mut out = Vec::with_capacity(length.next_multiple_of(8));
    while out.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(length);
    out
}
