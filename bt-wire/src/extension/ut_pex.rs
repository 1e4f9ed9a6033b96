//! `ut_pex` (BEP 11): peers told by peers. Addresses are hearsay; [`crate::address::dialable`] decides about them.

use std::net::SocketAddr;

use crate::address::{decode_compact_v4, decode_compact_v6, encode_compact};
use crate::bencode::{Document, Error, Item, Limits};

/// Most peers kept of each of the two lists of a message (BEP 11).
pub const MAX_PEX_PEERS: usize = 50;

/// Bits of [`PexPeer::flags`] (BEP 11).
pub mod pex_flags {
    /// Prefers encrypted connections.
    pub const ENCRYPTION: u8 = 0x01;
    /// Is a seed or upload-only.
    pub const SEED: u8 = 0x02;
    /// Speaks uTP.
    pub const UTP: u8 = 0x04;
    /// Speaks `ut_holepunch`.
    pub const HOLEPUNCH: u8 = 0x08;
    /// Was reached by dialling it.
    pub const OUTGOING: u8 = 0x10;
}

/// A peer somebody added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PexPeer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// See [`pex_flags`].
    pub flags: u8,
}

/// Who came and who went since the sender's last message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PexMessage {
    /// Peers that came, at most [`MAX_PEX_PEERS`].
    pub added: Vec<PexPeer>,
    /// Peers that went, at most [`MAX_PEX_PEERS`].
    pub dropped: Vec<SocketAddr>,
    /// Entries past the limits, left out (row C10): for the caller's counter. Not sent.
    pub ignored: usize,
}

/// A message that cannot be read: drop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PexError {
    /// Not bencode, or over its limits.
    #[error(transparent)]
    Bencode(#[from] Error),
    /// Not a dictionary.
    #[error("ut_pex message is not a dictionary")]
    NotADict,
}

impl PexMessage {
    /// Reads a message's payload.
    ///
    /// # Errors
    /// Not bencode, not a dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, PexError> {
        let limits = Limits {
            depth: 8,
            tokens: 1024,
            ..Limits::default()
        };
        let document = Document::parse(payload, &limits)?;
        let dict = document.root().as_dict().ok_or(PexError::NotADict)?;
        let list = |key: &str| dict.bytes(key).unwrap_or_default();
        let flagged = |flags: &str| list(flags).iter().copied().chain(std::iter::repeat(0));

        let added = decode_compact_v4(list("added")).zip(flagged("added.f"));
        let added6 = decode_compact_v6(list("added6")).zip(flagged("added6.f"));
        let dropped = decode_compact_v4(list("dropped")).chain(decode_compact_v6(list("dropped6")));
        let named =
            entries(list("added"), list("added6")) + entries(list("dropped"), list("dropped6"));
        let mut message = Self {
            added: added
                .chain(added6)
                .take(MAX_PEX_PEERS)
                .map(|(addr, flags)| PexPeer { addr, flags })
                .collect(),
            dropped: dropped.take(MAX_PEX_PEERS).collect(),
            ignored: 0,
        };
        message.ignored = named.saturating_sub(message.added.len() + message.dropped.len());
        Ok(message)
    }

    /// The payload, to go out under the receiver's id for `ut_pex`. The caller keeps to the limits.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut lists: [Vec<u8>; 6] = Default::default();
        let [added, flags, dropped, added6, flags6, dropped6] = &mut lists;
        for peer in &self.added {
            let (list, flags) = if peer.addr.is_ipv4() {
                (&mut *added, &mut *flags)
            } else {
                (&mut *added6, &mut *flags6)
            };
            encode_compact(peer.addr, list);
            flags.push(peer.flags);
        }
        for &addr in &self.dropped {
            encode_compact(
                addr,
                if addr.is_ipv4() {
                    &mut *dropped
                } else {
                    &mut *dropped6
                },
            );
        }
        let names = [
            "added", "added.f", "dropped", "added6", "added6.f", "dropped6",
        ];
        Item::dict(
            names
                .into_iter()
                .zip(lists)
                .map(|(name, list)| (name, Item::Bytes(list.into()))),
        )
        .encode()
    }
}

fn entries(v4: &[u8], v6: &[u8]) -> usize {
    v4.len() / 6 + v6.len() / 18
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c10_a_flood_is_cut_and_counted() {
        let flood: Vec<u8> = (0..10_000u32)
            .flat_map(|at| [1, 2, (at >> 8) as u8, at as u8, 0x1a, 0xe1])
            .collect();
        let bytes = Item::dict([
            ("added", Item::bytes(&flood)),
            ("dropped", Item::bytes(&flood)),
        ])
        .encode();
        let message = PexMessage::parse(&bytes).expect("readable");
        assert_eq!(
            (message.added.len(), message.dropped.len(), message.ignored),
            (50, 50, 19_900)
        );
    }

    #[test]
    fn missing_flags_and_odd_values_do_no_harm() {
        let message =
            PexMessage::parse(b"d5:added6:\x01\x02\x03\x04\x1a\xe17:added.f0:6:added6i7ee")
                .expect("readable");
        assert_eq!(
            message.added,
            [PexPeer {
                addr: "1.2.3.4:6881".parse().expect("sound"),
                flags: 0
            }]
        );
        assert_eq!(PexMessage::parse(b"le"), Err(PexError::NotADict));
    }

    proptest! {
        #[test]
        fn round_trips(added: Vec<(std::net::Ipv4Addr, u16, u8)>, added6: Vec<(std::net::Ipv6Addr, u16, u8)>) {
            let four = added.iter().take(20).map(|&(ip, port, flags)| (SocketAddr::new(ip.into(), port), flags));
            let six = added6.iter().take(20).map(|&(ip, port, flags)| (SocketAddr::new(ip.into(), port), flags));
            let peers: Vec<PexPeer> = four
                .chain(six.filter(|(addr, _)| addr.ip().to_canonical().is_ipv6()))
                .map(|(addr, flags)| PexPeer { addr, flags })
                .collect();
            let ours = PexMessage { dropped: peers.iter().map(|peer| peer.addr).collect(), added: peers, ignored: 0 };
            prop_assert_eq!(PexMessage::parse(&ours.encode()), Ok(ours));
        }
    }
}
