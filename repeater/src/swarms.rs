//! The swarms this daemon knows, by number and by infohash: metadata for the shell, which the brain never sees.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bt_wire::ids::InfoHash;
use bt_wire::layout::Layout;
use bt_wire::magnet::Magnet;
use bt_wire::metainfo::{Metainfo, NotJoinable};
use parking_lot::{Mutex, RwLock};
use swarm_core::io::{Geometry, Hold, Origin, SwarmFact, SwarmId};

use crate::cache::{KeptContent, PieceHash, is_piece};
use crate::net::MetadataTurn;

/// A torrent that can be joined: its metadata and its geometry.
#[derive(Debug, Clone)]
pub struct Torrent {
    /// Geometry.
    pub layout: Layout,
    /// Everything its metainfo says.
    pub meta: Arc<Metainfo>,
}

impl Torrent {
    /// From parsed metainfo.
    ///
    /// # Errors
    /// It cannot be joined (v2 only).
    pub fn new(meta: Metainfo) -> Result<Self, NotJoinable> {
        meta.joinable()?;
        Ok(Self {
            layout: meta.layout()?,
            meta: Arc::new(meta),
        })
    }

    /// What piece `index` must hash to; none past the end.
    #[must_use]
    pub fn piece_hash(&self, index: u32) -> Option<PieceHash> {
        self.meta.piece_hash(index).map(PieceHash::Sha1)
    }
}

/// A swarm as the shell knows it.
pub struct Swarm {
    /// The brain's number for it.
    pub id: SwarmId,
    /// v1 infohash (of a hybrid: the v1 one).
    pub info_hash: InfoHash,
    torrent: OnceLock<Arc<Torrent>>,
    kept: OnceLock<Arc<dyn KeptContent>>,
    name: Mutex<String>,
    trackers: Mutex<Vec<Vec<String>>>,
    joined: AtomicBool,
    meets: AtomicBool,
    /// Origin and pin to repeat to the brain when the metadata arrives.
    named: Mutex<Option<(Origin, bool)>>,
    /// Who may fetch the metadata, and who gave a wrong one.
    pub(crate) metadata: MetadataTurn,
}

impl std::fmt::Debug for Swarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Swarm({:?} {})", self.id, self.info_hash)
    }
}

impl Swarm {
    fn new(id: SwarmId, info_hash: InfoHash, name: String) -> Self {
        Self {
            id,
            info_hash,
            torrent: OnceLock::new(),
            kept: OnceLock::new(),
            name: Mutex::new(name),
            trackers: Mutex::new(Vec::new()),
            joined: AtomicBool::new(false),
            meets: AtomicBool::new(false),
            named: Mutex::new(None),
            metadata: MetadataTurn::default(),
        }
    }

    /// The metadata, once known.
    #[must_use]
    pub fn torrent(&self) -> Option<&Arc<Torrent>> {
        self.torrent.get()
    }

    /// The provider of kept content, if it is kept.
    #[must_use]
    pub fn kept(&self) -> Option<&Arc<dyn KeptContent>> {
        self.kept.get()
    }

    /// Display name: the metadata's, else what the magnet link or feed said.
    #[must_use]
    pub fn name(&self) -> String {
        self.torrent.get().map_or_else(
            || self.name.lock().clone(),
            |torrent| torrent.meta.display_name(),
        )
    }

    /// Announce tiers (BEP 12), as named so far.
    #[must_use]
    pub fn trackers(&self) -> Vec<Vec<String>> {
        self.trackers.lock().clone()
    }

    /// Whether the brain joined it.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// BEP 27; false while the metadata is unknown.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.torrent
            .get()
            .is_some_and(|torrent| torrent.meta.private)
    }

    /// It is a rendezvous: slaves meet in it, and none but its host holds its content.
    #[must_use]
    pub fn is_rendezvous(&self) -> bool {
        self.meets.load(Ordering::Relaxed)
    }

    pub(crate) fn set_joined(&self, joined: bool) {
        self.joined.store(joined, Ordering::Relaxed);
    }

    /// True if it was not known before.
    pub(crate) fn set_torrent(&self, torrent: Torrent) -> bool {
        self.torrent.set(Arc::new(torrent)).is_ok()
    }

    /// Adds tiers that bring a new tracker.
    fn add_trackers(&self, tiers: Vec<Vec<String>>) {
        let mut known = self.trackers.lock();
        for mut tier in tiers {
            tier.retain(|url| !known.iter().flatten().any(|other| other == url));
            if !tier.is_empty() {
                known.push(tier);
            }
        }
    }

    /// What the brain is told of it.
    pub(crate) fn known_fact(&self) -> Option<SwarmFact> {
        let (origin, pinned) = self.named.lock().clone()?;
        let torrent = self.torrent.get();
        Some(SwarmFact::Known {
            info_hash: self.info_hash.0,
            name: self.name(),
            geometry: torrent.map(|torrent| Geometry {
                piece_length: torrent.layout.piece_length,
                total: torrent.layout.total,
            }),
            private: self.is_private(),
            hold: if self.kept.get().is_some() {
                Hold::Kept
            } else if self.is_rendezvous() {
                Hold::None
            } else {
                Hold::Cache
            },
            origin,
            pinned,
        })
    }
}

/// A swarm to know. Adding one that is known already merges: trackers add up, a pin sticks, metadata is taken over.
#[derive(Debug, Clone)]
pub struct Add {
    /// v1 infohash.
    pub info_hash: InfoHash,
    /// Display name, for as long as the metadata is unknown.
    pub name: String,
    /// Metadata, if it is there.
    pub torrent: Option<Torrent>,
    /// Announce tiers.
    pub trackers: Vec<Vec<String>>,
    /// Who names it.
    pub origin: Origin,
    /// Never leave it by the brain's own decision.
    pub pinned: bool,
}

impl Add {
    /// A parsed .torrent file.
    ///
    /// # Errors
    /// It cannot be joined (v2 only).
    pub fn from_metainfo(meta: Metainfo, origin: Origin) -> Result<Self, NotJoinable> {
        let (info_hash, name, trackers) =
            (meta.info_hash(), meta.display_name(), meta.trackers.clone());
        Ok(Self {
            info_hash,
            name,
            torrent: Some(Torrent::new(meta)?),
            trackers,
            origin,
            pinned: false,
        })
    }

    /// A magnet link. Its `x.pe` peers are to be told with [`SwarmFact::Peers`] once it is added.
    #[must_use]
    pub fn from_magnet(magnet: &Magnet, origin: Origin) -> Self {
        let info_hash = magnet.info_hash();
        Self {
            info_hash,
            name: magnet.name.clone().unwrap_or_else(|| info_hash.to_string()),
            torrent: None,
            trackers: magnet
                .trackers
                .iter()
                .map(|url| vec![url.clone()])
                .collect(),
            origin,
            pinned: false,
        }
    }
}

/// Kept content is not what its torrent says.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It could not be read.
    #[error("piece {piece} of the kept content cannot be read: {cause}")]
    Unreadable {
        /// Piece index.
        piece: u32,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is something else.
    #[error(
        "piece {piece} of the kept content does not match its torrent: restore the file or take it out"
    )]
    Mismatch {
        /// Piece index.
        piece: u32,
    },
}

/// Reads and hashes all of `content`.
///
/// # Errors
/// The first piece that cannot be read or does not match.
pub(crate) fn verify_kept(torrent: &Torrent, content: &dyn KeptContent) -> Result<(), KeepError> {
    for piece in 0..torrent.layout.piece_count {
        let bytes = content
            .read(piece)
            .map_err(|cause| KeepError::Unreadable { piece, cause })?;
        let hash = torrent
            .piece_hash(piece)
            .ok_or(KeepError::Mismatch { piece })?;
        if is_piece(&bytes, hash) != Ok(true) {
            return Err(KeepError::Mismatch { piece });
        }
    }
    Ok(())
}

/// All swarms. Numbers are never reused within a run.
#[derive(Debug, Default)]
pub struct SwarmTable {
    inner: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<SwarmId, Arc<Swarm>>,
    by_hash: HashMap<InfoHash, Arc<Swarm>>,
    next: u32,
}

impl SwarmTable {
    /// By the brain's number.
    #[must_use]
    pub fn get(&self, id: SwarmId) -> Option<Arc<Swarm>> {
        self.inner.read().by_id.get(&id).cloned()
    }

    /// By infohash.
    #[must_use]
    pub fn find(&self, info_hash: InfoHash) -> Option<Arc<Swarm>> {
        self.inner.read().by_hash.get(&info_hash).cloned()
    }

    /// All of them, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Swarm>> {
        self.inner.read().by_id.values().cloned().collect()
    }

    /// Knows a swarm, or knows it better.
    pub(crate) fn add(&self, add: Add, kept: Option<Arc<dyn KeptContent>>) -> Arc<Swarm> {
        let swarm = {
            let mut table = self.inner.write();
            match table.by_hash.get(&add.info_hash) {
                Some(swarm) => Arc::clone(swarm),
                None => {
                    let swarm = Arc::new(Swarm::new(SwarmId(table.next), add.info_hash, add.name));
                    table.next += 1;
                    table.by_id.insert(swarm.id, Arc::clone(&swarm));
                    table.by_hash.insert(add.info_hash, Arc::clone(&swarm));
                    swarm
                }
            }
        };
        if let Some(torrent) = add.torrent {
            swarm.set_torrent(torrent);
        }
        if let Some(kept) = kept {
            // A swarm that already has a provider keeps it: both hold the same bytes.
            drop(swarm.kept.set(kept));
        }
        if add.origin == Origin::Rendezvous {
            swarm.meets.store(true, Ordering::Relaxed);
        }
        swarm.add_trackers(add.trackers);
        let mut named = swarm.named.lock();
        let pinned = add.pinned || named.as_ref().is_some_and(|(_, pinned)| *pinned);
        *named = Some((add.origin, pinned));
        drop(named);
        swarm
    }

    pub(crate) fn forget(&self, id: SwarmId) {
        let mut table = self.inner.write();
        if let Some(swarm) = table.by_id.remove(&id) {
            table.by_hash.remove(&swarm.info_hash);
        }
    }
}
