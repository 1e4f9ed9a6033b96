//! Rules that a single value cannot show.

use std::path::Path;
use std::time::Duration;

use control_api::units::Size;

use super::problem::{ConfigError, Problem};
use super::{Config, Feed, Master};

/// Smallest cache, in bytes: two pieces of the smallest usual length, one on the way in and one on the way out.
const MIN_CACHE: u64 = 1 << 20;
/// Largest cache, in bytes.
const MAX_CACHE: u64 = 64 << 40;
/// Largest memory part, in bytes.
const MAX_MEMORY: u64 = 1 << 40;
/// Smallest `friends.window`, in bytes.
const MIN_WINDOW: u64 = 256 << 10;
/// Largest `friends.window`, in bytes.
const MAX_WINDOW: u64 = 1 << 30;
/// Largest `friends.open_pool`, in bytes.
const MAX_POOL: u64 = 1 << 40;

struct Checks<'c> {
    file: &'c str,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    fn refuse_if(
        &mut self,
        wrong: bool,
        key: &str,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if wrong {
            let place = if self.file.is_empty() {
                key.to_owned()
            } else {
                format!("{}: {key}", self.file)
            };
            self.problems.push(Problem {
                place,
                why: why.into(),
                hint: hint.into(),
            });
        }
    }
}

/// Checks what lies between the keys.
pub(super) fn validate(config: &Config, file: &str) -> Result<(), ConfigError> {
    let mut checks = Checks {
        file,
        problems: Vec::new(),
    };
    numbers(config, &mut checks);
    friends(config, &mut checks);
    log(config, &mut checks);
    api(config, &mut checks);
    for (n, one) in config.feeds.iter().enumerate() {
        let twice = config.feeds[..n].iter().any(|other| other.url == one.url);
        checks.refuse_if(
            twice,
            "feed.url",
            format!("`{}` is named twice", one.url.escape_debug()),
            "remove one of the two",
        );
        if let Err((key, why, hint)) = feed(one) {
            checks.refuse_if(true, &format!("feed {}: {key}", n + 1), why, hint);
        }
    }
    for (n, one) in config.masters.iter().enumerate() {
        let twice = config.masters[..n]
            .iter()
            .any(|other| other.name == one.name);
        checks.refuse_if(
            twice,
            "master.name",
            format!("`{}` is named twice", one.name.escape_debug()),
            "give each a name of its own",
        );
        if let Err((key, why, hint)) = master(one) {
            checks.refuse_if(true, &format!("master {}: {key}", n + 1), why, hint);
        }
    }
    ConfigError::check(checks.problems)
}

fn numbers(config: &Config, checks: &mut Checks<'_>) {
    let cache = &config.cache;
    let size = control_api::units::Size(Some(cache.size));
    checks.refuse_if(
        !(MIN_CACHE..=MAX_CACHE).contains(&cache.size),
        "cache.size",
        "must be 1 MiB to 64 TiB",
        "",
    );
    checks.refuse_if(
        cache.memory > cache.size,
        "cache.memory",
        format!("is more than cache.size ({size})"),
        format!("cache.size counts memory and disk together; write memory = \"{size}\" to keep all of it in memory"),
    );
    checks.refuse_if(
        cache.memory > MAX_MEMORY,
        "cache.memory",
        "must be at most 1 TiB",
        "",
    );
    let limits = &config.limits;
    checks.refuse_if(
        !(1..=10_000).contains(&limits.connections),
        "limits.connections",
        "must be 1 to 10000",
        "",
    );
    for (key, rate) in [
        ("limits.upload", limits.upload),
        ("limits.download", limits.download),
    ] {
        checks.refuse_if(
            rate.0.is_some_and(|bps| bps < 1024),
            key,
            "is under 1 KiB/s, which no peer bears",
            "write \"unlimited\" or at least \"1 KiB/s\"; `slavectl pause` stops all transfers",
        );
    }
    checks.refuse_if(
        limits.month.0.is_some_and(|bytes| bytes < 1 << 20),
        "limits.month",
        "is under 1 MiB",
        "write \"unlimited\", or a size as \"100 GiB\"; `slavectl pause` stops all transfers",
    );
    checks.refuse_if(
        config.repeater.max_swarms > 100,
        "repeater.max_swarms",
        "must be 0 to 100",
        "",
    );
    checks.refuse_if(
        config.node.listen.len() > 16,
        "node.listen",
        "names over 16 addresses",
        "",
    );
    checks.refuse_if(
        config.node.listen.is_empty(),
        "node.listen",
        "names no address",
        "write [\"0.0.0.0:6881\", \"[::]:6881\"]",
    );
}

/// A window under a block's handful stops every help at once; one over a credit would be a credit of its own.
fn friends(config: &Config, checks: &mut Checks<'_>) {
    let friends = &config.friends;
    checks.refuse_if(
        !(MIN_WINDOW..=MAX_WINDOW).contains(&friends.window),
        "friends.window",
        "must be 256 KiB to 1 GiB",
        "a friend can walk away with so much unsigned; \"4 MiB\" is usual",
    );
    let credit = friends.credit;
    checks.refuse_if(
        credit.0.is_some_and(|credit| credit < friends.window),
        "friends.credit",
        format!(
            "is less than friends.window ({})",
            Size(Some(friends.window))
        ),
        "write at least as much, or \"unlimited\"",
    );
    checks.refuse_if(
        friends.open_pool > MAX_POOL,
        "friends.open_pool",
        "must be at most 1 TiB",
        "write \"0 B\" to give acquaintances nothing",
    );
}

fn log(config: &Config, checks: &mut Checks<'_>) {
    let filter = config
        .log
        .filter
        .parse::<tracing_subscriber::filter::Targets>();
    checks.refuse_if(
        filter.is_err(),
        "log.filter",
        "is no filter",
        "write `info`, or `info,repeater::net=debug`",
    );
}

fn api(config: &Config, checks: &mut Checks<'_>) {
    let Some(listen) = config.api.listen else {
        return;
    };
    checks.refuse_if(
        !listen.ip().to_canonical().is_loopback() && !config.api.allow_remote,
        "api.listen",
        format!(
            "{listen} can be reached from other machines, and the API has no encryption of its own"
        ),
        "use a loopback address (and an SSH tunnel), or start btslave with --api-allow-remote",
    );
}

type Mistake = (&'static str, String, &'static str);

/// Checks one feed, from whatever source it comes.
pub(crate) fn feed(feed: &Feed) -> Result<(), Mistake> {
    let folder = Path::new(&feed.url).is_absolute();
    let web = url::Url::parse(&feed.url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !folder && !web {
        let why = format!(
            "`{}` is neither an http(s) URL nor an absolute path",
            feed.url.escape_debug()
        );
        return Err(("url", why, "write \"https://…\" or \"/path/to/folder\""));
    }
    if !(Duration::from_secs(10)..=Duration::from_secs(7 * 86_400)).contains(&feed.every.0) {
        return Err((
            "every",
            format!("{} is not between 10s and 7 days", feed.every),
            "15m is usual",
        ));
    }
    for pattern in feed.allow.iter().chain(&feed.deny) {
        if let Err(error) = regex::RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .build()
        {
            let why = format!(
                "`{}` is no regular expression: {error}",
                pattern.escape_debug()
            );
            return Err(("allow/deny", why, ""));
        }
    }
    Ok(())
}

/// Checks one master, from whatever source it comes.
pub(crate) fn master(master: &Master) -> Result<(), Mistake> {
    let name_ok = (1..=64).contains(&master.name.len())
        && master
            .name
            .chars()
            .all(|c| c.is_ascii_graphic() || c == ' ');
    if !name_ok {
        return Err((
            "name",
            "must be 1 to 64 letters, digits or signs of ASCII".to_owned(),
            "",
        ));
    }
    if split_address(&master.address).is_none() {
        let why = format!("`{}` is not HOST:PORT", master.address.escape_debug());
        return Err((
            "address",
            why,
            "write the master's BitTorrent listener, as \"home.example:51413\"",
        ));
    }
    if !(0.0..=1.0).contains(&master.share) {
        return Err((
            "share",
            format!("{} is not between 0 and 1", master.share),
            "0.5 gives it half of the upload",
        ));
    }
    if let Some(rpc) = &master.rpc {
        let ok = url::Url::parse(&rpc.url).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if !ok {
            return Err((
                "rpc.url",
                "is not an http(s) URL without user and password".to_owned(),
                "put these into `user` and `password_file`",
            ));
        }
    }
    Ok(())
}

/// `HOST:PORT`, the host a name or an address (IPv6 in brackets), the port not 0.
#[must_use]
pub(crate) fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let sound = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    sound.then_some((bare.unwrap_or(host), port))
}
