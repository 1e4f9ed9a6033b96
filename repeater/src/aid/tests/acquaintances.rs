//! Open mode: who is met without a code, and what the operator's limits do to sessions that stand.

use swarm_core::policy::tit_for_tat::Nearness;

use super::*;

fn limits(mode: FriendsMode) -> FriendsLimits {
    FriendsLimits {
        mode,
        ..FriendsLimits::default()
    }
}

/// Two in one swarm, `a` dials `b`.
async fn neighbours(of_a: FriendsMode, of_b: FriendsMode) -> (Side, Side) {
    let (a, b) = (Side::start(of_a, false), Side::start(of_b, false));
    let meta = torrent(false);
    let swarm = a.join(&meta).await;
    b.join(&meta).await;
    a.dial(swarm, b.addr()).await;
    (a, b)
}

/// How close those are with whom a session stands.
async fn near(side: &Side) -> Vec<Nearness> {
    let view = side.engine.view().await.expect("runs").node;
    let online = view.aid.friends.into_iter().filter(|one| one.online);
    online.map(|one| one.nearness).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_are_open_meet_and_leave_nothing_on_the_disk() {
    let (a, b) = neighbours(FriendsMode::Open, FriendsMode::Open).await;
    until(|| async {
        let met = [Nearness::Acquaintance];
        near(&a).await == met && near(&b).await == met
    })
    .await;
    for side in [&a, &b] {
        assert!(side.friends.list().is_empty());
        let kept = side.friends.check().expect("a store");
        assert!(
            kept.is_empty(),
            "fresh keys are free, and must cost nothing"
        );
    }

    b.engine
        .set_friends_limits(limits(FriendsMode::Known))
        .await
        .expect("runs");
    until(|| async { near(&a).await.is_empty() && near(&b).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acquaintance_whose_code_is_added_is_a_friend_at_once() {
    let (a, b) = neighbours(FriendsMode::Open, FriendsMode::Open).await;
    until(|| async { near(&a).await == [Nearness::Acquaintance] }).await;
    a.add("Bea", b.key(), &[]).await;
    until(|| async { near(&a).await == [Nearness::Friend] }).await;
    assert_eq!(near(&b).await, [Nearness::Acquaintance]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_open_meets_nobody_that_is_not() {
    let (a, b) = neighbours(FriendsMode::Open, FriendsMode::Known).await;
    until(|| async { a.connections().await == 1 && b.connections().await == 1 }).await;
    // A friendship shows that the handshakes are through, and that nothing came of the first connection.
    let c = Side::start(FriendsMode::Open, false);
    let meta = torrent(false);
    let swarm = c.join(&meta).await;
    c.dial(swarm, a.addr()).await;
    until(|| async { near(&c).await.len() == 1 }).await;
    assert_eq!((near(&a).await.len(), near(&b).await.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_are_switched_off_and_on_while_all_runs() {
    let (a, b) = (Side::known(), Side::known());
    b.add("Abe", a.key(), &[]).await;
    a.add("Bea", b.key(), &[b.addr()]).await;
    let both = |wanted: bool| {
        let (a, b) = (&a, &b);
        move || async move { a.is_online() == wanted && b.is_online() == wanted }
    };
    until(both(true)).await;
    b.engine
        .set_friends_limits(limits(FriendsMode::Off))
        .await
        .expect("runs");
    until(both(false)).await;
    b.engine
        .set_friends_limits(limits(FriendsMode::Known))
        .await
        .expect("runs");
    until(both(true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_on_private_torrents_end_when_those_are_no_longer_allowed() {
    let allowed = FriendsLimits {
        private_torrents: true,
        ..limits(FriendsMode::Known)
    };
    let (a, b) = (
        Side::start(FriendsMode::Known, true),
        Side::start(FriendsMode::Known, true),
    );
    b.add("Abe", a.key(), &[]).await;
    a.add("Bea", b.key(), &[]).await;
    let meta = super::torrent(true);
    let swarm = a.join(&meta).await;
    b.join(&meta).await;
    a.dial(swarm, b.addr()).await;
    until(|| async { a.is_online() && b.is_online() }).await;
    a.engine.set_friends_limits(allowed).await.expect("runs");
    assert!(a.is_online(), "the same limits change nothing");
    a.engine
        .set_friends_limits(limits(FriendsMode::Known))
        .await
        .expect("runs");
    until(|| async { !a.is_online() && !b.is_online() }).await;
}
