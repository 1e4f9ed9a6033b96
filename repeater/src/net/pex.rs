//! `ut_pex` (BEP 11), and only in public swarms. What is sent is friends' introductions to our master, as the brain orders.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bt_wire::address::{AddressSource, Scope, canonical, dialable};
use bt_wire::extension::PexMessage;
use bytes::Bytes;

/// A peer may tell once a minute; a little less, for clocks that differ.
const INTERVAL: Duration = Duration::from_secs(50);

/// What a connection does about peer exchange.
#[derive(Debug, Default)]
pub(super) struct Pex {
    last: Option<Instant>,
    /// Their id for it.
    theirs: Option<u8>,
}

impl Pex {
    /// Their extended handshake; what a later one leaves out stays as it was.
    pub(super) fn extended(&mut self, id: Option<u8>) {
        self.theirs = id.or(self.theirs);
    }

    /// Their id and the payload, if this may be said in a swarm that is `private`.
    //= spec/friends.md#pex-public
    //= spec/friends.md#pex-spoken
    pub(super) fn introduction(&self, private: bool, message: &PexMessage) -> Option<(u8, Bytes)> {
        let id = self.theirs.filter(|_| !private)?;
        Some((id, message.encode().into()))
    }

    /// The addresses of a message that may be dialled (row C10).
    pub(super) fn on_message(
        &mut self,
        now: Instant,
        by: IpAddr,
        private: bool,
        message: &PexMessage,
    ) -> Vec<SocketAddr> {
        let ignored = |reason| metrics::counter!("btslave_pex_ignored_total", "reason" => reason);
        if private {
            ignored("private").increment(1);
            return Vec::new();
        }
        if self.last.is_some_and(|last| now - last < INTERVAL) {
            ignored("too_often").increment(1);
            return Vec::new();
        }
        self.last = Some(now);
        ignored("too_many").increment(message.ignored as u64);
        let Some(by) = Scope::of(by) else {
            return Vec::new();
        };
        let named = AddressSource::Named { by };
        let (good, bad): (Vec<_>, Vec<_>) = message
            .added
            .iter()
            .map(|peer| canonical(peer.addr))
            .partition(|addr| dialable(*addr, named).is_ok());
        ignored("address").increment(bad.len() as u64);
        good
    }
}

#[cfg(test)]
mod tests {
    use bt_wire::extension::PexPeer;

    use super::*;

    //= spec/friends.md#pex-spoken
    //= spec/friends.md#pex-public
    #[test]
    fn who_does_not_speak_it_or_shares_a_private_torrent_hears_nothing() {
        let message = PexMessage::default();
        let mut pex = Pex::default();
        assert_eq!(pex.introduction(false, &message), None);
        pex.extended(None);
        assert_eq!(pex.introduction(false, &message), None);
        pex.extended(Some(7));
        let told = (7, Bytes::from(message.encode()));
        assert_eq!(pex.introduction(false, &message), Some(told));
        assert_eq!(pex.introduction(true, &message), None);
    }

    #[test]
    fn c10_pex_is_rated_scoped_and_never_private() {
        let peer = |addr: &str| PexPeer {
            addr: addr.parse().expect("an address"),
            flags: 0,
        };
        let added = vec![
            peer("1.1.1.1:6881"),
            peer("127.0.0.1:6881"),
            peer("1.1.1.1:22"),
            peer("10.0.0.1:6881"),
        ];
        let message = PexMessage {
            added,
            ..PexMessage::default()
        };
        let (mut pex, now) = (Pex::default(), Instant::now());
        let by: IpAddr = "8.8.8.8".parse().expect("an address");
        assert!(pex.on_message(now, by, true, &message).is_empty());
        assert_eq!(
            pex.on_message(now, by, false, &message),
            ["1.1.1.1:6881".parse().expect("an address")]
        );
        assert!(
            pex.on_message(now + Duration::from_secs(49), by, false, &message)
                .is_empty()
        );
        assert_eq!(
            pex.on_message(now + Duration::from_secs(51), by, false, &message)
                .len(),
            1
        );
    }
}
