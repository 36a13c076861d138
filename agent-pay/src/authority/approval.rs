//! Questions to people about exactly one spend.

use agent_core::{Digest, Principal, Timestamp};

use super::rule::Matched;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApprovalState {
    /// Votes are missing.
    Open,
    /// Enough agreed; one spend may happen.
    Granted,
    /// Somebody refused.
    Refused,
    /// The spend it was granted for has happened.
    Used,
    /// Its time was over.
    Expired,
}

impl ApprovalState {
    /// Returns the number the state is stored as.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Granted => 1,
            Self::Refused => 2,
            Self::Used => 3,
            Self::Expired => 4,
        }
    }

    /// Reads the number the state is stored as.
    ///
    /// # Errors
    /// `Corrupt` for an unknown number.
    pub fn from_code(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Self::Open),
            1 => Ok(Self::Granted),
            2 => Ok(Self::Refused),
            3 => Ok(Self::Used),
            4 => Ok(Self::Expired),
            _ => Err(Error::corrupt(format!("approval state {code} is unknown"))),
        }
    }
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vote {
    /// The spend may happen.
    Approve,
    /// It may not. One is enough.
    Refuse,
}

/// A request to approve exactly one spend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApprovalRequest {
    /// The digest of the intent: what is approved.
    pub digest: Digest,
    /// Whose approvers are asked.
    pub node: BudgetPath,
    /// Who may vote.
    pub approvers: Vec<Principal>,
    /// How many must agree.
    pub quorum: u32,
    /// Until when it is open and lasts.
    pub expires_at: Timestamp,
    /// What became of it.
    pub state: ApprovalState,
    /// Why it is asked; empty for a request that is read again.
    pub rules: Vec<Matched>,
}

impl ApprovalRequest {
    /// Returns the reasons as text.
    #[must_use]
    pub fn reasons(&self) -> String {
        let reasons: Vec<String> = self.rules.iter().map(Matched::to_string).collect();
        reasons.join("; ")
    }
}
