//! One connection.

use std::net::SocketAddr;
use std::sync::Arc;

use bt_wire::handshake::Handshake;

use super::{Network, Stream};
use crate::swarms::Swarm;

pub(super) async fn run(
    _network: Arc<Network>,
    _stream: Stream,
    _addr: SocketAddr,
    _incoming: bool,
    _swarm: Arc<Swarm>,
    _theirs: Handshake,
) {
}
