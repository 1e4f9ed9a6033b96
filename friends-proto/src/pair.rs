//! What two slaves derive from their keys alone, and nobody else can: the pair's key, recognition tags, homes
//! (`spec/identity.md`).

use std::fmt;

use bt_wire::ids::InfoHash;
use ring::{hkdf, hmac};
use subtle::ConstantTimeEq as _;

use crate::identity::{Identity, PublicKey, Zeroizing};

/// Bytes of a pair's key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a tag's nonce.
pub const NONCE_BYTES: usize = 16;
/// Bytes of a recognition tag.
pub const TAG_BYTES: usize = 8;

/// HKDF's salt.
const SALT: &[u8] = b"bs_friends pair 1\0";
/// What a tag's HMAC begins with.
const TAG_DOMAIN: &[u8] = b"bs_friends tag 1\0";
/// What a home's HMAC begins with.
const HOME_DOMAIN: &[u8] = b"bs_friends home 1\0";

/// The key K that two slaves share: HKDF-SHA256 (RFC 5869) of X25519 (RFC 7748) over their identities. Wiped when dropped,
/// never shown.
#[derive(Clone)]
pub struct PairKey(Zeroizing<[u8; KEY_BYTES]>);

/// Why there is no pair's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The other key is our own: nobody is his own friend, and an echoed key proves nothing.
    #[error("this is your own key; a friend code to add comes from somebody else")]
    OwnKey,
    /// The agreement gave zero, so that everybody could know it.
    #[error("this key gives no secret with ours (small order); ask your friend for a new code")]
    NoSecret,
}

/// Who sends a tag. It keeps a tag from being sent back as the other side's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that opened the TCP or uTP connection.
    Opener,
    /// The side that accepted it.
    Acceptor,
}

/// What a friend recognises us by in a BEP 10 handshake; noise to everybody else.
#[derive(Debug, Clone, Copy)]
pub struct Tag(pub [u8; TAG_BYTES]);

impl Role {
    /// How a role is written where it is hashed or signed.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Opener => 0,
            Self::Acceptor => 1,
        }
    }

    /// The other side's.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Opener => Self::Acceptor,
            Self::Acceptor => Self::Opener,
        }
    }
}

impl PairKey {
    /// The key of `me` and `other`; `other` derives the same one.
    ///
    /// # Errors
    /// [`PairError`] when `other` is `me`, or contributes nothing.
    //= spec/identity.md#pair-key
    //= spec/identity.md#pair-own
    //= spec/identity.md#pair-zero
    pub fn derive(me: &Identity, other: &PublicKey) -> Result<Self, PairError> {
        let mine = me.public_key();
        if mine == *other {
            return Err(PairError::OwnKey);
        }
        let shared = me.agree(other).ok_or(PairError::NoSecret)?;
        let (low, high) = if mine < *other {
            (&mine, other)
        } else {
            (other, &mine)
        };
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&*shared);
        let info: [&[u8]; 2] = [low.as_bytes(), high.as_bytes()];
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        // 32 bytes are one block of HKDF-SHA256; it refuses only more than 255.
        secret
            .expand(&info, hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(&mut *key))
            .map_err(|_| PairError::NoSecret)?;
        Ok(Self(key))
    }

    /// The 32 bytes, which are also the Noise pre-shared key of a session between friends.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The tag that the side in `role` sends with `nonce` on a connection for `infohash`: the first 8 bytes of
    /// HMAC-SHA256(K, `bs_friends tag 1\0` ‖ nonce ‖ infohash ‖ role).
    #[must_use]
    //= spec/identity.md#tag
    pub fn tag(&self, nonce: &[u8; NONCE_BYTES], infohash: &InfoHash, role: Role) -> Tag {
        let full = self.hmac(&[TAG_DOMAIN, nonce, infohash.as_bytes(), &[role.byte()]]);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&full[..TAG_BYTES]);
        Tag(tag)
    }

    /// Whether one of `tags` is the friend's. Looks at all of them, each in constant time.
    #[must_use]
    //= spec/identity.md#tag-compare
    pub fn recognises(
        &self,
        tags: &[Tag],
        nonce: &[u8; NONCE_BYTES],
        infohash: &InfoHash,
        role: Role,
    ) -> bool {
        let expected = self.tag(nonce, infohash, role);
        contains(tags, |tag| tag.0.ct_eq(&expected.0))
    }

    /// Where the two look for each other on one day: an infohash with no torrent behind it, the first 20 bytes of
    /// HMAC-SHA256(K, `bs_friends home 1\0` ‖ day). `day` counts whole days (86,400 s) of UTC since 1970-01-01.
    #[must_use]
    //= spec/identity.md#home
    pub fn home(&self, day: u64) -> InfoHash {
        let full = self.hmac(&[HOME_DOMAIN, &day.to_be_bytes()]);
        let mut home = [0; 20];
        home.copy_from_slice(&full[..20]);
        InfoHash(home)
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let mut context = hmac::Context::with_key(&key);
        parts.iter().for_each(|part| context.update(part));
        let mut full = [0; 32];
        full.copy_from_slice(context.sign().as_ref());
        full
    }
}

/// Whether one of `tags` is `right`. Every one is compared, whichever was right before.
fn contains(tags: &[Tag], mut right: impl FnMut(&Tag) -> subtle::Choice) -> bool {
    let none = subtle::Choice::from(0);
    tags.iter()
        .fold(none, |found, tag| found | right(tag))
        .into()
}

impl fmt::Debug for PairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u8) -> Identity {
        Identity::from_secret(&Zeroizing::new([seed; 32]))
    }

    fn key(me: &Identity, other: &Identity) -> PairKey {
        PairKey::derive(me, &other.public_key()).expect("two honest keys")
    }

    #[test]
    fn both_sides_derive_the_same_and_a_third_another() {
        let (a, b, c) = (identity(1), identity(2), identity(3));
        assert_eq!(key(&a, &b).as_bytes(), key(&b, &a).as_bytes());
        assert_ne!(key(&a, &b).as_bytes(), key(&a, &c).as_bytes());
        assert_ne!(key(&a, &b).as_bytes(), key(&b, &c).as_bytes());
    }

    #[test]
    fn p22_own_key_echoed_is_refused() {
        let me = identity(1);
        assert_eq!(
            PairKey::derive(&me, &me.public_key()).err(),
            Some(PairError::OwnKey)
        );
    }

    #[test]
    fn a_tag_is_bound_to_nonce_infohash_and_role() {
        let (a, b) = (identity(1), identity(2));
        let (ours, theirs) = (key(&a, &b), key(&b, &a));
        let (nonce, hash) = ([5; NONCE_BYTES], InfoHash([6; 20]));
        let tags = [Tag([0; 8]), ours.tag(&nonce, &hash, Role::Opener)];
        assert!(theirs.recognises(&tags, &nonce, &hash, Role::Opener));
        assert!(!theirs.recognises(&tags, &nonce, &hash, Role::Acceptor));
        assert!(!theirs.recognises(&tags, &[4; NONCE_BYTES], &hash, Role::Opener));
        assert!(!theirs.recognises(&tags, &nonce, &InfoHash([7; 20]), Role::Opener));
        assert!(!theirs.recognises(&[], &nonce, &hash, Role::Opener));
        let stranger = key(&identity(3), &b);
        assert!(!stranger.recognises(&tags, &nonce, &hash, Role::Opener));
    }

    //= spec/friends.md#meet-work
    #[test]
    fn every_tag_is_compared_wherever_the_right_one_is() {
        let tags: Vec<Tag> = (0..16).map(|n| Tag([n; TAG_BYTES])).collect();
        for right in [0, 7, 15, 16] {
            let mut compared = Vec::new();
            let found = contains(&tags, |tag| {
                compared.push(tag.0);
                tag.0.ct_eq(&[right; TAG_BYTES])
            });
            let all: Vec<[u8; TAG_BYTES]> = tags.iter().map(|tag| tag.0).collect();
            assert_eq!((found, compared), (right < 16, all));
        }
    }

    #[test]
    fn a_home_is_of_one_pair_and_one_day() {
        let (a, b, c) = (identity(1), identity(2), identity(3));
        assert_eq!(key(&a, &b).home(20_000), key(&b, &a).home(20_000));
        assert_ne!(key(&a, &b).home(20_000), key(&a, &b).home(20_001));
        assert_ne!(key(&a, &b).home(20_000), key(&a, &c).home(20_000));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(
            format!("{:?}", key(&identity(1), &identity(2))),
            "PairKey(…)"
        );
    }
}
