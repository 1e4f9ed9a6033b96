//! Sets of pieces as words of 64 bits.

/// A set of pieces.
pub(crate) type Bits = Box<[u64]>;

/// An empty set for so many pieces.
pub(crate) fn empty(pieces: u32) -> Bits {
    vec![0; pieces.div_ceil(64) as usize].into()
}

/// All of so many pieces.
pub(crate) fn full(pieces: u32) -> Bits {
    let mut bits = empty(pieces);
    for (at, word) in (0u32..).zip(bits.iter_mut()) {
        let left = pieces - at * 64;
        *word = if left >= 64 {
            u64::MAX
        } else {
            (1 << left) - 1
        };
    }
    bits
}

pub(crate) fn get(bits: &[u64], piece: u32) -> bool {
    bits.get((piece / 64) as usize)
        .is_some_and(|word| word >> (piece % 64) & 1 == 1)
}

/// Sets or clears; true if that changed something.
pub(crate) fn set(bits: &mut [u64], piece: u32, value: bool) -> bool {
    let Some(word) = bits.get_mut((piece / 64) as usize) else {
        return false;
    };
    let mask = 1 << (piece % 64);
    let had = *word & mask != 0;
    if value {
        *word |= mask;
    } else {
        *word &= !mask;
    }
    had != value
}

/// Whether `theirs` holds something that `mine` does not.
pub(crate) fn offers(theirs: &[u64], mine: &[u64]) -> bool {
    theirs.iter().zip(mine).any(|(t, m)| t & !m != 0)
}

pub(crate) fn count(bits: &[u64]) -> u32 {
    bits.iter().map(|word| word.count_ones()).sum()
}

/// The pieces of a set, in order.
pub(crate) fn ones(bits: &[u64]) -> impl Iterator<Item = u32> + '_ {
    (0u32..)
        .zip(bits)
        .flat_map(|(at, &word)| Ones(word).map(move |bit| at * 64 + bit))
}

/// The ones of a word, lowest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ones(pub(crate) u64);

impl Iterator for Ones {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

/// The set as a bitfield message holds it (BEP 3: high bit first).
pub(crate) fn to_wire(bits: &[u64], pieces: u32) -> Vec<u8> {
    let mut bytes = vec![0; pieces.div_ceil(8) as usize];
    for piece in ones(bits) {
        if let Some(byte) = bytes.get_mut((piece / 8) as usize) {
            *byte |= 0x80 >> (piece % 8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let mut bits = empty(130);
        assert!(set(&mut bits, 129, true) && !set(&mut bits, 129, true) && set(&mut bits, 0, true));
        assert_eq!(ones(&bits).collect::<Vec<_>>(), [0, 129]);
        assert_eq!((count(&bits), count(&full(130))), (2, 130));
        assert!(offers(&full(130), &bits) && !offers(&bits, &full(130)));
        let wire = to_wire(&bits, 130);
        assert_eq!((wire[0], wire[16]), (0x80, 0x40));
    }
}
