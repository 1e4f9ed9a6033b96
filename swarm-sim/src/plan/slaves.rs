//! Slaves and their friends in a plan.

use serde::Deserialize;
use swarm_core::io::friends::FriendsMode;

use super::quantity::{bytes, maybe_bytes};
use super::{Plan, connections, four, half, one, yes};

/// Slaves of one make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlavePlan {
    /// What they are called.
    pub name: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// The line and `limits.upload`, bytes/s.
    #[serde(deserialize_with = "bytes")]
    pub up: u64,
    /// Down, bytes/s; absent: as fast as others send.
    #[serde(default, deserialize_with = "maybe_bytes")]
    pub down: Option<u64>,
    /// `cache.size`, bytes.
    #[serde(deserialize_with = "bytes")]
    pub cache: u64,
    /// `limits.connections`.
    #[serde(default = "connections")]
    pub connections: u32,
    /// `repeater.enabled`.
    #[serde(default = "yes")]
    pub repeat: bool,
    /// `repeater.max_swarms`.
    #[serde(default = "four")]
    pub max_swarms: u32,
    /// The group of leechers, as swarm.group, that are their masters: the first slave's is the first, and so on, from the
    /// start again where one of the lists is longer. Absent: they have none.
    pub master: Option<String>,
    /// `master.share`.
    #[serde(default = "half")]
    pub share: f64,
    /// Slaves of these makes are their friends.
    #[serde(default)]
    pub friends: Vec<String>,
    /// So many of those, at random, for each; absent: all.
    pub friends_each: Option<u32>,
    /// What they do.
    #[serde(default)]
    pub conduct: Conduct,
    /// Keys that one has to show, each one as a stranger's from a network of its own.
    #[serde(default = "one")]
    pub keys: u32,
}

/// What a slave's shell does with what its brain decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conduct {
    /// All of it.
    #[default]
    Honest,
    /// It asks for help, gives none and never signs.
    FreeRider,
    /// A free rider known to nobody: an acquaintance, that shows a fresh key as soon as it gets no more by the last.
    Whitewasher,
}

/// How friends help each other: `[friends]` of every slave, and how helpers and masters meet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FriendsPlan {
    /// `friends.mode`.
    pub mode: FriendsMode,
    /// `friends.window`, bytes.
    #[serde(deserialize_with = "bytes")]
    pub window: u64,
    /// `friends.credit`, bytes.
    #[serde(deserialize_with = "bytes")]
    pub credit: u64,
    /// `friends.open_pool`, bytes.
    #[serde(deserialize_with = "bytes")]
    pub open_pool: u64,
    /// How helpers and masters meet.
    pub meeting: Meeting,
}

impl Default for FriendsPlan {
    fn default() -> Self {
        Self {
            mode: FriendsMode::Known,
            window: 4 << 20,
            credit: 64 << 20,
            open_pool: 64 << 20,
            meeting: Meeting::default(),
        }
    }
}

/// How helpers and masters meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meeting {
    /// The masters' RPC can be told to dial, and shows bytes for each peer.
    #[default]
    Rpc,
    /// It only shows the bytes, and the masters speak `ut_pex`.
    Introduced,
    /// It only shows the bytes: helpers dial.
    Dialled,
    /// There is no RPC: slaves fetch from their friends and hand on.
    Relayed,
}

/// What is impossible in a plan's slaves.
pub(super) fn check(plan: &Plan) -> Option<String> {
    for slave in &plan.slave {
        let name = &slave.name;
        if slave.up == 0 {
            return Some(format!("slave {name}: it has a line"));
        }
        let known = |group: &String| {
            let named = group.split_once('.');
            named.is_some_and(|(swarm, group)| {
                let swarm = plan.swarm.iter().find(|s| s.name == swarm);
                swarm.is_some_and(|s| s.group.iter().any(|g| g.name == group))
            })
        };
        if slave.master.as_ref().is_some_and(|group| !known(group)) {
            return Some(format!("slave {name}: master names a group as swarm.group"));
        }
        let made = |other: &String| plan.slave.iter().any(|s| s.name == *other);
        if let Some(missing) = slave.friends.iter().find(|other| !made(other)) {
            return Some(format!("slave {name}: there is no slave {missing}"));
        }
    }
    None
}
