//! Moving house: friends and ledger out of one data directory and into another, of the same identity.
//!
//! What comes in is foreign bytes: every signature is checked before anything is taken, and taking is a join, which never
//! lowers a total. The secret key is not among it; it is a file to be copied.

use std::collections::BTreeSet;

use friends_proto::identity::PublicKey;
use friends_proto::iou::{IouError, SignedIou};
use friends_proto::ledger::{Account, AccountRecord, OpenError, Receipt};
use friends_proto::recognition::MAX_FRIENDS;

use super::Friends;
use crate::store::{SavedFriend, StoreError};

/// Most accounts in one piece of luggage: friends, and former ones.
const MAX_ACCOUNTS: usize = 16 * MAX_FRIENDS;

/// Everything about friends but the secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luggage {
    /// Whose it is.
    pub owner: PublicKey,
    /// The list.
    pub friends: Vec<(PublicKey, SavedFriend)>,
    /// What is signed.
    pub accounts: Vec<AccountRecord>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Friends new to the list.
    pub friends_added: u32,
    /// IOUs that were newer than ours.
    pub ious_adopted: u32,
    /// IOUs that we had, or had newer.
    pub ious_known: u32,
}

/// Why an import is refused. Nothing has changed then, but for [`ImportError::Store`].
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is somebody else's.
    #[error("belongs to another identity: its IOUs are signed by and for another key")]
    OtherOwner,
    /// More than there can be.
    #[error("holds over {MAX_FRIENDS} friends or {MAX_ACCOUNTS} accounts")]
    TooMany,
    /// An IOU does not stand up to a check.
    #[error("account {at}: {why}")]
    Account {
        /// Which, counted from 1.
        at: usize,
        /// What is wrong.
        why: OpenError,
    },
    /// It could not be saved; what was saved before it stays, and importing again goes on.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Friends {
    /// Packs everything but the secret key, as it is on the disk: an IOU that is not durable yet stays in.
    pub fn pack(&self) -> Result<Luggage, StoreError> {
        let kept = self.check()?.into_iter();
        Ok(Luggage {
            owner: self.identity.public_key(),
            friends: self.list(),
            accounts: kept
                .filter_map(|one| one.account.ok())
                .map(|account| account.record())
                .collect(),
        })
    }

    /// Takes luggage in: all of it is checked first, then joined to what is here.
    ///
    /// # Errors
    /// [`ImportError`]
    pub fn unpack(&self, luggage: Luggage, now: u64) -> Result<ImportReport, ImportError> {
        let me = self.identity.public_key();
        if luggage.owner != me {
            return Err(ImportError::OtherOwner);
        }
        let mut keys: BTreeSet<PublicKey> = self.known.lock().friends.keys().copied().collect();
        keys.extend(luggage.friends.iter().map(|(key, _)| *key));
        if keys.len() > MAX_FRIENDS || luggage.accounts.len() > MAX_ACCOUNTS {
            return Err(ImportError::TooMany);
        }
        let mut checked = Vec::new();
        for (n, record) in luggage.accounts.iter().enumerate() {
            let refuse = |why| ImportError::Account { at: n + 1, why };
            // A sync in another directory says nothing about this one.
            let record = AccountRecord {
                synced_at: None,
                ..record.clone()
            };
            let account = Account::open(me, &record, self.epoch).map_err(refuse)?;
            let kept = record.given.iter().chain(&record.received);
            let signed: Result<Vec<SignedIou>, IouError> = kept.map(|kept| kept.verify()).collect();
            checked.push((account, signed.map_err(|why| refuse(why.into()))?));
        }
        let mut report = ImportReport::default();
        for (account, signed) in checked {
            self.take_account(account, &signed, now, &mut report)?;
        }
        for (key, friend) in luggage.friends {
            self.take_friend(key, friend, &mut report)?;
        }
        Ok(report)
    }

    fn take_account(
        &self,
        account: Account,
        signed: &[SignedIou],
        now: u64,
        report: &mut ImportReport,
    ) -> Result<(), StoreError> {
        let key = *account.friend();
        let mut known = self.known.lock();
        if known.past.is_replaced(&key) {
            // What its owner signed is here; what came after may be a thief's.
            report.ious_known += u32::try_from(signed.len()).unwrap_or(u32::MAX);
            return Ok(());
        }
        let held = known.accounts.get_mut(&key);
        let adopted = match held {
            Some(held) => signed
                .iter()
                .filter(|iou| matches!(held.receive(iou), Receipt::Newer { .. }))
                .count(),
            None => {
                known.accounts.insert(key, account);
                signed.len()
            }
        };
        report.ious_adopted += u32::try_from(adopted).unwrap_or(u32::MAX);
        report.ious_known += u32::try_from(signed.len() - adopted).unwrap_or(u32::MAX);
        let record = known.accounts.get(&key).map(Account::record);
        drop(known);
        record.map_or(Ok(()), |record| self.persist(record, now))
    }

    fn take_friend(
        &self,
        key: PublicKey,
        mut friend: SavedFriend,
        report: &mut ImportReport,
    ) -> Result<(), StoreError> {
        let mut known = self.known.lock();
        let replaced = known.past.is_replaced(&key);
        if replaced || known.friends.contains_key(&key) || key == self.identity.public_key() {
            return Ok(());
        }
        let wanted = friend.name.clone();
        let mut n = 1_u32;
        while known
            .friends
            .values()
            .any(|other| other.name == friend.name)
        {
            n += 1;
            friend.name = format!("{wanted} ({n})");
        }
        self.store.put_friend(&key, &friend)?;
        known.friends.insert(key, friend);
        let new = || Account::new(self.identity.public_key(), key, self.epoch);
        known.accounts.entry(key).or_insert_with(new);
        report.friends_added += 1;
        Ok(())
    }
}
