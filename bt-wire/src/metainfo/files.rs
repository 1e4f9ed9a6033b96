//! File lists: of v1 (BEP 3, BEP 47) and the file tree of v2 (BEP 52).

use crate::bencode::{Dict, List, Node};

use super::{MAX_PATH_BYTES, MAX_PATH_DEPTH, MetainfoError};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Safe relative path, components joined with `/`: no `..`, no absolute path, no NUL, no backslash. May hold
    /// control characters: show it with [`super::display_text`].
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// A padding file (BEP 47): zeros that nobody wants to see.
    pub pad: bool,
}

/// Collects files and keeps an eye on their sum.
#[derive(Default)]
pub(super) struct FileList {
    pub(super) files: Vec<File>,
    pub(super) total: u64,
    path_bytes: usize,
}

impl FileList {
    /// Takes a file whose path components were made safe already. Copies the path only once it is known to fit.
    pub(super) fn push(&mut self, path: &str, length: u64, pad: bool) -> Result<(), MetainfoError> {
        let path = if path.is_empty() { "_" } else { path };
        self.total = self
            .total
            .checked_add(length)
            .ok_or(MetainfoError::BadSize)?;
        self.path_bytes += path.len();
        if self.path_bytes > MAX_PATH_BYTES {
            return Err(MetainfoError::PathsTooLong);
        }
        self.files.push(File {
            path: path.to_owned(),
            length,
            pad,
        });
        Ok(())
    }

    /// No two files share a path; padding files may, since nobody sees them. Sorts aside, so a bomb of equal names costs
    /// no more than any list (row A4).
    pub(super) fn refuse_duplicates(&self) -> Result<(), MetainfoError> {
        let mut paths: Vec<&str> = self
            .files
            .iter()
            .filter(|file| !file.pad)
            .map(|file| file.path.as_str())
            .collect();
        paths.sort_unstable();
        if paths.windows(2).any(|pair| pair[0] == pair[1]) {
            Err(MetainfoError::DuplicatePath)
        } else {
            Ok(())
        }
    }
}

/// The `files` list of a v1 info dictionary.
pub(super) fn v1_list(list: List<'_>) -> Result<FileList, MetainfoError> {
    let mut files = FileList::default();
    let mut path = String::new();
    for entry in list.iter() {
        let entry = entry.as_dict().ok_or(MetainfoError::BadKey("files"))?;
        let length = length(entry)?;
        let pad = attributes(entry)?;
        let parts = entry.get("path.utf-8").or_else(|| entry.get("path"));
        path.clear();
        v1_path(
            parts
                .and_then(Node::as_list)
                .ok_or(MetainfoError::BadKey("path"))?,
            &mut path,
        )?;
        files.push(&path, length, pad)?;
    }
    files.refuse_duplicates()?;
    Ok(files)
}

fn v1_path(list: List<'_>, path: &mut String) -> Result<(), MetainfoError> {
    for (depth, part) in list.iter().enumerate() {
        if depth == MAX_PATH_DEPTH {
            return Err(MetainfoError::TooDeep);
        }
        push_component(path, part.as_bytes().ok_or(MetainfoError::BadKey("path"))?);
    }
    Ok(())
}

/// The size of a file or of a whole single-file torrent.
pub(super) fn length(entry: Dict<'_>) -> Result<u64, MetainfoError> {
    let length = entry.int("length").ok_or(MetainfoError::BadKey("length"))?;
    u64::try_from(length).map_err(|_| MetainfoError::BadSize)
}

/// Whether it is a padding file.
///
/// # Errors
/// Symbolic links are refused (row A2).
pub(super) fn attributes(entry: Dict<'_>) -> Result<bool, MetainfoError> {
    let attr = entry.bytes("attr").unwrap_or_default();
    if attr.contains(&b'l') || entry.get("symlink path").is_some() {
        return Err(MetainfoError::Symlink);
    }
    Ok(attr.contains(&b'p'))
}

/// A v2 file tree, flattened in its own order. The document's depth limit bounds the recursion.
pub(super) fn v2_tree(tree: Dict<'_>) -> Result<FileList, MetainfoError> {
    let mut files = FileList::default();
    walk(tree, &mut String::new(), 0, &mut files)?;
    files.refuse_duplicates()?;
    Ok(files)
}

/// `path` is the directory's own; it is shared by the whole walk, so that no number of directories below a long name
/// copies that name more than once.
fn walk(
    directory: Dict<'_>,
    path: &mut String,
    depth: usize,
    files: &mut FileList,
) -> Result<(), MetainfoError> {
    const BAD: MetainfoError = MetainfoError::BadKey("file tree");
    if depth == MAX_PATH_DEPTH {
        return Err(MetainfoError::TooDeep);
    }
    let own = path.len();
    for (name, entry) in directory.iter() {
        let entry = entry.as_dict().ok_or(BAD)?;
        if name.is_empty() {
            return Err(BAD);
        }
        push_component(path, name);
        match entry.get("") {
            Some(leaf) => {
                let leaf = leaf.as_dict().ok_or(BAD)?;
                files.push(path, length(leaf)?, attributes(leaf)?)?;
            }
            None => walk(entry, path, depth + 1, files)?,
        }
        path.truncate(own);
    }
    Ok(())
}

/// One name made safe: valid UTF-8 stays, other bytes are read as Latin-1 so that different names stay different.
pub(super) fn component(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).map_or_else(
        |_| bytes.iter().copied().map(char::from).collect::<String>(),
        str::to_owned,
    );
    let safe: String = text
        .chars()
        .map(|char| {
            if matches!(char, '/' | '\\' | '\0') {
                '_'
            } else {
                char
            }
        })
        .collect();
    match safe.as_bytes() {
        b"." | b".." => String::new(),
        [drive, b':'] if drive.is_ascii_alphabetic() => safe.replace(':', "_"),
        _ => safe,
    }
}

/// Appends a name to a path. Empty names, `.` and `..` vanish (row A1).
fn push_component(path: &mut String, bytes: &[u8]) {
    let safe = component(bytes);
    if !safe.is_empty() {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&safe);
    }
}
