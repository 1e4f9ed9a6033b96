//! One connection as the brain sees it.

use crate::io::{ConnId, Extended, Role};
use crate::time::Timestamp;
use bt_wire::bitfield::Bitfield;
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// A byte counter with a rate that forgets over some seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    pub(crate) total: u64,
    fresh: u64,
    pub(crate) rate: f64,
}

impl Meter {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.total += bytes;
        self.fresh += bytes;
    }

    /// Folds the bytes since the last call, `seconds` ago, into the rate.
    pub(crate) fn roll(&mut self, seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        let keep = 1.0 / (1.0 + seconds / 3.0);
        self.rate = self.rate * keep + self.fresh as f64 / seconds * (1.0 - keep);
        self.fresh = 0;
        if self.rate < 1.0 {
            self.rate = 0.0;
        }
    }
}

/// What a peer is for counting holders and demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Its set is not known yet.
    Unknown,
    /// Has everything.
    Seed,
    /// Still downloads.
    Downloader,
    /// Partial, and no demand: upload-only, or a free repeater.
    Other,
    /// A master: its demand is counted by itself.
    Master,
    /// A friend's master, or its slave: it gets what is reserved.
    Guest,
}

/// What giving up an announced piece would mean to the peer that lacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tie {
    /// A master: not done.
    Master,
    /// It honours `lt_donthave`.
    Soft,
    /// It never forgets: a live commitment.
    Firm,
    /// It never forgets, and the commitment is over: its connection would be closed.
    Stale,
}

/// A piece announced to a peer that lacks it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) at: Timestamp,
    pub(crate) asked: Option<Timestamp>,
    pub(crate) served: u64,
    pub(crate) sent: Option<Timestamp>,
    pub(crate) tie: Tie,
}

/// Blocks that are this connection's to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) blocks: Range<u32>,
    pub(crate) left: u64,
    pub(crate) since: Timestamp,
    /// It goes on further than it did at first, and a `LeaseDone` since then may be of what it was before.
    pub(crate) extended: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) conn: ConnId,
    pub(crate) addr: SocketAddr,
    pub(crate) incoming: bool,
    pub(crate) peer_id: [u8; 20],
    pub(crate) extended: bool,
    pub(crate) ext: Extended,
    pub(crate) ext_seen: bool,
    /// It is a slave; in open mode or not.
    pub(crate) slave: Option<bool>,
    /// A session stood with it.
    pub(crate) stood: bool,
    /// Where it answered when we dialled it.
    pub(crate) reached: Option<SocketAddr>,
    /// In a rendezvous: known to be no slave since then.
    pub(crate) stranger: Option<Timestamp>,
    pub(crate) role: Role,
    /// It may turn out to be a master: nothing is asked of it until that is settled.
    pub(crate) suspect: bool,
    pub(crate) closing: bool,
    pub(crate) since: Timestamp,
    pub(crate) known: bool,
    pub(crate) have: Bitfield,
    pub(crate) class: Class,
    /// Everything that stands announced to it, whether it has the piece by now or not.
    pub(crate) shown: Bitfield,
    /// Of that, what it lacks.
    pub(crate) told: BTreeMap<u32, Told>,
    /// A master's: what it lacks, though all of its blocks went out to it, and when the last one did.
    pub(crate) delivered: BTreeMap<u32, Timestamp>,
    pub(crate) chokes_us: bool,
    /// Pieces that it sends us even then (BEP 6). The session bounds their number.
    pub(crate) allowed: BTreeSet<u32>,
    pub(crate) wants_us: bool,
    pub(crate) unchoked: bool,
    /// When an unchoke was last said.
    pub(crate) prompted: Timestamp,
    pub(crate) interested: bool,
    /// When we last said whether we are.
    pub(crate) said: Timestamp,
    pub(crate) useful: Timestamp,
    /// It last gave something, or let us ask and did not fail us.
    pub(crate) open: Timestamp,
    pub(crate) leases: BTreeMap<u32, Lease>,
    pub(crate) outstanding: u64,
    pub(crate) told_rate: u64,
    /// Pieces it refused or let time out: not asked again before then.
    pub(crate) refused: BTreeMap<u32, (Timestamp, u32)>,
    pub(crate) last_asked: Option<Timestamp>,
    pub(crate) last_served: Timestamp,
    /// What it gave us lately, by rounds of choking, and all that it gave until the last one, bytes.
    pub(crate) fed: u64,
    pub(crate) down_then: u64,
    /// Turns of an upload slot in which it gave nothing, since it last gave something in one.
    pub(crate) fruitless: u32,
    pub(crate) up: Meter,
    pub(crate) down: Meter,
}

impl Peer {
    pub(crate) fn is_master(&self) -> bool {
        matches!(self.role, Role::Master(_))
    }

    /// A friend's master, or its slave.
    pub(crate) fn is_guest(&self) -> bool {
        matches!(self.role, Role::Guest(_))
    }

    /// Nothing is ever requested of it: a master, ours or a friend's.
    pub(crate) fn only_given(&self) -> bool {
        self.is_master() || self.is_guest()
    }

    /// It may be asked for blocks now, of what it [offers](Self::offers).
    pub(crate) fn may_fetch(&self) -> bool {
        let open = !self.chokes_us || !self.allowed.is_empty();
        open && !self.closing && !self.suspect && !self.only_given()
    }

    /// It has the piece and would send it now.
    pub(crate) fn gives(&self, piece: u32) -> bool {
        let open = !self.chokes_us || self.allowed.contains(&piece);
        open && self.may_fetch() && self.have.get(piece)
    }

    /// The class that follows from what is known.
    pub(crate) fn classify(&self) -> Class {
        if self.is_master() {
            Class::Master
        } else if self.is_guest() {
            Class::Guest
        } else if !self.known || self.closing {
            Class::Unknown
        } else if self.have.is_full() && self.have.len() > 0 {
            Class::Seed
        } else if self.ext.upload_only || self.ext.repeater == Some(1) {
            Class::Other
        } else {
            Class::Downloader
        }
    }

    /// How an announcement to it binds us.
    pub(crate) fn tie(&self) -> Tie {
        if self.only_given() {
            Tie::Master
        } else if self.ext.donthave {
            Tie::Soft
        } else {
            Tie::Firm
        }
    }

    /// It has the piece, or hears of it, or got all of it: HAVE would tell it nothing.
    pub(crate) fn knows(&self, piece: u32) -> bool {
        self.have.get(piece)
            || self.told.contains_key(&piece)
            || self.delivered.contains_key(&piece)
    }

    /// It gives the piece and did not refuse it lately.
    pub(crate) fn offers(&self, piece: u32, now: Timestamp) -> bool {
        self.gives(piece)
            && self
                .refused
                .get(&piece)
                .is_none_or(|(until, _)| *until <= now)
    }

    /// It lets us ask, and let nothing time out or refused it lately.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        let failed = self.refused.values().any(|(until, _)| *until > now);
        !self.chokes_us && self.leases.is_empty() && !failed
    }

    /// The best guess at its rate to us, bytes/s.
    pub(crate) fn down_rate(&self) -> u64 {
        (self.down.rate as u64).max(self.told_rate)
    }

    /// Bytes announced to it, lacked, and not sent yet, when each piece has `size` bytes.
    pub(crate) fn pending(&self, size: u64) -> u64 {
        self.told
            .values()
            .map(|told| size.saturating_sub(told.served))
            .sum()
    }

    /// It was announced something lately, or has asked lately.
    pub(crate) fn asks(&self, now: Timestamp, patience: Duration) -> bool {
        let fresh = |at: Timestamp| now.since(at) < patience;
        self.last_asked.is_some_and(fresh)
            || self
                .told
                .values()
                .any(|told| told.asked.is_none() && fresh(told.at))
    }
}
