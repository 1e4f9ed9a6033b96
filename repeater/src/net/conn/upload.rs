//! The giving half of a connection: from the session's queue through cache and bucket to the socket.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bt_wire::message::{BlockRef, PIECE_HEADER};
use bytes::Bytes;
use swarm_core::io::CloseReason;
use swarm_core::time::Timestamp;

use super::Conn;
use crate::cache::{Lookup, Wanted};

/// Blocks of one connection that may be on their way from the disk tier.
const MAX_READS: usize = 8;
/// Most bytes asked of the bucket tree at once.
const MAX_ASK: u64 = 256 * 1024;

/// What a socket took: nothing if it is full.
fn taken(written: io::Result<usize>) -> Result<usize, CloseReason> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other.map_err(|_| CloseReason::Remote),
    }
}

impl Conn {
    /// Moves what the session has to say into the writer: messages first, then blocks as the line allows.
    pub(super) fn transmit(&mut self) {
        let now = self.now();
        loop {
            loop {
                if !self.writer.has_room_for_messages() {
                    return;
                }
                let Some(message) = self.session.poll_message(now) else {
                    break;
                };
                self.writer.message(&message);
            }
            if !self.writer.has_room_for_blocks() || self.reading + self.later.len() >= MAX_READS {
                return;
            }
            let Some(length) = self.session.next_block_len() else {
                return self.hand_back();
            };
            if !self.may_send(length) {
                return;
            }
            let Some(block) = self.session.poll_block() else {
                return;
            };
            self.send_block(now, block);
        }
    }

    /// Whether a block may go now; if not, the grant comes by mail.
    fn may_send(&mut self, length: u32) -> bool {
        let line = &self.net.meter.up;
        if !line.is_limited() {
            return true;
        }
        let need = length.saturating_add(PIECE_HEADER as u32);
        if self.up.granted < need && self.up.asked == 0 {
            let all = self
                .session
                .upload_backlog()
                .clamp(need.into(), MAX_ASK.max(need.into()));
            let ask = u32::try_from(all)
                .unwrap_or(need)
                .saturating_sub(self.up.granted);
            let granted = line.request(self.id, ask);
            self.up.granted += granted;
            self.up.asked = ask - granted;
        }
        if self.up.granted < need {
            return false;
        }
        self.up.granted -= need;
        true
    }

    /// Nothing is queued: what the line granted for requests that were taken back or choked away is others'. Kept, it would
    /// go out over the limit some day, and the line would be behind by it.
    fn hand_back(&mut self) {
        let (line, up) = (&self.net.meter.up, std::mem::take(&mut self.up));
        line.refund(up.granted);
        if up.asked > 0 {
            self.up.granted = line.request(self.id, 0);
        }
    }

    fn send_block(&mut self, now: Timestamp, block: BlockRef) {
        if let Some(kept) = self.swarm.kept() {
            if self
                .kept
                .as_ref()
                .is_none_or(|(piece, _)| *piece != block.piece)
            {
                self.kept = kept
                    .read(block.piece)
                    .ok()
                    .map(|bytes| (block.piece, bytes));
            }
            let (begin, end) = (
                block.begin as usize,
                block.begin as usize + block.length as usize,
            );
            match &self.kept {
                Some((_, bytes)) if end <= bytes.len() => {
                    self.writer.block(block, bytes.slice(begin..end))
                }
                Some(_) | None => self.session.block_unavailable(now, block),
            }
            return;
        }
        let wanted = Wanted {
            key: (self.swarm.id, block.piece),
            begin: block.begin,
            len: block.length,
        };
        match self.net.cache.block(wanted, &self.waiter) {
            Lookup::Here(bytes) => self.writer.block(block, bytes),
            Lookup::Reading => self.reading += 1,
            Lookup::Later => self.later.push(block),
            Lookup::Gone => self.session.block_unavailable(now, block),
        }
    }

    /// The disk tier answered.
    pub(super) fn block_was_read(&mut self, now: Timestamp, wanted: Wanted, bytes: Option<Bytes>) {
        self.reading = self.reading.saturating_sub(1);
        let block = BlockRef {
            piece: wanted.key.1,
            begin: wanted.begin,
            length: wanted.len,
        };
        match bytes {
            // Withdrawn meanwhile: the request was answered by a reject already.
            Some(_) if !self.session.announced().get(block.piece) => {}
            Some(bytes) => self.writer.block(block, bytes),
            None => self.session.block_unavailable(now, block),
        }
    }

    /// The disk tier may read again.
    pub(super) fn retry_later(&mut self, now: Timestamp) {
        for block in std::mem::take(&mut self.later) {
            self.send_block(now, block);
        }
    }

    /// Writes what the socket takes, within the allowance. True if it took something.
    pub(super) fn write(&mut self) -> Result<bool, CloseReason> {
        if self.writer.is_empty() {
            self.blocked = None;
            return Ok(false);
        }
        let took = self.net.allowance.take(self.writer.len() as u64);
        if took == 0 {
            (self.dry, self.blocked) = (true, None);
            return Ok(false);
        }
        let written = self.write_some(usize::try_from(took).unwrap_or(usize::MAX));
        let all = self.writer.take_written();
        self.net.settle(took, all as u64);
        if written? {
            self.blocked = None;
        } else {
            self.blocked.get_or_insert_with(Instant::now);
        }
        let overhead = self.writer.take_overhead();
        if overhead > 0 {
            self.net
                .meter
                .up
                .spend(self.id, u32::try_from(overhead).unwrap_or(u32::MAX));
        }
        if self.writer.messages_are_out()
            && let Some(since) = self.forwarding.take()
        {
            let name = if self.master {
                "btslave_forward_seconds"
            } else {
                "btslave_announce_seconds"
            };
            metrics::histogram!(name).record(since.elapsed());
        }
        if !self.done.is_empty() {
            let now = self.now();
            for block in self.done.drain(..) {
                self.net
                    .counters
                    .up
                    .fetch_add(block.length.into(), Ordering::Relaxed);
                self.session.wrote_block(now, block);
            }
        }
        Ok(all > 0)
    }

    /// True if the socket took something of what is written in order.
    fn write_some(&mut self, most: usize) -> Result<bool, CloseReason> {
        let wrote = taken(self.writer.write(&self.stream, most, &mut self.done))?;
        let urgent = self
            .writer
            .write_urgent(&self.stream, most - wrote, &mut self.done);
        taken(urgent)?;
        Ok(wrote > 0)
    }
}
