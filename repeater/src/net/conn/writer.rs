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
    /// Bytes written and not yet taken by [`Writer::take_written`].
    written: usize,
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

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.block_bytes + self.control_bytes + self.queue.len() * PIECE_HEADER
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

    /// A message. It goes ahead of blocks that wait (not of other messages): what it says is news to the peer, and HAVE
    /// and requests are what the speed of the whole path hangs on. A choke alone stays behind them: who does not speak
    /// BEP 6 gives up at a choke what it has asked for, and those blocks would be wasted.
    pub(super) fn message(&mut self, message: &Message) {
        message.encode(&mut self.scratch);
        let bytes = self.scratch.split().freeze();
        self.control_bytes += bytes.len();
        let mut at = self.queue.len();
        if !matches!(message, Message::Choke) {
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

    /// Writes as much as the socket takes, at most `most` bytes. Blocks that went out whole are appended to `done`.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full, or what ends the connection.
    pub(super) fn write(
        &mut self,
        stream: &Stream,
        most: usize,
        done: &mut Vec<BlockRef>,
    ) -> io::Result<usize> {
        let mut all = 0;
        while !self.queue.is_empty() && all < most {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.gather(&mut slices, most - all, |_| true);
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

    /// Writes the messages at the head of the queue, and before them what remains of a block that was begun, although
    /// the socket took no more blocks, at most `most` bytes: a peer that is slow to read finds the HAVE right behind what it is reading.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub(super) fn write_urgent(
        &mut self,
        stream: &Stream,
        most: usize,
        done: &mut Vec<BlockRef>,
    ) -> io::Result<usize> {
        if !self.head_has_message() || most == 0 {
            return Ok(0);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.gather(&mut slices, most, |chunk| {
            !matches!(chunk, Chunk::Block { sent: 0, .. })
        });
        let wrote = stream.try_write_urgent(&slices[..count])?;
        self.advance(wrote, done);
        Ok(wrote)
    }

    /// The head of the queue, as long as the chunks are of this kind and `most` bytes last. Returns how many slices
    /// were filled.
    fn gather<'a>(
        &'a self,
        slices: &mut [IoSlice<'a>; SLICES],
        most: usize,
        kind: impl Fn(&Chunk) -> bool,
    ) -> usize {
        let (mut count, mut room) = (0, most);
        let mut add = |bytes: &'a [u8]| {
            let part = bytes.len().min(room);
            room -= part;
            if let Some(slice) = slices.get_mut(count).filter(|_| part > 0) {
                *slice = IoSlice::new(&bytes[..part]);
                count += 1;
            }
            count + 1 < SLICES && room > 0
        };
        for chunk in self.queue.iter().take_while(|chunk| kind(chunk)) {
            let more = match chunk {
                Chunk::Small(bytes) => add(bytes),
                Chunk::Block {
                    header,
                    sent,
                    bytes,
                    ..
                } => add(&header[(*sent).min(PIECE_HEADER)..]) && add(bytes),
            };
            if !more {
                break;
            }
        }
        count
    }

    /// A message waits for nothing but the rest of a block that was begun.
    fn head_has_message(&self) -> bool {
        let begun = |chunk: &Chunk| matches!(chunk, Chunk::Block { sent, .. } if *sent > 0);
        let at = usize::from(self.queue.front().is_some_and(begun));
        matches!(self.queue.get(at), Some(Chunk::Small(_)))
    }

    fn advance(&mut self, mut wrote: usize, done: &mut Vec<BlockRef>) {
        self.written += wrote;
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

    /// Bytes written since the last call.
    pub(super) fn take_written(&mut self) -> usize {
        std::mem::take(&mut self.written)
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
    fn messages_but_a_choke_overtake_waiting_blocks_and_nothing_else() {
        let mut writer = Writer::default();
        let payload = Bytes::from(vec![1; 100]);
        writer.block(block(1), payload.clone());
        writer.block(block(2), payload.clone());
        writer.message(&Message::Choke);
        writer.block(block(3), payload.clone());
        writer.message(&Message::Have(9));
        writer.message(&Message::Reject(block(7)));
        assert_eq!(kinds(&writer), [1, 2, 100, 104, 116, 3]);
        let mut done = Vec::new();
        writer.advance(113 + 20, &mut done);
        writer.message(&Message::Have(10));
        assert_eq!(done, [block(1)]);
        assert_eq!(kinds(&writer), [2, 100, 104, 116, 104, 3]);
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

    /// Fills a socket whose far end does not read; then, of what the far end reads at last, the messages in order.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn have_goes_out_although_the_peer_reads_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        let (stream, (mut far, _)) = (Stream::tcp(near.unwrap()).unwrap(), far.unwrap());
        let (mut writer, mut done) = (Writer::default(), Vec::new());
        let payload = Bytes::from(vec![0; 16 << 10]);
        let mut blocks = 0;
        let full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        loop {
            while writer.has_room_for_blocks() {
                let block = BlockRef {
                    piece: blocks,
                    begin: 0,
                    length: 16 << 10,
                };
                writer.block(block, payload.clone());
                blocks += 1;
            }
            stream.ready(true, false).await.unwrap();
            match writer.write(&stream, usize::MAX, &mut done) {
                Ok(_) => {}
                Err(error) if full(&error) => break,
                Err(error) => panic!("{error}"),
            }
        }
        writer.message(&Message::Have(7));
        assert!(
            writer
                .write(&stream, usize::MAX, &mut done)
                .is_err_and(|e| full(&e))
        );
        assert!(!writer.messages_are_out());
        writer.write_urgent(&stream, usize::MAX, &mut done).unwrap();
        assert!(writer.messages_are_out());
        let out = done.len();
        assert!(out < blocks as usize, "blocks still wait");
        // Nothing more is taken past the bound for blocks.
        assert_eq!(
            writer.write_urgent(&stream, usize::MAX, &mut done).unwrap(),
            0
        );

        let mut expected = vec![0; out * (PIECE_HEADER + (16 << 10)) + 9];
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut expected)
            .await
            .unwrap();
        assert_eq!(expected[expected.len() - 9..], [0, 0, 0, 5, 4, 0, 0, 0, 7]);
        // The socket is awaited as before: what waits goes out as the far end reads.
        let rest = tokio::spawn(async move {
            let mut rest = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut far, &mut rest)
                .await
                .map(|_| rest.len())
        });
        while !writer.is_empty() {
            stream.ready(true, false).await.unwrap();
            match writer.write(&stream, usize::MAX, &mut done) {
                Ok(_) => {}
                Err(error) => assert!(full(&error), "{error}"),
            }
        }
        drop(stream);
        let sent = (done.len() - out) * (PIECE_HEADER + (16 << 10));
        assert_eq!(rest.await.unwrap().unwrap(), sent);
        assert_eq!(done.len(), blocks as usize);
    }
}
