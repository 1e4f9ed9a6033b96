//! Bencoding (BEP 3): a borrowed reader that costs 12 bytes a token, and a canonical writer.
//!
//! Reading keeps the exact bytes of every value ([`Node::raw`]), so that an info dictionary is hashed as it came.
//! It never recurses and never allocates by a length it was told.

mod document;
mod encode;
mod scan;

pub use document::{Dict, Document, List, Node, Value};
pub use encode::Item;

/// How much a document may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of lists and dictionaries.
    pub depth: u32,
    /// Most values and keys together.
    pub tokens: u32,
    /// Longest string, in bytes.
    pub string: u32,
    /// What dictionary keys must obey.
    pub keys: KeyOrder,
}

/// What dictionary keys must obey. Duplicates are an error in any case (row A11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// Any order: what peers, trackers and old torrent makers really send.
    Any,
    /// Rising, as BEP 3 demands: for what must be canonical.
    Sorted,
}

impl Default for Limits {
    /// Depth 64, 65,536 tokens, strings up to 2 MiB, keys in any order: for messages of peers and trackers.
    fn default() -> Self {
        Self {
            depth: 64,
            tokens: 65_536,
            string: 2 << 20,
            keys: KeyOrder::Any,
        }
    }
}

impl Limits {
    /// The default limits with rising keys demanded.
    #[must_use]
    pub fn strict() -> Self {
        Self {
            keys: KeyOrder::Sorted,
            ..Self::default()
        }
    }
}

/// Not a bencoded document, or not one within the limits. The caller drops the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bencode: {kind} at byte {at}")]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where, in bytes from the start.
    pub at: usize,
}

/// What can be wrong with a bencoded document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The input ends inside a value.
    #[error("unexpected end")]
    UnexpectedEnd,
    /// A byte that cannot stand here.
    #[error("unexpected byte")]
    UnexpectedByte,
    /// A number with needless zeros, or minus zero.
    #[error("number not in its only spelling")]
    NumberSpelling,
    /// A number that does not fit a signed 64-bit integer.
    #[error("number too large")]
    NumberOverflow,
    /// A string over [`Limits::string`].
    #[error("string too long")]
    StringTooLong,
    /// Nesting over [`Limits::depth`].
    #[error("nested too deeply")]
    TooDeep,
    /// More than [`Limits::tokens`].
    #[error("too many values")]
    TooManyTokens,
    /// A dictionary key that is not a string.
    #[error("dictionary key is not a string")]
    KeyNotString,
    /// The same key twice in one dictionary.
    #[error("duplicate dictionary key")]
    DuplicateKey,
    /// Keys not rising where [`KeyOrder::Sorted`] demands it.
    #[error("dictionary keys not in order")]
    UnsortedKeys,
    /// Something after the document's end.
    #[error("trailing bytes")]
    TrailingBytes,
    /// The input is 4 GiB or more.
    #[error("input too long")]
    InputTooLong,
}

#[cfg(test)]
mod tests;
