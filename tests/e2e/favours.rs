//! Friends that help each other's masters, killed with SIGKILL at seeded random moments: in the middle of an exchange,
//! right at a signature, while they start. What `spec/iou.md` promises holds each time: what is owed never falls, every
//! IOU that left is there after, nothing left that was not durable, and both sides agree again after one sync.
//!
//! 50 kills unless `BTSLAVE_KILLS` says otherwise; `BTSLAVE_SEED` repeats a run (`cargo xtask torture --friends`).

mod pair;
mod shelf;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::ensure;
use tests::content::{Kind, Torrent};
use tests::runner::{Test, address};

use crate::kill::{kills, seed};
use crate::support::Random;
use pair::{Pair, Seeds, Tally};

/// Pairs of friends at once: each waits ten seconds before it may ask for help.
const PAIRS: u8 = 12;
/// The same where very many kills are wanted.
const MANY_PAIRS: u8 = 24;
/// Over so many, very many are wanted.
const MANY: u64 = 200;
/// Then others take their places: a debtor that dies leaves a second of help unsigned, and one that has left a window so is
/// refused more.
const EACH: u64 = 16;
const SIZE: usize = 32 << 20;
const PIECE: u32 = 64 << 10;

pub const TESTS: &[Test] = &[Test {
    name: "favours::sigkill_at_random_moments_loses_no_iou",
    needs: &[],
    seconds: 400,
    run: sigkill_at_random_moments_loses_no_iou,
}];

fn sigkill_at_random_moments_loses_no_iou() -> anyhow::Result<()> {
    let (kills, seed) = (kills(), seed());
    println!("{kills} kills, seed {seed} (BTSLAVE_SEED repeats it)");
    let torrents = [
        Torrent::new("favour-a.bin", SIZE, PIECE, Kind::default())?,
        Torrent::new("favour-b.bin", SIZE, PIECE, Kind::default())?,
    ];
    let seed_of = |n: usize, give: bool| {
        let ip = address(2 + 2 * u8::from(give) + u8::from(n == 1));
        shelf::open(ip, &torrents[n], give)
    };
    let seeds = Seeds {
        giving: [seed_of(0, true)?, seed_of(1, true)?],
        choking: [seed_of(0, false)?, seed_of(1, false)?],
    };
    let pairs = if kills > MANY { MANY_PAIRS } else { PAIRS };
    let share = |pair: u8| {
        let (each, rest) = (kills / u64::from(pairs), kills % u64::from(pairs));
        each + u64::from(u64::from(pair) < rest)
    };
    let stop = AtomicBool::new(false);
    let outcomes: Vec<(Tally, Option<anyhow::Error>)> = thread::scope(|scope| {
        let running: Vec<_> = (0..pairs)
            .map(|n| {
                let (torrents, seeds, stop) = (&torrents, &seeds, &stop);
                let random = Random(seed.wrapping_add(u64::from(n) << 32));
                scope.spawn(move || place(n, torrents, seeds, random, share(n), stop))
            })
            .collect();
        let ended = running.into_iter().map(|pair| {
            let panicked = |_| (Tally::default(), Some(anyhow::anyhow!("a pair panicked")));
            pair.join().unwrap_or_else(panicked)
        });
        ended.collect()
    });
    let (mut all, mut failed) = (Tally::default(), Vec::new());
    for (n, (tally, error)) in outcomes.into_iter().enumerate() {
        all.add(&tally);
        failed.extend(error.map(|e| format!("pair {n}: {e:#}")));
    }
    println!("{all:?}");
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(all.kills == kills, "{} kills of {kills}", all.kills);
    // Else nothing was at stake.
    ensure!(
        all.exchanging * 2 > all.kills && all.signed_bytes > 0,
        "too few kills in an exchange"
    );
    Ok(())
}

/// Pair after pair in one place, until it had its share of kills, or another failed.
fn place(
    n: u8,
    torrents: &[Torrent; 2],
    seeds: &Seeds,
    mut random: Random,
    kills: u64,
    stop: &AtomicBool,
) -> (Tally, Option<anyhow::Error>) {
    let mut tally = Tally::default();
    while tally.kills < kills && !stop.load(Ordering::Relaxed) {
        let share = EACH.min(kills - tally.kills);
        let own = Random(random.below(u64::MAX));
        let suffered = Pair::start(n, torrents, seeds, own).and_then(|mut pair| {
            let suffered = pair.suffer(share, stop);
            tally.add(&pair.tally);
            suffered
        });
        if let Err(e) = suffered {
            stop.store(true, Ordering::Relaxed);
            return (tally, Some(e));
        }
    }
    (tally, None)
}
