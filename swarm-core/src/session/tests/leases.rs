//! Leases that end, and blocks that nobody asked for.

use super::*;

#[test]
fn without_a_block_for_20_s_leases_end_and_one_request_probes() {
    let mut session = ready(true, Shown::None);
    session.on_message(T0, Message::Unchoke).expect("sound");
    session.on_order(T0, fetch(0, 0..3));
    session.on_order(T0, fetch(4, 1..3));
    assert_eq!(messages(&mut session).len(), 5);
    assert_eq!(session.poll_timeout(), Some(secs(20)));
    session.on_timeout(secs(20)).expect("not silent");
    let lost = |piece| ConnFact::LeaseLost {
        piece,
        why: LeaseEnd::TimedOut,
    };
    let facts = session.take_facts();
    assert!(
        facts.contains(&lost(0)) && facts.contains(&lost(4)),
        "{facts:?}"
    );
    assert_eq!(messages(&mut session).len(), 5, "five cancels");
    assert_eq!(
        (session.counters().timeouts, session.in_flight()),
        (1, (0, 1))
    );
    session.on_order(secs(21), fetch(0, 0..3));
    assert_eq!(messages(&mut session), [Message::Request(block(0, 0))]);
    assert_eq!(
        session.on_block(secs(22), block(0, 1)),
        Ok(BlockVerdict::Wanted),
        "late, and wanted again"
    );
    assert_eq!(
        session.on_block(secs(22), block(0, 0)),
        Ok(BlockVerdict::Wanted)
    );
    assert_eq!(
        session.on_block(secs(22), block(4, 1)),
        Ok(BlockVerdict::Redundant),
        "late, and not leased any more"
    );
    assert_eq!(session.counters().blocks_unrequested, 0);
    assert!(session.in_flight().1 > 1, "a block ends the snub");
}

#[test]
fn blocks_nobody_asked_for_are_counted_and_then_end_it() {
    let mut session = ready(true, Shown::None);
    for _ in 0..64 {
        assert_eq!(
            session.on_block(T0, block(0, 0)),
            Ok(BlockVerdict::Redundant)
        );
    }
    assert_eq!(
        session.on_block(T0, block(0, 0)),
        Err(Violation::Unrequested)
    );
    assert_eq!(
        (
            session.counters().blocks_unrequested,
            session.counters().blocks_redundant
        ),
        (65, 65)
    );
    assert_eq!(
        session.take_facts(),
        [ConnFact::Received {
            piece: 0,
            bytes: 0,
            redundant: 65 * BLOCK
        }]
    );
}

#[test]
fn a_choke_ends_leases_at_once_without_bep_6_and_by_rejects_with_it() {
    let lost = |why| ConnFact::LeaseLost { piece: 0, why };
    for fast in [true, false] {
        let mut session = ready(fast, Shown::None);
        session.on_message(T0, Message::Unchoke).expect("sound");
        session.on_order(T0, fetch(0, 0..3));
        assert_eq!(messages(&mut session).len(), 3);
        session.take_facts();
        session.on_message(T0, Message::Choke).expect("sound");
        let facts = session.take_facts();
        assert_eq!(facts.contains(&lost(LeaseEnd::Choked)), !fast, "{facts:?}");
        if fast {
            assert_eq!(
                session.on_block(T0, block(0, 0)),
                Ok(BlockVerdict::Wanted),
                "sent before the choke"
            );
            for number in 1..3 {
                session
                    .on_message(T0, Message::Reject(block(0, number)))
                    .expect("sound");
            }
            let facts = session.take_facts();
            assert_eq!(
                facts
                    .iter()
                    .filter(|fact| **fact == lost(LeaseEnd::Choked))
                    .count(),
                1,
                "{facts:?}"
            );
        }
        assert_eq!(messages(&mut session), [], "no cancels to who chokes");
        session.on_order(T0, fetch(1, 0..1));
        let facts = session.take_facts();
        assert_eq!(
            facts,
            [ConnFact::LeaseLost {
                piece: 1,
                why: LeaseEnd::Choked
            }],
            "leased across the choke"
        );
    }
}

#[test]
fn allowed_fast_pieces_may_be_asked_for_while_choked_64_at_most() {
    let mut session = ready(true, Shown::None);
    session
        .on_message(T0, Message::AllowedFast(5))
        .expect("sound");
    session
        .on_message(T0, Message::AllowedFast(5))
        .expect("sound");
    assert_eq!(
        session.on_message(T0, Message::AllowedFast(12)),
        Err(Violation::NoSuchPiece(12))
    );
    assert_eq!(session.counters().allowed_fast_ignored, 1);
    session.on_order(T0, fetch(5, 0..1));
    assert_eq!(messages(&mut session), [Message::Request(block(5, 0))]);
    assert_eq!(session.on_block(T0, block(5, 0)), Ok(BlockVerdict::Wanted));
    assert!(
        session
            .take_facts()
            .contains(&ConnFact::LeaseDone { piece: 5 })
    );
}

#[test]
fn low_leases_are_told_once_for_each_lease() {
    let low = |facts: Vec<ConnFact>| {
        facts
            .iter()
            .filter(|fact| matches!(fact, ConnFact::LeaseLow { .. }))
            .count()
    };
    let mut session = ready(true, Shown::None);
    session.on_message(T0, Message::Unchoke).expect("sound");
    assert_eq!(low(session.take_facts()), 1, "they unchoke");
    session.on_order(T0, fetch(0, 0..3));
    messages(&mut session);
    assert_eq!(low(session.take_facts()), 1);
    for number in 0..3 {
        session.on_block(T0, block(0, number)).expect("sound");
        messages(&mut session);
    }
    assert_eq!(low(session.take_facts()), 0, "no flood");
}

#[test]
fn a_verified_piece_is_cancelled_and_a_lost_permit_ends_a_lease() {
    let mut session = ready(true, Shown::None);
    session.on_message(T0, Message::Unchoke).expect("sound");
    session.on_order(T0, fetch(1, 1..3));
    messages(&mut session);
    session.on_block(T0, block(1, 1)).expect("sound");
    session.take_facts();
    session.piece_verified(T0, 1);
    assert_eq!(messages(&mut session), [Message::Cancel(block(1, 2))]);
    session.on_order(T0, Order::Revoke(1));
    session.lease_lost(T0, 6, LeaseEnd::NoRoom);
    let lost = |piece, why| ConnFact::LeaseLost { piece, why };
    assert_eq!(
        session.take_facts(),
        [lost(1, LeaseEnd::Revoked), lost(6, LeaseEnd::NoRoom)]
    );
    session
        .on_message(T0, Message::Reject(block(1, 2)))
        .expect("the answer to the cancel");
    session
        .on_message(T0, Message::Reject(block(1, 2)))
        .expect("tolerated");
    assert_eq!(session.counters().rejects_unknown, 1);
}
