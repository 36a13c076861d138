//! Money as integers: an amount is a whole number of an asset's smallest ledger units.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A currency or token, with the number of decimals its ledger keeps.
///
/// Written `USD` when the scale is [`Asset::SCALE_DEFAULT`], else `JPY/0`. Two assets are the same
/// only if code and scale agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asset {
    code: [u8; Self::CODE_BYTES_MAX],
    len: u8,
    scale: u8,
}

impl Asset {
    /// The longest code in bytes: room for ISO 4217 and for token symbols such as `USDC-BASE`.
    pub const CODE_BYTES_MAX: usize = 12;
    /// Millionths: model prices per token need more than cents.
    pub const SCALE_DEFAULT: u8 = 6;
    /// Nine decimals keep nine billion units of an asset within 63 bits.
    pub const SCALE_MAX: u8 = 9;

    /// The US dollar in millionths.
    pub const USD: Self = Self {
        code: *b"USD\0\0\0\0\0\0\0\0\0",
        len: 3,
        scale: Self::SCALE_DEFAULT,
    };

    /// Creates an asset.
    ///
    /// # Errors
    /// `Invalid` if the code is empty, longer than [`Self::CODE_BYTES_MAX`] or not made of
    /// `A-Z`, `0-9` and `-` starting with a letter, or if the scale is above
    /// [`Self::SCALE_MAX`].
    pub fn new(code: &str, scale: u8) -> Result<Self> {
        let bytes = code.as_bytes();
        let mut stored = [0_u8; Self::CODE_BYTES_MAX];
        let (Some(slot), Ok(len)) = (stored.get_mut(..bytes.len()), u8::try_from(bytes.len()))
        else {
            return Err(Error::invalid("asset", "the code is longer than 12 bytes"));
        };
        slot.copy_from_slice(bytes);
        if !bytes.first().is_some_and(u8::is_ascii_uppercase)
            || !bytes
                .iter()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'-')
        {
            return Err(Error::invalid(
                "asset",
                "a code is capital letters, digits and `-`",
            ));
        }
        if scale > Self::SCALE_MAX {
            return Err(Error::invalid("asset", "the scale is above 9 decimals"));
        }
        Ok(Self {
            code: stored,
            len,
            scale,
        })
    }

    /// Returns the code, for example `USD`.
    #[must_use]
    pub fn code(&self) -> &str {
        self.code
            .get(..usize::from(self.len))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// Returns the number of decimals.
    #[must_use]
    pub const fn scale(&self) -> u8 {
        self.scale
    }

    /// Returns how many smallest units make one whole unit.
    #[must_use]
    pub fn units_per_whole(&self) -> i128 {
        10_i128.pow(u32::from(self.scale))
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())?;
        if self.scale == Self::SCALE_DEFAULT {
            Ok(())
        } else {
            write!(f, "/{}", self.scale)
        }
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Asset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('/') {
            None => Self::new(text, Self::SCALE_DEFAULT),
            Some((code, scale)) => {
                let &[digit @ b'0'..=b'9'] = scale.as_bytes() else {
                    return Err(Error::invalid("asset", "the scale is not one digit"));
                };
                Self::new(code, digit - b'0')
            }
        }
    }
}

/// A signed whole number of an asset's smallest units. Arithmetic is checked and refuses to mix
/// assets.
///
/// Written as a decimal with its asset: `1.25 USD`. Serialized as that text, so that no JSON
/// reader turns it into a float.
///
/// ```
/// use agent_core::Amount;
/// let price: Amount = "0.000003 USD".parse().unwrap();
/// assert_eq!(price.units(), 3);
/// assert_eq!(price.times(1_000).unwrap().to_string(), "0.003 USD");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    units: i128,
    asset: Asset,
}

impl Amount {
    /// Creates an amount from smallest units.
    #[must_use]
    pub const fn from_units(units: i128, asset: Asset) -> Self {
        Self { units, asset }
    }

    /// Returns nothing of an asset.
    #[must_use]
    pub const fn zero(asset: Asset) -> Self {
        Self { units: 0, asset }
    }

    /// Returns the number of smallest units.
    #[must_use]
    pub const fn units(&self) -> i128 {
        self.units
    }

    /// Returns the smallest units as a stored 64-bit integer.
    ///
    /// # Errors
    /// `Invalid` if the amount does not fit.
    pub fn units_i64(&self) -> Result<i64> {
        i64::try_from(self.units).map_err(|_range| Error::Amount {
            reason: "the amount does not fit in 64 bits",
        })
    }

    /// Returns the asset.
    #[must_use]
    pub const fn asset(&self) -> Asset {
        self.asset
    }

    /// Returns whether the amount is exactly nothing.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.units == 0
    }

    /// Returns whether the amount is below nothing.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.units < 0
    }

    /// Adds an amount of the same asset.
    ///
    /// # Errors
    /// `Invalid` if the assets differ or the sum does not fit.
    pub fn plus(self, other: Self) -> Result<Self> {
        self.combine(other, i128::checked_add)
    }

    /// Subtracts an amount of the same asset; the result may be negative.
    ///
    /// # Errors
    /// `Invalid` if the assets differ or the difference does not fit.
    pub fn minus(self, other: Self) -> Result<Self> {
        self.combine(other, i128::checked_sub)
    }

    /// Multiplies by a whole number.
    ///
    /// # Errors
    /// `Invalid` if the product does not fit.
    pub fn times(self, factor: u64) -> Result<Self> {
        let units = self
            .units
            .checked_mul(i128::from(factor))
            .ok_or(Error::Amount {
                reason: "the product does not fit",
            })?;
        Ok(Self {
            units,
            asset: self.asset,
        })
    }

    /// Compares with an amount of the same asset.
    ///
    /// # Errors
    /// `Invalid` if the assets differ.
    pub fn compare(&self, other: &Self) -> Result<std::cmp::Ordering> {
        self.same_asset(other)?;
        Ok(self.units.cmp(&other.units))
    }

    fn same_asset(&self, other: &Self) -> Result<()> {
        if self.asset == other.asset {
            Ok(())
        } else {
            Err(Error::Amount {
                reason: "the amounts have different assets",
            })
        }
    }

    fn combine(self, other: Self, op: fn(i128, i128) -> Option<i128>) -> Result<Self> {
        self.same_asset(&other)?;
        let units = op(self.units, other.units).ok_or(Error::Amount {
            reason: "the sum does not fit",
        })?;
        Ok(Self {
            units,
            asset: self.asset,
        })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let (units, whole) = (
            self.units.unsigned_abs(),
            self.asset.units_per_whole().unsigned_abs(),
        );
        let (major, minor) = (units / whole, units % whole);
        let digits = format!("{minor:0width$}", width = usize::from(self.asset.scale));
        let digits = digits.trim_end_matches('0');
        // Two decimals at least where the asset has them, as people write money.
        let keep = usize::from(self.asset.scale.min(2));
        if self.asset.scale == 0 {
            write!(f, "{sign}{major} {}", self.asset)
        } else {
            write!(f, "{sign}{major}.{digits:0<keep$} {}", self.asset)
        }
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Amount {
    type Err = Error;

    /// Parses `1.25 USD`; refuses exponents, separators and more decimals than the asset keeps.
    fn from_str(text: &str) -> Result<Self> {
        let (number, asset) = text.split_once(' ').ok_or_else(|| {
            Error::invalid("amount", "expected a number and an asset: `1.25 USD`")
        })?;
        let asset: Asset = asset.parse()?;
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (major, minor) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let pointed = number.contains('.');
        if major.is_empty() || !digits(major) || !digits(minor) || pointed && minor.is_empty() {
            return Err(Error::invalid(
                "amount",
                "expected decimal digits and at most one point",
            ));
        }
        let scale = usize::from(asset.scale);
        if minor.len() > scale {
            return Err(Error::invalid(
                "amount",
                format!("{asset} keeps {scale} decimals"),
            ));
        }
        let sign = if negative { "-" } else { "" };
        let all = format!("{sign}{major}{minor:0<scale$}");
        let units: i128 = all
            .parse()
            .map_err(|_range| Error::invalid("amount", "the number does not fit"))?;
        Ok(Self { units, asset })
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Asset);
serde_as_text!(Amount);
