//! Killed with SIGKILL at seeded random moments, under load (rows F3, R2): it comes back each time with all it had
//! acknowledged, keeps under its cap, and never serves a damaged byte.
//!
//! 50 kills unless `BTSLAVE_KILLS` says otherwise; `BTSLAVE_SEED` repeats a run (`cargo xtask torture`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::clients::{Btslave, Client, Libtorrent, PEER_PORT, Program, Role, folder};
use tests::content::{Kind, Torrent};
use tests::raw::{Abilities, Heard, RawPeer, source};
use tests::runner::{Test, address};
use tests::wait::eventually;

use crate::support::{Random, counter, serve, slavectl};
use crate::taker::{Account, taker};

const CACHE: u64 = 4 << 20;
/// What the store may take beside the cache: journal, database, torrent files.
const STORE: u64 = 24 << 20;
/// What a kill may cost the totals.
const LOSS: Duration = Duration::from_secs(5);
/// After a start, the load has to be back within this.
const BACK: Duration = Duration::from_secs(20);
/// One kill in this many comes only after more than [`LOSS`], so that there are totals to lose.
const LONG_EVERY: u64 = 10;

pub const TESTS: &[Test] = &[Test {
    name: "kill::f3_r2_sigkill_at_random_moments_under_load",
    needs: &[Program::Libtorrent],
    seconds: 240,
    run: f3_r2_sigkill_at_random_moments_under_load,
}];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many kills are wanted.
pub fn kills() -> u64 {
    number("BTSLAVE_KILLS").unwrap_or(50)
}

/// What moments and changes are drawn from.
pub fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let random = || now().map_or(1, |since| u64::from(since.subsec_nanos()));
    number("BTSLAVE_SEED").unwrap_or_else(random)
}

/// What `slavectl` was told and acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    feeds: BTreeSet<String>,
    masters: BTreeSet<String>,
    /// Infohashes, those with a pin.
    swarms: BTreeSet<(String, bool)>,
}

impl Told {
    fn read(slave: &Btslave) -> anyhow::Result<(Self, Value)> {
        let status = slave.ctl(&["status"])?;
        let texts = |list: &str, key: &str| -> BTreeSet<String> {
            let rows = status[list].as_array().into_iter().flatten();
            rows.filter_map(|row| row[key].as_str().map(str::to_owned))
                .collect()
        };
        let swarms = status["swarms"].as_array().into_iter().flatten();
        let told = Self {
            feeds: texts("feeds", "url"),
            masters: texts("masters", "name"),
            swarms: swarms
                .filter_map(|row| {
                    Some((row["info_hash"].as_str()?.to_owned(), row["pinned"] == true))
                })
                .collect(),
        };
        Ok((told, status))
    }
}

/// One change by `slavectl`.
#[derive(Debug, Clone)]
enum Change {
    AddFeed(String),
    RemoveFeed(String),
    AddMaster(String),
    RemoveMaster(String),
    AddSwarm(String),
    Leave(String),
}

impl Change {
    /// Something that can be done now.
    fn choose(random: &mut Random, round: u64, told: &Told, keep: &str) -> Self {
        let some = |set: &BTreeSet<String>| set.iter().next().cloned();
        let spare = told.swarms.iter().find(|(hash, _)| hash != keep);
        match random.below(6) {
            0 if told.feeds.len() > 3 => some(&told.feeds).map(Self::RemoveFeed),
            1 if told.masters.len() > 3 => {
                let own = told.masters.iter().find(|name| *name != "home").cloned();
                own.map(Self::RemoveMaster)
            }
            2 if told.swarms.len() > 4 => spare.map(|(hash, _)| Self::Leave(hash.clone())),
            3 => Some(Self::AddMaster(format!("m{round}"))),
            4 => Some(Self::AddSwarm(format!("{:040x}", round + 1))),
            _ => None,
        }
        .unwrap_or_else(|| Self::AddFeed(format!("http://198.18.0.250:1/feed-{round}")))
    }

    /// Tells the slave; true = it acknowledged.
    fn tell(&self, slave: &Btslave) -> anyhow::Result<bool> {
        let magnet = |hash: &String| format!("magnet:?xt=urn:btih:{hash}");
        let out = match self {
            Self::AddFeed(url) => slavectl(slave, address(1), &["feeds", "add", url]),
            Self::RemoveFeed(url) => slavectl(slave, address(1), &["feeds", "remove", url]),
            Self::AddMaster(name) => slavectl(
                slave,
                address(1),
                &["master", "add", name, "198.18.0.251:1"],
            ),
            Self::RemoveMaster(name) => slavectl(slave, address(1), &["master", "remove", name]),
            Self::AddSwarm(hash) => slavectl(
                slave,
                address(1),
                &["swarms", "add", &magnet(hash), "--pin"],
            ),
            Self::Leave(hash) => slavectl(slave, address(1), &["swarms", "leave", hash]),
        }?;
        Ok(out.status.success())
    }

    fn apply(&self, told: &mut Told) {
        match self {
            Self::AddFeed(url) => told.feeds.insert(url.clone()),
            Self::RemoveFeed(url) => told.feeds.remove(url),
            Self::AddMaster(name) => told.masters.insert(name.clone()),
            Self::RemoveMaster(name) => told.masters.remove(name),
            Self::AddSwarm(hash) => told.swarms.insert((hash.clone(), true)),
            Self::Leave(hash) => told.swarms.remove(&(hash.clone(), true)),
        };
    }
}

/// Looks at the data directory every millisecond: the largest it ever saw.
struct Sampler {
    stop: Arc<AtomicBool>,
    cache: Arc<AtomicU64>,
    beside: Arc<AtomicU64>,
    samples: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    fn start(dir: PathBuf) -> Self {
        let (stop, cache, beside, samples) = <(
            Arc<AtomicBool>,
            Arc<AtomicU64>,
            Arc<AtomicU64>,
            Arc<AtomicU64>,
        )>::default();
        let shared = (stop.clone(), cache.clone(), beside.clone(), samples.clone());
        let thread = thread::spawn(move || {
            let (stop, cache, beside, samples) = shared;
            while !stop.load(Ordering::Relaxed) {
                let file = fs::metadata(dir.join("cache.bin")).map_or(0, |meta| meta.len());
                cache.fetch_max(file, Ordering::Relaxed);
                if samples.fetch_add(1, Ordering::Relaxed) % 50 == 0 {
                    beside.fetch_max(size(&dir, &dir.join("cache.bin")), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            stop,
            cache,
            beside,
            samples,
            thread: Some(thread),
        }
    }

    /// The disk never held more than it may.
    fn verdict(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ensure!(matches!(ended, Some(Ok(()))), "the sampler died");
        let [cache, beside, samples] =
            [&self.cache, &self.beside, &self.samples].map(|value| value.load(Ordering::Relaxed));
        println!("{samples} samples: cache.bin at most {cache} bytes, all else {beside}");
        ensure!(
            cache > 0 && cache <= CACHE,
            "cache.bin had {cache} bytes, the cap is {CACHE}"
        );
        ensure!(beside <= STORE, "the store had {beside} bytes");
        Ok(())
    }
}

/// Bytes of all files in a folder but one. Files come and go meanwhile: what is gone counts nothing.
fn size(dir: &Path, except: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path(), except),
            Ok(meta) if entry.path() != except => meta.len(),
            Ok(_) | Err(_) => 0,
        })
        .sum()
}

/// Everything that lasts over the kills.
struct Siege {
    torrent: Torrent,
    slave: Btslave,
    random: Random,
    told: Told,
    /// When the totals were seen in this run, and how much was given by then.
    totals: Vec<(Instant, u64)>,
    /// The totals at this run's start: never less again.
    floor: u64,
    /// The last kill.
    killed: Instant,
    /// Seconds from a start to an answer, and from there to the first block: sums.
    back: [Duration; 2],
    blocks: u64,
}

impl Siege {
    fn leecher(&self, n: u8, can: Abilities) -> anyhow::Result<RawPeer> {
        let script = taker(&self.torrent, can, true, &Account::default());
        RawPeer::connect(address(n), self.slave.address(), &self.torrent, can, script)
    }

    /// A master and a leecher who compare each block, until the moment comes.
    fn round(&mut self, round: u64) -> anyhow::Result<()> {
        let answered = Instant::now();
        let leechers = [
            self.leecher(20, Abilities::ALL)?,
            self.leecher(21, Abilities::PLAIN)?,
        ];
        leechers[0].wait_for("load", BACK, |events| {
            events
                .iter()
                .any(|e| matches!(e.heard, Heard::Block { .. }))
                .then_some(())
        })?;
        self.back[1] += answered.elapsed();
        let most = if round % LONG_EVERY == LONG_EVERY - 1 {
            5500
        } else {
            0
        };
        let moment = Instant::now() + Duration::from_millis(most + self.random.below(700));
        while most > 0 && Instant::now() + Duration::from_millis(300) < moment {
            self.note_totals()?;
            thread::sleep(Duration::from_millis(200));
        }
        self.note_totals()?;
        let change = Change::choose(
            &mut self.random,
            round,
            &self.told,
            &self.torrent.info_hash.to_string(),
        );
        let lead = self.random.below(60);
        let acknowledged = self.kill_during(&change, moment, Duration::from_millis(lead))?;
        for leecher in &leechers {
            for event in leecher.events() {
                ensure!(
                    !matches!(
                        event.heard,
                        Heard::Garbage(_) | Heard::Block { correct: false, .. }
                    ),
                    "a leecher heard {:?}",
                    event.heard
                );
                self.blocks += u64::from(matches!(event.heard, Heard::Block { .. }));
            }
        }
        drop(leechers);
        let dead = Instant::now();
        self.slave.restart()?;
        self.back[0] += dead.elapsed();
        self.check(&change, acknowledged)
    }

    /// Begins a change `lead` before the moment, and kills at the moment. True = the change was acknowledged.
    fn kill_during(
        &mut self,
        change: &Change,
        moment: Instant,
        lead: Duration,
    ) -> anyhow::Result<bool> {
        let sleep_until = |at: Instant| thread::sleep(at.saturating_duration_since(Instant::now()));
        sleep_until(moment.checked_sub(lead).unwrap_or(moment));
        let pid = self.slave.process().pid();
        let pid = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("no pid")?;
        let slave = &self.slave;
        let (acknowledged, killed) = thread::scope(|scope| {
            let telling = scope.spawn(|| change.tell(slave));
            sleep_until(moment);
            rustix::process::kill_process(pid, Signal::KILL)?;
            let killed = Instant::now();
            let told = telling
                .join()
                .map_err(|_| anyhow::anyhow!("the change panicked"))??;
            anyhow::Ok((told, killed))
        })?;
        self.killed = killed;
        eventually("the end after SIGKILL", BACK, || {
            self.slave.process().ended()
        })?;
        Ok(acknowledged)
    }

    fn note_totals(&mut self) -> anyhow::Result<()> {
        let status = self.slave.ctl(&["status"])?;
        let given = status["uploaded_bytes"]
            .as_u64()
            .context("no uploaded_bytes")?;
        self.totals.push((Instant::now(), given));
        Ok(())
    }

    /// After the restart: what was acknowledged is there, what was not is there whole or not at all.
    fn check(&mut self, change: &Change, acknowledged: bool) -> anyhow::Result<()> {
        let (now, status) = Told::read(&self.slave)?;
        let before = self.told.clone();
        change.apply(&mut self.told);
        if !acknowledged && now == before {
            self.told = before;
        }
        ensure!(
            now == self.told,
            "after {change:?} (acknowledged: {acknowledged}) it knows {now:?}, not {:?}",
            self.told
        );
        let given = status["uploaded_bytes"]
            .as_u64()
            .context("no uploaded_bytes")?;
        let saved = self
            .totals
            .iter()
            .filter(|(at, _)| *at + LOSS <= self.killed);
        let least = saved
            .map(|(_, given)| *given)
            .max()
            .unwrap_or(0)
            .max(self.floor);
        ensure!(
            given >= least,
            "the totals fell to {given}, but {least} had been given {LOSS:?} before the kill"
        );
        (self.floor, self.totals) = (given, Vec::new());
        Ok(())
    }
}

fn f3_r2_sigkill_at_random_moments_under_load() -> anyhow::Result<()> {
    let (kills, seed_number) = (kills(), seed());
    println!("{kills} kills, seed {seed_number} (BTSLAVE_SEED repeats it)");
    let torrent = Torrent::new("siege.bin", 64 << 20, 128 << 10, Kind::default())?;
    let (seed, _) = serve(address(2), &torrent, source)?;
    let mut leecher = Libtorrent::start(address(3), &json!({}))?;
    leecher.add(&torrent, &folder("leecher")?, Role::Leech)?;
    leecher.limit(&torrent, -1, 256 << 10)?;
    let cache = format!(
        "[cache]\nsize = \"{CACHE} B\"\nmemory = \"1 MiB\"\nmin_free = \"0 B\"\n\n[[master]]\nname = \"home\"\naddress = \"{}:{PEER_PORT}\"",
        address(20)
    );
    let slave = Btslave::start(address(1), &cache, &[])?;
    let path = torrent.path.display().to_string();
    let peers = [seed, leecher.address()].map(|peer| peer.to_string());
    slave.ctl(&[
        "swarms", "add", &path, "--pin", "--peer", &peers[0], "--peer", &peers[1],
    ])?;
    let sampler = Sampler::start(slave.data_dir());
    let (told, _) = Told::read(&slave)?;
    ensure!(told.swarms.len() == 1, "{told:?}");
    let mut siege = Siege {
        torrent,
        slave,
        random: Random(seed_number),
        told,
        totals: Vec::new(),
        floor: 0,
        killed: Instant::now(),
        back: [Duration::ZERO; 2],
        blocks: 0,
    };
    for round in 0..kills {
        siege
            .round(round)
            .with_context(|| format!("kill {} of {kills}", round + 1))?;
    }
    println!(
        "{} blocks, each compared; {:?} to answer and {:?} to serve, in all; {:?}",
        siege.blocks, siege.back[0], siege.back[1], siege.told
    );
    let high = counter(&siege.slave, "btslave_cache_high_water_bytes")?;
    ensure!(
        high <= CACHE as f64,
        "the cache held {high} bytes, the cap is {CACHE}"
    );
    sampler.verdict()?;
    // After the last kill too a real client gets what it can check.
    let master = siege.leecher(20, Abilities::ALL)?;
    let hash = siege.torrent.info_hash.to_string();
    let status = eventually("libtorrent is served", BACK, || {
        let status = leecher.call("status", json!({ "hash": hash }))?;
        Ok((status["have_bytes"].as_u64() > Some(0)).then_some(status))
    })?;
    ensure!(status["failed_bytes"] == 0, "libtorrent: {status}");
    drop(master);
    siege.slave.stop()
}
