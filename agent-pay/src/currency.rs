//! The smallest units currencies have on the wire of card rails, and amounts turned into them
//! without rounding.

use agent_core::{Amount, Asset};

use crate::error::{Error, Result};

/// Active currencies of ISO 4217 without decimals.
const SCALE_0: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
/// With two.
const SCALE_2: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN \
    BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD \
    HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU \
    MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK \
    SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG \
    YER ZAR ZMW ZWG";
/// With three.
const SCALE_3: &str = "BHD IQD JOD KWD LYD OMR TND";

/// Returns how many decimals ISO 4217 gives a currency, written in capitals or not; none for what
/// is no currency, so that nobody guesses.
pub(crate) fn iso_scale(code: &str) -> Option<u8> {
    let lists = [(SCALE_0, 0), (SCALE_2, 2), (SCALE_3, 3)];
    let holds = |list: &str| {
        list.split_whitespace()
            .any(|c| c.eq_ignore_ascii_case(code))
    };
    lists
        .into_iter()
        .find(|(list, _)| holds(list))
        .map(|(_, scale)| scale)
}

/// Returns an amount in units of `scale` decimals.
///
/// # Errors
/// `Invalid` if it has a fraction there or leaves 63 bits: money is not rounded on its way out.
#[cfg(feature = "stripe")]
pub(crate) fn to_minor(amount: Amount, scale: u8) -> Result<i64> {
    let wrong = |why: &'static str| Error::invalid("amount", why);
    let units = amount
        .units()
        .checked_mul(10_i128.pow(u32::from(scale)))
        .ok_or_else(|| wrong("it does not fit"))?;
    let whole = amount.asset().units_per_whole();
    let (minor, rest) = (units.checked_div(whole), units.checked_rem(whole));
    if rest != Some(0) {
        return Err(wrong("a fraction of the currency's smallest unit"));
    }
    let minor = minor.and_then(|minor| i64::try_from(minor).ok());
    minor.ok_or_else(|| wrong("it does not fit"))
}

/// Returns units of `scale` decimals as an amount of `asset`.
///
/// # Errors
/// `Invalid` if the asset keeps too few decimals for it.
pub(crate) fn from_minor(minor: i64, scale: u8, asset: Asset) -> Result<Amount> {
    let wrong = || Error::invalid("amount", "a fraction of the asset's smallest unit");
    let units = i128::from(minor).checked_mul(asset.units_per_whole());
    let units = units.ok_or_else(wrong)?;
    let whole = 10_i128.pow(u32::from(scale));
    match (units.checked_div(whole), units.checked_rem(whole)) {
        (Some(units), Some(0)) => Ok(Amount::from_units(units, asset)),
        _ => Err(wrong()),
    }
}
