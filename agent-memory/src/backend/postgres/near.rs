//! The approximate index of a large namespace in the database, by pgvector where it is installed.
//!
//! It is built when [`Postgres::optimize`](super::Postgres::optimize) is called: a copy of the
//! namespace's vectors, with an HNSW index of their own. It gives candidates only; what is added
//! later is scanned, and the ranking is that of every backend.

use agent_core::Embedder;
use deadpool_postgres::Client;

use super::fault::db;
use super::rows::get;
use super::session::{Found, Session};
use crate::backend::stored::vector_of;
use crate::error::Result;
use crate::index::{Near, Quantized};

/// The most neighbours that pgvector looks at in a search.
const NEAREST: i64 = 1_000;
/// The longest vector that pgvector indexes.
const DIMENSIONS_MAX: usize = 2_000;
/// Vectors copied at a time.
const PAGE: i64 = 2_000;

/// Creates the table of vectors if the extension is there, and returns whether it is.
pub(super) async fn prepare(client: &Client, embedder: &dyn Embedder) -> Result<bool> {
    let has_table = has(client, "SELECT to_regclass('memory_near') IS NOT NULL").await?;
    let is_short = embedder.dimensions() <= DIMENSIONS_MAX;
    if has_table || !is_short {
        return Ok(is_short);
    }
    let installed = "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'vector')";
    if !has(client, installed).await? {
        return Ok(false);
    }
    client
        .batch_execute(
            "BEGIN;
             CREATE TABLE IF NOT EXISTS memory_near (
                 partition BIGINT NOT NULL REFERENCES memory_partition (id),
                 space BIGINT NOT NULL REFERENCES memory_space (id),
                 seq BIGINT PRIMARY KEY REFERENCES memory_entry (seq) ON DELETE CASCADE,
                 embedding vector NOT NULL
             );
             ALTER TABLE memory_near ALTER COLUMN embedding SET STATISTICS 0;
             ALTER TABLE memory_near ENABLE ROW LEVEL SECURITY;
             ALTER TABLE memory_near FORCE ROW LEVEL SECURITY;
             CREATE POLICY memory_wall ON memory_near USING (partition =
                 nullif(current_setting('agent_memory.partition', true), '')::bigint);
             COMMIT",
        )
        .await
        .map_err(db("create the table of vectors"))?;
    Ok(true)
}

pub(super) async fn has(client: &Client, question: &str) -> Result<bool> {
    let row = client.query_one(question, &[]).await;
    row.and_then(|row| row.try_get(0))
        .map_err(db("look for pgvector"))
}

/// Copies the vectors of a namespace that are not there yet.
pub(super) async fn copy(tx: &Session<'_>, found: Found, space: i64) -> Result<()> {
    tx.run(
        "forget vectors of another space",
        "DELETE FROM memory_near WHERE partition = $1 AND space <> $2",
        &[&found.partition, &space],
    )
    .await?;
    let mut after = 0_i64;
    loop {
        let rows = tx
            .rows(
                "read vectors",
                "SELECT e.seq, e.scale, e.vector FROM memory_entry e
                 WHERE e.partition = $1 AND e.space = $2 AND e.seq > $3 AND NOT EXISTS
                     (SELECT 1 FROM memory_near n WHERE n.partition = $1 AND n.seq = e.seq)
                 ORDER BY e.seq LIMIT $4",
                &[&found.partition, &space, &after, &PAGE],
            )
            .await?;
        let mut seqs: Vec<i64> = Vec::with_capacity(rows.len());
        let mut vectors = Vec::with_capacity(rows.len());
        for row in &rows {
            seqs.push(get(row, 0)?);
            vectors.push(written(&vector_of(get(row, 2)?, get(row, 1)?)));
        }
        let Some(last) = seqs.last() else { break };
        after = *last;
        tx.run(
            "copy vectors",
            "INSERT INTO memory_near (partition, space, seq, embedding)
             SELECT $1, $2, seq, v::vector FROM unnest($3::bigint[], $4::text[]) AS t (seq, v)",
            &[&found.partition, &space, &seqs, &vectors],
        )
        .await?;
    }
    tx.run(
        "publish the vectors",
        "UPDATE memory_partition SET near_seq = $2, near_space = $3 WHERE id = $1",
        &[&found.partition, &found.last_seq, &space],
    )
    .await?;
    Ok(())
}

/// Builds the index over one namespace's vectors.
pub(super) async fn index(
    client: &Client,
    partition: i64,
    space: i64,
    dimensions: usize,
) -> Result<()> {
    let statement = format!(
        "CREATE INDEX IF NOT EXISTS memory_near_{partition}_{space} ON memory_near
         USING hnsw ((embedding::vector({dimensions})) vector_cosine_ops)
         WHERE partition = {partition} AND space = {space}"
    );
    client
        .batch_execute(&statement)
        .await
        .map_err(db("build an index of vectors"))
}

/// The nearest memories of a namespace; none if its index was not built in this space.
pub(super) async fn nearest(
    tx: &Session<'_>,
    space: i64,
    found: Found,
    query: &Quantized,
) -> Result<Option<Near>> {
    let Some(last_seq) = found.near.filter(|(of, _)| *of == space).map(|near| near.1) else {
        return Ok(None);
    };
    tx.rows(
        "widen the search",
        "SELECT set_config('hnsw.ef_search', $1, true)",
        &[&NEAREST.to_string()],
    )
    .await?;
    let (partition, n) = (found.partition, query.bytes.len());
    // As literals they match the condition of the index.
    let statement = format!(
        "SELECT seq FROM memory_near WHERE partition = {partition} AND space = {space}
         ORDER BY embedding::vector({n}) <=> $1::text::vector({n}) LIMIT {NEAREST}"
    );
    let rows = tx
        .rows("search vectors", &statement, &[&written(query)])
        .await?;
    let seqs = rows.iter().map(|row| get(row, 0));
    Ok(Some(Near {
        seqs: seqs.collect::<Result<_>>()?,
        last_seq,
    }))
}

/// The text form of a vector.
fn written(vector: &Quantized) -> String {
    let numbers = vector.bytes.iter();
    let numbers: Vec<String> = numbers
        .map(|byte| (f32::from(*byte) * vector.scale).to_string())
        .collect();
    format!("[{}]", numbers.join(","))
}
