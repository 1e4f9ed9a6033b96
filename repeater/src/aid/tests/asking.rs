//! A friend asks for help with a torrent that the slave does not know.

use friends_proto::message::{
    AnnounceUrl, Ask, Deliveries, HelpId, Message, Meta, PieceSet, Reserve, StopReason, Sync,
    TorrentHash,
};

use super::player::{Cast, Player};
use super::*;
use crate::driver::EngineEvent;

/// The same, in a session over the pair's home: they share no torrent.
async fn met(side: &Side) -> Player {
    let me = identity(1);
    side.add("Abe", me.public_key(), &[]).await;
    let cast = Cast::new(me, side.key());
    let home = super::super::home(&cast.pair(), crate::net::unix_now());
    let mut player = Player::connect(&cast, side.addr(), home)
        .await
        .expect("the pair's home");
    let friend = player.friend();
    assert!(player.open(friend).await);
    player.say(&Message::Sync(Sync::default())).await;
    player
}

/// Asks with these trackers, reserves piece 0, and shows the info dictionary. True: the slave is in the swarm.
async fn ask(player: &mut Player, meta: &Metainfo, trackers: &[&str]) -> bool {
    shows(player, meta, trackers, &meta.info_bytes).await == Ok(())
}

/// The same with whatever bytes for the info dictionary. The error: why the help was ended.
async fn shows(
    player: &mut Player,
    meta: &Metainfo,
    trackers: &[&str],
    info: &[u8],
) -> Result<(), StopReason> {
    let even = player.cast.me.public_key() < player.cast.other;
    let id = HelpId(if even { 2 } else { 3 });
    let torrent = TorrentHash::V1(meta.info_hash().0);
    let urls = trackers.iter().map(|url| AnnounceUrl::new(url));
    let ask = Ask {
        id,
        torrent,
        size: 65_536,
        piece_length: 16_384,
        want: 65_536,
        master: Vec::new(),
        deliveries: Deliveries::RELAYED,
        private: false,
        trackers: urls.map(|url| url.expect("printable")).collect(),
    };
    player.say(&Message::Ask(ask)).await;
    let offered = |message: &Message| {
        let answered = matches!(message, Message::Offer(_) | Message::Decline(_));
        answered.then_some(matches!(message, Message::Offer(_)))
    };
    assert_eq!(player.hear(offered).await, Some(true));
    let pieces = PieceSet::new(0, vec![0x80]).expect("piece 0");
    player.say(&Message::Reserve(Reserve { id, pieces })).await;
    let wanted = |message: &Message| {
        let Message::MetaAsk(ask) = message else {
            return None;
        };
        Some(*ask)
    };
    let part = player.hear(wanted).await.expect("a wish");
    assert_eq!((part.torrent, part.offset), (torrent, 0));
    let shown = Meta {
        torrent,
        offset: 0,
        size: u32::try_from(info.len()).expect("short"),
        data: info.to_vec(),
    };
    player.say(&Message::Meta(shown)).await;
    let goes_on = |message: &Message| {
        if let Message::Stop(stop) = message {
            return Some(Err(stop.why));
        }
        matches!(message, Message::Progress(_)).then_some(Ok(()))
    };
    player.hear(goes_on).await.expect("an answer")
}

/// Whose word the engine says that the swarm is.
async fn named(side: &mut Side) -> bt_wire::address::Scope {
    let naming = async {
        loop {
            if let EngineEvent::Named(_, scope) = side.events.next().await {
                return scope;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), naming)
        .await
        .expect("named")
}

fn trackers(side: &Side, meta: &Metainfo) -> Vec<Vec<String>> {
    let swarm = side.engine.find(meta.info_hash());
    swarm.expect("known").trackers()
}

//= spec/friends.md#meta-before
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_learns_torrent_and_trackers_from_the_asker() {
    let (mut side, meta) = (Side::known(), torrent(false));
    let mut player = met(&side).await;
    let urls = ["http://t.example/announce", "http://127.0.0.1:1/announce"];
    assert!(ask(&mut player, &meta, &urls).await);
    let tiers = urls.map(|url| vec![url.to_owned()]);
    assert_eq!(trackers(&side, &meta), tiers);
    // The session is one on this machine, so its word is; what it may name is the trackers' own rule.
    assert_eq!(named(&mut side).await, bt_wire::address::Scope::Loopback);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metadata_comes_without_any_tracker_too() {
    let (side, meta) = (Side::known(), torrent(false));
    let mut player = met(&side).await;
    assert!(ask(&mut player, &meta, &[]).await);
    assert!(trackers(&side, &meta).is_empty());
}

//= spec/friends.md#meta-agree
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dictionary_that_is_not_the_asked_for_one_ends_the_help() {
    let (side, meta) = (Side::known(), torrent(false));
    let mut player = met(&side).await;
    let mut other = meta.info_bytes.to_vec();
    let last = other.len() - 2;
    other[last] ^= 1;
    let came = shows(&mut player, &meta, &[], &other).await;
    assert_eq!(came, Err(StopReason::Refused));
    assert!(side.engine.find(meta.info_hash()).is_none());
}

//= spec/friends.md#offer-private
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p18_what_turns_out_private_is_not_joined_and_no_tracker_kept() {
    let (side, meta) = (Side::known(), torrent(true));
    let mut player = met(&side).await;
    let private = counter("btslave_friend_defence_total{defence=\"Private\"}");
    let joined = ask(&mut player, &meta, &["http://t.example/announce"]).await;
    assert!(!joined, "the ask said public, and the dictionary private");
    assert!(side.engine.find(meta.info_hash()).is_none());
    assert!(counter("btslave_friend_defence_total{defence=\"Private\"}") > private);
}
