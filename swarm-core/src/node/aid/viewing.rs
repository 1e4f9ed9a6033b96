//! What people see of help.

use crate::node::Node;
use crate::view::{AidView, FriendView, HelpState, HelpView};

use super::asking::Stage;

pub(in crate::node) fn view(node: &Node) -> AidView {
    let aid = &node.aid;
    let friends = aid.friends.iter().map(|(id, friend)| FriendView {
        id: *id,
        nearness: friend.nearness,
        online: friend.online.is_some(),
        standing: friend.standing,
        unsigned_bytes: friend.unsigned,
    });
    let asked = aid.asked.iter().map(|(key, asked)| HelpView {
        friend: key.0,
        id: key.1,
        swarm: Some(asked.swarm),
        given: false,
        state: match asked.stage {
            Stage::Waiting => HelpState::Asked,
            Stage::Running => HelpState::Running,
            Stage::Closing(_) => HelpState::Ending,
        },
        reserved_pieces: u32::try_from(asked.loan.reserved.len()).unwrap_or(u32::MAX),
        claimed_bytes: asked.credit.claims(),
        signed_bytes: asked.credit.credited(),
        turn: None,
    });
    let given = aid.helps.iter().map(|(key, help)| HelpView {
        friend: key.0,
        id: key.1,
        swarm: help.swarm,
        given: true,
        state: if help.begun.is_some() {
            HelpState::Running
        } else {
            HelpState::Offered
        },
        reserved_pieces: help
            .swarm
            .and_then(|id| node.swarms.get(&id)?.aid.given.get(key))
            .map_or(0, |e| u32::try_from(e.pieces.len()).unwrap_or(u32::MAX)),
        claimed_bytes: help.served.delivered,
        signed_bytes: help.served.signed,
        turn: help.served.turn,
    });
    AidView {
        friends: friends.collect(),
        helps: asked.chain(given).collect(),
        wishes: node.wish_views(),
        needs: node.need_views(),
        pool_bytes: aid.pool.level(),
    }
}
