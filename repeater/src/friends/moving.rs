//! Moving house: friends and ledger out of one data directory and into another, of the same identity.
//!
//! What comes in is foreign bytes: every signature is checked before anything is taken, and taking is a join, which never
//! lowers a total. Statements about new keys come along, ours and friends', and so does what was signed with the keys they
//! replaced. The secret key is not among it; it is a file to be copied.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use friends_proto::identity::PublicKey;
use friends_proto::iou::{IouError, SignedIou};
use friends_proto::ledger::{Account, AccountRecord, OpenError, Receipt};
use friends_proto::recognition::MAX_FRIENDS;
use friends_proto::succession::Succession;

use super::succession::{FollowError, path};
use super::{Friends, month};
use crate::store::{SavedFriend, StoreError};

/// Most accounts, or statements, in one piece of luggage: friends, and former ones.
const MAX_ACCOUNTS: usize = 16 * MAX_FRIENDS;

/// Everything about friends but the secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luggage {
    /// Whose it is.
    pub owner: PublicKey,
    /// The list.
    pub friends: Vec<(PublicKey, SavedFriend)>,
    /// What is signed.
    pub accounts: Vec<PackedAccount>,
    /// Statements about new keys: the owner's own, and those of friends that it follows.
    pub successions: Vec<Succession>,
}

/// What is signed between a friend and one key of the owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedAccount {
    /// The owner's key: the one in use, or a former one.
    pub own: PublicKey,
    /// Both directions.
    pub record: AccountRecord,
}

/// An account whose signatures hold.
struct Checked {
    own: PublicKey,
    account: Account,
    signed: Vec<SignedIou>,
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
    #[error("holds over {MAX_FRIENDS} friends, or {MAX_ACCOUNTS} accounts or statements")]
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

/// Whether one IOU of a direction says all that another does.
fn covers(held: &SignedIou, other: &SignedIou) -> bool {
    let (held, other) = (held.iou(), other.iou());
    held.creditor() == other.creditor() && held.total_bytes() >= other.total_bytes()
}

/// What was delivered never falls; what of it is disputed may, so that goes with it.
fn join_counts(into: &mut Account, other: &Account) {
    if other.delivered_bytes() > into.delivered_bytes() {
        into.count(other.delivered_bytes(), other.disputed_bytes());
    }
}

impl Friends {
    /// Packs everything but the secret key, as it is on the disk: an IOU that is not durable yet stays in.
    pub fn pack(&self) -> Result<Luggage, StoreError> {
        let owner = self.identity.public_key();
        let accounts = self.check()?.into_iter().filter_map(|one| {
            let record = one.account.ok()?.record();
            let own = one.former.unwrap_or(owner);
            Some(PackedAccount { own, record })
        });
        let mut successions = self.store.own_successions()?;
        successions.extend(self.store.followed()?);
        Ok(Luggage {
            owner,
            friends: self.list(),
            accounts: accounts.collect(),
            successions,
        })
    }

    /// Takes luggage in, which may be of a former key of ours: all of it is checked first, then joined to what is here.
    ///
    /// # Errors
    /// [`ImportError`]
    pub fn unpack(&self, luggage: Luggage, now: u64) -> Result<ImportReport, ImportError> {
        let mut own = self.store.own_successions()?;
        own.extend(&luggage.successions);
        if !self.was_ours(&own, &luggage.owner) {
            return Err(ImportError::OtherOwner);
        }
        let mut keys: BTreeSet<PublicKey> = self.known.lock().friends.keys().copied().collect();
        keys.extend(luggage.friends.iter().map(|(key, _)| *key));
        let most = luggage.accounts.len().max(luggage.successions.len());
        if keys.len() > MAX_FRIENDS || most > MAX_ACCOUNTS {
            return Err(ImportError::TooMany);
        }
        let mut checked = Vec::new();
        for (n, packed) in luggage.accounts.iter().enumerate() {
            if !self.was_ours(&own, &packed.own) {
                return Err(ImportError::OtherOwner);
            }
            let refuse = |why| ImportError::Account { at: n + 1, why };
            checked.push(self.check_packed(packed).map_err(refuse)?);
        }
        let mut report = ImportReport::default();
        for one in checked {
            self.take_account(one, now, &mut report)?;
        }
        self.known.lock().past.reread(&self.store)?;
        for statement in &luggage.successions {
            self.take_statement(&own, statement)?;
        }
        for (key, friend) in luggage.friends {
            self.take_friend(key, friend, &mut report)?;
        }
        Ok(report)
    }

    /// Whether a key is the one in use, or statements lead from it to that. It has signed the last one itself.
    fn was_ours(&self, statements: &[Succession], key: &PublicKey) -> bool {
        let me = self.identity.public_key();
        path(statements, key).any(|key| key == me)
    }

    fn check_packed(&self, packed: &PackedAccount) -> Result<Checked, OpenError> {
        // A sync in another directory says nothing about this one.
        let record = AccountRecord {
            synced_at: None,
            ..packed.record.clone()
        };
        let account = Account::open(packed.own, &record, self.epoch)?;
        let kept = record.given.iter().chain(&record.received);
        let signed: Result<Vec<SignedIou>, IouError> = kept.map(|kept| kept.verify()).collect();
        Ok(Checked {
            own: packed.own,
            account,
            signed: signed?,
        })
    }

    fn take_account(
        &self,
        checked: Checked,
        now: u64,
        report: &mut ImportReport,
    ) -> Result<(), StoreError> {
        let Checked {
            own,
            mut account,
            signed,
        } = checked;
        let key = *account.friend();
        let mut known = self.known.lock();
        let mut count = |adopted: usize| {
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            report.ious_adopted += number(adopted);
            report.ious_known += number(signed.len() - adopted);
        };
        if known.past.is_replaced(&key) {
            // What its owner signed is here; what came after may be a thief's.
            count(0);
            return Ok(());
        }
        if own != self.identity.public_key() {
            let held = known.past.former_with(&own, &key);
            let newer = |iou: &&SignedIou| {
                let mut before = held.into_iter().flat_map(Account::shown);
                !before.any(|before| covers(before, iou))
            };
            count(signed.iter().filter(newer).count());
            held.into_iter()
                .for_each(|held| join_counts(&mut account, held));
            return self.store.put_former(&own, account.record(), month(now));
        }
        let record = match known.accounts.entry(key) {
            Entry::Occupied(held) => {
                let held = held.into_mut();
                join_counts(held, &account);
                let newer = |iou: &&SignedIou| matches!(held.receive(iou), Receipt::Newer { .. });
                count(signed.iter().filter(newer).count());
                held.record()
            }
            Entry::Vacant(place) => {
                count(signed.len());
                place.insert(account).record()
            }
        };
        drop(known);
        self.persist(record, now)
    }

    /// One that leads to our key is about a former one of ours. A friend's is followed, unless another came first.
    fn take_statement(&self, own: &[Succession], statement: &Succession) -> Result<(), StoreError> {
        let me = self.identity.public_key();
        if self.was_ours(own, statement.new_key()) {
            return self.store.keep_succession(statement);
        }
        // What follows our key waits for the next start of where it was made.
        if self.was_ours(own, statement.old()) || *statement.old() == me {
            return Ok(());
        }
        let followed = self.follow_in(&mut self.known.lock(), statement);
        match followed {
            Ok(()) => Ok(()),
            Err(FollowError::Store(e)) => Err(e),
            Err(
                why @ (FollowError::Unknown
                | FollowError::Own
                | FollowError::Taken(_)
                | FollowError::Contradicts),
            ) => {
                tracing::warn!("a statement about a friend's new key was not taken over: {why}");
                Ok(())
            }
        }
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
