//! Giving everything away and taking it back.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Scope};
use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::rows::{self, VERSION, id_bytes, id_of};
use super::write::take;
use super::{Sqlite, catch_up};
use crate::error::{Error, Result};
use crate::memory::MemoryId;
use crate::namespace::{Namespace, tenant};
use crate::portable::{
    Cursor, Item, Kept, Key, Part, Phase, Portable, Taken, Tombstone, Vector, prepared,
};

/// Places in a phase, up to the last that is given.
type Places = Vec<i64>;

#[async_trait]
impl Portable for Sqlite {
    fn space(&self) -> (String, usize) {
        let embedder = &self.embedder;
        (embedder.space().to_owned(), embedder.dimensions())
    }

    async fn namespaces(&self, scope: &Scope) -> Result<Vec<Namespace>> {
        let tenant = tenant(scope)?;
        self.db
            .read(move |tx| {
                let names: Vec<String> = tx
                    .sql()
                    .prepare_cached(
                        "SELECT namespace FROM memory_partition WHERE tenant = ?1
                         ORDER BY namespace",
                    )
                    .and_then(|mut select| {
                        select.query_map([&*tenant], |row| row.get(0))?.collect()
                    })
                    .map_err(sql("list namespaces"))?;
                names.iter().map(|name| Namespace::new(name)).collect()
            })
            .await
    }

    async fn give(&self, scope: &Scope, at: Namespace, from: Option<Cursor>) -> Result<Part> {
        let tenant = self.check(scope)?;
        self.db
            .read(move |tx| match rows::find_partition(tx, &tenant, &at)? {
                Some(partition) => give(tx, partition, &at, from),
                None => Ok(Part {
                    items: Vec::new(),
                    next: None,
                }),
            })
            .await
    }

    async fn take(&self, scope: &Scope, at: Namespace, items: Vec<Item>) -> Result<Taken> {
        self.check(scope)?;
        let items = prepared(&self.env, self.embedder.as_ref(), scope, &at, items).await?;
        let (scope, space) = (scope.clone(), self.indexes.space);
        self.db
            .write(move |tx| take::take(tx, &scope, &at, space, &items))
            .await
    }
}

fn give(tx: &Tx<'_>, partition: i64, at: &Namespace, from: Option<Cursor>) -> Result<Part> {
    let cursor = match from {
        Some(cursor) => cursor,
        None => Cursor::start(catch_up::last_seq(tx, partition)?),
    };
    let next = |statement| places(tx, statement, partition, cursor);
    let (places, items) = match cursor.phase {
        Phase::Memories => {
            let places = next(
                "SELECT seq FROM memory_entry WHERE partition = ?1 AND seq > ?2 AND seq <= ?3
                 ORDER BY seq LIMIT ?4",
            )?;
            let kept = places.iter().map(|seq| kept(tx, partition, at, *seq));
            let items = kept.collect::<Result<Vec<_>>>()?;
            (places, items.into_iter().flatten().collect())
        }
        Phase::Erased => {
            let places = next(
                "SELECT seq FROM memory_change WHERE partition = ?1 AND seq > ?2 AND seq <= ?3
                     AND verb = 'erased' AND verb <> 'added' AND id IS NOT NULL
                 ORDER BY seq LIMIT ?4",
            )?;
            let erased = places.iter().map(|seq| tombstone(tx, partition, *seq));
            let items = erased.collect::<Result<Vec<_>>>()?;
            (places, items)
        }
        Phase::Relations => {
            let places = next(
                "SELECT seq FROM memory_relation WHERE partition = ?1 AND seq > ?2 AND seq <= ?3
                 ORDER BY seq LIMIT ?4",
            )?;
            let versions = places.iter().map(|seq| relation(tx, *seq));
            let items = versions.collect::<Result<Vec<_>>>()?;
            (places, items)
        }
    };
    Ok(Part {
        next: cursor.behind(places.last().copied(), places.len() == Item::PART_MAX),
        items,
    })
}

fn places(tx: &Tx<'_>, statement: &str, partition: i64, cursor: Cursor) -> Result<Places> {
    let n_max = i64::try_from(Item::PART_MAX).unwrap_or(i64::MAX);
    tx.sql()
        .prepare_cached(statement)
        .and_then(|mut select| {
            select
                .query_map([partition, cursor.after, cursor.until, n_max], |row| {
                    row.get(0)
                })?
                .collect()
        })
        .map_err(sql("list what is given"))
        .map_err(Error::from)
}

fn kept(tx: &Tx<'_>, partition: i64, at: &Namespace, seq: i64) -> Result<Option<Item>> {
    let Some(memory) = rows::by_seq(tx, partition, at, seq)? else {
        return Ok(None);
    };
    let vector: Option<(String, f64, Vec<u8>)> = tx
        .sql()
        .prepare_cached(
            "SELECT s.name, e.scale, e.vector FROM memory_entry e
             JOIN memory_space s ON s.id = e.space WHERE e.seq = ?1",
        )
        .and_then(|mut select| select.query_row([seq], |row| row.try_into()).optional())
        .map_err(sql("read a vector"))?;
    let vector = vector.map(|(space, scale, bytes)| {
        let vector = rows::vector_of(&bytes, scale);
        Vector {
            space,
            bytes: vector.bytes,
            scale: vector.scale,
        }
    });
    let keys = keys(tx, memory.id)?;
    let keys = keys.into_iter().filter_map(|(digest, content)| {
        Some(Key {
            digest,
            content: content?,
        })
    });
    Ok(Some(Item::Memory(Box::new(Kept {
        changes: rows::changes(tx, partition, memory.id)?,
        keys: keys.collect(),
        vector,
        memory,
    }))))
}

fn keys(tx: &Tx<'_>, id: MemoryId) -> Result<Vec<(Digest, Option<Digest>)>> {
    tx.sql()
        .prepare_cached("SELECT digest, content FROM memory_key WHERE id = ?1 ORDER BY digest")
        .and_then(|mut select| {
            select
                .query_map([id_bytes(id)], |row| {
                    let content: Option<[u8; 32]> = row.get(1)?;
                    Ok((
                        Digest::from_bytes(row.get(0)?),
                        content.map(Digest::from_bytes),
                    ))
                })?
                .collect()
        })
        .map_err(sql("read the keys of a memory"))
        .map_err(Error::from)
}

fn tombstone(tx: &Tx<'_>, partition: i64, seq: i64) -> Result<Item> {
    let id: [u8; 16] = tx
        .sql()
        .prepare_cached("SELECT id FROM memory_change WHERE seq = ?1")
        .and_then(|mut select| select.query_row([seq], |row| row.get(0)))
        .map_err(sql("read an erasure"))?;
    let id = id_of(id);
    let keys = keys(tx, id)?;
    Ok(Item::Erased(Tombstone {
        id,
        changes: rows::changes(tx, partition, id)?,
        keys: keys.into_iter().map(|(digest, _)| digest).collect(),
    }))
}

fn relation(tx: &Tx<'_>, seq: i64) -> Result<Item> {
    let mut select = tx
        .sql()
        .prepare_cached(&format!("{VERSION} WHERE seq = ?1"))
        .map_err(sql("read a relation"))?;
    let mut rows = select.query(params![seq]).map_err(sql("read a relation"))?;
    let row = rows.next().map_err(sql("read a relation"))?;
    let row = row.ok_or(Error::corrupt("a relation is not where it was"))?;
    rows::version(row).map(Item::Relation)
}
