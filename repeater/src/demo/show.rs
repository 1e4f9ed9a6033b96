//! What the demo shows: bars while it runs (plain lines where there is no terminal), a verdict at its end.

use super::downloader::Downloader;
use anstream::println;
use control_api::status::Status;
use control_api::swarms::SwarmState;
use control_api::units::human_bytes as bytes;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Without a terminal, a line so often.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Downloaders shown as one bar.
pub(super) struct Group<'a> {
    pub(super) name: &'static str,
    pub(super) downloaders: Vec<&'a Arc<Downloader>>,
}

impl Group<'_> {
    fn pieces(&self) -> (u64, u64) {
        let have = self
            .downloaders
            .iter()
            .map(|d| u64::from(*d.progress().borrow()))
            .sum();
        (
            have,
            self.downloaders.iter().map(|d| u64::from(d.pieces())).sum(),
        )
    }
}

/// The moving part of the screen.
pub(super) struct Bars {
    screen: MultiProgress,
    groups: Vec<ProgressBar>,
    repeater: ProgressBar,
    slave: ProgressBar,
    terminal: bool,
    next_line: std::cell::Cell<Option<Instant>>,
}

impl Bars {
    pub(super) fn new(groups: &[Group<'_>]) -> Self {
        let screen = MultiProgress::new();
        let bar = "  {prefix:<26} {bar:32.cyan/dim} {percent:>3} %";
        let groups = groups.iter().map(|group| {
            let bar = screen.add(ProgressBar::new(group.pieces().1).with_style(style(bar)));
            let heads = group.downloaders.len();
            bar.with_prefix(if heads == 1 {
                group.name.to_owned()
            } else {
                format!("{} ({heads} leechers)", group.name)
            })
        });
        let groups = groups.collect();
        let line =
            || screen.add(ProgressBar::new_spinner().with_style(style("  {prefix:<26} {msg}")));
        let (repeater, slave) = (line().with_prefix("repeater"), line().with_prefix("slave"));
        let terminal = std::io::stderr().is_terminal();
        Self {
            screen,
            groups,
            repeater,
            slave,
            terminal,
            next_line: std::cell::Cell::new(None),
        }
    }

    pub(super) fn draw(&self, groups: &[Group<'_>], repeater: &Status, slave: &Status) {
        for (bar, group) in self.groups.iter().zip(groups) {
            bar.set_position(group.pieces().0);
        }
        let (repeating, serving) = (doing(repeater), doing(slave));
        let now = Instant::now();
        if !self.terminal && self.next_line.get().is_none_or(|at| now >= at) {
            self.next_line.set(Some(now + LINE_EVERY));
            let percent = |group: &Group<'_>| {
                let (have, all) = group.pieces();
                format!("{} {} %", group.name, have * 100 / all.max(1))
            };
            println!(
                "{} | repeater {repeating} | slave {serving}",
                groups.iter().map(percent).collect::<Vec<_>>().join(", ")
            );
        }
        self.repeater.set_message(repeating);
        self.slave.set_message(serving);
    }

    pub(super) fn finish(&self) {
        for line in self.groups.iter().chain([&self.repeater, &self.slave]) {
            line.abandon();
        }
        // A screen that cannot be written to ends nothing.
        let _cleared = self.screen.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Which swarm, and what goes in and out.
fn doing(status: &Status) -> String {
    let swarm = status
        .swarms
        .iter()
        .find(|swarm| swarm.state == SwarmState::Joined);
    let place = swarm.map_or("looking for a swarm in need".to_owned(), |swarm| {
        format!("in {}", swarm.name)
    });
    format!(
        "{place}: up {}/s, down {}/s, gave {}, took {}, holds {} of {}",
        bytes(status.upload_rate_bps),
        bytes(status.download_rate_bps),
        bytes(status.session.uploaded_bytes),
        bytes(status.session.downloaded_bytes),
        bytes(status.cache.used_bytes),
        bytes(status.cache.limit_bytes)
    )
}

/// What was promised, and whether it held.
pub(super) struct Verdict {
    lines: Vec<String>,
    holds: bool,
}

impl Verdict {
    pub(super) fn new(took: Duration) -> Self {
        Self {
            lines: vec![format!("after {:.1} s:", took.as_secs_f64())],
            holds: true,
        }
    }

    pub(super) fn say_why(&mut self, why: Option<String>) {
        self.lines.extend(why.map(|why| format!("  {why}")));
    }

    pub(super) fn line(&mut self, text: &str) {
        self.lines.push(format!("  {text}"));
    }

    pub(super) fn check(&mut self, what: &str, held: bool) {
        self.holds &= held;
        let mark = if held {
            "yes".green().to_string()
        } else {
            "NO ".red().bold().to_string()
        };
        self.lines.push(format!("  {mark} {what}"));
    }

    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    pub(super) fn print(&self) {
        for line in &self.lines {
            println!("{line}");
        }
    }
}
