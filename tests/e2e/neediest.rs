//! A feed offers three swarms; the starving one is joined first and gets nearly all that is given, whatever the order
//! in which the feed and the scrapes tell of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::clients::{Btslave, Client, Libtorrent, OpenTracker, Program, folder};
use tests::content::{Kind, Torrent};
use tests::runner::{Test, address};
use tests::wait::eventually;

const KIB: i64 = 1 << 10;
const LIMIT: Duration = Duration::from_secs(120);
/// A peer that its tracker does not count by then announces again.
const AGAIN: Duration = Duration::from_secs(8);
/// Every torrent's size and piece length, bytes.
const SIZE: usize = 4 << 20;
const PIECE: u32 = 64 << 10;
/// The peers of all swarms: each has a part in every one.
const NODES: u8 = 9;
/// Of all bytes uploaded, the least part that has to go to the starving swarm.
const SHARE: f64 = 0.8;
/// Bytes that have to be given at all, for a share to mean something.
const LEAST: u64 = 512 << 10;
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

pub const TESTS: &[Test] = &[Test {
    name: "neediest::a_feeds_starving_swarm_is_joined_first_and_gets_the_upload",
    needs: &[Program::Libtorrent, Program::OpenTracker],
    seconds: 200,
    run: the_starving_swarm_comes_first,
}];

/// What a swarm is made of, and how fast its peers are, in bytes per second.
struct Shape {
    name: &'static str,
    seeds: u8,
    leechers: u8,
    seed_up: i64,
    leecher_up: i64,
    leecher_down: i64,
}

/// One slow seed: eight leechers wait for it. Then one that does well, and one where all have what they can take.
/// By itself, the starving swarm takes about 45 s, and the others well over a minute: they go on wanting all the time.
const SHAPES: [Shape; 3] = [
    Shape {
        name: "starving",
        seeds: 1,
        leechers: 8,
        seed_up: 192 * KIB,
        leecher_up: 64 * KIB,
        leecher_down: -1,
    },
    Shape {
        name: "balanced",
        seeds: 4,
        leechers: 4,
        seed_up: 32 * KIB,
        leecher_up: 16 * KIB,
        leecher_down: -1,
    },
    Shape {
        name: "over-seeded",
        seeds: 8,
        leechers: 1,
        seed_up: 16 * KIB,
        leecher_up: 16 * KIB,
        leecher_down: 32 * KIB,
    },
];
const STARVING: usize = 0;

/// One swarm of one run.
struct Swarm {
    shape: &'static Shape,
    torrent: Torrent,
    tracker: OpenTracker,
    /// Who of the nodes leeches
    leechers: Vec<usize>,
}

type Nodes = [Mutex<Libtorrent>];

/// How a run is told of its swarms.
#[derive(Debug, Clone, Copy)]
struct Plan {
    number: u8,
    feed: [usize; 3],
    scrapes: [usize; 3],
    rss: bool,
    inverted: bool,
}

/// What came of a run.
#[derive(Debug)]
struct Outcome {
    /// The swarms that were joined when any was for the first time
    first: BTreeSet<&'static str>,
    /// Bytes given to each, until the starving swarm's last leecher was complete
    given: [u64; 3],
}

impl Outcome {
    /// The test of the test: the same for all runs.
    fn judge(&self) -> anyhow::Result<()> {
        ensure!(
            self.first == BTreeSet::from(["starving"]),
            "joined first: {self:?}"
        );
        let total: u64 = self.given.iter().sum();
        ensure!(total >= LEAST, "hardly anything given: {self:?}");
        ensure!(
            self.given[STARVING] as f64 > SHARE * total as f64,
            "share: {self:?}"
        );
        Ok(())
    }
}

fn the_starving_swarm_comes_first() -> anyhow::Result<()> {
    let nodes = (0..NODES)
        .map(|n| Libtorrent::start(address(10 + n), &json!({ "unchoke_slots_limit": -1 })));
    let nodes = nodes
        .map(|node| node.map(Mutex::new))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut plans: Vec<Plan> = (0..6)
        .map(|n| Plan {
            number: n,
            feed: ORDERS[usize::from(n)],
            scrapes: ORDERS[usize::from(n) * 5 % 6],
            rss: n == 5,
            inverted: false,
        })
        .collect();
    plans.push(Plan {
        number: 6,
        inverted: true,
        rss: false,
        ..plans[0]
    });
    let outcomes = thread::scope(|scope| {
        let nodes = &nodes;
        let begin = |plan: &Plan| {
            let plan = *plan;
            scope.spawn(move || run(plan, nodes).with_context(|| format!("{plan:?}")))
        };
        let threads: Vec<_> = plans.iter().map(begin).collect();
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a run panicked"))?);
        ended.collect::<Vec<anyhow::Result<Outcome>>>()
    });
    for outcome in &outcomes {
        match outcome {
            Ok(outcome) => println!("{outcome:?}"),
            Err(why) => println!("{why:#}"),
        }
    }
    for (plan, outcome) in plans.iter().zip(outcomes) {
        let outcome = outcome?;
        match (outcome.judge(), plan.inverted) {
            (Ok(()), false) => {}
            (Err(why), true) => ensure!(
                outcome.given[STARVING] == 0,
                "inverted, it failed otherwise: {why:#}"
            ),
            (Err(why), false) => return Err(why.context(format!("{plan:?}"))),
            (Ok(()), true) => bail!("the ranking is upside down, and nobody notices: {outcome:?}"),
        }
    }
    nodes.iter().try_for_each(|node| lock(node).stop())
}

fn lock(node: &Mutex<Libtorrent>) -> MutexGuard<'_, Libtorrent> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(plan: Plan, nodes: &Nodes) -> anyhow::Result<Outcome> {
    let mut swarms = SHAPES
        .iter()
        .zip(0..)
        .map(|(shape, n)| found(plan, shape, n, nodes))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let feed = offer(plan, &swarms)?;
    // Nobody is counted until the trackers may speak, one after another.
    for swarm in &mut swarms {
        swarm.tracker.process().signal(Signal::STOP)?;
    }
    let sections = format!(
        "[limits]\nupload = \"4 MiB/s\"\n\n[cache]\nsize = \"4 MiB\"\nmemory = \"4 MiB\"\nmin_free = \"1 MiB\"\n\n\
         [repeater]\nmax_swarms = 1\n\n[[feed]]\nurl = \"{feed}\"\nevery = \"1h\"\n"
    );
    let args: &[&str] = if plan.inverted {
        &["--test-invert-need"]
    } else {
        &[]
    };
    let mut slave = Btslave::start(address(100 + plan.number), &sections, args)?;
    eventually("the feed is read", LIMIT, || {
        Ok((rows(&slave)?.len() == 3).then_some(()))
    })?;
    for which in plan.scrapes {
        let swarm = &mut swarms[which];
        ensure!(joined(&slave)?.is_empty(), "joined before all were counted");
        swarm.tracker.process().signal(Signal::CONT)?;
        let hash = swarm.torrent.info_hash.to_string();
        eventually("it is counted", LIMIT, || {
            Ok(slave.ctl(&["swarms", "show", &hash])?["seeds"].as_u64())
        })?;
    }
    let first = eventually("a swarm is joined", LIMIT, || {
        Ok(Some(joined(&slave)?).filter(|joined| !joined.is_empty()))
    })?;
    if !plan.inverted {
        explained(&slave, &swarms, &feed)?;
    }
    eventually("the last leecher is complete", LIMIT, || {
        let swarm = &swarms[STARVING];
        let mut all = true;
        for node in &swarm.leechers {
            all = all && lock(&nodes[*node]).status(&swarm.torrent)?.done;
        }
        Ok(all.then_some(()))
    })?;
    let rows = rows(&slave)?;
    let given = SHAPES.each_ref().map(|shape| {
        let row = rows.iter().find(|row| is(row, shape));
        row.and_then(|row| row["uploaded_bytes"].as_u64())
            .unwrap_or(0)
    });
    slave.stop()?;
    Ok(Outcome { first, given })
}

fn rows(slave: &Btslave) -> anyhow::Result<Vec<Value>> {
    slave
        .ctl(&["swarms"])?
        .as_array()
        .cloned()
        .context("no list of swarms")
}

fn is(row: &Value, shape: &Shape) -> bool {
    row["name"]
        .as_str()
        .is_some_and(|name| name.starts_with(shape.name))
}

/// The swarms that the slave is in.
fn joined(slave: &Btslave) -> anyhow::Result<BTreeSet<&'static str>> {
    let rows = rows(slave)?;
    let joined = SHAPES.iter().filter(|shape| {
        rows.iter()
            .any(|row| is(row, shape) && row["state"] == "joined")
    });
    Ok(joined.map(|shape| shape.name).collect())
}

/// `swarms why` names the feed, and every term of the score.
fn explained(slave: &Btslave, swarms: &[Swarm], feed: &str) -> anyhow::Result<()> {
    let mut ranks = BTreeSet::new();
    for swarm in swarms {
        let why = slave.ctl(&["swarms", "why", &swarm.torrent.info_hash.to_string()])?;
        ensure!(why["origins"] == json!([format!("feed {feed}")]), "{why}");
        let (need, rank) = (
            why["need"].as_f64().context("no need")?,
            why["rank"].as_u64().context("no rank")?,
        );
        ensure!(
            why["of"] == 3 && ranks.insert(rank) && (rank == 1) == (swarm.shape.name == "starving"),
            "{why}"
        );
        let terms = why["terms"].as_array().context("no terms")?;
        let product: f64 = terms
            .iter()
            .filter_map(|term| term["weight"].as_f64())
            .product();
        ensure!(
            terms.len() >= 4 && (product - need).abs() <= 1e-6 * need,
            "{why}"
        );
        let value = |of: &str| {
            let term = terms.iter().find(|term| {
                term["term"]
                    .as_str()
                    .is_some_and(|term| term.starts_with(of))
            });
            term.and_then(|term| term["value"].as_f64())
        };
        // Once we are in it, we subtract ourselves.
        let leechers = f64::from(swarm.shape.leechers);
        ensure!(
            value("downloaders").is_some_and(|n| n == leechers || n == leechers - 1.0),
            "{why}"
        );
        ensure!(
            value("seeds") == Some(f64::from(swarm.shape.seeds)),
            "{why}"
        );
    }
    Ok(())
}

/// Makes one swarm: its tracker, and nodes as seeds and leechers that it counts.
fn found(plan: Plan, shape: &'static Shape, n: u8, nodes: &Nodes) -> anyhow::Result<Swarm> {
    let mut tracker = OpenTracker::start(Ipv4Addr::new(198, 18, 1 + plan.number, 1 + n))?;
    let name = format!("{}-{}.bin", shape.name, plan.number);
    let torrent = Torrent::new(
        &name,
        SIZE,
        PIECE,
        Kind {
            private: false,
            tracker: Some(tracker.address()),
        },
    )?;
    tracker.allow(torrent.info_hash)?;
    let source = folder("seeds")?;
    torrent.write_into(&source)?;
    let leechers: Vec<usize> = (usize::from(shape.seeds)..)
        .take(shape.leechers.into())
        .collect();
    let all = usize::from(shape.seeds + shape.leechers);
    for (number, node) in nodes.iter().enumerate().take(all) {
        let leeches = leechers.contains(&number);
        let target = folder(&format!("node-{number}"))?;
        let (place, up, down) = if leeches {
            (&target, shape.leecher_up, shape.leecher_down)
        } else {
            (&source, shape.seed_up, -1)
        };
        let add = json!({ "torrent": torrent.path, "folder": place, "seed": !leeches, "up": up, "down": down });
        lock(node).call("add", add)?;
    }
    wait_counted(shape, &torrent, &tracker, &nodes[..all])?;
    Ok(Swarm {
        shape,
        torrent,
        tracker,
        leechers,
    })
}

/// The tracker knows everybody. Whose announce it missed announces again.
fn wait_counted(
    shape: &Shape,
    torrent: &Torrent,
    tracker: &OpenTracker,
    nodes: &Nodes,
) -> anyhow::Result<()> {
    let counted = (u64::from(shape.seeds), u64::from(shape.leechers));
    let (mut last, mut asked) = ((0, 0), Instant::now());
    let met = eventually("the tracker counts the swarm", LIMIT, || {
        last = tracker.scrape(torrent.info_hash)?;
        if last != counted && asked.elapsed() > AGAIN {
            asked = Instant::now();
            let hash = torrent.info_hash.to_string();
            for node in nodes {
                lock(node).call("announce", json!({ "hash": hash }))?;
            }
        }
        Ok((last == counted).then_some(()))
    });
    met.with_context(|| format!("{}: it counts {last:?}", torrent.name))
}

/// Puts the torrents into a feed in the plan's order; gives its URL.
fn offer(plan: Plan, swarms: &[Swarm]) -> anyhow::Result<String> {
    let torrents: Vec<&Torrent> = plan
        .feed
        .iter()
        .map(|which| &swarms[*which].torrent)
        .collect();
    if plan.rss {
        return rss((address(200 + plan.number), 8080).into(), &torrents);
    }
    let folder = folder(&format!("feed-{}", plan.number))?;
    for (torrent, place) in torrents.iter().zip(0..) {
        write(&folder, torrent, place)?;
    }
    Ok(folder.display().to_string())
}

/// A folder is read newest first.
fn write(folder: &Path, torrent: &Torrent, place: u64) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.torrent", torrent.name));
    fs::write(&path, &torrent.metainfo)?;
    Ok(File::options()
        .append(true)
        .open(path)?
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - place))?)
}

/// Serves an RSS feed, and the torrents that it names.
fn rss(at: SocketAddr, torrents: &[&Torrent]) -> anyhow::Result<String> {
    let item = |torrent: &&Torrent| {
        format!(
            "<item><title>{0}</title><enclosure type=\"application/x-bittorrent\" length=\"{1}\" url=\"http://{at}/{0}.torrent\"/></item>",
            torrent.name,
            torrent.metainfo.len()
        )
    };
    let items: String = torrents.iter().map(item).collect();
    let feed = format!(
        "<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>t</title>{items}</channel></rss>"
    );
    let mut files = vec![("/feed.xml".to_owned(), feed.into_bytes())];
    files.extend(torrents.iter().map(|torrent| {
        (
            format!("/{}.torrent", torrent.name),
            torrent.metainfo.clone(),
        )
    }));
    let listener = TcpListener::bind(at)?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Who goes away without a question needs no answer; the test notices what was not served.
            let _ = stream
                .map_err(Into::into)
                .and_then(|stream| answer(stream, &files));
        }
    });
    Ok(format!("http://{at}/feed.xml"))
}

fn answer(mut stream: TcpStream, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().context("no request")??;
    while lines.next().context("no end of the head")??.as_str() != "" {}
    let path = request.split(' ').nth(1).context("no path")?;
    let file = files.iter().find(|(name, _)| name == path);
    let (status, body) = file.map_or(("404 Not Found", &[][..]), |(_, body)| {
        ("200 OK", body.as_slice())
    });
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Ok(stream.write_all(&[head.as_bytes(), body].concat())?)
}
