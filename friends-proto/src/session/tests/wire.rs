//! Two sessions joined by a wire that loses, cuts, flips, repeats, reorders and makes up frames.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::message::tests::message;

#[derive(Debug, Clone)]
enum Step {
    /// One side says something.
    Send(usize, Message),
    /// The wire hands on its oldest frame to a side.
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Swap(usize),
    Cut(usize, prop::sample::Index),
    Flip(usize, prop::sample::Index, u8),
    MakeUp(usize, Vec<u8>),
    /// A frame of this side comes back to it.
    Reflect(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let side = || 0..2_usize;
    let at = any::<prop::sample::Index>;
    prop_oneof![
        6 => (side(), message()).prop_map(|(side, message)| Step::Send(side, message)),
        20 => side().prop_map(Step::Deliver),
        1 => side().prop_map(Step::Lose),
        1 => side().prop_map(Step::Repeat),
        1 => side().prop_map(Step::Swap),
        1 => (side(), at()).prop_map(|(side, at)| Step::Cut(side, at)),
        1 => (side(), at(), 0..8_u8).prop_map(|(side, at, bit)| Step::Flip(side, at, bit)),
        1 => (side(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(side, bytes)| Step::MakeUp(side, bytes)),
        1 => side().prop_map(Step::Reflect),
    ]
}

struct World {
    sessions: [Session; 2],
    /// Frames on their way to each side.
    to: [VecDeque<Vec<u8>>; 2],
    /// What each side said.
    said: [Vec<Message>; 2],
    /// What each side heard.
    heard: [Vec<Message>; 2],
    /// The key each side believes to speak with.
    with: [Option<PublicKey>; 2],
}

impl World {
    fn new(setups: [Setup; 2]) -> Self {
        let (alice, bob, first) = started(setups);
        Self {
            sessions: [alice, bob],
            to: [VecDeque::new(), VecDeque::from([first])],
            said: Default::default(),
            heard: Default::default(),
            with: [None, None],
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send(side, message) => {
                // The session's own, and what is said once.
                if !matches!(
                    message,
                    Message::Hello(_) | Message::Bye(_) | Message::Sync(_)
                ) {
                    self.say(*side, message);
                }
            }
            Step::Deliver(side) => self.deliver(*side),
            Step::Lose(side) => {
                self.to[*side].pop_front();
            }
            Step::Repeat(side) => {
                let again = self.to[*side].front().cloned();
                self.to[*side].extend(again);
            }
            Step::Swap(side) => {
                let frames = &mut self.to[*side];
                if frames.len() > 1 {
                    frames.swap(0, 1);
                }
            }
            Step::Cut(side, at) => {
                if let Some(frame) = self.to[*side].front_mut() {
                    frame.truncate(at.index(frame.len().max(1)));
                }
            }
            Step::Flip(side, at, bit) => {
                if let Some(frame) = self.to[*side].front_mut().filter(|f| !f.is_empty()) {
                    let at = at.index(frame.len());
                    frame[at] ^= 1 << bit;
                }
            }
            Step::MakeUp(side, bytes) => self.to[*side].push_front(bytes.clone()),
            Step::Reflect(side) => {
                let back = self.to[1 - side].front().cloned();
                self.to[*side].extend(back);
            }
        }
    }

    fn say(&mut self, side: usize, message: &Message) {
        if let Ok(frame) = self.sessions[side].send(message, NOW) {
            self.said[side].push(message.clone());
            self.to[1 - side].push_back(frame);
        }
    }

    fn deliver(&mut self, side: usize) {
        let Some(frame) = self.to[side].pop_front() else {
            return;
        };
        let Ok(received) = self.sessions[side].receive(&frame, NOW) else {
            assert!(!self.sessions[side].is_open());
            return;
        };
        self.to[1 - side].extend(received.frames);
        match received.event {
            Some(Event::Open { key, version }) => {
                assert_eq!((self.with[side], version), (None, 1));
                self.with[side] = Some(key);
                self.say(side, &Message::Sync(Sync::default()));
            }
            Some(Event::Message(message)) => self.heard[side].push(message),
            Some(Event::Ignored(reason)) => panic!("{reason:?} of what was never said"),
            None => {}
        }
    }

    fn check(&self) {
        for side in 0..2 {
            let said = &self.said[1 - side];
            let heard = &self.heard[side];
            assert!(heard.len() <= said.len() && *heard == said[..heard.len()]);
            let other = self.sessions[1 - side].identity.public_key();
            assert!(self.with[side].is_none_or(|key| key == other));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_wrong_is_ever_heard(known: bool, steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(if known { friends() } else { acquaintances() });
        for step in &steps {
            world.step(step);
            world.check();
        }
    }

    #[test]
    fn on_a_good_wire_everything_is_heard(messages in prop::collection::vec((0..2_usize, message()), 1..40)) {
        let mut world = World::new(friends());
        let settle = |world: &mut World| {
            while world.to.iter().any(|frames| !frames.is_empty()) {
                world.deliver(0);
                world.deliver(1);
            }
        };
        settle(&mut world);
        for (side, message) in &messages {
            world.step(&Step::Send(*side, message.clone()));
            settle(&mut world);
        }
        world.check();
        prop_assert_eq!(&world.heard[0], &world.said[1]);
        prop_assert_eq!(&world.heard[1], &world.said[0]);
    }

    #[test]
    fn one_flipped_bit_in_any_frame_ends_that_side(which in 0..5_usize, at: prop::sample::Index, bit in 0..8_u8) {
        let mut world = World::new(friends());
        let mut seen = 0;
        'all: loop {
            for side in [1, 0] {
                let Some(frame) = world.to[side].front_mut() else { continue };
                if seen == which {
                    let at = at.index(frame.len());
                    frame[at] ^= 1 << bit;
                    world.deliver(side);
                    prop_assert!(world.sessions[side].expire(NOW).is_err());
                    break 'all;
                }
                seen += 1;
                world.deliver(side);
            }
            prop_assert!(world.to.iter().any(|frames| !frames.is_empty()));
        }
    }
}
