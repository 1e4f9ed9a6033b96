//! Two sessions back to back in virtual time: the whole torrent must arrive.

use std::collections::{BTreeSet, VecDeque};

use super::*;

const DELAY: Duration = Duration::from_millis(5);

/// One side and what is on its way to it.
struct Side {
    session: Session,
    inbox: VecDeque<(Timestamp, Transmit)>,
}

/// A leecher's brain in miniature: leases what it misses and they have, some pieces at a time.
struct Leecher {
    missing: Vec<BTreeSet<u32>>,
    theirs: BTreeSet<u32>,
    leased: BTreeSet<u32>,
    choked: bool,
    wasted: u32,
}

struct Wire {
    seed: Side,
    leech: Side,
    brain: Leecher,
    now: Timestamp,
    /// Bytes the seed may send in a millisecond.
    rate: u32,
    /// The deepest pipeline seen.
    deepest: u32,
}

impl Leecher {
    fn hear(&mut self, fact: &ConnFact) {
        if let ConnFact::Have(piece) = fact {
            self.theirs.insert(*piece);
        } else if let ConnFact::DontHave(piece) = fact {
            self.theirs.remove(piece);
        } else if let ConnFact::Choking(choked) = fact {
            self.choked = *choked;
        } else if let ConnFact::LeaseDone { piece } | ConnFact::LeaseLost { piece, .. } = fact {
            self.leased.remove(piece);
        } else if let ConnFact::Received { redundant, .. } = fact {
            self.wasted += redundant;
        } else if *fact == ConnFact::HaveAll {
            self.theirs = (0..self.missing.len() as u32).collect();
        }
    }

    fn lease(&mut self, most: usize) -> Option<Order> {
        if self.choked || self.leased.len() >= most {
            return None;
        }
        let wanted =
            |piece: &u32| !self.missing[*piece as usize].is_empty() && !self.leased.contains(piece);
        let piece = *self.theirs.iter().find(|piece| wanted(piece))?;
        let missing = &self.missing[piece as usize];
        let range = *missing.first()?..missing.last()? + 1;
        self.leased.insert(piece);
        Some(fetch(piece, range))
    }
}

impl Wire {
    fn new(layout: Layout, fast: bool, rate: u32, have: Shown) -> Self {
        let cfg = SessionConfig {
            layout: Some(layout),
            limits: SessionLimits::default(),
            ..config(fast)
        };
        let side = || Side {
            session: Session::new(cfg.clone(), Timestamp::ZERO),
            inbox: VecDeque::new(),
        };
        let missing = (0..layout.piece_count)
            .map(|piece| (0..layout.block_count(piece)).collect())
            .collect();
        let (theirs, leased) = (BTreeSet::new(), BTreeSet::new());
        let brain = Leecher {
            missing,
            theirs,
            leased,
            choked: true,
            wasted: 0,
        };
        let mut wire = Self {
            seed: side(),
            leech: side(),
            brain,
            now: Timestamp::ZERO,
            rate,
            deepest: 0,
        };
        wire.seed.session.on_order(wire.now, hello(have));
        wire.leech.session.on_order(wire.now, hello(Shown::None));
        wire
    }

    fn order(&mut self, order: Order) {
        self.seed.session.on_order(self.now, order);
    }

    fn done(&self) -> bool {
        self.brain.missing.iter().all(BTreeSet::is_empty)
    }

    /// One millisecond.
    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.deliver();
        self.seed.session.on_timeout(self.now).expect("heard of");
        self.leech.session.on_timeout(self.now).expect("heard of");
        for fact in self.leech.session.take_facts() {
            self.brain.hear(&fact);
        }
        while let Some(order) = self.brain.lease(256) {
            self.leech.session.on_order(self.now, order);
        }
        self.deepest = self.deepest.max(self.leech.session.in_flight().0);
        let mut left = self.rate;
        while let Some(out) = self
            .seed
            .session
            .poll_message(self.now)
            .map(Transmit::Message)
            .or_else(|| {
                left = left.checked_sub(self.seed.session.next_block_len()?)?;
                self.seed.session.poll_block().map(Transmit::Block)
            })
        {
            if let Transmit::Block(block) = out {
                self.seed.session.wrote_block(self.now, block);
            }
            self.leech.inbox.push_back((self.now + DELAY, out));
        }
        while let Some(out) = self.leech.session.poll_transmit(self.now) {
            self.seed.inbox.push_back((self.now + DELAY, out));
        }
        self.seed.session.take_facts();
    }

    fn deliver(&mut self) {
        for side in [&mut self.seed, &mut self.leech] {
            while side.inbox.front().is_some_and(|(at, _)| *at <= self.now) {
                match side.inbox.pop_front().expect("looked").1 {
                    Transmit::Message(message) => {
                        side.session.on_message(self.now, message).expect("sound")
                    }
                    Transmit::Block(block) => {
                        if side.session.on_block(self.now, block).expect("sound")
                            == BlockVerdict::Wanted
                        {
                            self.brain.missing[block.piece as usize].remove(&(block.begin / BLOCK));
                        }
                    }
                }
            }
        }
    }
}

fn torrent(pieces: u32) -> Layout {
    Layout::new(
        BLOCK * 16,
        u64::from(BLOCK) * 16 * u64::from(pieces) - 1_000,
    )
    .expect("sound")
}

#[test]
fn a_whole_torrent_arrives_and_the_pipeline_fills_the_line() {
    for fast in [true, false] {
        // 40 MB/s over 10 ms: two blocks a millisecond, 24 of them fill the line.
        let mut wire = Wire::new(torrent(300), fast, 40_000, Shown::All);
        wire.order(Order::Unchoke(true));
        while !wire.done() && wire.now < Timestamp::from_millis(60_000) {
            wire.tick();
        }
        let ideal = 300 * 16 / 2;
        assert!(
            wire.done() && wire.now < Timestamp::from_millis(ideal * 11 / 10),
            "{:?} of {ideal} ms",
            wire.now
        );
        assert_eq!(
            (wire.brain.wasted, wire.leech.session.counters().timeouts),
            (0, 0)
        );
        assert!(wire.deepest >= 500, "half a second ahead: {}", wire.deepest);
        assert!(wire.leech.session.download_rate().abs_diff(32_768_000) < 1_000_000);
    }
}

#[test]
fn it_arrives_through_flapping_chokes() {
    for fast in [true, false] {
        let mut wire = Wire::new(torrent(40), fast, 20_000, Shown::All);
        while !wire.done() && wire.now < Timestamp::from_millis(60_000) {
            let ms = wire.now.0 / 1_000;
            if ms.is_multiple_of(37) {
                wire.order(Order::Unchoke(ms.is_multiple_of(2)));
            }
            wire.tick();
        }
        assert!(
            wire.done(),
            "fast {fast}: {:?}",
            wire.brain.missing.iter().filter(|p| !p.is_empty()).count()
        );
        assert_eq!(wire.leech.session.counters().blocks_unrequested, 0);
        assert_eq!(wire.leech.session.counters().timeouts, 0, "no request hung");
    }
}

#[test]
fn it_arrives_through_a_cache_of_four_pieces_that_evicts() {
    for fast in [true, false] {
        let mut wire = Wire::new(torrent(40), fast, 20_000, Shown::None);
        wire.order(Order::Unchoke(true));
        let mut next = 0;
        while !wire.done() && wire.now < Timestamp::from_millis(60_000) {
            // Every 11 ms one piece comes and the oldest of four goes, asked for or not; all come round again.
            if (wire.now.0 / 1_000).is_multiple_of(11) {
                wire.order(Order::Announce(next % 40));
                wire.order(Order::Withdraw((next + 36) % 40));
                next += 1;
            }
            wire.tick();
        }
        assert!(
            wire.done() && wire.seed.session.announced().count_ones() <= 4,
            "fast {fast}"
        );
        assert_eq!(wire.leech.session.counters().timeouts, 0, "no request hung");
        assert_eq!(wire.leech.session.counters().blocks_unrequested, 0);
    }
}
