//! The hash of a piece, computed as its blocks come in order.

use sha1::{Digest, Sha1};

/// What a piece's bytes must hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceHash {
    /// BEP 3: SHA-1 of the whole piece.
    Sha1([u8; 20]),
    /// BEP 52: root of the piece's merkle tree. Not joined yet.
    Merkle([u8; 32]),
}

/// The kind of hash is not supported yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "v2-only torrents cannot be verified yet: use the hybrid or v1 torrent of the same content"
)]
pub struct Unsupported;

/// A hash in progress.
#[derive(Debug)]
pub(super) enum Verifier {
    Sha1 { state: Sha1, want: [u8; 20] },
}

impl Verifier {
    pub(super) fn new(hash: PieceHash) -> Result<Self, Unsupported> {
        match hash {
            PieceHash::Sha1(want) => Ok(Self::Sha1 {
                state: Sha1::new(),
                want,
            }),
            PieceHash::Merkle(_) => Err(Unsupported),
        }
    }

    /// The next bytes, in order.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1 { state, .. } => state.update(bytes),
        }
    }

    /// Whether everything that was fed in is the piece.
    pub(super) fn matches(self) -> bool {
        match self {
            Self::Sha1 { state, want } => <[u8; 20]>::from(state.finalize()) == want,
        }
    }
}

/// Whether `bytes` are the piece.
///
/// # Errors
/// The hash is of a kind we cannot compute yet.
pub fn is_piece(bytes: &[u8], hash: PieceHash) -> Result<bool, Unsupported> {
    let mut verifier = Verifier::new(hash)?;
    verifier.update(bytes);
    Ok(verifier.matches())
}
