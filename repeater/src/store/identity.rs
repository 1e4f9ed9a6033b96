//! The slave's secret key, in a file of its own that only its owner reads, and the opening's number beside it.
//!
//! `identity.key`: one line, `bs-identity 1 SECRET PUBLIC` in hex. Any 32 bytes are a secret, so the public key is there to
//! show damage. `identity.epoch`: one line, `bs-epoch 1 NUMBER CRC`, CRC being the crc32c of all before it, in hex.

use friends_proto::identity::{Identity, PublicKey, SECRET_BYTES, Zeroizing};
use friends_proto::ledger::BesideKey;

use data_encoding::HEXLOWER;

use super::disk::{Dir, Disk};
use super::error::StoreError;

/// The secret key's file in the data directory.
pub(super) const KEY: &str = "identity.key";
/// The file of the key that takes its place at the next opening.
pub(super) const NEXT: &str = "identity.next";
/// The file of the last opening's number.
pub(super) const EPOCH: &str = "identity.epoch";
/// Longest of both files that is read, in bytes.
const MAX_FILE: u64 = 1024;
const KEY_HEAD: &str = "bs-identity 1 ";
const EPOCH_HEAD: &str = "bs-epoch 1 ";

fn unusable(dir: &Dir, why: impl Into<String>, hint: &'static str) -> StoreError {
    StoreError::Identity {
        path: dir.path(KEY),
        why: why.into(),
        hint,
    }
}

/// Reads the identity in this file; None where there is none.
pub(super) fn read(dir: &Dir, name: &str) -> Result<Option<Identity>, StoreError> {
    let Some(mode) = dir.mode(name)? else {
        return Ok(None);
    };
    if mode & 0o077 != 0 {
        let why = format!("other users may read or write it (mode {mode:04o})");
        let hint =
            "if nobody did, `chmod 600` it; if somebody may have, friends need a new code of yours";
        return Err(unusable(dir, why, hint));
    }
    let damaged = || {
        let hint = "put it back from a backup; without it your friends' IOUs cannot be claimed";
        unusable(dir, "is damaged, and no new one is made in its place", hint)
    };
    let bytes = match dir.read(name, MAX_FILE) {
        Ok(Some(bytes)) => Zeroizing::new(bytes),
        Ok(None) => return Ok(None),
        Err(StoreError::TooLarge { .. }) => return Err(damaged()),
        Err(e) => return Err(e),
    };
    parse(&bytes).map(Some).ok_or_else(damaged)
}

fn parse(bytes: &[u8]) -> Option<Identity> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (secret, public) = line.strip_prefix(KEY_HEAD)?.split_once(' ')?;
    let secret = Zeroizing::new(HEXLOWER.decode(secret.as_bytes()).ok()?);
    let secret: &[u8; SECRET_BYTES] = secret.as_slice().try_into().ok()?;
    let identity = Identity::from_secret(&Zeroizing::new(*secret));
    (HEXLOWER.encode(identity.public_key().as_bytes()) == public).then_some(identity)
}

/// Draws an identity and makes it durable, in a file that does not exist.
pub(super) fn create(dir: &Dir, disk: &dyn Disk, name: &str) -> Result<Identity, StoreError> {
    let mut secret = Zeroizing::new([0_u8; SECRET_BYTES]);
    getrandom::fill(&mut *secret).map_err(|e| {
        let why = format!("cannot be made: the system has no randomness ({e})");
        unusable(dir, why, "start again later")
    })?;
    let identity = Identity::from_secret(&secret);
    let hidden = Zeroizing::new(HEXLOWER.encode(&*secret));
    let public = HEXLOWER.encode(identity.public_key().as_bytes());
    let line = Zeroizing::new(format!("{KEY_HEAD}{} {public}\n", *hidden));
    dir.replace(disk, name, line.as_bytes())?;
    Ok(identity)
}

/// Copies the key of one file over another, durably.
pub(super) fn copy(dir: &Dir, disk: &dyn Disk, from: &str, to: &str) -> Result<(), StoreError> {
    match dir.read(from, MAX_FILE)?.map(Zeroizing::new) {
        Some(line) => dir.replace(disk, to, &line).map(drop),
        None => Ok(()),
    }
}

/// The identity of this directory: read, or made where none was ever used here. True: made just now.
///
/// `used` is the key that the store knows; `kept`: the store holds IOUs. A store of another key, or without its key, is
/// refused.
pub(super) fn open(
    dir: &Dir,
    disk: &dyn Disk,
    used: Option<&PublicKey>,
    kept: bool,
) -> Result<(Identity, bool), StoreError> {
    if let Some(identity) = read(dir, KEY)? {
        if used.is_some_and(|used| identity.public_key() != *used) {
            return Err(unusable(
                dir,
                "is not the key that the ledger in this directory belongs to",
                "put the right one back from a backup, or choose another --data-dir",
            ));
        }
        return Ok((identity, false));
    }
    if used.is_some() || kept || dir.mode(EPOCH)?.is_some() {
        return Err(unusable(
            dir,
            "is missing, and this directory was used with it",
            "put it back from a backup, or choose another --data-dir to begin anew",
        ));
    }
    Ok((create(dir, disk, KEY)?, true))
}

/// Number of the last opening with this key.
pub(super) fn read_epoch(dir: &Dir) -> Result<BesideKey, StoreError> {
    let bytes = match dir.read(EPOCH, MAX_FILE) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(StoreError::TooLarge { .. }) => return Ok(BesideKey::Missing),
        Err(e) => return Err(e),
    };
    let number = || {
        let line = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?;
        let (head, crc) = line.rsplit_once(' ')?;
        let sound = format!("{:08x}", crc32c::crc32c(head.as_bytes())) == crc;
        let number = head.strip_prefix(EPOCH_HEAD)?.parse().ok()?;
        sound.then_some(BesideKey::Number(number))
    };
    Ok(number().unwrap_or(BesideKey::Missing))
}

/// Makes the number of this opening durable beside the key.
pub(super) fn write_epoch(dir: &Dir, disk: &dyn Disk, number: u64) -> Result<(), StoreError> {
    let head = format!("{EPOCH_HEAD}{number}");
    let line = format!("{head} {:08x}\n", crc32c::crc32c(head.as_bytes()));
    dir.replace(disk, EPOCH, line.as_bytes()).map(drop)
}
