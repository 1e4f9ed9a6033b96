//! What happens when: a heap keyed by time and sequence, so that equal moments keep the order in which they were booked.

use core::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::rng::mix;

/// Microseconds since the run began.
pub(crate) type Time = u64;
/// A second.
pub(crate) const SECOND: Time = 1_000_000;

/// A block: its piece and its number in it. How long it is, its connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block(u32);

impl Block {
    pub(crate) fn new(piece: u32, index: u32) -> Self {
        Self(piece << 12 | (index & 0xfff))
    }

    pub(crate) fn piece(self) -> u32 {
        self.0 >> 12
    }

    pub(crate) fn index(self) -> u32 {
        self.0 & 0xfff
    }
}

/// What one end of a connection hears of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Msg {
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    DontHave(u32),
    Request(Block),
    Cancel(Block),
    Reject(Block),
    Data(Block),
    /// A block that is not what the torrent says.
    Poison(Block),
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A peer or a repeater comes.
    Join(u32),
    /// A peer goes.
    Leave(u32),
    /// A node's line has sent its block.
    Sent(u32),
    /// A node's limiter hands out bytes.
    Tick(u32),
    /// A message arrives at this end.
    Heard(u32, Msg),
    /// The time of a peer's choking round may have come.
    Rechoke(u32),
    /// Whether the blocks that this end asked for come.
    Watch(u32),
    /// Whether this idle end should ask for a block that is asked of another.
    Idle(u32),
    /// The first node tries to reach the second one for this swarm.
    Dial(u32, u32, u32),
    /// A connection breaks.
    Break(u32),
    /// The repeater's clock.
    Timer(u32),
    /// The repeater's line has room.
    Line(u32),
    /// A repeater's connection has facts to tell, or a time-out.
    Conn(u32, u32),
    /// A tracker answers a repeater's scrape of this swarm.
    Scraped(u32, u32),
    /// A tracker answers a repeater with peers.
    Named(u32, u32),
    /// What was sent to a slave arrives.
    Letter(u32),
    /// A slave looks at its master's list of torrents.
    MasterList(u32),
    /// A slave looks at its master's peers in this swarm.
    Witness(u32, u32),
    /// The one who knows all chooses a repeater's swarms.
    Oracle(u32),
    /// Time to write down where we are.
    Sample,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    seq: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// The future, and the present moment.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) now: Time,
    heap: BinaryHeap<Reverse<Entry>>,
    seq: u64,
    pub(crate) count: u64,
    /// Of everything that happened so far.
    pub(crate) hash: u64,
}

impl Events {
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.seq += 1;
        let (at, seq) = (at.max(self.now), self.seq);
        self.heap.push(Reverse(Entry { at, seq, event }));
    }

    pub(crate) fn after(&mut self, wait: Time, event: Event) {
        self.at(self.now + wait, event);
    }

    /// The next event; time moves to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        self.count += 1;
        self.hash = mix(self.hash ^ entry.at ^ entry.seq.rotate_left(32));
        Some(entry.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_the_order_of_booking() {
        let mut events = Events::default();
        for (at, node) in [(5, 1), (3, 2), (5, 3), (3, 4)] {
            events.at(at, Event::Join(node));
        }
        let mut order = Vec::new();
        while let Some(Event::Join(node)) = events.next() {
            order.push((events.now, node));
        }
        assert_eq!(order, [(3, 2), (3, 4), (5, 1), (5, 3)]);
    }
}
