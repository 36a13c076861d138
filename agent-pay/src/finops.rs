//! Budgets against what happened: how fast money is spent, how long it lasts, who should know.

use std::time::Duration;

use agent_core::{Amount, Timestamp};

use crate::budget::Balance;
use crate::error::{Error, Result};
use crate::ratio::Ratio;

/// A budget beside what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetLine {
    /// The budget.
    pub balance: Balance,
    /// What is neither spent nor held.
    pub left: Amount,
    /// What is spent and held, in thousandths of the limit, rounded down; 1000 for a budget without
    /// one.
    pub used_permille: u64,
}

impl BudgetLine {
    /// Compares a budget with what is spent and held of it.
    ///
    /// # Errors
    /// `Invalid` if a sum does not fit.
    pub fn of(balance: Balance) -> Result<Self> {
        let used = balance.spent.plus(balance.held)?;
        let used_permille = if balance.limit.is_zero() {
            1_000
        } else {
            let share = Ratio::new(used.units(), balance.limit.units())?;
            let permille = share.times(Ratio::new(1_000, 1)?)?.floor();
            u64::try_from(permille).unwrap_or(u64::MAX)
        };
        Ok(Self {
            left: balance.available(),
            used_permille,
            balance,
        })
    }
}

/// What was spent within a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Burn {
    /// How much.
    pub spent: Amount,
    /// Within which time.
    pub span: Duration,
}

impl Burn {
    /// Describes what was spent within a span.
    ///
    /// # Errors
    /// `Invalid` for a span below a second or a negative amount.
    pub fn new(spent: Amount, span: Duration) -> Result<Self> {
        if span < Duration::from_secs(1) || spent.is_negative() {
            return Err(Error::invalid(
                "burn rate",
                "a span of 1 s and an amount from 0",
            ));
        }
        Ok(Self { spent, span })
    }

    /// Returns what is spent in a time at this rate, rounded up.
    ///
    /// # Errors
    /// `Invalid` if it does not fit.
    pub fn over(&self, time: Duration) -> Result<Amount> {
        let units = Ratio::new(self.spent.units(), 1)?
            .times(Ratio::new(millis(time), millis(self.span))?)?
            .ceil()?;
        Ok(Amount::from_units(units, self.spent.asset()))
    }

    /// Returns how long an amount lasts at this rate, rounded down; none if nothing is spent.
    ///
    /// # Errors
    /// `Invalid` for another asset.
    pub fn lasts(&self, left: Amount) -> Result<Option<Duration>> {
        left.compare(&self.spent)?;
        if self.spent.is_zero() {
            return Ok(None);
        }
        let left = left.units().max(0);
        let time =
            Ratio::new(left, self.spent.units())?.times(Ratio::new(millis(self.span), 1)?)?;
        let time = u64::try_from(time.floor()).unwrap_or(u64::MAX);
        Ok(Some(Duration::from_millis(time)))
    }
}

fn millis(time: Duration) -> i128 {
    i128::try_from(time.as_millis()).unwrap_or(i128::MAX)
}

/// How a budget will stand if spending goes on as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forecast {
    /// What will be spent and held at the end of the period.
    pub used_at_end: Amount,
    /// What will be missing then; zero if it suffices.
    pub missing: Amount,
    /// When the budget is used up, if that is before the end.
    pub exhausted_at: Option<Timestamp>,
}

/// Carries the recent rate on to the end of a period.
///
/// # Errors
/// `Invalid` if amounts are of several assets or do not fit.
pub fn forecast(
    balance: &Balance,
    burn: &Burn,
    now: Timestamp,
    end: Timestamp,
) -> Result<Forecast> {
    let used = balance.spent.plus(balance.held)?;
    let used_at_end = used.plus(burn.over(end.since(now))?)?;
    let missing = used_at_end.minus(balance.limit)?;
    let zero = Amount::zero(balance.limit.asset());
    let lasts = burn.lasts(balance.available())?;
    let exhausted_at = lasts.map(|time| now.after(time)).filter(|at| *at < end);
    Ok(Forecast {
        used_at_end,
        missing: if missing.is_negative() { zero } else { missing },
        exhausted_at,
    })
}

/// Something the owner of a budget should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alert {
    /// So many thousandths of the limit are used: the highest mark that was passed.
    #[non_exhaustive]
    Used {
        /// The mark.
        mark_permille: u64,
    },
    /// At the present rate the rest lasts less than the runway asked for.
    #[non_exhaustive]
    Runway {
        /// How long it lasts.
        lasts: Duration,
    },
    /// Spending is faster than the budget allows for its period by this factor in thousandths.
    #[non_exhaustive]
    BurnRate {
        /// The factor; 1000 uses the budget up exactly at the end.
        factor_permille: u64,
    },
}

/// When to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watch {
    /// The marks, in thousandths of the limit.
    pub marks_permille: Vec<u64>,
    /// The shortest time the rest should last.
    pub runway_min: Duration,
    /// The period the limit is meant for.
    pub period: Duration,
    /// From which factor on spending is too fast, in thousandths.
    pub factor_max_permille: u64,
}

impl Watch {
    /// Watches a budget meant for a period: marks at 50 %, 80 % and 100 %, a runway of a tenth of
    /// the period, a rate twice what the period allows.
    #[must_use]
    pub fn over(period: Duration) -> Self {
        Self {
            marks_permille: vec![500, 800, 1_000],
            runway_min: period.checked_div(10).unwrap_or_default(),
            period,
            factor_max_permille: 2_000,
        }
    }

    /// Returns what the owner should know.
    ///
    /// # Errors
    /// `Invalid` if amounts are of several assets or do not fit.
    pub fn alerts(&self, balance: &Balance, burn: &Burn) -> Result<Vec<Alert>> {
        let line = BudgetLine::of(balance.clone())?;
        let mut alerts = Vec::new();
        let passed = self
            .marks_permille
            .iter()
            .filter(|mark| **mark <= line.used_permille);
        if let Some(mark_permille) = passed.max().copied() {
            alerts.push(Alert::Used { mark_permille });
        }
        if let Some(lasts) = burn.lasts(line.left)?
            && lasts < self.runway_min
        {
            alerts.push(Alert::Runway { lasts });
        }
        if balance.limit.units() > 0 {
            let whole = Ratio::new(burn.over(self.period)?.units(), balance.limit.units())?;
            let factor = whole.times(Ratio::new(1_000, 1)?)?.floor();
            let factor_permille = u64::try_from(factor).unwrap_or(u64::MAX);
            if factor_permille >= self.factor_max_permille {
                alerts.push(Alert::BurnRate { factor_permille });
            }
        }
        Ok(alerts)
    }
}
