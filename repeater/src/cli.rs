//! `btslave`'s arguments, and what runs on them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use control_api::units::Size;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, reload};

use crate::config::{self, Config, ConfigError, LogFormat, Overlay, Sources};
use crate::control::metrics;
use crate::daemon::{Daemon, LogFilter, Options};

/// Exit status: failed while running.
const FAILED: u8 = 1;
/// Exit status: usage or configuration.
const USAGE: u8 = 2;
/// From the signal to the end of the process, at most.
const STOP: Duration = Duration::from_secs(9);

/// BTSlave: a BitTorrent repeater with a bounded, honest cache, and the slave of your own client.
#[derive(Debug, Parser)]
#[command(name = "btslave", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Common {
    /// Configuration file [default: btslave/btslave.toml in the platform's config directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the state lives (node.data_dir)
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Set one key, as --set cache.size='64 MiB'; repeatable
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// What is logged, as `info` or `info,repeater::net=debug` (log.filter)
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look (log.format)
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Let api.listen be an address that other machines reach; the API has no encryption of its own
    #[arg(long, global = true)]
    api_allow_remote: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Run(Run),
    /// Show the whole main job in one command, offline, on loopback, in under a minute
    Demo,
    /// Check the configuration and exit
    CheckConfig,
    /// Print the configuration in force, documented
    PrintConfig,
}

#[derive(Debug, Args)]
struct Run {
    /// Record everything the brain hears to FILE (mode 0600), for a replay
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The recording ends at so many bytes
    #[arg(long, value_name = "SIZE", default_value = "256 MiB")]
    record_max: Size,
    /// Help the least needy swarm first; for tests that must be seen to fail with it
    #[arg(long, hide = true)]
    test_invert_need: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            record: None,
            record_max: Size(Some(256 << 20)),
            test_invert_need: false,
        }
    }
}

/// Does what the process's arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let sources = match sources(&cli.common) {
        Ok(sources) => sources,
        Err(error) => return fail(&error, USAGE),
    };
    let config = match config::load(&sources) {
        Ok(config) => config,
        Err(error) => return fail(&error, USAGE),
    };
    match cli.command.unwrap_or(Command::Run(Run::default())) {
        Command::CheckConfig => print(&match &sources.file {
            Some(file) if file.exists() => format!("{}: sound\n", file.display()),
            Some(_) | None => "built-in defaults: sound\n".to_owned(),
        }),
        Command::Demo => match demonstrate() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(error) => {
                eprint(&format!("error: {error:#}\n"));
                ExitCode::from(FAILED)
            }
        },
        Command::PrintConfig => print(&config.to_toml()),
        Command::Run(run) => match daemon(config, sources, run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprint(&format!("error: {error:#}\n"));
                ExitCode::from(FAILED)
            }
        },
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn eprint(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn fail(error: &ConfigError, status: u8) -> ExitCode {
    eprint(&format!("{error}\n"));
    ExitCode::from(status)
}

fn sources(common: &Common) -> Result<Sources, ConfigError> {
    let default = || {
        directories::ProjectDirs::from("", "", "btslave")
            .map(|dirs| dirs.config_dir().join("btslave.toml"))
    };
    // A variable that is no text cannot be one of ours.
    let vars = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut overlays = Overlay::from_env(vars);
    for argument in &common.set {
        overlays.push(Overlay::from_set(argument)?);
    }
    Ok(Sources {
        file_may_be_absent: common.config.is_none(),
        file: common.config.clone().or_else(default),
        overlays,
        data_dir: common.data_dir.clone(),
        log_filter: common.log.clone(),
        log_format: common.log_format,
        api_allow_remote: common.api_allow_remote,
    })
}

/// Starts the log; the answer changes its filter later.
fn start_log(config: &Config) -> LogFilter {
    // The filter was checked with the rest of the configuration. A bare level is meant for us: what libraries say at
    // DEBUG (URLs, headers) is nobody's business.
    let filter = |text: &str| match text.parse::<LevelFilter>() {
        Ok(level) => Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target("repeater", level),
        Err(_) => text.parse::<Targets>().unwrap_or_default(),
    };
    let (layer, handle) = reload::Layer::new(filter(&config.log.filter));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let lines = match config.log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // In a process that has a log already (a test), that one stays.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(layer))
        .try_init();
    Arc::new(move |text: &str| drop(handle.reload(filter(text))))
}

/// One worker fewer than the machine has cores: the last one belongs to the driver's thread, the disk's, and the kernel's
/// part of the network. With a worker on every core of two, a saturated relay told its master of a piece 2 to 10 ms late
/// (99th percentile); with one, 0.5 to 0.75 ms, at the same throughput.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores - 1).max(1))
        .enable_all()
        .build()
        .context("cannot start the runtime; raise the limit on processes")
}

fn daemon(config: Config, sources: Sources, run: Run) -> anyhow::Result<()> {
    let set_log = start_log(&config);
    let metrics = metrics::install().context("metrics")?;
    let runtime = runtime()?;
    runtime
        .block_on(async {
            let upkeep = tokio::spawn(metrics::upkeep(metrics.clone()));
            let record = run
                .record
                .map(|file| (file, run.record_max.0.unwrap_or(u64::MAX)));
            let options = Options {
                config,
                sources: Some(sources),
                metrics,
                set_log: Some(set_log),
                record,
                invert_need: run.test_invert_need,
            };
            let daemon = Daemon::start(options).await?;
            until_stopped(&daemon).await?;
            tracing::info!("stopping");
            if tokio::time::timeout(STOP, daemon.stop()).await.is_err() {
                tracing::warn!("not everything ended in time");
            }
            upkeep.abort();
            Ok(())
        })
        .inspect(|()| runtime.shutdown_timeout(Duration::from_millis(500)))
}

/// The demo; whatever configuration there is stays out of it.
fn demonstrate() -> anyhow::Result<bool> {
    let metrics = metrics::install().context("metrics")?;
    let runtime = runtime()?;
    runtime.block_on(crate::demo::run(metrics))
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads.
async fn until_stopped(daemon: &Daemon) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => match daemon.control().reload().await {
                Ok(done) => tracing::info!(changed = %done.changed.join(", "), "configuration reloaded"),
                Err(refusal) => tracing::error!("configuration not reloaded, the old one stands: {}: {}", refusal.problem.what, refusal.problem.why),
            },
        }
    }
}
