//! Foreign exchange as linked transfers: both ledgers move in one batch or not at all.

use agent_core::{Amount, Asset, IdempotencyKey};

use crate::account::AccountName;
use crate::batch::{Batch, Entry};
use crate::error::{Error, Result};
use crate::ratio::Ratio;

/// A rate between two assets with what the desk keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExchangeRate {
    /// What is given.
    pub from: Asset,
    /// What is got.
    pub to: Asset,
    /// Whole units of `to` for one whole unit of `from`.
    pub rate: Ratio,
    /// The share of the proceeds the desk keeps, below one.
    pub spread: Ratio,
}

/// What an exchange gives, exact to the smallest unit: `gross = net + spread`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchanged {
    /// What is given.
    pub given: Amount,
    /// What it is worth at the rate, rounded down.
    pub gross: Amount,
    /// What the desk keeps of it, rounded up.
    pub spread: Amount,
    /// What is got.
    pub net: Amount,
}

impl ExchangeRate {
    /// Creates a rate.
    ///
    /// # Errors
    /// `Invalid` if the assets are the same, the rate is zero, or the spread is not below one.
    pub fn new(from: Asset, to: Asset, rate: Ratio, spread: Ratio) -> Result<Self> {
        if from == to {
            return Err(Error::invalid("exchange rate", "two different assets"));
        }
        if rate == Ratio::ZERO || spread.compare(Ratio::ONE)?.is_ge() {
            return Err(Error::invalid(
                "exchange rate",
                "a rate above 0, a spread below 1",
            ));
        }
        Ok(Self {
            from,
            to,
            rate,
            spread,
        })
    }

    /// Computes what an amount gives. Every rounding is against whoever exchanges, by less than
    /// one smallest unit each.
    ///
    /// # Errors
    /// `Invalid` for another asset, a negative amount, or a result beyond 64 bits.
    pub fn convert(&self, given: Amount) -> Result<Exchanged> {
        if given.asset() != self.from {
            return Err(Error::invalid("exchange", "the amount is of another asset"));
        }
        let scale = Ratio::new(self.to.units_per_whole(), self.from.units_per_whole())?;
        let exact = Ratio::new(given.units(), 1)?
            .times(self.rate)?
            .times(scale)?;
        let gross = Amount::from_units(exact.floor(), self.to);
        let spread = Ratio::new(gross.units(), 1)?.times(self.spread)?.ceil()?;
        let spread = Amount::from_units(spread, self.to);
        gross.units_i64()?;
        let net = gross.minus(spread)?;
        Ok(Exchanged {
            given,
            gross,
            spread,
            net,
        })
    }
}

/// An exchange between accounts of two ledgers, through a desk that has an account in each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// The key of the batch.
    pub key: IdempotencyKey,
    /// Who gives.
    pub payer: AccountName,
    /// Who gets.
    pub payee: AccountName,
    /// The desk: it takes the one asset and gives the other.
    pub desk: AccountName,
    /// Where the spread goes, in the ledger of what is got.
    pub earnings: AccountName,
    /// The rate.
    pub rate: ExchangeRate,
    /// How much is given.
    pub given: Amount,
}

impl Exchange {
    /// Describes an exchange of `given` at `rate` from `payer` to `payee`, through the accounts
    /// `exchange` and `exchange-spread`.
    ///
    /// # Errors
    /// None for names that exist.
    pub fn new(
        key: IdempotencyKey,
        payer: AccountName,
        payee: AccountName,
        rate: ExchangeRate,
        given: Amount,
    ) -> Result<Self> {
        Ok(Self {
            key,
            payer,
            payee,
            desk: AccountName::new("exchange")?,
            earnings: AccountName::new("exchange-spread")?,
            rate,
            given,
        })
    }

    /// Sets the desk and where its spread goes. Default: `exchange`, `exchange-spread`.
    #[must_use]
    pub fn with_desk(mut self, desk: AccountName, earnings: AccountName) -> Self {
        self.desk = desk;
        self.earnings = earnings;
        self
    }

    /// Returns the linked transfers; the memo keeps rate and spread in the journal.
    ///
    /// # Errors
    /// As [`ExchangeRate::convert`]; `Invalid` if nothing would be got.
    pub fn batch(&self) -> Result<Batch> {
        let got = self.rate.convert(self.given)?;
        if got.net.is_zero() {
            return Err(Error::invalid(
                "exchange",
                "it gives less than a smallest unit",
            ));
        }
        let mut entries = vec![
            Entry::post(self.payer.clone(), self.desk.clone(), got.given),
            Entry::post(self.desk.clone(), self.payee.clone(), got.net),
        ];
        if !got.spread.is_zero() {
            let spread = Entry::post(self.desk.clone(), self.earnings.clone(), got.spread);
            entries.push(spread);
        }
        let ExchangeRate {
            from,
            to,
            rate,
            spread,
        } = self.rate;
        let memo = format!("exchange {from} to {to} at {rate}, spread {spread}");
        Ok(Batch::new(self.key.clone(), entries).with_memo(memo))
    }
}
