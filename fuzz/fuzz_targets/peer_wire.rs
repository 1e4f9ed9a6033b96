//! A connection's bytes: handshake, then frames. No panic; every message is written as it came; a bitfield fits or not.
#![no_main]

use bt_wire::bitfield::Bitfield;
use bt_wire::handshake::{Handshake, LENGTH, PROTOCOL};
use bt_wire::message::{Message, frame_length};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

/// Frames one after the other, as a reader would cut them; ends at the first that is incomplete or refused.
fn frames(mut stream: Bytes) {
    while let Some(prefix) = stream.first_chunk::<4>() {
        let Ok(length) = frame_length(*prefix) else { return };
        let whole = 4 + length as usize;
        if stream.len() < whole {
            // A reader may not look at an unfinished frame; parsing it anyway must do no harm.
            let _ = Message::parse(stream.slice(4..));
            return;
        }
        let frame = stream.split_to(whole);
        let Ok(message) = Message::parse(frame.slice(4..)) else { return };
        if let Message::Bitfield(bits) = &message {
            let most = u32::try_from(bits.len()).map_or(u32::MAX, |bytes| bytes * 8);
            for len in most.saturating_sub(8)..=most {
                if let Ok(set) = Bitfield::from_wire(bits, len) {
                    assert_eq!(set.iter_ones().count(), set.count_ones() as usize);
                    assert_eq!(set.as_bytes(), &bits[..]);
                }
            }
        }
        if !matches!(message, Message::Unknown { .. }) {
            let mut written = BytesMut::new();
            message.encode(&mut written);
            assert_eq!(written, frame);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut stream = Bytes::copy_from_slice(data);
    if let Some(first) = data.first_chunk::<LENGTH>() {
        match Handshake::decode(first) {
            Ok(handshake) => {
                assert_eq!(handshake.encode(), *first);
                let _ = stream.split_to(LENGTH);
            }
            Err(_) => assert_ne!(first[..20], PROTOCOL),
        }
    }
    // The same bytes from every small offset: frames cut where nobody would cut them.
    for offset in 0..4.min(stream.len()) {
        frames(stream.slice(offset..));
    }
    frames(stream);
});
