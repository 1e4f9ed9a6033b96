//! Where everything is. A `{hash}` is a v1 infohash in 40 hex digits.

/// Open to everybody who may connect: `ok`, once the daemon serves.
pub const HEALTHZ: &str = "/healthz";
/// Prometheus text; wants the token.
pub const METRICS: &str = "/metrics";
/// The description of all this, generated from the code.
pub const OPENAPI: &str = "/api/openapi.json";
/// GET [`crate::status::Status`].
pub const STATUS: &str = "/api/v1/status";
/// GET a list of [`crate::swarms::SwarmRow`]; POST [`crate::swarms::AddSwarm`].
pub const SWARMS: &str = "/api/v1/swarms";
/// POST the bytes of a .torrent file; peers and pin in the query.
pub const SWARMS_TORRENT: &str = "/api/v1/swarms/torrent";
/// GET [`crate::swarms::SwarmDetail`].
pub const SWARM: &str = "/api/v1/swarms/{hash}";
/// GET [`crate::swarms::Why`].
pub const SWARM_WHY: &str = "/api/v1/swarms/{hash}/why";
/// POST: leave and forget.
pub const SWARM_LEAVE: &str = "/api/v1/swarms/{hash}/leave";
/// GET a list of [`crate::feeds::Feed`]; POST [`crate::feeds::AddFeed`].
pub const FEEDS: &str = "/api/v1/feeds";
/// POST [`crate::feeds::FeedUrl`].
pub const FEEDS_REMOVE: &str = "/api/v1/feeds/remove";
/// POST [`crate::feeds::PollFeeds`].
pub const FEEDS_POLL: &str = "/api/v1/feeds/poll";
/// GET a list of [`crate::masters::Master`]; POST [`crate::masters::AddMaster`].
pub const MASTERS: &str = "/api/v1/masters";
/// POST [`crate::masters::MasterName`].
pub const MASTERS_REMOVE: &str = "/api/v1/masters/remove";
/// POST [`crate::masters::MasterName`], answered with [`crate::masters::MasterTest`].
pub const MASTERS_TEST: &str = "/api/v1/masters/test";
/// GET a list of [`crate::friends::Friend`]; POST [`crate::friends::AddFriend`].
pub const FRIENDS: &str = "/api/v1/friends";
/// POST [`crate::friends::FriendName`].
pub const FRIENDS_REMOVE: &str = "/api/v1/friends/remove";
/// GET [`crate::friends::OwnCode`].
pub const FRIENDS_CODE: &str = "/api/v1/friends/code";
/// GET [`crate::friends::OwnSuccession`]; POST `{}`: make a new key.
pub const FRIENDS_KEY: &str = "/api/v1/friends/key";
/// POST [`crate::friends::Follow`], answered with [`crate::friends::Friend`].
pub const FRIENDS_FOLLOW: &str = "/api/v1/friends/follow";
/// GET a list of [`crate::friends::LedgerAccount`].
pub const FRIENDS_LEDGER: &str = "/api/v1/friends/ledger";
/// GET [`crate::friends::LedgerCheck`].
pub const FRIENDS_VERIFY: &str = "/api/v1/friends/verify";
/// GET [`crate::friends::FriendsExport`].
pub const FRIENDS_EXPORT: &str = "/api/v1/friends/export";
/// POST [`crate::friends::FriendsExport`], answered with [`crate::friends::Imported`].
pub const FRIENDS_IMPORT: &str = "/api/v1/friends/import";
/// GET a list of [`crate::rendezvous::Rendezvous`].
pub const RENDEZVOUS: &str = "/api/v1/rendezvous";
/// POST [`crate::rendezvous::HostRendezvous`], answered with [`crate::rendezvous::Hosted`].
pub const RENDEZVOUS_HOST: &str = "/api/v1/rendezvous/host";
/// POST [`crate::rendezvous::JoinRendezvous`], answered with [`crate::rendezvous::JoinedRendezvous`].
pub const RENDEZVOUS_JOIN: &str = "/api/v1/rendezvous/join";
/// POST [`crate::rendezvous::LeaveRendezvous`], answered with [`crate::rendezvous::LeftRendezvous`].
pub const RENDEZVOUS_LEAVE: &str = "/api/v1/rendezvous/leave";
/// GET [`crate::aid::Aid`].
pub const AID: &str = "/api/v1/aid";
/// POST [`crate::aid::AskForHelp`], answered with [`crate::aid::HelpAsked`].
pub const AID_ASK: &str = "/api/v1/aid/ask";
/// POST [`crate::aid::StopHelp`].
pub const AID_STOP: &str = "/api/v1/aid/stop";
/// GET [`crate::node::CacheReport`].
pub const CACHE: &str = "/api/v1/cache";
/// POST `{}`.
pub const PAUSE: &str = "/api/v1/pause";
/// POST `{}`.
pub const RESUME: &str = "/api/v1/resume";
/// POST `{}`, answered with [`crate::node::Reloaded`].
pub const RELOAD: &str = "/api/v1/reload";

/// The path of one swarm: `template` is [`SWARM`], [`SWARM_WHY`] or [`SWARM_LEAVE`].
#[must_use]
pub fn of_swarm(template: &str, info_hash: &str) -> String {
    template.replace("{hash}", info_hash)
}
