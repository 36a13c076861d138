//! New vectors for what another embedder embedded, within a transaction.

use super::At;
use crate::backend::postgres::rows::{get, text};
use crate::backend::postgres::session::Session;
use crate::backend::stored::vector_bytes;
use crate::error::Result;
use crate::index::Quantized;
use crate::namespace::Namespace;

/// A change that gave memories other vectors.
const EMBEDDED: &str = "embedded";

/// A memory to embed: its number and its text.
pub(in crate::backend::postgres) type Pending = (i64, String);
/// A memory that was embedded: its number and its vector.
pub(in crate::backend::postgres) type Done = (i64, Option<Quantized>);

/// The first memories of a namespace that another embedder embedded, and how many there are.
pub(in crate::backend::postgres) async fn pending(
    tx: &Session<'_>,
    at: &Namespace,
    space: i64,
    n_max: usize,
) -> Result<(Vec<Pending>, usize)> {
    let Some(found) = tx.enter(at).await? else {
        return Ok((Vec::new(), 0));
    };
    let counted = tx
        .rows(
            "count memories of another embedder",
            "SELECT count(*) FROM memory_entry
             WHERE partition = $1 AND space IS NOT NULL AND space <> $2",
            &[&found.partition, &space],
        )
        .await?;
    let n: i64 = counted.first().map_or(Ok(0), |row| get(row, 0))?;
    let n = usize::try_from(n).unwrap_or(0);
    if n == 0 || n_max == 0 {
        return Ok((Vec::new(), n));
    }
    let limit = i64::try_from(n_max).unwrap_or(i64::MAX);
    let rows = tx
        .rows(
            "find memories of another embedder",
            "SELECT seq, text FROM memory_entry
             WHERE partition = $1 AND space IS NOT NULL AND space <> $2 ORDER BY seq LIMIT $3",
            &[&found.partition, &space, &limit],
        )
        .await?;
    let pending = rows
        .iter()
        .map(|row| Ok((get(row, 0)?, text(get(row, 1)?)?.to_owned())));
    Ok((pending.collect::<Result<_>>()?, n))
}

/// Writes vectors and returns how many; what was erased or embedded since it was read is passed
/// over.
pub(in crate::backend::postgres) async fn set(
    tx: &Session<'_>,
    actor: &str,
    at: &Namespace,
    space: i64,
    done: &[Done],
) -> Result<usize> {
    let at = At::make(tx, actor, at).await?;
    let change = at.record_one(at.change(EMBEDDED)).await?;
    let vectors = || done.iter().map(|(_, vector)| vector.as_ref());
    let seqs: Vec<i64> = done.iter().map(|(seq, _)| *seq).collect();
    let spaces: Vec<Option<i64>> = vectors().map(|vector| vector.map(|_| space)).collect();
    let scales: Vec<Option<f64>> = vectors()
        .map(|vector| vector.map(|vector| f64::from(vector.scale)))
        .collect();
    let bytes: Vec<Option<Vec<u8>>> = vectors().map(|v| v.map(vector_bytes)).collect();
    let n = at
        .run(
            "UPDATE memory_entry e SET space = t.space, scale = t.scale, vector = t.vector,
                 embedded_seq = $2
             FROM unnest($3::bigint[], $4::bigint[], $5::double precision[], $6::bytea[])
                 AS t (seq, space, scale, vector)
             WHERE e.partition = $1 AND e.seq = t.seq AND e.space IS NOT NULL AND e.space <> $7",
            &[
                &at.partition,
                &change,
                &seqs,
                &spaces,
                &scales,
                &bytes,
                &space,
            ],
        )
        .await?;
    // Its copy of the vectors lacks these: until the next `optimize` all are scanned.
    at.run(
        "UPDATE memory_partition SET near_seq = NULL, near_space = NULL WHERE id = $1",
        &[&at.partition],
    )
    .await?;
    at.publish().await?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}
