//! Piece buffers: counted against the memory tier from before the first request until the last clone is dropped.

use std::sync::Arc;

use super::{Cache, Key};

/// Buffers out of use, kept because fresh large allocations fault every page in anew.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Vec<Vec<u8>>,
    bytes: u64,
}

impl Pool {
    /// A buffer of exactly `len` bytes, of whatever content. `budget` is how many bytes the pool may keep besides it.
    pub(super) fn take(&mut self, len: usize, budget: u64) -> Vec<u8> {
        if let Some(at) = self.free.iter().rposition(|buffer| buffer.len() == len) {
            let buffer = self.free.swap_remove(at);
            self.bytes -= buffer.len() as u64;
            return buffer;
        }
        while self.bytes > budget {
            let Some(old) = self.free.pop() else { break };
            self.bytes -= old.len() as u64;
        }
        vec![0; len]
    }

    pub(super) fn give(&mut self, buffer: Vec<u8>) {
        self.bytes += buffer.len() as u64;
        self.free.push(buffer);
    }
}

/// What a buffer is for, so that its permit goes back to the right place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A piece on its way in, or held in memory.
    Piece,
    /// Blocks read back from the disk tier for one request.
    ReadBack,
}

/// Bytes with a permit. Dropping it returns both.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    key: Key,
    purpose: Purpose,
    cache: Arc<Cache>,
}

impl Buffer {
    /// The permit for `bytes.len()` bytes was counted by the caller.
    pub(super) fn new(bytes: Vec<u8>, key: Key, purpose: Purpose, cache: Arc<Cache>) -> Self {
        Self {
            bytes,
            key,
            purpose,
            cache,
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.cache
            .buffer_gone(self.key, self.purpose, std::mem::take(&mut self.bytes));
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Buffer({:?} {:?}, {} bytes)",
            self.key,
            self.purpose,
            self.bytes.len()
        )
    }
}
