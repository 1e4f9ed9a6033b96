//! The bounded piece cache. It counts permits: a piece's buffer is counted from before its first request until the
//! last clone of its bytes is dropped, socket queues included. A piece in memory and on disk counts twice.
//!
//! `absent → fetching → held → retiring → absent`; a key is free again only once [`PieceFact::Released`] was reported.

mod buffer;
mod disk;
mod fetching;
mod kept;
mod tier;
mod verify;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bt_wire::layout::BLOCK;
use bytes::Bytes;
use parking_lot::Mutex;
use swarm_core::io::{PieceFact, SwarmId};
use tokio::sync::Notify;

use buffer::{Buffer, Pool, Purpose};
use disk::{Extent, Extents};
pub use fetching::{Arrival, Complete, Fetching};
pub use kept::{KeptContent, MemoryContent};
use tier::Tier;
pub use verify::{PieceHash, Unsupported, is_piece};

use verify::Verifier;

/// A piece of a swarm.
pub type Key = (SwarmId, u32);

/// Of the memory tier, bytes kept back for reading blocks from disk, where there is a disk tier.
const READ_BACK_RESERVE: u64 = 16 * BLOCK as u64;

/// How large the cache is and where.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// `cache.size`: bytes, memory and disk together.
    pub size: u64,
    /// `cache.memory`: bytes of it in memory.
    pub memory: u64,
    /// `cache.min_free`: the disk tier does not grow while its file system has less than this free, bytes.
    pub min_free: u64,
    /// Where `cache.bin` lies.
    pub data_dir: PathBuf,
}

/// The cache cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use {path} as the cache's disk tier: {cause} (remove it, or set cache.memory to cache.size to do without)"
)]
pub struct CacheError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub cause: io::Error,
}

/// What the cache holds at one moment, bytes of permits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// In memory: pieces in progress and held, clones in socket queues, blocks being read back.
    pub memory_bytes: u64,
    /// On disk.
    pub disk_bytes: u64,
    /// The most that was ever counted at one instant, memory and disk.
    pub high_water_bytes: u64,
    /// Pieces whose hash was verified and that may be served.
    pub held_pieces: u64,
    /// The disk tier was switched off by an error.
    pub disk_failed: bool,
}

/// Told when room may have appeared, or a block was read back.
pub trait Waiter: Send + Sync {
    /// Something was freed: ask again.
    fn room(&self);
    /// The block asked for by [`Cache::block`], or nothing if it could not be read.
    fn block(&self, wanted: Wanted, bytes: Option<Bytes>);
}

/// Bytes of a held piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The piece.
    pub key: Key,
    /// Where they begin in it.
    pub begin: u32,
    /// How many.
    pub len: u32,
}

/// An answer to [`Cache::begin`].
#[derive(Debug)]
pub enum Begin {
    /// The permit is there.
    Ready(Arc<Fetching>),
    /// Room is being made: the waiter will be told.
    Wait,
    /// There is no room, and none will come by itself.
    NoRoom,
}

/// An answer to [`Cache::block`].
#[derive(Debug)]
pub enum Lookup {
    /// Here it is.
    Here(Bytes),
    /// The waiter gets it.
    Reading,
    /// Nothing can be read back just now: the waiter will be told when to ask again.
    Later,
    /// Not held.
    Gone,
}

/// The cache. All methods return at once.
pub struct Cache {
    inner: Mutex<Inner>,
    events: Mutex<VecDeque<(Key, PieceFact)>>,
    driver: Notify,
    memory_limit: u64,
    reserve: u64,
    tier: Option<Tier>,
    high_water: AtomicU64,
}

struct Inner {
    pieces: HashMap<Key, Entry>,
    pool: Pool,
    memory_used: u64,
    /// Memory that demotions under way will give back.
    demoting: u64,
    extents: Extents,
    waiters: Vec<Arc<dyn Waiter>>,
    clock: u64,
}

struct Entry {
    state: State,
    last_used: u64,
    /// Piece buffers of this key that are alive.
    buffers: u32,
    /// Bytes counted for its buffer.
    permit: u64,
    size: u32,
    disk: Option<DiskCopy>,
    /// Jobs of the disk thread that use its extents.
    jobs: u32,
    demoting: bool,
}

enum State {
    Fetching(Arc<Fetching>),
    /// In memory, or (`None`) on disk only.
    Held(Option<Bytes>),
    Retiring,
}

#[derive(Clone)]
struct DiskCopy {
    extents: Arc<[Extent]>,
    checksums: Arc<[u32]>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens the cache, empty. The file of an earlier run is cut to size before anything else.
    ///
    /// # Errors
    /// The disk tier's file cannot be opened, is no regular file or a symbolic link.
    pub fn open(config: &CacheConfig) -> Result<Arc<Self>, CacheError> {
        let memory_limit = config.memory.min(config.size);
        let disk_len = config.size - memory_limit;
        let tier = Tier::open(&config.data_dir, disk_len, config.min_free)?;
        let inner = Inner {
            pieces: HashMap::new(),
            pool: Pool::default(),
            memory_used: 0,
            demoting: 0,
            extents: Extents::new(if tier.is_some() { disk_len } else { 0 }),
            waiters: Vec::new(),
            clock: 0,
        };
        let reserve = if tier.is_some() {
            READ_BACK_RESERVE.min(memory_limit / 2)
        } else {
            0
        };
        let cache = Arc::new(Self {
            inner: Mutex::new(inner),
            events: Mutex::new(VecDeque::new()),
            driver: Notify::new(),
            memory_limit,
            reserve,
            tier,
            high_water: AtomicU64::new(0),
        });
        if let Some(tier) = &cache.tier {
            tier.start(&cache);
        }
        Ok(cache)
    }

    /// Bytes the brain may plan with: (all, in memory).
    #[must_use]
    pub fn plannable(&self) -> (u64, u64) {
        let memory = self.memory_limit - self.reserve;
        (memory + self.tier.as_ref().map_or(0, Tier::len), memory)
    }

    /// Takes the permit for a piece of `size` bytes, in a swarm whose pieces are `piece_length` bytes, or joins those
    /// that fetch it already.
    ///
    /// # Errors
    /// Its kind of hash is not supported.
    pub fn begin(
        self: &Arc<Self>,
        key: Key,
        size: u32,
        piece_length: u32,
        hash: PieceHash,
        waiter: &Arc<dyn Waiter>,
    ) -> Result<Begin, Unsupported> {
        let verifier = Verifier::new(hash)?;
        let permit = u64::from(piece_length.max(size));
        let mut inner = self.inner.lock();
        match inner.pieces.get(&key).map(|entry| &entry.state) {
            Some(State::Fetching(fetching)) => return Ok(Begin::Ready(Arc::clone(fetching))),
            Some(State::Held(_) | State::Retiring) => return Ok(Begin::NoRoom),
            None => {}
        }
        let limit = self.memory_limit - self.reserve;
        if permit > limit {
            return Ok(Begin::NoRoom);
        }
        if inner.memory_used + permit > limit {
            let lacking = inner.memory_used + permit - limit;
            self.make_room(&mut inner, lacking);
            let coming = inner.demoting > 0 || inner.pieces.values().any(|entry| entry.coming());
            if !coming {
                return Ok(Begin::NoRoom);
            }
            inner.wait(waiter);
            return Ok(Begin::Wait);
        }
        inner.memory_used += permit;
        let budget = self.memory_limit - inner.memory_used;
        let bytes = inner
            .pool
            .take(usize::try_from(permit).unwrap_or(usize::MAX), budget);
        let buffer = Buffer::new(bytes, key, Purpose::Piece, Arc::clone(self));
        let fetching = Arc::new(Fetching::new(key, size, buffer, verifier));
        let state = State::Fetching(Arc::clone(&fetching));
        inner.pieces.insert(key, Entry::new(state, permit, size));
        self.note_usage(&inner);
        Ok(Begin::Ready(fetching))
    }

    /// A piece is complete: holds it (or throws it away) and reports [`PieceFact::Checked`]. True if it is held now.
    pub fn checked(self: &Arc<Self>, complete: Complete) -> bool {
        let Complete {
            key,
            ok,
            size,
            buffer,
            contributors,
            ..
        } = complete;
        let bytes = Bytes::from_owner(buffer).slice(..size as usize);
        let mut inner = self.inner.lock();
        let clock = inner.tick();
        let held = match inner.pieces.get_mut(&key) {
            Some(entry) if matches!(entry.state, State::Fetching(_)) => {
                entry.last_used = clock;
                entry.state = if ok {
                    State::Held(Some(bytes.clone()))
                } else {
                    State::Retiring
                };
                ok
            }
            Some(_) | None => false,
        };
        if held {
            let low = self
                .memory_limit
                .saturating_sub(self.reserve + inner.memory_used);
            let want = (2 * u64::from(size)).min(self.memory_limit / 4);
            if low < want {
                self.make_room(&mut inner, want - low);
            }
        }
        self.report(key, PieceFact::Checked { ok, contributors });
        drop(inner);
        drop(bytes);
        held
    }

    /// Bytes of a held piece.
    pub fn block(self: &Arc<Self>, wanted: Wanted, waiter: &Arc<dyn Waiter>) -> Lookup {
        let mut inner = self.inner.lock();
        let clock = inner.tick();
        let Some(entry) = inner.pieces.get_mut(&wanted.key) else {
            return Lookup::Gone;
        };
        let Some(end) = wanted
            .begin
            .checked_add(wanted.len)
            .filter(|end| *end <= entry.size)
        else {
            return Lookup::Gone;
        };
        entry.last_used = clock;
        match (&entry.state, &entry.disk) {
            (State::Held(Some(bytes)), _) => {
                Lookup::Here(bytes.slice(wanted.begin as usize..end as usize))
            }
            (State::Held(None), Some(copy)) => {
                let copy = copy.clone();
                let span = tier::aligned(wanted, entry.size);
                let len = u64::from(span.end - span.start);
                if len > self.memory_limit {
                    return Lookup::Gone;
                }
                if inner.memory_used + len > self.memory_limit {
                    inner.wait(waiter);
                    return Lookup::Later;
                }
                let job = tier::Job::Read {
                    wanted,
                    span,
                    copy,
                    waiter: Arc::clone(waiter),
                };
                if !self.tier.as_ref().is_some_and(|tier| tier.submit(job)) {
                    inner.wait(waiter);
                    return Lookup::Later;
                }
                if let Some(entry) = inner.pieces.get_mut(&wanted.key) {
                    entry.jobs += 1;
                }
                inner.memory_used += len;
                self.note_usage(&inner);
                Lookup::Reading
            }
            (State::Held(None), None) | (State::Fetching(_) | State::Retiring, _) => Lookup::Gone,
        }
    }

    /// Gives a piece up, or abandons its fetch. [`PieceFact::Released`] follows once nothing of it is left.
    pub fn retire(self: &Arc<Self>, key: Key) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.pieces.get_mut(&key) else {
            return;
        };
        let old = std::mem::replace(&mut entry.state, State::Retiring);
        self.settle(&mut inner, key);
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        if let State::Fetching(fetching) = &old {
            fetching.abandon();
        }
        drop(old);
        waiters.iter().for_each(|waiter| waiter.room());
    }

    /// Everything of a swarm, when it is left.
    pub fn retire_swarm(self: &Arc<Self>, swarm: SwarmId) {
        let keys: Vec<Key> = self
            .inner
            .lock()
            .pieces
            .keys()
            .filter(|key| key.0 == swarm)
            .copied()
            .collect();
        keys.into_iter().for_each(|key| self.retire(key));
    }

    /// Whether this piece is held.
    #[must_use]
    pub fn holds(&self, key: Key) -> bool {
        self.inner
            .lock()
            .pieces
            .get(&key)
            .is_some_and(|entry| matches!(entry.state, State::Held(_)))
    }

    /// The figures of this instant.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let inner = self.inner.lock();
        let held = inner
            .pieces
            .values()
            .filter(|entry| matches!(entry.state, State::Held(_)))
            .count();
        Usage {
            memory_bytes: inner.memory_used,
            disk_bytes: inner.extents.used(),
            high_water_bytes: self.high_water.load(Ordering::Relaxed),
            held_pieces: held as u64,
            disk_failed: self.tier.as_ref().is_some_and(Tier::failed),
        }
    }

    /// Facts since the last call, in order. At most three per piece that is not yet released.
    pub fn drain_facts(&self, out: &mut Vec<(Key, PieceFact)>) {
        out.extend(self.events.lock().drain(..));
    }

    /// Returns when [`Cache::drain_facts`] may have something.
    pub async fn facts_ready(&self) {
        self.driver.notified().await;
    }

    fn report(&self, key: Key, fact: PieceFact) {
        self.events.lock().push_back((key, fact));
        self.driver.notify_one();
    }

    fn note_usage(&self, inner: &Inner) {
        let total = inner.memory_used + inner.extents.used();
        if self.high_water.fetch_max(total, Ordering::Relaxed) < total {
            #[allow(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("btslave_cache_high_water_bytes").set(total as f64);
        }
    }

    /// A buffer was dropped: its permit is free.
    fn buffer_gone(self: &Arc<Self>, key: Key, purpose: Purpose, bytes: Vec<u8>) {
        let mut inner = self.inner.lock();
        inner.memory_used -= bytes.len() as u64;
        if purpose == Purpose::Piece {
            inner.pool.give(bytes);
            if let Some(entry) = inner.pieces.get_mut(&key) {
                entry.buffers -= 1;
            }
            self.settle(&mut inner, key);
        }
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        waiters.iter().for_each(|waiter| waiter.room());
    }

    /// Takes the next step out of a retiring piece: frees its extents, and the key once nothing is left.
    fn settle(&self, inner: &mut Inner, key: Key) {
        let Some(entry) = inner.pieces.get_mut(&key) else {
            return;
        };
        if !matches!(entry.state, State::Retiring) || entry.jobs > 0 {
            return;
        }
        if let Some(copy) = entry.disk.take() {
            inner.extents.give(&copy.extents);
        }
        if entry.buffers == 0 {
            inner.pieces.remove(&key);
            self.report(key, PieceFact::Released);
        }
    }

    /// Starts to move the coldest pieces to disk until `bytes` more are on their way out of memory.
    fn make_room(self: &Arc<Self>, inner: &mut Inner, bytes: u64) {
        let Some(tier) = self.tier.as_ref() else {
            return;
        };
        while inner.demoting < bytes {
            let coldest = inner
                .pieces
                .iter()
                .filter(|(_, entry)| entry.can_be_demoted());
            let Some(key) = coldest
                .min_by_key(|(_, entry)| entry.last_used)
                .map(|(key, _)| *key)
            else {
                return;
            };
            let Some(entry) = inner.pieces.get_mut(&key) else {
                return;
            };
            let State::Held(Some(bytes)) = &entry.state else {
                return;
            };
            let Some(extents) = inner
                .extents
                .take(entry.size, tier.growth_limit(inner.extents.touched))
            else {
                return;
            };
            let extents: Arc<[Extent]> = extents.into();
            let job = tier::Job::Write {
                key,
                bytes: bytes.clone(),
                extents: Arc::clone(&extents),
            };
            if !tier.submit(job) {
                inner.extents.give(&extents);
                return;
            }
            entry.demoting = true;
            entry.jobs += 1;
            inner.demoting += entry.permit;
            self.note_usage(inner);
        }
    }
}

impl Entry {
    fn new(state: State, permit: u64, size: u32) -> Self {
        Self {
            state,
            last_used: 0,
            buffers: 1,
            permit,
            size,
            disk: None,
            jobs: 0,
            demoting: false,
        }
    }

    /// Its memory will be free by itself.
    fn coming(&self) -> bool {
        self.buffers > 0 && matches!(self.state, State::Retiring | State::Held(None))
    }

    fn can_be_demoted(&self) -> bool {
        matches!(self.state, State::Held(Some(_))) && !self.demoting
    }
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn wait(&mut self, waiter: &Arc<dyn Waiter>) {
        if !self.waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            self.waiters.push(Arc::clone(waiter));
        }
    }
}

#[cfg(test)]
mod tests;
