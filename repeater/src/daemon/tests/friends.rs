use control_api::friends::AddFriend;
use friends_proto::friend_code::FriendCode;
use friends_proto::identity::{Identity as Secret, Zeroizing};

use super::*;

pub(super) fn code(seed: u8) -> String {
    let key = Secret::from_secret(&Zeroizing::new([seed; 32])).public_key();
    FriendCode::new(key, vec![]).expect("no hints").to_string()
}

fn add(code: &str, name: Option<&str>) -> AddFriend {
    AddFriend {
        code: code.to_owned(),
        name: name.map(str::to_owned),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_and_identity_survive_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    let own = control.own_code().await.expect("own");
    assert!(own.code.parse::<FriendCode>().is_ok() && own.hints.is_empty());
    let hinted = format!(" {}@192.0.2.1:6881\n", code(1));
    let ann = control
        .add_friend(add(&hinted, Some("Ann")))
        .await
        .expect("added");
    assert_eq!(ann.code, hinted.trim());
    let bob = control
        .add_friend(add(&code(2), None))
        .await
        .expect("added");
    assert_eq!(bob.name, code(2)[..12]);
    assert_eq!((bob.state.as_str(), bob.last_seen), ("fresh", None));
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    assert_eq!(control.own_code().await.expect("own"), own);
    assert_eq!(control.friends().await.expect("friends"), [ann, bob]);
    let status = control.status().await.expect("status").friends;
    assert_eq!((status.known, status.online), (2, 0));
    control
        .remove_friend("Ann".to_owned())
        .await
        .expect("by name");
    control.remove_friend(code(2)).await.expect("by code");
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir.path())).await;
    assert!(
        daemon
            .control()
            .friends()
            .await
            .expect("friends")
            .is_empty()
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let daemon = start(base(dir.path())).await;
    let control = daemon.control();
    let own = control.own_code().await.expect("own").code;
    control
        .add_friend(add(&code(1), Some("Ann")))
        .await
        .expect("added");
    let mut typo = code(2);
    typo.replace_range(20..21, if &typo[20..21] == "q" { "p" } else { "q" });
    for (code, name, kind, why) in [
        (
            own.as_str(),
            None,
            RefusalKind::Invalid,
            "your own friend code",
        ),
        (
            &code(1),
            Some("Eve"),
            RefusalKind::Conflict,
            "a friend already, as \"Ann\"",
        ),
        (
            &code(2),
            Some("Ann"),
            RefusalKind::Conflict,
            "another friend has the name",
        ),
        (&typo, None, RefusalKind::Invalid, "typing error"),
        ("hello", None, RefusalKind::Invalid, "begins with \"bs1\""),
        (
            &code(2),
            Some(""),
            RefusalKind::Invalid,
            "1 to 64 characters",
        ),
        (
            &code(2),
            Some("a\u{1b}[2J"),
            RefusalKind::Invalid,
            "cannot be shown",
        ),
        (
            &code(2),
            Some(&code(3)),
            RefusalKind::Invalid,
            "is a friend code itself",
        ),
    ] {
        let refusal = control.add_friend(add(code, name)).await.expect_err(why);
        assert_eq!(refusal.kind, kind, "{refusal:?}");
        assert!(refusal.problem.why.contains(why), "{refusal:?}");
    }
    let unknown = control
        .remove_friend("Eve".to_owned())
        .await
        .expect_err("nobody");
    assert_eq!(unknown.kind, RefusalKind::NotFound);
    drop(control);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_friends_off_none_is_added() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = base(dir.path());
    config.friends.mode = config::FriendsMode::Off;
    let daemon = start(config).await;
    let off = daemon
        .control()
        .add_friend(add(&code(2), None))
        .await
        .expect_err("off");
    assert!(off.problem.why.contains("friends.mode"), "{off:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_moves_the_list_and_the_ledger_to_a_new_directory() {
    let (old, new) = (
        tempfile::tempdir().expect("tempdir"),
        tempfile::tempdir().expect("tempdir"),
    );
    let daemon = start(base(old.path())).await;
    let control = daemon.control();
    control
        .add_friend(add(&code(1), Some("Ann")))
        .await
        .expect("added");
    sign(&daemon.shared.friends, 1, 4_000);
    let export = control.export_friends().await.expect("export");
    let ledger = control.ledger().await.expect("ledger");
    assert_eq!(ledger, export.accounts);
    let received = ledger[0].received.as_ref().expect("signed");
    assert_eq!(
        (received.total.as_str(), ledger[0].name.as_deref()),
        ("4000", Some("Ann"))
    );
    let check = control.verify_ledger().await.expect("verified");
    assert_eq!(
        (check.ok, check.signatures, check.accounts.len()),
        (true, 1, 1)
    );
    drop(control);
    daemon.stop().await;

    let daemon = start(base(new.path())).await;
    let foreign = daemon
        .control()
        .import_friends(export.clone())
        .await
        .expect_err("another key");
    assert!(foreign.problem.hint.contains("identity.key"), "{foreign:?}");
    daemon.stop().await;

    let new = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(new.path().join("data")).expect("dir");
    let key = Path::new("data/identity.key");
    std::fs::copy(old.path().join(key), new.path().join(key)).expect("copied");
    let daemon = start(base(new.path())).await;
    let control = daemon.control();
    let mut forged = export.clone();
    let signature = &mut forged.accounts[0]
        .received
        .as_mut()
        .expect("signed")
        .signature;
    let digit = if signature.starts_with('0') { "1" } else { "0" };
    signature.replace_range(..1, digit);
    let refusal = control.import_friends(forged).await.expect_err("forged");
    assert!(refusal.problem.why.contains("account 1"), "{refusal:?}");
    assert!(control.ledger().await.expect("ledger").is_empty());
    let imported = control
        .import_friends(export.clone())
        .await
        .expect("imported");
    assert_eq!((imported.friends_added, imported.ious_adopted), (1, 1));
    assert_eq!(control.export_friends().await.expect("export"), export);
    let row = &control.friends().await.expect("friends")[0];
    assert_eq!(
        (row.owed_by_us_bytes, row.state.as_str()),
        (4_000, "restored")
    );
    drop(control);
    daemon.stop().await;
}

/// A daemon with a friend whose key was replaced after ours was: 4,000 bytes are signed with our old key for its old one,
/// 300 with our new one, 20 for its new one. Also: our old code.
async fn rekeyed(dir: &Path) -> (Daemon, String) {
    let secret = |seed| Secret::from_secret(&Zeroizing::new([seed; 32]));
    let daemon = start(base(dir)).await;
    let control = daemon.control();
    let ann = add(&code(1), Some("Ann"));
    control.add_friend(ann).await.expect("added");
    sign(&daemon.shared.friends, 1, 4_000);
    let own = control.own_code().await.expect("own").code;
    control.replace_own_key().await.expect("made");
    drop(control);
    daemon.stop().await;

    let daemon = start(base(dir)).await;
    sign(&daemon.shared.friends, 1, 300);
    let statement = friends_proto::succession::Succession::sign(&secret(1), &secret(2));
    let statement = statement.expect("two keys").to_string();
    let followed = daemon.control().follow_friend(statement).await;
    assert_eq!(followed.expect("followed").name, "Ann");
    sign(&daemon.shared.friends, 2, 20);
    (daemon, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_former_keys_are_shown_and_checked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (daemon, own) = rekeyed(dir.path()).await;
    let control = daemon.control();
    let ledger = control.ledger().await.expect("ledger");
    let shown: Vec<_> = ledger
        .iter()
        .map(|one| {
            let total = one.received.as_ref().map(|signed| signed.total.as_str());
            let former = one.own_former.as_deref();
            (one.friend.clone(), one.replaced_by.clone(), former, total)
        })
        .collect();
    for expected in [
        (code(1), Some(code(2)), Some(own.as_str()), Some("4000")),
        (code(1), Some(code(2)), None, Some("300")),
        (code(2), None, None, Some("20")),
    ] {
        assert!(shown.contains(&expected), "{expected:?} in {shown:?}");
    }
    let names = ledger.iter().map(|one| one.name.as_deref());
    assert!(names.eq([Some("Ann"); 3]));
    let check = control.verify_ledger().await.expect("verified");
    assert_eq!((check.ok, check.signatures), (true, 3));
    let accounts = check.accounts.iter();
    let details: Vec<_> = accounts.map(|one| one.detail.as_str()).collect();
    let says = |what: &str| details.iter().filter(|one| one.contains(what)).count();
    let kept = (says("its former key"), says("our former key"));
    assert_eq!(kept, (2, 1), "{details:?}");
    assert!(check.accounts.iter().all(|one| one.friend == "Ann"));
    drop(control);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_an_export_brings_what_former_keys_signed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (daemon, _) = rekeyed(dir.path()).await;
    let export = daemon.control().export_friends().await.expect("export");
    assert_eq!((export.accounts.len(), export.successions.len()), (3, 2));
    daemon.stop().await;

    let new = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(new.path().join("data")).expect("dir");
    let key = Path::new("data/identity.key");
    std::fs::copy(dir.path().join(key), new.path().join(key)).expect("copied");
    let daemon = start(base(new.path())).await;
    let control = daemon.control();
    let imported = control.import_friends(export.clone()).await;
    let imported = imported.expect("imported");
    assert_eq!((imported.friends_added, imported.ious_adopted), (1, 3));
    assert_eq!(control.export_friends().await.expect("export"), export);
    let row = &control.friends().await.expect("friends")[0];
    assert_eq!(row.owed_by_us_bytes, 4_320);
    drop(control);
    daemon.stop().await;
}

/// We meet the friend of `seed`, and sign.
fn sign(friends: &Friends, seed: u8, total: u64) {
    let key = Secret::from_secret(&Zeroizing::new([seed; 32])).public_key();
    friends
        .with_account(&key, |account| account.sync(&[]).map(drop))
        .expect("an account")
        .expect("synced");
    friends.sign(&key, total, unix_now()).expect("signed");
}
