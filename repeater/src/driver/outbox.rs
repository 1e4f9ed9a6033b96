//! What the rest of the shell must carry out: coalesced, so the driver never waits for whoever reads it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bt_wire::address::Scope;
use bt_wire::ids::InfoHash;
use parking_lot::Mutex;
use swarm_core::io::{MasterId, Note, SwarmId};
use tokio::sync::Notify;

/// Events that may wait for their reader. Over it, notes give way first.
const MAX_EVENTS: usize = 8192;

/// News for trackers, store and people, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// Joined: announce it.
    Join(SwarmId),
    /// Left: `stopped` to its trackers.
    Leave(SwarmId),
    /// Nobody names it any more: forget what is stored about it. It is gone from the table already.
    Forget(SwarmId, InfoHash),
    /// Scrape its trackers.
    Scrape(SwarmId),
    /// Ask its trackers for more peers.
    WantPeers(SwarmId),
    /// What to announce as `left`, bytes.
    Left(SwarmId, u64),
    /// A magnet link's metadata arrived: [`crate::swarms::Swarm::torrent`] has it.
    MetadataReady(SwarmId),
    /// A friend's ask brought this swarm, with its metadata and perhaps trackers, over a connection of this scope: no
    /// tracker that is nearer is asked.
    Named(SwarmId, Scope),
    /// Tell this master, by its RPC, to dial a friend's slave there for this swarm.
    Invite(MasterId, SwarmId, SocketAddr),
    /// Look at this master's peers of this swarm once a second (`true`), or no longer.
    Watch(MasterId, SwarmId, bool),
    /// Our announce URL of this rendezvous names this endpoint (`true`), or names it no longer.
    Listed(SwarmId, SocketAddr, bool),
    /// Worth a log line.
    Note(Note),
}

/// The queue towards the reader.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<VecDeque<EngineEvent>>,
    notify: Notify,
}

impl Outbox {
    pub(crate) fn push(&self, event: EngineEvent) {
        let mut queue = self.queue.lock();
        match event {
            EngineEvent::Left(id, _) => {
                queue.retain(|old| !matches!(old, EngineEvent::Left(other, _) if *other == id))
            }
            EngineEvent::Scrape(_) | EngineEvent::WantPeers(_) => queue.retain(|old| *old != event),
            EngineEvent::Join(_)
            | EngineEvent::Leave(_)
            | EngineEvent::Forget(..)
            | EngineEvent::MetadataReady(_)
            | EngineEvent::Named(..)
            | EngineEvent::Invite(..)
            | EngineEvent::Watch(..)
            | EngineEvent::Listed(..)
            | EngineEvent::Note(_) => {}
        }
        if queue.len() >= MAX_EVENTS {
            metrics::counter!("btslave_events_lost_total").increment(1);
            let note = queue
                .iter()
                .position(|old| matches!(old, EngineEvent::Note(_)));
            match note {
                Some(at) => drop(queue.remove(at)),
                None if matches!(event, EngineEvent::Note(_)) => return,
                None => drop(queue.pop_front()),
            }
        }
        queue.push_back(event);
        drop(queue);
        self.notify.notify_one();
    }

    pub(crate) async fn next(&self) -> EngineEvent {
        loop {
            if let Some(event) = self.queue.lock().pop_front() {
                return event;
            }
            self.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn latest_figure_wins_and_joins_are_kept_in_order() {
        let outbox = Outbox::default();
        let id = SwarmId(1);
        for event in [
            EngineEvent::Join(id),
            EngineEvent::Left(id, 9),
            EngineEvent::Leave(id),
            EngineEvent::Left(id, 5),
            EngineEvent::Join(id),
        ] {
            outbox.push(event);
        }
        assert_eq!(outbox.next().await, EngineEvent::Join(id));
        assert_eq!(outbox.next().await, EngineEvent::Leave(id));
        assert_eq!(outbox.next().await, EngineEvent::Left(id, 5));
        assert_eq!(outbox.next().await, EngineEvent::Join(id));
    }
}
