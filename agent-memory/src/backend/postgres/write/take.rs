//! Taking what was given away, within a transaction.

use std::collections::HashMap;

use agent_core::Scope;

use super::add::{NewEntry, insert, insert_keys};
use super::relate;
use super::{At, Ids, NewChange};
use crate::backend::postgres::rows::{get, id};
use crate::backend::postgres::session::Session;
use crate::error::{Error, Result};
use crate::index::Quantized;
use crate::memory::{Change, MemoryId};
use crate::namespace::Namespace;
use crate::portable::{Fate, Here, Item, Kept, Taken, Tombstone, buried, plan};
use crate::relation::{Node, RelationVersion};

/// Takes items, all or none.
pub(in crate::backend::postgres) async fn take(
    tx: &Session<'_>,
    scope: &Scope,
    at: &Namespace,
    space: i64,
    items: &[(Item, Option<Quantized>)],
) -> Result<Taken> {
    let at = At::make(tx, scope.actor.as_str(), at).await?;
    let here = here(&at, items).await?;
    let look = |id: MemoryId| Ok(here.get(&id).copied().unwrap_or(Here::Unknown));
    let fates = plan(items, look)?;
    let mut taken = Taken::default();
    for ((item, vector), fate) in items.iter().zip(fates) {
        let is_new = match (fate, item) {
            (Fate::LeaveOut, _) => false,
            (Fate::Bury, Item::Memory(kept)) => {
                bury(&at, &buried(scope, kept, at.tx.now)).await?;
                false
            }
            (_, Item::Memory(kept)) => {
                keep(&at, space, kept, vector.as_ref()).await?;
                true
            }
            (_, Item::Erased(tombstone)) => {
                bury(&at, tombstone).await?;
                true
            }
            (_, Item::Relation(version)) => put(&at, version).await?,
        };
        taken.n_new += usize::from(is_new);
        taken.n_left_out += usize::from(!is_new);
    }
    at.publish().await?;
    Ok(taken)
}

/// What the namespace has under the ids that the items name.
async fn here(
    at: &At<'_, '_>,
    items: &[(Item, Option<Quantized>)],
) -> Result<HashMap<MemoryId, Here>> {
    let mut ids = Vec::new();
    for (item, _) in items {
        match item {
            Item::Memory(kept) => {
                ids.push(kept.memory.id);
                ids.extend(&kept.memory.provenance.sources);
            }
            Item::Erased(tombstone) => ids.push(tombstone.id),
            Item::Relation(version) => {
                for node in [&version.relation.from, &version.relation.to] {
                    if let Node::Memory(id) = node {
                        ids.push(*id);
                    }
                }
            }
        }
    }
    let ids = Ids::of(ids.into_iter().map(Some));
    let rows = at
        .tx
        .rows(
            "find what is here",
            "SELECT asked.id,
                 EXISTS (SELECT 1 FROM memory_entry e WHERE e.partition = $1 AND e.id = asked.id),
                 EXISTS (SELECT 1 FROM memory_change c WHERE c.partition = $1 AND c.id = asked.id)
             FROM unnest($2::bytea[]) AS asked (id)",
            &[&at.partition, &ids.slices()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let here = match (get(row, 1)?, get(row, 2)?) {
                (true, _) => Here::Memory,
                (false, true) => Here::Erased,
                (false, false) => Here::Unknown,
            };
            Ok((id(row, 0)?, here))
        })
        .collect()
}

/// Writes a history as it was recorded elsewhere; returns the number of its first change.
async fn record(at: &At<'_, '_>, id: MemoryId, changes: &[Change]) -> Result<i64> {
    let changes: Vec<NewChange<'_>> = changes
        .iter()
        .map(|change| NewChange {
            id: Some(id),
            verb: change.verb.as_str(),
            at: change.at,
            actor: change.actor.as_str(),
            reason: change.reason.as_deref(),
            valid_to: change.valid_to,
            successor: change.successor,
        })
        .collect();
    let seqs = at.record(&changes).await?;
    let first = seqs.first().copied();
    first.ok_or(Error::corrupt("a history is empty"))
}

async fn keep(at: &At<'_, '_>, space: i64, kept: &Kept, vector: Option<&Quantized>) -> Result<()> {
    let memory = &kept.memory;
    let seq = record(at, memory.id, &kept.changes).await?;
    let sources = at.seqs_of(&memory.provenance.sources).await?;
    let entry = NewEntry {
        seq,
        memory: memory.clone(),
        vector,
        sources: sources.into_values().collect(),
    };
    insert(at, space, &[entry]).await?;
    let key = |key: &crate::portable::Key| (key.digest, memory.id, Some(key.content));
    insert_keys(at, &kept.keys.iter().map(key).collect::<Vec<_>>()).await
}

async fn bury(at: &At<'_, '_>, tombstone: &Tombstone) -> Result<()> {
    record(at, tombstone.id, &tombstone.changes).await?;
    let keys = tombstone.keys.iter();
    let keys: Vec<_> = keys.map(|digest| (*digest, tombstone.id, None)).collect();
    insert_keys(at, &keys).await
}

/// Adds a version unless it, or another that is known at present in its place, is here.
async fn put(at: &At<'_, '_>, version: &RelationVersion) -> Result<bool> {
    let here = relate::known(at, &version.relation).await?;
    let is_in_place = version.known_to.is_none()
        && here.iter().any(|here| {
            here.known_to.is_none() && here.relation.valid_from == version.relation.valid_from
        });
    if is_in_place || here.contains(version) {
        return Ok(false);
    }
    relate::insert(at, version).await?;
    Ok(true)
}
