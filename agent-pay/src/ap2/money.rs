//! Amounts of mandates, exactly: whole minor units where the schema says so, and a decimal number of
//! the whole currency for budgets.

use agent_core::{Amount, Asset};

use super::malformed;
use crate::error::{Error, Result};

/// Currencies of ISO 4217 whose minor unit is not a hundredth.
const OTHERS: [(&str, u8); 26] = [
    ("BIF", 0),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("ISK", 0),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("PYG", 0),
    ("RWF", 0),
    ("UGX", 0),
    ("UYI", 0),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
    ("BHD", 3),
    ("IQD", 3),
    ("JOD", 3),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("TND", 3),
    ("CLF", 4),
    ("UYW", 4),
];
/// Those whose minor unit is a hundredth.
const HUNDREDTHS: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD \
    BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL \
    GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD \
    LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK \
    PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS \
    TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW ZWG";

/// Returns the decimals of a currency; none for what is no currency of ISO 4217.
fn decimals(code: &str) -> Option<u8> {
    let other = OTHERS.iter().find(|(other, _)| *other == code);
    other
        .map(|(_, decimals)| *decimals)
        .or_else(|| HUNDREDTHS.split(' ').any(|c| c == code).then_some(2))
}

/// The assets a ledger keeps, by the currencies mandates name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assets<'a>(pub(super) &'a [Asset]);

impl Assets<'_> {
    fn of(self, code: &str) -> Result<(Asset, u8)> {
        let decimals = decimals(code).ok_or_else(|| malformed("a currency nobody knows"))?;
        let mut fitting = self.0.iter().filter(|asset| asset.code() == code);
        match (fitting.next(), fitting.next()) {
            (Some(asset), None) if asset.scale() >= decimals => Ok((*asset, decimals)),
            (Some(_), None) => Err(malformed("an asset too coarse for its currency")),
            (Some(_), Some(_)) => Err(malformed("a currency with two assets")),
            (None, _) => Err(malformed("a currency the ledger does not keep")),
        }
    }

    /// Reads whole minor units.
    pub(super) fn minor(self, units: i64, code: &str) -> Result<Amount> {
        let (asset, decimals) = self.of(code)?;
        if units < 0 {
            return Err(malformed("a negative amount"));
        }
        let finer = u32::from(asset.scale().saturating_sub(decimals));
        let factor = 10_u64.checked_pow(finer).ok_or_else(range)?;
        Ok(Amount::from_units(units.into(), asset).times(factor)?)
    }

    /// Reads a decimal number of the whole currency, as it is written. One with more decimals than
    /// the currency has is refused: it is a rounding error or meant in another unit, and who can say.
    pub(super) fn major(self, number: &str, code: &str) -> Result<Amount> {
        let (asset, decimals) = self.of(code)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let is_plain = !whole.is_empty() && is_digits(whole) && is_digits(fraction);
        if !is_plain || number.ends_with('.') {
            return Err(malformed("an amount that is no plain decimal number"));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > usize::from(decimals) {
            return Err(malformed("an amount finer than its currency"));
        }
        let point = if fraction.is_empty() { "" } else { "." };
        let amount: Amount = format!("{whole}{point}{fraction} {asset}").parse()?;
        amount.units_i64()?;
        Ok(amount)
    }
}

fn range() -> Error {
    malformed("an amount out of range")
}
