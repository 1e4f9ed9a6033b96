//! Any text: no panic; a code that is read is written in one spelling, which reads the same.
#![no_main]

use friends_proto::friend_code::{FriendCode, MAX_HINTS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(code) = text.parse::<FriendCode>() else { return };
    assert!(code.hints().len() <= MAX_HINTS);
    let written = code.to_string();
    assert_eq!(written.parse(), Ok(code), "{written}");
});
