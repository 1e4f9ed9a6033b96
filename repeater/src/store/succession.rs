//! New keys in place of old ones: our own, and friends'. The statements are kept, and what was signed by and for an old key.
//!
//! A new key of ours waits in `identity.next` and takes its place when the store is opened the next time; every step can
//! be cut off, and is done again then.

use friends_proto::identity::{Identity, PUBLIC_BYTES, PublicKey};
use friends_proto::ledger::{Account, AccountRecord, StoreEpoch};
use friends_proto::succession::Succession;

use super::error::{StoreError, StoreNote};
use super::ledger::{CheckedAccount, SELF, check};
use super::types::{SavedSuccession, SelfRow};
use super::{FOLLOWED, FORMER, IDENTITY, IOUS, REPLACED, Store, codec, identity};

fn key_of(bytes: &[u8]) -> Option<PublicKey> {
    let bytes = <[u8; PUBLIC_BYTES]>::try_from(bytes).ok()?;
    PublicKey::from_bytes(&bytes).ok()
}

fn damaged(what: &'static str, key: &[u8]) -> StoreError {
    StoreError::Damaged {
        what,
        key: super::shown(key),
        reason: "it is no statement, or is filed under another key".to_owned(),
    }
}

impl Store {
    /// Makes a new key of ours, where none waits yet, and the statement that it follows `me`. Both are durable at return;
    /// the new key counts from the next opening on.
    //= spec/identity.md#succession-own
    pub fn prepare_succession(&self, me: &Identity) -> Result<Succession, StoreError> {
        let (dir, disk) = (self.inner.lock.dir(), &*self.inner.disk);
        let next = match identity::read(dir, identity::NEXT)? {
            Some(next) => next,
            None => identity::create(dir, disk, identity::NEXT)?,
        };
        let old = me.public_key();
        let statement =
            Succession::sign(me, &next).map_err(|_| damaged("statement", old.as_bytes()))?;
        self.put_succession(REPLACED, &statement)?;
        Ok(statement)
    }

    /// Puts the key that waits in the place of ours; what was signed by and for the old one is kept aside.
    //= spec/identity.md#succession-own
    pub(super) fn succeed(&self) -> Result<(), StoreError> {
        let (dir, disk) = (self.inner.lock.dir(), &*self.inner.disk);
        let Some(next) = identity::read(dir, identity::NEXT)? else {
            return Ok(());
        };
        if let Some(old) = identity::read(dir, identity::KEY)?
            && old.public_key() != next.public_key()
        {
            let old = old.public_key();
            for (friend, value) in self.raw_rows(IOUS) {
                let key = [old.as_bytes(), friend.as_slice()].concat();
                self.change((FORMER, key), Some(value))?;
                self.remove(IOUS, &friend)?;
            }
            if let (Some(row), _) = self.self_row()? {
                let public = *next.public_key().as_bytes();
                self.put(IDENTITY, SELF, &SelfRow { public, ..row })?;
            }
        }
        identity::copy(dir, disk, identity::NEXT, identity::KEY)?;
        dir.remove(identity::NEXT)
    }

    fn put_succession(&self, tree: u8, statement: &Succession) -> Result<(), StoreError> {
        let saved = SavedSuccession {
            statement: statement.to_string(),
        };
        self.put(tree, statement.old().as_bytes(), &saved)
    }

    fn successions_in(&self, tree: u8) -> Result<Vec<Succession>, StoreError> {
        let rows = self.rows::<SavedSuccession>(tree)?.into_iter();
        rows.map(|(key, saved)| statement(&key, &saved).ok_or_else(|| damaged("statement", &key)))
            .collect()
    }

    /// Statements about keys of ours, by the old one.
    pub fn own_successions(&self) -> Result<Vec<Succession>, StoreError> {
        self.successions_in(REPLACED)
    }

    /// Statements of friends that we follow, by the old key.
    pub fn followed(&self) -> Result<Vec<Succession>, StoreError> {
        self.successions_in(FOLLOWED)
    }

    /// Keeps a statement about a former key of ours.
    pub fn keep_succession(&self, statement: &Succession) -> Result<(), StoreError> {
        self.put_succession(REPLACED, statement)
    }

    /// Keeps a friend's statement.
    pub fn follow(&self, statement: &Succession) -> Result<(), StoreError> {
        self.put_succession(FOLLOWED, statement)
    }

    /// What was signed by and for former keys of ours, every signature checked again from the bytes.
    pub fn checked_former(&self) -> Result<Vec<CheckedAccount>, StoreError> {
        let rows = self.raw_rows(FORMER).into_iter();
        rows.map(|(key, value)| check_former(&key, &value))
            .collect()
    }

    /// The accounts with former keys of ours. What does not hold is put aside.
    pub fn former_accounts(&self) -> Result<(Vec<Account>, Vec<StoreNote>), StoreError> {
        let (mut accounts, mut notes) = (Vec::new(), Vec::new());
        for (key, value) in self.raw_rows(FORMER) {
            match check_former(&key, &value)?.account {
                Ok(account) => accounts.push(account),
                Err(reason) => {
                    notes.push(self.copy_aside(&key, &value, reason)?);
                    self.remove(FORMER, &key)?;
                }
            }
        }
        Ok((accounts, notes))
    }

    /// Keeps an account with a former key of ours, joined with what is kept of it already. Durable at return.
    pub fn put_former(
        &self,
        own: &PublicKey,
        record: AccountRecord,
        month: u32,
    ) -> Result<(), StoreError> {
        let key = [own.as_bytes(), record.friend.as_slice()].concat();
        self.join_account((FORMER, key), record, month)
    }
}

/// The outer errors are those of a store of another version.
fn check_former(key: &[u8], value: &[u8]) -> Result<CheckedAccount, StoreError> {
    let epoch = StoreEpoch {
        number: 0,
        broken_at: None,
    };
    let (own, friend) = key.split_at(key.len().min(PUBLIC_BYTES));
    let former = key_of(own);
    let account = match &former {
        Some(own) => check(own, friend, value, epoch)?,
        None => Err("it is filed under no key".to_owned()),
    };
    Ok(CheckedAccount {
        friend: data_encoding::HEXLOWER.encode(friend),
        former,
        account,
    })
}

/// The statement, if it is one and is filed under the key it replaces.
pub(super) fn statement(key: &[u8], saved: &SavedSuccession) -> Option<Succession> {
    let statement: Succession = saved.statement.parse().ok()?;
    (statement.old().as_bytes().as_slice() == key).then_some(statement)
}

impl codec::Record for SavedSuccession {
    const FORMAT: u8 = 1;
    const NAME: &'static str = "statement about a new key";
}
