//! Saved state: what the operator changed, and the totals. sled for the database, a synced journal beside it.
//!
//! In the data directory: `lock`, `settings.journal`, `db/` (sled), `torrents/<infohash>.torrent`, `quarantine-<n>/`,
//! `identity.key`, `identity.epoch` and `identity.next` (who we are to friends, which opening of the store was the last,
//! and who we are from the next one on).
//! A `put_*`, `set_*` or `remove_*` of a setting returns after its change is durable (journal synced); after an error
//! the old state stands. Totals are written out every half second and may lose that much.
//! All calls block on the disk: call them from `spawn_blocking`.

mod codec;
mod disk;
mod error;
mod identity;
mod index;
mod journal;
mod ledger;
mod lock;
mod recover;
mod sift;
mod succession;
mod types;

use std::path::Path;
use std::sync::Arc;

use bt_wire::ids::InfoHash;
use parking_lot::Mutex;
use swarm_core::policy::quota::Book;

pub use error::{StoreError, StoreNote};
pub use ledger::{CheckedAccount, OpenedLedger};
pub use lock::DirLock;
pub use types::{
    SavedFeed, SavedFriend, SavedHost, SavedMaster, SavedRendezvous, SavedRpc, SavedSwarm,
    SavedWish, SwarmContent, SwarmSource, Totals,
};

use codec::Record;
use disk::{Dir, Disk, RealDisk};
use index::Index;
use journal::{Journal, Key, Settings};
use types::{ContentRow, Flag, SwarmRow};

/// Largest .torrent file saved, in bytes; `bt-wire` reads no larger one.
pub const MAX_TORRENT_FILE: u64 = 32 << 20;

const SWARMS: u8 = 1;
const FEEDS: u8 = 2;
const MASTERS: u8 = 3;
const FLAGS: u8 = 4;
const FRIENDS: u8 = 5;
const IOUS: u8 = 6;
const IDENTITY: u8 = 7;
const MONTHS: u8 = 8;
const WISHES: u8 = 9;
const FOLLOWED: u8 = 10;
const REPLACED: u8 = 11;
const FORMER: u8 = 12;
const RENDEZVOUS: u8 = 13;
const BOOK: &[u8] = b"book";
const PAUSED: &[u8] = b"paused";

/// What opening found and repaired, to be logged as warnings. Empty after a clean stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// One per repair or loss.
    pub notes: Vec<StoreNote>,
}

/// The open store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    lock: DirLock,
    torrents: Dir,
    disk: Box<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// Sum over `settings` (see `index`).
    sum: u64,
    journal: Journal,
    /// None: off for this run, since opening or a failed write.
    index: Option<Index>,
}

impl Store {
    /// Locks the data directory, making it where it is missing, and opens what is in it.
    ///
    /// Errors: `Locked` (a second daemon), `Newer` and `TooOld` (saved by another version), `Symlink`, `Full`, `Io`.
    /// Damage is not an error: the last acknowledged settings are restored from the other copy, the damaged part is
    /// kept in `quarantine-<n>`, and the report says so.
    pub fn open(dir: &Path) -> Result<(Self, OpenReport), StoreError> {
        Self::open_locked(DirLock::acquire(dir)?)
    }

    /// As [`Store::open`], in a directory already locked.
    pub fn open_locked(lock: DirLock) -> Result<(Self, OpenReport), StoreError> {
        Self::open_on(lock, Box::new(RealDisk))
    }

    fn open_on(lock: DirLock, disk: Box<dyn Disk>) -> Result<(Self, OpenReport), StoreError> {
        let torrents = lock.dir().subdir("torrents")?;
        let opened = recover::open(lock.dir(), &*disk)?;
        let state = State {
            sum: index::sum(&opened.settings),
            settings: opened.settings,
            journal: opened.journal,
            index: opened.index,
        };
        let store = Self {
            inner: Arc::new(Inner {
                lock,
                torrents,
                disk,
                state: Mutex::new(state),
            }),
        };
        let mut report = OpenReport {
            notes: opened.notes,
        };
        store.sift(&mut report.notes)?;
        Ok((store, report))
    }

    /// The data directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.lock.path()
    }

    /// Saves a swarm, replacing what was saved under the same infohash. Errors as for all changes.
    pub fn put_swarm(&self, hash: InfoHash, swarm: &SavedSwarm) -> Result<(), StoreError> {
        let content = match &swarm.content {
            SwarmContent::Magnet(link) => ContentRow::Magnet(link.clone()),
            SwarmContent::Metainfo(bytes) => self.put_torrent_file(hash, bytes)?,
        };
        let row = SwarmRow {
            content,
            pinned: swarm.pinned,
            peers: swarm.peers.clone(),
            source: swarm.source.clone(),
            added_at: swarm.added_at,
        };
        self.put(SWARMS, hash.as_bytes(), &row)
    }

    fn put_torrent_file(&self, hash: InfoHash, bytes: &[u8]) -> Result<ContentRow, StoreError> {
        let length = bytes.len() as u64;
        if length > MAX_TORRENT_FILE {
            return Err(StoreError::TooLarge {
                what: "torrent file",
                bytes: length,
                limit: MAX_TORRENT_FILE,
            });
        }
        let row = ContentRow::File {
            bytes: length,
            crc: crc32c::crc32c(bytes),
        };
        let name = torrent_name(hash);
        // Two writers of one name would meet in the temporary file.
        let _state = self.inner.state.lock();
        let same = |old: Vec<u8>| old == bytes;
        if !self
            .inner
            .torrents
            .read(&name, MAX_TORRENT_FILE)
            .is_ok_and(|old| old.is_some_and(same))
        {
            self.inner
                .torrents
                .replace(&*self.inner.disk, &name, bytes)?;
        }
        Ok(row)
    }

    /// Reads one saved swarm; None where there is none. `Damaged`: its .torrent file is missing or changed.
    pub fn swarm(&self, hash: InfoHash) -> Result<Option<SavedSwarm>, StoreError> {
        let Some(row) = self.get::<SwarmRow>(SWARMS, hash.as_bytes())? else {
            return Ok(None);
        };
        let content = match row.content {
            ContentRow::Magnet(link) => SwarmContent::Magnet(link),
            ContentRow::File { bytes, crc } => {
                SwarmContent::Metainfo(self.torrent_file(hash, bytes, crc)?)
            }
        };
        let SwarmRow {
            pinned,
            peers,
            source,
            added_at,
            ..
        } = row;
        Ok(Some(SavedSwarm {
            content,
            pinned,
            peers,
            source,
            added_at,
        }))
    }

    fn torrent_file(&self, hash: InfoHash, length: u64, crc: u32) -> Result<Vec<u8>, StoreError> {
        let damaged = |reason: &str| StoreError::Damaged {
            what: "swarm",
            key: hash.to_string(),
            reason: reason.to_owned(),
        };
        let file = self
            .inner
            .torrents
            .read(&torrent_name(hash), MAX_TORRENT_FILE);
        let bytes = match file {
            Ok(bytes) => bytes.ok_or_else(|| damaged("missing"))?,
            Err(StoreError::TooLarge { .. }) => return Err(damaged("too long")),
            Err(e) => return Err(e),
        };
        if bytes.len() as u64 != length || crc32c::crc32c(&bytes) != crc {
            return Err(damaged("changed on disk"));
        }
        Ok(bytes)
    }

    /// Infohashes of all saved swarms, in order. Read each with [`Store::swarm`]: a metainfo can be large.
    #[must_use]
    pub fn swarms(&self) -> Vec<InfoHash> {
        self.keys(SWARMS)
            .iter()
            .filter_map(|k| <[u8; 20]>::try_from(k.as_slice()).ok().map(InfoHash))
            .collect()
    }

    /// Forgets a swarm and its .torrent file. False: there was none.
    pub fn remove_swarm(&self, hash: InfoHash) -> Result<bool, StoreError> {
        let was = self.remove(SWARMS, hash.as_bytes())?;
        let _state = self.inner.state.lock();
        self.inner.torrents.remove(&torrent_name(hash))?;
        Ok(was)
    }

    /// Saves a feed under its URL.
    pub fn put_feed(&self, url: &str, feed: &SavedFeed) -> Result<(), StoreError> {
        self.put(FEEDS, url.as_bytes(), feed)
    }

    /// All saved feeds by URL.
    pub fn feeds(&self) -> Result<Vec<(String, SavedFeed)>, StoreError> {
        self.named(FEEDS)
    }

    /// Forgets a feed. False: there was none.
    pub fn remove_feed(&self, url: &str) -> Result<bool, StoreError> {
        self.remove(FEEDS, url.as_bytes())
    }

    /// Saves a master under its name.
    pub fn put_master(&self, name: &str, master: &SavedMaster) -> Result<(), StoreError> {
        self.put(MASTERS, name.as_bytes(), master)
    }

    /// All saved masters by name.
    pub fn masters(&self) -> Result<Vec<(String, SavedMaster)>, StoreError> {
        self.named(MASTERS)
    }

    /// Forgets a master. False: there was none.
    pub fn remove_master(&self, name: &str) -> Result<bool, StoreError> {
        self.remove(MASTERS, name.as_bytes())
    }

    /// Saves a rendezvous, replacing what was saved under the same infohash.
    pub fn put_rendezvous(
        &self,
        hash: InfoHash,
        saved: &SavedRendezvous,
    ) -> Result<(), StoreError> {
        self.put(RENDEZVOUS, hash.as_bytes(), saved)
    }

    /// All saved rendezvous by infohash.
    pub fn rendezvous(&self) -> Result<Vec<(InfoHash, SavedRendezvous)>, StoreError> {
        let rows = self.rows(RENDEZVOUS)?.into_iter();
        let named = rows.filter_map(|(key, saved)| {
            let hash = <[u8; 20]>::try_from(key).ok()?;
            Some((InfoHash(hash), saved))
        });
        Ok(named.collect())
    }

    /// Forgets a rendezvous. False: there was none.
    pub fn remove_rendezvous(&self, hash: InfoHash) -> Result<bool, StoreError> {
        self.remove(RENDEZVOUS, hash.as_bytes())
    }

    /// Keeps the operator's word about help with a torrent; None: it has none any more.
    pub fn set_wish(&self, hash: InfoHash, wish: Option<SavedWish>) -> Result<(), StoreError> {
        match wish {
            Some(wish) => self.put(WISHES, hash.as_bytes(), &wish),
            None => self.remove(WISHES, hash.as_bytes()).map(drop),
        }
    }

    /// The operator's words about help, by infohash.
    pub fn wishes(&self) -> Result<Vec<(InfoHash, SavedWish)>, StoreError> {
        let rows = self.rows(WISHES)?.into_iter();
        let hash = |key: Vec<u8>| <[u8; 20]>::try_from(key.as_slice()).ok().map(InfoHash);
        Ok(rows
            .filter_map(|(key, wish)| Some((hash(key)?, wish)))
            .collect())
    }

    /// Whether the operator paused the node.
    pub fn paused(&self) -> Result<bool, StoreError> {
        Ok(self.get::<Flag>(FLAGS, PAUSED)?.is_some_and(|f| f.0))
    }

    /// Notes `pause` or `resume`.
    pub fn set_paused(&self, paused: bool) -> Result<(), StoreError> {
        self.put(FLAGS, PAUSED, &Flag(paused))
    }

    /// The book of the month's quota; empty where none is saved.
    pub fn book(&self) -> Result<Book, StoreError> {
        Ok(self.get(MONTHS, BOOK)?.unwrap_or_default())
    }

    /// Keeps the book of the month's quota.
    pub fn put_book(&self, book: &Book) -> Result<(), StoreError> {
        self.put(MONTHS, BOOK, book)
    }

    /// Totals over all runs; zero where none are saved.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        self.with_index(Index::totals)
    }

    /// Notes the totals; durable within half a second, not at return.
    pub fn put_totals(&self, totals: &Totals) -> Result<(), StoreError> {
        self.with_index(|index| index.put_totals(totals))
    }

    /// Writes everything out, for a graceful stop.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.with_index(Index::flush)
    }

    fn with_index<T>(
        &self,
        call: impl FnOnce(&Index) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let state = self.inner.state.lock();
        let off = || StoreError::Index {
            reason: "off for this run".to_owned(),
        };
        call(state.index.as_ref().ok_or_else(off)?)
    }

    fn get<T: Record>(&self, tree: u8, key: &[u8]) -> Result<Option<T>, StoreError> {
        let state = self.inner.state.lock();
        let value = state.settings.get(&(tree, key.to_vec()));
        value.map(|v| codec::decode(&shown(key), v)).transpose()
    }

    fn keys(&self, tree: u8) -> Vec<Vec<u8>> {
        let state = self.inner.state.lock();
        state
            .settings
            .keys()
            .filter(|k| k.0 == tree)
            .map(|k| k.1.clone())
            .collect()
    }

    fn rows<T: Record>(&self, tree: u8) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let state = self.inner.state.lock();
        let rows = state.settings.iter().filter(|(k, _)| k.0 == tree);
        rows.map(|(k, v)| Ok((k.1.clone(), codec::decode(&shown(&k.1), v)?)))
            .collect()
    }

    fn raw_rows(&self, tree: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
        let state = self.inner.state.lock();
        let rows = state.settings.iter().filter(|(k, _)| k.0 == tree);
        rows.map(|(k, v)| (k.1.clone(), v.clone())).collect()
    }

    fn named<T: Record>(&self, tree: u8) -> Result<Vec<(String, T)>, StoreError> {
        Ok(self
            .rows(tree)?
            .into_iter()
            .map(|(k, v)| (String::from_utf8_lossy(&k).into_owned(), v))
            .collect())
    }

    fn put<T: Record>(&self, tree: u8, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.change((tree, key.to_vec()), Some(codec::encode(value)?))
    }

    fn remove(&self, tree: u8, key: &[u8]) -> Result<bool, StoreError> {
        let key: Key = (tree, key.to_vec());
        if !self.inner.state.lock().settings.contains_key(&key) {
            return Ok(false);
        }
        self.change(key, None).map(|()| true)
    }

    fn change(&self, key: Key, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        self.change_in(&mut self.inner.state.lock(), key, value)
    }

    fn change_in(
        &self,
        state: &mut State,
        key: Key,
        value: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        if state.settings.get(&key) == value.as_ref() {
            return Ok(());
        }
        let dir = self.inner.lock.dir();
        state
            .journal
            .append(
                dir,
                &*self.inner.disk,
                &state.settings,
                &key,
                value.as_deref(),
            )
            .inspect_err(|_| {
                metrics::counter!("btslave_store_write_failures_total").increment(1);
            })?;
        if let Some(old) = state.settings.get(&key) {
            state.sum = state.sum.wrapping_sub(index::sum_of(&key, old));
        }
        if let Some(new) = &value {
            state.sum = state.sum.wrapping_add(index::sum_of(&key, new));
        }
        if !state.mirror(&key, value.as_deref()) {
            self.doubt();
        }
        match value {
            Some(value) => state.settings.insert(key, value),
            None => state.settings.remove(&key),
        };
        Ok(())
    }
}

impl Store {
    /// Without the database nothing would show that the journal was cut: the next start has to doubt the ledger.
    fn doubt(&self) {
        let marked = self
            .inner
            .lock
            .dir()
            .replace(&*self.inner.disk, recover::SUSPECT, b"");
        if let Err(e) = marked {
            tracing::warn!("{e}");
        }
    }
}

impl State {
    /// Carries a journalled change into the database. It is durable already: a database that fails now is
    /// left alone for this run and corrected at the next start. False: it failed now.
    fn mirror(&mut self, key: &Key, value: Option<&[u8]>) -> bool {
        let Some(index) = &self.index else {
            return true;
        };
        let Err(e) = index.put(key, value, self.journal.seq(), self.sum) else {
            return true;
        };
        metrics::counter!("btslave_store_index_failures_total").increment(1);
        tracing::warn!("{e}");
        self.index = None;
        false
    }
}

fn torrent_name(hash: InfoHash) -> String {
    format!("{hash}.torrent")
}

/// A key for a person: text as it is, else hex.
fn shown(key: &[u8]) -> String {
    std::str::from_utf8(key).map_or_else(|_| data_encoding::HEXLOWER.encode(key), str::to_owned)
}

#[cfg(test)]
mod tests;
