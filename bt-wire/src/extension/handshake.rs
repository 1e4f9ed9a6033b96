//! The extended handshake (BEP 10).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use super::{LT_DONTHAVE, MAX_METADATA, UT_METADATA, UT_PEX};
use crate::bencode::{Dict, Document, Error, Item, Limits, Node};

/// Longest extended handshake we read, in bytes.
pub const MAX_HANDSHAKE: usize = 64 << 10;
/// Longest `bs_friends` field we keep, in bytes.
pub const MAX_FRIENDS_FIELD: usize = 4 << 10;
/// Entries of `m` we look at.
const MAX_NAMES: usize = 1000;
/// Characters of `v` we keep.
const MAX_VERSION: usize = 128;

/// The message ids somebody wants to receive each extension under. 0 on the wire means "switched off" and reads as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionIds {
    /// BEP 9.
    pub ut_metadata: Option<u8>,
    /// BEP 11.
    pub ut_pex: Option<u8>,
    /// BEP 54.
    pub lt_donthave: Option<u8>,
    /// Friends' messages (our specification).
    pub bs_friends: Option<u8>,
}

impl ExtensionIds {
    /// What every connection of ours offers.
    #[must_use]
    pub fn ours() -> Self {
        Self {
            ut_metadata: Some(UT_METADATA),
            ut_pex: Some(UT_PEX),
            lt_donthave: Some(LT_DONTHAVE),
            bs_friends: None,
        }
    }
}

/// What a peer says of itself in the extended handshake. Everything may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtendedHandshake {
    /// Message ids, as the sender of this handshake wants to receive them.
    pub m: ExtensionIds,
    /// Client name and version, at most 128 characters; not to be shown raw (it may hold control characters).
    pub v: Option<String>,
    /// The sender's listening port; 0 reads as none.
    pub p: Option<u16>,
    /// How many requests the sender queues, clamped to 1..=65,535.
    pub reqq: Option<u32>,
    /// The receiver's address as the sender sees it.
    pub yourip: Option<IpAddr>,
    /// Bytes in the info dictionary, 1 to [`MAX_METADATA`]; 0 reads as none, anything else is refused and flagged.
    pub metadata_size: Option<u32>,
    /// The sender downloads nothing more (BEP 21).
    pub upload_only: bool,
    /// Our specification: 1 = free repeater, 2 = serving a master. Other values read as none.
    pub bs_repeater: Option<u8>,
    /// Our specification: the value of `bs_friends` as it is on the wire, one bencoded value of at most
    /// [`MAX_FRIENDS_FIELD`] bytes that nobody has looked into; a longer one reads as none.
    pub bs_friends: Option<Bytes>,
    /// Some value was out of range and was clamped or dropped: for the caller's counter. Not sent.
    pub out_of_range: bool,
}

/// An extended handshake that cannot be read: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// Over [`MAX_HANDSHAKE`].
    #[error("extended handshake of {0} bytes")]
    TooLong(usize),
    /// Not bencode, or over its limits.
    #[error(transparent)]
    Bencode(#[from] Error),
    /// Not a dictionary.
    #[error("extended handshake is not a dictionary")]
    NotADict,
}

impl ExtendedHandshake {
    /// Reads a handshake's payload. Values of the wrong type read as absent.
    ///
    /// # Errors
    /// Too long, not bencode, not a dictionary (row B10).
    pub fn parse(payload: &[u8]) -> Result<Self, ExtensionError> {
        if payload.len() > MAX_HANDSHAKE {
            return Err(ExtensionError::TooLong(payload.len()));
        }
        let document = Document::parse(
            payload,
            &Limits {
                depth: 16,
                ..Limits::default()
            },
        )?;
        let dict = document.root().as_dict().ok_or(ExtensionError::NotADict)?;
        let mut handshake = Self {
            v: dict.bytes("v").map(|v| {
                String::from_utf8_lossy(v)
                    .chars()
                    .take(MAX_VERSION)
                    .collect()
            }),
            p: dict
                .int("p")
                .and_then(|p| u16::try_from(p).ok())
                .filter(|&p| p != 0),
            yourip: dict.bytes("yourip").and_then(ip),
            upload_only: dict.int("upload_only").is_some_and(|value| value != 0),
            bs_repeater: dict
                .int("bs_repeater")
                .and_then(|value| u8::try_from(value).ok())
                .filter(|v| matches!(v, 1 | 2)),
            bs_friends: dict
                .get("bs_friends")
                .map(Node::raw)
                .filter(|raw| raw.len() <= MAX_FRIENDS_FIELD)
                .map(Bytes::copy_from_slice),
            ..Self::default()
        };
        handshake.read_sizes(dict);
        if let Some(m) = dict.get("m").and_then(Node::as_dict) {
            handshake.read_ids(m);
        }
        Ok(handshake)
    }

    fn read_sizes(&mut self, dict: Dict<'_>) {
        if let Some(reqq) = dict.int("reqq") {
            let clamped = reqq.clamp(1, 65_535);
            self.out_of_range |= clamped != reqq;
            self.reqq = u32::try_from(clamped).ok();
        }
        if let Some(size) = dict.int("metadata_size") {
            self.metadata_size = u32::try_from(size)
                .ok()
                .filter(|size| (1..=MAX_METADATA).contains(size));
            self.out_of_range |= self.metadata_size.is_none() && size != 0;
        }
    }

    fn read_ids(&mut self, m: Dict<'_>) {
        let mut entries = m.iter();
        for (name, id) in entries.by_ref().take(MAX_NAMES) {
            let id = id
                .as_int()
                .and_then(|id| u8::try_from(id).ok())
                .filter(|&id| id != 0);
            match name {
                b"ut_metadata" => self.m.ut_metadata = id,
                b"ut_pex" => self.m.ut_pex = id,
                b"lt_donthave" => self.m.lt_donthave = id,
                b"bs_friends" => self.m.bs_friends = id,
                _ => {}
            }
        }
        self.out_of_range |= entries.next().is_some();
    }

    /// The payload of a handshake, to go out under [`super::HANDSHAKE`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids = [
            ("ut_metadata", self.m.ut_metadata),
            ("ut_pex", self.m.ut_pex),
            ("lt_donthave", self.m.lt_donthave),
            ("bs_friends", self.m.bs_friends),
        ];
        let int = |value: u32| Some(Item::from(value));
        let m = ids
            .into_iter()
            .filter_map(|(name, id)| Some((name, Item::from(u32::from(id?)))));
        let entries = [
            ("m", Some(Item::dict(m))),
            ("v", self.v.as_deref().map(Item::from)),
            ("p", self.p.and_then(|p| int(p.into()))),
            ("reqq", self.reqq.and_then(int)),
            ("yourip", self.yourip.map(ip_item)),
            ("metadata_size", self.metadata_size.and_then(int)),
            ("upload_only", self.upload_only.then_some(Item::Int(1))),
            (
                "bs_repeater",
                self.bs_repeater.and_then(|value| int(value.into())),
            ),
            ("bs_friends", self.bs_friends.clone().map(Item::Raw)),
        ];
        Item::dict(
            entries
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .encode()
    }
}

/// An address in 4 or 16 bytes.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = bytes
        .as_array::<4>()
        .map(|&octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|| {
        bytes
            .as_array::<16>()
            .map(|&octets| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
    })
}

fn ip_item(ip: IpAddr) -> Item {
    match ip {
        IpAddr::V4(ip) => Item::bytes(ip.octets()),
        IpAddr::V6(ip) => Item::bytes(ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b10_junk_is_clamped_or_dropped() {
        let many = Item::dict((0..10_000).map(|at| (format!("x{at:05}"), Item::Int(3))));
        let long = Item::dict([("m", many)]).encode();
        assert_eq!(
            ExtendedHandshake::parse(&long),
            Err(ExtensionError::TooLong(long.len()))
        );

        let some = (0..1001).map(|at| (format!("x{at:05}"), Item::Int(3)));
        let crowd = Item::dict([("m", Item::dict(some))]).encode();
        assert!(
            ExtendedHandshake::parse(&crowd)
                .expect("readable")
                .out_of_range
        );

        let reqq = |value: i64| {
            let read = ExtendedHandshake::parse(&Item::dict([("reqq", Item::Int(value))]).encode())
                .expect("readable");
            (read.reqq, read.out_of_range)
        };
        assert_eq!(reqq(1 << 31), (Some(65_535), true));
        assert_eq!(reqq(-1), (Some(1), true));
        assert_eq!(reqq(0), (Some(1), true));
        assert_eq!(reqq(500), (Some(500), false));

        let v = Item::dict([("v", Item::from("é".repeat(30_000).as_str()))]).encode();
        let read = ExtendedHandshake::parse(&v).expect("readable");
        assert_eq!(read.v.map(|v| v.chars().count()), Some(128));
        let bomb = Item::dict([("v", Item::bytes(vec![b'x'; 1 << 20]))]).encode();
        assert!(matches!(
            ExtendedHandshake::parse(&bomb),
            Err(ExtensionError::TooLong(_))
        ));
    }

    #[test]
    fn b9_impossible_metadata_sizes_are_refused() {
        let size = |value: i64| {
            let bytes = Item::dict([("metadata_size", Item::Int(value))]).encode();
            let read = ExtendedHandshake::parse(&bytes).expect("readable");
            (read.metadata_size, read.out_of_range)
        };
        assert_eq!(size(1 << 31), (None, true));
        assert_eq!(size(-1), (None, true));
        assert_eq!(size(i64::from(MAX_METADATA) + 1), (None, true));
        assert_eq!(size(0), (None, false));
        assert_eq!(size(i64::from(MAX_METADATA)), (Some(MAX_METADATA), false));
    }

    #[test]
    fn wrong_types_read_as_absent() {
        let read = ExtendedHandshake::parse(b"d1:mi3e1:pi0e4:reqq1:x1:vi1e6:yourip3:abce")
            .expect("readable");
        assert_eq!(read, ExtendedHandshake::default());
        let read =
            ExtendedHandshake::parse(b"d1:md6:ut_pexi0e11:ut_metadatai256eee").expect("readable");
        assert_eq!(read.m, ExtensionIds::default());
        assert_eq!(
            ExtendedHandshake::parse(b"le"),
            Err(ExtensionError::NotADict)
        );
        assert!(matches!(
            ExtendedHandshake::parse(b"d"),
            Err(ExtensionError::Bencode(_))
        ));
    }

    proptest! {
        #[test]
        fn round_trips(
            ids: [Option<u8>; 4],
            v in prop::option::of("[ -~]{0,30}"),
            port: Option<u16>,
            reqq in prop::option::of(1u32..=65_535),
            yourip: Option<IpAddr>,
            size in prop::option::of(1..=MAX_METADATA),
            upload_only: bool,
            bs_repeater in prop::option::of(1u8..=2),
            field in prop::option::of(prop::collection::vec(any::<u8>(), 0..3000)),
        ) {
            let [ut_metadata, ut_pex, lt_donthave, bs_friends] = ids.map(|id| id.filter(|&id| id != 0));
            let ours = ExtendedHandshake {
                m: ExtensionIds { ut_metadata, ut_pex, lt_donthave, bs_friends },
                v,
                p: port.filter(|&port| port != 0),
                reqq,
                yourip: yourip.map(|ip| ip.to_canonical()),
                metadata_size: size,
                upload_only,
                bs_repeater,
                bs_friends: field.map(|bytes| Item::bytes(bytes).encode().into()),
                out_of_range: false,
            };
            prop_assert_eq!(ExtendedHandshake::parse(&ours.encode()), Ok(ours));
        }
    }
}
