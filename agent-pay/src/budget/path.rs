//! Names of budgets.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use agent_core::Asset;
use serde::{Deserialize, Serialize};

use crate::account::{AccountName, check_path};
use crate::error::{Error, Result};

/// The name of a budget: the way to it from the root, such as `fleet/menders/agent_0001`.
///
/// At most [`BudgetPath::LEVELS_MAX`] segments of 1 to 64 bytes of `A-Z a-z 0-9 _ . : @ -`, none
/// of them `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BudgetPath(Arc<str>);

impl BudgetPath {
    /// The deepest tree: organisation, fleet, pool, agent, run, task, and two to spare. Each level
    /// costs every reservation one transfer.
    pub const LEVELS_MAX: usize = 8;
    /// The longest path in bytes; the account's name and the key of its limit are longer by a
    /// prefix.
    pub const BYTES_MAX: usize = 200;

    const ACCOUNT_PREFIX: &'static str = "budget/";

    /// Creates a path.
    ///
    /// # Errors
    /// `Invalid` if the text is not of the form above.
    pub fn new(path: &str) -> Result<Self> {
        check_path("budget path", path, Self::LEVELS_MAX, Self::BYTES_MAX)?;
        Ok(Self(path.into()))
    }

    /// Returns the path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path of a budget directly below.
    ///
    /// # Errors
    /// `Invalid` if the segment is malformed, is itself a path, or the path becomes too long.
    pub fn child(&self, segment: &str) -> Result<Self> {
        if segment.contains('/') {
            return Err(Error::invalid("budget path", "a segment has no `/`"));
        }
        Self::new(&format!("{}/{segment}", self.0))
    }

    /// Returns the path of the budget directly above, if there is one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, _last) = self.0.rsplit_once('/')?;
        Some(Self(parent.into()))
    }

    /// Returns the budgets on the way, from the root to the path itself.
    #[must_use]
    pub fn levels(&self) -> Vec<Self> {
        let ends = self.0.match_indices('/').map(|(at, _slash)| at);
        ends.chain([self.0.len()])
            .filter_map(|end| self.0.get(..end))
            .map(|level| Self(level.into()))
            .collect()
    }

    /// Returns the name of the budget's account in the ledger.
    pub(crate) fn account(&self) -> Result<AccountName> {
        AccountName::new(&format!("{}{}", Self::ACCOUNT_PREFIX, self.0))
    }

    /// Returns the budget an account belongs to.
    pub(super) fn of_account(account: &AccountName) -> Option<Self> {
        let path = account.as_str().strip_prefix(Self::ACCOUNT_PREFIX)?;
        Self::new(path).ok()
    }

    /// Returns the text the key of the budget's first limit is made of.
    pub(super) fn opening(&self, asset: Asset) -> String {
        format!("agent-pay.open/{asset}/{}", self.0)
    }
}

impl fmt::Display for BudgetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BudgetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for BudgetPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for BudgetPath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(&text)
    }
}

impl From<BudgetPath> for String {
    fn from(path: BudgetPath) -> Self {
        path.as_str().to_owned()
    }
}
