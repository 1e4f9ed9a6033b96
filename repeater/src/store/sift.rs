//! Reads every setting once at the start, so that another version's format, a lost .torrent or a damaged value shows then.
//! One damaged value is put aside and named; the rest is used.

use friends_proto::identity::{PUBLIC_BYTES, PublicKey};
use swarm_core::policy::quota::Book;

use super::codec::{self, Record};
use super::error::{StoreError, StoreNote};
use super::succession::statement;
use super::types::{
    Flag, SavedFeed, SavedFriend, SavedMaster, SavedRendezvous, SavedSuccession, SavedWish,
    SwarmRow,
};
use super::{
    FEEDS, FLAGS, FOLLOWED, FRIENDS, MASTERS, MONTHS, RENDEZVOUS, REPLACED, SWARMS, Store, WISHES,
    shown,
};

impl Store {
    /// Errors: `Newer`, `TooOld`, and those of the file system.
    pub(super) fn sift(&self, notes: &mut Vec<StoreNote>) -> Result<(), StoreError> {
        let is_hash = |key: &[u8]| <[u8; 20]>::try_from(key).is_ok();
        self.sift_tree::<SwarmRow>(SWARMS, |key, _| is_hash(key), notes)?;
        self.sift_tree::<SavedFeed>(FEEDS, |_, _| true, notes)?;
        self.sift_tree::<SavedMaster>(MASTERS, |_, _| true, notes)?;
        self.sift_tree::<Flag>(FLAGS, |_, _| true, notes)?;
        self.sift_tree::<Book>(MONTHS, |_, _| true, notes)?;
        self.sift_tree::<SavedFriend>(FRIENDS, |key, _| public_key(key).is_some(), notes)?;
        self.sift_tree::<SavedWish>(WISHES, |key, _| is_hash(key), notes)?;
        self.sift_tree::<SavedRendezvous>(RENDEZVOUS, |key, _| is_hash(key), notes)?;
        let names = |key: &[u8], saved: &SavedSuccession| statement(key, saved).is_some();
        self.sift_tree::<SavedSuccession>(FOLLOWED, names, notes)?;
        self.sift_tree::<SavedSuccession>(REPLACED, names, notes)?;
        for hash in self.swarms() {
            if let Err(StoreError::Damaged { reason, .. }) = self.swarm(hash) {
                notes.push(StoreNote::TorrentLost {
                    info_hash: hash.to_string(),
                    reason,
                });
            }
        }
        Ok(())
    }

    fn sift_tree<T: Record>(
        &self,
        tree: u8,
        is_sound: impl Fn(&[u8], &T) -> bool,
        notes: &mut Vec<StoreNote>,
    ) -> Result<(), StoreError> {
        for (key, value) in self.raw_rows(tree) {
            let reason = match codec::decode::<T>(&shown(&key), &value) {
                Ok(saved) if is_sound(&key, &saved) => continue,
                Ok(_) => "it does not belong where it is filed".to_owned(),
                Err(StoreError::Damaged { reason, .. }) => reason,
                Err(e) => return Err(e),
            };
            let aside = self.inner.lock.dir().quarantine()?;
            let name = format!("value-{tree}-{:08x}", crc32c::crc32c(&key));
            aside.replace(&*self.inner.disk, &name, &value)?;
            self.remove(tree, &key)?;
            notes.push(StoreNote::ValueDamaged {
                what: T::NAME,
                key: shown(&key),
                reason,
                moved_to: aside.path(&name),
            });
        }
        Ok(())
    }
}

/// The friend whose row has this key.
pub(super) fn public_key(key: &[u8]) -> Option<PublicKey> {
    let bytes = <[u8; PUBLIC_BYTES]>::try_from(key).ok()?;
    PublicKey::from_bytes(&bytes).ok()
}
