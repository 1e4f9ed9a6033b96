//! A session fed with frames that were made up, cut, changed, repeated and reordered: no panic, and no message that the
//! other side did not say.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use friends_proto::identity::{Identity, Zeroizing};
use friends_proto::message::{HelpId, Message, Stop, StopReason, Sync};
use friends_proto::pair::{PairKey, Role};
use friends_proto::session::{Event, Secrets, Session, Setup, With};
use libfuzzer_sys::fuzz_target;

const NOW: Duration = Duration::from_secs(1);

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_secret(&Zeroizing::new([seed; 32])))
}

fn start(role: Role, friends: bool) -> (Session, Option<Vec<u8>>) {
    let (me, other) = match role {
        Role::Opener => (1, 2),
        Role::Acceptor => (2, 1),
    };
    let key = identity(other).public_key();
    let with = if friends {
        let pair = PairKey::derive(&identity(me), &key).expect("two keys");
        With::Friend { key: *key.as_bytes(), pair }
    } else {
        With::Acquaintance
    };
    let secrets = Secrets { fixed: Zeroizing::new([me + 16; 32]), ephemeral: Zeroizing::new([me + 32; 32]) };
    let setup = Setup {
        role,
        with,
        infohash: [3; 20],
        opener_peer_id: [4; 20],
        acceptor_peer_id: [5; 20],
        identity: identity(me),
        secrets,
    };
    Session::start(setup, NOW).expect("sound parameters")
}

fn messages() -> [Message; 2] {
    [Message::Sync(Sync::default()), Message::Stop(Stop { id: HelpId(7), why: StopReason::Done })]
}

/// The input is a list of orders of two bytes: which frame to take, and what to do to it.
fn play(friends: bool, orders: &[u8]) {
    let (opener, first) = start(Role::Opener, friends);
    let (acceptor, _) = start(Role::Acceptor, friends);
    let mut sessions = [opener, acceptor];
    let mut to: [Vec<Vec<u8>>; 2] = [Vec::new(), first.into_iter().collect()];
    for order in orders.chunks_exact(2).take(200) {
        let side = usize::from(order[0] & 1);
        if order[0] & 2 != 0 {
            for message in messages() {
                if let Ok(frame) = sessions[1 - side].send(&message, NOW) {
                    to[side].push(frame);
                }
            }
        }
        let Some(at) = usize::from(order[0] >> 4).checked_rem(to[side].len()) else { continue };
        let mut frame = to[side][at].clone();
        match order[0] >> 2 & 3 {
            0 => drop(to[side].remove(at)),
            1 => frame.truncate(usize::from(order[1])),
            2 => {
                let at = usize::from(order[1]) % frame.len();
                frame[at] ^= order[1] | 1;
            }
            _ => {}
        }
        let Ok(received) = sessions[side].receive(&frame, NOW) else { continue };
        to[1 - side].extend(received.frames);
        if let Some(Event::Message(message)) = received.event {
            assert!(messages().contains(&message));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    play(mode & 1 == 0, rest);
    // Frames as they are, to a side that waits for one.
    let role = if mode & 2 == 0 { Role::Opener } else { Role::Acceptor };
    let (mut session, _) = start(role, mode & 1 == 0);
    for frame in rest.chunks(usize::from(mode) + 1) {
        let _ = session.receive(frame, NOW);
    }
});
