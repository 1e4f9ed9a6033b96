//! The offline jobs: show, magnet. Creating is in [`create`].

mod create;

use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;

use bt_wire::magnet::Magnet;
use bt_wire::metainfo::{MAX_TORRENT, Metainfo};
use control_api::units::human_bytes;
use owo_colors::Style;
use serde::Serialize;

use crate::cli::Torrent;
use crate::failure::Failure;
use crate::show::Page;
use crate::{Io, printable};

/// `torrent show --json`. What a magnet link does not say is null.
#[derive(Debug, Serialize)]
struct Shown {
    name: Option<String>,
    info_hash_v1: Option<String>,
    info_hash_v2: Option<String>,
    piece_length: Option<u32>,
    piece_count: Option<u32>,
    total_bytes: Option<u64>,
    private: Option<bool>,
    files: Option<Vec<ShownFile>>,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    peers: Vec<String>,
    /// Why it cannot be joined; null = it can.
    not_joinable: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownFile {
    path: String,
    bytes: u64,
    /// A padding file (BEP 47).
    padding: bool,
}

pub(crate) fn run(command: &Torrent, json: bool, io: &mut Io<'_>) -> Result<(), Failure> {
    match command {
        Torrent::Show { torrent } => {
            let shown = if is_link(torrent) {
                of_magnet(&link(torrent)?)
            } else {
                of_file(load(torrent.as_ref())?)
            };
            if json {
                io.json(&shown)
            } else {
                print(&shown, io)
            }
        }
        Torrent::Magnet { file } => {
            let link = magnet(load(file)?).to_string();
            if json {
                io.json(&serde_json::json!({ "magnet": link }))
            } else {
                io.text(&printable(&link))
            }
        }
        Torrent::Create(create) => create::run(create, json, io),
    }
}

/// Whether the argument is a magnet link and not a file.
pub(crate) fn is_link(text: &str) -> bool {
    text.get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
}

fn link(text: &str) -> Result<Magnet, Failure> {
    text.parse().map_err(|e: bt_wire::magnet::MagnetError| {
        let shown: String = text.chars().take(60).collect();
        Failure::refused(shown, e.to_string(), "")
    })
}

/// A .torrent file's bytes, at most [`MAX_TORRENT`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |why: String| {
        Failure::refused(
            path.display().to_string(),
            why,
            "give a .torrent file, a magnet link or a URL",
        )
    };
    let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_TORRENT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| fail(e.to_string()))?;
    if bytes.len() > MAX_TORRENT {
        return Err(fail(
            "is over 32 MiB, which no .torrent file needs".to_owned(),
        ));
    }
    Ok(bytes)
}

fn load(path: &Path) -> Result<Metainfo, Failure> {
    Metainfo::from_torrent(read(path)?)
        .map_err(|e| Failure::refused(path.display().to_string(), e.to_string(), ""))
}

fn of_file(metainfo: Metainfo) -> Shown {
    let not_joinable = metainfo.joinable().err().map(|e| e.to_string());
    let files = metainfo.files.into_iter().map(|f| ShownFile {
        path: f.path,
        bytes: f.length,
        padding: f.pad,
    });
    Shown {
        name: Some(metainfo.name),
        info_hash_v1: metainfo.info_hash_v1.map(|hash| hash.to_string()),
        info_hash_v2: metainfo.info_hash_v2.map(|hash| hash.to_string()),
        piece_length: Some(metainfo.piece_length),
        piece_count: Some(metainfo.piece_count),
        total_bytes: Some(metainfo.total),
        private: Some(metainfo.private),
        files: Some(files.collect()),
        trackers: metainfo.trackers,
        web_seeds: metainfo.web_seeds,
        peers: Vec::new(),
        not_joinable,
    }
}

fn of_magnet(magnet: &Magnet) -> Shown {
    Shown {
        name: magnet.name.clone(),
        info_hash_v1: magnet.info_hash_v1.map(|hash| hash.to_string()),
        info_hash_v2: magnet.info_hash_v2.map(|hash| hash.to_string()),
        piece_length: None,
        piece_count: None,
        total_bytes: None,
        private: None,
        files: None,
        trackers: magnet
            .trackers
            .iter()
            .map(|url| vec![url.clone()])
            .collect(),
        web_seeds: magnet.web_seeds.clone(),
        peers: magnet.peers.iter().map(ToString::to_string).collect(),
        not_joinable: magnet
            .info_hash_v1
            .is_none()
            .then(|| bt_wire::metainfo::NotJoinable::V2Only.to_string()),
    }
}

fn magnet(metainfo: Metainfo) -> Magnet {
    Magnet {
        info_hash_v1: metainfo.info_hash_v1,
        info_hash_v2: metainfo.info_hash_v2,
        name: Some(metainfo.name),
        trackers: metainfo.trackers.into_iter().flatten().collect(),
        web_seeds: metainfo.web_seeds,
        peers: Vec::new(),
    }
}

fn print(shown: &Shown, io: &mut Io<'_>) -> Result<(), Failure> {
    let mut page = Page::new(io);
    let name = shown.name.as_deref().unwrap_or("(no name)");
    let title = page.paint(&printable(name), Style::new().bold());
    page.line(&title);
    let hashes = [
        ("infohash v1", &shown.info_hash_v1),
        ("infohash v2", &shown.info_hash_v2),
    ];
    for (label, hash) in hashes {
        if let Some(hash) = hash {
            page.field(label, hash);
        }
    }
    if let (Some(total), Some(count), Some(length)) =
        (shown.total_bytes, shown.piece_count, shown.piece_length)
    {
        page.field(
            "size",
            &format!(
                "{} in {count} pieces of {}",
                human_bytes(total),
                human_bytes(length.into())
            ),
        );
    }
    if shown.private == Some(true) {
        page.field("private", "yes: its own trackers only (BEP 27)");
    }
    for (tier, urls) in shown.trackers.iter().enumerate() {
        page.field(&format!("tracker {tier}"), &printable(&urls.join("  ")));
    }
    for url in &shown.web_seeds {
        page.field("web seed", &printable(url));
    }
    for peer in &shown.peers {
        page.field("peer", peer);
    }
    if let Some(why) = &shown.not_joinable {
        page.field("note", why);
    }
    let Some(files) = &shown.files else {
        return io.text(&page.finish());
    };
    page.title("FILES");
    io.text(&page.finish())?;
    // There may be hundreds of thousands: no table in memory.
    let mut out = BufWriter::new(&mut *io.out);
    for file in files.iter().filter(|file| !file.padding) {
        let (bytes, path) = (human_bytes(file.bytes), printable(&file.path));
        writeln!(out, "{bytes:>10}  {path}").map_err(Failure::output)?;
    }
    out.flush().map_err(Failure::output)
}
