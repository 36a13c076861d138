//! Moments as protocols write them (RFC 3339).

use agent_core::Timestamp;

use crate::error::{Error, Result};

/// Reads a moment; parts of a second beyond a thousandth are cut off.
pub(crate) fn parse(text: &str) -> Result<Timestamp> {
    read(text).ok_or_else(|| Error::invalid("moment", "not of the form of RFC 3339"))
}

fn read(text: &str) -> Option<Timestamp> {
    if text.len() > 40 || !text.is_ascii() {
        return None;
    }
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let year = digits(date.next()?, 4)?;
    let month = digits(date.next()?, 2).filter(|m| (1..=12).contains(m))?;
    let day = digits(date.next()?, 2).filter(|d| (1..=days_of(year, month)).contains(d))?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(zone_at)?;
    let mut time = time.splitn(3, ':');
    let hour = digits(time.next()?, 2).filter(|h| *h < 24)?;
    let minute = digits(time.next()?, 2).filter(|m| *m < 60)?;
    let second = time.next()?;
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let second = digits(second, 2).filter(|s| *s <= 60)?;
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: String = fraction.chars().chain("00".chars()).take(3).collect();
    let ms: i64 = thousandths.parse().ok()?;
    let days = days_from_civil(year, month, day)?;
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(hour.checked_mul(3_600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?
        .checked_sub(offset(zone)?)?;
    let ms = seconds.checked_mul(1_000)?.checked_add(ms)?;
    Some(Timestamp::from_unix_ms(ms))
}

/// Returns the seconds a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("+", zone) => (1, zone),
        ("-", zone) => (-1_i64, zone),
        _ => return None,
    };
    let (hours, minutes) = zone.split_once(':')?;
    let hours = digits(hours, 2).filter(|h| *h < 24)?;
    let minutes = digits(minutes, 2).filter(|m| *m < 60)?;
    let seconds = hours
        .checked_mul(3_600)?
        .checked_add(minutes.checked_mul(60)?)?;
    sign.checked_mul(seconds)
}

fn digits(text: &str, n: usize) -> Option<i64> {
    let is_number = text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_number| is_number)
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year.rem_euclid(4) == 0 && year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0;
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts the days since the first of January 1970 (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = month.checked_add(9)?.rem_euclid(12);
    let of_year = shifted
        .checked_mul(153)?
        .checked_add(2)?
        .div_euclid(5)
        .checked_add(day)?
        .checked_sub(1)?;
    let of_era_days = of_era
        .checked_mul(365)?
        .checked_add(of_era.div_euclid(4))?
        .checked_sub(of_era.div_euclid(100))?
        .checked_add(of_year)?;
    era.checked_mul(146_097)?
        .checked_add(of_era_days)?
        .checked_sub(719_468)
}
