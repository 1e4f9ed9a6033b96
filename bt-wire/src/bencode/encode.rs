//! Writing bencode: canonical by construction.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A value to be written. Keys come out in order because the map is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(Bytes),
    /// A list.
    List(Vec<Item>),
    /// A dictionary.
    Dict(BTreeMap<Vec<u8>, Item>),
    /// Bytes that are already one bencoded value and are kept exactly: an info dictionary.
    Raw(Bytes),
}

impl Item {
    /// A dictionary of these entries; of two with the same key the later stays.
    pub fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Item)>) -> Self {
        Self::Dict(
            entries
                .into_iter()
                .map(|(key, value)| (key.as_ref().to_vec(), value))
                .collect(),
        )
    }

    /// A byte string.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// The bencoded bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Appends the bencoded bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(value) => out.extend_from_slice(format!("i{value}e").as_bytes()),
            Self::Bytes(bytes) => write_string(bytes, out),
            Self::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.write(out));
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    write_string(key, out);
                    value.write(out);
                }
                out.push(b'e');
            }
            Self::Raw(raw) => out.extend_from_slice(raw),
        }
    }
}

impl From<i64> for Item {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Item {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::bytes(text)
    }
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}
