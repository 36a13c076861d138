//! The spend authority: may this agent spend this, now?
//!
//! A node of the tree (organisation, team, agent, run, task) has a [`Policy`]. An [`Intent`] says
//! what is to be spent; [`decide`] says, from a [`Snapshot`] and nothing else, whether that is
//! allowed, needs a person, or is denied, and by which rules. A backend takes the snapshot,
//! decides, and holds the money in one transaction:
//!
//! ```text
//!  intent ─► snapshot of every level ─► decide ─┬─► Allow ─► hold on every limit ─► Held
//!            policy, taken, payee, approval     ├─► Ask ──► open request ──────────► NeedsApproval
//!                                               └─► Deny ──────────────────────────► Denied
//! ```
//!
//! Every cumulative limit is a guarded account of the ledger, so that the ledger itself refuses
//! what a wrong decision would let through.

mod approval;
mod book;
mod decide;
mod intent;
mod limit;
mod policy;
mod refund;
mod rule;
mod window;

pub use approval::{ApprovalRequest, ApprovalState, Vote};
pub use book::{PolicyBook, PolicyError, Remedy};
pub use decide::{Decision, Level, Meter, Outcome, Snapshot, decide, may_approve};
pub use intent::{Intent, Movement, Origin, Payee, PriceBasis, operation_key};
pub use limit::{Limit, Measure, Window};
pub use policy::{FirstPayee, Policy};
pub use refund::{Refund, RefundState};
pub use rule::{Matched, Rule};
pub use window::{Calendar, Period};

use agent_core::{Amount, IdempotencyKey, Timestamp};

use crate::budget::BudgetPath;

/// What is held for an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpendHold {
    /// The key of the intent, by which it is captured or released.
    pub key: IdempotencyKey,
    /// The node that pays.
    pub node: BudgetPath,
    /// What is held in all, top-ups included.
    pub amount: Amount,
    /// When it is released by itself, unless it was submitted to a rail.
    pub expires_at: Timestamp,
    /// What was captured.
    pub captured: Amount,
    /// What of that was given back.
    pub refunded: Amount,
    /// What became of it.
    pub state: SpendState,
}

/// What became of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpendState {
    /// It is held.
    Held,
    /// It is held and a rail may have moved the money: it does not expire.
    Submitted,
    /// It is captured.
    Captured,
    /// It was released.
    Released,
    /// It was released because its time was over.
    Expired,
}

impl SpendState {
    /// Returns the number the state is stored as.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Submitted => 1,
            Self::Captured => 2,
            Self::Released => 3,
            Self::Expired => 4,
        }
    }

    /// Reads the number the state is stored as.
    ///
    /// # Errors
    /// `Corrupt` for an unknown number.
    pub fn from_code(code: u8) -> crate::Result<Self> {
        match code {
            0 => Ok(Self::Held),
            1 => Ok(Self::Submitted),
            2 => Ok(Self::Captured),
            3 => Ok(Self::Released),
            4 => Ok(Self::Expired),
            _ => Err(crate::Error::corrupt(format!(
                "hold state {code} is unknown"
            ))),
        }
    }
}

/// Why an intent is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The rule that denied, as a stable code such as `over_limit`.
    pub code: &'static str,
    /// The rule.
    pub rule: Matched,
    /// The number of the stored decision.
    pub decision: u64,
}

/// The answer to an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "only a hold allows to spend"]
#[non_exhaustive]
pub enum Authorization {
    /// The money is held on every limit.
    #[non_exhaustive]
    Held {
        /// The hold.
        hold: SpendHold,
        /// Whether the answer is that of an earlier call with the same key and body.
        is_replayed: bool,
    },
    /// Nothing is held. Somebody must approve exactly this intent; then ask again.
    NeedsApproval(ApprovalRequest),
    /// Nothing is held. The key stays free.
    Denied(Refusal),
}

impl Authorization {
    /// Returns the hold.
    ///
    /// # Errors
    /// `Denied` ([`crate::Error::SpendDenied`]) for a denial and for one that needs approval.
    pub fn into_hold(self) -> crate::Result<SpendHold> {
        match self {
            Self::Held { hold, .. } => Ok(hold),
            Self::NeedsApproval(request) => Err(crate::Error::SpendDenied {
                code: "needs_approval",
                detail: request.reasons(),
            }),
            Self::Denied(refusal) => Err(crate::Error::SpendDenied {
                code: refusal.code,
                detail: refusal.rule.to_string(),
            }),
        }
    }
}
