//! Any text: no panic; what is read is written and read back as the same link.
#![no_main]

use bt_wire::magnet::{MAX_MAGNET, Magnet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(magnet) = text.parse::<Magnet>() {
        let written = magnet.to_string();
        if written.len() <= MAX_MAGNET {
            assert_eq!(written.parse(), Ok(magnet));
        }
    }
});
