//! Periods of the calendar, at a fixed distance from UTC.

use std::fmt;
use std::str::FromStr;

use agent_core::Timestamp;

use crate::error::{Error, Result};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How long a calendar period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// A period of the calendar of a place that is always as far from UTC. Written `day`, or
/// `day +05:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Calendar {
    /// How long.
    pub period: Period,
    /// How many minutes the place is ahead of UTC.
    pub offset_minutes: i32,
}

impl Calendar {
    /// The most a place is from UTC, in minutes: 18 hours, as `ISO 8601` libraries allow.
    pub const OFFSET_MINUTES_MAX: i32 = 18 * 60;

    /// Takes a period in UTC.
    #[must_use]
    pub const fn utc(period: Period) -> Self {
        Self {
            period,
            offset_minutes: 0,
        }
    }

    /// Returns the first moment of the period that holds a moment.
    #[must_use]
    pub fn start(self, at: Timestamp) -> Timestamp {
        let offset = i64::from(self.offset_minutes).saturating_mul(MINUTE_MS);
        let local = at.as_unix_ms().saturating_add(offset);
        let floor = |size: i64| local.saturating_sub(local.rem_euclid(size));
        let start = match self.period {
            Period::Hour => floor(HOUR_MS),
            Period::Day => floor(DAY_MS),
            Period::Week => {
                // The first day of the epoch is a Thursday.
                let days = local.div_euclid(DAY_MS);
                let since_monday = days.saturating_add(3).rem_euclid(7);
                days.saturating_sub(since_monday).saturating_mul(DAY_MS)
            }
            Period::Month => {
                let (year, month, _day) = Timestamp::from_unix_ms(local).utc_date();
                days_from_civil(year, i64::from(month)).saturating_mul(DAY_MS)
            }
            Period::Year => {
                let (year, _month, _day) = Timestamp::from_unix_ms(local).utc_date();
                days_from_civil(year, 1).saturating_mul(DAY_MS)
            }
        };
        Timestamp::from_unix_ms(start.saturating_sub(offset))
    }
}

/// Returns the days from the epoch to the first of a month, by Howard Hinnant's
/// `days_from_civil` (chrono-Compatible Low-Level Date Algorithms).
#[expect(
    clippy::arithmetic_side_effects,
    reason = "years and months of a timestamp are far from the ends of 64 bits"
)]
fn days_from_civil(year: i64, month: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * shifted + 2) / 5;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.period.name())?;
        if self.offset_minutes == 0 {
            return Ok(());
        }
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        write!(f, " {sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl FromStr for Calendar {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || Error::invalid("calendar window", "expected `day` or `day +05:30`");
        let (name, offset) = text.split_once(' ').unwrap_or((text, ""));
        let period = Period::ALL.into_iter().find(|period| period.name() == name);
        let period = period.ok_or_else(expected)?;
        if offset.is_empty() {
            return if text == name {
                Ok(Self::utc(period))
            } else {
                Err(expected())
            };
        }
        let (sign, digits) = match (offset.strip_prefix('+'), offset.strip_prefix('-')) {
            (Some(digits), _) => (1, digits),
            (_, Some(digits)) => (-1, digits),
            _ => return Err(expected()),
        };
        let &[
            h1 @ b'0'..=b'9',
            h2 @ b'0'..=b'9',
            b':',
            m1 @ b'0'..=b'5',
            m2 @ b'0'..=b'9',
        ] = digits.as_bytes()
        else {
            return Err(expected());
        };
        let digit = |byte: u8| i32::from(byte.saturating_sub(b'0'));
        let pair = |ten: u8, one: u8| digit(ten).saturating_mul(10).saturating_add(digit(one));
        let minutes = pair(h1, h2).saturating_mul(60).saturating_add(pair(m1, m2));
        if minutes > Self::OFFSET_MINUTES_MAX {
            return Err(Error::invalid(
                "calendar window",
                "at most 18 hours from UTC",
            ));
        }
        Ok(Self {
            period,
            offset_minutes: minutes.saturating_mul(sign),
        })
    }
}
