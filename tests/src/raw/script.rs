//! What a raw peer does by itself.

use std::collections::BTreeSet;

use bt_wire::message::{BlockRef, Message};
use bytes::Bytes;

use super::Sender;
use crate::content::Torrent;

/// Called once after the handshake with `None`, then with each message. It runs on the peer's reading thread.
pub type Script = Box<dyn FnMut(&Sender, Option<&Message>) + Send>;

/// Requests under way at a time.
const DEPTH: usize = 64;
/// Bytes asked for at a time.
const BLOCK: u32 = 16 << 10;

/// Says and does nothing; the test sends everything.
#[must_use]
pub fn nothing() -> Script {
    Box::new(|_, _| {})
}

/// A seed: announces everything, unchokes, and answers each request at once.
#[must_use]
pub fn source(torrent: &Torrent) -> Script {
    let torrent = torrent.clone();
    Box::new(move |sender, message| match message {
        None => {
            sender.send(&Message::Bitfield(full(torrent.pieces())));
            sender.send(&Message::Unchoke);
        }
        Some(Message::Request(BlockRef {
            piece,
            begin,
            length,
        })) => {
            if let Some(block) = torrent.block(*piece, *begin, *length) {
                let data = Bytes::copy_from_slice(block);
                sender.send(&Message::Piece {
                    piece: *piece,
                    begin: *begin,
                    data,
                });
            }
        }
        Some(_) => {}
    })
}

/// A leecher: asks for every block of every piece the other side announces, while unchoked.
#[must_use]
pub fn sink(torrent: &Torrent) -> Script {
    let mut sink = Sink {
        torrent: torrent.clone(),
        wanted: BTreeSet::new(),
        asked: BTreeSet::new(),
        unchoked: false,
    };
    Box::new(move |sender, message| sink.step(sender, message))
}

/// Every bit set that stands for a piece.
fn full(pieces: usize) -> Bytes {
    let mut bits = vec![0; pieces.div_ceil(8)];
    for piece in 0..pieces {
        bits[piece / 8] |= 0x80 >> (piece % 8);
    }
    bits.into()
}

struct Sink {
    torrent: Torrent,
    wanted: BTreeSet<BlockRef>,
    asked: BTreeSet<BlockRef>,
    unchoked: bool,
}

impl Sink {
    fn step(&mut self, sender: &Sender, message: Option<&Message>) {
        match message {
            None => sender.send(&Message::Interested),
            Some(Message::Unchoke) => self.unchoked = true,
            Some(Message::Choke) => {
                self.unchoked = false;
                self.wanted.append(&mut self.asked);
            }
            Some(Message::HaveAll) => self.want((0..self.torrent.pieces()).collect()),
            Some(Message::Have(piece)) => self.want(vec![*piece as usize]),
            Some(Message::Bitfield(bits)) => {
                let has = |piece: &usize| {
                    bits.get(piece / 8)
                        .is_some_and(|b| b & (0x80 >> (piece % 8)) != 0)
                };
                self.want((0..self.torrent.pieces()).filter(has).collect());
            }
            Some(Message::Piece { piece, begin, data }) => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                self.asked.remove(&BlockRef {
                    piece: *piece,
                    begin: *begin,
                    length,
                });
            }
            Some(Message::Reject(block)) => {
                self.asked.remove(block);
            }
            Some(_) => {}
        }
        while self.unchoked && self.asked.len() < DEPTH {
            let Some(block) = self.wanted.pop_first() else {
                return;
            };
            self.asked.insert(block);
            sender.send(&Message::Request(block));
        }
    }

    fn want(&mut self, pieces: Vec<usize>) {
        for piece in pieces {
            let Ok(piece) = u32::try_from(piece) else {
                return;
            };
            let mut begin = 0;
            while let Some(length) = self.block_length(piece, begin) {
                self.wanted.insert(BlockRef {
                    piece,
                    begin,
                    length,
                });
                begin += length;
            }
        }
    }

    /// Bytes of the block at `begin`; `None` at the end of the piece or of the content.
    fn block_length(&self, piece: u32, begin: u32) -> Option<u32> {
        let at = u64::from(piece) * u64::from(self.torrent.piece_length) + u64::from(begin);
        let left = (self.torrent.content.len() as u64).checked_sub(at)?;
        let left = left
            .min(u64::from(self.torrent.piece_length - begin))
            .min(u64::from(BLOCK));
        u32::try_from(left).ok().filter(|length| *length > 0)
    }
}
