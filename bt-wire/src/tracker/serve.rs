//! The other side of an announce: what a tracker reads, and what it answers (BEP 3, 7, 23).

use std::net::SocketAddr;
use std::time::Duration;

use percent_encoding::percent_decode;

use crate::address::encode_compact;
use crate::bencode::Item;
use crate::ids::InfoHash;

/// Longest query read, in bytes.
pub const MAX_QUERY: usize = 2048;

/// What a tracker needs of an announce. Everything else in it, an address above all, is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Where the sender says it listens; not 0.
    pub port: u16,
    /// `event` is `stopped`.
    pub stopped: bool,
    /// Peers wanted; none = not said.
    pub numwant: Option<u32>,
}

/// No announce. The text goes back as `failure reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAnnounce {
    /// Over [`MAX_QUERY`].
    #[error("the query is too long")]
    TooLong,
    /// None, or not 20 bytes.
    #[error("no info_hash of 20 bytes")]
    InfoHash,
    /// None, or out of range.
    #[error("no port from 1 to 65535")]
    Port,
}

impl Announced {
    /// Reads the query of a GET, without its `?`. Of a key that stands twice the first counts.
    ///
    /// # Errors
    /// What is missing, or out of its range.
    pub fn parse(query: &str) -> Result<Self, NotAnAnnounce> {
        if query.len() > MAX_QUERY {
            return Err(NotAnAnnounce::TooLong);
        }
        let field = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let hash: Option<Vec<u8>> =
            field("info_hash").map(|value| percent_decode(value.as_bytes()).collect());
        let hash = hash.and_then(|hash| <[u8; 20]>::try_from(hash).ok());
        let port = field("port").and_then(|port| port.parse().ok());
        Ok(Self {
            info_hash: hash.map(InfoHash).ok_or(NotAnAnnounce::InfoHash)?,
            port: port.filter(|port| *port > 0).ok_or(NotAnAnnounce::Port)?,
            stopped: field("event") == Some("stopped"),
            numwant: field("numwant").and_then(|count| count.parse().ok()),
        })
    }
}

/// The answer to an announce, peers in the compact form.
#[must_use]
pub fn announce_answer(interval: Duration, peers: &[SocketAddr]) -> Vec<u8> {
    let compact = |v4: bool| {
        let mut bytes = Vec::new();
        let family = peers.iter().filter(|peer| peer.is_ipv4() == v4);
        family.for_each(|peer| encode_compact(*peer, &mut bytes));
        bytes
    };
    let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
    let mut entries = vec![
        ("interval", Item::Int(seconds)),
        ("peers", Item::bytes(compact(true))),
    ];
    let six = compact(false);
    if !six.is_empty() {
        entries.push(("peers6", Item::bytes(six)));
    }
    Item::dict(entries).encode()
}

/// An answer that says no.
#[must_use]
pub fn announce_failure(reason: &str) -> Vec<u8> {
    Item::dict([("failure reason", Item::from(reason))]).encode()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::PeerId;
    use crate::tracker::{AnnounceRequest, AnnounceResponse, Event, TrackerError};

    proptest! {
        #[test]
        fn our_own_announces_are_read(hash: [u8; 20], id: [u8; 20], port in 1u16.., stopped: bool, want: Option<u32>) {
            let request = AnnounceRequest {
                info_hash: InfoHash(hash),
                peer_id: PeerId(id),
                port,
                uploaded: 1,
                downloaded: 2,
                left: 3,
                event: if stopped { Event::Stopped } else { Event::Started },
                numwant: want,
                key: Some(7),
                tracker_id: None,
                ipv6: Some(std::net::Ipv6Addr::LOCALHOST),
            };
            let read = Announced { info_hash: InfoHash(hash), port, stopped, numwant: want };
            prop_assert_eq!(Announced::parse(&request.query()), Ok(read));
        }

        #[test]
        fn answers_are_read_by_our_own_client(v4: Vec<(u32, u16)>, v6: Vec<(u128, u16)>) {
            let four = v4.into_iter().take(30).map(|(ip, port)| SocketAddr::new(std::net::Ipv4Addr::from(ip).into(), port));
            let six = v6.into_iter().take(20).map(|(ip, port)| SocketAddr::new(std::net::Ipv6Addr::from(ip).into(), port));
            let six = six.filter(|peer| peer.ip().to_canonical().is_ipv6());
            let peers: Vec<SocketAddr> = four.chain(six).collect();
            let answer = announce_answer(Duration::from_secs(1800), &peers);
            let read = AnnounceResponse::parse(&answer).expect("sound");
            prop_assert_eq!(read.interval, Duration::from_secs(1800));
            let named: Vec<SocketAddr> = read.peers.iter().map(|peer| peer.addr).collect();
            prop_assert_eq!(named, peers);
        }

        #[test]
        fn any_query_is_read_or_refused(query in "(info_hash|port|event|numwant|ip|&|=|%[0-9a-f]{2}|.){0,200}") {
            if let Ok(read) = Announced::parse(&query) {
                prop_assert!(read.port > 0);
            }
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let hash = "%00".repeat(20);
        let cases = [
            ("port=6881".to_owned(), NotAnAnnounce::InfoHash),
            (
                "info_hash=abc&port=6881".to_owned(),
                NotAnAnnounce::InfoHash,
            ),
            (format!("info_hash={hash}"), NotAnAnnounce::Port),
            (format!("info_hash={hash}&port=0"), NotAnAnnounce::Port),
            (format!("info_hash={hash}&port=65536"), NotAnAnnounce::Port),
            ("a".repeat(MAX_QUERY + 1), NotAnAnnounce::TooLong),
        ];
        for (query, why) in cases {
            assert_eq!(Announced::parse(&query), Err(why), "{query}");
        }
    }

    #[test]
    fn a_failure_is_one() {
        let answer = AnnounceResponse::parse(&announce_failure("not here"));
        assert!(
            matches!(answer, Err(TrackerError::Failure { reason, .. }) if reason == "not here")
        );
    }
}
