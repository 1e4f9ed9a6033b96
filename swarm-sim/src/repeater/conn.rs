//! One connection of a repeater: the daemon's own `Session`, its words turned into the run's and back.

use std::collections::BTreeMap;

use bt_wire::extension::{
    ExtendedHandshake, ExtensionIds, HANDSHAKE, LT_DONTHAVE, LtDontHave, UT_PEX,
};
use bt_wire::layout::BLOCK;
use bt_wire::message::{BlockRef, Message};
use bytes::Bytes;
use swarm_core::io::{CloseReason, ConnFact, ConnId, Input};
use swarm_core::session::{BlockVerdict, Session, SessionConfig, SessionLimits};

use super::cache::Arrival;
use super::{address, class, peer_id, swarm_id};
use crate::bits;
use crate::events::{Block, Event, Msg, Time};
use crate::plan::Meeting;
use crate::world::World;

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) end: u32,
    pub(crate) swarm: u32,
    pub(crate) session: Session,
    /// Bytes that the bucket tree granted, and that it was asked for.
    pub(crate) granted: u32,
    pub(crate) asked: u32,
    /// Facts that only the driver can know.
    pub(crate) facts: Vec<ConnFact>,
    /// When it is next looked at without anything happening to it.
    pub(crate) wake: Option<Time>,
    /// Bytes that went out of blocks longer than 16 KiB.
    pub(crate) parts: BTreeMap<u32, u64>,
    pub(crate) dirty: bool,
    /// Whose help it is, by the friend's key, where help goes this way.
    pub(crate) guest: Option<u32>,
}

impl World {
    /// A connection of a repeater begins: what the other is, says and shows is heard at once.
    pub(crate) fn repeater_connected(&mut self, node: u32, end: u32, incoming: bool) {
        let other = self.other(end);
        let swarm = self.ends[end as usize].swarm;
        let now = self.timestamp();
        let cfg = SessionConfig {
            layout: Some(self.swarms[swarm as usize].layout),
            fast: true,
            extended: true,
            hello: hello(true, None, false),
            limits: SessionLimits::default(),
        };
        let mut session = Session::new(cfg, now);
        let connected = ConnFact::Connected {
            swarm: swarm_id(swarm),
            addr: address(other),
            incoming,
            peer_id: peer_id(other, self.is_repeater(other)),
            fast: true,
            extended: true,
        };
        let allowed = self.allowed(node, swarm);
        for message in self.introduction(other, allowed) {
            // Our own words: they break no protocol.
            let _ = session.on_message(now, message);
        }
        let repeater = self.repeater_mut(node);
        let id = u32::try_from(repeater.conns.len()).unwrap_or(u32::MAX);
        repeater
            .tree
            .insert(ConnId(id.into()), class(), swarm_id(swarm));
        repeater.conns.push(Some(Box::new(Conn {
            end,
            swarm,
            session,
            granted: 0,
            asked: 0,
            facts: vec![connected],
            wake: None,
            parts: BTreeMap::new(),
            dirty: true,
            guest: None,
        })));
        repeater.dirty.push(id);
        self.ends[end as usize].conn = id;
        if self.is_repeater(other) {
            self.recognise(node, other, id);
        }
        self.events.after(0, Event::Timer(node));
    }

    /// What a node says first.
    fn introduction(&self, node: u32, allowed: Vec<u32>) -> Vec<Message> {
        if self.is_repeater(node) {
            return vec![extended(&hello(true, None, false)), Message::HaveNone];
        }
        let peer = &self.peers[node as usize];
        let pieces = self.swarms[peer.swarm as usize].pieces;
        let set = match peer.count {
            0 => Message::HaveNone,
            count if count == pieces => Message::HaveAll,
            _ => Message::Bitfield(bits::to_wire(&peer.have, pieces).into()),
        };
        let habits = peer.habits;
        let pex = self.plan.friends.meeting == Meeting::Introduced;
        let hello = extended(&hello(habits.donthave, Some(habits.reqq), pex));
        let allowed = allowed.into_iter().map(Message::AllowedFast);
        [hello, set].into_iter().chain(allowed).collect()
    }

    pub(crate) fn repeater_disconnected(&mut self, node: u32, end: u32, ours: bool) {
        let id = self.ends[end as usize].conn;
        let repeater = self.repeater_mut(node);
        let Some(mut conn) = repeater.conns[id as usize].take() else {
            return;
        };
        let mut facts = core::mem::take(&mut conn.facts);
        facts.extend(conn.session.take_facts());
        facts.push(ConnFact::Closed(if ours {
            CloseReason::Ours
        } else {
            CloseReason::Remote
        }));
        let conn = ConnId(id.into());
        repeater.tree.remove(conn);
        repeater.inputs.push_back(Input::Conn(conn, facts));
        self.events.after(0, Event::Timer(node));
    }

    /// A message arrives at a repeater.
    pub(crate) fn repeater_hears(&mut self, node: u32, end: u32, msg: Msg) {
        let id = self.ends[end as usize].conn;
        let message = match msg {
            Msg::Choke => Message::Choke,
            Msg::Unchoke => Message::Unchoke,
            Msg::Interested => Message::Interested,
            Msg::NotInterested => Message::NotInterested,
            Msg::Have(piece) => Message::Have(piece),
            Msg::DontHave(piece) => Message::Extended {
                id: LT_DONTHAVE,
                payload: Bytes::copy_from_slice(&LtDontHave { piece }.encode()),
            },
            Msg::Request(block) => return self.repeater_asked(node, end, id, block),
            Msg::Cancel(block) => {
                for part in self.parts(end ^ 1, block) {
                    self.session_hears(node, id, Message::Cancel(part));
                }
                return self.turn(node);
            }
            Msg::Reject(block) => {
                let parts = self.parts(end, block);
                parts
                    .into_iter()
                    .next()
                    .map_or(Message::KeepAlive, Message::Reject)
            }
            Msg::Data(block) => return self.repeater_gets(node, end, id, block, false),
            Msg::Poison(block) => return self.repeater_gets(node, end, id, block, true),
        };
        self.session_hears(node, id, message);
        self.turn(node);
    }

    fn session_hears(&mut self, node: u32, id: u32, message: Message) {
        let now = self.timestamp();
        let repeater = self.repeater_mut(node);
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return;
        };
        let end = conn.end;
        let broken = conn.session.on_message(now, message).is_err();
        repeater.touch(id);
        if broken {
            self.disconnect(end, node);
        }
    }

    /// A block in the length that its asker uses, as blocks of 16 KiB.
    fn parts(&self, asker: u32, block: Block) -> Vec<BlockRef> {
        let unit = self.ends[asker as usize].unit;
        let begin = u64::from(block.index()) * unit;
        let end = begin + self.block_len(asker, block);
        (begin..end)
            .step_by(BLOCK as usize)
            .map(|at| BlockRef {
                piece: block.piece(),
                begin: at as u32,
                length: (end - at).min(BLOCK.into()) as u32,
            })
            .collect()
    }

    fn repeater_asked(&mut self, node: u32, end: u32, id: u32, block: Block) {
        for part in self.parts(end ^ 1, block) {
            self.session_hears(node, id, Message::Request(part));
        }
        self.turn(node);
    }

    /// A block arrives at a repeater.
    fn repeater_gets(&mut self, node: u32, end: u32, id: u32, block: Block, poison: bool) {
        let now = self.timestamp();
        let bytes = self.block_len(end, block);
        self.landed(end, bytes);
        let swarm = self.ends[end as usize].swarm;
        let Some(at) = self.parts(end, block).first().copied() else {
            return;
        };
        let repeater = self.repeater_mut(node);
        repeater.got += bytes;
        repeater.by_swarm.entry(swarm).or_default().1 += bytes;
        let Some(conn) = repeater.conns[id as usize].as_mut() else {
            return;
        };
        let verdict = conn.session.on_block(now, at);
        repeater.touch(id);
        match verdict {
            Ok(BlockVerdict::Wanted) => {
                let key = (swarm, block.piece());
                let from = ConnId(id.into());
                let arrival = repeater.cache.arrived(key, block.index(), from, poison);
                if let Arrival::Complete(ok, contributors, announce) = arrival {
                    self.repeater_checked(node, key, ok, contributors, &announce);
                }
            }
            Ok(BlockVerdict::Redundant) => repeater.wasted += bytes,
            Err(_) => self.disconnect(end, node),
        }
        self.turn(node);
    }
}

fn hello(donthave: bool, reqq: Option<u32>, pex: bool) -> ExtendedHandshake {
    ExtendedHandshake {
        m: ExtensionIds {
            ut_pex: pex.then_some(UT_PEX),
            lt_donthave: donthave.then_some(LT_DONTHAVE),
            ..ExtensionIds::default()
        },
        p: Some(super::PORT),
        reqq,
        bs_repeater: reqq.is_none().then_some(1),
        ..ExtendedHandshake::default()
    }
}

fn extended(hello: &ExtendedHandshake) -> Message {
    Message::Extended {
        id: HANDSHAKE,
        payload: hello.encode().into(),
    }
}
