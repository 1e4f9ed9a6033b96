//! Scrape (BEP 48): counts without joining.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use url::Url;

use super::announce::{TrackerError, count, failure};
use crate::bencode::{Document, Limits, Node};
use crate::ids::InfoHash;

/// Most torrents read from one reply: a full scrape is not for us.
const MAX_FILES: usize = 1000;

/// A torrent's counts at a tracker. What the tracker does not say is none, not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrapeEntry {
    /// Seeds.
    pub complete: Option<u32>,
    /// Everybody else.
    pub incomplete: Option<u32>,
    /// Completed downloads ever.
    pub downloaded: Option<u32>,
    /// Peers that are still downloading, partial seeds left out (BEP 21).
    pub downloaders: Option<u32>,
}

/// A scrape reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrapeResponse {
    /// By infohash, at most 1000, in the tracker's order.
    pub files: Vec<(InfoHash, ScrapeEntry)>,
}

/// Where to scrape a tracker: `announce` at the start of the last path segment becomes `scrape`. None where the
/// tracker's URL has no such segment, which means that it cannot be scraped.
#[must_use]
pub fn scrape_url(announce: &Url) -> Option<Url> {
    let (head, last) = announce.path().rsplit_once('/')?;
    let tail = last.strip_prefix("announce")?;
    let path = format!("{head}/scrape{tail}");
    let mut url = announce.clone();
    url.set_path(&path);
    Some(url)
}

/// The query for some torrents; see [`super::with_query`].
#[must_use]
pub fn scrape_query(hashes: &[InfoHash]) -> String {
    let pairs = hashes
        .iter()
        .map(|hash| format!("info_hash={}", percent_encode(&hash.0, NON_ALPHANUMERIC)));
    pairs.collect::<Vec<_>>().join("&")
}

impl ScrapeResponse {
    /// Reads a reply. Bytes after the document are ignored.
    ///
    /// # Errors
    /// A failure told by the tracker, or a reply that cannot be read.
    pub fn parse(body: &[u8]) -> Result<Self, TrackerError> {
        let limits = Limits {
            depth: 16,
            ..Limits::default()
        };
        let (document, _) = Document::parse_prefix(body, &limits)?;
        let dict = document.root().as_dict().ok_or(TrackerError::NotADict)?;
        failure(dict)?;
        let mut files = Vec::new();
        for (hash, entry) in dict
            .get("files")
            .and_then(Node::as_dict)
            .into_iter()
            .flat_map(|files| files.iter())
        {
            let (Some(&hash), Some(entry)) = (hash.as_array::<20>(), entry.as_dict()) else {
                continue;
            };
            let entry = ScrapeEntry {
                complete: count(entry, "complete"),
                incomplete: count(entry, "incomplete"),
                downloaded: count(entry, "downloaded"),
                downloaders: count(entry, "downloaders"),
            };
            files.push((InfoHash(hash), entry));
            if files.len() == MAX_FILES {
                break;
            }
        }
        Ok(Self { files })
    }

    /// The counts of one torrent.
    #[must_use]
    pub fn get(&self, hash: InfoHash) -> Option<ScrapeEntry> {
        self.files
            .iter()
            .find(|(name, _)| *name == hash)
            .map(|(_, entry)| *entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::Item;

    #[test]
    fn scrape_urls_follow_the_convention() {
        let table = [
            ("http://x/announce", Some("http://x/scrape")),
            (
                "http://x/a/announce.php?k=1",
                Some("http://x/a/scrape.php?k=1"),
            ),
            ("http://x/announce?x2%0644", Some("http://x/scrape?x2%0644")),
            ("http://x/a", None),
            ("http://x/announce/", None),
            ("http://x/announce?x=2/4", Some("http://x/scrape?x=2/4")),
            ("http://x/x%064announce", None),
        ];
        for (announce, want) in table {
            let got = scrape_url(&announce.parse().expect("a URL"));
            assert_eq!(got.map(String::from).as_deref(), want, "{announce}");
        }
    }

    #[test]
    fn reads_counts_and_leaves_unknowns_unknown() {
        let entry = [
            ("complete", 3),
            ("incomplete", -1),
            ("downloaders", 2),
            ("downloaded", 1 << 40),
        ];
        let entry = Item::dict(entry.map(|(key, value)| (key, Item::Int(value))));
        let files = Item::dict([
            (&[7u8; 20][..], entry),
            (&b"short"[..], Item::dict::<&str>([])),
        ]);
        let reply =
            ScrapeResponse::parse(&Item::dict([("files", files)]).encode()).expect("readable");
        let want = ScrapeEntry {
            complete: Some(3),
            incomplete: None,
            downloaded: None,
            downloaders: Some(2),
        };
        assert_eq!(reply.files, [(InfoHash([7; 20]), want)]);
        assert_eq!(reply.get(InfoHash([7; 20])), Some(want));
        assert_eq!(reply.get(InfoHash([8; 20])), None);
        assert!(matches!(
            ScrapeResponse::parse(b"d14:failure reason2:noe"),
            Err(TrackerError::Failure { .. })
        ));
        assert_eq!(ScrapeResponse::parse(b"de"), Ok(ScrapeResponse::default()));
    }

    #[test]
    fn query_names_each_torrent() {
        let query = scrape_query(&[InfoHash([0xff; 20]), InfoHash([b'a'; 20])]);
        assert_eq!(
            query,
            format!(
                "info_hash={}&info_hash={}",
                "%FF".repeat(20),
                "a".repeat(20)
            )
        );
    }
}
