//! When everything stops: the operator's pause, and the month's quota.

use crate::io::{LeaveReason, Note, Output, Wall};
use crate::node::Node;
use crate::node::desk::Desk;
use crate::params::Params;
use crate::policy::quota::{self, Book};
use crate::view::MonthView;

/// How the month's quota stands.
#[derive(Debug)]
pub(crate) struct Quota {
    /// Its total is what was carried, as far as it was told.
    book: Book,
    /// The total when the run began.
    base: u64,
    /// Times the clock came to show another month.
    turns: u32,
    /// What is durable.
    saved: Written,
    /// What is being written.
    saving: Option<Written>,
    /// What was said last.
    allowed: Option<u64>,
}

/// A book as it was handed out to be written.
#[derive(Clone, Copy, Debug)]
struct Written {
    total: u64,
    turns: u32,
}

impl Quota {
    pub(crate) fn new(params: &Params) -> Self {
        let total = params.book.total;
        Self {
            book: params.book.clone(),
            base: total,
            turns: 0,
            saved: Written { total, turns: 0 },
            saving: None,
            // What the shell does without a word.
            allowed: params.limits.month.map(|_| 0),
        }
    }

    pub(crate) fn carried(&mut self, bytes: u64) {
        self.book.total = self.book.total.max(self.base.saturating_add(bytes));
    }

    pub(crate) fn saved(&mut self, total: u64) {
        if let Some(written) = self.saving.take_if(|written| written.total == total) {
            self.saved = written;
        }
    }

    /// Whether `limit` leaves nothing but the farewell.
    fn is_spent(&self, limit: Option<u64>) -> bool {
        let spent = |limit| self.book.end(limit) <= self.book.total + quota::FAREWELL;
        self.book.month().is_some() && limit.is_some_and(spent)
    }

    /// The book to write, if it is time.
    fn reserve(&mut self, limit: Option<u64>) -> Option<Book> {
        let (carried, saved) = (self.book.total, self.saved.total);
        let chunk = quota::chunk(limit);
        let end = limit.map_or(u64::MAX, |limit| self.book.end(limit));
        let total = end.min(carried.saturating_add(chunk)).max(saved);
        let low = saved.saturating_sub(carried) <= chunk / 2 && total > saved;
        let turned = self.saved.turns != self.turns;
        if self.saving.is_some() || !(low || turned) {
            return None;
        }
        self.saving = Some(Written {
            total,
            turns: self.turns,
        });
        Some(self.book.with_total(total))
    }

    /// What the line may carry in this run: nothing that is not reserved, and nothing more in a month of which the disk
    /// does not know yet, or after a kill it would count for the month before.
    fn allowance(&self, limit: Option<u64>) -> Option<u64> {
        limit.map(|limit| {
            let known = self.saved.turns == self.turns;
            let reserved = if known {
                self.saved.total
            } else {
                self.book.total
            };
            reserved.min(self.book.end(limit)).saturating_sub(self.base)
        })
    }

    pub(crate) fn view(&self, desk: &Desk) -> MonthView {
        MonthView {
            month: self.book.month(),
            limit_bytes: desk.params.limits.month,
            used_bytes: self.book.used(),
            spent: desk.spent,
        }
    }
}

impl Node {
    pub(crate) fn pause(&mut self, paused: bool) {
        let stopped = self.desk.stopped();
        self.desk.paused = paused;
        self.stop_or_go(stopped, LeaveReason::Paused);
    }

    /// The clock shows another minute.
    pub(crate) fn wall(&mut self, wall: Wall) {
        self.desk.minute = Some(wall.minute);
        self.rates_due = true;
        let turned = self.quota.book.show(wall.month);
        self.quota.turns += u32::from(turned);
        self.ration();
    }

    /// Stops when the quota is used up, reserves what is needed next, and says what the line may carry.
    pub(crate) fn ration(&mut self) {
        let limit = self.desk.params.limits.month;
        let (stopped, was) = (self.desk.stopped(), self.desk.spent);
        self.desk.spent = self.quota.is_spent(limit);
        if self.desk.spent != was {
            self.desk.note(Note::QuotaSpent(self.desk.spent));
            self.stop_or_go(stopped, LeaveReason::Quota);
        }
        if let Some(book) = self.quota.reserve(limit) {
            self.desk.out.push_back(Output::Save(book));
        }
        let allowed = self.quota.allowance(limit);
        if self.quota.allowed != allowed {
            self.quota.allowed = allowed;
            self.desk.out.push_back(Output::Allow(allowed));
        }
    }

    /// Leaves every swarm when all stops, looks around when it goes on.
    fn stop_or_go(&mut self, stopped: bool, why: LeaveReason) {
        if self.desk.stopped() && !stopped {
            for swarm in self.swarms.values_mut() {
                swarm.leave(&mut self.desk, why);
            }
        }
        self.review();
    }
}
