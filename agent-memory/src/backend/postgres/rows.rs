//! Reading what the tables hold.

use std::collections::HashMap;

use agent_core::{Digest, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::fault::db;
use super::session::Session;
use crate::backend::stored::{actor_of, id_bytes, id_of, kind_of, metadata_of, narrow, trust_of};
use crate::error::{Error, Result};
use crate::memory::{Change, Memory, MemoryId, Provenance, Verb};
use crate::namespace::Namespace;
use crate::relation::{Node, Relation, RelationVersion};

pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(db("read a row"))
}

pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_bytes| Error::corrupt("a text is not UTF-8"))
}

pub(super) fn id(row: &Row, column: usize) -> Result<MemoryId> {
    id_from(get(row, column)?)
}

fn id_from(bytes: &[u8]) -> Result<MemoryId> {
    let bytes = bytes
        .try_into()
        .map_err(|_length| Error::corrupt("an id has another length"))?;
    Ok(id_of(bytes))
}

pub(super) fn maybe_id(row: &Row, column: usize) -> Result<Option<MemoryId>> {
    let bytes: Option<&[u8]> = get(row, column)?;
    bytes.map(id_from).transpose()
}

pub(super) fn ms(row: &Row, column: usize) -> Result<Timestamp> {
    get(row, column).map(Timestamp::from_unix_ms)
}

pub(super) fn maybe_ms(row: &Row, column: usize) -> Result<Option<Timestamp>> {
    let ms: Option<i64> = get(row, column)?;
    Ok(ms.map(Timestamp::from_unix_ms))
}

const MEMORY: &str = "SELECT e.seq, e.id, e.kind, e.text, e.metadata, e.thread, e.occurred_ms,
    e.recorded_ms, e.valid_from_ms, e.valid_to_ms, e.superseded_by, e.actor, e.channel, e.trust,
    ARRAY (SELECT x.id FROM memory_source s JOIN memory_entry x ON x.seq = s.source
           WHERE s.partition = e.partition AND s.entry = e.seq ORDER BY x.id)
    FROM memory_entry e";

fn memory(row: &Row, at: &Namespace) -> Result<(i64, Memory)> {
    let sources: Vec<&[u8]> = get(row, 14)?;
    let memory = Memory {
        id: id(row, 1)?,
        namespace: at.clone(),
        kind: kind_of(get(row, 2)?)?,
        text: text(get(row, 3)?)?.to_owned(),
        metadata: metadata_of(get(row, 4)?)?,
        thread: get(row, 5)?,
        occurred_at: ms(row, 6)?,
        recorded_at: ms(row, 7)?,
        valid_from: ms(row, 8)?,
        valid_to: maybe_ms(row, 9)?,
        superseded_by: maybe_id(row, 10)?,
        provenance: Provenance {
            actor: actor_of(get(row, 11)?)?,
            channel: get(row, 12)?,
            trust: trust_of(get(row, 13)?)?,
            sources: sources.into_iter().map(id_from).collect::<Result<_>>()?,
        },
    };
    Ok((get(row, 0)?, memory))
}

pub(super) async fn by_id(
    tx: &Session<'_>,
    partition: i64,
    at: &Namespace,
    id: MemoryId,
) -> Result<Option<Memory>> {
    let statement = format!("{MEMORY} WHERE e.partition = $1 AND e.id = $2");
    let rows = tx
        .rows(
            "read a memory",
            &statement,
            &[&partition, &id_bytes(id).as_slice()],
        )
        .await?;
    let found = rows.first().map(|row| memory(row, at)).transpose()?;
    Ok(found.map(|(_seq, memory)| memory))
}

/// The memories with these numbers that are there.
pub(super) async fn by_seqs(
    tx: &Session<'_>,
    partition: i64,
    at: &Namespace,
    seqs: &[i64],
) -> Result<HashMap<i64, Memory>> {
    let statement = format!("{MEMORY} WHERE e.partition = $1 AND e.seq = ANY($2)");
    let rows = tx
        .rows("read memories", &statement, &[&partition, &seqs])
        .await?;
    rows.iter().map(|row| memory(row, at)).collect()
}

/// The history of each memory that has one, oldest first.
pub(super) async fn changes(
    tx: &Session<'_>,
    partition: i64,
    ids: &[MemoryId],
) -> Result<HashMap<MemoryId, Vec<Change>>> {
    let ids: Vec<[u8; 16]> = ids.iter().copied().map(id_bytes).collect();
    let ids: Vec<&[u8]> = ids.iter().map(<[u8; 16]>::as_slice).collect();
    let rows = tx
        .rows(
            "read the history of memories",
            "SELECT id, verb, at_ms, actor, reason, valid_to_ms, successor FROM memory_change
             WHERE partition = $1 AND id = ANY($2) ORDER BY seq",
            &[&partition, &ids],
        )
        .await?;
    let mut found: HashMap<MemoryId, Vec<Change>> = HashMap::new();
    for row in &rows {
        let reason: Option<&[u8]> = get(row, 4)?;
        found.entry(id(row, 0)?).or_default().push(Change {
            verb: verb(get(row, 1)?)?,
            at: ms(row, 2)?,
            actor: actor_of(get(row, 3)?)?,
            reason: reason.map(text).transpose()?.map(str::to_owned),
            valid_to: maybe_ms(row, 5)?,
            successor: maybe_id(row, 6)?,
        });
    }
    Ok(found)
}

pub(super) fn verb(name: &str) -> Result<Verb> {
    Verb::parse(name).ok_or(Error::corrupt("a change is unknown"))
}

/// What [`version`] reads.
pub(super) const VERSION: &str = "SELECT from_node, label, to_node, weight, valid_from_ms,
    valid_to_ms, known_from_ms, known_to_ms, seq FROM memory_relation";

pub(super) fn version(row: &Row) -> Result<RelationVersion> {
    let (from, to) = (Node::parse(get(row, 0)?)?, Node::parse(get(row, 2)?)?);
    let relation = Relation::new(from, get::<String>(row, 1)?, to)
        .with_weight(narrow(get(row, 3)?))
        .valid(ms(row, 4)?, maybe_ms(row, 5)?);
    Ok(RelationVersion {
        relation,
        known_from: ms(row, 6)?,
        known_to: maybe_ms(row, 7)?,
    })
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest> {
    let bytes = bytes
        .try_into()
        .map_err(|_length| Error::corrupt("a digest has another length"))?;
    Ok(Digest::from_bytes(bytes))
}
