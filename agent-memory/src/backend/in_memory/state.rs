//! One namespace in main memory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use agent_core::{Digest, Timestamp};

use crate::error::{Error, Result};
use crate::index::{NewRow, Partition, Quantized};
use crate::memory::{Added, Change, Memory, MemoryId, Provenance, Selection, Verb};
use crate::metadata::label;
use crate::prepare::{Prepared, PreparedDraft};
use crate::relation::{Node, Relation, RelationVersion};
use crate::validity;

/// One namespace.
pub(super) struct State {
    pub(super) index: Partition,
    pub(super) memories: BTreeMap<MemoryId, Memory>,
    /// By digest of the key: the memory and the digest of its draft, none once it is erased.
    pub(super) keys: BTreeMap<Digest, (MemoryId, Option<Digest>)>,
    /// The keys of each memory that has one.
    pub(super) keys_of: BTreeMap<MemoryId, Vec<Digest>>,
    pub(super) changes: BTreeMap<MemoryId, Vec<Change>>,
    pub(super) vectors: BTreeMap<MemoryId, Quantized>,
    /// The memories in the order they were added, and those erased in the order they went.
    pub(super) order: BTreeMap<i64, MemoryId>,
    pub(super) erased: BTreeMap<i64, MemoryId>,
    pub(super) last_seq: i64,
}

impl State {
    pub(super) const fn new(index: Partition) -> Self {
        Self {
            index,
            memories: BTreeMap::new(),
            keys: BTreeMap::new(),
            keys_of: BTreeMap::new(),
            changes: BTreeMap::new(),
            vectors: BTreeMap::new(),
            order: BTreeMap::new(),
            erased: BTreeMap::new(),
            last_seq: 0,
        }
    }

    /// Checks what the drafts point to, before anything is changed. Returns the known answers.
    pub(super) fn known(&self, prepared: &Prepared, now: Timestamp) -> Result<Vec<Option<Added>>> {
        let mut seen: BTreeMap<Digest, (MemoryId, Digest)> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        let mut known = Vec::with_capacity(prepared.drafts.len());
        for new in &prepared.drafts {
            let by_key = new.key.as_ref().and_then(|key| {
                let here = seen.get(key).map(|(id, content)| (*id, Some(*content)));
                here.or_else(|| self.keys.get(key).copied())
            });
            if let Some((id, content)) = by_key {
                let content = content.as_ref().map(Digest::as_bytes);
                known.push(Some(new.repeated(id, content)?));
                continue;
            }
            for id in &new.draft.sources {
                if !self.memories.contains_key(id) {
                    return Err(Error::NotFound { id: *id });
                }
            }
            if let Some(old) = new.draft.supersedes {
                self.end(old, new.ending(now))?;
                if !ended.insert(old) {
                    return Err(Error::Retired { id: old });
                }
            }
            if let Some(key) = new.key {
                seen.insert(key, (new.id, new.content));
            }
            known.push(None);
        }
        Ok(known)
    }

    /// Returns when the record's validity would end.
    pub(super) fn end(&self, id: MemoryId, asked: validity::Asked<'_>) -> Result<Timestamp> {
        let memory = self.memories.get(&id).ok_or(Error::NotFound { id })?;
        let record = validity::Record {
            id,
            kind: memory.kind,
            valid_from: memory.valid_from,
            valid_to: memory.valid_to,
            is_superseded: memory.superseded_by.is_some(),
            labels: memory.metadata.clone(),
        };
        validity::end(&record, asked)
    }

    pub(super) fn insert(
        &mut self,
        prepared: &Prepared,
        new: &PreparedDraft,
        now: Timestamp,
    ) -> Result<()> {
        let (draft, times) = (&new.draft, new.times(now));
        let change = Change {
            verb: Verb::Added,
            at: now,
            actor: prepared.actor.clone(),
            reason: draft.reason.clone(),
            valid_to: draft.valid_to,
            successor: None,
        };
        if let Some(old) = draft.supersedes {
            let valid_to = self.end(old, new.ending(now))?;
            let change = Change {
                verb: Verb::Superseded,
                valid_to: Some(valid_to),
                successor: Some(new.id),
                ..change.clone()
            };
            self.end_validity(old, change);
        }
        let sources: BTreeSet<MemoryId> = draft.sources.iter().copied().collect();
        let memory = Memory {
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
                sources: sources.into_iter().collect(),
            },
        };
        if let Some(key) = new.key {
            self.learn(key, new.id, Some(new.content));
        }
        self.place(memory, new.vector.as_ref());
        self.changes.entry(new.id).or_default().push(change);
        Ok(())
    }

    /// Notes what a key stands for; one that is known keeps its meaning.
    pub(super) fn learn(&mut self, key: Digest, id: MemoryId, content: Option<Digest>) {
        if let Entry::Vacant(place) = self.keys.entry(key) {
            place.insert((id, content));
            self.keys_of.entry(id).or_default().push(key);
        }
    }

    /// Puts a memory behind all others.
    pub(super) fn place(&mut self, memory: Memory, vector: Option<&Quantized>) {
        self.last_seq += 1;
        self.index.insert(NewRow {
            id: memory.id,
            seq: self.last_seq,
            kind: memory.kind,
            text: &memory.text,
            metadata: memory.metadata.clone(),
            thread: memory.thread.as_deref(),
            trust: memory.provenance.trust,
            occurred_at: memory.occurred_at,
            recorded_at: memory.recorded_at,
            valid_from: memory.valid_from,
            valid_to: memory.valid_to,
            vector,
            former: None,
        });
        self.vectors
            .extend(vector.map(|vector| (memory.id, vector.clone())));
        self.order.insert(self.last_seq, memory.id);
        self.memories.insert(memory.id, memory);
    }

    pub(super) fn end_validity(&mut self, id: MemoryId, change: Change) {
        if let Some(memory) = self.memories.get_mut(&id) {
            let first = memory.valid_to;
            memory.valid_to = change.valid_to;
            memory.superseded_by = change.successor.or(memory.superseded_by);
            self.index.retire(id, first, change.valid_to, change.at);
        }
        self.changes.entry(id).or_default().push(change);
    }

    pub(super) fn is_held(&self, id: MemoryId) -> bool {
        let memory = self.memories.get(&id);
        memory.is_some_and(|memory| label::is_set(&memory.metadata, label::HOLD))
    }

    /// The selected memories and all that were derived from one of them, directly or not.
    pub(super) fn selected(&self, what: &Selection) -> BTreeSet<MemoryId> {
        let mut pending = match what {
            Selection::Ids(ids) => ids.clone(),
            Selection::Entity(name) => self.index.related(&Node::entity(name.as_str())),
            Selection::All => self.memories.keys().copied().collect(),
        };
        let mut derived: BTreeMap<MemoryId, Vec<MemoryId>> = BTreeMap::new();
        for memory in self.memories.values() {
            for source in &memory.provenance.sources {
                derived.entry(*source).or_default().push(memory.id);
            }
        }
        let mut all = BTreeSet::new();
        while let Some(id) = pending.pop() {
            if self.memories.contains_key(&id) && all.insert(id) {
                pending.extend(derived.get(&id).into_iter().flatten());
            }
        }
        all
    }

    pub(super) fn erase(&mut self, ids: &BTreeSet<MemoryId>, change: &Change) -> usize {
        for digest in ids.iter().filter_map(|id| self.keys_of.get(id)).flatten() {
            if let Some((_, content)) = self.keys.get_mut(digest) {
                *content = None;
            }
        }
        for (id, changes) in &mut self.changes {
            for old in changes.iter_mut() {
                if ids.contains(id) || old.successor.is_some_and(|s| ids.contains(&s)) {
                    old.reason = None;
                }
            }
            if ids.contains(id) {
                changes.push(change.clone());
            }
        }
        let mut n_relations = 0;
        self.order.retain(|_seq, id| !ids.contains(id));
        for id in ids {
            self.last_seq += 1;
            self.erased.insert(self.last_seq, *id);
            self.vectors.remove(id);
            self.memories.remove(id);
            n_relations += self.index.remove_node(&Node::Memory(*id));
        }
        let ids: Vec<MemoryId> = ids.iter().copied().collect();
        self.index.erase_all(&ids);
        n_relations
    }
    /// The memory as it was known then.
    pub(super) fn as_known(&self, id: MemoryId, known: Option<Timestamp>) -> Option<Memory> {
        let memory = self.memories.get(&id)?.clone();
        let changes = self.changes.get(&id).map_or(&[][..], Vec::as_slice);
        validity::as_known(memory, changes, known)
    }

    /// Adds relations, all or none.
    pub(super) fn relate(&mut self, relations: Vec<Relation>, now: Timestamp) -> Result<()> {
        let mut new: Vec<Relation> = Vec::new();
        for relation in relations {
            for node in [&relation.from, &relation.to] {
                match node {
                    Node::Memory(id) if !self.memories.contains_key(id) => {
                        return Err(Error::NotFound { id: *id });
                    }
                    _ => {}
                }
            }
            let here: Vec<&Relation> = new
                .iter()
                .filter(|other| other.is_same(&relation))
                .collect();
            let mut known = self.index.known_relations(&relation);
            known.retain(|old| here.iter().all(|new| new.valid_from != old.valid_from));
            for (n, version) in here.iter().enumerate() {
                let mut later = here.iter().skip(n + 1);
                if later.all(|later| later.valid_from != version.valid_from) {
                    known.push((*version).clone());
                }
            }
            new.extend(relation.resolved(&known, now)?);
        }
        for relation in new {
            self.index.relate(&RelationVersion {
                relation,
                known_from: now,
                known_to: None,
            });
        }
        Ok(())
    }
}
