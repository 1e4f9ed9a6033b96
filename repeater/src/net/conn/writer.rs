//! What waits for the socket: headers gathered, blocks as slices of their piece, never copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bt_wire::message::{BlockRef, Message, PIECE_HEADER, piece_header};
use bytes::{Buf, Bytes, BytesMut};

use crate::net::stream::Stream;

/// Slices handed to the kernel at once: half of them 16 KiB blocks make 512 KiB.
const SLICES: usize = 64;
/// Bytes of blocks that may wait here; more are asked of the session only below it.
pub(super) const HIGH_WATER: usize = 512 * 1024;
/// Bytes of messages that may wait here. What is over it stays in the session, whose defences count it (row B5).
const MAX_MESSAGES: usize = 64 * 1024;

#[derive(Debug)]
enum Chunk {
    Small(Bytes),
    Block {
        block: BlockRef,
        header: [u8; PIECE_HEADER],
        sent: usize,
        bytes: Bytes,
    },
}

/// The queue in front of one socket.
#[derive(Debug, Default)]
pub(super) struct Writer {
    queue: VecDeque<Chunk>,
    scratch: BytesMut,
    block_bytes: usize,
    control_bytes: usize,
    /// Control bytes written and not yet taken by [`Writer::take_overhead`].
    overhead: usize,
}

impl Chunk {
    fn left(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Block { sent, bytes, .. } => PIECE_HEADER - sent + bytes.len(),
        }
    }
}

impl Writer {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn has_room_for_blocks(&self) -> bool {
        self.block_bytes < HIGH_WATER
    }

    pub(super) fn has_room_for_messages(&self) -> bool {
        self.control_bytes < MAX_MESSAGES
    }

    /// No message waits, whole or in part.
    pub(super) fn messages_are_out(&self) -> bool {
        self.control_bytes == 0
    }

    /// A message. HAVE and requests go ahead of blocks that wait (not of other messages): they are what the speed of
    /// the whole path hangs on, and no meaning of theirs depends on a block.
    pub(super) fn message(&mut self, message: &Message) {
        message.encode(&mut self.scratch);
        let bytes = self.scratch.split().freeze();
        self.control_bytes += bytes.len();
        let mut at = self.queue.len();
        if matches!(message, Message::Have(_) | Message::Request(_)) {
            let waiting = |chunk: &Chunk| matches!(chunk, Chunk::Block { sent: 0, .. });
            while at > 0 && self.queue.get(at - 1).is_some_and(waiting) {
                at -= 1;
            }
        }
        self.queue.insert(at, Chunk::Small(bytes));
    }

    pub(super) fn block(&mut self, block: BlockRef, bytes: Bytes) {
        self.block_bytes += bytes.len();
        let header = piece_header(block.piece, block.begin, block.length);
        self.queue.push_back(Chunk::Block {
            block,
            header,
            sent: 0,
            bytes,
        });
    }

    /// Writes as much as the socket takes. Blocks that went out whole are appended to `done`.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full, or what ends the connection.
    pub(super) fn write(&mut self, stream: &Stream, done: &mut Vec<BlockRef>) -> io::Result<usize> {
        let mut all = 0;
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for chunk in &self.queue {
                if count + 2 > SLICES {
                    break;
                }
                match chunk {
                    Chunk::Small(bytes) => slices[count] = IoSlice::new(bytes),
                    Chunk::Block {
                        header,
                        sent,
                        bytes,
                        ..
                    } => {
                        if *sent < PIECE_HEADER {
                            slices[count] = IoSlice::new(&header[*sent..]);
                            count += 1;
                        }
                        slices[count] = IoSlice::new(bytes);
                    }
                }
                count += 1;
            }
            let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            let wrote = match stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => wrote,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && all > 0 => {
                    return Ok(all);
                }
                Err(error) => return Err(error),
            };
            self.advance(wrote, done);
            all += wrote;
            if wrote < offered {
                break;
            }
        }
        Ok(all)
    }

    fn advance(&mut self, mut wrote: usize, done: &mut Vec<BlockRef>) {
        while wrote > 0 {
            let Some(front) = self.queue.front_mut() else {
                return;
            };
            let whole = wrote >= front.left();
            let part = wrote.min(front.left());
            wrote -= part;
            match front {
                Chunk::Small(bytes) => {
                    bytes.advance(part);
                    self.control_bytes -= part;
                    self.overhead += part;
                }
                Chunk::Block {
                    block, sent, bytes, ..
                } => {
                    let head = part.min(PIECE_HEADER - *sent);
                    *sent += head;
                    bytes.advance(part - head);
                    self.block_bytes -= part - head;
                    self.overhead += head;
                    if whole {
                        done.push(*block);
                    }
                }
            }
            if whole {
                self.queue.pop_front();
            }
        }
    }

    /// Bytes that were no payload, since the last call.
    pub(super) fn take_overhead(&mut self) -> usize {
        std::mem::take(&mut self.overhead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(piece: u32) -> BlockRef {
        BlockRef {
            piece,
            begin: 0,
            length: 100,
        }
    }

    fn kinds(writer: &Writer) -> Vec<u32> {
        let kind = |chunk: &Chunk| match chunk {
            Chunk::Small(bytes) => 100 + u32::from(bytes[4]),
            Chunk::Block { block, .. } => block.piece,
        };
        writer.queue.iter().map(kind).collect()
    }

    #[test]
    fn have_overtakes_waiting_blocks_and_nothing_else() {
        let mut writer = Writer::default();
        let payload = Bytes::from(vec![1; 100]);
        writer.block(block(1), payload.clone());
        writer.block(block(2), payload.clone());
        writer.message(&Message::Choke);
        writer.block(block(3), payload.clone());
        writer.message(&Message::Have(9));
        writer.message(&Message::Reject(block(7)));
        assert_eq!(kinds(&writer), [1, 2, 100, 104, 3, 116]);
        let mut done = Vec::new();
        writer.advance(113 + 20, &mut done);
        writer.message(&Message::Have(10));
        assert_eq!(done, [block(1)]);
        assert_eq!(kinds(&writer), [2, 100, 104, 3, 116, 104]);
        // A block that has begun is not cut in two.
        let mut begun = Writer::default();
        begun.block(block(1), payload);
        begun.advance(5, &mut done);
        begun.message(&Message::Have(1));
        assert_eq!(kinds(&begun), [1, 104]);
        begun.advance(108 + 9, &mut done);
        assert!(begun.is_empty());
        assert_eq!((begun.block_bytes, begun.control_bytes), (0, 0));
    }
}
