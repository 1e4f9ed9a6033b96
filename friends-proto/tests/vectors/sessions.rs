//! `sessions.json`: whole sessions with fixed keys, and frames that end one. The frames are made by the code, and made
//! again by [`crate::noise`], which shares nothing with it.

use std::sync::Arc;
use std::time::Duration;

use friends_proto::identity::Zeroizing;
use friends_proto::message::{
    Ask, Bye, ByeReason, Deliveries, Hello, HelpId, IouBytes, Message, NewIou, Offer, PieceSet,
    Reserve, Stop, StopReason, Sync, TorrentHash,
};
use friends_proto::pair::{PairKey, Role};
use friends_proto::session::{BadFrame, End, Event, Secrets, Session, Setup, With};
use serde::{Deserialize, Serialize};

use crate::noise::{Handshake, Side, public};
use crate::session_ends as ends;
use crate::support::{ALICE, BOB, array, hex, identity, key, read, signed, text, unhex};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    sessions: Vec<Case>,
    /// Frames given to one side of a session of the same set-up; the last one ends it.
    ended: Vec<Ended>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The pair's key, or empty for the pattern XX.
    pub(crate) k: String,
    pub(crate) infohash: String,
    pub(crate) opener: Party,
    pub(crate) acceptor: Party,
    pub(crate) prologue: String,
    pub(crate) handshake_hash: String,
    /// What each signs in its hello.
    pub(crate) opener_statement: String,
    pub(crate) acceptor_statement: String,
    frames: Vec<Frame>,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Party {
    pub(crate) identity_secret: String,
    pub(crate) static_secret: String,
    pub(crate) ephemeral_secret: String,
    pub(crate) peer_id: String,
}

#[derive(Serialize, Deserialize)]
struct Frame {
    from: String,
    /// What the Noise message carries; empty in a handshake frame.
    plaintext: String,
    frame: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) name: String,
    /// A session above, whose keys and names hold here too.
    pub(crate) session: String,
    pub(crate) to: String,
    pub(crate) frames: Vec<String>,
    pub(crate) error: String,
}

const NOW: Duration = Duration::from_secs(1);
const INFOHASH: [u8; 20] = [0x5a; 20];

pub(crate) fn party(secret: [u8; 32], seed: u8, peer_id: &[u8; 20]) -> Party {
    Party {
        identity_secret: hex(secret),
        static_secret: hex([seed; 32]),
        ephemeral_secret: hex([seed + 1; 32]),
        peer_id: hex(peer_id),
    }
}

pub(crate) fn side(party: &Party) -> Side {
    Side {
        fixed: array(&party.static_secret),
        ephemeral: array(&party.ephemeral_secret),
    }
}

impl Case {
    /// Alice opened the connection to Bob.
    fn new(name: &str, friends: bool) -> Self {
        let pair = PairKey::derive(&identity(&ALICE), &key(&BOB)).expect("two keys");
        let opener = party(ALICE, 0x21, b"-BS0100-alicealiceal");
        let acceptor = party(BOB, 0x31, b"-BS0100-bobbobbobbob");
        let ids = [unhex(&opener.peer_id), unhex(&acceptor.peer_id)].concat();
        let prologue = [b"bs_friends/1\0".as_slice(), &INFOHASH, &ids].concat();
        let mut case = Self {
            name: name.into(),
            k: if friends {
                hex(pair.as_bytes())
            } else {
                String::new()
            },
            infohash: hex(INFOHASH),
            opener,
            acceptor,
            prologue: hex(prologue),
            handshake_hash: String::new(),
            opener_statement: String::new(),
            acceptor_statement: String::new(),
            frames: Vec::new(),
        };
        let hash = case.noise().hash;
        case.handshake_hash = hex(hash);
        case.opener_statement = hex(statement(0, &hash, &case.opener));
        case.acceptor_statement = hex(statement(1, &hash, &case.acceptor));
        case
    }

    pub(crate) fn noise(&self) -> Handshake {
        let psk: Option<[u8; 32]> = (!self.k.is_empty()).then(|| array(&self.k));
        let prologue = unhex(&self.prologue);
        Handshake::new(
            psk.as_ref(),
            &prologue,
            side(&self.opener),
            side(&self.acceptor),
        )
    }

    fn start(&self, role: Role) -> (Session, Option<Vec<u8>>) {
        let (me, other) = match role {
            Role::Opener => (&self.opener, &self.acceptor),
            Role::Acceptor => (&self.acceptor, &self.opener),
        };
        let me_identity = identity(&array(&me.identity_secret));
        let other_key = key(&array(&other.identity_secret));
        let with = if self.k.is_empty() {
            With::Acquaintance
        } else {
            let pair = PairKey::derive(&me_identity, &other_key).expect("two keys");
            assert_eq!(hex(pair.as_bytes()), self.k);
            With::Friend {
                key: *other_key.as_bytes(),
                pair,
            }
        };
        let setup = Setup {
            role,
            with,
            infohash: array(&self.infohash),
            opener_peer_id: array(&self.opener.peer_id),
            acceptor_peer_id: array(&self.acceptor.peer_id),
            identity: Arc::new(me_identity),
            secrets: Secrets {
                fixed: Zeroizing::new(array(&me.static_secret)),
                ephemeral: Zeroizing::new(array(&me.ephemeral_secret)),
            },
        };
        Session::start(setup, NOW).expect("sound parameters")
    }

    /// `party`'s hello, signed by the identity over `statement`.
    pub(crate) fn hello(party: &Party, statement: &[u8], chosen: Option<u8>) -> Message {
        let identity = identity(&array(&party.identity_secret));
        Message::Hello(Hello {
            key: *identity.public_key().as_bytes(),
            signature: identity.sign(statement),
            lowest: 1,
            highest: 1,
            chosen,
        })
    }

    pub(crate) fn hellos(&self) -> [Message; 2] {
        let (opener, acceptor) = (
            unhex(&self.opener_statement),
            unhex(&self.acceptor_statement),
        );
        [
            Self::hello(&self.opener, &opener, None),
            Self::hello(&self.acceptor, &acceptor, Some(1)),
        ]
    }
}

pub(crate) fn statement(role: u8, hash: &[u8; 32], party: &Party) -> Vec<u8> {
    let fixed = public(&array(&party.static_secret));
    [b"bs_friends session 1\0".as_slice(), &[role], hash, &fixed].concat()
}

pub(crate) fn frame(kind: u8, message: &[u8]) -> Vec<u8> {
    [&[kind], message].concat()
}

/// What is said after the hellos: by whom, and what.
fn conversation() -> Vec<(usize, Message)> {
    let (id, at) = (HelpId(1), "198.51.100.1:6881".parse().expect("an endpoint"));
    let iou = |creditor, debtor, total| {
        IouBytes::new(signed(creditor, debtor, total).encode()).expect("short")
    };
    let pieces = PieceSet::new(0, vec![0xe0]).expect("three pieces");
    let sync = |credit, debt| Message::Sync(Sync { credit, debt });
    let (given, taken) = (iou(&ALICE, &BOB, 1_048_576), iou(&BOB, &ALICE, 262_144));
    let ask = Ask {
        id,
        torrent: TorrentHash::V1(INFOHASH),
        size: 1_000_000,
        piece_length: 262_144,
        want: 700_000,
        master: vec![at],
        deliveries: Deliveries::INTRODUCED.or(Deliveries::RELAYED),
        private: false,
        trackers: vec![],
    };
    let offer = Offer {
        id,
        rate: 262_144,
        room: 4_194_304,
        deliveries: Deliveries::RELAYED,
        at: vec![],
    };
    let new = NewIou {
        iou: iou(&BOB, &ALICE, 1_048_576),
        help: Some(id),
    };
    vec![
        (1, sync(Some(taken.clone()), Some(given.clone()))),
        (0, sync(Some(given), Some(taken))),
        (0, Message::Ask(ask)),
        (1, Message::Offer(offer)),
        (0, Message::Reserve(Reserve { id, pieces })),
        (0, Message::Iou(new)),
        (
            1,
            Message::Stop(Stop {
                id,
                why: StopReason::Done,
            }),
        ),
        (
            0,
            Message::Bye(Bye {
                why: ByeReason::Leaving,
            }),
        ),
    ]
}

/// Plays the whole session with the code, and notes each frame.
fn play(case: &mut Case) {
    let (opener, first) = case.start(Role::Opener);
    let (acceptor, _) = case.start(Role::Acceptor);
    let mut sides = [opener, acceptor];
    let plaintexts = case.hellos().map(|hello| hello.encode());
    let mut note = |from: usize, plaintext: &[u8], bytes: &[u8]| {
        case.frames.push(Frame {
            from: ["opener", "acceptor"][from].into(),
            plaintext: hex(plaintext),
            frame: hex(bytes),
        });
    };
    let mut queue = std::collections::VecDeque::from([(0, first.expect("the first frame"))]);
    while let Some((from, bytes)) = queue.pop_front() {
        let plaintext = if bytes[0] == 3 {
            plaintexts[from].as_slice()
        } else {
            &[]
        };
        note(from, plaintext, &bytes);
        let received = sides[1 - from].receive(&bytes, NOW).expect("sound");
        queue.extend(received.frames.into_iter().map(|bytes| (1 - from, bytes)));
    }
    for (from, message) in conversation() {
        let bye = if let Message::Bye(bye) = &message {
            Some(bye.why)
        } else {
            None
        };
        let sent = match bye {
            Some(why) => sides[from].bye(why),
            None => sides[from].send(&message, NOW).ok(),
        };
        let bytes = sent.expect("open");
        note(from, &message.encode(), &bytes);
        let received = sides[1 - from].receive(&bytes, NOW);
        match bye {
            Some(why) => assert_eq!(received, Err(End::Bye(why))),
            None => {
                let event = received.expect("sound").event;
                assert_eq!(event, Some(Event::Message(message)));
            }
        }
    }
}

pub(crate) fn generate() -> String {
    let mut sessions = [
        Case::new("friends", true),
        Case::new("acquaintances", false),
    ];
    sessions.iter_mut().for_each(play);
    let [friends, open] = &sessions;
    let ended = ends::first_frames(friends, open)
        .into_iter()
        .chain(ends::later_frames(friends, open))
        .chain(ends::by_proofs(friends, open))
        .chain(ends::by_words(friends))
        .collect();
    text(&File {
        subject: "sessions".into(),
        spec: "friends.md".into(),
        ended,
        sessions: sessions.into(),
    })
}

/// The frames as [`crate::noise`] makes them from the plaintexts.
fn made_again(case: &Case) -> Vec<String> {
    let noise = case.noise();
    let mut sent = [0, 0];
    let one = |(at, noted): (usize, &Frame)| {
        if let Some(message) = noise.messages.get(at) {
            return hex(frame(u8::try_from(at).expect("0 to 2"), message));
        }
        let from = usize::from(noted.from == "acceptor");
        sent[from] += 1;
        hex(frame(
            3,
            &noise.seal(from, sent[from] - 1, &unhex(&noted.plaintext)),
        ))
    };
    case.frames.iter().enumerate().map(one).collect()
}

fn name_of(end: End) -> &'static str {
    match end {
        End::BadFrame(BadFrame::Empty) => "empty",
        End::BadFrame(BadFrame::Kind(_)) => "kind",
        End::BadFrame(BadFrame::Length(_)) => "length",
        End::BadFrame(BadFrame::Unreadable) => "unreadable",
        End::BadFrame(BadFrame::Message(_)) => "message",
        End::BadFrame(BadFrame::NoHello) => "no_hello",
        End::OwnKey => "own_key",
        End::BadKey => "bad_key",
        End::BadSignature => "bad_signature",
        End::Version => "version",
        End::Timeout | End::Exhausted | End::Bye(_) | End::Ours(_) | End::Setup => "another end",
    }
}

//= spec/friends.md#noise-protocol
//= spec/friends.md#noise-prologue
//= spec/friends.md#noise-payload
//= spec/friends.md#noise-zero
//= spec/friends.md#frame-kind
//= spec/friends.md#frame-length
//= spec/friends.md#frame-decrypt
//= spec/friends.md#hello-first
//= spec/friends.md#hello-signature
//= spec/friends.md#hello-check
//= spec/friends.md#hello-friend
//= spec/friends.md#hello-own
//= spec/friends.md#hello-version
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.sessions {
        let friends = !case.k.is_empty();
        let mut again = Case::new(&case.name, friends);
        play(&mut again);
        let frames = |case: &Case| {
            case.frames
                .iter()
                .map(|noted| noted.frame.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(frames(case), frames(&again), "{}", case.name);
        assert_eq!(frames(case), made_again(case), "{}", case.name);
        let hash = case.noise().hash;
        assert_eq!(case.handshake_hash, hex(hash), "{}", case.name);
        let said = case
            .frames
            .iter()
            .filter(|noted| !noted.plaintext.is_empty());
        for (noted, hello) in said.zip(case.hellos()) {
            assert_eq!(noted.plaintext, hex(hello.encode()), "{}", case.name);
        }
    }
    for case in &file.ended {
        let of = file.sessions.iter().find(|of| of.name == case.session);
        let role = if case.to == "opener" {
            Role::Opener
        } else {
            Role::Acceptor
        };
        let (mut session, _) = of.expect("a session of that name").start(role);
        let (last, before) = case.frames.split_last().expect("a frame");
        for frame in before {
            session.receive(&unhex(frame), NOW).expect(&case.name);
        }
        let end = session.receive(&unhex(last), NOW).expect_err(&case.name);
        assert_eq!(name_of(end), case.error, "{}", case.name);
    }
}
