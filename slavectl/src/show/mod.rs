//! Answers as people read them: aligned tables, humane units, colour on a terminal.

pub(crate) mod aid;
pub(crate) mod friends;
pub(crate) mod rendezvous;
pub(crate) mod status;
pub(crate) mod swarms;

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use control_api::feeds::{Feed, Owner};
use control_api::masters::{Master, MasterTest};
use control_api::node::CacheReport;
use control_api::units::{human_bytes, human_seconds};
use owo_colors::{OwoColorize as _, Style};

use crate::{Io, printable};

/// Longest foreign name in a table, in characters.
const MAX_NAME: usize = 48;
/// Characters in a bar.
const BAR: u64 = 24;

/// Text in the making.
pub(crate) struct Page {
    text: String,
    colour: bool,
    terminal: bool,
}

/// A column: its title, and whether it holds figures.
pub(crate) type Column = (&'static str, bool);

impl Page {
    pub(crate) fn new(io: &Io<'_>) -> Self {
        Self {
            text: String::new(),
            colour: io.colour,
            terminal: io.terminal,
        }
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }

    pub(crate) fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// `text` in `style`, where there is colour.
    pub(crate) fn paint(&self, text: &str, style: Style) -> String {
        if self.colour {
            text.style(style).to_string()
        } else {
            text.to_owned()
        }
    }

    /// An empty line and a title.
    pub(crate) fn title(&mut self, title: &str) {
        let title = self.paint(title, Style::new().bold().cyan());
        let _ = write!(self.text, "\n{title}\n");
    }

    /// `name  value`, names aligned.
    pub(crate) fn field(&mut self, name: &str, value: &str) {
        let name = self.paint(&format!("{name:<12}"), Style::new().dimmed());
        self.line(&format!("{name} {value}"));
    }

    /// A table without lines; `empty` is said where there are no rows.
    pub(crate) fn table(&mut self, columns: &[Column], rows: Vec<Vec<Cell>>, empty: &str) {
        if rows.is_empty() {
            return self.line(empty);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if self.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.set_header(
            columns
                .iter()
                .map(|(title, _)| Cell::new(title).add_attribute(Attribute::Bold)),
        );
        table.add_rows(rows);
        for (n, (_, figures)) in columns.iter().enumerate() {
            if let Some(column) = table.column_mut(n) {
                column.set_padding((if n == 0 { 0 } else { 1 }, 1));
                if *figures {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        for line in table.lines() {
            self.line(&line);
        }
    }

    /// A bar of `part` in `whole`, with the percentage.
    pub(crate) fn bar(&self, part: u64, whole: u64) -> String {
        let scaled = |to: u64| {
            u64::try_from(u128::from(part) * u128::from(to) / u128::from(whole.max(1)))
                .unwrap_or(to)
                .min(to)
        };
        let filled = usize::try_from(scaled(BAR)).unwrap_or(0);
        let rest = usize::try_from(BAR).unwrap_or(0) - filled;
        let full = self.paint(&"█".repeat(filled), Style::new().green());
        let free = self.paint(&"░".repeat(rest), Style::new().dimmed());
        format!("{full}{free} {:>3} %", scaled(100))
    }
}

/// A foreign name, made harmless and short.
pub(crate) fn name(text: &str) -> String {
    let safe = printable(text);
    if safe.chars().count() <= MAX_NAME {
        return safe;
    }
    let mut short: String = safe.chars().take(MAX_NAME - 1).collect();
    short.push('…');
    short
}

pub(crate) fn cell(text: impl ToString) -> Cell {
    Cell::new(text)
}

/// A cell in the colour of what it says.
pub(crate) fn state(word: &str) -> Cell {
    let cell = Cell::new(printable(word));
    match word {
        "joined" | "connected" | "ok" | "synced" | "running" => cell.fg(Color::Green),
        "failed" | "unreachable" | "unresolved" | "too_big" => cell.fg(Color::Red),
        "metadata" | "working" | "waiting" | "asked" | "offered" | "paused" | "restored" => {
            cell.fg(Color::Yellow)
        }
        _ => cell.add_attribute(Attribute::Dim),
    }
}

pub(crate) fn bytes(bytes: u64) -> Cell {
    cell(if bytes == 0 {
        "-".to_owned()
    } else {
        human_bytes(bytes)
    })
}

fn owner(owner: Owner) -> Cell {
    cell(match owner {
        Owner::File => "file",
        Owner::Store => "slavectl",
    })
}

/// `feeds list`.
pub(crate) fn feeds(feeds: &[Feed], page: &mut Page) {
    let columns = [
        ("FEED", false),
        ("STATE", false),
        ("TORRENTS", true),
        ("EVERY", true),
        ("FROM", false),
        ("LAST ERROR", false),
    ];
    let rows = feeds.iter().map(|feed| {
        let error = feed.error.as_deref().map(name).unwrap_or_default();
        vec![
            cell(printable(&feed.url)),
            state(&feed.state),
            cell(feed.items),
            cell(human_seconds(feed.every_s)),
            owner(feed.owner),
            cell(error),
        ]
    });
    page.table(
        &columns,
        rows.collect(),
        "No feeds. `slavectl feeds add URL` follows one.",
    );
}

/// `master list`.
pub(crate) fn masters(masters: &[Master], page: &mut Page) {
    let columns = [
        ("MASTER", false),
        ("ADDRESS", false),
        ("STATE", false),
        ("RPC", false),
        ("SHARE", true),
        ("GIVEN", true),
        ("MISSING", true),
        ("FROM", false),
    ];
    let rows = masters.iter().map(|master| {
        let rpc = match &master.rpc {
            None => cell("-"),
            Some(rpc) => match &rpc.error {
                None => cell(printable(&format!("{} {}", rpc.kind, rpc.state))),
                Some(error) => cell(name(&format!("{}: {error}", rpc.kind))).fg(Color::Red),
            },
        };
        vec![
            cell(name(&master.name)),
            cell(printable(&master.address)),
            state(&master.state),
            rpc,
            cell(format!("{:.0} %", master.share * 100.0)),
            bytes(master.to_master_bytes),
            cell(if master.missing_pieces == 0 {
                "-".to_owned()
            } else {
                format!("{} pieces", master.missing_pieces)
            }),
            owner(master.owner),
        ]
    });
    page.table(
        &columns,
        rows.collect(),
        "No masters. `slavectl master add NAME HOST:PORT` pairs with your client.",
    );
}

/// `master test`.
pub(crate) fn master_test(test: &MasterTest, page: &mut Page) {
    for step in &test.steps {
        let (mark, style) = if step.ok {
            ("✓", Style::new().green())
        } else {
            ("✗", Style::new().red())
        };
        let mark = page.paint(mark, style);
        page.line(&format!(
            "{mark} {:<6} {}",
            printable(&step.step),
            printable(&step.detail)
        ));
    }
}

/// `cache`.
pub(crate) fn cache(report: &CacheReport, page: &mut Page) {
    let bar = page.bar(report.used_bytes, report.limit_bytes);
    page.field(
        "in use",
        &format!(
            "{bar}  {} of {}",
            human_bytes(report.used_bytes),
            human_bytes(report.limit_bytes)
        ),
    );
    page.field(
        "most ever",
        &format!("{} this run", human_bytes(report.high_water_bytes)),
    );
    page.field(
        "in memory",
        &format!("up to {}", human_bytes(report.memory_limit_bytes)),
    );
    page.field("pieces", &report.pieces.to_string());
    page.title("BY SWARM");
    let rows = report.swarms.iter().map(|swarm| {
        vec![
            cell(swarms::short(&swarm.info_hash)),
            cell(name(&swarm.name)),
            cell(swarm.held_pieces),
            bytes(swarm.held_bytes),
        ]
    });
    page.table(
        &[
            ("HASH", false),
            ("NAME", false),
            ("PIECES", true),
            ("SIZE", true),
        ],
        rows.collect(),
        "The cache is empty.",
    );
}
