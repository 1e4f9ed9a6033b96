//! The primitives that Noise works with: X25519, ChaCha20-Poly1305 and SHA-256 from crates that are in the tree anyway.
//!
//! There is no random source: the one ephemeral key of a handshake is given by the caller.

use curve25519_dalek::montgomery::MontgomeryPoint;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of a key of X25519 and of ChaCha20-Poly1305, and of a hash.
const KEY: usize = 32;
/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;

/// Hands out the primitives, and this ephemeral secret as the only random number.
pub(super) struct Primitives {
    pub(super) ephemeral: Zeroizing<[u8; KEY]>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::default())),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha256(Context::new(&SHA256)))),
            HashChoice::SHA512 | HashChoice::Blake2s | HashChoice::Blake2b => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(Zeroizing::new([0; KEY])))),
            CipherChoice::AESGCM => None,
        }
    }
}

/// A random source with one key in it.
struct Once(Option<Zeroizing<[u8; KEY]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Error> {
        let key = self.0.take().ok_or(Error::Rng)?;
        if into.len() != KEY {
            return Err(Error::Rng);
        }
        into.copy_from_slice(key.as_slice());
        Ok(())
    }
}

/// RFC 7748, 5. A public key that gives zeros, being of small order, is refused.
#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; KEY]>,
    public: [u8; KEY],
}

/// The public key of an X25519 secret.
pub(super) fn public_of(secret: &[u8; KEY]) -> [u8; KEY] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY
    }

    fn priv_len(&self) -> usize {
        KEY
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.public = public_of(&self.secret);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; KEY]);
        rng.try_fill_bytes(secret.as_mut_slice())?;
        self.set(secret.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_slice()
    }

    //= spec/friends.md#noise-zero
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk::<KEY>().ok_or(Error::Dh)?;
        let shared = MontgomeryPoint(*public).mul_clamped(*self.secret).0;
        if bool::from(shared.ct_eq(&[0; KEY])) {
            return Err(Error::Dh);
        }
        out.first_chunk_mut()
            .map(|out| *out = shared)
            .ok_or(Error::Dh)
    }
}

/// FIPS 180-4.
struct Sha256(Context);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        KEY
    }

    fn reset(&mut self) {
        self.0 = Context::new(&SHA256);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let digest = self.0.clone().finish();
        out[..KEY].copy_from_slice(digest.as_ref());
    }
}

/// RFC 8439; the nonce is four zeros and Noise's counter, little-endian (Noise, 12.3).
struct ChaChaPoly(Zeroizing<[u8; KEY]>);

impl ChaChaPoly {
    fn key(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.0.as_slice());
        key.map(LessSafeKey::new).map_err(|_| Error::Input)
    }

    fn seal(&self, nonce: u64, authtext: &[u8], text: &mut [u8]) -> Result<[u8; TAG], Error> {
        let sealed =
            self.key()?
                .seal_in_place_separate_tag(nonce_of(nonce), Aad::from(authtext), text);
        let tag = sealed.map_err(|_| Error::Input)?;
        tag.as_ref().try_into().map_err(|_| Error::Input)
    }
}

fn nonce_of(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY]) {
        *self.0 = *key;
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        // Sealing fails for keys of a wrong length and texts of over 2^38 bytes, and neither can be here.
        // The trait has no error, so nothing readable is left behind.
        match self.seal(nonce, authtext, text) {
            Ok(tag) => rest[..TAG].copy_from_slice(&tag),
            Err(_) => out.fill(0),
        }
        plaintext.len() + TAG
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let mut text = ciphertext.to_vec();
        let opened = self
            .key()?
            .open_in_place(nonce_of(nonce), Aad::from(authtext), &mut text)
            .map_err(|_| Error::Decrypt)?;
        out.get_mut(..opened.len())
            .ok_or(Error::Input)?
            .copy_from_slice(opened);
        Ok(opened.len())
    }
}
