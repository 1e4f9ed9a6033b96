//! Messages of the peer wire: BEP 3, BEP 5's port, the Fast extension (BEP 6), the extension protocol (BEP 10).
//!
//! A frame is what follows the four length bytes. Parsing slices it and copies nothing, so a block is copied once, from
//! the socket; [`piece_header`] lets it go out without being copied again.

use bytes::{BufMut, Bytes, BytesMut};

/// Longest frame we read, in bytes: 1 MiB and a block's header.
pub const MAX_FRAME: u32 = (1 << 20) + 9;
/// Longest block we accept in a request or send, in bytes. We ask for 16 KiB ([`crate::layout::BLOCK`]).
pub const MAX_BLOCK: u32 = 128 << 10;
/// Bytes of a piece message before its block: length, id, piece, begin.
pub const PIECE_HEADER: usize = 13;

/// A block's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    /// Piece index.
    pub piece: u32,
    /// Bytes from the piece's start.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

/// A message. Indices are not checked against any torrent here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An empty frame.
    KeepAlive,
    /// 0: the sender will not serve.
    Choke,
    /// 1: the sender will serve.
    Unchoke,
    /// 2: the sender wants something.
    Interested,
    /// 3: the sender wants nothing.
    NotInterested,
    /// 4: the sender has this piece now.
    Have(u32),
    /// 5: what the sender has; check it with [`crate::bitfield::Bitfield::from_wire`].
    Bitfield(Bytes),
    /// 6: asks for a block.
    Request(BlockRef),
    /// 7: a block.
    Piece {
        /// Piece index.
        piece: u32,
        /// Bytes from the piece's start.
        begin: u32,
        /// The block, 1 byte to [`MAX_BLOCK`].
        data: Bytes,
    },
    /// 8: takes a request back.
    Cancel(BlockRef),
    /// 9: the sender's DHT port (BEP 5).
    Port(u16),
    /// 13: suggests a piece (BEP 6).
    Suggest(u32),
    /// 14: the sender has everything (BEP 6).
    HaveAll,
    /// 15: the sender has nothing (BEP 6).
    HaveNone,
    /// 16: the request will not be served (BEP 6).
    Reject(BlockRef),
    /// 17: this piece may be asked for even while choked (BEP 6).
    AllowedFast(u32),
    /// 20: a message of the extension protocol (BEP 10); id 0 is its handshake.
    Extended {
        /// Which, by the receiver's own numbering.
        id: u8,
        /// The rest.
        payload: Bytes,
    },
    /// An id we do not know. To be ignored.
    Unknown {
        /// The id.
        id: u8,
    },
}

/// The peer broke the protocol: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The announced length is over [`MAX_FRAME`] (row B1).
    #[error("a frame of {0} bytes is over the limit")]
    FrameTooLong(u32),
    /// The frame's length does not fit its id.
    #[error("message {id} of {length} bytes")]
    WrongLength {
        /// Message id.
        id: u8,
        /// Bytes in the frame, the id included.
        length: usize,
    },
    /// A block of no bytes, over [`MAX_BLOCK`], or reaching past 4 GiB (row B4).
    #[error("message {id} names an impossible block")]
    BadBlock {
        /// Message id.
        id: u8,
    },
}

/// The length in a frame's four-byte prefix.
///
/// # Errors
/// Over [`MAX_FRAME`]: nothing more may be read from this peer.
pub fn frame_length(prefix: [u8; 4]) -> Result<u32, MessageError> {
    let length = u32::from_be_bytes(prefix);
    if length > MAX_FRAME {
        Err(MessageError::FrameTooLong(length))
    } else {
        Ok(length)
    }
}

/// What comes before the `length` bytes of a block on the wire. `length` is at most [`MAX_BLOCK`].
#[must_use]
pub fn piece_header(piece: u32, begin: u32, length: u32) -> [u8; PIECE_HEADER] {
    let mut out = [0; PIECE_HEADER];
    out[..4].copy_from_slice(&length.saturating_add(9).to_be_bytes());
    out[4] = 7;
    out[5..9].copy_from_slice(&piece.to_be_bytes());
    out[9..].copy_from_slice(&begin.to_be_bytes());
    out
}

impl BlockRef {
    fn parse(id: u8, body: &[u8]) -> Result<Self, MessageError> {
        let Some(&[p0, p1, p2, p3, b0, b1, b2, b3, l0, l1, l2, l3]) = body.as_array::<12>() else {
            return Err(MessageError::WrongLength {
                id,
                length: body.len() + 1,
            });
        };
        let block = Self {
            piece: u32::from_be_bytes([p0, p1, p2, p3]),
            begin: u32::from_be_bytes([b0, b1, b2, b3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        };
        let sound = (1..=MAX_BLOCK).contains(&block.length)
            && block.begin.checked_add(block.length).is_some();
        if sound {
            Ok(block)
        } else {
            Err(MessageError::BadBlock { id })
        }
    }
}

impl Message {
    /// Reads a frame, without its length prefix.
    ///
    /// # Errors
    /// Lengths that do not fit the id, impossible blocks.
    pub fn parse(frame: Bytes) -> Result<Self, MessageError> {
        let Some((&id, body)) = frame.split_first() else {
            return Ok(Self::KeepAlive);
        };
        let bare = |message| {
            if body.is_empty() {
                Ok(message)
            } else {
                Err(wrong_length(id, &frame))
            }
        };
        let index = || {
            body.as_array()
                .map(|bytes| u32::from_be_bytes(*bytes))
                .ok_or(wrong_length(id, &frame))
        };
        match id {
            0 => bare(Self::Choke),
            1 => bare(Self::Unchoke),
            2 => bare(Self::Interested),
            3 => bare(Self::NotInterested),
            4 => index().map(Self::Have),
            5 => Ok(Self::Bitfield(frame.slice(1..))),
            6 => BlockRef::parse(id, body).map(Self::Request),
            7 => parse_piece(&frame),
            8 => BlockRef::parse(id, body).map(Self::Cancel),
            9 => match body {
                &[high, low] => Ok(Self::Port(u16::from_be_bytes([high, low]))),
                _ => Err(wrong_length(id, &frame)),
            },
            13 => index().map(Self::Suggest),
            14 => bare(Self::HaveAll),
            15 => bare(Self::HaveNone),
            16 => BlockRef::parse(id, body).map(Self::Reject),
            17 => index().map(Self::AllowedFast),
            20 => match body.first() {
                Some(&id) => Ok(Self::Extended {
                    id,
                    payload: frame.slice(2..),
                }),
                None => Err(wrong_length(id, &frame)),
            },
            id => Ok(Self::Unknown { id }),
        }
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => put_bare(out, 0),
            Self::Unchoke => put_bare(out, 1),
            Self::Interested => put_bare(out, 2),
            Self::NotInterested => put_bare(out, 3),
            Self::Have(index) => put_index(out, 4, *index),
            Self::Bitfield(bits) => put_bytes(out, &[5], bits),
            Self::Request(block) => put_block(out, 6, *block),
            Self::Piece { piece, begin, data } => {
                out.put_slice(&piece_header(*piece, *begin, length_of(data.len())));
                out.put_slice(data);
            }
            Self::Cancel(block) => put_block(out, 8, *block),
            Self::Port(port) => put_bytes(out, &[9], &port.to_be_bytes()),
            Self::Suggest(index) => put_index(out, 13, *index),
            Self::HaveAll => put_bare(out, 14),
            Self::HaveNone => put_bare(out, 15),
            Self::Reject(block) => put_block(out, 16, *block),
            Self::AllowedFast(index) => put_index(out, 17, *index),
            Self::Extended { id, payload } => put_bytes(out, &[20, *id], payload),
            Self::Unknown { id } => put_bare(out, *id),
        }
    }
}

fn parse_piece(frame: &Bytes) -> Result<Message, MessageError> {
    let Some(&[_, p0, p1, p2, p3, b0, b1, b2, b3]) = frame.first_chunk::<9>() else {
        return Err(wrong_length(7, frame));
    };
    let piece = u32::from_be_bytes([p0, p1, p2, p3]);
    let begin = u32::from_be_bytes([b0, b1, b2, b3]);
    let data = frame.slice(9..);
    let length = length_of(data.len());
    if (1..=MAX_BLOCK).contains(&length) && begin.checked_add(length).is_some() {
        Ok(Message::Piece { piece, begin, data })
    } else {
        Err(MessageError::BadBlock { id: 7 })
    }
}

fn wrong_length(id: u8, frame: &Bytes) -> MessageError {
    MessageError::WrongLength {
        id,
        length: frame.len(),
    }
}

/// Our own payloads are far below 4 GiB; a longer one becomes a frame that any peer refuses.
fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn put_bare(out: &mut BytesMut, id: u8) {
    out.put_slice(&[0, 0, 0, 1, id]);
}

fn put_index(out: &mut BytesMut, id: u8, index: u32) {
    put_bytes(out, &[id], &index.to_be_bytes());
}

fn put_block(out: &mut BytesMut, id: u8, block: BlockRef) {
    out.reserve(17);
    out.put_slice(&[0, 0, 0, 13, id]);
    out.put_u32(block.piece);
    out.put_u32(block.begin);
    out.put_u32(block.length);
}

fn put_bytes(out: &mut BytesMut, head: &[u8], body: &[u8]) {
    out.reserve(4 + head.len() + body.len());
    out.put_u32(length_of(head.len() + body.len()));
    out.put_slice(head);
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(frame: &[u8]) -> Result<Message, MessageError> {
        Message::parse(Bytes::copy_from_slice(frame))
    }

    #[test]
    fn b1_a_length_bomb_is_refused_by_its_header() {
        assert_eq!(
            frame_length([0xff; 4]),
            Err(MessageError::FrameTooLong(u32::MAX))
        );
        assert_eq!(
            frame_length((MAX_FRAME + 1).to_be_bytes()),
            Err(MessageError::FrameTooLong(MAX_FRAME + 1))
        );
        assert_eq!(frame_length(MAX_FRAME.to_be_bytes()), Ok(MAX_FRAME));
        assert!(
            crate::layout::MAX_PIECES.div_ceil(8) < MAX_FRAME,
            "every bitfield fits a frame"
        );
    }

    #[test]
    fn b4_impossible_blocks_are_refused() {
        let request = |begin: u32, length: u32| {
            let mut frame = vec![6, 0, 0, 0, 0];
            frame.extend(begin.to_be_bytes());
            frame.extend(length.to_be_bytes());
            parse(&frame)
        };
        for (begin, length) in [
            (0xffff_c000, 0x8000),
            (0, 0),
            (0, MAX_BLOCK + 1),
            (u32::MAX, 1),
        ] {
            assert_eq!(
                request(begin, length),
                Err(MessageError::BadBlock { id: 6 }),
                "{begin:x} {length:x}"
            );
        }
        assert!(request(0, MAX_BLOCK).is_ok());
        assert_eq!(
            parse(&[7, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(MessageError::BadBlock { id: 7 })
        );
        let mut long = vec![7, 0, 0, 0, 0, 0, 0, 0, 0];
        long.resize(9 + MAX_BLOCK as usize, 1);
        assert!(parse(&long).is_ok());
        long.push(1);
        assert_eq!(parse(&long), Err(MessageError::BadBlock { id: 7 }));
    }

    #[test]
    fn wrong_lengths_are_refused_and_unknown_ids_pass() {
        for frame in [
            &[0, 1][..],
            &[3, 0],
            &[4, 0, 0, 0],
            &[6, 0],
            &[7, 0],
            &[9, 1],
            &[14, 0],
            &[17],
            &[20],
        ] {
            let want = MessageError::WrongLength {
                id: frame[0],
                length: frame.len(),
            };
            assert_eq!(parse(frame), Err(want), "{frame:?}");
        }
        assert_eq!(parse(&[21, 1, 2, 3]), Ok(Message::Unknown { id: 21 }));
        assert_eq!(parse(&[]), Ok(Message::KeepAlive));
    }

    #[test]
    fn a_block_is_not_copied() {
        let frame = Bytes::from(vec![7, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9]);
        let inside = frame.as_ptr_range();
        let Ok(Message::Piece { data, .. }) = Message::parse(frame.clone()) else {
            panic!("a piece")
        };
        assert!(inside.contains(&data.as_ptr()));
    }

    fn block() -> impl Strategy<Value = BlockRef> {
        (any::<u32>(), 0u32..=u32::MAX - MAX_BLOCK, 1..=MAX_BLOCK).prop_map(
            |(piece, begin, length)| BlockRef {
                piece,
                begin,
                length,
            },
        )
    }

    fn payload() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 1..300).prop_map(Bytes::from)
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            prop::sample::select(vec![
                Message::KeepAlive,
                Message::Choke,
                Message::Unchoke,
                Message::Interested,
                Message::NotInterested,
                Message::HaveAll,
                Message::HaveNone,
                Message::Unknown { id: 99 },
            ]),
            any::<u32>().prop_map(Message::Have),
            any::<u32>().prop_map(Message::Suggest),
            any::<u32>().prop_map(Message::AllowedFast),
            any::<u16>().prop_map(Message::Port),
            block().prop_map(Message::Request),
            block().prop_map(Message::Cancel),
            block().prop_map(Message::Reject),
            payload().prop_map(Message::Bitfield),
            (any::<u8>(), payload()).prop_map(|(id, payload)| Message::Extended { id, payload }),
            (any::<u32>(), 0u32..1 << 30, payload())
                .prop_map(|(piece, begin, data)| Message::Piece { piece, begin, data }),
        ]
    }

    proptest! {
        #[test]
        fn round_trips(message in message()) {
            let mut out = BytesMut::new();
            message.encode(&mut out);
            let frame = out.split_off(4).freeze();
            let mut prefix = [0; 4];
            prefix.copy_from_slice(&out);
            prop_assert_eq!(frame_length(prefix), Ok(frame.len() as u32));
            prop_assert_eq!(Message::parse(frame), Ok(message));
        }

        #[test]
        fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&junk);
        }
    }
}
