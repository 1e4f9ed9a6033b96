//! Kept content: whole and for good, outside the cache, the only thing that may look like a seed.

use std::io;

use bt_wire::layout::Layout;
use bytes::Bytes;

/// Where the bytes of a kept torrent come from.
pub trait KeptContent: Send + Sync {
    /// The bytes of one piece. Called from connections, so it must not wait for slow things.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, piece: u32) -> io::Result<Bytes>;
}

/// Content in memory.
#[derive(Debug, Clone)]
pub struct MemoryContent {
    bytes: Bytes,
    layout: Layout,
}

impl MemoryContent {
    /// All of a torrent's bytes, files one after the other.
    #[must_use]
    pub fn new(bytes: Bytes, layout: Layout) -> Self {
        Self { bytes, layout }
    }
}

impl KeptContent for MemoryContent {
    fn read(&self, piece: u32) -> io::Result<Bytes> {
        let short = || {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "shorter than its torrent says",
            )
        };
        let begin = usize::try_from(self.layout.piece_offset(piece)).map_err(|_| short())?;
        let end = begin + self.layout.piece_size(piece) as usize;
        if end > self.bytes.len() {
            return Err(short());
        }
        Ok(self.bytes.slice(begin..end))
    }
}
