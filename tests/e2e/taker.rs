//! A raw leecher that keeps account of every request and of how it was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bt_wire::message::{BlockRef, Message};
use tests::content::Torrent;
use tests::raw::{Abilities, DONT_HAVE_ID, Script, Sender};

/// Requests under way at a time.
const DEPTH: usize = 32;
const BLOCK: u32 = 16 << 10;

/// What happened to the requests of one leecher, over all its connections.
#[derive(Debug, Default)]
pub struct Ledger {
    asked: BTreeMap<BlockRef, Instant>,
    pub requests: u64,
    /// Answered by the block.
    pub blocks: u64,
    /// Answered by a reject, by a choke where BEP 6 is not spoken, or by `lt_donthave` where there is no reject.
    pub refused: u64,
    /// `lt_donthave` heard.
    pub withdrawn: u64,
    /// Requests sent for a withdrawn piece, on purpose.
    pub probes: u64,
    /// Those that a reject has yet to answer. One whose piece is announced anew is a request like any other.
    pub open_probes: BTreeSet<BlockRef>,
    /// Nothing more is asked for.
    pub full: bool,
    /// Longest wait for an answer.
    pub slowest: Duration,
    /// Whole pieces received.
    pub complete: BTreeSet<u32>,
    parts: BTreeMap<u32, BTreeSet<u32>>,
}

impl Ledger {
    fn answered(&mut self, block: BlockRef) -> bool {
        let Some(at) = self.asked.remove(&block) else {
            return false;
        };
        self.slowest = self.slowest.max(at.elapsed());
        true
    }

    fn refuse_all(&mut self, which: impl Fn(&BlockRef) -> bool) {
        let gone: Vec<BlockRef> = self.asked.keys().copied().filter(which).collect();
        for block in gone {
            self.refused += 1;
            self.answered(block);
        }
    }

    /// Requests that wait for an answer.
    pub fn open(&self) -> usize {
        self.asked.len()
    }

    /// The longest wait of all, of requests not answered yet too.
    pub fn longest_wait(&self) -> Duration {
        let open = self.asked.values().map(Instant::elapsed).max();
        self.slowest.max(open.unwrap_or_default())
    }

    /// The connection ended: that answers what is open.
    pub fn closed(&mut self) {
        self.refuse_all(|_| true);
        self.open_probes.clear();
    }
}

/// A leecher's account, shared with its script.
#[derive(Debug, Clone, Default)]
pub struct Account(Arc<Mutex<Ledger>>);

impl Account {
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leecher of these abilities. `tells`: it sends HAVE for what it got, as it should.
pub fn taker(torrent: &Torrent, abilities: Abilities, tells: bool, account: &Account) -> Script {
    let mut taker = Taker {
        torrent: torrent.clone(),
        abilities,
        tells,
        account: account.clone(),
        wanted: BTreeSet::new(),
        unchoked: false,
    };
    Box::new(move |sender, message| taker.step(sender, message))
}

struct Taker {
    torrent: Torrent,
    abilities: Abilities,
    tells: bool,
    account: Account,
    wanted: BTreeSet<BlockRef>,
    unchoked: bool,
}

impl Taker {
    fn step(&mut self, sender: &Sender, message: Option<&Message>) {
        let account = self.account.clone();
        let mut ledger = account.lock();
        match message {
            None => self.hello(sender, &ledger),
            Some(Message::Unchoke) => self.unchoked = true,
            Some(Message::Choke) => {
                self.unchoked = false;
                // BEP 3: a choke drops all requests. BEP 6: each is rejected.
                if !self.abilities.fast {
                    self.wanted.extend(ledger.asked.keys().copied());
                    ledger.refuse_all(|_| true);
                }
            }
            Some(Message::Have(piece)) => {
                ledger.open_probes.retain(|probe| probe.piece != *piece);
                self.want(*piece, &ledger);
            }
            Some(Message::Piece { piece, begin, data }) => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                let (piece, begin) = (*piece, *begin);
                let block = BlockRef {
                    piece,
                    begin,
                    length,
                };
                if ledger.answered(block) {
                    ledger.blocks += 1;
                    self.got(sender, block, &mut ledger);
                }
            }
            Some(Message::Reject(block)) if ledger.answered(*block) => {
                ledger.refused += 1;
                ledger.open_probes.remove(block);
            }
            Some(Message::Extended { id, payload }) if *id == DONT_HAVE_ID => {
                if let Ok(piece) = <[u8; 4]>::try_from(payload.as_ref()) {
                    self.withdrawn(sender, u32::from_be_bytes(piece), &mut ledger);
                }
            }
            Some(_) => {}
        }
        while self.unchoked && !ledger.full && ledger.asked.len() < DEPTH {
            let Some(block) = self.wanted.pop_first() else {
                return;
            };
            ask(sender, block, &mut ledger);
        }
    }

    fn hello(&self, sender: &Sender, ledger: &Ledger) {
        let mut bits = vec![0; self.torrent.pieces().div_ceil(8)];
        if self.tells {
            for piece in &ledger.complete {
                bits[*piece as usize / 8] |= 0x80 >> (piece % 8);
            }
        }
        sender.send(&Message::Bitfield(bits.into()));
        sender.send(&Message::Interested);
    }

    fn want(&mut self, piece: u32, ledger: &Ledger) {
        if ledger.complete.contains(&piece) {
            return;
        }
        for block in blocks(&self.torrent, piece) {
            if !ledger.asked.contains_key(&block) {
                self.wanted.insert(block);
            }
        }
    }

    fn got(&self, sender: &Sender, block: BlockRef, ledger: &mut Ledger) {
        let parts = ledger.parts.entry(block.piece).or_default();
        parts.insert(block.begin);
        let whole = blocks(&self.torrent, block.piece).count();
        if parts.len() == whole && ledger.complete.insert(block.piece) && self.tells {
            sender.send(&Message::Have(block.piece));
        }
    }

    /// Asks once more for what is gone: a reject has to come.
    fn withdrawn(&mut self, sender: &Sender, piece: u32, ledger: &mut Ledger) {
        ledger.withdrawn += 1;
        self.wanted.retain(|block| block.piece != piece);
        if self.abilities.fast {
            let probe = blocks(&self.torrent, piece).find(|b| !ledger.asked.contains_key(b));
            if let Some(block) = probe.filter(|_| !ledger.full) {
                ledger.probes += 1;
                ledger.open_probes.insert(block);
                ask(sender, block, ledger);
            }
        } else {
            ledger.refuse_all(|block| block.piece == piece);
        }
    }
}

fn ask(sender: &Sender, block: BlockRef, ledger: &mut Ledger) {
    ledger.asked.insert(block, Instant::now());
    ledger.requests += 1;
    sender.send(&Message::Request(block));
}

/// The blocks of a piece.
fn blocks(torrent: &Torrent, piece: u32) -> impl Iterator<Item = BlockRef> + use<> {
    let total = torrent.content.len() as u64;
    let start = u64::from(piece) * u64::from(torrent.piece_length);
    let size = total
        .saturating_sub(start)
        .min(u64::from(torrent.piece_length));
    let size = u32::try_from(size).unwrap_or(0);
    (0..size.div_ceil(BLOCK)).map(move |n| BlockRef {
        piece,
        begin: n * BLOCK,
        length: BLOCK.min(size - n * BLOCK),
    })
}
