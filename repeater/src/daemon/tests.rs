use std::path::Path;

use bt_wire::metainfo::MetainfoBuilder;
use bytes::Bytes;
use control_api::feeds::{AddFeed, Owner};
use control_api::masters::AddMaster;

use super::*;
use crate::config;
use crate::control::{AddOptions, RefusalKind, metrics};

fn base(dir: &Path) -> Config {
    let mut config = Config::default();
    config.node.data_dir = dir.join("data");
    config.node.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.cache = config::Cache {
        size: 4 << 20,
        memory: 4 << 20,
        min_free: 0,
    };
    config.api.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config
}

async fn start_with(config: Config, sources: Option<Sources>) -> anyhow::Result<Daemon> {
    let metrics = metrics::detached().expect("recorder").handle();
    Daemon::start(Options {
        config,
        sources,
        metrics,
        set_log: None,
        record: None,
        invert_need: false,
    })
    .await
}

async fn start(config: Config) -> Daemon {
    start_with(config, None).await.expect("started")
}

fn torrent(name: &str) -> Bytes {
    let piece = [name.as_bytes()[0]; 20];
    MetainfoBuilder::single(name, 16_384, 16_384)
        .pieces([piece])
        .build()
        .expect("a torrent")
        .into()
}

/// Asks until the answer satisfies; each question is answered by the daemon's own progress.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn change_everything(control: &dyn Control) {
    let peer = SocketAddr::from(([127, 0, 0, 1], 9));
    let added = control
        .add_torrent(
            torrent("a"),
            AddOptions {
                peers: vec![peer],
                pin: true,
            },
        )
        .await
        .expect("added");
    assert!(added.new && added.pinned);
    let again = control
        .add_torrent(torrent("a"), AddOptions::default())
        .await
        .expect("added");
    assert!(!again.new && again.pinned, "idempotent, and the pin sticks");
    let magnet = format!("magnet:?xt=urn:btih:{}&dn=b", "ab".repeat(20));
    control
        .add_source(magnet, AddOptions::default())
        .await
        .expect("added");
    let gone = control
        .add_torrent(torrent("c"), AddOptions::default())
        .await
        .expect("added");
    control
        .leave(gone.info_hash.parse().expect("hash"))
        .await
        .expect("left");
    control
        .add_feed(AddFeed {
            url: "http://127.0.0.1:1/rss".to_owned(),
        })
        .await
        .expect("followed");
    let master = AddMaster {
        name: "home".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        share: Some(0.25),
        rpc: None,
    };
    control.add_master(master).await.expect("served");
    control.pause(true).await.expect("paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_slavectl_changed_survives_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    change_everything(&*control).await;
    let second = start_with(base(dir.path()), None)
        .await
        .expect_err("one daemon per data directory")
        .to_string();
    assert!(second.contains("another btslave"), "{second}");
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    let status = control.status().await.expect("status");
    assert!(status.paused);
    let mut names: Vec<(&str, bool)> = status
        .swarms
        .iter()
        .map(|swarm| (swarm.name.as_str(), swarm.pinned))
        .collect();
    names.sort_unstable();
    assert_eq!(names, [("a", true), ("b", false)]);
    assert_eq!(
        (status.feeds[0].owner, status.masters[0].owner),
        (Owner::Store, Owner::Store)
    );
    assert!((status.masters[0].share - 0.25).abs() < 1e-9);
    control.pause(false).await.expect("resumed");
    control
        .remove_feed("http://127.0.0.1:1/rss".to_owned())
        .await
        .expect("removed");
    control
        .remove_master("home".to_owned())
        .await
        .expect("removed");
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir.path())).await;
    let status = daemon.control().status().await.expect("status");
    assert!(!status.paused && status.feeds.is_empty() && status.masters.is_empty());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_names_swarms_until_it_goes_and_what_was_left_stays_left() {
    let dir = tempfile::tempdir().expect("tempdir");
    let folder = dir.path().join("feed");
    std::fs::create_dir(&folder).expect("folder");
    for name in ["a", "b"] {
        std::fs::write(folder.join(format!("{name}.torrent")), torrent(name)).expect("write");
    }
    let url = folder.to_str().expect("path").to_owned();
    let file = dir.path().join("btslave.toml");
    let write = |feeds: &str| {
        let text = format!(
            "[node]\ndata_dir = \"{0}/data\"\nlisten = [\"127.0.0.1:0\"]\n[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\nmin_free = \"0 B\"\n[api]\nlisten = \"\"\n{feeds}",
            dir.path().display()
        );
        std::fs::write(&file, text).expect("write");
    };
    write(&format!("[[feed]]\nurl = \"{url}\"\n"));
    let sources = Sources {
        file: Some(file.clone()),
        ..Sources::default()
    };
    let daemon = start_with(config::load(&sources).expect("sound"), Some(sources))
        .await
        .expect("started");
    assert!(daemon.api_addr().is_none());
    let control = daemon.control();
    let swarms = async |count| {
        until(async || {
            control
                .swarms()
                .await
                .ok()
                .filter(|swarms| swarms.len() == count)
        })
        .await
    };
    let both = swarms(2).await;
    let why = control
        .why(both[0].info_hash.parse().expect("hash"))
        .await
        .expect("why");
    assert_eq!(why.origins.len(), 1);
    assert!(why.origins[0].starts_with("feed "), "{:?}", why.origins);
    let refusal = control
        .remove_feed(url.clone())
        .await
        .expect_err("the file owns it");
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert!(refusal.problem.hint.contains("reload"));

    control
        .leave(both[0].info_hash.parse().expect("hash"))
        .await
        .expect("left");
    assert_eq!(swarms(1).await[0].info_hash, both[1].info_hash);
    std::fs::write(folder.join("c.torrent"), torrent("c")).expect("write");
    control.poll_feeds(None).await.expect("polling");
    let now = swarms(2).await;
    assert!(
        now.iter().all(|swarm| swarm.info_hash != both[0].info_hash),
        "what was left stays left"
    );

    write("");
    assert_eq!(control.reload().await.expect("reloaded").changed.len(), 1);
    swarms(0).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_at_once_or_keeps_the_old_and_says_why() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("btslave.toml");
    let write = |limits: &str, rest: &str| {
        let data = dir.path().join("data");
        let text = format!(
            "[node]\ndata_dir = \"{}\"\nlisten = [\"127.0.0.1:0\"]\n[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\n[api]\nlisten = \"\"\n[limits]\n{limits}\n{rest}",
            data.display()
        );
        std::fs::write(&file, text).expect("write");
    };
    write("upload = \"1 MiB/s\"", "");
    let sources = Sources {
        file: Some(file.clone()),
        ..Sources::default()
    };
    let daemon = start_with(config::load(&sources).expect("sound"), Some(sources))
        .await
        .expect("started");
    let control = daemon.control();
    let limit = async || control.status().await.expect("status").upload_limit_bps;
    assert_eq!(limit().await, Some(1 << 20));
    assert!(
        control
            .reload()
            .await
            .expect("nothing new")
            .changed
            .is_empty()
    );
    write(
        "upload = \"2 MiB/s\"",
        "[[master]]\nname = \"m\"\naddress = \"127.0.0.1:1\"",
    );
    assert_eq!(
        control.reload().await.expect("reloaded").changed,
        ["limits.upload", "master m"]
    );
    assert_eq!(limit().await, Some(2 << 20));
    assert_eq!(
        control.masters().await.expect("masters")[0].owner,
        Owner::File
    );
    write("upload = \"fast\"", "");
    let refusal = control.reload().await.expect_err("no rate");
    assert!(
        refusal.problem.why.contains(":10:10: limits.upload"),
        "{}",
        refusal.problem.why
    );
    write("", "[discovery]\npex = false");
    let refusal = control.reload().await.expect_err("needs a restart");
    assert!(
        refusal.problem.why.contains("discovery.pex cannot change"),
        "{}",
        refusal.problem.why
    );
    assert_eq!(limit().await, Some(2 << 20), "the old one stands");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    let options = AddOptions::default;
    let mut refusals = vec![
        control
            .add_torrent(Bytes::from_static(b"nonsense"), options())
            .await
            .expect_err("no torrent"),
        control
            .add_source("magnet:?dn=x".to_owned(), options())
            .await
            .expect_err("no infohash"),
        control
            .add_source("/etc/passwd".to_owned(), options())
            .await
            .expect_err("no path"),
        control
            .add_source("http://127.0.0.1:1/a.torrent".to_owned(), options())
            .await
            .expect_err("nobody there"),
        control
            .add_feed(AddFeed {
                url: "/etc".to_owned(),
            })
            .await
            .expect_err("no path"),
        control
            .remove_feed("http://x/".to_owned())
            .await
            .expect_err("not followed"),
        control
            .poll_feeds(Some("http://x/".to_owned()))
            .await
            .expect_err("not followed"),
        control
            .remove_master("x".to_owned())
            .await
            .expect_err("not served"),
        control
            .test_master("x".to_owned())
            .await
            .expect_err("not served"),
        control
            .leave(InfoHash([1; 20]))
            .await
            .expect_err("not known"),
        control.why(InfoHash([1; 20])).await.expect_err("not known"),
        control.reload().await.expect_err("started from no file"),
    ];
    let master = AddMaster {
        name: "m".to_owned(),
        address: "home".to_owned(),
        share: None,
        rpc: None,
    };
    refusals.push(control.add_master(master).await.expect_err("no port"));
    for refusal in refusals {
        assert!(
            !refusal.problem.what.is_empty() && !refusal.problem.why.is_empty(),
            "{refusal:?}"
        );
    }
    assert!(control.swarms().await.expect("swarms").is_empty());
    daemon.stop().await;
}

mod aid;
mod friends;
mod rendezvous;
