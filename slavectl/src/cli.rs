//! The arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use control_api::units::Size;

/// Controls a running btslave, and looks at torrents by itself.
#[derive(Debug, Parser)]
#[command(
    name = "slavectl",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Print one JSON document and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the daemon is.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// Where the daemon's API listens
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SLAVECTL_API",
        default_value = "http://127.0.0.1:8470"
    )]
    pub(crate) api: String,
    /// The file with the API's token [default: api.token in the platform's data directory of btslave]
    #[arg(long, global = true, value_name = "FILE", env = "SLAVECTL_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The node at a glance
    Status,
    /// Swarms joined or known
    Swarms {
        #[command(subcommand)]
        command: Option<Swarms>,
    },
    /// Torrent feeds
    Feeds {
        #[command(subcommand)]
        command: Option<Feeds>,
    },
    /// What the cache holds, by swarm
    Cache,
    /// Pairing with your own client
    Master {
        #[command(subcommand)]
        command: Option<Master>,
    },
    /// Friends, and what is signed between them and you
    Friends {
        #[command(subcommand)]
        command: Option<Friends>,
    },
    /// A torrent by which slaves find each other
    Rendezvous {
        #[command(subcommand)]
        command: Option<Rendezvous>,
    },
    /// Help asked of friends, and given to them
    Aid {
        #[command(subcommand)]
        command: Option<Aid>,
    },
    /// Look at and make torrents, without a daemon
    Torrent {
        #[command(subcommand)]
        command: Torrent,
    },
    /// Stop all transfers, also after a restart, until `resume`
    Pause,
    /// Go on after a pause
    Resume,
    /// Have the daemon read its configuration again
    Reload,
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, …
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Swarms {
    /// All of them, the neediest first
    List,
    /// Everything about one
    Show {
        /// Infohash, or the beginning of one
        hash: String,
    },
    /// Join a torrent; again = add peers or the pin
    Add {
        /// A .torrent file, a magnet link, or the URL of a .torrent file
        #[arg(value_name = "TORRENT|MAGNET|URL")]
        torrent: String,
        /// A peer to dial, as 192.0.2.1:6881; repeatable
        #[arg(long, value_name = "ADDR")]
        peer: Vec<SocketAddr>,
        /// Never leave it by policy
        #[arg(long)]
        pin: bool,
    },
    /// Leave and forget one
    Leave {
        /// Infohash, or the beginning of one
        hash: String,
    },
    /// Why it has its rank: the need score term by term, and who named it
    Why {
        /// Infohash, or the beginning of one
        hash: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Feeds {
    /// All of them
    List,
    /// Follow a feed
    Add {
        /// RSS, Atom, or a directory of .torrent files
        url: String,
    },
    /// Follow it no longer
    Remove {
        /// As it was added
        url: String,
    },
    /// Poll one, or all, now
    Poll {
        /// As it was added
        url: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Master {
    /// All of them
    List,
    /// Pair with a client
    Add {
        /// A name of your choice
        name: String,
        /// HOST:PORT of its BitTorrent listener
        address: String,
        /// Its RPC, as `--rpc transmission http://home:9091/transmission/rpc`
        #[arg(long, num_args = 2, value_names = ["KIND", "URL"])]
        rpc: Option<Vec<String>>,
    },
    /// Try it: name, port, RPC
    Test {
        /// As it was added
        name: String,
    },
    /// Serve it no longer
    Remove {
        /// As it was added
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Friends {
    /// All of them, and how you stand with each
    List,
    /// Print your own friend code, on a terminal also as a QR code
    Code {
        /// Print the QR code wherever the output goes
        #[arg(long)]
        qr: bool,
    },
    /// Add a friend by its code
    Add {
        /// bs1…, as your friend's `slavectl friends code` prints it
        code: String,
        /// A name of your choice [default: the beginning of the code]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove a friend; what is signed is kept
    Remove {
        /// Its name or its code
        name: String,
    },
    /// Show the statement about your newest key, for your friends; with --new, make a new key first
    Rekey {
        /// Make a new key: yours may be in other hands. It counts from the daemon's next start on
        #[arg(long)]
        new: bool,
    },
    /// Take a friend's new key for its old one, by the statement that its `rekey` prints
    Follow {
        /// bss1…
        statement: String,
    },
    /// The signed records, of one or all
    Ledger {
        /// A friend's name or code
        name: Option<String>,
    },
    /// Check every signature on record again
    Verify,
    /// Write friends and ledger to a file that only you can read
    Export {
        /// Where to
        file: PathBuf,
        /// Replace the file
        #[arg(long)]
        force: bool,
    },
    /// Take in what `export` wrote; no total falls
    Import {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rendezvous {
    /// Those that you host or joined, and who is there
    Show,
    /// Make one, and host it
    Host(Host),
    /// Join one; again = add peers
    Join {
        /// A .torrent file, a magnet link, or the URL of a .torrent file
        #[arg(value_name = "TORRENT|MAGNET|URL")]
        torrent: String,
        /// A peer to dial, as 192.0.2.1:6881; repeatable
        #[arg(long, value_name = "ADDR")]
        peer: Vec<SocketAddr>,
    },
    /// Leave one, and host it no longer
    Leave {
        /// Infohash, or the beginning of one [default: the only one]
        hash: Option<String>,
    },
}

/// How a rendezvous is hosted.
#[derive(Debug, Args)]
pub(crate) struct Host {
    /// Its name: letters, digits, spaces, and - _ .
    #[arg(default_value = "BTSlave rendezvous")]
    pub(crate) name: String,
    /// Where the announce URL listens [default: port 6969 of the first address in node.listen]
    #[arg(long, value_name = "ADDR", conflicts_with = "no_announce_url")]
    pub(crate) listen: Option<SocketAddr>,
    /// The announce URL as others reach it, where that is not the address it listens on
    #[arg(long, value_name = "URL", conflicts_with = "no_announce_url")]
    pub(crate) url: Option<String>,
    /// Run no announce URL: be found by other trackers alone
    #[arg(long)]
    pub(crate) no_announce_url: bool,
    /// Another tracker to announce at; repeatable
    #[arg(short, long, value_name = "URL")]
    pub(crate) tracker: Vec<String>,
    /// Write the .torrent file here
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the output file
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Aid {
    /// What is under way, and what is wanted
    List,
    /// Ask friends for help now, though no master is short
    Ask {
        /// Infohash or the beginning of one, or a master's name: with all that it lacks
        #[arg(value_name = "HASH|MASTER")]
        with: String,
        /// So much of each torrent [default: all that is lacking]
        #[arg(long, value_name = "SIZE")]
        bytes: Option<Size>,
    },
    /// End help with a torrent in both directions; none begins until you ask
    Stop {
        /// Infohash, or the beginning of one
        hash: String,
    },
}

/// Offline jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Torrent {
    /// What a torrent or magnet link says
    Show {
        /// A .torrent file or a magnet link
        #[arg(value_name = "FILE|MAGNET")]
        torrent: String,
    },
    /// Make a .torrent of a file or folder (v1)
    Create(Create),
    /// The magnet link of a .torrent file
    Magnet {
        /// A .torrent file
        file: PathBuf,
    },
}

/// What goes into a new torrent.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// File or folder
    pub(crate) path: PathBuf,
    /// Where to write [default: NAME.torrent here]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Announce URL; each further one is a tier of its own
    #[arg(short, long, value_name = "URL")]
    pub(crate) tracker: Vec<String>,
    /// URL of a web seed (BEP 19); repeatable
    #[arg(long, value_name = "URL")]
    pub(crate) web_seed: Vec<String>,
    /// Bytes in a piece [default: by size, so that there are at most some 2000]
    #[arg(long, value_name = "SIZE")]
    pub(crate) piece_length: Option<Size>,
    /// Trackers only: no DHT, LSD, PEX (BEP 27)
    #[arg(long)]
    pub(crate) private: bool,
    /// Comment
    #[arg(long)]
    pub(crate) comment: Option<String>,
    /// Replace the output file
    #[arg(long)]
    pub(crate) force: bool,
}
