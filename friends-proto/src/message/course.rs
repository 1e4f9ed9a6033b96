//! The course of a help: reserve, progress, fetching, release, arrived, stop.

use std::net::SocketAddr;

use bt_wire::bencode::Item;

use super::fields::{Fields, endpoint_item, int_item};
use super::pieces::PieceSet;
use super::terms::{HelpId, id_entry, number_of, numbered};
use super::{Entries, MAX_TOTAL, MessageError};

/// The asker gives these pieces to the helper, on top of those it gave before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// The help.
    pub id: HelpId,
    /// The pieces.
    pub pieces: PieceSet,
}

/// The helper tells how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The help.
    pub id: HelpId,
    /// Pieces that the helper holds, hash-checked, and did not tell of yet.
    pub held: Option<PieceSet>,
    /// Pieces that it delivered whole and did not tell of yet.
    pub delivered: Option<PieceSet>,
    /// Bytes of payload it delivered in this help so far, by its own count.
    pub bytes: u64,
}

/// The helper tells what it is at, and what it could begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetching {
    /// The help.
    pub id: HelpId,
    /// Reserved pieces that it is fetching and does not hold yet; what it said before no longer counts.
    pub now: Option<PieceSet>,
    /// Pieces not reserved with it that it could begin at once.
    pub next: Option<PieceSet>,
}

/// Pieces go back: the asker takes them from the helper, or the helper gives them up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The help.
    pub id: HelpId,
    /// The pieces.
    pub pieces: PieceSet,
}

/// From the helper: somebody who may be the master came from here. From the asker: this endpoint is the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// The help.
    pub id: HelpId,
    /// The address and port at the other end of the helper's connection, as the helper sees it.
    pub from: SocketAddr,
}

/// Why a help ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Nothing more is wanted.
    Done,
    /// The sender knows no help of this id.
    UnknownId,
    /// What was given stays unsigned.
    Unpaid,
    /// No delivery worked.
    NoDelivery,
    /// The sender goes away, or wants its line.
    Leaving,
    /// Any other reason, unknown numbers included.
    Refused,
}

impl StopReason {
    const NUMBERED: [(u8, Self); 6] = [
        (0, Self::Done),
        (1, Self::UnknownId),
        (2, Self::Unpaid),
        (3, Self::NoDelivery),
        (4, Self::Leaving),
        (5, Self::Refused),
    ];
}

/// The help ends, with all that is still reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The help.
    pub id: HelpId,
    /// Why.
    pub why: StopReason,
}

impl Reserve {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let pieces = PieceSet::read(fields, "pieces")?;
        Ok(Self {
            id: HelpId::read(fields)?,
            pieces,
        })
    }

    pub(super) fn write(&self) -> Entries {
        vec![
            id_entry(self.id),
            ("pieces", Item::bytes(self.pieces.encode())),
        ]
    }
}

impl Progress {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            id: HelpId::read(fields)?,
            held: PieceSet::maybe(fields, "held")?,
            delivered: PieceSet::maybe(fields, "delivered")?,
            bytes: fields.int("bytes", 0..=MAX_TOTAL)?,
        })
    }

    pub(super) fn write(&self) -> Entries {
        let mut entries = vec![id_entry(self.id), ("bytes", int_item(self.bytes))];
        let sets = [("held", &self.held), ("delivered", &self.delivered)];
        entries.extend(set_entries(sets));
        entries
    }
}

/// Those sets that are there.
fn set_entries(
    sets: [(&'static str, &Option<PieceSet>); 2],
) -> impl Iterator<Item = (&'static str, Item)> {
    let entry =
        |(name, set): (_, &Option<PieceSet>)| Some((name, Item::bytes(set.as_ref()?.encode())));
    sets.into_iter().filter_map(entry)
}

impl Fetching {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            id: HelpId::read(fields)?,
            now: PieceSet::maybe(fields, "now")?,
            next: PieceSet::maybe(fields, "next")?,
        })
    }

    pub(super) fn write(&self) -> Entries {
        let mut entries = vec![id_entry(self.id)];
        entries.extend(set_entries([("now", &self.now), ("next", &self.next)]));
        entries
    }
}

impl Release {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let pieces = PieceSet::read(fields, "pieces")?;
        Ok(Self {
            id: HelpId::read(fields)?,
            pieces,
        })
    }

    pub(super) fn write(&self) -> Entries {
        vec![
            id_entry(self.id),
            ("pieces", Item::bytes(self.pieces.encode())),
        ]
    }
}

impl Arrived {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            id: HelpId::read(fields)?,
            from: fields.endpoint("from")?,
        })
    }

    pub(super) fn write(self) -> Entries {
        vec![id_entry(self.id), ("from", endpoint_item(self.from))]
    }
}

impl Stop {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let why = fields.byte("why")?;
        Ok(Self {
            id: HelpId::read(fields)?,
            why: numbered(&StopReason::NUMBERED, why, StopReason::Refused),
        })
    }

    pub(super) fn write(self) -> Entries {
        let why = number_of(&StopReason::NUMBERED, self.why);
        vec![id_entry(self.id), ("why", why)]
    }
}
