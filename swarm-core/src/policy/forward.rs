//! What is fetched for masters, and in which order.
//!
//! Only pieces a master lacks: rarest first (common ones the master gets by itself), and among equally rare ones by
//! the rendezvous weight of (piece, slave key), so that several slaves of one master start at different ends
//! and meet only when little is left: that is the stealing. At most an eighth of the fetches go to what paying peers
//! want, or tit for tat dries up; and none while the masters' pieces are enough for them.

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

/// What payers draw of us anyway is enough when it keeps the whole line busy for so many seconds. (Plan *slaves*: of 30 MiB
/// that a slave fetched 2.6 were for payers, who had 75 pieces of ours to ask for.)
const ENOUGH_S: f64 = 8.0;

/// Fetches so far, and what the payers still find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PayersFacts {
    /// Fetches for masters and for payers.
    pub for_masters: u64,
    /// See there.
    pub for_payers: u64,
    /// Bytes that strangers will draw of what is announced to them ([`crate::policy::gate::backlog`]).
    pub backlog: f64,
    /// What the line can carry, bytes/s.
    pub capacity: f64,
}

/// Whether the next fetch may be one for paying peers.
#[must_use]
pub fn payers_turn(facts: &PayersFacts) -> bool {
    facts.for_payers.saturating_mul(u64::from(PAYERS_ONE_IN)) < facts.for_masters
        && facts.backlog < facts.capacity * ENOUGH_S
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
        let mut facts = PayersFacts {
            for_masters: 0,
            for_payers: 0,
            backlog: 0.0,
            capacity: 1000.0,
        };
        for _ in 0..900 {
            if payers_turn(&facts) {
                facts.for_payers += 1
            } else {
                facts.for_masters += 1
            }
        }
        assert!(
            facts.for_payers > 0 && facts.for_payers * 8 <= facts.for_masters + 8,
            "{facts:?}"
        );
    }

    #[test]
    fn payers_get_nothing_of_their_own_while_they_have_enough() {
        let turn = |backlog| {
            payers_turn(&PayersFacts {
                for_masters: 8,
                for_payers: 0,
                backlog,
                capacity: 1000.0,
            })
        };
        assert!(turn(7_999.0) && !turn(8_000.0));
    }
}
