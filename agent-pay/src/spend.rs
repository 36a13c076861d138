//! What was consumed, what it did cost, and what one solved task costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_core::{
    AgentId, Amount, Asset, AttemptId, RunId, Scope, TaskId, Timestamp, Usage, UsageRecord,
};

use crate::error::{Error, Result};
use crate::price_book::PriceBook;
use crate::rate_card::RateCard;
use crate::ratio::Ratio;

/// For whom something was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attribution {
    /// The tenant.
    pub tenant: Arc<str>,
    /// Who acted.
    pub actor: String,
    /// The agent, where the actor is one.
    pub agent: Option<AgentId>,
    /// The run.
    pub run: Option<RunId>,
    /// The task.
    pub task: Option<TaskId>,
    /// The attempt at the task.
    pub attempt: Option<AttemptId>,
    /// The pool the agent belongs to.
    pub pool: Option<String>,
    /// Who was paid for it.
    pub payee: Option<String>,
}

impl Attribution {
    /// Takes everything a scope knows; it knows no pool.
    #[must_use]
    pub fn of(scope: &Scope) -> Self {
        Self {
            tenant: Arc::clone(&scope.tenant),
            actor: scope.actor.as_str().to_owned(),
            agent: scope.agent,
            run: scope.run,
            task: scope.task,
            attempt: scope.attempt,
            pool: None,
            payee: None,
        }
    }

    /// Sets who was paid for it. Default: nobody.
    #[must_use]
    pub fn with_payee(mut self, payee: impl Into<String>) -> Self {
        self.payee = Some(payee.into());
        self
    }

    /// Sets the pool. Default: none.
    #[must_use]
    pub fn with_pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }
}

/// One metered consumption, whom it belongs to, and its price.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UsageEntry {
    /// What was counted.
    pub record: UsageRecord,
    /// For whom.
    pub attribution: Attribution,
    /// What it did cost, rounded as the card says; absent if no card had a price. It is kept either
    /// way, since it happened.
    pub cost: Option<Amount>,
    /// What it did cost in smallest units, not rounded: sums are made of this.
    pub exact: Option<Ratio>,
    /// The version of the card that gave the price.
    pub card: Option<String>,
}

impl UsageEntry {
    /// The longest source, id, resource or pool in bytes.
    pub const TEXT_BYTES_MAX: usize = 512;

    /// Describes a consumption without a price.
    ///
    /// # Errors
    /// `Invalid` if a text is empty or too long.
    pub fn new(attribution: Attribution, record: UsageRecord) -> Result<Self> {
        let texts = [&record.source, &record.id, &record.resource];
        let names = attribution.pool.iter().chain(&attribution.payee);
        for text in texts.into_iter().chain(names) {
            if text.is_empty() || text.len() > Self::TEXT_BYTES_MAX {
                return Err(Error::invalid("usage record", "texts of 1 to 512 bytes"));
            }
        }
        Ok(Self {
            record,
            attribution,
            cost: None,
            exact: None,
            card: None,
        })
    }

    /// Sets the price by a card. A usage the card has no price for stays without one.
    ///
    /// # Errors
    /// `Invalid` if the price does not fit.
    pub fn priced_by(mut self, card: &RateCard) -> Result<Self> {
        match card.price(&self.record.resource, &self.record.usage) {
            Ok(cost) => {
                self.cost = Some(cost);
                self.exact = Some(card.exact(&self.record.resource, &self.record.usage)?);
                self.card = Some(card.version().to_owned());
                Ok(self)
            }
            Err(Error::Unpriced { .. }) => Ok(self),
            Err(error) => Err(error),
        }
    }
}

impl UsageEntry {
    /// Sets the price by the card that was in force when it was counted, however late it arrives.
    ///
    /// # Errors
    /// `Invalid` if the price does not fit.
    pub fn priced_from(self, book: &PriceBook) -> Result<Self> {
        match book.card_at(self.record.at) {
            Some(card) => self.priced_by(card),
            None => Ok(self),
        }
    }
}

/// What spending is summed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpendBy {
    /// The agent.
    Agent,
    /// The pool.
    Pool,
    /// The task.
    Task,
    /// The resource.
    Resource,
    /// The run.
    Run,
    /// The attempt at a task.
    Attempt,
    /// The tool: resources that begin `tool/`.
    Tool,
    /// The model: resources that begin `model/`.
    Model,
    /// Who was paid.
    Payee,
}

impl SpendBy {
    /// Returns the group an entry belongs to.
    #[must_use]
    pub fn group(self, entry: &UsageEntry) -> Option<String> {
        let of = &entry.attribution;
        match self {
            Self::Agent => of.agent.map(|agent| agent.to_string()),
            Self::Pool => of.pool.clone(),
            Self::Task => of.task.map(|task| task.to_string()),
            Self::Resource => Some(entry.record.resource.clone()),
            Self::Run => of.run.map(|run| run.to_string()),
            Self::Attempt => of.attempt.map(|attempt| attempt.to_string()),
            Self::Tool => resource(entry, "tool/"),
            Self::Model => resource(entry, "model/"),
            Self::Payee => of.payee.clone(),
        }
    }
}

fn resource(entry: &UsageEntry, prefix: &str) -> Option<String> {
    let resource = &entry.record.resource;
    resource.starts_with(prefix).then(|| resource.clone())
}

/// Which consumption a report is about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpendQuery {
    /// What it is summed by.
    pub by: SpendBy,
    /// The asset costs are summed in.
    pub asset: Asset,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The first moment.
    pub since: Timestamp,
    /// The first moment after.
    pub until: Timestamp,
}

impl SpendQuery {
    /// Asks about everything the default tenant consumed.
    #[must_use]
    pub fn new(by: SpendBy, asset: Asset) -> Self {
        Self {
            by,
            asset,
            tenant: Scope::TENANT_DEFAULT.into(),
            since: Timestamp::from_unix_ms(i64::MIN),
            until: Timestamp::from_unix_ms(i64::MAX),
        }
    }

    /// Sets the tenant. Default: the default tenant.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Sets the time, `until` not included. Default: all.
    #[must_use]
    pub const fn with_time(mut self, since: Timestamp, until: Timestamp) -> Self {
        self.since = since;
        self.until = until;
        self
    }
}

/// The spending of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpendRow {
    /// The agent, pool, task or whatever else it is summed by; absent for what belongs to none.
    pub group: Option<String>,
    /// What was consumed.
    pub usage: Usage,
    /// What it did cost, in the asset asked for: the exact sum, rounded half up once.
    pub cost: Amount,
    /// The exact sum in smallest units.
    pub exact: Ratio,
    /// How many records there are.
    pub n_records: u64,
    /// How many of them have no price in the asset; their cost is missing from the sum.
    pub n_unpriced: u64,
}

/// A report in the making. Groups are in the order of their names.
#[derive(Debug)]
pub struct SpendReport {
    by: SpendBy,
    asset: Asset,
    rows: BTreeMap<Option<String>, SpendRow>,
}

impl SpendReport {
    /// Starts an empty report.
    #[must_use]
    pub const fn new(by: SpendBy, asset: Asset) -> Self {
        Self {
            by,
            asset,
            rows: BTreeMap::new(),
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// `Invalid` if a sum does not fit.
    pub fn add(&mut self, entry: &UsageEntry) -> Result<()> {
        let group = self.by.group(entry);
        let row = self.rows.entry(group.clone()).or_insert_with(|| SpendRow {
            group,
            usage: Usage::new(),
            cost: Amount::zero(self.asset),
            exact: Ratio::ZERO,
            n_records: 0,
            n_unpriced: 0,
        });
        row.usage.merge(&entry.record.usage);
        row.n_records = row.n_records.saturating_add(1);
        match entry.cost {
            Some(cost) if cost.asset() == self.asset => {
                let exact = entry
                    .exact
                    .map_or_else(|| Ratio::new(cost.units(), 1), Ok)?;
                row.exact = row.exact.plus(exact)?;
                row.cost = Amount::from_units(row.exact.half_up()?, self.asset);
            }
            _ => row.n_unpriced = row.n_unpriced.saturating_add(1),
        }
        Ok(())
    }

    /// Returns the rows.
    #[must_use]
    pub fn into_rows(self) -> Vec<SpendRow> {
        self.rows.into_values().collect()
    }
}

/// What solving a task costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskEconomics {
    /// The cost of all tasks, failed attempts and failed tasks included.
    pub total: Amount,
    /// The part that was spent on tasks that did not succeed.
    pub wasted: Amount,
    /// The tasks that did cost something.
    pub n_tasks: u64,
    /// The tasks that succeeded.
    pub n_successful: u64,
    /// The total divided by the successes, rounded half up; absent without a success.
    pub per_success: Option<Amount>,
}

/// Computes the cost per successful task from a report by task.
///
/// Everything spent counts, whatever came of it: an agent that fails twice and succeeds once has
/// paid three attempts for one solved task. Rows without a task are left out.
///
/// # Errors
/// `Invalid` if a row is of another asset or a sum does not fit.
pub fn cost_per_successful_task(
    asset: Asset,
    rows: &[SpendRow],
    succeeded: &BTreeSet<TaskId>,
) -> Result<TaskEconomics> {
    let mut total = Amount::zero(asset);
    let mut wasted = total;
    let mut n_tasks = 0_u64;
    for row in rows {
        let Some(group) = &row.group else { continue };
        let task: TaskId = group.parse()?;
        n_tasks = n_tasks.saturating_add(1);
        total = total.plus(row.cost)?;
        if !succeeded.contains(&task) {
            wasted = wasted.plus(row.cost)?;
        }
    }
    let n_successful = u64::try_from(succeeded.len()).unwrap_or(u64::MAX);
    let n = i128::from(n_successful);
    // The floor of total/n + 1/2 is the floor of (2 total + n) / 2n.
    let rounded = || {
        let doubled = total.units().checked_mul(2)?.checked_add(n)?;
        doubled.checked_div(n.checked_mul(2)?)
    };
    Ok(TaskEconomics {
        total,
        wasted,
        n_tasks,
        n_successful,
        per_success: rounded().map(|units| Amount::from_units(units, asset)),
    })
}
