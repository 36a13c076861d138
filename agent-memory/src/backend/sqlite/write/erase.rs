//! Erasing within a transaction.

#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "a write has its transaction for itself, as the store hands it out"
)]

use std::collections::BTreeSet;

use agent_core::Scope;
use agent_core::store::{Tx, sql};
use rusqlite::params;

use super::super::rows::{id_of, metadata_of};
use super::{At, Note, RESET, find};
use crate::error::{Error, Result};
use crate::memory::{MemoryId, Receipt, Selection, Verb};
use crate::metadata::label;
use crate::namespace::Namespace;
use crate::prepare::check_reason;
use crate::relation::Node;

/// Erases memories and what was derived from them. The receipt says `is_scrubbed: false`: the
/// write-ahead log can be emptied only after the transaction, by [`crate::backend::Sqlite::scrub`].
///
/// # Errors
/// As [`crate::MemoryStore::forget`].
pub fn forget(
    tx: &mut Tx<'_>,
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
    let Some(at) = find(tx, scope, at)? else {
        return Ok(receipt);
    };
    for seq in with_derived(&at, selected(&at, what)?)? {
        let (id, n_relations) = erase(&at, seq, reason)?;
        receipt.erased.push(id);
        receipt.n_relations += n_relations;
    }
    receipt.erased.sort_unstable();
    let left = match what {
        Selection::Ids(_) => deleted(0, 0),
        Selection::Entity(name) => relations_of(&at, &Node::entity(name.as_str()))?,
        Selection::All => deleted(
            at.run(
                "DELETE FROM memory_relation WHERE partition = ?1 AND known_to_ms IS NOT NULL",
                &[&at.partition],
            )?,
            at.run(
                "DELETE FROM memory_relation WHERE partition = ?1",
                &[&at.partition],
            )?,
        ),
    };
    receipt.n_relations += left.n_known;
    if left.is_any {
        at.record(RESET, &Note::default())?;
    }
    if left.is_any || !receipt.erased.is_empty() {
        at.publish()?;
    }
    Ok(receipt)
}

/// Relations that were deleted.
struct Deleted {
    /// Those that were known until now.
    n_known: usize,
    /// Whether there were any, earlier versions included.
    is_any: bool,
}

const fn deleted(n_earlier: usize, n_known: usize) -> Deleted {
    Deleted {
        n_known,
        is_any: n_earlier + n_known > 0,
    }
}

/// Deletes every version of a node's relations.
fn relations_of(at: &At<'_, '_>, node: &Node) -> Result<Deleted> {
    let node = node.to_string();
    let delete = |what: &str| at.run(what, &[&at.partition, &node]);
    let n_earlier = delete(
        "DELETE FROM memory_relation
         WHERE partition = ?1 AND from_node = ?2 AND known_to_ms IS NOT NULL",
    )? + delete(
        "DELETE FROM memory_relation
         WHERE partition = ?1 AND to_node = ?2 AND known_to_ms IS NOT NULL",
    )?;
    let n_known = delete("DELETE FROM memory_relation WHERE partition = ?1 AND from_node = ?2")?
        + delete("DELETE FROM memory_relation WHERE partition = ?1 AND to_node = ?2")?;
    Ok(deleted(n_earlier, n_known))
}

fn selected(at: &At<'_, '_>, what: &Selection) -> Result<Vec<i64>> {
    match what {
        Selection::Ids(ids) => {
            let found = ids
                .iter()
                .map(|id| at.seq_of(*id))
                .collect::<Result<Vec<_>>>()?;
            Ok(found.into_iter().flatten().collect())
        }
        Selection::Entity(name) => related(at, &Node::entity(name.as_str())),
        Selection::All => at.seqs(
            "SELECT seq FROM memory_entry WHERE partition = ?1",
            &[&at.partition],
        ),
    }
}

/// The memories directly related to a node, at present or before.
fn related(at: &At<'_, '_>, node: &Node) -> Result<Vec<i64>> {
    let ends: Vec<String> = at
        .tx
        .sql()
        .prepare_cached(
            "SELECT to_node FROM memory_relation WHERE partition = ?1 AND from_node = ?2
             UNION SELECT from_node FROM memory_relation WHERE partition = ?1 AND to_node = ?2",
        )
        .and_then(|mut select| {
            select
                .query_map(params![at.partition, node.to_string()], |row| row.get(0))?
                .collect()
        })
        .map_err(sql("find related memories"))?;
    let mut seqs = Vec::new();
    for end in ends {
        if let Node::Memory(id) = Node::parse(&end)? {
            seqs.extend(at.seq_of(id)?);
        }
    }
    Ok(seqs)
}

/// The selected entries and all that were derived from one of them, directly or not.
fn with_derived(at: &At<'_, '_>, selected: Vec<i64>) -> Result<BTreeSet<i64>> {
    let mut all = BTreeSet::new();
    let mut pending = selected;
    while let Some(seq) = pending.pop() {
        if all.insert(seq) {
            pending.extend(at.seqs("SELECT entry FROM memory_source WHERE source = ?1", &[&seq])?);
        }
    }
    Ok(all)
}

fn erase(at: &At<'_, '_>, seq: i64, reason: &str) -> Result<(MemoryId, usize)> {
    let (id, text, metadata): ([u8; 16], String, String) = at
        .tx
        .sql()
        .prepare_cached("SELECT id, text, metadata FROM memory_entry WHERE seq = ?1")
        .and_then(|mut select| select.query_row([seq], |row| row.try_into()))
        .map_err(sql("read a memory to erase"))?;
    if label::is_set(&metadata_of(&metadata)?, label::HOLD) {
        return Err(Error::Held { id: id_of(id) });
    }
    // FTS5 takes the text out of its segments only if it is told what it was.
    at.run(
        "INSERT INTO memory_fts (memory_fts, rowid, scope, text)
         VALUES ('delete', ?1, 'p' || ?2, ?3)",
        &[&seq, &at.partition, &text],
    )?;
    at.run(
        "DELETE FROM memory_source WHERE entry = ?1 OR source = ?1",
        &[&seq],
    )?;
    let relations = relations_of(at, &Node::Memory(id_of(id)))?;
    // Without the content's digest a guess of the content cannot be confirmed.
    at.run("UPDATE memory_key SET content = NULL WHERE id = ?1", &[&id])?;
    at.run(
        "UPDATE memory_change SET reason = NULL WHERE id = ?1 OR successor = ?1",
        &[&id],
    )?;
    at.run("DELETE FROM memory_entry WHERE seq = ?1", &[&seq])?;
    let note = Note {
        id: Some(id_of(id)),
        reason: Some(reason),
        ..Note::default()
    };
    at.record(Verb::Erased.as_str(), &note)?;
    Ok((id_of(id), relations.n_known))
}
