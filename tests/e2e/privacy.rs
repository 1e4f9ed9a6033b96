//! What friends, peers, trackers and the network hear of private torrents (BEP 27), and which trackers a friend may name.
//! The test plays every far end, and holds the friend's keys.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bt_wire::bencode::Item;
use bt_wire::message::Message as Wire;
use friends_proto::friend_code::FriendCode;
use friends_proto::identity::PublicKey;
use friends_proto::message::{
    AnnounceUrl, Ask, Deliveries, HelpId, Message, Meta, PieceSet, Reserve, TorrentHash,
};
use tests::clients::{Btslave, Client, PEER_PORT};
use tests::content::{Kind, Torrent};
use tests::raw::friend::{Friend, identity};
use tests::raw::{Heard, RawPeer, Script};
use tests::runner::{Test, address};

use crate::support::{Taken, Tracker, counter, serve};

const LIMIT: Duration = Duration::from_secs(40);
/// By then a master that gains nothing is short (10 s), and friends were asked: several times over.
const LONG_ENOUGH: Duration = Duration::from_secs(25);
const FAR: u8 = 7;
const CACHE: &str = "[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\nmin_free = \"0 B\"\n";

pub const TESTS: &[Test] = &[
    Test::alone(
        "privacy::p18_of_a_private_torrent_nobody_hears_but_its_own",
        90,
        p18_of_a_private_torrent_nobody_hears_but_its_own,
    ),
    Test::alone(
        "privacy::of_a_public_torrent_friends_hear",
        90,
        of_a_public_torrent_friends_hear,
    ),
    Test::alone(
        "privacy::an_allowed_private_torrent_is_relayed_and_by_rpc_only",
        90,
        an_allowed_private_torrent_is_relayed_and_by_rpc_only,
    ),
    Test::alone(
        "privacy::a_friend_names_no_tracker_nearer_than_itself",
        90,
        a_friend_names_no_tracker_nearer_than_itself,
    ),
];

/// A slave with a master that lacks everything, a seed that gives nothing, a tracker, and a friend in session.
struct Scene {
    slave: Btslave,
    torrent: Torrent,
    tracker: Tracker,
    master: Taken,
    seed: Taken,
    friend: Friend,
}

fn own_key(slave: &Btslave) -> anyhow::Result<PublicKey> {
    let code: FriendCode = slave.friend_code()?.parse()?;
    Ok(*code.key())
}

/// Adds our friend's code, and meets the slave.
fn befriend(slave: &Btslave) -> anyhow::Result<Friend> {
    let code = FriendCode::new(identity(FAR).public_key(), vec![])?.to_string();
    slave.ctl(&["friends", "add", &code, "--name", "Far"])?;
    let key = own_key(slave)?;
    Friend::meet(address(3), slave.address(), identity(FAR), &key)
}

/// Has nothing, and wants everything.
fn needy(_: &Torrent) -> Script {
    Box::new(|sender, message| {
        if message.is_none() {
            sender.send(&Wire::HaveNone);
            sender.send(&Wire::Interested);
        }
    })
}

/// Has everything, and gives nothing.
fn miser(_: &Torrent) -> Script {
    Box::new(|sender, message| {
        if message.is_none() {
            sender.send(&Wire::HaveAll);
        }
    })
}

impl Scene {
    fn set(private: bool, allowed: bool) -> anyhow::Result<Self> {
        let mut listed = Vec::new();
        let at = SocketAddr::from((address(4), PEER_PORT));
        bt_wire::address::encode_compact(at, &mut listed);
        let answer = Item::dict([("interval", Item::Int(60)), ("peers", Item::bytes(listed))]);
        let tracker = Tracker::start(address(9), answer)?;
        let kind = Kind {
            private,
            tracker: Some(tracker.address()),
        };
        let torrent = Torrent::new("guarded.bin", 16 << 20, 64 << 10, kind)?;
        let (_, master) = serve(address(2), &torrent, needy)?;
        let (_, seed) = serve(address(4), &torrent, miser)?;
        let sections = format!(
            "{CACHE}[friends]\nprivate_torrents = {allowed}\n[[master]]\nname = \"home\"\naddress = \"{}:{PEER_PORT}\"\n",
            address(2)
        );
        let slave = Btslave::start(address(1), &sections, &[])?;
        let friend = befriend(&slave)?;
        let path = torrent.path.display().to_string();
        slave.ctl(&["swarms", "add", &path, "--pin"])?;
        Ok(Self {
            slave,
            torrent,
            tracker,
            master,
            seed,
            friend,
        })
    }

    /// The ask that our friend hears.
    fn ask(&mut self) -> anyhow::Result<Ask> {
        self.friend.wait_for("an ask", LIMIT, |heard| {
            heard.iter().find_map(|message| {
                if let Message::Ask(ask) = message {
                    Some(ask.clone())
                } else {
                    None
                }
            })
        })
    }

    /// The infohash in any form in which it could be told.
    fn names(&self) -> Vec<Vec<u8>> {
        let hash = self.torrent.info_hash;
        let text = hash.to_string();
        let escaped: String = hash.0.iter().map(|byte| format!("%{byte:02X}")).collect();
        vec![
            hash.0.to_vec(),
            text.to_uppercase().into_bytes(),
            text.into_bytes(),
            escaped.into_bytes(),
            b"guarded".to_vec(),
        ]
    }
}

fn holds(bytes: &[u8], names: &[Vec<u8>]) -> bool {
    let mut names = names.iter();
    names.any(|name| bytes.windows(name.len()).any(|part| part == name))
}

/// What the slave said to the peers of one place.
fn said_to(taken: &Taken) -> anyhow::Result<Vec<Heard>> {
    let peers = taken.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    ensure!(!peers.is_empty(), "nobody was dialled");
    let events = peers.iter().flat_map(RawPeer::events);
    Ok(events.map(|event| event.heard).collect())
}

/// Payloads of extended messages.
fn extended(heard: &[Heard]) -> Vec<(u8, Vec<u8>)> {
    let of = |heard: &Heard| match heard {
        Heard::Message(Wire::Extended { id, payload }) => Some((*id, payload.to_vec())),
        Heard::Message(_) | Heard::Block { .. } | Heard::Garbage(_) | Heard::Closed(_) => None,
    };
    heard.iter().filter_map(of).collect()
}

/// The peers in the swarm hear of no friends and of no other peer, and every one of them is asked for or by its own tracker.
fn p18_of_a_private_torrent_nobody_hears_but_its_own() -> anyhow::Result<()> {
    let mut scene = Scene::set(true, false)?;
    let hash = scene.torrent.info_hash.to_string();
    scene.tracker.wait_event("started", LIMIT)?;
    let end = Instant::now() + LONG_ENOUGH;
    while scene.friend.listen(end)? {}
    let aid = scene.slave.ctl(&["aid"])?;
    let wants = aid["wants"].as_array().context("a list")?;
    ensure!(
        wants.iter().any(|want| want["asking"] == "short"),
        "the master is not short, so nothing is shown: {aid}"
    );
    let by_hand = scene.slave.ctl(&["aid", "ask", &hash]).err();
    let why = by_hand.context("an ask by hand was taken")?.to_string();
    ensure!(why.contains("private"), "{why}");
    let end = Instant::now() + Duration::from_secs(3);
    while scene.friend.listen(end)? {}

    let names = scene.names();
    let heard = &scene.friend.heard;
    let asked = heard
        .iter()
        .any(|message| matches!(message, Message::Ask(_)));
    ensure!(!asked, "friends were asked: {heard:?}");
    for message in heard {
        ensure!(!holds(&message.encode(), &names), "{message:?}");
    }
    ensure!(!holds(&scene.friend.bytes, &names));
    for taken in [&scene.master, &scene.seed] {
        let said = extended(&said_to(taken)?);
        ensure!(!said.is_empty(), "no extended handshake");
        for (id, payload) in said {
            ensure!(!holds(&payload, &[b"bs_friends".to_vec()]), "a tag");
            ensure!(!holds(&payload, &[b"ut_pex".to_vec()]), "PEX is offered");
            ensure!(!holds(&payload, &[b"5:added".to_vec()]), "PEX in {id}");
        }
    }
    let others: BTreeSet<String> = scene
        .tracker
        .announces()
        .into_iter()
        .filter_map(|asked| asked.query.get("info_hash").cloned())
        .collect();
    ensure!(others.len() == 1, "one torrent, one tracker: {others:?}");
    no_datagrams()
}

/// Nobody in this network has a UDP socket: no DHT, no LSD.
fn no_datagrams() -> anyhow::Result<()> {
    for table in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = std::fs::read_to_string(table)?;
        ensure!(text.lines().count() == 1, "{table}: {text}");
    }
    Ok(())
}

/// The same scene, so that the silence of the other means something.
fn of_a_public_torrent_friends_hear() -> anyhow::Result<()> {
    let mut scene = Scene::set(false, false)?;
    let ask = scene.ask()?;
    ensure!(ask.torrent == TorrentHash::V1(scene.torrent.info_hash.0));
    ensure!(!ask.private);
    let url = format!("http://{}/announce", scene.tracker.address());
    let told: Vec<&str> = ask.trackers.iter().map(AnnounceUrl::as_str).collect();
    ensure!(told == [url.as_str()], "{told:?}");
    let said = extended(&said_to(&scene.seed)?);
    let tags = said
        .iter()
        .any(|(_, payload)| holds(payload, &[b"bs_friends".to_vec()]));
    ensure!(tags, "no tags to a peer of a public torrent");
    Ok(())
}

//= spec/friends.md#ask-trackers
//= spec/friends.md#ask-private
fn an_allowed_private_torrent_is_relayed_and_by_rpc_only() -> anyhow::Result<()> {
    let mut scene = Scene::set(true, true)?;
    let ask = scene.ask()?;
    ensure!(ask.private);
    let direct = Deliveries::INTRODUCED.or(Deliveries::DIALLED).0;
    ensure!(ask.deliveries.0 & direct == 0, "{:?}", ask.deliveries);
    ensure!(ask.trackers.is_empty(), "{:?}", ask.trackers);
    for taken in [&scene.master, &scene.seed] {
        for (_, payload) in extended(&said_to(taken)?) {
            ensure!(!holds(&payload, &[b"5:added".to_vec()]), "PEX");
        }
    }
    no_datagrams()
}

//= spec/friends.md#ask-trackers-named
/// A friend asks for help with a torrent that the slave does not know, and names trackers on the slave's own machine, in
/// its private network, and where the friend is.
fn a_friend_names_no_tracker_nearer_than_itself() -> anyhow::Result<()> {
    crate::support::add_address("10.1.2.3/32")?;
    let inner: Vec<TcpListener> = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 1, 2, 3)]
        .into_iter()
        .map(|ip| TcpListener::bind((ip, 6970)))
        .collect::<Result<_, _>>()?;
    let answer = Item::dict([("interval", Item::Int(60)), ("peers", Item::bytes(b""))]);
    let tracker = Tracker::start(address(9), answer)?;
    let torrent = Torrent::new("theirs.bin", 1 << 20, 64 << 10, Kind::default())?;
    let slave = Btslave::start(address(1), CACHE, &[])?;
    let mut friend = befriend(&slave)?;
    let mut places: Vec<SocketAddr> = Vec::new();
    for listener in &inner {
        listener.set_nonblocking(true)?;
        places.push(listener.local_addr()?);
    }
    places.push(tracker.address());
    help_with(&mut friend, &slave, &torrent, &places)?;
    tracker.wait_event("started", LIMIT)?;
    let hash = torrent.info_hash.to_string();
    let shown = slave.ctl(&["swarms", "show", &hash])?;
    let rows = shown["trackers"].as_array().context("trackers")?;
    ensure!(rows.len() == 3, "{shown}");
    for listener in &inner {
        let dialled = listener.accept();
        ensure!(dialled.is_err(), "{:?} was asked", listener.local_addr());
    }
    let refused = counter(&slave, "btslave_friend_defence_total{defence=\"Private\"}")?;
    ensure!(refused == 0.0);
    Ok(())
}

/// Our friend asks, reserves piece 0, and shows the info dictionary.
fn help_with(
    friend: &mut Friend,
    slave: &Btslave,
    torrent: &Torrent,
    trackers: &[SocketAddr],
) -> anyhow::Result<()> {
    let even = identity(FAR).public_key() < own_key(slave)?;
    let id = HelpId(if even { 2 } else { 3 });
    let ih = TorrentHash::V1(torrent.info_hash.0);
    let urls = trackers
        .iter()
        .map(|at| AnnounceUrl::new(&format!("http://{at}/announce")));
    let size = u64::try_from(torrent.content.len())?;
    friend.say(&Message::Ask(Ask {
        id,
        torrent: ih,
        size,
        piece_length: torrent.piece_length,
        want: size,
        master: vec![],
        deliveries: Deliveries::RELAYED,
        private: false,
        trackers: urls.collect::<Option<_>>().context("printable")?,
    }))?;
    friend.wait_for("an offer", LIMIT, |heard| {
        let offer = |message: &Message| matches!(message, Message::Offer(_));
        heard.iter().any(offer).then_some(())
    })?;
    let pieces = PieceSet::new(0, vec![0x80])?;
    friend.say(&Message::Reserve(Reserve { id, pieces }))?;
    friend.wait_for("a wish for the metadata", LIMIT, |heard| {
        let wish = |message: &Message| matches!(message, Message::MetaAsk(_));
        heard.iter().any(wish).then_some(())
    })?;
    let file = std::fs::read(&torrent.path)?;
    let meta = bt_wire::metainfo::Metainfo::from_torrent(file)?;
    let info = meta.info_bytes.to_vec();
    friend.say(&Message::Meta(Meta {
        torrent: ih,
        offset: 0,
        size: u32::try_from(info.len())?,
        data: info,
    }))
}
