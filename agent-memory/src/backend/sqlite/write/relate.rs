//! Relations within a transaction.

#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "a write has its transaction for itself, as the store hands it out"
)]

use agent_core::store::{Tx, sql};
use agent_core::{Scope, Timestamp};
use rusqlite::params;

use super::super::rows::{VERSION, version};
use super::{At, Note, make_partition};
use crate::error::{Error, Result};
use crate::namespace::{Namespace, tenant};
use crate::relation::{Node, Relation, RelationVersion};

/// A change that added a relation.
pub(super) const RELATED: &str = "related";

/// Adds relations, all or none if the caller passes the error on.
///
/// # Errors
/// As [`crate::MemoryStore::relate`].
pub fn relate(
    tx: &mut Tx<'_>,
    scope: &Scope,
    at: &Namespace,
    relations: &[Relation],
) -> Result<()> {
    if relations.len() > Relation::BATCH_MAX {
        return Err(Error::invalid("relations", "at most 1,000 in a call"));
    }
    relations.iter().try_for_each(Relation::check)?;
    let at = At {
        tx,
        partition: make_partition(tx, &tenant(scope)?, at)?,
        actor: scope.actor.as_str(),
    };
    for relation in relations {
        for node in [&relation.from, &relation.to] {
            if let Node::Memory(id) = node
                && at.seq_of(*id)?.is_none()
            {
                return Err(Error::NotFound { id: *id });
            }
        }
        put(&at, relation)?;
    }
    if relations.is_empty() {
        return Ok(());
    }
    at.publish()
}

/// Adds a version of a relation and closes the one it replaces.
fn put(at: &At<'_, '_>, relation: &Relation) -> Result<()> {
    let now = at.tx.now();
    let here = known(at, relation)?.into_iter();
    let known: Vec<Relation> = here
        .filter(|version| version.known_to.is_none())
        .map(|version| version.relation)
        .collect();
    let Some(relation) = relation.clone().resolved(&known, now)? else {
        return Ok(());
    };
    let (from, to) = (relation.from.to_string(), relation.to.to_string());
    let valid_from = relation.valid_from.unwrap_or(now).as_unix_ms();
    let seq = at.record(RELATED, &Note::default())?;
    // Replaced in the moment it was added, a version was never known.
    at.run(
        "DELETE FROM memory_relation WHERE partition = ?1 AND from_node = ?2
             AND label = ?3 AND to_node = ?4 AND valid_from_ms = ?5 AND known_to_ms IS NULL
             AND known_from_ms = ?6",
        &[
            &at.partition,
            &from,
            &relation.label,
            &to,
            &valid_from,
            &now.as_unix_ms(),
        ],
    )?;
    at.run(
        "UPDATE memory_relation SET known_to_ms = ?6 WHERE partition = ?1 AND from_node = ?2
             AND label = ?3 AND to_node = ?4 AND valid_from_ms = ?5 AND known_to_ms IS NULL",
        &[
            &at.partition,
            &from,
            &relation.label,
            &to,
            &valid_from,
            &now.as_unix_ms(),
        ],
    )?;
    let version = RelationVersion {
        relation,
        known_from: now,
        known_to: None,
    };
    insert(at, seq, &version)
}

/// Writes a version.
pub(super) fn insert(at: &At<'_, '_>, seq: i64, version: &RelationVersion) -> Result<()> {
    let relation = &version.relation;
    let valid_from = relation.valid_from.unwrap_or(version.known_from);
    at.run(
        "INSERT INTO memory_relation (seq, partition, from_node, label, to_node, weight,
             valid_from_ms, valid_to_ms, known_from_ms, known_to_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
    )?;
    Ok(())
}

/// The versions of the relations with these ends and this label.
pub(super) fn known(at: &At<'_, '_>, relation: &Relation) -> Result<Vec<RelationVersion>> {
    let mut select = at
        .tx
        .sql()
        .prepare_cached(&format!(
            "{VERSION} WHERE partition = ?1 AND from_node = ?2 AND label = ?3 AND to_node = ?4"
        ))
        .map_err(sql("find a relation"))?;
    let ends = (relation.from.to_string(), relation.to.to_string());
    let values = params![at.partition, ends.0, relation.label, ends.1];
    let mut rows = select.query(values).map_err(sql("find a relation"))?;
    let mut known = Vec::new();
    while let Some(row) = rows.next().map_err(sql("find a relation"))? {
        known.push(version(row)?);
    }
    Ok(known)
}
