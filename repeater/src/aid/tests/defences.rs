//! The defences of a session, seen by a far end on a real socket. Each one's counter moves.

use bt_wire::extension::ExtendedHandshake;
use friends_proto::iou::{DOMAIN, Iou, SignedIou, UnverifiedIou};
use friends_proto::ledger::{Account, StoreEpoch};
use friends_proto::message::{Message, MetaAsk, NewIou, Sync, TorrentHash};
use friends_proto::session::{Event, With};
use swarm_core::io::friends::FriendsOutput;
use tokio::net::TcpListener;

use super::player::{Cast, Player};
use super::*;

/// A defence's counter. All tests of this process share it.
fn fired(defence: &str) -> u64 {
    counter(&format!(
        "btslave_friend_defence_total{{defence=\"{defence}\"}}"
    ))
}

async fn until_fired(defence: &str, before: u64) {
    until(|| async { fired(defence) > before }).await;
}

/// A slave in a swarm, and a far end that it has for a friend.
async fn befriended() -> (Side, Metainfo, Cast) {
    let (side, meta) = (Side::known(), torrent(false));
    let me = identity(1);
    side.add("Abe", me.public_key(), &[]).await;
    side.join(&meta).await;
    let cast = Cast::new(me, side.key());
    (side, meta, cast)
}

/// The same with a session that stands.
async fn met() -> (Side, Metainfo, Player) {
    let (side, meta, cast) = befriended().await;
    let player = again(&side, &meta, &cast).await;
    (side, meta, player)
}

/// A connection; one of the same peer id that ends just now may be in its way.
async fn connect(side: &Side, meta: &Metainfo, cast: &Cast) -> Player {
    loop {
        let player = Player::connect(cast, side.addr(), meta.info_hash()).await;
        if let Some(player) = player {
            return player;
        }
    }
}

/// A new connection, and a session on it.
async fn again(side: &Side, meta: &Metainfo, cast: &Cast) -> Player {
    let cast = Cast {
        nonce: Cast::new(identity(1), side.key()).nonce,
        ..cast.clone()
    };
    let mut player = connect(side, meta, &cast).await;
    let friend = player.friend();
    assert!(player.open(friend).await, "a session");
    player.say(&Message::Sync(Sync::default())).await;
    until(|| async { side.is_online() }).await;
    player
}

fn silence() -> Message {
    let torrent = TorrentHash::V1([3; 20]);
    Message::MetaAsk(MetaAsk { torrent, offset: 0 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_frame_ends_the_session_and_not_the_connection_and_none_begins_again() {
    let (side, meta, mut player) = met().await;
    let (bad, backs_off) = (fired("BadFrame"), fired("BackOff"));
    player.send_frame(&[3; 40]).await;
    until_fired("BadFrame", bad).await;
    until(|| async { !side.is_online() }).await;
    assert_eq!(side.connections().await, 1, "a plain peer still");
    let ignored = counter("btslave_friend_frames_ignored_total");
    player.send_frame(&[3; 40]).await;
    until(|| async { counter("btslave_friend_frames_ignored_total") > ignored }).await;

    let cast = Cast::new(identity(1), side.key());
    let mut next = connect(&side, &meta, &cast).await;
    let friend = next.friend();
    next.begin(friend).await;
    until_fired("BackOff", backs_off).await;
    assert!(!side.is_online());
    assert_eq!(side.connections().await, 2);
}

//= spec/friends.md#session-rate
//= spec/friends.md#meta-only-asked
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p24_messages_over_the_rate_are_dropped_and_the_session_lives() {
    let (side, _, mut player) = met().await;
    let (fast, not_asked) = (fired("TooFast"), fired("MetadataNotAsked"));
    let mut sent = 0;
    for _ in 0..190 {
        player.say(&silence()).await;
        sent += 1;
    }
    until(|| async { fired("MetadataNotAsked") >= not_asked + sent }).await;
    assert_eq!(fired("TooFast"), fast, "within the burst");
    player.flood(&silence(), 3000).await;
    until_fired("TooFast", fast).await;
    assert!(side.is_online(), "and goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_played_back_is_nobodys() {
    let (side, meta, cast) = befriended().await;
    let mut first = connect(&side, &meta, &cast).await;
    let friend = first.friend();
    assert!(first.open(friend).await);
    until(|| async { side.is_online() }).await;
    drop(first);
    until(|| async { !side.is_online() }).await;

    let (replayed, ignored) = (
        fired("ReplayedNonce"),
        counter("btslave_friend_frames_ignored_total"),
    );
    let mut echo = connect(&side, &meta, &cast).await;
    until_fired("ReplayedNonce", replayed).await;
    let friend = echo.friend();
    echo.begin(friend).await;
    until(|| async { counter("btslave_friend_frames_ignored_total") > ignored }).await;
    assert!(!side.is_online());
    again(&side, &meta, &cast).await;
}

//= spec/friends.md#field-first
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_extended_handshake_shows_nobody() {
    let (side, meta, cast) = befriended().await;
    let untagged = Cast {
        tagged: false,
        ..cast.clone()
    };
    let mut player = connect(&side, &meta, &untagged).await;
    let ignored = counter("btslave_friend_frames_ignored_total");
    player.cast = cast;
    player.show_field().await;
    let friend = player.friend();
    player.begin(friend).await;
    until(|| async { counter("btslave_friend_frames_ignored_total") > ignored }).await;
    assert!(!side.is_online());
}

//= spec/friends.md#noise-fresh
#[test]
fn no_session_has_the_secrets_of_another() {
    let draw = || super::super::secrets().expect("randomness");
    let (a, b) = (draw(), draw());
    let all = [&*a.fixed, &*a.ephemeral, &*b.fixed, &*b.ephemeral];
    let different: std::collections::BTreeSet<_> = all.into_iter().collect();
    assert_eq!(different.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p22_our_own_key_in_a_friends_session_ends_it() {
    let (side, meta, cast) = befriended().await;
    let own = fired("OwnKey");
    let mut player = connect(&side, &meta, &cast).await;
    let friend = player.friend();
    // It has the pair's key, and shows ours instead of its own.
    player.cast.me = Arc::clone(side.friends.identity());
    player.begin(friend).await;
    player.step().await;
    until_fired("OwnKey", own).await;
    assert!(!side.is_online());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptor_that_never_answers_is_given_up_and_then_left_alone() {
    let side = Side::known();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    let me = identity(1);
    side.add("Abe", me.public_key(), &[at]).await;
    let cast = Cast::new(me, side.key());
    let home = super::super::home(&cast.pair(), crate::net::unix_now());
    let late = fired("Timeout");
    let (stream, _) = listener.accept().await.expect("dialled");
    let role = friends_proto::pair::Role::Acceptor;
    let mut player = Player::shake(&cast, stream, home, role)
        .await
        .expect("a friend looks for us");
    assert!(player.frame().await.is_some_and(|frame| frame[0] == 0));
    until_fired("Timeout", late).await;

    let backs_off = fired("BackOff");
    let fresh = Cast::new(identity(1), side.key());
    let mut other = Player::connect(&fresh, side.addr(), home)
        .await
        .expect("the pair's home");
    let friend = other.friend();
    other.begin(friend).await;
    until_fired("BackOff", backs_off).await;
}

/// A total that `debtor` signs for `creditor`.
fn iou(creditor: PublicKey, debtor: &Identity, total: u64) -> Vec<u8> {
    let iou = Iou::new(creditor, debtor.public_key(), total).expect("terms");
    let bytes = iou.encode();
    let signature = debtor.sign(&[DOMAIN, &bytes].concat());
    let signed = SignedIou::from_parts(&bytes, &signature.0);
    signed.expect("signed").encode()
}

fn said(bytes: Vec<u8>) -> Message {
    let iou = friends_proto::message::IouBytes::new(bytes).expect("short");
    Message::Iou(NewIou { iou, help: None })
}

fn owed(side: &Side) -> (u64, u64) {
    let key = identity(1).public_key();
    let standing = side.friends.standing(&key, 0).expect("a store");
    standing.map_or((0, 0), |standing| (standing.given, standing.received))
}

/// Says it in a session, and waits until the slave ends that.
async fn is_unbearable(side: &Side, player: &mut Player, message: &Message, defence: &str) {
    let before = fired(defence);
    player.say(message).await;
    until_fired(defence, before).await;
    until(|| async { !side.is_online() }).await;
}

/// The first thing that the slave says in a session that stands now.
async fn first_words(side: &Side, meta: &Metainfo, cast: &Cast) -> Message {
    let mut player = connect(side, meta, cast).await;
    let friend = player.friend();
    assert!(player.open(friend).await, "a session");
    let first = player.hear(|message| Some(message.clone())).await;
    player.say(&Message::Sync(Sync::default())).await;
    until(|| async { side.is_online() }).await;
    drop(player);
    until(|| async { !side.is_online() }).await;
    first.expect("something")
}

//= spec/friends.md#sync-send
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_message_shows_the_newest_iou_of_each_direction() {
    let (side, meta, cast) = befriended().await;
    let again = || Cast {
        nonce: Cast::new(identity(1), side.key()).nonce,
        ..cast.clone()
    };
    let nothing = Sync::default();
    let words = first_words(&side, &meta, &again()).await;
    assert_eq!(words, Message::Sync(nothing.clone()));

    let mut player = self::again(&side, &meta, &cast).await;
    let bytes = |total| iou(side.key(), &identity(1), total);
    for total in [5_000, 6_000] {
        player.say(&said(bytes(total))).await;
    }
    until(|| async { owed(&side) == (6_000, 0) }).await;
    drop(player);
    until(|| async { !side.is_online() }).await;
    let credit = friends_proto::message::IouBytes::new(bytes(6_000)).ok();
    let half = Sync { credit, ..nothing };
    let words = first_words(&side, &meta, &again()).await;
    assert_eq!(words, Message::Sync(half.clone()));

    let me = identity(1).public_key();
    let player = self::again(&side, &meta, &cast).await;
    until(|| async { side.friends.sign(&me, 700, 1).is_ok() }).await;
    drop(player);
    until(|| async { !side.is_online() }).await;
    let ours = |account: &mut friends_proto::ledger::Account| {
        let mut shown = account.shown();
        let signed = shown.find(|signed| *signed.iou().debtor() != me);
        signed.expect("signed").encode()
    };
    let signed = side.friends.with_account(&me, ours).expect("an account");
    let debt = friends_proto::message::IouBytes::new(signed).ok();
    let words = first_words(&side, &meta, &again()).await;
    assert_eq!(words, Message::Sync(Sync { debt, ..half }));
}

/// The slave's switch is thrown between the second frame and the third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_begun_before_friends_went_off_ends_when_it_opens() {
    let (side, meta, cast) = befriended().await;
    let mut player = connect(&side, &meta, &cast).await;
    let friend = player.friend();
    player.begin(friend).await;
    let last = player.answer().await;
    let off = FriendsLimits {
        mode: FriendsMode::Off,
        ..FriendsLimits::default()
    };
    side.engine.set_friends_limits(off).await.expect("runs");
    for frame in last {
        player.send_frame(&frame).await;
    }
    let opened = player.event().await;
    assert!(matches!(opened, Some(Event::Open { .. })), "{opened:?}");
    let over = player.event().await;
    assert!(over.is_none(), "{over:?}");
    assert!(!side.is_online());
}

/// What the brain asks before it names a helper to a master.
//= spec/friends.md#deliver-proved
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p16_an_endpoint_elsewhere_than_the_session_is_not_the_friends() {
    let (side, _, _player) = met().await;
    let circle = crate::driver::tests::circle(&side.engine);
    let refused = fired("EndpointNotProved");
    let friend = swarm_core::io::friends::FriendId(0);
    let order = |addr: &str| {
        let at = vec![addr.parse().expect("an address")];
        circle.order(swarm_core::io::friends::FriendsOutput::Reach(friend, at));
    };
    order("127.0.0.1:7000");
    order("203.0.113.7:6881");
    until_fired("EndpointNotProved", refused).await;
    assert_eq!(
        fired("EndpointNotProved"),
        refused + 1,
        "the other is its own"
    );
}

//= spec/friends.md#sync-bad
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_forged_iou_ends_the_session_and_changes_nothing() {
    let (side, meta, mut player) = met().await;
    let (me, cast) = (identity(1), player.cast.clone());
    let good = iou(side.key(), &me, 5_000);
    player.say(&said(good.clone())).await;
    until(|| async { owed(&side) == (5_000, 0) }).await;

    let larger = iou(side.key(), &me, 6_000);
    // The signature is the value of the last key, so one byte before the end.
    let signature = larger.len() - 65..larger.len() - 1;
    for at in [signature.start, signature.end - 1] {
        let mut bad = larger.clone();
        bad[at] ^= 1;
        is_unbearable(&side, &mut player, &said(bad), "ForgedIou").await;
        player = again(&side, &meta, &cast).await;
    }
    let mut swapped = larger.clone();
    swapped[signature].copy_from_slice(&good[good.len() - 65..good.len() - 1]);
    is_unbearable(&side, &mut player, &said(swapped), "ForgedIou").await;
    player = again(&side, &meta, &cast).await;
    is_unbearable(&side, &mut player, &said(b"de".to_vec()), "MalformedIou").await;
    assert_eq!(owed(&side), (5_000, 0));
    player = again(&side, &meta, &cast).await;
    player.say(&said(larger)).await;
    until(|| async { owed(&side) == (6_000, 0) }).await;
}

/// A signature under a public key that is not the secret's would give the secret away (RUSTSEC-2022-0093): an account of
/// another key than ours is not signed for. That a key file of two halves is refused is tested beside the store.
//= spec/iou.md#signing
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_an_account_of_another_key_than_ours_is_not_signed_for() {
    let (side, _, mut player) = met().await;
    let friend = identity(1).public_key();
    // The sync is over, so ours may be signed for.
    until(|| async { side.friends.sign(&friend, 600, 1).is_ok() }).await;
    let exchange = |account| {
        let put = |old: &mut Account| std::mem::replace(old, account);
        side.friends.with_account(&friend, put).expect("an account")
    };
    let epoch = StoreEpoch {
        number: 1,
        broken_at: None,
    };
    let mut others = Account::new(identity(9).public_key(), friend, epoch);
    others.sync(&[]).expect("nothing is shown");
    let ours = exchange(others);

    let refused = fired("NotDebtor");
    let circle = crate::driver::tests::circle(&side.engine);
    let sign = |total| {
        let friend = swarm_core::io::friends::FriendId(0);
        circle.order(FriendsOutput::Sign(friend, total, None));
    };
    sign(700);
    until_fired("NotDebtor", refused).await;
    exchange(ours);
    sign(800);
    let first = player.hear(|message| {
        if let Message::Iou(new) = message {
            Some(new.iou.clone())
        } else {
            None
        }
    });
    let first = UnverifiedIou::decode(first.await.expect("an IOU").as_bytes());
    let first = first.expect("an IOU").verify().expect("signed");
    assert_eq!(first.iou().total_bytes(), 800, "none went out before");
}

//= spec/friends.md#credit-bilateral
//= spec/friends.md#sync-bad
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_ious_between_others_change_nothing() {
    let (side, meta, mut player) = met().await;
    let (me, carol, cast) = (identity(1), identity(77), player.cast.clone());
    for between in [
        iou(carol.public_key(), &me, 1 << 40),
        iou(me.public_key(), &carol, 1 << 40),
        iou(side.key(), &carol, 1 << 40),
    ] {
        is_unbearable(&side, &mut player, &said(between), "OthersIou").await;
        assert_eq!(owed(&side), (0, 0));
        player = again(&side, &meta, &cast).await;
    }
    let kept = side.friends.check().expect("a store");
    let others = kept.iter().filter_map(|one| one.account.as_ref().ok());
    let of_carol =
        |account: &&friends_proto::ledger::Account| *account.friend() == carol.public_key();
    assert_eq!(others.filter(of_carol).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prober_that_knows_our_key_sees_what_a_stranger_sees() {
    let (side, meta) = (Side::known(), torrent(false));
    side.add("Abe", identity(1).public_key(), &[]).await;
    side.join(&meta).await;
    let prober = Cast::new(identity(66), side.key());
    let stranger = Cast {
        tagged: false,
        ..Cast::new(identity(67), side.key())
    };
    let mut seen = Vec::new();
    for cast in [&prober, &stranger] {
        let ignored = counter("btslave_friend_frames_ignored_total");
        let mut player = connect(&side, &meta, cast).await;
        for with in [player.friend(), With::Acquaintance] {
            player.begin(with).await;
        }
        until(|| async { counter("btslave_friend_frames_ignored_total") >= ignored + 2 }).await;
        seen.push(visible(&mut player, &side).await);
    }
    assert_eq!(seen[0], seen[1]);

    let home = super::super::home(&prober.pair(), crate::net::unix_now());
    for infohash in [home, bt_wire::ids::InfoHash([9; 20])] {
        let met = Player::connect(&prober, side.addr(), infohash).await;
        assert!(met.is_none(), "closed without a byte");
    }
}

/// What a far end sees, the random bytes taken out: the extended handshake, and the kinds of the messages up to its own
/// disconnection. No tag is its own, and our key is nowhere.
async fn visible(player: &mut Player, side: &Side) -> (ExtendedHandshake, usize, Vec<u8>) {
    let field = player.theirs.bs_friends.clone().expect("friends are on");
    let ours = friends_proto::recognition::Recognition::parse(&field).expect("a field");
    let known = friends_proto::recognition::Known {
        key: side.key(),
        pair: player.cast.pair(),
    };
    let infohash = torrent(false).info_hash();
    let role = friends_proto::pair::Role::Acceptor;
    assert!(ours.friend(&[known], &infohash, role).is_none());
    let key = side.key();
    let leaks = |bytes: &[u8]| bytes.windows(32).any(|part| part == key.as_bytes());
    assert!(!leaks(&player.payload));
    // A message that ends the connection, so that everything before it has come.
    player.send_raw(&u32::MAX.to_be_bytes()).await;
    let mut kinds = Vec::new();
    while let Some(message) = player.message().await {
        assert!(!leaks(&message));
        assert!(!matches!(message.as_slice(), [20, 5, ..]), "a frame");
        kinds.push(message[0]);
    }
    let handshake = ExtendedHandshake {
        bs_friends: None,
        ..player.theirs.clone()
    };
    (handshake, field.len(), kinds)
}
