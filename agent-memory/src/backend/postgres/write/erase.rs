//! Erasing within a transaction.

use agent_core::Scope;

use super::{At, Ids, NewChange};
use crate::backend::postgres::catch_up::RESET;
use crate::backend::postgres::rows::{get, id};
use crate::backend::postgres::session::Session;
use crate::backend::stored::metadata_of;
use crate::error::{Error, Result};
use crate::memory::{MemoryId, Receipt, Selection, Verb};
use crate::metadata::label;
use crate::namespace::Namespace;
use crate::prepare::check_reason;
use crate::relation::Node;

/// The tables an erasure leaves dead rows in.
pub(in crate::backend::postgres) const TOUCHED: &str =
    "memory_change, memory_entry, memory_key, memory_relation, memory_source";

/// Erases memories and what was derived from them. The receipt says `is_scrubbed: false`: rows are
/// gone for every statement, but the files of a server keep what they keep.
pub(in crate::backend::postgres) async fn forget(
    tx: &Session<'_>,
    scope: &Scope,
    at: &Namespace,
    what: &Selection,
    reason: &str,
) -> Result<Receipt> {
    check_reason(reason)?;
    what.check()?;
    let mut receipt = Receipt {
        erased: Vec::new(),
        n_relations: 0,
        is_scrubbed: false,
    };
    let Some(at) = At::find(tx, scope, at).await? else {
        return Ok(receipt);
    };
    let gone = with_derived(&at, &selected(&at, what).await?).await?;
    receipt.n_relations = erase(&at, &gone, reason).await?;
    receipt.erased = gone.iter().map(|(_, id)| *id).collect();
    receipt.erased.sort_unstable();
    let left = match what {
        Selection::Ids(_) => Deleted::default(),
        Selection::Entity(name) => {
            relations_of(&at, &[Node::entity(name.as_str()).to_string()]).await?
        }
        Selection::All => {
            let statement = "DELETE FROM memory_relation WHERE partition = $1
                 RETURNING known_to_ms IS NULL";
            deleted(&at, statement, &[&at.partition]).await?
        }
    };
    receipt.n_relations += left.n_known;
    if left.is_any {
        at.record_one(at.change(RESET)).await?;
    }
    if left.is_any || !receipt.erased.is_empty() {
        at.publish().await?;
    }
    Ok(receipt)
}

/// Relations that were deleted.
#[derive(Default)]
struct Deleted {
    /// Those that were known until now.
    n_known: usize,
    /// Whether there were any, earlier versions included.
    is_any: bool,
}

async fn deleted(
    at: &At<'_, '_>,
    statement: &str,
    values: crate::backend::postgres::session::Values<'_>,
) -> Result<Deleted> {
    let rows = at.tx.rows("erase relations", statement, values).await?;
    let known = rows.iter().map(|row| get(row, 0));
    let known = known.collect::<Result<Vec<bool>>>()?;
    Ok(Deleted {
        n_known: known.iter().filter(|is_known| **is_known).count(),
        is_any: !known.is_empty(),
    })
}

/// Deletes every version of the relations of nodes.
async fn relations_of(at: &At<'_, '_>, nodes: &[String]) -> Result<Deleted> {
    let statement = "DELETE FROM memory_relation
         WHERE partition = $1 AND (from_node = ANY($2) OR to_node = ANY($2))
         RETURNING known_to_ms IS NULL";
    deleted(at, statement, &[&at.partition, &nodes]).await
}

async fn selected(at: &At<'_, '_>, what: &Selection) -> Result<Vec<i64>> {
    match what {
        Selection::Ids(ids) => Ok(at.seqs_of(ids).await?.into_values().collect()),
        Selection::Entity(name) => {
            let ids = related(at, &Node::entity(name.as_str())).await?;
            Ok(at.seqs_of(&ids).await?.into_values().collect())
        }
        Selection::All => {
            let rows = at
                .tx
                .rows(
                    "find memories",
                    "SELECT seq FROM memory_entry WHERE partition = $1",
                    &[&at.partition],
                )
                .await?;
            rows.iter().map(|row| get(row, 0)).collect()
        }
    }
}

/// The memories directly related to a node, at present or before.
async fn related(at: &At<'_, '_>, node: &Node) -> Result<Vec<MemoryId>> {
    let rows = at
        .tx
        .rows(
            "find related memories",
            "SELECT to_node FROM memory_relation WHERE partition = $1 AND from_node = $2
             UNION SELECT from_node FROM memory_relation WHERE partition = $1 AND to_node = $2",
            &[&at.partition, &node.to_string()],
        )
        .await?;
    let mut ids = Vec::new();
    for row in &rows {
        if let Node::Memory(id) = Node::parse(get(row, 0)?)? {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The selected entries and all that were derived from one of them, directly or not, in the order
/// they were added.
async fn with_derived(at: &At<'_, '_>, selected: &[i64]) -> Result<Vec<(i64, MemoryId)>> {
    let rows = at
        .tx
        .rows(
            "find what was derived",
            "WITH RECURSIVE gone (seq) AS (
                 SELECT unnest($2::bigint[])
                 UNION
                 SELECT s.entry FROM memory_source s JOIN gone ON s.source = gone.seq
                 WHERE s.partition = $1
             )
             SELECT e.seq, e.id, e.metadata FROM memory_entry e JOIN gone ON gone.seq = e.seq
             WHERE e.partition = $1 ORDER BY e.seq",
            &[&at.partition, &selected],
        )
        .await?;
    let mut gone = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = id(row, 1)?;
        if label::is_set(&metadata_of(get(row, 2)?)?, label::HOLD) {
            return Err(Error::Held { id });
        }
        gone.push((get(row, 0)?, id));
    }
    Ok(gone)
}

/// Deletes entries and returns how many relations that were known until now went with them.
async fn erase(at: &At<'_, '_>, gone: &[(i64, MemoryId)], reason: &str) -> Result<usize> {
    if gone.is_empty() {
        return Ok(0);
    }
    let seqs: Vec<i64> = gone.iter().map(|(seq, _)| *seq).collect();
    let ids = Ids::of(gone.iter().map(|(_, id)| Some(*id)));
    let nodes: Vec<String> = gone
        .iter()
        .map(|(_, id)| Node::Memory(*id).to_string())
        .collect();
    let relations = relations_of(at, &nodes).await?;
    at.run(
        "DELETE FROM memory_source
         WHERE partition = $1 AND (entry = ANY($2) OR source = ANY($2))",
        &[&at.partition, &seqs],
    )
    .await?;
    // Without the content's digest a guess of the content cannot be confirmed.
    for statement in [
        "UPDATE memory_key SET content = NULL WHERE partition = $1 AND id = ANY($2)",
        "UPDATE memory_change SET reason = NULL
         WHERE partition = $1 AND (id = ANY($2) OR successor = ANY($2))",
        "DELETE FROM memory_entry WHERE partition = $1 AND id = ANY($2)",
    ] {
        at.run(statement, &[&at.partition, &ids.slices()]).await?;
    }
    let changes: Vec<NewChange<'_>> = gone
        .iter()
        .map(|(_, id)| NewChange {
            id: Some(*id),
            reason: Some(reason),
            ..at.change(Verb::Erased.as_str())
        })
        .collect();
    at.record(&changes).await?;
    Ok(relations.n_known)
}
