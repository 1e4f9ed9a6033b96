//! The snapshot that people see.

use crate::io::{Hold, Role, SwarmId};
use crate::node::Node;
use crate::node::masters::Master;
use crate::peer::{Class, Peer};
use crate::swarm::{Stage, Standing, Swarm};
use crate::time::Timestamp;
use crate::view::{CacheView, MasterState, MasterView, NodeView, PeerView, SwarmState, SwarmView};
use std::collections::BTreeMap;

pub(crate) fn view(node: &Node) -> NodeView {
    let desk = &node.desk;
    let held: u32 = node.swarms.values().map(|swarm| swarm.held).sum();
    NodeView {
        paused: desk.paused,
        month: node.quota.view(desk),
        upload_limit_bps: desk.rates().0,
        download_limit_bps: desk.rates().1,
        uploaded_bytes: desk.up.total,
        downloaded_bytes: desk.down.total,
        wasted_bytes: desk.wasted,
        upload_rate_bps: desk.up.rate as u64,
        download_rate_bps: desk.down.rate as u64,
        upload_capacity_bps: desk.capacity() as u64,
        connections: u32::try_from(node.conns.len()).unwrap_or(u32::MAX),
        cache: CacheView {
            limit_bytes: desk.params.limits.cache,
            used_bytes: desk.stock.used,
            peak_bytes: desk.stock.peak,
            pieces: held,
        },
        swarms: node
            .swarms
            .values()
            .filter(|swarm| !swarm.forgotten)
            .map(|s| swarm(s, desk.now))
            .collect(),
        masters: node
            .masters
            .iter()
            .map(|(id, m)| master(node, *id, m, &node.swarms))
            .collect(),
        aid: super::aid::view(node),
    }
}

fn swarm(swarm: &Swarm, now: Timestamp) -> SwarmView {
    let (need, terms) = swarm.need_terms();
    let state = match swarm.standing {
        Standing::Joined(_) => SwarmState::Joined,
        Standing::TooBig => SwarmState::TooBig,
        Standing::Out if swarm.rest_until > now => SwarmState::Resting,
        Standing::Out => SwarmState::Known,
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    SwarmView {
        id: swarm.id,
        info_hash: swarm.info_hash,
        name: swarm.name.clone(),
        state,
        need,
        need_terms: terms.to_vec(),
        origins: swarm.origins.iter().cloned().collect(),
        pinned: swarm.pinned,
        private: swarm.private,
        kept: swarm.hold == Hold::Kept,
        meeting: swarm.meeting_view(),
        total_pieces: swarm.layout.map(|layout| layout.piece_count),
        piece_length: swarm.layout.map(|layout| layout.piece_length),
        peers: count(swarm.peers.len()),
        interested_peers: count(swarm.peers.values().filter(|peer| peer.wants_us).count()),
        known_addresses: count(swarm.book.len()),
        held_pieces: swarm.held,
        fetching_pieces: count(
            swarm
                .active
                .values()
                .filter(|a| a.stage == Stage::Fetching)
                .count(),
        ),
        used_bytes: swarm.active.len() as u64 * swarm.permit(),
        uploaded_bytes: swarm.up.total,
        downloaded_bytes: swarm.down.total,
        to_master_bytes: swarm.to_master,
        wasted_bytes: swarm.wasted,
        peer_list: swarm.peers.values().map(peer).collect(),
    }
}

fn peer(peer: &Peer) -> PeerView {
    let flags = [
        (peer.incoming, 'I'),
        (peer.class == Class::Seed, 'S'),
        (peer.ext.repeater.is_some(), 'R'),
        (peer.unchoked, 'u'),
        (peer.wants_us, 'i'),
        (!peer.chokes_us, 'U'),
        (peer.interested, 'W'),
        (peer.ext.donthave, 'd'),
    ];
    PeerView {
        conn: peer.conn,
        addr: peer.addr,
        client: peer.ext.client.clone().unwrap_or_default(),
        master: if let Role::Master(id) = peer.role {
            Some(id)
        } else {
            None
        },
        flags: flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| *flag)
            .collect(),
        have_pieces: peer.have.count_ones(),
        up_rate_bps: peer.up.rate as u64,
        down_rate_bps: peer.down.rate as u64,
        uploaded_bytes: peer.up.total,
        downloaded_bytes: peer.down.total,
    }
}

fn master(
    node: &Node,
    id: crate::io::MasterId,
    master: &Master,
    swarms: &BTreeMap<SwarmId, Swarm>,
) -> MasterView {
    let missing = node.missing(id);
    let connected = swarms
        .values()
        .any(|swarm| swarm.links.get(&id).is_some_and(|link| link.conn.is_some()));
    let state = if master.addrs.is_empty() {
        MasterState::Unresolved
    } else if !connected {
        MasterState::Unreachable
    } else if missing == Some(0) {
        MasterState::Complete
    } else {
        MasterState::Connected
    };
    let sent = swarms
        .values()
        .filter_map(|swarm| swarm.links.get(&id))
        .map(|link| link.sent)
        .sum::<u64>();
    MasterView {
        id,
        name: master.name.clone(),
        addresses: master.addrs.clone(),
        state,
        share: master.share,
        missing_pieces: missing.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        to_master_bytes: master.sent_before.saturating_add(sent),
    }
}
