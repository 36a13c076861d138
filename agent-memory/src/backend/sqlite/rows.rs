//! The stored form of memories and how it is read.

use agent_core::store::{Tx, sql};
use agent_core::{Principal, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use crate::error::{Error, Result};
use crate::memory::{Change, Kind, Memory, MemoryId, Provenance, Trust, Verb};
use crate::metadata::Metadata;
use crate::namespace::Namespace;
use crate::relation::{Node, Relation, RelationVersion};

pub(super) use crate::backend::stored::{
    actor_of, id_bytes, id_of, kind_of, metadata_of, narrow, trust_of, vector_bytes, vector_of,
};

const MEMORY: &str = "SELECT seq, id, kind, text, metadata, thread, occurred_ms, recorded_ms,
    valid_from_ms, valid_to_ms, superseded_by, actor, channel, trust FROM memory_entry";

/// A row before its texts are parsed, since parsing has errors of its own.
struct Raw {
    seq: i64,
    memory: Memory,
    kind: String,
    metadata: String,
    actor: String,
    trust: i64,
}

fn raw(row: &Row<'_>, at: &Namespace) -> rusqlite::Result<Raw> {
    let ms = Timestamp::from_unix_ms;
    Ok(Raw {
        seq: row.get(0)?,
        kind: row.get(2)?,
        metadata: row.get(4)?,
        actor: row.get(11)?,
        trust: row.get(13)?,
        memory: Memory {
            id: id_of(row.get(1)?),
            namespace: at.clone(),
            kind: Kind::Event,
            text: row.get(3)?,
            metadata: Metadata::new(),
            thread: row.get(5)?,
            occurred_at: ms(row.get(6)?),
            recorded_at: ms(row.get(7)?),
            valid_from: ms(row.get(8)?),
            valid_to: row.get::<_, Option<i64>>(9)?.map(ms),
            superseded_by: row.get::<_, Option<[u8; 16]>>(10)?.map(id_of),
            provenance: Provenance {
                actor: Principal::host(),
                channel: row.get(12)?,
                trust: Trust::default(),
                sources: Vec::new(),
            },
        },
    })
}

fn parsed(tx: &Tx<'_>, raw: Raw) -> Result<Memory> {
    let mut memory = raw.memory;
    memory.kind = kind_of(&raw.kind)?;
    memory.metadata = metadata_of(&raw.metadata)?;
    memory.provenance.actor = actor_of(&raw.actor)?;
    memory.provenance.trust = trust_of(raw.trust)?;
    memory.provenance.sources = tx
        .sql()
        .prepare_cached(
            "SELECT e.id FROM memory_source s JOIN memory_entry e ON e.seq = s.source
             WHERE s.entry = ?1 ORDER BY e.id",
        )
        .and_then(|mut select| {
            select
                .query_map([raw.seq], |row| row.get(0).map(id_of))?
                .collect()
        })
        .map_err(sql("read the sources of a memory"))?;
    Ok(memory)
}

pub(super) fn by_id(
    tx: &Tx<'_>,
    partition: i64,
    at: &Namespace,
    id: MemoryId,
) -> Result<Option<Memory>> {
    tx.sql()
        .prepare_cached(&format!("{MEMORY} WHERE partition = ?1 AND id = ?2"))
        .and_then(|mut select| {
            select
                .query_row(params![partition, id_bytes(id)], |row| raw(row, at))
                .optional()
        })
        .map_err(sql("read a memory"))?
        .map(|raw| parsed(tx, raw))
        .transpose()
}

pub(super) fn by_seq(
    tx: &Tx<'_>,
    partition: i64,
    at: &Namespace,
    seq: i64,
) -> Result<Option<Memory>> {
    tx.sql()
        .prepare_cached(&format!("{MEMORY} WHERE partition = ?1 AND seq = ?2"))
        .and_then(|mut select| {
            select
                .query_row([partition, seq], |row| raw(row, at))
                .optional()
        })
        .map_err(sql("read a memory"))?
        .map(|raw| parsed(tx, raw))
        .transpose()
}

pub(super) fn find_partition(tx: &Tx<'_>, tenant: &str, at: &Namespace) -> Result<Option<i64>> {
    tx.sql()
        .prepare_cached("SELECT id FROM memory_partition WHERE tenant = ?1 AND namespace = ?2")
        .and_then(|mut select| {
            select
                .query_row([tenant, at.as_str()], |row| row.get(0))
                .optional()
        })
        .map_err(sql("find a namespace"))
        .map_err(Error::from)
}

pub(super) fn changes(tx: &Tx<'_>, partition: i64, id: MemoryId) -> Result<Vec<Change>> {
    type Raw = (
        String,
        i64,
        String,
        Option<String>,
        Option<i64>,
        Option<[u8; 16]>,
    );
    let rows: Vec<Raw> = tx
        .sql()
        .prepare_cached(
            "SELECT verb, at_ms, actor, reason, valid_to_ms, successor FROM memory_change
             WHERE id = ?2 AND partition = ?1 ORDER BY seq",
        )
        .and_then(|mut select| {
            select
                .query_map(params![partition, id_bytes(id)], |row| row.try_into())?
                .collect()
        })
        .map_err(sql("read the history of a memory"))?;
    rows.into_iter()
        .map(|(verb, at, actor, reason, valid_to, successor)| {
            Ok(Change {
                verb: Verb::parse(&verb).ok_or(Error::corrupt("a change is unknown"))?,
                at: Timestamp::from_unix_ms(at),
                actor: actor_of(&actor)?,
                reason,
                valid_to: valid_to.map(Timestamp::from_unix_ms),
                successor: successor.map(id_of),
            })
        })
        .collect()
}

/// What [`version`] reads.
pub(super) const VERSION: &str = "SELECT from_node, label, to_node, weight, valid_from_ms,
    valid_to_ms, known_from_ms, known_to_ms FROM memory_relation";

pub(super) fn version(row: &Row<'_>) -> Result<RelationVersion> {
    type Raw = (
        (String, String, String),
        (f64, i64, Option<i64>),
        (i64, Option<i64>),
    );
    let read = || -> rusqlite::Result<Raw> {
        Ok((
            (row.get(0)?, row.get(1)?, row.get(2)?),
            (row.get(3)?, row.get(4)?, row.get(5)?),
            (row.get(6)?, row.get(7)?),
        ))
    };
    let ((from, label, to), (weight, valid_from, valid_to), (known_from, known_to)) =
        read().map_err(sql("read a relation"))?;
    let ms = Timestamp::from_unix_ms;
    let relation = Relation::new(Node::parse(&from)?, label, Node::parse(&to)?)
        .with_weight(narrow(weight))
        .valid(ms(valid_from), valid_to.map(ms));
    Ok(RelationVersion {
        relation,
        known_from: ms(known_from),
        known_to: known_to.map(ms),
    })
}
