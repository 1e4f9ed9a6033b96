//! New keys in place of old ones (row P20): our own, and those that friends tell us of. What was signed with an old key
//! stays, and counts together with what is signed with the new one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use friends_proto::identity::PublicKey;
use friends_proto::ledger::Account;
use friends_proto::succession::Succession;

use super::{Friends, Known};
use crate::store::{Store, StoreError, StoreNote};

/// What stands between a friend and us from before: under a former key of ours, or of its. Sums in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// What it signed for us.
    pub given: u64,
    /// What we signed for it.
    pub received: u64,
    /// What we delivered to it.
    pub delivered: u64,
    /// What of that it left unsigned.
    pub disputed: u64,
}

impl Carried {
    fn add(&mut self, account: &Account) {
        for (sum, bytes) in [
            (&mut self.given, account.given_bytes()),
            (&mut self.received, account.received_bytes()),
            (&mut self.delivered, account.delivered_bytes()),
            (&mut self.disputed, account.disputed_bytes()),
        ] {
            *sum = sum.saturating_add(bytes);
        }
    }
}

/// Why a friend's statement is not followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The old key is nobody's on the list.
    #[error("the old key in it is none of your friends'")]
    Unknown,
    /// The new key is ours.
    #[error("the new key in it is your own")]
    Own,
    /// The new key is another friend's.
    #[error("the new key in it is your friend \"{0}\" already")]
    Taken(String),
    /// Another statement of the same old key came first.
    #[error(
        "another new key was named in place of this one before: one of the two statements is a thief's"
    )]
    Contradicts,
    /// It could not be saved.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who follows whom, and what was signed before.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Old key to new one.
    followed: BTreeMap<PublicKey, PublicKey>,
    /// Accounts with former keys of ours.
    former: Vec<Account>,
}

impl Past {
    /// Reads the accounts with former keys of ours anew.
    pub(super) fn reread(&mut self, store: &Store) -> Result<(), StoreError> {
        let kept = store.checked_former()?.into_iter();
        self.former = kept.filter_map(|one| one.account.ok()).collect();
        Ok(())
    }

    pub(super) fn open(store: &Store) -> Result<(Self, Vec<StoreNote>), StoreError> {
        let followed = store.followed()?.into_iter();
        let (former, notes) = store.former_accounts()?;
        let past = Self {
            followed: followed.map(|one| (*one.old(), *one.new_key())).collect(),
            former,
        };
        Ok((past, notes))
    }

    /// The account between a former key of ours and a friend's.
    pub(super) fn former_with(&self, own: &PublicKey, friend: &PublicKey) -> Option<&Account> {
        let mut former = self.former.iter();
        former.find(|account| account.me() == own && account.friend() == friend)
    }

    /// Whether this key was replaced.
    pub(super) fn is_replaced(&self, key: &PublicKey) -> bool {
        self.followed.contains_key(key)
    }

    /// The key that counts in place of this one.
    pub(super) fn newest(&self, key: &PublicKey) -> PublicKey {
        let mut newest = *key;
        // No key twice: a chain of statements is as long as there are statements.
        for _ in 0..self.followed.len() {
            match self.followed.get(&newest) {
                Some(next) => newest = *next,
                None => break,
            }
        }
        newest
    }

    /// What counts with this friend besides its own account.
    pub(super) fn carried(
        &self,
        key: &PublicKey,
        accounts: &BTreeMap<PublicKey, Account>,
    ) -> Carried {
        let older = accounts.iter().filter(|(other, _)| *other != key);
        let older = older.map(|(_, account)| account).chain(&self.former);
        let mut carried = Carried::default();
        for account in older.filter(|account| self.newest(account.friend()) == *key) {
            carried.add(account);
        }
        carried
    }
}

/// Where these statements lead from a key, step by step.
pub(super) fn path<'s>(
    statements: &'s [Succession],
    from: &PublicKey,
) -> impl Iterator<Item = PublicKey> + use<'s> {
    let step = |key: &PublicKey| {
        let next = statements.iter().find(|one| one.old() == key);
        next.map(|one| *one.new_key())
    };
    // No key twice: a path is as long as there are statements.
    std::iter::successors(Some(*from), step).take(statements.len().saturating_add(1))
}

impl Known {
    pub(super) fn carried(&self, key: &PublicKey) -> Carried {
        self.past.carried(key, &self.accounts)
    }
}

impl Friends {
    /// What stands between a friend and us from before a key of either was replaced.
    #[must_use]
    pub fn carried(&self, key: &PublicKey) -> Carried {
        self.known.lock().carried(key)
    }

    /// The key that counts in place of this one: itself, where its owner did not replace it.
    #[must_use]
    pub fn newest(&self, key: &PublicKey) -> PublicKey {
        self.known.lock().past.newest(key)
    }

    /// Whether the owner of this key replaced it.
    #[must_use]
    //= spec/identity.md#succession-effect
    pub fn is_replaced(&self, key: &PublicKey) -> bool {
        self.known.lock().past.is_replaced(key)
    }

    /// Makes a new key of ours; it counts from the next start on. Where one waits already, that one.
    ///
    /// # Errors
    /// The disk.
    pub fn replace_own_key(&self) -> Result<Succession, StoreError> {
        self.store.prepare_succession(&self.identity)
    }

    /// The statement about our newest key: the one that waits, or the one that is in use. None: it is our first.
    ///
    /// # Errors
    /// The disk.
    pub fn own_succession(&self) -> Result<Option<Succession>, StoreError> {
        let me = self.identity.public_key();
        let all = self.store.own_successions()?;
        let waits = all.iter().find(|one| *one.old() == me);
        Ok(waits
            .or(all.iter().find(|one| *one.new_key() == me))
            .copied())
    }

    /// Takes a friend's new key for its old one. Its name and hints, and what was signed, stay. Following again changes
    /// nothing.
    ///
    /// # Errors
    /// [`FollowError`]
    //= spec/identity.md#succession-once
    //= spec/identity.md#succession-effect
    pub fn follow(&self, statement: &Succession) -> Result<(), FollowError> {
        let old = statement.old();
        let mut known = self.known.lock();
        if !known.past.is_replaced(old) && !known.friends.contains_key(old) {
            return Err(FollowError::Unknown);
        }
        self.follow_in(&mut known, statement)
    }

    /// The same, whether the old key is on the list or not.
    pub(super) fn follow_in(
        &self,
        known: &mut Known,
        statement: &Succession,
    ) -> Result<(), FollowError> {
        let (old, new) = (*statement.old(), *statement.new_key());
        if known
            .past
            .followed
            .get(&old)
            .is_some_and(|first| *first != new)
        {
            metrics::counter!("btslave_friend_defence_total", "defence" => "SecondSuccession")
                .increment(1);
            return Err(FollowError::Contradicts);
        }
        if new == self.identity.public_key() {
            return Err(FollowError::Own);
        }
        if known.past.newest(&new) == old {
            return Err(FollowError::Contradicts);
        }
        if let (true, Some(other)) = (
            known.friends.contains_key(&old),
            known.friends.get(&new).map(|other| other.name.clone()),
        ) {
            return Err(FollowError::Taken(other));
        }
        self.store.follow(statement)?;
        known.past.followed.insert(old, new);
        self.move_friend(known, old, new)?;
        Ok(())
    }

    /// Puts the new key on the list in place of the old one.
    pub(super) fn move_friend(
        &self,
        known: &mut Known,
        old: PublicKey,
        new: PublicKey,
    ) -> Result<(), StoreError> {
        let Some(friend) = known.friends.get(&old).cloned() else {
            return Ok(());
        };
        if let Entry::Vacant(place) = known.friends.entry(new) {
            self.store.put_friend(&new, &friend)?;
            place.insert(friend);
        }
        let account = || Account::new(self.identity.public_key(), new, self.epoch);
        known.accounts.entry(new).or_insert_with(account);
        self.store.remove_friend(&old)?;
        known.friends.remove(&old);
        known.online.remove(&old);
        Ok(())
    }

    /// Finishes what was cut off: a statement is kept before the list is changed.
    pub(super) fn finish_moves(&self) -> Result<(), StoreError> {
        let mut known = self.known.lock();
        let moves: Vec<(PublicKey, PublicKey)> = known
            .past
            .followed
            .iter()
            .map(|(old, new)| (*old, *new))
            .collect();
        for (old, new) in moves {
            self.move_friend(&mut known, old, new)?;
        }
        Ok(())
    }
}
