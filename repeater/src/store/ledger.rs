//! Friends, and the newest signed IOUs of both directions with each: durable before the call returns, and never less.
//!
//! Opening checks every signature again. What cannot be believed is put aside in `quarantine-<n>`, and a ledger that may
//! have lost something says so by its epoch (`spec/iou.md`): then nothing is signed before a sync with the friend.

use friends_proto::identity::{Identity, PublicKey};
use friends_proto::iou::Iou;
use friends_proto::ledger::{Account, AccountRecord, BesideKey, IouRecord, StoreEpoch};

use super::codec::{self, Record};
use super::error::{StoreError, StoreNote};
use super::journal::Key;
use super::recover::SUSPECT;
use super::sift::public_key;
use super::types::{SavedAccount, SavedFriend, SelfRow};
use super::{FRIENDS, IDENTITY, IOUS, Store, identity};

pub(super) const SELF: &[u8] = b"self";

/// What a store holds of friends, opened.
#[derive(Debug)]
pub struct OpenedLedger {
    /// Who we are.
    pub identity: Identity,
    /// This opening, and whether anything may be missing.
    pub epoch: StoreEpoch,
    /// Every account there is, of former friends too.
    pub accounts: Vec<Account>,
    /// What was put aside.
    pub notes: Vec<StoreNote>,
}

/// One kept account, checked from its bytes.
#[derive(Debug)]
pub struct CheckedAccount {
    /// The friend's key, in hex.
    pub friend: String,
    /// Our key, where it is a former one.
    pub former: Option<PublicKey>,
    /// The account, or what is wrong with it, for a person.
    pub account: Result<Account, String>,
}

impl Store {
    /// Opens identity and ledger; an identity is made where this directory never had one. Once per opening of the store.
    ///
    /// Errors: `Identity`, `Newer`, `TooOld`, and those of the file system.
    pub fn open_ledger(&self) -> Result<OpenedLedger, StoreError> {
        let dir = self.inner.lock.dir();
        let disk = &*self.inner.disk;
        self.succeed()?;
        let (known, mut notes) = self.self_row()?;
        let used = known
            .as_ref()
            .and_then(|row| PublicKey::from_bytes(&row.public).ok());
        let kept = !self.raw_rows(IOUS).is_empty();
        let (identity, new) = identity::open(dir, disk, used.as_ref(), kept)?;
        let me = identity.public_key();
        let beside = if new {
            BesideKey::NewKey
        } else {
            identity::read_epoch(dir)?
        };
        let damaged = self.copy_damaged_aside(&me, &mut notes)?;
        let mut epoch = StoreEpoch::open(beside, known.map(|row| row.epoch));
        if dir.mode(SUSPECT)?.is_some() || !notes.is_empty() {
            epoch.broken_at = Some(epoch.number);
        }
        // Where both numbers are lost, a sync of before must not count as one after the break.
        if let Some(last) = self.last_sync()?.filter(|last| *last >= epoch.number) {
            epoch.number = last.saturating_add(1);
            epoch.broken_at = Some(epoch.number);
        }
        let row = SelfRow {
            public: *me.as_bytes(),
            epoch,
        };
        // The break is durable before what shows it goes, and the store's number before the key's.
        self.put(IDENTITY, SELF, &row)?;
        identity::write_epoch(dir, disk, epoch.number)?;
        for key in damaged {
            self.remove(IOUS, &key)?;
        }
        if self.inner.state.lock().index.is_some() {
            dir.remove(SUSPECT)?;
        }
        let accounts = self.checked_accounts(&me, epoch)?;
        let accounts = accounts.into_iter().filter_map(|one| one.account.ok());
        Ok(OpenedLedger {
            accounts: accounts.collect(),
            identity,
            epoch,
            notes,
        })
    }

    pub(super) fn self_row(&self) -> Result<(Option<SelfRow>, Vec<StoreNote>), StoreError> {
        match self.get::<SelfRow>(IDENTITY, SELF) {
            Err(StoreError::Damaged { reason, .. }) => {
                let rows = self.raw_rows(IDENTITY).into_iter();
                let bytes = rows.filter(|(key, _)| key == SELF).map(|(_, value)| value);
                let note = self.copy_aside(SELF, &bytes.collect::<Vec<_>>().concat(), reason)?;
                Ok((None, vec![note]))
            }
            row => Ok((row?, Vec::new())),
        }
    }

    /// Copies every account that cannot be believed into a quarantine; returns their keys.
    fn copy_damaged_aside(
        &self,
        me: &PublicKey,
        notes: &mut Vec<StoreNote>,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let epoch = StoreEpoch {
            number: 0,
            broken_at: None,
        };
        let mut damaged = Vec::new();
        for (key, value) in self.raw_rows(IOUS) {
            if let Err(reason) = check(me, &key, &value, epoch)? {
                notes.push(self.copy_aside(&key, &value, reason)?);
                damaged.push(key);
            }
        }
        Ok(damaged)
    }

    pub(super) fn copy_aside(
        &self,
        key: &[u8],
        bytes: &[u8],
        reason: String,
    ) -> Result<StoreNote, StoreError> {
        let aside = self.inner.lock.dir().quarantine()?;
        let name = format!("account-{}", data_encoding::HEXLOWER.encode(key));
        aside.replace(&*self.inner.disk, &name, bytes)?;
        metrics::counter!("btslave_ledger_quarantined_total").increment(1);
        Ok(StoreNote::AccountDamaged {
            reason,
            moved_to: aside.path(&name),
        })
    }

    /// The latest opening in which a kept account was synced.
    fn last_sync(&self) -> Result<Option<u64>, StoreError> {
        let mut last = None;
        for (key, value) in self.raw_rows(IOUS) {
            match codec::decode::<SavedAccount>(&super::shown(&key), &value) {
                Ok(saved) => last = last.max(saved.record.synced_at),
                // Put aside already.
                Err(StoreError::Damaged { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(last)
    }

    /// Every kept account, each signature checked again from the bytes. Errors: `Newer`, `TooOld`.
    pub fn checked_accounts(
        &self,
        me: &PublicKey,
        epoch: StoreEpoch,
    ) -> Result<Vec<CheckedAccount>, StoreError> {
        let rows = self.raw_rows(IOUS).into_iter().map(|(key, value)| {
            Ok(CheckedAccount {
                friend: data_encoding::HEXLOWER.encode(&key),
                former: None,
                account: check(me, &key, &value, epoch)?,
            })
        });
        rows.collect()
    }

    /// Keeps an account, joined with what is kept of it already, so that no total ever falls. Durable at return.
    /// `month` counts calendar months; the first change in a month notes where its totals began.
    pub fn put_account(&self, record: AccountRecord, month: u32) -> Result<(), StoreError> {
        self.join_account((IOUS, record.friend.to_vec()), record, month)
    }

    pub(super) fn join_account(
        &self,
        key: Key,
        record: AccountRecord,
        month: u32,
    ) -> Result<(), StoreError> {
        let mut guard = self.inner.state.lock();
        let old = guard.settings.get(&key);
        let old = old
            .map(|value| codec::decode::<SavedAccount>(SavedAccount::NAME, value))
            .transpose()?;
        let saved = match old {
            None => SavedAccount {
                month,
                given_before: 0,
                received_before: 0,
                record,
            },
            Some(old) => {
                let before = if old.month == month {
                    (old.given_before, old.received_before)
                } else {
                    (total(&old.record.given), total(&old.record.received))
                };
                SavedAccount {
                    month,
                    given_before: before.0,
                    received_before: before.1,
                    record: old.record.join(record),
                }
            }
        };
        self.change_in(&mut guard, key, Some(codec::encode(&saved)?))
    }

    /// What a friend signed for and we signed for in calendar month `month`, in bytes: given, received.
    pub fn month_totals(&self, friend: &PublicKey, month: u32) -> Result<(u64, u64), StoreError> {
        let saved = self.get::<SavedAccount>(IOUS, friend.as_bytes())?;
        Ok(saved
            .filter(|saved| saved.month == month)
            .map_or((0, 0), |saved| {
                (
                    total(&saved.record.given).saturating_sub(saved.given_before),
                    total(&saved.record.received).saturating_sub(saved.received_before),
                )
            }))
    }

    /// Saves a friend under its key.
    pub fn put_friend(&self, key: &PublicKey, friend: &SavedFriend) -> Result<(), StoreError> {
        self.put(FRIENDS, key.as_bytes(), friend)
    }

    /// All friends, by key.
    pub fn friends(&self) -> Result<Vec<(PublicKey, SavedFriend)>, StoreError> {
        let rows = self.rows::<SavedFriend>(FRIENDS)?.into_iter();
        rows.map(|(key, friend)| {
            let key = public_key(&key);
            let damaged = StoreError::Damaged {
                what: SavedFriend::NAME,
                key: friend.name.clone(),
                reason: "its key is none".to_owned(),
            };
            Ok((key.ok_or(damaged)?, friend))
        })
        .collect()
    }

    /// Forgets a friend, and keeps what is signed between us. False: it was none.
    pub fn remove_friend(&self, key: &PublicKey) -> Result<bool, StoreError> {
        self.remove(FRIENDS, key.as_bytes())
    }
}

/// The total that a kept IOU claims.
fn total(kept: &Option<IouRecord>) -> u64 {
    kept.as_ref()
        .and_then(|kept| Iou::decode(&kept.iou).ok())
        .map_or(0, |iou| iou.total_bytes())
}

/// Checks one kept account. The outer errors are those of a store of another version.
pub(super) fn check(
    me: &PublicKey,
    key: &[u8],
    value: &[u8],
    epoch: StoreEpoch,
) -> Result<Result<Account, String>, StoreError> {
    let saved = match codec::decode::<SavedAccount>(SavedAccount::NAME, value) {
        Ok(saved) => saved,
        Err(StoreError::Damaged { reason, .. }) => return Ok(Err(reason)),
        Err(e) => return Err(e),
    };
    if saved.record.friend != key {
        return Ok(Err("it is filed under another key".to_owned()));
    }
    Ok(Account::open(*me, &saved.record, epoch).map_err(|e| e.to_string()))
}
