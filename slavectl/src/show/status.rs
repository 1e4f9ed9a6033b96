//! `status`: the node at a glance.

use control_api::status::{FriendsStatus, MonthStatus, Status};
use control_api::units::{human_bytes, human_seconds};
use owo_colors::Style;

use super::{Page, feeds, masters, swarms};
use crate::printable;

/// The whole page.
pub(crate) fn page(status: &Status, page: &mut Page) {
    head(status, page);
    page.title("SWARMS");
    swarms::list(&status.swarms, page);
    if !status.masters.is_empty() {
        page.title("MASTERS");
        masters(&status.masters, page);
    }
    page.title("FEEDS");
    feeds(&status.feeds, page);
}

fn head(status: &Status, page: &mut Page) {
    let program = page.paint(
        &format!("btslave {}", printable(&status.version)),
        Style::new().bold(),
    );
    let paused = if status.paused {
        page.paint(
            "  PAUSED (`slavectl resume` goes on)",
            Style::new().yellow().bold(),
        )
    } else {
        String::new()
    };
    page.line(&format!(
        "{program}  up {}{paused}",
        human_seconds(status.uptime_s)
    ));
    page.field("listening", &printable(&status.listen.join("  ")));
    page.field("peer id", &printable(&status.peer_id));
    page.field("peers", &format!("{} connected", status.connections));
    traffic(status, page);
    month(&status.month, page);
    let cache = &status.cache;
    let bar = page.bar(cache.used_bytes, cache.limit_bytes);
    page.field(
        "cache",
        &format!(
            "{bar}  {} of {}, {} pieces",
            human_bytes(cache.used_bytes),
            human_bytes(cache.limit_bytes),
            cache.pieces
        ),
    );
    friends(status.friends, page);
}

fn traffic(status: &Status, page: &mut Page) {
    let limit = |limit: Option<u64>| {
        limit.map_or_else(String::new, |limit| format!(" of {}/s", human_bytes(limit)))
    };
    let figures = |rate: u64, limit: &str, run: u64, all: u64| {
        let rate = format!("{}/s{limit}", human_bytes(rate));
        format!(
            "{rate:<28} {:>10} this run {:>10} in all",
            human_bytes(run),
            human_bytes(all)
        )
    };
    let session = status.session;
    let given = figures(
        status.upload_rate_bps,
        &limit(status.upload_limit_bps),
        session.uploaded_bytes,
        status.uploaded_bytes,
    );
    page.field("given", &page.paint(&given, Style::new().green()));
    page.field(
        "taken",
        &figures(
            status.download_rate_bps,
            &limit(status.download_limit_bps),
            session.downloaded_bytes,
            status.downloaded_bytes,
        ),
    );
    page.field(
        "ratio",
        &format!(
            "{} this run, {} in all; {} wasted",
            ratio(session.uploaded_bytes, session.downloaded_bytes),
            ratio(status.uploaded_bytes, status.downloaded_bytes),
            human_bytes(status.wasted_bytes)
        ),
    );
}

/// What the line carried this month, what is left of the quota, and until when.
fn month(month: &MonthStatus, page: &mut Page) {
    let used = human_bytes(month.used_bytes);
    let (until, zone) = (
        printable(month.until.as_deref().unwrap_or("the next month")),
        printable(&month.time_zone),
    );
    let text = match (month.limit_bytes, month.left_bytes) {
        (Some(limit), _) if month.spent => page.paint(
            &format!(
                "STOPPED until {until} ({zone}): {used} of {} used; to go on, raise limits.month and `slavectl reload`",
                human_bytes(limit)
            ),
            Style::new().yellow().bold(),
        ),
        (Some(limit), Some(left)) => format!(
            "{}  {used} of {}, {} left until {until} ({zone})",
            page.bar(month.used_bytes, limit),
            human_bytes(limit),
            human_bytes(left)
        ),
        (_, _) => format!("{used} both ways, no limit"),
    };
    page.field("this month", &text);
}

fn friends(friends: FriendsStatus, page: &mut Page) {
    if friends.known > 0 {
        page.field(
            "friends",
            &format!(
                "{} known, {} online; they owe us {}, we owe them {}",
                friends.known,
                friends.online,
                human_bytes(friends.owed_to_us_bytes),
                human_bytes(friends.owed_by_us_bytes)
            ),
        );
    }
}

/// Given over taken, to two digits.
fn ratio(given: u64, taken: u64) -> String {
    if taken == 0 {
        return "-".to_owned();
    }
    let hundredths = u128::from(given) * 100 / u128::from(taken);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
