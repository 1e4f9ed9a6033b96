//! `friend_codes.json`: codes as written, other spellings that are read, and texts that are refused.

use bech32::{Bech32, Bech32m, Hrp};
use friends_proto::friend_code::{FriendCode, FriendCodeError, Hint};
use serde::{Deserialize, Serialize};

use crate::support::{ALICE, BOB, CAROL, array, hex, key, read, text};

#[derive(Serialize, Deserialize)]
struct File {
    subject: String,
    spec: String,
    /// Written and read.
    codes: Vec<Code>,
    /// Read, and written as the code of the same key and hints.
    spellings: Vec<Spelling>,
    refused: Vec<Refused>,
}

#[derive(Serialize, Deserialize)]
struct Code {
    name: String,
    public: String,
    hints: Vec<String>,
    code: String,
}

#[derive(Serialize, Deserialize)]
struct Spelling {
    name: String,
    text: String,
    code: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    name: String,
    text: String,
    error: String,
}

fn code(secret: &[u8; 32], hints: &[&str]) -> String {
    let hints: Vec<Hint> = hints.iter().map(|h| h.parse().expect("hint")).collect();
    FriendCode::new(key(secret), hints)
        .expect("code")
        .to_string()
}

pub(crate) fn generate() -> String {
    let four = [
        "192.0.2.7:6881",
        "[2001:db8::7]:51413",
        "slave.example.org:1",
        "my_nas:65535",
    ];
    let codes = [
        ("alice, no hints", ALICE, &[][..]),
        ("bob, one hint", BOB, &four[..1]),
        ("carol, four hints", CAROL, &four[..]),
    ];
    let plain = code(&ALICE, &[]);
    let spelling = |name: &str, text: String, code: &str| Spelling {
        name: name.into(),
        text,
        code: code.into(),
    };
    text(&File {
        subject: "friend codes".into(),
        spec: "identity.md".into(),
        codes: codes
            .iter()
            .map(|(name, secret, hints)| Code {
                name: (*name).into(),
                public: hex(key(secret).as_bytes()),
                hints: hints.iter().map(|hint| (*hint).into()).collect(),
                code: code(secret, hints),
            })
            .collect(),
        spellings: vec![
            spelling("upper case", plain.to_uppercase(), &plain),
            spelling("white space around it", format!(" {plain}\r\n"), &plain),
            spelling(
                "a name in upper case",
                format!("{plain}@Slave.Example.ORG:6881"),
                &code(&ALICE, &["slave.example.org:6881"]),
            ),
            spelling(
                "an IPv6 address written long",
                format!("{plain}@[2001:DB8:0:0::0007]:6881"),
                &code(&ALICE, &["[2001:db8::7]:6881"]),
            ),
        ],
        refused: refused(&plain),
    })
}

fn refused(plain: &str) -> Vec<Refused> {
    let hrp = |text: &str| Hrp::parse(text).expect("hrp");
    let payload = |version: u8, key: &[u8]| [&[version], key].concat();
    let (alice, weak) = (*key(&ALICE).as_bytes(), [0; 32]);
    let m = |part: &str, bytes: &[u8]| bech32::encode::<Bech32m>(hrp(part), bytes).expect("short");
    let flipped = plain.replacen(
        &plain[10..11],
        if &plain[10..11] == "q" { "p" } else { "q" },
        1,
    );
    let mut mixed = plain.to_owned();
    mixed.replace_range(0..1, "B");
    let hint = |hint: &str| format!("{plain}@{hint}");
    let mut cases = vec![
        ("one character wrong", flipped, "damaged"),
        ("the last character missing", plain[..61].into(), "damaged"),
        ("mixed case", mixed, "damaged"),
        (
            "bech32, not bech32m",
            bech32::encode::<Bech32>(hrp("bs"), &payload(1, &alice)).expect("short"),
            "damaged",
        ),
        ("a padding bit is set", padded(plain), "damaged"),
        (
            "another human-readable part",
            m("bc", &payload(1, &alice)),
            "not_friend_code",
        ),
        (
            "a longer human-readable part",
            m("bs1x", &payload(1, &alice)),
            "not_friend_code",
        ),
        ("nothing", String::new(), "not_friend_code"),
        ("version 2", m("bs", &payload(2, &alice)), "version"),
        (
            "a key of 31 bytes",
            m("bs", &payload(1, &alice[..31])),
            "length",
        ),
        (
            "a key of 33 bytes",
            m("bs", &payload(1, &[alice.as_slice(), &[0]].concat())),
            "length",
        ),
        ("a key of small order", m("bs", &payload(1, &weak)), "key"),
        ("five hints", hint(&["a:1"; 5].join("@")), "too_many_hints"),
        ("1103 characters", hint(&"a".repeat(1040)), "too_long"),
    ];
    let hints = refused_hints().map(|(name, text)| (name, hint(text), "hint"));
    cases.extend(hints);
    cases
        .into_iter()
        .map(|(name, text, error)| Refused {
            name: name.into(),
            text,
            error: error.into(),
        })
        .collect()
}

fn refused_hints() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        ("an empty hint", ""),
        ("no port", "192.0.2.7"),
        ("port 0", "192.0.2.7:0"),
        ("port 65536", "192.0.2.7:65536"),
        ("a port with a leading zero", "192.0.2.7:080"),
        ("a port with a sign", "192.0.2.7:+80"),
        ("an IPv6 address without brackets", "2001:db8::7:6881"),
        ("a name that ends in a number", "slave.7:6881"),
        (
            "a name that ends in a hexadecimal number",
            "slave.0x7f:6881",
        ),
        ("an empty label", "slave..org:6881"),
        ("a space", "my slave:6881"),
    ]
    .into_iter()
}

/// The same payload with the padding bit set and a checksum that fits.
fn padded(plain: &str) -> String {
    use bech32::primitives::decode::UncheckedHrpstring;
    use bech32::primitives::iter::Fe32IterExt as _;
    use bech32::{Fe32, primitives::decode::CheckedHrpstring};
    let unchecked = UncheckedHrpstring::new(plain).expect("a code");
    assert!(CheckedHrpstring::new::<Bech32m>(plain).is_ok());
    let mut values: Vec<Fe32> = unchecked
        .data_part_ascii()
        .iter()
        .map(|c| Fe32::from_char(char::from(*c)).expect("charset"))
        .collect();
    values.truncate(53);
    let last = values.last_mut().expect("53 values");
    *last = Fe32::try_from(last.to_u8() | 1).expect("five bits");
    let hrp = Hrp::parse("bs").expect("hrp");
    values
        .into_iter()
        .with_checksum::<Bech32m>(&hrp)
        .chars()
        .collect()
}

fn name(error: &FriendCodeError) -> &'static str {
    match error {
        FriendCodeError::NotFriendCode => "not_friend_code",
        FriendCodeError::TooLong => "too_long",
        FriendCodeError::Damaged => "damaged",
        FriendCodeError::Version(_) => "version",
        FriendCodeError::Length => "length",
        FriendCodeError::Key(_) => "key",
        FriendCodeError::TooManyHints => "too_many_hints",
        FriendCodeError::Hint(_) => "hint",
    }
}

//= spec/identity.md#code-bech32m
//= spec/identity.md#code-case
//= spec/identity.md#code-refuse
//= spec/identity.md#code-hints
pub(crate) fn check(file: &str) {
    let file: File = read(file);
    for case in &file.codes {
        let read: FriendCode = case.code.parse().expect(&case.name);
        assert_eq!(read.key().as_bytes(), &array(&case.public), "{}", case.name);
        let hints: Vec<String> = read.hints().iter().map(Hint::to_string).collect();
        assert_eq!(hints, case.hints, "{}", case.name);
        assert_eq!(read.to_string(), case.code, "{}", case.name);
    }
    for case in &file.spellings {
        let read: FriendCode = case.text.parse().expect(&case.name);
        assert_eq!(read.to_string(), case.code, "{}", case.name);
    }
    for case in &file.refused {
        let error = case.text.parse::<FriendCode>().expect_err(&case.name);
        assert_eq!(name(&error), case.error, "{}", case.name);
    }
}
