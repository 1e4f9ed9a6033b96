//! The month's quota: how much the line may carry until the operator's month ends.
//!
//! One counter of all bytes ever carried, both directions together, and for each month what the counter said when the
//! clock first showed it. Then
//!
//! > used(M) = total − first(M)
//!
//! so everything carried since the clock first showed month M counts for M, whatever the clock showed meanwhile. A clock
//! set back finds the month as it was left, plus what was carried since; one set forward and back gives no month twice.
//! A month never seen before begins anew when the clock came to it from an earlier one. Came it from a later one, then
//! the clock was wrong before or is wrong now, and the month begins with what the later one had used.
//!
//! Nothing is carried before it is reserved: a total is written to disk first, at most [`chunk`] ahead, and after a
//! kill the reserved total counts as carried. So a kill can cost a chunk of the quota; it can never give one. This is
//! the accounting of Tor's `AccountingMax` (tor-spec, "accounting": soft state that must not reset), with a reservation
//! in place of its periodic note.

use serde::{Deserialize, Serialize};

/// Of the quota, kept for taking leave: connections stop so many bytes before the end, and the farewells to trackers
/// come out of it. Bytes.
pub const FAREWELL: u64 = 64 << 10;
/// Months remembered. Beyond it the earliest ones are remembered together.
const MONTHS: usize = 32;

/// A calendar month: 12 × year + (month − 1), in the operator's time zone.
pub type Month = i32;

/// The counter, as it is kept from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Bytes carried, or reserved, in all runs.
    pub total: u64,
    /// The month the clock showed last.
    shown: Option<Month>,
    /// What `total` was when each month was first shown, by month.
    first: Vec<(Month, u64)>,
    /// The latest month no longer kept by itself, and the least `first` of all such.
    dropped: Option<(Month, u64)>,
}

impl Book {
    /// The month the clock shows; `None` before it showed one.
    #[must_use]
    pub fn month(&self) -> Option<Month> {
        self.shown
    }

    /// The clock shows this month now. True if it showed another one before.
    pub fn show(&mut self, month: Month) -> bool {
        if self.shown == Some(month) {
            return false;
        }
        if self.first_of(month).is_none() {
            let later = self.shown.filter(|shown| *shown > month);
            let first = later.and_then(|shown| self.first_of(shown));
            self.remember(month, first.unwrap_or(self.total));
        }
        self.shown = Some(month);
        true
    }

    /// Bytes that count for the month shown.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.first())
    }

    /// The total at which a quota of `limit` bytes is used up. Zero before the clock showed a month: nothing is carried
    /// for a month that is not known.
    #[must_use]
    pub fn end(&self, limit: u64) -> u64 {
        self.shown.map_or(0, |_| self.first().saturating_add(limit))
    }

    /// The same book with another total.
    #[must_use]
    pub fn with_total(&self, total: u64) -> Self {
        Self {
            total,
            ..self.clone()
        }
    }

    fn first(&self) -> u64 {
        self.shown
            .and_then(|month| self.first_of(month))
            .unwrap_or(self.total)
    }

    fn first_of(&self, month: Month) -> Option<u64> {
        let kept = self.first.iter().find(|(kept, _)| *kept == month);
        let among_dropped = || self.dropped.filter(|(latest, _)| month <= *latest);
        kept.copied().or_else(among_dropped).map(|(_, first)| first)
    }

    fn remember(&mut self, month: Month, first: u64) {
        self.first.push((month, first));
        self.first.sort_unstable();
        if self.first.len() > MONTHS {
            let (latest, first) = self.first.remove(0);
            let least = self.dropped.map_or(first, |(_, least)| least.min(first));
            self.dropped = Some((latest, least));
        }
    }
}

/// How far ahead to reserve, bytes: a 256th of the quota, so that what a kill costs is small beside it, within bounds
/// that spare the disk on a fast line.
#[must_use]
pub fn chunk(limit: Option<u64>) -> u64 {
    const LARGEST: u64 = 64 << 20;
    limit.map_or(LARGEST, |limit| (limit / 256).clamp(256 << 10, LARGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NOV: Month = 2026 * 12 + 10;

    fn book(months: &[(Month, u64)]) -> Book {
        let mut book = Book::default();
        for (month, carried) in months {
            book.show(*month);
            book.total += carried;
        }
        book
    }

    #[test]
    fn a_new_month_begins_anew_and_one_seen_before_does_not() {
        let mut book = book(&[(NOV, 100), (NOV + 1, 30)]);
        assert_eq!(book.used(), 30);
        assert!(book.show(NOV));
        assert_eq!(book.used(), 130, "all since November was first shown");
        assert!(book.show(NOV + 1) && !book.show(NOV + 1));
        assert_eq!(book.used(), 30);
    }

    #[test]
    fn a_clock_that_starts_in_1970_inherits_the_month_it_lost() {
        let mut book = book(&[(NOV, 100)]);
        book.show(1970 * 12);
        assert_eq!(book.used(), 100);
        book.total += 7;
        book.show(NOV);
        assert_eq!(book.used(), 107);
    }

    #[test]
    fn a_clock_set_ahead_by_mistake_does_not_bar_the_months_to_come() {
        let mut book = book(&[(NOV, 100), (2099 * 12, 50), (NOV, 5)]);
        assert_eq!(book.used(), 155);
        book.show(NOV + 1);
        assert_eq!(book.used(), 0);
    }

    proptest! {
        /// Whatever the clock does, and however many months it shows: at least what was carried since the month was
        /// first shown counts.
        #[test]
        fn nothing_carried_since_a_month_was_first_shown_is_forgotten(
            steps in prop::collection::vec((NOV - 40..NOV + 40, 0u64..1000), 1..200)
        ) {
            let (mut book, mut first) = (Book::default(), BTreeMap::new());
            for (month, carried) in steps {
                book.show(month);
                let first = *first.entry(month).or_insert(book.total);
                book.total += carried;
                prop_assert!(book.used() >= book.total - first);
            }
        }
    }
}
