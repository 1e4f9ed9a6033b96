//! The brain's notes in words, for the log.

use bt_wire::ids::InfoHash;
use control_api::units::human_bytes;
use swarm_core::io::friends::{FriendId, FriendsNote};
use swarm_core::io::{LeaveReason, Note, SwarmId};
use swarm_core::policy::help::Decline;

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

    /// The story of a help: on either side asked, begun, met, over.
    fn tell_help(&self, note: &FriendsNote) {
        if let FriendsNote::Fired(id, defence) = note {
            let friend = self.engine.friend_name(*id);
            return tracing::debug!(%friend, ?defence, "a defence fired");
        }
        if let FriendsNote::Arrived(_, _, from) = note {
            tracing::debug!(%from, "the master's end");
        }
        let torrent = |hash: &[u8; 20]| {
            let swarm = self.engine.find(InfoHash(*hash));
            swarm.map_or_else(|| InfoHash(*hash).to_string(), |swarm| swarm.name())
        };
        let names = Names {
            friend: &|id| self.engine.friend_name(id),
            swarm: &|id| self.swarm_name(id),
            torrent: &torrent,
        };
        if let Some(line) = story(note, &names) {
            tracing::info!("help: {line}");
        }
    }
}

/// How people call things.
struct Names<'n> {
    friend: &'n dyn Fn(FriendId) -> String,
    swarm: &'n dyn Fn(SwarmId) -> String,
    torrent: &'n dyn Fn(&[u8; 20]) -> String,
}

fn declined(why: Decline) -> &'static str {
    match why {
        Decline::Busy => "its line is in use",
        Decline::Disputed => "too much was left unsigned",
        Decline::Pool => "nothing is left for acquaintances",
        Decline::TooBig => "no room for a piece",
        Decline::Private => "the torrent is private",
        Decline::Off => "it does not want to",
        Decline::Limit => "it helps as many as it can",
        Decline::Invalid => "it cannot help with this",
    }
}

/// One line of the story; none of what is no part of it.
fn story(note: &FriendsNote, names: &Names<'_>) -> Option<String> {
    let (friend, swarm) = (names.friend, names.swarm);
    let size = |bytes: u64| human_bytes(bytes);
    Some(match note {
        FriendsNote::Asked(id, what) => format!("asked {} for {}", friend(*id), swarm(*what)),
        FriendsNote::Declined(id, why) => format!("{} declined: {}", friend(*id), declined(*why)),
        FriendsNote::HelpBegins(id, what, rate) => {
            let (who, what) = (friend(*id), swarm(*what));
            format!("{who} helps with {what}, at up to {}/s", size(*rate))
        }
        FriendsNote::HelpEnded(id, what, claimed, credited) => format!(
            "{} is done with {}; it says it gave {}, and is credited {}",
            friend(*id),
            swarm(*what),
            size(*claimed),
            size(*credited)
        ),
        FriendsNote::WeOffer(id, wanted, rate) => format!(
            "{} asks for {}; we offer up to {}/s",
            friend(*id),
            size(*wanted),
            size(*rate)
        ),
        FriendsNote::WeDeclined(id, why) => {
            format!(
                "{} asked, and we declined: {}",
                friend(*id),
                we_declined(*why)
            )
        }
        FriendsNote::WeHelp(id, what) => format!("we help {} with {}", friend(*id), swarm(*what)),
        FriendsNote::WeHelped(id, gave, signed) => format!(
            "over for {}; we gave {}, and it signed for {}",
            friend(*id),
            size(*gave),
            size(*signed)
        ),
        FriendsNote::Arrived(id, what, _) => {
            format!("the master and {} met for {}", friend(*id), swarm(*what))
        }
        FriendsNote::Relays(id, what) => {
            format!("{} brings {}, and we hand it on", friend(*id), swarm(*what))
        }
        FriendsNote::AskDone(hash) => {
            format!(
                "what was asked for by hand is done with {}",
                (names.torrent)(hash)
            )
        }
        FriendsNote::Fired(..) => return None,
    })
}

fn we_declined(why: Decline) -> &'static str {
    match why {
        Decline::Busy => "our line is in use",
        Decline::Off => "we do not help it, or not with this torrent",
        Decline::Limit => "we help as many as we can",
        Decline::Invalid => "the ask does not fit the torrent",
        Decline::Disputed | Decline::Pool | Decline::TooBig | Decline::Private => declined(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn a_help_is_told_in_four_lines_on_either_side() {
        let names = Names {
            friend: &|_| "Ann".to_owned(),
            swarm: &|_| "a.iso".to_owned(),
            torrent: &|_| "a.iso".to_owned(),
        };
        let (ann, iso) = (FriendId(1), SwarmId(1));
        let from: SocketAddr = ([198, 18, 0, 2], 51413).into();
        let asker = [
            FriendsNote::Asked(ann, iso),
            FriendsNote::HelpBegins(ann, iso, 256 << 10),
            FriendsNote::Arrived(ann, iso, from),
            FriendsNote::HelpEnded(ann, iso, 33 << 20, 32 << 20),
        ];
        let helper = [
            FriendsNote::WeOffer(ann, 32 << 20, 256 << 10),
            FriendsNote::WeHelp(ann, iso),
            FriendsNote::Arrived(ann, iso, from),
            FriendsNote::WeHelped(ann, 32 << 20, 32 << 20),
        ];
        let told = |notes: &[FriendsNote]| -> Vec<String> {
            notes
                .iter()
                .filter_map(|note| story(note, &names))
                .collect()
        };
        assert_eq!(
            told(&asker),
            [
                "asked Ann for a.iso",
                "Ann helps with a.iso, at up to 256 KiB/s",
                "the master and Ann met for a.iso",
                "Ann is done with a.iso; it says it gave 33.0 MiB, and is credited 32.0 MiB",
            ]
        );
        assert_eq!(
            told(&helper),
            [
                "Ann asks for 32.0 MiB; we offer up to 256 KiB/s",
                "we help Ann with a.iso",
                "the master and Ann met for a.iso",
                "over for Ann; we gave 32.0 MiB, and it signed for 32.0 MiB",
            ]
        );
    }
}
