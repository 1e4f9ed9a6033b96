//! The table of a plan's runs.

use core::fmt::Write;

use crate::harm::{Times, latest};
use crate::outcome::{Outcome, SlavesOutcome};

/// A column: its heading, its value, and the digits after the point.
type Column = (&'static str, fn(&Outcome) -> Option<f64>, usize);

const MIB: f64 = 1_048_576.0;

const COLUMNS: &[Column] = &[
    ("complete", |o| Some(f64::from(o.complete)), 0),
    ("mean s", |o| o.mean_s, 1),
    ("bound s", |o| o.bound_s, 1),
    ("first s", |o| o.first_s, 1),
    ("last s", |o| o.last_s, 1),
    ("up MiB", |o| (o.up > 0).then_some(o.up as f64 / MIB), 1),
    (
        "down MiB",
        |o| (o.down > 0).then_some(o.down as f64 / MIB),
        1,
    ),
    ("ratio", |o| o.ratio, 2),
    ("line %", |o| Some(o.line? * 100.0), 1),
    ("in window %", |o| Some(o.line_window? * 100.0), 1),
    ("joined", |o| (o.joins > 0).then(|| o.joins.into()), 0),
    ("left", |o| (o.leaves > 0).then(|| o.leaves.into()), 0),
    (
        "wasted MiB",
        |o| (o.repeaters_wasted > 0).then_some(o.repeaters_wasted as f64 / MIB),
        1,
    ),
];

/// A column of the slaves' table.
type SlavesColumn = (&'static str, fn(&SlavesOutcome) -> Option<f64>, usize);

const SLAVES_COLUMNS: &[SlavesColumn] = &[
    ("wanted", |s| Some(s.wanted.into()), 0),
    ("complete", |s| Some(s.complete.into()), 0),
    ("master s", |s| s.mean_s, 1),
    ("KiB/s", |s| Some(s.rate? / 1_024.0), 1),
    ("bound KiB/s", |s| Some(s.bound_rate? / 1_024.0), 1),
    ("of it %", |s| Some(s.rate? / s.bound_rate? * 100.0), 0),
    ("gave MiB", |s| some_mib(s.gave), 2),
    ("signed for MiB", |s| some_mib(s.signed), 2),
    ("had MiB", |s| some_mib(s.had), 2),
    ("signed MiB", |s| some_mib(s.owe), 2),
    ("most of a pair MiB", |s| some_mib(s.most_had), 2),
    ("most of a helper MiB", |s| some_mib(s.most_from_one), 2),
    ("last had h", |s| Some(s.last_had_s? / 3_600.0), 2),
    ("keys", |s| (s.keys > 0).then(|| s.keys.into()), 0),
];

fn some_mib(bytes: u64) -> Option<f64> {
    (bytes > 0).then_some(bytes as f64 / MIB)
}

/// A Markdown table with a line for each case and make of slaves, if there are any: medians, and least and most.
#[must_use]
pub fn slaves_table(outcomes: &[Outcome]) -> String {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for outcome in outcomes {
        for slaves in &outcome.slaves {
            let row = (outcome.case.as_str(), slaves.name.as_str());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from("| case | slaves |");
    for (name, _, _) in SLAVES_COLUMNS {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n| --- |");
    text.push_str(&" --- |".repeat(SLAVES_COLUMNS.len() + 1));
    text.push('\n');
    for (case, name) in rows {
        let of_case = outcomes.iter().filter(|o| o.case == case);
        let runs: Vec<&SlavesOutcome> = of_case
            .flat_map(|outcome| &outcome.slaves)
            .filter(|slaves| slaves.name == name)
            .collect();
        let _ = write!(text, "| {case} | {name} |");
        for (_, value, digits) in SLAVES_COLUMNS {
            let values = runs.iter().filter_map(|run| value(run)).collect();
            let _ = write!(text, " {} |", spread(values, *digits));
        }
        text.push('\n');
    }
    text
}

/// A Markdown table with a line for each case: medians, and least and most where they differ.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from("| case | runs |");
    for (name, _, _) in COLUMNS {
        // Writing to a string does not fail.
        let _ = write!(text, " {name} |");
    }
    let compared = outcomes.iter().any(|outcome| outcome.against.is_some());
    if compared {
        text.push_str(" latest later % |");
    }
    text.push_str("\n| --- |");
    text.push_str(&" --- |".repeat(COLUMNS.len() + 1 + usize::from(compared)));
    text.push('\n');
    let mut cases: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !cases.contains(&outcome.case.as_str()) {
            cases.push(&outcome.case);
        }
    }
    for case in cases {
        let runs: Vec<&Outcome> = outcomes.iter().filter(|o| o.case == case).collect();
        let _ = write!(text, "| {case} | {} |", runs.len());
        for (_, value, digits) in COLUMNS {
            let values = runs.iter().filter_map(|run| value(run)).collect();
            let _ = write!(text, " {} |", spread(values, *digits));
        }
        if compared {
            let later = later(outcomes, &runs);
            let shown = later.map_or_else(|| "-".into(), |part| format!("{:+.1}", part * 100.0));
            let _ = write!(text, " {shown} |");
        }
        text.push('\n');
    }
    text
}

/// By what part the worst place among honest leechers is later than in the case without us.
#[must_use]
pub fn later(outcomes: &[Outcome], runs: &[&Outcome]) -> Option<f64> {
    let against = runs.first()?.against.as_ref()?;
    let without = outcomes.iter().filter(|o| o.case == *against);
    let without: Vec<&Times> = without.map(|outcome| &outcome.times).collect();
    let ours: Vec<&Times> = runs.iter().map(|outcome| &outcome.times).collect();
    latest(&ours, &without, runs.iter().any(|run| run.cut))
}

fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most), Some(median)) =
        (values.first(), values.last(), values.get(values.len() / 2))
    else {
        return "-".into();
    };
    let shown = |value: f64| format!("{value:.digits$}");
    if shown(*least) == shown(*most) {
        shown(*median)
    } else {
        format!("{} ({}-{})", shown(*median), shown(*least), shown(*most))
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn a_spread_is_the_median_and_the_ends() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0], 1), "2.0 (1.0-3.0)");
        assert_eq!(spread(vec![1.04, 1.01], 1), "1.0");
        assert_eq!(spread(vec![], 1), "-");
    }
}
