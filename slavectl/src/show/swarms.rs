//! `swarms`: the list, one of them, and why.

use control_api::swarms::{SwarmDetail, SwarmRow, TrackerRow, Why};
use control_api::units::human_bytes;
use owo_colors::Style;

use super::{Page, bytes, cell, name, state};
use crate::printable;

/// Digits of an infohash in a table: enough to be given back to `slavectl`.
const SHORT: usize = 10;

/// The beginning of an infohash.
pub(crate) fn short(info_hash: &str) -> String {
    printable(info_hash).chars().take(SHORT).collect()
}

fn need(need: Option<f64>) -> String {
    need.map_or_else(|| "?".to_owned(), |need| format!("{need:.2}"))
}

/// `swarms list`.
pub(crate) fn list(rows: &[SwarmRow], page: &mut Page) {
    let columns = [
        ("HASH", false),
        ("NAME", false),
        ("STATE", false),
        ("NEED", true),
        ("PEERS", true),
        ("WANT", true),
        ("HELD", true),
        ("GIVEN", true),
        ("TAKEN", true),
        ("TO MASTER", true),
    ];
    let rows = rows.iter().map(|row| {
        let pin = if row.pinned { " (pinned)" } else { "" };
        vec![
            cell(short(&row.info_hash)),
            cell(name(&row.name) + pin),
            state(row.state.word()),
            cell(need(row.need)),
            cell(row.peers),
            cell(row.interested_peers),
            cell(row.held_pieces),
            bytes(row.uploaded_bytes),
            bytes(row.downloaded_bytes),
            bytes(row.to_master_bytes),
        ]
    });
    page.table(
        &columns,
        rows.collect(),
        "No swarms. A feed, a master or `slavectl swarms add TORRENT` names some.",
    );
}

/// `swarms show`.
pub(crate) fn detail(detail: &SwarmDetail, page: &mut Page) {
    let row = &detail.row;
    let title = page.paint(&printable(&row.name), Style::new().bold());
    page.line(&title);
    page.field("infohash", &printable(&row.info_hash));
    page.field(
        "state",
        &format!(
            "{}{}{}",
            row.state.word(),
            if row.pinned { ", pinned" } else { "" },
            if detail.private { ", private" } else { "" }
        ),
    );
    if let (Some(total), Some(count), Some(length)) =
        (detail.total_bytes, detail.piece_count, detail.piece_length)
    {
        page.field(
            "size",
            &format!(
                "{} in {count} pieces of {}",
                human_bytes(total),
                human_bytes(length.into())
            ),
        );
    }
    page.field("held", &format!("{} pieces", row.held_pieces));
    page.field(
        "peers",
        &format!(
            "{} connected, {} want what we hold",
            row.peers, row.interested_peers
        ),
    );
    let said = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    page.field(
        "trackers say",
        &format!(
            "{} seeds, {} downloaders",
            said(detail.seeds),
            said(detail.downloaders)
        ),
    );
    page.field("need", &need(row.need));
    page.field(
        "given",
        &format!(
            "{}, of it {} to masters",
            human_bytes(row.uploaded_bytes),
            human_bytes(row.to_master_bytes)
        ),
    );
    page.field("taken", &human_bytes(row.downloaded_bytes));
    page.field("named by", &printable(&detail.origins.join(", ")));
    trackers(&detail.trackers, page);
}

fn trackers(trackers: &[TrackerRow], page: &mut Page) {
    page.title("TRACKERS");
    let rows = trackers.iter().map(|tracker| {
        let error = tracker.error.as_deref().map(name).unwrap_or_default();
        vec![
            cell(tracker.tier),
            cell(printable(&tracker.url)),
            state(&tracker.state),
            cell(error),
        ]
    });
    page.table(
        &[
            ("TIER", true),
            ("TRACKER", false),
            ("STATE", false),
            ("LAST ERROR", false),
        ],
        rows.collect(),
        "None.",
    );
}

/// `swarms why`.
pub(crate) fn why(why: &Why, page: &mut Page) {
    let title = page.paint(&printable(&why.name), Style::new().bold());
    page.line(&title);
    page.field("infohash", &printable(&why.info_hash));
    page.field("state", why.state.word());
    page.field(
        "need",
        &format!("{}, number {} of {}", need(why.need), why.rank, why.of),
    );
    page.field("named by", &printable(&why.origins.join(", ")));
    page.title("THE SCORE");
    let rows = why.terms.iter().map(|term| {
        let value = term
            .value
            .map_or_else(|| "?".to_owned(), |value| format!("{value:.2}"));
        vec![
            cell(printable(&term.term)),
            cell(value),
            cell(format!("{:.3}", term.weight)),
        ]
    });
    page.table(
        &[("TERM", false), ("OBSERVED", true), ("WEIGHT", true)],
        rows.collect(),
        "Nothing is known yet.",
    );
    page.line("The weights multiplied are the need.");
}
