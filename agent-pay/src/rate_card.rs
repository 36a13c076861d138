//! Price books: what a counted unit of a resource costs.

use std::collections::BTreeMap;

use agent_core::{Amount, Asset, Unit, Usage};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ratio::Ratio;

/// What happens to a fraction of the smallest unit, once, on the sum of a usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rounding {
    /// To the nearest unit, a half upwards.
    #[default]
    HalfUp,
    /// To the next unit.
    Up,
}

/// The price of one unit of the resources a pattern matches: `amount` for every `per` units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Price {
    /// A resource, or the beginning of one followed by `*`.
    pub resource: String,
    /// What is counted.
    pub unit: Unit,
    /// What it costs, a decimal with its asset: `3.00 USD`.
    pub amount: Amount,
    /// For how many units; 1 if absent.
    #[serde(default = "one")]
    pub per: u64,
}

const fn one() -> u64 {
    1
}

impl Price {
    /// Prices `per` units of a resource.
    #[must_use]
    pub fn new(resource: impl Into<String>, unit: Unit, amount: Amount, per: u64) -> Self {
        Self {
            resource: resource.into(),
            unit,
            amount,
            per,
        }
    }
}

/// The written form of a [`RateCard`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: String,
    asset: Asset,
    #[serde(default)]
    rounding: Rounding,
    #[serde(default)]
    free: Vec<String>,
    #[serde(default)]
    prices: Vec<Price>,
}

/// A versioned price book in one asset.
///
/// The price of a unit is that of the longest matching pattern; an exact name is longer than any
/// pattern. A resource listed as free costs nothing, unless a pattern at least as long has a price
/// for the unit. Everything else is an error: what has no price is not spent.
///
/// Read from TOML or JSON, with amounts as decimal strings:
///
/// ```
/// use agent_core::{Unit, Usage};
/// use agent_pay::RateCard;
///
/// let card: RateCard = serde_json::from_str(
///     r#"{"version": "2026-11", "asset": "USD", "free": ["tool/clock"], "prices": [
///         {"resource": "model/*", "unit": "tokens_in", "amount": "3.00 USD", "per": 1000000}]}"#,
/// )?;
/// let usage = Usage::new().with(Unit::TokensIn, 1_500);
/// assert_eq!(card.price("model/any", &usage).unwrap().to_string(), "0.0045 USD");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct RateCard {
    version: String,
    asset: Asset,
    rounding: Rounding,
    free: Vec<String>,
    /// Prices by unit and pattern.
    prices: BTreeMap<(Unit, String), (Amount, u64)>,
}

impl RateCard {
    /// The most prices of a card: several hundred models with every unit.
    pub const PRICES_MAX: usize = 10_000;
    /// The longest pattern or version in bytes.
    pub const TEXT_BYTES_MAX: usize = 256;

    /// Creates a card without prices that rounds half up.
    ///
    /// # Errors
    /// `Invalid` if the version is empty or too long.
    pub fn new(version: impl Into<String>, asset: Asset) -> Result<Self> {
        let version = version.into();
        check_text("rate card version", &version)?;
        Ok(Self {
            version,
            asset,
            rounding: Rounding::HalfUp,
            free: Vec::new(),
            prices: BTreeMap::new(),
        })
    }

    /// Sets the rounding. Default: half up.
    #[must_use]
    pub const fn with_rounding(mut self, rounding: Rounding) -> Self {
        self.rounding = rounding;
        self
    }

    /// Lists the resources a pattern matches as free. Default: nothing is free.
    ///
    /// # Errors
    /// `Invalid` for a malformed pattern or too many.
    pub fn with_free(mut self, pattern: impl Into<String>) -> Result<Self> {
        let pattern = pattern.into();
        check_pattern(&pattern)?;
        self.free.push(pattern);
        self.check_size()?;
        Ok(self)
    }

    /// Adds a price.
    ///
    /// # Errors
    /// `Invalid` for a malformed pattern, a price of zero units, a negative amount or one of
    /// another asset, a second price for the same pattern and unit, or too many prices.
    pub fn with_price(mut self, price: Price) -> Result<Self> {
        check_pattern(&price.resource)?;
        if price.per == 0 {
            return Err(Error::invalid("price", "`per` is at least 1"));
        }
        if price.amount.asset() != self.asset || price.amount.is_negative() {
            return Err(Error::invalid(
                "price",
                "the amount is not negative and of the card's asset",
            ));
        }
        price.amount.units_i64()?;
        let key = (price.unit, price.resource);
        if self.prices.insert(key, (price.amount, price.per)).is_some() {
            return Err(Error::invalid("price", "two prices for one unit"));
        }
        self.check_size()?;
        Ok(self)
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the asset of all prices.
    #[must_use]
    pub const fn asset(&self) -> Asset {
        self.asset
    }

    /// Returns what a usage costs, rounded once on the sum as the card says.
    ///
    /// # Errors
    /// `NotFound` ([`Error::Unpriced`]) for the first unit used that has no price; `Invalid` if
    /// the sum does not fit.
    pub fn price(&self, resource: &str, usage: &Usage) -> Result<Amount> {
        self.sum(resource, usage, self.rounding)
    }

    /// Returns the most a usage costs: as [`RateCard::price`], always rounded up. Reserve this.
    ///
    /// # Errors
    /// As [`RateCard::price`].
    pub fn price_max(&self, resource: &str, usage_max: &Usage) -> Result<Amount> {
        self.sum(resource, usage_max, Rounding::Up)
    }

    /// Returns the most one call of a model costs: every token read may or may not come from the
    /// cache, every token written may or may not be reasoning, so each counts at the dearer price.
    ///
    /// # Errors
    /// As [`RateCard::price`]; a price for cached or reasoning tokens may be absent.
    pub fn estimate_model_call(
        &self,
        resource: &str,
        tokens_in_max: u64,
        tokens_out_max: u64,
    ) -> Result<Amount> {
        let dearer = |usual: Unit, other: Unit, quantity: u64| {
            let of = |unit| Usage::new().with(unit, quantity);
            let usual_cost = self.exact(resource, &of(usual))?;
            match self.exact(resource, &of(other)) {
                Ok(other_cost) => usual_cost.max(other_cost),
                Err(Error::Unpriced { .. }) => Ok(usual_cost),
                Err(error) => Err(error),
            }
        };
        let mut sum = dearer(Unit::TokensIn, Unit::TokensCached, tokens_in_max)?;
        sum = sum.plus(dearer(
            Unit::TokensOut,
            Unit::TokensReasoning,
            tokens_out_max,
        )?)?;
        if self.find(resource, Unit::Calls).is_some() {
            sum = sum.plus(self.exact(resource, &Usage::new().with(Unit::Calls, 1))?)?;
        }
        rounded(sum, Rounding::Up, self.asset)
    }

    fn sum(&self, resource: &str, usage: &Usage, rounding: Rounding) -> Result<Amount> {
        rounded(self.exact(resource, usage)?, rounding, self.asset)
    }

    /// Returns what a usage costs in smallest units, not rounded.
    ///
    /// # Errors
    /// As [`RateCard::price`].
    pub fn exact(&self, resource: &str, usage: &Usage) -> Result<Ratio> {
        let mut sum = Ratio::ZERO;
        for (unit, quantity) in usage.iter().filter(|(_unit, quantity)| *quantity > 0) {
            let Some((amount, per)) = self.find(resource, unit) else {
                return Err(Error::Unpriced {
                    card: self.version.clone(),
                    resource: resource.to_owned(),
                    unit,
                });
            };
            sum = sum.plus(Ratio::new(amount.times(quantity)?.units(), per.into())?)?;
        }
        Ok(sum)
    }

    /// Finds the price of a unit: that of the longest pattern, nothing if it has none.
    fn find(&self, resource: &str, unit: Unit) -> Option<(Amount, u64)> {
        let price = self
            .candidates(resource)
            .find_map(|(length, pattern)| Some((length, self.prices.get(&(unit, pattern))?)));
        let free = self
            .free
            .iter()
            .filter_map(|pattern| match_length(pattern, resource))
            .max();
        match (price, free) {
            (Some((length, price)), free) if free.is_none_or(|free| length >= free) => Some(*price),
            (_, Some(_)) => Some((Amount::zero(self.asset), 1)),
            _ => None,
        }
    }

    /// Returns every pattern that could match a resource, the longest first.
    fn candidates(&self, resource: &str) -> impl Iterator<Item = (usize, String)> {
        let prefixes = (0..=resource.len().min(Self::TEXT_BYTES_MAX)).rev();
        let exact = [(usize::MAX, resource.to_owned())];
        exact.into_iter().chain(prefixes.filter_map(move |end| {
            let prefix = resource.get(..end)?;
            Some((end, format!("{prefix}*")))
        }))
    }

    fn check_size(&self) -> Result<()> {
        if self.prices.len().max(self.free.len()) > Self::PRICES_MAX {
            return Err(Error::invalid("rate card", "more than 10000 prices"));
        }
        Ok(())
    }
}

/// Returns how much of a resource a pattern names, if it matches.
fn match_length(pattern: &str, resource: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        Some(prefix) => resource.starts_with(prefix).then_some(prefix.len()),
        None => (pattern == resource).then_some(usize::MAX),
    }
}

fn check_text(what: &'static str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > RateCard::TEXT_BYTES_MAX || text.contains(char::is_control) {
        return Err(Error::invalid(what, "1 to 256 bytes of plain text"));
    }
    Ok(())
}

fn check_pattern(pattern: &str) -> Result<()> {
    check_text("resource pattern", pattern)?;
    let stem = pattern.strip_suffix('*').unwrap_or(pattern);
    if stem.contains('*') {
        return Err(Error::invalid("resource pattern", "`*` only at the end"));
    }
    Ok(())
}

fn rounded(sum: Ratio, rounding: Rounding, asset: Asset) -> Result<Amount> {
    let units = match rounding {
        Rounding::HalfUp => sum.half_up()?,
        Rounding::Up => sum.ceil()?,
    };
    let amount = Amount::from_units(units, asset);
    amount.units_i64()?;
    Ok(amount)
}

impl TryFrom<Written> for RateCard {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let mut card = Self::new(written.version, written.asset)?.with_rounding(written.rounding);
        for pattern in written.free {
            card = card.with_free(pattern)?;
        }
        for price in written.prices {
            card = card.with_price(price)?;
        }
        Ok(card)
    }
}

impl From<RateCard> for Written {
    fn from(card: RateCard) -> Self {
        let prices = card.prices.into_iter();
        Self {
            version: card.version,
            asset: card.asset,
            rounding: card.rounding,
            free: card.free,
            prices: prices
                .map(|((unit, resource), (amount, per))| Price {
                    resource,
                    unit,
                    amount,
                    per,
                })
                .collect(),
        }
    }
}
