//! Reads an export of friends and ledger, which is foreign bytes. The fuzzer includes this file by path.

use std::str::FromStr as _;

use control_api::friends::{FriendsExport, SignedRecord};
use data_encoding::HEXLOWER;
use friends_proto::friend_code::FriendCode;
use friends_proto::identity::PublicKey;
use friends_proto::ledger::{AccountRecord, IouRecord};
use friends_proto::succession::Succession;

/// The version of an export.
pub(crate) const FORMAT: u32 = 2;
/// The oldest that is read.
const OLDEST: u32 = 1;
/// Longest name of a friend, in characters.
const MAX_NAME: usize = 64;

/// What an export says; no signature is checked yet.
#[derive(Debug)]
pub(crate) struct Read {
    /// Whose it is.
    pub(crate) owner: PublicKey,
    /// Code, name, and when it was added.
    pub(crate) friends: Vec<(FriendCode, String, u64)>,
    /// What is signed, and with which key of the owner's.
    pub(crate) accounts: Vec<(PublicKey, AccountRecord)>,
    /// Statements about new keys; their signatures hold.
    pub(crate) successions: Vec<Succession>,
}

/// Errors say what is wrong, for a person.
pub(crate) fn read(export: FriendsExport) -> Result<Read, String> {
    if !(OLDEST..=FORMAT).contains(&export.format) {
        return Err(format!(
            "is of format {}, and this btslave reads {OLDEST} to {FORMAT}",
            export.format
        ));
    }
    let owner = *code(&export.owner)?.key();
    let friends = export.friends.into_iter().map(|friend| {
        check_name(&friend.name)
            .map_err(|why| format!("the name {} {why}", friend.name.escape_debug()))?;
        Ok((code(&friend.code)?, friend.name, friend.added_at))
    });
    let friends = friends.collect::<Result<_, String>>()?;
    let accounts = export.accounts.into_iter().map(|account| {
        let own = account
            .own_former
            .map_or(Ok(owner), |own| Ok::<_, String>(*code(&own)?.key()));
        let record = AccountRecord {
            friend: *code(&account.friend)?.key().as_bytes(),
            given: account.given.map(kept).transpose()?,
            received: account.received.map(kept).transpose()?,
            synced_at: None,
            delivered_bytes: account.delivered_bytes,
            disputed_bytes: account.disputed_bytes,
        };
        Ok((own?, record))
    });
    let successions = export.successions.iter().map(|text| {
        let shown = || text.chars().take(16).collect::<String>();
        text.parse()
            .map_err(|e| format!("statement {}…: {e}", shown().escape_debug()))
    });
    Ok(Read {
        owner,
        friends,
        accounts: accounts.collect::<Result<_, String>>()?,
        successions: successions.collect::<Result<_, String>>()?,
    })
}

fn code(text: &str) -> Result<FriendCode, String> {
    text.parse()
        .map_err(|e| format!("{}: {e}", text.escape_debug()))
}

fn kept(signed: SignedRecord) -> Result<IouRecord, String> {
    let bytes = |hex: &str| {
        let bytes = HEXLOWER.decode(hex.as_bytes());
        bytes.map_err(|_| "an IOU or signature is no hex".to_owned())
    };
    Ok(IouRecord {
        iou: bytes(&signed.iou)?,
        signature: bytes(&signed.signature)?,
    })
}

/// Whether a friend can have this name.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if !(1..=MAX_NAME).contains(&name.chars().count()) || name.trim() != name {
        return Err("must be 1 to 64 characters, with no space at either end");
    }
    if name.contains(control_api::text::is_unsafe) {
        return Err("holds a character that cannot be shown");
    }
    if name.to_ascii_lowercase().starts_with("bs1") && FriendCode::from_str(name).is_ok() {
        return Err("is a friend code itself");
    }
    Ok(())
}
