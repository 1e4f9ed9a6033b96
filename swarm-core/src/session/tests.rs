use std::sync::Arc;

use bt_wire::extension::{ExtensionIds, LtDontHave, UT_METADATA, UT_PEX};
use bt_wire::layout::BLOCK;

use super::*;
use crate::io::{CloseReason, Fetch, MasterId, Shown};

mod defences;
mod leases;
mod model;
mod transfer;

const T0: Timestamp = Timestamp::ZERO;

fn secs(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

/// 12 pieces of 3 blocks, the last of them short.
fn layout() -> Layout {
    Layout::new(BLOCK * 3, u64::from(BLOCK) * 35 + 100).expect("sound")
}

fn config(fast: bool) -> SessionConfig {
    SessionConfig {
        layout: Some(layout()),
        fast,
        extended: true,
        hello: ExtendedHandshake {
            m: ExtensionIds::ours(),
            bs_repeater: Some(1),
            ..ExtendedHandshake::default()
        },
        limits: SessionLimits {
            reqq_master: 40,
            reqq_peer: 20,
        },
    }
}

fn hello(have: Shown) -> Order {
    Order::Hello {
        have,
        role: Role::Peer,
    }
}

/// Said hello and drained.
fn ready(fast: bool, have: Shown) -> Session {
    let mut session = Session::new(config(fast), Timestamp::ZERO);
    session.on_order(Timestamp::ZERO, hello(have));
    messages(&mut session);
    session
}

fn messages(session: &mut Session) -> Vec<Message> {
    core::iter::from_fn(|| session.poll_message(Timestamp::ZERO)).collect()
}

fn block(piece: u32, number: u32) -> BlockRef {
    BlockRef {
        piece,
        begin: number * BLOCK,
        length: layout().block_size(piece, number),
    }
}

fn fetch(piece: u32, blocks: core::ops::Range<u32>) -> Order {
    Order::Fetch(Fetch {
        piece,
        blocks,
        announce: Arc::from([]),
    })
}

/// Their extended handshake, with or without `lt_donthave`.
fn extended(reqq: Option<u32>, donthave: bool) -> Message {
    let m = ExtensionIds {
        lt_donthave: donthave.then_some(9),
        ..ExtensionIds::default()
    };
    let payload = ExtendedHandshake {
        m,
        reqq,
        ..ExtendedHandshake::default()
    }
    .encode()
    .into();
    Message::Extended { id: 0, payload }
}

fn donthave(id: u8, piece: u32) -> Message {
    Message::Extended {
        id,
        payload: Bytes::copy_from_slice(&LtDontHave { piece }.encode()),
    }
}
