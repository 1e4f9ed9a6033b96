//! The operator's clock for the brain, and the book of the month's quota for the disk.

use std::sync::Arc;
use std::time::Duration;

use control_api::status::MonthStatus;
use jiff::Zoned;
use jiff::tz::TimeZone;
use swarm_core::io::Wall;
use swarm_core::policy::quota::{Book, Month};
use swarm_core::view::MonthView;

use super::Shared;

/// How often the clock is looked at: a clock that was set is noticed within this.
const LOOK: Duration = Duration::from_secs(5);
/// After a book could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// Tells the brain each minute the clock shows, until the daemon stops.
pub(super) async fn tell_time(shared: Arc<Shared>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        looks.tick().await;
        let wall = wall(&Zoned::now());
        if told != Some(wall) && shared.engine.wall(wall).await.is_err() {
            return;
        }
        told = Some(wall);
    }
}

/// Keeps each book durably and says so, until the daemon stops. A write that began is ended before.
pub(super) async fn keep_books(shared: Arc<Shared>) {
    let mut books = shared.engine.books();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            changed = books.changed() => if changed.is_err() { return },
        }
        loop {
            let Some(book) = books.borrow_and_update().clone() else {
                break;
            };
            let total = book.total;
            let Err(error) = shared.store(move |store| store.put_book(&book)).await else {
                // An engine that has stopped carries nothing more.
                let _ = shared.engine.saved(total).await;
                break;
            };
            tracing::warn!(
                "what the line carried cannot be saved; with limits.month set, transfers stop until it can: {error:#}"
            );
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

impl Shared {
    /// The book with what was really carried, once nothing is carried any more: a clean stop costs no reservation.
    pub(super) fn last_book(&self) -> Option<Book> {
        let carried = self.engine.allowance().carried();
        let book = self.engine.books().borrow().clone();
        book.map(|book| book.with_total(self.carried_before.saturating_add(carried)))
    }
}

/// What a clock shows, in its own time zone.
fn wall(now: &Zoned) -> Wall {
    let day = u16::try_from(now.weekday().to_monday_zero_offset()).unwrap_or_default();
    let part = |number: i8| u16::try_from(number).unwrap_or_default();
    Wall {
        month: i32::from(now.year()) * 12 + i32::from(now.month()) - 1,
        minute: (day * 24 + part(now.hour())) * 60 + part(now.minute()),
    }
}

/// `2026-11`.
fn month_name(month: Month) -> String {
    format!(
        "{:04}-{:02}",
        month.div_euclid(12),
        month.rem_euclid(12) + 1
    )
}

/// The quota for people.
pub(super) fn month(view: &MonthView) -> MonthStatus {
    let zone = TimeZone::system();
    let name = zone.iana_name().unwrap_or("local time");
    MonthStatus {
        month: view.month.map(month_name),
        limit_bytes: view.limit_bytes,
        used_bytes: view.used_bytes,
        left_bytes: view
            .limit_bytes
            .map(|limit| limit.saturating_sub(view.used_bytes)),
        spent: view.spent,
        until: view
            .month
            .map(|month| format!("{}-01", month_name(month + 1))),
        time_zone: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_month_and_minute_of_the_week_in_its_zone() {
        let at = |text: &str| wall(&text.parse().expect("a time"));
        let new_year = at("2027-01-01T00:30[UTC]");
        assert_eq!(
            (new_year.month, new_year.minute),
            (2027 * 12, 4 * 1440 + 30)
        );
        assert_eq!(month_name(new_year.month), "2027-01");
        assert_eq!(month_name(new_year.month - 1), "2026-12");
        // Sunday night still, and the old year, to the west.
        let west = at("2027-01-03T23:59[America/New_York]");
        assert_eq!(west.minute, 7 * 1440 - 1);
        // Summer time begins: 01:59 is followed by 03:00.
        let jump = [1_774_745_940, 1_774_746_000].map(|second| {
            let time = jiff::Timestamp::from_second(second).expect("a time");
            wall(&time.in_tz("Europe/Berlin").expect("a zone")).minute % 1440
        });
        assert_eq!(jump, [119, 180]);
    }
}
