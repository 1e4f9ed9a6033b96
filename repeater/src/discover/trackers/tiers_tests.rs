#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const S: Duration = Duration::from_secs(1);

fn tiers(list: &[&[&str]]) -> TierState {
    let owned: Vec<Vec<String>> = list
        .iter()
        .map(|tier| {
            tier.iter()
                .map(|h| format!("http://{h}.example/announce"))
                .collect()
        })
        .collect();
    TierState::new(&owned, 7, Duration::ZERO).0
}

fn url(host: &str) -> Url {
    format!("http://{host}.example/announce").parse().unwrap()
}

fn reply(interval: u64, min: Option<u64>) -> AnnounceResponse {
    let mut reply = AnnounceResponse::parse(b"d8:intervali1800e5:peers0:e").unwrap();
    reply.interval = Duration::from_secs(interval);
    reply.min_interval = min.map(Duration::from_secs);
    reply
}

#[test]
fn tiers_are_tried_in_order_and_the_one_that_answers_is_kept() {
    let mut t = tiers(&[&["a"], &["b", "c"]]);
    assert_eq!(t.take(Duration::ZERO).unwrap().url, url("a"));
    assert_eq!(
        (t.take(Duration::ZERO), t.next_due()),
        (None, None),
        "one at a time"
    );
    t.on_error(Duration::ZERO, &url("a"), Failed::Later);
    let second = t.take(Duration::ZERO).unwrap().url;
    t.on_error(Duration::ZERO, &second, Failed::Later);
    let third = t.take(Duration::ZERO).unwrap();
    assert_eq!(third.event, Event::Started);
    assert!(!t.on_ok(Duration::ZERO, &third.url, &reply(1800, None)));
    assert_eq!(t.next_due(), Some(1800 * S));
    // The first tier is tried first again, and then the one that worked before the one that did not.
    assert_eq!(t.take(1800 * S).unwrap().url, url("a"));
    t.on_error(1800 * S, &url("a"), Failed::Later);
    let again = t.take(1800 * S).unwrap();
    assert_eq!((again.url, again.event), (third.url, Event::None));
}

#[test]
fn a_tier_is_shuffled_by_the_seed_and_nothing_is_lost() {
    let names: Vec<String> = (0..20)
        .map(|n| format!("http://h{n}.example/announce"))
        .collect();
    let order = |seed| -> Vec<Url> {
        TierState::new(std::slice::from_ref(&names), seed, Duration::ZERO)
            .0
            .scrapable()
            .cloned()
            .collect()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    let mut sorted: Vec<String> = order(3).iter().map(Url::to_string).collect();
    sorted.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(sorted, expected);
}

#[test]
fn refused_urls_are_named_and_repeated_ones_dropped() {
    let list = [
        "udp://t.example:80/announce",
        "http://a.example/announce",
        "file:///etc/passwd",
    ]
    .map(str::to_owned);
    let (state, refused) = TierState::new(
        &[list.to_vec(), vec!["http://a.example/announce".to_owned()]],
        1,
        S,
    );
    assert_eq!(state.scrapable().collect::<Vec<_>>(), [&url("a")]);
    assert_eq!(
        refused.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(),
        [UrlRefusal::Udp, UrlRefusal::Scheme("file".into())]
    );
    let (none, _) = TierState::new(&[], 1, S);
    assert_eq!(none.next_due(), None);
}

#[test]
fn min_interval_holds_however_much_peers_are_wanted() {
    let mut t = tiers(&[&["a"]]);
    t.take(Duration::ZERO).unwrap();
    t.on_ok(Duration::ZERO, &url("a"), &reply(1800, Some(600)));
    t.need_peers(S);
    assert_eq!(t.next_due(), Some(600 * S));
    assert_eq!(t.take(599 * S), None);
    t.take(600 * S).unwrap();
    t.on_ok(600 * S, &url("a"), &reply(30, Some(600)));
    assert_eq!(
        t.next_due(),
        Some(1200 * S),
        "an interval below the minimum means the minimum"
    );
    t.take(1200 * S).unwrap();
    t.on_ok(1200 * S, &url("a"), &reply(1800, None));
    t.need_peers(1201 * S);
    assert_eq!(t.next_due(), Some(1200 * S + MIN_WAIT));
}

#[test]
fn c4_gone_means_gone_and_retry_in_is_honoured() {
    let mut t = tiers(&[&["a"], &["b"]]);
    t.take(Duration::ZERO).unwrap();
    t.on_error(Duration::ZERO, &url("a"), Failed::Gone);
    t.take(Duration::ZERO).unwrap();
    t.on_error(Duration::ZERO, &url("b"), Retry::After(5000 * S).into());
    assert_eq!(t.next_due(), Some(5000 * S));
    t.take(5000 * S).unwrap();
    t.on_error(5000 * S, &url("b"), Failed::After(Duration::ZERO));
    assert_eq!(
        t.next_due(),
        Some(5000 * S + BACK_OFF_FIRST),
        "no hammering on request"
    );
    t.take(6000 * S).unwrap();
    t.on_error(6000 * S, &url("b"), Retry::Never.into());
    assert_eq!(t.next_due(), None);
    assert_eq!(t.scrapable().count(), 0);
}

#[test]
fn failures_back_off_to_an_hour() {
    let mut t = tiers(&[&["a"]]);
    let mut now = Duration::ZERO;
    let mut waits = Vec::new();
    for _ in 0..9 {
        t.take(now).unwrap();
        t.on_error(now, &url("a"), Failed::Later);
        let due = t.next_due().unwrap();
        waits.push((due - now).as_secs());
        now = due;
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
}

#[test]
fn every_tracker_that_may_know_us_is_told_stopped() {
    let mut t = tiers(&[&["a"], &["b"], &["c"]]);
    t.take(Duration::ZERO).unwrap();
    t.on_error(Duration::ZERO, &url("a"), Failed::Later);
    t.take(Duration::ZERO).unwrap();
    let mut first = reply(1800, None);
    first.tracker_id = Some(b"id".to_vec());
    t.on_ok(Duration::ZERO, &url("b"), &first);
    let stops = t.stop();
    let told: Vec<_> = stops
        .iter()
        .map(|d| (d.url.clone(), d.event, d.tracker_id.clone()))
        .collect();
    assert_eq!(
        told,
        [
            (url("a"), Event::Stopped, None),
            (url("b"), Event::Stopped, Some(b"id".to_vec()))
        ]
    );
    assert_eq!(t.stop(), []);
    t.restart(S);
    assert_eq!(t.take(S).unwrap().event, Event::Started);
}

#[test]
fn changing_trackers_is_noticed() {
    let mut t = tiers(&[&["a"], &["b"]]);
    t.take(Duration::ZERO).unwrap();
    assert!(!t.on_ok(Duration::ZERO, &url("a"), &reply(60, None)));
    t.take(60 * S).unwrap();
    t.on_error(60 * S, &url("a"), Failed::Later);
    t.take(60 * S).unwrap();
    assert!(t.on_ok(60 * S, &url("b"), &reply(60, None)));
}

proptest! {
    #[test]
    fn no_tracker_is_asked_more_often_than_it_allows(steps in prop::collection::vec((0u8..5, 5u64..4000, 0u64..4000), 1..80)) {
        let mut t = tiers(&[&["a", "b"], &["c"]]);
        let mut now = Duration::ZERO;
        let mut allowed: std::collections::BTreeMap<Url, Duration> = Default::default();
        for (kind, n, m) in steps {
            now += Duration::from_secs(m);
            t.need_peers(now);
            let Some(due) = t.take(now) else {
                prop_assert!(t.next_due().is_none_or(|d| d > now));
                continue;
            };
            prop_assert!(allowed.get(&due.url).is_none_or(|a| *a <= now), "{} at {:?}", due.url, now);
            let wait = match kind {
                0 => {
                    t.on_ok(now, &due.url, &reply(n, Some(n / 2)));
                    n / 2
                }
                1 => {
                    t.on_error(now, &due.url, Failed::After(Duration::from_secs(n)));
                    n.max(30)
                }
                _ => {
                    t.on_error(now, &due.url, Failed::Later);
                    30
                }
            };
            allowed.insert(due.url, now + Duration::from_secs(wait));
        }
    }
}
