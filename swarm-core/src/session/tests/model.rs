//! Random interleavings against a small model of what a peer may rely on.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Theirs(Message),
    Block(BlockRef),
    Order(Order),
    Write(u8),
    Unavailable,
    Verified(u32),
    Wait(u64),
}

#[derive(Default)]
struct Model {
    unchoked: bool,
    announced: BTreeSet<u32>,
    choked: bool,
    allowed_fast: BTreeSet<u32>,
    /// Their requests that have no answer yet.
    unanswered: BTreeMap<BlockRef, u32>,
    leased: BTreeSet<u32>,
}

impl Model {
    fn answer(&mut self, block: BlockRef) {
        let left = self.unanswered.get_mut(&block).filter(|left| **left > 0);
        *left.expect("an answer to no request, or a second one") -= 1;
    }

    fn order(&mut self, order: &Order) {
        match order {
            Order::Unchoke(unchoke) => self.unchoked = *unchoke,
            Order::Announce(piece) => {
                let _ = self.announced.insert(*piece);
            }
            Order::Withdraw(piece) => {
                let _ = self.announced.remove(piece);
            }
            Order::Fetch(fetch) => {
                let _ = self.leased.insert(fetch.piece);
            }
            Order::Hello { .. }
            | Order::Role(_)
            | Order::Interested(_)
            | Order::Revoke(_)
            | Order::Close => {}
        }
    }

    fn facts(&mut self, facts: &[ConnFact]) {
        for fact in facts {
            if let ConnFact::LeaseDone { piece } | ConnFact::LeaseLost { piece, .. } = fact {
                assert!(
                    self.leased.remove(piece),
                    "the end of a lease that is none: {piece}"
                );
            }
        }
    }

    fn message(&mut self, session: &Session, message: &Message) {
        if let Message::Reject(block) = message {
            self.answer(*block);
        }
        if let Message::Request(block) = message {
            assert!(
                !self.choked || self.allowed_fast.contains(&block.piece),
                "asked while choked"
            );
            let (in_flight, depth) = session.in_flight();
            assert!(
                in_flight <= depth && layout().contains(block.piece, block.begin, block.length)
            );
        }
    }

    fn written(&mut self, session: &mut Session, now: Timestamp, block: BlockRef, held: bool) {
        assert!(self.unchoked, "a block while choked");
        assert!(
            self.announced.contains(&block.piece),
            "a block of a piece that does not stand announced"
        );
        if held {
            session.wrote_block(now, block);
            self.answer(block);
        } else {
            session.block_unavailable(now, block);
        }
    }
}

fn a_block() -> impl Strategy<Value = BlockRef> {
    (0u32..12, 0u32..3).prop_map(|(piece, number)| block(piece, number))
}

fn step() -> impl Strategy<Value = Step> {
    let theirs = prop_oneof![
        8 => a_block().prop_map(Message::Request),
        2 => a_block().prop_map(Message::Cancel),
        2 => a_block().prop_map(Message::Reject),
        3 => prop::sample::select(vec![Message::Unchoke, Message::Unchoke, Message::Choke]),
        1 => (0u32..12).prop_map(Message::Have),
        1 => (0u32..12).prop_map(Message::AllowedFast),
        1 => (0u32..12).prop_map(|piece| donthave(7, piece)),
        1 => (1u32..30, any::<bool>()).prop_map(|(reqq, donthave)| extended(Some(reqq), donthave)),
        1 => prop::sample::select(vec![Message::HaveAll, Message::HaveNone, Message::Interested]),
    ];
    let order = prop_oneof![
        4 => any::<bool>().prop_map(Order::Unchoke),
        6 => (0u32..12).prop_map(Order::Announce),
        3 => (0u32..12).prop_map(Order::Withdraw),
        6 => (0u32..12, 0u32..3, 1u32..4).prop_map(|(piece, from, len)| fetch(piece, from..from + len)),
        2 => (0u32..12).prop_map(Order::Revoke),
        1 => any::<bool>().prop_map(Order::Interested),
    ];
    prop_oneof![
        6 => theirs.prop_map(Step::Theirs),
        4 => a_block().prop_map(Step::Block),
        6 => order.prop_map(Step::Order),
        4 => any::<u8>().prop_map(Step::Write),
        1 => Just(Step::Unavailable),
        1 => (0u32..12).prop_map(Step::Verified),
        1 => (0u64..25_000).prop_map(Step::Wait),
    ]
}

struct Run {
    session: Session,
    model: Model,
    now: Timestamp,
    fast: bool,
}

impl Run {
    fn theirs(&mut self, message: Message) -> Result<(), Violation> {
        if let Message::Request(block) = &message {
            *self.model.unanswered.entry(*block).or_default() += 1;
        } else if let Message::AllowedFast(piece) = &message {
            self.model.allowed_fast.extend(self.fast.then_some(*piece));
        } else if matches!(message, Message::Choke | Message::Unchoke) {
            self.model.choked = message == Message::Choke;
        }
        self.session.on_message(self.now, message)
    }

    fn step(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Theirs(message) => self.theirs(message)?,
            Step::Block(block) => {
                let _ = self.session.on_block(self.now, block)?;
            }
            Step::Order(order) => {
                self.model.order(&order);
                self.session.on_order(self.now, order);
            }
            Step::Write(many) => self.write(many.into()),
            Step::Unavailable => {
                while let Some(message) = self.session.poll_message(self.now) {
                    self.model.message(&self.session, &message);
                }
                if let Some(block) = self.session.poll_block() {
                    self.model
                        .written(&mut self.session, self.now, block, false);
                }
            }
            Step::Verified(piece) => self.session.piece_verified(self.now, piece),
            Step::Wait(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                self.session.on_timeout(self.now)?;
            }
        }
        self.model.facts(&self.session.take_facts());
        self.session.down.check();
        assert_eq!(
            self.session.down.leased(),
            self.model.leased.iter().copied().collect::<Vec<_>>()
        );
        Ok(())
    }

    fn write(&mut self, many: u32) {
        for _ in 0..many {
            match self.session.poll_transmit(self.now) {
                Some(Transmit::Message(message)) => self.model.message(&self.session, &message),
                Some(Transmit::Block(block)) => {
                    self.model.written(&mut self.session, self.now, block, true)
                }
                None => return,
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_interleaving_keeps_the_rules(fast: bool, steps in prop::collection::vec(step(), 1..250)) {
        let session = ready(fast, Shown::None);
        let model = Model { choked: true, ..Model::default() };
        let mut run = Run { session, model, now: Timestamp::ZERO, fast };
        for step in steps {
            if run.step(step).is_err() {
                return Ok(());
            }
        }
        run.write(10_000);
        if fast {
            prop_assert!(run.model.unanswered.values().all(|left| *left == 0), "unanswered: {:?}", run.model.unanswered);
        }
        prop_assert_eq!((run.session.queued_requests(), run.session.upload_backlog()), (0, 0));
    }

    #[test]
    fn no_bytes_make_it_panic(known: bool, fast: bool, frames in prop::collection::vec(
        (0u8..22, prop::collection::vec(any::<u8>(), 0..20)), 0..60,
    )) {
        let layout = known.then(layout);
        let mut session = Session::new(SessionConfig { layout, ..config(fast) }, Timestamp::ZERO);
        session.on_order(Timestamp::ZERO, hello(Shown::All));
        session.on_order(Timestamp::ZERO, Order::Unchoke(true));
        for (id, body) in frames {
            let frame: Vec<u8> = core::iter::once(id).chain(body).collect();
            if let Ok(message) = Message::parse(frame.into()) {
                let _ = session.on_message(Timestamp::ZERO, message);
            }
            while session.poll_transmit(Timestamp::ZERO).is_some() {}
        }
    }
}
