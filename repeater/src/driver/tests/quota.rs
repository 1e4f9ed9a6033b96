//! The allowance of the month's quota on real sockets.

use swarm_core::policy::quota::FAREWELL;

use super::*;

impl Peer {
    fn carried(&self) -> u64 {
        self.engine.network.allowance.carried()
    }

    async fn until_carried(&self, bytes: u64) {
        while self.carried() < bytes {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_carries_what_is_allowed_to_the_byte_and_goes_on_when_there_is_more() {
    let content = content(4 << 20, 128 * 1024);
    let seed = Peer::seed(&content).await;
    let relay = Peer::relay(&content, b'R', 64 << 20, 64 << 20, usize::MAX, false).await;
    let first = 1_000_003;
    relay.engine.network.allow(Some(first + FAREWELL));
    relay.dial(&seed).await;
    relay.until_carried(first).await;
    // A giver that may send no more stops as well, in the middle of a block.
    let second = 2_000_003;
    seed.engine.network.allow(Some(second + FAREWELL));
    relay.engine.network.allow(None);
    seed.until_carried(second).await;
    let view = relay.engine.view().await.expect("runs");
    assert!(view.node.cache.pieces < content.meta.piece_count);
    // Whoever knocks now is not even read.
    let refused = counter("btslave_quota_refused_total");
    let other = Peer::relay(&content, b'O', 64 << 20, 64 << 20, usize::MAX, false).await;
    other.dial(&seed).await;
    while counter("btslave_quota_refused_total") == refused {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(seed.carried(), second);

    seed.engine.network.allow(None);
    relay.until_pieces(content.meta.piece_count).await;
    let payload = content.bytes.len() as u64;
    assert!(seed.carried() > payload, "overhead counts too");
    assert_eq!(seed.carried(), relay.carried());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_begins_only_when_its_book_is_durable_and_ends_all_connections() {
    let content = content(4 << 20, 128 * 1024);
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(&dir, b'N', 64 << 20, 64 << 20);
    config.limits.month = Some(2 << 20);
    let (engine, events) = Engine::start(config).expect("starts");
    let torrent = Torrent::new(content.meta.clone()).expect("joinable");
    let add = Add::from_metainfo(content.meta.clone(), Origin::User).expect("joinable");
    let kept = Arc::new(MemoryContent::new(content.bytes.clone(), torrent.layout));
    let swarm = engine.keep(add, torrent, kept).await.expect("right bytes");
    let mut peer = Peer {
        engine,
        events,
        dir,
        swarm,
    }
    .joined()
    .await;
    let mut books = peer.engine.books();
    let wall = |month| Wall { month, minute: 0 };
    peer.engine.wall(wall(24_322)).await.expect("runs");
    books.changed().await.expect("a book to save");
    assert!(!peer.engine.allowance().is_open(), "not durable yet");
    let engine = peer.engine.clone();
    let disk = async move {
        loop {
            let book = books.borrow_and_update().clone().expect("a book");
            engine.saved(book.total).await.expect("runs");
            books.changed().await.expect("runs");
        }
    };
    let disk = tokio::spawn(disk);
    // Who comes before that is turned away, and the sink's script dials once.
    while !peer.engine.allowance().is_open() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let sink = Peer::relay(&content, b'K', 64 << 20, 64 << 20, usize::MAX, false).await;
    // It takes for a master, or it would be no demand.
    sink.engine.network.masters.lock().insert(MasterId(1));
    sink.dial(&peer).await;
    while !matches!(peer.events.next().await, EngineEvent::Leave(_)) {}
    let view = peer.engine.view().await.expect("runs").node;
    assert!(
        view.month.spent && view.month.used_bytes <= 2 << 20,
        "{:?}",
        view.month
    );
    assert!(view.month.used_bytes >= (2 << 20) - FAREWELL);
    peer.engine.wall(wall(24_323)).await.expect("runs");
    while !matches!(peer.events.next().await, EngineEvent::Join(_)) {}
    assert!(!peer.engine.view().await.expect("runs").node.month.spent);
    disk.abort();
}
