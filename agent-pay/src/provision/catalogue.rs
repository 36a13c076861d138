//! What can be ordered.

use std::time::Duration;

use agent_core::Amount;
use serde::{Deserialize, Serialize};

use super::blocker::{Blocker, BlockerCode};
use super::name::ResourceName;

/// A kind of resource with its plans.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// Its name, such as `sqlite/database`.
    pub id: String,
    /// What it is, for a reader.
    pub description: String,
    /// Whether it can be scaled to zero.
    pub can_sleep: bool,
    /// Its plans, the cheapest first.
    pub plans: Vec<Plan>,
}

impl Offer {
    /// Describes an offer that can sleep.
    #[must_use]
    pub fn new(id: impl Into<String>, description: impl Into<String>, plans: Vec<Plan>) -> Self {
        Self {
            id: id.into(),
            description: description.into(),
            can_sleep: true,
            plans,
        }
    }

    /// Sets whether it can be scaled to zero. Default: it can.
    #[must_use]
    pub const fn with_can_sleep(mut self, can_sleep: bool) -> Self {
        self.can_sleep = can_sleep;
        self
    }
}

/// What is paid for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// Its name.
    pub id: String,
    /// What a period costs, paid when it begins. A resource that sleeps begins none.
    pub price: Amount,
    /// How long a period is.
    pub period: Duration,
    /// After how long without use it is scaled to zero; never if there is none.
    pub idle_after: Option<Duration>,
    /// The most it stores, in bytes.
    pub storage_bytes_max: Option<u64>,
    /// The most sessions at once.
    pub sessions_max: Option<u32>,
}

impl Plan {
    /// Describes a plan without limits that never sleeps by itself.
    #[must_use]
    pub fn new(id: impl Into<String>, price: Amount, period: Duration) -> Self {
        Self {
            id: id.into(),
            price,
            period,
            idle_after: None,
            storage_bytes_max: None,
            sessions_max: None,
        }
    }

    /// Sets after how long without use it is scaled to zero. Default: never.
    #[must_use]
    pub const fn with_idle_after(mut self, idle_after: Duration) -> Self {
        self.idle_after = Some(idle_after);
        self
    }

    /// Sets the most it stores, in bytes. Default: what the disk holds.
    #[must_use]
    pub const fn with_storage_bytes_max(mut self, bytes: u64) -> Self {
        self.storage_bytes_max = Some(bytes);
        self
    }

    /// Sets the most sessions at once. Default: what the other side allows.
    #[must_use]
    pub const fn with_sessions_max(mut self, sessions: u32) -> Self {
        self.sessions_max = Some(sessions);
        self
    }
}

/// What is to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spec {
    /// Its name.
    pub name: ResourceName,
    /// The offer.
    pub offer: String,
    /// The plan, as the catalogue has it.
    pub plan: Plan,
}

impl Spec {
    /// Describes a resource.
    #[must_use]
    pub fn new(name: ResourceName, offer: impl Into<String>, plan: Plan) -> Self {
        Self {
            name,
            offer: offer.into(),
            plan,
        }
    }

    /// Returns what of it the catalogue does not have.
    #[must_use]
    pub fn blockers_in(&self, catalogue: &[Offer]) -> Vec<Blocker> {
        let Some(offer) = catalogue.iter().find(|offer| offer.id == self.offer) else {
            return vec![Blocker::new(
                BlockerCode::OfferUnknown,
                format!("there is no offer {}", self.offer),
                "choose one of the catalogue",
            )];
        };
        let plans = &offer.plans;
        if plans.contains(&self.plan) {
            return Vec::new();
        }
        let names: Vec<&str> = plans.iter().map(|plan| plan.id.as_str()).collect();
        vec![Blocker::new(
            BlockerCode::PlanUnknown,
            format!(
                "{} has no plan {} with these terms",
                self.offer, self.plan.id
            ),
            format!("take one as the catalogue has it: {}", names.join(", ")),
        )]
    }
}
