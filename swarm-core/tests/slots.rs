//! Upload slots while a master waits: those that turn are among them, and never above.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "support/desk.rs"]
mod desk;

use bt_wire::bitfield::Bitfield;
use desk::{Desk, PIECES};
use swarm_core::io::{ConnFact, ConnId, Extended, Input, Limits, Order, Origin};
use swarm_core::policy::choke;

const MASTER: ConnId = ConnId(1);

/// Who has a slot, beside the master.
fn served(desk: &Desk) -> Vec<ConnId> {
    let unchoked = |conn: &ConnId| {
        let mut orders = desk.orders.iter().rev();
        orders.find_map(|(to, order)| {
            if let Order::Unchoke(yes) = order {
                (to == conn).then_some(*yes)
            } else {
                None
            }
        })
    };
    let others = (2..100).map(ConnId);
    others.filter(|conn| unchoked(conn) == Some(true)).collect()
}

fn line(desk: &mut Desk, upload: u64) {
    let limits = Limits {
        upload: Some(upload),
        connections: 100,
        cache: 64 << 20,
        cache_memory: 64 << 20,
        ..Limits::default()
    };
    desk.feed(Input::Limits(limits));
}

/// For so many seconds: a master, a seed, and more leechers than there are slots, that have nothing.
fn crowded(upload: u64, seconds: u64) -> Desk {
    let mut desk = crowd_of(upload, |_| 0);
    desk.wait(seconds);
    desk
}

/// Of the first so many pieces each leecher has what `has` says.
fn crowd_of(upload: u64, has: impl Fn(u8) -> u32) -> Desk {
    let mut desk = Desk::new();
    line(&mut desk, upload);
    desk.known(Origin::User, false);
    desk.needy_master(false);
    desk.seed(ConnId(3));
    for conn in 10..50 {
        let host = u8::try_from(conn).expect("few");
        let addr = ([198, 18, 3, host], 40_000).into();
        let mut set = Bitfield::new(PIECES);
        (0..has(host)).for_each(|piece| {
            set.set(piece, true);
        });
        let has = ConnFact::Bitfield(set.as_bytes().to_vec());
        desk.comes(ConnId(conn), addr, has);
        let forgets = Extended {
            donthave: true,
            ..Extended::default()
        };
        desk.feed(Input::Conn(ConnId(conn), vec![ConnFact::Extended(forgets)]));
    }
    desk
}

/// Whenever it happens in the half minute of a turn.
const MOMENTS: [u64; 3] = [60, 70, 80];

#[test]
fn a_narrower_line_ends_turns_with_the_slots() {
    let (wide, narrow) = (1 << 20, 192 << 10);
    for moment in MOMENTS {
        let mut desk = crowded(wide, moment);
        assert_eq!(served(&desk).len(), choke::payers(wide, 0));
        line(&mut desk, narrow);
        desk.wait(10);
        assert_eq!(
            served(&desk).len(),
            choke::payers(narrow, 0),
            "after {moment} s"
        );
    }
}

#[test]
fn when_the_master_has_all_no_slot_turns_any_more() {
    let line = 240 << 10;
    for moment in MOMENTS {
        let mut desk = crowded(line, moment);
        assert_eq!(served(&desk).len(), choke::payers(line, 0));
        // So that all the others waited longer.
        for conn in served(&desk) {
            let next = desk.told.get(&conn).and_then(|told| told.first()).copied();
            next.into_iter().for_each(|piece| desk.takes(conn, piece));
        }
        desk.took.insert(MASTER, (0..PIECES).collect());
        desk.feed(Input::Conn(MASTER, vec![ConnFact::HaveAll]));
        desk.wait(10);
        assert_eq!(served(&desk).len(), choke::slots(line), "after {moment} s");
    }
}

/// What nobody paid for turns: first to the leechers that have most of what the master lacks, then, for they gave nothing, to
/// all others before it is theirs again.
#[test]
fn turns_go_to_who_could_bring_most_and_on_from_who_brings_nothing() {
    let line = 240 << 10;
    let rich = |conn: u64| conn >= 43;
    let mut desk = crowd_of(line, |host| {
        if rich(host.into()) {
            u32::from(host) - 20
        } else {
            1
        }
    });
    let leechers = |desk: &Desk| {
        let mut served = served(desk);
        served.retain(|conn| conn.0 >= 10);
        served
    };
    desk.wait(12);
    let first: Vec<ConnId> = (43..50).map(ConnId).collect();
    assert_eq!(leechers(&desk), first);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        desk.wait(30);
        let now = leechers(&desk);
        assert_eq!(now.len(), first.len());
        assert!(
            now.iter().all(|conn| !rich(conn.0) && seen.insert(*conn)),
            "{now:?}"
        );
    }
}
