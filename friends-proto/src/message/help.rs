//! How a help begins: ask, offer, decline.

use std::net::SocketAddr;

use bt_wire::bencode::Item;

use super::fields::{Fields, endpoints_item, int_item};
use super::terms::{Deliveries, HelpId, TorrentHash, id_entry, number_of, numbered};
use super::{Entries, MAX_TOTAL, MessageError};

/// Most endpoints of the master in an ask.
pub const MAX_MASTER_ENDPOINTS: usize = 8;
/// Most endpoints of the helper in an offer.
pub const MAX_HELPER_ENDPOINTS: usize = 4;
/// Most trackers in an ask.
pub const MAX_TRACKERS: usize = 4;
/// Longest announce URL in an ask, in bytes.
pub const MAX_TRACKER_URL: usize = 512;
/// Longest piece an ask may name, in bytes.
pub const MAX_PIECE_LENGTH: u32 = 1 << 29;
/// Highest rate an offer may name, in bytes a second.
pub const MAX_RATE: u64 = 1 << 40;

/// A slave whose master is short of data asks for help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The help this begins.
    pub id: HelpId,
    /// The torrent.
    pub torrent: TorrentHash,
    /// Bytes of the whole torrent's content, 1 to 2⁶³ − 1.
    pub size: u64,
    /// Bytes of a piece, 1 to [`MAX_PIECE_LENGTH`].
    pub piece_length: u32,
    /// Bytes wanted, 1 to `size`.
    pub want: u64,
    /// Where the master listens, at most [`MAX_MASTER_ENDPOINTS`].
    pub master: Vec<SocketAddr>,
    /// The deliveries that the asker can take part in.
    pub deliveries: Deliveries,
    /// The torrent is private (BEP 27).
    pub private: bool,
    /// Announce URLs of the torrent, at most [`MAX_TRACKERS`]. What may be asked of them is the helper's to check.
    pub trackers: Vec<AnnounceUrl>,
}

/// An announce URL as it is on the wire: 1 to [`MAX_TRACKER_URL`] printable ASCII characters without spaces, that nobody
/// has looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceUrl(String);

impl AnnounceUrl {
    /// `None` for a text that cannot be on the wire.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::read(text.as_bytes())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let fits = (1..=MAX_TRACKER_URL).contains(&bytes.len());
        let text = std::str::from_utf8(bytes).ok().filter(|_| fits)?;
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        printable.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A helper is ready. Nothing is held for it; it expires after 10 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The help.
    pub id: HelpId,
    /// Bytes a second, 1 to [`MAX_RATE`].
    pub rate: u64,
    /// Bytes the helper will hold at once for this help, 1 to 2⁶³ − 1.
    pub room: u64,
    /// The deliveries that the helper can take part in.
    pub deliveries: Deliveries,
    /// Where the helper listens for this help, at most [`MAX_HELPER_ENDPOINTS`]; empty: it cannot be reached.
    pub at: Vec<SocketAddr>,
}

/// Why no help is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclineReason {
    /// The helper needs its line itself.
    Busy,
    /// There is no room in its cache.
    NoRoom,
    /// The torrent is private, and the helper does not help with those.
    Private,
    /// No delivery is possible.
    NoDelivery,
    /// The asker owes over the ceiling.
    Credit,
    /// Any other reason, unknown numbers included.
    Refused,
}

impl DeclineReason {
    const NUMBERED: [(u8, Self); 6] = [
        (0, Self::Busy),
        (1, Self::NoRoom),
        (2, Self::Private),
        (3, Self::NoDelivery),
        (4, Self::Credit),
        (5, Self::Refused),
    ];
}

/// No offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decline {
    /// The help.
    pub id: HelpId,
    /// Why.
    pub why: DeclineReason,
}

impl Ask {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let size = fields.int("size", 1..=MAX_TOTAL)?;
        Ok(Self {
            id: HelpId::read(fields)?,
            torrent: TorrentHash::read(fields)?,
            size,
            piece_length: fields.small("pl", 1..=MAX_PIECE_LENGTH)?,
            want: fields.int("want", 1..=size)?,
            master: fields.endpoints("to", MAX_MASTER_ENDPOINTS)?,
            deliveries: Deliveries(fields.byte("by")?),
            private: fields.maybe_int("private", 0..=1)? == Some(1),
            trackers: fields.list("tr", MAX_TRACKERS, AnnounceUrl::read)?,
        })
    }

    pub(super) fn write(&self) -> Entries {
        let mut entries = vec![
            id_entry(self.id),
            ("ih", self.torrent.item()),
            ("size", int_item(self.size)),
            ("pl", self.piece_length.into()),
            ("want", int_item(self.want)),
            ("to", endpoints_item(&self.master)),
            ("by", Item::Int(self.deliveries.0.into())),
        ];
        if self.private {
            entries.push(("private", Item::Int(1)));
        }
        if !self.trackers.is_empty() {
            let urls = self.trackers.iter().map(|url| Item::bytes(url.as_str()));
            entries.push(("tr", Item::List(urls.collect())));
        }
        entries
    }
}

impl Offer {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            id: HelpId::read(fields)?,
            rate: fields.int("rate", 1..=MAX_RATE)?,
            room: fields.int("room", 1..=MAX_TOTAL)?,
            deliveries: Deliveries(fields.byte("by")?),
            at: fields.endpoints("at", MAX_HELPER_ENDPOINTS)?,
        })
    }

    pub(super) fn write(&self) -> Entries {
        vec![
            id_entry(self.id),
            ("rate", int_item(self.rate)),
            ("room", int_item(self.room)),
            ("by", Item::Int(self.deliveries.0.into())),
            ("at", endpoints_item(&self.at)),
        ]
    }
}

impl Decline {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, MessageError> {
        let why = fields.byte("why")?;
        Ok(Self {
            id: HelpId::read(fields)?,
            why: numbered(&DeclineReason::NUMBERED, why, DeclineReason::Refused),
        })
    }

    pub(super) fn write(self) -> Entries {
        let why = number_of(&DeclineReason::NUMBERED, self.why);
        vec![id_entry(self.id), ("why", why)]
    }
}
