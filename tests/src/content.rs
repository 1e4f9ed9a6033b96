//! Test torrents: content that no one can compress, the same in every run, and its metainfo.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use bt_wire::bencode::{Document, Limits};
use bt_wire::ids::InfoHash;
use bt_wire::metainfo::MetainfoBuilder;
use sha1::{Digest, Sha1};

use crate::runner;

/// A single-file v1 torrent whose content we know.
#[derive(Debug, Clone)]
pub struct Torrent {
    /// The file's name.
    pub name: String,
    /// Bytes of a piece.
    pub piece_length: u32,
    /// The whole file.
    pub content: Arc<[u8]>,
    /// The infohash.
    pub info_hash: InfoHash,
    /// The bencoded metainfo.
    pub metainfo: Vec<u8>,
    /// The metainfo as a file.
    pub path: PathBuf,
}

/// What is special about a [`Torrent`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Kind {
    /// BEP 27.
    pub private: bool,
    /// An HTTP tracker to announce to, at `/announce`.
    pub tracker: Option<SocketAddr>,
}

impl Torrent {
    /// `bytes` of content that depends on the name alone.
    ///
    /// # Errors
    /// The metainfo cannot be written to the scratch folder.
    pub fn new(name: &str, bytes: usize, piece_length: u32, kind: Kind) -> anyhow::Result<Self> {
        let content: Arc<[u8]> = content(name, bytes).into();
        let pieces = content.chunks(usize::try_from(piece_length)?);
        let mut builder = MetainfoBuilder::single(name, u64::try_from(bytes)?, piece_length)
            .pieces(pieces.map(|piece| Sha1::digest(piece).into()))
            .private(kind.private);
        if let Some(tracker) = kind.tracker {
            builder = builder.tier([format!("http://{tracker}/announce")]);
        }
        let metainfo = builder.build()?;
        let info_hash = info_hash(&metainfo)?;
        let path = runner::scratch().join(format!("{info_hash}.torrent"));
        fs::write(&path, &metainfo).with_context(|| path.display().to_string())?;
        Ok(Self {
            name: name.to_owned(),
            piece_length,
            content,
            info_hash,
            metainfo,
            path,
        })
    }

    /// How many pieces there are.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.content.len().div_ceil(self.piece_length as usize)
    }

    /// The bytes of a block, `None` when it reaches outside its piece or the content.
    #[must_use]
    pub fn block(&self, piece: u32, begin: u32, length: u32) -> Option<&[u8]> {
        let end = begin
            .checked_add(length)
            .filter(|end| *end <= self.piece_length)?;
        let start = u64::from(piece) * u64::from(self.piece_length);
        let from = usize::try_from(start + u64::from(begin)).ok()?;
        let to = usize::try_from(start + u64::from(end)).ok()?;
        self.content.get(from..to)
    }

    /// Writes the content into `folder`, for a seed.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn write_into(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        Ok(fs::write(folder.join(&self.name), &self.content)?)
    }

    /// Checks that the file in `folder` is this content, by SHA-1.
    ///
    /// # Errors
    /// It is missing, or differs.
    pub fn verify(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(&self.name);
        let found = fs::read(&path).with_context(|| path.display().to_string())?;
        let equal = Sha1::digest(&found) == Sha1::digest(&self.content);
        ensure!(
            equal,
            "{} is not what was seeded ({} bytes)",
            path.display(),
            found.len()
        );
        Ok(())
    }
}

/// SHA-1 of the info dictionary's exact bytes.
fn info_hash(metainfo: &[u8]) -> anyhow::Result<InfoHash> {
    let document = Document::parse(metainfo, &Limits::default())?;
    let info = document.root().as_dict().and_then(|root| root.get("info"));
    Ok(InfoHash(
        Sha1::digest(info.context("no info dictionary")?.raw()).into(),
    ))
}

/// SplitMix64, seeded by the name.
fn content(name: &str, bytes: usize) -> Vec<u8> {
    let mut state = u64::from_be_bytes(Sha1::digest(name)[..8].try_into().unwrap_or_default());
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    out.truncate(bytes);
    out
}
