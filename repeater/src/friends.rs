//! Our friends: who they are, and what is signed between each and us. Everything is durable before a call returns, so all
//! calls that change something block on the disk.

mod moving;
mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use friends_proto::identity::{Identity, PublicKey};
use friends_proto::iou::SignedIou;
use friends_proto::ledger::{Account, AccountRecord, SignRefusal, StoreEpoch, WrongToken};
use friends_proto::recognition::MAX_FRIENDS;
use parking_lot::Mutex;

use crate::store::{CheckedAccount, SavedFriend, Store, StoreError, StoreNote};

pub use moving::{ImportError, ImportReport, Luggage, PackedAccount};
pub use succession::{Carried, FollowError};

use succession::Past;

/// Friends and their accounts.
#[derive(Debug)]
pub struct Friends {
    store: Store,
    identity: Arc<Identity>,
    epoch: StoreEpoch,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    friends: BTreeMap<PublicKey, SavedFriend>,
    /// Of former friends too: what is signed stays signed.
    accounts: BTreeMap<PublicKey, Account>,
    online: BTreeSet<PublicKey>,
    past: Past,
}

/// Why a friend is not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It is our own code.
    #[error("this is your own friend code; ask your friend for theirs (`slavectl friends code`)")]
    Own,
    /// It is on the list.
    #[error("is a friend already, as \"{0}\"")]
    Known(String),
    /// Another friend has the name.
    #[error("another friend has the name \"{0}\"")]
    NameTaken(String),
    /// Its owner replaced it.
    #[error(
        "was replaced by its owner, and its new key is on your list or was; ask your friend for the new code"
    )]
    Replaced,
    /// The list is full.
    #[error("there are {MAX_FRIENDS} friends already, which is the most there can be")]
    Full,
    /// It could not be saved.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an IOU is not signed, or not let out.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is no such friend.
    #[error("there is no account with this friend")]
    NoAccount,
    /// The ledger's rules forbid it.
    #[error(transparent)]
    Refused(#[from] SignRefusal),
    /// It could not be made durable. Nothing more is signed for this friend in this run.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The account was exchanged meanwhile.
    #[error(transparent)]
    Token(#[from] WrongToken),
}

/// One friend, or one account, at a glance. Sums in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it signed for us, in all.
    pub given: u64,
    /// What we signed for it, in all.
    pub received: u64,
    /// What it signed for us this month.
    pub given_month: u64,
    /// What we signed for it this month.
    pub received_month: u64,
    /// What it left unsigned.
    pub disputed: u64,
    /// How sure we are of our own newest signature.
    pub state: friends_proto::ledger::State,
    /// A session stands.
    pub online: bool,
}

impl Friends {
    /// Opens what `store` holds, making an identity where there never was one. The notes are to be logged as warnings.
    pub fn open(store: Store) -> Result<(Self, Vec<StoreNote>), StoreError> {
        let mut opened = store.open_ledger()?;
        let (past, notes) = Past::open(&store)?;
        opened.notes.extend(notes);
        let friends: BTreeMap<_, _> = store.friends()?.into_iter().collect();
        let me = opened.identity.public_key();
        let accounts = opened.accounts.into_iter();
        let mut accounts: BTreeMap<PublicKey, Account> = accounts
            .map(|account| (*account.friend(), account))
            .collect();
        for key in friends.keys() {
            let new = || Account::new(me, *key, opened.epoch);
            accounts.entry(*key).or_insert_with(new);
        }
        let known = Known {
            friends,
            accounts,
            online: BTreeSet::new(),
            past,
        };
        let friends = Self {
            store,
            identity: Arc::new(opened.identity),
            epoch: opened.epoch,
            known: Mutex::new(known),
        };
        friends.finish_moves()?;
        Ok((friends, opened.notes))
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// All friends by key.
    #[must_use]
    pub fn list(&self) -> Vec<(PublicKey, SavedFriend)> {
        let known = self.known.lock();
        let friends = known.friends.iter();
        friends
            .map(|(key, friend)| (*key, friend.clone()))
            .collect()
    }

    /// Adds a friend.
    ///
    /// # Errors
    /// [`AddError`]
    pub fn add(&self, key: PublicKey, friend: SavedFriend) -> Result<(), AddError> {
        let mut known = self.known.lock();
        if key == self.identity.public_key() {
            return Err(AddError::Own);
        }
        if known.past.is_replaced(&key) {
            return Err(AddError::Replaced);
        }
        if let Some(old) = known.friends.get(&key) {
            return Err(AddError::Known(old.name.clone()));
        }
        if known.friends.values().any(|old| old.name == friend.name) {
            return Err(AddError::NameTaken(friend.name));
        }
        if known.friends.len() >= MAX_FRIENDS {
            return Err(AddError::Full);
        }
        self.store.put_friend(&key, &friend)?;
        known.friends.insert(key, friend);
        let new = || Account::new(self.identity.public_key(), key, self.epoch);
        known.accounts.entry(key).or_insert_with(new);
        Ok(())
    }

    /// Forgets a friend; what is signed between us is kept, and counts again when it is added again. False: it was none.
    pub fn remove(&self, key: &PublicKey) -> Result<bool, StoreError> {
        let mut known = self.known.lock();
        self.store.remove_friend(key)?;
        known.online.remove(key);
        Ok(known.friends.remove(key).is_some())
    }

    /// Whether it is on the list.
    #[must_use]
    pub fn is_listed(&self, key: &PublicKey) -> bool {
        self.known.lock().friends.contains_key(key)
    }

    /// Opens an account with somebody who is not on the list, where there is none. It is kept once it is persisted.
    pub fn acquaint(&self, key: PublicKey) {
        let new = || Account::new(self.identity.public_key(), key, self.epoch);
        self.known.lock().accounts.entry(key).or_insert_with(new);
    }

    /// Drops an account with somebody who is not on the list, where nothing was given, nor received, nor left unsigned.
    pub fn forget_acquaintance(&self, key: &PublicKey) {
        let mut known = self.known.lock();
        if known.friends.contains_key(key) {
            return;
        }
        let empty =
            |account: &Account| account.received_bytes() == 0 && account.delivered_bytes() == 0;
        if known.accounts.get(key).is_some_and(empty) {
            known.accounts.remove(key);
        }
    }

    /// A session with a friend stands, or ended, at `now` (seconds since the Unix epoch).
    pub fn seen(&self, key: &PublicKey, online: bool, now: u64) -> Result<(), StoreError> {
        let mut known = self.known.lock();
        let Some(mut friend) = known.friends.get(key).cloned() else {
            return Ok(());
        };
        if online {
            known.online.insert(*key);
        } else {
            known.online.remove(key);
        }
        friend.last_seen = Some(now);
        self.store.put_friend(key, &friend)?;
        known.friends.insert(*key, friend);
        Ok(())
    }

    /// How we stand with a friend, at `now` (seconds since the Unix epoch); None where there is no account.
    pub fn standing(&self, key: &PublicKey, now: u64) -> Result<Option<Standing>, StoreError> {
        let (given_month, received_month) = self.store.month_totals(key, month(now))?;
        let known = self.known.lock();
        let before = known.carried(key);
        Ok(known.accounts.get(key).map(|account| Standing {
            given: account.given_bytes().saturating_add(before.given),
            received: account.received_bytes().saturating_add(before.received),
            given_month,
            received_month,
            disputed: account.disputed_bytes().saturating_add(before.disputed),
            state: account.state(),
            online: known.online.contains(key),
        }))
    }

    /// Asks or changes an account; None where there is none. A record that comes of it is to be given to
    /// [`Friends::persist`].
    pub fn with_account<T>(
        &self,
        key: &PublicKey,
        act: impl FnOnce(&mut Account) -> T,
    ) -> Option<T> {
        self.known.lock().accounts.get_mut(key).map(act)
    }

    /// Makes a record durable; it never lowers what is kept.
    pub fn persist(&self, record: AccountRecord, now: u64) -> Result<(), StoreError> {
        self.store.put_account(record, month(now))
    }

    /// Signs that we received `total_bytes` of help from a friend in all. The IOU comes out when it is durable, and not
    /// before (promise 7).
    ///
    /// # Errors
    /// [`SignError`]
    pub fn sign(
        &self,
        key: &PublicKey,
        total_bytes: u64,
        now: u64,
    ) -> Result<SignedIou, SignError> {
        let prepared =
            self.with_account(key, |account| account.prepare(&self.identity, total_bytes));
        let (record, token) = prepared.ok_or(SignError::NoAccount)??;
        self.persist(record, now)?;
        let signed = self.with_account(key, |account| account.persisted(&token));
        Ok(signed.ok_or(SignError::NoAccount)??)
    }

    /// What is kept, with former keys of ours too, every signature checked again from the bytes on record.
    pub fn check(&self) -> Result<Vec<CheckedAccount>, StoreError> {
        let me = self.identity.public_key();
        let mut kept = self.store.checked_accounts(&me, self.epoch)?;
        kept.extend(self.store.checked_former()?);
        Ok(kept)
    }
}

/// The calendar month (UTC) of a moment in seconds since the Unix epoch: 12 × year + month − 1.
#[must_use]
fn month(at: u64) -> u32 {
    // Days since 0000-03-01 in eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = at / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // 0 = March; the year begins with it here.
    let from_march = (5 * day + 2) / 153;
    u32::try_from(12 * (era * 400 + year) + from_march + 2).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
