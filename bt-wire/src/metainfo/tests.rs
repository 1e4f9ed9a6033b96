use proptest::prelude::*;

use super::*;
use crate::bencode::{ErrorKind, Item};

type Entries = Vec<(&'static str, Item)>;

fn single(length: i64, pieces: usize) -> Entries {
    vec![
        ("length", Item::Int(length)),
        ("name", Item::from("file")),
        ("piece length", Item::Int(16_384)),
        ("pieces", Item::bytes(vec![7; pieces])),
    ]
}

/// `entries` with one value put in or replaced.
fn with(mut entries: Entries, key: &'static str, value: Item) -> Entries {
    entries.retain(|(name, _)| *name != key);
    entries.push((key, value));
    entries
}

fn without(mut entries: Entries, key: &str) -> Entries {
    entries.retain(|(name, _)| *name != key);
    entries
}

fn load(info: Entries) -> Result<Metainfo, MetainfoError> {
    Metainfo::from_torrent(Item::dict([("info", Item::dict(info))]).encode())
}

fn entry(path: &[&[u8]], length: i64) -> Item {
    let path = path.iter().map(Item::bytes).collect();
    Item::dict([("length", Item::Int(length)), ("path", Item::List(path))])
}

fn multi(files: Vec<Item>, pieces: usize) -> Entries {
    with(
        without(single(0, pieces), "length"),
        "files",
        Item::List(files),
    )
}

fn paths(files: &[&[&[u8]]]) -> Result<Vec<String>, MetainfoError> {
    let entries = files.iter().map(|path| entry(path, 1)).collect();
    load(multi(entries, 20))
        .map(|metainfo| metainfo.files.into_iter().map(|file| file.path).collect())
}

fn leaf(length: i64) -> Item {
    Item::dict([(
        "",
        Item::dict([
            ("length", Item::Int(length)),
            ("pieces root", Item::bytes([1; 32])),
        ]),
    )])
}

fn v2(tree: Item) -> Entries {
    let info = without(without(single(0, 0), "length"), "pieces");
    with(with(info, "meta version", Item::Int(2)), "file tree", tree)
}

#[test]
fn reads_a_single_file_torrent() {
    let info = with(single(40_000, 60), "private", Item::Int(1));
    let raw = Item::dict(info.clone()).encode();
    let tier = |urls: &[&str]| Item::List(urls.iter().map(|url| Item::from(*url)).collect());
    let torrent = Item::dict([
        ("announce", Item::from("http://ignored/announce")),
        (
            "announce-list",
            Item::List(vec![
                tier(&["http://a", "http://b"]),
                tier(&[]),
                tier(&["udp://c"]),
            ]),
        ),
        ("info", Item::dict(info)),
        ("url-list", Item::from("http://w/")),
    ]);
    let metainfo = Metainfo::from_torrent(torrent.encode()).expect("sound");
    assert_eq!(metainfo.info_bytes, raw);
    assert_eq!(
        metainfo.trackers,
        [vec!["http://a", "http://b"], vec!["udp://c"]]
    );
    assert_eq!(metainfo.web_seeds, ["http://w/"]);
    assert!(metainfo.private && !metainfo.multi_file);
    assert_eq!(
        metainfo.files,
        [File {
            path: "file".to_owned(),
            length: 40_000,
            pad: false
        }]
    );
    assert_eq!(
        (
            metainfo.pieces().len(),
            metainfo.piece_hash(2),
            metainfo.piece_hash(3)
        ),
        (3, Some([7; 20]), None)
    );
    assert_eq!(
        metainfo.layout().map(|layout| layout.piece_size(2)),
        Ok(40_000 - 32_768)
    );
    let alone = Metainfo::from_info(raw, metainfo.trackers.clone()).expect("sound");
    assert_eq!(alone.info_hash_v1, metainfo.info_hash_v1);
    assert_eq!(
        (metainfo.version, metainfo.info_hash_v2),
        (MetaVersion::V1, None)
    );
}

#[test]
fn infohash_is_sha1_of_the_exact_bytes() {
    // Known answer, computed with an independent SHA-1.
    let torrent =
        b"d4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    let metainfo = Metainfo::from_torrent(&torrent[..]).expect("sound");
    assert_eq!(metainfo.info_hash().to_string(), KNOWN_V1);
    let torrent = "d4:infod9:file treed1:ad0:d6:lengthi1e11:pieces root32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaeee12:meta versioni2e4:name1:a12:piece lengthi16384eee";
    let metainfo = Metainfo::from_torrent(torrent).expect("sound");
    assert_eq!(
        metainfo
            .info_hash_v2
            .map(|hash| hash.to_string())
            .as_deref(),
        Some(KNOWN_V2)
    );
}

const KNOWN_V1: &str = "4de9b0e9855b349178fb7a42f37dc0f2fac3018d";
const KNOWN_V2: &str = "f007a4b44f70137245ee3a46abbc936c1825c6dd39e928bf509b8761734a2f1f";

#[test]
fn a1_every_path_stays_below_the_root() {
    let table: [(&[&[u8]], &str); 14] = [
        (&[b"..", b"..", b"etc", b"passwd"], "etc/passwd"),
        (&[b"/etc/passwd"], "_etc_passwd"),
        (&[b"a/../../b"], "a_.._.._b"),
        (&[b"..\\..\\b"], ".._.._b"),
        (&[b"C:", b"x"], "C_/x"),
        (&[b"C:\\x"], "C:_x"),
        (&[b"", b"x"], "x"),
        (&[b".", b"./x"], "._x"),
        (&[b".."], "_"),
        (&[], "_"),
        (&[b"foo... bar"], "foo... bar"),
        (&[b"...", b"x"], ".../x"),
        (&[b"a\0b"], "a_b"),
        (&[b"\xff\x2f"], "\u{ff}_"),
    ];
    for (path, want) in table {
        assert_eq!(paths(&[path]), Ok(vec![want.to_owned()]), "{path:?}");
    }
    for (name, want) in [
        ("..", "_"),
        ("/etc/passwd", "_etc_passwd"),
        ("", "_"),
        ("a", "a"),
    ] {
        let metainfo = load(with(single(1, 20), "name", Item::from(name))).expect("sound");
        assert_eq!(
            (metainfo.name.as_str(), metainfo.files[0].path.as_str()),
            (want, want)
        );
    }
}

#[test]
fn a2_symlinks_are_refused() {
    let link = |extra: (&'static str, Item)| {
        let Item::Dict(mut dict) = entry(&[b"a"], 1) else {
            unreachable!()
        };
        dict.insert(extra.0.as_bytes().to_vec(), extra.1);
        load(multi(vec![Item::Dict(dict)], 20)).err()
    };
    assert_eq!(
        link(("attr", Item::from("xl"))),
        Some(MetainfoError::Symlink)
    );
    assert_eq!(
        link(("symlink path", Item::List(vec![]))),
        Some(MetainfoError::Symlink)
    );
    assert_eq!(link(("attr", Item::from("x"))), None);
    assert_eq!(
        load(with(single(1, 20), "attr", Item::from("l"))),
        Err(MetainfoError::Symlink)
    );
    let linked = Item::dict([(
        "",
        Item::dict([("attr", Item::from("l")), ("length", Item::Int(0))]),
    )]);
    assert_eq!(
        load(v2(Item::dict([("a", linked)]))),
        Err(MetainfoError::Symlink)
    );
}

#[test]
fn a3_shown_names_hold_no_control_characters() {
    let name = "\u{1b}]0;x\u{7}\u{202e}gpj.exe\u{9b}\u{2066}\u{feff}";
    let metainfo = load(with(single(1, 20), "name", Item::from(name))).expect("sound");
    assert_eq!(
        metainfo.display_name(),
        r"\u{1b}]0;x\u{7}\u{202e}gpj.exe\u{9b}\u{2066}\u{feff}"
    );
    assert_eq!(display_text("schön 日本"), "schön 日本");
}

#[test]
fn a4_duplicate_names_are_an_error_even_as_a_bomb() {
    assert_eq!(
        paths(&[&[b"a"], &[b"b"], &[b"a"]]),
        Err(MetainfoError::DuplicatePath)
    );
    assert_eq!(
        paths(&[&[b"a"], &[b"..", b"a"]]),
        Err(MetainfoError::DuplicatePath)
    );
    let bomb = (0..200_000).map(|_| entry(&[&[b'x'; 10]], 0)).collect();
    assert_eq!(load(multi(bomb, 20)), Err(MetainfoError::DuplicatePath));
}

#[test]
fn a4_padding_files_may_share_a_name() {
    let pad = || {
        Item::dict([
            ("attr", Item::from("p")),
            ("length", Item::Int(1)),
            (
                "path",
                Item::List(vec![Item::from(".pad"), Item::from("1")]),
            ),
        ])
    };
    let metainfo = load(multi(
        vec![entry(&[b"a"], 1), pad(), entry(&[b"b"], 1), pad()],
        20,
    ))
    .expect("sound");
    assert_eq!(metainfo.files.iter().filter(|file| file.pad).count(), 2);
    assert_eq!(metainfo.total, 4);
}

#[test]
fn a5_deep_directories_are_an_error() {
    let deep = |depth: usize| vec![&b"d"[..]; depth];
    assert!(paths(&[&deep(50)]).is_ok() && paths(&[&deep(100)]).is_ok());
    assert_eq!(paths(&[&deep(101)]), Err(MetainfoError::TooDeep));
    assert_eq!(paths(&[&deep(200)]), Err(MetainfoError::TooDeep));
    let tree = |depth: usize| v2((0..depth).fold(leaf(1), |inner, _| Item::dict([("d", inner)])));
    assert!(load(tree(50)).is_ok() && load(tree(100)).is_ok());
    assert_eq!(load(tree(101)), Err(MetainfoError::TooDeep));
    let Err(MetainfoError::Bencode(error)) = load(tree(200)) else {
        panic!("a limit")
    };
    assert_eq!(error.kind, ErrorKind::TooDeep);
}

#[test]
fn a6_impossible_sizes_are_an_error() {
    assert_eq!(load(single(-1, 20)), Err(MetainfoError::BadSize));
    assert_eq!(load(single(0, 0)), Err(LayoutError::Empty.into()));
    assert!(matches!(
        load(single(i64::MAX, 20)),
        Err(MetainfoError::Layout(LayoutError::TooManyPieces(_)))
    ));
    let huge = vec![
        entry(&[b"a"], i64::MAX),
        entry(&[b"b"], i64::MAX),
        entry(&[b"c"], i64::MAX),
    ];
    assert_eq!(load(multi(huge, 20)), Err(MetainfoError::BadSize));
    assert_eq!(
        load(multi(vec![entry(&[b"a"], -5), entry(&[b"b"], 10)], 20)),
        Err(MetainfoError::BadSize)
    );
    assert_eq!(load(multi(vec![], 0)), Err(LayoutError::Empty.into()));
    for length in [0, -1, -16_384, (256 << 20) + 1, i64::MAX, i64::MIN] {
        let loaded = load(with(single(1, 20), "piece length", Item::Int(length)));
        assert!(
            matches!(
                loaded,
                Err(MetainfoError::Layout(LayoutError::PieceLength(_)))
            ),
            "{length}"
        );
    }
    let many = with(single(2_097_153, 20), "piece length", Item::Int(1));
    assert_eq!(
        load(many),
        Err(LayoutError::TooManyPieces(2_097_153).into())
    );
    let big = load(v2(Item::dict([
        ("a", leaf(i64::MAX)),
        ("b", leaf(i64::MAX)),
        ("c", leaf(i64::MAX)),
    ])));
    assert_eq!(big, Err(MetainfoError::BadSize));
    let big = load(v2(Item::dict([("a", leaf(i64::MAX))])));
    assert!(matches!(
        big,
        Err(MetainfoError::Layout(LayoutError::TooManyPieces(_)))
    ));
}

#[test]
fn a6_a_long_directory_name_does_not_multiply() {
    let children = Item::dict((0..100).map(|at| (format!("{at:04}"), leaf(1))));
    let tree = Item::dict([("x".repeat(1 << 20), children)]);
    assert_eq!(load(v2(tree)), Err(MetainfoError::PathsTooLong));
    // Empty directories are no files: nothing but the walk itself would count them.
    let empty = Item::dict((0..200_000).map(|at| (format!("{at:06}"), Item::dict::<&str>([]))));
    let tree = Item::dict([("x".repeat(5 << 20), empty), ("y".to_owned(), leaf(1))]);
    assert_eq!(load(v2(tree)).map(|metainfo| metainfo.files.len()), Ok(1));
}

#[test]
fn a7_pieces_must_fit_the_size() {
    for pieces in [0, 20, 39, 41, 60, 119] {
        let want = MetainfoError::PieceHashes {
            have: pieces,
            want: 40,
        };
        assert_eq!(load(single(16_385, pieces)), Err(want));
    }
    assert!(load(single(16_385, 40)).is_ok());
}

#[test]
fn a8_deep_recursion_in_a_torrent_is_an_error() {
    for bomb in [
        b"l".repeat(1024),
        b"d4:info".repeat(100_000),
        b"d1:a".repeat(3 << 20),
    ] {
        let Err(MetainfoError::Bencode(error)) = Metainfo::from_torrent(bomb) else {
            panic!("a limit")
        };
        assert_eq!(error.kind, ErrorKind::TooDeep);
    }
}

#[test]
fn a9_a10_lying_lengths_and_token_bombs_are_an_error() {
    assert!(matches!(
        Metainfo::from_torrent(&b"d4:info99999999:x"[..]),
        Err(MetainfoError::Bencode(_))
    ));
    let bomb = [b"d4:infol", &b"0:".repeat(5 << 20)[..], b"ee"].concat();
    let Err(MetainfoError::Bencode(error)) = Metainfo::from_torrent(bomb) else {
        panic!("a limit")
    };
    assert_eq!(error.kind, ErrorKind::TooManyTokens);
    assert_eq!(
        Metainfo::from_torrent(vec![b'l'; MAX_TORRENT + 1]),
        Err(MetainfoError::TooLong(MAX_TORRENT + 1))
    );
}

#[test]
fn a11_duplicate_pieces_are_an_error_and_order_is_kept_in_the_hash() {
    let twice = b"d4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaa6:pieces20:bbbbbbbbbbbbbbbbbbbbee";
    let Err(MetainfoError::Bencode(error)) = Metainfo::from_torrent(&twice[..]) else {
        panic!("refused")
    };
    assert_eq!(error.kind, ErrorKind::DuplicateKey);
    let shuffled =
        b"d4:infod4:name1:a6:lengthi1e6:pieces20:aaaaaaaaaaaaaaaaaaaa12:piece lengthi16384eee";
    let metainfo = Metainfo::from_torrent(&shuffled[..]).expect("read as it is");
    assert_eq!(metainfo.info_bytes, &shuffled[7..shuffled.len() - 1]);
    assert_ne!(metainfo.info_hash().to_string(), KNOWN_V1);
}

#[test]
fn keys_of_the_wrong_type_are_an_error() {
    assert_eq!(
        load(without(single(1, 20), "name")),
        Err(MetainfoError::BadKey("name"))
    );
    assert_eq!(
        load(with(single(1, 20), "name", Item::Int(1))),
        Err(MetainfoError::BadKey("name"))
    );
    assert_eq!(
        load(without(single(1, 20), "length")),
        Err(MetainfoError::BadKey("length"))
    );
    assert_eq!(
        load(with(single(1, 20), "files", Item::List(vec![]))),
        Err(MetainfoError::BadKey("files"))
    );
    assert_eq!(
        load(without(single(1, 20), "piece length")),
        Err(MetainfoError::BadKey("piece length"))
    );
    assert_eq!(
        load(with(single(1, 20), "meta version", Item::Int(3))),
        Err(MetainfoError::UnknownVersion(3))
    );
    assert_eq!(
        Metainfo::from_torrent(&b"de"[..]),
        Err(MetainfoError::BadKey("info"))
    );
    assert_eq!(
        Metainfo::from_info(&b"le"[..], vec![]),
        Err(MetainfoError::BadKey("info"))
    );
    let odd = b"d8:announcei1e13:announce-listli1eli2eee4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae8:url-listi1ee";
    let metainfo = Metainfo::from_torrent(&odd[..]).expect("trackers are not needed");
    assert!(metainfo.trackers.is_empty() && metainfo.web_seeds.is_empty());
}

#[test]
fn hybrids_load_by_their_v1_half() {
    let pad = Item::dict([
        ("attr", Item::from("p")),
        ("length", Item::Int(16_383)),
        (
            "path",
            Item::List(vec![Item::from(".pad"), Item::from("16383")]),
        ),
    ]);
    let hybrid = |second: i64| {
        let info = multi(
            vec![entry(&[b"a"], 1), pad.clone(), entry(&[b"b", b"c"], 5)],
            40,
        );
        let tree = Item::dict([("a", leaf(1)), ("b", Item::dict([("c", leaf(second))]))]);
        load(with(
            with(info, "meta version", Item::Int(2)),
            "file tree",
            tree,
        ))
    };
    let metainfo = hybrid(5).expect("sound");
    assert_eq!(
        (metainfo.version, metainfo.joinable()),
        (MetaVersion::Hybrid, Ok(()))
    );
    assert!(metainfo.info_hash_v1.is_some() && metainfo.info_hash_v2.is_some());
    assert_eq!(metainfo.layout().map(|layout| layout.piece_count), Ok(2));
    assert_eq!(hybrid(6), Err(MetainfoError::HybridMismatch));
}

#[test]
fn v2_only_is_read_and_not_joined() {
    let metainfo = load(v2(Item::dict([
        ("a", leaf(20_000)),
        ("b", Item::dict([("c", leaf(5))])),
    ])))
    .expect("sound");
    assert_eq!(
        (metainfo.version, metainfo.info_hash_v1),
        (MetaVersion::V2, None)
    );
    assert_eq!(
        (metainfo.joinable(), metainfo.layout().err()),
        (Err(NotJoinable::V2Only), Some(NotJoinable::V2Only))
    );
    assert_eq!(
        (
            metainfo.total,
            metainfo.piece_count,
            metainfo.pieces().len()
        ),
        (20_005, 3, 0)
    );
    assert_eq!(metainfo.files[1].path, "b/c");
    assert_eq!(
        metainfo.info_hash(),
        metainfo.info_hash_v2.expect("there").truncated()
    );
    let odd = with(
        v2(Item::dict([("a", leaf(1))])),
        "piece length",
        Item::Int(20_000),
    );
    assert_eq!(load(odd), Err(MetainfoError::BadKey("piece length")));
    for tree in [
        Item::dict([("", leaf(1))]),
        Item::dict([("a", Item::Int(1))]),
        Item::dict([("a", Item::dict([("", Item::Int(1))]))]),
    ] {
        assert_eq!(load(v2(tree)), Err(MetainfoError::BadKey("file tree")));
    }
    assert_eq!(
        load(v2(Item::dict::<&str>([]))),
        Err(LayoutError::Empty.into())
    );
}

#[test]
fn the_builder_refuses_what_we_would_not_load() {
    let bad = MetainfoBuilder::single("a", 16_385, 16_384)
        .pieces([[1; 20]])
        .build();
    assert!(matches!(
        bad,
        Err(CreateError::Invalid(MetainfoError::PieceHashes { .. }))
    ));
    for name in ["..", "", "a/b", "a\\b"] {
        let bad = MetainfoBuilder::single(name, 1, 16_384)
            .pieces([[1; 20]])
            .build();
        assert_eq!(bad, Err(CreateError::UnsafeName(name.to_owned())));
    }
    let bad = MetainfoBuilder::multi("m", 16_384)
        .file(Vec::<String>::new(), 1)
        .pieces([[1; 20]])
        .build();
    assert!(matches!(bad, Err(CreateError::UnsafeName(_))));
    let bad = MetainfoBuilder::single("a", u64::MAX, 16_384).build();
    assert_eq!(bad, Err(CreateError::Invalid(MetainfoError::BadSize)));
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(
        files in prop::collection::btree_map("[a-z]{1,8}", 1u64..100_000, 1..6),
        private: bool,
        tiers in prop::collection::vec(prop::collection::vec("http://[a-z]{1,5}/announce", 1..3), 0..3),
        date: Option<i64>,
    ) {
        let total: u64 = files.values().sum();
        let hashes: Vec<[u8; 20]> = (0..total.div_ceil(16_384)).map(|at| [at as u8; 20]).collect();
        let mut builder = MetainfoBuilder::multi("name", 16_384).private(private).pieces(hashes.clone()).comment("c").created_by("b");
        for (path, length) in &files {
            builder = builder.file(["dir", path], *length);
        }
        for tier in &tiers {
            builder = builder.tier(tier.clone());
        }
        if let Some(date) = date {
            builder = builder.creation_date(date);
        }
        let bytes = builder.web_seed("http://w/").build().expect("sound");
        let metainfo = Metainfo::from_torrent(bytes.clone()).expect("sound");
        prop_assert_eq!(metainfo.pieces(), &hashes[..]);
        prop_assert_eq!((metainfo.total, metainfo.private), (total, private));
        prop_assert_eq!(metainfo.files.iter().map(|file| file.length).collect::<Vec<_>>(), files.values().copied().collect::<Vec<_>>());
        prop_assert_eq!(&metainfo.trackers, &tiers);
        prop_assert_eq!(&metainfo.web_seeds, &["http://w/"]);
        let strict = crate::bencode::Document::parse(&bytes, &crate::bencode::Limits::strict());
        prop_assert!(strict.is_ok(), "canonical");
    }

    #[test]
    fn junk_never_panics(at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut bytes = MetainfoBuilder::multi("m", 16_384).file(["a"], 9).file(["b"], 9).pieces([[1; 20]]).tier(["http://x/"]).build().expect("sound");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let _ = Metainfo::from_torrent(bytes);
    }
}
