//! `swarm-sim PLAN`: plays a plan, prints its table, and writes its runs and its picture.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks on standard output"
)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the runs are pure; files, threads and the time they take are this file's"
)]

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use swarm_sim::plan::{Case, load};
use swarm_sim::{Outcome, plot, run, slaves_table, table};

/// Plays a plan of virtual swarms with our own brain among ordinary peers.
#[derive(Debug, Parser)]
#[command(name = "swarm-sim")]
struct Args {
    /// A TOML file, or the name of one in swarm-sim/plans
    plan: String,
    /// Only these cases
    #[arg(long)]
    case: Vec<String>,
    /// Play each case with this seed alone
    #[arg(long)]
    seed: Option<u64>,
    /// So many seeds for each case, instead of what the plan says
    #[arg(long)]
    runs: Option<u32>,
    /// Change a value of the plan: path=value
    #[arg(long)]
    set: Vec<String>,
    /// Print where each run stood every so many seconds
    #[arg(long)]
    timeline: Option<f64>,
    /// Runs at a time; by default one for each core
    #[arg(long)]
    jobs: Option<usize>,
    /// Write PLAN.md, PLAN.jsonl and PLAN.svg to this folder
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match play(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(args: &Args) -> anyhow::Result<()> {
    let path = find(&args.plan);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut cases = load(&text, &args.set)?;
    cases.retain(|case| args.case.is_empty() || args.case.contains(&case.name));
    let Some(plan) = cases.first().map(|case| case.plan.clone()) else {
        anyhow::bail!("the plan has no such case");
    };
    println!("{}: {}", plan.name, plan.about);
    let outcomes = play_all(&cases, args)?;
    let mut table = table(&outcomes);
    let slaves = slaves_table(&outcomes);
    if !slaves.is_empty() {
        write!(table, "\n{slaves}")?;
    }
    println!("\n{table}");
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)?;
        let write = |ending: &str, text: &str| {
            let path = folder.join(format!("{}.{ending}", plan.name));
            std::fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write("md", &format!("{}\n\n{table}", plan.about))?;
        let mut lines = String::new();
        for outcome in &outcomes {
            writeln!(lines, "{}", serde_json::to_string(outcome)?)?;
        }
        write("jsonl", &lines)?;
        write("svg", &plot(&plan.name, &outcomes)?)?;
    }
    Ok(())
}

fn find(plan: &str) -> PathBuf {
    let named = PathBuf::from(plan);
    if named.exists() {
        return named;
    }
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("plans")
        .join(format!("{plan}.toml"))
}

/// All runs, several at a time; in the order of the plan.
fn play_all(cases: &[Case], args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let mut jobs: Vec<(usize, &Case, u64)> = Vec::new();
    for case in cases {
        let runs = u64::from(args.runs.unwrap_or(case.plan.runs));
        let seeds = args.seed.map_or(1..=runs, |seed| seed..=seed);
        jobs.extend(seeds.map(|seed| (0, case, seed)));
    }
    for (at, job) in jobs.iter_mut().enumerate() {
        job.0 = at;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.jobs.unwrap_or(cores).clamp(1, jobs.len().max(1));
    let (queue, done) = (Mutex::new(jobs.into_iter()), Mutex::new(Vec::new()));
    let work = || -> anyhow::Result<()> {
        loop {
            let job = queue.lock().map_err(|_| poisoned())?.next();
            let Some((at, case, seed)) = job else {
                return Ok(());
            };
            let began = Instant::now();
            let outcome = run(case, seed)?;
            println!("{}", line(&outcome, began.elapsed().as_secs_f64()));
            if let Some(step) = args.timeline {
                print!("{}", outcome.timeline(step));
            }
            done.lock().map_err(|_| poisoned())?.push((at, outcome));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| poisoned())??;
        }
        anyhow::Ok(())
    })?;
    let mut outcomes = done.into_inner().map_err(|_| poisoned())?;
    outcomes.sort_by_key(|(at, _)| *at);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

fn poisoned() -> anyhow::Error {
    anyhow::anyhow!("a run broke off; its message is above")
}

fn line(outcome: &Outcome, took_s: f64) -> String {
    format!(
        "{} / {} seed {} hash {}: {} of {} complete at {:.1} s; {} events in {took_s:.2} s",
        outcome.plan,
        outcome.case,
        outcome.seed,
        outcome.hash,
        outcome.complete,
        outcome.leechers,
        outcome.ended_s,
        outcome.events,
    )
}
