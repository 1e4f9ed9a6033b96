//! Two slaves, each the helper of the other's master; and what is demanded of them after each kill.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tests::clients::{Btslave, Client, PEER_PORT};
use tests::content::Torrent;
use tests::raw::{Abilities, RawPeer};
use tests::runner::address;
use tests::wait::eventually;

use super::shelf::{Sums, look};
use crate::support::Random;
use crate::taker::{Account, taker};

/// A start, a session, the end of a process: within this, on a loaded machine too.
const SOON: Duration = Duration::from_secs(120);
/// A master is connected for ten seconds before help is asked for; who was refused waits for thirty.
const ASKED: Duration = Duration::from_secs(90);
/// `friends.window`: a debtor that dies leaves at most so much unsigned.
const WINDOW: u64 = 4 << 20;
/// A master that has so many parts of ten comes again with nothing.
const ENOUGH: usize = 7;

/// What happened, for the last line.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub kills: u64,
    /// Of them, while IOUs were being exchanged.
    pub exchanging: u64,
    /// Of them, within milliseconds of a write to the ledger.
    pub at_a_write: u64,
    /// Of them, before the daemon answered or synced.
    pub starting: u64,
    /// Found durable, and not with the friend yet.
    pub signed_not_sent: u64,
    /// Repairs that an opening spoke of.
    pub notes: u64,
    /// Openings that would sign nothing before a sync.
    pub refusing: u64,
    pub signed_bytes: u64,
    pub disputed_bytes: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.exchanging += other.exchanging;
        self.at_a_write += other.at_a_write;
        self.starting += other.starting;
        self.signed_not_sent += other.signed_not_sent;
        self.notes += other.notes;
        self.refusing += other.refusing;
        self.signed_bytes += other.signed_bytes;
        self.disputed_bytes += other.disputed_bytes;
    }
}

/// One slave, its master, and the least that its ledger may ever say again.
struct Side {
    slave: Btslave,
    master_at: u8,
    wants: Torrent,
    master: Option<RawPeer>,
    account: Account,
    floor: Sums,
}

/// A friend as the API shows it.
#[derive(Debug, Clone)]
struct Row {
    online: bool,
    synced: bool,
    sums: Sums,
    disputed: u64,
}

impl Side {
    fn row(&self) -> anyhow::Result<Row> {
        let rows = self.slave.get("/api/v1/friends")?;
        let row = rows.get(0).context("no friend on the list")?;
        let number = |key: &str| {
            row[key]
                .as_u64()
                .with_context(|| format!("no {key}: {row}"))
        };
        Ok(Row {
            online: row["online"] == true,
            synced: row["state"] == "synced",
            sums: Sums {
                given: number("owed_to_us_bytes")?,
                received: number("owed_by_us_bytes")?,
            },
            disputed: number("disputed_bytes")?,
        })
    }

    /// What is on its disk, by its own word.
    fn ledger(&self) -> anyhow::Result<Sums> {
        let ledger = self.slave.get("/api/v1/friends/ledger")?;
        let total = |direction: &str| -> anyhow::Result<u64> {
            let digits = ledger[0][direction]["total"].as_str();
            Ok(digits.unwrap_or("0").parse()?)
        };
        Ok(Sums {
            given: total("given")?,
            received: total("received")?,
        })
    }

    /// Its master comes, or comes again with nothing.
    fn bring_master(&mut self) -> anyhow::Result<()> {
        self.master = None;
        self.account = Account::default();
        let (to, from) = (self.slave.address(), address(self.master_at));
        let master = eventually("the master gets in", SOON, || {
            let script = taker(&self.wants, Abilities::ALL, true, &self.account);
            let got = RawPeer::connect(from, to, &self.wants, Abilities::ALL, script);
            // A daemon that is still starting refuses.
            Ok(got.ok())
        })?;
        self.master = Some(master);
        Ok(())
    }

    /// Defences against a friend that plays false: these two are honest.
    fn suspects_nothing(&self) -> anyhow::Result<()> {
        let metrics = self.slave.metrics()?;
        for defence in [
            "Contradiction",
            "Adopted",
            "ForgedIou",
            "MalformedIou",
            "OthersIou",
            "StaleIou",
        ] {
            let name = format!("btslave_friend_defence_total{{defence=\"{defence}\"}} ");
            let fired = metrics.lines().find(|line| line.starts_with(&name));
            ensure!(fired.is_none_or(|line| line.ends_with(" 0")), "{fired:?}");
        }
        Ok(())
    }
}

/// Of each of the two torrents, by the number of the side whose master wants it.
pub struct Seeds {
    pub giving: [SocketAddr; 2],
    pub choking: [SocketAddr; 2],
}

pub struct Pair {
    sides: [Side; 2],
    random: Random,
    pub tally: Tally,
}

impl Pair {
    /// Pair number `n`: made friends, joined, and in a session.
    pub fn start(
        n: u8,
        torrents: &[Torrent; 2],
        seeds: &Seeds,
        random: Random,
    ) -> anyhow::Result<Self> {
        let base = 10 + 4 * n;
        for side in 0..2 {
            // Those of an earlier pair.
            let home = tests::runner::scratch().join(format!("btslave-{}", address(base + side)));
            if home.exists() {
                std::fs::remove_dir_all(home)?;
            }
        }
        let start = |side: u8, wants: &Torrent| {
            let master_at = base + 2 + side;
            let config = format!(
                "[cache]\nsize = \"8 MiB\"\nmemory = \"8 MiB\"\nmin_free = \"0 B\"\n\n[limits]\nupload = \"256 KiB/s\"\n\n\
                 [repeater]\nenabled = false\n\n[[master]]\nname = \"home\"\naddress = \"{}:{PEER_PORT}\"",
                address(master_at)
            );
            let args = ["--set", "discovery.pex=false", "--set", "log.filter=info"];
            anyhow::Ok(Side {
                slave: Btslave::start(address(base + side), &config, &args)?,
                master_at,
                wants: wants.clone(),
                master: None,
                account: Account::default(),
                floor: Sums::default(),
            })
        };
        let mut sides = [start(0, &torrents[0])?, start(1, &torrents[1])?];
        let addresses = [sides[0].slave.address(), sides[1].slave.address()];
        for me in [0, 1] {
            let other = 1 - me;
            let code = sides[other].slave.get("/api/v1/friends/code")?;
            let code = code["code"].as_str().context("no code")?;
            let bare = code.split('@').next().unwrap_or(code);
            let hinted = format!("{bare}@{}", addresses[other]);
            sides[me]
                .slave
                .ctl(&["friends", "add", &hinted, "--name", "friend"])?;
            // What its own master wants is had of the friend alone: the seed that it knows chokes it.
            for (torrent, peer) in [(me, seeds.choking[me]), (other, seeds.giving[other])] {
                let path = torrents[torrent].path.display().to_string();
                let peers = [peer, addresses[other]].map(|peer| peer.to_string());
                sides[me].slave.ctl(&[
                    "swarms", "add", &path, "--pin", "--peer", &peers[0], "--peer", &peers[1],
                ])?;
            }
        }
        for side in &mut sides {
            side.bring_master()?;
        }
        let tally = Tally::default();
        let mut pair = Self {
            sides,
            random,
            tally,
        };
        pair.agree()?;
        Ok(pair)
    }

    /// So many kills, and after each what must hold.
    pub fn suffer(&mut self, kills: u64, stop: &AtomicBool) -> anyhow::Result<()> {
        while self.tally.kills < kills && !stop.load(Ordering::Relaxed) && !self.is_worn()? {
            let n = self.tally.kills + 1;
            self.round(kills)
                .with_context(|| format!("kill {n} of {kills}"))?;
        }
        for side in &self.sides {
            let check = side.slave.get("/api/v1/friends/verify")?;
            ensure!(check["ok"] == true, "{check}");
            self.tally.signed_bytes += side.row()?.sums.received;
            self.tally.disputed_bytes += side.row()?.disputed;
        }
        ensure!(
            self.tally.disputed_bytes <= self.tally.kills.max(1) * WINDOW,
            "over a window for each kill is disputed"
        );
        for side in &mut self.sides {
            side.slave.stop()?;
        }
        Ok(())
    }

    /// So much was left unsigned by the dead that one of them is soon refused more help.
    fn is_worn(&self) -> anyhow::Result<bool> {
        for side in &self.sides {
            if side.row()?.disputed * 2 > WINDOW {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn round(&mut self, kills: u64) -> anyhow::Result<()> {
        let victim = usize::from(self.random.below(2) == 1);
        self.wait_for_the_moment(victim)?;
        self.kill(victim)?;
        self.sides[victim].slave.launch()?;
        // It may die again before it is up.
        while self.tally.kills < kills && self.random.below(4) == 0 {
            thread::sleep(Duration::from_millis(self.random.below(1500)));
            self.tally.starting += 1;
            self.kill(victim)?;
            self.sides[victim].slave.launch()?;
        }
        self.sides[victim].slave.wait_ready(SOON)?;
        self.sides[victim].bring_master()?;
        self.agree()
    }

    /// Until IOUs go to and fro, and on to a random moment then; or to any moment at all.
    fn wait_for_the_moment(&mut self, victim: usize) -> anyhow::Result<()> {
        let any = self.random.below(5) == 0;
        if any {
            let moment = Instant::now() + Duration::from_millis(self.random.below(14_000));
            while Instant::now() < moment {
                self.look_on()?;
                thread::sleep(Duration::from_millis(100));
            }
            return Ok(());
        }
        let before = [self.sides[0].row()?.sums, self.sides[1].row()?.sums];
        eventually("an exchange of IOUs", ASKED, || {
            self.look_on()?;
            let moved = |n: usize| Ok::<_, anyhow::Error>(self.sides[n].row()?.sums != before[n]);
            Ok((moved(0)? && moved(1)?).then_some(()))
        })
        .with_context(|| self.stands(before))?;
        self.tally.exchanging += 1;
        if self.random.below(2) == 0 {
            thread::sleep(Duration::from_millis(self.random.below(2_000)));
            return Ok(());
        }
        self.tally.at_a_write += 1;
        let journal = self.sides[victim].slave.data_dir().join("settings.journal");
        let length = || Ok::<_, anyhow::Error>(std::fs::metadata(&journal)?.len());
        let (was, end) = (length()?, Instant::now() + SOON);
        while length()? == was && Instant::now() < end {
            thread::sleep(Duration::from_micros(100));
        }
        thread::sleep(Duration::from_micros(self.random.below(4_000)));
        Ok(())
    }

    /// What a stalled exchange looks like from both sides.
    fn stands(&self, before: [Sums; 2]) -> String {
        let of = |(side, before): (&Side, Sums)| {
            let aid = side.slave.get("/api/v1/aid");
            let aid = aid.map_or_else(|e| e.to_string(), |aid| aid.to_string());
            let (home, row) = (side.slave.address(), side.row());
            format!("{home}: from {before:?} to {row:?}; {aid}")
        };
        let both: Vec<String> = self.sides.iter().zip(before).map(of).collect();
        both.join("\n")
    }

    /// What both show now may never fall again; and a master that has nearly all begins anew.
    fn look_on(&mut self) -> anyhow::Result<()> {
        for side in &mut self.sides {
            side.floor = side.floor.join(side.ledger()?);
            if side.account.lock().complete.len() * 10 > side.wants.pieces() * ENOUGH {
                side.bring_master()?;
            }
        }
        Ok(())
    }

    /// Kills one, and opens what it left before it can mend anything.
    fn kill(&mut self, victim: usize) -> anyhow::Result<()> {
        let other = 1 - victim;
        let process = self.sides[victim].slave.process();
        process.signal(Signal::KILL)?;
        self.tally.kills += 1;
        eventually("the end after SIGKILL", SOON, || process.ended())?;
        self.sides[victim].master = None;
        // Offline is written behind the last message of the session: all that left has arrived.
        let seen = eventually("the friend is missed", SOON, || {
            let row = self.sides[other].row()?;
            Ok((!row.online).then_some(row.sums))
        })?;
        let found = look(&self.sides[victim].slave.data_dir())?;
        let least = self.sides[victim].floor;
        ensure!(
            found.sums.covers(least),
            "the ledger fell from {least:?}: {found:?}"
        );
        ensure!(
            found.sums.received >= seen.given,
            "{} bytes were signed and sent, and are not in the ledger: {found:?}",
            seen.given
        );
        ensure!(
            found.sums.given <= seen.received,
            "it claims more than the friend's {seen:?} ever signed: {found:?}"
        );
        self.tally.signed_not_sent += u64::from(found.sums.received > seen.given);
        self.tally.notes += found.notes.len() as u64;
        self.tally.refusing += u64::from(found.restored);
        self.sides[victim].floor = least.join(found.sums);
        self.sides[other].suspects_nothing()?;
        Ok(())
    }

    /// A session stands, both have synced, and each holds what either had.
    fn agree(&mut self) -> anyhow::Result<()> {
        for side in &self.sides {
            eventually("a session that is synced", SOON, || {
                let row = side.row()?;
                Ok((row.online && row.synced).then_some(()))
            })?;
        }
        // The most that either ever showed or was found to hold, of each direction.
        let [one, two] = [self.sides[0].floor, self.sides[1].floor];
        let owed = |given: u64, received: u64| given.max(received);
        let floors = [
            Sums {
                given: owed(one.given, two.received),
                received: owed(one.received, two.given),
            },
            Sums {
                given: owed(two.given, one.received),
                received: owed(two.received, one.given),
            },
        ];
        for (side, floor) in self.sides.iter_mut().zip(floors) {
            eventually("both hold what either had", SOON, || {
                let sums = side.ledger()?;
                Ok(sums.covers(floor).then_some(()))
            })
            .with_context(|| format!("it may not say less than {floor:?}: {:?}", side.row()))?;
            side.floor = side.floor.join(floor);
            side.suspects_nothing()?;
        }
        Ok(())
    }
}
