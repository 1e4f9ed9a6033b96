//! The table of a plan's runs.

use core::fmt::Write;

use crate::harm::{Times, latest};
use crate::outcome::Outcome;

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
