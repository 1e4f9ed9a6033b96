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
use crate::friends::{Friends, ImportError, Luggage};
use crate::store::StoreError;

impl Shared {
    /// What is signed, on the disk.
    async fn luggage(&self) -> Result<Luggage, Refusal> {
        self.befriend(Friends::pack).await?.map_err(failed)
    }

    pub(super) async fn ledger(&self) -> Result<Vec<LedgerAccount>, Refusal> {
        let luggage = self.luggage().await?;
        Ok(accounts(&luggage))
    }

    pub(super) async fn verify_ledger(&self) -> Result<LedgerCheck, Refusal> {
        let checked =
            self.befriend(|friends| Ok::<_, StoreError>((friends.list(), friends.check()?)));
        let (list, checked) = checked.await?.map_err(failed)?;
        let named = |key: &str| {
            let mut list = list.iter();
            let friend = list.find(|(friend, _)| HEXLOWER.encode(friend.as_bytes()) == key);
            friend.map(|(_, friend)| friend.name.clone())
        };
        let accounts = checked.iter().map(|one| {
            let (signatures, detail) = match &one.account {
                Ok(account) => found(account),
                Err(why) => (0, why.clone()),
            };
            let code = || one.account.as_ref().map(|account| bare(account.friend()));
            let check = AccountCheck {
                friend: named(&one.friend)
                    .or_else(|| code().ok())
                    .unwrap_or_else(|| one.friend.clone()),
                ok: one.account.is_ok(),
                detail,
            };
            (signatures, check)
        });
        let (signatures, accounts): (Vec<u32>, Vec<AccountCheck>) = accounts.unzip();
        Ok(LedgerCheck {
            ok: accounts.iter().all(|account| account.ok),
            signatures: signatures.into_iter().fold(0, u32::saturating_add),
            accounts,
        })
    }

    pub(super) async fn export_friends(&self) -> Result<FriendsExport, Refusal> {
        let luggage = self.luggage().await?;
        let friends = luggage.friends.iter().map(|(key, friend)| ExportedFriend {
            name: friend.name.clone(),
            code: with_hints(key, &friend.hints),
            added_at: friend.added_at,
        });
        Ok(FriendsExport {
            format: FORMAT,
            owner: bare(&luggage.owner),
            friends: friends.collect(),
            accounts: accounts(&luggage),
        })
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

/// How many signatures a sound account has, and what they say.
fn found(account: &Account) -> (u32, String) {
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

fn accounts(luggage: &Luggage) -> Vec<LedgerAccount> {
    let accounts = luggage.accounts.iter().filter_map(|record| {
        let key = PublicKey::from_bytes(&record.friend).ok()?;
        let named = luggage.friends.iter().find(|(friend, _)| *friend == key);
        Some(LedgerAccount {
            friend: bare(&key),
            name: named.map(|(_, friend)| friend.name.clone()),
            given: record.given.as_ref().map(signed_record),
            received: record.received.as_ref().map(signed_record),
            delivered_bytes: record.delivered_bytes,
            disputed_bytes: record.disputed_bytes,
        })
    });
    accounts.collect()
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
    Ok(Luggage {
        owner: read.owner,
        friends: friends.collect(),
        accounts: read.accounts,
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
                        given,
                        received,
                        delivered_bytes: 0,
                        disputed_bytes: 0,
                    })
                    .collect(),
            };
            if let Ok(luggage) = unpack(export) {
                for record in &luggage.accounts {
                    let kept = record.given.iter().chain(&record.received);
                    prop_assert!(kept.into_iter().all(|kept| kept.verify().is_err()));
                }
            }
        }
    }
}
