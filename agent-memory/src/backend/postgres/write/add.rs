//! Adding within a transaction: all that the drafts point to is looked up at once, and all that
//! they become is written at once, so that a batch takes as many round trips as a single draft.

use std::collections::{BTreeSet, HashMap};

use agent_core::{Digest, Timestamp};

use super::{At, Ids, NewChange};
use crate::backend::postgres::rows::{digest, get, id};
use crate::backend::postgres::session::Session;
use crate::backend::stored::vector_bytes;
use crate::error::{Error, Result};
use crate::index::Quantized;
use crate::memory::{Added, Memory, MemoryId, Provenance, Verb};
use crate::prepare::{Prepared, PreparedDraft};
use crate::validity;

/// An idempotency key that is known: its memory and what it stands for, none once that is erased.
type KnownKey = (MemoryId, Option<Digest>);

/// What the drafts point to.
struct Known {
    keys: HashMap<Digest, KnownKey>,
    seqs: HashMap<MemoryId, i64>,
    records: HashMap<MemoryId, validity::Record>,
}

/// What is to be written.
#[derive(Default)]
struct Batch<'a> {
    changes: Vec<NewChange<'a>>,
    /// The drafts with the places of their changes.
    new: Vec<(usize, &'a PreparedDraft)>,
    ends: Vec<(MemoryId, Timestamp, MemoryId)>,
}

/// An entry with its number, vector and sources.
pub(super) struct NewEntry<'a> {
    pub(super) seq: i64,
    pub(super) memory: Memory,
    pub(super) vector: Option<&'a Quantized>,
    pub(super) sources: BTreeSet<i64>,
}

/// A key with its digest, memory, and what it stands for.
pub(super) type NewKey = (Digest, MemoryId, Option<Digest>);

/// Adds prepared drafts, all or none.
pub(in crate::backend::postgres) async fn add(
    tx: &Session<'_>,
    prepared: &Prepared,
    space: i64,
) -> Result<Vec<Added>> {
    if prepared.drafts.is_empty() {
        return Ok(Vec::new());
    }
    let at = At::make(tx, prepared.actor.as_str(), &prepared.at).await?;
    let mut known = Known::read(&at, &prepared.drafts).await?;
    let mut batch = Batch::default();
    let mut added = Vec::with_capacity(prepared.drafts.len());
    for new in &prepared.drafts {
        added.push(known.place(&at, new, &mut batch)?);
    }
    if !batch.new.is_empty() {
        batch.write(&at, prepared, &known, space).await?;
        at.publish().await?;
    }
    Ok(added)
}

impl Known {
    async fn read(at: &At<'_, '_>, drafts: &[PreparedDraft]) -> Result<Self> {
        let digests: Vec<Digest> = drafts.iter().filter_map(|new| new.key).collect();
        let of = |new: &PreparedDraft| new.draft.sources.clone();
        let sources: Vec<MemoryId> = drafts.iter().flat_map(of).collect();
        let old: Vec<MemoryId> = drafts.iter().filter_map(|d| d.draft.supersedes).collect();
        Ok(Self {
            keys: keys(at, &digests).await?,
            seqs: at.seqs_of(&sources).await?,
            records: at.records(&old).await?,
        })
    }

    /// Decides what becomes of a draft, as if those before it had been written.
    fn place<'a>(
        &mut self,
        at: &At<'a, '_>,
        new: &'a PreparedDraft,
        batch: &mut Batch<'a>,
    ) -> Result<Added> {
        if let Some((id, content)) = new.key.and_then(|key| self.keys.get(&key)) {
            return new.repeated(*id, content.as_ref().map(Digest::as_bytes));
        }
        let draft = &new.draft;
        if let Some(id) = draft.sources.iter().find(|id| !self.seqs.contains_key(id)) {
            return Err(Error::NotFound { id: *id });
        }
        let change = NewChange {
            id: Some(new.id),
            reason: draft.reason.as_deref(),
            valid_to: draft.valid_to,
            ..at.change(Verb::Added.as_str())
        };
        if let Some(id) = draft.supersedes {
            let record = self.records.get_mut(&id).ok_or(Error::NotFound { id })?;
            let valid_to = validity::end(record, new.ending(at.tx.now))?;
            (record.valid_to, record.is_superseded) = (Some(valid_to), true);
            batch.ends.push((id, valid_to, new.id));
            batch.changes.push(NewChange {
                id: Some(id),
                verb: Verb::Superseded.as_str(),
                valid_to: Some(valid_to),
                successor: Some(new.id),
                ..change
            });
        }
        if let Some(key) = new.key {
            self.keys.insert(key, (new.id, Some(new.content)));
        }
        batch.new.push((batch.changes.len(), new));
        batch.changes.push(change);
        Ok(Added {
            id: new.id,
            is_new: true,
        })
    }
}

/// What keys stand for already.
async fn keys(at: &At<'_, '_>, digests: &[Digest]) -> Result<HashMap<Digest, KnownKey>> {
    if digests.is_empty() {
        return Ok(HashMap::new());
    }
    let bytes: Vec<&[u8]> = digests.iter().map(|d| d.as_bytes().as_slice()).collect();
    let rows = at
        .tx
        .rows(
            "look up idempotency keys",
            "SELECT digest, id, content FROM memory_key WHERE partition = $1 AND digest = ANY($2)",
            &[&at.partition, &bytes],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let content: Option<&[u8]> = get(row, 2)?;
            let content = content.map(digest).transpose()?;
            Ok((digest(get(row, 0)?)?, (id(row, 1)?, content)))
        })
        .collect()
}

impl Batch<'_> {
    async fn write(
        &self,
        at: &At<'_, '_>,
        prepared: &Prepared,
        known: &Known,
        space: i64,
    ) -> Result<()> {
        for (id, valid_to, successor) in &self.ends {
            at.end(*id, *valid_to, Some(*successor)).await?;
        }
        let seqs = at.record(&self.changes).await?;
        let mut entries = Vec::with_capacity(self.new.len());
        for (place, new) in &self.new {
            let seq = seqs.get(*place).copied();
            let of = |id| known.seqs.get(id).copied();
            entries.push(NewEntry {
                seq: seq.ok_or(Error::corrupt("a change has no number"))?,
                memory: memory(prepared, new, at.tx.now),
                vector: new.vector.as_ref(),
                sources: new.draft.sources.iter().filter_map(of).collect(),
            });
        }
        let keys = self.new.iter().filter_map(|(_, new)| {
            let key = new.key?;
            Some((key, new.id, Some(new.content)))
        });
        insert(at, space, &entries).await?;
        insert_keys(at, &keys.collect::<Vec<_>>()).await
    }
}

fn memory(prepared: &Prepared, new: &PreparedDraft, now: Timestamp) -> Memory {
    let (draft, times) = (&new.draft, new.times(now));
    Memory {
        id: new.id,
        namespace: prepared.at.clone(),
        kind: draft.kind,
        text: draft.text.clone(),
        metadata: draft.metadata.clone(),
        thread: draft.thread.clone(),
        occurred_at: times.occurred_at,
        recorded_at: now,
        valid_from: times.valid_from,
        valid_to: draft.valid_to,
        superseded_by: None,
        provenance: Provenance {
            actor: prepared.actor.clone(),
            channel: draft.channel.clone(),
            trust: draft.trust,
            sources: draft.sources.clone(),
        },
    }
}

/// The columns of entries.
struct Columns<'a> {
    seqs: Vec<i64>,
    ids: Ids,
    kinds: Vec<&'a str>,
    texts: Vec<&'a [u8]>,
    metadata: Vec<String>,
    threads: Vec<Option<&'a str>>,
    /// Occurred, recorded, valid from.
    times: [Vec<i64>; 3],
    ends: Vec<Option<i64>>,
    successors: Ids,
    actors: Vec<&'a str>,
    channels: Vec<Option<&'a str>>,
    trust: Vec<i64>,
    spaces: Vec<Option<i64>>,
    scales: Vec<Option<f64>>,
    vectors: Vec<Option<Vec<u8>>>,
}

impl<'a> Columns<'a> {
    fn of(entries: &'a [NewEntry<'_>], space: i64) -> Result<Self> {
        let memories = || entries.iter().map(|entry| &entry.memory);
        let json = |memory: &Memory| {
            serde_json::to_string(&memory.metadata)
                .map_err(|e| Error::invalid("metadata", e.to_string()))
        };
        let times = |of: fn(&Memory) -> Timestamp| memories().map(|m| of(m).as_unix_ms()).collect();
        let vectors = || entries.iter().map(|entry| entry.vector);
        Ok(Self {
            seqs: entries.iter().map(|entry| entry.seq).collect(),
            ids: Ids::of(memories().map(|memory| Some(memory.id))),
            kinds: memories().map(|memory| memory.kind.as_str()).collect(),
            texts: memories().map(|memory| memory.text.as_bytes()).collect(),
            metadata: memories().map(json).collect::<Result<_>>()?,
            threads: memories().map(|memory| memory.thread.as_deref()).collect(),
            times: [
                times(|memory| memory.occurred_at),
                times(|memory| memory.recorded_at),
                times(|memory| memory.valid_from),
            ],
            ends: memories()
                .map(|memory| memory.valid_to.map(Timestamp::as_unix_ms))
                .collect(),
            successors: Ids::of(memories().map(|memory| memory.superseded_by)),
            actors: memories().map(|m| m.provenance.actor.as_str()).collect(),
            channels: memories()
                .map(|memory| memory.provenance.channel.as_deref())
                .collect(),
            trust: memories().map(|m| m.provenance.trust.rank()).collect(),
            spaces: vectors().map(|vector| vector.map(|_| space)).collect(),
            scales: vectors()
                .map(|vector| vector.map(|vector| f64::from(vector.scale)))
                .collect(),
            vectors: vectors().map(|vector| vector.map(vector_bytes)).collect(),
        })
    }
}

/// Writes entries and their sources.
pub(super) async fn insert(at: &At<'_, '_>, space: i64, entries: &[NewEntry<'_>]) -> Result<()> {
    let columns = Columns::of(entries, space)?;
    let [occurred, recorded, valid_from] = &columns.times;
    at.run(
        "INSERT INTO memory_entry (partition, seq, id, kind, text, metadata, thread, occurred_ms,
             recorded_ms, valid_from_ms, valid_to_ms, superseded_by, actor, channel, trust, space,
             scale, vector)
         SELECT $1, * FROM unnest($2::bigint[], $3::bytea[], $4::text[], $5::bytea[], $6::text[],
             $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[],
             $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::double precision[],
             $18::bytea[])",
        &[
            &at.partition,
            &columns.seqs,
            &columns.ids.slices(),
            &columns.kinds,
            &columns.texts,
            &columns.metadata,
            &columns.threads,
            occurred,
            recorded,
            valid_from,
            &columns.ends,
            &columns.successors.slices(),
            &columns.actors,
            &columns.channels,
            &columns.trust,
            &columns.spaces,
            &columns.scales,
            &columns.vectors,
        ],
    )
    .await?;
    let pairs = entries
        .iter()
        .flat_map(|entry| entry.sources.iter().map(|source| (entry.seq, *source)));
    let (of, sources): (Vec<i64>, Vec<i64>) = pairs.unzip();
    if sources.is_empty() {
        return Ok(());
    }
    at.run(
        "INSERT INTO memory_source (partition, entry, source)
         SELECT $1, * FROM unnest($2::bigint[], $3::bigint[])",
        &[&at.partition, &of, &sources],
    )
    .await?;
    Ok(())
}

/// Writes keys; one that is there already keeps its meaning.
pub(super) async fn insert_keys(at: &At<'_, '_>, keys: &[NewKey]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let ids = Ids::of(keys.iter().map(|(_, id, _)| Some(*id)));
    let digests: Vec<&[u8]> = keys.iter().map(|key| key.0.as_bytes().as_slice()).collect();
    let contents: Vec<Option<&[u8]>> = keys
        .iter()
        .map(|(_, _, content)| content.as_ref().map(|digest| digest.as_bytes().as_slice()))
        .collect();
    at.run(
        "INSERT INTO memory_key (partition, digest, id, content)
         SELECT $1, * FROM unnest($2::bytea[], $3::bytea[], $4::bytea[])
         ON CONFLICT (partition, digest) DO NOTHING",
        &[&at.partition, &digests, &ids.slices(), &contents],
    )
    .await?;
    Ok(())
}
