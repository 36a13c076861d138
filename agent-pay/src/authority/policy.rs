//! What a node of the tree may spend, on what, and from where on somebody is asked.

use std::time::Duration;

use agent_core::{Amount, Principal};
use serde::{Deserialize, Serialize};

use super::limit::Limit;
use crate::error::{Error, Result};

/// What happens when money goes to a payee for the first time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FirstPayee {
    /// Nothing.
    Allow,
    /// Somebody is asked.
    #[default]
    Ask,
    /// It is denied; the host makes payees known.
    Deny,
}

/// The policy of one node. An intent must satisfy those of all nodes on its path, so a node can
/// only narrow what the nodes above allow. Empty lists narrow nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Policy {
    /// Who spends from the node: it can approve nothing that is spent here or above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Principal>,
    /// How much and how often.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// From more than this on somebody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone_up_to: Option<Amount>,
    /// Payees: names, or beginnings followed by `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub payees: Vec<String>,
    /// Categories, in the same form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Rails, in the same form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rails: Vec<String>,
    /// Assets by code or `CODE/scale`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<agent_core::Asset>,
    /// What happens at the first payment to somebody. The strictest on the path counts; if none
    /// says anything, somebody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_payee: Option<FirstPayee>,
    /// Who may approve. The node nearest to the spender that names approvers counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Principal>,
    /// How many of them must; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// How long an approval waits and lasts, in seconds; a day if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_seconds: Option<u64>,
}

impl Policy {
    /// The most limits of a node: with the deepest tree, one batch holds them all.
    pub const LIMITS_MAX: usize = 6;
    /// The most entries of a list.
    pub const LIST_MAX: usize = 1_000;
    /// The longest entry of a list in bytes.
    pub const TEXT_BYTES_MAX: usize = 256;

    /// A policy that narrows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a limit. Default: none.
    #[must_use]
    pub fn with_limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Sets from where on somebody is asked. Default: nowhere.
    #[must_use]
    pub const fn with_alone_up_to(mut self, amount: Amount) -> Self {
        self.alone_up_to = Some(amount);
        self
    }

    /// Sets what happens at the first payment to somebody. Default: what the nodes above say.
    #[must_use]
    pub const fn with_first_payee(mut self, first: FirstPayee) -> Self {
        self.first_payee = Some(first);
        self
    }

    /// Sets who may approve and how many must. Default: nobody.
    #[must_use]
    pub fn with_approvers(mut self, approvers: Vec<Principal>, quorum: u32) -> Self {
        self.approvers = approvers;
        self.quorum = Some(quorum);
        self
    }

    /// Sets who spends from the node. Default: nobody in particular.
    #[must_use]
    pub fn with_owner(mut self, owner: Principal) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Adds a payee or the beginning of some followed by `*`. Default: all.
    #[must_use]
    pub fn with_payee(mut self, pattern: impl Into<String>) -> Self {
        self.payees.push(pattern.into());
        self
    }

    /// Returns how long an approval waits and lasts.
    #[must_use]
    pub fn approval_lasts(&self) -> Duration {
        Duration::from_secs(self.approval_seconds.unwrap_or(86_400))
    }

    /// Checks the form, and says which key is wrong and why.
    ///
    /// # Errors
    /// The key and the reason.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.limits.len() > Self::LIMITS_MAX {
            return Err(("limits", format!("more than {} limits", Self::LIMITS_MAX)));
        }
        for (n, limit) in self.limits.iter().enumerate() {
            if self.limits.iter().take(n).any(|other| other.is_like(limit)) {
                return Err(("limits", format!("`{limit}` limits what another limits")));
            }
        }
        let lists = [
            ("payees", &self.payees),
            ("categories", &self.categories),
            ("rails", &self.rails),
        ];
        for (key, list) in lists {
            let is_bad = |text: &String| {
                let stem = text.strip_suffix('*').unwrap_or(text);
                text.is_empty() || text.len() > Self::TEXT_BYTES_MAX || stem.contains('*')
            };
            if list.len() > Self::LIST_MAX {
                return Err((key, format!("more than {} entries", Self::LIST_MAX)));
            }
            if let Some(bad) = list.iter().find(|text| is_bad(text)) {
                return Err((key, format!("`{bad}` is no name and no beginning of one")));
            }
        }
        let n_approvers = u32::try_from(self.approvers.len()).unwrap_or(u32::MAX);
        let quorum = self.quorum.unwrap_or(1);
        if quorum == 0 || quorum > n_approvers && n_approvers > 0 {
            return Err(("quorum", format!("{quorum} of {n_approvers} approvers")));
        }
        if self.quorum.is_some() && n_approvers == 0 {
            return Err(("quorum", "there are no approvers".to_owned()));
        }
        if self.approval_seconds == Some(0) {
            return Err(("approval_seconds", "no time to approve".to_owned()));
        }
        if self.alone_up_to.is_some_and(|amount| amount.is_negative()) {
            return Err(("alone_up_to", "a negative amount".to_owned()));
        }
        Ok(())
    }

    /// Checks that nothing here is wider than in the policy above, for budgets that agents open
    /// for others.
    ///
    /// # Errors
    /// `Invalid` with what is wider.
    pub fn narrows(&self, above: &Self) -> Result<()> {
        let wider = |what: String| Err(Error::invalid("policy of a child", what));
        for limit in &self.limits {
            let above = above.limits.iter().find(|other| other.is_like(limit));
            if let Some(above) = above
                && above.max_units()? < limit.max_units()?
            {
                return wider(format!("`{limit}` is more than `{above}`"));
            }
        }
        let lists = [
            ("payees", &self.payees, &above.payees),
            ("categories", &self.categories, &above.categories),
            ("rails", &self.rails, &above.rails),
        ];
        for (key, list, above) in lists {
            let outside = |text: &&String| !above.is_empty() && !is_listed(above, text);
            if let Some(text) = list.iter().find(outside) {
                return wider(format!("`{text}` is not among the {key} above"));
            }
        }
        if let Some(asset) = self
            .assets
            .iter()
            .find(|a| !above.assets.is_empty() && !above.assets.contains(a))
        {
            return wider(format!("{asset} is not among the assets above"));
        }
        if let (Some(alone), Some(limit)) = (self.alone_up_to, above.alone_up_to)
            && (alone.asset() != limit.asset() || alone.units() > limit.units())
        {
            return wider(format!("alone up to {alone}, above only up to {limit}"));
        }
        if self
            .first_payee
            .is_some_and(|first| first < above.first_payee.unwrap_or_default())
        {
            return wider("first payments are stricter above".to_owned());
        }
        let is_foreign = |who: &&Principal| !above.approvers.contains(who);
        if let Some(who) = self.approvers.iter().find(is_foreign) {
            return wider(format!("{who} is not among the approvers above"));
        }
        if !self.approvers.is_empty() && self.quorum.unwrap_or(1) < above.quorum.unwrap_or(1) {
            return wider("fewer approvers than above".to_owned());
        }
        Ok(())
    }
}

/// Returns whether a list names a text. A beginning followed by `*` names itself and all longer.
pub(super) fn is_listed(list: &[String], text: &str) -> bool {
    list.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(stem) => text.strip_suffix('*').unwrap_or(text).starts_with(stem),
        None => pattern == text,
    })
}
