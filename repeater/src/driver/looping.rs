//! The one loop: a batch of inputs with one `now`, the brain, its outputs carried out. It waits for inputs only.

use std::sync::Arc;
use std::time::Instant;

use swarm_core::io::friends::FriendsNote;
use swarm_core::io::{Batch, Input, Note, Output};
use swarm_core::node::Node;
use swarm_core::time::Timestamp;
use swarm_core::view::NodeView;
use tokio::sync::{mpsc, oneshot};

use super::FACTS;
use super::outbox::EngineEvent;
use crate::net::Network;
use crate::record::{Answers, Frame, Recorder};

/// What comes by the control lane.
#[derive(Debug)]
pub(crate) enum Control {
    Input(Input),
    View(oneshot::Sender<NodeView>),
    Stop,
}

/// The brain as the driver sees it, so that tests can script one.
pub(crate) trait Brain: Send {
    fn handle(&mut self, now: Timestamp, input: Input);
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_timeout(&self) -> Option<Timestamp>;
    fn view(&self) -> NodeView;
}

impl Brain for Node {
    fn handle(&mut self, now: Timestamp, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Self::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        Self::poll_timeout(self)
    }

    fn view(&self) -> NodeView {
        Self::view(self)
    }
}

pub(crate) struct Driver {
    pub(crate) node: Box<dyn Brain>,
    pub(crate) network: Arc<Network>,
    pub(crate) control: mpsc::Receiver<Control>,
    pub(crate) facts: mpsc::Receiver<Input>,
    pub(crate) recorder: Option<Recorder>,
}

impl Driver {
    /// Runs until [`Control::Stop`].
    pub(crate) async fn run(mut self) {
        let mut answers = Answers::default();
        let (mut asked, mut pieces) = (Vec::new(), Vec::new());
        let mut batch = Batch {
            now: Timestamp::ZERO,
            inputs: Vec::new(),
        };
        loop {
            let timer = self.node.poll_timeout();
            let wait = timer.map(|at| at.since(self.network.clock.now()));
            tokio::select! {
                biased;
                got = self.control.recv_many(&mut asked, 64) => if got == 0 { return },
                _ = self.facts.recv_many(&mut batch.inputs, FACTS) => {}
                () = self.network.cache.facts_ready() => {}
                () = self.network.allowance.due() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            let mut views = Vec::new();
            let mut stop = false;
            let first = batch.inputs.len();
            while let Ok(control) = self.control.try_recv() {
                asked.push(control);
            }
            for control in asked.drain(..) {
                match control {
                    Control::Input(input) => batch.inputs.push(input),
                    Control::View(reply) => views.push(reply),
                    Control::Stop => stop = true,
                }
            }
            batch.inputs.rotate_left(first);
            // Pieces are taken first and handed in last: what their connections said before them is in the channel.
            self.network.cache.drain_facts(&mut pieces);
            while batch.inputs.len() < 2 * FACTS
                && let Ok(input) = self.facts.try_recv()
            {
                batch.inputs.push(input);
            }
            batch.inputs.extend(
                pieces
                    .drain(..)
                    .map(|((swarm, piece), fact)| Input::Piece(swarm, piece, fact)),
            );
            self.report_carried(&mut batch.inputs, !views.is_empty());
            batch.now = self.network.clock.now();
            if timer.is_some_and(|at| at <= batch.now) {
                batch.inputs.push(Input::Timer);
            }
            self.think(&mut batch, &mut answers);
            for reply in views {
                drop(reply.send(self.node.view()));
            }
            if stop {
                return;
            }
        }
    }

    /// What the line carried, when it is time, somebody looks, or another month may begin: before all else, so that
    /// what went before counts for the month before.
    fn report_carried(&self, inputs: &mut Vec<Input>, asked: bool) {
        let allowance = &self.network.allowance;
        let clock = |input: &Input| matches!(input, Input::Wall(_));
        if asked || allowance.is_due() || inputs.iter().any(clock) {
            inputs.insert(0, Input::Carried(allowance.report()));
        }
    }

    fn think(&mut self, batch: &mut Batch, answers: &mut Answers) {
        if batch.inputs.is_empty() {
            return;
        }
        let started = Instant::now();
        let recorded = self.recorder.is_some().then(|| batch.clone());
        for input in batch.inputs.drain(..) {
            self.node.handle(batch.now, input);
        }
        while let Some(output) = self.node.poll_output() {
            if recorded.is_some() {
                answers.add(&output);
            }
            self.carry_out(output);
        }
        if let (Some(batch), Some(recorder)) = (recorded, &mut self.recorder)
            && !recorder.append(&Frame {
                batch,
                outputs: answers.finish(),
            })
        {
            self.recorder = None;
        }
        metrics::histogram!("btslave_driver_batch_seconds").record(started.elapsed());
    }

    fn carry_out(&self, output: Output) {
        let network = &self.network;
        match output {
            Output::Order(conn, order) => {
                if let Some(mailbox) = network.boxes.get(conn) {
                    mailbox.order(order);
                }
            }
            Output::Dial(swarm, addr) => network.dial(swarm, addr),
            Output::Join(id) => {
                if let Some(swarm) = network.swarms.get(id) {
                    swarm.set_joined(true);
                }
                network.outbox.push(EngineEvent::Join(id));
            }
            Output::Leave(id) => {
                if let Some(swarm) = network.swarms.get(id) {
                    swarm.set_joined(false);
                }
                network.outbox.push(EngineEvent::Leave(id));
            }
            Output::Forget(id) => {
                if let Some(swarm) = network.swarms.get(id) {
                    network.swarms.forget(id);
                    network
                        .outbox
                        .push(EngineEvent::Forget(id, swarm.info_hash));
                }
            }
            Output::Scrape(swarm) => network.outbox.push(EngineEvent::Scrape(swarm)),
            Output::WantPeers(swarm) => network.outbox.push(EngineEvent::WantPeers(swarm)),
            Output::Left(swarm, bytes) => network.outbox.push(EngineEvent::Left(swarm, bytes)),
            Output::Retire(swarm, piece) => network.cache.retire((swarm, piece)),
            Output::Rates(rates) => network.meter.set(&rates),
            Output::Friends(order) => {
                // With friends off the brain is told of none, and decides nothing about any.
                if let Some(friends) = &network.friends {
                    friends.order(order);
                }
            }
            Output::Listed(swarm, addr, on) => {
                network.outbox.push(EngineEvent::Listed(swarm, addr, on));
            }
            Output::Save(book) => drop(network.book.send_replace(Some(book))),
            Output::Allow(bytes) => network.allow(bytes),
            Output::Note(note) => {
                count(&note);
                network.outbox.push(EngineEvent::Note(note));
            }
        }
    }
}

/// Every defence of the brain has a counter.
fn count(note: &Note) {
    match note {
        Note::NotDialled(addr, defence) => {
            tracing::debug!(%addr, ?defence, "not dialled");
            metrics::counter!("btslave_defence_total", "defence" => format!("{defence:?}"))
                .increment(1);
        }
        Note::Fired(conn, defence) => {
            tracing::debug!(conn = conn.0, ?defence, "defence");
            metrics::counter!("btslave_defence_total", "defence" => format!("{defence:?}"))
                .increment(1);
        }
        Note::Banned(swarm, addr) => {
            tracing::debug!(swarm = swarm.0, %addr, "banned for bad data");
            metrics::counter!("btslave_banned_total").increment(1);
        }
        Note::Wasted(_, bytes) => metrics::counter!("btslave_wasted_bytes_total").increment(*bytes),
        Note::Friends(FriendsNote::Fired(friend, why)) => {
            tracing::debug!(friend = friend.0, ?why, "defence");
            metrics::counter!("btslave_friend_defence_total", "defence" => why.name()).increment(1);
        }
        Note::Friends(_)
        | Note::Joined(..)
        | Note::Left(..)
        | Note::MasterFound(..)
        | Note::TooBig(..) => {}
        Note::QuotaSpent(spent) => {
            metrics::gauge!("btslave_quota_spent").set(f64::from(u8::from(*spent)))
        }
    }
}
