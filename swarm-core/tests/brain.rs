//! The brain against a virtual swarm: what it is for, measured.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::collections::BTreeMap;
use support::{KIB, Kind, MIB, Plan, SWARM, Shape, Sim, limits};

use swarm_core::io::{
    Geometry, Hold, Input, LeaveReason, MasterId, Note, Order, Origin, Output, SwarmFact, SwarmId,
};
use swarm_core::node::Node;
use swarm_core::params::Params;
use swarm_core::time::Timestamp;
use swarm_core::view::MasterState;

fn plan(kind: Kind, up: u64, donthave: bool, dials_at: Option<f64>) -> Plan {
    Plan {
        kind,
        up,
        donthave,
        dials_at,
    }
}

/// Rig E4: a seed with 1 MiB/s, eight leechers with 256 KiB/s each, our line 2 MiB/s, 64 MiB in 256 KiB pieces.
fn e4(seed: u64, donthave: bool, with_us: bool) -> Sim {
    e4_with(seed, donthave, with_us, 16 * MIB)
}

fn e4_with(seed: u64, donthave: bool, with_us: bool, cache: u64) -> Sim {
    let at = |k: u32| Some(if with_us { 3.0 + f64::from(k) } else { 1e9 });
    let mut plans = vec![plan(Kind::Seed, MIB, true, at(0))];
    plans.extend((1..9).map(|k| plan(Kind::Leecher, 256 * KIB, donthave, at(k))));
    let line = 2 * MIB;
    let shape = Shape {
        piece: 256 * KIB,
        total: 64 * MIB,
        limits: limits(cache, Some(line)),
        line,
        origin: Origin::User,
        seed,
        dt: 0.05,
    };
    let mut sim = Sim::new(shape, plans);
    let done = sim.run_until(600.0, |sim| sim.leechers().all(|p| p.done_at.is_some()));
    assert!(done, "the leechers never completed");
    sim
}

struct E4 {
    ratio: f64,
    line: f64,
    mean: f64,
}

fn figures(sim: &Sim) -> E4 {
    let first = sim
        .leechers()
        .filter_map(|p| p.done_at)
        .fold(f64::MAX, f64::min);
    let mean = sim.leechers().filter_map(|p| p.done_at).sum::<f64>() / 8.0;
    let used = (sim.sent_by(first) - sim.sent_by(16.0)) as f64;
    let out = E4 {
        ratio: sim.up as f64 / sim.down.max(1) as f64,
        line: used / ((first - 16.0) * sim.up_rate),
        mean,
    };
    println!(
        "E4 ratio {:.2} line {:.2} mean {:.1} first {first:.1} up {} MiB down {} MiB",
        out.ratio,
        out.line,
        out.mean,
        sim.up >> 20,
        sim.down >> 20
    );
    out
}

#[test]
fn e4_repeats_each_byte_many_times_and_fills_the_line() {
    let alone = figures(&e4(1, true, false));
    let runs: Vec<E4> = (1..=8).map(|seed| figures(&e4(seed, true, true))).collect();
    let mean = |of: fn(&E4) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let (ratio, line, done) = (mean(|r| r.ratio), mean(|r| r.line), mean(|r| r.mean));
    println!(
        "E4 mean of 8: ratio {ratio:.2} line {line:.3} completion {done:.1} s, alone {:.1} s",
        alone.mean
    );
    let worst = runs.iter().map(|run| run.line).fold(f64::MAX, f64::min);
    assert!(worst >= 0.4, "a run that stalled: line use {worst}");
    assert!(ratio >= 4.5, "ratio {ratio}");
    assert!(line >= 0.6, "line use {line}");
    assert!(
        done < 162.0 && done < alone.mean * 0.85,
        "mean completion {done}"
    );
}

#[test]
fn e4_with_peers_that_never_forget_stays_honest_and_still_repays() {
    // A cache of ten pieces, so that room must be made all the time; the watch in Sim::check holds at every step.
    for donthave in [false, true] {
        let sim = e4_with(1, donthave, true, 10 * 256 * KIB);
        let figures = figures(&sim);
        assert!(figures.ratio >= 2.0, "ratio {}", figures.ratio);
        assert!(sim.peak > 8 * 256 * KIB, "the cache was under pressure");
    }
}

/// A seed that only we reach, a master that only we feed; the cache a sixteenth of the torrent.
fn slave(master_donthave: bool, piece: u64, total: u64, cache: u64, disk: bool) -> Sim {
    let line = 350 * MIB;
    let plans = vec![
        plan(Kind::Seed, line, true, None),
        plan(Kind::Master, 0, master_donthave, None),
    ];
    let mut lim = limits(cache, None);
    if disk {
        lim.cache_memory = cache / 2;
    }
    let shape = Shape {
        piece,
        total,
        limits: lim,
        line,
        origin: Origin::User,
        seed: 3,
        dt: 0.002,
    };
    let mut sim = Sim::new(shape, plans);
    let done = sim.run_until(60.0, |sim| sim.peers[1].done_at.is_some());
    assert!(
        done,
        "the master lacks {} pieces at the end",
        sim.peers[1].have.iter().filter(|have| !**have).count()
    );
    sim
}

#[test]
fn a_slave_feeds_its_master_a_torrent_sixteen_times_its_cache_each_piece_once() {
    for (donthave, disk) in [(true, false), (false, false), (true, true)] {
        let sim = slave(donthave, MIB, 1024 * MIB, 64 * MIB, disk);
        let first = sim
            .samples
            .iter()
            .find(|(_, up)| *up > 0)
            .map_or(0.0, |(t, _)| *t);
        let took = sim.peers[1].done_at.expect("done") - first;
        println!(
            "slave: {took:.2} s for 1 GiB, {:.0} MiB/s, peak {} MiB",
            1024.0 / took,
            sim.peak / MIB
        );
        assert_eq!(sim.to_master, 1024 * MIB, "each byte once");
        assert!(
            sim.fetched.iter().all(|count| *count == 1),
            "each piece fetched once"
        );
        assert_eq!(sim.down, 1024 * MIB);
        assert!(took < 1024.0 / 350.0 * 1.15, "it stalled: {took} s");
        assert_eq!(sim.peers[1].closed, 0, "the master was never closed");
    }
}

#[test]
fn a_cache_larger_than_the_torrent_never_holds_all_of_it_and_never_looks_like_a_seed() {
    // The watch in Sim::check holds at every step.
    for donthave in [true, false] {
        let sim = slave(donthave, MIB, 16 * MIB, 64 * MIB, false);
        assert_eq!(sim.to_master, 16 * MIB);
        let withdrew = sim
            .outputs
            .iter()
            .any(|o| matches!(o, Output::Order(_, swarm_core::io::Order::Withdraw(_))));
        assert_eq!(withdrew, donthave);
    }
}

#[test]
fn small_pieces_and_a_torrent_of_one_piece_reach_the_master() {
    assert_eq!(
        slave(true, 16 * KIB, 8 * MIB, MIB, false).to_master,
        8 * MIB
    );
    assert_eq!(slave(true, MIB, MIB, 64 * MIB, false).to_master, MIB);
    assert_eq!(
        slave(false, 2 * MIB, 3 * MIB, 4 * MIB, false).to_master,
        3 * MIB
    );
}

#[test]
fn a_master_is_redialled_quickly_at_first_and_its_state_is_shown() {
    let plans = vec![
        plan(Kind::Seed, MIB, true, None),
        plan(Kind::Master, 0, true, Some(20.0)),
    ];
    let shape = Shape {
        piece: 256 * KIB,
        total: 4 * MIB,
        limits: limits(16 * MIB, None),
        line: 10 * MIB,
        origin: Origin::Master(MasterId(1)),
        seed: 1,
        dt: 0.05,
    };
    let mut sim = Sim::new(shape, plans);
    sim.run_until(10.0, |_| false);
    assert_eq!(sim.node.view().masters[0].state, MasterState::Unreachable);
    let tries = sim
        .log
        .iter()
        .flat_map(|b| &b.inputs)
        .filter(|i| matches!(i, Input::DialFailed(..)))
        .count();
    assert!((3..=6).contains(&tries), "{tries} dials in 10 s");
    assert!(sim.run_until(60.0, |sim| sim.peers[1].done_at.is_some()));
    assert_eq!(sim.node.view().masters[0].state, MasterState::Complete);
    assert_eq!(sim.node.view().masters[0].to_master_bytes, 4 * MIB);
}

#[test]
fn e5_a_swarm_of_pretenders_costs_four_pieces_and_is_left() {
    let mut plans = vec![plan(Kind::Seed, MIB, true, None)];
    plans.extend((0..8).map(|k| plan(Kind::Deaf, 0, k % 2 == 0, None)));
    let shape = Shape {
        piece: 256 * KIB,
        total: 64 * MIB,
        limits: limits(16 * MIB, Some(2 * MIB)),
        line: 2 * MIB,
        origin: Origin::Feed("http://feed.example/".into()),
        seed: 5,
        dt: 0.1,
    };
    let mut sim = Sim::new(shape, plans);
    sim.feed(vec![Input::Swarm(SWARM, scrape(1, 5000))]);
    assert!(
        sim.run_until(300.0, |sim| sim.left_swarm.is_some()),
        "never left"
    );
    assert!(
        sim.notes
            .contains(&Note::Left(SWARM, LeaveReason::PoorReturn)),
        "{:?}",
        sim.notes
    );
    println!(
        "pretenders: left after {:.0} s, {} KiB taken",
        sim.t,
        sim.down / KIB
    );
    assert!(sim.down <= 4 * 256 * KIB, "{} bytes taken", sim.down);
    let unchoke = |output: &&Output| matches!(output, Output::Order(_, Order::Unchoke(true)));
    let said = sim.outputs.iter().filter(unchoke).count();
    println!("pretenders: {said} unchokes said");
    assert!(
        said <= 8 * 30,
        "who never asks is reminded for ever: {said}"
    );
    let before = sim.down;
    sim.run_until(sim.t + 300.0, |_| false);
    assert_eq!(sim.down, before, "it rests");
}

fn scrape(complete: u32, incomplete: u32) -> SwarmFact {
    SwarmFact::Scraped {
        complete: Some(complete),
        incomplete: Some(incomplete),
        downloaders: None,
    }
}

/// Three feed swarms in the given order; returns which were joined, in order.
fn joined(order: [u32; 3], scrapes: [u32; 3], invert_need: bool) -> Vec<u32> {
    let mut lim = limits(64 * MIB, None);
    lim.max_swarms = 1;
    let mut node = Node::new(
        Params {
            invert_need,
            ..Params::new(lim, [1; 20])
        },
        1,
    );
    let mut now = Timestamp::from_millis(1);
    for id in order {
        let known = SwarmFact::Known {
            info_hash: [u8::try_from(id).expect("small"); 20],
            name: format!("swarm {id}"),
            geometry: Some(Geometry {
                piece_length: 262_144,
                total: 64 * MIB,
            }),
            private: false,
            hold: Hold::Cache,
            origin: Origin::Feed("http://feed.example/".into()),
            pinned: false,
        };
        node.handle(now, Input::Swarm(SwarmId(id), known));
    }
    let counts: BTreeMap<u32, (u32, u32)> = BTreeMap::from([(1, (1, 8)), (2, (4, 8)), (3, (9, 2))]);
    for id in scrapes {
        now = Timestamp(now.0 + 500_000);
        let (complete, incomplete) = counts[&id];
        node.handle(now, Input::Swarm(SwarmId(id), scrape(complete, incomplete)));
    }
    let mut joined = Vec::new();
    while let Some(output) = node.poll_output() {
        if let Output::Join(SwarmId(id)) = output {
            joined.push(id);
        }
    }
    let why = &node.view().swarms[0];
    let product: f64 = why.need_terms.iter().map(|term| term.weight).product();
    assert!((product - why.need).abs() < 1e-9 && why.origins.len() == 1);
    joined
}

#[test]
fn the_neediest_swarm_is_joined_whatever_the_order_and_the_inverted_ranking_would_be_noticed() {
    let orders = [
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
    ];
    for order in orders {
        for scrapes in orders {
            assert_eq!(joined(order, scrapes, false), [1], "{order:?} {scrapes:?}");
            assert_ne!(
                joined(order, scrapes, true),
                [1],
                "the switch turns it round"
            );
        }
    }
}

#[test]
fn a_recorded_run_replays_byte_for_byte() {
    let sim = e4(2, true, true);
    let lim = limits(16 * MIB, Some(2 * MIB));
    let mut node = Node::new(Params::new(lim, *b"-BS0100-ourselves!!!"), 2);
    let mut outputs = Vec::new();
    for batch in &sim.log {
        for input in &batch.inputs {
            node.handle(batch.now, input.clone());
        }
        while let Some(output) = node.poll_output() {
            outputs.push(output);
        }
    }
    assert!(outputs.len() > 150);
    assert_eq!(format!("{outputs:?}"), format!("{:?}", sim.outputs));
    assert_eq!(node.view(), sim.node.view());
}
