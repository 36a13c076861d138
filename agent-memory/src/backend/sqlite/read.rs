//! Searches and listings within a snapshot.

use std::sync::Arc;

use agent_core::Timestamp;
use agent_core::store::{Tx, sql};
use rusqlite::params;

use super::indexes::Indexes;
use super::rows;
use crate::error::{Error, Result};
use crate::index::{Plan, Quantized, Scored};
use crate::memory::Memory;
use crate::namespace::Namespace;
use crate::query::{Hit, Listing, Query};
use crate::terms::query_words;
use crate::validity;

/// Memories whose words match that FTS5 is asked for at most.
const FTS_HITS_MAX: usize = 4_000;

/// A search as it runs on a reader thread.
pub(super) struct Search {
    pub(super) tenant: Arc<str>,
    pub(super) query: Query,
    pub(super) vector: Option<Quantized>,
    pub(super) former: Option<Quantized>,
    pub(super) now: Timestamp,
}

impl Search {
    pub(super) fn run(&self, tx: &Tx<'_>, indexes: &Indexes) -> Result<Vec<Hit>> {
        let mut found: Vec<(Scored, i64, &Namespace)> = Vec::new();
        for at in &self.query.namespaces {
            let Some(partition) = rows::find_partition(tx, &self.tenant, at)? else {
                continue;
            };
            let scored = indexes.with(tx, partition, |index| {
                let words = (!index.has_keywords())
                    .then(|| words(tx, partition, &self.query.text))
                    .transpose()?;
                Ok(index.search(&Plan {
                    text: &self.query.text,
                    vector: self.vector.as_ref(),
                    former: self.former.as_ref(),
                    filter: &self.query.filter,
                    weights: &self.query.weights,
                    limit: self.query.limit,
                    now: self.now,
                    is_with_quarantined: self.query.is_with_quarantined,
                    view: self.query.as_of.view(self.now, self.query.is_with_retired),
                    near: None,
                    words,
                }))
            })?;
            found.extend(scored.into_iter().map(|scored| (scored, partition, at)));
        }
        found.sort_by(|a, b| a.0.order(&b.0));
        found.truncate(self.query.limit);
        let mut hits = Vec::with_capacity(found.len());
        for (scored, partition, at) in found {
            // The index may be ahead of this snapshot.
            let memory = rows::by_seq(tx, partition, at, scored.seq)?;
            let known = self.query.as_of.known;
            if let Some(memory) = as_known(tx, partition, memory, known)? {
                hits.push(Hit {
                    memory,
                    score: scored.score,
                    explanation: scored.explanation,
                });
            }
        }
        Ok(hits)
    }
}

/// BM25 by FTS5. Every word is quoted, so no text is taken for its query language.
fn words(tx: &Tx<'_>, partition: i64, text: &str) -> Result<Vec<(i64, f32)>> {
    let quoted: Vec<String> = query_words(text)
        .into_iter()
        .map(|(word, _)| format!("\"{}\"", word.replace('"', "\"\"")))
        .collect();
    if quoted.is_empty() {
        return Ok(Vec::new());
    }
    // The scope as a word of its own lets FTS5 intersect before it ranks.
    let query = format!(
        "scope : \"p{partition}\" AND text : ({})",
        quoted.join(" OR ")
    );
    let limit = i64::try_from(FTS_HITS_MAX).unwrap_or(i64::MAX);
    tx.sql()
        .prepare_cached(
            "SELECT rowid, -bm25(memory_fts, 0.0, 1.0) AS score FROM memory_fts
             WHERE memory_fts MATCH ?1 ORDER BY score DESC, rowid DESC LIMIT ?2",
        )
        .and_then(|mut select| {
            select
                .query_map(params![query, limit], |row| {
                    Ok((row.get(0)?, rows::narrow(row.get(1)?)))
                })?
                .collect()
        })
        .map_err(sql("search for words"))
        .map_err(Error::from)
}

/// The memory as it was known then.
fn as_known(
    tx: &Tx<'_>,
    partition: i64,
    memory: Option<Memory>,
    known: Option<Timestamp>,
) -> Result<Option<Memory>> {
    let Some(memory) = memory else {
        return Ok(None);
    };
    if known.is_none() {
        return Ok(Some(memory));
    }
    let changes = rows::changes(tx, partition, memory.id)?;
    Ok(validity::as_known(memory, &changes, known))
}

/// Reads a page of a listing.
pub(super) fn list(
    tx: &Tx<'_>,
    indexes: &Indexes,
    tenant: &str,
    at: &Namespace,
    listing: &Listing,
    now: Timestamp,
) -> Result<Vec<Memory>> {
    let Some(partition) = rows::find_partition(tx, tenant, at)? else {
        return Ok(Vec::new());
    };
    let page = indexes.with(tx, partition, |index| Ok(index.list(listing, now)))?;
    let mut found = Vec::with_capacity(page.len());
    for (_, seq) in page {
        // The index may be ahead of this snapshot.
        let memory = rows::by_seq(tx, partition, at, seq)?;
        found.extend(as_known(tx, partition, memory, listing.as_of.known)?);
    }
    Ok(found)
}
