//! What a connection has of the limited line, and gives back.

use bt_wire::message::{BlockRef, Message};
use swarm_core::bucket::Class;
use swarm_core::io::{ConnId, Rates};

use super::hostile::Raw;
use super::*;

const BLOCK: u32 = 16_384;
const BLOCKS: u32 = 16;

fn block(number: u32) -> BlockRef {
    BlockRef {
        piece: 0,
        begin: number * BLOCK,
        length: BLOCK,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_granted_for_requests_that_are_taken_back_is_there_for_others() {
    let content = content(1 << 20, BLOCKS * BLOCK);
    let seed = Peer::seed(&content).await;
    let mut raw = Raw::dial(seed.addr(), &content).await;
    raw.send(&Message::Interested).await;
    while raw.next().await.expect("goes on") != Message::Unchoke {}

    // What there is to grant, and no more in this test's time.
    let (meter, other) = (&seed.engine.network.meter, ConnId(1 << 40));
    meter.insert(other, Class::Swarm, seed.swarm);
    meter.set(&Rates {
        upload: Some(1),
        download: None,
        master_share: 0.5,
        guest_share: 0.5,
    });
    meter.up.refund(BLOCK);
    let gets = |bytes| {
        let granted = meter.up.request(other, bytes);
        meter.up.request(other, 0);
        meter.up.refund(granted);
        granted
    };
    assert_eq!(gets(BLOCK / 2), BLOCK / 2);

    for number in 0..BLOCKS {
        raw.send(&Message::Request(block(number))).await;
    }
    // All of it is with the first block, which needs a little more.
    while gets(1) > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for number in 0..BLOCKS {
        raw.send(&Message::Cancel(block(number))).await;
    }
    while raw.next().await.expect("goes on") != Message::Reject(block(BLOCKS - 1)) {}
    assert_eq!(gets(BLOCK / 2), BLOCK / 2, "and nobody waits for more");
}
