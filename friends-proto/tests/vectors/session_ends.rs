//! Frames that end a session, and why: for `sessions.json`.

use friends_proto::identity::Signature;
use friends_proto::message::{Hello, HelpId, Message, Stop, StopReason};

use crate::noise::{Handshake, Side};
use crate::sessions::{Case, Ended, frame, party, side, statement};
use crate::support::{CAROL, array, hex, unhex};

fn end(of: &Case, to: &str, name: &str, frames: Vec<String>, error: &str) -> Ended {
    Ended {
        name: name.into(),
        session: of.name.clone(),
        to: to.into(),
        frames,
        error: error.into(),
    }
}

/// Frames to the acceptor: the opener's handshake, and this as its first message.
fn first_message(case: &Case, plaintext: &[u8]) -> Vec<String> {
    let noise = case.noise();
    vec![
        hex(frame(0, &noise.messages[0])),
        hex(frame(2, &noise.messages[2])),
        hex(frame(3, &noise.seal(0, 0, plaintext))),
    ]
}

/// Frames to the opener: the acceptor's handshake, and this as its first message.
fn first_answer(case: &Case, plaintext: &[u8]) -> Vec<String> {
    let noise = case.noise();
    vec![
        hex(frame(1, &noise.messages[1])),
        hex(frame(3, &noise.seal(1, 0, plaintext))),
    ]
}

/// The friends' handshake with another pre-shared key, another prologue.
fn astray(friends: &Case) -> [Handshake; 2] {
    let (opener, acceptor) = (side(&friends.opener), side(&friends.acceptor));
    let (psk, mut prologue) = (array(&friends.k), unhex(&friends.prologue));
    let wrong_k = Handshake::new(Some(&[9; 32]), &prologue, opener, acceptor);
    prologue[13] ^= 1;
    [
        wrong_k,
        Handshake::new(Some(&psk), &prologue, opener, acceptor),
    ]
}

fn one(kind: u8, message: &[u8]) -> Vec<String> {
    vec![hex(frame(kind, message))]
}

pub(crate) fn first_frames(friends: &Case, open: &Case) -> Vec<Ended> {
    let unknown = open.noise();
    let [wrong_k, elsewhere] = astray(friends);
    vec![
        end(
            friends,
            "acceptor",
            "an empty frame",
            vec![String::new()],
            "empty",
        ),
        end(
            friends,
            "acceptor",
            "made without K",
            one(0, &wrong_k.messages[0]),
            "unreadable",
        ),
        end(
            friends,
            "acceptor",
            "made for another torrent",
            one(0, &elsewhere.messages[0]),
            "unreadable",
        ),
        end(
            friends,
            "acceptor",
            "the other pattern",
            one(0, &unknown.messages[0]),
            "length",
        ),
        end(
            friends,
            "acceptor",
            "transport before the handshake",
            one(3, &[0; 40]),
            "kind",
        ),
    ]
}

pub(crate) fn later_frames(friends: &Case, open: &Case) -> Vec<Ended> {
    let known = friends.noise();
    let mine = side(&open.opener);
    let theirs = Side {
        fixed: mine.fixed,
        ..side(&open.acceptor)
    };
    let mirrored = Handshake::new(None, &unhex(&open.prologue), mine, theirs);
    let mut flipped = known.messages[1].clone();
    flipped[40] ^= 1;
    let zero = [0; 32];
    vec![
        end(
            friends,
            "opener",
            "the opener's own frame back",
            one(0, &known.messages[0]),
            "kind",
        ),
        end(
            friends,
            "opener",
            "one bit changed",
            one(1, &flipped),
            "unreadable",
        ),
        end(
            friends,
            "opener",
            "a byte too many",
            one(1, &[flipped.as_slice(), &[0]].concat()),
            "length",
        ),
        end(
            open,
            "acceptor",
            "an ephemeral key of zeros",
            one(0, &zero),
            "unreadable",
        ),
        end(
            open,
            "opener",
            "the opener's own static key",
            one(1, &mirrored.messages[1]),
            "own_key",
        ),
        end(
            friends,
            "acceptor",
            "handshake frames repeated",
            vec![hex(frame(0, &known.messages[0])); 2],
            "kind",
        ),
    ]
}

pub(crate) fn by_proofs(friends: &Case, open: &Case) -> Vec<Ended> {
    let statement_of = |case: &Case| unhex(&case.opener_statement);
    let carol = party(CAROL, 0x21, b"-BS0100-alicealiceal");
    let by_carol = Case::hello(&carol, &statement_of(friends), None);
    let bobs_own = Case::hello(&open.acceptor, &statement_of(open), None);
    let other_role = Case::hello(
        &open.opener,
        &statement(1, &open.noise().hash, &open.opener),
        None,
    );
    let other_static = Case::hello(
        &open.opener,
        &statement(0, &open.noise().hash, &open.acceptor),
        None,
    );
    let other_session = Case::hello(&open.opener, &statement(0, &[7; 32], &open.opener), None);
    vec![
        end(
            friends,
            "acceptor",
            "carol instead of alice",
            first_message(friends, &by_carol.encode()),
            "bad_key",
        ),
        end(
            open,
            "acceptor",
            "bob's own key shown to him",
            first_message(open, &bobs_own.encode()),
            "own_key",
        ),
        end(
            open,
            "acceptor",
            "a proof of the other role",
            first_message(open, &other_role.encode()),
            "bad_signature",
        ),
        end(
            open,
            "acceptor",
            "a proof for the other's static key",
            first_message(open, &other_static.encode()),
            "bad_signature",
        ),
        end(
            open,
            "acceptor",
            "a proof of another session",
            first_message(open, &other_session.encode()),
            "bad_signature",
        ),
    ]
}

pub(crate) fn by_words(friends: &Case) -> Vec<Ended> {
    let changed = |change: &dyn Fn(&mut Hello)| {
        let [Message::Hello(mut hello), _] = friends.hellos() else {
            panic!("hellos")
        };
        change(&mut hello);
        Message::Hello(hello).encode()
    };
    let newer = changed(&|hello| (hello.lowest, hello.highest) = (2, 3));
    let chosen = changed(&|hello| hello.chosen = Some(1));
    let forged = changed(&|hello| hello.signature = Signature([1; 64]));
    let answer = |chosen| {
        let [_, Message::Hello(hello)] = friends.hellos() else {
            panic!("hellos")
        };
        Message::Hello(Hello {
            chosen,
            highest: 2,
            ..hello
        })
        .encode()
    };
    let stop = Message::Stop(Stop {
        id: HelpId(1),
        why: StopReason::Done,
    })
    .encode();
    let list = b"le".as_slice();
    let bob = |name, plaintext: &[u8], error| {
        let frames = first_message(friends, plaintext);
        end(friends, "acceptor", name, frames, error)
    };
    let alice = |name, plaintext: &[u8], error| {
        let frames = first_answer(friends, plaintext);
        end(friends, "opener", name, frames, error)
    };
    vec![
        bob("a forged proof", &forged, "bad_signature"),
        bob("newer versions only", &newer, "version"),
        bob("a choice by the opener", &chosen, "version"),
        alice("no choice by the acceptor", &answer(None), "version"),
        alice(
            "a choice that the opener did not offer",
            &answer(Some(2)),
            "version",
        ),
        bob("another first message", &stop, "no_hello"),
        bob("a first message that is none", list, "message"),
    ]
}
