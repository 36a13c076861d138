//! Bringing an index in main memory up to the tables: everything with a higher number than the
//! last one it has seen. There is no second path: writes of this process, of other layers and of
//! other processes, and the first load, all arrive this way.

use agent_core::Timestamp;
use agent_core::store::{Tx, sql};
use rusqlite::{OptionalExtension, Row, params};

use super::rows::{VERSION, id_of, kind_of, metadata_of, trust_of, vector_of, version};
use super::write::RESET;
use crate::error::{Error, Result};
use crate::index::{NewRow, Partition};
use crate::memory::Verb;
use crate::metadata::Metadata;

/// The number of the namespace's last change.
pub(super) fn last_seq(tx: &Tx<'_>, partition: i64) -> Result<i64> {
    tx.sql()
        .prepare_cached("SELECT last_seq FROM memory_partition WHERE id = ?1")
        .and_then(|mut select| select.query_row([partition], |row| row.get(0)))
        .map_err(sql("read the last change of a namespace"))
        .map_err(Error::from)
}

/// Returns whether the index must be built anew: a change since the one it has seen says so.
pub(super) fn is_reset(tx: &Tx<'_>, partition: i64, since: i64) -> Result<bool> {
    tx.sql()
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM memory_change
             WHERE partition = ?1 AND seq > ?2 AND verb <> 'added' AND verb = ?3)",
        )
        .and_then(|mut select| select.query_row(params![partition, since, RESET], |row| row.get(0)))
        .map_err(sql("look for a reset of a namespace"))
        .map_err(Error::from)
}

/// Applies what the index has not seen, in the snapshot of `tx`.
///
/// `spaces` are those of the present and the former embedder; relations are applied from the
/// change after `relations_since`.
pub(super) fn apply(
    tx: &Tx<'_>,
    partition: i64,
    spaces: [Option<i64>; 2],
    relations_since: i64,
    index: &mut Partition,
) -> Result<()> {
    let last = last_seq(tx, partition)?;
    let since = index.last_seq();
    if last <= since.min(relations_since) {
        return Ok(());
    }
    let [present, former] = spaces;
    entries(tx, (partition, since, present, former), index)?;
    embeddings(tx, (partition, since, present), index)?;
    relations(tx, [partition, relations_since], index)?;
    changes(tx, [partition, since], index)?;
    index.seen(last);
    Ok(())
}

fn entries(
    tx: &Tx<'_>,
    values: (i64, i64, Option<i64>, Option<i64>),
    index: &mut Partition,
) -> Result<()> {
    let mut select = tx
        .sql()
        .prepare_cached(
            "SELECT seq, id, kind, text, metadata, thread, trust, occurred_ms, valid_from_ms,
                 valid_to_ms, scale, iif(space = ?3 OR space = ?4, vector, NULL), recorded_ms,
                 coalesce(space = ?4, 0)
             FROM memory_entry WHERE partition = ?1 AND seq > ?2 ORDER BY seq",
        )
        .map_err(sql("load a namespace"))?;
    let mut rows = select.query(values).map_err(sql("load a namespace"))?;
    while let Some(row) = rows.next().map_err(sql("load a namespace"))? {
        entry(row, index)?;
    }
    Ok(())
}

/// Vectors of entries the index has seen that were embedded again since.
fn embeddings(tx: &Tx<'_>, values: (i64, i64, Option<i64>), index: &mut Partition) -> Result<()> {
    let mut select = tx
        .sql()
        .prepare_cached(
            "SELECT id, scale, iif(space = ?3, vector, NULL) FROM memory_entry
             WHERE partition = ?1 AND embedded_seq > ?2 AND seq <= ?2",
        )
        .map_err(sql("load vectors"))?;
    let mut rows = select.query(values).map_err(sql("load vectors"))?;
    while let Some(row) = rows.next().map_err(sql("load vectors"))? {
        let read = || Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?, row.get(2)?));
        let (id, scale, bytes): ([u8; 16], Option<f64>, Option<Vec<u8>>) =
            read().map_err(sql("load a vector"))?;
        let vector = bytes
            .zip(scale)
            .map(|(bytes, scale)| vector_of(&bytes, scale));
        index.embed_again(id_of(id), vector.as_ref());
    }
    index.drop_empty_former();
    Ok(())
}

fn entry(row: &Row<'_>, index: &mut Partition) -> Result<()> {
    let read = || {
        let ms = Timestamp::from_unix_ms;
        let scale: Option<f64> = row.get(10)?;
        let vector = row.get_ref(11)?.as_blob_or_null()?;
        Ok((
            (row.get(0)?, id_of(row.get(1)?)),
            (row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?),
            row.get_ref(4)?.as_str()?,
            row.get_ref(5)?.as_str_or_null()?,
            row.get(6)?,
            [ms(row.get(7)?), ms(row.get(8)?), ms(row.get(12)?)],
            row.get::<_, Option<i64>>(9)?.map(ms),
            vector
                .zip(scale)
                .map(|(bytes, scale)| vector_of(bytes, scale)),
            row.get::<_, bool>(13)?,
        ))
    };
    let (
        (seq, id),
        (kind, text),
        metadata,
        thread,
        trust,
        [occurred_at, valid_from, recorded_at],
        valid_to,
        vector,
        is_former,
    ) = read().map_err(sql("load a memory"))?;
    index.insert(NewRow {
        id,
        seq,
        kind: kind_of(kind)?,
        text,
        metadata: metadata_of(metadata)?,
        thread,
        trust: trust_of(trust)?,
        occurred_at,
        recorded_at,
        valid_from,
        valid_to,
        vector: vector.as_ref().filter(|_| !is_former),
        former: vector.as_ref().filter(|_| is_former),
    });
    Ok(())
}

fn relations(tx: &Tx<'_>, values: [i64; 2], index: &mut Partition) -> Result<()> {
    let mut select = tx
        .sql()
        .prepare_cached(&format!(
            "{VERSION} WHERE partition = ?1 AND seq > ?2 ORDER BY seq"
        ))
        .map_err(sql("load relations"))?;
    let mut rows = select.query(values).map_err(sql("load relations"))?;
    while let Some(row) = rows.next().map_err(sql("load relations"))? {
        index.relate(&version(row)?);
    }
    Ok(())
}

fn changes(tx: &Tx<'_>, values: [i64; 2], index: &mut Partition) -> Result<()> {
    type Found = ([u8; 16], String, Option<i64>, i64, Option<i64>);
    let found: Vec<Found> = tx
        .sql()
        .prepare_cached(
            "SELECT c.id, c.verb, c.valid_to_ms, c.at_ms,
                 (SELECT first.valid_to_ms FROM memory_entry e
                  JOIN memory_change first ON first.seq = e.seq WHERE e.id = c.id)
             FROM memory_change c WHERE c.partition = ?1 AND c.seq > ?2 AND c.verb <> 'added'
                 AND c.id IS NOT NULL ORDER BY c.seq",
        )
        .and_then(|mut select| select.query_map(values, |row| row.try_into())?.collect())
        .map_err(sql("load changes"))?;
    let ms = Timestamp::from_unix_ms;
    let mut erased = Vec::new();
    for (id, verb, valid_to, at, first) in found {
        match Verb::parse(&verb) {
            // Nothing comes after it.
            Some(Verb::Erased) => erased.push(id_of(id)),
            Some(Verb::Retired | Verb::Superseded) => {
                index.retire(id_of(id), first.map(ms), valid_to.map(ms), ms(at));
            }
            Some(Verb::Labeled) => {
                if let Some(labels) = labels(tx, id)? {
                    index.relabel(id_of(id), labels);
                }
            }
            Some(Verb::Added) | None => return Err(Error::corrupt("a change is unknown")),
        }
    }
    index.erase_all(&erased);
    Ok(())
}

/// The labels of a memory, none if it has been erased.
fn labels(tx: &Tx<'_>, id: [u8; 16]) -> Result<Option<Metadata>> {
    let json: Option<String> = tx
        .sql()
        .prepare_cached("SELECT metadata FROM memory_entry WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], |row| row.get(0)).optional())
        .map_err(sql("read the labels of a memory"))?;
    json.as_deref().map(metadata_of).transpose()
}
