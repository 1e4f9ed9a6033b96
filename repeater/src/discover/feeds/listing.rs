//! Directory listings: HTML as web servers make it, or plain text with one URL or path a line.

use url::Url;

use super::parse::{Gathered, ItemLink, MAX_LINK, is_torrent_link};

/// Adds every link to a .torrent file or magnet. Tolerant: what is no tag is text, and every byte is read once.
pub(super) fn read_html(bytes: &[u8], base: &Url, out: &mut Gathered) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == b'<') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if !out.has_room() {
            return;
        }
        if rest.starts_with(b"!--") {
            let end = rest.windows(3).position(|w| w == b"-->");
            rest = end.and_then(|e| rest.get(e + 3..)).unwrap_or_default();
        } else if let [b'a' | b'A', b' ' | b'\t' | b'\r' | b'\n', inside @ ..] = rest {
            let (href, behind) = read_attributes(inside);
            rest = behind;
            if let Some(link) = href.filter(|l| is_torrent_link(l)) {
                out.add(base, "", &link, None, None);
            }
        }
    }
}

/// The `href` of a tag, and what follows the tag.
fn read_attributes(mut rest: &[u8]) -> (Option<String>, &[u8]) {
    let mut href = None;
    loop {
        rest = rest.trim_ascii_start();
        match rest {
            [] => return (href, rest),
            [b'>', behind @ ..] => return (href, behind),
            [b'/' | b'=' | b'"' | b'\'', behind @ ..] => {
                rest = behind;
                continue;
            }
            _ => {}
        }
        let (name, behind) = split_at_any(rest, b"=> \t\r\n/");
        rest = behind.trim_ascii_start();
        let Some(after) = rest.strip_prefix(b"=") else {
            continue;
        };
        let after = after.trim_ascii_start();
        let (value, behind) = match after {
            [quote @ (b'"' | b'\''), inside @ ..] => {
                let (value, end) = split_at_any(inside, &[*quote]);
                (value, end.get(1..).unwrap_or_default())
            }
            _ => split_at_any(after, b"> \t\r\n"),
        };
        rest = behind;
        if href.is_none() && name.eq_ignore_ascii_case(b"href") && value.len() <= MAX_LINK {
            href = Some(unescape(&String::from_utf8_lossy(value)));
        }
    }
}

fn split_at_any<'a>(bytes: &'a [u8], stops: &[u8]) -> (&'a [u8], &'a [u8]) {
    bytes.split_at(
        bytes
            .iter()
            .position(|b| stops.contains(b))
            .unwrap_or(bytes.len()),
    )
}

/// The character references that occur in links.
fn unescape(text: &str) -> String {
    let named = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&apos;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ];
    let text = named
        .iter()
        .fold(text.to_owned(), |t, (from, to)| t.replace(from, to));
    // Last, so that nothing is unescaped twice.
    text.replace("&#38;", "&")
        .replace("&#x26;", "&")
        .replace("&amp;", "&")
}

/// Adds every line that names a .torrent file or magnet; `#` starts a comment line.
pub(super) fn read_text(bytes: &[u8], base: &Url, out: &mut Gathered) {
    for line in bytes.split(|b| *b == b'\n') {
        if !out.has_room() {
            return;
        }
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let line = line.trim();
        if !line.starts_with('#') && is_torrent_link(line) {
            out.add(base, "", line, None, None);
        }
    }
}

/// A title for what has none: the file's name without `.torrent`, or the magnet's display name.
pub(super) fn name_of(link: &ItemLink) -> String {
    match link {
        ItemLink::Torrent(url) => {
            let file = url
                .path_segments()
                .and_then(|mut s| s.next_back())
                .unwrap_or_default();
            let name = percent_encoding::percent_decode_str(file)
                .decode_utf8_lossy()
                .into_owned();
            name.strip_suffix(".torrent")
                .map(str::to_owned)
                .unwrap_or(name)
        }
        ItemLink::Magnet(link) => Url::parse(link)
            .ok()
            .and_then(|url| {
                url.query_pairs()
                    .find(|(k, _)| k == "dn")
                    .map(|(_, v)| v.into_owned())
            })
            .unwrap_or_default(),
    }
}
