use bt_wire::ids::InfoHash;
use control_api::aid::Asking;
use control_api::friends::AddFriend;

use super::*;
use crate::control::HelpWith;

fn hash(added: &control_api::swarms::Added) -> InfoHash {
    added.info_hash.parse().expect("hash")
}

async fn added(control: &dyn Control, name: &str) -> InfoHash {
    let added = control.add_torrent(torrent(name), AddOptions::default());
    hash(&added.await.expect("added"))
}

fn private() -> Bytes {
    let file = MetainfoBuilder::single("p", 16_384, 16_384)
        .pieces([[9; 20]])
        .private(true);
    file.build().expect("a torrent").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_that_can_come_to_nothing_says_why() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    let known = added(&*control, "a").await;
    let lonely = control.ask_for_help(HelpWith::Torrent(known), None).await;
    let lonely = lonely.expect_err("no friends");
    assert!(lonely.problem.hint.contains("friends add"), "{lonely:?}");
    let ann = AddFriend {
        code: friends::code(1),
        name: Some("Ann".to_owned()),
    };
    control.add_friend(ann).await.expect("added");
    let private = control.add_torrent(private(), AddOptions::default());
    let private = hash(&private.await.expect("added"));
    let home = AddMaster {
        name: "home".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        share: None,
        rpc: None,
    };
    control.add_master(home).await.expect("served");
    let master = |name: &str| HelpWith::Master(name.to_owned());
    for (with, bytes, kind, why) in [
        (
            HelpWith::Torrent(InfoHash([7; 20])),
            None,
            RefusalKind::NotFound,
            "nobody named it",
        ),
        (
            HelpWith::Torrent(known),
            None,
            RefusalKind::Conflict,
            "no master that lacks",
        ),
        (
            HelpWith::Torrent(known),
            Some(0),
            RefusalKind::Invalid,
            "no byte",
        ),
        (
            HelpWith::Torrent(private),
            None,
            RefusalKind::Conflict,
            "is private",
        ),
        (
            master("work"),
            None,
            RefusalKind::NotFound,
            "none of this name",
        ),
        (master("home"), None, RefusalKind::Conflict, "not connected"),
    ] {
        let refusal = control.ask_for_help(with, bytes).await.expect_err(why);
        assert_eq!(refusal.kind, kind, "{refusal:?}");
        assert!(refusal.problem.why.contains(why), "{refusal:?}");
        assert!(!refusal.problem.hint.is_empty(), "{refusal:?}");
    }
    assert!(control.stop_help(InfoHash([7; 20])).await.is_err());
    drop(control);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_about_help_survives_a_restart_and_goes_with_the_torrent() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    let known = added(&*control, "a").await;
    control.stop_help(known).await.expect("stopped");
    let stopped = async |control: &dyn Control| {
        let wants = control.aid().await.expect("aid").wants;
        let rows = wants.into_iter().map(|want| (want.info_hash, want.asking));
        rows.collect::<Vec<_>>()
    };
    let row = vec![(known.to_string(), Asking::Stopped)];
    assert_eq!(stopped(&*control).await, row);
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    assert_eq!(stopped(&*control).await, row);
    control.leave(known).await.expect("left");
    assert_eq!(stopped(&*control).await, []);
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    assert_eq!(stopped(&*control).await, []);
    drop(control);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_figures_change_on_a_reload() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("btslave.toml");
    let write = |friends: &str| {
        let data = dir.path().join("data");
        let text = format!(
            "[node]\ndata_dir = \"{}\"\nlisten = [\"127.0.0.1:0\"]\n[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\n[api]\nlisten = \"\"\n[friends]\n{friends}\n",
            data.display()
        );
        std::fs::write(&file, text).expect("write");
    };
    write("");
    let sources = Sources {
        file: Some(file.clone()),
        ..Sources::default()
    };
    let config = config::load(&sources).expect("sound");
    let daemon = start_with(config, Some(sources)).await.expect("started");
    let control = daemon.control();
    let pool = async || control.aid().await.expect("aid").pool_bytes;
    assert_eq!(pool().await, 64 << 20);
    write("mode = \"open\"\nwindow = \"1 MiB\"\nopen_pool = \"3 MiB\"");
    assert_eq!(
        control.reload().await.expect("reloaded").changed,
        ["friends.mode", "friends.window", "friends.open_pool"]
    );
    assert_eq!(pool().await, 3 << 20);
    write("window = \"1 KiB\"");
    let refusal = control.reload().await.expect_err("too small");
    assert!(
        refusal.problem.why.contains("friends.window"),
        "{refusal:?}"
    );
    write("mode = \"off\"\ncredit = \"unlimited\"");
    control.reload().await.expect("reloaded");
    let off = control
        .ask_for_help(HelpWith::Master("home".to_owned()), None)
        .await
        .expect_err("off");
    assert!(off.problem.why.contains("friends.mode"), "{off:?}");
    drop(control);
    daemon.stop().await;
}
