//! What they ask of us: announced pieces, their request queue, choking.

use std::collections::VecDeque;

use bt_wire::bitfield::Bitfield;
use bt_wire::extension::LtDontHave;
use bt_wire::layout::Layout;
use bt_wire::message::{BlockRef, MAX_BLOCK, Message};
use bytes::Bytes;

use super::{Counters, Outbox, Violation};
use crate::io::{ConnFact, Shown};
use crate::time::Timestamp;

/// Refusals in a row, in units of our `reqq`, before a peer that reads none of our answers is dropped (row B5).
const FLOOD: usize = 4;
/// The same for any `reqq`: keeps a peer's bookkeeping under 1 MiB.
const MOST_REFUSALS: usize = 20_000;

/// The serving half of a session.
#[derive(Debug)]
pub(super) struct Upload {
    fast: bool,
    unchoked: bool,
    announced: Bitfield,
    queue: VecDeque<BlockRef>,
    backlog: u64,
    /// Requests they may have in our queue: what we announced.
    reqq: usize,
    /// Refusals since they last took something from us or a request was accepted.
    refused: usize,
}

impl Upload {
    pub(super) fn new(fast: bool, layout: Option<Layout>, reqq: u32) -> Self {
        let announced = Bitfield::new(layout.map_or(0, |layout| layout.piece_count));
        let reqq = reqq as usize;
        Self {
            fast,
            unchoked: false,
            announced,
            queue: VecDeque::new(),
            backlog: 0,
            reqq,
            refused: 0,
        }
    }

    pub(super) fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq as usize;
    }

    /// The message that shows our set at the start, if there is one to send.
    pub(super) fn show(&mut self, have: &Shown) -> Option<Message> {
        let len = self.announced.len();
        match have {
            Shown::Unknown => None,
            Shown::None if self.fast => Some(Message::HaveNone),
            // An explicit one, all zero: rqbit sends no HAVE to who sent no bitfield.
            Shown::None => (len > 0).then(|| bitfield(&self.announced)),
            Shown::All => {
                self.announced = Bitfield::full(len);
                Some(if self.fast {
                    Message::HaveAll
                } else {
                    bitfield(&self.announced)
                })
                .filter(|_| len > 0)
            }
        }
    }

    pub(super) fn announce(&mut self, piece: u32, out: &mut Outbox) {
        if self.announced.set(piece, true) {
            out.control.push_back(Message::Have(piece));
        }
    }

    /// `donthave`: the id under which they want `lt_donthave`, if they do.
    pub(super) fn withdraw(
        &mut self,
        now: Timestamp,
        piece: u32,
        donthave: Option<u8>,
        out: &mut Outbox,
    ) {
        if !self.announced.set(piece, false) {
            return;
        }
        if let Some(id) = donthave {
            let payload = Bytes::copy_from_slice(&LtDontHave { piece }.encode());
            out.control.push_back(Message::Extended { id, payload });
        }
        let mut gone = Vec::new();
        self.queue.retain(|&block| {
            if block.piece == piece {
                gone.push(block);
            }
            block.piece != piece
        });
        for block in gone {
            self.backlog -= u64::from(block.length);
            self.refuse(now, block, out);
        }
    }

    pub(super) fn unchoke(&mut self, now: Timestamp, unchoke: bool, out: &mut Outbox) {
        if !unchoke && !self.unchoked {
            return;
        }
        self.unchoked = unchoke;
        out.control.push_back(if unchoke {
            Message::Unchoke
        } else {
            Message::Choke
        });
        if !unchoke {
            self.backlog = 0;
            for block in core::mem::take(&mut self.queue) {
                self.refuse(now, block, out);
            }
        }
    }

    /// A request: queued, or refused and counted. Errors: impossible blocks (row B4), floods (row B5).
    pub(super) fn request(
        &mut self,
        now: Timestamp,
        block: BlockRef,
        layout: &Layout,
        count: &mut Counters,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        if block.piece >= layout.piece_count {
            return Err(Violation::NoSuchPiece(block.piece));
        }
        if block.length > MAX_BLOCK || !layout.contains(block.piece, block.begin, block.length) {
            return Err(Violation::BadRequest(block));
        }
        let refusal = if !self.unchoked {
            &mut count.refused_choked
        } else if !self.announced.get(block.piece) {
            &mut count.refused_unannounced
        } else if self.queue.len() >= self.reqq {
            &mut count.refused_full
        } else {
            self.refused = 0;
            self.queue.push_back(block);
            self.backlog += u64::from(block.length);
            out.facts.add(
                now,
                ConnFact::Requested {
                    piece: block.piece,
                    bytes: block.length,
                },
            );
            return Ok(());
        };
        *refusal += 1;
        self.refuse(now, block, out);
        self.refused += 1;
        if self.refused > self.reqq.saturating_mul(FLOOD).min(MOST_REFUSALS) {
            count.floods += 1;
            return Err(Violation::RequestFlood);
        }
        Ok(())
    }

    /// A cancel. With BEP 6 the request is still answered: by a reject.
    pub(super) fn cancel(&mut self, block: BlockRef, out: &mut Outbox) {
        let Some(at) = self.queue.iter().position(|&queued| queued == block) else {
            return;
        };
        self.queue.remove(at);
        self.backlog -= u64::from(block.length);
        if self.fast {
            out.control.push_back(Message::Reject(block));
        }
    }

    /// Not answered by a block: rejected where BEP 6 is spoken, dropped otherwise.
    pub(super) fn refuse(&self, now: Timestamp, block: BlockRef, out: &mut Outbox) {
        out.facts.add(
            now,
            ConnFact::Refused {
                piece: block.piece,
                bytes: block.length,
            },
        );
        if self.fast {
            out.control.push_back(Message::Reject(block));
        }
    }

    /// Something went out: they read.
    pub(super) fn drained(&mut self) {
        self.refused = 0;
    }

    pub(super) fn peek(&self) -> Option<BlockRef> {
        self.queue.front().copied()
    }

    pub(super) fn pop(&mut self) -> Option<BlockRef> {
        let block = self.queue.pop_front()?;
        self.backlog -= u64::from(block.length);
        Some(block)
    }

    pub(super) fn backlog(&self) -> u64 {
        self.backlog
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn announced(&self) -> &Bitfield {
        &self.announced
    }
}

fn bitfield(set: &Bitfield) -> Message {
    Message::Bitfield(Bytes::copy_from_slice(set.as_bytes()))
}
