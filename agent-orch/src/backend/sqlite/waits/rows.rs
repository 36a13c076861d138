//! Waits as rows of the store.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, RunId, TaskId, Timestamp};
use rusqlite::{OptionalExtension, Row as SqlRow, params};
use serde::{Deserialize, Serialize};

use crate::backend::sqlite::rows::{Bits, Hash, column, from_json, run_bits, task_bits};
use crate::error::Result;
use crate::journal::StepKey;
use crate::wait::{Due, First, Happened, Source, Wait, WaitId};

/// The stored form of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stored {
    Due(i64),
    Signal(String),
    Answer,
    Awakeable(WaitId),
}

impl Stored {
    pub(super) fn of(source: &Source, now: Timestamp) -> Self {
        match source {
            Source::Due(due) => Self::Due(due.at(now).as_unix_ms()),
            Source::Signal(name) => Self::Signal(name.clone()),
            Source::Answer => Self::Answer,
            Source::Awakeable(id) => Self::Awakeable(*id),
        }
    }

    fn into_source(self) -> Source {
        match self {
            Self::Due(ms) => Source::Due(Due::At(Timestamp::from_unix_ms(ms))),
            Self::Signal(name) => Source::Signal(name),
            Self::Answer => Source::Answer,
            Self::Awakeable(id) => Source::Awakeable(id),
        }
    }
}

/// The stored form of an end.
#[derive(Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) source: usize,
    pub(super) happened: Happened,
}

/// A wait and what only the store needs to know of it.
pub(super) struct Row {
    pub(super) wait: Wait,
    pub(super) digest: Digest,
    pub(super) state: String,
    pub(super) answer: Option<Happened>,
    pub(super) answered: Option<Timestamp>,
}

/// Returns whether a task waits for anything.
pub(in crate::backend::sqlite) fn is_waiting(tx: &Tx<'_>, task: TaskId) -> Result<bool> {
    Ok(tx
        .sql()
        .prepare_cached("SELECT 1 FROM orch_wait WHERE task = ?1 AND state = 'open' LIMIT 1")
        .and_then(|mut s| s.exists([task_bits(task)]))
        .map_err(sql("look for an open wait"))?)
}

/// Returns the open waits of a task.
pub(in crate::backend::sqlite) fn of_task(tx: &Tx<'_>, task: TaskId) -> Result<Vec<Wait>> {
    list(
        tx,
        "SELECT * FROM orch_wait WHERE task = ?1 AND state = 'open' LIMIT ?2",
        task_bits(task),
    )
}

/// Returns the open waits of a run, those due next first.
pub(in crate::backend::sqlite) fn open(tx: &Tx<'_>, run: RunId) -> Result<Vec<Wait>> {
    list(
        tx,
        "SELECT * FROM orch_wait WHERE run = ?1 AND state = 'open'
         ORDER BY due_ms IS NULL, due_ms, created_ms, id LIMIT ?2",
        run_bits(run),
    )
}

fn list(tx: &Tx<'_>, query: &str, of: Bits) -> Result<Vec<Wait>> {
    let mut statement = tx
        .sql()
        .prepare_cached(query)
        .map_err(sql("list open waits"))?;
    let limit = i64::try_from(Wait::PAGE_MAX).unwrap_or(i64::MAX);
    let mut rows = statement
        .query(params![of, limit])
        .map_err(sql("list open waits"))?;
    let mut waits = Vec::new();
    while let Some(row) = rows.next().map_err(sql("list open waits"))? {
        waits.push(parse(row)?.wait);
    }
    Ok(waits)
}

pub(super) fn load(tx: &Tx<'_>, id: WaitId) -> Result<Option<Row>> {
    tx.sql()
        .prepare_cached("SELECT * FROM orch_wait WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([Bits(id.to_bits())], |row| Ok(parse(row)))
                .optional()
        })
        .map_err(sql("read a wait"))?
        .transpose()
}

fn parse(row: &SqlRow<'_>) -> Result<Row> {
    let sources: Vec<Stored> = from_json(&column::<String>(row, "sources")?)?;
    let outcome: Option<Outcome> = column::<Option<String>>(row, "outcome")?
        .as_deref()
        .map(from_json)
        .transpose()?;
    Ok(Row {
        wait: Wait {
            id: WaitId::from_bits(column::<Bits>(row, "id")?.0),
            run: RunId::from_bits(column::<Bits>(row, "run")?.0),
            task: TaskId::from_bits(column::<Bits>(row, "task")?.0),
            step: StepKey::new(column::<String>(row, "name")?, column(row, "ordinal")?),
            sources: sources.into_iter().map(Stored::into_source).collect(),
            first: outcome.map(|Outcome { source, happened }| First { source, happened }),
        },
        digest: column::<Hash>(row, "digest")?.0,
        state: column(row, "state")?,
        answer: column::<Option<String>>(row, "answer")?
            .as_deref()
            .map(from_json)
            .transpose()?,
        answered: column::<Option<i64>>(row, "answered_ms")?.map(Timestamp::from_unix_ms),
    })
}
