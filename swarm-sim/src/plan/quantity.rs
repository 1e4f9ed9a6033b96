//! Bytes, written as people do: `64 MiB`, `16 KiB`, or a plain number.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    fn bytes(&self) -> Option<u64> {
        let text = match self {
            Self::Number(number) => return Some(*number),
            Self::Text(text) => text,
        };
        let (number, unit) = text.trim().split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        let scale = match unit.trim_end_matches("/s") {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(scale)
    }
}

const SHOULD: &str = "bytes are a number, or a number, a space and B, KiB, MiB or GiB";

pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Written::deserialize(from)?
        .bytes()
        .ok_or_else(|| D::Error::custom(SHOULD))
}

pub(super) fn maybe_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bytes(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::Written;

    #[test]
    fn quantities_are_read_and_nonsense_is_not() {
        let read = |text: &str| Written::Text(text.into()).bytes();
        assert_eq!(read("64 MiB"), Some(64 << 20));
        assert_eq!(read("256 KiB/s"), Some(256 << 10));
        assert_eq!(Written::Number(7).bytes(), Some(7));
        assert_eq!(
            [read("64"), read("64 MB"), read("x KiB"), read("")],
            [None; 4]
        );
    }
}
