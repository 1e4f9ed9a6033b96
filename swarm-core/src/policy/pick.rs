//! In which order pieces are fetched: rarest first, among equals at random; how deep the pipe is filled; how large a
//! bite one connection takes; when the last pieces are asked for twice.

use bt_wire::layout::BLOCK;
use core::time::Duration;

/// Seconds of a peer's rate that are leased ahead for a master (bandwidth × delay with room for the brain's turn).
const AHEAD_S: f64 = 0.5;
/// Of a slow peer no more than so many seconds are leased ahead, where that is less than two pieces: it will choke us, and
/// what was its own then waits half done for another that has it. (Plan *slaves*, one slave on a line of 40 KiB/s: of 27 MiB
/// fetched in leases of two whole pieces each 15.5 became pieces.)
const SOON_S: u64 = 4;
/// Bytes leased to a peer whose rate is not known yet: it may bring them in a moment, or hold them up for a minute.
const START: u64 = 1 << 18;
/// Most blocks in a bite when a piece is too large for one slow peer: 1 MiB.
const BITE: u32 = (1 << 20) / BLOCK;
/// A whole large piece is one peer's when it brings it within so many seconds.
const WHOLE_S: f64 = 4.0;
/// Rate of a peer that has not given anything yet, bytes/s: a slot of an ordinary home line.
pub const UNKNOWN_RATE: u64 = 24 << 10;
/// Blocks of a stranger's piece that a peer takes at once, at first.
const FIRST_BITE: u32 = 3;
/// Afterwards: so many seconds of its rate.
const FREE_BITE_S: u64 = 4;
/// And at least so many blocks.
const FREE_BITE: u64 = 8;
/// Blocks that a peer has to send at any rate, when only strangers wait: one on its way, one being read.
const FREE_DEPTH: u64 = 4;
/// Endgame: a lease that stands for so long may be asked of a second peer.
pub const SLOW_LEASE: Duration = Duration::from_secs(3);

/// Sort key of an absent piece, smallest fetched first: the fewest holders, then `lot`, a random or rendezvous number.
#[must_use]
pub fn rarest_first(holders: u32, lot: u64) -> (u32, u64) {
    (holders, lot)
}

/// Bytes to keep leased to a connection when a master waits.
#[must_use]
pub fn master_depth(rate: u64, piece: u64) -> u64 {
    if rate == 0 {
        return START;
    }
    let ahead = (rate as f64 * AHEAD_S) as u64;
    let soon = rate
        .saturating_mul(SOON_S)
        .max(FREE_DEPTH * u64::from(BLOCK));
    ahead.max(soon.min(2 * piece))
}

/// Bytes below which a connection gets its next lease when only strangers wait: a second's worth, for what is rare
/// changes while a piece waits behind another. (Rig E4, means of three runs each: a ratio of 3.5 with three seconds and
/// 128 KiB at least, 3.8 with this, at the same use of the line.)
#[must_use]
pub fn free_depth(rate: u64) -> u64 {
    rate.max(FREE_DEPTH * u64::from(BLOCK))
}

/// How many of a piece's uncovered blocks one peer takes at once: all where it brings them soon; of one that was never asked
/// up to 1 MiB; else four seconds of its own, and others that have the piece bring the rest.
#[must_use]
pub fn bite(blocks: u32, rate: u64) -> u32 {
    let bytes = u64::from(blocks) * u64::from(BLOCK);
    if rate as f64 * WHOLE_S >= bytes as f64 {
        blocks
    } else if rate == 0 {
        BITE.min(blocks)
    } else {
        free_bite(blocks, rate, true).min(BITE)
    }
}

/// The same for strangers. `proven`: the swarm has taken something from us. Until then few pieces may be begun, and all
/// who have one bring it together: what comes late is common by then. Afterwards each brings 128 KiB or four seconds
/// of its own, for a shallow queue keeps a slow uploader slow (libtorrent reads ahead by the rate that it reaches).
#[must_use]
pub fn free_bite(blocks: u32, rate: u64, proven: bool) -> u32 {
    if !proven {
        return blocks.min(FIRST_BITE);
    }
    let bite = rate
        .saturating_mul(FREE_BITE_S)
        .div_ceil(u64::from(BLOCK))
        .max(FREE_BITE);
    u32::try_from(bite).unwrap_or(u32::MAX).min(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewest_holders_first_whatever_the_lot() {
        assert!(rarest_first(1, u64::MAX) < rarest_first(2, 0));
    }

    #[test]
    fn the_pipe_is_as_deep_as_the_peer_is_fast() {
        assert_eq!(master_depth(0, 16_384), START);
        assert_eq!(master_depth(4 << 10, 1 << 18), 65_536);
        assert_eq!(master_depth(64 << 10, 1 << 20), 256 << 10);
        assert_eq!(master_depth(1 << 20, 1 << 18), 512 << 10);
        assert_eq!(master_depth(350_000_000, 1 << 20), 175_000_000);
        assert_eq!((free_depth(0), free_depth(100_000)), (65_536, 100_000));
    }

    #[test]
    fn large_pieces_are_shared_among_slow_peers() {
        assert_eq!(bite(16, 0), 16);
        assert_eq!((bite(16, 4 << 10), bite(16, 64 << 10)), (8, 16));
        assert_eq!(bite(1024, 100_000), 25);
        assert_eq!(bite(1024, 0), 64);
        assert_eq!(bite(1024, 100_000_000), 1024);
        assert_eq!([false, true].map(|proven| free_bite(16, 0, proven)), [3, 8]);
        assert_eq!(free_bite(1024, 1 << 20, true), 256);
        assert_eq!(
            (free_bite(16, u64::MAX, true), free_depth(u64::MAX)),
            (16, u64::MAX)
        );
    }
}
