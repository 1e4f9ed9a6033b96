//! The one place where saved values meet bytes: a format byte, then bincode 1.3.3 with fixed-width integers.
//!
//! The free functions of bincode accept trailing bytes and have no limit; these options have both.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;

/// Largest encoded value in bytes. Far below the 128 KiB at which sled writes blobs it never syncs.
pub(super) const MAX_VALUE: u64 = 64 * 1024;

/// A value that can be saved.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The format this program writes; 1 is the first.
    const FORMAT: u8;
    /// What it is called in messages.
    const NAME: &'static str;

    /// Reads the body of a value in format `FORMAT - 1`; None where there is no such format.
    fn from_previous(_body: &[u8]) -> Option<Result<Self, bincode::Error>> {
        None
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(MAX_VALUE)
}

/// Decodes a body by our options, for `Record::from_previous`.
pub(super) fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, bincode::Error> {
    options().deserialize(body)
}

/// Encodes one value. Errors when it is over `MAX_VALUE`.
pub(super) fn encode<T: Record>(value: &T) -> Result<Vec<u8>, StoreError> {
    let too_large = |bytes| StoreError::TooLarge {
        what: T::NAME,
        bytes,
        limit: MAX_VALUE,
    };
    let size = bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .serialized_size(value)
        .map_err(|_| too_large(u64::MAX))?;
    let mut out = vec![T::FORMAT];
    options()
        .serialize_into(&mut out, value)
        .map_err(|_| too_large(size))?;
    Ok(out)
}

/// Decodes one value, migrating it from the previous format where needed.
///
/// Errors: `Newer`, `TooOld` (stop the program), `Damaged` (skip the value).
pub(super) fn decode<T: Record>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |reason: String| StoreError::Damaged {
        what: T::NAME,
        key: key.to_owned(),
        reason,
    };
    let Some((&format, body)) = bytes.split_first() else {
        return Err(damaged("empty".to_owned()));
    };
    if format > T::FORMAT {
        return Err(StoreError::Newer {
            what: T::NAME,
            found: format,
            supported: T::FORMAT,
        });
    }
    if format == T::FORMAT {
        return decode_body(body).map_err(|e| damaged(e.to_string()));
    }
    let previous = (u16::from(format) + 1 == u16::from(T::FORMAT))
        .then(|| T::from_previous(body))
        .flatten();
    match previous {
        Some(result) => result.map_err(|e| damaged(e.to_string())),
        None => Err(StoreError::TooOld {
            what: T::NAME,
            found: format,
            oldest: T::FORMAT.saturating_sub(1).max(1),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Old {
        a: u32,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct New {
        a: u32,
        b: Option<String>,
    }
    impl Record for Old {
        const FORMAT: u8 = 1;
        const NAME: &'static str = "test record";
    }
    impl Record for New {
        const FORMAT: u8 = 2;
        const NAME: &'static str = "test record";
        fn from_previous(body: &[u8]) -> Option<Result<Self, bincode::Error>> {
            Some(decode_body::<Old>(body).map(|old| Self { a: old.a, b: None }))
        }
    }

    #[test]
    fn the_previous_format_is_migrated() {
        let old = encode(&Old { a: 7 }).expect("encode");
        assert_eq!(
            decode::<New>("k", &old).expect("migrate"),
            New { a: 7, b: None }
        );
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let new = encode(&New {
            a: 7,
            b: Some("x".into()),
        })
        .expect("encode");
        let error = decode::<Old>("k", &new).expect_err("newer");
        assert!(matches!(
            error,
            StoreError::Newer {
                found: 2,
                supported: 1,
                ..
            }
        ));
        assert!(error.to_string().contains("format 2"), "{error}");
    }

    #[test]
    fn two_formats_back_is_refused() {
        let error = decode::<New>("k", &[0, 1, 2]).expect_err("old");
        assert!(matches!(
            error,
            StoreError::TooOld {
                found: 0,
                oldest: 1,
                ..
            }
        ));
    }

    #[test]
    fn trailing_bytes_short_values_and_huge_lengths_are_damage() {
        let good = encode(&New {
            a: 1,
            b: Some("abc".into()),
        })
        .expect("encode");
        let mut long = good.clone();
        long.push(0);
        let mut huge = good.clone();
        huge[6..14].fill(0xff);
        for bytes in [&long[..], &good[..good.len() - 1], &huge[..], &[]] {
            assert!(
                matches!(decode::<New>("k", bytes), Err(StoreError::Damaged { .. })),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_value_over_the_limit_is_refused() {
        let value = New {
            a: 1,
            b: Some("x".repeat(70_000)),
        };
        assert!(matches!(
            encode(&value),
            Err(StoreError::TooLarge {
                limit: MAX_VALUE,
                ..
            })
        ));
    }
}
