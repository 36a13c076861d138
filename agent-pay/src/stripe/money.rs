//! Amounts as Stripe writes them.

use std::fmt;

use agent_core::{Amount, Asset};

use crate::currency::{from_minor, iso_scale, to_minor};
use crate::error::{Error, Result};

/// Stripe gives these no decimals though ISO 4217 does ("Supported currencies", zero-decimal).
const SCALE_0: [&str; 1] = ["mga"];
/// ISO gives these no decimals; Stripe writes two, which must be `00` ("Special cases").
const WRITTEN_WITH_00: [&str; 2] = ["isk", "ugx"];

/// A number of smallest units of a currency, exact: what goes over the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Money {
    minor: i64,
    currency: String,
}

impl Money {
    /// Stripe takes at most eight digits for most currencies; twelve leave room for those with
    /// large numbers.
    pub const MINOR_MAX: i64 = 999_999_999_999;

    /// Converts an amount.
    ///
    /// # Errors
    /// `Invalid` for what is no currency, is not above zero, is too large, or has a fraction of what
    /// Stripe can carry. Nothing is rounded.
    pub fn new(amount: Amount) -> Result<Self> {
        let currency = amount.asset().code().to_ascii_lowercase();
        let scale = scale(&currency)?;
        let minor = to_minor(amount, scale)?;
        let step = step(&currency, scale);
        if minor <= 0 || minor > Self::MINOR_MAX {
            return Err(Error::invalid(
                "amount",
                "above zero and at most twelve digits",
            ));
        }
        if minor.checked_rem(step) != Some(0) {
            return Err(Error::invalid(
                "amount",
                "more decimals than this currency is charged in",
            ));
        }
        Ok(Self { minor, currency })
    }

    /// Returns an amount Stripe named, in an asset whose code and decimals the caller knows.
    ///
    /// # Errors
    /// `Invalid` for a negative one, another currency, or one the asset has too few decimals for.
    pub fn read(minor: i64, currency: &str, asset: Asset) -> Result<Amount> {
        if minor < 0 || !currency.eq_ignore_ascii_case(asset.code()) {
            return Err(Error::invalid("amount", "negative, or of another currency"));
        }
        from_minor(minor, scale(&currency.to_ascii_lowercase())?, asset)
    }

    /// Returns the number of smallest units.
    #[must_use]
    pub const fn minor(&self) -> i64 {
        self.minor
    }

    /// Returns the currency in lower case.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.currency
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.minor, self.currency)
    }
}

fn scale(currency: &str) -> Result<u8> {
    if SCALE_0.contains(&currency) {
        return Ok(0);
    }
    if WRITTEN_WITH_00.contains(&currency) {
        return Ok(2);
    }
    iso_scale(currency).ok_or_else(|| Error::invalid("asset", "no currency of ISO 4217"))
}

/// Which multiples are charged: cards settle three decimals in tens only.
fn step(currency: &str, scale: u8) -> i64 {
    match scale {
        3 => 10,
        2 if WRITTEN_WITH_00.contains(&currency) => 100,
        _ => 1,
    }
}
