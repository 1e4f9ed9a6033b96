//! The names BitTorrent gives to torrents and peers.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};

/// A v1 infohash: SHA-1 of the info dictionary's exact bytes (BEP 3). Shown as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// A v2 infohash: SHA-256 of the info dictionary's exact bytes (BEP 52). Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV2(pub [u8; 32]);

/// A peer id (BEP 3, BEP 20): 20 bytes, mostly printable. Shown with `\xNN` for what is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

/// A text is not an infohash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Neither 40 hex digits nor 32 base32 characters.
    #[error("a v1 infohash is 40 hex digits or 32 base32 characters")]
    NotInfoHash,
    /// Not 64 hex digits.
    #[error("a v2 infohash is 64 hex digits")]
    NotInfoHashV2,
}

impl InfoHash {
    /// The 20 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl InfoHashV2 {
    /// The first 20 bytes, which trackers, the DHT and handshakes use for a v2 torrent (BEP 52).
    #[must_use]
    pub fn truncated(&self) -> InfoHash {
        let mut head = [0; 20];
        head.copy_from_slice(&self.0[..20]);
        InfoHash(head)
    }
}

impl PeerId {
    /// The 20 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl FromStr for InfoHash {
    type Err = IdError;

    /// 40 hex digits or 32 base32 characters, in either case (BEP 9).
    fn from_str(text: &str) -> Result<Self, IdError> {
        let decoded = match text.len() {
            40 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
            32 => BASE32_NOPAD
                .decode(text.to_ascii_uppercase().as_bytes())
                .ok(),
            _ => None,
        };
        decoded
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(IdError::NotInfoHash)
    }
}

impl FromStr for InfoHashV2 {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let decoded = if text.len() == 64 {
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
        } else {
            None
        };
        decoded
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(IdError::NotInfoHashV2)
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.escape_ascii().to_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infohash_reads_hex_and_base32_in_either_case() {
        let hash = InfoHash([0xab; 20]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        let base32 = BASE32_NOPAD.encode(&hash.0);
        assert_eq!(base32.parse(), Ok(hash));
        assert_eq!(base32.to_lowercase().parse(), Ok(hash));
        for bad in [
            "",
            "ab",
            &"g".repeat(40),
            &"1".repeat(32),
            &"a".repeat(39),
            &"é".repeat(20),
        ] {
            assert_eq!(bad.parse::<InfoHash>(), Err(IdError::NotInfoHash), "{bad}");
        }
    }

    #[test]
    fn v2_infohash_round_trips_and_truncates() {
        let hash = InfoHashV2([7; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.truncated(), InfoHash([7; 20]));
        assert_eq!(
            "07".repeat(31).parse::<InfoHashV2>(),
            Err(IdError::NotInfoHashV2)
        );
    }

    #[test]
    fn peer_id_shows_no_control_byte() {
        let shown = PeerId(*b"-BS0100-\x1b]0;\x07\xff......").to_string();
        assert_eq!(shown, r"-BS0100-\x1b]0;\x07\xff......");
    }
}
