//! Seeds that stay, and what lies on the disk of a daemon that is dead.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bt_wire::message::Message;
use friends_proto::ledger::State;
use repeater::friends::Friends;
use repeater::store::Store;
use tests::clients::PEER_PORT;
use tests::content::Torrent;
use tests::raw::{Abilities, RawPeer, Script, source};

/// A seed waits so long for the next connection before it looks again.
const WAIT: Duration = Duration::from_secs(600);

/// Starts a seed at `ip`, which stays until the test ends. One that does not `give` has all there is, and chokes everybody.
pub fn open(ip: Ipv4Addr, torrent: &Torrent, give: bool) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((ip, PEER_PORT))?;
    let at = listener.local_addr()?;
    let torrent = torrent.clone();
    thread::spawn(move || {
        let mut kept: Vec<RawPeer> = Vec::new();
        loop {
            let script = if give {
                source(&torrent)
            } else {
                miser(&torrent)
            };
            let taken = RawPeer::accept(&listener, WAIT, &torrent, Abilities::ALL, script);
            // One that was killed in its handshake is no reason to stop.
            kept.extend(taken);
            kept.retain(|peer| !peer.is_closed());
        }
    });
    Ok(at)
}

fn miser(torrent: &Torrent) -> Script {
    let pieces = torrent.pieces();
    let mut bits = vec![0xff; pieces.div_ceil(8)];
    if let Some(last) = bits.last_mut() {
        *last <<= (8 - pieces % 8) % 8;
    }
    Box::new(move |sender, message| {
        if message.is_none() {
            sender.send(&Message::Bitfield(bits.clone().into()));
        }
    })
}

/// What is signed between a slave and its friend, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// The friend signed for it.
    pub given: u64,
    /// It signed for the friend.
    pub received: u64,
}

impl Sums {
    /// The larger of each.
    pub fn join(self, other: Self) -> Self {
        Self {
            given: self.given.max(other.given),
            received: self.received.max(other.received),
        }
    }

    /// Neither is less than in `other`.
    pub fn covers(self, other: Self) -> bool {
        self.join(other) == self
    }
}

/// What a dead daemon's directory holds, as its next start will find it.
#[derive(Debug)]
pub struct Found {
    pub sums: Sums,
    /// What opening said.
    pub notes: Vec<String>,
    pub restored: bool,
}

/// Opens a copy of `data`, so that the daemon itself finds everything as it left it.
pub fn look(data: &Path) -> anyhow::Result<Found> {
    let copy = tempfile::tempdir_in(tests::runner::scratch())?;
    copy_ledger(data, copy.path())?;
    let (store, report) = Store::open(copy.path())?;
    let (friends, notes) = Friends::open(store)?;
    let list = friends.list();
    ensure!(list.len() <= 1, "one friend was added, not {list:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (key, _) = list.first().context("the friend is gone")?;
    let standing = friends.standing(key, now)?.context("no account")?;
    for checked in friends.check()? {
        ensure!(checked.account.is_ok(), "{checked:?}");
    }
    Ok(Found {
        sums: Sums {
            given: standing.given,
            received: standing.received,
        },
        notes: report
            .notes
            .iter()
            .chain(&notes)
            .map(ToString::to_string)
            .collect(),
        restored: standing.state == State::Restored,
    })
}

/// Everything but the cache.
fn copy_ledger(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_ledger(&entry.path(), &target)?;
        } else if entry.file_name() != "cache.bin" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
