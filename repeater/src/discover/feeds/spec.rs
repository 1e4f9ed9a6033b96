//! What the operator says of a feed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use url::Url;

use super::parse::FeedItem;
use crate::discover::http::mask;

/// Bytes a compiled expression may take.
const REGEX_BYTES: usize = 1 << 20;

/// Where a feed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedPlace {
    /// Over http or https.
    Http(Url),
    /// A folder of .torrent files, or one such file. Only the operator's own word makes one.
    Folder(PathBuf),
}

/// A feed as the operator configured it.
#[derive(Debug, Clone)]
pub struct FeedSpec {
    url: String,
    place: FeedPlace,
    every: Duration,
    allow: Vec<Regex>,
    deny: Vec<Regex>,
    max_torrent_bytes: Option<u64>,
}

/// What is wrong with a feed's configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedSpecError {
    /// Neither a URL we poll nor a path.
    #[error("feed {url}: {reason}; give an http(s) URL, or the path of a folder")]
    Url {
        /// As written, masked.
        url: String,
        /// Why.
        reason: String,
    },
    /// An expression that does not compile.
    #[error("feed {url}: {expression}: {reason}; correct the expression")]
    Expression {
        /// The feed, masked.
        url: String,
        /// The expression.
        expression: String,
        /// What the compiler said.
        reason: String,
    },
}

impl FeedSpec {
    /// A feed from the operator's words. `url`: http(s), `file://`, or a path; `allow` empty = all titles;
    /// `max_torrent_bytes`: payload, None = unlimited.
    pub fn new(
        url: &str,
        every: Duration,
        allow: &[String],
        deny: &[String],
        max_torrent_bytes: Option<u64>,
    ) -> Result<Self, FeedSpecError> {
        let compile = |list: &[String]| {
            list.iter()
                .map(|e| expression(url, e))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            place: place(url)?,
            url: url.to_owned(),
            every,
            allow: compile(allow)?,
            deny: compile(deny)?,
            max_torrent_bytes,
        })
    }

    /// As the operator wrote it: the feed's name everywhere.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &FeedPlace {
        &self.place
    }

    /// Time between polls.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Whether a torrent of this payload is small enough.
    #[must_use]
    pub fn fits(&self, bytes: u64) -> bool {
        self.max_torrent_bytes.is_none_or(|max| bytes <= max)
    }

    /// Whether title and claimed size let an item through.
    #[must_use]
    pub fn wants(&self, item: &FeedItem) -> bool {
        self.wants_title(&item.title) && item.claimed_bytes.is_none_or(|b| self.fits(b))
    }

    /// Whether the title lets an item through: allowed by one expression (or none given), denied by none.
    #[must_use]
    pub fn wants_title(&self, title: &str) -> bool {
        let allowed = self.allow.is_empty() || self.allow.iter().any(|r| r.is_match(title));
        allowed && !self.deny.iter().any(|r| r.is_match(title))
    }
}

fn expression(url: &str, text: &str) -> Result<Regex, FeedSpecError> {
    let built = RegexBuilder::new(text).size_limit(REGEX_BYTES).build();
    built.map_err(|e| FeedSpecError::Expression {
        url: mask(url),
        expression: text.to_owned(),
        reason: e.to_string().lines().last().unwrap_or_default().to_owned(),
    })
}

/// A feed for people and logs: a local folder as it is, a URL without its secrets.
#[must_use]
pub fn shown(url: &str) -> String {
    if Path::new(url).is_absolute() {
        url.to_owned()
    } else {
        mask(url)
    }
}

fn place(text: &str) -> Result<FeedPlace, FeedSpecError> {
    let wrong = |reason: &str| FeedSpecError::Url {
        url: mask(text),
        reason: reason.to_owned(),
    };
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(FeedPlace::Http(url)),
        Ok(url) if url.scheme() == "file" => url
            .to_file_path()
            .map(FeedPlace::Folder)
            .map_err(|()| wrong("not a path on this machine")),
        Ok(url) => Err(wrong(&format!("{} is not spoken", url.scheme()))),
        Err(_) if text.trim().is_empty() => Err(wrong("empty")),
        Err(_) if text.contains("://") => Err(wrong("not a URL")),
        Err(_) => Ok(FeedPlace::Folder(PathBuf::from(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str, allow: &[&str], deny: &[&str]) -> Result<FeedSpec, FeedSpecError> {
        let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        FeedSpec::new(
            url,
            Duration::from_secs(60),
            &owned(allow),
            &owned(deny),
            Some(100),
        )
    }

    #[test]
    fn urls_and_paths_are_told_apart() {
        assert!(matches!(
            spec("https://h/x", &[], &[]).expect("ok").place(),
            FeedPlace::Http(_)
        ));
        for path in ["/srv/torrents", "file:///srv/torrents", "torrents"] {
            assert!(
                matches!(
                    spec(path, &[], &[]).expect("ok").place(),
                    FeedPlace::Folder(_)
                ),
                "{path}"
            );
        }
        for wrong in ["", "ftp://h/x", "http://", "file://host/x"] {
            assert!(
                matches!(spec(wrong, &[], &[]), Err(FeedSpecError::Url { .. })),
                "{wrong}"
            );
        }
    }

    #[test]
    fn titles_are_allowed_and_denied() {
        let feed = spec("http://h/", &["(?i)linux", "^BSD"], &["beta"]).expect("ok");
        for (title, wanted) in [
            ("a Linux iso", true),
            ("BSD 1", true),
            ("my BSD", false),
            ("linux beta", false),
        ] {
            assert_eq!(feed.wants_title(title), wanted, "{title}");
        }
        assert!(feed.fits(100) && !feed.fits(101));
        assert!(matches!(
            spec("http://h/", &["("], &[]),
            Err(FeedSpecError::Expression { .. })
        ));
        assert!(matches!(
            spec("http://h/", &[r"\w{1000}{1000}"], &[]),
            Err(FeedSpecError::Expression { .. })
        ));
    }
}
