//! Times as other systems write them: RFC 3339 and what Python's `isoformat` gives.

use agent_core::Timestamp;

use crate::when::days_from;

/// Reads `2024-09-03T10:16:05.490548-07:00`; a space may stand for the `T`, the fraction may be
/// absent, an absent offset is UTC. None for anything else.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (
        number(date.next()?, 4)?,
        number(date.next()?, 2)?,
        number(date.next()?, 2)?,
    );
    let (time, offset_s) = offset(time)?;
    let (clock, fraction) = time.split_once('.').map_or((time, ""), |parts| parts);
    let mut clock = clock.splitn(3, ':');
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = clock.next().map_or(Some(0), |text| number(text, 2))?;
    let is_date = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let ms = if fraction.is_empty() {
        0
    } else {
        let digits: String = fraction.chars().chain("00".chars()).take(3).collect();
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        number(&digits, 3)?
    };
    let seconds = days_from(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_unix_ms((seconds - offset_s) * 1_000 + ms))
}

/// Splits the offset off, in seconds east of UTC.
fn offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(place) = time.rfind(['+', '-']) else {
        return Some((time, 0));
    };
    let (time, offset) = time.split_at_checked(place)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some((time, sign * (hours * 3_600 + minutes * 60)))
}

fn number(text: &str, n_digits: usize) -> Option<i64> {
    let is_plain = text.len() == n_digits && text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse().ok())?
}

const fn days_in(year: i64, month: i64) -> i64 {
    let next = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    days_from(next.0, next.1, 1) - days_from(year, month, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_other_systems_are_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-09-03T10:16:05.490548-07:00", 1_725_383_765_490),
            ("2024-09-03T17:16:05.49+00:00", 1_725_383_765_490),
            ("2024-02-29 12:00:00", 1_709_208_000_000),
            ("1969-12-31T23:59:59.999", -1),
        ] {
            assert_eq!(parse(text), Some(Timestamp::from_unix_ms(ms)), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01",
            "2024-01-01T25:00:00Z",
            "2024-01-01T00:00:00+1",
            "2024-01-01T00:00:00.x",
            "20240-01-01T00:00:00Z",
            "2024-01-01T00:00:00\u{661}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
