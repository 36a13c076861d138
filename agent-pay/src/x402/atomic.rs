//! Amounts in a token's smallest unit, as the wire has them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An amount in a token's smallest unit. Decimal digits without sign, exponent, or zeros in front, so
/// that one amount has one text; at most 128 bits, which no token comes near.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Atomic(u128);

impl Atomic {
    /// Takes a number of smallest units.
    #[must_use]
    pub const fn new(units: u128) -> Self {
        Self(units)
    }

    /// Returns the number of smallest units.
    #[must_use]
    pub const fn units(self) -> u128 {
        self.0
    }
}

/// Reads decimal digits in their one form.
pub(super) fn digits<T: FromStr>(what: &'static str, text: &str) -> Result<T> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    if !is_plain || text.is_empty() || text.len() > 1 && text.starts_with('0') {
        return Err(Error::invalid(
            what,
            "decimal digits without zeros in front",
        ));
    }
    text.parse()
        .map_err(|_range| Error::invalid(what, "the number is too large"))
}

impl FromStr for Atomic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        digits("amount", text).map(Self)
    }
}

impl TryFrom<String> for Atomic {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Atomic> for String {
    fn from(amount: Atomic) -> Self {
        amount.0.to_string()
    }
}

impl fmt::Display for Atomic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Atomic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
