use swarm_core::io::{Input, Limits, Origin, SwarmFact, SwarmId};
use swarm_core::time::Timestamp;

use super::*;

fn header() -> Header {
    let limits = Limits {
        upload: None,
        download: Some(1 << 20),
        month: None,
        schedule: Vec::new(),
        connections: 50,
        cache: 64 << 20,
        cache_memory: 64 << 20,
        repeat: true,
        max_swarms: 4,
    };
    Header {
        params: Params::new(limits, *b"-BS0000-recordedtest"),
        seed: 7,
    }
}

fn record(path: &Path, max: u64) -> usize {
    let header = header();
    let mut recorder = Recorder::create(path, max, &header).expect("a recording");
    let mut node = Node::new(header.params, header.seed);
    let mut answers = Answers::default();
    for second in 0..50u64 {
        let known = SwarmFact::Known {
            info_hash: [u8::try_from(second).expect("small"); 20],
            name: format!("swarm {second}"),
            geometry: None,
            private: false,
            hold: swarm_core::io::Hold::Cache,
            origin: Origin::Feed("http://127.0.0.1/feed".into()),
            pinned: true,
        };
        let inputs = vec![Input::Swarm(SwarmId(second as u32), known), Input::Timer];
        let batch = Batch {
            now: Timestamp::from_millis(second * 1000),
            inputs,
        };
        for input in batch.inputs.clone() {
            node.handle(batch.now, input);
        }
        while let Some(output) = node.poll_output() {
            answers.add(&output);
        }
        if !recorder.append(&Frame {
            batch,
            outputs: answers.finish(),
        }) {
            return second as usize;
        }
    }
    50
}

#[test]
fn a_recording_replays_byte_for_byte_and_tampering_shows() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    assert_eq!(record(&path, u64::MAX), 50);
    assert_eq!(replay(&path).expect("same answers"), 50);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&path).expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    let mut bytes = std::fs::read(&path).expect("readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).expect("writable");
    assert!(matches!(
        replay(&path),
        Err(RecordError::Differs { batch: 49 })
    ));

    std::fs::write(&path, &bytes[..last]).expect("writable");
    assert_eq!(replay(&path).expect("a torn last frame ends it"), 49);
    std::fs::write(&path, b"BTSREC0\nxxxx").expect("writable");
    assert!(matches!(replay(&path), Err(RecordError::Format { .. })));
}

#[test]
fn a_recording_keeps_to_its_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let written = record(&path, 2000);
    assert!((1..50).contains(&written));
    assert!(std::fs::metadata(&path).expect("there").len() <= 2000 + 8);
    assert_eq!(replay(&path).expect("what was written is whole"), written);
}

#[test]
fn f5_a_recording_is_not_written_through_a_symbolic_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let (target, link) = (dir.path().join("target"), dir.path().join("link"));
    std::fs::write(&target, "precious").expect("writable");
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    assert!(matches!(
        Recorder::create(&link, 1 << 20, &header()),
        Err(RecordError::File { .. })
    ));
    assert_eq!(std::fs::read(&target).expect("readable"), b"precious");
}
