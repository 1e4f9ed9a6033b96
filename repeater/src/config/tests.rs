#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::layers::load_text;
use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    load_text("btslave.toml", text, &Sources::default())
}

fn refused(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn an_empty_file_is_the_defaults_and_the_printed_ones_load_to_them() {
    assert_eq!(read("").unwrap(), Config::default());
    assert_eq!(
        read(&Config::default().to_toml()).unwrap(),
        Config::default()
    );
}

#[test]
fn default_toml_is_what_print_config_prints() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/default.toml");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(file, Config::default().to_toml()).expect("write");
    }
    let text = std::fs::read_to_string(file).expect("config/default.toml");
    assert!(
        text == Config::default().to_toml(),
        "look at the change, then run this test with UPDATE_SNAPSHOTS=1"
    );
}

#[test]
fn the_examples_are_sound_and_use_their_keys() {
    let slave = include_str!("../../../config/examples/slave.toml");
    let config = read(slave).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.masters.len() == 1 && config.masters[0].rpc.is_some());
    let repeater = include_str!("../../../config/examples/repeater.toml");
    let config = read(repeater).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.feeds.len() == 2 && config.limits.upload.0.is_some());
}

/// Every key with a value that is not its default.
const ALL_KEYS: &str = r#"
        [node]
        data_dir = "/d"
        listen = ["127.0.0.1:1", "[::1]:2", "127.0.0.1:1"]
        [limits]
        upload = "40 KiB/s"
        download = "1 MB/s"
        connections = 9
        [cache]
        size = "8 MiB"
        memory = "2 MiB"
        min_free = "3 MiB"
        [repeater]
        enabled = false
        max_swarms = 7
        [friends]
        mode = "open"
        window = "1 MiB"
        credit = "unlimited"
        open_pool = "0 B"
        private_torrents = true
        [discovery]
        trackers = false
        pex = false
        [api]
        listen = ""
        token_file = "/t"
        [log]
        filter = "debug"
        format = "json"
        [[feed]]
        url = "http://f/"
        every = "1h"
        allow = ["a"]
        deny = ["b"]
        max_torrent_size = "5 GB"
        max_torrents = 3
        max_cache = "2 MiB"
        [[master]]
        name = "home"
        address = "[::1]:51413"
        share = 1
        rpc = { kind = "qbittorrent", url = "http://h:8080/", user = "u", password_file = "/p" }
"#;

#[test]
fn every_listed_key_is_set_by_its_own_name() {
    // The printed defaults hold all keys; one that `set` confused with another would not come back changed.
    let config = read(ALL_KEYS).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.node.listen.len(), 2);
    assert_eq!(config.limits.download, Rate(Some(1_000_000)));
    assert_eq!(
        (
            config.cache.size,
            config.cache.memory,
            config.cache.min_free
        ),
        (8 << 20, 2 << 20, 3 << 20)
    );
    assert_eq!(config.feeds[0].max_torrent_size, Size(Some(5_000_000_000)));
    let friends = config.friends;
    assert_eq!((friends.window, friends.credit), (1 << 20, Size(None)));
    assert_eq!(
        (config.feeds[0].max_torrents, config.feeds[0].max_cache),
        (Some(3), Size(Some(2 << 20)))
    );
    assert_eq!(
        config.masters[0].rpc.as_ref().unwrap().kind,
        RpcKind::Qbittorrent
    );
    assert_eq!(
        read(&config.to_toml()).unwrap(),
        config,
        "what is printed loads to the same"
    );
}

#[test]
fn an_unknown_key_names_the_nearest_with_line_and_column() {
    let error = refused("[cache]\nsize = \"1 GiB\"\n  memroy = \"1 MiB\"\n");
    assert_eq!(
        error,
        "error: btslave.toml:3:3: cache.memroy: there is no such key\nhint: did you mean `memory`?"
    );
    assert!(refused("[cahce]\n").contains(
        "btslave.toml:1:2: cahce: there is no such section\nhint: did you mean `cache`?"
    ));
    assert!(
        refused("[[feed]]\nurl = \"http://x/\"\nevry = \"1h\"")
            .contains(":3:1: feed.evry: there is no such key\nhint: did you mean `every`?")
    );
    let rpc = "[[master]]\nname = \"a\"\naddress = \"b:1\"\nrpc = { knid = \"transmission\", url = \"http://h/\" }";
    assert!(
        refused(rpc)
            .contains(":4:9: master.rpc.knid: there is no such key\nhint: did you mean `kind`?"),
        "{}",
        refused(rpc)
    );
    assert!(refused("zzzzzzzzzzzzz = 1").contains("print-config"));
}

#[test]
fn all_mistakes_are_told_at_once_each_at_its_place() {
    let error = read("[limits]\nupload = \"40 KiB\"\nconnections = -1\n[node]\nlisten = [\"a\"]\n")
        .expect_err("three");
    let places: Vec<&str> = error.problems().iter().map(|p| p.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "btslave.toml:2:10: limits.upload",
            "btslave.toml:3:15: limits.connections",
            "btslave.toml:5:10: node.listen"
        ]
    );
    assert!(error.problems()[0].why.contains("40 KiB/s"));
}

#[test]
fn what_is_not_built_yet_is_refused_unless_harmless() {
    let text = "[node]\nbind_device = \"wg0\"";
    assert!(refused(text).contains("not built yet\nhint: "), "{text}");
    read("[friends]\nmode = \"off\"\n[discovery]\ndht = false\nlsd = false\nport_mapping = false")
        .unwrap();
}

#[test]
fn friends_figures_are_checked_and_the_refusal_says_what_to_write() {
    for (text, says) in [
        ("window = \"1 KiB\"", "256 KiB to 1 GiB"),
        ("window = \"2 GiB\"", "256 KiB to 1 GiB"),
        ("window = \"unlimited\"", "must be a number of bytes"),
        ("credit = \"1 MiB\"", "less than friends.window (4"),
        ("open_pool = \"2 TiB\"", "at most 1 TiB"),
        ("mode = \"everybody\"", "`off`, `known`, `open`"),
        ("private_torrents = \"yes\"", "a boolean"),
    ] {
        let error = refused(&format!("[friends]\n{text}"));
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn hostile_values_are_refused() {
    for text in [
        "[cache]\nsize = \"unlimited\"",
        "[cache]\nsize = \"0 B\"",
        "[cache]\nsize = \"999999 TiB\"",
        "[cache]\nsize = 268435456",
        "[cache]\nsize = \"8 MiB\"\nmemory = \"9 MiB\"",
        "[limits]\nconnections = 0",
        "[limits]\nmonth = \"1000 KiB\"",
        "[limits]\nschedule = [{ days = \"mon\", from = \"08:00\", to = \"09:00\" }]",
        "[limits]\nschedule = [{ days = \"moon\", from = \"08:00\", to = \"09:00\", upload = \"9 KiB/s\" }]",
        "[limits]\nschedule = [{ days = \"mon\", from = \"8:00\", to = \"09:00\", upload = \"9 KiB/s\" }]",
        "[limits]\nschedule = [{ days = \"mon\", from = \"08:00\", to = \"24:01\", upload = \"9 KiB/s\" }]",
        "[limits]\nschedule = [{ days = \"mon\", from = \"08:00\", to = \"08:00\", upload = \"9 KiB/s\" }]",
        "[limits]\nschedule = [{ days = \"mon\", from = \"08:00\", to = \"09:00\", upload = \"9 B/s\" }]",
        "[limits]\nschedule = [{ days = \"mon\", from = \"08:00\", to = \"09:00\", speed = \"9 KiB/s\" }]",
        "[limits]\nconnections = 99999999999999",
        "[limits]\nupload = \"1 B/s\"",
        "[repeater]\nmax_swarms = 4000",
        "[node]\nlisten = []",
        "[api]\nlisten = \"localhost:1\"",
        "[log]\nfilter = \"info=info=info\"",
        "[log]\nformat = \"xml\"",
        "[[feed]]\nurl = \"file:///etc/passwd\"",
        "[[feed]]\nurl = \"feeds\"",
        "[[feed]]\nurl = \"http://a/\"\nevery = \"1s\"",
        "[[feed]]\nurl = \"http://a/\"\nallow = [\"(\"]",
        "[[feed]]\nurl = \"http://a/\"\ndeny = [\"(a{1000}){1000}\"]",
        "[[feed]]\nurl = \"http://a/\"\n[[feed]]\nurl = \"http://a/\"",
        "[[feed]]",
        "[[master]]\nname = \"a\"\naddress = \"home\"",
        "[[master]]\nname = \"a\"\naddress = \"home:0\"",
        "[[master]]\nname = \"\\u001b[2J\"\naddress = \"home:1\"",
        "[[master]]\nname = \"a\"\naddress = \"home:1\"\nshare = nan",
        "[[master]]\nname = \"a\"\naddress = \"home:1\"\nrpc = { kind = \"transmission\", url = \"http://u:p@h/\" }",
        "feed = 1",
        "node = 1",
        "[node",
        "a = \"\\u0000",
    ] {
        let error = refused(text);
        assert!(
            error.starts_with("error: btslave.toml") && !error.contains('\u{1b}'),
            "{text}: {error}"
        );
    }
    let deep = format!(
        "[node]\nlisten = {}{}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert!(read(&deep).is_err());
}

#[test]
fn the_api_stays_on_this_machine_unless_the_flag_says_otherwise() {
    let text = "[api]\nlisten = \"0.0.0.0:8470\"";
    assert!(refused(text).contains("--api-allow-remote"));
    let sources = Sources {
        api_allow_remote: true,
        ..Sources::default()
    };
    assert!(load_text("f", text, &sources).is_ok());
}

#[test]
fn environment_then_set_then_flags() {
    let env = [
        ("BTSLAVE_CACHE__SIZE", "32 MiB"),
        ("BTSLAVE_CACHE__MEMORY", "8 MiB"),
        ("BTSLAVE_BIN", "/x"),
        ("BTSLAVE_NODE__LISTEN", "[\"127.0.0.1:7\"]"),
        ("PATH", "y"),
    ];
    let mut overlays =
        Overlay::from_env(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    assert_eq!(overlays.len(), 3);
    overlays.push(Overlay::from_set("cache.memory=16 MiB").unwrap());
    overlays.push(Overlay::from_set("repeater.max_swarms=2").unwrap());
    overlays.push(Overlay::from_set("log.filter=warn").unwrap());
    overlays.push(Overlay::from_set("node.data_dir=123").unwrap());
    let sources = Sources {
        overlays,
        log_filter: Some("trace".to_owned()),
        ..Sources::default()
    };
    let config = load_text(
        "f",
        "[cache]\nsize = \"1 GiB\"\nmemory = \"1 MiB\"",
        &sources,
    )
    .unwrap();
    assert_eq!(
        (config.cache.size, config.cache.memory),
        (32 << 20, 16 << 20)
    );
    assert_eq!(
        (config.repeater.max_swarms, config.log.filter.as_str()),
        (2, "trace")
    );
    assert_eq!(config.node.data_dir, PathBuf::from("123"));
    assert_eq!(config.node.listen.len(), 1);
}

#[test]
fn a_wrong_overlay_names_itself() {
    let with = |overlay: Overlay| {
        load_text(
            "f",
            "",
            &Sources {
                overlays: vec![overlay],
                ..Sources::default()
            },
        )
        .expect_err("wrong")
        .to_string()
    };
    let var = |name: &str, value: &str| {
        Overlay::from_env([(name.to_owned(), value.to_owned())].into_iter()).remove(0)
    };
    assert_eq!(
        with(var("BTSLAVE_CACHE__SZIE", "1")),
        "error: BTSLAVE_CACHE__SZIE: there is no such key\nhint: did you mean `size`?"
    );
    assert!(
        with(var("BTSLAVE_LIMITS__UPLOAD", "fast")).starts_with("error: BTSLAVE_LIMITS__UPLOAD: ")
    );
    assert!(
        with(Overlay::from_set("feed.url=x").unwrap())
            .contains("--set feed.url: [[feed]] is a list")
    );
    assert!(with(Overlay::from_set("cache=x").unwrap()).contains("no such key"));
    assert!(Overlay::from_set("cache.size").is_err());
}

#[test]
fn an_absent_file_is_a_mistake_only_where_it_was_named() {
    let sources = Sources {
        file: Some("/nonexistent/btslave.toml".into()),
        ..Sources::default()
    };
    assert!(load(&sources).is_err());
    assert_eq!(
        load(&Sources {
            file_may_be_absent: true,
            ..sources
        })
        .unwrap(),
        Config::default()
    );
}

#[test]
fn a_reload_knows_what_needs_a_restart() {
    let old = Config::default();
    let mut new = old.clone();
    new.limits.upload = Rate(Some(1 << 20));
    assert!(old.needs_restart(&new).is_empty());
    new.node.listen.clear();
    assert_eq!(old.needs_restart(&new), ["node.listen"]);
}

#[test]
fn a_schedule_is_read_and_survives_printing() {
    let text = "[limits]\nschedule = [{ days = \"fri-mon\", from = \"22:00\", to = \"06:00\", upload = \"unlimited\" }, { days = \"wed\", from = \"00:00\", to = \"24:00\", download = \"20 KiB/s\" }]";
    let config = read(text).unwrap();
    let [first, second] = config.limits.schedule[..] else {
        panic!("{:?}", config.limits.schedule)
    };
    assert_eq!((first.days, first.from, first.to), (0b111_0001, 1320, 360));
    assert_eq!((first.upload, first.download), (Some(None), None));
    assert_eq!((second.days, second.to), (0b100, 1440));
    assert_eq!(second.download, Some(Some(20 << 10)));
    assert_eq!(read(&config.to_toml()).unwrap(), config);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\[+(cache|feed|node)\\]+\n)?[a-z\\[\\]{}=\".,0-9 \n\\PC]{0,80}") {
        let _ = read(&text);
    }

    #[test]
    fn any_sound_configuration_survives_printing(upload: Option<u32>, size in 1u64..1000, part in 1u64..100, dir in "\\PC{0,12}", allow in prop::collection::vec("[a-z.*\\\\\"]{0,5}", 0..3)) {
        let mut config = Config::default();
        config.limits.upload = Rate(upload.map(|rate| u64::from(rate) + 1024));
        config.cache.size = size << 20;
        config.cache.memory = (size << 20) * part / 100;
        config.node.data_dir = dir.into();
        config.feeds.push(Feed { url: "http://a/\"".to_owned(), allow, ..Feed::default() });
        if super::validate::validate(&config, "").is_ok() {
            prop_assert_eq!(read(&config.to_toml()).unwrap(), config);
        }
    }
}
