//! Honest eviction (rows R1, R2): a cache that forgets all the time, and peers that notice nothing but the truth.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tests::clients::{Aria2, Btslave, Client, Libtorrent, Program, Role, Transmission, folder};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, Heard, RawPeer};
use tests::runner::{Test, address, logs};
use tests::wait::eventually;

use crate::support::counter;
use crate::taker::{Account, taker};

const MIB: usize = 1 << 20;
const SIZE: usize = 16 * MIB;
const PIECE: u32 = 128 << 10;
const CACHE: u64 = 2 << 20;
/// An answer to a request may take this long, whatever happens to its piece.
const BOUND: Duration = Duration::from_secs(15);

pub const TESTS: &[Test] = &[
    Test {
        name: "eviction::r1_is_honest_to_libtorrent_transmission_and_aria2",
        needs: &[Program::Libtorrent, Program::Transmission, Program::Aria2],
        seconds: 240,
        run: r1_is_honest_to_libtorrent_transmission_and_aria2,
    },
    Test {
        name: "eviction::r1_answers_every_request_of_four_kinds_of_peer",
        needs: &[Program::Libtorrent],
        seconds: 120,
        run: r1_answers_every_request_of_four_kinds_of_peer,
    },
];

/// A seed that only the slave is told of, and a slave whose cache is an eighth of the torrent, half of it on disk.
fn stage(torrent: &Torrent) -> anyhow::Result<(Libtorrent, Btslave)> {
    let seed = Libtorrent::seed(address(2), torrent)?;
    let cache = format!(
        "[cache]\nsize = \"{} KiB\"\nmemory = \"{} KiB\"\nmin_free = \"0 B\"",
        CACHE >> 10,
        CACHE >> 11
    );
    let slave = Btslave::start(address(1), &cache, &[])?;
    Ok((seed, slave))
}

/// Tells the slave of the torrent and of these peers, never to be left.
fn introduce(slave: &Btslave, torrent: &Torrent, peers: &[String]) -> anyhow::Result<()> {
    let path = torrent.path.display().to_string();
    let mut args = vec!["swarms", "add", &path, "--pin"];
    for peer in peers {
        args.extend(["--peer", peer]);
    }
    slave.ctl(&args).map(drop)
}

/// The cap held, and what went through was many times the cache: it must have forgotten.
fn forgot_within_its_cap(slave: &Btslave) -> anyhow::Result<()> {
    let high = counter(slave, "btslave_cache_high_water_bytes")?;
    ensure!(
        high > 0.0 && high <= CACHE as f64,
        "the cache held {high} of {CACHE} bytes"
    );
    let taken = slave.ctl(&["status"])?["session"]["downloaded_bytes"].as_u64();
    ensure!(
        taken > Some(4 * CACHE),
        "only {taken:?} bytes went through the cache: nothing was evicted"
    );
    let disk = fs::metadata(slave.data_dir().join("cache.bin"))?.len();
    ensure!(disk <= CACHE, "cache.bin has {disk} bytes");
    Ok(())
}

/// No one asked in vain over and over: refusals stay below the blocks that were given, and so does talk.
fn nobody_spins(slave: &Btslave, torrent: &Torrent) -> anyhow::Result<()> {
    let blocks = (torrent.content.len() >> 14) as f64;
    let refused: f64 = ["refused_unannounced", "refused_unavailable", "refused_full"]
        .iter()
        .map(|what| counter(slave, &format!("btslave_session_total{{what=\"{what}\"}}")))
        .sum::<anyhow::Result<f64>>()?;
    ensure!(
        refused <= blocks,
        "{refused} requests were refused, of a torrent of {blocks} blocks"
    );
    let talk = counter(slave, "btslave_overhead_bytes_total")?;
    let payload = counter(slave, "btslave_uploaded_bytes_total")?
        + counter(slave, "btslave_downloaded_bytes_total")?;
    ensure!(
        talk < payload * 0.03,
        "{talk} bytes of talk for {payload} of payload"
    );
    Ok(())
}

fn aria2_complains_of_nothing(log: &Path) -> anyhow::Result<()> {
    let said = fs::read_to_string(log).context("aria2's log")?;
    let complaint = said.lines().find(|line| {
        let line = line.to_ascii_lowercase();
        [
            "bad piece",
            "checksum error",
            "got wrong piece",
            "hash error",
            "blacklist",
        ]
        .iter()
        .any(|word| line.contains(word))
    });
    ensure!(complaint.is_none(), "aria2: {complaint:?}");
    Ok(())
}

fn nobody_comes_and_goes(slave: &mut Btslave) -> anyhow::Result<()> {
    let ours = fs::read_to_string(slave.process().log())?;
    let ends = ours.lines().filter(|line| line.contains("connection ends"));
    let ends = ends.count();
    ensure!(
        ends <= 40,
        "{ends} connections ended: somebody comes and goes"
    );
    Ok(())
}

fn r1_is_honest_to_libtorrent_transmission_and_aria2() -> anyhow::Result<()> {
    let torrent = Torrent::new("evicted.bin", SIZE, PIECE, Kind::default())?;
    let (mut seed, mut slave) = stage(&torrent)?;
    let mut libtorrent = Libtorrent::start(address(3), &json!({}))?;
    let mut transmission = Transmission::start(address(4), &json!({}))?;
    let log = logs().join("aria2-own.log");
    let log_arg = format!("--log={}", log.display());
    let mut aria2 = Aria2::start(address(5), &[&log_arg, "--log-level=info"])?;
    let targets = ["libtorrent", "transmission", "aria2"].map(|name| folder(&format!("to-{name}")));
    let [to_libtorrent, to_transmission, to_aria2] = targets;
    let (to_libtorrent, to_transmission, to_aria2) = (to_libtorrent?, to_transmission?, to_aria2?);
    libtorrent.add(&torrent, &to_libtorrent, Role::Leech)?;
    transmission.add(&torrent, &to_transmission, Role::Leech)?;
    aria2.add(&torrent, &to_aria2, Role::Leech)?;
    let peers = [
        seed.address(),
        libtorrent.address(),
        transmission.address(),
        aria2.address(),
    ];
    introduce(&slave, &torrent, &peers.map(|peer| peer.to_string()))?;

    let limit = Duration::from_secs(100);
    let enough = torrent.content.len() as u64 * 9 / 10;
    let most = |client: &mut dyn Client| {
        eventually("nine tenths by the slave alone", limit, || {
            let have = client.status(&torrent)?.have_bytes;
            Ok((have >= enough).then_some(()))
        })
    };
    most(&mut libtorrent)?;
    most(&mut transmission)?;
    most(&mut aria2)?;
    // The last pieces, that one lacks, are not worth a fetch to a free repeater: those the seed may give.
    for leecher in &peers[1..] {
        seed.add_peer(&torrent, *leecher)?;
    }
    libtorrent.wait_done(&torrent, limit)?;
    transmission.wait_done(&torrent, limit)?;
    aria2.wait_done(&torrent, limit)?;
    for target in [&to_libtorrent, &to_transmission, &to_aria2] {
        torrent.verify(target)?;
    }
    forgot_within_its_cap(&slave)?;
    nobody_spins(&slave, &torrent)?;

    let hash = torrent.info_hash.to_string();
    let status = libtorrent.call("status", json!({ "hash": hash }))?;
    ensure!(status["failed_bytes"] == 0, "libtorrent: {status}");
    let corrupt = transmission.get(&torrent, &["corruptEver"])?;
    ensure!(corrupt["corruptEver"] == 0, "transmission: {corrupt}");
    aria2_complains_of_nothing(&log)?;
    nobody_comes_and_goes(&mut slave)?;
    slave.stop()?;
    seed.stop()
}

/// One of the leechers of the second test.
struct Leecher {
    from: Ipv4Addr,
    abilities: Abilities,
    /// It says HAVE for what it got. One that never does binds what was announced to it.
    tells: bool,
    account: Account,
    peer: Option<RawPeer>,
    connections: u32,
    /// Not again before.
    retry: Instant,
}

impl Leecher {
    fn new(n: u8, abilities: Abilities, tells: bool) -> Self {
        Self {
            from: address(n),
            abilities,
            tells,
            account: Account::default(),
            peer: None,
            connections: 0,
            retry: Instant::now(),
        }
    }

    fn name(&self) -> String {
        let Abilities {
            fast, dont_have, ..
        } = self.abilities;
        let tells = self.tells;
        format!("leecher (fast: {fast}, lt_donthave: {dont_have}, says HAVE: {tells})")
    }

    /// Dials, and again a second after each end.
    fn keep(&mut self, slave: &Btslave, torrent: &Torrent) -> anyhow::Result<()> {
        let ended = |peer: &RawPeer| {
            matches!(
                peer.events().last().map(|event| &event.heard),
                Some(Heard::Closed(_))
            )
        };
        if self.peer.as_ref().is_some_and(ended) {
            self.review()?;
            self.account.lock().closed();
            self.peer = None;
            self.retry = Instant::now() + Duration::from_secs(1);
        }
        // Who was let go, because it binds pieces without end or has all it wants, does not come back.
        if self.peer.is_none() && self.connections == 0 && Instant::now() >= self.retry {
            let script = taker(torrent, self.abilities, self.tells, &self.account);
            // A slave that has just closed on us may be slow to take us back; the next round tries again.
            self.peer =
                RawPeer::connect(self.from, slave.address(), torrent, self.abilities, script).ok();
            self.connections += u32::from(self.peer.is_some());
            self.retry = Instant::now() + Duration::from_secs(1);
        }
        Ok(())
    }

    /// Nothing wrong came on this connection, and no more than there was to say.
    fn review(&self) -> anyhow::Result<()> {
        let name = self.name();
        let events = self.peer.as_ref().map(RawPeer::events).unwrap_or_default();
        for event in &events {
            let fine = !matches!(
                event.heard,
                Heard::Garbage(_) | Heard::Block { correct: false, .. }
            );
            ensure!(fine, "{name} heard {:?}", event.heard);
        }
        let donthave = events.iter().any(|event| {
            matches!(&event.heard, Heard::Message(bt_wire::message::Message::Extended { id, .. })
                if *id == tests::raw::DONT_HAVE_ID)
        });
        ensure!(
            self.abilities.dont_have || !donthave,
            "{name} was sent lt_donthave"
        );
        Ok(())
    }

    /// The whole of its experience was honest.
    fn verdict(&self, torrent: &Torrent) -> anyhow::Result<()> {
        let (name, blocks) = (self.name(), (torrent.content.len() >> 14) as u64);
        self.review()?;
        let ledger = self.account.lock();
        let wait = ledger.longest_wait();
        ensure!(wait <= BOUND, "{name}: a request hung for {wait:?}");
        let requests = ledger.requests;
        ensure!(
            requests <= 3 * blocks,
            "{name}: {requests} requests for {blocks} blocks"
        );
        // What cannot be taken back binds for a while; then it is choked and closed, never left waiting.
        let bound = !self.tells && !self.abilities.dont_have;
        let gone = self.peer.is_none();
        let satisfied = ledger.complete.len() == torrent.pieces();
        ensure!(
            gone == bound || gone && satisfied,
            "{name}: gone: {gone}, with {} pieces",
            ledger.complete.len()
        );
        // Who forgets on request is told; it was told of more than the cache holds, so something was taken back.
        ensure!(
            !self.abilities.dont_have || self.tells || ledger.withdrawn > 0,
            "{name}: nothing was withdrawn"
        );
        let (probes, unanswered) = (ledger.probes, ledger.open_probes.len());
        ensure!(
            unanswered == 0,
            "{name}: of {probes} requests for withdrawn pieces, {unanswered} got no reject"
        );
        Ok(())
    }
}

/// They ask for nothing more; what they have asked for is answered, one way or another.
fn nothing_stays_open(
    leechers: &mut [Leecher],
    slave: &Btslave,
    torrent: &Torrent,
) -> anyhow::Result<()> {
    for leecher in &mut *leechers {
        leecher.account.lock().full = true;
    }
    eventually("an answer to every request", BOUND, || {
        for leecher in &mut *leechers {
            leecher.keep(slave, torrent)?;
        }
        let open: usize = leechers.iter().map(|l| l.account.lock().open()).sum();
        Ok((open == 0).then_some(()))
    })
}

fn r1_answers_every_request_of_four_kinds_of_peer() -> anyhow::Result<()> {
    let torrent = Torrent::new("kinds.bin", SIZE, PIECE, Kind::default())?;
    let (mut seed, mut slave) = stage(&torrent)?;
    let kinds = [(false, false), (false, true), (true, false), (true, true)];
    let mut leechers: Vec<Leecher> = Vec::new();
    for (n, (fast, dont_have)) in (10u8..).zip(kinds) {
        let abilities = Abilities {
            fast,
            extended: true,
            dont_have,
        };
        leechers.push(Leecher::new(n, abilities, true));
        leechers.push(Leecher::new(n + 10, abilities, true));
        leechers.push(Leecher::new(n + 20, abilities, false));
    }
    introduce(&slave, &torrent, &[seed.address().to_string()])?;
    let pieces = torrent.pieces();
    // Its last pieces, that only few lack, are not worth a fetch to a free repeater.
    let enough = pieces * 9 / 10;
    let all = eventually(
        "who says HAVE has nine tenths",
        Duration::from_secs(90),
        || {
            for leecher in &mut leechers {
                if let Err(e) = leecher.keep(&slave, &torrent) {
                    return Ok(Some(Err(e)));
                }
            }
            let polite = leechers.iter().filter(|l| l.tells);
            let done = polite
                .map(|l| l.account.lock().complete.len())
                .all(|complete| complete >= enough);
            Ok(done.then_some(Ok(())))
        },
    );
    let answered = nothing_stays_open(&mut leechers, &slave, &torrent);
    for leecher in &leechers {
        let ledger = leecher.account.lock();
        println!(
            "{}: {} connections, {} requests: {} blocks, {} refused; {} withdrawn, {} probes; {} pieces; longest wait {:?}",
            leecher.name(),
            leecher.connections,
            ledger.requests,
            ledger.blocks,
            ledger.refused,
            ledger.withdrawn,
            ledger.probes,
            ledger.complete.len(),
            ledger.longest_wait(),
        );
    }
    all??;
    answered?;
    for leecher in &leechers {
        leecher.verdict(&torrent)?;
    }
    forgot_within_its_cap(&slave)?;
    ensure!(
        counter(&slave, "btslave_banned_total")? == 0.0,
        "an honest peer was banned"
    );
    slave.stop()?;
    seed.stop()
}
