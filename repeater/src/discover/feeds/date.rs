//! Dates as RSS writes them (RFC 2822 and its common sins).

/// Seconds since the Unix epoch; None for what cannot be read.
pub(super) fn rfc2822(text: &str) -> Option<i64> {
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut parts = text.split_whitespace();
    let day: i64 = parts
        .next()?
        .parse()
        .ok()
        .filter(|d| (1..=31).contains(d))?;
    let month = month(parts.next()?)?;
    let year: i64 = parts
        .next()?
        .parse()
        .ok()
        .filter(|y| (0..=9999).contains(y))?;
    let year = match year {
        0..=49 => year + 2000,
        50..=99 => year + 1900,
        _ => year,
    };
    let mut clock = parts
        .next()?
        .split(':')
        .map(|p| p.parse::<i64>().ok().filter(|n| (0..=60).contains(n)));
    let (hour, minute, second) = (
        clock.next()??,
        clock.next()??,
        clock.next().unwrap_or(Some(0))?,
    );
    let offset = parts.next().map_or(Some(0), zone)?;
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

fn month(name: &str) -> Option<i64> {
    const NAMES: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let name = name.get(..3)?.to_ascii_lowercase();
    (1..).zip(NAMES).find(|(_, n)| *n == name).map(|(i, _)| i)
}

/// Seconds east of Greenwich.
fn zone(text: &str) -> Option<i64> {
    let Some(digits) = text.strip_prefix(['+', '-']) else {
        let hours = match text {
            "EST" | "CDT" => -5,
            "EDT" => -4,
            "CST" | "MDT" => -6,
            "MST" | "PDT" => -7,
            "PST" => -8,
            _ => 0,
        };
        return Some(hours * 3600);
    };
    let number: i64 = digits
        .replace(':', "")
        .parse()
        .ok()
        .filter(|n| (0..=2359).contains(n))?;
    let seconds = (number / 100) * 3600 + (number % 100) * 60;
    Some(if text.starts_with('-') {
        -seconds
    } else {
        seconds
    })
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    let of_year = (153 * m + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::rfc2822;

    #[test]
    fn dates_as_feeds_write_them() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 10 Jun 2003 04:00:00 +0200", Some(1_055_210_400)),
            ("10 Jun 03 04:00 EST", Some(1_055_235_600)),
            ("Sat, 29 Feb 2020 12:00:00 -0000", Some(1_582_977_600)),
            ("yesterday", None),
            ("Tue, 10 Jun 99999999999999999999 04:00:00 GMT", None),
            ("Tue, 10 Jun 2003 99:00:00 GMT", None),
            ("", None),
        ] {
            assert_eq!(rfc2822(text), expected, "{text}");
        }
    }
}
