//! The part of a connection that may be a friend's.

use std::time::Duration;

use bt_wire::extension::{ExtendedHandshake, PexMessage};
use bytes::Bytes;
use friends_proto::recognition::Recognition;
use swarm_core::io::ConnFact;
use swarm_core::time::Timestamp;

use super::Conn;
use crate::aid::talk::{Link, Say, Talk};
use crate::net::Network;
use crate::swarms::Torrent;

/// What came for the talk.
#[derive(Debug)]
pub(super) enum Heard {
    Extended(Box<ExtendedHandshake>),
    Frame(Bytes),
    Say(Say),
}

/// The talk of a new connection. While the metadata is unknown a torrent may be private, and nothing is said; the
/// connection is replaced once it is known.
pub(super) fn talk(net: &Network, torrent: Option<&Torrent>, link: Link) -> Option<Talk> {
    let friends = net.friends.as_ref()?;
    let private = torrent.is_none_or(|torrent| torrent.meta.private);
    if friends.speaks(private) {
        Talk::new(friends, link)
    } else {
        None
    }
}

/// What their first extended handshake says of it: a slave speaks of friends, and shows a sound recognition field.
//= spec/rendezvous.md#rv-stranger
pub(super) fn slave(theirs: &ExtendedHandshake) -> Option<ConnFact> {
    theirs.m.bs_friends?;
    let field = Recognition::parse(theirs.bs_friends.as_deref()?)?;
    Some(ConnFact::Slave(field.is_open()))
}

/// The sessions' time, on the brain's clock.
pub(super) fn timestamp(at: Duration) -> Timestamp {
    Timestamp(u64::try_from(at.as_micros()).unwrap_or(u64::MAX))
}

impl Conn {
    /// Hands what came to the talk; true if something is to be sent. After the facts have gone, so that the brain knows
    /// the connection first.
    pub(super) async fn talk(&mut self) -> bool {
        let Some(talk) = &mut self.talk else {
            self.heard.clear();
            return false;
        };
        let now = Duration::from_micros(self.net.clock.now().0);
        let mut out = Vec::new();
        while let Some(heard) = self.heard.pop_front() {
            match heard {
                Heard::Extended(theirs) => talk.extended(now, &theirs, &mut out).await,
                Heard::Frame(frame) => talk.frame(now, &frame, &mut out).await,
                Heard::Say(say) => talk.say(now, say, &mut out).await,
            }
        }
        if talk.deadline().is_some_and(|at| at <= now) {
            talk.tick(now, &mut out).await;
        }
        let spoke = !out.is_empty();
        self.send_extended(out);
        spoke
    }

    /// Tells our master of helpers.
    pub(super) fn introduce(&mut self, message: &PexMessage) {
        let closed = self.swarm.is_private() || !self.net.pex;
        let introduction = self.pex.introduction(closed, message);
        self.send_extended(introduction);
    }

    pub(super) fn send_extended(&mut self, payloads: impl IntoIterator<Item = (u8, Bytes)>) {
        for (id, payload) in payloads {
            self.session.send_extended(id, payload);
        }
    }
}
