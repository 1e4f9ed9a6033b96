//! What is fetched for masters, and in which order.
//!
//! Only pieces a master lacks: rarest first (common ones the master gets by itself), and among equally rare ones by
//! the rendezvous weight of (piece, slave key), so that several slaves of one master start at different ends
//! and meet only when little is left: that is the stealing. At most an eighth of the fetches go to what paying peers
//! want, or tit for tat dries up.

/// One in so many fetches may be for the peers that pay.
pub const PAYERS_ONE_IN: u32 = 8;

/// Rendezvous weight of a piece for the slave with this key: a well-mixed 64-bit number (splitmix64's finaliser).
#[must_use]
pub fn weight(info_hash: &[u8; 20], piece: u32, slave_key: u64) -> u64 {
    let seed = info_hash
        .iter()
        .fold(slave_key, |acc, byte| acc.rotate_left(8) ^ u64::from(*byte));
    let mut x = seed ^ u64::from(piece).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Whether the next fetch may be one for paying peers, after so many for masters and for payers.
#[must_use]
pub fn payers_turn(for_masters: u64, for_payers: u64) -> bool {
    for_payers.saturating_mul(u64::from(PAYERS_ONE_IN)) < for_masters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slaves_begin_at_different_pieces() {
        let order = |key| {
            let mut pieces: Vec<u32> = (0..64).collect();
            pieces.sort_by_key(|piece| weight(&[7; 20], *piece, key));
            pieces
        };
        assert_eq!(order(1), order(1));
        let (a, b) = (order(1), order(2));
        let common = a[..16]
            .iter()
            .filter(|piece| b[..16].contains(piece))
            .count();
        assert!(common < 10, "{common} of the first 16 are the same");
    }

    #[test]
    fn payers_get_at_most_an_eighth() {
        let (mut masters, mut payers) = (0u64, 0u64);
        for _ in 0..900 {
            if payers_turn(masters, payers) {
                payers += 1
            } else {
                masters += 1
            }
        }
        assert!(payers * 8 <= masters + 8, "{payers} {masters}");
    }
}
