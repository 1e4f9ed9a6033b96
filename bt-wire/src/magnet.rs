//! Magnet links (BEP 9, BEP 52, BEP 53).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::address::canonical;
use crate::ids::{InfoHash, InfoHashV2};
use crate::tracker::MAX_URL;

/// Longest link we read, in bytes.
pub const MAX_MAGNET: usize = 64 << 10;
/// Most trackers, web seeds and peers kept, each.
const MAX_ENTRIES: usize = 100;
/// Longest name kept, in characters.
const MAX_NAME: usize = 1024;
/// What the multihash of a SHA-256 begins with: its number and its length.
const SHA256_MULTIHASH: &str = "1220";

/// RFC 3986's unreserved characters stay.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A magnet link. At least one of the two infohashes is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Magnet {
    /// `xt=urn:btih:`, in hex or base32.
    pub info_hash_v1: Option<InfoHash>,
    /// `xt=urn:btmh:1220`, in hex.
    pub info_hash_v2: Option<InfoHashV2>,
    /// `dn`; may hold control characters: show it with [`crate::metainfo::display_text`].
    pub name: Option<String>,
    /// `tr`, unchecked: see [`crate::tracker::check_announce_url`].
    pub trackers: Vec<String>,
    /// `ws`, unchecked.
    pub web_seeds: Vec<String>,
    /// `x.pe`, numeric addresses only: host names are left out, since resolving them is not for whoever wrote the link.
    pub peers: Vec<SocketAddr>,
}

/// Not a magnet link we can use. The text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// Another scheme.
    #[error("a magnet link begins with `magnet:?`")]
    NotAMagnet,
    /// Over [`MAX_MAGNET`].
    #[error("the magnet link is longer than 64 KiB")]
    TooLong,
    /// An infohash that is none.
    #[error(
        "the magnet link's infohash is neither 40 hex digits, 32 base32 characters nor 1220 and 64 hex digits"
    )]
    BadInfoHash,
    /// Two different infohashes of the same kind.
    #[error("the magnet link names two torrents")]
    TwoTorrents,
    /// None at all.
    #[error("the magnet link names no BitTorrent infohash (xt=urn:btih: or urn:btmh:)")]
    NoInfoHash,
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, MagnetError> {
        const SCHEME: &str = "magnet:?";
        if text.len() > MAX_MAGNET {
            return Err(MagnetError::TooLong);
        }
        let text = text.trim();
        let scheme = text.get(..SCHEME.len()).ok_or(MagnetError::NotAMagnet)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(MagnetError::NotAMagnet);
        }
        let mut magnet = Self::default();
        for pair in text[SCHEME.len()..].split('&') {
            let Some((key, value)) = pair.split_once('=') else {
                continue;
            };
            magnet.read(key, value)?;
        }
        if magnet.info_hash_v1.is_none() && magnet.info_hash_v2.is_none() {
            return Err(MagnetError::NoInfoHash);
        }
        Ok(magnet)
    }
}

impl Magnet {
    /// The infohash that names this torrent to trackers and peers: v1's, else v2's first 20 bytes.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        let v2 = || {
            self.info_hash_v2
                .map_or(InfoHash([0; 20]), |hash| hash.truncated())
        };
        self.info_hash_v1.unwrap_or_else(v2)
    }

    /// Takes one parameter; `tr.1` and the like count as `tr`. What we do not know (`so`, `kt`, `xl`, …) is ignored.
    fn read(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        let decoded = || {
            percent_decode_str(value)
                .decode_utf8()
                .ok()
                .map(std::borrow::Cow::into_owned)
        };
        let key = key.to_ascii_lowercase();
        let name = match key.rsplit_once('.') {
            Some((name, number))
                if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                name
            }
            Some(_) | None => &key,
        };
        match name {
            "xt" => return self.read_topic(&decoded().unwrap_or_default()),
            "dn" => {
                let text = value.replace('+', " ");
                let text = percent_decode_str(&text)
                    .decode_utf8_lossy()
                    .chars()
                    .take(MAX_NAME)
                    .collect::<String>();
                self.name.get_or_insert(text);
            }
            "tr" => push(&mut self.trackers, decoded().filter(|url| plausible(url))),
            "ws" => push(&mut self.web_seeds, decoded().filter(|url| plausible(url))),
            "x.pe" => push(
                &mut self.peers,
                decoded().and_then(|peer| peer.parse().ok()).map(canonical),
            ),
            _ => {}
        }
        Ok(())
    }

    fn read_topic(&mut self, topic: &str) -> Result<(), MagnetError> {
        let lower = topic.to_ascii_lowercase();
        if let Some(hash) = lower.strip_prefix("urn:btih:") {
            let hash = hash.parse().map_err(|_| MagnetError::BadInfoHash)?;
            set(&mut self.info_hash_v1, hash)
        } else if let Some(hash) = lower.strip_prefix("urn:btmh:") {
            let hash = hash
                .strip_prefix(SHA256_MULTIHASH)
                .ok_or(MagnetError::BadInfoHash)?;
            set(
                &mut self.info_hash_v2,
                hash.parse().map_err(|_| MagnetError::BadInfoHash)?,
            )
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |text: &str| utf8_percent_encode(text, VALUE).to_string();
        let mut pairs = Vec::new();
        pairs.extend(self.info_hash_v1.map(|hash| format!("xt=urn:btih:{hash}")));
        pairs.extend(
            self.info_hash_v2
                .map(|hash| format!("xt=urn:btmh:{SHA256_MULTIHASH}{hash}")),
        );
        pairs.extend(
            self.name
                .as_ref()
                .map(|name| format!("dn={}", escape(name))),
        );
        pairs.extend(
            self.trackers
                .iter()
                .map(|url| format!("tr={}", escape(url))),
        );
        pairs.extend(
            self.web_seeds
                .iter()
                .map(|url| format!("ws={}", escape(url))),
        );
        pairs.extend(
            self.peers
                .iter()
                .map(|peer| format!("x.pe={}", escape(&peer.to_string()))),
        );
        write!(f, "magnet:?{}", pairs.join("&"))
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, value: Option<T>) {
    if let Some(value) = value
        && list.len() < MAX_ENTRIES
        && !list.contains(&value)
    {
        list.push(value);
    }
}

fn set<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), MagnetError> {
    match slot {
        Some(old) if *old != value => Err(MagnetError::TwoTorrents),
        Some(_) => Ok(()),
        None => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn plausible(url: &str) -> bool {
    !url.is_empty() && url.len() <= MAX_URL && !url.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn reads_every_parameter() {
        let base32 = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH";
        let text = format!(
            "magnet:?xt=urn:btih:{base32}&xt=urn:btmh:1220{}&dn=A+%C3%A9%2b&tr=http%3A%2F%2Fx%2Fannounce&tr.1=udp://y&ws=http://w/\
             &x.pe=1.2.3.4:5&x.pe=[::1]:6&x.pe=host:7&so=0-2&kt=x&broken",
            "ab".repeat(32)
        );
        let magnet: Magnet = text.parse().expect("sound");
        assert_eq!(magnet.info_hash_v1, Some(HASH.parse().expect("sound")));
        assert_eq!(magnet.info_hash(), HASH.parse().expect("sound"));
        assert_eq!(magnet.info_hash_v2, Some(InfoHashV2([0xab; 32])));
        assert_eq!(magnet.name.as_deref(), Some("A é+"));
        assert_eq!(magnet.trackers, ["http://x/announce", "udp://y"]);
        assert_eq!(magnet.web_seeds, ["http://w/"]);
        assert_eq!(
            magnet.peers,
            [
                "1.2.3.4:5".parse().expect("sound"),
                "[::1]:6".parse().expect("sound")
            ]
        );
        assert!(
            format!("MAGNET:?XT=URN:BTIH:{}", HASH.to_uppercase())
                .parse::<Magnet>()
                .is_ok()
        );
    }

    #[test]
    fn refuses_what_names_no_torrent() {
        let parse = |text: &str| text.parse::<Magnet>().err();
        assert_eq!(parse("http://x"), Some(MagnetError::NotAMagnet));
        assert_eq!(parse("magné"), Some(MagnetError::NotAMagnet));
        assert_eq!(parse("magnet:?dn=x"), Some(MagnetError::NoInfoHash));
        assert_eq!(
            parse("magnet:?xt=urn:sha1:x"),
            Some(MagnetError::NoInfoHash)
        );
        assert_eq!(
            parse("magnet:?xt=urn:btih:x"),
            Some(MagnetError::BadInfoHash)
        );
        assert_eq!(
            parse(&format!("magnet:?xt=urn:btmh:1114{HASH}")),
            Some(MagnetError::BadInfoHash)
        );
        let two = format!("magnet:?xt=urn:btih:{HASH}&xt=urn:btih:{}", "a".repeat(40));
        assert_eq!(parse(&two), Some(MagnetError::TwoTorrents));
        assert_eq!(
            parse(&"x".repeat(MAX_MAGNET + 1)),
            Some(MagnetError::TooLong)
        );
    }

    #[test]
    fn lists_are_bounded() {
        let many: String = (0..5000).map(|at| format!("&tr=http://t{at}")).collect();
        let magnet: Magnet = format!("magnet:?xt=urn:btih:{HASH}{}", &many[..60_000])
            .parse()
            .expect("sound");
        assert_eq!(magnet.trackers.len(), MAX_ENTRIES);
    }

    proptest! {
        #[test]
        fn round_trips(v1: Option<[u8; 20]>, v2: [u8; 32], name: Option<String>, trackers in prop::collection::btree_set("[ -~]{1,30}", 0..4), peers: Vec<SocketAddr>) {
            let peers: std::collections::BTreeSet<SocketAddr> = peers.into_iter().take(5).map(canonical).collect();
            let ours = Magnet {
                info_hash_v1: v1.map(InfoHash),
                info_hash_v2: Some(InfoHashV2(v2)),
                name,
                trackers: trackers.into_iter().collect(),
                web_seeds: vec!["http://w/?a=1&b=2".to_owned()],
                peers: peers.into_iter().collect(),
            };
            prop_assert_eq!(ours.to_string().parse(), Ok(ours));
        }

        #[test]
        fn junk_never_panics(junk in "(magnet:\\?)?(xt|dn|tr|x\\.pe|\\.|=|&|%|\\PC){0,40}") {
            let _ = junk.parse::<Magnet>();
        }
    }
}
