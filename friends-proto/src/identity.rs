//! Who a slave is: an Ed25519 key pair (RFC 8032).

use std::cmp::Ordering;
use std::fmt;

use ed25519_dalek::{Signature as DalekSignature, Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq as _;
pub use zeroize::Zeroizing;

/// Bytes of a secret key.
pub const SECRET_BYTES: usize = 32;
/// Bytes of a public key.
pub const PUBLIC_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A slave's own key pair. The secret is wiped when this is dropped, and neither shown nor compared.
pub struct Identity(SigningKey);

impl Identity {
    /// The key pair of a secret (RFC 8032, 5.1.5). The caller draws the 32 bytes from a good random source and keeps them;
    /// every value is a valid secret, and the same one always gives the same identity.
    #[must_use]
    pub fn from_secret(secret: &Zeroizing<[u8; SECRET_BYTES]>) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The half that may be shown to everyone.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs the exact bytes of `message`. The caller puts a domain (such as `bs_friends iou 1\0`) in front.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// X25519 (RFC 7748) of this secret and `other`, both mapped to Curve25519. `None` when the result is zero: `other`
    /// contributed nothing.
    pub(crate) fn agree(&self, other: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
        let scalar = Zeroizing::new(self.0.to_scalar_bytes());
        let point = other.0.to_montgomery().mul_clamped(*scalar);
        let shared = Zeroizing::new(point.to_bytes());
        (!bool::from(shared.ct_eq(&[0; 32]))).then_some(shared)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("public_key", &self.public_key())
            .finish_non_exhaustive()
    }
}

/// Somebody's public key: a canonical encoding of a point that is not of small order. Ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

/// Why 32 bytes are no public key of a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes encode no point of the curve, or not in the one canonical way.
    #[error("these 32 bytes are not an Ed25519 public key")]
    NotAKey,
    /// A point of small order: anybody could forge its signatures.
    #[error("this public key is weak (small order): anybody could sign in its name")]
    Weak,
}

impl PublicKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`] when the bytes are no point, not canonical, or a point of small order.
    //= spec/identity.md#key-accept
    pub fn from_bytes(bytes: &[u8; PUBLIC_BYTES]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAKey)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        // One key, one spelling: two encodings of a point would be two friends with one secret.
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NotAKey);
        }
        Ok(Self(key))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_BYTES] {
        self.0.as_bytes()
    }

    /// Whether `signature` is this key's over the exact bytes of `message`; strict: S ≥ L and small orders are refused.
    ///
    /// # Errors
    /// [`BadSignature`] when it is not.
    //= spec/identity.md#signature-strict
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = DalekSignature::from_bytes(&signature.0);
        self.0
            .verify_strict(message, &signature)
            .map_err(|_| BadSignature)
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// An Ed25519 signature: 64 bytes, unchecked until [`PublicKey::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

/// A signature is not the key's over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not belong to this key and message")]
pub struct BadSignature;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> = (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
            .collect();
        bytes.try_into().expect("length")
    }

    #[test]
    fn rfc_8032_test_2() {
        let me = Identity::from_secret(&Zeroizing::new(hex(
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        )));
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(me.public_key().as_bytes(), &public);
        assert_eq!(PublicKey::from_bytes(&public), Ok(me.public_key()));
        let signature = Signature(hex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ));
        assert_eq!(me.sign(&[0x72]), signature);
        assert_eq!(me.public_key().verify(&[0x72], &signature), Ok(()));
        assert_eq!(
            me.public_key().verify(&[0x73], &signature),
            Err(BadSignature)
        );
    }

    #[test]
    fn signature_with_s_not_below_l_is_refused() {
        let me = Identity::from_secret(&Zeroizing::new([7; 32]));
        let mut signature = me.sign(b"a");
        let order: [u8; 32] =
            hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut carry = 0_u16;
        for (s, l) in signature.0[32..].iter_mut().zip(order) {
            let sum = u16::from(*s) + u16::from(l) + carry;
            *s = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(me.public_key().verify(b"a", &signature), Err(BadSignature));
    }

    #[test]
    fn small_order_and_non_canonical_keys_are_refused() {
        // The orders 1, 2, 4 and 8.
        for weak in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        ] {
            assert_eq!(
                PublicKey::from_bytes(&hex(weak)),
                Err(KeyError::Weak),
                "{weak}"
            );
        }
        // y = p + 3, a second spelling of y = 3, which is a point of large order; y = 2 is on no point.
        let three = hex("0300000000000000000000000000000000000000000000000000000000000000");
        assert!(PublicKey::from_bytes(&three).is_ok());
        let spelled_twice = hex("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        assert_eq!(
            PublicKey::from_bytes(&spelled_twice),
            Err(KeyError::NotAKey)
        );
        let no_point = hex("0200000000000000000000000000000000000000000000000000000000000000");
        assert_eq!(PublicKey::from_bytes(&no_point), Err(KeyError::NotAKey));
    }

    //= spec/identity.md#pair-zero
    #[test]
    fn a_point_that_contributes_nothing_gives_no_secret() {
        let me = Identity::from_secret(&Zeroizing::new([7; 32]));
        let neutral = hex("0100000000000000000000000000000000000000000000000000000000000000");
        // Past the check that keeps such a key out.
        let weak = PublicKey(VerifyingKey::from_bytes(&neutral).expect("a point"));
        assert_eq!(me.agree(&weak), None);
        assert!(me.agree(&me.public_key()).is_some());
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", Identity::from_secret(&Zeroizing::new([0xa7; 32])));
        assert!(
            !shown.contains("a7a7a7") && !shown.contains("167, 167"),
            "{shown}"
        );
        assert!(shown.contains("PublicKey("), "{shown}");
    }
}
