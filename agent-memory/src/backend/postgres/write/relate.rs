//! Relations within a transaction.

use agent_core::{Scope, Timestamp};

use super::At;
use crate::backend::postgres::rows::{VERSION, version};
use crate::backend::postgres::session::{Session, Values};
use crate::error::{Error, Result};
use crate::memory::MemoryId;
use crate::namespace::Namespace;
use crate::relation::{Node, Relation, RelationVersion};

/// A change that added a relation.
pub(super) const RELATED: &str = "related";

/// Adds relations, all or none.
pub(in crate::backend::postgres) async fn relate(
    tx: &Session<'_>,
    scope: &Scope,
    at: &Namespace,
    relations: &[Relation],
) -> Result<()> {
    if relations.len() > Relation::BATCH_MAX {
        return Err(Error::invalid("relations", "at most 1,000 in a call"));
    }
    relations.iter().try_for_each(Relation::check)?;
    let at = At::make(tx, scope.actor.as_str(), at).await?;
    let ends: Vec<MemoryId> = relations.iter().flat_map(memories).collect();
    let here = at.seqs_of(&ends).await?;
    if let Some(id) = ends.iter().find(|id| !here.contains_key(id)) {
        return Err(Error::NotFound { id: *id });
    }
    for relation in relations {
        put(&at, relation).await?;
    }
    if relations.is_empty() {
        return Ok(());
    }
    at.publish().await
}

/// The ends of a relation that are memories.
fn memories(relation: &Relation) -> impl Iterator<Item = MemoryId> {
    [&relation.from, &relation.to]
        .into_iter()
        .filter_map(|node| match node {
            Node::Memory(id) => Some(*id),
            Node::Entity(_) => None,
        })
}

/// Adds a version of a relation and closes the one it replaces.
async fn put(at: &At<'_, '_>, relation: &Relation) -> Result<()> {
    let now = at.tx.now;
    let known = known(at, relation).await?;
    let at_present = known.into_iter().filter(|old| old.known_to.is_none());
    let at_present: Vec<Relation> = at_present.map(|old| old.relation).collect();
    let Some(relation) = relation.clone().resolved(&at_present, now)? else {
        return Ok(());
    };
    let valid_from = relation.valid_from.unwrap_or(now).as_unix_ms();
    let (from, to) = (relation.from.to_string(), relation.to.to_string());
    let values: Values<'_> = &[
        &at.partition,
        &from,
        &relation.label,
        &to,
        &valid_from,
        &now.as_unix_ms(),
    ];
    // Replaced in the moment it was added, a version was never known.
    for statement in [
        "DELETE FROM memory_relation WHERE partition = $1 AND from_node = $2 AND label = $3
             AND to_node = $4 AND valid_from_ms = $5 AND known_to_ms IS NULL AND known_from_ms = $6",
        "UPDATE memory_relation SET known_to_ms = $6 WHERE partition = $1 AND from_node = $2
             AND label = $3 AND to_node = $4 AND valid_from_ms = $5 AND known_to_ms IS NULL",
    ] {
        at.run(statement, values).await?;
    }
    let version = RelationVersion {
        relation,
        known_from: now,
        known_to: None,
    };
    insert(at, &version).await
}

/// Writes a version.
pub(super) async fn insert(at: &At<'_, '_>, version: &RelationVersion) -> Result<()> {
    let seq = at.record_one(at.change(RELATED)).await?;
    let relation = &version.relation;
    let valid_from = relation.valid_from.unwrap_or(version.known_from);
    at.run(
        "INSERT INTO memory_relation (seq, partition, from_node, label, to_node, weight,
             valid_from_ms, valid_to_ms, known_from_ms, known_to_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &seq,
            &at.partition,
            &relation.from.to_string(),
            &relation.label,
            &relation.to.to_string(),
            &f64::from(relation.weight),
            &valid_from.as_unix_ms(),
            &relation.valid_to.map(Timestamp::as_unix_ms),
            &version.known_from.as_unix_ms(),
            &version.known_to.map(Timestamp::as_unix_ms),
        ],
    )
    .await?;
    Ok(())
}

/// All versions of the relation with these ends and this label.
pub(super) async fn known(at: &At<'_, '_>, relation: &Relation) -> Result<Vec<RelationVersion>> {
    let statement = format!(
        "{VERSION} WHERE partition = $1 AND from_node = $2 AND label = $3 AND to_node = $4"
    );
    let rows = at
        .tx
        .rows(
            "find a relation",
            &statement,
            &[
                &at.partition,
                &relation.from.to_string(),
                &relation.label,
                &relation.to.to_string(),
            ],
        )
        .await?;
    rows.iter().map(version).collect()
}
