//! Giving everything away and taking it back.

use std::collections::HashMap;

use agent_core::{Digest, Scope};
use async_trait::async_trait;
use tokio_postgres::Row;

use super::rows::{self, VERSION, get, id, version};
use super::session::{Mode, Session};
use super::{Postgres, write};
use crate::backend::stored::{id_bytes, vector_of};
use crate::error::{Error, Result};
use crate::memory::MemoryId;
use crate::namespace::{Namespace, tenant};
use crate::portable::{
    Cursor, Item, Kept, Key, Part, Phase, Portable, Taken, Tombstone, Vector, prepared,
};

#[async_trait]
impl Portable for Postgres {
    fn space(&self) -> (String, usize) {
        let embedder = &self.indexes.embedder;
        (embedder.space().to_owned(), embedder.dimensions())
    }

    async fn namespaces(&self, scope: &Scope) -> Result<Vec<Namespace>> {
        let tenant = tenant(scope)?;
        self.guard(scope, async {
            let mut client = self.client().await?;
            let tx = self.begin(&mut client, Mode::Read, &tenant).await?;
            let rows = tx
                .rows(
                    "list namespaces",
                    "SELECT namespace FROM memory_partition WHERE tenant = $1",
                    &[&tx.tenant()],
                )
                .await?;
            let names = rows.iter().map(|row| Namespace::new(get(row, 0)?));
            let mut names = names.collect::<Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn give(&self, scope: &Scope, at: Namespace, from: Option<Cursor>) -> Result<Part> {
        let tenant = self.check(scope)?;
        self.guard(scope, async {
            let mut client = self.client().await?;
            let tx = self.begin(&mut client, Mode::Read, &tenant).await?;
            match tx.enter(&at).await? {
                Some(found) => {
                    let cursor = from.unwrap_or_else(|| Cursor::start(found.last_seq));
                    give(&tx, found.partition, &at, cursor).await
                }
                None => Ok(Part {
                    items: Vec::new(),
                    next: None,
                }),
            }
        })
        .await
    }

    async fn take(&self, scope: &Scope, at: Namespace, items: Vec<Item>) -> Result<Taken> {
        let tenant = self.check(scope)?;
        let embedder = self.indexes.embedder.as_ref();
        let items = prepared(&self.env, embedder, scope, &at, items).await?;
        let mut client = self.guard(scope, self.client()).await?;
        let tx = self
            .guard(scope, self.begin(&mut client, Mode::Write, &tenant))
            .await?;
        let space = self.indexes.space;
        let taken = self
            .guard(scope, write::take(&tx, scope, &at, space, &items))
            .await?;
        tx.commit().await?;
        Ok(taken)
    }
}

async fn give(tx: &Session<'_>, partition: i64, at: &Namespace, cursor: Cursor) -> Result<Part> {
    let (places, items) = match cursor.phase {
        Phase::Memories => memories(tx, partition, at, cursor).await?,
        Phase::Erased => erased(tx, partition, cursor).await?,
        Phase::Relations => relations(tx, partition, cursor).await?,
    };
    Ok(Part {
        next: cursor.behind(places.last().copied(), places.len() == Item::PART_MAX),
        items,
    })
}

async fn next(
    tx: &Session<'_>,
    statement: &str,
    partition: i64,
    cursor: Cursor,
) -> Result<Vec<Row>> {
    let n_max = i64::try_from(Item::PART_MAX).unwrap_or(i64::MAX);
    tx.rows(
        "list what is given",
        statement,
        &[&partition, &cursor.after, &cursor.until, &n_max],
    )
    .await
}

/// Places with what is at them.
type Given = (Vec<i64>, Vec<Item>);

async fn memories(
    tx: &Session<'_>,
    partition: i64,
    at: &Namespace,
    cursor: Cursor,
) -> Result<Given> {
    let statement = "SELECT e.seq, e.id, s.name, e.scale, e.vector FROM memory_entry e
         LEFT JOIN memory_space s ON s.id = e.space
         WHERE e.partition = $1 AND e.seq > $2 AND e.seq <= $3 ORDER BY e.seq LIMIT $4";
    let rows = next(tx, statement, partition, cursor).await?;
    let seqs = rows.iter().map(|row| get(row, 0));
    let seqs = seqs.collect::<Result<Vec<i64>>>()?;
    let ids = rows.iter().map(|row| id(row, 1));
    let ids = ids.collect::<Result<Vec<_>>>()?;
    let mut memories = rows::by_seqs(tx, partition, at, &seqs).await?;
    let mut changes = rows::changes(tx, partition, &ids).await?;
    let mut keys = keys(tx, partition, &ids).await?;
    let mut items = Vec::with_capacity(rows.len());
    for (row, seq) in rows.iter().zip(&seqs) {
        let memory = memories.remove(seq);
        let memory = memory.ok_or(Error::corrupt("a memory is not where it was"))?;
        let of_memory = keys.remove(&memory.id).unwrap_or_default();
        let keys = of_memory.into_iter().filter_map(|(digest, content)| {
            Some(Key {
                digest,
                content: content?,
            })
        });
        items.push(Item::Memory(Box::new(Kept {
            changes: changes.remove(&memory.id).unwrap_or_default(),
            keys: keys.collect(),
            vector: vector(row)?,
            memory,
        })));
    }
    Ok((seqs, items))
}

fn vector(row: &Row) -> Result<Option<Vector>> {
    let (space, scale): (Option<String>, Option<f64>) = (get(row, 2)?, get(row, 3)?);
    let bytes: Option<&[u8]> = get(row, 4)?;
    let parts = space.zip(scale).zip(bytes);
    Ok(parts.map(|((space, scale), bytes)| {
        let vector = vector_of(bytes, scale);
        Vector {
            space,
            bytes: vector.bytes,
            scale: vector.scale,
        }
    }))
}

async fn erased(tx: &Session<'_>, partition: i64, cursor: Cursor) -> Result<Given> {
    let statement = "SELECT seq, id FROM memory_change
         WHERE partition = $1 AND seq > $2 AND seq <= $3 AND verb = 'erased' AND id IS NOT NULL
         ORDER BY seq LIMIT $4";
    let rows = next(tx, statement, partition, cursor).await?;
    let ids = rows.iter().map(|row| id(row, 1));
    let ids = ids.collect::<Result<Vec<_>>>()?;
    let mut changes = rows::changes(tx, partition, &ids).await?;
    let mut keys = keys(tx, partition, &ids).await?;
    let seqs = rows.iter().map(|row| get(row, 0));
    let items = ids.iter().map(|id| {
        let of_memory = keys.remove(id).unwrap_or_default();
        Item::Erased(Tombstone {
            id: *id,
            changes: changes.remove(id).unwrap_or_default(),
            keys: of_memory.into_iter().map(|(digest, _)| digest).collect(),
        })
    });
    let items = items.collect();
    Ok((seqs.collect::<Result<_>>()?, items))
}

async fn relations(tx: &Session<'_>, partition: i64, cursor: Cursor) -> Result<Given> {
    let statement =
        format!("{VERSION} WHERE partition = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4");
    let rows = next(tx, &statement, partition, cursor).await?;
    let seqs = rows.iter().map(|row| get(row, 8));
    let items = rows.iter().map(|row| version(row).map(Item::Relation));
    Ok((seqs.collect::<Result<_>>()?, items.collect::<Result<_>>()?))
}

/// A key's digest, and that of what it stands for unless that was erased.
type Digests = (Digest, Option<Digest>);

async fn keys(
    tx: &Session<'_>,
    partition: i64,
    ids: &[MemoryId],
) -> Result<HashMap<MemoryId, Vec<Digests>>> {
    let ids: Vec<[u8; 16]> = ids.iter().copied().map(id_bytes).collect();
    let ids: Vec<&[u8]> = ids.iter().map(<[u8; 16]>::as_slice).collect();
    let rows = tx
        .rows(
            "read the keys of memories",
            "SELECT id, digest, content FROM memory_key
             WHERE partition = $1 AND id = ANY($2) ORDER BY digest",
            &[&partition, &ids],
        )
        .await?;
    let mut keys: HashMap<MemoryId, Vec<Digests>> = HashMap::new();
    for row in &rows {
        let content: Option<&[u8]> = get(row, 2)?;
        let digests = (
            rows::digest(get(row, 1)?)?,
            content.map(rows::digest).transpose()?,
        );
        keys.entry(id(row, 0)?).or_default().push(digests);
    }
    Ok(keys)
}
