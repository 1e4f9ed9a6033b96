//! `ut_metadata` (BEP 9): the info dictionary from peers, in pieces of 16 KiB.

use bytes::{Bytes, BytesMut};

use crate::bencode::{Document, Error, Item, Limits};

/// Bytes in every metadata piece but the last.
pub const METADATA_PIECE: u32 = 16_384;
/// Largest info dictionary we fetch, in bytes.
pub const MAX_METADATA: u32 = 16 << 20;

/// A message of `ut_metadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataMessage {
    /// 0: asks for a piece.
    Request {
        /// Metadata piece index.
        piece: u32,
    },
    /// 1: a piece.
    Data {
        /// Metadata piece index.
        piece: u32,
        /// Bytes in the whole info dictionary, 1 to [`MAX_METADATA`].
        total_size: u32,
        /// The piece, at most [`METADATA_PIECE`] bytes.
        data: Bytes,
    },
    /// 2: the sender does not have it, or has given enough.
    Reject {
        /// Metadata piece index.
        piece: u32,
    },
    /// A type of the future: to be ignored (BEP 9).
    Unknown,
}

/// A message or a piece that cannot be used: this peer is not asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not bencode, or over its limits.
    #[error(transparent)]
    Bencode(#[from] Error),
    /// Without a type, or without a piece index.
    #[error("ut_metadata message without msg_type or piece")]
    Incomplete,
    /// The info dictionary's size is not between 1 byte and 16 MiB, or not what was agreed.
    #[error("metadata of {0} bytes")]
    BadSize(i64),
    /// The piece does not exist or is not as long as it must be.
    #[error("metadata piece {piece} of {length} bytes")]
    BadPiece {
        /// Metadata piece index.
        piece: u32,
        /// Bytes received.
        length: usize,
    },
}

impl MetadataMessage {
    /// Reads a message's payload; the data is a slice of it.
    ///
    /// # Errors
    /// Not bencode, no type or piece, an impossible size, more than 16 KiB of data (row B9).
    pub fn parse(payload: &Bytes) -> Result<Self, MetadataError> {
        let limits = Limits {
            depth: 8,
            tokens: 256,
            string: 4096,
            ..Limits::default()
        };
        let (document, rest) = Document::parse_prefix(payload, &limits)?;
        let dict = document.root().as_dict().ok_or(MetadataError::Incomplete)?;
        let kind = dict.int("msg_type").ok_or(MetadataError::Incomplete)?;
        if !(0..=2).contains(&kind) {
            return Ok(Self::Unknown);
        }
        let piece = dict
            .int("piece")
            .and_then(|piece| u32::try_from(piece).ok())
            .ok_or(MetadataError::Incomplete)?;
        match kind {
            0 => Ok(Self::Request { piece }),
            1 => {
                let size = dict.int("total_size").ok_or(MetadataError::Incomplete)?;
                let total_size = checked_size(size)?;
                if rest.len() > METADATA_PIECE as usize {
                    return Err(MetadataError::BadPiece {
                        piece,
                        length: rest.len(),
                    });
                }
                Ok(Self::Data {
                    piece,
                    total_size,
                    data: payload.slice(payload.len() - rest.len()..),
                })
            }
            _ => Ok(Self::Reject { piece }),
        }
    }

    /// The payload, to go out under the receiver's id for `ut_metadata`. [`MetadataMessage::Unknown`] has none.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let head =
            |kind: i64, piece: u32| [("msg_type", Item::Int(kind)), ("piece", Item::from(piece))];
        match self {
            Self::Request { piece } => Item::dict(head(0, *piece)).encode(),
            Self::Data {
                piece,
                total_size,
                data,
            } => {
                let size = ("total_size", Item::from(*total_size));
                let mut out = Item::dict(head(1, *piece).into_iter().chain([size])).encode();
                out.extend_from_slice(data);
                out
            }
            Self::Reject { piece } => Item::dict(head(2, *piece)).encode(),
            Self::Unknown => Vec::new(),
        }
    }
}

/// Metadata piece `piece` of an info dictionary, to answer a request with; none past the end.
#[must_use]
pub fn metadata_piece(info: &Bytes, piece: u32) -> Option<Bytes> {
    let begin = (piece as usize).checked_mul(METADATA_PIECE as usize)?;
    let end = begin.checked_add(METADATA_PIECE as usize)?.min(info.len());
    (begin < end).then(|| info.slice(begin..end))
}

/// What a piece meant for an assembler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was missing, and others still are.
    New,
    /// It was there already: dropped and counted.
    Duplicate,
    /// It was the last one missing.
    Complete,
}

/// Puts an info dictionary together. Holds what arrived, never what was announced; the caller checks the hash.
#[derive(Debug)]
pub struct MetadataAssembler {
    size: u32,
    pieces: Vec<Option<Bytes>>,
    missing: u32,
    duplicates: u32,
}

impl MetadataAssembler {
    /// An assembler for an info dictionary of `size` bytes.
    ///
    /// # Errors
    /// A size of zero or over [`MAX_METADATA`].
    pub fn new(size: u32) -> Result<Self, MetadataError> {
        let count = checked_size(size.into())?.div_ceil(METADATA_PIECE);
        Ok(Self {
            size,
            pieces: vec![None; count as usize],
            missing: count,
            duplicates: 0,
        })
    }

    /// Bytes in the info dictionary.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The metadata pieces still wanted, rising.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..)
            .zip(&self.pieces)
            .filter(|(_, piece)| piece.is_none())
            .map(|(index, _)| index)
    }

    /// How many pieces came more than once.
    #[must_use]
    pub fn duplicates(&self) -> u32 {
        self.duplicates
    }

    /// Takes a piece from a [`MetadataMessage::Data`].
    ///
    /// # Errors
    /// Another total size than ours, no such piece, the wrong length.
    pub fn add(
        &mut self,
        piece: u32,
        total_size: u32,
        data: Bytes,
    ) -> Result<Added, MetadataError> {
        if total_size != self.size {
            return Err(MetadataError::BadSize(total_size.into()));
        }
        let begin = u64::from(piece) * u64::from(METADATA_PIECE);
        let want = u64::from(self.size)
            .saturating_sub(begin)
            .min(METADATA_PIECE.into());
        let bad = MetadataError::BadPiece {
            piece,
            length: data.len(),
        };
        let slot = self.pieces.get_mut(piece as usize).ok_or(bad)?;
        if data.len() as u64 != want {
            return Err(bad);
        }
        if slot.is_some() {
            self.duplicates = self.duplicates.saturating_add(1);
            return Ok(Added::Duplicate);
        }
        *slot = Some(data);
        self.missing -= 1;
        Ok(if self.missing == 0 {
            Added::Complete
        } else {
            Added::New
        })
    }

    /// The info dictionary, once complete. Its hash is still to be checked.
    #[must_use]
    pub fn assemble(&self) -> Option<Bytes> {
        if self.missing > 0 {
            return None;
        }
        let mut whole = BytesMut::with_capacity(self.size as usize);
        self.pieces
            .iter()
            .flatten()
            .for_each(|piece| whole.extend_from_slice(piece));
        Some(whole.freeze())
    }

    /// Forgets all pieces: the hash was wrong. The count of duplicates stays.
    pub fn reset(&mut self) {
        self.pieces.fill(None);
        self.missing = self.size.div_ceil(METADATA_PIECE);
    }
}

fn checked_size(size: i64) -> Result<u32, MetadataError> {
    let sound = u32::try_from(size)
        .ok()
        .filter(|size| (1..=MAX_METADATA).contains(size));
    sound.ok_or(MetadataError::BadSize(size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b9_metadata_bombs_are_refused() {
        for size in [1i64 << 31, 0, -1, i64::from(MAX_METADATA) + 1] {
            let head = [
                ("msg_type", Item::Int(1)),
                ("piece", Item::Int(0)),
                ("total_size", Item::Int(size)),
            ];
            let message = Bytes::from(Item::dict(head).encode());
            assert_eq!(
                MetadataMessage::parse(&message),
                Err(MetadataError::BadSize(size))
            );
        }
        assert!(
            MetadataAssembler::new(0).is_err() && MetadataAssembler::new(MAX_METADATA + 1).is_err()
        );
        let long = MetadataMessage::Data {
            piece: 0,
            total_size: 40_000,
            data: vec![0; 16_385].into(),
        };
        let parsed = MetadataMessage::parse(&long.encode().into());
        assert_eq!(
            parsed,
            Err(MetadataError::BadPiece {
                piece: 0,
                length: 16_385
            })
        );
    }

    #[test]
    fn b9_wrong_pieces_are_refused_and_duplicates_counted() {
        let mut whole = MetadataAssembler::new(METADATA_PIECE + 10).expect("sound");
        let full = Bytes::from(vec![1; METADATA_PIECE as usize]);
        let size = whole.size();
        assert!(matches!(
            whole.add(0, size - 1, full.clone()),
            Err(MetadataError::BadSize(_))
        ));
        assert!(matches!(
            whole.add(2, size, full.clone()),
            Err(MetadataError::BadPiece { .. })
        ));
        assert!(matches!(
            whole.add(u32::MAX, size, full.clone()),
            Err(MetadataError::BadPiece { .. })
        ));
        assert!(matches!(
            whole.add(1, size, full.clone()),
            Err(MetadataError::BadPiece { .. })
        ));
        assert_eq!(whole.add(0, size, full.clone()), Ok(Added::New));
        assert_eq!(whole.add(0, size, full.clone()), Ok(Added::Duplicate));
        assert_eq!(whole.duplicates(), 1);
        assert_eq!(
            (whole.assemble(), whole.missing().collect::<Vec<_>>()),
            (None, vec![1])
        );
        assert_eq!(whole.add(1, size, vec![2; 10].into()), Ok(Added::Complete));
        assert_eq!(
            whole.assemble().map(|bytes| bytes.len()),
            Some(size as usize)
        );
        whole.reset();
        assert_eq!((whole.missing().count(), whole.duplicates()), (2, 1));
    }

    #[test]
    fn odd_messages() {
        let parse = |text: &'static [u8]| MetadataMessage::parse(&Bytes::from_static(text));
        assert_eq!(parse(b"d8:msg_typei9ee"), Ok(MetadataMessage::Unknown));
        assert_eq!(parse(b"d8:msg_typei0ee"), Err(MetadataError::Incomplete));
        assert_eq!(
            parse(b"d8:msg_typei0e5:piecei-1ee"),
            Err(MetadataError::Incomplete)
        );
        assert_eq!(parse(b"de"), Err(MetadataError::Incomplete));
        assert_eq!(parse(b"i1e"), Err(MetadataError::Incomplete));
        assert!(matches!(
            parse(&[b'l'; 100]),
            Err(MetadataError::Bencode(_))
        ));
    }

    proptest! {
        #[test]
        fn an_info_dictionary_travels(info in prop::collection::vec(any::<u8>(), 1..60_000)) {
            let info = Bytes::from(info);
            let size = info.len() as u32;
            let mut whole = MetadataAssembler::new(size).expect("sound");
            for piece in whole.missing().collect::<Vec<_>>() {
                let data = metadata_piece(&info, piece).expect("exists");
                let sent = MetadataMessage::Data { piece, total_size: size, data };
                let got = MetadataMessage::parse(&sent.encode().into());
                prop_assert_eq!(&got, &Ok(sent));
                let Ok(MetadataMessage::Data { piece, total_size, data }) = got else { unreachable!() };
                prop_assert!(whole.add(piece, total_size, data).is_ok());
            }
            prop_assert_eq!(metadata_piece(&info, size.div_ceil(METADATA_PIECE)), None);
            prop_assert_eq!(whole.assemble(), Some(info));
        }
    }
}
