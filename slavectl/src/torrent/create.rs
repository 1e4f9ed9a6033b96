//! `torrent create`: a v1 .torrent of a file or folder.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bt_wire::metainfo::{Metainfo, MetainfoBuilder};
use control_api::units::human_bytes;
use sha1::{Digest as _, Sha1};

use crate::cli::Create;
use crate::failure::Failure;
use crate::{Io, printable};

/// Shortest and longest piece chosen by ourselves, in bytes.
const PIECE_LENGTHS: std::ops::RangeInclusive<u64> = 16 << 10..=16 << 20;
/// Pieces aimed at, at most.
const PIECES: u64 = 2000;
/// Deepest folder walked.
const MAX_DEPTH: usize = 64;

/// A file to go in: its place, its path in the torrent, its length when it was found.
struct Found {
    place: PathBuf,
    path: Vec<String>,
    length: u64,
}

pub(super) fn run(create: &Create, json: bool, io: &mut Io<'_>) -> Result<(), Failure> {
    let torrent = make(create)?;
    let metainfo = Metainfo::from_torrent(torrent.clone())
        .map_err(|e| Failure::refused("torrent", e.to_string(), ""))?;
    let output = create
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.torrent", metainfo.name)));
    write(&output, &torrent, create.force)?;
    let hash = metainfo.info_hash().to_string();
    if json {
        let file = output.display().to_string();
        let (bytes, pieces) = (metainfo.total, metainfo.piece_count);
        return io.json(&serde_json::json!({ "file": file, "info_hash_v1": hash, "total_bytes": bytes, "piece_count": pieces, "piece_length": metainfo.piece_length }));
    }
    let text = format!(
        "Wrote {}: {}, {} in {} pieces of {}",
        printable(&output.display().to_string()),
        hash,
        human_bytes(metainfo.total),
        metainfo.piece_count,
        human_bytes(metainfo.piece_length.into())
    );
    io.text(&text)
}

fn refused(path: &Path, why: impl ToString, hint: &str) -> Failure {
    Failure::refused(path.display().to_string(), why.to_string(), hint)
}

fn make(create: &Create) -> Result<Vec<u8>, Failure> {
    for url in &create.tracker {
        bt_wire::tracker::check_announce_url(url).map_err(|e| {
            Failure::usage(
                format!("--tracker {url}"),
                e.to_string(),
                "write http://…/announce or https://…",
            )
        })?;
    }
    let root = create
        .path
        .canonicalize()
        .map_err(|e| refused(&create.path, e, ""))?;
    let name = root
        .file_name()
        .and_then(|name| name.to_str())
        .map(ToOwned::to_owned);
    let name = name.ok_or_else(|| refused(&root, "its name is not Unicode text", "rename it"))?;
    let mut files = Vec::new();
    let folder = root.is_dir();
    if folder {
        walk(&root, &mut Vec::new(), &mut files)?;
    } else {
        let length = root.metadata().map_err(|e| refused(&root, e, ""))?.len();
        files.push(Found {
            place: root.clone(),
            path: vec![name.clone()],
            length,
        });
    }
    let total = files
        .iter()
        .try_fold(0u64, |sum, file| sum.checked_add(file.length));
    let total = total
        .filter(|total| *total > 0)
        .ok_or_else(|| refused(&root, "there is nothing in it", ""))?;
    let piece_length = piece_length(create, total)?;
    let mut builder = if folder {
        files.iter().fold(
            MetainfoBuilder::multi(name, piece_length),
            |builder, file| builder.file(file.path.clone(), file.length),
        )
    } else {
        MetainfoBuilder::single(name, total, piece_length)
    };
    builder = builder
        .pieces(hash(&files, piece_length)?)
        .private(create.private);
    builder = builder.created_by(concat!("BTSlave/", env!("CARGO_PKG_VERSION")));
    builder = create
        .tracker
        .iter()
        .fold(builder, |builder, url| builder.tier([url.as_str()]));
    builder = create
        .web_seed
        .iter()
        .fold(builder, MetainfoBuilder::web_seed);
    if let Some(comment) = &create.comment {
        builder = builder.comment(comment);
    }
    builder.build().map_err(|e| refused(&root, e, ""))
}

fn piece_length(create: &Create, total: u64) -> Result<u32, Failure> {
    let wrong = |why: &str| {
        Failure::usage(
            "--piece-length",
            why,
            "write a size from \"16 KiB\" to \"256 MiB\", a multiple of 16 KiB",
        )
    };
    let Some(given) = create.piece_length else {
        let fit = total
            .div_ceil(PIECES)
            .next_power_of_two()
            .clamp(*PIECE_LENGTHS.start(), *PIECE_LENGTHS.end());
        return u32::try_from(fit).map_err(|_| wrong("is too large"));
    };
    let bytes = given
        .0
        .filter(|bytes| (16 << 10..=256 << 20).contains(bytes) && bytes.is_multiple_of(16 << 10));
    u32::try_from(bytes.ok_or_else(|| wrong("makes no usual piece"))?)
        .map_err(|_| wrong("is too large"))
}

/// Files below `folder` in the order of their names. Symbolic links and what is no file are refused: a torrent made
/// without them would not be what was asked for.
fn walk(folder: &Path, path: &mut Vec<String>, files: &mut Vec<Found>) -> Result<(), Failure> {
    if path.len() >= MAX_DEPTH {
        return Err(refused(folder, "folders nest deeper than 64", ""));
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|e| refused(folder, e, ""))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let place = entry.path();
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| refused(&place, "its name is not Unicode text", "rename it"))?;
        let kind = entry.metadata().map_err(|e| refused(&place, e, ""))?;
        path.push(name);
        if kind.is_dir() {
            walk(&place, path, files)?;
        } else if kind.is_file() {
            files.push(Found {
                place,
                path: path.clone(),
                length: kind.len(),
            });
        } else {
            return Err(refused(
                &place,
                "is neither a file nor a folder",
                "move it out of the way",
            ));
        }
        path.pop();
    }
    Ok(())
}

fn hash(files: &[Found], piece_length: u32) -> Result<Vec<[u8; 20]>, Failure> {
    let mut hashes = Vec::new();
    let (mut sha1, mut room) = (Sha1::new(), u64::from(piece_length));
    let mut buffer = vec![0; 256 << 10];
    for found in files {
        let changed = || refused(&found.place, "changed while it was read", "try again");
        let mut file = File::open(&found.place).map_err(|e| refused(&found.place, e, ""))?;
        let mut left = found.length;
        loop {
            let want = usize::try_from(room.min(buffer.len() as u64)).unwrap_or(buffer.len());
            let read = file
                .read(&mut buffer[..want])
                .map_err(|e| refused(&found.place, e, ""))?;
            if read == 0 {
                break;
            }
            left = left.checked_sub(read as u64).ok_or_else(changed)?;
            sha1.update(&buffer[..read]);
            room -= read as u64;
            if room == 0 {
                hashes.push(sha1.finalize_reset().into());
                room = piece_length.into();
            }
        }
        if left > 0 {
            return Err(changed());
        }
    }
    if room < u64::from(piece_length) {
        hashes.push(sha1.finalize().into());
    }
    Ok(hashes)
}

fn write(path: &Path, torrent: &[u8], force: bool) -> Result<(), Failure> {
    let mut options = File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let hint = if force {
        ""
    } else {
        "name another with -o FILE, or replace it with --force"
    };
    let mut file = options.open(path).map_err(|e| refused(path, e, hint))?;
    file.write_all(torrent)
        .and_then(|()| file.sync_all())
        .map_err(|e| refused(path, e, ""))
}
