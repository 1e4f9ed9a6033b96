//! What several of these tests need: a tracker that remembers, the command line as a person sees it, counters by label.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bt_wire::bencode::Item;
use tests::clients::{Btslave, PEER_PORT, folder};
use tests::content::Torrent;
use tests::raw::{Abilities, RawPeer, Script};
use tests::wait::eventually;

/// A request that a [`Tracker`] answered.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub query: BTreeMap<String, String>,
}

impl Asked {
    /// A number of the query.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.query.get(key)?.parse().ok()
    }
}

/// An HTTP tracker that gives the same answer to each announce and writes down what it was asked.
#[derive(Debug)]
pub struct Tracker {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Tracker {
    /// Listens at `ip`; `announce` is the body of its answers.
    pub fn start(ip: Ipv4Addr, announce: Item) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((ip, 6969))?;
        let address = listener.local_addr()?;
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, announce) = (Arc::clone(&asked), announce.encode());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One that hangs up early was not answered, and what it asked does not count.
                let _ = answer(stream, &announce, &log);
            }
        });
        Ok(Self { address, asked })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All announces so far.
    pub fn announces(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .iter()
            .filter(|asked| asked.path == "/announce")
            .cloned()
            .collect()
    }

    /// Waits for an announce with this event.
    pub fn wait_event(&self, event: &str, limit: Duration) -> anyhow::Result<Asked> {
        eventually(&format!("announce of {event}"), limit, || {
            let mut all = self.announces().into_iter();
            Ok(all.find(|a| a.query.get("event").is_some_and(|e| e == event)))
        })
    }
}

fn answer(mut stream: TcpStream, announce: &[u8], log: &Mutex<Vec<Asked>>) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1).context("no request line")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let asked = Asked {
        path: path.to_owned(),
        query: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    };
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    let (status, body) = if path == "/announce" {
        ("200 OK", announce)
    } else {
        ("404 Not Found", &b""[..])
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Ok(stream.write_all(&[head.as_bytes(), body].concat())?)
}

/// The peers that a listener has taken so far.
pub type Taken = Arc<Mutex<Vec<RawPeer>>>;

/// Takes each connection that comes to `ip`, for a minute after the last, with a script for each.
pub fn serve(
    ip: Ipv4Addr,
    torrent: &Torrent,
    script: fn(&Torrent) -> Script,
) -> anyhow::Result<(SocketAddr, Taken)> {
    let listener = TcpListener::bind((ip, PEER_PORT))?;
    let at = listener.local_addr()?;
    let peers = Taken::default();
    let (kept, torrent) = (Arc::clone(&peers), torrent.clone());
    thread::spawn(move || {
        let minute = Duration::from_secs(60);
        let mut quiet = Instant::now();
        while quiet.elapsed() < minute {
            // A connection that broke off is no reason to take no more.
            let taken = RawPeer::accept(
                &listener,
                minute,
                &torrent,
                Abilities::ALL,
                script(&torrent),
            );
            if let Ok(peer) = taken {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(peer);
                quiet = Instant::now();
            }
        }
    });
    Ok((at, peers))
}

/// A program of this workspace.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let path = exe.ancestors().nth(2).map(|profile| profile.join(name));
    path.filter(|path| path.is_file())
        .with_context(|| format!("{name} is not built"))
}

/// Runs `slavectl` against the slave at `ip`, without `--json`: what a person sees.
pub fn slavectl(slave: &Btslave, ip: Ipv4Addr, args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program("slavectl")?);
    command
        .arg("--api")
        .arg(format!("http://{}", api(ip)))
        .arg("--token-file")
        .arg(slave.data_dir().join("api.token"))
        .args(args);
    Ok(command.output()?)
}

/// The `rpc` line of a `[[master]]` section.
pub fn rpc(kind: &str, url: &str, login: (&str, &str)) -> anyhow::Result<String> {
    let file = folder("secrets")?.join("password");
    fs::write(&file, login.1)?;
    Ok(format!(
        "rpc = {{ kind = \"{kind}\", url = \"{url}\", user = \"{}\", password_file = \"{}\" }}\n",
        login.0,
        file.display()
    ))
}

/// Where the harness has the slave at `ip` listen for `slavectl`.
pub fn api(ip: Ipv4Addr) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 20_000 + u16::from(ip.octets()[3])).into()
}

/// A counter by name and labels, as `/metrics` prints it; 0 when it is not there.
pub fn counter(slave: &Btslave, name: &str) -> anyhow::Result<f64> {
    let metrics = slave.metrics()?;
    let mut values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix(' ')?.parse().ok()
    });
    Ok(values.next().unwrap_or(0.0))
}

/// Waits until a counter, summed over the labels that `name` leaves open, is at least `least`.
pub fn wait_counter(
    slave: &Btslave,
    name: &str,
    least: f64,
    limit: Duration,
) -> anyhow::Result<()> {
    eventually(&format!("{name} >= {least}"), limit, || {
        let now = if name.contains('{') {
            counter(slave, name)?
        } else {
            slave.metric(name)?.unwrap_or(0.0)
        };
        Ok((now >= least).then_some(()))
    })
}

/// Gives the test network one more address.
pub fn add_address(address: &str) -> anyhow::Result<()> {
    let args = ["address", "add", address, "dev", "lo"];
    let status = Command::new("ip").args(args).status()?;
    ensure!(status.success(), "ip address add {address}: {status}");
    Ok(())
}

/// SplitMix64: moments and choices that a seed repeats.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound.max(1)
    }
}
