//! The derived index of each namespace in main memory, brought up to the tables: everything with a
//! higher number than the last one it has seen. Writes of this process, of others, and the first
//! load all arrive this way.

use std::collections::HashMap;
use std::sync::Arc;

use agent_core::{Embedder, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio_postgres::Row;

use super::fault;
use super::rows::{VERSION, get, id, maybe_ms, ms, text, verb, version};
use super::session::{Found, Session};
use crate::backend::stored::{kind_of, metadata_of, trust_of, vector_of};
use crate::error::{Error, Result};
use crate::index::{Limits, NewRow, Partition, Quantized};
use crate::memory::{Kind, MemoryId, Trust, Verb};
use crate::metadata::Metadata;
use crate::relation::RelationVersion;

/// A change that makes every index of the namespace start over.
pub(super) const RESET: &str = "reset";
/// Rows that are loaded at a time.
const PAGE: usize = 4_096;

/// The derived indexes by namespace.
pub(super) struct Indexes {
    pub(super) limits: Limits,
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) space: i64,
    pub(super) former: Option<(Arc<dyn Embedder>, i64)>,
    by_partition: Mutex<HashMap<i64, Arc<Cell>>>,
}

/// The index of one namespace.
pub(super) struct Cell {
    /// Held by the one who catches up.
    turn: tokio::sync::Mutex<()>,
    pub(super) index: RwLock<Partition>,
}

impl Indexes {
    pub(super) fn new(
        limits: Limits,
        (embedder, space): (Arc<dyn Embedder>, i64),
        former: Option<(Arc<dyn Embedder>, i64)>,
    ) -> Self {
        Self {
            limits,
            embedder,
            space,
            former,
            by_partition: Mutex::default(),
        }
    }

    fn fresh(&self) -> Partition {
        let former = self.former.as_ref().map(|(embedder, _)| embedder.as_ref());
        Partition::new(self.limits, self.embedder.as_ref(), former)
    }

    fn cell(&self, partition: i64) -> Arc<Cell> {
        let mut cells = self.by_partition.lock();
        let cell = cells.entry(partition).or_insert_with(|| {
            Arc::new(Cell {
                turn: tokio::sync::Mutex::new(()),
                index: RwLock::new(self.fresh()),
            })
        });
        Arc::clone(cell)
    }

    /// The index as of the snapshot of `tx`, or a later one.
    pub(super) async fn current(&self, tx: &Session<'_>, found: Found) -> Result<Arc<Cell>> {
        let cell = self.cell(found.partition);
        if found.last_seq <= cell.index.read().last_seq() {
            return Ok(cell);
        }
        let turn = cell.turn.lock().await;
        let (since, is_stale) = {
            let index = cell.index.read();
            (index.last_seq(), index.is_stale())
        };
        if since < found.last_seq {
            let is_fresh = since == 0 || is_stale || is_reset(tx, found.partition, since).await?;
            let fresh = is_fresh.then(|| self.fresh());
            let since = if is_fresh { 0 } else { since };
            self.apply(tx, found, since, fresh, Arc::clone(&cell))
                .await?;
        }
        drop(turn);
        Ok(cell)
    }

    /// Reads all that is to be applied before any of it is: a half-applied index would be a second
    /// truth. A fresh index is filled page by page instead, since nobody sees it before it is whole.
    async fn apply(
        &self,
        tx: &Session<'_>,
        found: Found,
        since: i64,
        mut fresh: Option<Partition>,
        cell: Arc<Cell>,
    ) -> Result<()> {
        let former = self.former.as_ref().map(|(_, space)| *space);
        let spaces = (self.space, former);
        let mut entries = Vec::new();
        let mut after = since;
        loop {
            let page = page(tx, found.partition, after, spaces).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map_or(after, |entry| entry.seq);
            match fresh.take() {
                Some(mut index) => {
                    let load = move || {
                        page.iter().for_each(|entry| index.insert(entry.row()));
                        index
                    };
                    fresh = Some(blocking(load).await?);
                }
                None => entries.extend(page),
            }
            if is_last {
                break;
            }
        }
        let embeddings = embeddings(tx, found.partition, since, self.space).await?;
        let relations = relations(tx, found.partition, since).await?;
        let changes = changes(tx, found.partition, since).await?;
        blocking(move || {
            let mut index = cell.index.write();
            if let Some(fresh) = fresh {
                *index = fresh;
            }
            entries.iter().for_each(|entry| index.insert(entry.row()));
            for (id, vector) in &embeddings {
                index.embed_again(*id, vector.as_ref());
            }
            index.drop_empty_former();
            relations.iter().for_each(|version| index.relate(version));
            let erased = changes.iter().filter(|c| matches!(c.what, What::Erased));
            let erased: Vec<MemoryId> = erased.map(|change| change.id).collect();
            for change in changes {
                change.apply(&mut index);
            }
            index.erase_all(&erased);
            index.seen(found.last_seq);
        })
        .await
    }
}

/// Runs what takes long on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|ended| fault::internal("use an index", ended))
}

async fn is_reset(tx: &Session<'_>, partition: i64, since: i64) -> Result<bool> {
    let rows = tx
        .rows(
            "look for a reset of a namespace",
            "SELECT EXISTS (SELECT 1 FROM memory_change
             WHERE partition = $1 AND seq > $2 AND verb = $3)",
            &[&partition, &since, &RESET],
        )
        .await?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

/// What the index takes of a memory, as it was read.
struct Entry {
    seq: i64,
    id: MemoryId,
    kind: Kind,
    text: String,
    metadata: Metadata,
    thread: Option<String>,
    trust: Trust,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    valid_from: Timestamp,
    valid_to: Option<Timestamp>,
    vector: Option<Quantized>,
    is_of_former: bool,
}

impl Entry {
    fn read(row: &Row) -> Result<Self> {
        let scale: Option<f64> = get(row, 11)?;
        let vector: Option<&[u8]> = get(row, 12)?;
        Ok(Self {
            seq: get(row, 0)?,
            id: id(row, 1)?,
            kind: kind_of(get(row, 2)?)?,
            text: text(get(row, 3)?)?.to_owned(),
            metadata: metadata_of(get(row, 4)?)?,
            thread: get(row, 5)?,
            trust: trust_of(get(row, 6)?)?,
            occurred_at: ms(row, 7)?,
            recorded_at: ms(row, 8)?,
            valid_from: ms(row, 9)?,
            valid_to: maybe_ms(row, 10)?,
            vector: vector
                .zip(scale)
                .map(|(bytes, scale)| vector_of(bytes, scale)),
            is_of_former: get(row, 13)?,
        })
    }

    fn row(&self) -> NewRow<'_> {
        NewRow {
            id: self.id,
            seq: self.seq,
            kind: self.kind,
            text: &self.text,
            metadata: self.metadata.clone(),
            thread: self.thread.as_deref(),
            trust: self.trust,
            occurred_at: self.occurred_at,
            recorded_at: self.recorded_at,
            valid_from: self.valid_from,
            valid_to: self.valid_to,
            vector: self.vector.as_ref().filter(|_| !self.is_of_former),
            former: self.vector.as_ref().filter(|_| self.is_of_former),
        }
    }
}

/// `spaces` are those of the present and the former embedder.
async fn page(
    tx: &Session<'_>,
    partition: i64,
    after: i64,
    (space, former): (i64, Option<i64>),
) -> Result<Vec<Entry>> {
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
    let rows = tx
        .rows(
            "load a namespace",
            "SELECT seq, id, kind, text, metadata, thread, trust, occurred_ms, recorded_ms,
                 valid_from_ms, valid_to_ms, scale,
                 CASE WHEN space = $3 OR space = $5 THEN vector END, coalesce(space = $5, false)
             FROM memory_entry WHERE partition = $1 AND seq > $2 ORDER BY seq LIMIT $4",
            &[&partition, &after, &space, &limit, &former],
        )
        .await?;
    rows.iter().map(Entry::read).collect()
}

/// Vectors of entries the index has seen that were embedded again since.
async fn embeddings(
    tx: &Session<'_>,
    partition: i64,
    since: i64,
    space: i64,
) -> Result<Vec<(MemoryId, Option<Quantized>)>> {
    let rows = tx
        .rows(
            "load vectors",
            "SELECT id, scale, CASE WHEN space = $3 THEN vector END FROM memory_entry
             WHERE partition = $1 AND embedded_seq > $2 AND seq <= $2",
            &[&partition, &since, &space],
        )
        .await?;
    let read = |row: &Row| {
        let (scale, bytes): (Option<f64>, Option<&[u8]>) = (get(row, 1)?, get(row, 2)?);
        let vector = bytes.zip(scale);
        Ok((
            id(row, 0)?,
            vector.map(|(bytes, scale)| vector_of(bytes, scale)),
        ))
    };
    rows.iter().map(read).collect()
}

async fn relations(tx: &Session<'_>, partition: i64, since: i64) -> Result<Vec<RelationVersion>> {
    let statement = format!("{VERSION} WHERE partition = $1 AND seq > $2 ORDER BY seq");
    let rows = tx
        .rows("load relations", &statement, &[&partition, &since])
        .await?;
    rows.iter().map(version).collect()
}

/// What happened to a memory after it was added.
struct Changed {
    id: MemoryId,
    what: What,
}

enum What {
    Erased,
    Ended {
        first: Option<Timestamp>,
        valid_to: Option<Timestamp>,
        at: Timestamp,
    },
    /// None if it has been erased since.
    Labeled(Option<Metadata>),
}

impl Changed {
    fn read(row: &Row) -> Result<Self> {
        let what = match verb(get(row, 1)?)? {
            Verb::Erased => What::Erased,
            Verb::Retired | Verb::Superseded => What::Ended {
                valid_to: maybe_ms(row, 2)?,
                at: ms(row, 3)?,
                first: maybe_ms(row, 5)?,
            },
            Verb::Labeled => {
                let labels: Option<&str> = get(row, 4)?;
                What::Labeled(labels.map(metadata_of).transpose()?)
            }
            Verb::Added => return Err(Error::corrupt("a change is unknown")),
        };
        Ok(Self {
            id: id(row, 0)?,
            what,
        })
    }

    /// Erasures are left to be applied together.
    fn apply(self, index: &mut Partition) {
        match self.what {
            What::Ended {
                first,
                valid_to,
                at,
            } => index.retire(self.id, first, valid_to, at),
            What::Labeled(Some(labels)) => index.relabel(self.id, labels),
            What::Labeled(None) | What::Erased => {}
        }
    }
}

async fn changes(tx: &Session<'_>, partition: i64, since: i64) -> Result<Vec<Changed>> {
    let rows = tx
        .rows(
            "load changes",
            "SELECT c.id, c.verb, c.valid_to_ms, c.at_ms, e.metadata, first.valid_to_ms
             FROM memory_change c
             LEFT JOIN memory_entry e ON e.partition = c.partition AND e.id = c.id
             LEFT JOIN memory_change first ON first.seq = e.seq
             WHERE c.partition = $1 AND c.seq > $2 AND c.verb <> 'added' AND c.id IS NOT NULL
             ORDER BY c.seq",
            &[&partition, &since],
        )
        .await?;
    rows.iter().map(Changed::read).collect()
}
