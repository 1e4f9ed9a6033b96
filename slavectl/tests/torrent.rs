//! The offline commands, from the arguments to the text.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

struct Ran {
    status: u8,
    out: String,
    err: String,
}

async fn slavectl(args: &[&str]) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = slavectl::Io {
        out: &mut out,
        err: &mut err,
        colour: false,
        terminal: false,
    };
    let args = ["slavectl"].iter().chain(args).map(OsString::from);
    let status = slavectl::run(args, &mut io).await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran {
        status,
        out: text(out),
        err: text(err),
    }
}

async fn json(args: &[&str]) -> Value {
    let all: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
    let ran = slavectl(&all).await;
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
    serde_json::from_str(&ran.out).expect("one JSON document")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

#[tokio::test]
async fn a_folder_becomes_a_torrent_and_a_magnet_link() {
    let dir = tempfile::tempdir().expect("tempdir");
    let folder = dir.path().join("content");
    std::fs::create_dir_all(folder.join("sub")).expect("folder");
    std::fs::write(folder.join("b.bin"), vec![7; 100_000]).expect("write");
    std::fs::write(folder.join("sub/a.txt"), "hello").expect("write");
    let file = dir.path().join("t.torrent");
    let create = [
        "torrent",
        "create",
        text(&folder),
        "-o",
        text(&file),
        "-t",
        "http://t.example/announce",
        "-t",
        "http://u.example/announce",
        "--web-seed",
        "http://w.example/",
        "--piece-length",
        "32 KiB",
        "--private",
    ];
    let made = json(&create).await;
    let shown = json(&["torrent", "show", text(&file)]).await;
    assert_eq!(shown["info_hash_v1"], made["info_hash_v1"]);
    assert_eq!(shown["name"], "content");
    assert_eq!(shown["info_hash_v2"], Value::Null);
    assert_eq!(
        (
            shown["piece_length"].as_u64(),
            shown["piece_count"].as_u64(),
            shown["total_bytes"].as_u64()
        ),
        (Some(32_768), Some(4), Some(100_005))
    );
    assert_eq!(shown["private"], true);
    assert_eq!(shown["files"][0]["path"], "b.bin");
    assert_eq!(shown["files"][1]["bytes"], 5);
    assert_eq!(
        shown["trackers"],
        serde_json::json!([["http://t.example/announce"], ["http://u.example/announce"]])
    );
    assert_eq!(shown["web_seeds"], serde_json::json!(["http://w.example/"]));

    let link = json(&["torrent", "magnet", text(&file)]).await["magnet"]
        .as_str()
        .expect("a link")
        .to_owned();
    let of_link = json(&["torrent", "show", &link]).await;
    assert_eq!(
        (&of_link["info_hash_v1"], &of_link["name"]),
        (&shown["info_hash_v1"], &shown["name"])
    );
    assert_eq!(of_link["files"], Value::Null);
    let plain = slavectl(&["torrent", "show", text(&file)]).await;
    assert!(
        plain.out.contains("97.7 KiB in 4 pieces of 32.0 KiB") && plain.out.contains("sub/a.txt"),
        "{}",
        plain.out
    );
}

#[tokio::test]
async fn a_file_is_replaced_only_by_force_and_the_same_content_makes_the_same_torrent() {
    let dir = tempfile::tempdir().expect("tempdir");
    let content = dir.path().join("content");
    std::fs::write(&content, "hello").expect("write");
    let file = dir.path().join("t.torrent");
    let create = ["torrent", "create", text(&content), "-o", text(&file)];
    let made = json(&create).await;
    let again = slavectl(&create).await;
    assert_eq!(again.status, 1);
    assert!(
        again.err.contains("hint: name another with -o FILE"),
        "{}",
        again.err
    );
    let forced: Vec<&str> = create.iter().copied().chain(["--force"]).collect();
    assert_eq!(
        json(&forced).await,
        made,
        "the same content makes the same torrent"
    );
}

#[tokio::test]
async fn a3_names_reach_the_terminal_escaped() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("t.torrent");
    let name = "evil\u{1b}]0;owned\u{7}\u{202e}gnp\u{9b}31m";
    let file = [
        format!(
            "d4:infod6:lengthi1e4:name{}:{name}12:piece lengthi16384e6:pieces20:",
            name.len()
        )
        .as_bytes(),
        &[b'x'; 20],
        b"ee",
    ]
    .concat();
    std::fs::write(&path, file).expect("write");
    for args in [
        &["torrent", "show", text(&path)][..],
        &["--json", "torrent", "show", text(&path)],
        &["torrent", "magnet", text(&path)],
    ] {
        let ran = slavectl(args).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(ran.out.contains("evil"));
        assert!(
            !ran.out
                .contains(|c: char| c != '\n' && control_api::text::is_unsafe(c)),
            "{:?}",
            ran.out
        );
    }
}

#[tokio::test]
async fn what_is_no_torrent_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("bad.torrent");
    for (bytes, why) in [
        (&b""[..], "not a torrent file"),
        (b"d4:infoi1ee", "`info`"),
        (
            b"d4:infod6:lengthi-1e4:name1:a12:piece lengthi16384e6:pieces20:xxxxxxxxxxxxxxxxxxxxee",
            "a file's size is impossible",
        ),
        (&[b'l'; 100_000], "not a torrent file"),
    ] {
        std::fs::write(&path, bytes).expect("write");
        let ran = slavectl(&["--json", "torrent", "show", text(&path)]).await;
        assert_eq!((ran.status, ran.out.as_str()), (1, ""));
        assert!(
            ran.err.starts_with("error: ") && ran.err.contains(why),
            "{}",
            ran.err
        );
    }
    for bad in ["magnet:?dn=x", "magnet:?xt=urn:btih:zz"] {
        assert_eq!(slavectl(&["torrent", "show", bad]).await.status, 1);
    }
    for args in [
        &["torrent", "create", "/nonexistent"][..],
        &["torrent", "create", text(dir.path()), "-t", "ftp://x"],
        &[
            "torrent",
            "create",
            text(dir.path()),
            "--piece-length",
            "17 B",
        ],
    ] {
        assert_ne!(slavectl(args).await.status, 0, "{args:?}");
    }
}

#[tokio::test]
async fn help_version_and_completions_need_no_daemon() {
    for (args, holds) in [
        (&["--help"][..], "swarms"),
        (&["--version"], "slavectl"),
        (&["completions", "bash"], "_slavectl"),
        (&["completions", "zsh"], "#compdef slavectl"),
    ] {
        let ran = slavectl(args).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains(holds), "{args:?}");
    }
    let bare = slavectl(&[]).await;
    assert_eq!((bare.status, bare.out.as_str()), (2, ""));
}
