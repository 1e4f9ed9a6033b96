//! The sled database: statistics, and a second copy of the settings.
//!
//! sled 0.34 does not fsync on `flush`, and after a torn write it may refuse or panic on open. So the journal is
//! the first to know; the database carries the number of the last change and a sum over all settings, which tell
//! whether it can be believed where the journal is short.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use super::codec::{self, Record};
use super::disk::Dir;
use super::error::StoreError;
use super::journal::{Key, Settings};

/// The database's directory in the data directory.
pub(super) const NAME: &str = "db";
/// sled's default is 1 GiB.
const CACHE_BYTES: u64 = 16 << 20;
/// Statistics may lose up to this much on a power cut, in ms; promised: under 5 s.
const FLUSH_EVERY_MS: u64 = 500;
const MARK: &[u8] = b"settings";
const TOTALS: &[u8] = b"all";

/// Trees of settings: number in the journal, name in sled.
pub(super) const TREES: [(u8, &str); 13] = [
    (1, "swarms"),
    (2, "feeds"),
    (3, "masters"),
    (4, "flags"),
    (5, "friends"),
    (6, "ious"),
    (7, "identity"),
    (8, "months"),
    (9, "wishes"),
    (10, "followed"),
    (11, "replaced"),
    (12, "former"),
    (13, "rendezvous"),
];

/// Last change held, and the sum over all settings after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Mark {
    seq: u64,
    sum: u64,
}

impl Record for Mark {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "database mark";
}

/// Order-free sum over settings; a change updates it in O(1).
pub(super) fn sum_of(key: &Key, value: &[u8]) -> u64 {
    let crc = |seed: u32| {
        let head = crc32c::crc32c_append(seed, &[key.0]);
        let length = crc32c::crc32c_append(head, &(key.1.len() as u64).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(length, &key.1), value)
    };
    (u64::from(crc(0x4254_5331)) << 32) | u64::from(crc(0))
}

/// Sum over all settings.
pub(super) fn sum(settings: &Settings) -> u64 {
    settings
        .iter()
        .fold(0, |sum: u64, (k, v)| sum.wrapping_add(sum_of(k, v)))
}

/// Why the database could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Its files are damaged: move them aside.
    Torn(String),
    /// The file system said no (full, read-only, out of descriptors): leave them be.
    Environment(String),
}

/// The open database.
#[derive(Debug)]
pub(super) struct Index {
    db: sled::Db,
    /// The log file, for the fsync sled leaves out.
    log: File,
    path: PathBuf,
}

/// What the database knew of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) settings: Settings,
    pub(super) seq: u64,
    /// Whether the settings add up to the sum noted with `seq`.
    pub(super) sound: bool,
}

/// Runs a sled call; its panics on torn files come back as errors.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, OpenError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(e))) if is_environment(&e) => {
            Err(OpenError::Environment(e.to_string()))
        }
        Ok(Err(e)) => Err(OpenError::Torn(e.to_string())),
        Err(_) => Err(OpenError::Torn("sled panicked on its files".to_owned())),
    }
}

fn is_environment(e: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        e.kind(),
        K::StorageFull
            | K::QuotaExceeded
            | K::PermissionDenied
            | K::ReadOnlyFilesystem
            | K::OutOfMemory
            | K::WouldBlock
    ) || matches!(
        e.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EIO)
    )
}

/// sled's worker threads may hold its own lock for a moment after a store in this process is dropped. Nobody else
/// can: the data directory is ours.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

fn is_own_lock(e: &OpenError) -> bool {
    let (OpenError::Torn(reason) | OpenError::Environment(reason)) = e;
    reason.contains("could not acquire lock")
}

impl Index {
    /// Opens the database and reads the settings in it.
    pub(super) fn open(dir: &Dir) -> Result<(Self, Option<Held>), OpenError> {
        for _ in 0..LOCK_TRIES {
            match Self::try_open(dir) {
                Err(e) if is_own_lock(&e) => std::thread::sleep(LOCK_PAUSE),
                done => return done,
            }
        }
        Err(OpenError::Environment(
            "still locked by this process".to_owned(),
        ))
    }

    fn try_open(dir: &Dir) -> Result<(Self, Option<Held>), OpenError> {
        let path = dir.path(NAME);
        guarded(|| {
            let db = sled::Config::new()
                .path(&path)
                .cache_capacity(CACHE_BYTES)
                .mode(sled::Mode::LowSpace)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()?;
            let log = File::open(path.join("db"))?;
            let index = Self {
                db,
                log,
                path: path.clone(),
            };
            let held = index.held()?;
            Ok((index, held))
        })
    }

    fn held(&self) -> sled::Result<Option<Held>> {
        let mut settings = Settings::new();
        for (number, name) in TREES {
            for entry in &self.db.open_tree(name)? {
                let (key, value) = entry?;
                settings.insert((number, key.to_vec()), value.to_vec());
            }
        }
        let mark = self.db.open_tree("meta")?.get(MARK)?;
        if mark.is_none() && settings.is_empty() {
            return Ok(None);
        }
        // A mark that cannot be read makes the copy unsound; a newer one shows as newer values too.
        let mark = mark.and_then(|m| codec::decode::<Mark>("mark", &m).ok());
        let sound = mark.is_some_and(|m| m.sum == sum(&settings));
        Ok(Some(Held {
            settings,
            seq: mark.map_or(0, |m| m.seq),
            sound,
        }))
    }

    /// Carries one change over and makes it durable.
    pub(super) fn put(
        &self,
        key: &Key,
        value: Option<&[u8]>,
        seq: u64,
        sum: u64,
    ) -> Result<(), StoreError> {
        self.write(|| {
            self.change(key, value)?;
            self.mark(seq, sum)
        })
    }

    /// Makes the database say `settings`, wherever it differs.
    pub(super) fn correct(
        &self,
        held: Option<&Held>,
        settings: &Settings,
        seq: u64,
    ) -> Result<(), StoreError> {
        let empty = Settings::new();
        let old = held.map_or(&empty, |h| &h.settings);
        self.write(|| {
            for key in old.keys().filter(|k| !settings.contains_key(*k)) {
                self.change(key, None)?;
            }
            for (key, value) in settings.iter().filter(|(k, v)| old.get(*k) != Some(v)) {
                self.change(key, Some(value))?;
            }
            self.mark(seq, sum(settings))
        })
    }

    fn change(&self, key: &Key, value: Option<&[u8]>) -> sled::Result<()> {
        let Some((_, name)) = TREES.iter().find(|(number, _)| *number == key.0) else {
            return Ok(());
        };
        let tree = self.db.open_tree(name)?;
        match value {
            Some(value) => tree.insert(&key.1, value)?,
            None => tree.remove(&key.1)?,
        };
        Ok(())
    }

    fn mark(&self, seq: u64, sum: u64) -> sled::Result<()> {
        let mark = codec::encode(&Mark { seq, sum })
            .map_err(|e| sled::Error::ReportableBug(e.to_string()))?;
        self.db.open_tree("meta")?.insert(MARK, mark)?;
        Ok(())
    }

    /// Runs a write, then `flush` and the fsync that sled's flush is not.
    fn write(&self, call: impl FnOnce() -> sled::Result<()>) -> Result<(), StoreError> {
        guarded(|| {
            call()?;
            self.db.flush()?;
            Ok(self.log.sync_data()?)
        })
        .map_err(|e| self.failed(e))
    }

    fn failed(&self, e: OpenError) -> StoreError {
        let (OpenError::Torn(reason) | OpenError::Environment(reason)) = e;
        StoreError::Index {
            reason: format!("{}: {reason}", self.path.display()),
        }
    }

    /// Reads the statistics.
    pub(super) fn totals<T: Record + Default>(&self) -> Result<T, StoreError> {
        let bytes =
            guarded(|| self.db.open_tree("totals")?.get(TOTALS)).map_err(|e| self.failed(e))?;
        bytes.map_or_else(|| Ok(T::default()), |b| codec::decode("all", &b))
    }

    /// Notes the statistics; written out within `FLUSH_EVERY_MS`.
    pub(super) fn put_totals<T: Record>(&self, totals: &T) -> Result<(), StoreError> {
        let bytes = codec::encode(totals)?;
        guarded(|| self.db.open_tree("totals")?.insert(TOTALS, bytes))
            .map(drop)
            .map_err(|e| self.failed(e))
    }

    /// From now on no write is durable.
    #[cfg(test)]
    pub(super) fn fail(&mut self) {
        self.log = File::open("/dev/null").expect("a device");
    }

    /// Writes everything out, for a stop.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.write(|| Ok(()))
    }
}
