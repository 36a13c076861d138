//! Exact fractions: prices, rates and sums before they are rounded.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An exact fraction that is not negative, in lowest terms. Arithmetic is checked.
///
/// Written as a decimal where it is one (`1.085`), else as `n/d`; read in both forms, so that no
/// rate ever passes a float.
///
/// ```
/// use agent_pay::Ratio;
/// let rate: Ratio = "1.085".parse()?;
/// assert_eq!(rate.times(Ratio::new(200, 1)?)?.half_up()?, 217);
/// assert_eq!("2/6".parse::<Ratio>()?.to_string(), "1/3");
/// # Ok::<(), agent_pay::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio {
    n: i128,
    d: i128,
}

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self { n: 0, d: 1 };
    /// The whole.
    pub const ONE: Self = Self { n: 1, d: 1 };
    /// The longest text read, in bytes: two numbers of 38 digits and a stroke.
    pub const TEXT_BYTES_MAX: usize = 80;

    /// Creates the fraction `n/d`.
    ///
    /// # Errors
    /// `Invalid` if `n` is negative or `d` is not positive.
    pub fn new(n: i128, d: i128) -> Result<Self> {
        if n < 0 || d <= 0 {
            return Err(Error::invalid(
                "ratio",
                "n/d with n at least 0 and d at least 1",
            ));
        }
        let common = gcd(n, d).max(1);
        let part = |x: i128| x.checked_div(common).ok_or_else(too_large);
        Ok(Self {
            n: part(n)?,
            d: part(d)?,
        })
    }

    /// Returns the numerator.
    #[must_use]
    pub const fn numerator(self) -> i128 {
        self.n
    }

    /// Returns the denominator.
    #[must_use]
    pub const fn denominator(self) -> i128 {
        self.d
    }

    /// Adds.
    ///
    /// # Errors
    /// `Invalid` if the sum does not fit.
    pub fn plus(self, other: Self) -> Result<Self> {
        let sum = || {
            let common = gcd(self.d, other.d).max(1);
            let (of_self, of_other) = (other.d.checked_div(common)?, self.d.checked_div(common)?);
            let n = self.n.checked_mul(of_self)?;
            let n = n.checked_add(other.n.checked_mul(of_other)?)?;
            Some((n, self.d.checked_mul(of_self)?))
        };
        let (n, d) = sum().ok_or_else(too_large)?;
        Self::new(n, d)
    }

    /// Subtracts.
    ///
    /// # Errors
    /// `Invalid` if the difference is negative or does not fit.
    pub fn minus(self, other: Self) -> Result<Self> {
        let difference = || {
            let n = self.n.checked_mul(other.d)?;
            let n = n.checked_sub(other.n.checked_mul(self.d)?)?;
            Some((n, self.d.checked_mul(other.d)?))
        };
        let (n, d) = difference().ok_or_else(too_large)?;
        Self::new(n, d)
    }

    /// Multiplies.
    ///
    /// # Errors
    /// `Invalid` if the product does not fit.
    pub fn times(self, other: Self) -> Result<Self> {
        // Across first, so that what cancels never has to fit.
        let (left, right) = (Self::new(self.n, other.d)?, Self::new(other.n, self.d)?);
        let n = left.n.checked_mul(right.n).ok_or_else(too_large)?;
        let d = left.d.checked_mul(right.d).ok_or_else(too_large)?;
        Self::new(n, d)
    }

    /// Divides.
    ///
    /// # Errors
    /// `Invalid` for a divisor of zero or a quotient that does not fit.
    pub fn over(self, other: Self) -> Result<Self> {
        self.times(Self::new(other.d, other.n)?)
    }

    /// Compares.
    ///
    /// # Errors
    /// `Invalid` if the products to compare do not fit.
    pub fn compare(self, other: Self) -> Result<Ordering> {
        let left = self.n.checked_mul(other.d).ok_or_else(too_large)?;
        Ok(left.cmp(&other.n.checked_mul(self.d).ok_or_else(too_large)?))
    }

    /// Returns the larger one.
    ///
    /// # Errors
    /// As [`Ratio::compare`].
    pub fn max(self, other: Self) -> Result<Self> {
        Ok(if self.compare(other)?.is_ge() {
            self
        } else {
            other
        })
    }

    /// Returns the greatest integer not above.
    #[must_use]
    pub fn floor(self) -> i128 {
        // The denominator is positive.
        self.n.checked_div(self.d).unwrap_or(0)
    }

    /// Returns the least integer not below.
    ///
    /// # Errors
    /// `Invalid` if it does not fit.
    pub fn ceil(self) -> Result<i128> {
        let n = self
            .d
            .checked_sub(1)
            .and_then(|extra| self.n.checked_add(extra));
        n.and_then(|n| n.checked_div(self.d)).ok_or_else(too_large)
    }

    /// Returns the nearest integer, a half upwards.
    ///
    /// # Errors
    /// `Invalid` if it does not fit.
    pub fn half_up(self) -> Result<i128> {
        // The floor of n/d + 1/2 is the floor of (2n + d) / 2d.
        let n = self.n.checked_mul(2).and_then(|n| n.checked_add(self.d));
        let d = self.d.checked_mul(2).ok_or_else(too_large)?;
        n.and_then(|n| n.checked_div(d)).ok_or_else(too_large)
    }

    /// Splits into the greatest integer not above and the rest, which is below one.
    ///
    /// # Errors
    /// None for fractions that exist.
    pub fn split(self) -> Result<(i128, Self)> {
        let rest = self.n.checked_rem(self.d).ok_or_else(too_large)?;
        Ok((self.floor(), Self::new(rest, self.d)?))
    }

    /// Returns the decimal digits behind the point, if there are finitely many and at most 18.
    fn decimal(self) -> Option<(i128, usize)> {
        let mut scale = 1_i128;
        for digits in 0..=18 {
            if scale.checked_rem(self.d)? == 0 {
                let n = self.n.checked_mul(scale.checked_div(self.d)?)?;
                return Some((n, digits));
            }
            scale = scale.checked_mul(10)?;
        }
        None
    }
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

fn too_large() -> Error {
    Error::invalid("ratio", "it does not fit in 127 bits")
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decimal() {
            Some((n, 0)) => write!(f, "{n}"),
            Some((n, digits)) => {
                let width = digits.saturating_add(1);
                let text = format!("{n:0width$}");
                let (whole, rest) = text.split_at(text.len().saturating_sub(digits));
                write!(f, "{whole}.{rest}")
            }
            None => write!(f, "{}/{}", self.n, self.d),
        }
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ratio {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || Error::invalid("ratio", "expected `1.085` or `217/200`");
        let digits = |part: &str| -> Result<i128> {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(malformed());
            }
            part.parse().map_err(|_range| too_large())
        };
        if text.len() > Self::TEXT_BYTES_MAX {
            return Err(malformed());
        }
        if let Some((n, d)) = text.split_once('/') {
            return Self::new(digits(n)?, digits(d)?);
        }
        let Some((whole, rest)) = text.split_once('.') else {
            return Self::new(digits(text)?, 1);
        };
        digits(whole)?;
        digits(rest)?;
        let n_digits = u32::try_from(rest.len()).map_err(|_range| too_large())?;
        let d = 10_i128.checked_pow(n_digits).ok_or_else(too_large)?;
        Self::new(digits(&format!("{whole}{rest}"))?, d)
    }
}

impl TryFrom<String> for Ratio {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}
