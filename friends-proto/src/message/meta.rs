//! A torrent's info dictionary, handed on to a helper.

use bt_wire::bencode::Item;

use super::fields::Fields;
use super::terms::TorrentHash;
use super::{Entries, Fault, MessageError};

/// Bytes of metadata in one message; only the last part is shorter.
pub const META_PART: u32 = 15 << 10;
/// Largest info dictionary handed on, in bytes.
pub const MAX_META: u32 = 16 << 20;

/// Asks for a part of a torrent's info dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaAsk {
    /// The torrent.
    pub torrent: TorrentHash,
    /// Where the part begins, a multiple of [`META_PART`], below [`MAX_META`].
    pub offset: u32,
}

/// A part of a torrent's info dictionary: unchecked until all of it is there and its hash fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The torrent.
    pub torrent: TorrentHash,
    /// Where the part begins, a multiple of [`META_PART`].
    pub offset: u32,
    /// Bytes of the whole info dictionary, 1 to [`MAX_META`].
    pub size: u32,
    /// [`META_PART`] bytes, or what is left.
    pub data: Vec<u8>,
}

/// The info dictionary that was asked for is not there, or not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaNone {
    /// The torrent.
    pub torrent: TorrentHash,
}

/// A part's offset: a multiple of [`META_PART`] below [`MAX_META`].
fn offset(fields: Fields<'_>) -> Result<u32, MessageError> {
    let offset = fields.small("off", 0..=MAX_META - 1)?;
    if offset.is_multiple_of(META_PART) {
        Ok(offset)
    } else {
        Err(fields.error("off", Fault::Range))
    }
}

impl MetaAsk {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            torrent: TorrentHash::read(fields)?,
            offset: offset(fields)?,
        })
    }

    pub(super) fn write(self) -> Entries {
        vec![("ih", self.torrent.item()), ("off", self.offset.into())]
    }
}

impl Meta {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let (offset, size) = (offset(fields)?, fields.small("size", 1..=MAX_META)?);
        let length = size.saturating_sub(offset).min(META_PART) as usize;
        if length == 0 {
            return Err(fields.error("off", Fault::Range));
        }
        Ok(Self {
            torrent: TorrentHash::read(fields)?,
            offset,
            size,
            data: fields.bytes("data", length..=length)?.to_vec(),
        })
    }

    pub(super) fn write(&self) -> Entries {
        vec![
            ("ih", self.torrent.item()),
            ("off", self.offset.into()),
            ("size", self.size.into()),
            ("data", Item::bytes(&self.data)),
        ]
    }
}

impl MetaNone {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let torrent = TorrentHash::read(fields)?;
        Ok(Self { torrent })
    }

    pub(super) fn write(self) -> Entries {
        vec![("ih", self.torrent.item())]
    }
}
