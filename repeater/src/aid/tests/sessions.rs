//! Friends meet.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_in_one_swarm_recognise_each_other_and_have_one_session() {
    let (a, b) = (
        Side::known(1, vec![friend("Bea", 2, &[])]),
        Side::known(2, vec![friend("Abe", 1, &[])]),
    );
    let meta = torrent(false);
    let swarm = a.join(&meta).await;
    b.join(&meta).await;
    a.dial(swarm, b.addr()).await;
    until(|| async { a.is_online().await && b.is_online().await }).await;
    let seen = a.engine.friends().await;
    assert_eq!(seen[0].name, "Bea");
    assert_eq!(seen[0].key, identity(2).public_key());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_friend_is_found_at_its_hint_without_any_torrent() {
    let b = Side::known(4, vec![friend("Abe", 3, &[])]);
    let a = Side::known(3, vec![friend("Bea", 4, &[b.addr()])]);
    until(|| async { a.is_online().await && b.is_online().await }).await;
    assert_eq!(a.connections().await, 0, "the brain sees no swarm's peer");
    // Gone, the friend is offline.
    b.engine.shutdown(Duration::from_secs(5)).await;
    until(|| async { !a.is_online().await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_dial_each_other_and_one_session_stays() {
    // Each knows the other's address before either runs: ports are taken, and freed for them.
    let addr = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    };
    let meta = torrent(false);
    let b = Side::known(6, vec![friend("Abe", 5, &[addr()])]);
    let a = Side::known(5, vec![friend("Bea", 6, &[b.addr()])]);
    let (in_a, in_b) = (a.join(&meta).await, b.join(&meta).await);
    tokio::join!(a.dial(in_a, b.addr()), b.dial(in_b, a.addr()));
    until(|| async { a.is_online().await && b.is_online().await }).await;
    let view = a.engine.friends().await;
    assert_eq!(view.iter().filter(|one| one.online).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_taken_off_the_list_is_let_go_and_may_come_back() {
    let b = Side::known(8, vec![friend("Abe", 7, &[])]);
    let a = Side::known(7, vec![friend("Bea", 8, &[b.addr()])]);
    until(|| async { a.is_online().await && b.is_online().await }).await;
    b.engine.set_friends(vec![]).await.expect("a list");
    until(|| async { !a.is_online().await }).await;
    assert_eq!(b.engine.friends().await, []);
    let own = b.engine.set_friends(vec![friend("me", 8, &[])]).await;
    assert!(own.is_err(), "nobody is his own friend");
}
