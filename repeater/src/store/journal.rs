//! The settings journal: an append-only file, synced before a change is acknowledged.
//!
//! Header (28 bytes): `BTSJ` ‖ format u8 ‖ 3 zero bytes ‖ sequence number u64 ‖ snapshot records u32 ‖
//! zero u32 ‖ crc32c of all before u32. Then records: length u32 ‖ crc32c of length and body u32 ‖ body,
//! where body = sequence u64 ‖ op u8 ‖ tree u8 ‖ key length u16 ‖ key ‖ value. All integers little-endian.
//! The first `snapshot records` carry the header's number and restate everything; each later one counts up by one.
//! So any flipped bit or cut is noticed, and what is read is a prefix of what was written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};

use super::codec::MAX_VALUE;
use super::disk::{Dir, Disk};
use super::error::StoreError;

/// The file's name in the data directory.
pub(super) const NAME: &str = "settings.journal";
/// Over this size the journal is rewritten to what still holds.
pub(super) const COMPACT_AT: u64 = 1 << 20;
/// Nothing longer is read: the file is compacted at 1 MiB, and settings over 64 MiB are not settings.
pub(super) const MAX_FILE: u64 = 64 << 20;
const MAGIC: &[u8; 4] = b"BTSJ";
const FORMAT: u8 = 1;
const HEADER: usize = 28;
const BODY_MIN: usize = 12;
const BODY_MAX: usize = BODY_MIN + u16::MAX as usize + MAX_VALUE as usize + 1;
const OP_PUT: u8 = 0;
const OP_REMOVE: u8 = 1;

/// Tree number and key of one setting.
pub(super) type Key = (u8, Vec<u8>);
/// All settings, encoded.
pub(super) type Settings = BTreeMap<Key, Vec<u8>>;

/// Where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// At the end of the file.
    Clean,
    /// In the last record, which is shorter than it says: a torn append, or a cut.
    Torn,
    /// At a record or header whose check fails.
    Damaged,
}

/// What a journal's bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replay {
    pub(super) settings: Settings,
    /// Number of the last change read.
    pub(super) seq: u64,
    /// Bytes that were good; 0 = not even the header.
    pub(super) good: u64,
    /// Whether the opening snapshot was read whole.
    pub(super) complete: bool,
    pub(super) end: End,
}

/// Reads a journal. An empty file is a new one. Errors only for a format newer than ours.
pub(super) fn replay(bytes: &[u8]) -> Result<Replay, StoreError> {
    let mut out = Replay {
        settings: Settings::new(),
        seq: 0,
        good: 0,
        complete: bytes.is_empty(),
        end: End::Clean,
    };
    if bytes.is_empty() {
        return Ok(out);
    }
    let Some((seq, snapshot)) = read_header(bytes)? else {
        out.end = if bytes.len() < HEADER {
            End::Torn
        } else {
            End::Damaged
        };
        return Ok(out);
    };
    out.seq = seq;
    let (mut at, mut count) = (HEADER, 0u64);
    while at < bytes.len() {
        match read_record(bytes.get(at..).unwrap_or_default()) {
            Read::Record { size, record } if record.seq == expected(seq, snapshot, count) => {
                out.seq = record.seq;
                match record.value {
                    Some(value) => out.settings.insert(record.key, value.to_vec()),
                    None => out.settings.remove(&record.key),
                };
                at += size;
                count += 1;
            }
            Read::Record { .. } | Read::Bad => {
                out.end = End::Damaged;
                break;
            }
            Read::Short => {
                out.end = End::Torn;
                break;
            }
        }
    }
    out.good = at as u64;
    out.complete = count >= u64::from(snapshot);
    if !out.complete && out.end == End::Clean {
        out.end = End::Torn;
    }
    Ok(out)
}

fn expected(base: u64, snapshot: u32, count: u64) -> u64 {
    (count + 1)
        .checked_sub(u64::from(snapshot))
        .map_or(base, |n| base.saturating_add(n))
}

fn read_header(bytes: &[u8]) -> Result<Option<(u64, u32)>, StoreError> {
    let Some((head, crc)) = bytes.get(..HEADER).and_then(|h| h.split_last_chunk::<4>()) else {
        return Ok(None);
    };
    if !head.starts_with(MAGIC) || crc32c::crc32c(head) != u32::from_le_bytes(*crc) {
        return Ok(None);
    }
    let format = head.get(4).copied().unwrap_or_default();
    if format > FORMAT {
        return Err(StoreError::Newer {
            what: NAME,
            found: format,
            supported: FORMAT,
        });
    }
    Ok(u64_at(head, 8).zip(u32_at(head, 16)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}

struct Record<'a> {
    seq: u64,
    key: Key,
    value: Option<&'a [u8]>,
}

enum Read<'a> {
    Record { size: usize, record: Record<'a> },
    Short,
    Bad,
}

fn read_record(bytes: &[u8]) -> Read<'_> {
    let Some((length, crc)) = u32_at(bytes, 0).zip(u32_at(bytes, 4)) else {
        return Read::Short;
    };
    let length = length as usize;
    if !(BODY_MIN..=BODY_MAX).contains(&length) {
        return Read::Bad;
    }
    let Some(body) = bytes.get(8..8 + length) else {
        return Read::Short;
    };
    let seen = crc32c::crc32c_append(crc32c::crc32c(bytes.get(..4).unwrap_or_default()), body);
    if seen != crc {
        return Read::Bad;
    }
    read_body(body).map_or(Read::Bad, |record| Read::Record {
        size: 8 + length,
        record,
    })
}

fn read_body(body: &[u8]) -> Option<Record<'_>> {
    let seq = u64_at(body, 0)?;
    let (op, tree) = (*body.get(8)?, *body.get(9)?);
    let key_len = usize::from(u16::from_le_bytes(*body.get(10..)?.first_chunk()?));
    let key = body.get(12..12 + key_len)?.to_vec();
    let rest = body.get(12 + key_len..)?;
    let value = match op {
        OP_PUT => Some(rest),
        OP_REMOVE if rest.is_empty() => None,
        _ => return None,
    };
    Some(Record {
        seq,
        key: (tree, key),
        value,
    })
}

fn push_record(
    out: &mut Vec<u8>,
    seq: u64,
    key: &Key,
    value: Option<&[u8]>,
) -> Result<(), StoreError> {
    let too_large = || StoreError::TooLarge {
        what: "name",
        bytes: key.1.len() as u64,
        limit: u64::from(u16::MAX),
    };
    let key_len = u16::try_from(key.1.len()).map_err(|_| too_large())?;
    let mut body = Vec::with_capacity(BODY_MIN + key.1.len() + value.map_or(0, <[u8]>::len));
    body.extend_from_slice(&seq.to_le_bytes());
    body.push(if value.is_some() { OP_PUT } else { OP_REMOVE });
    body.push(key.0);
    body.extend_from_slice(&key_len.to_le_bytes());
    body.extend_from_slice(&key.1);
    body.extend_from_slice(value.unwrap_or_default());
    let length = u32::try_from(body.len())
        .map_err(|_| too_large())?
        .to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&length), &body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// A whole journal that says `settings` as of change `seq`.
fn snapshot(settings: &Settings, seq: u64) -> Result<Vec<u8>, StoreError> {
    let count = u32::try_from(settings.len()).unwrap_or(u32::MAX);
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[FORMAT, 0, 0, 0]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    for (key, value) in settings {
        push_record(&mut out, seq, key, Some(value))?;
    }
    Ok(out)
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Bytes of good records; what lies behind is the rest of a failed append.
    len: u64,
    seq: u64,
    /// A failed append could not be undone: rewrite before the next.
    dirty: bool,
}

impl Journal {
    /// Opens the journal file behind what `replay` found good. `rewrite`: replace it by a snapshot first.
    pub(super) fn open(
        dir: &Dir,
        disk: &dyn Disk,
        replay: &Replay,
        rewrite: bool,
    ) -> Result<Self, StoreError> {
        if rewrite || replay.good == 0 {
            return Self::rewritten(dir, disk, &replay.settings, replay.seq);
        }
        let mut file = dir.open_rw(NAME)?;
        file.set_len(replay.good)
            .and_then(|()| file.seek(SeekFrom::Start(replay.good)))
            .map_err(|e| StoreError::io(dir.path(NAME), "opening", e))?;
        Ok(Self {
            file,
            len: replay.good,
            seq: replay.seq,
            dirty: false,
        })
    }

    fn rewritten(
        dir: &Dir,
        disk: &dyn Disk,
        settings: &Settings,
        seq: u64,
    ) -> Result<Self, StoreError> {
        let bytes = snapshot(settings, seq)?;
        let file = dir.replace(disk, NAME, &bytes)?;
        Ok(Self {
            file,
            len: bytes.len() as u64,
            seq,
            dirty: false,
        })
    }

    /// Number of the last change.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Makes one change durable, or changes nothing. `settings` are the settings before the change.
    pub(super) fn append(
        &mut self,
        dir: &Dir,
        disk: &dyn Disk,
        settings: &Settings,
        key: &Key,
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        if self.dirty || self.len > COMPACT_AT.max(self.snapshot_hint(settings)) {
            *self = Self::rewritten(dir, disk, settings, self.seq)?;
        }
        let mut record = Vec::new();
        let seq = self.seq.saturating_add(1);
        push_record(&mut record, seq, key, value)?;
        let done = disk
            .write(&self.file, &record)
            .and_then(|()| disk.sync(&self.file));
        if let Err(e) = done {
            self.undo();
            return Err(StoreError::io(dir.path(NAME), "writing", e));
        }
        self.len += record.len() as u64;
        self.seq = seq;
        Ok(())
    }

    /// Twice what the settings need, so that many settings do not mean a rewrite per change.
    fn snapshot_hint(&self, settings: &Settings) -> u64 {
        let need: usize = settings
            .iter()
            .map(|(k, v)| 8 + BODY_MIN + k.1.len() + v.len())
            .sum();
        2 * (HEADER + need) as u64
    }

    /// After a failed append nobody knows what the file holds: cut it back, or rewrite it before the next change.
    fn undo(&mut self) {
        let cut = self
            .file
            .set_len(self.len)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
        // The failed sync may have dropped pages, so even a good cut is followed by a rewrite.
        let _ = cut.and_then(|_| self.file.sync_data());
        self.dirty = true;
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
