//! The brain's notes in words, for the log.

use swarm_core::io::{LeaveReason, Note, SwarmId};

use super::Shared;

fn reason(why: LeaveReason) -> &'static str {
    match why {
        LeaveReason::Asked => "nobody names it any more",
        LeaveReason::Paused => "paused",
        LeaveReason::Quota => "the month's quota is used up",
        LeaveReason::PoorReturn => "it returned too little",
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
            Note::Friends(note) => tracing::debug!(?note, "friends"),
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
}
