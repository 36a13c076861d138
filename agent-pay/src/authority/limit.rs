//! Limits: how much or how often within which window.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use agent_core::{Amount, Asset, Timestamp};
use serde::{Deserialize, Serialize};

use super::window::Calendar;
use crate::account::AccountName;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

/// What a limit limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Measure {
    /// The sum of what is held and spent.
    Amount(Amount),
    /// How many intents are held or captured.
    Count(u32),
}

/// What a limit's sum runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Window {
    /// One intent with its top-ups.
    PerTransaction,
    /// The time that ends now.
    Rolling(Duration),
    /// The calendar's present period.
    Calendar(Calendar),
    /// All time: the node's budget.
    Lifetime,
}

impl Window {
    /// The longest rolling window, 366 days; the shortest is a second.
    pub const ROLLING_MAX: Duration = Duration::from_secs(366 * 86_400);
}

/// A limit of a node. Written `20.00 USD day +02:00`, `5.00 USD rolling 1h`,
/// `30 count rolling 10m`, `100.00 USD lifetime` or `2.00 USD per_transaction`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub struct Limit {
    /// How much or how often.
    pub measure: Measure,
    /// Within what.
    pub window: Window,
}

impl Limit {
    /// Creates a limit.
    ///
    /// # Errors
    /// `Invalid` for a negative amount or one beyond 64 bits, a count for a transaction or a
    /// lifetime, or a rolling window outside of 1 s to [`Window::ROLLING_MAX`].
    pub fn new(measure: Measure, window: Window) -> Result<Self> {
        match (measure, window) {
            (Measure::Amount(amount), _) if amount.is_negative() => {
                return Err(Error::invalid("limit", "a negative amount"));
            }
            (Measure::Amount(amount), _) if amount.asset() == Self::count_asset()? => {
                return Err(Error::invalid("limit", "COUNT/0 is no money"));
            }
            (Measure::Amount(amount), _) => {
                amount.units_i64()?;
            }
            (Measure::Count(_), Window::PerTransaction | Window::Lifetime) => {
                return Err(Error::invalid("limit", "counts are of a time"));
            }
            (Measure::Count(_), _) => {}
        }
        if let Window::Rolling(span) = window
            && (span < Duration::from_secs(1) || span > Window::ROLLING_MAX)
        {
            return Err(Error::invalid("limit", "a rolling window of 1s to 366d"));
        }
        Ok(Self { measure, window })
    }

    /// Returns the asset the limit's account counts in.
    ///
    /// # Errors
    /// None.
    pub fn asset(&self) -> Result<Asset> {
        match self.measure {
            Measure::Amount(amount) => Ok(amount.asset()),
            Measure::Count(_) => Self::count_asset(),
        }
    }

    /// Returns the most, in smallest units or intents.
    ///
    /// # Errors
    /// None for limits that exist.
    pub fn max_units(&self) -> Result<i64> {
        match self.measure {
            Measure::Amount(amount) => Ok(amount.units_i64()?),
            Measure::Count(n) => Ok(i64::from(n)),
        }
    }

    /// Returns the asset counts are kept in, `COUNT/0`.
    ///
    /// # Errors
    /// None.
    pub fn count_asset() -> Result<Asset> {
        Ok(Asset::new("COUNT", 0)?)
    }

    /// Returns the account that keeps the sum at a moment, for backends; none for a limit of one
    /// transaction.
    ///
    /// # Errors
    /// None for nodes that exist.
    pub fn account(&self, node: &BudgetPath, at: Timestamp) -> Result<Option<AccountName>> {
        let name = match self.window {
            Window::PerTransaction => return Ok(None),
            Window::Lifetime => return Ok(Some(node.account()?)),
            Window::Rolling(span) => format!("window/{node}/rolling@{}", span.as_millis()),
            Window::Calendar(calendar) => {
                let start = calendar.start(at).as_unix_ms().div_euclid(1_000);
                let Calendar {
                    period,
                    offset_minutes,
                } = calendar;
                let period = Calendar::utc(period);
                format!("window/{node}/{period}@{offset_minutes}/{start}")
            }
        };
        AccountName::new(&name).map(Some)
    }

    /// Returns whether the limit counts what the other counts, so that the lower of both matters.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let same_measure = match (self.measure, other.measure) {
            (Measure::Amount(one), Measure::Amount(two)) => one.asset() == two.asset(),
            (Measure::Count(_), Measure::Count(_)) => true,
            _ => false,
        };
        same_measure && self.window == other.window
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::Amount(amount) => write!(f, "{amount} ")?,
            Measure::Count(n) => write!(f, "{n} count ")?,
        }
        match self.window {
            Window::PerTransaction => f.write_str("per_transaction"),
            Window::Lifetime => f.write_str("lifetime"),
            Window::Calendar(calendar) => write!(f, "{calendar}"),
            Window::Rolling(span) => write!(f, "rolling {}", written(span)),
        }
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || {
            let form = "expected an amount or `N count`, then `per_transaction`, `lifetime`, \
                        `rolling 1h`, or `hour`, `day`, `week`, `month` or `year`";
            Error::invalid("limit", form)
        };
        let mut parts = text.splitn(3, ' ');
        let (Some(number), Some(unit), Some(window)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(expected());
        };
        let measure = if unit == "count" {
            let is_number = number.bytes().all(|b| b.is_ascii_digit());
            let count = number.parse().ok().filter(|_| is_number);
            Measure::Count(count.ok_or_else(expected)?)
        } else {
            Measure::Amount(format!("{number} {unit}").parse()?)
        };
        let window = match window.split_once(' ') {
            None if window == "per_transaction" => Window::PerTransaction,
            None if window == "lifetime" => Window::Lifetime,
            Some(("rolling", span)) => Window::Rolling(duration(span).ok_or_else(expected)?),
            _ => Window::Calendar(window.parse().map_err(|_form: Error| expected())?),
        };
        Self::new(measure, window)
    }
}

impl TryFrom<String> for Limit {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        limit.to_string()
    }
}

/// Reads `30s`, `5m`, `2h` or `1d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// Writes a duration of whole seconds in its largest unit.
pub(super) fn written(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
    let whole = units
        .iter()
        .find(|(_, size)| seconds.checked_rem(*size) == Some(0));
    match whole {
        Some((unit, size)) => format!("{}{unit}", seconds.checked_div(*size).unwrap_or(0)),
        None => format!("{seconds}s"),
    }
}
