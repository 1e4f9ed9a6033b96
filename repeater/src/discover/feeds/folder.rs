//! A local folder as a feed, on the operator's own word.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bt_wire::metainfo::MAX_TORRENT;
use url::Url;

use super::guard::MAX_ITEMS;
use super::parse::{FeedItem, ItemLink};

/// A .torrent file found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Changes when the file does.
    pub(super) link: ItemLink,
    title: String,
    changed: u64,
}

impl Found {
    pub(super) fn item(&self) -> FeedItem {
        let published = i64::try_from(self.changed).ok();
        FeedItem {
            title: self.title.clone(),
            link: self.link.clone(),
            claimed_bytes: None,
            published,
        }
    }
}

/// The .torrent files in a folder, newest first, at most 10,000; or the one file.
pub(super) fn list(path: &Path) -> io::Result<Vec<Found>> {
    let path = std::path::absolute(path)?;
    if path.is_file() {
        return Ok(look(path).into_iter().collect());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("torrent"))
        {
            found.extend(look(path));
        }
        if found.len() >= MAX_ITEMS {
            break;
        }
    }
    found.sort_by(|a, b| (b.changed, &b.path).cmp(&(a.changed, &a.path)));
    Ok(found)
}

fn look(path: PathBuf) -> Option<Found> {
    let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let changed = meta
        .modified()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    let mut url = Url::from_file_path(&path).ok()?;
    url.set_fragment(Some(&format!("{}-{}", changed.as_nanos(), meta.len())));
    let title = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Some(Found {
        path,
        link: ItemLink::Torrent(url),
        title,
        changed: changed.as_secs(),
    })
}

/// Reads a .torrent file of at most 32 MiB.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // O_NONBLOCK: a FIFO called x.torrent must not hang the poll.
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_TORRENT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_TORRENT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "over 32 MiB"));
    }
    Ok(bytes)
}
