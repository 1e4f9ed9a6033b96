//! Payloads of the extension protocol: no panic, limits hold, what is read is written and read back the same.
#![no_main]

use bt_wire::extension::{
    ExtendedHandshake, LtDontHave, MAX_METADATA, MAX_PEX_PEERS, METADATA_PIECE, MetadataAssembler, MetadataMessage,
    PexMessage,
};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fn handshake(payload: &[u8]) {
    let Ok(read) = ExtendedHandshake::parse(payload) else { return };
    assert!(read.reqq.is_none_or(|reqq| (1..=65_535).contains(&reqq)));
    assert!(read.metadata_size.is_none_or(|size| (1..=MAX_METADATA).contains(&size)));
    let again = ExtendedHandshake::parse(&read.encode()).expect("ours reads");
    assert_eq!(again, ExtendedHandshake { out_of_range: false, ..read });
}

fn metadata(payload: &Bytes) {
    let Ok(message) = MetadataMessage::parse(payload) else { return };
    if let MetadataMessage::Data { piece, total_size, data } = &message {
        assert!(data.len() <= METADATA_PIECE as usize);
        let mut assembler = MetadataAssembler::new(*total_size).expect("checked");
        if assembler.add(*piece, *total_size, data.clone()).is_ok() {
            assert!(assembler.missing().all(|missing| missing != *piece));
        }
        if let Some(whole) = assembler.assemble() {
            assert_eq!(whole.len(), *total_size as usize);
        }
    }
    if message != MetadataMessage::Unknown {
        assert_eq!(MetadataMessage::parse(&message.encode().into()), Ok(message));
    }
}

fn pex(payload: &[u8]) {
    let Ok(message) = PexMessage::parse(payload) else { return };
    assert!(message.added.len() <= MAX_PEX_PEERS && message.dropped.len() <= MAX_PEX_PEERS);
    let again = PexMessage::parse(&message.encode()).expect("ours reads");
    assert_eq!((again.added.len(), again.dropped.len()), (message.added.len(), message.dropped.len()));
}

fuzz_target!(|data: &[u8]| {
    handshake(data);
    metadata(&Bytes::copy_from_slice(data));
    pex(data);
    if let Some(message) = LtDontHave::parse(data) {
        assert_eq!(message.encode(), data);
    }
});
