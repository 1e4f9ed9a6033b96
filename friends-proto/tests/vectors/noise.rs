//! Noise's XX and XXpsk0 by another way than the code's: both sides' secrets in one hand, each token written out.

use curve25519_dalek::montgomery::MontgomeryPoint;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{digest, hmac};

type Key = [u8; 32];

/// The secrets of a side.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    pub(crate) fixed: Key,
    pub(crate) ephemeral: Key,
}

/// What comes of a handshake.
pub(crate) struct Handshake {
    /// The three Noise messages.
    pub(crate) messages: [Vec<u8>; 3],
    pub(crate) hash: Key,
    /// The keys of what the opener and the acceptor send.
    keys: [Key; 2],
}

/// Noise's symmetric state (Noise, 5.2), with the key and counter of its cipher.
struct Symmetric {
    chaining: Key,
    hash: Key,
    key: Option<(Key, u64)>,
}

fn sha256(parts: &[&[u8]]) -> Key {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, &parts.concat()).as_ref());
    hash
}

fn mac(key: &Key, parts: &[&[u8]]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// Noise's HKDF (4.3).
fn hkdf(chaining: &Key, input: &[u8]) -> [Key; 3] {
    let secret = mac(chaining, &[input]);
    let first = mac(&secret, &[&[1]]);
    let second = mac(&secret, &[&first, &[2]]);
    let third = mac(&secret, &[&second, &[3]]);
    [first, second, third]
}

fn cipher(key: &Key, counter: u64) -> (LessSafeKey, Nonce) {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes");
    (LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce))
}

fn seal(key: &Key, counter: u64, with: &[u8], text: &[u8]) -> Vec<u8> {
    let (key, nonce) = cipher(key, counter);
    let mut sealed = text.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(with), &mut sealed)
        .expect("sealed");
    sealed
}

pub(crate) fn public(secret: &Key) -> Key {
    MontgomeryPoint::mul_base_clamped(*secret).0
}

fn agree(mine: &Key, theirs: &Key) -> Key {
    MontgomeryPoint(public(theirs)).mul_clamped(*mine).0
}

impl Symmetric {
    fn new(name: &str, prologue: &[u8]) -> Self {
        // XX's name has just the 32 bytes that are taken as they are (Noise, 5.2).
        let name = name.as_bytes();
        let name = name.try_into().unwrap_or_else(|_| sha256(&[name]));
        Self {
            chaining: name,
            hash: sha256(&[&name, prologue]),
            key: None,
        }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = sha256(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        let [chaining, key, _] = hkdf(&self.chaining, input);
        (self.chaining, self.key) = (chaining, Some((key, 0)));
    }

    fn mix_key_and_hash(&mut self, input: &[u8]) {
        let [chaining, hash, key] = hkdf(&self.chaining, input);
        self.chaining = chaining;
        self.mix_hash(&hash);
        self.key = Some((key, 0));
    }

    fn write(&mut self, text: &[u8], message: &mut Vec<u8>) {
        let sealed = match &mut self.key {
            Some((key, counter)) => {
                *counter += 1;
                seal(key, *counter - 1, &self.hash, text)
            }
            None => text.to_vec(),
        };
        self.mix_hash(&sealed);
        message.extend(sealed);
    }

    fn ephemeral(&mut self, secret: &Key, psk: bool, message: &mut Vec<u8>) {
        let public = public(secret);
        message.extend(public);
        self.mix_hash(&public);
        if psk {
            self.mix_key(&public);
        }
    }
}

impl Handshake {
    pub(crate) fn new(psk: Option<&Key>, prologue: &[u8], opener: Side, acceptor: Side) -> Self {
        let modifier = if psk.is_some() { "psk0" } else { "" };
        let name = format!("Noise_XX{modifier}_25519_ChaChaPoly_SHA256");
        let mut state = Symmetric::new(&name, prologue);
        let mut messages = [Vec::new(), Vec::new(), Vec::new()];
        let [zero, one, two] = &mut messages;
        if let Some(psk) = psk {
            state.mix_key_and_hash(psk);
        }
        state.ephemeral(&opener.ephemeral, psk.is_some(), zero);
        state.write(&[], zero);

        state.ephemeral(&acceptor.ephemeral, psk.is_some(), one);
        state.mix_key(&agree(&opener.ephemeral, &acceptor.ephemeral));
        state.write(&public(&acceptor.fixed), one);
        state.mix_key(&agree(&opener.ephemeral, &acceptor.fixed));
        state.write(&[], one);

        state.write(&public(&opener.fixed), two);
        state.mix_key(&agree(&opener.fixed, &acceptor.ephemeral));
        state.write(&[], two);
        let [first, second, _] = hkdf(&state.chaining, &[]);
        Self {
            messages,
            hash: state.hash,
            keys: [first, second],
        }
    }

    /// The transport message number `counter` of the opener (0) or the acceptor (1).
    pub(crate) fn seal(&self, side: usize, counter: u64, text: &[u8]) -> Vec<u8> {
        seal(&self.keys[side], counter, &[], text)
    }
}
