//! What is ordered, and what is recorded of it.

use agent_core::{IdempotencyKey, Principal, Timestamp};

use crate::authority::{ApprovalRequest, Refusal};
use crate::budget::BudgetPath;
use crate::error::{Error, Result};
use crate::provision::{CredentialName, Plan, ResourceName, Spec};

/// How a resource stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// Its money is held; it is being created.
    Ordered,
    /// It can be used and is paid for.
    Ready,
    /// It is scaled to zero and costs nothing.
    Asleep,
    /// It is being brought to another plan.
    Changing,
    /// It is being scaled to zero.
    FallingAsleep,
    /// It is being woken.
    Waking,
    /// Its creation is being undone.
    Undoing,
    /// It is being removed.
    Leaving,
    /// It is gone.
    Gone,
}

/// What is ordered, by whom, from which budget.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Order {
    /// The key under which it is created and charged once.
    pub key: IdempotencyKey,
    /// What is to exist.
    pub spec: Spec,
    /// The node that pays.
    pub node: BudgetPath,
    /// Who orders.
    pub actor: Principal,
    /// Until when it may be authorized or approved. Repeating an order repeats this moment too:
    /// an approval holds for exactly one intent.
    pub until: Timestamp,
}

impl Order {
    /// Describes an order.
    #[must_use]
    pub const fn new(
        key: IdempotencyKey,
        spec: Spec,
        node: BudgetPath,
        actor: Principal,
        until: Timestamp,
    ) -> Self {
        Self {
            key,
            spec,
            node,
            actor,
            until,
        }
    }
}

/// A resource as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// Its name.
    pub name: ResourceName,
    /// The offer.
    pub offer: String,
    /// The plan it has.
    pub plan: Plan,
    /// The node that pays.
    pub node: BudgetPath,
    /// Who ordered it.
    pub actor: Principal,
    /// The key of its order.
    pub key: IdempotencyKey,
    /// How it stands.
    pub condition: Condition,
    /// Until when it is paid for.
    pub paid_until: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
    /// The names of its credentials.
    pub credentials: Vec<CredentialName>,
}

/// The answer to an order or a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "only a resource that is ready can be used"]
#[non_exhaustive]
pub enum Provisioned {
    /// It is done and paid for.
    Done(Resource),
    /// Nothing was made. Somebody must approve the spend; then order again.
    NeedsApproval(ApprovalRequest),
    /// Nothing was made: the budget does not allow it.
    Denied(Refusal),
}

impl Provisioned {
    /// Returns the resource.
    ///
    /// # Errors
    /// `Denied` ([`Error::SpendDenied`]) for a denial and for one that needs approval.
    pub fn into_resource(self) -> Result<Resource> {
        match self {
            Self::Done(resource) => Ok(resource),
            Self::NeedsApproval(request) => Err(Error::SpendDenied {
                code: "needs_approval",
                detail: request.reasons(),
            }),
            Self::Denied(refusal) => Err(Error::SpendDenied {
                code: refusal.code,
                detail: refusal.rule.to_string(),
            }),
        }
    }
}
