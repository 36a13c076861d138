//! Days, months and seasons of the calendar, as days since the epoch.

use agent_core::Timestamp;

use super::{MONTHS, YEARS};

pub(super) const DAY_MS: i64 = 86_400_000;

/// A first day and the one behind the last, in days since the epoch.
pub(super) type Days = (i64, i64);

pub(super) const fn one(day: i64) -> Days {
    (day, day + 1)
}

pub(super) fn month_number(word: &str) -> Option<i64> {
    let is_short = word.len() == 3 || word == "sept";
    (1..)
        .zip(MONTHS)
        .find(|(_, name)| *name == word || is_short && name.starts_with(word))
        .map(|(month, _)| month)
}

pub(super) fn year_number(word: &str) -> Option<i64> {
    let is_year = word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit());
    word.parse()
        .ok()
        .filter(|year| is_year && YEARS.contains(year))
}

pub(super) fn day_number(word: &str) -> Option<i64> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_ordinal = matches!(
        word.get(digits.len()..),
        Some("" | "st" | "nd" | "rd" | "th")
    );
    digits
        .parse()
        .ok()
        .filter(|day| is_ordinal && (1..=31).contains(day))
}

/// Seasons of the northern hemisphere, by whole months.
pub(super) fn season(name: &str, year: i64) -> Option<Days> {
    let first = match name {
        "spring" => 3,
        "summer" => 6,
        "autumn" | "fall" => 9,
        "winter" => 12,
        _ => return None,
    };
    Some((month_days(year, first).0, month_days(year, first + 2).1))
}

pub(super) const fn year_days(year: i64) -> Days {
    (days_from(year, 1, 1), days_from(year + 1, 1, 1))
}

/// A month, counted on from January of the year.
pub(super) const fn month_days(year: i64, month: i64) -> Days {
    (first_of(year, month), first_of(year, month + 1))
}

pub(super) const fn first_of(year: i64, month: i64) -> i64 {
    let month = month - 1;
    days_from(year + month.div_euclid(12), month.rem_euclid(12) + 1, 1)
}

pub(super) fn civil(day: i64) -> (i64, i64, i64) {
    let at = Timestamp::from_unix_ms(day.saturating_mul(DAY_MS));
    let (year, month, day) = at.utc_date();
    (year, i64::from(month), i64::from(day))
}

/// Days since the epoch of a proleptic Gregorian date, by Howard Hinnant's `days_from_civil`.
pub(crate) const fn days_from(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}
