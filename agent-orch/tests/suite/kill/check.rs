//! What must hold after every kill, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agent_core::{Asset, EffectClass, TaskId};
use agent_orch::{Counts, EventQuery, Journal, Record, Stage, Status};
use agent_pay::Ledger;
use agent_pay::backend::sqlite as ledger;
use serde_json::Value;

use crate::kill::store::{COST, Store, budget, usd};
use crate::kill::witness::{self, Line};

/// How much was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) tasks: u64,
    pub(crate) acknowledged: u64,
    pub(crate) effects: u64,
    /// Tries that turned out not to have happened, and tasks given up since nobody could tell.
    pub(crate) in_doubt: u64,
    pub(crate) records: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.acknowledged += other.acknowledged;
        self.effects += other.effects;
        self.in_doubt += other.in_doubt;
        self.records += other.records;
    }
}

fn holds(law: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if law { Ok(()) } else { Err(what()) }
}

/// The audit records, by what they say happened.
#[derive(Debug, Default)]
struct History {
    /// Kind, task and fence.
    by_fence: BTreeSet<(String, TaskId, u64)>,
    /// Key and try of recorded intents.
    intents: BTreeSet<(String, u64)>,
    /// Key and try of recorded outcomes.
    outcomes: BTreeSet<(String, u64)>,
    fences: BTreeMap<TaskId, u64>,
    n_doubts: u64,
    n_records: u64,
}

impl History {
    async fn read(store: &Store) -> Result<Self, String> {
        let mut history = Self::default();
        let mut by_intent = BTreeMap::new();
        let mut after = 0;
        loop {
            let page = store.journal.events(EventQuery::after(after)).await;
            let page = page.map_err(|e| e.to_string())?;
            let Some(last) = page.last() else {
                return Ok(history);
            };
            after = last.seq;
            for record in &page {
                history.take(record, &mut by_intent)?;
            }
        }
    }

    fn take(
        &mut self,
        record: &Record,
        by_intent: &mut BTreeMap<u64, (String, u64)>,
    ) -> Result<(), String> {
        self.n_records += 1;
        let payload = record.payload.clone().unwrap_or_default();
        let field = |name| payload.get(name).and_then(Value::as_str).map(str::to_owned);
        let n_try = payload.get("try").and_then(Value::as_u64).unwrap_or(1);
        if let (Some(task), Some(fence)) = (record.task, record.fence) {
            let kind = record.kind.clone();
            self.by_fence.insert((kind, task, fence.0));
        }
        match (record.kind.as_str(), record.task, record.fence) {
            ("task.leased", Some(task), Some(fence)) => {
                let before = self.fences.insert(task, fence.0).unwrap_or(0);
                holds(before < fence.0, || {
                    format!("{task}: fence {} after {before}", fence.0)
                })?;
            }
            ("effect.intended", ..) => {
                let key = field("key").ok_or("an intent without a key")?;
                by_intent.insert(record.seq, (key.clone(), n_try));
                self.intents.insert((key, n_try));
            }
            ("effect.done" | "effect.failed", ..) => {
                let known = record
                    .cause
                    .and_then(|cause| by_intent.get(&cause).cloned());
                let known = known.or_else(|| Some((field("key")?, n_try)));
                let known = known.ok_or("an outcome without an intent")?;
                self.n_doubts += u64::from(record.code == "test.did_not_happen");
                self.outcomes.insert(known);
            }
            ("task.failed", ..) => self.n_doubts += 1,
            _ => {}
        }
        Ok(())
    }

    /// What the witness saw is in the journal.
    fn has(&self, line: &Line) -> bool {
        match line {
            Line::Submitted { .. } | Line::Happened { .. } => true,
            Line::Claimed { task, fence } => {
                self.by_fence
                    .contains(&("task.leased".to_owned(), *task, *fence))
            }
            Line::Intended { key, n_try, .. } => {
                self.intents.contains(&(key.clone(), u64::from(*n_try)))
            }
            Line::Settled { key, n_try, .. } => {
                self.outcomes.contains(&(key.clone(), u64::from(*n_try)))
            }
            Line::Finished { task, fence, kind } => {
                self.by_fence.contains(&(kind.clone(), *task, *fence))
            }
        }
    }
}

/// What must hold whenever a process takes over.
pub(crate) async fn after_kill(dir: &Path) -> Result<(), String> {
    let store = Store::open(dir).await;
    let checked = check(&store, dir).await;
    store.db.close().await;
    checked.map(|_| ())
}

/// What must hold once all tasks have ended.
pub(crate) async fn at_the_end(dir: &Path) -> Result<Totals, String> {
    let store = Store::open(dir).await;
    let checked = check(&store, dir).await;
    let idle = idle(&store).await;
    store.db.close().await;
    idle.and(checked)
}

async fn check(store: &Store, dir: &Path) -> Result<Totals, String> {
    let said = |e: agent_orch::Error| e.to_string();
    store.journal.verify().await.map_err(said)?;
    let (lines, history) = (witness::read(dir), History::read(store).await?);
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &lines {
        holds(history.has(line), || {
            format!("acknowledged and lost: {line:?}")
        })?;
        match line {
            Line::Submitted { task } => {
                store.journal.task(*task).await.map_err(said)?;
            }
            Line::Happened { key, class } => {
                let n = happened.entry(key).or_default();
                *n += 1;
                let once = *n == 1 || *class == EffectClass::Idempotent;
                holds(once, || {
                    format!("{class:?} effect {key} happened {n} times")
                })?;
                let intended = history.intents.iter().any(|(known, _)| known == key);
                holds(intended, || format!("{key} happened without an intent"))?;
            }
            _ => {}
        }
    }
    let counts = store.journal.counts(store.run).await.map_err(said)?;
    let rows = rows(store).await?;
    holds(counts == rows, || {
        format!("{counts:?} is counted, {rows:?} is there")
    })?;
    balanced(store).await?;
    Ok(Totals {
        tasks: counts.total(),
        acknowledged: u64::try_from(lines.len()).unwrap() - n_of(&happened),
        effects: n_of(&happened),
        in_doubt: history.n_doubts,
        records: history.n_records,
    })
}

fn n_of(happened: &BTreeMap<&str, u64>) -> u64 {
    happened.values().sum()
}

/// Counts the rows themselves.
async fn rows(store: &Store) -> Result<Counts, String> {
    const SQL: &str = "SELECT stage, status, count(*) FROM orch_task GROUP BY stage, status";
    type Row = (String, String, i64);
    let read = |tx: &agent_core::store::Tx<'_>| -> Result<Vec<Row>, agent_core::store::Error> {
        let sql = agent_core::store::sql;
        let mut statement = tx.sql().prepare_cached(SQL).map_err(sql("count rows"))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.and_then(Iterator::collect).map_err(sql("count rows"))
    };
    let rows = store.db.read(read).await.map_err(|e| e.to_string())?;
    let mut counts = BTreeMap::new();
    for (stage, status, n) in rows {
        let (stage, status): (Stage, Status) = (stage.parse().unwrap(), status.parse().unwrap());
        counts.insert((stage, status), u64::try_from(n).unwrap());
    }
    let mut all = Counts::default();
    all.0 = counts;
    Ok(all)
}

/// The ledger verifies and balances.
async fn balanced(store: &Store) -> Result<(), String> {
    let said = |e: agent_pay::Error| e.to_string();
    let ledger = agent_pay::backend::SqliteLedger::open(store.db.clone())
        .await
        .map_err(said)?;
    ledger.verify(None).await.map_err(said)?;
    for balance in ledger.trial_balance().await.map_err(said)? {
        holds(balance.is_balanced(), || format!("{balance:?}"))?;
    }
    Ok(())
}

/// Nobody works, nothing is held, and what was spent is what the done paid steps cost.
async fn idle(store: &Store) -> Result<(), String> {
    let counts = store
        .journal
        .counts(store.run)
        .await
        .map_err(|e| e.to_string())?;
    holds(counts.moving() == 0, || {
        format!("tasks without an end: {counts:?}")
    })?;
    let balance = store
        .db
        .read(|tx| ledger::balance(tx, Asset::USD, &budget()))
        .await
        .map_err(|e: agent_pay::Error| e.to_string())?;
    holds(balance.held.is_zero(), || {
        format!("held in the end: {balance:?}")
    })?;
    // Step 1 of each attempt is paid and repeatable, so each task that got past it paid once.
    const SQL: &str = "SELECT count(*) FROM orch_step WHERE ordinal = 1 AND state = 'done'";
    let n_paid: i64 = store
        .db
        .read(|tx| -> Result<i64, agent_core::store::Error> {
            let counted = tx.sql().query_row(SQL, [], |row| row.get(0));
            counted.map_err(agent_core::store::sql("count paid steps"))
        })
        .await
        .map_err(|e| e.to_string())?;
    let spent = balance.spent.units();
    let (cost, n_paid) = (usd(COST).units(), i128::from(n_paid));
    holds(spent == cost * n_paid, || {
        format!("{n_paid} steps cost {cost}, spent is {spent}")
    })
}
