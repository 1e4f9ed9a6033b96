//! `limits.schedule`: windows of the week, as people write them.

use control_api::units::Rate;
use serde::Deserialize;
use swarm_core::policy::schedule::{DAY, Window};

use super::keys::Rejected;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Most windows.
const MAX: usize = 100;

/// One window as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    days: String,
    from: String,
    to: String,
    upload: Option<Rate>,
    download: Option<Rate>,
}

/// Reads the windows.
pub(super) fn read(written: &[Written]) -> Result<Vec<Window>, Rejected> {
    if written.len() > MAX {
        return Err(Rejected::new(format!("names over {MAX} windows"), ""));
    }
    written.iter().map(window).collect()
}

/// One window, as [`read`] takes it.
pub(super) fn print(window: &Window) -> String {
    let days: Vec<&str> = (0..7)
        .filter(|day| window.days >> day & 1 == 1)
        .filter_map(|day| DAYS.get(day).copied())
        .collect();
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let rate = |key: &str, rate: Option<Option<u64>>| {
        rate.map_or_else(String::new, |rate| format!(", {key} = \"{}\"", Rate(rate)))
    };
    format!(
        "{{ days = \"{}\", from = \"{}\", to = \"{}\"{}{} }}",
        days.join(","),
        time(window.from),
        time(window.to),
        rate("upload", window.upload),
        rate("download", window.download)
    )
}

fn window(written: &Written) -> Result<Window, Rejected> {
    let rate = |rate: Option<Rate>| match rate {
        Some(Rate(Some(bps))) if bps < 1024 => Err(Rejected::new(
            "a rate under 1 KiB/s, which no peer bears",
            "write \"unlimited\" or at least \"1 KiB/s\"",
        )),
        other => Ok(other.map(|rate| rate.0)),
    };
    let (from, to) = (time(&written.from)?, time(&written.to)?);
    if from == DAY || from == to {
        return Err(Rejected::new(
            "a window that begins where it ends",
            "write from = \"00:00\", to = \"24:00\" for the whole day",
        ));
    }
    if written.upload.is_none() && written.download.is_none() {
        return Err(Rejected::new(
            "a window without a rate",
            "name upload, download or both",
        ));
    }
    Ok(Window {
        days: days(&written.days)?,
        from,
        to,
        upload: rate(written.upload)?,
        download: rate(written.download)?,
    })
}

/// `mon-fri`, `sat`, `mon,wed-fri`, `fri-mon`.
fn days(text: &str) -> Result<u8, Rejected> {
    let wrong = || {
        let shown = text.escape_debug();
        Rejected::new(
            format!("`{shown}` names no days"),
            "write them as \"mon-fri\" or \"sat,sun\"",
        )
    };
    let day = |name: &str| {
        DAYS.iter()
            .position(|day| *day == name.trim())
            .ok_or_else(wrong)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        set |= 1 << at;
        while at != last {
            at = (at + 1) % DAYS.len();
            set |= 1 << at;
        }
    }
    Ok(set)
}

/// `08:00`, up to `24:00`: minutes.
fn time(text: &str) -> Result<u16, Rejected> {
    let wrong = || {
        let shown = text.escape_debug();
        Rejected::new(
            format!("`{shown}` is no time of day"),
            "write it as \"08:00\", up to \"24:00\"",
        )
    };
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let part = |digits: &str| {
        let sound = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits
            .parse::<u16>()
            .ok()
            .filter(|_| sound)
            .ok_or_else(wrong)
    };
    let (hour, minute) = (part(hour)?, part(minute)?);
    if minute < 60 && hour * 60 + minute <= DAY {
        Ok(hour * 60 + minute)
    } else {
        Err(wrong())
    }
}
