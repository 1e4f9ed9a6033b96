//! Which pieces somebody has: one bit a piece, most significant bit first (BEP 3).

use std::fmt;

/// A set of piece indices below `len`, in the wire's bit order. Spare bits are always zero.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

/// A peer's bitfield does not fit the torrent: disconnect it (attack row B2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitfieldError {
    /// The number of bytes is not what the piece count asks for.
    #[error("bitfield of {got} bytes where {want} are needed")]
    WrongLength {
        /// Bytes received.
        got: usize,
        /// Bytes needed.
        want: usize,
    },
    /// A bit past the last piece is set.
    #[error("bitfield has a spare bit set")]
    SpareBitSet,
}

impl Bitfield {
    /// The empty set over `len` pieces.
    #[must_use]
    pub fn new(len: u32) -> Self {
        Self {
            bytes: vec![0; byte_len(len)],
            len,
            ones: 0,
        }
    }

    /// The full set over `len` pieces.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut bytes = vec![0xff; byte_len(len)];
        if let Some(last) = bytes.last_mut() {
            *last &= !spare_mask(len);
        }
        Self {
            bytes,
            len,
            ones: len,
        }
    }

    /// A peer's bitfield message for a torrent of `len` pieces.
    ///
    /// # Errors
    /// Any length but the exact one, and any spare bit set.
    pub fn from_wire(bytes: &[u8], len: u32) -> Result<Self, BitfieldError> {
        let want = byte_len(len);
        if bytes.len() != want {
            return Err(BitfieldError::WrongLength {
                got: bytes.len(),
                want,
            });
        }
        if bytes.last().is_some_and(|last| last & spare_mask(len) != 0) {
            return Err(BitfieldError::SpareBitSet);
        }
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self {
            bytes: bytes.to_vec(),
            len,
            ones,
        })
    }

    /// Whether `index` is in the set; false for what is past the end.
    #[must_use]
    pub fn get(&self, index: u32) -> bool {
        index < self.len && self.bytes[(index / 8) as usize] & bit(index) != 0
    }

    /// Puts `index` in or takes it out; true if that changed anything. An index past the end changes nothing.
    pub fn set(&mut self, index: u32, value: bool) -> bool {
        if index >= self.len || self.get(index) == value {
            return false;
        }
        self.bytes[(index / 8) as usize] ^= bit(index);
        self.ones = if value { self.ones + 1 } else { self.ones - 1 };
        true
    }

    /// How many pieces are in the set. Costs nothing: it is kept.
    #[must_use]
    pub fn count_ones(&self) -> u32 {
        self.ones
    }

    /// How many pieces the torrent has.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a torrent has pieces; `is_empty_set` is the question that matters"
    )]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub fn is_empty_set(&self) -> bool {
        self.ones == 0
    }

    /// The indices in the set, rising.
    pub fn iter_ones(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..)
            .zip(self.bytes.iter().copied())
            .flat_map(|(at, byte)| Bits { byte, base: at * 8 })
    }

    /// The indices in this set that are not in `other`, rising. What `other` is too short for counts as not in it.
    pub fn iter_missing_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let others = other.bytes.iter().copied().chain(std::iter::repeat(0));
        (0u32..)
            .zip(self.bytes.iter().copied().zip(others))
            .flat_map(|(at, (mine, theirs))| Bits {
                byte: mine & !theirs,
                base: at * 8,
            })
    }

    /// How many indices of this set are not in `other`. What `other` is too short for counts as not in it.
    #[must_use]
    pub fn count_missing_in(&self, other: &Self) -> u32 {
        let others = other.bytes.iter().copied().chain(std::iter::repeat(0));
        let mine = self.bytes.iter().copied();
        mine.zip(others).map(|(a, b)| (a & !b).count_ones()).sum()
    }

    /// The wire form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({}/{})", self.ones, self.len)
    }
}

/// The set bits of one byte, first piece first.
struct Bits {
    byte: u8,
    base: u32,
}

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.byte == 0 {
            return None;
        }
        let offset = self.byte.leading_zeros();
        self.byte &= !(0x80 >> offset);
        Some(self.base + offset)
    }
}

fn byte_len(len: u32) -> usize {
    len.div_ceil(8) as usize
}

fn bit(index: u32) -> u8 {
    0x80 >> (index % 8)
}

fn spare_mask(len: u32) -> u8 {
    if len.is_multiple_of(8) {
        0
    } else {
        0xff >> (len % 8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b2_wrong_lengths_and_spare_bits_are_refused() {
        assert_eq!(
            Bitfield::from_wire(&[0xff], 9),
            Err(BitfieldError::WrongLength { got: 1, want: 2 })
        );
        assert_eq!(
            Bitfield::from_wire(&[0xff, 0x80, 0], 9),
            Err(BitfieldError::WrongLength { got: 3, want: 2 })
        );
        assert_eq!(
            Bitfield::from_wire(&[0xff, 0xc0], 9),
            Err(BitfieldError::SpareBitSet)
        );
        assert_eq!(Bitfield::from_wire(&[0xff, 0x80], 9), Ok(Bitfield::full(9)));
        assert_eq!(Bitfield::from_wire(&[], 0), Ok(Bitfield::new(0)));
        assert_eq!(
            Bitfield::from_wire(&[0], 0),
            Err(BitfieldError::WrongLength { got: 1, want: 0 })
        );
    }

    #[test]
    fn indices_past_the_end_change_nothing() {
        let mut set = Bitfield::new(9);
        assert!(!set.set(9, true) && !set.set(u32::MAX, true) && !set.get(u32::MAX));
        assert!(set.is_empty_set());
        assert_eq!(format!("{set:?}"), "Bitfield(0/9)");
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(len in 1u32..300, changes in prop::collection::vec((0u32..300, any::<bool>()), 0..200)) {
            let mut set = Bitfield::new(len);
            let mut model = std::collections::BTreeSet::new();
            for (index, value) in changes {
                let changed = index < len && if value { model.insert(index) } else { model.remove(&index) };
                prop_assert_eq!(set.set(index, value), changed);
            }
            prop_assert_eq!(set.count_ones() as usize, model.len());
            prop_assert_eq!(set.iter_ones().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.is_full(), model.len() == len as usize);
            prop_assert_eq!(Bitfield::from_wire(set.as_bytes(), len), Ok(set.clone()));
            let absent: Vec<u32> = (0..len).filter(|index| !model.contains(index)).collect();
            prop_assert_eq!(Bitfield::full(len).iter_missing_in(&set).collect::<Vec<_>>(), absent);
            prop_assert_eq!(set.iter_missing_in(&Bitfield::new(1)).count(), model.len());
            prop_assert_eq!(Bitfield::full(len).count_missing_in(&set), len - set.count_ones());
            prop_assert_eq!(set.count_missing_in(&Bitfield::new(1)), set.count_ones());
        }
    }
}
