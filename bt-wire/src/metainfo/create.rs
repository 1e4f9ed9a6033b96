//! Making v1 torrents.

use bytes::Bytes;

use super::{Metainfo, MetainfoError};
use crate::bencode::Item;

/// Builds a v1 `.torrent` (BEP 3) from piece hashes the caller computed. The output is canonical: the same input gives
/// the same bytes, and so the same infohash.
#[derive(Debug, Clone)]
pub struct MetainfoBuilder {
    name: String,
    piece_length: u32,
    content: Content,
    hashes: Vec<u8>,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    private: bool,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
}

#[derive(Debug, Clone)]
enum Content {
    Single(u64),
    Multi(Vec<(Vec<String>, u64)>),
}

/// What was given makes no torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The result would be refused by ourselves, for this reason.
    #[error("this makes no valid torrent: {0}")]
    Invalid(#[from] MetainfoError),
    /// A name is not a safe path component, or not in the form it would be read back in.
    #[error("`{0}` cannot be a file's name in a torrent")]
    UnsafeName(String),
}

impl MetainfoBuilder {
    /// A torrent of one file of `length` bytes.
    #[must_use]
    pub fn single(name: impl Into<String>, length: u64, piece_length: u32) -> Self {
        Self::new(name.into(), piece_length, Content::Single(length))
    }

    /// A torrent of several files below a directory called `name`; add them with [`MetainfoBuilder::file`].
    #[must_use]
    pub fn multi(name: impl Into<String>, piece_length: u32) -> Self {
        Self::new(name.into(), piece_length, Content::Multi(Vec::new()))
    }

    fn new(name: String, piece_length: u32, content: Content) -> Self {
        Self {
            name,
            piece_length,
            content,
            hashes: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            private: false,
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }

    /// Adds a file of `length` bytes to a torrent of several. Files are in the order they are added in.
    /// A single-file torrent becomes one of several.
    #[must_use]
    pub fn file<P: Into<String>>(mut self, path: impl IntoIterator<Item = P>, length: u64) -> Self {
        let entry = (path.into_iter().map(Into::into).collect(), length);
        match &mut self.content {
            Content::Multi(files) => files.push(entry),
            Content::Single(_) => self.content = Content::Multi(vec![entry]),
        }
        self
    }

    /// Adds SHA-1 hashes of the next pieces.
    #[must_use]
    pub fn pieces(mut self, hashes: impl IntoIterator<Item = [u8; 20]>) -> Self {
        self.hashes.extend(hashes.into_iter().flatten());
        self
    }

    /// Adds a tier of trackers (BEP 12).
    #[must_use]
    pub fn tier<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.trackers
            .push(urls.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a web seed (BEP 19).
    #[must_use]
    pub fn web_seed(mut self, url: impl Into<String>) -> Self {
        self.web_seeds.push(url.into());
        self
    }

    /// Sets the private flag (BEP 27).
    #[must_use]
    pub fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// Sets the comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Sets the name of the program that made it.
    #[must_use]
    pub fn created_by(mut self, program: impl Into<String>) -> Self {
        self.created_by = Some(program.into());
        self
    }

    /// Sets the time of making, in seconds since 1970.
    #[must_use]
    pub fn creation_date(mut self, seconds: i64) -> Self {
        self.creation_date = Some(seconds);
        self
    }

    /// The `.torrent` file's bytes.
    ///
    /// # Errors
    /// Whatever we would refuse to load: no bytes, hashes that do not fit, unsafe names.
    pub fn build(&self) -> Result<Vec<u8>, CreateError> {
        self.check_names()?;
        let first = self.trackers.iter().flatten().next();
        let tier = |urls: &Vec<String>| {
            Item::List(urls.iter().map(|url| Item::from(url.as_str())).collect())
        };
        let several = self.trackers.iter().map(Vec::len).sum::<usize>() > 1;
        let entries = [
            ("announce", first.map(|url| Item::from(url.as_str()))),
            (
                "announce-list",
                several.then(|| Item::List(self.trackers.iter().map(tier).collect())),
            ),
            ("comment", self.comment.as_deref().map(Item::from)),
            ("created by", self.created_by.as_deref().map(Item::from)),
            ("creation date", self.creation_date.map(Item::Int)),
            ("info", Some(self.info()?)),
            (
                "url-list",
                (!self.web_seeds.is_empty()).then(|| tier(&self.web_seeds)),
            ),
        ];
        let torrent = Item::dict(
            entries
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .encode();
        Metainfo::from_torrent(Bytes::copy_from_slice(&torrent))?;
        Ok(torrent)
    }

    fn info(&self) -> Result<Item, CreateError> {
        let size = |bytes: u64| {
            i64::try_from(bytes)
                .map(Item::Int)
                .map_err(|_| MetainfoError::BadSize)
        };
        let (key, content) = match &self.content {
            Content::Single(length) => ("length", size(*length)?),
            Content::Multi(files) => {
                let mut list = Vec::with_capacity(files.len());
                for (path, length) in files {
                    let path =
                        Item::List(path.iter().map(|part| Item::from(part.as_str())).collect());
                    list.push(Item::dict([("length", size(*length)?), ("path", path)]));
                }
                ("files", Item::List(list))
            }
        };
        let entries = [
            (key, Some(content)),
            ("name", Some(Item::from(self.name.as_str()))),
            ("piece length", Some(Item::from(self.piece_length))),
            ("pieces", Some(Item::bytes(&self.hashes))),
            ("private", self.private.then_some(Item::Int(1))),
        ];
        Ok(Item::dict(
            entries
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        ))
    }

    fn check_names(&self) -> Result<(), CreateError> {
        let paths: &[(Vec<String>, u64)] = match &self.content {
            Content::Single(_) => &[],
            Content::Multi(files) => files,
        };
        let parts = paths.iter().flat_map(|(path, _)| path);
        for name in parts.chain([&self.name]) {
            if name.is_empty() || super::files::component(name.as_bytes()) != *name {
                return Err(CreateError::UnsafeName(name.clone()));
            }
        }
        if paths.iter().any(|(path, _)| path.is_empty()) {
            return Err(CreateError::UnsafeName(String::new()));
        }
        Ok(())
    }
}
