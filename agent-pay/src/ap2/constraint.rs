//! The constraints of open payment mandates.

use agent_core::{Amount, Timestamp};

use super::json::Json;
use super::money::Assets;
use super::party::{Instrument, Merchant, Pisp};
use super::read::Claims;
use super::{Payment, malformed};
use crate::error::Result;

/// How often an agent may pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frequency {
    /// As often as it likes.
    OnDemand,
    /// Once a day.
    Daily,
    /// Once a week.
    Weekly,
    /// Once in two weeks.
    Biweekly,
    /// Once a month.
    Monthly,
    /// Once in three months.
    Quarterly,
    /// Once a year.
    Annually,
}

/// What a payment must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Constraint {
    /// The agent may pay more than once.
    #[non_exhaustive]
    Recurrence {
        /// How often.
        frequency: Frequency,
        /// How often in all.
        occurrences_max: Option<u32>,
    },
    /// Who may be paid.
    #[non_exhaustive]
    Payees {
        /// Those that are disclosed.
        allowed: Vec<Merchant>,
        /// Whether there are others, which are not.
        are_all: bool,
    },
    /// What may be paid with.
    Instruments(Vec<Instrument>),
    /// Over whom.
    Pisps(Vec<Pisp>),
    /// How much one payment may be.
    #[non_exhaustive]
    AmountRange {
        /// At least.
        min: Option<Amount>,
        /// At most.
        max: Amount,
    },
    /// How much all payments may be.
    Budget(Amount),
    /// For which checkout: the digest of its open mandate.
    Reference(String),
    /// When.
    #[non_exhaustive]
    ExecutionDate {
        /// Not before.
        from: Option<Timestamp>,
        /// Not after: the first moment that is too late.
        until: Option<Timestamp>,
    },
}

/// What a payment does not satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// The mandate is open: nothing was decided yet.
    NotClosed,
    /// It differs from what the user set beforehand.
    Preset,
    /// The payee is not allowed.
    Payee,
    /// The instrument is not allowed.
    Instrument,
    /// The provider is not allowed, or there is none.
    Pisp,
    /// It is of another currency.
    Currency,
    /// It is too little or too much.
    AmountRange,
    /// It is more than the whole budget.
    Budget,
    /// It is for another checkout.
    Reference,
    /// It is too early or too late.
    ExecutionDate,
    /// It is for another transaction than the one at hand.
    Transaction,
    /// It is not what the merchant's checkout says.
    Checkout,
    /// The checkout's merchant is not allowed.
    Merchant,
    /// The checkout's items are not those that were wanted.
    LineItems,
}

impl Constraint {
    /// Reads a constraint. One it does not know is refused: it may forbid what is at hand.
    pub(super) fn read(value: &Json, assets: Assets<'_>) -> Result<Self> {
        let claims = Claims::of(value)?;
        Ok(match claims.text("type")? {
            "payment.agent_recurrence" => Self::Recurrence {
                frequency: frequency(claims.text("frequency")?)?,
                occurrences_max: match claims.maybe_integer("max_occurrences")? {
                    None => None,
                    Some(n) => {
                        let n = u32::try_from(n).ok().filter(|n| *n > 0);
                        Some(n.ok_or_else(|| malformed("a number of occurrences"))?)
                    }
                },
            },
            "payment.allowed_payees" => Self::Payees {
                allowed: claims.allowed("allowed", Merchant::read)?,
                are_all: claims.list("allowed").is_ok(),
            },
            "payment.allowed_payment_instruments" => {
                Self::Instruments(claims.allowed("allowed", Instrument::read)?)
            }
            "payment.allowed_pisps" => Self::Pisps(claims.allowed("allowed", Pisp::read)?),
            "payment.amount_range" => {
                let currency = claims.text("currency")?;
                let min = claims.maybe_integer("min")?;
                Self::AmountRange {
                    min: min.map(|min| assets.minor(min, currency)).transpose()?,
                    max: assets.minor(claims.integer("max")?, currency)?,
                }
            }
            "payment.budget" => {
                Self::Budget(assets.major(claims.number("max")?, claims.text("currency")?)?)
            }
            "payment.reference" => {
                Self::Reference(claims.text("conditional_transaction_id")?.to_owned())
            }
            "payment.execution_date" => {
                let from = claims.maybe_text("not_before")?.map(first_moment);
                let until = claims.maybe_text("not_after")?.map(moment_after);
                Self::ExecutionDate {
                    from: from.transpose()?,
                    until: until.transpose()?,
                }
            }
            _ => return Err(malformed("a constraint nobody knows")),
        })
    }

    /// Says what of it a payment does not satisfy.
    pub(super) fn violation(
        &self,
        payment: &Payment,
        open_checkout: Option<&str>,
        (at, now): (Timestamp, Timestamp),
    ) -> Option<Violation> {
        let at_most = |max: &Amount| payment.amount.compare(max).is_ok_and(|order| order.is_le());
        let is_same_asset = |amount: &Amount| payment.amount.asset() == amount.asset();
        let (is_so, violation) = match self {
            // Counted by the authority.
            Self::Recurrence { .. } => return None,
            Self::Payees { allowed, .. } => {
                let is_payee = |merchant: &Merchant| merchant.id == payment.payee.id;
                (allowed.iter().any(is_payee), Violation::Payee)
            }
            Self::Instruments(allowed) => {
                (allowed.contains(&payment.instrument), Violation::Instrument)
            }
            Self::Pisps(allowed) => {
                let pisp = payment.pisp.as_ref();
                (
                    pisp.is_some_and(|pisp| allowed.contains(pisp)),
                    Violation::Pisp,
                )
            }
            Self::AmountRange { max, .. } | Self::Budget(max) if !is_same_asset(max) => {
                (false, Violation::Currency)
            }
            Self::AmountRange { min, max } => {
                let is_enough = min
                    .as_ref()
                    .is_none_or(|min| min.compare(&payment.amount).is_ok_and(|o| o.is_le()));
                (is_enough && at_most(max), Violation::AmountRange)
            }
            Self::Budget(max) => (at_most(max), Violation::Budget),
            Self::Reference(checkout) => (
                open_checkout == Some(checkout.as_str()),
                Violation::Reference,
            ),
            Self::ExecutionDate { from, until } => {
                let is_early = from.is_some_and(|from| at < from);
                // Whatever it says of itself, it is not paid before it is looked at.
                let is_late = until.is_some_and(|until| at.max(now) >= until);
                (!is_early && !is_late, Violation::ExecutionDate)
            }
        };
        (!is_so).then_some(violation)
    }
}

fn frequency(text: &str) -> Result<Frequency> {
    Ok(match text {
        "ON_DEMAND" => Frequency::OnDemand,
        "DAILY" => Frequency::Daily,
        "WEEKLY" => Frequency::Weekly,
        "BIWEEKLY" => Frequency::Biweekly,
        "MONTHLY" => Frequency::Monthly,
        "QUARTERLY" => Frequency::Quarterly,
        "ANNUALLY" => Frequency::Annually,
        _ => return Err(malformed("a frequency nobody knows")),
    })
}

/// Reads a day or a moment (ISO 8601); a day begins at midnight UTC.
pub(super) fn first_moment(text: &str) -> Result<Timestamp> {
    if text.contains(['T', 't']) {
        return crate::moment::parse(text);
    }
    crate::moment::parse(&format!("{text}T00:00:00Z"))
}

/// Reads the last day or moment and returns the first moment after it.
fn moment_after(text: &str) -> Result<Timestamp> {
    let last = first_moment(text)?;
    let is_day = !text.contains(['T', 't']);
    let ms = if is_day { 86_400_000 } else { 1 };
    Ok(Timestamp::from_unix_ms(
        last.as_unix_ms().saturating_add(ms),
    ))
}
