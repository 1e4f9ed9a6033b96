//! `--record FILE`: everything the brain was told, in the order and the batches it was told, and a checksum of what
//! it answered. Replaying the file gives the same answers, byte for byte, or says where it did not.
//!
//! The file: [`MAGIC`], then frames of a little-endian `u32` length and bincode: first a [`Header`], then [`Frame`]s.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bincode::Options;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use swarm_core::io::{Batch, Output};
use swarm_core::node::Node;
use swarm_core::params::Params;

/// First bytes of a recording.
pub const MAGIC: &[u8; 8] = b"BTSREC1\n";
/// Longest frame, bytes.
const MAX_FRAME: u64 = 64 << 20;

/// What the brain was made with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Its parameters.
    pub params: Params,
    /// Its seed.
    pub seed: u64,
}

/// One batch and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// What the brain was told.
    pub batch: Batch,
    /// CRC-32C of the bincode of everything it answered, in order.
    pub outputs: u32,
}

/// A recording cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file.
    #[error("recording {path}: {cause}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not one of ours, of another version, or damaged.
    #[error("{path} is not a recording of this version of btslave, or it is damaged")]
    Format {
        /// Its path.
        path: PathBuf,
    },
    /// The brain answered something else than it did then.
    #[error(
        "batch {batch} of the recording was answered differently: this is another version of btslave, or a bug"
    )]
    Differs {
        /// Number of the batch, from 0.
        batch: usize,
    },
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(MAX_FRAME)
}

/// Checksum of the answers to one batch, fed one by one.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    crc: u32,
    scratch: Vec<u8>,
}

impl Answers {
    pub(crate) fn add(&mut self, output: &Output) {
        self.scratch.clear();
        if options().serialize_into(&mut self.scratch, output).is_ok() {
            self.crc = crc32c::crc32c_append(self.crc, &self.scratch);
        }
    }

    pub(crate) fn finish(&mut self) -> u32 {
        std::mem::take(&mut self.crc)
    }
}

/// Writes a recording, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Recorder {
    out: BufWriter<File>,
    path: PathBuf,
    left: u64,
}

impl Recorder {
    /// Creates the file (mode 0600, never through a symbolic link) and writes the header.
    pub(crate) fn create(
        path: &Path,
        max_bytes: u64,
        header: &Header,
    ) -> Result<Self, RecordError> {
        let failed = |cause: io::Error| RecordError::File {
            path: path.to_path_buf(),
            cause,
        };
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed(errno.into()))?;
        let mut recorder = Self {
            out: BufWriter::new(File::from(file)),
            path: path.to_path_buf(),
            left: max_bytes,
        };
        recorder.out.write_all(MAGIC).map_err(failed)?;
        recorder.write(header).map_err(failed)?;
        recorder.out.flush().map_err(failed)?;
        Ok(recorder)
    }

    /// Appends a frame. False once the recording is over: full, or the disk failed.
    pub(crate) fn append(&mut self, frame: &Frame) -> bool {
        match self.write(frame).and_then(|more| {
            if more {
                Ok(true)
            } else {
                self.out.flush().map(|()| false)
            }
        }) {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!(path = %self.path.display(), "the recording is full and ends here");
                false
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the recording ends here");
                false
            }
        }
    }

    fn write(&mut self, value: &impl Serialize) -> io::Result<bool> {
        let bytes = options().serialize(value).map_err(io::Error::other)?;
        let whole = bytes.len() as u64 + 4;
        if whole > self.left {
            return Ok(false);
        }
        self.left -= whole;
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&bytes)?;
        Ok(true)
    }
}

/// Reads a recording. A torn last frame ends it.
#[derive(Debug)]
pub struct Reader {
    input: BufReader<File>,
    path: PathBuf,
    /// What the brain was made with.
    pub header: Header,
}

impl Reader {
    /// Opens a recording.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let failed = |cause| RecordError::File {
            path: path.to_path_buf(),
            cause,
        };
        let format = || RecordError::Format {
            path: path.to_path_buf(),
        };
        let mut input = BufReader::new(File::open(path).map_err(failed)?);
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).map_err(|_| format())?;
        if &magic != MAGIC {
            return Err(format());
        }
        let header = read_frame(&mut input).map_err(failed)?.ok_or_else(format)?;
        let header = options().deserialize(&header).map_err(|_| format())?;
        Ok(Self {
            input,
            path: path.to_path_buf(),
            header,
        })
    }

    /// The next frame; none at the end.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, RecordError> {
        let bytes = read_frame(&mut self.input).map_err(|cause| RecordError::File {
            path: self.path.clone(),
            cause,
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        options()
            .deserialize(&bytes)
            .map(Some)
            .map_err(|_| RecordError::Format {
                path: self.path.clone(),
            })
    }
}

fn read_frame(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 4];
    match input.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = u64::from(u32::from_le_bytes(prefix));
    let mut bytes = Vec::new();
    input.take(len.min(MAX_FRAME)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 == len).then_some(bytes))
}

/// Replays a recording against this version of the brain. Returns the number of batches.
///
/// # Errors
/// It cannot be read, or the brain answers a batch differently.
pub fn replay(path: &Path) -> Result<usize, RecordError> {
    let mut reader = Reader::open(path)?;
    let mut node = Node::new(reader.header.params.clone(), reader.header.seed);
    let mut answers = Answers::default();
    let mut batch = 0;
    while let Some(frame) = reader.next_frame()? {
        for input in frame.batch.inputs {
            node.handle(frame.batch.now, input);
        }
        while let Some(output) = node.poll_output() {
            answers.add(&output);
        }
        if answers.finish() != frame.outputs {
            return Err(RecordError::Differs { batch });
        }
        batch += 1;
    }
    Ok(batch)
}

#[cfg(test)]
mod tests;
