//! File < environment < `--set` < flags, each mistake with its place.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{FEED, MASTER, RPC, Rejected, SECTIONS, is_text, nearest, overlay_value};
use super::problem::{ConfigError, Problem};
use super::validate::validate;
use super::{Config, Feed, LogFormat, Master};

/// Longest configuration file read, in bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// One `section.key=value` from outside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Where it came from, for messages: the variable's name, or `--set`.
    pub place: String,
    /// `section.key`.
    pub key: String,
    /// As written.
    pub value: String,
}

/// Where the configuration comes from. Kept for reloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file; None = built-in defaults.
    pub file: Option<PathBuf>,
    /// It is the platform's default path: its absence is no mistake.
    pub file_may_be_absent: bool,
    /// Environment, then `--set`, in order.
    pub overlays: Vec<Overlay>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--log`.
    pub log_filter: Option<String>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--api-allow-remote`.
    pub api_allow_remote: bool,
}

impl Overlay {
    /// All `BTSLAVE_SECTION__KEY` of an environment, sorted by name. Names without `__` are somebody else's.
    pub fn from_env(vars: impl Iterator<Item = (String, String)>) -> Vec<Self> {
        let mut found: Vec<Self> = vars
            .filter_map(|(name, value)| {
                let (section, key) = name.strip_prefix("BTSLAVE_")?.split_once("__")?;
                let key = format!(
                    "{}.{}",
                    section.to_ascii_lowercase(),
                    key.to_ascii_lowercase()
                );
                Some(Self {
                    place: name,
                    key,
                    value,
                })
            })
            .collect();
        found.sort_by(|a, b| a.place.cmp(&b.place));
        found
    }

    /// From the argument of `--set`.
    ///
    /// # Errors
    /// There is no `=`.
    pub fn from_set(argument: &str) -> Result<Self, ConfigError> {
        match argument.split_once('=') {
            Some((key, value)) => Ok(Self {
                place: "--set".to_owned(),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            }),
            None => Err(ConfigError::one(Problem {
                place: format!("--set {}", argument.escape_debug()),
                why: "there is no `=`".to_owned(),
                hint: "write --set section.key=value, as --set cache.size='64 MiB'".to_owned(),
            })),
        }
    }
}

/// Reads, overlays and validates.
///
/// # Errors
/// Every mistake found: an unreadable file, bad TOML, unknown keys, values out of range.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let (name, text) = read(sources)?;
    load_text(&name, &text, sources)
}

fn read(sources: &Sources) -> Result<(String, String), ConfigError> {
    use std::io::Read as _;
    let Some(path) = &sources.file else {
        return Ok((String::new(), String::new()));
    };
    let name = path.display().to_string();
    let fail = |why: String| {
        let hint = "name another with --config FILE, or see `btslave print-config`".to_owned();
        ConfigError::one(Problem {
            place: name.clone(),
            why,
            hint,
        })
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && sources.file_may_be_absent => {
            return Ok((name, String::new()));
        }
        Err(e) => return Err(fail(e.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| fail(e.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail("is over 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| fail("is not UTF-8 text".to_owned()))?;
    Ok((name, text))
}

/// As [`load`], with the file's text given and `name` for its messages.
pub(super) fn load_text(name: &str, text: &str, sources: &Sources) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let mut reader = Reader {
        name,
        text,
        problems: Vec::new(),
    };
    reader.file(&mut config);
    // The tables come sorted by name; people read from the top.
    reader.problems.sort_by_key(|(at, _)| *at);
    let mut problems: Vec<Problem> = reader
        .problems
        .into_iter()
        .map(|(_, problem)| problem)
        .collect();
    problems.extend(
        sources
            .overlays
            .iter()
            .filter_map(|overlay| apply_overlay(&mut config, overlay).err()),
    );
    ConfigError::check(problems)?;
    if let Some(dir) = &sources.data_dir {
        config.node.data_dir.clone_from(dir);
    }
    if let Some(filter) = &sources.log_filter {
        config.log.filter.clone_from(filter);
    }
    if let Some(format) = sources.log_format {
        config.log.format = format;
    }
    config.api.allow_remote = sources.api_allow_remote;
    validate(&config, name)?;
    Ok(config)
}

fn apply_overlay(config: &mut Config, overlay: &Overlay) -> Result<(), Problem> {
    let place = if overlay.place == "--set" {
        format!("--set {}", overlay.key.escape_debug())
    } else {
        overlay.place.clone()
    };
    let problem = |why: String, hint: String| Problem {
        place: place.clone(),
        why,
        hint,
    };
    let (section, key) = overlay.key.split_once('.').unwrap_or((&overlay.key, ""));
    let Some((_, keys)) = SECTIONS.iter().find(|(name, _)| *name == section) else {
        if matches!(section, "feed" | "master") {
            return Err(problem(
                format!("[[{section}]] is a list"),
                "name it in the file, or use slavectl".to_owned(),
            ));
        }
        let known = nearest(section, SECTIONS.iter().map(|(name, _)| *name));
        return Err(problem(
            "there is no such section".to_owned(),
            did_you_mean(known),
        ));
    };
    if !keys.contains(&key) {
        return Err(problem(
            "there is no such key".to_owned(),
            did_you_mean(nearest(key, keys.iter().copied())),
        ));
    }
    let value = overlay_value(&overlay.value, is_text(section, key));
    config
        .set(section, key, &value)
        .map_err(|Rejected { why, hint, .. }| problem(why, hint))
}

fn did_you_mean(known: Option<&str>) -> String {
    match known {
        Some(known) => format!("did you mean `{known}`?"),
        None => "see `btslave print-config` for all keys".to_owned(),
    }
}

struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    /// With their offsets in the text.
    problems: Vec<(usize, Problem)>,
}

impl<'t> Reader<'t> {
    fn file(&mut self, config: &mut Config) {
        let table = match DeTable::parse(self.text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                return self.problem(at, "", error.message().to_owned(), String::new());
            }
        };
        for (section, value) in table.get_ref() {
            let (at, section) = (section.span().start, section.get_ref().as_ref());
            match section {
                "feed" => config.feeds = self.list(section, value, FEED, Feed::default, Feed::set),
                "master" => {
                    config.masters = self.list(section, value, MASTER, Master::default, Master::set)
                }
                _ => match SECTIONS.iter().find(|(name, _)| *name == section) {
                    Some((_, keys)) => self.keys(section, value, keys, |key, value| {
                        config.set(section, key, value)
                    }),
                    None => {
                        let known = SECTIONS
                            .iter()
                            .map(|(name, _)| *name)
                            .chain(["feed", "master"]);
                        self.unknown(at, section, nearest(section, known));
                    }
                },
            }
        }
    }

    fn list<T>(
        &mut self,
        section: &str,
        value: &Spanned<DeValue<'t>>,
        known: &[&str],
        make: fn() -> T,
        set: fn(&mut T, &str, &Spanned<DeValue<'_>>) -> Result<(), Rejected>,
    ) -> Vec<T> {
        let Some(entries) = value.get_ref().as_array() else {
            let hint = format!("write it as [[{section}]]");
            self.problem(
                value.span().start,
                section,
                "must be a list of tables".to_owned(),
                hint,
            );
            return Vec::new();
        };
        let mut list = Vec::new();
        for entry in entries {
            let mut one = make();
            if let Some(rpc) = entry
                .get_ref()
                .as_table()
                .and_then(|table| table.get("rpc"))
            {
                self.known_keys("master.rpc", rpc, RPC);
            }
            self.keys(section, entry, known, |key, value| {
                set(&mut one, key, value)
            });
            list.push(one);
        }
        list
    }

    /// Reports the unknown keys of a table; true when there is none.
    fn known_keys(&mut self, section: &str, value: &Spanned<DeValue<'t>>, known: &[&str]) -> bool {
        let before = self.problems.len();
        for key in value
            .get_ref()
            .as_table()
            .into_iter()
            .flat_map(|table| table.keys())
        {
            if !known.contains(&key.get_ref().as_ref()) {
                let path = format!("{section}.{}", key.get_ref());
                self.unknown(
                    key.span().start,
                    &path,
                    nearest(key.get_ref(), known.iter().copied()),
                );
            }
        }
        self.problems.len() == before
    }

    fn keys(
        &mut self,
        section: &str,
        value: &Spanned<DeValue<'t>>,
        known: &[&str],
        mut set: impl FnMut(&str, &Spanned<DeValue<'_>>) -> Result<(), Rejected>,
    ) {
        let Some(table) = value.get_ref().as_table() else {
            let hint = format!("write it as [{section}]");
            return self.problem(
                value.span().start,
                section,
                "must be a table".to_owned(),
                hint,
            );
        };
        self.known_keys(section, value, known);
        for (key, value) in table {
            let key = key.get_ref().as_ref();
            // What its unknown keys are was said already.
            let bad_rpc = key == "rpc"
                && value
                    .get_ref()
                    .as_table()
                    .is_some_and(|t| t.keys().any(|k| !RPC.contains(&k.get_ref().as_ref())));
            if !known.contains(&key) || bad_rpc {
                continue;
            }
            if let Err(Rejected { why, hint, at }) = set(key, value) {
                self.problem(
                    at.unwrap_or(value.span().start),
                    &format!("{section}.{key}"),
                    why,
                    hint,
                );
            }
        }
    }

    fn unknown(&mut self, at: usize, path: &str, known: Option<&str>) {
        let what = if path.contains('.') { "key" } else { "section" };
        self.problem(
            at,
            path,
            format!("there is no such {what}"),
            did_you_mean(known),
        );
    }

    fn problem(&mut self, at: usize, path: &str, why: String, hint: String) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let path = if path.is_empty() {
            String::new()
        } else {
            format!(": {}", path.escape_debug())
        };
        self.problems.push((
            at,
            Problem {
                place: format!("{}:{line}:{column}{path}", self.name),
                why,
                hint,
            },
        ));
    }
}
