//! What the subjects share.

use data_encoding::HEXLOWER;
use friends_proto::identity::{Identity, PublicKey, Zeroizing};
use friends_proto::iou::{DOMAIN, Iou, SignedIou};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The people of the vectors. Secrets are fixed, so that the files are always the same.
pub(crate) const ALICE: [u8; 32] = [0x01; 32];
pub(crate) const BOB: [u8; 32] = [0x02; 32];
pub(crate) const CAROL: [u8; 32] = [0x03; 32];

pub(crate) fn identity(secret: &[u8; 32]) -> Identity {
    Identity::from_secret(&Zeroizing::new(*secret))
}

pub(crate) fn key(secret: &[u8; 32]) -> PublicKey {
    identity(secret).public_key()
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).expect("hex")
}

pub(crate) fn array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text).try_into().expect("length")
}

/// Signs as a debtor does; the ledger would ask for a sync and a store first.
pub(crate) fn signed(creditor: &[u8; 32], debtor: &[u8; 32], total: u64) -> SignedIou {
    let iou = Iou::new(key(creditor), key(debtor), total).expect("terms");
    let bytes = iou.encode();
    let signature = identity(debtor).sign(&[DOMAIN, &bytes].concat());
    SignedIou::from_parts(&bytes, &signature.0).expect("signed")
}

/// The text of a file. Fields come in the order of the structs, whatever features serde_json has.
pub(crate) fn text(file: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(file).expect("JSON");
    text.push('\n');
    text
}

pub(crate) fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("a file of this subject")
}
