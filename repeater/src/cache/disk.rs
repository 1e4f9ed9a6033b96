//! The disk tier: one file of fixed length, extents by offset, one thread that touches it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bt_wire::layout::BLOCK;
use rustix::fs::{Mode, OFlags};

/// A run of bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// Which bytes of the file are free. Extents of any size, so pieces of different lengths do not fragment it.
#[derive(Debug)]
pub(super) struct Extents {
    free: BTreeMap<u64, u64>,
    used: u64,
    /// The file was written up to here: below it, reuse does not grow the file on disk.
    pub(super) touched: u64,
}

impl Extents {
    pub(super) fn new(len: u64) -> Self {
        let free = if len > 0 {
            BTreeMap::from([(0, len)])
        } else {
            BTreeMap::new()
        };
        Self {
            free,
            used: 0,
            touched: 0,
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// `len` bytes from the lowest free offsets below `limit`; nothing if they do not suffice.
    pub(super) fn take(&mut self, len: u32, limit: u64) -> Option<Vec<Extent>> {
        let mut taken = Vec::new();
        let mut left = u64::from(len);
        for (&offset, &free) in &self.free {
            if left == 0 || offset >= limit {
                break;
            }
            let part = free.min(left).min(limit - offset);
            taken.push(Extent {
                offset,
                len: u32::try_from(part).ok()?,
            });
            left -= part;
        }
        if left > 0 {
            return None;
        }
        for extent in &taken {
            let free = self.free.remove(&extent.offset)?;
            let (end, rest) = (
                extent.offset + u64::from(extent.len),
                free - u64::from(extent.len),
            );
            if rest > 0 {
                self.free.insert(end, rest);
            }
            self.touched = self.touched.max(end);
        }
        self.used += u64::from(len);
        Some(taken)
    }

    pub(super) fn give(&mut self, extents: &[Extent]) {
        for extent in extents {
            let (mut offset, mut len) = (extent.offset, u64::from(extent.len));
            self.used -= len;
            if let Some((&before, &before_len)) = self.free.range(..offset).next_back()
                && before + before_len == offset
            {
                self.free.remove(&before);
                (offset, len) = (before, before_len + len);
            }
            if let Some(after_len) = self.free.remove(&(offset + len)) {
                len += after_len;
            }
            self.free.insert(offset, len);
        }
    }
}

/// Opens `path`, never through a symbolic link, and cuts it to `len` bytes. What an earlier run left is thrown away.
pub(super) fn open(path: &Path, len: u64) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    file.set_len(0)?;
    file.set_len(len)?;
    Ok(file)
}

/// Bytes an unprivileged process may still write to the file's file system.
pub(super) fn available(file: &File) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(file)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Writes `bytes` over `extents`, in order.
pub(super) fn write(file: &File, extents: &[Extent], bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    for extent in extents {
        let end = at + extent.len as usize;
        file.write_all_at(&bytes[at..end], extent.offset)?;
        at = end;
    }
    Ok(())
}

/// Reads `out.len()` bytes that begin `begin` bytes into what lies on `extents`.
pub(super) fn read(file: &File, extents: &[Extent], begin: u32, out: &mut [u8]) -> io::Result<()> {
    let (mut skip, mut at) = (begin, 0);
    for extent in extents {
        if skip >= extent.len {
            skip -= extent.len;
            continue;
        }
        let part = ((extent.len - skip) as usize).min(out.len() - at);
        file.read_exact_at(&mut out[at..at + part], extent.offset + u64::from(skip))?;
        (skip, at) = (0, at + part);
        if at == out.len() {
            return Ok(());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "past the end of the piece",
    ))
}

/// CRC-32C of each block.
pub(super) fn checksums(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(BLOCK as usize).map(crc32c::crc32c).collect()
}
