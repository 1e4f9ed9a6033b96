//! What a stranger sees.

use core::sync::atomic::{AtomicU8, Ordering};

use bt_wire::bencode::{Document, Limits};
use bt_wire::handshake::{Handshake, LENGTH, Reserved};
use bt_wire::ids::InfoHash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// A stranger that was not here before: one that comes again while its last connection is not gone yet is turned away.
fn newcomer() -> PeerId {
    static CAME: AtomicU8 = AtomicU8::new(0);
    let mut id = *b"-XX0000-stranger0000";
    id[19] = CAME.fetch_add(1, Ordering::Relaxed);
    PeerId(id)
}

/// Shakes hands and returns the connection with their extended handshake's payload.
async fn shake(addr: SocketAddr, info_hash: InfoHash) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).await.expect("listens");
    let ours = Handshake {
        reserved: Reserved::ours(false),
        info_hash,
        peer_id: newcomer(),
    };
    stream.write_all(&ours.encode()).await.expect("open");
    let mut theirs = [0; LENGTH];
    stream.read_exact(&mut theirs).await.expect("a handshake");
    loop {
        let message = read(&mut stream).await;
        if let [20, 0, payload @ ..] = message.as_slice() {
            return (stream, payload.to_vec());
        }
    }
}

async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_u32().await.expect("a message") as usize;
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.expect("whole");
    message
}

async fn extended(addr: SocketAddr, info_hash: InfoHash) -> Vec<u8> {
    shake(addr, info_hash).await.1
}

fn keys(payload: &[u8]) -> (bool, bool, Option<i64>) {
    let document = Document::parse(payload, &Limits::default()).expect("bencode");
    let dict = document.root().as_dict().expect("a dictionary");
    let m = dict.get("m").and_then(|m| m.as_dict()).expect("m");
    (
        m.get("bs_friends").is_some(),
        dict.get("bs_friends").is_some(),
        dict.int("bs_repeater"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_friends_off_there_is_no_trace_but_bs_repeater() {
    let meta = torrent(false);
    let off = Side::start(FriendsMode::Off, false);
    off.add("Abe", identity(1).public_key(), &[]).await;
    off.join(&meta).await;
    let payload = extended(off.addr(), meta.info_hash()).await;
    assert_eq!(keys(&payload), (false, false, Some(1)));
}

//= spec/friends.md#private-silent
//= spec/friends.md#field-together
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p18_a_private_torrent_says_nothing_unless_allowed() {
    let (public, private) = (torrent(false), torrent(true));
    let side = Side::known();
    side.join(&public).await;
    side.join(&private).await;
    let shown = extended(side.addr(), public.info_hash()).await;
    assert_eq!(keys(&shown), (true, true, Some(1)));
    let hidden = extended(side.addr(), private.info_hash()).await;
    assert_eq!(keys(&hidden), (false, false, Some(1)));
    let allowed = Side::start(FriendsMode::Known, true);
    allowed.join(&private).await;
    let shown = extended(allowed.addr(), private.info_hash()).await;
    assert_eq!(keys(&shown), (true, true, Some(1)));
}

//= spec/friends.md#field-fresh
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_sees_a_size_class_and_never_the_same_tags_twice() {
    let meta = torrent(false);
    let (one, many) = (Side::known(), Side::known());
    one.add("Abe", identity(1).public_key(), &[]).await;
    for seed in 20..36 {
        let name = format!("friend {seed}");
        many.add(&name, identity(seed).public_key(), &[]).await;
    }
    one.join(&meta).await;
    many.join(&meta).await;
    let field = |payload: &[u8]| {
        let document = Document::parse(payload, &Limits::default()).expect("bencode");
        let dict = document.root().as_dict().expect("a dictionary");
        let field = dict
            .get("bs_friends")
            .and_then(|f| f.as_dict())
            .expect("it");
        let bytes = |name| field.bytes(name).expect("there").to_vec();
        (bytes("n"), bytes("t"))
    };
    let first = field(&extended(one.addr(), meta.info_hash()).await);
    let again = field(&extended(one.addr(), meta.info_hash()).await);
    let other = field(&extended(many.addr(), meta.info_hash()).await);
    assert_eq!((first.1.len(), other.1.len()), (128, 128));
    assert!(first.0 != again.0);
    let tags = |list: &[u8]| -> std::collections::BTreeSet<Vec<u8>> {
        list.chunks(8).map(<[u8]>::to_vec).collect()
    };
    assert!(tags(&first.1).is_disjoint(&tags(&again.1)));
}

/// Whoever is dialled hears 68 bytes, and nothing of us before it has answered.
//= spec/friends.md#dial-silent
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_dialled_hears_a_handshake_and_no_more() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("bound");
    let at = listener.local_addr().expect("bound");
    let side = Side::known();
    side.add("Abe", identity(1).public_key(), &[at]).await;
    let (mut stream, _) = listener.accept().await.expect("looked for");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("given up");
    assert_eq!(all.len(), LENGTH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_on_a_home_that_it_cannot_know_learns_nothing() {
    let side = Side::known();
    side.add("Abe", identity(1).public_key(), &[]).await;
    let mut stream = TcpStream::connect(side.addr()).await.expect("listens");
    let ours = Handshake {
        reserved: Reserved::ours(false),
        info_hash: InfoHash([9; 20]),
        peer_id: PeerId(*b"-XX0000-stranger0000"),
    };
    stream.write_all(&ours.encode()).await.expect("open");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("closed");
    assert!(all.is_empty());
}
