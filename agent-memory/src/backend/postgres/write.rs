//! Writes within a transaction that has its partition for itself. The indexes in main memory need
//! no word of them: they catch up from the tables.

mod add;
mod embed;
mod erase;
mod relate;
mod take;

use std::collections::HashMap;

use agent_core::{Scope, Timestamp};

use super::fault;
use super::rows::{get, id, maybe_id, maybe_ms, ms};
use super::session::Session;
use crate::backend::stored::{id_bytes, kind_of, metadata_of};
use crate::error::{Error, Result};
use crate::memory::{MemoryId, Verb};
use crate::metadata::{Relabel, relabel as apply};
use crate::namespace::Namespace;
use crate::prepare::check_reason;
use crate::validity;

pub(super) use add::add;
pub(super) use embed::{Done, Pending, pending, set};
pub(super) use erase::{TOUCHED, forget};
pub(super) use relate::relate;
pub(super) use take::take;

/// A namespace within a transaction.
pub(super) struct At<'t, 'c> {
    tx: &'t Session<'c>,
    partition: i64,
    actor: &'t str,
}

/// A change as it is recorded.
#[derive(Clone, Copy)]
struct NewChange<'a> {
    id: Option<MemoryId>,
    verb: &'static str,
    at: Timestamp,
    actor: &'a str,
    reason: Option<&'a str>,
    valid_to: Option<Timestamp>,
    successor: Option<MemoryId>,
}

impl<'t, 'c> At<'t, 'c> {
    async fn find(tx: &'t Session<'c>, scope: &'t Scope, at: &Namespace) -> Result<Option<Self>> {
        let found = tx.enter(at).await?;
        Ok(found.map(|found| Self {
            tx,
            partition: found.partition,
            actor: scope.actor.as_str(),
        }))
    }

    async fn make(tx: &'t Session<'c>, actor: &'t str, at: &Namespace) -> Result<Self> {
        let found = tx.enter_or_make(at).await?;
        Ok(Self {
            tx,
            partition: found.partition,
            actor,
        })
    }

    fn change(&self, verb: &'static str) -> NewChange<'t> {
        NewChange {
            id: None,
            verb,
            at: self.tx.now,
            actor: self.actor,
            reason: None,
            valid_to: None,
            successor: None,
        }
    }

    /// Records changes and returns their numbers, which rise. Since the partition is locked, they
    /// are above all that were published.
    async fn record(&self, changes: &[NewChange<'_>]) -> Result<Vec<i64>> {
        let n = i64::try_from(changes.len()).unwrap_or(i64::MAX);
        let rows = self
            .tx
            .rows(
                "number changes",
                "SELECT nextval('memory_change_seq') FROM generate_series(1, $1::bigint)",
                &[&n],
            )
            .await?;
        let mut seqs = rows
            .iter()
            .map(|row| get(row, 0))
            .collect::<Result<Vec<i64>>>()?;
        seqs.sort_unstable();
        let ids = Ids::of(changes.iter().map(|change| change.id));
        let successors = Ids::of(changes.iter().map(|change| change.successor));
        let verbs: Vec<&str> = changes.iter().map(|change| change.verb).collect();
        let times: Vec<i64> = changes
            .iter()
            .map(|change| change.at.as_unix_ms())
            .collect();
        let actors: Vec<&str> = changes.iter().map(|change| change.actor).collect();
        let reasons: Vec<Option<&[u8]>> = changes
            .iter()
            .map(|change| change.reason.map(str::as_bytes))
            .collect();
        let ends: Vec<Option<i64>> = changes
            .iter()
            .map(|change| change.valid_to.map(Timestamp::as_unix_ms))
            .collect();
        self.tx
            .run(
                "record changes",
                "INSERT INTO memory_change
                     (partition, seq, id, verb, at_ms, actor, reason, valid_to_ms, successor)
                 SELECT $1, * FROM unnest($2::bigint[], $3::bytea[], $4::text[], $5::bigint[],
                     $6::text[], $7::bytea[], $8::bigint[], $9::bytea[])",
                &[
                    &self.partition,
                    &seqs,
                    &ids.slices(),
                    &verbs,
                    &times,
                    &actors,
                    &reasons,
                    &ends,
                    &successors.slices(),
                ],
            )
            .await?;
        Ok(seqs)
    }

    async fn record_one(&self, change: NewChange<'_>) -> Result<i64> {
        let seqs = self.record(&[change]).await?;
        let first = seqs.first().copied();
        first.ok_or_else(|| fault::internal("number a change", "there is no number"))
    }

    /// Publishes the changes so far to the indexes.
    async fn publish(&self) -> Result<()> {
        self.run(
            "UPDATE memory_partition SET last_seq =
                 (SELECT coalesce(max(seq), 0) FROM memory_change WHERE partition = $1)
             WHERE id = $1",
            &[&self.partition],
        )
        .await?;
        Ok(())
    }

    async fn run(&self, statement: &str, values: super::session::Values<'_>) -> Result<u64> {
        self.tx.run("write memories", statement, values).await
    }

    /// The numbers of those of the memories that are here.
    async fn seqs_of(&self, ids: &[MemoryId]) -> Result<HashMap<MemoryId, i64>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids = Ids::of(ids.iter().copied().map(Some));
        let rows = self
            .tx
            .rows(
                "find memories",
                "SELECT id, seq FROM memory_entry WHERE partition = $1 AND id = ANY($2)",
                &[&self.partition, &ids.slices()],
            )
            .await?;
        rows.iter()
            .map(|row| Ok((id(row, 0)?, get(row, 1)?)))
            .collect()
    }

    /// Those of the memories that are here, as the rules of validity look at them.
    async fn records(&self, ids: &[MemoryId]) -> Result<HashMap<MemoryId, validity::Record>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids = Ids::of(ids.iter().copied().map(Some));
        let rows = self
            .tx
            .rows(
                "find records",
                "SELECT id, kind, valid_from_ms, valid_to_ms, superseded_by, metadata FROM memory_entry
                 WHERE partition = $1 AND id = ANY($2)",
                &[&self.partition, &ids.slices()],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let record = validity::Record {
                    id: id(row, 0)?,
                    kind: kind_of(get(row, 1)?)?,
                    valid_from: ms(row, 2)?,
                    valid_to: maybe_ms(row, 3)?,
                    is_superseded: maybe_id(row, 4)?.is_some(),
                    labels: metadata_of(get(row, 5)?)?,
                };
                Ok((record.id, record))
            })
            .collect()
    }

    async fn end(
        &self,
        id: MemoryId,
        valid_to: Timestamp,
        successor: Option<MemoryId>,
    ) -> Result<()> {
        let successor = successor.map(id_bytes);
        self.run(
            "UPDATE memory_entry
             SET valid_to_ms = $3, superseded_by = coalesce($4, superseded_by)
             WHERE partition = $1 AND id = $2",
            &[
                &self.partition,
                &id_bytes(id).as_slice(),
                &valid_to.as_unix_ms(),
                &successor.as_ref().map(<[u8; 16]>::as_slice),
            ],
        )
        .await?;
        Ok(())
    }
}

/// Ids in the form of an array of the database.
struct Ids(Vec<Option<[u8; 16]>>);

impl Ids {
    fn of(ids: impl Iterator<Item = Option<MemoryId>>) -> Self {
        Self(ids.map(|id| id.map(id_bytes)).collect())
    }

    fn slices(&self) -> Vec<Option<&[u8]>> {
        self.0
            .iter()
            .map(|id| id.as_ref().map(<[u8; 16]>::as_slice))
            .collect()
    }
}

/// Ends a record's validity.
pub(super) async fn retire(
    tx: &Session<'_>,
    scope: &Scope,
    at: &Namespace,
    id: MemoryId,
    valid_to: Timestamp,
    reason: &str,
) -> Result<()> {
    check_reason(reason)?;
    let at = At::find(tx, scope, at).await?;
    let at = at.ok_or(Error::NotFound { id })?;
    let mut records = at.records(&[id]).await?;
    let record = records.remove(&id).ok_or(Error::NotFound { id })?;
    let asked = validity::Asked {
        verb: Verb::Retired,
        valid_to,
        successor_to: None,
        labels: None,
    };
    let valid_to = validity::end(&record, asked)?;
    at.end(id, valid_to, None).await?;
    at.record_one(NewChange {
        id: Some(id),
        reason: Some(reason),
        valid_to: Some(valid_to),
        ..at.change(Verb::Retired.as_str())
    })
    .await?;
    at.publish().await
}

/// Changes labels of a memory.
pub(super) async fn relabel(
    tx: &Session<'_>,
    scope: &Scope,
    at: &Namespace,
    id: MemoryId,
    labels: &[(String, Relabel)],
    reason: &str,
) -> Result<()> {
    check_reason(reason)?;
    let at = At::find(tx, scope, at).await?;
    let at = at.ok_or(Error::NotFound { id })?;
    let rows = tx
        .rows(
            "read the labels of a memory",
            "SELECT metadata, valid_to_ms FROM memory_entry WHERE partition = $1 AND id = $2",
            &[&at.partition, &id_bytes(id).as_slice()],
        )
        .await?;
    let row = rows.first().ok_or(Error::NotFound { id })?;
    let mut metadata = metadata_of(get(row, 0)?)?;
    apply(&mut metadata, labels)?;
    let json =
        serde_json::to_string(&metadata).map_err(|e| Error::invalid("metadata", e.to_string()))?;
    at.run(
        "UPDATE memory_entry SET metadata = $3 WHERE partition = $1 AND id = $2",
        &[&at.partition, &id_bytes(id).as_slice(), &json],
    )
    .await?;
    at.record_one(NewChange {
        id: Some(id),
        reason: Some(reason),
        valid_to: maybe_ms(row, 1)?,
        ..at.change(Verb::Labeled.as_str())
    })
    .await?;
    at.publish().await
}
