//! What can go wrong when a master is asked, split by what somebody must do about it.

use bt_wire::ids::InfoHash;

/// A failed RPC. Every message names the URL (which never holds a password), the cause and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// Nobody answers, or not in time: start the client, or mend the address. Worth trying again.
    #[error(
        "the master's RPC at {url} cannot be reached: {why}; check that the client runs, that its remote control (web interface) is on, and the url"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// The cause, outermost first.
        why: String,
    },
    /// It wants another name or password. Asked again only every 15 minutes, for clients ban who tries often.
    #[error(
        "the master's RPC at {url} refuses the login of {who}; set the right user and password_file, then run `slavectl master test`"
    )]
    WrongPassword {
        /// Where.
        url: String,
        /// `user "name"`, or that none is set.
        who: String,
    },
    /// The password is not the trouble: the client does not want to talk to us.
    #[error("the master's RPC at {url} does not let this machine in: {why}")]
    Forbidden {
        /// Where.
        url: String,
        /// The cause and what to change in the client.
        why: String,
    },
    /// This client cannot do that, in this version or in any.
    #[error("the master at {url} cannot be asked to {what}: {why}")]
    Unsupported {
        /// Where.
        url: String,
        /// What was wanted, after "asked to".
        what: &'static str,
        /// Why, and what happens instead.
        why: &'static str,
    },
    /// The master has no such torrent (any more).
    #[error(
        "the master at {url} has no torrent {info_hash}; add it there, or leave the swarm here"
    )]
    UnknownTorrent {
        /// Where.
        url: String,
        /// The torrent.
        info_hash: InfoHash,
    },
    /// The answer makes no sense: another program, another version, or something in between.
    #[error(
        "the answer of the master's RPC at {url} is not understood: {why}; check that url and kind fit the client, else report this with the client's version"
    )]
    Protocol {
        /// Where.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
}
