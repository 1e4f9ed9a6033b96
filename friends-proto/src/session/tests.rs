use super::*;
use crate::identity::Zeroizing;
use crate::message::{HelpId, MetaNone, Stop, StopReason, Sync, TorrentHash};
use crate::pair::PairKey;

mod wire;

const NOW: Duration = Duration::from_secs(1000);

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_secret(&Zeroizing::new([seed; 32])))
}

/// Alice opened the connection, Bob accepted it.
fn setup(role: Role, with: With) -> Setup {
    let seed = match role {
        Role::Opener => 1,
        Role::Acceptor => 2,
    };
    Setup {
        role,
        with,
        infohash: [0x11; 20],
        opener_peer_id: *b"-BS0100-alicealiceal",
        acceptor_peer_id: *b"-BS0100-bobbobbobbob",
        identity: identity(seed),
        secrets: Secrets {
            fixed: Zeroizing::new([0x30 + seed; 32]),
            ephemeral: Zeroizing::new([0x40 + seed; 32]),
        },
    }
}

/// What `me` makes of its friend `seed`.
fn friend(me: u8, seed: u8) -> With {
    let key = identity(seed).public_key();
    With::Friend {
        key: *key.as_bytes(),
        pair: PairKey::derive(&identity(me), &key).expect("two honest keys"),
    }
}

/// Alice and Bob as friends, not started.
fn friends() -> [Setup; 2] {
    [
        setup(Role::Opener, friend(1, 2)),
        setup(Role::Acceptor, friend(2, 1)),
    ]
}

fn acquaintances() -> [Setup; 2] {
    [
        setup(Role::Opener, With::Acquaintance),
        setup(Role::Acceptor, With::Acquaintance),
    ]
}

fn started([alice, bob]: [Setup; 2]) -> (Session, Session, Vec<u8>) {
    let (alice, first) = Session::start(alice, NOW).expect("started");
    let (bob, none) = Session::start(bob, NOW).expect("started");
    assert_eq!(none, None);
    (alice, bob, first.expect("the opener begins"))
}

/// Carries frames to and fro until nobody has any; the events of each side, and how each ended.
fn talk(alice: &mut Session, bob: &mut Session, first: Vec<u8>) -> [(Vec<Event>, Option<End>); 2] {
    let mut queue = std::collections::VecDeque::from([(1, first)]);
    let mut sides = [(Vec::new(), None), (Vec::new(), None)];
    while let Some((to, frame)) = queue.pop_front() {
        let session = if to == 0 { &mut *alice } else { &mut *bob };
        match session.receive(&frame, NOW) {
            Ok(received) => {
                queue.extend(received.frames.into_iter().map(|frame| (1 - to, frame)));
                sides[to].0.extend(received.event);
            }
            Err(end) => sides[to].1 = Some(end),
        }
    }
    sides
}

fn opened(seed: u8) -> (Vec<Event>, Option<End>) {
    let key = identity(seed).public_key();
    (vec![Event::Open { key, version: 1 }], None)
}

/// Two open sessions, before either has shown what it holds.
fn met(setups: [Setup; 2]) -> (Session, Session) {
    let (mut alice, mut bob, first) = started(setups);
    assert_eq!(talk(&mut alice, &mut bob, first), [opened(2), opened(1)]);
    (alice, bob)
}

/// Two open sessions, in which both have shown what they hold.
fn open(setups: [Setup; 2]) -> (Session, Session) {
    let (mut alice, mut bob) = met(setups);
    let sync = Message::Sync(Sync::default());
    let heard = Ok(Some(Event::Message(sync.clone())));
    let frame = alice.send(&sync, NOW).expect("open");
    assert_eq!(bob.receive(&frame, NOW).map(|got| got.event), heard);
    let frame = bob.send(&sync, NOW).expect("open");
    assert_eq!(alice.receive(&frame, NOW).map(|got| got.event), heard);
    (alice, bob)
}

fn stop(id: u32) -> Message {
    Message::Stop(Stop {
        id: HelpId(id),
        why: StopReason::Done,
    })
}

fn ended(side: &(Vec<Event>, Option<End>), end: End) {
    assert_eq!(side, &(vec![], Some(end)));
}

#[test]
fn friends_and_acquaintances_open_and_speak_both_ways() {
    for setups in [friends(), acquaintances()] {
        let (mut alice, mut bob) = open(setups);
        assert!(alice.is_open() && bob.is_open() && alice.deadline().is_none());
        for id in 0..3 {
            let frame = alice.send(&stop(id), NOW).expect("open");
            let heard = bob.receive(&frame, NOW).expect("sound");
            assert_eq!(heard.event, Some(Event::Message(stop(id))));
            let frame = bob.send(&stop(id + 7), NOW).expect("open");
            let heard = alice.receive(&frame, NOW).expect("sound");
            assert_eq!(heard.event, Some(Event::Message(stop(id + 7))));
        }
    }
}

#[test]
fn nothing_of_ours_is_readable_on_the_wire() {
    let (mut alice, mut bob, first) = started(friends());
    let mut wire = first.clone();
    let answer = bob.receive(&first, NOW).expect("sound").frames.concat();
    wire.extend(alice.receive(&answer, NOW).expect("sound").frames.concat());
    wire.extend(answer);
    for secret in [identity(1), identity(2)] {
        let key = *secret.public_key().as_bytes();
        assert!(!wire.windows(32).any(|part| part == key));
    }
}

#[test]
//= spec/friends.md#noise-protocol
//= spec/friends.md#frame-decrypt
//= spec/friends.md#frame-length
fn p26_a_prober_without_the_pair_key_gets_no_byte() {
    // It knows both identities, but not K.
    let prober = setup(Role::Opener, friend(9, 2));
    let [_, bob] = friends();
    let (mut prober, mut bob, first) = started([prober, bob]);
    let [_, end] = talk(&mut prober, &mut bob, first);
    ended(&end, BadFrame::Unreadable.into());

    let [_, bob] = friends();
    let [stranger, _] = acquaintances();
    let (mut stranger, mut bob, first) = started([stranger, bob]);
    let [_, end] = talk(&mut stranger, &mut bob, first);
    ended(&end, BadFrame::Length(32).into());
}

#[test]
//= spec/friends.md#noise-prologue
fn p6_a_session_belongs_to_its_swarm_and_its_two_peers() {
    let changes: [fn(&mut Setup); 3] = [
        |setup| setup.infohash[19] ^= 1,
        |setup| setup.opener_peer_id[19] ^= 1,
        |setup| setup.acceptor_peer_id[19] ^= 1,
    ];
    for change in changes {
        let [mut alice, bob] = friends();
        change(&mut alice);
        let (mut alice, mut bob, first) = started([alice, bob]);
        let [_, end] = talk(&mut alice, &mut bob, first);
        ended(&end, BadFrame::Unreadable.into());
    }
}

#[test]
//= spec/friends.md#hello-check
fn p21_a_relayed_proof_is_refused() {
    // Mallory (9) stands between Alice and Bob, in a session with each, and shows Bob's hello to Alice.
    let mallory = |role, fixed| {
        let mut setup = setup(role, With::Acquaintance);
        setup.identity = identity(9);
        setup.secrets.fixed = Zeroizing::new([fixed; 32]);
        setup
    };
    let [alice, bob] = acquaintances();
    let (mut to_bob, mut bob, first) = started([mallory(Role::Opener, 8), bob]);
    let one = bob.receive(&first, NOW).expect("sound").frames.concat();
    let two = to_bob.receive(&one, NOW).expect("sound").frames;
    let mut hello = None;
    for frame in &two {
        for answer in bob.receive(frame, NOW).expect("sound").frames {
            let Phase::Hello(channel) = &mut to_bob.phase else {
                panic!("still waiting for hello")
            };
            let plaintext = channel.open(&answer[1..]).expect("Bob's hello");
            hello = Some(Message::decode(&plaintext).expect("hello"));
        }
    }
    let hello = hello.expect("Bob said hello");

    let (mut alice, mut to_alice, first) = started([alice, mallory(Role::Acceptor, 9)]);
    let one = to_alice
        .receive(&first, NOW)
        .expect("sound")
        .frames
        .concat();
    let two = alice.receive(&one, NOW).expect("sound").frames;
    to_alice.receive(&two[0], NOW).expect("sound");
    let stolen = to_alice.seal(&hello).expect("sealed");
    assert_eq!(alice.receive(&stolen, NOW), Err(End::BadSignature));
    assert!(!alice.is_open() && End::BadSignature.backs_off());
}

#[test]
//= spec/friends.md#hello-signature
fn p21_the_proof_is_over_the_role_the_session_and_the_static_key() {
    let (mut alice, mut bob, first) = started(friends());
    assert_eq!(alice.handshake_hash(), None);
    let one = bob.receive(&first, NOW).expect("sound").frames.concat();
    let two = alice.receive(&one, NOW).expect("sound").frames;
    bob.receive(&two[0], NOW).expect("sound");
    let hash = *alice.handshake_hash().expect("through");
    assert_eq!(bob.handshake_hash(), Some(&hash));
    let Phase::Hello(his) = &mut bob.phase else {
        panic!("waits for hello")
    };
    let plaintext = his.open(&two[1][1..]).expect("her hello");
    let Ok(Message::Hello(hello)) = Message::decode(&plaintext) else {
        panic!("her hello")
    };
    let fixed = curve25519_dalek::MontgomeryPoint::mul_base_clamped([0x31; 32]).0;
    let statement = [&b"bs_friends session 1\0\0"[..], &hash, &fixed].concat();
    let key = identity(1).public_key();
    assert_eq!(key.verify(&statement, &hello.signature), Ok(()));
}

#[test]
//= spec/friends.md#hello-own
//= spec/friends.md#frame-kind
fn p22_our_own_key_or_frame_echoed_is_refused() {
    // The same identity at both ends.
    let [alice, mut bob] = acquaintances();
    bob.identity = identity(1);
    let (mut alice, mut bob, first) = started([alice, bob]);
    let [_, end] = talk(&mut alice, &mut bob, first);
    ended(&end, End::OwnKey);

    // The same session static at both ends.
    let [alice, mut bob] = acquaintances();
    bob.secrets = alice.secrets.clone();
    let (mut alice, mut bob, first) = started([alice, bob]);
    let [end, _] = talk(&mut alice, &mut bob, first);
    ended(&end, End::OwnKey);

    // Our own frames sent back.
    let (mut alice, _, first) = started(friends());
    assert_eq!(alice.receive(&first, NOW), Err(BadFrame::Kind(0).into()));
    let (mut alice, _) = open(friends());
    let frame = alice.send(&stop(1), NOW).expect("open");
    assert_eq!(alice.receive(&frame, NOW), Err(BadFrame::Unreadable.into()));
}

#[test]
//= spec/friends.md#hello-friend
fn another_key_than_the_friends_is_refused() {
    let [alice, mut bob] = friends();
    bob.identity = identity(3);
    let (mut alice, mut bob, first) = started([alice, bob]);
    let [end, _] = talk(&mut alice, &mut bob, first);
    ended(&end, End::BadKey);
}

#[test]
//= spec/friends.md#noise-zero
fn a_key_of_small_order_is_refused_by_both_sides() {
    for zeros in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let [_, bob] = acquaintances();
        let (mut bob, _) = Session::start(bob, NOW).expect("started");
        let first = [&[0], zeros.as_slice()].concat();
        assert_eq!(bob.receive(&first, NOW), Err(BadFrame::Unreadable.into()));

        let (mut alice, mut bob, first) = started(acquaintances());
        let mut one = bob.receive(&first, NOW).expect("sound").frames.concat();
        one[1..33].copy_from_slice(&zeros);
        assert_eq!(alice.receive(&one, NOW), Err(BadFrame::Unreadable.into()));
    }
}

/// What Alice says when Bob's hello has these versions.
fn versions(lowest: u8, highest: u8, chosen: Option<u8>) -> Result<Received, End> {
    let (mut alice, mut bob, first) = started(friends());
    let one = bob.receive(&first, NOW).expect("sound").frames.concat();
    let two = alice.receive(&one, NOW).expect("sound").frames;
    bob.receive(&two[0], NOW).expect("sound");
    let Phase::Hello(channel) = &bob.phase else {
        panic!("waiting for hello")
    };
    let hello = channel.hello(Role::Acceptor, &identity(2), [lowest, highest], chosen);
    let frame = bob.seal(&Message::Hello(hello)).expect("sealed");
    alice.receive(&frame, NOW)
}

#[test]
//= spec/friends.md#hello-version
//= spec/friends.md#version-plain
fn p25_no_common_version_no_session() {
    assert!(versions(1, 1, Some(1)).is_ok());
    assert!(versions(1, 255, Some(1)).is_ok());
    for (lowest, highest, chosen) in [
        (2, 3, Some(2)),
        (1, 1, None),
        (1, 2, Some(2)),
        (2, 2, Some(1)),
    ] {
        let got = versions(lowest, highest, chosen);
        assert_eq!(got, Err(End::Version), "{lowest}..{highest} {chosen:?}");
    }
    let hello = |lowest, highest| Hello {
        key: [0; 32],
        signature: crate::identity::Signature([0; 64]),
        lowest,
        highest,
        chosen: None,
    };
    let choose = |ours, lowest, highest| version(Role::Acceptor, ours, &hello(lowest, highest));
    assert_eq!(choose([1, 3], 2, 9), Ok(3));
    assert_eq!(choose([2, 9], 1, 3), Ok(3));
    assert_eq!(choose([4, 9], 1, 3), Err(End::Version));
}

#[test]
//= spec/friends.md#session-rate
fn p24_a_flood_is_dropped_and_counted_and_the_session_lives() {
    let (mut alice, mut bob) = open(friends());
    let (mut heard, mut dropped) = (0, 0);
    for id in 0..10_000 {
        let frame = alice.seal(&stop(id)).expect("past our own limit");
        match bob.receive(&frame, NOW).expect("lives").event {
            Some(Event::Message(_)) => heard += 1,
            Some(Event::Ignored(Ignored::TooFast)) => dropped += 1,
            other => panic!("{other:?}"),
        }
    }
    // Two of the burst were the hello and the sync.
    assert_eq!((heard, dropped), (BURST - 2, 10_000 - BURST + 2));
    let frame = alice.seal(&stop(1)).expect("sealed");
    let later = NOW + Duration::from_secs(1);
    let event = bob.receive(&frame, later).expect("lives").event;
    assert_eq!(event, Some(Event::Message(stop(1))));
}

#[test]
//= spec/friends.md#session-rate
fn p24_we_keep_to_the_limit_ourselves() {
    let (mut alice, _) = open(friends());
    for id in 1..BURST {
        assert!(alice.send(&stop(id), NOW).is_ok());
    }
    let wait = Duration::from_millis(20);
    assert_eq!(alice.send(&stop(0), NOW), Err(SendError::Wait(wait)));
    assert!(alice.send(&stop(0), NOW + wait).is_ok());
}

#[test]
fn p24_frames_over_the_limit_end_the_session() {
    let (mut alice, mut bob) = open(friends());
    let longest = vec![TRANSPORT; MAX_FRAME];
    assert_eq!(bob.receive(&longest, NOW), Err(BadFrame::Unreadable.into()));
    let longer = vec![TRANSPORT; MAX_FRAME + 1];
    let end = End::from(BadFrame::Length(MAX_FRAME));
    assert_eq!(alice.receive(&longer, NOW), Err(end));
    assert_eq!(alice.send(&stop(1), NOW), Err(SendError::Over(end)));
}

#[test]
//= spec/friends.md#frame-kind
//= spec/friends.md#session-connection
fn frames_that_cannot_come_now_end_the_session() {
    for kind in [0, 2, 3, 4, 255] {
        let (mut alice, _, _) = started(friends());
        let frame = [kind; 97];
        assert_eq!(alice.receive(&frame, NOW), Err(BadFrame::Kind(kind).into()));
    }
    for kind in [0, 1, 2, 4] {
        let (mut alice, _) = open(friends());
        assert_eq!(
            alice.receive(&[kind; 40], NOW),
            Err(BadFrame::Kind(kind).into())
        );
    }
    let (mut alice, _) = open(friends());
    assert_eq!(alice.receive(&[], NOW), Err(BadFrame::Empty.into()));
    // Whatever comes after the end is refused in the same way.
    assert_eq!(alice.receive(&[3], NOW), Err(BadFrame::Empty.into()));
}

#[test]
//= spec/friends.md#message-canonical
//= spec/friends.md#message-field
//= spec/friends.md#message-unknown
fn bad_plaintext_ends_and_odd_messages_are_ignored() {
    let say = |bytes: &[u8]| {
        let (mut alice, mut bob) = open(friends());
        let Phase::Open(channel) = &mut alice.phase else {
            panic!("open")
        };
        let frame = channel.seal(TRANSPORT, bytes).expect("sealed");
        bob.receive(&frame, NOW)
    };
    for bytes in [b"".as_slice(), b"le", b"d1:m3:byee ", b"d1:xi1ee"] {
        assert!(matches!(
            say(bytes),
            Err(End::BadFrame(BadFrame::Message(_)))
        ));
    }
    let unknown = say(b"d1:m4:newse").map(|received| received.event);
    let ignored = Ignored::Message(MessageError::UnknownType);
    assert_eq!(unknown, Ok(Some(Event::Ignored(ignored))));
    let wrong = say(b"d2:idi-1e1:m4:stop3:whyi0ee").map(|received| received.event);
    assert!(matches!(
        wrong,
        Ok(Some(Event::Ignored(Ignored::Message(
            MessageError::Field { .. }
        ))))
    ));
}

/// The opener's last handshake frame, with the session left as if its hello were still to come.
fn without_hello(session: &mut Session, one: &[u8]) -> Vec<u8> {
    let phase = std::mem::replace(&mut session.phase, Phase::Over(End::Setup));
    let Phase::Handshake(mut handshake) = phase else {
        panic!("in the handshake")
    };
    let step = handshake.read(1, &one[1..]).expect("sound");
    let channel = handshake.into_channel().expect("done");
    session.phase = Phase::Hello(Box::new(channel));
    step.answer.expect("the last frame")
}

#[test]
//= spec/friends.md#hello-first
fn the_first_message_is_hello() {
    let none = Message::MetaNone(MetaNone {
        torrent: TorrentHash::V1([0; 20]),
    });
    let (mut alice, mut bob, first) = started(friends());
    let one = bob.receive(&first, NOW).expect("sound").frames.concat();
    let two = without_hello(&mut alice, &one);
    bob.receive(&two, NOW).expect("sound");
    assert_eq!(alice.send(&none, NOW), Err(SendError::NotOpen));
    let early = alice.seal(&none).expect("sealed");
    assert_eq!(bob.receive(&early, NOW), Err(BadFrame::NoHello.into()));
}

#[test]
fn a_second_hello_is_ignored() {
    let (mut alice, mut bob) = open(friends());
    let Phase::Open(channel) = &alice.phase else {
        panic!("open")
    };
    let hello = channel.hello(Role::Opener, &identity(1), VERSIONS, None);
    let again = alice.seal(&Message::Hello(hello)).expect("sealed");
    let event = bob.receive(&again, NOW).expect("lives").event;
    assert_eq!(event, Some(Event::Ignored(Ignored::Hello)));
}

#[test]
//= spec/friends.md#message-sync-first
fn before_the_sync_nothing_else_is_heard_and_there_is_one() {
    let (mut alice, mut bob) = met(friends());
    let mut hears = |message: &Message| {
        let frame = alice.send(message, NOW).expect("open");
        bob.receive(&frame, NOW).expect("lives").event
    };
    let sync = Message::Sync(Sync::default());
    let ignored = |why| Some(Event::Ignored(why));
    assert_eq!(hears(&stop(1)), ignored(Ignored::BeforeSync));
    assert_eq!(hears(&sync), Some(Event::Message(sync.clone())));
    assert_eq!(hears(&stop(1)), Some(Event::Message(stop(1))));
    assert_eq!(hears(&sync), ignored(Ignored::Sync));
}

#[test]
//= spec/friends.md#session-time
fn a_session_that_does_not_open_in_time_is_over() {
    let (mut alice, _, _) = started(friends());
    let deadline = alice.deadline().expect("opening");
    assert_eq!(deadline, NOW + HANDSHAKE_TIME);
    assert_eq!(alice.expire(deadline - Duration::from_nanos(1)), Ok(()));
    assert_eq!(alice.expire(deadline), Err(End::Timeout));
    assert_eq!(alice.receive(&[1], deadline), Err(End::Timeout));
    let (mut alice, _) = open(friends());
    assert_eq!(alice.expire(Duration::MAX), Ok(()));
}

#[test]
//= spec/friends.md#frame-nonces
fn a_session_ends_before_its_nonces_do() {
    let (mut alice, mut bob) = open(friends());
    (alice.most, bob.most) = (5, 5);
    for id in 0..2 {
        let frame = alice.send(&stop(id), NOW).expect("below the limit");
        bob.receive(&frame, NOW).expect("sound");
    }
    assert_eq!(alice.send(&stop(3), NOW), Err(End::Exhausted.into()));
    let last = alice.bye(ByeReason::Exhausted).expect("the last one");
    assert_eq!(bob.receive(&last, NOW), Err(End::Bye(ByeReason::Exhausted)));
    assert!(!End::Bye(ByeReason::Exhausted).backs_off());

    let (mut alice, mut bob) = open(friends());
    bob.most = 3;
    let frame = alice.send(&stop(0), NOW).expect("open");
    bob.receive(&frame, NOW).expect("the third");
    let frame = alice.send(&stop(1), NOW).expect("open");
    assert_eq!(bob.receive(&frame, NOW), Err(End::Exhausted));
}

#[test]
//= spec/friends.md#session-back-off
fn goodbye_ends_both_sides() {
    let (mut alice, mut bob) = open(friends());
    let frame = alice.bye(ByeReason::Leaving).expect("open");
    let end = End::Ours(ByeReason::Leaving);
    assert_eq!(alice.send(&stop(1), NOW), Err(end.into()));
    assert_eq!(alice.bye(ByeReason::Other), None);
    assert_eq!(alice.send(&stop(1), NOW), Err(end.into()));
    assert_eq!(bob.receive(&frame, NOW), Err(End::Bye(ByeReason::Leaving)));
    assert!(!end.backs_off() && !End::Bye(ByeReason::Leaving).backs_off());
}

#[test]
//= spec/friends.md#session-one
fn of_two_sessions_the_smaller_keys_stays() {
    let mut keys = [identity(1).public_key(), identity(2).public_key()];
    keys.sort_unstable();
    let [small, large] = keys;
    assert_eq!(stays(&small, &large), Stays::Older);
    assert_eq!(stays(&large, &small), Stays::Newer);
    assert_eq!(stays(&small, &small), Stays::Newer);
}

#[test]
fn secrets_are_not_shown() {
    let setup = setup(Role::Opener, friend(1, 2));
    let shown = format!("{:?} {:?}", setup.secrets, started(friends()).0);
    assert!(!shown.contains("49") && !shown.contains("0x31"), "{shown}");
}
