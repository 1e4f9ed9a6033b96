//! Announcements that cannot be taken back.
//!
//! A client that does not honour `lt_donthave` (Transmission, aria2, rTorrent, rqbit) never forgets a HAVE, and spins
//! or hangs on a piece that is refused. So what is announced to it is a commitment: per peer at most
//! max(1 piece, its draw × 20 s) unfinished, all together at most three quarters of the cache. It ends when the peer
//! has the piece, or all its blocks went out and 30 s passed, or nothing was requested for 60 s.

use core::time::Duration;

/// Draw that may be committed ahead, seconds.
const AHEAD_S: f64 = 20.0;
/// All blocks went out, and it did not say HAVE for so long: over.
pub const AFTER_SENT: Duration = Duration::from_secs(30);
/// Nothing was requested for so long: over.
pub const UNASKED: Duration = Duration::from_secs(60);

/// One peer that never forgets, and the whole of such commitments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommitFacts {
    /// Bytes announced to it and unfinished.
    pub peer: u64,
    /// Bytes of distinct pieces committed to anybody.
    pub all: u64,
    /// What it draws, bytes/s.
    pub draw: f64,
    /// Piece length, bytes.
    pub piece: u64,
    /// This piece is committed to another already: it costs the cache nothing more.
    pub shared: bool,
    /// Cache size, bytes.
    pub cache: u64,
    /// A master has demand: strangers may bind only a quarter.
    pub master_demand: bool,
}

/// One more piece may be announced to this peer.
#[must_use]
pub fn allows(facts: &CommitFacts) -> bool {
    let own = (facts.piece as f64).max(facts.draw * AHEAD_S);
    let most = if facts.master_demand {
        facts.cache / 4
    } else {
        facts.cache / 4 * 3
    };
    let added = if facts.shared { 0 } else { facts.piece };
    (facts.peer + facts.piece) as f64 <= own && facts.all + added <= most
}

/// One commitment's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitAge {
    /// Time since the announcement, or since the last request for it.
    pub quiet: Duration,
    /// Time since the last of its blocks went out, when all did.
    pub sent: Option<Duration>,
}

/// The commitment is over though the peer still lacks the piece: when the room is needed, choke it and close.
#[must_use]
pub fn stale(age: CommitAge) -> bool {
    age.sent.is_some_and(|sent| sent >= AFTER_SENT) || age.quiet >= UNASKED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_or_twenty_seconds() {
        let facts = CommitFacts {
            peer: 0,
            all: 0,
            draw: 0.0,
            piece: 100,
            shared: false,
            cache: 1000,
            master_demand: false,
        };
        assert!(allows(&facts));
        assert!(!allows(&CommitFacts { peer: 100, ..facts }));
        assert!(allows(&CommitFacts {
            peer: 100,
            draw: 10.0,
            ..facts
        }));
        assert!(!allows(&CommitFacts { all: 700, ..facts }));
        assert!(allows(&CommitFacts {
            all: 700,
            shared: true,
            ..facts
        }));
        assert!(!allows(&CommitFacts {
            all: 200,
            master_demand: true,
            ..facts
        }));
    }

    #[test]
    fn commitments_end() {
        let age = |quiet, sent: Option<u64>| CommitAge {
            quiet: Duration::from_secs(quiet),
            sent: sent.map(Duration::from_secs),
        };
        assert!(!stale(age(59, None)) && stale(age(60, None)));
        assert!(!stale(age(29, Some(29))) && stale(age(30, Some(30))));
    }
}
