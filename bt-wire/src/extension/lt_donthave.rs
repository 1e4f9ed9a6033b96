//! `lt_donthave` (BEP 54): takes a HAVE back, for caches that evict.

/// The sender no longer has this piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LtDontHave {
    /// Piece index; to be checked against the torrent.
    pub piece: u32,
}

impl LtDontHave {
    /// Reads the payload; none if it is not exactly four bytes.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        payload.as_array::<4>().map(|&bytes| Self {
            piece: u32::from_be_bytes(bytes),
        })
    }

    /// The payload, to go out under the receiver's id for `lt_donthave`.
    #[must_use]
    pub fn encode(self) -> [u8; 4] {
        self.piece.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_other_lengths() {
        let ours = LtDontHave { piece: 0x0102_0304 };
        assert_eq!(ours.encode(), [1, 2, 3, 4]);
        assert_eq!(LtDontHave::parse(&ours.encode()), Some(ours));
        assert_eq!(LtDontHave::parse(&[1, 2, 3]), None);
        assert_eq!(LtDontHave::parse(&[1, 2, 3, 4, 5]), None);
    }
}
