//! Embedding again what another embedder embedded, in the background.

use agent_core::Scope;
use agent_core::store::{Tx, sql};
use rusqlite::params;

use super::Sqlite;
use super::rows::vector_bytes;
use crate::backend::Embedded;
use crate::error::{Error, Result};
use crate::index::Quantized;
use crate::prepare::embed;

/// A change that gave memories other vectors.
pub(super) const EMBEDDED: &str = "embedded";

/// A memory to embed: its number, its namespace's and its text.
type Pending = (i64, i64, String);

impl Sqlite {
    /// The most memories of one call to [`Sqlite::embed_again`].
    pub const EMBED_MAX: usize = 1_000;

    /// Embeds up to `n_max` memories of any tenant that another embedder embedded, oldest first,
    /// and returns how many are left. A host calls it until none is left, as fast as suits it.
    /// Searches and writes go on; each memory is found by the vector it has, if its embedder is
    /// the present one or [`Config::with_former_embedder`](super::Config::with_former_embedder).
    ///
    /// What was done is in the file: after a crash the next call goes on where the last one that
    /// returned had come to. `n_max` of 0 only counts.
    ///
    /// # Errors
    /// `Invalid` for more than [`Sqlite::EMBED_MAX`]; the embedder's, with nothing changed; the
    /// store's.
    ///
    /// # Cancel safety
    /// Atomic: all of the call's memories have their new vectors or none.
    pub async fn embed_again(&self, scope: &Scope, n_max: usize) -> Result<Embedded> {
        self.check(scope)?;
        if n_max > Self::EMBED_MAX {
            return Err(Error::invalid(
                "memories to embed",
                "at most 1,000 in a call",
            ));
        }
        let space = self.indexes.space;
        let pending = self.db.read(move |tx| pending(tx, space, n_max)).await?;
        let texts: Vec<String> = pending.iter().map(|(_, _, text)| text.clone()).collect();
        let vectors = if texts.is_empty() {
            Vec::new()
        } else {
            embed(&self.env, self.embedder.as_ref(), scope, &texts).await?
        };
        let done: Vec<(i64, i64, Option<Quantized>)> = pending
            .into_iter()
            .zip(vectors)
            .map(|((seq, partition, _), vector)| (seq, partition, vector))
            .collect();
        let actor = scope.actor.as_str().to_owned();
        self.db
            .write(move |tx| {
                let n_done = set(tx, space, &actor, &done)?;
                Ok(Embedded {
                    n_done,
                    n_left: count(tx, space)?,
                })
            })
            .await
    }
}

fn pending(tx: &Tx<'_>, space: i64, n_max: usize) -> Result<Vec<Pending>> {
    let n_max = i64::try_from(n_max).unwrap_or(i64::MAX);
    tx.sql()
        .prepare_cached(
            "SELECT seq, partition, text FROM memory_entry
             WHERE space IS NOT NULL AND space <> ?1 ORDER BY seq LIMIT ?2",
        )
        .and_then(|mut select| {
            select
                .query_map([space, n_max], |row| row.try_into())?
                .collect()
        })
        .map_err(sql("find memories of another embedder"))
        .map_err(Error::from)
}

fn count(tx: &Tx<'_>, space: i64) -> Result<usize> {
    let n: i64 = tx
        .sql()
        .prepare_cached(
            "SELECT (SELECT count(*) FROM memory_entry WHERE space IS NOT NULL)
                  - (SELECT count(*) FROM memory_entry WHERE space = ?1)",
        )
        .and_then(|mut select| select.query_row([space], |row| row.get(0)))
        .map_err(sql("count memories of another embedder"))?;
    Ok(usize::try_from(n).unwrap_or(0))
}

/// Writes vectors; what was erased since it was read is passed over.
fn set(
    tx: &Tx<'_>,
    space: i64,
    actor: &str,
    done: &[(i64, i64, Option<Quantized>)],
) -> Result<usize> {
    let mut partitions: Vec<i64> = done.iter().map(|(_, partition, _)| *partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let mut n_done = 0;
    for partition in partitions {
        let change = tx
            .sql()
            .prepare_cached(
                "INSERT INTO memory_change (partition, verb, at_ms, actor) VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut insert| {
                insert.insert(params![partition, EMBEDDED, tx.now().as_unix_ms(), actor])
            })
            .map_err(sql("record an embedding"))?;
        let mut update = tx
            .sql()
            .prepare_cached(
                "UPDATE memory_entry SET space = ?2, scale = ?3, vector = ?4, embedded_seq = ?5
                 WHERE seq = ?1 AND space IS NOT NULL AND space <> ?6",
            )
            .map_err(sql("write a vector"))?;
        for (seq, _, vector) in done.iter().filter(|(_, of, _)| *of == partition) {
            n_done += update
                .execute(params![
                    seq,
                    vector.as_ref().map(|_| space),
                    vector.as_ref().map(|vector| f64::from(vector.scale)),
                    vector.as_ref().map(vector_bytes),
                    change,
                    space,
                ])
                .map_err(sql("write a vector"))?;
        }
        tx.sql()
            .prepare_cached("UPDATE memory_partition SET last_seq = ?2 WHERE id = ?1")
            .and_then(|mut update| update.execute([partition, change]))
            .map_err(sql("publish vectors"))?;
    }
    Ok(n_done)
}
