//! One daemon per data directory (attack row F4).

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::disk::Dir;
use super::error::StoreError;

/// The held lock of a data directory. Dropping it, or the end of the process however it comes, lets go.
#[derive(Debug)]
pub struct DirLock {
    // Held for its lock alone.
    _file: File,
    dir: Dir,
}

impl DirLock {
    /// Takes the lock of `dir`, making the directory (mode 0700) where it is missing.
    ///
    /// Errors: [`StoreError::Locked`] when another process holds it; `Symlink` and `Io` for the file system.
    pub fn acquire(dir: &Path) -> Result<Self, StoreError> {
        let dir = Dir::open_root(dir)?;
        let mut file = dir.open_rw("lock")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    dir: dir.root().to_owned(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(e)) => {
                return Err(StoreError::io(dir.path("lock"), "locking", e));
            }
        }
        // Only for the message of the one who comes second: a full disk is no reason not to start.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        Ok(Self { _file: file, dir })
    }

    /// The data directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.root()
    }

    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f4_a_second_daemon_in_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let first = DirLock::acquire(dir.path()).expect("first");
        let error = DirLock::acquire(dir.path()).expect_err("second");
        let StoreError::Locked { pid, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*pid, Some(std::process::id()));
        assert!(error.to_string().contains("--data-dir"), "{error}");
        drop(first);
        DirLock::acquire(dir.path()).expect("free again");
    }

    #[test]
    fn f5_a_link_in_place_of_the_lock_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let target = dir.path().join("elsewhere");
        std::fs::write(&target, "precious").expect("write");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("dir");
        std::os::unix::fs::symlink(&target, data.join("lock")).expect("link");
        assert!(matches!(
            DirLock::acquire(&data),
            Err(StoreError::Symlink { .. })
        ));
        assert_eq!(std::fs::read(&target).expect("read"), b"precious");
    }
}
