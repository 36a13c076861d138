//! Open mandates as policies of the spend authority, which keeps count of what the mandate's own
//! check cannot see: earlier payments.

use std::time::Duration;

use agent_core::{Amount, Digest, Principal, Timestamp};

use super::constraint::{Constraint, Frequency};
use super::payment::{OpenPayment, PaymentMandate};
use super::{malformed, node};
use crate::authority::{Calendar, Limit, Measure, Period, Policy, Window};
use crate::backend::SqliteAuthority;
use crate::backend::sqlite::authority::delegate;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

/// What the mandates so far allow, each no more than the one before.
#[derive(Clone, Default)]
struct Allowed {
    in_all: Option<Amount>,
    at_once: Option<Amount>,
    occurrences: Option<u32>,
    payees: Option<Vec<String>>,
}

impl PaymentMandate {
    /// Makes the policy of each open mandate, the user's first: how much in all and at once, how
    /// often, and to whom, if all payees are disclosed. A mandate that does not recur pays once.
    ///
    /// What a policy has no word for (least amounts, instruments, providers, dates, payees that are
    /// hidden) is checked by [`Self::check`].
    ///
    /// # Errors
    /// `Invalid` for a mandate without a budget, a range or an amount, one in two currencies, one
    /// that allows nobody the one before does, or with payees no policy can name.
    pub fn policies(&self) -> Result<Vec<Policy>> {
        let mut allowed = Allowed::default();
        self.open
            .iter()
            .map(|open| open.policy(&mut allowed))
            .collect()
    }

    /// Puts the policies under a node, each under the one before, and returns the node to spend from.
    /// The same mandates have the same nodes, whatever is disclosed of them, so that no budget is had
    /// twice; a policy stays as it was first put. A node ends with its mandate or one above it, by
    /// [`sweep`](super::sweep).
    ///
    /// # Errors
    /// As [`Self::policies`], and those of [`SqliteAuthority::delegate`]: a mandate that allows more
    /// than the node above is refused.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn import(
        &self,
        authority: &SqliteAuthority,
        under: &BudgetPath,
        by: &Principal,
    ) -> Result<BudgetPath> {
        let mut node = under.clone();
        let (mut nodes, mut ends) = (Vec::new(), None::<Timestamp>);
        let policies = self.policies()?.into_iter().zip(&self.identities);
        for ((policy, identity), open) in policies.zip(&self.open) {
            ends = match (ends, open.expires_at) {
                (Some(above), Some(own)) => Some(above.min(own)),
                (above, own) => own.or(above),
            };
            let digest = Digest::of_json(&(&self.root, identity))?;
            node = node.child(&format!("ap2_{:032x}", digest.to_bits()))?;
            nodes.push((node.clone(), policy, ends));
        }
        node::migrate(authority).await?;
        let by = by.clone();
        let put = authority.db().write(move |tx| {
            for (node, policy, ends) in &nodes {
                if node::put(tx, node, *ends)? {
                    delegate(tx, node, policy, &by)?;
                }
            }
            Ok::<_, Error>(())
        });
        put.await?;
        Ok(node)
    }
}

impl OpenPayment {
    fn policy(&self, allowed: &mut Allowed) -> Result<Policy> {
        let mut recurs = None;
        let (mut budget, mut at_once) = (None, self.amount);
        for constraint in &self.constraints {
            match constraint {
                Constraint::Budget(max) => budget = Some(least(budget, *max)?),
                Constraint::AmountRange { max, .. } => at_once = Some(least(at_once, *max)?),
                Constraint::Payees {
                    allowed: named,
                    are_all: true,
                } => allowed.only(named.iter().map(|merchant| merchant.id.clone()).collect()),
                Constraint::Recurrence {
                    frequency,
                    occurrences_max,
                } if recurs.is_none() => recurs = Some((*frequency, *occurrences_max)),
                Constraint::Recurrence { .. } => return Err(malformed("two recurrences")),
                _ => {}
            }
        }
        if let Some(payee) = &self.payee {
            allowed.only(vec![payee.id.clone()]);
        }
        let in_all = budget.or(at_once);
        let in_all = in_all.ok_or_else(|| malformed("a mandate without a limit"))?;
        let in_all = least(allowed.in_all, in_all)?;
        allowed.in_all = Some(in_all);
        if let Some(amount) = at_once {
            allowed.at_once = Some(least(allowed.at_once, least(Some(in_all), amount)?)?);
        }
        let (frequency, occurrences) = recurs.unwrap_or((Frequency::OnDemand, Some(1)));
        allowed.occurrences = match (allowed.occurrences, occurrences) {
            (Some(before), Some(n)) => Some(before.min(n)),
            (before, n) => before.or(n),
        };
        allowed.policy(frequency)
    }
}

impl Allowed {
    /// Keeps the payees that are among these.
    fn only(&mut self, ids: Vec<String>) {
        self.payees = Some(match self.payees.take() {
            None => ids,
            Some(mut before) => {
                before.retain(|id| ids.contains(id));
                before
            }
        });
    }

    fn policy(&self, frequency: Frequency) -> Result<Policy> {
        let mut policy = Policy::new();
        let amounts = [
            (self.in_all, Window::Lifetime),
            (self.at_once, Window::PerTransaction),
        ];
        for (amount, window) in amounts {
            if let Some(amount) = amount {
                policy = policy.with_limit(Limit::new(Measure::Amount(amount), window)?);
            }
        }
        let counts = [
            (Some(1), window_of(frequency)),
            (self.occurrences, Some(Window::Rolling(Window::ROLLING_MAX))),
        ];
        for (n, window) in counts {
            if let (Some(n), Some(window)) = (n, window) {
                policy = policy.with_limit(Limit::new(Measure::Count(n), window)?);
            }
        }
        if let Some(payees) = &self.payees {
            if payees.is_empty() || payees.iter().any(|payee| payee.ends_with('*')) {
                return Err(malformed("payees no policy can name"));
            }
            for payee in payees {
                policy = policy.with_payee(payee);
            }
        }
        Ok(policy)
    }
}

/// The smaller of two amounts, which must be of one asset.
fn least(before: Option<Amount>, amount: Amount) -> Result<Amount> {
    match before {
        Some(before) if before.compare(&amount)?.is_le() => Ok(before),
        _ => Ok(amount),
    }
}

fn window_of(frequency: Frequency) -> Option<Window> {
    let calendar = |period| Some(Window::Calendar(Calendar::utc(period)));
    let rolling = |days: u64| {
        let span = Duration::from_secs(days.saturating_mul(86_400));
        Some(Window::Rolling(span))
    };
    match frequency {
        Frequency::OnDemand => None,
        Frequency::Daily => calendar(Period::Day),
        Frequency::Weekly => calendar(Period::Week),
        Frequency::Biweekly => rolling(14),
        Frequency::Monthly => calendar(Period::Month),
        // No shorter than any three months.
        Frequency::Quarterly => rolling(92),
        Frequency::Annually => calendar(Period::Year),
    }
}
