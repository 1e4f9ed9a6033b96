//! The brain's notes in words, for the log.

use control_api::units::Size;
use swarm_core::io::friends::FriendsNote;
use swarm_core::io::{LeaveReason, Note, SwarmId};

use super::Shared;

fn reason(why: LeaveReason) -> &'static str {
    match why {
        LeaveReason::Asked => "nobody names it any more",
        LeaveReason::Paused => "paused",
        LeaveReason::Quota => "the month's quota is used up",
        LeaveReason::PoorReturn => "it returned too little",
        LeaveReason::Harm => "it gave us more in an hour than it got from us",
        LeaveReason::FeedCap => "its feed may not have so many",
        LeaveReason::Outranked => "another swarm needs us more",
        LeaveReason::NoDemand => "nobody there wants anything from us",
    }
}

impl Shared {
    fn swarm_name(&self, id: SwarmId) -> String {
        self.engine
            .swarms()
            .get(id)
            .map_or_else(|| format!("swarm {}", id.0), |swarm| swarm.name())
    }

    /// Words one note. Counters were moved where it arose.
    pub(super) fn tell(&self, note: &Note) {
        match note {
            Note::Joined(id, need) => {
                tracing::info!(name = %self.swarm_name(*id), need = format!("{need:.3}"), "joined")
            }
            Note::Left(id, why) => {
                tracing::info!(name = %self.swarm_name(*id), why = reason(*why), "left")
            }
            Note::MasterFound(id, _) => {
                tracing::info!(master = %self.master_name(*id), "a master is connected")
            }
            Note::TooBig(id, bytes) => tracing::warn!(
                name = %self.swarm_name(*id),
                needs = %control_api::units::Size(Some(*bytes)),
                "not joined: its pieces are too large for the cache; raise cache.size"
            ),
            Note::Banned(id, _) => {
                tracing::info!(name = %self.swarm_name(*id), "a peer was banned for bad data")
            }
            Note::Fired(conn, defence) => {
                tracing::debug!(conn = conn.0, ?defence, "a defence fired")
            }
            Note::Friends(note) => self.tell_help(note),
            Note::NotDialled(addr, defence) => tracing::trace!(%addr, ?defence, "not dialled"),
            Note::QuotaSpent(true) => tracing::warn!(
                "the month's quota is used up: everything stops until the next month; to go on, raise limits.month and reload"
            ),
            Note::QuotaSpent(false) => tracing::info!("there is quota again: going on"),
            Note::Wasted(id, bytes) => {
                tracing::debug!(name = %self.swarm_name(*id), bytes, "bytes nobody could use")
            }
        }
    }

    /// The story of a help: on either side asked, begun, arrived, over.
    fn tell_help(&self, note: &FriendsNote) {
        let name = |id| self.engine.friend_name(id);
        let size = |bytes: &u64| Size(Some(*bytes)).to_string();
        match note {
            FriendsNote::Asked(id, swarm) => {
                let (friend, what) = (name(*id), self.swarm_name(*swarm));
                tracing::info!("help: asked {friend} for {what}");
            }
            FriendsNote::Declined(id, why) => {
                tracing::info!("help: {} declined ({why:?})", name(*id))
            }
            FriendsNote::HelpBegins(id, swarm, rate) => {
                let (friend, what, rate) = (name(*id), self.swarm_name(*swarm), size(rate));
                tracing::info!("help: {friend} helps with {what}, at up to {rate}/s");
            }
            FriendsNote::HelpEnded(id, swarm, claimed, credited) => {
                let (friend, what) = (name(*id), self.swarm_name(*swarm));
                let (claimed, credited) = (size(claimed), size(credited));
                tracing::info!(
                    "help: {friend} is done with {what}; it says it gave {claimed}, we owe it {credited} of that"
                );
            }
            FriendsNote::WeDeclined(id, why) => {
                tracing::info!("help: {} asked, and we declined ({why:?})", name(*id))
            }
            FriendsNote::WeHelp(id, swarm) => {
                let (friend, what) = (name(*id), self.swarm_name(*swarm));
                tracing::info!("help: we help {friend} with {what}");
            }
            FriendsNote::WeHelped(id, gave, signed) => {
                let (friend, gave, signed) = (name(*id), size(gave), size(signed));
                tracing::info!(
                    "help: over for {friend}; we gave {gave}, and it signed for {signed}"
                );
            }
            FriendsNote::Arrived(id, swarm, from) => {
                let (friend, what) = (name(*id), self.swarm_name(*swarm));
                tracing::info!("help: {friend}'s line and the master met for {what}");
                tracing::debug!(%from, "the master's end");
            }
            FriendsNote::Fired(id, defence) => {
                tracing::debug!(friend = %name(*id), ?defence, "a defence fired")
            }
        }
    }
}
