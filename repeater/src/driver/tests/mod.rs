//! Engines on real sockets of this machine's loopback, with a brain by script.

mod brain;
mod hostile;
mod line;
mod quota;

use std::sync::OnceLock;

use bt_wire::metainfo::{Metainfo, MetainfoBuilder};
use bytes::Bytes;
use sha1::{Digest, Sha1};
use swarm_core::io::{Origin, PeerSource};

use super::*;
use crate::cache::MemoryContent;
use brain::Script;

/// What the counters of this process say. All tests share them, so they only ever grow.
pub(crate) fn counter(name: &str) -> u64 {
    static HANDLE: OnceLock<metrics_exporter_prometheus::PrometheusHandle> = OnceLock::new();
    let install = || {
        metrics_exporter_prometheus::PrometheusBuilder::new()
            .install_recorder()
            .expect("the only one")
    };
    let text = HANDLE.get_or_init(install).render();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse().expect("a number"))
}

/// What an engine's connections share of friends.
pub(crate) fn circle(engine: &EngineHandle) -> Arc<crate::aid::Circle> {
    let circle = engine.network.friends.as_ref();
    Arc::clone(circle.expect("friends are on"))
}

struct Content {
    bytes: Bytes,
    meta: Metainfo,
}

fn content(len: usize, piece_length: u32) -> Content {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    let pieces = bytes
        .chunks(piece_length as usize)
        .map(|piece| Sha1::digest(piece).into());
    let torrent = MetainfoBuilder::single("test", len as u64, piece_length)
        .pieces(pieces)
        .build()
        .expect("sound");
    Content {
        meta: Metainfo::from_torrent(torrent).expect("sound"),
        bytes: bytes.into(),
    }
}

struct Peer {
    engine: EngineHandle,
    events: EngineEvents,
    dir: tempfile::TempDir,
    swarm: SwarmId,
}

fn config(dir: &tempfile::TempDir, id: u8, cache: u64, memory: u64) -> EngineConfig {
    EngineConfig {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        device: None,
        pex: true,
        peer_id: PeerId([id; 20]),
        limits: Limits {
            upload: None,
            download: None,
            month: None,
            schedule: Vec::new(),
            connections: 100,
            cache,
            cache_memory: memory,
            repeat: true,
            max_swarms: 4,
        },
        book: Book::default(),
        min_free: 0,
        data_dir: dir.path().to_path_buf(),
        seed: 1,
        record: None,
        aid: None,
        invert_need: false,
    }
}

impl Peer {
    fn start(id: u8, cache: u64, memory: u64, room: usize, retire: bool) -> Self {
        counter("");
        let dir = tempfile::tempdir().expect("a directory");
        let started = Engine::start_with(config(&dir, id, cache, memory), move |params, _| {
            Box::new(Script::new(params, room, retire))
        });
        let (engine, events) = started.expect("starts");
        Self {
            engine,
            events,
            dir,
            swarm: SwarmId(0),
        }
    }

    async fn joined(mut self) -> Self {
        while self.events.next().await != EngineEvent::Join(self.swarm) {}
        self
    }

    async fn seed(content: &Content) -> Self {
        let peer = Self::start(b'S', 1 << 20, 1 << 20, 0, false);
        let torrent = Torrent::new(content.meta.clone()).expect("joinable");
        let add = Add::from_metainfo(content.meta.clone(), Origin::User).expect("joinable");
        let kept = Arc::new(MemoryContent::new(content.bytes.clone(), torrent.layout));
        peer.engine
            .keep(add, torrent, kept)
            .await
            .expect("the bytes are right");
        peer.joined().await
    }

    async fn relay(
        content: &Content,
        id: u8,
        cache: u64,
        memory: u64,
        room: usize,
        retire: bool,
    ) -> Self {
        let peer = Self::start(id, cache, memory, room, retire);
        peer.engine
            .add(Add::from_metainfo(content.meta.clone(), Origin::User).expect("joinable"))
            .await
            .expect("runs");
        peer.joined().await
    }

    fn addr(&self) -> SocketAddr {
        self.engine.listen_addrs()[0]
    }

    async fn dial(&self, other: &Self) {
        let fact = SwarmFact::Peers(vec![other.addr()], PeerSource::User);
        self.engine
            .swarm_fact(self.swarm, fact)
            .await
            .expect("runs");
    }

    /// Until the brain has heard of this many connections.
    async fn until_connections(&self, connections: u32) {
        while self.engine.view().await.expect("runs").node.connections < connections {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Pieces verified so far, by the script.
    async fn pieces(&self) -> u32 {
        self.engine.view().await.expect("runs").node.cache.pieces
    }

    async fn until_pieces(&self, pieces: u32) {
        let all = async {
            while self.pieces().await < pieces {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .is_err()
        {
            panic!(
                "{} of {pieces} pieces: {:?}",
                self.pieces().await,
                self.engine.view().await
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_cache_relays_a_large_torrent_and_stays_within_its_cap() {
    let content = content((24 << 20) + 12_345, 256 * 1024);
    let pieces = content.meta.piece_count;
    let cap = 4 << 20;
    let seed = Peer::seed(&content).await;
    // 15 pieces of 256 KiB: one is for moving, one for reading back.
    let relay = Peer::relay(&content, b'R', cap, 2 << 20, 14, true).await;
    let sink = Peer::relay(&content, b'K', 64 << 20, 64 << 20, usize::MAX, false).await;
    sink.dial(&relay).await;
    relay.until_connections(1).await;
    relay.dial(&seed).await;
    let cache_file = relay.dir.path().join("cache.bin");
    let sampler = async {
        loop {
            let usage = relay.engine.cache_usage();
            assert!(usage.memory_bytes + usage.disk_bytes <= cap, "{usage:?}");
            assert!(std::fs::metadata(&cache_file).expect("there").len() <= 2 << 20);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = sampler => {}
        () = sink.until_pieces(pieces) => {}
    }
    let usage = relay.engine.cache_usage();
    assert!(
        usage.high_water_bytes <= cap && usage.high_water_bytes > 2 << 20,
        "{usage:?}"
    );
    for peer in [&seed, &relay, &sink] {
        peer.engine.shutdown(Duration::from_secs(5)).await;
        assert_eq!(peer.engine.view().await.err(), Some(Stopped));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_line_is_kept_and_an_unlimited_one_is_not_metered() {
    let content = content(2 << 20, 128 * 1024);
    let seed = Peer::seed(&content).await;
    let slow = Peer::relay(&content, b'R', 64 << 20, 64 << 20, usize::MAX, false).await;
    let rates = swarm_core::io::Rates {
        upload: None,
        download: Some(1 << 20),
        master_share: 0.5,
        guest_share: 0.5,
    };
    slow.engine.network.meter.set(&rates);
    let started = Instant::now();
    slow.dial(&seed).await;
    slow.until_pieces(16).await;
    // The rate is a promise of the bucket, so the least time is exact: 2 MiB at 1 MiB/s, less one burst.
    assert!(
        started.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_magnet_link_fetches_its_metadata_and_then_the_content() {
    let content = content(1 << 20, 16 * 1024);
    let seed = Peer::seed(&content).await;
    let peer = Peer::start(b'M', 8 << 20, 8 << 20, usize::MAX, false);
    let add = Add {
        info_hash: content.meta.info_hash(),
        name: "magnet".into(),
        torrent: None,
        trackers: vec![],
        origin: Origin::User,
        pinned: false,
    };
    peer.engine.add(add).await.expect("runs");
    let mut peer = peer.joined().await;
    peer.dial(&seed).await;
    while peer.events.next().await != EngineEvent::MetadataReady(peer.swarm) {}
    let torrent = peer
        .engine
        .swarms()
        .get(peer.swarm)
        .and_then(|swarm| swarm.torrent().cloned())
        .expect("known now");
    assert_eq!(torrent.meta.info_bytes, content.meta.info_bytes);
    // The script dials again when it hears of the geometry.
    peer.until_pieces(64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_content_that_is_not_what_it_says_is_refused() {
    let content = content(256 * 1024, 64 * 1024);
    let peer = Peer::start(b'S', 1 << 20, 1 << 20, 0, false);
    let torrent = Torrent::new(content.meta.clone()).expect("joinable");
    let mut bytes = content.bytes.to_vec();
    bytes[100_000] ^= 1;
    let kept = Arc::new(MemoryContent::new(bytes.into(), torrent.layout));
    let add = Add::from_metainfo(content.meta.clone(), Origin::User).expect("joinable");
    let refused = peer.engine.keep(add, torrent, kept).await;
    assert!(
        matches!(refused, Err(KeepError::Mismatch { piece: 1 })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, _events) = Engine::start(config(&dir, 1, 1 << 20, 1 << 20)).expect("starts");
    let mut second = config(&dir, 2, 1 << 20, 1 << 20);
    second.listen = first.listen_addrs().to_vec();
    let error = Engine::start(second).expect_err("taken").to_string();
    assert!(
        error.contains(&first.listen_addrs()[0].to_string()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_run_of_the_real_brain_replays_byte_for_byte() {
    let content = content(1 << 20, 64 * 1024);
    let seed = Peer::seed(&content).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("recording");
    let mut config = config(&dir, b'N', 8 << 20, 4 << 20);
    config.record = Some((path.clone(), 64 << 20));
    let (engine, events) = Engine::start(config).expect("starts");
    let add = Add {
        pinned: true,
        ..Add::from_metainfo(content.meta.clone(), Origin::User).expect("joinable")
    };
    let swarm = engine.add(add).await.expect("runs");
    let peer = Peer {
        engine,
        events,
        dir,
        swarm,
    }
    .joined()
    .await;
    peer.dial(&seed).await;
    peer.until_connections(1).await;
    peer.engine.set_paused(true).await.expect("runs");
    peer.engine.shutdown(Duration::from_secs(5)).await;
    let batches = crate::record::replay(&path).expect("the same answers");
    assert!(batches >= 4, "{batches} batches");
}
