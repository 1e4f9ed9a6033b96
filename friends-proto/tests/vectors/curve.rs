//! Signatures that satisfy a lax verifier's equation and are refused all the same. Made with the curve's arithmetic.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use ring::digest;

/// The group order L, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut full = [0; 64];
    full.copy_from_slice(digest::digest(&digest::SHA512, &parts.concat()).as_ref());
    full
}

fn scalar_bytes(secret: &[u8; 32]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&sha512(&[secret])[..32]);
    bytes
}

fn secret_scalar(secret: &[u8; 32]) -> Scalar {
    Scalar::from_bytes_mod_order(clamp_integer(scalar_bytes(secret)))
}

fn challenge(r: &EdwardsPoint, public: &EdwardsPoint, message: &[u8]) -> Scalar {
    let (r, public) = (r.compress(), public.compress());
    Scalar::from_bytes_mod_order_wide(&sha512(&[r.as_bytes(), public.as_bytes(), message]))
}

fn join(r: &EdwardsPoint, s: &Scalar) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(r.compress().as_bytes());
    signature[32..].copy_from_slice(s.as_bytes());
    signature
}

/// The same signature with S + L for S.
pub(crate) fn with_s_above_order(mut signature: [u8; 64]) -> [u8; 64] {
    let mut carry = 0_u16;
    for (s, l) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*s) + u16::from(l) + carry;
        *s = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    signature
}

/// A signature whose R is the neutral element: S = k·a.
pub(crate) fn with_small_order_r(secret: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let a = secret_scalar(secret);
    let r = EIGHT_TORSION[0];
    let k = challenge(&r, &(ED25519_BASEPOINT_POINT * a), message);
    join(&r, &(k * a))
}

/// A public key with a torsion component, and a signature that holds only when multiplied by the cofactor.
pub(crate) fn with_torsion(secret: &[u8; 32], message: &[u8]) -> ([u8; 32], [u8; 64]) {
    let a = secret_scalar(secret);
    let public = ED25519_BASEPOINT_POINT * a + EIGHT_TORSION[1];
    // A nonce whose challenge is no multiple of 8, so that the torsion does not cancel out.
    (1_u64..)
        .map(|nonce| {
            let r = Scalar::from(nonce);
            let point = ED25519_BASEPOINT_POINT * r;
            (r, point, challenge(&point, &public, message))
        })
        .find(|(_, _, k)| k.as_bytes()[0] % 8 != 0)
        .map(|(r, point, k)| (public.compress().0, join(&point, &(r + k * a))))
        .expect("seven of eight will do")
}

/// A signature that a verifier without a check for small orders takes for one of the key 0x01 00 … 00: R = B, S = 1.
pub(crate) fn by_neutral_key() -> ([u8; 32], [u8; 64]) {
    let public = EIGHT_TORSION[0].compress().0;
    (public, join(&ED25519_BASEPOINT_POINT, &Scalar::ONE))
}

/// X25519 by another way than the code's: decoded, mapped and multiplied here.
pub(crate) fn x25519(secret: &[u8; 32], public: &[u8; 32]) -> [u8; 32] {
    let point = curve25519_dalek::edwards::CompressedEdwardsY(*public)
        .decompress()
        .expect("a point");
    let u = MontgomeryPoint(point.to_montgomery().to_bytes());
    u.mul_clamped(scalar_bytes(secret)).to_bytes()
}
