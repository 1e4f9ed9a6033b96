//! The secret key: made once, kept private, and never replaced.

use super::*;
use crate::friends::Friends;

fn befriend(dir: &Path) -> Result<Friends, StoreError> {
    let (store, _) = Store::open(dir).unwrap();
    Friends::open(store).map(|(friends, _)| friends)
}

fn refusal(dir: &Path) -> String {
    match befriend(dir) {
        Err(e @ StoreError::Identity { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn made_once_with_mode_0600_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(identity::KEY);
    let friends = befriend(dir.path()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let secret = text.split(' ').nth(2).unwrap();
    assert_eq!(secret.len(), 64);
    assert!(!format!("{friends:?}").contains(secret));
    let me = friends.identity().public_key();
    drop(friends);
    assert_eq!(befriend(dir.path()).unwrap().identity().public_key(), me);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_damaged_key_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(befriend(dir.path()).unwrap());
    let path = dir.path().join(identity::KEY);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(refusal(dir.path()).contains("damaged"), "byte {at}");
        assert_eq!(fs::read(&path).unwrap(), bad);
    }
    for bad in [&good[..good.len() - 1], &good[..40], b"", &[b'a'; 5_000]] {
        fs::write(&path, bad).unwrap();
        assert!(refusal(dir.path()).contains("damaged"));
    }
}

/// Who signs with one secret and another's public key gives the secret away (RUSTSEC-2022-0093). The library takes no
/// public key to sign with, and a file whose halves do not belong together signs nothing.
#[test]
fn p2_a_public_key_that_is_not_the_secrets_signs_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(befriend(dir.path()).unwrap());
    drop(befriend(other.path()).unwrap());
    let path = dir.path().join(identity::KEY);
    let half = |dir: &Path, n: usize| {
        let text = fs::read_to_string(dir.join(identity::KEY)).unwrap();
        text.trim().split(' ').nth(n).unwrap().to_owned()
    };
    let crossed = format!(
        "bs-identity 1 {} {}\n",
        half(dir.path(), 2),
        half(other.path(), 3)
    );
    fs::write(&path, crossed).unwrap();
    assert!(refusal(dir.path()).contains("damaged"));

    let lock = include_str!("../../../../Cargo.lock");
    let version = |name: &str| {
        let at = lock
            .find(&format!("name = \"{name}\"\nversion = \""))
            .unwrap();
        let version = lock[at..].split('"').nth(3).unwrap();
        let parts = version.split('.').map(|part| part.parse().unwrap());
        parts.collect::<Vec<u32>>()
    };
    assert!(version("ed25519-dalek") >= vec![2, 0, 0]);
    assert!(version("curve25519-dalek") >= vec![4, 1, 3]);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(befriend(dir.path()).unwrap());
    let path = dir.path().join(identity::KEY);
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(refusal(dir.path()).contains("chmod 600"));
    }
}

#[test]
fn a_lost_or_exchanged_key_is_missed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(befriend(dir.path()).unwrap());
    drop(befriend(other.path()).unwrap());
    let path = dir.path().join(identity::KEY);
    fs::copy(other.path().join(identity::KEY), &path).unwrap();
    assert!(refusal(dir.path()).contains("not the key"));
    fs::remove_file(&path).unwrap();
    assert!(refusal(dir.path()).contains("missing"));
    assert!(!path.exists());
    // The number beside the key alone tells that there was one.
    fs::remove_file(dir.path().join(journal::NAME)).unwrap();
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    assert!(refusal(dir.path()).contains("missing"));
}

#[test]
fn f5_a_link_in_place_of_the_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path().join("f"), dir.path().join(identity::KEY)).unwrap();
    assert!(matches!(
        befriend(dir.path()),
        Err(StoreError::Symlink { .. })
    ));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}
