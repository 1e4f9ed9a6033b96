//! `btslave demo`: the whole main job in one command, offline, on loopback.
//!
//! Real daemons, real sockets. A web site offers a feed of three torrents whose swarms need help unequally; a repeater
//! with a small cache picks its swarm by itself. A master that knows nobody gets its torrent from its slave alone. The
//! peers around them are small: seeds are this daemon's engine with kept content, leechers and the master an ordinary
//! downloader (`downloader`).

mod content;
mod downloader;
mod show;
mod site;
mod stage;

use crate::config::{self, Config};
use crate::control::Control;
use crate::daemon::{Daemon, Options};
use anyhow::{Context, Result};
use content::{DemoTorrent, torrent};
use control_api::status::Status;
use control_api::swarms::{SwarmState, Why};
use control_api::units::{Rate, Span, human_bytes};
use downloader::Downloader;
use metrics_exporter_prometheus::PrometheusHandle;
use show::{Bars, Verdict};
use site::Site;
use stage::{DemoSwarm, Seed};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The demo ends by itself; whatever is not true by then has failed.
const LIMIT: Duration = Duration::from_secs(50);
/// How often the screen is drawn anew.
const FRAME: Duration = Duration::from_millis(250);
/// The hard cap of each daemon's cache, bytes: a third of the torrents.
const CACHE: u64 = 4 << 20;
const MIB: usize = 1 << 20;
const KIB: u64 = 1 << 10;

/// Everything that plays.
struct Stage {
    site: Site,
    seeds: Vec<Seed>,
    starving: DemoSwarm,
    others: Vec<DemoSwarm>,
    repeater: Daemon,
    slave: Daemon,
    master: Arc<Downloader>,
    home: DemoTorrent,
}

/// Runs the demo and prints what happens. True: every promise it makes was seen to be true.
///
/// # Errors
/// It could not be set up: no loopback, no temporary directory.
pub async fn run(metrics: PrometheusHandle) -> Result<bool> {
    let dir = tempfile::tempdir().context("the demo needs a temporary directory (set TMPDIR)")?;
    let stop = CancellationToken::new();
    let mut stage = Stage::set(dir.path(), metrics, &stop).await?;
    let bars = Bars::new(&stage.groups());
    let began = Instant::now();
    let mut first = None;
    let mut beat = tokio::time::interval(FRAME);
    while began.elapsed() < LIMIT && !stage.done() {
        beat.tick().await;
        let status = stage.repeater_status().await?;
        if first.is_none() {
            first = joined(&status);
        }
        bars.draw(&stage.groups(), &status, &stage.slave_status().await?);
    }
    let verdict = stage.verdict(first, began.elapsed()).await?;
    bars.finish();
    stop.cancel();
    stage.end().await;
    verdict.print();
    Ok(verdict.holds())
}

fn joined(status: &Status) -> Option<String> {
    status
        .swarms
        .iter()
        .find(|swarm| swarm.state == SwarmState::Joined)
        .map(|swarm| swarm.name.clone())
}

impl Stage {
    async fn set(dir: &Path, metrics: PrometheusHandle, stop: &CancellationToken) -> Result<Self> {
        let site = Site::start(stop.clone()).await?;
        let url = site.announce_url();
        let [starving, balanced, plenty, home] = [
            torrent("starving.img", 8 * MIB, &url)?,
            torrent("balanced.img", 8 * MIB, &url)?,
            torrent("plenty.img", 8 * MIB, &url)?,
            torrent("home.img", 12 * MIB, &url)?,
        ];
        let seeds = vec![
            Seed::start(&site, "127.10.0.200", 768 * KIB, &[&starving], dir).await?,
            Seed::start(&site, "127.11.0.200", 512 * KIB, &[&balanced, &plenty], dir).await?,
            Seed::start(&site, "127.12.0.200", 512 * KIB, &[&balanced, &plenty], dir).await?,
            Seed::start(&site, "127.13.0.200", 512 * KIB, &[&plenty], dir).await?,
            Seed::start(&site, "127.14.0.200", 1024 * KIB, &[&home], dir).await?,
        ];
        let at = |seeds: &[Seed]| seeds.iter().map(|seed| seed.address).collect::<Vec<_>>();
        let hungry =
            stage::swarm(&site, &starving, &at(&seeds[..1]), (20, 5, 96 * KIB), stop).await?;
        let others = vec![
            stage::swarm(
                &site,
                &balanced,
                &at(&seeds[1..3]),
                (21, 2, 256 * KIB),
                stop,
            )
            .await?,
            stage::swarm(&site, &plenty, &at(&seeds[1..4]), (22, 1, 256 * KIB), stop).await?,
        ];
        site.publish(&[plenty, balanced, starving]);
        let (master, master_at) =
            stage::downloader(&home, "127.30.0.1", 1, 256 * KIB, stop).await?;
        let repeater = Daemon::start(options(
            repeater_config(dir, &site.feed_url())?,
            metrics.clone(),
        ))
        .await?;
        let slave = Daemon::start(options(slave_config(dir, master_at)?, metrics)).await?;
        let added = slave
            .control()
            .add_torrent(home.file.clone(), Default::default())
            .await;
        added.map_err(|refusal| {
            anyhow::anyhow!("{}: {}", refusal.problem.what, refusal.problem.why)
        })?;
        Ok(Self {
            site,
            seeds,
            starving: hungry,
            others,
            repeater,
            slave,
            master,
            home,
        })
    }

    fn groups(&self) -> Vec<show::Group<'_>> {
        let swarms = std::iter::once(&self.starving).chain(&self.others);
        let mut groups: Vec<_> = swarms
            .map(|swarm| show::Group {
                name: swarm.torrent.name,
                downloaders: swarm.leechers.iter().collect(),
            })
            .collect();
        groups.push(show::Group {
            name: "the master",
            downloaders: vec![&self.master],
        });
        groups
    }

    fn done(&self) -> bool {
        complete(&self.master)
            && self
                .starving
                .leechers
                .iter()
                .all(|leecher| complete(leecher))
    }

    async fn repeater_status(&self) -> Result<Status> {
        status(&*self.repeater.control()).await
    }

    async fn slave_status(&self) -> Result<Status> {
        status(&*self.slave.control()).await
    }

    async fn verdict(&mut self, first: Option<String>, took: Duration) -> Result<Verdict> {
        let (repeater, slave) = (self.repeater_status().await?, self.slave_status().await?);
        let why = self
            .repeater
            .control()
            .why(self.starving.torrent.metainfo.info_hash())
            .await
            .ok();
        let mut verdict = Verdict::new(took);
        verdict.say_why(why.as_ref().map(explain));
        verdict.check(
            "the neediest swarm was joined first",
            first.as_deref() == Some(self.starving.torrent.name),
        );
        let leechers = &self.starving.leechers;
        verdict.check(
            "its leechers are complete and verified",
            leechers.iter().all(|l| complete(l) && l.verified()),
        );
        let (given, taken) = (
            repeater.session.uploaded_bytes,
            repeater.session.downloaded_bytes,
        );
        verdict.line(&format!(
            "the repeater took {}, gave {}",
            human_bytes(taken),
            human_bytes(given)
        ));
        verdict.check(
            "the repeater gave more than it took",
            given > taken && taken > 0,
        );
        verdict.check(
            "the master is complete and verified",
            complete(&self.master) && self.master.verified(),
        );
        let (to_master, size) = (
            slave.masters.iter().map(|m| m.to_master_bytes).sum::<u64>(),
            self.home.content.len(),
        );
        verdict.line(&format!(
            "the slave gave its master {} of {}",
            human_bytes(to_master),
            human_bytes(size as u64)
        ));
        verdict.check(
            "each byte reached the master once",
            to_master >= size as u64 && to_master < (size + size / 50) as u64,
        );
        verdict.check(
            "nothing was asked of the master",
            self.master.uploaded() == 0,
        );
        let peak = [&self.repeater, &self.slave]
            .map(|daemon| daemon.engine().cache_usage().high_water_bytes);
        verdict.line(&format!(
            "the caches held at most {} and {} of {}",
            human_bytes(peak[0]),
            human_bytes(peak[1]),
            human_bytes(CACHE)
        ));
        verdict.check(
            "no cache ever held more than its cap",
            peak.iter().all(|peak| *peak <= CACHE),
        );
        Ok(verdict)
    }

    async fn end(self) {
        self.repeater.stop().await;
        self.slave.stop().await;
        for seed in &self.seeds {
            seed.engine.shutdown(Duration::from_secs(1)).await;
        }
        drop(self.site);
    }
}

fn complete(downloader: &Downloader) -> bool {
    *downloader.progress().borrow() == downloader.pieces()
}

fn explain(why: &Why) -> String {
    let terms = why
        .terms
        .iter()
        .filter_map(|term| Some(format!("{} {:.1}", term.term, term.value?)));
    format!(
        "need of {}: {:.2} ({})",
        why.name,
        why.need.unwrap_or_default(),
        terms.collect::<Vec<_>>().join(", ")
    )
}

async fn status(control: &dyn Control) -> Result<Status> {
    control
        .status()
        .await
        .map_err(|refusal| anyhow::anyhow!("{}: {}", refusal.problem.what, refusal.problem.why))
}

fn options(config: Config, metrics: PrometheusHandle) -> Options {
    Options {
        config,
        sources: None,
        metrics,
        set_log: None,
        record: None,
        invert_need: false,
    }
}

/// A daemon of its own on a loopback address of its own, without an API.
fn base_config(dir: &Path, name: &str, ip: &str) -> Result<Config> {
    let mut config = Config::default();
    config.node.data_dir = dir.join(name);
    config.node.listen = vec![format!("{ip}:0").parse()?];
    config.limits.upload = Rate(Some(3 << 20));
    config.cache = config::Cache {
        size: CACHE,
        memory: CACHE,
        min_free: 0,
    };
    config.api.listen = None;
    Ok(config)
}

fn repeater_config(dir: &Path, feed: &str) -> Result<Config> {
    let mut config = base_config(dir, "repeater", "127.40.0.1")?;
    config.repeater.max_swarms = 1;
    config.feeds = vec![config::Feed {
        url: feed.to_owned(),
        every: Span(Duration::from_secs(10)),
        allow: Vec::new(),
        deny: Vec::new(),
        max_torrent_size: control_api::units::Size(None),
        ..config::Feed::default()
    }];
    Ok(config)
}

fn slave_config(dir: &Path, master: SocketAddr) -> Result<Config> {
    let mut config = base_config(dir, "slave", "127.41.0.1")?;
    config.masters = vec![config::Master {
        name: "home".to_owned(),
        address: master.to_string(),
        share: 0.5,
        rpc: None,
    }];
    Ok(config)
}
