//! A disk whose power can be cut. It knows what was synced; of all else a cut keeps any part, in any order.
//!
//! The files are real ones. At a chosen write or sync, before or after it, the disk makes an image: what a computer could
//! find there when it starts again. A name is as the last sync of its directory left it, or as it is now. A file holds
//! what was synced, and of the writes since then any, each whole, in part or as zeros. The database, which writes by
//! itself, holds sectors of its last acknowledged and of its present state, mixed; before its first one, it may be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::super::disk::{Disk, RealDisk};

/// What one write of a disk does whole.
const SECTOR: usize = 512;

/// SplitMix64.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % bound.max(1) as u64).unwrap()
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// One file, by its inode.
#[derive(Debug)]
struct Inode {
    /// Held, so that its number is not given to another.
    file: File,
    synced: Vec<u8>,
    /// Offset and bytes of each write since.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug)]
struct Known {
    inodes: BTreeMap<u64, Inode>,
    /// As the last sync of the directory left them.
    names: BTreeMap<String, u64>,
    /// The database, when its last change was acknowledged.
    database: Option<BTreeMap<String, Vec<u8>>>,
    random: Random,
    /// Writes and syncs until the power is cut, two for each.
    left: Option<usize>,
    image: Option<tempfile::TempDir>,
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct CutDisk {
    dir: PathBuf,
    known: Arc<Mutex<Known>>,
}

impl CutDisk {
    /// A disk on which all that is in `dir` is durable, as after a start of the computer.
    pub(super) fn new(dir: &Path, random: Random) -> Self {
        let disk = Self {
            dir: dir.to_owned(),
            known: Arc::new(Mutex::new(Known {
                inodes: BTreeMap::new(),
                names: BTreeMap::new(),
                database: database(dir),
                random,
                left: None,
                image: None,
            })),
        };
        let names = disk.present();
        let mut known = disk.known.lock();
        for (name, ino) in names {
            let file = File::open(dir.join(&name)).unwrap();
            let synced = contents(&file);
            let pending = Vec::new();
            known.inodes.insert(
                ino,
                Inode {
                    file,
                    synced,
                    pending,
                },
            );
            known.names.insert(name, ino);
        }
        drop(known);
        disk
    }

    /// The power is cut so many half-steps from here: 2n = before the n-th write or sync, 2n + 1 = after it.
    pub(super) fn cut_in(&self, steps: usize) {
        self.known.lock().left = Some(steps);
    }

    /// What the cut left, if it came.
    pub(super) fn take_image(&self) -> Option<tempfile::TempDir> {
        let mut known = self.known.lock();
        known.left = None;
        known.image.take()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.known.lock().image.is_some()
    }

    /// The power is cut now.
    pub(super) fn cut(&self) -> tempfile::TempDir {
        self.image(&mut self.known.lock())
    }

    /// A change was acknowledged: the database has it, too.
    pub(super) fn acknowledged(&self) {
        self.known.lock().database = database(&self.dir);
    }

    /// Names of the files in the directory, now.
    fn present(&self) -> BTreeMap<String, u64> {
        let entries = fs::read_dir(&self.dir).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let named = files.map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                entry.metadata().unwrap().ino(),
            )
        });
        named.filter(|(name, _)| name != "lock").collect()
    }

    fn step(&self) {
        let mut known = self.known.lock();
        match known.left {
            Some(0) => {
                known.left = None;
                let image = self.image(&mut known);
                known.image = Some(image);
            }
            Some(left) => known.left = Some(left - 1),
            None => {}
        }
    }

    fn image(&self, known: &mut Known) -> tempfile::TempDir {
        let image = tempfile::tempdir().unwrap();
        let present = self.present();
        let all: BTreeSet<String> = known.names.keys().chain(present.keys()).cloned().collect();
        for name in all {
            let which = if known.random.coin() {
                &known.names
            } else {
                &present
            };
            let Some(ino) = which.get(&name).copied() else {
                continue;
            };
            let path = image.path().join(&name);
            fs::write(&path, known.content(ino)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        self.image_database(known, image.path());
        image
    }

    fn image_database(&self, known: &mut Known, image: &Path) {
        let now = database(&self.dir).unwrap_or_default();
        let durable = known.database.clone();
        if durable.is_none() && known.random.coin() {
            return;
        }
        let durable = durable.unwrap_or_default();
        fs::create_dir(image.join("db")).unwrap();
        let all: BTreeSet<&String> = durable.keys().chain(now.keys()).collect();
        for name in all {
            let (old, new) = (durable.get(name), now.get(name));
            if (old.is_none() || new.is_none()) && known.random.coin() {
                continue;
            }
            let (old, new) = (
                old.map_or(&[][..], Vec::as_slice),
                new.map_or(&[][..], Vec::as_slice),
            );
            fs::write(
                image.join("db").join(name),
                mixed(&mut known.random, old, new),
            )
            .unwrap();
        }
    }
}

/// Sectors of either; mostly all of one.
fn mixed(random: &mut Random, old: &[u8], new: &[u8]) -> Vec<u8> {
    let whole = [Some(true), Some(false), None][random.below(3)];
    let length = if whole.unwrap_or_else(|| random.coin()) {
        old.len()
    } else {
        new.len()
    };
    let mut out = vec![0; length];
    for (n, sector) in out.chunks_mut(SECTOR).enumerate() {
        let of = if whole.unwrap_or_else(|| random.coin()) {
            old
        } else {
            new
        };
        let there = of.get(n * SECTOR..).unwrap_or_default();
        let bytes = there.len().min(sector.len());
        sector[..bytes].copy_from_slice(&there[..bytes]);
    }
    out
}

impl Known {
    /// What is found of a file after the cut.
    fn content(&mut self, ino: u64) -> Vec<u8> {
        let Some(inode) = self.inodes.get(&ino) else {
            return Vec::new();
        };
        let mut out = inode.synced.clone();
        let length = usize::try_from(inode.file.metadata().unwrap().len()).unwrap();
        if length < out.len() && self.random.coin() {
            out.truncate(length);
        }
        let mut writes = inode.pending.clone();
        while !writes.is_empty() {
            let (at, bytes) = writes.swap_remove(self.random.below(writes.len()));
            let part = match self.random.below(4) {
                0 => continue,
                1 => bytes
                    .get(..self.random.below(bytes.len() + 1))
                    .unwrap()
                    .to_vec(),
                // The length was written out, and the data was not.
                2 => vec![0; bytes.len()],
                _ => bytes,
            };
            if out.len() < at + part.len() {
                out.resize(at + part.len(), 0);
            }
            out[at..at + part.len()].copy_from_slice(&part);
        }
        out
    }

    fn inode(&mut self, file: &File) -> &mut Inode {
        let ino = file.metadata().unwrap().ino();
        self.inodes.entry(ino).or_insert_with(|| Inode {
            file: file.try_clone().unwrap(),
            synced: Vec::new(),
            pending: Vec::new(),
        })
    }
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The files of the database; None where there is none.
fn database(dir: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    let entries = fs::read_dir(dir.join("db")).ok()?.map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    // sled renames and removes its snapshots meanwhile.
    let read = files.filter_map(|entry| {
        Some((
            entry.file_name().into_string().unwrap(),
            fs::read(entry.path()).ok()?,
        ))
    });
    Some(read.collect())
}

impl Disk for CutDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        self.step();
        let at = usize::try_from(file.stream_position()?).unwrap();
        RealDisk.write(file, bytes)?;
        self.known
            .lock()
            .inode(file)
            .pending
            .push((at, bytes.to_vec()));
        self.step();
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step();
        let mut known = self.known.lock();
        let inode = known.inode(file);
        inode.synced = contents(file);
        inode.pending.clear();
        drop(known);
        self.step();
        Ok(())
    }

    fn sync_names(&self, _dir: &File) -> io::Result<()> {
        self.step();
        let names = self.present();
        self.known.lock().names = names;
        self.step();
        Ok(())
    }
}
