//! Between the engine and the trackers: who is announced where, with which figures, and what the trackers say.

use std::collections::BTreeMap;
use std::sync::Arc;

use bt_wire::address::{AddressSource, Scope};
use bt_wire::ids::InfoHash;
use bt_wire::tracker::ScrapeEntry;
use swarm_core::io::friends::FriendsNote;
use swarm_core::io::{Note, Origin, PeerSource, SwarmFact, SwarmId};
use swarm_core::view::SwarmView;
use tokio::sync::mpsc;

use super::{FIGURES, Shared};
use crate::discover::http::mask;
use crate::discover::trackers::{Registration, TrackerCommand, TrackerEvent};
use crate::driver::{EngineEvent, EngineEvents};
use crate::store::{SavedSwarm, SwarmContent, Totals};

/// `left` while nobody knows the size: one block, as others say, so that nobody takes us for a seed.
const LEFT_UNKNOWN: u64 = 16_384;

/// What is known of the announcing of one swarm.
#[derive(Debug)]
pub(super) struct Entry {
    named_by: AddressSource,
    tiers: Vec<Vec<String>>,
    private: bool,
    joined: bool,
    left: Option<u64>,
    /// Given and taken before this join.
    base: (u64, u64),
    /// The last counts a tracker gave.
    pub(super) counts: ScrapeEntry,
    /// The last failure of a tracker; none after an answer.
    pub(super) error: Option<String>,
    /// A tracker answered.
    pub(super) answered: bool,
    /// A scrape was wished for before the trackers were known.
    scrape: bool,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            named_by: AddressSource::Named { by: Scope::Global },
            tiers: Vec::new(),
            private: false,
            joined: false,
            left: None,
            base: (0, 0),
            counts: ScrapeEntry::default(),
            error: None,
            answered: false,
            scrape: false,
        }
    }
}

/// By swarm.
pub(super) type Table = BTreeMap<SwarmId, Entry>;

/// Carries news between engine and trackers until the daemon stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut engine: EngineEvents,
    mut trackers: mpsc::Receiver<TrackerEvent>,
) {
    loop {
        tokio::select! {
            event = engine.next() => shared.engine_event(event).await,
            Some(event) = trackers.recv() => shared.tracker_event(event).await,
        }
    }
}

/// Brings figures up to date every few seconds until the daemon stops.
pub(super) async fn keep_figures(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(FIGURES);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        shared.bring_up_figures().await;
    }
}

fn number(id: SwarmId) -> u64 {
    id.0.into()
}

impl Shared {
    async fn tell_trackers(&self, command: TrackerCommand) {
        if let Some(trackers) = &self.trackers {
            // A tracker task that has ended is one of a daemon on its way out.
            let _ = trackers.send(command).await;
        }
    }

    /// Tells the trackers' task of a swarm, or of what changed about it.
    pub(super) async fn register(&self, id: SwarmId, named_by: AddressSource) {
        let Some(swarm) = self.engine.swarms().get(id) else {
            return;
        };
        let (tiers, private) = (swarm.trackers(), swarm.is_private());
        // The brain may join a swarm before its trackers are known here: what is told is told in one order.
        let _in_order = self.telling_trackers.lock().await;
        let (registration, joined, scrape) = {
            let mut known = self.known.lock();
            let entry = known.announcing.entry(id).or_default();
            // The operator's word stays; a stranger's never widens it.
            if named_by == AddressSource::Operator || entry.tiers.is_empty() {
                entry.named_by = named_by;
            }
            if entry.tiers == tiers && entry.private == private {
                return;
            }
            (entry.tiers, entry.private) = (tiers.clone(), private);
            let named_by = entry.named_by;
            let registration = Registration {
                swarm: number(id),
                info_hash: swarm.info_hash,
                tiers,
                named_by,
                private,
            };
            (
                registration,
                entry.joined.then(|| self.left(id, entry)),
                std::mem::take(&mut entry.scrape),
            )
        };
        self.tell_trackers(TrackerCommand::Register(registration))
            .await;
        if let Some(left) = joined {
            self.tell_trackers(TrackerCommand::Join {
                swarm: number(id),
                left,
            })
            .await;
        }
        if scrape {
            self.tell_trackers(TrackerCommand::Scrape { swarm: number(id) })
                .await;
        }
    }

    fn left(&self, id: SwarmId, entry: &Entry) -> u64 {
        let total = || {
            let swarm = self.engine.swarms().get(id)?;
            let total = swarm.torrent()?.layout.total;
            Some(if swarm.kept().is_some() { 0 } else { total })
        };
        entry.left.or_else(total).unwrap_or(LEFT_UNKNOWN)
    }

    async fn engine_event(self: &Arc<Self>, event: EngineEvent) {
        match event {
            EngineEvent::Join(id) => self.joined(id).await,
            EngineEvent::Leave(id) => {
                let _in_order = self.telling_trackers.lock().await;
                if let Some(entry) = self.known.lock().announcing.get_mut(&id) {
                    entry.joined = false;
                }
                self.tell_trackers(TrackerCommand::Leave { swarm: number(id) })
                    .await;
            }
            EngineEvent::Forget(id, hash) => self.forgotten(id, hash).await,
            EngineEvent::Scrape(id) => self.scrape(id).await,
            EngineEvent::WantPeers(id) => {
                self.tell_trackers(TrackerCommand::NeedPeers { swarm: number(id) })
                    .await
            }
            EngineEvent::Left(id, left) => {
                self.known.lock().announcing.entry(id).or_default().left = Some(left)
            }
            EngineEvent::MetadataReady(id) => {
                if let Err(error) = self.metadata_ready(id).await {
                    tracing::warn!("{error:#}");
                }
            }
            //= spec/friends.md#ask-trackers-named
            EngineEvent::Named(id, by) => self.register(id, AddressSource::Named { by }).await,
            EngineEvent::Invite(master, swarm, at) => self.invite_helper(master, swarm, at),
            EngineEvent::Watch(master, swarm, on) => self.watch_peers(master, swarm, on),
            EngineEvent::Listed(swarm, addr, on) => self.list_member(swarm, addr, on),
            EngineEvent::Note(note) => {
                self.tell(&note);
                if let Note::Friends(FriendsNote::AskDone(hash)) = note {
                    self.forget_wish(InfoHash(hash)).await;
                }
            }
        }
    }

    /// Announces a swarm, with its figures counted from here.
    async fn joined(&self, id: SwarmId) {
        let view = self.engine.view().await.ok();
        let swarm = view
            .as_ref()
            .and_then(|view| view.node.swarms.iter().find(|swarm| swarm.id == id));
        let base = swarm.map_or((0, 0), |swarm| {
            (swarm.uploaded_bytes, swarm.downloaded_bytes)
        });
        let _in_order = self.telling_trackers.lock().await;
        let left = {
            let mut known = self.known.lock();
            let entry = known.announcing.entry(id).or_default();
            (entry.joined, entry.base) = (true, base);
            self.left(id, entry)
        };
        self.tell_trackers(TrackerCommand::Join {
            swarm: number(id),
            left,
        })
        .await;
    }

    async fn scrape(&self, id: SwarmId) {
        let _in_order = self.telling_trackers.lock().await;
        let known = {
            let mut known = self.known.lock();
            let entry = known.announcing.entry(id).or_default();
            entry.scrape = entry.tiers.is_empty();
            !entry.scrape
        };
        if known {
            self.tell_trackers(TrackerCommand::Scrape { swarm: number(id) })
                .await;
        }
    }

    async fn forgotten(&self, id: SwarmId, hash: InfoHash) {
        let in_order = self.telling_trackers.lock().await;
        self.known.lock().announcing.remove(&id);
        self.tell_trackers(TrackerCommand::Forget { swarm: number(id) })
            .await;
        drop(in_order);
        if let Err(error) = self.store(move |store| store.remove_swarm(hash)).await {
            tracing::warn!("{error:#}");
        }
    }

    /// The metadata of a magnet link came: keep it, and keep private torrents from feeds out (promise 5).
    async fn metadata_ready(&self, id: SwarmId) -> anyhow::Result<()> {
        let Some(swarm) = self.engine.swarms().get(id) else {
            return Ok(());
        };
        let Some(torrent) = swarm.torrent() else {
            return Ok(());
        };
        self.register(id, AddressSource::Named { by: Scope::Global })
            .await;
        if swarm.is_rendezvous() {
            return self.rendezvous_metadata(id).await;
        }
        if torrent.meta.private {
            let view = self.engine.view().await?;
            let origins = view
                .node
                .swarms
                .into_iter()
                .find(|view| view.id == id)
                .map(|view| view.origins);
            for origin in origins
                .into_iter()
                .flatten()
                .filter(|origin| matches!(origin, Origin::Feed(_)))
            {
                tracing::warn!(name = %swarm.name(), "a feed named a private torrent, which feeds may not");
                metrics::counter!("btslave_feed_refused_total", "reason" => "private").increment(1);
                self.engine
                    .swarm_fact(id, SwarmFact::Unnamed(origin))
                    .await?;
            }
        }
        let (hash, file) = (
            swarm.info_hash,
            torrent_file(&torrent.meta.info_bytes, &swarm.trackers()),
        );
        self.store(move |store| match store.swarm(hash)? {
            Some(saved) => store.put_swarm(
                hash,
                &SavedSwarm {
                    content: SwarmContent::Metainfo(file),
                    ..saved
                },
            ),
            None => Ok(()),
        })
        .await
    }

    async fn tracker_event(&self, event: TrackerEvent) {
        let id = |number: u64| SwarmId(u32::try_from(number).unwrap_or(u32::MAX));
        match event {
            TrackerEvent::Announced {
                swarm,
                peers,
                complete,
                incomplete,
            } => {
                let counts = ScrapeEntry {
                    complete,
                    incomplete,
                    ..ScrapeEntry::default()
                };
                self.counted(id(swarm), counts).await;
                if !peers.is_empty() {
                    let _ = self
                        .engine
                        .swarm_fact(id(swarm), SwarmFact::Peers(peers, PeerSource::Tracker))
                        .await;
                }
            }
            TrackerEvent::Scraped { swarm, counts } => self.counted(id(swarm), counts).await,
            TrackerEvent::Switched { swarm } => {
                tracing::debug!(swarm, "the tracker of a private torrent changed")
            }
            TrackerEvent::Failed { swarm, text } => {
                tracing::debug!("{text}");
                if let Some(entry) = self.known.lock().announcing.get_mut(&id(swarm)) {
                    entry.error = Some(text);
                }
            }
        }
    }

    async fn counted(&self, id: SwarmId, counts: ScrapeEntry) {
        if let Some(entry) = self.known.lock().announcing.get_mut(&id) {
            entry.error = None;
            entry.answered = true;
            let old = entry.counts;
            entry.counts = ScrapeEntry {
                complete: counts.complete.or(old.complete),
                incomplete: counts.incomplete.or(old.incomplete),
                downloaded: counts.downloaded.or(old.downloaded),
                downloaders: counts.downloaders.or(old.downloaders),
            };
        }
        let ScrapeEntry {
            complete,
            incomplete,
            downloaders,
            ..
        } = counts;
        if complete.is_some() || incomplete.is_some() || downloaders.is_some() {
            let fact = SwarmFact::Scraped {
                complete,
                incomplete,
                downloaders,
            };
            // A stopped engine needs no counts.
            let _ = self.engine.swarm_fact(id, fact).await;
        }
    }

    /// True figures for trackers, totals for the next run, counters for the metrics.
    pub(super) async fn bring_up_figures(&self) {
        let Ok(view) = self.engine.view().await else {
            return;
        };
        let node = &view.node;
        for swarm in &node.swarms {
            if let Some(update) = self.figures(swarm) {
                self.tell_trackers(update).await;
            }
        }
        metrics::counter!("btslave_uploaded_bytes_total").absolute(node.uploaded_bytes);
        metrics::counter!("btslave_downloaded_bytes_total").absolute(node.downloaded_bytes);
        metrics::counter!("btslave_overhead_bytes_total").absolute(view.overhead_bytes);
        metrics::gauge!("btslave_connections").set(f64::from(node.connections));
        let totals = self.add_totals(node);
        // Statistics: a store that is out of order said so at the start.
        let _ = self.store(move |store| store.put_totals(&totals)).await;
    }

    /// The totals of all runs, this one included.
    pub(super) fn add_totals(&self, node: &swarm_core::view::NodeView) -> Totals {
        Totals {
            uploaded: self.totals.uploaded.saturating_add(node.uploaded_bytes),
            downloaded: self.totals.downloaded.saturating_add(node.downloaded_bytes),
            wasted: self.totals.wasted.saturating_add(node.wasted_bytes),
        }
    }

    fn figures(&self, view: &SwarmView) -> Option<TrackerCommand> {
        let known = self.known.lock();
        let entry = known
            .announcing
            .get(&view.id)
            .filter(|entry| entry.joined)?;
        Some(TrackerCommand::Update {
            swarm: number(view.id),
            uploaded: view.uploaded_bytes.saturating_sub(entry.base.0),
            downloaded: view.downloaded_bytes.saturating_sub(entry.base.1),
            left: entry.left.unwrap_or(LEFT_UNKNOWN),
        })
    }

    /// A swarm's trackers for people: no path, which may hold a passkey.
    pub(super) fn tracker_rows(&self, id: SwarmId) -> Vec<control_api::swarms::TrackerRow> {
        let known = self.known.lock();
        let Some(entry) = known.announcing.get(&id) else {
            return Vec::new();
        };
        let state = match (&entry.error, entry.answered, entry.joined) {
            (Some(_), ..) => "failed",
            (None, true, _) => "ok",
            (None, false, true) => "working",
            (None, false, false) => "idle",
        };
        let rows = entry
            .tiers
            .iter()
            .enumerate()
            .flat_map(|(tier, urls)| urls.iter().map(move |url| (tier, url)));
        rows.map(|(tier, url)| control_api::swarms::TrackerRow {
            url: url::Url::parse(url)
                .map_or_else(|_| mask(url), |url| url.origin().ascii_serialization()),
            tier: u32::try_from(tier).unwrap_or(u32::MAX),
            state: state.to_owned(),
            error: entry.error.clone(),
        })
        .collect()
    }
}

/// A .torrent file of metadata that came from peers: its info dictionary, byte for byte, and its trackers.
pub(super) fn torrent_file(info: &[u8], tiers: &[Vec<String>]) -> Vec<u8> {
    let mut file = b"d".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend_from_slice(format!("{}:", text.len()).as_bytes());
        file.extend_from_slice(text.as_bytes());
    };
    if !tiers.is_empty() {
        text(&mut file, "announce-list");
        file.push(b'l');
        for tier in tiers {
            file.push(b'l');
            tier.iter().for_each(|url| text(&mut file, url));
            file.push(b'e');
        }
        file.push(b'e');
    }
    text(&mut file, "info");
    file.extend_from_slice(info);
    file.push(b'e');
    file
}

#[cfg(test)]
mod tests {
    use bt_wire::metainfo::{Metainfo, MetainfoBuilder};

    use super::torrent_file;

    #[test]
    fn metadata_from_peers_becomes_a_file_of_the_same_infohash() {
        let made = MetainfoBuilder::single("a", 5, 16_384)
            .pieces([[7; 20]])
            .build()
            .expect("made");
        let meta = Metainfo::from_torrent(made).expect("read");
        let tiers = vec![
            vec![
                "http://a/announce".to_owned(),
                "http://b/announce".to_owned(),
            ],
            vec!["http://c/announce".to_owned()],
        ];
        for tiers in [tiers, Vec::new()] {
            let again =
                Metainfo::from_torrent(torrent_file(&meta.info_bytes, &tiers)).expect("read");
            assert_eq!(
                (again.info_hash(), &again.trackers),
                (meta.info_hash(), &tiers)
            );
        }
    }
}
