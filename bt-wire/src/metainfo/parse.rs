//! From bytes to [`Metainfo`].

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use sha1::{Digest, Sha1};

use super::files::{self, FileList};
use super::{MAX_PATH_DEPTH, MAX_TORRENT, MAX_URLS, MetaVersion, Metainfo, MetainfoError};
use crate::bencode::{Dict, Document, KeyOrder, Limits, Node, Value};
use crate::ids::{InfoHash, InfoHashV2};
use crate::layout::{Layout, LayoutError, MAX_PIECE_LENGTH, MAX_PIECES};
use crate::tracker::MAX_URL;

/// Enough for the deepest file tree and 1.5 million values: 18 MB of tokens at most.
const LIMITS: Limits = Limits {
    depth: MAX_PATH_DEPTH as u32 + 10,
    tokens: 1_500_000,
    string: MAX_TORRENT as u32,
    keys: KeyOrder::Any,
};
/// Shortest piece of a v2 torrent, in bytes (BEP 52).
const MIN_V2_PIECE: u32 = 16_384;

pub(super) fn torrent(bytes: &Bytes) -> Result<Metainfo, MetainfoError> {
    let document = read(bytes)?;
    let dict = document
        .root()
        .as_dict()
        .ok_or(MetainfoError::BadKey("info"))?;
    let node = dict.get("info").ok_or(MetainfoError::BadKey("info"))?;
    let mut metainfo = info(node, &bytes.slice_ref(node.raw()))?;
    metainfo.trackers = trackers(dict);
    metainfo.web_seeds = web_seeds(dict);
    Ok(metainfo)
}

pub(super) fn info_alone(
    bytes: &Bytes,
    trackers: Vec<Vec<String>>,
) -> Result<Metainfo, MetainfoError> {
    let document = read(bytes)?;
    let mut metainfo = info(document.root(), bytes)?;
    metainfo.trackers = trackers;
    Ok(metainfo)
}

fn read(bytes: &Bytes) -> Result<Document<'_>, MetainfoError> {
    if bytes.len() > MAX_TORRENT {
        return Err(MetainfoError::TooLong(bytes.len()));
    }
    Ok(Document::parse(bytes, &LIMITS)?)
}

fn info(node: Node<'_>, raw: &Bytes) -> Result<Metainfo, MetainfoError> {
    let dict = node.as_dict().ok_or(MetainfoError::BadKey("info"))?;
    let version = version(dict)?;
    let piece_length = piece_length(dict, version)?;
    let name = name(dict)?;
    let hashes = dict.bytes("pieces").unwrap_or_default();
    let (list, multi_file) = match version {
        MetaVersion::V1 => v1_files(dict, &name)?,
        MetaVersion::Hybrid => hybrid_files(dict, &name)?,
        MetaVersion::V2 => v2_files(dict, &name)?,
    };
    let piece_count = match version {
        MetaVersion::V1 | MetaVersion::Hybrid => v1_piece_count(piece_length, list.total, hashes)?,
        MetaVersion::V2 => v2_piece_count(piece_length, &list)?,
    };
    let v1 = version != MetaVersion::V2;
    let v2 = version != MetaVersion::V1;
    Ok(Metainfo {
        version,
        name,
        files: list.files,
        multi_file,
        total: list.total,
        piece_length,
        piece_count,
        private: dict.int("private") == Some(1),
        trackers: Vec::new(),
        web_seeds: Vec::new(),
        info_hash_v1: v1.then(|| InfoHash(Sha1::digest(raw).into())),
        info_hash_v2: v2.then(|| sha256(raw)),
        info_bytes: raw.clone(),
        hashes: if v1 {
            raw.slice_ref(hashes)
        } else {
            Bytes::new()
        },
    })
}

fn sha256(raw: &[u8]) -> InfoHashV2 {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, raw).as_ref());
    InfoHashV2(hash)
}

fn version(dict: Dict<'_>) -> Result<MetaVersion, MetainfoError> {
    let v1 = dict.get("pieces").is_some();
    match dict.int("meta version") {
        None | Some(1) => Ok(MetaVersion::V1),
        Some(2) if v1 => Ok(MetaVersion::Hybrid),
        Some(2) => Ok(MetaVersion::V2),
        Some(other) => Err(MetainfoError::UnknownVersion(other)),
    }
}

fn piece_length(dict: Dict<'_>, version: MetaVersion) -> Result<u32, MetainfoError> {
    let length = dict
        .int("piece length")
        .ok_or(MetainfoError::BadKey("piece length"))?;
    let bad = LayoutError::PieceLength(u64::try_from(length).unwrap_or_default());
    let length = u32::try_from(length)
        .ok()
        .filter(|length| (1..=MAX_PIECE_LENGTH).contains(length))
        .ok_or(bad)?;
    let v2 = version != MetaVersion::V1;
    if v2 && (!length.is_power_of_two() || length < MIN_V2_PIECE) {
        return Err(MetainfoError::BadKey("piece length"));
    }
    Ok(length)
}

fn name(dict: Dict<'_>) -> Result<String, MetainfoError> {
    let bytes = dict
        .bytes("name.utf-8")
        .or_else(|| dict.bytes("name"))
        .ok_or(MetainfoError::BadKey("name"))?;
    let name = files::component(bytes);
    Ok(if name.is_empty() {
        "_".to_owned()
    } else {
        name
    })
}

fn v1_files(dict: Dict<'_>, name: &str) -> Result<(FileList, bool), MetainfoError> {
    match (dict.get("files"), dict.get("length")) {
        (Some(_), Some(_)) => Err(MetainfoError::BadKey("files")),
        (Some(list), None) => {
            let list = list.as_list().ok_or(MetainfoError::BadKey("files"))?;
            Ok((files::v1_list(list)?, true))
        }
        (None, _) => {
            let mut list = FileList::default();
            let pad = files::attributes(dict)?;
            list.push(name, files::length(dict)?, pad)?;
            Ok((list, false))
        }
    }
}

/// The v1 list, once the v2 tree agrees with it: same files of the same sizes in the same order, padding left out.
fn hybrid_files(dict: Dict<'_>, name: &str) -> Result<(FileList, bool), MetainfoError> {
    let (v1, multi_file) = v1_files(dict, name)?;
    let v2 = v2_files(dict, name)?.0;
    let real = |list: &FileList| {
        list.files
            .iter()
            .filter(|file| !file.pad)
            .map(|file| file.length)
            .collect::<Vec<_>>()
    };
    if real(&v1) == real(&v2) {
        Ok((v1, multi_file))
    } else {
        Err(MetainfoError::HybridMismatch)
    }
}

fn v2_files(dict: Dict<'_>, name: &str) -> Result<(FileList, bool), MetainfoError> {
    let tree = dict
        .get("file tree")
        .and_then(Node::as_dict)
        .ok_or(MetainfoError::BadKey("file tree"))?;
    let list = files::v2_tree(tree)?;
    let single = matches!(list.files.as_slice(), [only] if only.path == name);
    Ok((list, !single))
}

fn v1_piece_count(piece_length: u32, total: u64, hashes: &[u8]) -> Result<u32, MetainfoError> {
    let layout = Layout::new(piece_length, total)?;
    let want = layout.piece_count as usize * 20;
    if hashes.len() == want {
        Ok(layout.piece_count)
    } else {
        Err(MetainfoError::PieceHashes {
            have: hashes.len(),
            want,
        })
    }
}

/// In v2 every file begins a piece of its own.
fn v2_piece_count(piece_length: u32, list: &FileList) -> Result<u32, MetainfoError> {
    if list.total == 0 {
        return Err(LayoutError::Empty.into());
    }
    // No file has more pieces than bytes, and the bytes' sum was checked: this cannot overflow.
    let pieces: u64 = list
        .files
        .iter()
        .map(|file| file.length.div_ceil(piece_length.into()))
        .sum();
    let count = u32::try_from(pieces)
        .ok()
        .filter(|&count| count <= MAX_PIECES);
    Ok(count.ok_or(LayoutError::TooManyPieces(pieces))?)
}

/// Tiers of `announce-list` (BEP 12), or `announce` alone where there is none.
fn trackers(dict: Dict<'_>) -> Vec<Vec<String>> {
    let mut left = MAX_URLS;
    let mut tiers = Vec::new();
    for tier in dict
        .get("announce-list")
        .and_then(Node::as_list)
        .into_iter()
        .flat_map(|tiers| tiers.iter())
    {
        let urls = tier.as_list().into_iter().flat_map(|urls| urls.iter());
        let tier: Vec<String> = urls.filter_map(url).take(left).collect();
        left -= tier.len();
        if !tier.is_empty() {
            tiers.push(tier);
        }
        if left == 0 {
            break;
        }
    }
    if tiers.is_empty() {
        tiers.extend(dict.get("announce").and_then(url).map(|url| vec![url]));
    }
    tiers
}

fn web_seeds(dict: Dict<'_>) -> Vec<String> {
    match dict.get("url-list").map(|node| (node, node.value())) {
        Some((_, Value::List(urls))) => urls.iter().filter_map(url).take(MAX_URLS).collect(),
        Some((node, Value::Bytes(_))) => url(node).into_iter().collect(),
        Some((_, Value::Int(_) | Value::Dict(_))) | None => Vec::new(),
    }
}

/// A URL's text if it may be one: not empty, not too long, nothing unprintable.
fn url(node: Node<'_>) -> Option<String> {
    let text = node.as_str()?.trim();
    let plausible =
        !text.is_empty() && text.len() <= MAX_URL && !text.chars().any(char::is_control);
    plausible.then(|| text.to_owned())
}
