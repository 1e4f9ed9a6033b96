//! A set of pieces on the wire: where it starts, and a bitmap.

use super::fields::Fields;
use super::{Fault, MessageError};

/// Most bytes of a set's bitmap: 32,768 pieces, so that two sets fit a message. More go into further messages.
pub const MAX_BITMAP: usize = 4096;

/// Some pieces of a torrent: bit *i* (the highest of the first byte is bit 0, as in BEP 3's bitfield) stands for piece
/// `start` + *i*. On the wire: `start` in 4 bytes, big-endian, and the bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceSet {
    start: u32,
    bitmap: Vec<u8>,
}

/// A bitmap that is empty, longer than [`MAX_BITMAP`], or reaches past piece 2³² − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a set of pieces has 1 to {MAX_BITMAP} bytes of bitmap and ends at piece 2^32 - 1")]
pub struct BadPieceSet;

impl PieceSet {
    /// A set from its parts.
    ///
    /// # Errors
    /// [`BadPieceSet`].
    pub fn new(start: u32, bitmap: Vec<u8>) -> Result<Self, BadPieceSet> {
        let bits = u32::try_from(bitmap.len().saturating_mul(8)).map_err(|_| BadPieceSet)?;
        let fits = start.checked_add(bits.saturating_sub(1)).is_some();
        if bitmap.is_empty() || bitmap.len() > MAX_BITMAP || !fits {
            return Err(BadPieceSet);
        }
        Ok(Self { start, bitmap })
    }

    /// The set of no piece.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            start: 0,
            bitmap: vec![0],
        }
    }

    /// The sets that hold `pieces`, which rise; as few as there is need of.
    #[must_use]
    pub fn cover(pieces: impl IntoIterator<Item = u32>) -> Vec<Self> {
        let mut sets: Vec<Self> = Vec::new();
        for piece in pieces {
            // A start at a multiple of 8 keeps the last byte's pieces below 2³².
            let bit = 0x80 >> (piece % 8);
            let last = sets.last_mut().and_then(|set| {
                let at = usize::try_from((piece / 8).checked_sub(set.start / 8)?).ok()?;
                (at < MAX_BITMAP).then_some((set, at))
            });
            if let Some((set, at)) = last {
                if set.bitmap.len() <= at {
                    set.bitmap.resize(at + 1, 0);
                }
                set.bitmap[at] |= bit;
            } else {
                sets.push(Self {
                    start: piece / 8 * 8,
                    bitmap: vec![bit],
                });
            }
        }
        sets
    }

    /// The pieces of the set, rising.
    pub fn pieces(&self) -> impl Iterator<Item = u32> + '_ {
        (self.start..=u32::MAX)
            .zip(
                self.bitmap
                    .iter()
                    .flat_map(|byte| (0..8).map(move |bit| byte << bit & 0x80 != 0)),
            )
            .filter_map(|(piece, set)| set.then_some(piece))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.start.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bitmap);
        bytes
    }

    pub(super) fn maybe(
        fields: Fields<'_>,
        field: &'static str,
    ) -> Result<Option<Self>, MessageError> {
        let Some(bytes) = fields.maybe_bytes(field, 5..=4 + MAX_BITMAP)? else {
            return Ok(None);
        };
        let (start, bitmap) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| fields.error(field, Fault::Range))?;
        Self::new(u32::from_be_bytes(*start), bitmap.to_vec())
            .map(Some)
            .map_err(|BadPieceSet| fields.error(field, Fault::Range))
    }

    pub(super) fn read(fields: Fields<'_>, field: &'static str) -> Result<Self, MessageError> {
        Self::maybe(fields, field)?.ok_or_else(|| fields.error(field, Fault::Missing))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn piece_0_is_a_piece() {
        let set = PieceSet::new(0, vec![0x80]).expect("one byte");
        assert_eq!(set.pieces().collect::<Vec<_>>(), [0]);
        assert_eq!(PieceSet::cover([0]), [set]);
    }

    #[test]
    fn the_last_piece_there_can_be() {
        let set = PieceSet::new(u32::MAX - 7, vec![0x01]).expect("ends at the last");
        assert_eq!(set.pieces().collect::<Vec<_>>(), [u32::MAX]);
        assert_eq!(PieceSet::cover([u32::MAX]), [set]);
        assert_eq!(PieceSet::new(u32::MAX - 6, vec![0x01]), Err(BadPieceSet));
        assert_eq!(PieceSet::new(0, vec![]), Err(BadPieceSet));
        assert_eq!(PieceSet::new(0, vec![0; MAX_BITMAP + 1]), Err(BadPieceSet));
    }

    proptest! {
        #[test]
        fn cover_holds_exactly_the_pieces(
            pieces in prop::collection::btree_set(prop_oneof![0_u32..200_000, any::<u32>()], 0..200),
        ) {
            let sets = PieceSet::cover(pieces.iter().copied());
            for set in &sets {
                prop_assert_eq!(PieceSet::new(set.start, set.bitmap.clone()), Ok(set.clone()));
            }
            let again: Vec<u32> = sets.iter().flat_map(PieceSet::pieces).collect();
            prop_assert_eq!(again.len(), pieces.len());
            prop_assert_eq!(again.into_iter().collect::<BTreeSet<_>>(), pieces);
        }
    }
}
