//! The taking half of a connection: from the socket into the buffers of the pieces, and their permits.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use swarm_core::io::{CloseReason, ConnFact, Fetch, LeaseEnd, Order};
use swarm_core::session::BlockVerdict;
use swarm_core::time::Timestamp;

use super::Conn;
use super::reader::{Block, Incoming};
use crate::cache::{Arrival, Begin, Complete};

/// Bytes read in one turn, so that orders and writing get theirs.
const BURST: usize = 256 * 1024;
/// Bytes asked of the bucket tree at once.
const ASK: u32 = 64 * 1024;
/// A lease that got no permit for this long goes back to the brain.
const PERMIT_PATIENCE: Duration = Duration::from_secs(5);

impl Conn {
    /// A lease: begins once the cache has a permit for its piece.
    pub(super) fn fetch(&mut self, now: Timestamp, fetch: Fetch) {
        self.try_fetch(now, Instant::now() + PERMIT_PATIENCE, fetch);
    }

    fn try_fetch(&mut self, now: Timestamp, until: Instant, fetch: Fetch) {
        let piece = fetch.piece;
        let Some((torrent, hash)) = self
            .torrent
            .as_ref()
            .and_then(|t| Some((t, t.piece_hash(piece)?)))
        else {
            return self.session.lease_lost(now, piece, LeaseEnd::NoRoom);
        };
        let (size, length) = (
            torrent.layout.piece_size(piece),
            torrent.layout.piece_length,
        );
        match self
            .net
            .cache
            .begin((self.swarm.id, piece), size, length, hash, &self.waiter)
        {
            Ok(Begin::Ready(fetching)) => {
                fetching.announce_to(&fetch.announce);
                let blocks = fetching.missing_part(fetch.blocks.clone());
                if blocks.is_empty() {
                    self.facts.push(ConnFact::LeaseDone { piece });
                    return;
                }
                self.leases.insert(piece, fetching);
                self.session
                    .on_order(now, Order::Fetch(Fetch { blocks, ..fetch }));
            }
            Ok(Begin::Wait) => self.waiting.push_back((until, fetch)),
            Ok(Begin::NoRoom) | Err(_) => {
                metrics::counter!("btslave_cache_no_room_total").increment(1);
                self.session.lease_lost(now, piece, LeaseEnd::NoRoom);
            }
        }
    }

    /// The cache may have room: those who waited ask again.
    pub(super) fn room(&mut self, now: Timestamp) {
        for (until, fetch) in std::mem::take(&mut self.waiting) {
            self.try_fetch(now, until, fetch);
        }
        self.retry_later(now);
    }

    pub(super) fn expire_waiting(&mut self, now: Timestamp) {
        while self
            .waiting
            .front()
            .is_some_and(|(until, _)| *until <= Instant::now())
        {
            let Some((_, fetch)) = self.waiting.pop_front() else {
                return;
            };
            metrics::counter!("btslave_cache_no_room_total").increment(1);
            self.session.lease_lost(now, fetch.piece, LeaseEnd::NoRoom);
        }
    }

    /// The brain takes a lease back that may still wait for its permit.
    pub(super) fn stop_waiting(&mut self, now: Timestamp, piece: u32) {
        let before = self.waiting.len();
        self.waiting.retain(|(_, fetch)| fetch.piece != piece);
        if self.waiting.len() < before && !self.leases.contains_key(&piece) {
            self.session.lease_lost(now, piece, LeaseEnd::Revoked);
        }
    }

    /// Whether the download limit lets us read now; if not, the grant comes by mail.
    pub(super) fn may_read(&mut self) -> bool {
        let line = &self.net.meter.down;
        if !line.is_limited() {
            return true;
        }
        if self.down.granted == 0 && self.down.asked == 0 {
            self.down.granted = line.request(self.id, ASK);
            self.down.asked = ASK - self.down.granted;
        }
        self.down.granted > 0
    }

    /// Reads what is there, up to a burst and within the allowance. True if there was something.
    pub(super) fn read(&mut self) -> Result<bool, CloseReason> {
        let mut read = 0;
        while read < BURST && !self.polite {
            if !self.may_read() {
                break;
            }
            let limited = self.net.meter.down.is_limited();
            let most = if limited {
                self.down.granted as usize
            } else {
                BURST
            };
            let took = self.net.allowance.take(most as u64);
            if took == 0 {
                self.dry = true;
                break;
            }
            let most = usize::try_from(took).unwrap_or(most);
            let result = self.reader.read(&self.stream, most);
            let got = result.as_ref().map_or(0, |got| *got);
            self.net.settle(took, got as u64);
            match result {
                Ok(got) => {
                    read += got;
                    if limited {
                        self.down.granted = self
                            .down
                            .granted
                            .saturating_sub(u32::try_from(got).unwrap_or(u32::MAX));
                    }
                    self.take_incoming()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(CloseReason::Remote),
            }
        }
        Ok(read > 0)
    }

    fn take_incoming(&mut self) -> Result<(), CloseReason> {
        let now = self.now();
        loop {
            let incoming = match self.reader.next() {
                Ok(Some(incoming)) => incoming,
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::debug!(conn = self.id.0, addr = %self.addr, %error, "closed");
                    metrics::counter!("btslave_violations_total", "kind" => "bad_frame")
                        .increment(1);
                    return Err(CloseReason::Protocol);
                }
            };
            match incoming {
                Incoming::Message(message) => {
                    tracing::trace!(conn = self.id.0, ?message, "received");
                    self.session
                        .on_message(now, message)
                        .map_err(|violation| self.violated(&violation))?;
                }
                Incoming::BlockBegins(at) => {
                    let verdict = self
                        .session
                        .on_block(now, at)
                        .map_err(|violation| self.violated(&violation))?;
                    let wanted = verdict == BlockVerdict::Wanted;
                    let into = if wanted {
                        self.leases.get(&at.piece).cloned()
                    } else {
                        None
                    };
                    self.reader.block_goes(Block { at, into });
                }
                Incoming::BlockEnds(block) => self.block_ends(block),
            }
        }
    }

    fn block_ends(&mut self, block: Block) {
        self.net
            .counters
            .down
            .fetch_add(block.at.length.into(), Ordering::Relaxed);
        let Some(fetching) = block.into else { return };
        match fetching.finish_block(self.id, block.at.begin / bt_wire::layout::BLOCK) {
            Arrival::More => {}
            Arrival::Redundant => metrics::counter!("btslave_blocks_late_total").increment(1),
            Arrival::Complete(complete) => self.complete(complete, Instant::now()),
        }
    }

    /// The last block of a piece came in here: HAVE goes from here straight to those who wait for it.
    fn complete(&mut self, mut complete: Complete, last_block_in: Instant) {
        let piece = complete.piece();
        let announce = std::mem::take(&mut complete.announce);
        if !complete.ok() {
            metrics::counter!("btslave_hash_failures_total").increment(1);
        }
        if self.net.cache.checked(complete) {
            for conn in announce {
                if let Some(mailbox) = self.net.boxes.get(conn) {
                    mailbox.forward(piece, last_block_in);
                }
            }
            self.polite = true;
        }
    }
}
