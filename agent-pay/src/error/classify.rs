//! What a caller decides on: the kind of an error, whether to repeat, its code, and what to do.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::{Classify, ErrorKind, Retry};

use super::Error;

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. }
            | Self::Overflow { .. }
            | Self::ExceedsHold { .. }
            | Self::Policy(_) => ErrorKind::Invalid,
            Self::Value(error) => error.kind(),
            Self::AccountNotFound { .. }
            | Self::KeyNotFound { .. }
            | Self::NodeNotFound { .. }
            | Self::ApprovalNotFound { .. }
            | Self::ResourceNotFound { .. }
            | Self::Unpriced { .. } => ErrorKind::NotFound,
            Self::SpendDenied { .. }
            | Self::NotAnApprover { .. }
            | Self::BadSignature { .. }
            | Self::Blocked { .. } => ErrorKind::Denied,
            Self::AccountDiffers { .. }
            | Self::KeyReused { .. }
            | Self::AlreadyFailed { .. }
            | Self::ApprovalClosed { .. }
            | Self::InFlight { .. }
            | Self::ResourceInUse { .. }
            | Self::Resolved { .. }
            | Self::Expired { .. }
            | Self::LimitDiffers { .. } => ErrorKind::Conflict,
            Self::Insufficient(_) | Self::OverBudget(_) => ErrorKind::Exhausted,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Backend { kind, .. } => *kind,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Value(error) => error.retry(),
            Self::Backend { retry, .. } => *retry,
            // Refused before anything was written; budgets are refilled and holds released.
            Self::Insufficient(_)
            | Self::OverBudget(_)
            | Self::InFlight { .. }
            | Self::ResourceInUse { .. } => Retry::Safe,
            _ => Retry::Never,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "pay.invalid",
            Self::Value(error) => error.code(),
            Self::Overflow { .. } => "pay.overflow",
            Self::AccountNotFound { .. } => "pay.account_not_found",
            Self::AccountDiffers { .. } => "pay.account_differs",
            Self::KeyNotFound { .. } => "pay.key_not_found",
            Self::KeyReused { .. } => "pay.key_reused",
            Self::AlreadyFailed { .. } => "pay.already_failed",
            Self::Resolved { .. } => "pay.resolved",
            Self::Expired { .. } => "pay.expired",
            Self::ExceedsHold { .. } => "pay.exceeds_hold",
            Self::Insufficient(_) => "pay.insufficient",
            Self::OverBudget(_) => "pay.over_budget",
            Self::SpendDenied { .. } => "pay.spend_denied",
            Self::NodeNotFound { .. } => "pay.node_not_found",
            Self::ApprovalNotFound { .. } => "pay.approval_not_found",
            Self::ApprovalClosed { .. } => "pay.approval_closed",
            Self::NotAnApprover { .. } => "pay.not_an_approver",
            Self::BadSignature { .. } => "pay.bad_signature",
            Self::InFlight { .. } => "pay.in_flight",
            Self::Blocked { .. } => "pay.blocked",
            Self::ResourceNotFound { .. } => "pay.resource_not_found",
            Self::ResourceInUse { .. } => "pay.resource_in_use",
            Self::Policy(_) => "pay.policy",
            Self::LimitDiffers { .. } => "pay.limit_differs",
            Self::Unpriced { .. } => "pay.unpriced",
            Self::Corrupt { .. } => "pay.corrupt",
            Self::Backend { .. } => "pay.backend",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Invalid { .. } => "correct the argument the message names",
            Self::Value(error) => return error.fix(),
            Self::Overflow { .. } => "keep balances below 2^63 of the asset's smallest units",
            Self::AccountNotFound { .. } => "open the account first",
            Self::AccountDiffers { .. } => "open the account with the guard it has",
            Self::KeyNotFound { .. } => "post the batch first, or correct the key",
            Self::KeyReused { .. } => "use one key for one body; derive it from the step",
            Self::AlreadyFailed { .. } => "post again under a key of its own",
            Self::Resolved { .. } => "read the batch by its key and go on from its state",
            Self::Expired { .. } => "record what was spent with a spend of its own",
            Self::ExceedsHold { .. } => "capture at most the hold, and spend the rest by itself",
            Self::Insufficient(_) => "credit the account, or ask for less",
            Self::OverBudget(_) => "raise the limit of the budget, or ask for less",
            Self::SpendDenied { .. } => "spend less, ask the approvers, or change the policy",
            Self::NodeNotFound { .. } => "define the node in the policy book",
            Self::ApprovalNotFound { .. } => "authorize the intent first",
            Self::ApprovalClosed { .. } => "authorize again to open another request",
            Self::NotAnApprover { .. } => "let somebody else decide",
            Self::BadSignature { .. } => "refuse the statement and ask its signer for another",
            Self::InFlight { .. } => "wait and repeat with the same key",
            Self::Blocked { .. } => "do what the remedy of each blocker says",
            Self::ResourceNotFound { .. } => "order it first, or correct the name",
            Self::ResourceInUse { .. } => "end its sessions and try again",
            Self::Policy(_) => "do what the message says",
            Self::LimitDiffers { .. } => "open with that limit, or change it with `set_limit`",
            Self::Unpriced { .. } => "add the price, or list the resource as free",
            Self::Corrupt { .. } => "stop spending and restore the ledger from a backup",
            Self::Backend { .. } => "see the cause; repeat only with the same key",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Value(error) => error.retry_after(),
            Self::InFlight { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}
