//! Usage records in the embedded store.

use std::sync::Arc;

use agent_core::store::{Db, Tx, sql};
use agent_core::{Amount, Classify, Meter, Scope, Timestamp, UsageRecord};
use async_trait::async_trait;
use rusqlite::{Row, params};

use super::book::AssetText;
use crate::error::{Error, Result};
use crate::price_book::PriceBook;
use crate::spend::{Attribution, SpendQuery, SpendReport, SpendRow, UsageEntry};

pub(super) const ENTRY: &str = "SELECT source, id, resource, usage, at_ms, tenant, actor, agent, \
     run, task, attempt, pool, asset, cost, card, exact, payee FROM pay_usage";

/// Keeps usage records in the embedded store, priced when they arrive by the card that was in force when they were counted.
///
/// A usage the card has no price for is kept without one and shows as unpriced in reports.
#[derive(Clone, Debug)]
pub struct SqliteMeter {
    db: Db,
    prices: Arc<PriceBook>,
    pool: Option<String>,
}

impl SqliteMeter {
    /// Opens the usage records of a store, creating or migrating the tables of this layer.
    ///
    /// # Errors
    /// As [`SqliteLedger::open`](super::SqliteLedger::open).
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(db: Db, prices: impl Into<PriceBook>) -> Result<Self> {
        let prices = Arc::new(prices.into());
        super::migrate(&db).await?;
        Ok(Self {
            db,
            prices,
            pool: None,
        })
    }

    /// Sets the pool every record is attributed to. Default: none.
    #[must_use]
    pub fn with_pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Sums what was consumed, in the order of the groups.
    ///
    /// # Errors
    /// Those of the store; `Invalid` if a sum does not fit.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn spend(&self, query: SpendQuery) -> Result<Vec<SpendRow>> {
        self.db.read(move |tx| spend_report(tx, &query)).await
    }
}

#[async_trait]
impl Meter for SqliteMeter {
    async fn record(&self, scope: &Scope, record: UsageRecord) -> agent_core::Result<()> {
        let mut attribution = Attribution::of(scope);
        attribution.pool.clone_from(&self.pool);
        let entry = UsageEntry::new(attribution, record);
        let entry = entry.and_then(|entry| entry.priced_from(&self.prices));
        let written = match entry {
            Ok(entry) => self.db.write(move |tx| record_usage(tx, &entry)).await,
            Err(error) => Err(error),
        };
        written.map(|_is_first| ()).map_err(|error| {
            let (kind, retry) = (error.kind(), error.retry());
            agent_core::Error::backend("agent-pay", "record usage", kind, retry, error)
        })
    }
}

/// Records a consumption once and returns whether it is the first of its (source, id).
///
/// # Errors
/// Those of the store; `Invalid` if the cost does not fit in 64 bits.
pub fn record_usage(tx: &mut Tx<'_>, entry: &UsageEntry) -> Result<bool> {
    let operation = "record a usage";
    let (record, of) = (&entry.record, &entry.attribution);
    let usage =
        serde_json::to_string(&record.usage).map_err(|e| Error::invalid("usage", e.to_string()))?;
    let cost = entry.cost.map(|cost| cost.units_i64()).transpose()?;
    let asset = entry.cost.map(|cost| AssetText::of(cost.asset()));
    let mut insert = tx
        .sql()
        .prepare_cached(
            "INSERT INTO pay_usage (source, id, resource, usage, at_ms, tenant, actor, agent, \
             run, task, attempt, pool, asset, cost, card, exact, payee) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
             ON CONFLICT (source, id) DO NOTHING",
        )
        .map_err(sql(operation))?;
    let n_rows = insert
        .execute(params![
            record.source,
            record.id,
            record.resource,
            usage,
            record.at.as_unix_ms(),
            &*of.tenant,
            of.actor,
            of.agent.map(|id| id.to_string()),
            of.run.map(|id| id.to_string()),
            of.task.map(|id| id.to_string()),
            of.attempt.map(|id| id.to_string()),
            of.pool,
            asset.as_ref().map(AssetText::as_str),
            cost,
            entry.card,
            entry.exact.map(String::from),
            of.payee,
        ])
        .map_err(sql(operation))?;
    Ok(n_rows == 1)
}

/// Sums what was consumed; see [`SqliteMeter::spend`].
///
/// # Errors
/// As there.
pub fn spend_report(tx: &Tx<'_>, query: &SpendQuery) -> Result<Vec<SpendRow>> {
    let operation = "read usage records";
    let mut select = tx
        .sql()
        .prepare_cached(&format!(
            "{ENTRY} WHERE tenant = ?1 AND at_ms >= ?2 AND at_ms < ?3"
        ))
        .map_err(sql(operation))?;
    let mut rows = select
        .query(params![
            &*query.tenant,
            query.since.as_unix_ms(),
            query.until.as_unix_ms(),
        ])
        .map_err(sql(operation))?;
    let mut report = SpendReport::new(query.by, query.asset);
    while let Some(row) = rows.next().map_err(sql(operation))? {
        report.add(&entry(row)?)?;
    }
    Ok(report.into_rows())
}

pub(super) fn entry(row: &Row<'_>) -> Result<UsageEntry> {
    let text = |at: usize| -> Result<String> { Ok(row.get(at).map_err(sql("read a usage"))?) };
    let optional =
        |at: usize| -> Result<Option<String>> { Ok(row.get(at).map_err(sql("read a usage"))?) };
    let usage = serde_json::from_str(&text(3)?)
        .map_err(|e| Error::corrupt(format!("a stored usage: {e}")))?;
    let at_ms: i64 = row.get(4).map_err(sql("read a usage"))?;
    let at = Timestamp::from_unix_ms(at_ms);
    let attribution = Attribution {
        tenant: text(5)?.into(),
        actor: text(6)?,
        agent: id(optional(7)?)?,
        run: id(optional(8)?)?,
        task: id(optional(9)?)?,
        attempt: id(optional(10)?)?,
        pool: optional(11)?,
        payee: optional(16)?,
    };
    let units: Option<i64> = row.get(13).map_err(sql("read a usage"))?;
    let cost = match (id(optional(12)?)?, units) {
        (Some(asset), Some(units)) => Some(Amount::from_units(i128::from(units), asset)),
        _ => None,
    };
    let record = UsageRecord::new(text(0)?, text(1)?, text(2)?, usage, at);
    Ok(UsageEntry {
        record,
        attribution,
        cost,
        exact: optional(15)?.map(|exact| exact.parse()).transpose()?,
        card: optional(14)?,
    })
}

fn id<T: std::str::FromStr<Err = agent_core::Error>>(text: Option<String>) -> Result<Option<T>> {
    text.map(|text| text.parse())
        .transpose()
        .map_err(|e| Error::corrupt(format!("a stored usage: {e}")))
}
