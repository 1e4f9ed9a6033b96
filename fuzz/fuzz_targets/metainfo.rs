//! Any torrent file: no panic; whatever loads has safe paths, sizes that add up and a hash per piece.
#![no_main]

use bt_wire::metainfo::{MetaVersion, Metainfo};
use libfuzzer_sys::fuzz_target;

fn check(metainfo: &Metainfo) {
    for file in &metainfo.files {
        assert!(!file.path.is_empty() && !file.path.contains(['\\', '\0']), "{:?}", file.path);
        for part in file.path.split('/') {
            assert!(!matches!(part, "" | "." | ".."), "{:?}", file.path);
        }
    }
    assert!(!matches!(metainfo.name.as_str(), "" | "." | "..") && !metainfo.name.contains(['/', '\\', '\0']));
    assert!(!metainfo.display_name().chars().any(char::is_control));
    let total = metainfo.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.length));
    assert_eq!(total, Some(metainfo.total));
    match metainfo.layout() {
        Ok(layout) => {
            assert_eq!(layout.piece_count, metainfo.piece_count);
            assert_eq!(metainfo.pieces().len(), layout.piece_count as usize);
            assert!(layout.piece_size(layout.piece_count - 1) > 0);
        }
        Err(_) => assert_eq!(metainfo.version, MetaVersion::V2),
    }
    let _ = metainfo.info_hash();
}

fuzz_target!(|data: &[u8]| {
    if let Ok(metainfo) = Metainfo::from_torrent(data.to_vec()) {
        check(&metainfo);
        let alone = Metainfo::from_info(metainfo.info_bytes.clone(), metainfo.trackers.clone()).expect("loads alone");
        assert_eq!((alone.info_hash_v1, alone.info_hash_v2), (metainfo.info_hash_v1, metainfo.info_hash_v2));
        assert_eq!(alone.files, metainfo.files);
    }
    if let Ok(metainfo) = Metainfo::from_info(data.to_vec(), Vec::new()) {
        check(&metainfo);
    }
});
