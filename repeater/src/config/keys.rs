//! The keys there are, and how each is set.

use std::net::SocketAddr;
use std::path::PathBuf;

use control_api::units::Size;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::{Config, Feed, Master, schedule};

/// Sections with one value per key.
pub(super) const SECTIONS: [(&str, &[&str]); 8] = [
    ("node", &["data_dir", "listen", "bind_device"]),
    (
        "limits",
        &["upload", "download", "month", "connections", "schedule"],
    ),
    ("cache", &["size", "memory", "min_free"]),
    ("repeater", &["enabled", "max_swarms"]),
    (
        "friends",
        &["mode", "window", "credit", "open_pool", "private_torrents"],
    ),
    (
        "discovery",
        &["trackers", "dht", "pex", "lsd", "port_mapping"],
    ),
    ("api", &["listen", "token_file"]),
    ("log", &["filter", "format"]),
];
/// Keys of a `[[feed]]`.
pub(super) const FEED: &[&str] = &[
    "url",
    "every",
    "allow",
    "deny",
    "max_torrent_size",
    "max_torrents",
    "max_cache",
];
/// Keys of a `[[master]]`.
pub(super) const MASTER: &[&str] = &["name", "address", "share", "rpc"];
/// Keys of a master's `rpc`.
pub(super) const RPC: &[&str] = &["kind", "url", "user", "password_file"];

/// Why a value is not taken, and where in its text.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) why: String,
    pub(super) hint: String,
    pub(super) at: Option<usize>,
}

impl Rejected {
    pub(super) fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: hint.into(),
            at: None,
        }
    }
}

/// The known key that `wrong` was probably meant to be.
pub(super) fn nearest<'k>(
    wrong: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let wrong: String = wrong.chars().take(64).collect();
    known
        .into_iter()
        .map(|key| (strsim::damerau_levenshtein(&wrong, key), key))
        .min()
        .filter(|(distance, key)| *distance <= key.len().max(3) / 2 + 1)
        .map(|(_, key)| key)
}

fn take<T: DeserializeOwned>(value: &Spanned<DeValue<'_>>) -> Result<T, Rejected> {
    T::deserialize(ValueDeserializer::from(value.clone())).map_err(|error| Rejected {
        why: error.message().to_owned(),
        hint: String::new(),
        at: error.span().map(|span| span.start),
    })
}

/// A number, or `unlimited`.
fn count(value: &Spanned<DeValue<'_>>) -> Result<Option<u32>, Rejected> {
    match take::<String>(value) {
        Ok(text) if text == "unlimited" => Ok(None),
        Ok(text) => Err(Rejected::new(
            format!("`{text}` is no number"),
            "write a number, or \"unlimited\"",
        )),
        Err(_) => take(value).map(Some),
    }
}

fn bytes(value: &Spanned<DeValue<'_>>) -> Result<u64, Rejected> {
    let Size(size) = take(value)?;
    size.ok_or_else(|| Rejected::new("must be a number of bytes", "write a size, as \"256 MiB\""))
}

/// Accepts only `harmless`: the key's function does not exist yet.
fn not_yet<T: DeserializeOwned + PartialEq>(
    value: &Spanned<DeValue<'_>>,
    harmless: &[T],
    what: &str,
    word: &str,
) -> Result<(), Rejected> {
    let given: T = take(value)?;
    if harmless.contains(&given) {
        return Ok(());
    }
    Err(Rejected::new(
        format!("{what} not built yet"),
        format!("remove the key, or write {word}"),
    ))
}

fn text_listen(text: &str) -> Result<Option<SocketAddr>, Rejected> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let shown = text.escape_debug();
        Rejected::new(
            format!("`{shown}` is not an address with a port"),
            "write it as \"127.0.0.1:8470\" or \"[::1]:8470\"",
        )
    })
}

fn listen_list(value: &Spanned<DeValue<'_>>) -> Result<Vec<SocketAddr>, Rejected> {
    let texts: Vec<String> = take(value)?;
    let mut listen = Vec::new();
    for text in texts {
        let Some(addr) = text_listen(&text)? else {
            return Err(Rejected::new(
                "an empty address",
                "write it as \"0.0.0.0:6881\" or \"[::]:6881\"",
            ));
        };
        if !listen.contains(&addr) {
            listen.push(addr);
        }
    }
    Ok(listen)
}

impl Config {
    /// Sets one key of a plain section. The section and key are in [`SECTIONS`].
    pub(super) fn set(
        &mut self,
        section: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Rejected> {
        match section {
            "node" => self.set_node(key, value),
            "limits" => self.set_limits(key, value),
            "cache" => self.set_cache(key, value),
            "friends" => self.set_friends(key, value),
            "discovery" => self.set_discovery(key, value),
            _ => self.set_rest(section, key, value),
        }
    }

    fn set_node(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Rejected> {
        match key {
            "data_dir" => self.node.data_dir = take(value)?,
            "listen" => self.node.listen = listen_list(value)?,
            _ => not_yet(
                value,
                &[String::new()],
                "binding every socket (DNS included) to a network interface is",
                "\"\"; to keep to one address meanwhile, name it in node.listen",
            )?,
        }
        Ok(())
    }

    fn set_limits(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Rejected> {
        match key {
            "upload" => self.limits.upload = take(value)?,
            "download" => self.limits.download = take(value)?,
            "connections" => self.limits.connections = take(value)?,
            "month" => self.limits.month = take(value)?,
            _ => self.limits.schedule = schedule::read(&take::<Vec<schedule::Written>>(value)?)?,
        }
        Ok(())
    }

    fn set_cache(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Rejected> {
        match key {
            "size" => self.cache.size = bytes(value)?,
            "memory" => self.cache.memory = bytes(value)?,
            _ => self.cache.min_free = bytes(value)?,
        }
        Ok(())
    }

    fn set_friends(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Rejected> {
        match key {
            "mode" => self.friends.mode = take(value)?,
            "window" => self.friends.window = bytes(value)?,
            "credit" => self.friends.credit = take(value)?,
            "open_pool" => self.friends.open_pool = bytes(value)?,
            _ => self.friends.private_torrents = take(value)?,
        }
        Ok(())
    }

    fn set_discovery(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Rejected> {
        let on = match key {
            "trackers" => &mut self.discovery.trackers,
            "dht" => &mut self.discovery.dht,
            "pex" => &mut self.discovery.pex,
            "lsd" => &mut self.discovery.lsd,
            _ => &mut self.discovery.port_mapping,
        };
        *on = take(value)?;
        Ok(())
    }

    fn set_rest(
        &mut self,
        section: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Rejected> {
        match (section, key) {
            ("repeater", "enabled") => self.repeater.enabled = take(value)?,
            ("repeater", _) => self.repeater.max_swarms = take(value)?,
            ("api", "listen") => self.api.listen = text_listen(&take::<String>(value)?)?,
            ("api", _) => self.api.token_file = take::<PathBuf>(value)?,
            (_, "filter") => self.log.filter = take(value)?,
            (_, _) => self.log.format = take(value)?,
        }
        Ok(())
    }
}

impl Feed {
    /// Sets one key of a `[[feed]]`. The key is in [`FEED`].
    pub(super) fn set(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Rejected> {
        match key {
            "url" => self.url = take(value)?,
            "every" => self.every = take(value)?,
            "allow" => self.allow = take(value)?,
            "deny" => self.deny = take(value)?,
            "max_torrents" => self.max_torrents = count(value)?,
            "max_cache" => self.max_cache = take(value)?,
            _ => self.max_torrent_size = take(value)?,
        }
        Ok(())
    }
}

impl Master {
    /// Sets one key of a `[[master]]`. The key is in [`MASTER`].
    pub(super) fn set(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Rejected> {
        match key {
            "name" => self.name = take(value)?,
            "address" => self.address = take(value)?,
            "share" => self.share = take(value)?,
            _ => self.rpc = Some(take(value)?),
        }
        Ok(())
    }
}

/// What a value in an overlay is: TOML where it parses as such and `text` does not ask for a plain string.
pub(super) fn overlay_value<'t>(raw: &'t str, is_text: bool) -> Spanned<DeValue<'t>> {
    let plain = || Spanned::new(0..raw.len(), DeValue::String(raw.into()));
    match DeValue::parse(raw) {
        Ok(value) if !is_text || value.get_ref().is_str() => value,
        Ok(_) | Err(_) => plain(),
    }
}

/// Whether the key's value is a string in TOML.
pub(super) fn is_text(section: &str, key: &str) -> bool {
    match section {
        "node" => key != "listen",
        "limits" => matches!(key, "upload" | "download" | "month"),
        "cache" | "api" | "log" => true,
        "friends" => key != "private_torrents",
        _ => false,
    }
}
