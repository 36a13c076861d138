//! Writes as functions of a transaction, so that several layers' writes can be committed together.
//! The indexes in main memory need no word of them: they catch up from the tables.

#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "a write has its transaction for itself, as the store hands it out"
)]

mod erase;
mod relate;
pub(super) mod take;

use std::collections::BTreeSet;

use agent_core::store::{Tx, sql};
use agent_core::{Scope, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::rows::{find_partition, id_bytes, id_of, metadata_of, vector_bytes};
use crate::error::{Error, Result};
use crate::memory::{Added, MemoryId, Verb};
use crate::metadata::{Relabel, relabel as apply};
use crate::namespace::{Namespace, tenant};
use crate::prepare::{Prepared, PreparedDraft, check_reason};
use crate::validity;

pub use erase::forget;
pub use relate::relate;

/// A change that makes every index of the namespace start over.
pub(super) const RESET: &str = "reset";

/// A namespace within a transaction.
struct At<'t, 'c> {
    tx: &'t Tx<'c>,
    partition: i64,
    actor: &'t str,
}

/// What a change is recorded with.
#[derive(Default)]
struct Note<'a> {
    id: Option<MemoryId>,
    reason: Option<&'a str>,
    valid_to: Option<Timestamp>,
    successor: Option<MemoryId>,
}

impl At<'_, '_> {
    fn record(&self, verb: &str, note: &Note<'_>) -> Result<i64> {
        self.tx
            .sql()
            .prepare_cached(
                "INSERT INTO memory_change
                     (partition, id, verb, at_ms, actor, reason, valid_to_ms, successor)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .and_then(|mut insert| {
                insert.insert(params![
                    self.partition,
                    note.id.map(id_bytes),
                    verb,
                    self.tx.now().as_unix_ms(),
                    self.actor,
                    note.reason,
                    note.valid_to.map(Timestamp::as_unix_ms),
                    note.successor.map(id_bytes),
                ])
            })
            .map_err(sql("record a change"))
            .map_err(Error::from)
    }

    /// Publishes the changes so far to the indexes.
    fn publish(&self) -> Result<()> {
        self.run(
            "UPDATE memory_partition SET last_seq = (SELECT max(seq) FROM memory_change)
             WHERE id = ?1",
            &[&self.partition],
        )?;
        Ok(())
    }

    fn run(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize> {
        self.tx
            .sql()
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute(values))
            .map_err(sql("write a memory"))
            .map_err(Error::from)
    }

    fn seq_of(&self, id: MemoryId) -> Result<Option<i64>> {
        self.tx
            .sql()
            .prepare_cached("SELECT seq FROM memory_entry WHERE partition = ?1 AND id = ?2")
            .and_then(|mut select| {
                select
                    .query_row(params![self.partition, id_bytes(id)], |row| row.get(0))
                    .optional()
            })
            .map_err(sql("find a memory"))
            .map_err(Error::from)
    }

    fn seqs(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<i64>> {
        self.tx
            .sql()
            .prepare_cached(statement)
            .and_then(|mut select| select.query_map(values, |row| row.get(0))?.collect())
            .map_err(sql("find memories"))
            .map_err(Error::from)
    }
}

/// Adds prepared drafts, all or none if the caller passes the error on.
///
/// # Errors
/// As [`crate::MemoryStore::add`].
pub fn add(tx: &mut Tx<'_>, prepared: &Prepared) -> Result<Vec<Added>> {
    if prepared.drafts.is_empty() {
        return Ok(Vec::new());
    }
    let partition = make_partition(tx, &prepared.tenant, &prepared.at)?;
    let space: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT id FROM memory_space WHERE name = ?1")
        .and_then(|mut select| {
            select
                .query_row([&prepared.space], |row| row.get(0))
                .optional()
        })
        .map_err(sql("find a vector space"))?;
    let at = At {
        tx,
        partition,
        actor: prepared.actor.as_str(),
    };
    let added = prepared
        .drafts
        .iter()
        .map(|draft| add_one(&at, space, draft))
        .collect::<Result<Vec<_>>>()?;
    if added.iter().any(|added| added.is_new) {
        at.publish()?;
    }
    Ok(added)
}

fn make_partition(tx: &Tx<'_>, tenant: &str, at: &Namespace) -> Result<i64> {
    if let Some(partition) = find_partition(tx, tenant, at)? {
        return Ok(partition);
    }
    tx.sql()
        .prepare_cached(
            "INSERT INTO memory_partition (tenant, namespace, last_seq) VALUES (?1, ?2, 0)",
        )
        .and_then(|mut insert| insert.insert([tenant, at.as_str()]))
        .map_err(sql("create a namespace"))
        .map_err(Error::from)
}

fn add_one(at: &At<'_, '_>, space: Option<i64>, new: &PreparedDraft) -> Result<Added> {
    if let Some(added) = known(at, new)? {
        return Ok(added);
    }
    let draft = &new.draft;
    let sources = draft
        .sources
        .iter()
        .map(|id| at.seq_of(*id)?.ok_or(Error::NotFound { id: *id }))
        .collect::<Result<BTreeSet<i64>>>()?;
    let times = new.times(at.tx.now());
    if let Some(old) = draft.supersedes {
        let end = End {
            asked: new.ending(at.tx.now()),
            successor: Some(new.id),
            reason: draft.reason.as_deref(),
        };
        end_validity(at, old, &end)?;
    }
    let note = Note {
        id: Some(new.id),
        reason: draft.reason.as_deref(),
        valid_to: draft.valid_to,
        successor: None,
    };
    let seq = at.record(Verb::Added.as_str(), &note)?;
    let metadata = serde_json::to_string(&draft.metadata)
        .map_err(|e| Error::invalid("metadata", e.to_string()))?;
    at.run(
        "INSERT INTO memory_entry (seq, partition, id, kind, text, metadata, thread, occurred_ms,
             recorded_ms, valid_from_ms, valid_to_ms, actor, channel, trust, space, scale, vector)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        &[
            &seq,
            &at.partition,
            &id_bytes(new.id),
            &draft.kind.as_str(),
            &draft.text,
            &metadata,
            &draft.thread,
            &times.occurred_at.as_unix_ms(),
            &at.tx.now().as_unix_ms(),
            &times.valid_from.as_unix_ms(),
            &draft.valid_to.map(Timestamp::as_unix_ms),
            &at.actor,
            &draft.channel,
            &draft.trust.rank(),
            &space.filter(|_| new.vector.is_some()),
            &new.vector.as_ref().map(|v| f64::from(v.scale)),
            &new.vector.as_ref().map(vector_bytes),
        ],
    )?;
    attach(at, seq, new, &sources)?;
    Ok(Added {
        id: new.id,
        is_new: true,
    })
}

/// Writes what an entry points to: its words, sources and key.
fn attach(at: &At<'_, '_>, seq: i64, new: &PreparedDraft, sources: &BTreeSet<i64>) -> Result<()> {
    at.run(
        "INSERT INTO memory_fts (rowid, scope, text) VALUES (?1, 'p' || ?2, ?3)",
        &[&seq, &at.partition, &new.draft.text],
    )?;
    for source in sources {
        at.run(
            "INSERT INTO memory_source (entry, source) VALUES (?1, ?2)",
            &[&seq, &source],
        )?;
    }
    if let Some(key) = &new.key {
        at.run(
            "INSERT INTO memory_key (digest, id, content) VALUES (?1, ?2, ?3)",
            &[key.as_bytes(), &id_bytes(new.id), new.content.as_bytes()],
        )?;
    }
    Ok(())
}

/// What the draft's key stands for already.
fn known(at: &At<'_, '_>, new: &PreparedDraft) -> Result<Option<Added>> {
    let Some(key) = &new.key else { return Ok(None) };
    let found: Option<([u8; 16], Option<[u8; 32]>)> = at
        .tx
        .sql()
        .prepare_cached("SELECT id, content FROM memory_key WHERE digest = ?1")
        .and_then(|mut select| {
            select
                .query_row([key.as_bytes()], |row| row.try_into())
                .optional()
        })
        .map_err(sql("look up an idempotency key"))?;
    match found {
        None => Ok(None),
        Some((id, content)) => new.repeated(id_of(id), content.as_ref()).map(Some),
    }
}

struct End<'a> {
    asked: validity::Asked<'a>,
    successor: Option<MemoryId>,
    reason: Option<&'a str>,
}

fn end_validity(at: &At<'_, '_>, id: MemoryId, end: &End<'_>) -> Result<()> {
    type Found = (i64, String, i64, Option<i64>, Option<[u8; 16]>, String);
    let found: Option<Found> = at
        .tx
        .sql()
        .prepare_cached(
            "SELECT seq, kind, valid_from_ms, valid_to_ms, superseded_by, metadata FROM memory_entry
             WHERE partition = ?1 AND id = ?2",
        )
        .and_then(|mut select| {
            select
                .query_row(params![at.partition, id_bytes(id)], |row| row.try_into())
                .optional()
        })
        .map_err(sql("find a record"))?;
    let Some((seq, kind, valid_from, valid_to, superseded_by, labels)) = found else {
        return Err(Error::NotFound { id });
    };
    let ms = Timestamp::from_unix_ms;
    let valid_to = validity::end(
        &validity::Record {
            id,
            kind: super::rows::kind_of(&kind)?,
            valid_from: ms(valid_from),
            valid_to: valid_to.map(ms),
            is_superseded: superseded_by.is_some(),
            labels: metadata_of(&labels)?,
        },
        end.asked,
    )?;
    at.run(
        "UPDATE memory_entry SET valid_to_ms = ?2, superseded_by = ifnull(?3, superseded_by) WHERE seq = ?1",
        &[&seq, &valid_to.as_unix_ms(), &end.successor.map(id_bytes)],
    )?;
    let note = Note {
        id: Some(id),
        reason: end.reason,
        valid_to: Some(valid_to),
        successor: end.successor,
    };
    at.record(end.asked.verb.as_str(), &note)?;
    Ok(())
}

/// Ends a record's validity.
///
/// # Errors
/// As [`crate::MemoryStore::retire`].
pub fn retire(
    tx: &mut Tx<'_>,
    scope: &Scope,
    at: &Namespace,
    id: MemoryId,
    valid_to: Timestamp,
    reason: &str,
) -> Result<()> {
    check_reason(reason)?;
    let at = find(tx, scope, at)?.ok_or(Error::NotFound { id })?;
    let end = End {
        asked: validity::Asked {
            verb: Verb::Retired,
            valid_to,
            successor_to: None,
            labels: None,
        },
        successor: None,
        reason: Some(reason),
    };
    end_validity(&at, id, &end)?;
    at.publish()
}

/// Changes labels of a memory.
///
/// # Errors
/// As [`crate::MemoryStore::relabel`].
pub fn relabel(
    tx: &mut Tx<'_>,
    scope: &Scope,
    at: &Namespace,
    id: MemoryId,
    labels: &[(String, Relabel)],
    reason: &str,
) -> Result<()> {
    check_reason(reason)?;
    let at = find(tx, scope, at)?.ok_or(Error::NotFound { id })?;
    let seq = at.seq_of(id)?.ok_or(Error::NotFound { id })?;
    let (metadata, valid_to): (String, Option<i64>) = at
        .tx
        .sql()
        .prepare_cached("SELECT metadata, valid_to_ms FROM memory_entry WHERE seq = ?1")
        .and_then(|mut select| select.query_row([seq], |row| row.try_into()))
        .map_err(sql("read the labels of a memory"))?;
    let mut metadata = metadata_of(&metadata)?;
    apply(&mut metadata, labels)?;
    let json =
        serde_json::to_string(&metadata).map_err(|e| Error::invalid("metadata", e.to_string()))?;
    at.run(
        "UPDATE memory_entry SET metadata = ?2 WHERE seq = ?1",
        &[&seq, &json],
    )?;
    let note = Note {
        id: Some(id),
        reason: Some(reason),
        valid_to: valid_to.map(Timestamp::from_unix_ms),
        successor: None,
    };
    at.record(Verb::Labeled.as_str(), &note)?;
    at.publish()
}

fn find<'t, 'c>(tx: &'t Tx<'c>, scope: &'t Scope, at: &Namespace) -> Result<Option<At<'t, 'c>>> {
    let partition = find_partition(tx, &tenant(scope)?, at)?;
    Ok(partition.map(|partition| At {
        tx,
        partition,
        actor: scope.actor.as_str(),
    }))
}
