//! A piece on its way in: its buffer, which blocks arrived, the hash so far, who gave.

use std::ops::Range;

use bt_wire::layout::BLOCK;
use parking_lot::Mutex;
use swarm_core::io::{ConnId, Contributor};

use super::Key;
use super::buffer::Buffer;
use super::verify::Verifier;

/// Shared by all connections that fetch blocks of one piece.
#[derive(Debug)]
pub struct Fetching {
    key: Key,
    size: u32,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Gone once the piece is complete or abandoned: what still arrives is redundant.
    buffer: Option<Buffer>,
    arrived: Vec<bool>,
    missing: u32,
    /// Blocks already hashed: all before this one.
    hashed: usize,
    verifier: Option<Verifier>,
    contributors: Vec<Contributor>,
    announce: Vec<ConnId>,
}

/// What a finished block meant.
#[derive(Debug)]
pub enum Arrival {
    /// Others are missing.
    More,
    /// It had arrived before, or the piece is no longer wanted.
    Redundant,
    /// It was the last one: hand this to [`super::Cache::checked`].
    Complete(Complete),
}

/// A complete piece, hash compared.
#[derive(Debug)]
pub struct Complete {
    pub(super) key: Key,
    pub(super) ok: bool,
    pub(super) size: u32,
    pub(super) buffer: Buffer,
    /// Every connection that wrote into the buffer.
    pub contributors: Vec<Contributor>,
    /// Connections that get HAVE at once.
    pub announce: Vec<ConnId>,
}

impl Complete {
    /// Piece index.
    #[must_use]
    pub fn piece(&self) -> u32 {
        self.key.1
    }

    /// Whether the hash matched.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.ok
    }
}

impl Fetching {
    pub(super) fn new(key: Key, size: u32, buffer: Buffer, verifier: Verifier) -> Self {
        let blocks = size.div_ceil(BLOCK);
        let progress = Progress {
            buffer: Some(buffer),
            arrived: vec![false; blocks as usize],
            missing: blocks,
            hashed: 0,
            verifier: Some(verifier),
            contributors: Vec::new(),
            announce: Vec::new(),
        };
        Self {
            key,
            size,
            progress: Mutex::new(progress),
        }
    }

    /// The piece's key.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Complete or abandoned: nothing can be added to it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.progress.lock().buffer.is_none()
    }

    /// Adds connections that shall hear HAVE when the piece verifies.
    pub fn announce_to(&self, conns: &[ConnId]) {
        let mut progress = self.progress.lock();
        for conn in conns {
            if !progress.announce.contains(conn) {
                progress.announce.push(*conn);
            }
        }
    }

    /// The part of `blocks` that is not here yet, cut at both ends. Empty when all of it is.
    #[must_use]
    pub fn missing_part(&self, blocks: Range<u32>) -> Range<u32> {
        let progress = self.progress.lock();
        let here = |block: u32| {
            progress
                .arrived
                .get(block as usize)
                .copied()
                .unwrap_or(true)
        };
        let mut blocks = blocks;
        while !blocks.is_empty() && here(blocks.start) {
            blocks.start += 1;
        }
        while !blocks.is_empty() && here(blocks.end - 1) {
            blocks.end -= 1;
        }
        blocks
    }

    /// Lends the rest of a block, from `begin` bytes into the piece, to `fill`, which says how many bytes it wrote.
    /// `None` if the block is not wanted any more. Whoever writes is a contributor, finished or not.
    pub fn fill<E>(
        &self,
        conn: ConnId,
        range: Range<u32>,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Option<Result<usize, E>> {
        let mut progress = self.progress.lock();
        if *progress.arrived.get((range.start / BLOCK) as usize)? {
            return None;
        }
        progress.contributed(conn, 0);
        let buffer = progress.buffer.as_mut()?;
        let target = buffer
            .bytes
            .get_mut(range.start as usize..range.end as usize)?;
        Some(fill(target))
    }

    /// All bytes of block number `block` were filled in by `conn`: hashes what is contiguous, and tells the piece's fate.
    pub fn finish_block(&self, conn: ConnId, block: u32) -> Arrival {
        let mut guard = self.progress.lock();
        let progress = &mut *guard;
        let at = block as usize;
        if progress.buffer.is_none() || progress.arrived.get(at).is_none_or(|arrived| *arrived) {
            return Arrival::Redundant;
        }
        progress.arrived[at] = true;
        progress.missing -= 1;
        let begins = block.saturating_mul(BLOCK);
        progress.contributed(conn, self.size.saturating_sub(begins).min(BLOCK));
        progress.advance(self.size);
        if progress.missing > 0 {
            return Arrival::More;
        }
        match (progress.buffer.take(), progress.verifier.take()) {
            (Some(buffer), Some(verifier)) => Arrival::Complete(Complete {
                key: self.key,
                ok: verifier.matches(),
                size: self.size,
                buffer,
                contributors: std::mem::take(&mut progress.contributors),
                announce: std::mem::take(&mut progress.announce),
            }),
            _ => Arrival::Redundant,
        }
    }

    /// Throws the buffer away; what still arrives is redundant.
    pub(super) fn abandon(&self) {
        let buffer = self.progress.lock().buffer.take();
        drop(buffer);
    }
}

impl Progress {
    fn contributed(&mut self, conn: ConnId, bytes: u32) {
        match self.contributors.iter_mut().find(|one| one.conn == conn) {
            Some(one) => one.bytes += bytes,
            None => self.contributors.push(Contributor { conn, bytes }),
        }
    }

    /// Hashes the blocks that have become contiguous.
    fn advance(&mut self, size: u32) {
        let (Some(buffer), Some(verifier)) = (&self.buffer, &mut self.verifier) else {
            return;
        };
        let from = self.hashed;
        while self.arrived.get(self.hashed).copied().unwrap_or(false) {
            self.hashed += 1;
        }
        let block = BLOCK as usize;
        let end = (self.hashed * block).min(size as usize);
        if let Some(fresh) = buffer.bytes.get(from * block..end) {
            verifier.update(fresh);
        }
    }
}
