//! The 68 bytes every peer connection begins with (BEP 3).

use crate::ids::{InfoHash, PeerId};

/// The first 20 bytes: the length and name of the protocol.
pub const PROTOCOL: [u8; 20] = *b"\x13BitTorrent protocol";
/// Bytes in a handshake.
pub const LENGTH: usize = 68;

/// The reserved bytes, in which clients show what they can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserved(pub [u8; 8]);

/// A peer's handshake, or ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// What the peer can do.
    pub reserved: Reserved,
    /// The torrent, by its v1 infohash (or truncated v2 one).
    pub info_hash: InfoHash,
    /// Who speaks.
    pub peer_id: PeerId,
}

/// The bytes are no handshake: not BitTorrent, or an encrypted one. Close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a BitTorrent handshake")]
pub struct NotAHandshake;

impl Reserved {
    /// What we can do: extension protocol and Fast extension always, DHT when `dht`.
    #[must_use]
    pub fn ours(dht: bool) -> Self {
        Self([0, 0, 0, 0, 0, 0x10, 0, 0x04 | u8::from(dht)])
    }

    /// Extension protocol (BEP 10).
    #[must_use]
    pub fn extended(self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// Fast extension (BEP 6).
    #[must_use]
    pub fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// DHT (BEP 5): the peer tells its DHT port.
    #[must_use]
    pub fn dht(self) -> bool {
        self.0[7] & 0x01 != 0
    }
}

impl Handshake {
    /// The wire form.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        out[..20].copy_from_slice(&PROTOCOL);
        out[20..28].copy_from_slice(&self.reserved.0);
        out[28..48].copy_from_slice(&self.info_hash.0);
        out[48..].copy_from_slice(&self.peer_id.0);
        out
    }

    /// Reads a handshake.
    ///
    /// # Errors
    /// The first 20 bytes are not [`PROTOCOL`].
    pub fn decode(bytes: &[u8; LENGTH]) -> Result<Self, NotAHandshake> {
        let mut handshake = Self {
            reserved: Reserved::default(),
            info_hash: InfoHash([0; 20]),
            peer_id: PeerId([0; 20]),
        };
        if bytes[..20] != PROTOCOL {
            return Err(NotAHandshake);
        }
        handshake.reserved.0.copy_from_slice(&bytes[20..28]);
        handshake.info_hash.0.copy_from_slice(&bytes[28..48]);
        handshake.peer_id.0.copy_from_slice(&bytes[48..]);
        Ok(handshake)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_reserved_bytes_say_what_we_can_do() {
        for dht in [false, true] {
            let ours = Reserved::ours(dht);
            assert_eq!(
                (ours.extended(), ours.fast(), ours.dht()),
                (true, true, dht)
            );
        }
        let none = Reserved::default();
        assert!(!none.extended() && !none.fast() && !none.dht());
    }

    #[test]
    fn other_protocols_are_refused() {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(b"GET ");
        assert_eq!(Handshake::decode(&bytes), Err(NotAHandshake));
    }

    proptest! {
        #[test]
        fn round_trips(reserved: [u8; 8], info_hash: [u8; 20], peer_id: [u8; 20]) {
            let ours = Handshake { reserved: Reserved(reserved), info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id) };
            prop_assert_eq!(Handshake::decode(&ours.encode()), Ok(ours));
        }
    }
}
