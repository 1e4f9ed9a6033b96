//! What comes from the socket: frames, and blocks straight into the buffer of their piece.

use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;

use bt_wire::message::{BlockRef, MAX_BLOCK, Message, MessageError, PIECE_HEADER, frame_length};
use bytes::Bytes;
use swarm_core::io::ConnId;

use crate::cache::Fetching;
use crate::net::stream::Stream;

/// Read buffer of a connection, bytes. It grows only while one frame is longer, as its bytes arrive.
const BUFFER: usize = 32 * 1024;

/// What was read.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Every message but a block.
    Message(Message),
    /// A block begins: say where it goes with [`Reader::block_goes`] before the next call.
    BlockBegins(BlockRef),
    /// The block that had begun is complete (in its buffer, if it was wanted).
    BlockEnds(Block),
}

/// A block on its way in.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) at: BlockRef,
    /// Where to. Nothing: it is read and thrown away.
    pub(super) into: Option<Arc<Fetching>>,
}

#[derive(Debug)]
pub(super) struct Reader {
    conn: ConnId,
    buf: Vec<u8>,
    filled: Range<usize>,
    /// The block that has begun, and how many bytes of it are still to come.
    block: Option<(Block, u32)>,
}

impl Reader {
    pub(super) fn new(conn: ConnId) -> Self {
        Self {
            conn,
            buf: vec![0; BUFFER],
            filled: 0..0,
            block: None,
        }
    }

    /// Where the block that began shall go.
    pub(super) fn block_goes(&mut self, block: Block) {
        let length = block.at.length;
        self.block = Some((block, length));
    }

    /// Takes the next thing out of what was read already; none if more must be read first.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, MessageError> {
        if self.block.is_some() {
            return Ok(self.continue_block());
        }
        let bytes = &self.buf[self.filled.clone()];
        let Some(prefix) = bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = frame_length(*prefix)?;
        if length > 9 && bytes.get(4) == Some(&7) {
            let Some(header) = bytes.first_chunk::<PIECE_HEADER>() else {
                return Ok(None);
            };
            let [_, _, _, _, _, p0, p1, p2, p3, b0, b1, b2, b3] = *header;
            let at = BlockRef {
                piece: u32::from_be_bytes([p0, p1, p2, p3]),
                begin: u32::from_be_bytes([b0, b1, b2, b3]),
                length: length - 9,
            };
            if at.length > MAX_BLOCK || at.begin.checked_add(at.length).is_none() {
                return Err(MessageError::BadBlock { id: 7 });
            }
            self.filled.start += PIECE_HEADER;
            return Ok(Some(Incoming::BlockBegins(at)));
        }
        let whole = 4 + length as usize;
        if bytes.len() < whole {
            return Ok(None);
        }
        let frame = Bytes::copy_from_slice(&bytes[4..whole]);
        self.filled.start += whole;
        if self.filled.is_empty() && self.buf.len() > BUFFER {
            self.buf = vec![0; BUFFER];
            self.filled = 0..0;
        }
        Message::parse(frame).map(|message| Some(Incoming::Message(message)))
    }

    fn continue_block(&mut self) -> Option<Incoming> {
        let (block, left) = self.block.as_mut()?;
        let part = (*left as usize).min(self.filled.len());
        if part > 0 {
            let source = &self.buf[self.filled.start..self.filled.start + part];
            if let Some(range) = span(block, *left)
                && let Some(fetching) = &block.into
            {
                let copy = |target: &mut [u8]| {
                    target[..part].copy_from_slice(source);
                    Ok::<_, std::convert::Infallible>(part)
                };
                if fetching.fill(self.conn, range, copy).is_none() {
                    block.into = None;
                }
            }
            self.filled.start += part;
            *left -= u32::try_from(part).unwrap_or(*left);
        }
        if *left > 0 {
            return None;
        }
        self.block
            .take()
            .map(|(block, _)| Incoming::BlockEnds(block))
    }

    /// Reads once, at most `most` bytes. A block under way is read into its piece, what follows it into our buffer.
    ///
    /// # Errors
    /// `WouldBlock`, or what ends the connection; `UnexpectedEof` when they closed it.
    pub(super) fn read(&mut self, stream: &Stream, most: usize) -> io::Result<usize> {
        self.make_room();
        let end = self.buf.len().min(self.filled.end.saturating_add(most));
        let spare = &mut self.buf[self.filled.end..end];
        let mut read = None;
        if let Some((block, left)) = &mut self.block
            && let Some(range) = span(block, *left)
            && let Some(fetching) = &block.into
        {
            let rest = most.saturating_sub(*left as usize).min(spare.len());
            let into_piece = |target: &mut [u8]| {
                let len = target.len().min(most);
                stream.try_read_vectored(&mut [
                    IoSliceMut::new(&mut target[..len]),
                    IoSliceMut::new(&mut spare[..rest]),
                ])
            };
            read = fetching.fill(self.conn, range, into_piece);
            match &read {
                None => block.into = None,
                Some(Ok(got)) => {
                    let direct = (*got).min(*left as usize);
                    *left -= u32::try_from(direct).unwrap_or(*left);
                    self.filled.end += got - direct;
                }
                Some(Err(_)) => {}
            }
        }
        let got = match read {
            Some(result) => result?,
            None => {
                let got = stream.try_read(spare)?;
                self.filled.end += got;
                got
            }
        };
        if got == 0 {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(got)
        }
    }

    /// Room at the end of the buffer: moved to the front, or grown when one frame fills all of it.
    fn make_room(&mut self) {
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.filled.end == self.buf.len() {
            if self.filled.start > 0 {
                self.buf.copy_within(self.filled.clone(), 0);
                self.filled = 0..self.filled.len();
            } else {
                let double = self.buf.len() * 2;
                self.buf.resize(double, 0);
            }
        }
    }
}

/// Where in the piece the rest of the block goes.
fn span(block: &Block, left: u32) -> Option<Range<u32>> {
    let end = block.at.begin.checked_add(block.at.length)?;
    Some(end.checked_sub(left)?..end)
}
