//! Taking what was given away, within a transaction.

#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "a write has its transaction for itself, as the store hands it out"
)]

use agent_core::store::{Tx, sql};
use agent_core::{Scope, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::super::rows::{id_bytes, vector_bytes};
use super::relate::{RELATED, insert, known};
use super::{At, Note, make_partition};
use crate::error::{Error, Result};
use crate::index::Quantized;
use crate::memory::{Change, MemoryId};
use crate::namespace::{Namespace, tenant};
use crate::portable::{Fate, Here, Item, Kept, Taken, Tombstone, buried, plan};
use crate::relation::RelationVersion;

/// Takes items, all or none if the caller passes the error on.
pub(crate) fn take(
    tx: &mut Tx<'_>,
    scope: &Scope,
    at: &Namespace,
    space: i64,
    items: &[(Item, Option<Quantized>)],
) -> Result<Taken> {
    let at = At {
        tx,
        partition: make_partition(tx, &tenant(scope)?, at)?,
        actor: scope.actor.as_str(),
    };
    let fates = plan(items, |id| here(&at, id))?;
    let mut taken = Taken::default();
    for ((item, vector), fate) in items.iter().zip(fates) {
        let is_new = match (fate, item) {
            (Fate::LeaveOut, _) => false,
            (Fate::Bury, Item::Memory(kept)) => {
                bury(&at, &buried(scope, kept, at.tx.now()))?;
                false
            }
            (_, Item::Memory(kept)) => {
                keep(&at, space, kept, vector.as_ref())?;
                true
            }
            (_, Item::Erased(tombstone)) => {
                bury(&at, tombstone)?;
                true
            }
            (_, Item::Relation(version)) => relate(&at, version)?,
        };
        taken.n_new += usize::from(is_new);
        taken.n_left_out += usize::from(!is_new);
    }
    at.publish()?;
    Ok(taken)
}

fn here(at: &At<'_, '_>, id: MemoryId) -> Result<Here> {
    let entry: Option<i64> = at
        .tx
        .sql()
        .prepare_cached("SELECT partition FROM memory_entry WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id_bytes(id)], |row| row.get(0))
                .optional()
        })
        .map_err(sql("find a memory"))?;
    let change: Option<i64> = at
        .tx
        .sql()
        .prepare_cached("SELECT partition FROM memory_change WHERE id = ?1 LIMIT 1")
        .and_then(|mut select| {
            select
                .query_row([id_bytes(id)], |row| row.get(0))
                .optional()
        })
        .map_err(sql("find a memory's history"))?;
    match (entry, change) {
        (Some(of), _) if of == at.partition => Ok(Here::Memory),
        (None, Some(of)) if of == at.partition => Ok(Here::Erased),
        (None, None) => Ok(Here::Unknown),
        _ => Err(Error::IdTaken { id }),
    }
}

/// Writes a change as it was recorded elsewhere.
fn record(at: &At<'_, '_>, id: MemoryId, change: &Change) -> Result<i64> {
    at.tx
        .sql()
        .prepare_cached(
            "INSERT INTO memory_change
                 (partition, id, verb, at_ms, actor, reason, valid_to_ms, successor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .and_then(|mut insert| {
            insert.insert(params![
                at.partition,
                id_bytes(id),
                change.verb.as_str(),
                change.at.as_unix_ms(),
                change.actor.as_str(),
                change.reason,
                change.valid_to.map(Timestamp::as_unix_ms),
                change.successor.map(id_bytes),
            ])
        })
        .map_err(sql("record a change"))
        .map_err(Error::from)
}

fn keep(at: &At<'_, '_>, space: i64, kept: &Kept, vector: Option<&Quantized>) -> Result<()> {
    let memory = &kept.memory;
    let mut seqs = Vec::with_capacity(kept.changes.len());
    for change in &kept.changes {
        seqs.push(record(at, memory.id, change)?);
    }
    let seq = *seqs.first().ok_or(Error::corrupt("a history is empty"))?;
    let metadata = serde_json::to_string(&memory.metadata)
        .map_err(|e| Error::invalid("metadata", e.to_string()))?;
    at.run(
        "INSERT INTO memory_entry (seq, partition, id, kind, text, metadata, thread, occurred_ms,
             recorded_ms, valid_from_ms, valid_to_ms, superseded_by, actor, channel, trust, space,
             scale, vector)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        &[
            &seq,
            &at.partition,
            &id_bytes(memory.id),
            &memory.kind.as_str(),
            &memory.text,
            &metadata,
            &memory.thread,
            &memory.occurred_at.as_unix_ms(),
            &memory.recorded_at.as_unix_ms(),
            &memory.valid_from.as_unix_ms(),
            &memory.valid_to.map(Timestamp::as_unix_ms),
            &memory.superseded_by.map(id_bytes),
            &memory.provenance.actor.as_str(),
            &memory.provenance.channel,
            &memory.provenance.trust.rank(),
            &vector.map(|_| space),
            &vector.map(|vector| f64::from(vector.scale)),
            &vector.map(vector_bytes),
        ],
    )?;
    at.run(
        "INSERT INTO memory_fts (rowid, scope, text) VALUES (?1, 'p' || ?2, ?3)",
        &[&seq, &at.partition, &memory.text],
    )?;
    for source in &memory.provenance.sources {
        let source = at.seq_of(*source)?.ok_or(Error::NotFound { id: *source })?;
        at.run(
            "INSERT INTO memory_source (entry, source) VALUES (?1, ?2)",
            &[&seq, &source],
        )?;
    }
    for key in &kept.keys {
        at.run(
            "INSERT OR IGNORE INTO memory_key (digest, id, content) VALUES (?1, ?2, ?3)",
            &[
                key.digest.as_bytes(),
                &id_bytes(memory.id),
                key.content.as_bytes(),
            ],
        )?;
    }
    Ok(())
}

fn bury(at: &At<'_, '_>, tombstone: &Tombstone) -> Result<()> {
    for change in &tombstone.changes {
        record(at, tombstone.id, change)?;
    }
    for digest in &tombstone.keys {
        at.run(
            "INSERT OR IGNORE INTO memory_key (digest, id) VALUES (?1, ?2)",
            &[digest.as_bytes(), &id_bytes(tombstone.id)],
        )?;
    }
    Ok(())
}

/// Adds a version unless it, or another that is known at present in its place, is here.
fn relate(at: &At<'_, '_>, version: &RelationVersion) -> Result<bool> {
    let here = known(at, &version.relation)?;
    let is_in_place = version.known_to.is_none()
        && here.iter().any(|here| {
            here.known_to.is_none() && here.relation.valid_from == version.relation.valid_from
        });
    if is_in_place || here.contains(version) {
        return Ok(false);
    }
    let seq = at.record(RELATED, &Note::default())?;
    insert(at, seq, version)?;
    Ok(true)
}
