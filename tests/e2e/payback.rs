//! The roles turned round, with real daemons: who helped yesterday is helped first today, before a friend that never gave.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::clients::{Btslave, Client, Libtorrent, PEER_PORT, Program, Role, folder};
use tests::content::{Kind, Torrent};
use tests::runner::{Test, address};
use tests::wait::eventually;

const MIB: usize = 1 << 20;
const PIECE: u32 = 256 << 10;
/// Everybody's upload: two that are helped at once want more than there is.
const LINE: &str = "1 MiB/s";
/// What the swarm gives by itself, bytes/s: so little that a master is short.
const TRICKLE: i64 = 16 << 10;
/// What the favour of the first day is worth at least, and that of the second, bytes. `friends.window` is 4 MiB: by so much a
/// friend may be ahead that asks in the same moment.
const FAVOUR: u64 = 8 << 20;
const RETURN: u64 = 16 << 20;
const LIMIT: Duration = Duration::from_secs(150);

const SLOW: u8 = 2;
const FAST: u8 = 3;

pub const TESTS: &[Test] = &[Test {
    name: "payback::who_helped_is_helped_first",
    needs: &[Program::Libtorrent],
    seconds: 240,
    run: who_helped_is_helped_first,
}];

/// A slave, and its master that nobody else knows.
struct House {
    slave: Btslave,
    master: Libtorrent,
}

impl House {
    /// At this address and the next.
    fn new(at: u8) -> anyhow::Result<Self> {
        let sections = format!(
            "[limits]\nupload = \"{LINE}\"\n\n[[master]]\nname = \"home\"\naddress = \"{}:{PEER_PORT}\"\n",
            address(at + 1)
        );
        Ok(Self {
            slave: Btslave::start(address(at), &sections, &[])?,
            master: Libtorrent::start(address(at + 1), &serde_json::json!({}))?,
        })
    }

    /// Its master wants this; its slave knows of `source`.
    fn wants(&mut self, torrent: &Torrent, source: &Libtorrent) -> anyhow::Result<()> {
        self.master.add(torrent, &folder("target")?, Role::Leech)?;
        self.slave.add_peer(torrent, source.address())
    }

    /// Both add each other's code.
    fn befriend(&self, name: &str, other: &Self, theirs: &str) -> anyhow::Result<()> {
        let code =
            |slave: &Btslave| anyhow::Ok(format!("{}@{}", slave.friend_code()?, slave.address()));
        let (ours, other_code) = (code(&self.slave)?, code(&other.slave)?);
        self.slave
            .ctl(&["friends", "add", &other_code, "--name", theirs])?;
        other
            .slave
            .ctl(&["friends", "add", &ours, "--name", name])?;
        eventually("a session stands", LIMIT, || {
            Ok((self.friend(theirs)?["state"] == "synced").then_some(()))
        })
    }

    /// Its row of `slavectl friends` about this one.
    fn friend(&self, name: &str) -> anyhow::Result<Value> {
        let rows = self.slave.ctl(&["friends"])?;
        let mut rows = rows.as_array().into_iter().flatten();
        let row = rows.find(|row| row["name"] == name);
        row.cloned().context("no such friend")
    }

    fn bytes(&self, name: &str, field: &str) -> anyhow::Result<u64> {
        self.friend(name)?[field].as_u64().context("no such field")
    }
}

fn who_helped_is_helped_first() -> anyhow::Result<()> {
    let first = Torrent::new("yesterday.bin", 16 * MIB, PIECE, Kind::default())?;
    let second = Torrent::new("today.bin", 64 * MIB, PIECE, Kind::default())?;
    let mut slow = Libtorrent::seed(address(SLOW), &first)?;
    let mut fast = Libtorrent::seed(address(FAST), &first)?;
    let source = folder("seed")?;
    second.write_into(&source)?;
    for seed in [&mut slow, &mut fast] {
        seed.add(&second, &source, Role::Seed)?;
    }
    for torrent in [&first, &second] {
        slow.limit(torrent, TRICKLE, -1)?;
    }
    let (mut ann, mut bob, mut cat) = (House::new(4)?, House::new(6)?, House::new(8)?);
    // In an order of no meaning, who was known first comes first.
    ann.befriend("Ann", &cat, "Cat")?;
    ann.befriend("Ann", &bob, "Bob")?;

    bob.slave.add_peer(&first, fast.address())?;
    ann.wants(&first, &slow)?;
    eventually("Bob helped Ann, and all is signed", LIMIT, || {
        let (ours, theirs) = (
            ann.bytes("Bob", "owed_by_us_bytes")?,
            bob.bytes("Ann", "owed_to_us_bytes")?,
        );
        let done = ann.master.status(&first)?.done;
        Ok((done && ours == theirs && ours >= FAVOUR).then_some(()))
    })?;

    ann.slave.add_peer(&second, fast.address())?;
    // Who comes first is no better off.
    cat.wants(&second, &slow)?;
    bob.wants(&second, &slow)?;
    let (returned, lent) = eventually("Ann helped in return", LIMIT, || {
        let returned = ann.bytes("Bob", "given_month_bytes")?;
        let lent = ann.bytes("Cat", "given_month_bytes")?;
        Ok((returned >= RETURN).then_some((returned, lent)))
    })?;
    println!("Ann gave {returned} bytes to Bob and {lent} to Cat meanwhile");
    ensure!(
        returned > 2 * lent,
        "Bob, who helped, had {returned} bytes, and Cat {lent}"
    );
    for mut house in [ann, bob, cat] {
        house.slave.stop()?;
        house.master.stop()?;
    }
    slow.stop()?;
    fast.stop()
}
