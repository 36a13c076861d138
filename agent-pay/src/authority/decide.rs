//! The decision: a pure function of a snapshot and an intent.

use std::sync::Arc;

use agent_core::{Principal, Timestamp};

use super::approval::ApprovalState;
use super::intent::{Intent, PriceBasis};
use super::limit::{Limit, Measure, Window};
use super::policy::{FirstPayee, Policy, is_listed};
use super::rule::{Matched, Rule};
use crate::budget::BudgetPath;
use crate::error::Result;

/// A cumulative limit and how much of it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meter {
    /// The limit.
    pub limit: Limit,
    /// The most, as the ledger has it: for a budget what was allocated to it.
    pub max_units: i64,
    /// What is held and spent, in smallest units or intents.
    pub taken_units: i64,
}

impl Meter {
    /// Creates a meter, for backends.
    #[must_use]
    pub const fn new(limit: Limit, max_units: i64, taken_units: i64) -> Self {
        Self {
            limit,
            max_units,
            taken_units,
        }
    }
}

/// One node of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Level {
    /// The node.
    pub node: BudgetPath,
    /// The version of its policy; 0 if it has none.
    pub version: u64,
    /// Whether its spending was stopped.
    pub is_revoked: bool,
    /// Its policy; none if nobody defined the node.
    pub policy: Option<Arc<Policy>>,
    /// Its cumulative limits in the asset of the intent, and those of counts.
    pub meters: Vec<Meter>,
}

impl Level {
    /// Creates a level, for backends.
    #[must_use]
    pub const fn new(
        node: BudgetPath,
        version: u64,
        is_revoked: bool,
        policy: Option<Arc<Policy>>,
        meters: Vec<Meter>,
    ) -> Self {
        Self {
            node,
            version,
            is_revoked,
            policy,
            meters,
        }
    }
}

/// Everything a decision depends on beside the intent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// When.
    pub at: Timestamp,
    /// Whether the kill switch is on.
    pub is_halted: bool,
    /// The nodes from the root to the one that pays.
    pub levels: Vec<Level>,
    /// Whether the organisation has paid the payee before.
    pub is_payee_known: bool,
    /// What became of the request for approval of this intent.
    pub approval: Option<ApprovalState>,
    /// What is held for the intent already, in smallest units.
    pub held_units: i64,
    /// What the purse that pays has, in smallest units, where the ledger moves the money.
    pub funds_units: Option<i64>,
}

impl Snapshot {
    /// Creates a snapshot in which nothing is stopped, known, approved or held, for backends.
    #[must_use]
    pub const fn new(at: Timestamp, levels: Vec<Level>) -> Self {
        Self {
            at,
            is_halted: false,
            levels,
            is_payee_known: false,
            approval: None,
            held_units: 0,
            funds_units: None,
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Hold the money.
    Allow,
    /// Ask.
    #[non_exhaustive]
    Ask {
        /// Whose approvers are asked.
        node: BudgetPath,
        /// Who.
        approvers: Vec<Principal>,
        /// How many of them must agree.
        quorum: u32,
        /// Until when the request is open and the approval lasts.
        expires_at: Timestamp,
    },
    /// Refuse.
    Deny,
}

/// A decision and every rule that led to it, the decisive one first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// What is to be done.
    pub outcome: Outcome,
    /// The rules: those that deny, or if there are none those that ask.
    pub rules: Vec<Matched>,
}

/// Decides about an intent. It reads nothing but its arguments, so a stored decision can be made
/// again and compared.
///
/// # Errors
/// `Invalid` if sums do not fit.
pub fn decide(snapshot: &Snapshot, intent: &Intent) -> Result<Decision> {
    let mut rules = Rules::default();
    let total = intent.amount_max.units();
    let total = total.saturating_add(i128::from(snapshot.held_units));
    let root = snapshot.levels.first();
    let root = root.map_or_else(|| intent.node.clone(), |level| level.node.clone());
    if snapshot.is_halted {
        rules.deny(&root, Rule::Halted);
    }
    if intent.expires_at <= snapshot.at {
        rules.deny(&intent.node, Rule::ExpiryPassed);
    }
    let mut is_asset_known = false;
    for level in &snapshot.levels {
        rules.lists(level, intent);
        is_asset_known |= rules.sums(level, intent)?;
        rules.single(level, intent, total);
    }
    if !is_asset_known {
        rules.deny(&root, Rule::AssetUnknown);
    }
    let is_short = |funds: i64| i128::from(funds) < intent.amount_max.units();
    if snapshot.funds_units.is_some_and(is_short) {
        rules.deny(&intent.node, Rule::InsufficientFunds);
    }
    rules.doubts(snapshot, intent);
    Ok(rules.conclude(snapshot, intent))
}

#[derive(Default)]
struct Rules {
    denies: Vec<Matched>,
    asks: Vec<Matched>,
}

impl Rules {
    fn deny(&mut self, node: &BudgetPath, rule: Rule) {
        let node = node.clone();
        self.denies.push(Matched { node, rule });
    }

    fn ask(&mut self, node: &BudgetPath, rule: Rule) {
        let node = node.clone();
        self.asks.push(Matched { node, rule });
    }

    /// What may be paid to whom over what.
    fn lists(&mut self, level: &Level, intent: &Intent) {
        if level.is_revoked {
            self.deny(&level.node, Rule::Revoked);
        }
        let Some(policy) = &level.policy else {
            return self.deny(&level.node, Rule::NodeUnknown);
        };
        let asset = intent.amount_max.asset();
        if !policy.assets.is_empty() && !policy.assets.contains(&asset) {
            self.deny(&level.node, Rule::AssetNotListed);
        }
        let is_outside = |list: &[String], text: &str| !list.is_empty() && !is_listed(list, text);
        if is_outside(&policy.payees, &intent.payee.name) {
            self.deny(&level.node, Rule::PayeeNotListed);
        }
        // What has no category is in none of those listed.
        let category = intent.category.as_deref().unwrap_or("");
        if is_outside(&policy.categories, category) {
            self.deny(&level.node, Rule::CategoryNotListed);
        }
        if is_outside(&policy.rails, &intent.rail) {
            self.deny(&level.node, Rule::RailNotListed);
        }
    }

    /// The cumulative limits; returns whether one of them is in the asset.
    fn sums(&mut self, level: &Level, intent: &Intent) -> Result<bool> {
        let mut is_asset_known = false;
        for meter in &level.meters {
            let (asked, rule) = match meter.limit.measure {
                Measure::Amount(_) => {
                    is_asset_known = true;
                    (intent.amount_max.units_i64()?, Rule::OverLimit(meter.limit))
                }
                Measure::Count(_) => (1, Rule::OverCount(meter.limit)),
            };
            let taken = i128::from(meter.taken_units).saturating_add(i128::from(asked));
            if taken > i128::from(meter.max_units) {
                self.deny(&level.node, rule);
            }
        }
        Ok(is_asset_known)
    }

    /// The limits of this intent by itself.
    fn single(&mut self, level: &Level, intent: &Intent, total: i128) {
        let Some(policy) = &level.policy else { return };
        let asset = intent.amount_max.asset();
        for limit in &policy.limits {
            if let (Window::PerTransaction, Measure::Amount(max)) = (limit.window, limit.measure)
                && max.asset() == asset
                && total > max.units()
            {
                self.deny(&level.node, Rule::OverTransaction(*limit));
            }
        }
        // A threshold in another asset says nothing about this one, so nothing of it is alone.
        if let Some(alone) = policy.alone_up_to
            && (alone.asset() != asset || total > alone.units())
        {
            self.ask(&level.node, Rule::AboveAlone(alone));
        }
    }

    /// What makes the intent itself doubtful.
    fn doubts(&mut self, snapshot: &Snapshot, intent: &Intent) {
        if intent.payee.origin.is_tainted() {
            self.ask(&intent.node, Rule::PayeeTainted);
        }
        if intent.basis == PriceBasis::Unknown {
            self.ask(&intent.node, Rule::PriceUnknown);
        }
        if snapshot.is_payee_known {
            return;
        }
        let said = snapshot.levels.iter().filter_map(|level| {
            let first = level.policy.as_ref()?.first_payee?;
            Some((first, &level.node))
        });
        let strictest = said.max_by_key(|(first, _node)| *first);
        match strictest.unwrap_or((FirstPayee::Ask, &intent.node)) {
            (FirstPayee::Allow, _) => {}
            (FirstPayee::Ask, node) => self.ask(node, Rule::FirstPayee),
            (FirstPayee::Deny, node) => self.deny(node, Rule::FirstPayee),
        }
    }

    fn conclude(mut self, snapshot: &Snapshot, intent: &Intent) -> Decision {
        let deny = |rules| Decision {
            outcome: Outcome::Deny,
            rules,
        };
        if !self.denies.is_empty() {
            return deny(self.denies);
        }
        match snapshot.approval {
            _ if self.asks.is_empty() => {}
            Some(ApprovalState::Granted) => {}
            Some(ApprovalState::Refused) => {
                self.deny(&intent.node, Rule::ApprovalRefused);
                return deny(self.denies);
            }
            _ => return self.question(snapshot, intent),
        }
        Decision {
            outcome: Outcome::Allow,
            rules: self.asks,
        }
    }

    /// Finds who is to be asked: the approvers named nearest to the spender.
    fn question(mut self, snapshot: &Snapshot, intent: &Intent) -> Decision {
        let named = snapshot.levels.iter().rev().find_map(|level| {
            let policy = level.policy.as_ref()?;
            (!policy.approvers.is_empty()).then_some((&level.node, policy))
        });
        let Some((node, policy)) = named else {
            self.deny(&intent.node, Rule::NoApprover);
            return Decision {
                outcome: Outcome::Deny,
                rules: self.denies,
            };
        };
        let until = snapshot.at.after(policy.approval_lasts());
        Decision {
            outcome: Outcome::Ask {
                node: node.clone(),
                approvers: policy.approvers.clone(),
                quorum: policy.quorum.unwrap_or(1),
                // An approval of an intent is worth nothing after it.
                expires_at: until.min(intent.expires_at),
            },
            rules: self.asks,
        }
    }
}

/// Says whether somebody may vote on a spend, or why not: nobody approves what they spend
/// themselves, what somebody they sent spends, or what is spent at a node above their own.
///
/// `owned` are the nodes whose owner the voter is.
///
/// # Errors
/// The reason, for [`Error::NotAnApprover`](crate::Error::NotAnApprover).
pub fn may_approve(
    who: &Principal,
    approvers: &[Principal],
    intent: &Intent,
    owned: &[BudgetPath],
) -> std::result::Result<(), &'static str> {
    if !approvers.contains(who) {
        return Err("the policy does not name them");
    }
    if *who == intent.actor {
        return Err("nobody approves what they spend themselves");
    }
    if intent.delegation.contains(who) {
        return Err("nobody approves what is spent for them");
    }
    let is_at_or_below = |node: &BudgetPath| node.levels().contains(&intent.node);
    if owned.iter().any(is_at_or_below) {
        return Err("nobody approves what is spent at or above their own node");
    }
    Ok(())
}
