//! Attack rows of the peer wire, by raw sockets.

use std::io::ErrorKind;

use bt_wire::extension::{ExtendedHandshake, ExtensionIds, METADATA_PIECE, MetadataMessage};
use bt_wire::handshake::{Handshake, LENGTH, Reserved};
use bt_wire::message::{BlockRef, Message};
use bytes::BytesMut;
use swarm_core::io::{Origin, PeerSource, SwarmFact};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SOON: Duration = Duration::from_secs(20);

pub(super) struct Raw(TcpStream);

impl Raw {
    pub(super) async fn dial(addr: SocketAddr, content: &Content) -> Self {
        let mut stream = TcpStream::connect(addr).await.expect("listens");
        stream.write_all(&shake(content, b'X')).await.expect("open");
        let mut theirs = [0; LENGTH];
        stream.read_exact(&mut theirs).await.expect("a handshake");
        Self(stream)
    }

    pub(super) async fn send(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        // They may have closed meanwhile: what matters is asked of the reading side.
        drop(self.0.write_all(&bytes).await);
    }

    pub(super) async fn next(&mut self) -> Option<Message> {
        let read = async {
            let len = self.0.read_u32().await.ok()?;
            let mut frame = vec![0; len as usize];
            self.0.read_exact(&mut frame).await.ok()?;
            Message::parse(frame.into()).ok()
        };
        tokio::time::timeout(SOON, read)
            .await
            .expect("an answer or an end")
    }

    async fn is_closed(&mut self) -> bool {
        while self.next().await.is_some() {}
        true
    }
}

fn shake(content: &Content, id: u8) -> [u8; LENGTH] {
    let info_hash = content.meta.info_hash();
    Handshake {
        reserved: Reserved::ours(false),
        info_hash,
        peer_id: PeerId([id; 20]),
    }
    .encode()
}

async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut rest))
        .await
        .expect("closed in time");
    assert!(end.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true));
    assert!(rest.is_empty(), "nothing was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b13_unknown_infohashes_and_ourselves_are_turned_away_untold() {
    let (content, other) = (content(1 << 18, 1 << 16), content(1 << 17, 1 << 16));
    let seed = Peer::seed(&content).await;
    let mut stranger = TcpStream::connect(seed.addr()).await.expect("listens");
    stranger
        .write_all(&shake(&other, b'X'))
        .await
        .expect("open");
    ends(&mut stranger).await;
    assert!(counter("btslave_handshakes_refused_total{reason=\"unknown_infohash\"}") > 0);
    let mut mirror = TcpStream::connect(seed.addr()).await.expect("listens");
    mirror
        .write_all(&shake(&content, b'S'))
        .await
        .expect("open");
    ends(&mut mirror).await;
    assert!(counter("btslave_handshakes_refused_total{reason=\"ourselves\"}") > 0);
    let mut web = TcpStream::connect(seed.addr()).await.expect("listens");
    web.write_all(&[b'G'; LENGTH]).await.expect("open");
    ends(&mut web).await;
    assert!(counter("btslave_handshakes_refused_total{reason=\"not_bittorrent\"}") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_a_length_bomb_is_dropped_on_its_header() {
    let content = content(1 << 18, 1 << 16);
    let seed = Peer::seed(&content).await;
    let mut raw = Raw::dial(seed.addr(), &content).await;
    raw.0
        .write_all(&[0xff, 0xff, 0xff, 0xff, 7])
        .await
        .expect("open");
    assert!(raw.is_closed().await);
    assert!(counter("btslave_violations_total{kind=\"bad_frame\"}") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b2_b4_bad_bitfields_and_impossible_requests_end_the_connection() {
    let content = content(1 << 18, 1 << 16);
    let seed = Peer::seed(&content).await;
    let mut raw = Raw::dial(seed.addr(), &content).await;
    raw.send(&Message::Bitfield(Bytes::from_static(&[0xff])))
        .await;
    assert!(raw.is_closed().await);
    assert!(counter("btslave_violations_total{kind=\"bad_bitfield\"}") > 0);
    let mut raw = Raw::dial(seed.addr(), &content).await;
    raw.send(&Message::Request(BlockRef {
        piece: 3,
        begin: 65_535,
        length: 2,
    }))
    .await;
    assert!(raw.is_closed().await);
    assert!(counter("btslave_violations_total{kind=\"bad_request\"}") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_a_flood_of_requests_by_one_who_never_reads_ends() {
    let content = content(1 << 20, 1 << 18);
    let seed = Peer::seed(&content).await;
    let mut raw = Raw::dial(seed.addr(), &content).await;
    raw.send(&Message::Interested).await;
    let mut flood = BytesMut::new();
    for at in 0..1000u32 {
        let block = BlockRef {
            piece: at % 4,
            begin: at % 16 * 16_384,
            length: 16_384,
        };
        Message::Request(block).encode(&mut flood);
    }
    let flooding = async {
        for _ in 0..1000 {
            if raw.0.write_all(&flood).await.is_err() {
                return true;
            }
        }
        false
    };
    assert!(
        tokio::time::timeout(SOON, flooding)
            .await
            .expect("cut off in time"),
        "a million requests were taken"
    );
    assert!(counter("btslave_violations_total{kind=\"request_flood\"}") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b6_silent_sockets_go_while_an_honest_peer_is_served() {
    let content = content(1 << 20, 1 << 18);
    let seed = Peer::seed(&content).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(seed.addr()).await.expect("listens"));
    }
    let honest = Peer::relay(&content, b'H', 8 << 20, 8 << 20, usize::MAX, false).await;
    honest.dial(&seed).await;
    honest.until_pieces(4).await;
    for mut socket in silent {
        ends(&mut socket).await;
    }
    assert!(counter("btslave_half_open_evicted_total") > 0);
    assert!(counter("btslave_handshakes_refused_total{reason=\"silent\"}") > 0);
}

/// A seed that gives what `bytes` says, whatever the torrent says.
async fn raw_seed(listener: TcpListener, content: &Content, bytes: Vec<u8>) {
    let (mut stream, _) = listener.accept().await.expect("they dial");
    let mut theirs = [0; LENGTH];
    stream.read_exact(&mut theirs).await.expect("a handshake");
    stream.write_all(&shake(content, b'P')).await.expect("open");
    let mut raw = Raw(stream);
    raw.send(&Message::HaveAll).await;
    raw.send(&Message::Unchoke).await;
    while let Some(message) = raw.next().await {
        if let Message::Request(BlockRef {
            piece,
            begin,
            length,
        }) = message
        {
            let at = piece as usize * content.meta.piece_length as usize + begin as usize;
            let data = Bytes::copy_from_slice(&bytes[at..at + length as usize]);
            raw.send(&Message::Piece { piece, begin, data }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b7_poisoned_pieces_are_neither_held_nor_announced() {
    let content = content(1 << 20, 1 << 18);
    let relay = Peer::relay(&content, b'R', 8 << 20, 8 << 20, 4, false).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let poisoner = listener.local_addr().expect("bound");
    let mut bytes = content.bytes.to_vec();
    // Pieces 0 and 2 are poisoned.
    bytes[5] ^= 1;
    bytes[(2 << 18) + 100_000] ^= 1;
    let before = counter("btslave_hash_failures_total");
    let mut master = Raw::dial(relay.addr(), &content).await;
    let fact = SwarmFact::Peers(vec![poisoner], PeerSource::User);
    relay
        .engine
        .swarm_fact(relay.swarm, fact)
        .await
        .expect("runs");
    let watch = async {
        let mut told = Vec::new();
        while told.len() < 2 {
            if let Some(Message::Have(piece)) = master.next().await {
                told.push(piece);
            }
        }
        told.sort_unstable();
        assert_eq!(told, [1, 3], "only what passed its hash");
    };
    tokio::select! {
        () = watch => {}
        () = raw_seed(listener, &content, bytes) => panic!("the relay hung up"),
    }
    assert!(counter("btslave_hash_failures_total") > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b9_wrong_metadata_is_refused_and_its_giver_not_asked_again() {
    let content = content(1 << 20, 16 * 1024);
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
    let peer = peer.joined().await;
    let mut asked = 0;
    for _ in 0..2 {
        let mut liar = Raw::dial(peer.addr(), &content).await;
        let hello = ExtendedHandshake {
            m: ExtensionIds {
                ut_metadata: Some(3),
                ..ExtensionIds::default()
            },
            metadata_size: Some(METADATA_PIECE),
            ..ExtendedHandshake::default()
        };
        liar.send(&Message::Extended {
            id: 0,
            payload: hello.encode().into(),
        })
        .await;
        liar.send(&Message::Interested).await;
        let listen = async {
            while let Some(message) = liar.next().await {
                let Message::Extended { id: 3, payload } = message else {
                    continue;
                };
                if let Ok(MetadataMessage::Request { piece }) = MetadataMessage::parse(&payload) {
                    asked += 1;
                    let data = Bytes::from(vec![b'd'; METADATA_PIECE as usize]);
                    let data = MetadataMessage::Data {
                        piece,
                        total_size: METADATA_PIECE,
                        data,
                    };
                    let id = bt_wire::extension::UT_METADATA;
                    liar.send(&Message::Extended {
                        id,
                        payload: data.encode().into(),
                    })
                    .await;
                }
            }
        };
        // The second time nobody asks, so nothing ends it: three of our ticks are enough to know.
        drop(tokio::time::timeout(Duration::from_secs(3), listen).await);
    }
    assert_eq!(asked, 1);
    assert!(counter("btslave_metadata_wrong_total") > 0);
    assert!(
        peer.engine
            .swarms()
            .get(peer.swarm)
            .expect("known")
            .torrent()
            .is_none()
    );
}
