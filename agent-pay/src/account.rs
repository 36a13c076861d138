//! Accounts: names, guards and balances.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use agent_core::{Amount, Asset};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The name of an account within the ledger of its asset: segments joined by `/`.
///
/// A segment has 1 to 64 bytes of `A-Z a-z 0-9 _ . : @ -` and is neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(Arc<str>);

impl AccountName {
    /// The longest name in bytes: a budget of the greatest depth and its prefix fit.
    pub const BYTES_MAX: usize = 256;
    /// The most segments: a budget's levels and its prefix.
    pub const SEGMENTS_MAX: usize = 12;

    /// Creates a name.
    ///
    /// # Errors
    /// `Invalid` if the text is not of the form above.
    pub fn new(name: &str) -> Result<Self> {
        check_path("account name", name, Self::SEGMENTS_MAX, Self::BYTES_MAX)?;
        Ok(Self(name.into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks a path of segments that came from outside.
pub(crate) fn check_path(
    what: &'static str,
    text: &str,
    segments_max: usize,
    bytes_max: usize,
) -> Result<()> {
    const SEGMENT_BYTES_MAX: usize = 64;
    if text.is_empty() || text.len() > bytes_max {
        return Err(Error::invalid(what, format!("1 to {bytes_max} bytes")));
    }
    if text.split('/').count() > segments_max {
        return Err(Error::invalid(
            what,
            format!("at most {segments_max} levels"),
        ));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.:@-".contains(&b);
    let well_formed = text.split('/').all(|segment| {
        !segment.is_empty()
            && segment.len() <= SEGMENT_BYTES_MAX
            && segment != "."
            && segment != ".."
            && segment.bytes().all(allowed)
    });
    if well_formed {
        Ok(())
    } else {
        Err(Error::invalid(
            what,
            "segments are 1 to 64 bytes of letters, digits and `_.:@-`",
        ))
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for AccountName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for AccountName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(&text)
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> Self {
        name.as_str().to_owned()
    }
}

/// What an account's balance may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Guard {
    /// Anything goes: the outside world, control accounts.
    Unguarded,
    /// Posted and pending debits together never exceed posted credits.
    DebitsMustNotExceedCredits,
}

/// The four sums of an account, in smallest units. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Balances {
    /// Held from the account.
    pub debits_pending: i64,
    /// Taken from the account.
    pub debits_posted: i64,
    /// Held for the account.
    pub credits_pending: i64,
    /// Given to the account.
    pub credits_posted: i64,
}

impl Balances {
    /// Creates the four sums, for backends that read them from storage.
    #[must_use]
    pub const fn new(
        debits_pending: i64,
        debits_posted: i64,
        credits_pending: i64,
        credits_posted: i64,
    ) -> Self {
        Self {
            debits_pending,
            debits_posted,
            credits_pending,
            credits_posted,
        }
    }
}

/// An account and its balances.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// The ledger's number of the account, counted from 1.
    pub id: u64,
    /// The ledger it belongs to.
    pub asset: Asset,
    /// Its name in that ledger.
    pub name: AccountName,
    /// What its balance may not do.
    pub guard: Guard,
    /// The batch that opened it.
    pub opened_in: u64,
    /// Its sums.
    pub balances: Balances,
}

impl Account {
    /// Creates an account, for backends that read it from storage.
    #[must_use]
    pub const fn new(
        id: u64,
        asset: Asset,
        name: AccountName,
        guard: Guard,
        opened_in: u64,
        balances: Balances,
    ) -> Self {
        Self {
            id,
            asset,
            name,
            guard,
            opened_in,
            balances,
        }
    }

    /// Returns what was given to the account.
    #[must_use]
    pub fn credits_posted(&self) -> Amount {
        self.amount(self.balances.credits_posted)
    }

    /// Returns what is held for the account.
    #[must_use]
    pub fn credits_pending(&self) -> Amount {
        self.amount(self.balances.credits_pending)
    }

    /// Returns what was taken from the account.
    #[must_use]
    pub fn debits_posted(&self) -> Amount {
        self.amount(self.balances.debits_posted)
    }

    /// Returns what is held from the account.
    #[must_use]
    pub fn debits_pending(&self) -> Amount {
        self.amount(self.balances.debits_pending)
    }

    pub(crate) fn amount(&self, units: i64) -> Amount {
        Amount::from_units(i128::from(units), self.asset)
    }

    /// Returns whether the balances keep the account's guard.
    #[must_use]
    pub fn keeps_guard(&self) -> bool {
        let b = self.balances;
        match self.guard {
            Guard::Unguarded => true,
            Guard::DebitsMustNotExceedCredits => b
                .debits_posted
                .checked_add(b.debits_pending)
                .is_some_and(|debits| debits <= b.credits_posted),
        }
    }
}

/// Which accounts to list, in the order of their names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccountQuery {
    /// The ledger.
    pub asset: Asset,
    /// The account itself and, unless `is_exact`, all below it.
    pub under: AccountName,
    /// Only the account itself.
    pub is_exact: bool,
    /// Continue behind this name.
    pub after: Option<AccountName>,
    /// The most accounts returned, at most [`AccountQuery::LIMIT_MAX`].
    pub limit: usize,
}

impl AccountQuery {
    /// The most accounts of one page: what a console shows at most.
    pub const LIMIT_MAX: usize = 1_000;

    /// Asks for one account.
    #[must_use]
    pub const fn exact(asset: Asset, name: AccountName) -> Self {
        Self {
            asset,
            under: name,
            is_exact: true,
            after: None,
            limit: 1,
        }
    }

    /// Asks for an account and all below it, a page of [`Self::LIMIT_MAX`].
    #[must_use]
    pub const fn under(asset: Asset, name: AccountName) -> Self {
        Self {
            asset,
            under: name,
            is_exact: false,
            after: None,
            limit: Self::LIMIT_MAX,
        }
    }

    /// Continues behind the last name of a page. Default: the start.
    #[must_use]
    pub fn with_after(mut self, name: AccountName) -> Self {
        self.after = Some(name);
        self
    }

    /// Sets the size of a page. Default: [`Self::LIMIT_MAX`], which is also the most.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(Self::LIMIT_MAX);
        self
    }
}
