//! The friend code: an identity short enough to paste in a chat, `bs1…`, with hints where to look for it.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32m, Hrp};

use crate::hint::MAX_NAME;
pub use crate::hint::{Hint, HintError, Host};
use crate::identity::{KeyError, PUBLIC_BYTES, PublicKey};

/// The human-readable part: a code begins with it and `1`.
const HRP: Hrp = Hrp::parse_unchecked("bs");
/// First byte of the payload; the only kind of code there is.
const VERSION: u8 = 1;
/// Hints a code may carry.
pub const MAX_HINTS: usize = 4;
/// Longest text looked at: `bs1` + 53 data characters (33 bytes) + 6 of checksum, and four hints of `@name:65535`.
const MAX_TEXT: usize = 62 + MAX_HINTS * (MAX_NAME + 7);

/// A friend's public key and up to [`MAX_HINTS`] hints. The key is protected by bech32m's checksum (BIP 350); the hints are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FriendCode {
    key: PublicKey,
    hints: Vec<Hint>,
}

/// Why a text is no friend code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FriendCodeError {
    /// It does not begin with `bs1`.
    #[error("a friend code begins with \"bs1\"; copy it again, from its first character")]
    NotFriendCode,
    /// Longer than any friend code.
    #[error("this is longer than any friend code; copy only the code, without the text around it")]
    TooLong,
    /// The checksum does not fit: a character is wrong, missing or doubled, or the case is mixed.
    #[error("the friend code has a typing error (its checksum does not fit); copy it again, whole")]
    Damaged,
    /// The checksum fits, but the code is of another version.
    #[error(
        "this friend code is of version {0}, and this program knows version {VERSION}; update BTSlave"
    )]
    Version(u8),
    /// The checksum fits, but the payload is not 33 bytes.
    #[error(
        "this friend code does not hold a key of {PUBLIC_BYTES} bytes; ask your friend for a new one"
    )]
    Length,
    /// The key is refused.
    #[error("the key in this friend code is refused: {0}; ask your friend for a new code")]
    Key(#[from] KeyError),
    /// More than [`MAX_HINTS`] hints.
    #[error("a friend code has at most {MAX_HINTS} hints (@host:port); leave some out")]
    TooManyHints,
    /// A hint is not `host:port`.
    #[error("a hint of the friend code is not @host:port: {0}")]
    Hint(#[from] HintError),
}

impl FriendCode {
    /// A code for `key`.
    ///
    /// # Errors
    /// [`FriendCodeError::TooManyHints`] with more than [`MAX_HINTS`] hints.
    pub fn new(key: PublicKey, hints: Vec<Hint>) -> Result<Self, FriendCodeError> {
        if hints.len() > MAX_HINTS {
            return Err(FriendCodeError::TooManyHints);
        }
        Ok(Self { key, hints })
    }

    /// The friend's key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// At most [`MAX_HINTS`], in the order written.
    #[must_use]
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }
}

impl FromStr for FriendCode {
    type Err = FriendCodeError;

    /// Reads a code, with spaces around it allowed and the key part in either case, but not mixed (BIP 173).
    //= spec/identity.md#code-hints
    fn from_str(text: &str) -> Result<Self, FriendCodeError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(FriendCodeError::TooLong);
        }
        let mut parts = text.split('@');
        let key = parse_key(parts.next().unwrap_or_default())?;
        let mut hints = Vec::new();
        for part in parts {
            if hints.len() == MAX_HINTS {
                return Err(FriendCodeError::TooManyHints);
            }
            hints.push(part.parse()?);
        }
        Ok(Self { key, hints })
    }
}

//= spec/identity.md#code-case
//= spec/identity.md#code-refuse
fn parse_key(text: &str) -> Result<PublicKey, FriendCodeError> {
    if !text
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case("bs1"))
    {
        return Err(FriendCodeError::NotFriendCode);
    }
    let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| FriendCodeError::Damaged)?;
    // The separator is the last '1': a code may begin with "bs1" and still have a longer human-readable part.
    if checked.hrp() != HRP {
        return Err(FriendCodeError::NotFriendCode);
    }
    let mut payload = checked.byte_iter();
    match payload.next() {
        Some(VERSION) => {}
        Some(other) => return Err(FriendCodeError::Version(other)),
        None => return Err(FriendCodeError::Length),
    }
    let bytes: [u8; PUBLIC_BYTES] = payload
        .collect::<Vec<u8>>()
        .try_into()
        .map_err(|_| FriendCodeError::Length)?;
    let key = PublicKey::from_bytes(&bytes)?;
    // 33 bytes leave one bit of padding: a set one would be a second spelling.
    if encode_key(&key) != text.to_ascii_lowercase() {
        return Err(FriendCodeError::Damaged);
    }
    Ok(key)
}

//= spec/identity.md#code-bech32m
fn encode_key(key: &PublicKey) -> String {
    let mut payload = [VERSION; 1 + PUBLIC_BYTES];
    payload[1..].copy_from_slice(key.as_bytes());
    payload
        .into_iter()
        .bytes_to_fes()
        .with_checksum::<Bech32m>(&HRP)
        .chars()
        .collect()
}

impl fmt::Display for FriendCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_key(&self.key))?;
        self.hints.iter().try_for_each(|hint| write!(f, "@{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::{Identity, Zeroizing};

    fn key(secret: [u8; 32]) -> PublicKey {
        Identity::from_secret(&Zeroizing::new(secret)).public_key()
    }

    fn with_payload(payload: &[u8]) -> String {
        bech32::encode::<Bech32m>(HRP, payload).expect("encode")
    }

    fn any_hint() -> impl Strategy<Value = Hint> {
        let host = prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| Host::Ip(IpAddr::from(ip))),
            any::<[u8; 16]>().prop_map(|ip| Host::Ip(IpAddr::from(ip))),
            "([a-z0-9_-]{1,20}\\.){0,4}[a-wyz][a-z-]{0,20}".prop_map(Host::Name),
        ];
        (host, 1_u16..).prop_map(|(host, port)| Hint::new(host, port))
    }

    proptest! {
        #[test]
        fn round_trip(secret: [u8; 32], hints in proptest::collection::vec(any_hint(), 0..=MAX_HINTS)) {
            let code = FriendCode::new(key(secret), hints).expect("at most four");
            let text = code.to_string();
            prop_assert!(text.len() <= MAX_TEXT);
            prop_assert_eq!(text.parse::<FriendCode>(), Ok(code.clone()));
            prop_assert_eq!(format!(" {text}\n").parse::<FriendCode>(), Ok(code));
        }

        #[test]
        fn any_flipped_character_is_refused(secret: [u8; 32], at in 0_usize..62, to in 0x20_u8..0x7f) {
            let good = FriendCode::new(key(secret), vec![]).expect("no hints").to_string();
            prop_assert_eq!(good.len(), 62);
            let mut bytes = good.clone().into_bytes();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            let bad = String::from_utf8(bytes).expect("ASCII");
            // Not the same key, ever; a space at the end is a missing character.
            prop_assert!(bad.parse::<FriendCode>().is_err(), "{}", bad);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(bs1|BS1)?.{0,80}(@.{0,20}){0,5}") {
            if let Ok(code) = text.parse::<FriendCode>() {
                prop_assert_eq!(code.to_string().parse::<FriendCode>(), Ok(code));
            }
        }
    }

    #[test]
    fn upper_case_is_read_and_mixed_case_refused() {
        let code = FriendCode::new(key([1; 32]), vec![]).expect("no hints");
        let text = code.to_string();
        assert_eq!(text.to_uppercase().parse(), Ok(code));
        let mixed = format!("{}{}", &text[..30], text[30..].to_uppercase());
        assert_eq!(mixed.parse::<FriendCode>(), Err(FriendCodeError::Damaged));
    }

    #[test]
    fn errors_say_which() {
        let good = FriendCode::new(key([1; 32]), vec![])
            .expect("no hints")
            .to_string();
        let refused = |text: &str| text.parse::<FriendCode>().expect_err("refused");
        assert_eq!(refused(""), FriendCodeError::NotFriendCode);
        assert_eq!(refused("bc1qqqqqq"), FriendCodeError::NotFriendCode);
        assert_eq!(refused("é1"), FriendCodeError::NotFriendCode);
        assert_eq!(refused(&good[..61]), FriendCodeError::Damaged);
        assert_eq!(refused(&format!("{good}q")), FriendCodeError::Damaged);
        assert_eq!(refused(&"b".repeat(MAX_TEXT + 1)), FriendCodeError::TooLong);
        assert_eq!(
            refused(&with_payload(&[2; 33])),
            FriendCodeError::Version(2)
        );
        assert_eq!(refused(&with_payload(&[1; 32])), FriendCodeError::Length);
        assert_eq!(refused(&with_payload(&[1; 34])), FriendCodeError::Length);
        assert_eq!(refused(&with_payload(&[])), FriendCodeError::Length);
        let mut weak = [0; 33];
        weak[0] = VERSION;
        assert_eq!(
            refused(&with_payload(&weak)),
            FriendCodeError::Key(KeyError::Weak)
        );
        assert_eq!(
            refused(&format!("{good}{}", "@a:1".repeat(5))),
            FriendCodeError::TooManyHints
        );
        let hint = Hint::from_ip(IpAddr::from([192, 0, 2, 1]), 1).expect("port");
        assert_eq!(
            FriendCode::new(key([1; 32]), vec![hint; 5]),
            Err(FriendCodeError::TooManyHints)
        );
        assert_eq!(
            Hint::from_ip(IpAddr::from([192, 0, 2, 1]), 0),
            Err(HintError::Port)
        );
    }

    #[test]
    fn plain_bech32_is_refused() {
        let mut payload = [VERSION; 33];
        payload[1..].copy_from_slice(key([1; 32]).as_bytes());
        let old = bech32::encode::<bech32::Bech32>(HRP, &payload).expect("encode");
        assert_eq!(old.parse::<FriendCode>(), Err(FriendCodeError::Damaged));
    }

    #[test]
    fn a_set_padding_bit_is_refused() {
        use bech32::Fe32;
        let mut payload = vec![VERSION];
        payload.extend(key([1; 32]).as_bytes());
        let mut digits: Vec<Fe32> = payload.iter().copied().bytes_to_fes().collect();
        let last = digits.last_mut().expect("53 digits");
        *last = Fe32::try_from(last.to_u8() | 1).expect("five bits");
        let text: String = digits
            .into_iter()
            .with_checksum::<Bech32m>(&HRP)
            .chars()
            .collect();
        assert_eq!(text.parse::<FriendCode>(), Err(FriendCodeError::Damaged));
    }
}
