//! Rates by day and time: the first window of the schedule that holds the moment decides.
//!
//! A window holds a minute of the week if it begins on one of its days at `from` and ends before `to`, which may lie on
//! the next day. Minutes are the operator's own, as the clock shows them: when summer time begins or ends, the hour
//! that is left out or repeated has its windows left out or repeated.

use serde::{Deserialize, Serialize};

/// Minutes of a day.
pub const DAY: u16 = 24 * 60;
/// Minutes of a week.
pub const WEEK: u16 = 7 * DAY;

/// A part of the week with rates of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days on which it begins: bit 0 is Monday.
    pub days: u8,
    /// Minute of the day it begins, under [`DAY`].
    pub from: u16,
    /// Minute of the day before which it ends, at most [`DAY`]; not after `from`: of the next day.
    pub to: u16,
    /// Upload meanwhile, bytes/s; the inner `None` = unlimited, the outer one = as at other times.
    pub upload: Option<Option<u64>>,
    /// Download meanwhile.
    pub download: Option<Option<u64>>,
}

impl Window {
    /// Whether it holds this minute of the week.
    #[must_use]
    pub fn holds(&self, minute: u16) -> bool {
        let length = if self.to > self.from {
            self.to - self.from
        } else {
            DAY - self.from + self.to
        };
        (0..7u16)
            .filter(|day| self.days >> day & 1 == 1)
            .any(|day| {
                let begins = day * DAY + self.from;
                (minute % WEEK + WEEK - begins) % WEEK < length
            })
    }
}

/// The rates at this minute of the week: those of the first window that holds it, for what it names; else `usual`.
#[must_use]
pub fn rates(
    windows: &[Window],
    minute: Option<u16>,
    usual: (Option<u64>, Option<u64>),
) -> (Option<u64>, Option<u64>) {
    let now = minute.and_then(|minute| windows.iter().find(|window| window.holds(minute)));
    now.map_or(usual, |window| {
        (
            window.upload.unwrap_or(usual.0),
            window.download.unwrap_or(usual.1),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Window = Window {
        days: 0b001_1111,
        from: 8 * 60,
        to: 18 * 60,
        upload: Some(Some(20_480)),
        download: None,
    };
    const SUNDAY_NIGHT: Window = Window {
        days: 0b100_0000,
        from: 22 * 60,
        to: 6 * 60,
        upload: Some(None),
        download: Some(Some(4096)),
    };

    #[test]
    fn a_window_holds_its_first_minute_and_not_its_end_and_runs_over_midnight_and_week() {
        let at = |day: u16, hour: u16, minute: u16| (day * 24 + hour) * 60 + minute;
        assert!(WORK.holds(at(0, 8, 0)) && WORK.holds(at(4, 17, 59)));
        assert!(
            !WORK.holds(at(0, 7, 59)) && !WORK.holds(at(4, 18, 0)) && !WORK.holds(at(5, 12, 0))
        );
        assert!(SUNDAY_NIGHT.holds(at(6, 22, 0)) && SUNDAY_NIGHT.holds(at(0, 5, 59)));
        assert!(!SUNDAY_NIGHT.holds(at(6, 5, 0)) && !SUNDAY_NIGHT.holds(at(0, 6, 0)));
        let all_day = Window {
            from: 0,
            to: DAY,
            ..SUNDAY_NIGHT
        };
        let held = (0..WEEK).filter(|minute| all_day.holds(*minute)).count();
        assert_eq!(held, usize::from(DAY));
    }

    #[test]
    fn the_first_window_decides_and_what_it_does_not_name_stays() {
        let usual = (Some(1 << 20), Some(2 << 20));
        let now = |minute| rates(&[WORK, SUNDAY_NIGHT], minute, usual);
        assert_eq!(now(Some(9 * 60)), (Some(20_480), Some(2 << 20)));
        assert_eq!(now(Some(6 * DAY + 23 * 60)), (None, Some(4096)));
        assert_eq!((now(Some(20 * 60)), now(None)), (usual, usual));
        let first = Window {
            days: 127,
            from: 0,
            to: DAY,
            upload: None,
            download: None,
        };
        assert_eq!(rates(&[first, WORK], Some(9 * 60), usual), usual);
    }
}
