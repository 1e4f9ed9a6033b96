//! Friends meet.

use super::*;

/// Two who added each other; `a` knows where `b` is if `hinted`.
async fn pair(hinted: bool) -> (Side, Side) {
    let (a, b) = (Side::known(), Side::known());
    let at = [b.addr()];
    b.add("Abe", a.key(), &[]).await;
    a.add("Bea", b.key(), if hinted { &at } else { &[] }).await;
    (a, b)
}

async fn both_online(a: &Side, b: &Side) {
    until(|| async { a.is_online() && b.is_online() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_in_one_swarm_recognise_each_other_and_have_one_session() {
    let (a, b) = pair(false).await;
    let meta = torrent(false);
    let swarm = a.join(&meta).await;
    b.join(&meta).await;
    a.dial(swarm, b.addr()).await;
    both_online(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_friend_is_found_at_its_hint_without_any_torrent() {
    let (a, b) = pair(true).await;
    both_online(&a, &b).await;
    assert_eq!(a.connections().await, 0, "the brain sees no swarm's peer");
    b.engine.shutdown(Duration::from_secs(5)).await;
    until(|| async { !a.is_online() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_they_meet_twice_one_session_stays() {
    let (a, b) = pair(true).await;
    let meta = torrent(false);
    let (in_a, in_b) = (a.join(&meta).await, b.join(&meta).await);
    tokio::join!(a.dial(in_a, b.addr()), b.dial(in_b, a.addr()));
    both_online(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_taken_off_the_list_is_let_go() {
    let (a, b) = pair(true).await;
    both_online(&a, &b).await;
    b.friends.remove(&a.key()).expect("was there");
    b.engine.friends_changed().await.expect("a sound list");
    until(|| async { !a.is_online() }).await;
    assert!(!b.is_online());
}
