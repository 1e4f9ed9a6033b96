//! An ordinary peer: what it holds, what it is fetching, and its line.

mod choking;
mod flow;
mod interest;
mod picking;
mod receiving;
mod sharing;

use std::collections::VecDeque;

use crate::bits::{self, Bits};
use crate::events::{Block, SECOND, Time};
use crate::limiter::Limiter;
use crate::plan::{Client, Kind};

pub(crate) use self::flow::Flow;

/// Nobody was asked for this block.
pub(crate) const OPEN: u32 = u32::MAX;
/// This block is here.
pub(crate) const GOT: u32 = u32::MAX - 1;

/// What a client does, in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Between choking rounds.
    pub(crate) round: Time,
    /// Between turns of the optimistic slot.
    pub(crate) optimistic: Time,
    /// It honours `lt_donthave`.
    pub(crate) donthave: bool,
    /// Requests it queues.
    pub(crate) reqq: u32,
}

impl Habits {
    pub(crate) fn of(client: Client) -> Self {
        match client {
            Client::Libtorrent => Self {
                round: 15 * SECOND,
                optimistic: 30 * SECOND,
                donthave: true,
                reqq: 2_000,
            },
            Client::Transmission => Self {
                round: 10 * SECOND,
                optimistic: 40 * SECOND,
                donthave: false,
                reqq: 512,
            },
        }
    }
}

/// A piece that is being fetched.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) piece: u32,
    /// Of each block the end that was asked, [`OPEN`] or [`GOT`].
    pub(crate) blocks: Vec<u32>,
    pub(crate) open: u32,
    pub(crate) missing: u32,
    /// Nodes that gave blocks, a few of them more than once.
    pub(crate) givers: Vec<u32>,
    pub(crate) poisoned: bool,
    /// Some block was asked of two.
    pub(crate) doubled: bool,
}

/// The sending side of a line: one block at a time, the connections in turn.
#[derive(Debug, Default)]
pub(crate) struct Uplink {
    /// Bytes/s.
    pub(crate) rate: u64,
    pub(crate) sending: Option<(u32, Block)>,
    pub(crate) turn: VecDeque<u32>,
    /// Acknowledgements to send with the next block, millibytes.
    pub(crate) owed: u64,
}

/// One ordinary peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) swarm: u32,
    pub(crate) group: u32,
    pub(crate) kind: Kind,
    /// Its completion counts.
    pub(crate) counted: bool,
    pub(crate) habits: Habits,
    pub(crate) slots: u32,
    pub(crate) sought: u32,
    pub(crate) here: bool,
    pub(crate) came: Time,
    pub(crate) done: Option<Time>,
    pub(crate) conns: Vec<u32>,
    pub(crate) up: Uplink,
    /// Set where the client limits its rate, and not the line.
    pub(crate) limiter: Option<Limiter>,
    /// Pieces it may ask for though it is choked.
    pub(crate) allowed: Vec<u32>,
    /// Bytes/s; 0: no limit.
    pub(crate) down_rate: u64,
    /// Until when what comes down keeps the line busy.
    pub(crate) down_busy: Time,
    pub(crate) have: Bits,
    pub(crate) count: u32,
    /// Pieces all of whose blocks are here or asked for.
    pub(crate) taken: Bits,
    pub(crate) partial: Vec<Partial>,
    /// Of each piece, connections that show it.
    pub(crate) copies: Box<[u16]>,
    pub(crate) unchoked: u32,
    pub(crate) next_round: Time,
    pub(crate) next_optimistic: Time,
    /// Nodes that gave it something wrong.
    pub(crate) banned: Vec<u32>,
    /// How far nodes are trusted that gave to a piece that was wrong: two points less for each, one more for each right one.
    pub(crate) trust: Vec<(u32, i32)>,
    pub(crate) sent: u64,
    pub(crate) got: u64,
    pub(crate) wasted: u64,
}

impl Peer {
    /// Whether it still wants pieces.
    pub(crate) fn wants(&self) -> bool {
        self.done.is_none() && matches!(self.kind, Kind::Leecher | Kind::FreeRider)
    }

    /// Whether it gives what it is asked for, right or wrong.
    pub(crate) fn gives(&self) -> bool {
        match self.kind {
            Kind::Seed | Kind::Crowd | Kind::Leecher | Kind::Poisoner => self.up.rate > 0,
            Kind::FreeRider | Kind::Braggart | Kind::Tease => false,
        }
    }

    /// Whether it counts when the end of a run is looked for.
    pub(crate) fn honest_leecher(&self) -> bool {
        self.kind == Kind::Leecher && self.counted
    }

    pub(crate) fn lacks(&self, piece: u32) -> bool {
        !bits::get(&self.have, piece)
    }

    pub(crate) fn partial_of(&self, piece: u32) -> Option<usize> {
        self.partial.iter().position(|part| part.piece == piece)
    }
}
