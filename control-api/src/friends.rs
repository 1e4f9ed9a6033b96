//! Friends, and the IOUs signed between them and us.
//!
//! A friend code is `bs1…`, with up to four hints `@host:port` behind it. Totals are all the help ever given or received, as
//! signed; a signed total itself is a string, since it may exceed what JSON readers keep of a number.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One friend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Friend {
    /// The operator's name for it.
    pub name: String,
    /// Its friend code, with its hints.
    pub code: String,
    /// A session with it stands.
    pub online: bool,
    /// `fresh` (nothing is signed yet), `restored` (our ledger may be an old copy: nothing is signed before the friend has
    /// shown what it holds) or `synced`.
    pub state: String,
    /// What it signed to owe us.
    pub owed_to_us_bytes: u64,
    /// What we signed to owe it.
    pub owed_by_us_bytes: u64,
    /// Of what it signed, this calendar month (UTC).
    pub given_month_bytes: u64,
    /// Of what we signed, this calendar month (UTC).
    pub taken_month_bytes: u64,
    /// Help it took and left unsigned.
    pub disputed_bytes: u64,
    /// Last session, seconds since the Unix epoch; null = never.
    pub last_seen: Option<u64>,
    /// Added at, seconds since the Unix epoch.
    pub added_at: u64,
}

/// `GET /api/v1/friends/code`: this slave's own friend code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnCode {
    /// The code, with hints where a global listen address is known.
    pub code: String,
    /// The public key, 64 hex digits.
    pub key: String,
    /// The hints, `host:port`.
    pub hints: Vec<String>,
}

/// `POST /api/v1/friends`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddFriend {
    /// The friend's code.
    pub code: String,
    /// A name of your choice; null = the beginning of the code.
    #[serde(default)]
    pub name: Option<String>,
}

/// `GET` and `POST /api/v1/friends/key`: a new key of ours in place of the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnSuccession {
    /// What friends need: `bss1…`, signed with both keys.
    pub statement: String,
    /// The new friend code, without hints.
    pub code: String,
    /// The new key waits for the next start of btslave; until then the old one is in use.
    pub waits: bool,
}

/// `POST /api/v1/friends/follow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// A friend's statement, `bss1…`.
    pub statement: String,
}

/// A friend by its name or its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FriendName {
    /// As it was added, or its code.
    pub name: String,
}

/// One signed IOU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedRecord {
    /// The total that it claims, in bytes, in decimal digits.
    pub total: String,
    /// The exact bytes that are signed, behind their domain, in hex.
    pub iou: String,
    /// The debtor's Ed25519 signature, in hex.
    pub signature: String,
}

/// What is signed between one friend and us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerAccount {
    /// The friend's code, without hints.
    pub friend: String,
    /// The operator's name for it, by its newest key; null = not on the list (any more).
    pub name: Option<String>,
    /// The code of the key that its owner put in place of this one; null = it is the newest.
    #[serde(default)]
    pub replaced_by: Option<String>,
    /// The code of our own former key that signed and was signed for; null = the one in use.
    #[serde(default)]
    pub own_former: Option<String>,
    /// The newest IOU that it signed: help we gave.
    pub given: Option<SignedRecord>,
    /// The newest IOU that we signed: help we received.
    pub received: Option<SignedRecord>,
    /// All that was ever delivered to it, by our own count.
    pub delivered_bytes: u64,
    /// Help it took and left unsigned.
    pub disputed_bytes: u64,
}

/// `GET /api/v1/friends/verify`: every signature on record, checked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerCheck {
    /// All are sound.
    pub ok: bool,
    /// Signatures checked and found sound.
    pub signatures: u32,
    /// Account by account.
    pub accounts: Vec<AccountCheck>,
}

/// One account, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountCheck {
    /// The friend's name, or its code where it has none.
    pub friend: String,
    /// Its signatures are sound.
    pub ok: bool,
    /// What was found, for a person.
    pub detail: String,
}

/// A friend in an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportedFriend {
    /// The operator's name for it.
    pub name: String,
    /// Its friend code, with its hints.
    pub code: String,
    /// Added at, seconds since the Unix epoch.
    pub added_at: u64,
}

/// `GET /api/v1/friends/export`, and the body of `POST /api/v1/friends/import`: everything about friends but the secret
/// key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FriendsExport {
    /// 2; format 1 knew of no former keys, and is read, too.
    pub format: u32,
    /// Whose it is: a friend code without hints.
    pub owner: String,
    /// The list.
    pub friends: Vec<ExportedFriend>,
    /// The ledger, of former friends and keys too.
    pub accounts: Vec<LedgerAccount>,
    /// Statements about new keys (`bss1…`), ours and those of friends.
    #[serde(default)]
    pub successions: Vec<String>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// Friends new to the list.
    pub friends_added: u32,
    /// IOUs that were newer than those here.
    pub ious_adopted: u32,
    /// IOUs that were here already, or here newer.
    pub ious_known: u32,
}
