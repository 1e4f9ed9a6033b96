#![allow(clippy::unwrap_used)]

use bt_wire::address::Scope;
use bt_wire::bencode::Item;
use bt_wire::ids::PeerId;
use tokio::sync::oneshot;
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::discover::http::{Http, HttpOptions};

struct Setup {
    server: MockServer,
    commands: mpsc::Sender<TrackerCommand>,
    events: mpsc::Receiver<TrackerEvent>,
}

fn reply(interval: i64) -> ResponseTemplate {
    let peers = Item::bytes([127, 0, 0, 1, 0x1b, 0x58]);
    let entries = [
        ("complete", Item::Int(1)),
        ("interval", Item::Int(interval)),
        ("peers", peers),
    ];
    ResponseTemplate::new(200).set_body_bytes(Item::dict(entries).encode())
}

async fn setup() -> Setup {
    let client = TrackerClient::new(Http::new(&HttpOptions::default()).unwrap());
    let identity = Identity {
        peer_id: PeerId(*b"-BS0100-abcdefghijkl"),
        port: 6881,
        ipv6: None,
        seed: 1,
    };
    let (sender, events) = mpsc::channel(16);
    let commands = start(client, identity, sender);
    Setup {
        server: MockServer::start().await,
        commands,
        events,
    }
}

impl Setup {
    async fn register(&self, swarm: SwarmNumber, paths: &[&str], private: bool) {
        let tiers = paths
            .iter()
            .map(|p| vec![format!("{}{p}", self.server.uri())])
            .collect();
        let named_by = AddressSource::Named {
            by: Scope::Loopback,
        };
        let info_hash = InfoHash([u8::try_from(swarm).unwrap(); 20]);
        let registration = Registration {
            swarm,
            info_hash,
            tiers,
            named_by,
            private,
        };
        self.commands
            .send(TrackerCommand::Register(registration))
            .await
            .unwrap();
    }

    async fn send(&self, command: TrackerCommand) {
        self.commands.send(command).await.unwrap();
    }

    async fn event(&mut self) -> TrackerEvent {
        tokio::time::timeout(Duration::from_secs(20), self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        self.send(TrackerCommand::Stop(reply)).await;
        done.await.unwrap();
    }

    async fn asked(&self) -> Vec<BTreeMap<String, String>> {
        let requests = self.server.received_requests().await.unwrap();
        requests
            .iter()
            .map(|r: &Request| {
                let mut pairs: BTreeMap<_, _> = r
                    .url
                    .query_pairs()
                    .map(|(k, v)| (k.into_owned(), v.into_owned()))
                    .collect();
                pairs.insert("path".into(), r.url.path().into());
                pairs
            })
            .collect()
    }
}

#[tokio::test]
async fn a_swarm_is_announced_with_true_figures_and_left_with_stopped() {
    let mut s = setup().await;
    Mock::given(any())
        .respond_with(reply(1800))
        .mount(&s.server)
        .await;
    s.register(1, &["/announce"], false).await;
    s.send(TrackerCommand::Join {
        swarm: 1,
        left: 500,
    })
    .await;
    let peers = vec!["127.0.0.1:7000".parse().unwrap()];
    let expected = TrackerEvent::Announced {
        swarm: 1,
        peers,
        complete: Some(1),
        incomplete: None,
    };
    assert_eq!(s.event().await, expected);
    s.send(TrackerCommand::Update {
        swarm: 1,
        uploaded: 70,
        downloaded: 30,
        left: 470,
    })
    .await;
    s.stop().await;
    let asked = s.asked().await;
    let say = |n: usize, key: &str| asked[n].get(key).cloned().unwrap_or_default();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        (say(0, "event"), say(0, "left"), say(0, "uploaded")),
        ("started".into(), "500".into(), "0".into())
    );
    assert_eq!(
        (say(1, "event"), say(1, "left"), say(1, "uploaded")),
        ("stopped".into(), "470".into(), "70".into())
    );
    assert_eq!(
        (say(1, "downloaded"), say(1, "numwant")),
        ("30".into(), "0".into())
    );
    assert_eq!(say(0, "key"), say(1, "key"));
}

#[tokio::test]
async fn nothing_is_announced_before_the_join_nor_after_the_leave() {
    let mut s = setup().await;
    Mock::given(any())
        .respond_with(reply(5))
        .mount(&s.server)
        .await;
    s.register(1, &["/announce"], false).await;
    s.register(2, &["/other/announce"], false).await;
    s.send(TrackerCommand::Join { swarm: 1, left: 5 }).await;
    s.event().await;
    s.send(TrackerCommand::Leave { swarm: 1 }).await;
    s.send(TrackerCommand::NeedPeers { swarm: 1 }).await;
    s.send(TrackerCommand::NeedPeers { swarm: 2 }).await;
    s.stop().await;
    let events: Vec<_> = s
        .asked()
        .await
        .iter()
        .map(|a| (a["path"].clone(), a["event"].clone()))
        .collect();
    assert_eq!(
        events,
        [
            ("/announce".into(), "started".to_owned()),
            ("/announce".into(), "stopped".into())
        ]
    );
}

#[tokio::test]
async fn a_leave_during_an_announce_still_says_stopped() {
    let s = setup().await;
    Mock::given(any())
        .respond_with(reply(1800).set_delay(Duration::from_millis(300)))
        .mount(&s.server)
        .await;
    s.register(1, &["/announce"], false).await;
    s.send(TrackerCommand::Join { swarm: 1, left: 5 }).await;
    while s.asked().await.is_empty() {
        tokio::task::yield_now().await;
    }
    s.stop().await;
    assert_eq!(s.asked().await.last().unwrap()["event"], "stopped");
}

#[tokio::test]
async fn c4_a_tracker_that_is_gone_is_not_asked_again_and_the_next_tier_is() {
    let mut s = setup().await;
    Mock::given(path("/a/announce"))
        .respond_with(ResponseTemplate::new(410))
        .mount(&s.server)
        .await;
    Mock::given(path("/b/announce"))
        .respond_with(reply(1800))
        .mount(&s.server)
        .await;
    s.register(1, &["/a/announce", "/b/announce"], false).await;
    s.send(TrackerCommand::Join { swarm: 1, left: 5 }).await;
    let first = s.event().await;
    assert!(
        matches!(&first, TrackerEvent::Failed { text, .. } if text.contains("410")),
        "{first:?}"
    );
    assert!(matches!(s.event().await, TrackerEvent::Announced { .. }));
    s.stop().await;
    let paths: Vec<_> = s.asked().await.iter().map(|a| a["path"].clone()).collect();
    assert_eq!(
        paths,
        ["/a/announce", "/b/announce", "/b/announce"],
        "no `stopped` to the one that is gone"
    );
}

#[tokio::test]
async fn udp_trackers_are_refused_in_clear_words() {
    let mut s = setup().await;
    let tiers = vec![vec!["udp://tracker.example:80/announce".to_owned()]];
    let named_by = AddressSource::Operator;
    let registration = Registration {
        swarm: 9,
        info_hash: InfoHash([9; 20]),
        tiers,
        named_by,
        private: false,
    };
    s.send(TrackerCommand::Register(registration)).await;
    let event = s.event().await;
    assert!(
        matches!(&event, TrackerEvent::Failed { swarm: 9, text } if text.contains("UDP")),
        "{event:?}"
    );
}

#[tokio::test]
async fn scrapes_of_several_swarms_share_a_question_without_a_join() {
    let mut s = setup().await;
    let entry = |n| Item::dict([("complete", Item::Int(n)), ("incomplete", Item::Int(8))]);
    let files = Item::dict([(&[1u8; 20][..], entry(1)), (&[2u8; 20][..], entry(2))]);
    let reply = ResponseTemplate::new(200).set_body_bytes(Item::dict([("files", files)]).encode());
    Mock::given(path("/scrape"))
        .respond_with(reply)
        .mount(&s.server)
        .await;
    s.register(1, &["/announce"], false).await;
    s.register(2, &["/announce"], true).await;
    s.send(TrackerCommand::Scrape { swarm: 1 }).await;
    s.send(TrackerCommand::Scrape { swarm: 2 }).await;
    for swarm in [1, 2] {
        let event = s.event().await;
        let TrackerEvent::Scraped {
            swarm: told,
            counts,
        } = event
        else {
            panic!("{event:?}")
        };
        assert_eq!((told, counts.complete), (swarm, u32::try_from(swarm).ok()));
    }
    assert_eq!(s.asked().await.len(), 1);
}

#[tokio::test]
async fn a_shell_that_takes_no_events_can_still_stop_the_task() {
    let s = setup().await;
    Mock::given(any())
        .respond_with(reply(1800))
        .mount(&s.server)
        .await;
    for n in 1..=100 {
        s.register(n, &["/announce"], false).await;
        s.send(TrackerCommand::Join { swarm: n, left: 1 }).await;
    }
    s.stop().await;
}
