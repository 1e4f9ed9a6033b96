//! A feed's bytes to its items. Pure: what to fetch and when is decided elsewhere.

use std::time::Duration;

use url::Url;

use super::guard::{MAX_ITEMS, guard};
use super::{date, listing};

/// Largest feed document in bytes.
pub const MAX_DOCUMENT: usize = 16 << 20;
/// Longest title kept, in characters.
const MAX_TITLE: usize = 512;
/// Longest link kept, in bytes.
pub(super) const MAX_LINK: usize = 8 * 1024;
const TORRENT_TYPE: &str = "application/x-bittorrent";

/// Why a document is not taken. Each is the document's fault: try again at the next poll.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// Over [`MAX_DOCUMENT`].
    #[error("the feed is over 16 MiB; ask its operator for a shorter one")]
    TooLarge,
    /// Elements nested over 64 deep.
    #[error("the feed nests elements over 64 deep; that is no feed")]
    TooDeep,
    /// Over 400,000 elements, or a tag over 64 KiB.
    #[error("the feed has too many elements or attributes; that is no feed")]
    TooManyElements,
    /// A document type declaration: no feed needs one, and XML bombs are built of them.
    #[error("the feed declares a DOCTYPE, which no feed needs; refused")]
    DocType,
    /// Not well-formed, or neither RSS nor Atom.
    #[error("the feed cannot be read as RSS or Atom: {reason}")]
    Xml {
        /// What the parser said.
        reason: String,
    },
}

impl FeedError {
    /// A short word for the counter `btslave_feed_refused_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TooManyElements => "too_many_elements",
            Self::DocType => "doctype",
            Self::Xml { .. } => "xml",
        }
    }
}

/// Where an item's torrent is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemLink {
    /// A .torrent file; http or https only.
    Torrent(Url),
    /// A magnet link.
    Magnet(String),
}

/// One item of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedItem {
    /// Without control characters, at most 512 characters.
    pub title: String,
    /// Where its torrent is.
    pub link: ItemLink,
    /// Payload in bytes where the feed says so; a claim, not a fact.
    pub claimed_bytes: Option<u64>,
    /// Seconds since the Unix epoch, where the feed says so.
    pub published: Option<i64>,
}

/// What a document turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A list of items, newest first where dates are given, else in its own order.
    Items {
        /// At most 10,000.
        items: Vec<FeedItem>,
        /// Items whose link has a scheme no feed may name (attack row E2).
        refused: usize,
        /// Shortest time between polls its publisher asks for.
        ttl: Option<Duration>,
    },
    /// The document itself is a .torrent file.
    Torrent,
}

/// What is gathered while a document is read.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    items: Vec<FeedItem>,
    refused: usize,
}

impl Gathered {
    /// True while more items may be added.
    pub(super) fn has_room(&self) -> bool {
        self.items.len() < MAX_ITEMS
    }

    /// Adds an item whose link is as written; what is neither http(s) nor magnet is counted and dropped.
    pub(super) fn add(
        &mut self,
        base: &Url,
        title: &str,
        link: &str,
        bytes: Option<u64>,
        published: Option<i64>,
    ) {
        let link = link.trim();
        if link.is_empty() || link.len() > MAX_LINK || !self.has_room() {
            return;
        }
        let link = match resolve(base, link) {
            Ok(link) => link,
            Err(Unusable::Scheme) => {
                self.refused += 1;
                return;
            }
            Err(Unusable::NoUrl) => return,
        };
        let title = if title.trim().is_empty() {
            listing::name_of(&link)
        } else {
            title.trim().to_owned()
        };
        let title = title
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_TITLE)
            .collect();
        self.items.push(FeedItem {
            title,
            link,
            claimed_bytes: bytes.filter(|b| *b > 0),
            published,
        });
    }

    fn into_document(mut self, ttl: Option<Duration>) -> Document {
        if self.items.iter().any(|i| i.published.is_some()) {
            // Stable, so that undated items keep their order behind the dated ones.
            self.items.sort_by_key(|i| std::cmp::Reverse(i.published));
        }
        Document::Items {
            items: self.items,
            refused: self.refused,
            ttl,
        }
    }
}

enum Unusable {
    Scheme,
    NoUrl,
}

fn resolve(base: &Url, link: &str) -> Result<ItemLink, Unusable> {
    if is_magnet(link) {
        return Ok(ItemLink::Magnet(link.to_owned()));
    }
    let url = base.join(link).map_err(|_| Unusable::NoUrl)?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(ItemLink::Torrent(url))
    } else {
        Err(Unusable::Scheme)
    }
}

/// Whether a link as written is a magnet.
pub(super) fn is_magnet(link: &str) -> bool {
    link.get(..8)
        .is_some_and(|head| head.eq_ignore_ascii_case("magnet:?"))
}

/// Whether a link as written looks like a .torrent file or magnet, or is one no feed may name.
pub(super) fn is_torrent_link(link: &str) -> bool {
    let path = link.split('#').next().unwrap_or_default();
    let ends = |s: &str| s.len() >= 8 && s.as_bytes().to_ascii_lowercase().ends_with(b".torrent");
    is_magnet(link) || ends(path) || ends(path.split('?').next().unwrap_or_default())
}

/// Reads a document. `content_type` is a hint, without parameters; servers are often wrong, so bytes decide first.
/// `base`: the URL it came from, against which relative links are resolved.
pub fn parse(bytes: &[u8], content_type: Option<&str>, base: &Url) -> Result<Document, FeedError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(FeedError::TooLarge);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut gathered = Gathered::default();
    match kind(bytes, content_type) {
        Kind::Torrent => Ok(Document::Torrent),
        Kind::Xml => read_xml(bytes, base),
        Kind::Html => {
            listing::read_html(bytes, base, &mut gathered);
            Ok(gathered.into_document(None))
        }
        Kind::Text => {
            listing::read_text(bytes, base, &mut gathered);
            Ok(gathered.into_document(None))
        }
    }
}

enum Kind {
    Torrent,
    Xml,
    Html,
    Text,
}

fn kind(bytes: &[u8], content_type: Option<&str>) -> Kind {
    if let [b'd', b'0'..=b'9', ..] = bytes {
        return Kind::Torrent;
    }
    let head = bytes.trim_ascii_start();
    let head = head
        .get(..head.len().min(1024))
        .unwrap_or_default()
        .to_ascii_lowercase();
    let says = |word: &str| content_type.is_some_and(|t| t.to_ascii_lowercase().contains(word));
    let has = |word: &[u8]| head.windows(word.len()).any(|w| w == word);
    let html_type = head.starts_with(b"<!doctype html") || head.starts_with(b"<html");
    match () {
        () if html_type => Kind::Html,
        () if [&b"<?xml"[..], b"<rss", b"<feed", b"<!doctype", b"<rdf"]
            .iter()
            .any(|p| head.starts_with(p)) =>
        {
            Kind::Xml
        }
        () if has(b"<rss") || has(b"<feed") => Kind::Xml,
        () if says("html") || head.starts_with(b"<") => Kind::Html,
        () if says("xml") => Kind::Xml,
        () => Kind::Text,
    }
}

fn read_xml(bytes: &[u8], base: &Url) -> Result<Document, FeedError> {
    let bytes = guard(bytes)?;
    let rss_error = match rss::Channel::read_from(&*bytes) {
        Ok(channel) => return Ok(read_rss(&channel, base)),
        Err(e) => e,
    };
    match atom_syndication::Feed::read_from(&*bytes) {
        Ok(feed) => Ok(read_atom(&feed, base)),
        Err(atom_syndication::Error::InvalidStartTag) => Err(FeedError::Xml {
            reason: rss_error.to_string(),
        }),
        Err(e) => Err(FeedError::Xml {
            reason: e.to_string(),
        }),
    }
}

fn read_rss(channel: &rss::Channel, base: &Url) -> Document {
    let mut gathered = Gathered::default();
    for item in channel.items().iter().take(MAX_ITEMS) {
        let extra = Extra::of_rss(item.extensions());
        let enclosure = item.enclosure().filter(|e| {
            e.mime_type().trim().eq_ignore_ascii_case(TORRENT_TYPE) || is_torrent_link(e.url())
        });
        let plain = [item.link(), item.guid().map(rss::Guid::value)];
        let link = enclosure
            .map(|e| e.url().to_owned())
            .or(extra.link)
            .or_else(|| {
                plain
                    .into_iter()
                    .flatten()
                    .find(|l| is_torrent_link(l))
                    .map(str::to_owned)
            });
        // An enclosure's length is that of the .torrent file as often as that of the payload: not a claim to use.
        if let Some(link) = link {
            let published = item.pub_date().and_then(date::rfc2822);
            gathered.add(
                base,
                item.title().unwrap_or_default(),
                &link,
                extra.bytes,
                published,
            );
        }
    }
    let minutes = channel.ttl().and_then(|t| t.trim().parse::<u32>().ok());
    gathered.into_document(minutes.map(|m| Duration::from_secs(u64::from(m) * 60)))
}

fn read_atom(feed: &atom_syndication::Feed, base: &Url) -> Document {
    let mut gathered = Gathered::default();
    for entry in feed.entries().iter().take(MAX_ITEMS) {
        let by_type = |l: &&atom_syndication::Link| {
            l.mime_type()
                .is_some_and(|t| t.eq_ignore_ascii_case(TORRENT_TYPE))
        };
        let links = entry.links();
        let link = links
            .iter()
            .find(by_type)
            .or_else(|| links.iter().find(|l| is_torrent_link(l.href())));
        let extra = Extra::of_atom(entry.extensions());
        if let Some(link) = link.map(|l| l.href().to_owned()).or(extra.link) {
            let published = entry
                .published()
                .unwrap_or_else(|| entry.updated())
                .timestamp();
            gathered.add(
                base,
                &entry.title().value,
                &link,
                extra.bytes,
                Some(published),
            );
        }
    }
    gathered.into_document(None)
}

/// What extensions of any prefix (`torrent:`, `nyaa:`, `torznab:`) add.
#[derive(Debug, Default)]
struct Extra {
    link: Option<String>,
    bytes: Option<u64>,
}

impl Extra {
    fn of_rss(map: &rss::extension::ExtensionMap) -> Self {
        let mut out = Self::default();
        let mut hash = None;
        let mut todo: Vec<&rss::extension::Extension> =
            map.values().flat_map(|m| m.values().flatten()).collect();
        while let Some(e) = todo.pop() {
            todo.extend(e.children.values().flatten());
            let attribute = e.attrs.get("name").zip(e.attrs.get("value"));
            match attribute {
                Some((name, value)) => out.take(name, value, &mut hash),
                None => out.take(e.name(), e.value().unwrap_or_default(), &mut hash),
            }
        }
        out.link_from(hash)
    }

    fn of_atom(map: &atom_syndication::extension::ExtensionMap) -> Self {
        let mut out = Self::default();
        let mut hash = None;
        let mut todo: Vec<&atom_syndication::extension::Extension> =
            map.values().flat_map(|m| m.values().flatten()).collect();
        while let Some(e) = todo.pop() {
            todo.extend(e.children().values().flatten());
            out.take(e.name(), e.value().unwrap_or_default(), &mut hash);
        }
        out.link_from(hash)
    }

    fn take(&mut self, name: &str, value: &str, hash: &mut Option<String>) {
        let local = name
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let value = value.trim();
        match &*local {
            "magneturi" | "magneturl" | "magnet" if is_magnet(value) => {
                self.link = Some(value.to_owned())
            }
            "infohash"
                if matches!(value.len(), 32 | 40)
                    && value.bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                *hash = Some(value.to_owned());
            }
            "contentlength" | "size" => self.bytes = value.parse().ok().or(self.bytes),
            _ => {}
        }
    }

    fn link_from(mut self, hash: Option<String>) -> Self {
        self.link = self
            .link
            .or_else(|| hash.map(|h| format!("magnet:?xt=urn:btih:{h}")));
        self
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
