//! Files inside the data directory: opened without following links, written whole or not at all, synced.
//!
//! Every write and sync goes through [`Disk`], so that tests can play a full or failing disk (attack row F2), and one whose
//! power is cut (F1).

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::error::StoreError;

/// Where bytes meet the disk.
pub(super) trait Disk: Send + Sync + fmt::Debug {
    /// Writes all of `bytes` at the file's position.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Makes written bytes survive a power cut the disk honours.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Makes the names in a directory survive one.
    fn sync_names(&self, dir: &File) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_names(&self, dir: &File) -> io::Result<()> {
        dir.sync_all()
    }
}

/// An open directory. Names in it are resolved relative to the descriptor, so swapping a parent gains nothing.
#[derive(Debug)]
pub(super) struct Dir {
    file: File,
    path: PathBuf,
}

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Dir {
    /// Opens the data directory the operator named, making it (mode 0700) where it is missing.
    /// The path itself may lead through links: the operator wrote it.
    pub(super) fn open_root(path: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| StoreError::io(path, "making the directory", e))?;
        let file =
            File::open(path).map_err(|e| StoreError::io(path, "opening the directory", e))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Opens or makes a directory in this one; a link by that name is refused.
    pub(super) fn subdir(&self, name: &str) -> Result<Self, StoreError> {
        let path = self.path.join(name);
        match rustix::fs::mkdirat(&self.file, name, Mode::RWXU) {
            Ok(()) => self.sync()?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(StoreError::io(path, "making the directory", e.into())),
        }
        self.refuse_symlink(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.file, name, flags, Mode::empty())
            .map_err(|e| StoreError::io(&path, "opening the directory", e.into()))?;
        Ok(Self {
            file: file.into(),
            path,
        })
    }

    /// Full path of a name in this directory, for messages and for sled.
    pub(super) fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// This directory's own path.
    pub(super) fn root(&self) -> &Path {
        &self.path
    }

    /// Errors when `name` is a symbolic link. Where there is nothing by that name, all is well.
    pub(super) fn refuse_symlink(&self, name: &str) -> Result<(), StoreError> {
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() => {
                metrics::counter!("btslave_store_refused_total", "reason" => "symlink")
                    .increment(1);
                Err(StoreError::Symlink {
                    path: self.path(name),
                })
            }
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(StoreError::io(self.path(name), "looking at it", e.into())),
        }
    }

    /// The permission bits of a file; None where it is missing. A link is refused.
    pub(super) fn mode(&self, name: &str) -> Result<Option<u32>, StoreError> {
        self.refuse_symlink(name)?;
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_mode & 0o7777)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(StoreError::io(self.path(name), "looking at it", e.into())),
        }
    }

    /// Opens a file for reading and writing, made (mode 0600) where it is missing.
    pub(super) fn open_rw(&self, name: &str) -> Result<File, StoreError> {
        self.open(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open(&self, name: &str, flags: OFlags) -> Result<File, StoreError> {
        self.refuse_symlink(name)?;
        // O_NONBLOCK: a planted FIFO must not hang us; it means nothing for regular files.
        rustix::fs::openat(
            &self.file,
            name,
            flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK,
            PRIVATE,
        )
        .map(File::from)
        .map_err(|e| StoreError::io(self.path(name), "opening", e.into()))
    }

    /// Reads a file of at most `limit` bytes; None where it is missing.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let file = match self.open(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| StoreError::io(self.path(name), "reading", e))?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooLarge {
                what: "file in the data directory",
                bytes: bytes.len() as u64,
                limit,
            });
        }
        Ok(Some(bytes))
    }

    /// Replaces a file whole: temporary file, sync, rename, sync of the directory. Returns the open new file,
    /// positioned at its end. On error the old file stands and the temporary one is gone.
    pub(super) fn replace(
        &self,
        disk: &dyn Disk,
        name: &str,
        bytes: &[u8],
    ) -> Result<File, StoreError> {
        self.refuse_symlink(name)?;
        let temp = format!("{name}.new");
        self.remove(&temp)?;
        let file = self.open(&temp, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let written = disk.write(&file, bytes).and_then(|()| disk.sync(&file));
        let renamed = written.and_then(|()| {
            rustix::fs::renameat(&self.file, &temp, &self.file, name).map_err(io::Error::from)
        });
        if let Err(e) = renamed {
            self.remove(&temp)?;
            return Err(StoreError::io(self.path(name), "writing", e));
        }
        disk.sync_names(&self.file)
            .map_err(|e| StoreError::io(&self.path, "syncing the directory", e))?;
        Ok(file)
    }

    /// Removes a file; one that is missing is fine. A link is removed itself, never what it leads to.
    pub(super) fn remove(&self, name: &str) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.file, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(StoreError::io(self.path(name), "removing", e.into())),
        }
    }

    /// Moves a name into another open directory.
    pub(super) fn move_to(&self, name: &str, to: &Self) -> Result<(), StoreError> {
        rustix::fs::renameat(&self.file, name, &to.file, name)
            .map_err(|e| StoreError::io(self.path(name), "moving aside", e.into()))?;
        to.sync()?;
        self.sync()
    }

    /// Makes the directory's names durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file
            .sync_all()
            .map_err(|e| StoreError::io(&self.path, "syncing the directory", e))
    }

    /// Makes and opens the first free `quarantine-<n>`.
    pub(super) fn quarantine(&self) -> Result<Self, StoreError> {
        let mut n: u32 = 1;
        while rustix::fs::statat(
            &self.file,
            format!("quarantine-{n}"),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .is_ok()
        {
            n = n.saturating_add(1);
        }
        metrics::counter!("btslave_store_quarantined_total").increment(1);
        self.subdir(&format!("quarantine-{n}"))
    }
}
