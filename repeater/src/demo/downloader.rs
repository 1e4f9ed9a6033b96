//! An ordinary BitTorrent downloader, as small as one can be: the demo's leechers, and its master.
//!
//! It knows nothing of BTSlave. It asks whoever unchokes it, serves whoever asks within its upload rate, checks every
//! piece's hash and says HAVE. It is no part of the daemon.

use super::content::DemoTorrent;
use anyhow::{Result, bail};
use bt_wire::bitfield::Bitfield;
use bt_wire::handshake::{self, Handshake, Reserved};
use bt_wire::ids::PeerId;
use bt_wire::layout::{BLOCK, Layout};
use bt_wire::message::{BlockRef, MAX_FRAME, Message};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// Requests kept outstanding with one peer.
const PIPELINE: usize = 32;
/// Messages waiting for one peer's socket.
const OUTBOX: usize = 512;

/// One downloader of one torrent, over any number of connections.
#[derive(Debug)]
pub(super) struct Downloader {
    torrent: DemoTorrent,
    layout: Layout,
    peer_id: PeerId,
    /// Upload rate, bytes/s.
    rate: u64,
    state: Mutex<State>,
    done: watch::Sender<u32>,
}

#[derive(Debug)]
struct State {
    have: Bitfield,
    content: Vec<u8>,
    /// Pieces somebody is asked for, with the connection that was asked.
    asked: BTreeMap<u32, u64>,
    /// Copies seen of each piece.
    copies: Vec<u32>,
    peers: BTreeMap<u64, Outbox>,
    next_peer: u64,
    /// When the upload line is free again.
    line_free: Instant,
    /// Payload sent to others.
    uploaded: u64,
}

/// What waits for one peer's socket. Blocks wait for the upload line, the rest goes first.
#[derive(Debug, Clone)]
struct Outbox {
    control: mpsc::Sender<Message>,
    blocks: mpsc::Sender<(BlockRef, Bytes)>,
}

/// What one connection knows of its far end.
struct Peer {
    number: u64,
    has: Bitfield,
    chokes_us: bool,
    /// Blocks to ask for, in order.
    to_ask: VecDeque<BlockRef>,
    /// Blocks asked for and not here.
    outstanding: usize,
    /// Piece being fetched from it, and the bytes of it that came.
    piece: Option<(u32, u32)>,
    outbox: Outbox,
}

impl Downloader {
    /// Has nothing yet; sends at most `rate` bytes/s.
    pub(super) fn new(torrent: DemoTorrent, number: u8, rate: u64) -> Result<Arc<Self>> {
        let layout = torrent.metainfo.layout()?;
        let mut peer_id = *b"-DM0001-000000000000";
        peer_id[19] = number;
        let state = State {
            have: Bitfield::new(layout.piece_count),
            content: vec![0; torrent.content.len()],
            asked: BTreeMap::new(),
            copies: vec![0; layout.piece_count as usize],
            peers: BTreeMap::new(),
            next_peer: 0,
            line_free: Instant::now(),
            uploaded: 0,
        };
        let (done, _) = watch::channel(0);
        Ok(Arc::new(Self {
            torrent,
            layout,
            peer_id: PeerId(peer_id),
            rate,
            state: Mutex::new(state),
            done,
        }))
    }

    /// Pieces it has, as they come.
    pub(super) fn progress(&self) -> watch::Receiver<u32> {
        self.done.subscribe()
    }

    /// Pieces in all.
    pub(super) fn pieces(&self) -> u32 {
        self.layout.piece_count
    }

    /// Its whole content equals the original.
    pub(super) fn verified(&self) -> bool {
        self.state.lock().content == self.torrent.content
    }

    /// Payload it sent to others, bytes.
    pub(super) fn uploaded(&self) -> u64 {
        self.state.lock().uploaded
    }

    /// Talks to one peer until either side closes. `dialled`: we opened the connection.
    pub(super) async fn talk<S>(self: Arc<Self>, stream: S, dialled: bool) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        self.shake_hands(&mut reader, &mut writer, dialled).await?;
        let (control, controls) = mpsc::channel(OUTBOX);
        let (blocks, blocks_out) = mpsc::channel(OUTBOX);
        let outbox = Outbox { control, blocks };
        let number = self.register(outbox.clone());
        let sender = tokio::spawn(Arc::clone(&self).send_all(writer, controls, blocks_out));
        let mut peer = Peer {
            number,
            has: Bitfield::new(self.layout.piece_count),
            chokes_us: true,
            to_ask: VecDeque::new(),
            outstanding: 0,
            piece: None,
            outbox,
        };
        let result = self.listen(reader, &mut peer).await;
        self.unregister(&peer);
        drop(peer);
        sender.abort();
        result
    }

    async fn shake_hands<R, W>(&self, reader: &mut R, writer: &mut W, dialled: bool) -> Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let info_hash = self.torrent.metainfo.info_hash();
        let ours = Handshake {
            reserved: Reserved::default(),
            info_hash,
            peer_id: self.peer_id,
        };
        if dialled {
            writer.write_all(&ours.encode()).await?;
        }
        let mut bytes = [0; handshake::LENGTH];
        reader.read_exact(&mut bytes).await?;
        if Handshake::decode(&bytes)?.info_hash != info_hash {
            bail!("a hand-shake for another torrent");
        }
        if !dialled {
            writer.write_all(&ours.encode()).await?;
        }
        Ok(())
    }

    fn register(&self, outbox: Outbox) -> u64 {
        let mut state = self.state.lock();
        let number = state.next_peer;
        state.next_peer += 1;
        // An empty outbox takes these; the first message after the hand-shake is the bitfield (BEP 3).
        let bits = state.have.as_bytes().to_vec();
        for message in [
            Message::Bitfield(bits.into()),
            Message::Unchoke,
            Message::Interested,
        ] {
            if outbox.control.try_send(message).is_err() {
                break;
            }
        }
        state.peers.insert(number, outbox);
        number
    }

    fn unregister(&self, peer: &Peer) {
        let mut state = self.state.lock();
        state.peers.remove(&peer.number);
        state.asked.retain(|_, by| *by != peer.number);
        for piece in peer.has.iter_ones() {
            state.copies[piece as usize] -= 1;
        }
    }

    async fn listen<R: AsyncRead + Unpin>(&self, reader: R, peer: &mut Peer) -> Result<()> {
        let codec = LengthDelimitedCodec::builder()
            .max_frame_length(MAX_FRAME as usize)
            .new_codec();
        let mut frames = FramedRead::new(reader, codec);
        // A piece that another connection gave up is picked up again at the next beat.
        let mut beat = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                frame = frames.next() => match frame {
                    Some(frame) => self.hear(Message::parse(frame?.freeze())?, peer)?,
                    None => return Ok(()),
                },
                _ = beat.tick() => {}
            }
            self.ask(peer)?;
        }
    }

    fn hear(&self, message: Message, peer: &mut Peer) -> Result<()> {
        match message {
            Message::Choke => self.give_up(peer),
            Message::Unchoke => peer.chokes_us = false,
            Message::Have(piece) if piece < self.layout.piece_count => self.note_piece(peer, piece),
            Message::Bitfield(bits) => {
                for piece in Bitfield::from_wire(&bits, self.layout.piece_count)?.iter_ones() {
                    self.note_piece(peer, piece);
                }
            }
            Message::Request(block)
                if self.layout.contains(block.piece, block.begin, block.length) =>
            {
                self.answer(block, peer)?;
            }
            Message::Piece { piece, begin, data } => self.take(
                BlockRef {
                    piece,
                    begin,
                    length: data.len() as u32,
                },
                &data,
                peer,
            ),
            // An ordinary downloader without extensions: the rest means nothing to it.
            Message::KeepAlive
            | Message::Interested
            | Message::NotInterested
            | Message::Have(_)
            | Message::Request(_)
            | Message::Cancel(_)
            | Message::Port(_)
            | Message::Suggest(_)
            | Message::HaveAll
            | Message::HaveNone
            | Message::Reject(_)
            | Message::AllowedFast(_)
            | Message::Extended { .. }
            | Message::Unknown { .. } => {}
        }
        Ok(())
    }

    fn note_piece(&self, peer: &mut Peer, piece: u32) {
        if peer.has.set(piece, true) {
            self.state.lock().copies[piece as usize] += 1;
        }
    }

    fn answer(&self, block: BlockRef, peer: &Peer) -> Result<()> {
        let state = self.state.lock();
        if state.have.get(block.piece) {
            let from = self.layout.piece_offset(block.piece) as usize + block.begin as usize;
            let data = self
                .torrent
                .content
                .slice(from..from + block.length as usize);
            drop(state);
            peer.outbox.blocks.try_send((block, data))?;
        }
        Ok(())
    }

    fn take(&self, block: BlockRef, data: &[u8], peer: &mut Peer) {
        peer.outstanding = peer.outstanding.saturating_sub(1);
        let Some((piece, got)) = peer.piece.filter(|(piece, _)| *piece == block.piece) else {
            return;
        };
        if !self.layout.contains(block.piece, block.begin, block.length) {
            return;
        }
        let mut state = self.state.lock();
        let start = self.layout.piece_offset(piece) as usize;
        let from = start + block.begin as usize;
        state.content[from..from + data.len()].copy_from_slice(data);
        let got = got + block.length;
        peer.piece = Some((piece, got));
        let size = self.layout.piece_size(piece);
        if got < size {
            return;
        }
        peer.piece = None;
        state.asked.remove(&piece);
        let good = self.torrent.metainfo.piece_hash(piece)
            == Some(Sha1::digest(&state.content[start..start + size as usize]).into());
        if good && state.have.set(piece, true) {
            state
                .peers
                .retain(|_, outbox| outbox.control.try_send(Message::Have(piece)).is_ok());
            let have = state.have.count_ones();
            drop(state);
            self.done.send_replace(have);
        }
    }

    fn give_up(&self, peer: &mut Peer) {
        peer.chokes_us = true;
        peer.outstanding = 0;
        peer.to_ask.clear();
        if let Some((piece, _)) = peer.piece.take() {
            self.state.lock().asked.remove(&piece);
        }
    }

    /// Rarest first; among equals the one furthest round the circle from where this peer's number points.
    fn choose(&self, peer: &Peer) -> Option<u32> {
        let mut state = self.state.lock();
        let count = self.layout.piece_count;
        let turn = u32::from(self.peer_id.0[19]).wrapping_mul(7919) % count;
        let wanted = peer
            .has
            .iter_missing_in(&state.have)
            .filter(|piece| !state.asked.contains_key(piece));
        let piece = wanted.min_by_key(|piece| {
            (
                state.copies[*piece as usize],
                (piece + count - turn) % count,
            )
        })?;
        state.asked.insert(piece, peer.number);
        Some(piece)
    }

    fn ask(&self, peer: &mut Peer) -> Result<()> {
        if peer.chokes_us {
            return Ok(());
        }
        if peer.piece.is_none()
            && let Some(piece) = self.choose(peer)
        {
            peer.piece = Some((piece, 0));
            let size = self.layout.piece_size(piece);
            let block = |begin| BlockRef {
                piece,
                begin,
                length: BLOCK.min(size - begin),
            };
            peer.to_ask = (0..size).step_by(BLOCK as usize).map(block).collect();
        }
        while peer.outstanding < PIPELINE {
            let Some(block) = peer.to_ask.pop_front() else {
                break;
            };
            peer.outbox.control.try_send(Message::Request(block))?;
            peer.outstanding += 1;
        }
        Ok(())
    }

    async fn send_all<W: AsyncWrite + Unpin>(
        self: Arc<Self>,
        mut writer: W,
        mut control: mpsc::Receiver<Message>,
        mut blocks: mpsc::Receiver<(BlockRef, Bytes)>,
    ) -> Result<()> {
        let mut bytes = BytesMut::new();
        let mut next: Option<(Instant, Message)> = None;
        loop {
            let message = tokio::select! {
                biased;
                message = control.recv() => message,
                () = wait(next.as_ref().map(|(at, _)| *at)), if next.is_some() => next.take().map(|(_, message)| message),
                Some((BlockRef { piece, begin, length }, data)) = blocks.recv(), if next.is_none() => {
                    next = Some((self.book_line(u64::from(length)), Message::Piece { piece, begin, data }));
                    continue;
                }
            };
            let Some(message) = message else {
                return Ok(());
            };
            bytes.clear();
            message.encode(&mut bytes);
            writer.write_all(&bytes).await?;
        }
    }

    /// Books the upload line for `length` bytes and says when they may go.
    fn book_line(&self, length: u64) -> Instant {
        let mut state = self.state.lock();
        let start = state.line_free.max(Instant::now());
        state.line_free = start + Duration::from_secs_f64(length as f64 / self.rate as f64);
        state.uploaded += length;
        start
    }
}

async fn wait(until: Option<Instant>) {
    if let Some(at) = until {
        tokio::time::sleep_until(at).await;
    }
}
