//! What the messages of a help share.

use bt_wire::bencode::Item;

use super::fields::Fields;
use super::{Fault, MessageError};

/// Names a help within a pair of friends: the lowest bit is 0 when the asker has the smaller key of the two, else 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HelpId(pub u32);

impl HelpId {
    /// Whether an asker may use this id, from whether its key is the smaller of the two.
    #[must_use]
    //= spec/friends.md#help-id
    pub fn belongs_to_asker(self, asker_is_smaller: bool) -> bool {
        (self.0 & 1 == 0) == asker_is_smaller
    }

    pub(super) fn maybe(fields: Fields<'_>) -> Result<Option<Self>, MessageError> {
        let id = fields.maybe_int("id", 0..=u32::MAX.into())?;
        id.map(u32::try_from)
            .transpose()
            .map(|id| id.map(Self))
            .map_err(|_| fields.error("id", Fault::Range))
    }

    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        Self::maybe(fields)?.ok_or_else(|| fields.error("id", Fault::Missing))
    }
}

/// Which torrent: a v1 infohash (20 bytes) or a v2 one (32 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TorrentHash {
    /// SHA-1 of the info dictionary (BEP 3).
    V1([u8; 20]),
    /// SHA-256 of the info dictionary (BEP 52).
    V2([u8; 32]),
}

impl TorrentHash {
    /// The bytes, 20 or 32.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V1(hash) => hash,
            Self::V2(hash) => hash,
        }
    }

    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let bytes = fields.bytes("ih", 20..=32)?;
        let v1 = bytes.try_into().map(Self::V1);
        v1.or_else(|_| bytes.try_into().map(Self::V2))
            .map_err(|_| fields.error("ih", Fault::Range))
    }

    pub(super) fn item(&self) -> Item {
        Item::bytes(self.as_bytes())
    }
}

/// A set of deliveries, one bit each. Unknown bits are kept and mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deliveries(pub u8);

impl Deliveries {
    /// The asker's RPC tells the master to dial the helper.
    pub const RPC: Self = Self(0x01);
    /// The asker introduces the helper to the master by `ut_pex`.
    pub const INTRODUCED: Self = Self(0x02);
    /// The helper dials the master.
    pub const DIALLED: Self = Self(0x04);
    /// The asker fetches from the helper and hands on.
    pub const RELAYED: Self = Self(0x08);

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

pub(super) fn id_entry(id: HelpId) -> (&'static str, Item) {
    ("id", Item::from(id.0))
}

/// The reason of this number; of an unknown one, the `other` reason.
pub(super) fn numbered<T: Copy>(table: &[(u8, T)], number: u8, other: T) -> T {
    table
        .iter()
        .find(|(known, _)| *known == number)
        .map_or(other, |(_, reason)| *reason)
}

pub(super) fn number_of<T: Copy + PartialEq>(table: &[(u8, T)], reason: T) -> Item {
    let number = table.iter().find(|(_, known)| *known == reason);
    Item::Int(number.map_or(255, |(number, _)| i64::from(*number)))
}
