//! When a schedule is due: cron expressions of five fields, in UTC.
//!
//! The parser is our own: the kept-up crates bring a calendar library or a dozen procedural macros
//! for what five bit sets do.

use std::fmt;
use std::str::FromStr;

use agent_core::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// How far a search goes: 29 February can be eight years away, around 2100.
const SEARCH_DAYS: i64 = 8 * 366;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A cron expression: minute, hour, day of the month, month, day of the week, always in UTC.
///
/// Each field is `*`, a number, `a-b`, any of these with `/step`, or a list of them. Months and days
/// of the week have names; Sunday is 0 and 7. If both days are restricted, either is enough. The
/// short forms `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` stand for their expressions.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    is_any_day: bool,
    is_any_weekday: bool,
}

impl Cron {
    /// The longest expression in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Returns the first moment after `t` it is due at; none if there is none within eight years.
    #[must_use]
    pub fn next_after(&self, t: Timestamp) -> Option<Timestamp> {
        let from = t.as_unix_ms().div_euclid(MINUTE_MS).checked_add(1)?;
        let (first, minute) = (from.div_euclid(1_440), from.rem_euclid(1_440));
        (0..SEARCH_DAYS).find_map(|n| {
            let day = first.checked_add(n)?;
            let from = if n == 0 { minute } else { 0 };
            self.moment(day, from..1_440)
        })
    }

    /// Returns the last moment not after `t` it was due at; none if there is none within eight
    /// years.
    #[must_use]
    pub fn last_at(&self, t: Timestamp) -> Option<Timestamp> {
        let to = t.as_unix_ms().div_euclid(MINUTE_MS);
        let (last, minute) = (to.div_euclid(1_440), to.rem_euclid(1_440));
        (0..SEARCH_DAYS).find_map(|n| {
            let day = last.checked_sub(n)?;
            let to = if n == 0 { minute } else { 1_439 };
            self.moment(day, (0..=to).rev())
        })
    }

    /// Returns the first of the minutes of a day it is due at.
    fn moment(&self, day: i64, mut minutes: impl Iterator<Item = i64>) -> Option<Timestamp> {
        if !self.has_day(day) {
            return None;
        }
        let minute = minutes.find(|minute| self.has_minute(*minute))?;
        let ms = day.checked_mul(DAY_MS)?.checked_add(minute * MINUTE_MS)?;
        Some(Timestamp::from_unix_ms(ms))
    }

    fn has_minute(&self, minute_of_day: i64) -> bool {
        has(self.hours, minute_of_day / 60) && has(self.minutes, minute_of_day % 60)
    }

    fn has_day(&self, day: i64) -> bool {
        let at = Timestamp::from_unix_ms(day.saturating_mul(DAY_MS));
        let (_year, month, of_month) = at.utc_date();
        // The epoch was a Thursday.
        let of_week = day.saturating_add(4).rem_euclid(7);
        let fits = match (self.is_any_day, self.is_any_weekday) {
            (false, false) => has(self.days, of_month.into()) || has(self.weekdays, of_week),
            _ => has(self.days, of_month.into()) && has(self.weekdays, of_week),
        };
        fits && has(self.months, month.into())
    }
}

fn has(set: u64, n: i64) -> bool {
    u32::try_from(n).is_ok_and(|n| set.checked_shr(n).unwrap_or(0) & 1 == 1)
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl FromStr for Cron {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).map_err(|reason| Error::invalid(format!("cron `{text}`"), reason))
    }
}

impl Cron {
    /// Reads an expression, or says what is expected.
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > Self::BYTES_MAX {
            return Err("an expression has at most 256 bytes".to_owned());
        }
        let full = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" => "0 0 1 1 *",
            full => full,
        };
        let fields: Vec<&str> = full.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let found = fields.len();
            return Err(format!(
                "expected five fields `minute hour day month weekday`, found {found}"
            ));
        };
        let weekdays = FIELDS.4.parse(weekday)?;
        let cron = Self {
            text: text.trim().to_owned(),
            minutes: FIELDS.0.parse(minute)?,
            hours: FIELDS.1.parse(hour)?,
            days: FIELDS.2.parse(day)?,
            months: FIELDS.3.parse(month)?,
            // Sunday is 0 and 7.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            is_any_day: day.starts_with('*'),
            is_any_weekday: weekday.starts_with('*'),
        };
        match cron.next_after(Timestamp::EPOCH) {
            Some(_) => Ok(cron),
            None => Err("the day and the month never come together".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What a field may hold.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const fn field(name: &'static str, low: u32, high: u32, names: &'static [&'static str]) -> Field {
    Field {
        name,
        low,
        high,
        names,
    }
}

const FIELDS: (Field, Field, Field, Field, Field) = (
    field("minute", 0, 59, &[]),
    field("hour", 0, 23, &[]),
    field("day", 1, 31, &[]),
    field("month", 1, 12, &MONTHS),
    field("weekday", 0, 7, &WEEKDAYS),
);

impl Field {
    /// Reads a list into a bit set, or says what is expected.
    fn parse(&self, text: &str) -> Result<u64, String> {
        let Self {
            name, low, high, ..
        } = self;
        let wrong = |item: &str| {
            format!(
                "`{item}` is no {name}: expected `*`, {low} to {high}, `a-b`, `*/step` or a list \
                 of these"
            )
        };
        text.split(',').try_fold(0, |set, item| {
            self.item(item)
                .map(|bits| set | bits)
                .ok_or_else(|| wrong(item))
        })
    }

    fn item(&self, item: &str) -> Option<u64> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|n| *n > 0)?)),
            None => (item, None),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (self.low, self.high),
            (_, Some((from, to))) => (self.number(from)?, self.number(to)?),
            (_, None) => {
                let from = self.number(range)?;
                (from, if step.is_some() { self.high } else { from })
            }
        };
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        (from <= to).then(|| (from..=to).step_by(step).fold(0, |set, n| set | 1_u64 << n))
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = || {
            let text = text.to_ascii_lowercase();
            let place = self.names.iter().position(|name| *name == text)?;
            u32::try_from(place).ok()?.checked_add(self.low)
        };
        text.parse()
            .ok()
            .or_else(named)
            .filter(|n| (self.low..=self.high).contains(n))
    }
}
