//! The only geometry: how a torrent's bytes fall into pieces and blocks.

/// Bytes in a block as we ask for them (the last block of a piece may be shorter). BEP 3 and all clients: 16 KiB.
pub const BLOCK: u32 = 16_384;
/// Longest piece we load, in bytes.
pub const MAX_PIECE_LENGTH: u32 = 256 << 20;
/// Most pieces a torrent may have (libtorrent's limit).
pub const MAX_PIECES: u32 = 2_097_152;

/// How `total` bytes fall into pieces. Piece lengths need not be powers of two (v1); only the last piece is shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// Bytes in every piece but the last: 1 to [`MAX_PIECE_LENGTH`].
    pub piece_length: u32,
    /// Bytes in the torrent, at least 1.
    pub total: u64,
    /// Number of pieces: 1 to [`MAX_PIECES`].
    pub piece_count: u32,
}

/// A piece length and a size that no torrent of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Zero, or over the maximum.
    #[error("piece length {0} is not between 1 byte and 256 MiB")]
    PieceLength(u64),
    /// There is nothing in it.
    #[error("the torrent is empty")]
    Empty,
    /// Over [`MAX_PIECES`].
    #[error("{0} pieces are more than 2,097,152")]
    TooManyPieces(u64),
}

impl Layout {
    /// The layout of `total` bytes in pieces of `piece_length` bytes.
    ///
    /// # Errors
    /// A piece length outside 1 byte to 256 MiB, an empty torrent, more than [`MAX_PIECES`].
    pub fn new(piece_length: u32, total: u64) -> Result<Self, LayoutError> {
        if piece_length == 0 || piece_length > MAX_PIECE_LENGTH {
            return Err(LayoutError::PieceLength(piece_length.into()));
        }
        if total == 0 {
            return Err(LayoutError::Empty);
        }
        let pieces = total.div_ceil(piece_length.into());
        match u32::try_from(pieces) {
            Ok(piece_count) if piece_count <= MAX_PIECES => Ok(Self {
                piece_length,
                total,
                piece_count,
            }),
            Ok(_) | Err(_) => Err(LayoutError::TooManyPieces(pieces)),
        }
    }

    /// Bytes in piece `index`; 0 past the last one.
    #[must_use]
    pub fn piece_size(&self, index: u32) -> u32 {
        if index >= self.piece_count {
            return 0;
        }
        let left = self.total - self.piece_offset(index);
        u32::try_from(left).map_or(self.piece_length, |left| left.min(self.piece_length))
    }

    /// Where piece `index` begins, in bytes from the torrent's start.
    #[must_use]
    pub fn piece_offset(&self, index: u32) -> u64 {
        u64::from(index) * u64::from(self.piece_length)
    }

    /// Number of blocks of [`BLOCK`] bytes in piece `index`; 0 past the last piece.
    #[must_use]
    pub fn block_count(&self, index: u32) -> u32 {
        self.piece_size(index).div_ceil(BLOCK)
    }

    /// Bytes in block number `block` of piece `index`; 0 where there is no such block.
    #[must_use]
    pub fn block_size(&self, index: u32, block: u32) -> u32 {
        let begin = block.saturating_mul(BLOCK);
        self.piece_size(index).saturating_sub(begin).min(BLOCK)
    }

    /// Whether `length` bytes from `begin` of piece `index` are at least one byte and all inside the piece (row B4).
    #[must_use]
    pub fn contains(&self, index: u32, begin: u32, length: u32) -> bool {
        length > 0
            && begin
                .checked_add(length)
                .is_some_and(|end| end <= self.piece_size(index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a6_impossible_geometry_is_refused() {
        assert_eq!(Layout::new(0, 1), Err(LayoutError::PieceLength(0)));
        assert_eq!(
            Layout::new(MAX_PIECE_LENGTH + 1, 1),
            Err(LayoutError::PieceLength(268_435_457))
        );
        assert_eq!(Layout::new(1, 0), Err(LayoutError::Empty));
        assert_eq!(
            Layout::new(1, u64::MAX),
            Err(LayoutError::TooManyPieces(u64::MAX))
        );
        assert_eq!(
            Layout::new(1, 2_097_153),
            Err(LayoutError::TooManyPieces(2_097_153))
        );
        assert!(Layout::new(1, 2_097_152).is_ok());
        assert!(
            Layout::new(
                MAX_PIECE_LENGTH,
                u64::from(MAX_PIECES) * u64::from(MAX_PIECE_LENGTH)
            )
            .is_ok()
        );
    }

    #[test]
    fn b4_requests_outside_the_piece_are_not_contained() {
        let layout = Layout::new(65_536, 65_536 + 100).expect("sound");
        assert!(layout.contains(0, 49_152, 16_384) && layout.contains(1, 0, 100));
        for (index, begin, length) in [
            (0, 0xffff_c000, 0x8000),
            (0, 49_153, 16_384),
            (1, 0, 101),
            (2, 0, 1),
            (0, 0, 0),
            (u32::MAX, 0, 1),
        ] {
            assert!(
                !layout.contains(index, begin, length),
                "{index} {begin} {length}"
            );
        }
        assert_eq!(layout.block_size(0, u32::MAX), 0);
    }

    proptest! {
        #[test]
        fn pieces_and_blocks_add_up(piece_length in 1u32..200_000, total in 1u64..20_000_000) {
            let Ok(layout) = Layout::new(piece_length, total) else { return Ok(()) };
            prop_assume!(layout.piece_count < 2000);
            let pieces: u64 = (0..layout.piece_count).map(|i| u64::from(layout.piece_size(i))).sum();
            prop_assert_eq!(pieces, total);
            let blocks: u64 = (0..layout.piece_count)
                .flat_map(|i| (0..layout.block_count(i)).map(move |b| u64::from(layout.block_size(i, b))))
                .sum();
            prop_assert_eq!(blocks, total);
            prop_assert_eq!(layout.piece_size(layout.piece_count), 0);
        }
    }
}
