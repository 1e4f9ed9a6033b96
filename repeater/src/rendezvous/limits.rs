//! How much one network may ask of an announce URL.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarm_core::policy::rendezvous::network;

/// Connections of one /24 (IPv6: /56) at a time.
const SEATS: usize = 8;
/// Requests of one network within [`WINDOW`].
const REQUESTS: u32 = 120;
const WINDOW: Duration = Duration::from_secs(600);
/// Networks counted at a time.
const NETWORKS: usize = 4096;

/// Requests of each network in its present window.
#[derive(Debug, Default)]
pub(super) struct Requests(BTreeMap<[u8; 8], (Instant, u32)>);

impl Requests {
    /// Counts a request; false: it is over the limit.
    //= spec/rendezvous.md#rv-flood
    pub(super) fn take(&mut self, now: Instant, from: IpAddr) -> bool {
        let network = network(from.to_canonical());
        if self.0.len() >= NETWORKS && !self.0.contains_key(&network) {
            self.0.retain(|_, (since, _)| now - *since < WINDOW);
            if self.0.len() >= NETWORKS {
                return false;
            }
        }
        let (since, count) = self.0.entry(network).or_insert((now, 0));
        if now - *since >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= REQUESTS
    }
}

/// Connections of each network.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats(Arc<Mutex<BTreeMap<[u8; 8], usize>>>);

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    network: [u8; 8],
}

impl Seats {
    pub(super) fn take(&self, from: IpAddr) -> Option<Seat> {
        let network = network(from.to_canonical());
        let mut taken = self.0.lock();
        let count = taken.entry(network).or_default();
        if *count >= SEATS {
            return None;
        }
        *count += 1;
        Some(Seat {
            seats: self.clone(),
            network,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    //= spec/rendezvous.md#rv-flood
    #[test]
    fn a_network_has_its_requests_and_others_have_theirs() {
        let (mut requests, now) = (Requests::default(), Instant::now());
        let granted = (0..200)
            .filter(|_| requests.take(now, ip("1.1.1.1")))
            .count();
        assert_eq!(granted, 120);
        assert!(!requests.take(now + WINDOW - Duration::from_secs(1), ip("1.1.1.2")));
        assert!(requests.take(now, ip("1.1.2.1")));
        assert!(!requests.take(now, ip("::ffff:1.1.1.9")));
        assert!(requests.take(now + WINDOW, ip("1.1.1.2")));
    }

    #[test]
    fn the_table_is_bounded_and_old_networks_make_room() {
        let (mut requests, now) = (Requests::default(), Instant::now());
        for n in 0..5000_u32 {
            requests.take(now, IpAddr::from((n << 8).to_be_bytes()));
        }
        assert_eq!(requests.0.len(), NETWORKS);
        assert!(!requests.take(now, ip("200.1.1.1")));
        assert!(requests.take(now + WINDOW, ip("200.1.1.1")));
        assert_eq!(requests.0.len(), 1);
    }

    #[test]
    fn seats_are_given_back() {
        let seats = Seats::default();
        let taken: Vec<Seat> = (0..20).filter_map(|_| seats.take(ip("1.1.1.1"))).collect();
        assert_eq!(taken.len(), SEATS);
        assert!(seats.take(ip("1.1.1.99")).is_none() && seats.take(ip("1.1.9.1")).is_some());
        drop(taken);
        assert!(seats.take(ip("1.1.1.1")).is_some());
        assert!(seats.0.lock().is_empty());
    }
}
