//! `btslave print-config`: every key with its meaning and its value in force.

use std::fmt::Write as _;

use super::{Config, Feed, FriendsMode, LogFormat, Master};
use control_api::units::Size;
use swarm_core::policy::schedule::Window;

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: impl IntoIterator<Item = String>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quoted(&text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn size(bytes: u64) -> String {
    quoted(&Size(Some(bytes)).to_string())
}

fn windows(windows: &[Window]) -> String {
    let windows: Vec<String> = windows.iter().map(super::schedule::print).collect();
    format!("[{}]", windows.join(", "))
}

const HEAD: &str = "\
# BTSlave configuration. `btslave print-config` prints this file with the values in force; the values here are the
# built-in defaults, so a file needs only what differs. `btslave check-config` checks one.
# Sizes: \"40 KiB\", \"1.5 MB\", \"unlimited\". Rates: \"40 KiB/s\". Durations: \"90s\", \"10m\", \"6h\".
# Every key can also come from the environment (BTSLAVE_SECTION__KEY) or from --set section.key=value.
# SIGHUP or `slavectl reload` takes changes up at once; it names the keys that need a restart instead.
";

const FEED_EXAMPLE: &str = "
# Torrent feeds: what may be helped. As many as you like; `slavectl feeds add URL` adds more.
# [[feed]]
# url = \"https://…\"             # RSS, Atom, an HTML or plain directory of .torrent files, or an absolute local folder
# every = \"15m\"                 # time between polls
# allow = []                    # regular expressions on the title; empty = all
# deny = []
# max_torrent_size = \"unlimited\"
# max_torrents = \"unlimited\"     # of this feed joined at a time, e.g. 2
# max_cache = \"unlimited\"        # of the cache that its torrents may take
";

const MASTER_EXAMPLE: &str = "
# Masters: your own ordinary clients, which this slave feeds. `slavectl master add NAME ADDR` adds more.
# [[master]]
# name = \"home\"
# address = \"home.example:51413\"  # its BitTorrent listener
# share = 0.5                   # of the upload, while it misses something
# rpc = { kind = \"transmission\", url = \"http://…/transmission/rpc\", user = \"\", password_file = \"\" }  # or \"qbittorrent\"; optional
";

impl Config {
    /// The whole configuration as a documented TOML file that loads to the same configuration.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = HEAD.to_owned();
        self.print_node(&mut text);
        self.print_cache(&mut text);
        self.print_lists(&mut text);
        self.print_friends(&mut text);
        self.print_rest(&mut text);
        text
    }

    fn print_node(&self, text: &mut String) {
        let (node, limits) = (&self.node, &self.limits);
        section(
            text,
            "node",
            &[
                (
                    "data_dir",
                    quoted(&node.data_dir.to_string_lossy()),
                    "\"\" = the platform's data directory",
                ),
                (
                    "listen",
                    list(node.listen.iter().map(ToString::to_string)),
                    "a non-wildcard address is also the source of outgoing connections",
                ),
                (
                    "bind_device",
                    quoted(&node.bind_device),
                    "(not built yet: must be \"\")",
                ),
            ],
        );
        section(
            text,
            "limits",
            &[
                (
                    "upload",
                    quoted(&limits.upload.to_string()),
                    "payload and protocol overhead, TCP/IP headers left out",
                ),
                ("download", quoted(&limits.download.to_string()), ""),
                (
                    "month",
                    quoted(&limits.month.to_string()),
                    "peers, trackers and feeds, both directions together; then all stops until the next local month",
                ),
                ("connections", limits.connections.to_string(), ""),
                (
                    "schedule",
                    windows(&limits.schedule),
                    "e.g. [{ days = \"mon-fri\", from = \"08:00\", to = \"18:00\", upload = \"20 KiB/s\" }]: the first that fits decides; local time",
                ),
            ],
        );
    }

    fn print_cache(&self, text: &mut String) {
        let cache = &self.cache;
        section(
            text,
            "cache",
            &[
                (
                    "size",
                    size(cache.size),
                    "hard cap: bytes of payload held, in memory and on disk",
                ),
                (
                    "memory",
                    size(cache.memory),
                    "of it, kept in memory (never more than size)",
                ),
                (
                    "min_free",
                    size(cache.min_free),
                    "stop growing when the disk has less than this free",
                ),
            ],
        );
        section(
            text,
            "repeater",
            &[
                (
                    "enabled",
                    self.repeater.enabled.to_string(),
                    "the free repeater: help strangers when no master needs help",
                ),
                ("max_swarms", self.repeater.max_swarms.to_string(), ""),
            ],
        );
    }

    fn print_lists(&self, text: &mut String) {
        if self.feeds.is_empty() {
            text.push_str(FEED_EXAMPLE);
        }
        for Feed {
            url,
            every,
            allow,
            deny,
            max_torrent_size,
            max_torrents,
            max_cache,
        } in &self.feeds
        {
            text.push_str("\n[[feed]]\n");
            key(text, "url", &quoted(url), "");
            key(text, "every", &quoted(&every.to_string()), "");
            key(text, "allow", &list(allow.clone()), "");
            key(text, "deny", &list(deny.clone()), "");
            key(
                text,
                "max_torrent_size",
                &quoted(&max_torrent_size.to_string()),
                "",
            );
            let torrents = max_torrents.map(|count| count.to_string());
            let unlimited = || quoted("unlimited");
            key(
                text,
                "max_torrents",
                &torrents.unwrap_or_else(unlimited),
                "",
            );
            key(text, "max_cache", &quoted(&max_cache.to_string()), "");
        }
        if self.masters.is_empty() {
            text.push_str(MASTER_EXAMPLE);
        }
        for Master {
            name,
            address,
            share,
            rpc,
        } in &self.masters
        {
            text.push_str("\n[[master]]\n");
            key(text, "name", &quoted(name), "");
            key(text, "address", &quoted(address), "");
            key(text, "share", &toml::Value::Float(*share).to_string(), "");
            if let Some(rpc) = rpc {
                let (url, user) = (quoted(&rpc.url), quoted(&rpc.user));
                let password_file = quoted(&rpc.password_file.to_string_lossy());
                let kind = quoted(rpc.kind.word());
                let table = format!(
                    "{{ kind = {kind}, url = {url}, user = {user}, password_file = {password_file} }}"
                );
                key(text, "rpc", &table, "");
            }
        }
    }

    fn print_friends(&self, text: &mut String) {
        let mode = match self.friends.mode {
            FriendsMode::Off => "off",
            FriendsMode::Known => "known",
            FriendsMode::Open => "open",
        };
        text.push_str(
            "\n# Friends meet in a shared torrent or at the address of a friend code, and help each other's masters. This is young.",
        );
        section(
            text,
            "friends",
            &[
                (
                    "mode",
                    quoted(mode),
                    "\"off\" | \"known\" | \"open\" (anyone who is open, too, may ask; it answers anyone)",
                ),
                (
                    "window",
                    size(self.friends.window),
                    "unsigned help given to one friend before pausing (or 4 s of the rate, if more)",
                ),
                (
                    "credit",
                    quoted(&self.friends.credit.to_string()),
                    "signed help given minus received, per friend, while others want the line",
                ),
                (
                    "open_pool",
                    size(self.friends.open_pool),
                    "help given to all acquaintances together; 1 % of the line flows in",
                ),
                (
                    "private_torrents",
                    self.friends.private_torrents.to_string(),
                    "true: friends may help with those, relayed and by RPC only",
                ),
            ],
        );
    }

    fn print_rest(&self, text: &mut String) {
        let discovery = &self.discovery;
        section(
            text,
            "discovery",
            &[
                ("trackers", discovery.trackers.to_string(), ""),
                (
                    "dht",
                    discovery.dht.to_string(),
                    "(not built yet: does nothing)",
                ),
                ("pex", discovery.pex.to_string(), ""),
                (
                    "lsd",
                    discovery.lsd.to_string(),
                    "(not built yet: does nothing)",
                ),
                (
                    "port_mapping",
                    discovery.port_mapping.to_string(),
                    "(not built yet: does nothing)",
                ),
            ],
        );
        let listen = self
            .api
            .listen
            .map(|addr| addr.to_string())
            .unwrap_or_default();
        section(
            text,
            "api",
            &[
                (
                    "listen",
                    quoted(&listen),
                    "\"\" = off; slavectl connects here",
                ),
                (
                    "token_file",
                    quoted(&self.api.token_file.to_string_lossy()),
                    "\"\" = data_dir/api.token, made at first start, mode 0600",
                ),
            ],
        );
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        section(
            text,
            "log",
            &[
                (
                    "filter",
                    quoted(&self.log.filter),
                    "error | warn | info | debug | trace, or per module: info,repeater::net=debug",
                ),
                ("format", quoted(format), "\"text\" | \"json\""),
            ],
        );
    }
}

fn section(text: &mut String, name: &str, keys: &[(&str, String, &str)]) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\n[{name}]\n");
    for (name, value, meaning) in keys {
        key(text, name, value, meaning);
    }
}

fn key(text: &mut String, name: &str, value: &str, meaning: &str) {
    let line = format!("{name} = {value}");
    let _ = if meaning.is_empty() {
        writeln!(text, "{line}")
    } else {
        writeln!(text, "{line:<31} # {meaning}")
    };
}
