//! Looking for friends where their codes say they may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_wire::address::{AddressSource, Scope, dialable};
use friends_proto::friend_code::{Hint, Host};
use friends_proto::recognition::Known;

use super::Desk;
use crate::aid::count_defence;
use crate::net::Network;

/// Between two tries at one friend; it doubles while nobody answers.
const FIRST: Duration = Duration::from_secs(15);
/// Up to this.
const LAST: Duration = Duration::from_secs(600);

/// When a friend is looked for next.
#[derive(Debug, Default)]
pub(super) struct Seek {
    next: Option<Instant>,
    pause: Option<Duration>,
}

impl Seek {
    /// It is there. Once it is gone it is looked for without delay.
    pub(super) fn found(&mut self) {
        *self = Self::default();
    }

    fn is_due(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| next > now) {
            return false;
        }
        let pause = self.pause.map_or(FIRST, |pause| (pause * 2).min(LAST));
        self.pause = Some(pause);
        self.next = Some(now + pause);
        true
    }
}

impl Desk {
    /// Friends without a session, and with hints, are looked for at those, on the home of the pair.
    pub(super) fn seek(&mut self) {
        if self.friends.is_off() {
            return;
        }
        let now = Instant::now();
        let known = Arc::clone(&self.friends.known.read());
        for person in self.people.values_mut() {
            if person.current.is_some() || person.hints.is_empty() || !person.seek.is_due(now) {
                continue;
            }
            let Some(friend) = known.iter().find(|known| known.key == person.key) else {
                continue;
            };
            let task = look(Arc::clone(&self.net), friend.clone(), person.hints.clone());
            self.net.tasks.spawn(task);
        }
    }
}

async fn look(net: Arc<Network>, friend: Known, hints: Vec<Hint>) {
    // What anybody may have written into a code may name no address nearer than where we listen.
    let listen = net.listen_addrs().iter();
    let nearest = listen.filter_map(|addr| Scope::of(addr.ip())).min();
    let by = nearest.unwrap_or(Scope::Global);
    for hint in hints {
        let found: Vec<SocketAddr> = match hint.host() {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, hint.port())],
            Host::Name(name) => tokio::select! {
                () = net.stop.cancelled() => return,
                found = tokio::net::lookup_host((name.as_str(), hint.port())) => {
                    found.map(Iterator::collect).unwrap_or_default()
                }
            },
        };
        for addr in found {
            if let Err(why) = dialable(addr, AddressSource::Named { by }) {
                tracing::debug!(%addr, ?why, "a friend's hint is not dialled");
                count_defence("HintRefused");
                continue;
            }
            if Arc::clone(&net).seek_friend(&friend, addr).await {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_friend_is_looked_for_ever_more_rarely_until_it_is_found() {
        let (mut seek, start) = (Seek::default(), Instant::now());
        let mut tries = Vec::new();
        for second in 0..4000 {
            if seek.is_due(start + Duration::from_secs(second)) {
                tries.push(second);
            }
        }
        assert_eq!(tries[..4], [0, 15, 45, 105]);
        assert_eq!(
            tries.last(),
            tries[tries.len() - 2..].first().map(|at| at + 600).as_ref()
        );
        seek.found();
        assert!(seek.is_due(start));
    }

    #[test]
    fn a_wildcard_has_no_scope() {
        assert_eq!(Scope::of(std::net::Ipv4Addr::UNSPECIFIED.into()), None);
    }
}
