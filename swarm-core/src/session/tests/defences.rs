//! Attack rows, and single rules of the wire.

use super::*;

#[test]
fn nothing_is_said_before_hello_and_then_the_set_comes_first() {
    for (fast, have, want) in [
        (true, Shown::None, Message::HaveNone),
        (true, Shown::All, Message::HaveAll),
        (
            false,
            Shown::None,
            Message::Bitfield(Bytes::from_static(&[0, 0])),
        ),
        (
            false,
            Shown::All,
            Message::Bitfield(Bytes::from_static(&[0xff, 0xf0])),
        ),
    ] {
        let mut session = Session::new(config(fast), T0);
        session.on_order(T0, Order::Unchoke(true));
        session
            .on_message(T0, Message::Request(block(0, 0)))
            .expect("tolerated");
        assert_eq!(
            (session.poll_transmit(T0), session.next_block_len()),
            (None, None)
        );
        session.on_order(T0, hello(have));
        let said = messages(&mut session);
        let Some(Message::Extended { id: 0, payload }) = said.first() else {
            panic!("no extended handshake")
        };
        let ours = ExtendedHandshake::parse(payload).expect("readable");
        assert_eq!((ours.reqq, ours.bs_repeater), (Some(20), Some(1)));
        assert_eq!(said.get(1), Some(&want));
    }
}

#[test]
fn a_master_recognised_late_hears_of_its_longer_queue() {
    let mut session = ready(true, Shown::None);
    session.on_order(T0, Order::Role(Role::Master(MasterId(0))));
    let Some(Message::Extended { id: 0, payload }) = session.poll_message(T0) else {
        panic!("no handshake")
    };
    assert_eq!(
        ExtendedHandshake::parse(&payload).expect("readable").reqq,
        Some(40)
    );
    session.on_order(T0, Order::Role(Role::Master(MasterId(0))));
    assert_eq!(session.poll_message(T0), None);
}

#[test]
fn b2_bad_bitfields_close_the_connection() {
    for bits in [&[0u8][..], &[0, 0, 0], &[0, 1], &[]] {
        let mut session = ready(true, Shown::None);
        let got = session.on_message(T0, Message::Bitfield(Bytes::copy_from_slice(bits)));
        assert!(matches!(got, Err(Violation::BadBitfield(_))), "{bits:?}");
    }
}

#[test]
fn b3_contradictions_are_tolerated_and_the_last_word_counts() {
    let mut session = ready(true, Shown::None);
    for message in [
        Message::HaveAll,
        Message::HaveNone,
        Message::HaveNone,
        Message::Have(3),
        Message::Have(3),
        Message::Bitfield(Bytes::from_static(&[0xff, 0xf0])),
        donthave(7, 3),
        donthave(7, 3),
    ] {
        session.on_message(T0, message).expect("tolerated");
    }
    let facts = session.take_facts();
    let want = [
        ConnFact::HaveAll,
        ConnFact::HaveNone,
        ConnFact::Have(3),
        ConnFact::HaveAll,
        ConnFact::DontHave(3),
    ];
    assert_eq!(facts, want);
    assert_eq!(
        (session.counters().sets_replaced, session.counters().repeats),
        (3, 2)
    );
    assert_eq!(
        session.on_message(T0, Message::Have(12)),
        Err(Violation::NoSuchPiece(12))
    );
    assert_eq!(
        session.on_message(T0, donthave(7, 12)),
        Err(Violation::NoSuchPiece(12))
    );
}

#[test]
fn b4_requests_outside_a_piece_close_the_connection() {
    let mut session = ready(true, Shown::All);
    session.on_order(T0, Order::Unchoke(true));
    let bad = |piece, begin, length| {
        Message::Request(BlockRef {
            piece,
            begin,
            length,
        })
    };
    for (piece, begin, length) in [
        (0, 0xffff_c000, 0x8000),
        (0, 0, 0),
        (0, BLOCK * 3, 1),
        (11, BLOCK * 2, 101),
    ] {
        let got = session.on_message(T0, bad(piece, begin, length));
        assert!(
            matches!(got, Err(Violation::BadRequest(_))),
            "{piece} {begin} {length}: {got:?}"
        );
    }
    assert_eq!(
        session.on_message(T0, bad(12, 0, 1)),
        Err(Violation::NoSuchPiece(12))
    );
    assert_eq!(session.queued_requests(), 0);
    let far = BlockRef {
        piece: 0,
        begin: BLOCK * 3,
        length: BLOCK,
    };
    assert_eq!(session.on_block(T0, far), Err(Violation::BadBlock(far)));
}

#[test]
fn b5_a_flood_of_requests_is_bounded_and_then_ends() {
    for fast in [true, false] {
        let mut cfg = config(fast);
        cfg.limits = SessionLimits::default();
        let mut session = Session::new(cfg, T0);
        session.on_order(T0, hello(Shown::All));
        session.on_order(T0, Order::Unchoke(true));
        let accepted = (0..1_000_000).take_while(|_| {
            session
                .on_message(T0, Message::Request(block(0, 0)))
                .is_ok()
        });
        assert_eq!(
            accepted.count(),
            2_000 * 5,
            "queued, then refused four times over"
        );
        assert_eq!(session.queued_requests(), 2_000);
        let bytes =
            2_000 * size_of::<BlockRef>() + session.out.control.capacity() * size_of::<Message>();
        assert!(bytes <= 1 << 20, "{bytes} bytes");
        assert_eq!(
            (session.counters().floods, session.counters().refused_full),
            (1, 8_001)
        );
        assert!(Violation::RequestFlood.bans());
    }
}

#[test]
fn b5_who_reads_our_answers_may_ask_on() {
    let mut session = ready(true, Shown::None);
    session.on_order(T0, Order::Unchoke(true));
    for _ in 0..1_000 {
        session
            .on_message(T0, Message::Request(block(0, 0)))
            .expect("it reads");
        assert_eq!(
            messages(&mut session).last(),
            Some(&Message::Reject(block(0, 0)))
        );
    }
    assert_eq!(session.counters().refused_unannounced, 1_000);
}

#[test]
fn b8_requests_while_choked_are_rejected_and_counted() {
    let mut session = ready(true, Shown::All);
    for _ in 0..3 {
        session
            .on_message(T0, Message::Request(block(1, 0)))
            .expect("tolerated");
    }
    assert_eq!(
        messages(&mut session),
        vec![Message::Reject(block(1, 0)); 3]
    );
    assert_eq!(
        (session.poll_block(), session.counters().refused_choked),
        (None, 3)
    );
    assert_eq!(
        session.take_facts(),
        [ConnFact::Refused {
            piece: 1,
            bytes: 3 * BLOCK
        }]
    );
}

#[test]
fn a_withdrawn_piece_is_taken_back_first_and_rejected_then() {
    for (fast, honoured) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut session = ready(fast, Shown::None);
        session
            .on_message(T0, extended(None, honoured))
            .expect("sound");
        for order in [
            Order::Unchoke(true),
            Order::Announce(2),
            Order::Announce(3),
            Order::Announce(2),
        ] {
            session.on_order(T0, order);
        }
        assert_eq!(
            messages(&mut session),
            [Message::Unchoke, Message::Have(2), Message::Have(3)]
        );
        for asked in [block(2, 0), block(3, 0), block(2, 1)] {
            session
                .on_message(T0, Message::Request(asked))
                .expect("sound");
        }
        session.on_order(T0, Order::Withdraw(2));
        let mut want = Vec::new();
        want.extend(honoured.then(|| donthave(9, 2)));
        want.extend(
            [block(2, 0), block(2, 1)]
                .map(Message::Reject)
                .into_iter()
                .filter(|_| fast),
        );
        assert_eq!(messages(&mut session), want);
        assert_eq!(
            (session.poll_block(), session.poll_block()),
            (Some(block(3, 0)), None)
        );
        session.on_order(T0, Order::Announce(2));
        assert_eq!(
            messages(&mut session),
            [Message::Have(2)],
            "a new HAVE ends it"
        );
    }
}

#[test]
fn what_the_shell_cannot_read_is_rejected() {
    let mut session = ready(true, Shown::All);
    session.on_order(T0, Order::Unchoke(true));
    session
        .on_message(T0, Message::Request(block(1, 1)))
        .expect("sound");
    assert_eq!(
        (session.next_block_len(), session.upload_backlog()),
        (Some(BLOCK), u64::from(BLOCK))
    );
    let taken = session.poll_transmit(T0);
    assert_eq!(
        taken,
        Some(Transmit::Message(Message::Unchoke)),
        "control messages come first"
    );
    assert_eq!(
        session.poll_transmit(T0),
        Some(Transmit::Block(block(1, 1)))
    );
    session.block_unavailable(T0, block(1, 1));
    assert_eq!(messages(&mut session), [Message::Reject(block(1, 1))]);
    assert_eq!(
        (
            session.counters().refused_unavailable,
            session.upload_backlog()
        ),
        (1, 0)
    );
}

#[test]
fn silence_is_broken_after_100_s_and_ends_it_after_240() {
    let mut session = ready(true, Shown::None);
    assert_eq!(session.poll_timeout(), Some(secs(100)));
    session.on_timeout(secs(100)).expect("we speak");
    assert_eq!(session.poll_message(secs(100)), Some(Message::KeepAlive));
    session
        .on_message(secs(150), Message::KeepAlive)
        .expect("sound");
    session.on_timeout(secs(389)).expect("heard at 150 s");
    assert_eq!(session.on_timeout(secs(390)), Err(Violation::Silent));
    assert_eq!(Violation::Silent.close_reason(), CloseReason::Silent);
}

#[test]
fn before_the_metadata_only_extended_messages_matter() {
    let mut session = Session::new(
        SessionConfig {
            layout: None,
            ..config(true)
        },
        T0,
    );
    session.on_order(T0, hello(Shown::Unknown));
    assert_eq!(
        messages(&mut session).len(),
        1,
        "our extended handshake and no set"
    );
    for message in [
        Message::Bitfield(Bytes::from_static(&[1, 2, 3])),
        Message::Have(77),
        Message::HaveAll,
    ] {
        session.on_message(T0, message).expect("ignored");
    }
    session
        .on_message(T0, extended(Some(500), true))
        .expect("sound");
    let ask = MetadataMessage::Request { piece: 3 };
    session
        .on_message(
            T0,
            Message::Extended {
                id: UT_METADATA,
                payload: ask.encode().into(),
            },
        )
        .expect("sound");
    session
        .on_message(
            T0,
            Message::Extended {
                id: UT_PEX,
                payload: Bytes::from_static(b"x"),
            },
        )
        .expect("tolerated");
    assert!(
        matches!(session.poll_event(), Some(Event::Extended(theirs)) if theirs.reqq == Some(500))
    );
    assert_eq!(
        (session.poll_event(), session.poll_event()),
        (Some(Event::Metadata(ask)), None)
    );
    assert_eq!(session.counters().extended_malformed, 1);
    session.on_order(T0, fetch(0, 0..1));
    assert!(session.take_facts().contains(&ConnFact::LeaseLost {
        piece: 0,
        why: LeaseEnd::Revoked
    }));
}

#[test]
fn facts_wait_5_ms_or_for_an_edge_or_a_mebibyte() {
    let mut session = ready(true, Shown::All);
    session.on_order(T0, Order::Unchoke(true));
    session.take_facts();
    assert_eq!(session.facts_due(T0), None);
    session
        .on_message(T0, Message::Request(block(0, 0)))
        .expect("sound");
    session
        .on_message(T0, Message::Request(block(0, 1)))
        .expect("sound");
    assert_eq!(session.facts_due(T0), Some(Timestamp::from_millis(5)));
    for _ in 0..63 {
        session.wrote_block(T0, block(0, 0));
    }
    assert_eq!(session.facts_due(T0), Some(T0), "65 blocks are over 1 MiB");
    let want = [
        ConnFact::Requested {
            piece: 0,
            bytes: 2 * BLOCK,
        },
        ConnFact::Served {
            piece: 0,
            bytes: 63 * BLOCK,
        },
    ];
    assert_eq!(session.take_facts(), want);
    session.on_message(T0, Message::Interested).expect("sound");
    assert_eq!(session.facts_due(T0), Some(T0), "an edge");
}

#[test]
fn interest_that_stands_is_taken_back_and_said_anew() {
    let mut session = ready(true, Shown::None);
    session.on_order(T0, Order::Interested(false));
    assert_eq!(messages(&mut session), [], "there was none");
    session.on_order(T0, Order::Interested(true));
    assert_eq!(messages(&mut session), [Message::Interested]);
    session.on_order(T0, Order::Interested(true));
    assert_eq!(
        messages(&mut session),
        [Message::NotInterested, Message::Interested]
    );
    session.on_order(T0, Order::Interested(false));
    assert_eq!(messages(&mut session), [Message::NotInterested]);
}
