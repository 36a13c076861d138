//! The rules of the authority, as data.

use std::fmt;

use agent_core::Amount;

use super::limit::Limit;
use crate::budget::BudgetPath;

/// A rule of the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The kill switch is on.
    Halted,
    /// The node's spending was stopped.
    Revoked,
    /// Nobody defined the node.
    NodeUnknown,
    /// No node on the path has a limit in the asset.
    AssetUnknown,
    /// The asset is not on the node's list.
    AssetNotListed,
    /// The payee is not on the node's list.
    PayeeNotListed,
    /// The category is not on the node's list.
    CategoryNotListed,
    /// The rail is not on the node's list.
    RailNotListed,
    /// The hold would be over before it begins.
    ExpiryPassed,
    /// A limit of one transaction.
    OverTransaction(Limit),
    /// A limit of a sum.
    OverLimit(Limit),
    /// A limit of a count.
    OverCount(Limit),
    /// The purse has too little.
    InsufficientFunds,
    /// The payee gets money for the first time.
    FirstPayee,
    /// The payee's name may be an attacker's.
    PayeeTainted,
    /// Nobody vouches for the price.
    PriceUnknown,
    /// More than the node may spend alone.
    AboveAlone(Amount),
    /// Somebody refused this intent.
    ApprovalRefused,
    /// Somebody had to be asked and there is nobody.
    NoApprover,
}

impl Rule {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Revoked => "revoked",
            Self::NodeUnknown => "node_unknown",
            Self::AssetUnknown => "asset_unknown",
            Self::AssetNotListed => "asset_not_listed",
            Self::PayeeNotListed => "payee_not_listed",
            Self::CategoryNotListed => "category_not_listed",
            Self::RailNotListed => "rail_not_listed",
            Self::ExpiryPassed => "expiry_passed",
            Self::OverTransaction(_) => "over_transaction",
            Self::OverLimit(_) => "over_limit",
            Self::OverCount(_) => "over_count",
            Self::InsufficientFunds => "insufficient_funds",
            Self::FirstPayee => "first_payee",
            Self::PayeeTainted => "payee_tainted",
            Self::PriceUnknown => "price_unknown",
            Self::AboveAlone(_) => "above_alone",
            Self::ApprovalRefused => "approval_refused",
            Self::NoApprover => "no_approver",
        }
    }
}

/// A rule that applied, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Matched {
    /// The node whose rule it is.
    pub node: BudgetPath,
    /// The rule.
    pub rule: Rule,
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.rule.code())?;
        match self.rule {
            Rule::OverTransaction(l) | Rule::OverLimit(l) | Rule::OverCount(l) => write!(f, " {l}"),
            Rule::AboveAlone(amount) => write!(f, " {amount}"),
            _ => Ok(()),
        }
    }
}
