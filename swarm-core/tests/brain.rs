//! The brain against a virtual swarm: what it is for, measured.
#![allow(clippy::expect_used, clippy::print_stdout, missing_docs, unreachable_pub)]

mod support;

use support::{KIB, Kind, MIB, Plan, SWARM, Shape, Sim, limits};
use swarm_core::io::{LeaveReason, Note, Origin, Output};
use swarm_core::node::Node;
use swarm_core::params::Params;

fn plan(kind: Kind, up: u64, donthave: bool, dials_at: Option<f64>) -> Plan {
    Plan { kind, up, donthave, dials_at }
}

/// Rig E4: a seed with 1 MiB/s, eight leechers with 256 KiB/s each, our line 2 MiB/s, 64 MiB in 256 KiB pieces.
fn e4(seed: u64, donthave: bool, with_us: bool) -> Sim {
    let at = |k: u32| Some(if with_us { 3.0 + f64::from(k) } else { 1e9 });
    let mut plans = vec![plan(Kind::Seed, MIB, true, at(0))];
    plans.extend((1..9).map(|k| plan(Kind::Leecher, 256 * KIB, donthave, at(k))));
    let line = 2 * MIB;
    let shape = Shape {
        piece: 256 * KIB,
        total: 64 * MIB,
        limits: limits(16 * MIB, Some(line)),
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
    let first = sim.leechers().filter_map(|p| p.done_at).fold(f64::MAX, f64::min);
    let mean = sim.leechers().filter_map(|p| p.done_at).sum::<f64>() / 8.0;
    let used = (sim.sent_by(first) - sim.sent_by(16.0)) as f64;
    let out = E4 { ratio: sim.up as f64 / sim.down.max(1) as f64, line: used / ((first - 16.0) * sim.up_rate), mean };
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
    for seed in 1..4 {
        let with_us = figures(&e4(seed, true, true));
        assert!(with_us.ratio >= 4.5, "ratio {}", with_us.ratio);
        assert!(with_us.line >= 0.6, "line use {}", with_us.line);
        assert!(with_us.mean < 162.0 && with_us.mean < alone.mean * 0.85, "mean {}", with_us.mean);
    }
}
