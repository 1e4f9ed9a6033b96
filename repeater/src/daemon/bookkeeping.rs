//! The ledger of friends, as the operator reads, checks and moves it.

use control_api::friends::{
    AccountCheck, ExportedFriend, FriendsExport, Imported, LedgerAccount, LedgerCheck, SignedRecord,
};
use data_encoding::HEXLOWER;
use friends_proto::identity::PublicKey;
use friends_proto::iou::Iou;
use friends_proto::ledger::{Account, IouRecord};

use super::answers::failed;
use super::befriending::{bare, saved, with_hints};
use super::export::{self, FORMAT};
use super::{Shared, unix_now};
use crate::control::Refusal;
use crate::friends::{Friends, ImportError, Luggage, PackedAccount};
use crate::store::{CheckedAccount, StoreError};

impl Shared {
    pub(super) async fn ledger(&self) -> Result<Vec<LedgerAccount>, Refusal> {
        let export = self.export_friends().await?;
        Ok(export.accounts)
    }

    pub(super) async fn verify_ledger(&self) -> Result<LedgerCheck, Refusal> {
        let checked = self.befriend(|friends| {
            let checked = friends.check()?.into_iter();
            let each = checked.map(|one| found(friends, &one));
            Ok::<_, StoreError>(each.collect::<Vec<_>>())
        });
        let (signatures, accounts): (Vec<u32>, Vec<AccountCheck>) =
            checked.await?.map_err(failed)?.into_iter().unzip();
        Ok(LedgerCheck {
            ok: accounts.iter().all(|account| account.ok),
            signatures: signatures.into_iter().fold(0, u32::saturating_add),
            accounts,
        })
    }

    /// What is signed, as it is on the disk.
    pub(super) async fn export_friends(&self) -> Result<FriendsExport, Refusal> {
        let export = self.befriend(|friends| {
            let luggage = friends.pack()?;
            Ok::<_, StoreError>(export_of(friends, &luggage))
        });
        export.await?.map_err(failed)
    }

    pub(super) async fn import_friends(&self, export: FriendsExport) -> Result<Imported, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let luggage = unpack(export).map_err(|why| {
            Refusal::invalid("export", why, "export it again; nothing was changed")
        })?;
        let now = unix_now();
        let report = self
            .befriend(move |friends| friends.unpack(luggage, now))
            .await?;
        let report = report.map_err(|e| match e {
            ImportError::OtherOwner => {
                let hint = "copy identity.key of the old slave into an empty data directory, start btslave there, and import again";
                Refusal::conflict("export", e.to_string(), hint)
            }
            ImportError::TooMany | ImportError::Account { .. } => {
                Refusal::invalid("export", e.to_string(), "nothing was changed")
            }
            ImportError::Store(e) => failed(e),
        })?;
        self.engine.friends_changed().await.map_err(failed)?;
        Ok(Imported {
            friends_added: report.friends_added,
            ious_adopted: report.ious_adopted,
            ious_known: report.ious_known,
        })
    }
}

/// The operator's name for whom this key is, or was.
fn named(friends: &Friends, key: &PublicKey) -> Option<String> {
    let newest = friends.newest(key);
    let mut list = friends.list().into_iter();
    let friend = list.find(|(other, _)| *other == newest);
    friend.map(|(_, friend)| friend.name)
}

/// How many signatures a kept account has, and what they say.
fn found(friends: &Friends, kept: &CheckedAccount) -> (u32, AccountCheck) {
    let bytes = HEXLOWER.decode(kept.friend.as_bytes()).ok();
    let key = bytes.and_then(|bytes| PublicKey::from_bytes(bytes.as_slice().try_into().ok()?).ok());
    let name = key.and_then(|key| named(friends, &key).or_else(|| Some(bare(&key))));
    let (signatures, mut detail) = match &kept.account {
        Ok(account) => signed_by_whom(account),
        Err(why) => (0, why.clone()),
    };
    if let Some(key) = key.filter(|key| friends.is_replaced(key)) {
        detail = format!("{detail}; with its former key {}", bare(&key));
    }
    if let Some(own) = &kept.former {
        detail = format!("{detail}; with our former key {}", bare(own));
    }
    let check = AccountCheck {
        friend: name.unwrap_or_else(|| kept.friend.clone()),
        ok: kept.account.is_ok(),
        detail,
    };
    (signatures, check)
}

fn signed_by_whom(account: &Account) -> (u32, String) {
    let each = account.shown().map(|signed| {
        let ours = signed.iou().creditor() == account.friend();
        let whose = if ours { "ours" } else { "theirs" };
        format!("{whose} over {} bytes", signed.iou().total_bytes())
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return (0, "nothing is signed".to_owned());
    }
    (
        u32::try_from(each.len()).unwrap_or(u32::MAX),
        each.join(", "),
    )
}

fn export_of(friends: &Friends, luggage: &Luggage) -> FriendsExport {
    let list = luggage.friends.iter().map(|(key, friend)| ExportedFriend {
        name: friend.name.clone(),
        code: with_hints(key, &friend.hints),
        added_at: friend.added_at,
    });
    let accounts = luggage.accounts.iter().filter_map(|packed| {
        let record = &packed.record;
        let key = PublicKey::from_bytes(&record.friend).ok()?;
        let newest = friends.newest(&key);
        Some(LedgerAccount {
            friend: bare(&key),
            name: named(friends, &key),
            replaced_by: (newest != key).then(|| bare(&newest)),
            own_former: (packed.own != luggage.owner).then(|| bare(&packed.own)),
            given: record.given.as_ref().map(signed_record),
            received: record.received.as_ref().map(signed_record),
            delivered_bytes: record.delivered_bytes,
            disputed_bytes: record.disputed_bytes,
        })
    });
    FriendsExport {
        format: FORMAT,
        owner: bare(&luggage.owner),
        friends: list.collect(),
        accounts: accounts.collect(),
        successions: luggage
            .successions
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn signed_record(kept: &IouRecord) -> SignedRecord {
    let total = Iou::decode(&kept.iou).map_or(0, |iou| iou.total_bytes());
    SignedRecord {
        total: total.to_string(),
        iou: HEXLOWER.encode(&kept.iou),
        signature: HEXLOWER.encode(&kept.signature),
    }
}

/// What an export says, as luggage.
fn unpack(export: FriendsExport) -> Result<Luggage, String> {
    let read = export::read(export)?;
    let friends = read.friends.into_iter();
    let friends = friends.map(|(code, name, added_at)| (*code.key(), saved(&code, name, added_at)));
    let accounts = read.accounts.into_iter();
    Ok(Luggage {
        owner: read.owner,
        friends: friends.collect(),
        accounts: accounts
            .map(|(own, record)| PackedAccount { own, record })
            .collect(),
        successions: read.successions,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed() -> impl Strategy<Value = Option<SignedRecord>> {
        let hex = "([0-9a-f]{2}){0,70}|.{0,9}";
        prop::option::of((hex, hex).prop_map(|(iou, signature)| SignedRecord {
            total: String::new(),
            iou,
            signature,
        }))
    }

    fn code() -> impl Strategy<Value = String> {
        let key = any::<[u8; 32]>().prop_filter_map("a key", |bytes| {
            PublicKey::from_bytes(&bytes).ok().map(|key| bare(&key))
        });
        prop_oneof![4 => key, 1 => "(bs1)?.{0,70}"]
    }

    proptest! {
        #[test]
        fn any_export_is_read_or_refused_and_nothing_forged_is_taken(
            owner in code(),
            friends in prop::collection::vec((".{0,70}", code()), 0..3),
            accounts in prop::collection::vec((code(), signed(), signed()), 0..3),
        ) {
            let export = FriendsExport {
                format: FORMAT,
                owner,
                friends: friends
                    .into_iter()
                    .map(|(name, code)| ExportedFriend { name, code, added_at: 0 })
                    .collect(),
                accounts: accounts
                    .into_iter()
                    .map(|(friend, given, received)| LedgerAccount {
                        friend,
                        name: None,
                        replaced_by: None,
                        own_former: None,
                        given,
                        received,
                        delivered_bytes: 0,
                        disputed_bytes: 0,
                    })
                    .collect(),
                successions: Vec::new(),
            };
            if let Ok(luggage) = unpack(export) {
                for PackedAccount { record, .. } in &luggage.accounts {
                    let kept = record.given.iter().chain(&record.received);
                    prop_assert!(kept.into_iter().all(|kept| kept.verify().is_err()));
                }
            }
        }
    }
}
