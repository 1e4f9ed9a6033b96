//! An info dictionary that a helper gets from the friend it helps, part by part.

use std::time::{Duration, Instant};

use bt_wire::ids::InfoHash;
use bt_wire::metainfo::Metainfo;
use friends_proto::message::{Ask, META_PART, Meta, MetaAsk, MetaNone, TorrentHash};
use sha1::{Digest, Sha1};

use crate::swarms::Torrent;

/// Without a new part for so long it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// One that is being fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) ask: Ask,
    info_hash: [u8; 20],
    /// Said by the first part.
    size: Option<u32>,
    bytes: Vec<u8>,
    pub(super) heard: Instant,
}

/// What a part led to.
#[derive(Debug)]
pub(super) enum Part {
    /// Not what was asked for.
    Nothing,
    /// Ask for this next.
    Next(MetaAsk),
    /// All of it is there, it has the infohash, and it is what the ask said.
    Whole(Box<Torrent>),
    /// It is not.
    Wrong,
}

impl Fetch {
    pub(super) fn new(ask: Ask, info_hash: [u8; 20]) -> Self {
        Self {
            ask,
            info_hash,
            size: None,
            bytes: Vec::new(),
            heard: Instant::now(),
        }
    }

    /// What to ask for now.
    pub(super) fn next(&self) -> MetaAsk {
        MetaAsk {
            torrent: TorrentHash::V1(self.info_hash),
            // Below the largest info dictionary, 16 MiB.
            offset: u32::try_from(self.bytes.len()).unwrap_or(0),
        }
    }

    /// Whether a part, or the lack of one, is of this.
    pub(super) fn is_of(&self, torrent: TorrentHash) -> bool {
        torrent == TorrentHash::V1(self.info_hash)
    }

    /// A part came. Memory grows with the bytes that came, not with the size that was said.
    //= spec/friends.md#meta-agree
    pub(super) fn part(&mut self, meta: &Meta) -> Part {
        if !self.is_of(meta.torrent) || meta.offset as usize != self.bytes.len() {
            return Part::Nothing;
        }
        if self.size.is_some_and(|size| size != meta.size) {
            (self.size, self.bytes) = (None, Vec::new());
            return Part::Next(self.next());
        }
        self.size = Some(meta.size);
        self.heard = Instant::now();
        self.bytes.extend_from_slice(&meta.data);
        if self.bytes.len() < meta.size as usize {
            return Part::Next(self.next());
        }
        self.check()
    }

    fn check(&mut self) -> Part {
        if <[u8; 20]>::from(Sha1::digest(&self.bytes)) != self.info_hash {
            return Part::Wrong;
        }
        let info = bytes::Bytes::from(std::mem::take(&mut self.bytes));
        let torrent = Metainfo::from_info(info, Vec::new())
            .ok()
            .and_then(|meta| Torrent::new(meta).ok());
        match torrent {
            Some(torrent)
                if torrent.layout.total == self.ask.size
                    && torrent.layout.piece_length == self.ask.piece_length =>
            {
                Part::Whole(Box::new(torrent))
            }
            Some(_) | None => Part::Wrong,
        }
    }

    pub(super) fn info_hash(&self) -> InfoHash {
        InfoHash(self.info_hash)
    }
}

/// The answer to a friend that asks for a part of `info`, or none.
pub(super) fn answer(ask: &MetaAsk, info: Option<&[u8]>) -> Result<Meta, MetaNone> {
    let none = MetaNone {
        torrent: ask.torrent,
    };
    let info = info.ok_or(none)?;
    let size = u32::try_from(info.len()).map_err(|_| none)?;
    let rest = info.get(ask.offset as usize..).ok_or(none)?;
    let data = &rest[..rest.len().min(META_PART as usize)];
    if data.is_empty() || size > friends_proto::message::MAX_META {
        return Err(none);
    }
    Ok(Meta {
        torrent: ask.torrent,
        offset: ask.offset,
        size,
        data: data.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use bt_wire::metainfo::MetainfoBuilder;
    use friends_proto::message::{Deliveries, HelpId};

    use super::*;

    const PIECE: u32 = 16_384;

    /// A torrent whose info dictionary has two parts, and a fetch of it as `size` bytes in pieces of `piece`.
    fn fetch(size: u64, piece: u32) -> (Metainfo, Fetch) {
        let pieces = 1000;
        let file = MetainfoBuilder::single("long", pieces * u64::from(PIECE), PIECE)
            .pieces((0..pieces).map(|_| [1; 20]))
            .build()
            .expect("a torrent");
        let meta = Metainfo::from_torrent(file).expect("sound");
        let info_hash = meta.info_hash().0;
        let ask = Ask {
            id: HelpId(1),
            torrent: TorrentHash::V1(info_hash),
            size,
            piece_length: piece,
            want: size,
            master: Vec::new(),
            deliveries: Deliveries::RELAYED,
            private: false,
            trackers: Vec::new(),
        };
        (meta, Fetch::new(ask, info_hash))
    }

    fn part(meta: &Metainfo, fetch: &Fetch) -> Meta {
        answer(&fetch.next(), Some(&meta.info_bytes)).expect("a part")
    }

    //= spec/friends.md#meta-agree
    #[test]
    fn a_part_with_another_size_begins_the_dictionary_anew() {
        let (meta, mut fetch) = fetch(1000 * u64::from(PIECE), PIECE);
        let first = part(&meta, &fetch);
        assert!(matches!(fetch.part(&first), Part::Next(ask) if ask.offset == META_PART));
        let second = part(&meta, &fetch);
        let other = Meta {
            size: second.size + 1,
            ..second.clone()
        };
        assert!(matches!(fetch.part(&other), Part::Next(ask) if ask.offset == 0));
        // What was there is gone: the second part alone is not what is asked for now.
        assert!(matches!(fetch.part(&second), Part::Nothing));
        assert!(matches!(fetch.part(&first), Part::Next(_)));
        assert!(matches!(fetch.part(&second), Part::Whole(_)));
    }

    //= spec/friends.md#meta-agree
    #[test]
    fn a_dictionary_of_another_hash_size_or_piece_length_is_wrong() {
        let whole = |size, piece, flip: u8| {
            let (meta, mut fetch) = fetch(size, piece);
            let mut first = part(&meta, &fetch);
            first.data[100] ^= flip;
            assert!(matches!(fetch.part(&first), Part::Next(_)));
            let second = part(&meta, &fetch);
            fetch.part(&second)
        };
        let size = 1000 * u64::from(PIECE);
        assert!(matches!(whole(size, PIECE, 0), Part::Whole(_)));
        assert!(matches!(whole(size, PIECE, 1), Part::Wrong));
        assert!(matches!(whole(size - 1, PIECE, 0), Part::Wrong));
        assert!(matches!(whole(size, 2 * PIECE, 0), Part::Wrong));
    }
}
