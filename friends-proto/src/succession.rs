//! A new key in place of an old one, by a statement that both sign (`spec/identity.md`): short enough to paste in a chat.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32m, Hrp};

use crate::identity::{
    BadSignature, Identity, KeyError, PUBLIC_BYTES, PublicKey, SIGNATURE_BYTES, Signature,
};

/// What is put in front of both keys before they are signed.
pub const DOMAIN: &[u8] = b"bs_friends succession 1\0";
/// The human-readable part: a statement begins with it and `1`.
const HRP: Hrp = Hrp::parse_unchecked("bss");
/// First byte of the payload; the only kind of statement there is.
const VERSION: u8 = 1;
/// Bytes of the payload: version, two keys, two signatures.
const PAYLOAD: usize = 1 + 2 * PUBLIC_BYTES + 2 * SIGNATURE_BYTES;
/// Characters of a statement: `bss1`, 309 for the payload, 6 of checksum.
const TEXT: usize = 319;

/// A statement whose signatures both hold: who was `old` is `new` from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succession {
    old: PublicKey,
    new: PublicKey,
    by_old: Signature,
    by_new: Signature,
}

/// Why a text is no statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// It does not begin with `bss1`.
    #[error(
        "a statement about a new key begins with \"bss1\"; copy it again, from its first character"
    )]
    NotSuccession,
    /// The checksum does not fit: a character is wrong, missing or doubled, or the case is mixed.
    #[error("the statement has a typing error (its checksum does not fit); copy it again, whole")]
    Damaged,
    /// Of another version.
    #[error(
        "this statement is of version {0}, and this program knows version {VERSION}; update BTSlave"
    )]
    Version(u8),
    /// The checksum fits, and the payload has another length.
    #[error("this statement is not of the right length; ask your friend for it again")]
    Length,
    /// A key is refused.
    #[error("a key in this statement is refused: {0}")]
    Key(#[from] KeyError),
    /// Nothing is replaced.
    #[error("this statement replaces a key by itself")]
    SameKey,
    /// One of the two signatures does not hold.
    #[error("this statement is forged: it is not signed with both keys")]
    Forged,
}

impl From<BadSignature> for SuccessionError {
    fn from(_: BadSignature) -> Self {
        Self::Forged
    }
}

fn signed_bytes(old: &PublicKey, new: &PublicKey) -> Vec<u8> {
    [DOMAIN, old.as_bytes(), new.as_bytes()].concat()
}

impl Succession {
    /// The statement that `new` follows `old`. The same two give the same one.
    ///
    /// # Errors
    /// [`SuccessionError::SameKey`]
    //= spec/identity.md#succession
    pub fn sign(old: &Identity, new: &Identity) -> Result<Self, SuccessionError> {
        let keys = (old.public_key(), new.public_key());
        if keys.0 == keys.1 {
            return Err(SuccessionError::SameKey);
        }
        let bytes = signed_bytes(&keys.0, &keys.1);
        Ok(Self {
            old: keys.0,
            new: keys.1,
            by_old: old.sign(&bytes),
            by_new: new.sign(&bytes),
        })
    }

    /// The key that counts no longer.
    #[must_use]
    pub fn old(&self) -> &PublicKey {
        &self.old
    }

    /// The one that counts.
    #[must_use]
    pub fn new_key(&self) -> &PublicKey {
        &self.new
    }

    //= spec/identity.md#succession-refuse
    fn read(payload: &[u8]) -> Result<Self, SuccessionError> {
        match payload.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(SuccessionError::Version(*other)),
            None => return Err(SuccessionError::Length),
        }
        let payload: &[u8; PAYLOAD] = payload.try_into().map_err(|_| SuccessionError::Length)?;
        let (keys, signatures) = payload[1..].split_at(2 * PUBLIC_BYTES);
        let key = |bytes: &[u8]| {
            let bytes = bytes.try_into().map_err(|_| SuccessionError::Length)?;
            Ok::<_, SuccessionError>(PublicKey::from_bytes(bytes)?)
        };
        let signature = |bytes: &[u8]| {
            let bytes = bytes.try_into().map_err(|_| SuccessionError::Length)?;
            Ok::<_, SuccessionError>(Signature(bytes))
        };
        let (old, new) = keys.split_at(PUBLIC_BYTES);
        let (by_old, by_new) = signatures.split_at(SIGNATURE_BYTES);
        let read = Self {
            old: key(old)?,
            new: key(new)?,
            by_old: signature(by_old)?,
            by_new: signature(by_new)?,
        };
        if read.old == read.new {
            return Err(SuccessionError::SameKey);
        }
        let bytes = signed_bytes(&read.old, &read.new);
        read.old.verify(&bytes, &read.by_old)?;
        read.new.verify(&bytes, &read.by_new)?;
        Ok(read)
    }

    fn payload(&self) -> Vec<u8> {
        [
            &[VERSION][..],
            self.old.as_bytes(),
            self.new.as_bytes(),
            &self.by_old.0,
            &self.by_new.0,
        ]
        .concat()
    }
}

impl FromStr for Succession {
    type Err = SuccessionError;

    /// Reads a statement, with spaces around it allowed and in either case, but not mixed.
    fn from_str(text: &str) -> Result<Self, SuccessionError> {
        let text = text.trim();
        let begins = text.get(..4);
        if !begins.is_some_and(|start| start.eq_ignore_ascii_case("bss1")) {
            return Err(SuccessionError::NotSuccession);
        }
        if text.len() > 2 * TEXT {
            return Err(SuccessionError::Length);
        }
        let checked =
            CheckedHrpstring::new::<Bech32m>(text).map_err(|_| SuccessionError::Damaged)?;
        if checked.hrp() != HRP {
            return Err(SuccessionError::NotSuccession);
        }
        let payload: Vec<u8> = checked.byte_iter().collect();
        let read = Self::read(&payload)?;
        // The last character has a padding bit: a set one would be a second spelling.
        if read.to_string() != text.to_ascii_lowercase() {
            return Err(SuccessionError::Damaged);
        }
        Ok(read)
    }
}

impl fmt::Display for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.payload().into_iter();
        let mut text = payload
            .bytes_to_fes()
            .with_checksum::<Bech32m>(&HRP)
            .chars();
        text.try_for_each(|character| write!(f, "{character}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Zeroizing;

    fn identity(secret: [u8; 32]) -> Identity {
        Identity::from_secret(&Zeroizing::new(secret))
    }

    fn statement() -> Succession {
        Succession::sign(&identity([1; 32]), &identity([2; 32])).expect("two keys")
    }

    fn written(payload: &[u8]) -> String {
        bech32::encode::<Bech32m>(HRP, payload).expect("encode")
    }

    #[test]
    fn p20_what_both_keys_signed_is_read_back() {
        let text = statement().to_string();
        assert_eq!(text.len(), TEXT);
        assert_eq!(text.parse(), Ok(statement()));
        assert_eq!(
            format!(" {}\n", text.to_uppercase()).parse(),
            Ok(statement())
        );
        let own = Succession::sign(&identity([1; 32]), &identity([1; 32]));
        assert_eq!(own, Err(SuccessionError::SameKey));
    }

    /// Neither a thief of no key, nor one of the old key alone, nor one who names another's key as the new one, gets through.
    #[test]
    fn p20_a_statement_that_one_of_the_two_did_not_sign_is_forged() {
        let good = statement().payload();
        for at in 1 + 2 * PUBLIC_BYTES..PAYLOAD {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(
                written(&bad).parse::<Succession>(),
                Err(SuccessionError::Forged),
                "{at}"
            );
        }
        let third = identity([3; 32]).public_key();
        for at in [1, 1 + PUBLIC_BYTES] {
            let mut other = good.clone();
            other[at..at + PUBLIC_BYTES].copy_from_slice(third.as_bytes());
            assert_eq!(
                written(&other).parse::<Succession>(),
                Err(SuccessionError::Forged)
            );
        }
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        let good = statement().payload();
        let mut later = good.clone();
        later[0] = 2;
        let text = statement().to_string();
        for (text, error) in [
            ("bs1qqq".to_owned(), SuccessionError::NotSuccession),
            (String::new(), SuccessionError::NotSuccession),
            (text[..318].to_owned(), SuccessionError::Damaged),
            (written(&later), SuccessionError::Version(2)),
            (written(&good[..192]), SuccessionError::Length),
            (written(&[]), SuccessionError::Length),
            (
                "bss1".to_owned() + &"q".repeat(999),
                SuccessionError::Length,
            ),
        ] {
            assert_eq!(text.parse::<Succession>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "bss1[ -~]{0,400}", tail: Vec<u8>) {
            let _ = text.parse::<Succession>();
            let _ = Succession::read(&tail);
        }

        #[test]
        fn any_changed_character_is_refused(at in 0_usize..TEXT, to in 0x21_u8..0x7f) {
            let mut text = statement().to_string().into_bytes();
            prop_assume!(!text[at].eq_ignore_ascii_case(&to));
            text[at] = to;
            let text = String::from_utf8(text).expect("ASCII");
            prop_assert!(text.parse::<Succession>().is_err());
        }
    }
}
