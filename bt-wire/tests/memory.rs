//! What a hostile torrent file of 10 MB may cost: never 64 MiB (contract, row A6). Alone in its process, because it looks
//! at the process's own high-water mark.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "reads the process's own memory figures"
)]

use bt_wire::metainfo::Metainfo;

const FILE: usize = 10_000_000;

fn high_water() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("VmHWM");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<usize>().ok())
        .expect("a number")
        * 1024
}

/// `head`, then as many of `entry` as fit 10 MB, then `tail`.
fn fill(head: &str, entry: impl Fn(usize) -> String, most: usize, tail: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(FILE);
    out.extend_from_slice(head.as_bytes());
    for at in 0..most {
        let entry = entry(at);
        if out.len() + entry.len() + tail.len() > FILE {
            break;
        }
        out.extend_from_slice(entry.as_bytes());
    }
    out.extend_from_slice(tail.as_bytes());
    out
}

#[test]
fn a6_ten_hostile_megabytes_cost_less_than_64_mib() {
    let end = "12:piece lengthi268435456e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    let v2_end = "12:meta versioni2e4:name1:a12:piece lengthi268435456eee";
    let file = |at: usize| format!("d6:lengthi0e4:pathl6:{at:06}ee");
    let cases: [(Vec<u8>, bool); 6] = [
        // The most files that pass: 7 values each.
        (
            fill(
                "d4:infod5:filesl",
                file,
                214_000,
                &format!("d6:lengthi1e4:pathl1:aeee4:name1:a{end}"),
            ),
            true,
        ),
        (
            fill("d4:infod5:filesl", file, FILE, &format!("e4:name1:a{end}")),
            false,
        ),
        (
            fill(
                "d4:infod9:file treed",
                |at| format!("6:{at:06}d0:d6:lengthi1eee"),
                214_000,
                &format!("e{v2_end}"),
            ),
            true,
        ),
        (
            fill(
                "d4:infod",
                |at| format!("6:{:06}0:", 999_999 - at),
                FILE,
                &format!("4:name1:a{end}"),
            ),
            false,
        ),
        (fill("l", |_| "0:".to_owned(), FILE, "e"), false),
        (fill("l", |_| "llleee".to_owned(), FILE, "e"), false),
    ];
    let before = high_water();
    for (at, (torrent, loads)) in cases.into_iter().enumerate() {
        assert_eq!(Metainfo::from_torrent(torrent).is_ok(), loads, "case {at}");
    }
    let cost = high_water() - before;
    assert!(cost < (64 << 20) - FILE, "{} MiB", cost >> 20);
}
