//! The thread of the disk tier: demotes pieces, reads blocks back. A block is handed out only if its checksum holds.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use bt_wire::layout::BLOCK;
use bytes::Bytes;
use parking_lot::Mutex;
use swarm_core::io::PieceFact;

use super::buffer::{Buffer, Purpose};
use super::disk::{self, Extent};
use super::{Cache, CacheError, DiskCopy, Key, State, Waiter, Wanted};

/// Jobs that may wait for the disk thread.
const JOBS: usize = 4096;

pub(super) enum Job {
    Write {
        key: Key,
        bytes: Bytes,
        extents: Arc<[Extent]>,
    },
    Read {
        wanted: Wanted,
        span: Range<u32>,
        copy: DiskCopy,
        waiter: Arc<dyn Waiter>,
    },
}

pub(super) struct Tier {
    file: Arc<File>,
    len: u64,
    min_free: u64,
    jobs: SyncSender<Job>,
    queue: Mutex<Option<Receiver<Job>>>,
    failed: AtomicBool,
}

impl Tier {
    /// Nothing if there is no disk tier; a file left by an earlier run is removed then.
    pub(super) fn open(dir: &Path, len: u64, min_free: u64) -> Result<Option<Self>, CacheError> {
        let path = dir.join("cache.bin");
        if len == 0 {
            return match std::fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    Err(CacheError { path, cause })
                }
                Ok(()) | Err(_) => Ok(None),
            };
        }
        let file = disk::open(&path, len).map_err(|cause| CacheError { path, cause })?;
        let (jobs, queue) = sync_channel(JOBS);
        let queue = Mutex::new(Some(queue));
        Ok(Some(Self {
            file: Arc::new(file),
            len,
            min_free,
            jobs,
            queue,
            failed: AtomicBool::new(false),
        }))
    }

    /// Starts the thread; it ends when the cache is gone.
    pub(super) fn start(&self, cache: &Arc<Cache>) {
        let Some(queue) = self.queue.lock().take() else {
            return;
        };
        let (file, cache) = (Arc::clone(&self.file), Arc::downgrade(cache));
        let started = std::thread::Builder::new()
            .name("btslave-cache".into())
            .stack_size(256 * 1024)
            .spawn(move || work(&queue, &file, &cache));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for the cache's disk tier: it is switched off");
            self.fail();
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        metrics::counter!("btslave_cache_disk_errors_total").increment(1);
    }

    pub(super) fn submit(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// Extents may be taken below this offset.
    pub(super) fn growth_limit(&self, touched: u64) -> u64 {
        if self.failed() {
            return 0;
        }
        match disk::available(&self.file) {
            Ok(free) if free > self.min_free => {
                touched.saturating_add(free - self.min_free).min(self.len)
            }
            Ok(_) => {
                metrics::counter!("btslave_cache_min_free_total").increment(1);
                touched
            }
            Err(_) => 0,
        }
    }
}

/// The blocks that cover what is wanted, as a range of bytes in the piece.
pub(super) fn aligned(wanted: Wanted, size: u32) -> Range<u32> {
    let end = u64::from(wanted.begin) + u64::from(wanted.len);
    let end = end.next_multiple_of(BLOCK.into()).min(size.into());
    wanted.begin / BLOCK * BLOCK..u32::try_from(end).unwrap_or(size)
}

fn work(queue: &Receiver<Job>, file: &File, cache: &Weak<Cache>) {
    while let Ok(job) = queue.recv() {
        let Some(cache) = cache.upgrade() else { return };
        match job {
            Job::Write {
                key,
                bytes,
                extents,
            } => {
                let checksums = disk::checksums(&bytes);
                let written = disk::write(file, &extents, &bytes);
                drop(bytes);
                cache.demoted(
                    key,
                    written,
                    DiskCopy {
                        extents,
                        checksums: checksums.into(),
                    },
                );
            }
            Job::Read {
                wanted,
                span,
                copy,
                waiter,
            } => {
                let len = (span.end - span.start) as usize;
                let buffer = Buffer::new(
                    vec![0; len],
                    wanted.key,
                    Purpose::ReadBack,
                    Arc::clone(&cache),
                );
                let bytes = read_back(file, buffer, &span, &copy);
                if let Err(error) = &bytes {
                    tracing::warn!(%error, piece = wanted.key.1, "a cached piece could not be read back and is given up");
                }
                let bytes = bytes.ok();
                cache.was_read(wanted.key, bytes.is_some());
                let from = (wanted.begin - span.start) as usize;
                let bytes = bytes.map(|bytes| bytes.slice(from..from + wanted.len as usize));
                waiter.block(wanted, bytes);
            }
        }
    }
}

fn read_back(
    file: &File,
    mut buffer: Buffer,
    span: &Range<u32>,
    copy: &DiskCopy,
) -> io::Result<Bytes> {
    disk::read(file, &copy.extents, span.start, &mut buffer.bytes)?;
    let first = (span.start / BLOCK) as usize;
    let found = disk::checksums(&buffer.bytes);
    if copy.checksums.get(first..first + found.len()) != Some(&found[..]) {
        metrics::counter!("btslave_cache_damaged_total").increment(1);
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "checksum mismatch",
        ));
    }
    Ok(Bytes::from_owner(buffer))
}

impl Cache {
    /// The disk thread wrote a piece, or could not.
    fn demoted(self: &Arc<Self>, key: Key, written: io::Result<()>, copy: DiskCopy) {
        let mut inner = self.inner.lock();
        let mut freed = None;
        if let Some(entry) = inner.pieces.get_mut(&key) {
            entry.jobs -= 1;
            entry.demoting = false;
            let permit = entry.permit;
            let mut unused = Some(copy);
            if let (Ok(()), State::Held(bytes)) = (&written, &mut entry.state) {
                freed = bytes.take();
                entry.disk = unused.take();
            }
            inner.demoting -= permit;
            if let Some(copy) = unused {
                inner.extents.give(&copy.extents);
            }
            self.settle(&mut inner, key);
        }
        if let Err(error) = written {
            tracing::warn!(%error, "the cache's disk tier is switched off");
            if let Some(tier) = &self.tier {
                tier.fail();
            }
        }
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        drop(freed);
        waiters.iter().for_each(|waiter| waiter.room());
    }

    /// A block was read back, or the piece turned out to be damaged.
    fn was_read(self: &Arc<Self>, key: Key, sound: bool) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.pieces.get_mut(&key) else {
            return;
        };
        entry.jobs -= 1;
        if !sound && matches!(entry.state, State::Held(_)) {
            let old = std::mem::replace(&mut entry.state, State::Retiring);
            self.report(key, PieceFact::Damaged);
            self.settle(&mut inner, key);
            drop(inner);
            drop(old);
            return;
        }
        self.settle(&mut inner, key);
    }
}
