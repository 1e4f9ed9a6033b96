//! Sizes, rates and durations as people write them: `40 KiB`, `1.5 MB`, `unlimited`, `40 KiB/s`, `90s`, `6h`.
//!
//! What is parsed is exact (no floating point), and what is printed parses back to the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest text that is looked at; longer ones are refused.
const MAX_TEXT: usize = 40;

const UNITS: [(&str, u64); 13] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

const SPANS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("ms", 1),
    ("m", 60_000),
    ("s", 1000),
];

/// A text is no size, rate or duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitError {
    /// No number in front.
    NoNumber,
    /// A unit that is none of ours.
    Unit(String),
    /// More than 2^64 − 1, or a duration over a hundred years.
    TooLarge,
    /// `1.0000001 KiB`: no whole number of bytes (or milliseconds).
    Fraction,
    /// A rate without `/s`, or a size with it.
    PerSecond(bool),
    /// A duration without a unit.
    NoUnit,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("does not begin with a number"),
            Self::Unit(unit) => write!(f, "unknown unit `{}`", unit.escape_default()),
            Self::TooLarge => f.write_str("is too large"),
            Self::Fraction => f.write_str("is not a whole number of the smallest unit"),
            Self::PerSecond(true) => f.write_str("is a size; a rate ends in /s, as in `40 KiB/s`"),
            Self::PerSecond(false) => f.write_str("is a rate; a size has no /s"),
            Self::NoUnit => f.write_str("has no unit; write `90s`, `10m` or `6h`"),
        }
    }
}

impl std::error::Error for UnitError {}

/// A number of bytes; `None` = unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub Option<u64>);

/// Bytes per second; `None` = unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub Option<u64>);

/// A length of time, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// `text` = a decimal number, blanks, a unit. The number times the unit's size, exactly.
fn scaled(text: &str, units: &[(&str, u64)], default: Option<u64>) -> Result<u64, UnitError> {
    let text = text.trim();
    if text.len() > MAX_TEXT {
        return Err(UnitError::TooLarge);
    }
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let factor = if unit.is_empty() {
        default.ok_or(UnitError::NoUnit)?
    } else {
        let known = units
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        known.ok_or_else(|| UnitError::Unit(unit.to_owned()))?.1
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.chars().filter(|c| *c != '_').collect::<String>();
    let (whole, fraction) = (digits(whole), digits(fraction));
    if whole.is_empty() || fraction.contains('.') {
        return Err(UnitError::NoNumber);
    }
    let whole: u128 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    let mut value = whole
        .checked_mul(factor.into())
        .ok_or(UnitError::TooLarge)?;
    if !fraction.is_empty() {
        let places = u32::try_from(fraction.len()).map_err(|_| UnitError::TooLarge)?;
        let tens = 10u128.checked_pow(places).ok_or(UnitError::Fraction)?;
        let part: u128 = fraction.parse().map_err(|_| UnitError::Fraction)?;
        let part = part.checked_mul(factor.into()).ok_or(UnitError::TooLarge)?;
        if part % tens != 0 {
            return Err(UnitError::Fraction);
        }
        value = value.checked_add(part / tens).ok_or(UnitError::TooLarge)?;
    }
    u64::try_from(value).map_err(|_| UnitError::TooLarge)
}

/// The largest binary unit that divides `bytes` without a rest.
fn exact(bytes: u64) -> (u64, &'static str) {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let size = 1u64 << shift;
        if bytes >= size && bytes.is_multiple_of(size) {
            return (bytes / size, unit);
        }
    }
    (bytes, "B")
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.trim().eq_ignore_ascii_case("unlimited") {
            return Ok(Self(None));
        }
        if text.trim_end().ends_with("/s") {
            return Err(UnitError::PerSecond(false));
        }
        scaled(text, &UNITS, Some(1)).map(|bytes| Self(Some(bytes)))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.trim().eq_ignore_ascii_case("unlimited") {
            return Ok(Self(None));
        }
        let Some(size) = text.trim_end().strip_suffix("/s") else {
            let number = text.trim_start().starts_with(|c: char| c.is_ascii_digit());
            return Err(if number {
                UnitError::PerSecond(true)
            } else {
                UnitError::NoNumber
            });
        };
        scaled(size, &UNITS, Some(1)).map(|bytes| Self(Some(bytes)))
    }
}

impl FromStr for Span {
    type Err = UnitError;

    /// One or more numbers with units: `90s`, `10m`, `6h`, `1h 30m`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(UnitError::NoNumber);
        }
        if rest.len() > MAX_TEXT {
            return Err(UnitError::TooLarge);
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let unit = rest
                .find(|c: char| c.is_ascii_alphabetic())
                .ok_or(UnitError::NoUnit)?;
            let after = &rest[unit..];
            let end = unit
                + after
                    .find(|c: char| !c.is_ascii_alphabetic())
                    .unwrap_or(after.len());
            let part = scaled(&rest[..end], &SPANS, None)?;
            total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
            rest = rest[end..].trim_start();
        }
        if total > 100 * 366 * 86_400_000 {
            return Err(UnitError::TooLarge);
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(exact) {
            None => f.write_str("unlimited"),
            Some((number, unit)) => write!(f, "{number} {unit}"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(exact) {
            None => f.write_str("unlimited"),
            Some((number, unit)) => write!(f, "{number} {unit}/s"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if ms >= size && ms.is_multiple_of(size) {
                return write!(f, "{}{unit}", ms / size);
            }
        }
        if ms == 0 {
            f.write_str("0s")
        } else {
            write!(f, "{ms}ms")
        }
    }
}

macro_rules! text_serde {
    ($($kind:ident, $what:literal;)*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $kind;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$kind, E> {
                        text.parse().map_err(|why| E::custom(format!("`{}` {why}", text.escape_debug())))
                    }
                }
                from.deserialize_str(Text)
            }
        }
    )*};
}

text_serde! {
    Size, "a size in quotes, as \"40 KiB\", \"1.5 MB\" or \"unlimited\"";
    Rate, "a rate in quotes, as \"40 KiB/s\" or \"unlimited\"";
    Span, "a duration in quotes, as \"90s\", \"10m\" or \"6h\"";
}

/// `bytes` for a person, rounded: `0 B`, `999 B`, `1.4 MiB`, `123 GiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    let mut unit = 0;
    let mut size = 1u64;
    // 1000 and not 1024, so that never more than three digits stand before the unit.
    while unit < 6 && bytes / size >= 1000 {
        size <<= 10;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit];
    let tenths = (u128::from(bytes) * 10 + u128::from(size) / 2) / u128::from(size);
    if unit == 0 || tenths >= 1000 {
        format!(
            "{} {name}",
            (u128::from(bytes) + u128::from(size) / 2) / u128::from(size)
        )
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// A length of time in seconds for a person: `42s`, `3m 20s`, `5h 2m`, `12d 3h`.
#[must_use]
pub fn human_seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("40 KiB", 40 << 10),
            ("1.5 MB", 1_500_000),
            ("0 B", 0),
            ("17", 17),
            ("1_000B", 1000),
            ("64mib", 64 << 20),
            (" 2 G ", 2 << 30),
            ("0.5 KiB", 512),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Size(Some(bytes))), "{text}");
        }
        assert_eq!("Unlimited".parse(), Ok(Size(None)));
        assert_eq!("500000 B/s".parse(), Ok(Rate(Some(500_000))));
        assert_eq!("40 KiB/s".parse(), Ok(Rate(Some(40 << 10))));
        assert_eq!("1h 30m".parse(), Ok(Span(Duration::from_secs(5400))));
        assert_eq!("1.5s".parse(), Ok(Span(Duration::from_millis(1500))));
    }

    #[test]
    fn hostile_values_are_refused_with_a_reason() {
        for text in [
            "",
            "-1 B",
            "KiB",
            "1.2.3 B",
            "1 furlong",
            "1e9",
            "18446744073709551616",
            "99999999999 TiB",
            "0.3 B",
            "١ B",
            "1 KiB/s",
            &"9".repeat(60),
        ] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(!error.to_string().is_empty());
        }
        assert_eq!("40 KiB".parse::<Rate>(), Err(UnitError::PerSecond(true)));
        for text in [
            "",
            "90",
            "s",
            "1x",
            "-5s",
            "999999999999d",
            "1h 30",
            "é5s",
            "5é",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn humane_figures() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (300 << 20, "300 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
        assert_eq!(human_seconds(3 * 86_400 + 7200), "3d 2h");
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(bytes: u64, ms in 0u64..1_000_000_000_000) {
            prop_assert_eq!(Size(Some(bytes)).to_string().parse(), Ok(Size(Some(bytes))));
            prop_assert_eq!(Rate(Some(bytes)).to_string().parse(), Ok(Rate(Some(bytes))));
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,50}") {
            let _ = (text.parse::<Size>(), text.parse::<Rate>(), text.parse::<Span>());
        }
    }
}
