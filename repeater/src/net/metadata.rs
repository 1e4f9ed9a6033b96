//! `ut_metadata` (BEP 9): serving our info dictionary, fetching that of a magnet link.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_wire::extension::{Added, MetadataAssembler, MetadataMessage, metadata_piece};
use bt_wire::metainfo::Metainfo;
use bytes::Bytes;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};
use swarm_core::io::ConnId;

use crate::swarms::{Swarm, Torrent};

/// Requests to one peer under way.
const PIPELINE: usize = 4;
/// Without a piece for this long, somebody else is asked.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often we serve each metadata piece on one connection.
const COPIES: usize = 3;
/// Addresses remembered that gave wrong metadata.
const MAX_LIARS: usize = 64;

/// One connection at a time fetches a swarm's metadata, so that lies cost memory once.
#[derive(Debug, Default)]
pub(crate) struct MetadataTurn(Mutex<Turn>);

#[derive(Debug, Default)]
struct Turn {
    holder: Option<ConnId>,
    liars: VecDeque<IpAddr>,
}

impl MetadataTurn {
    fn take(&self, conn: ConnId, ip: IpAddr) -> bool {
        let mut turn = self.0.lock();
        if turn.liars.contains(&ip) || turn.holder.is_some_and(|holder| holder != conn) {
            return false;
        }
        turn.holder = Some(conn);
        true
    }

    fn give(&self, conn: ConnId) {
        let mut turn = self.0.lock();
        if turn.holder == Some(conn) {
            turn.holder = None;
        }
    }

    fn lied(&self, ip: IpAddr) {
        let mut turn = self.0.lock();
        if turn.liars.len() >= MAX_LIARS {
            turn.liars.pop_front();
        }
        turn.liars.push_back(ip);
    }
}

/// What a connection does about metadata.
#[derive(Debug)]
pub(super) struct Metadata {
    conn: ConnId,
    ip: IpAddr,
    swarm: Arc<Swarm>,
    /// What they said in their extended handshake: their id for `ut_metadata`, and the size.
    theirs: Option<(u8, Option<u32>)>,
    fetch: Option<Fetch>,
    /// They refused, were silent or lied: not asked again on this connection.
    useless: bool,
    served: usize,
}

#[derive(Debug)]
struct Fetch {
    assembler: MetadataAssembler,
    asked: Vec<u32>,
    heard: Instant,
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    /// The swarm's metadata is complete and true.
    Ready,
    /// Wrong data: close.
    Lied,
}

impl Metadata {
    pub(super) fn new(conn: ConnId, ip: IpAddr, swarm: Arc<Swarm>) -> Self {
        Self {
            conn,
            ip,
            swarm,
            theirs: None,
            fetch: None,
            useless: false,
            served: 0,
        }
    }

    pub(super) fn extended(&mut self, id: Option<u8>, size: Option<u32>) {
        self.theirs = id.map(|id| (id, size));
    }

    /// Payloads to send now, under the id with each.
    pub(super) fn poll(&mut self, now: Instant, out: &mut Vec<(u8, Bytes)>) {
        let Some((id, Some(size))) = self.theirs else {
            return;
        };
        if self.swarm.torrent().is_some() || self.useless {
            return;
        }
        if self
            .fetch
            .as_ref()
            .is_some_and(|fetch| now - fetch.heard > PATIENCE)
        {
            metrics::counter!("btslave_metadata_timeouts_total").increment(1);
            return self.give_up();
        }
        if self.fetch.is_none() {
            if !self.swarm.metadata.take(self.conn, self.ip) {
                return;
            }
            let Ok(assembler) = MetadataAssembler::new(size) else {
                return self.give_up();
            };
            self.fetch = Some(Fetch {
                assembler,
                asked: Vec::new(),
                heard: now,
            });
        }
        let Some(fetch) = &mut self.fetch else { return };
        let room = PIPELINE.saturating_sub(fetch.asked.len());
        let wanted: Vec<u32> = fetch
            .assembler
            .missing()
            .filter(|piece| !fetch.asked.contains(piece))
            .take(room)
            .collect();
        for piece in wanted {
            fetch.asked.push(piece);
            out.push((id, MetadataMessage::Request { piece }.encode().into()));
        }
    }

    fn give_up(&mut self) {
        self.useless = true;
        self.fetch = None;
        self.swarm.metadata.give(self.conn);
    }

    /// A message of theirs; answers are appended to `out`.
    pub(super) fn on_message(
        &mut self,
        now: Instant,
        message: MetadataMessage,
        out: &mut Vec<(u8, Bytes)>,
    ) -> Outcome {
        match message {
            MetadataMessage::Request { piece } => {
                if let Some((id, _)) = self.theirs {
                    out.push((id, self.answer(piece).encode().into()));
                }
                Outcome::Nothing
            }
            MetadataMessage::Data {
                piece,
                total_size,
                data,
            } => self.on_data(now, piece, total_size, data),
            MetadataMessage::Reject { .. } => {
                if self.fetch.is_some() {
                    self.give_up();
                }
                Outcome::Nothing
            }
            MetadataMessage::Unknown => Outcome::Nothing,
        }
    }

    fn answer(&mut self, piece: u32) -> MetadataMessage {
        let reject = MetadataMessage::Reject { piece };
        let Some(torrent) = self.swarm.torrent() else {
            return reject;
        };
        let info = &torrent.meta.info_bytes;
        let pieces = info
            .len()
            .div_ceil(bt_wire::extension::METADATA_PIECE as usize);
        if self.served >= pieces * COPIES {
            metrics::counter!("btslave_metadata_over_served_total").increment(1);
            return reject;
        }
        match (metadata_piece(info, piece), u32::try_from(info.len())) {
            (Some(data), Ok(total_size)) => {
                self.served += 1;
                MetadataMessage::Data {
                    piece,
                    total_size,
                    data,
                }
            }
            _ => reject,
        }
    }

    fn on_data(&mut self, now: Instant, piece: u32, total_size: u32, data: Bytes) -> Outcome {
        let Some(fetch) = self
            .fetch
            .as_mut()
            .filter(|fetch| fetch.asked.contains(&piece))
        else {
            metrics::counter!("btslave_metadata_unasked_total").increment(1);
            return Outcome::Nothing;
        };
        fetch.asked.retain(|asked| *asked != piece);
        fetch.heard = now;
        match fetch.assembler.add(piece, total_size, data) {
            Ok(Added::New | Added::Duplicate) => Outcome::Nothing,
            Ok(Added::Complete) => {
                let info = fetch.assembler.assemble().unwrap_or_default();
                self.check(info)
            }
            Err(_) => self.lied(),
        }
    }

    fn check(&mut self, info: Bytes) -> Outcome {
        if <[u8; 20]>::from(Sha1::digest(&info)) != self.swarm.info_hash.0 {
            return self.lied();
        }
        let torrent = Metainfo::from_info(info, self.swarm.trackers())
            .ok()
            .and_then(|meta| Torrent::new(meta).ok());
        self.fetch = None;
        self.swarm.metadata.give(self.conn);
        let Some(torrent) = torrent else {
            // The hash is right: the torrent itself is one we cannot join.
            tracing::warn!(swarm = %self.swarm.info_hash, "the metadata of a magnet link is no torrent we can join");
            metrics::counter!("btslave_metadata_unusable_total").increment(1);
            self.useless = true;
            return Outcome::Nothing;
        };
        if self.swarm.set_torrent(torrent) {
            Outcome::Ready
        } else {
            Outcome::Nothing
        }
    }

    fn lied(&mut self) -> Outcome {
        metrics::counter!("btslave_metadata_wrong_total").increment(1);
        self.swarm.metadata.lied(self.ip);
        self.give_up();
        Outcome::Lied
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.swarm.metadata.give(self.conn);
    }
}
