//! Searches and listings within a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use agent_core::Timestamp;

use super::catch_up::{Indexes, blocking};
use super::session::Session;
use super::{near, rows};
use crate::error::Result;
use crate::index::{Near, Plan, Quantized, Scored};
use crate::memory::{Change, Memory, MemoryId};
use crate::namespace::Namespace;
use crate::query::{Hit, Listing, Query};
use crate::validity;

/// A search with what it was prepared with.
pub(super) struct Search {
    pub(super) query: Query,
    pub(super) vector: Option<Quantized>,
    pub(super) former: Option<Quantized>,
    pub(super) now: Timestamp,
}

impl Search {
    /// Ranks each namespace and reads the best of all of them. A namespace is entered twice: to
    /// catch up its index, and to read what was found.
    pub(super) async fn run(self, tx: &Session<'_>, indexes: &Indexes) -> Result<Vec<Hit>> {
        let search = Arc::new(self);
        let mut found: Vec<(Scored, usize)> = Vec::new();
        for (n, at) in search.query.namespaces.iter().enumerate() {
            let Some(place) = tx.enter(at).await? else {
                continue;
            };
            let cell = indexes.current(tx, place).await?;
            let is_large = cell.index.read().is_large();
            let near = match &search.vector {
                Some(vector) if is_large => near::nearest(tx, indexes.space, place, vector).await?,
                _ => None,
            };
            let of = Arc::clone(&search);
            let look = move || cell.index.read().search(&of.plan(near.as_ref()));
            let scored = blocking(look).await?;
            found.extend(scored.into_iter().map(|scored| (scored, n)));
        }
        found.sort_by(|a, b| a.0.order(&b.0));
        found.truncate(search.query.limit);
        let mut memories = HashMap::new();
        for (n, at) in search.query.namespaces.iter().enumerate() {
            let of_this = found.iter().filter(|(_, of)| *of == n);
            let seqs: Vec<i64> = of_this.map(|(scored, _)| scored.seq).collect();
            let known = search.query.as_of.known;
            memories.extend(read(tx, at, &seqs, known).await?);
        }
        // The index may be ahead of this snapshot.
        let hit = |(scored, _): (Scored, usize)| {
            Some(Hit {
                memory: memories.remove(&scored.seq)?,
                score: scored.score,
                explanation: scored.explanation,
            })
        };
        Ok(found.into_iter().filter_map(hit).collect())
    }

    fn plan<'a>(&'a self, near: Option<&'a Near>) -> Plan<'a> {
        Plan {
            text: &self.query.text,
            vector: self.vector.as_ref(),
            former: self.former.as_ref(),
            filter: &self.query.filter,
            weights: &self.query.weights,
            limit: self.query.limit,
            now: self.now,
            is_with_quarantined: self.query.is_with_quarantined,
            view: self.query.as_of.view(self.now, self.query.is_with_retired),
            near,
            words: None,
        }
    }
}

/// The memories with these numbers, as they were known then.
async fn read(
    tx: &Session<'_>,
    at: &Namespace,
    seqs: &[i64],
    known: Option<Timestamp>,
) -> Result<HashMap<i64, Memory>> {
    if seqs.is_empty() {
        return Ok(HashMap::new());
    }
    let Some(place) = tx.enter(at).await? else {
        return Ok(HashMap::new());
    };
    let memories = rows::by_seqs(tx, place.partition, at, seqs).await?;
    if known.is_none() {
        return Ok(memories);
    }
    let ids: Vec<MemoryId> = memories.values().map(|memory| memory.id).collect();
    let changes: HashMap<MemoryId, Vec<Change>> = rows::changes(tx, place.partition, &ids).await?;
    let then = |(seq, memory): (i64, Memory)| {
        let changes = changes.get(&memory.id).map_or(&[][..], Vec::as_slice);
        validity::as_known(memory, changes, known).map(|memory| (seq, memory))
    };
    Ok(memories.into_iter().filter_map(then).collect())
}

/// Reads a page of a listing.
pub(super) async fn list(
    tx: &Session<'_>,
    indexes: &Indexes,
    at: &Namespace,
    listing: Listing,
    now: Timestamp,
) -> Result<Vec<Memory>> {
    let Some(place) = tx.enter(at).await? else {
        return Ok(Vec::new());
    };
    let cell = indexes.current(tx, place).await?;
    let known = listing.as_of.known;
    let page = blocking(move || cell.index.read().list(&listing, now)).await?;
    let seqs: Vec<i64> = page.iter().map(|(_, seq)| *seq).collect();
    let mut memories = read(tx, at, &seqs, known).await?;
    let found = seqs.iter().filter_map(|seq| memories.remove(seq));
    Ok(found.collect())
}
