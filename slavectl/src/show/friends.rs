//! `friends`: the table, the ledger, and its check.

use comfy_table::{Cell, Color};
use control_api::friends::{AccountCheck, Friend, LedgerAccount, LedgerCheck, SignedRecord};
use control_api::units::human_bytes;
use owo_colors::Style;

use super::{Page, bytes, cell, name, state};
use crate::printable;

/// `friends list`.
pub(crate) fn list(friends: &[Friend], page: &mut Page) {
    let columns = [
        ("FRIEND", false),
        ("ONLINE", false),
        ("THEY OWE US", true),
        ("WE OWE THEM", true),
        ("GIVEN THIS MONTH", true),
        ("TAKEN", true),
        ("LAST SEEN", false),
        ("STATE", false),
        ("DISPUTED", true),
    ];
    let rows = friends.iter().map(|friend| {
        let online = if friend.online {
            cell("yes").fg(Color::Green)
        } else {
            cell("no")
        };
        vec![
            cell(name(&friend.name)),
            online,
            bytes(friend.owed_to_us_bytes),
            bytes(friend.owed_by_us_bytes),
            bytes(friend.given_month_bytes),
            bytes(friend.taken_month_bytes),
            seen(friend),
            state(&friend.state),
            bytes(friend.disputed_bytes),
        ]
    });
    page.table(
        &columns,
        rows.collect(),
        "No friends. `slavectl friends code` prints your code; `slavectl friends add CODE` adds a friend's.",
    );
}

fn seen(friend: &Friend) -> Cell {
    cell(friend.last_seen.map_or_else(|| "never".to_owned(), date))
}

/// A moment as people write it, in UTC.
fn date(at: u64) -> String {
    // Days since 0000-03-01 in eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = at / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute) = (at / 3600 % 24, at / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// `friends ledger`.
pub(crate) fn ledger(accounts: &[LedgerAccount], page: &mut Page) {
    if accounts.is_empty() {
        return page.line("Nothing is signed yet.");
    }
    for account in accounts {
        let title = account.name.as_deref().unwrap_or("not on the list");
        page.title(&printable(title));
        page.field("code", &printable(&account.friend));
        if let Some(newer) = &account.replaced_by {
            page.field("replaced by", &printable(newer));
        }
        if let Some(own) = &account.own_former {
            page.field("our former key", &printable(own));
        }
        signed("they owe us", account.given.as_ref(), page);
        signed("we owe them", account.received.as_ref(), page);
        page.field("delivered", &human_bytes(account.delivered_bytes));
        page.field("disputed", &human_bytes(account.disputed_bytes));
    }
}

fn signed(what: &str, record: Option<&SignedRecord>, page: &mut Page) {
    let Some(record) = record else {
        return page.field(what, "nothing signed");
    };
    page.field(what, &format!("{} bytes", printable(&record.total)));
    page.field("  IOU", &printable(&record.iou));
    page.field("  signature", &printable(&record.signature));
}

/// `friends verify`.
pub(crate) fn check(check: &LedgerCheck, page: &mut Page) {
    for AccountCheck { friend, ok, detail } in &check.accounts {
        let (mark, style) = if *ok {
            ("✓", Style::new().green())
        } else {
            ("✗", Style::new().red())
        };
        let mark = page.paint(mark, style);
        page.line(&format!("{mark} {} {}", name(friend), printable(detail)));
    }
    page.line(&format!(
        "{} signatures checked and sound.",
        check.signatures
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (at, shown) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_200, "2024-03-01 00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
        ] {
            assert_eq!(date(at), shown);
        }
    }
}
