//! Torrents: what a `.torrent` file or an info dictionary says (BEP 3, 12, 19, 27, 47, 52).
//!
//! v1 and hybrid torrents are loaded for work; v2-only ones are read and shown, and refused by [`Metainfo::joinable`].
//! The info dictionary's bytes are kept exactly as they came, and hashed so.

mod create;
mod files;
mod parse;

use bytes::Bytes;

pub use create::{CreateError, MetainfoBuilder};
pub use files::File;

use crate::bencode;
use crate::ids::{InfoHash, InfoHashV2};
use crate::layout::{Layout, LayoutError};

/// Largest `.torrent` file we read, in bytes.
pub const MAX_TORRENT: usize = 32 << 20;
/// Deepest directory in a torrent.
pub const MAX_PATH_DEPTH: usize = 100;
/// Longest all paths of a torrent may be together, in bytes.
pub const MAX_PATH_BYTES: usize = 16 << 20;
/// Most trackers and most web seeds kept of a torrent, each.
pub const MAX_URLS: usize = 200;

/// Which of the two formats a torrent is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaVersion {
    /// BEP 3 alone.
    V1,
    /// Both at once; we use the v1 side.
    Hybrid,
    /// BEP 52 alone.
    V2,
}

/// A torrent's metainfo. Everything in it has been checked; nothing in it may be printed raw (see
/// [`Metainfo::display_name`]).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metainfo {
    /// Format.
    pub version: MetaVersion,
    /// Suggested name, one safe path component. May hold control characters.
    pub name: String,
    /// Files in torrent order, below a directory called `name`, or the one file called so.
    pub files: Vec<File>,
    /// Whether the files are below a directory.
    pub multi_file: bool,
    /// Bytes in all files together, padding files included.
    pub total: u64,
    /// Bytes in a piece.
    pub piece_length: u32,
    /// Number of pieces.
    pub piece_count: u32,
    /// No DHT, LSD, PEX or feeds (BEP 27).
    pub private: bool,
    /// Announce URLs by tier (BEP 12), unchecked: see [`crate::tracker::check_announce_url`].
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19), unchecked.
    pub web_seeds: Vec<String>,
    /// SHA-1 of the info dictionary; none for v2-only torrents.
    pub info_hash_v1: Option<InfoHash>,
    /// SHA-256 of the info dictionary; none for v1-only torrents.
    pub info_hash_v2: Option<InfoHashV2>,
    /// The info dictionary, byte for byte.
    pub info_bytes: Bytes,
    /// The v1 piece hashes, a slice of the info dictionary.
    hashes: Bytes,
}

/// Why a torrent is not loaded. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// Over [`MAX_TORRENT`].
    #[error("the torrent file is {0} bytes; 32 MiB is the most that is read")]
    TooLong(usize),
    /// Not bencode, or over its limits.
    #[error("not a torrent file: {0}")]
    Bencode(#[from] bencode::Error),
    /// A key is missing or has the wrong type.
    #[error("`{0}` is missing or not what it must be")]
    BadKey(&'static str),
    /// An impossible piece length or size.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file's size is negative, or sizes add up to more than can be.
    #[error("a file's size is impossible")]
    BadSize,
    /// The piece hashes do not fit the size.
    #[error("{have} bytes of piece hashes where the size needs {want}")]
    PieceHashes {
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        want: usize,
    },
    /// A symbolic link (BEP 47).
    #[error("the torrent holds a symbolic link, which is never followed or made")]
    Symlink,
    /// Directories deeper than [`MAX_PATH_DEPTH`].
    #[error("directories nest deeper than 100")]
    TooDeep,
    /// Paths longer than [`MAX_PATH_BYTES`] together.
    #[error("the file names are longer than 16 MiB together")]
    PathsTooLong,
    /// Two files with the same path.
    #[error("two files have the same path")]
    DuplicatePath,
    /// A `meta version` of the future.
    #[error("metainfo version {0} is not known")]
    UnknownVersion(i64),
    /// A hybrid whose two halves list different files.
    #[error("the v1 and v2 halves of this hybrid torrent list different files")]
    HybridMismatch,
}

/// Why a torrent that was read cannot be joined. The text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotJoinable {
    /// BEP 52 without the v1 half.
    #[error(
        "this is a v2-only torrent, which BTSlave cannot join yet; use a hybrid or v1 torrent of the same content"
    )]
    V2Only,
}

impl Metainfo {
    /// Reads a `.torrent` file.
    ///
    /// # Errors
    /// See [`MetainfoError`]. Never takes more memory than a small multiple of the file.
    pub fn from_torrent(torrent: impl Into<Bytes>) -> Result<Self, MetainfoError> {
        parse::torrent(&torrent.into())
    }

    /// Reads an info dictionary, as it comes from peers (BEP 9), with the trackers known otherwise.
    ///
    /// # Errors
    /// See [`MetainfoError`].
    pub fn from_info(
        info: impl Into<Bytes>,
        trackers: Vec<Vec<String>>,
    ) -> Result<Self, MetainfoError> {
        parse::info_alone(&info.into(), trackers)
    }

    /// The infohash that names this torrent to trackers and peers: v1's, else v2's first 20 bytes.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        let v2 = || {
            self.info_hash_v2
                .map_or(InfoHash([0; 20]), |hash| hash.truncated())
        };
        self.info_hash_v1.unwrap_or_else(v2)
    }

    /// Whether this torrent can be joined.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn joinable(&self) -> Result<(), NotJoinable> {
        match self.version {
            MetaVersion::V1 | MetaVersion::Hybrid => Ok(()),
            MetaVersion::V2 => Err(NotJoinable::V2Only),
        }
    }

    /// The geometry of a torrent that can be joined.
    ///
    /// # Errors
    /// As [`Metainfo::joinable`].
    pub fn layout(&self) -> Result<Layout, NotJoinable> {
        self.joinable()?;
        Layout::new(self.piece_length, self.total).map_err(|_| NotJoinable::V2Only)
    }

    /// The SHA-1 of every piece, in order; empty for v2-only torrents.
    #[must_use]
    pub fn pieces(&self) -> &[[u8; 20]] {
        self.hashes.as_chunks().0
    }

    /// The SHA-1 of piece `index`.
    #[must_use]
    pub fn piece_hash(&self, index: u32) -> Option<[u8; 20]> {
        self.pieces().get(index as usize).copied()
    }

    /// The name as it may be shown to people.
    #[must_use]
    pub fn display_name(&self) -> String {
        display_text(&self.name)
    }
}

impl std::fmt::Debug for Metainfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Metainfo({} {:?} {:?}, {} bytes)",
            self.info_hash(),
            self.version,
            self.name,
            self.total
        )
    }
}

/// A stranger's text as it may be shown: control characters and those that change the direction of writing are escaped
/// as `\u{…}` (row A3), so it can neither drive a terminal nor look like another name.
#[must_use]
pub fn display_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || is_bidi(char) {
            shown.extend(char.escape_unicode())
        } else {
            shown.push(char)
        }
    }
    shown
}

/// Unicode's bidirectional controls, its line and paragraph separators, and invisible characters of the same blocks.
fn is_bidi(char: char) -> bool {
    matches!(char, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
