//! Memories in main memory, for tests and for agents that keep nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use agent_core::{Digest, Embedder, Env, Scope, Timestamp};
use async_trait::async_trait;
use parking_lot::RwLock;

use crate::error::{Error, Result};
use crate::index::{Limits, NewRow, Partition, Plan, Scored};
use crate::memory::{Added, Change, Draft, Memory, MemoryId, Provenance, Receipt, Selection, Verb};
use crate::metadata::{Relabel, label, relabel};
use crate::namespace::{Namespace, tenant};
use crate::prepare::{Prepared, PreparedDraft, check_reason, embed, prepare};
use crate::query::{Hit, Listing, Query};
use crate::relation::{Node, Path, Relation, Walk};
use crate::store::MemoryStore;
use crate::terms::query_words;
use crate::validity;

/// Memories that end with the process. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct InMemory {
    env: Env,
    embedder: Arc<dyn Embedder>,
    partitions: Arc<RwLock<BTreeMap<Place, State>>>,
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemory")
            .field("embedder", &self.embedder)
            .finish_non_exhaustive()
    }
}

/// A tenant and a namespace of it.
type Place = (Arc<str>, Namespace);

/// One namespace.
struct State {
    index: Partition,
    memories: BTreeMap<MemoryId, Memory>,
    /// By digest of the key: the memory and the digest of its draft, none once it is erased.
    keys: BTreeMap<Digest, (MemoryId, Option<Digest>)>,
    changes: BTreeMap<MemoryId, Vec<Change>>,
    last_seq: i64,
}

impl InMemory {
    /// Creates an empty store.
    #[must_use]
    pub fn new(env: Env, embedder: Arc<dyn Embedder>) -> Self {
        Self {
            env,
            embedder,
            partitions: Arc::default(),
        }
    }

    fn check(&self, scope: &Scope, at: Namespace) -> Result<Place> {
        scope
            .check(self.env.clock.as_ref())
            .map_err(Error::stopped)?;
        Ok((tenant(scope)?, at))
    }

    fn limits() -> Limits {
        Limits {
            postings_max: usize::MAX,
            exact_max: usize::MAX,
        }
    }

    fn empty(&self) -> State {
        State {
            index: Partition::new(Self::limits(), self.embedder.as_ref()),
            memories: BTreeMap::new(),
            keys: BTreeMap::new(),
            changes: BTreeMap::new(),
            last_seq: 0,
        }
    }
}

impl State {
    /// Checks what the drafts point to, before anything is changed. Returns the known answers.
    fn known(&self, prepared: &Prepared, now: Timestamp) -> Result<Vec<Option<Added>>> {
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
    fn end(&self, id: MemoryId, asked: validity::Asked) -> Result<Timestamp> {
        let memory = self.memories.get(&id).ok_or(Error::NotFound { id })?;
        let record = validity::Record {
            id,
            kind: memory.kind,
            valid_from: memory.valid_from,
            valid_to: memory.valid_to,
            is_superseded: memory.superseded_by.is_some(),
        };
        validity::end(&record, asked)
    }

    fn insert(&mut self, prepared: &Prepared, new: &PreparedDraft, now: Timestamp) -> Result<()> {
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
        self.last_seq += 1;
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
        self.index.insert(NewRow {
            id: new.id,
            seq: self.last_seq,
            kind: memory.kind,
            text: &memory.text,
            metadata: memory.metadata.clone(),
            thread: memory.thread.as_deref(),
            trust: draft.trust,
            occurred_at: times.occurred_at,
            valid_from: times.valid_from,
            valid_to: draft.valid_to,
            vector: new.vector.as_ref(),
        });
        if let Some(key) = new.key {
            self.keys.insert(key, (new.id, Some(new.content)));
        }
        self.memories.insert(new.id, memory);
        self.changes.entry(new.id).or_default().push(change);
        Ok(())
    }

    fn end_validity(&mut self, id: MemoryId, change: Change) {
        if let Some(memory) = self.memories.get_mut(&id) {
            memory.valid_to = change.valid_to;
            memory.superseded_by = change.successor;
        }
        self.index.retire(id, change.valid_to);
        self.changes.entry(id).or_default().push(change);
    }

    fn is_held(&self, id: MemoryId) -> bool {
        let memory = self.memories.get(&id);
        memory.is_some_and(|memory| label::is_set(&memory.metadata, label::HOLD))
    }

    /// The selected memories and all that were derived from one of them, directly or not.
    fn selected(&self, what: &Selection) -> BTreeSet<MemoryId> {
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

    fn erase(&mut self, ids: &BTreeSet<MemoryId>, change: &Change) -> usize {
        for (of, content) in self.keys.values_mut() {
            if ids.contains(of) {
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
        for id in ids {
            self.memories.remove(id);
            n_relations += self.index.remove_node(&Node::Memory(*id));
            self.index.erase(*id);
        }
        n_relations
    }
}

#[async_trait]
impl MemoryStore for InMemory {
    async fn add(&self, scope: &Scope, at: Namespace, drafts: Vec<Draft>) -> Result<Vec<Added>> {
        let prepared = prepare(&self.env, self.embedder.as_ref(), scope, at, drafts).await?;
        let now = self.env.clock.now();
        let place = (Arc::clone(&prepared.tenant), prepared.at.clone());
        let mut partitions = self.partitions.write();
        let state = partitions.entry(place).or_insert_with(|| self.empty());
        let known = state.known(&prepared, now)?;
        let mut added = Vec::with_capacity(known.len());
        for (known, new) in known.into_iter().zip(&prepared.drafts) {
            if known.is_none() {
                state.insert(&prepared, new, now)?;
            }
            added.push(known.unwrap_or(Added {
                id: new.id,
                is_new: true,
            }));
        }
        Ok(added)
    }

    async fn get(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Memory> {
        let place = self.check(scope, at)?;
        let partitions = self.partitions.read();
        let memory = partitions.get(&place).and_then(|s| s.memories.get(&id));
        memory.cloned().ok_or(Error::NotFound { id })
    }

    async fn search(&self, scope: &Scope, query: Query) -> Result<Vec<Hit>> {
        query.check()?;
        let places = query
            .namespaces
            .iter()
            .map(|at| self.check(scope, at.clone()))
            .collect::<Result<Vec<_>>>()?;
        if query_words(&query.text).is_empty() {
            return Ok(Vec::new());
        }
        let texts = [query.text.clone()];
        let vectors = embed(&self.env, self.embedder.as_ref(), scope, &texts).await?;
        let plan = Plan {
            text: &query.text,
            vector: vectors.first().and_then(Option::as_ref),
            filter: &query.filter,
            weights: &query.weights,
            limit: query.limit,
            now: self.env.clock.now(),
            is_with_retired: query.is_with_retired,
            is_with_quarantined: query.is_with_quarantined,
            words: None,
        };
        let partitions = self.partitions.read();
        let mut found: Vec<(Scored, &Memory)> = Vec::new();
        for state in places.iter().filter_map(|place| partitions.get(place)) {
            let scored = state.index.search(&plan).into_iter();
            found.extend(scored.filter_map(|s| Some((s, state.memories.get(&s.id)?))));
        }
        found.sort_by(|a, b| a.0.order(&b.0));
        found.truncate(query.limit);
        let hit = |(scored, memory): (Scored, &Memory)| Hit {
            memory: memory.clone(),
            score: scored.score,
            explanation: scored.explanation,
        };
        Ok(found.into_iter().map(hit).collect())
    }

    async fn retire(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        valid_to: Timestamp,
        reason: String,
    ) -> Result<()> {
        let place = self.check(scope, at)?;
        check_reason(&reason)?;
        let mut partitions = self.partitions.write();
        let state = partitions.get_mut(&place).ok_or(Error::NotFound { id })?;
        let asked = validity::Asked {
            verb: Verb::Retired,
            valid_to,
            successor_to: None,
        };
        let valid_to = state.end(id, asked)?;
        let change = Change {
            verb: Verb::Retired,
            at: self.env.clock.now(),
            actor: scope.actor.clone(),
            reason: Some(reason),
            valid_to: Some(valid_to),
            successor: None,
        };
        state.end_validity(id, change);
        Ok(())
    }

    async fn forget(
        &self,
        scope: &Scope,
        at: Namespace,
        what: Selection,
        reason: String,
    ) -> Result<Receipt> {
        let place = self.check(scope, at)?;
        check_reason(&reason)?;
        what.check()?;
        let mut receipt = Receipt {
            erased: Vec::new(),
            n_relations: 0,
            is_scrubbed: true,
        };
        let mut partitions = self.partitions.write();
        let Some(state) = partitions.get_mut(&place) else {
            return Ok(receipt);
        };
        let change = Change {
            verb: Verb::Erased,
            at: self.env.clock.now(),
            actor: scope.actor.clone(),
            reason: Some(reason),
            valid_to: None,
            successor: None,
        };
        let selected = state.selected(&what);
        if let Some(id) = selected.iter().find(|id| state.is_held(**id)) {
            return Err(Error::Held { id: *id });
        }
        receipt.n_relations = state.erase(&selected, &change);
        receipt.erased = selected.into_iter().collect();
        match what {
            Selection::Ids(_) => {}
            Selection::Entity(name) => {
                receipt.n_relations += state.index.remove_node(&Node::entity(name));
            }
            Selection::All => receipt.n_relations += state.index.remove_relations(),
        }
        if state.index.is_empty() {
            // The rows of erased memories keep their place until nothing is left.
            state.index = Partition::new(Self::limits(), self.embedder.as_ref());
        }
        Ok(receipt)
    }

    async fn relate(&self, scope: &Scope, at: Namespace, relations: Vec<Relation>) -> Result<()> {
        let place = self.check(scope, at)?;
        if relations.len() > Relation::BATCH_MAX {
            return Err(Error::invalid("relations", "at most 1,000 in a call"));
        }
        relations.iter().try_for_each(Relation::check)?;
        let mut partitions = self.partitions.write();
        let state = partitions.entry(place).or_insert_with(|| self.empty());
        for relation in &relations {
            for node in [&relation.from, &relation.to] {
                match node {
                    Node::Memory(id) if !state.memories.contains_key(id) => {
                        return Err(Error::NotFound { id: *id });
                    }
                    _ => {}
                }
            }
        }
        relations
            .iter()
            .for_each(|relation| state.index.relate(relation));
        Ok(())
    }

    async fn paths(&self, scope: &Scope, at: Namespace, walk: Walk) -> Result<Vec<Path>> {
        let place = self.check(scope, at)?;
        walk.check()?;
        let partitions = self.partitions.read();
        Ok(partitions
            .get(&place)
            .map_or_else(Vec::new, |state| state.index.paths(&walk)))
    }

    async fn list(&self, scope: &Scope, at: Namespace, listing: Listing) -> Result<Vec<Memory>> {
        let place = self.check(scope, at)?;
        listing.check()?;
        let now = self.env.clock.now();
        let partitions = self.partitions.read();
        let Some(state) = partitions.get(&place) else {
            return Ok(Vec::new());
        };
        let found = state.index.list(&listing, now).into_iter();
        Ok(found
            .filter_map(|(id, _)| state.memories.get(&id).cloned())
            .collect())
    }

    async fn relabel(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        labels: Vec<(String, Relabel)>,
        reason: String,
    ) -> Result<()> {
        let place = self.check(scope, at)?;
        check_reason(&reason)?;
        let mut partitions = self.partitions.write();
        let state = partitions.get_mut(&place).ok_or(Error::NotFound { id })?;
        let memory = state.memories.get_mut(&id).ok_or(Error::NotFound { id })?;
        let mut metadata = memory.metadata.clone();
        relabel(&mut metadata, &labels)?;
        memory.metadata.clone_from(&metadata);
        let change = Change {
            verb: Verb::Labeled,
            at: self.env.clock.now(),
            actor: scope.actor.clone(),
            reason: Some(reason),
            valid_to: memory.valid_to,
            successor: None,
        };
        state.index.relabel(id, metadata);
        state.changes.entry(id).or_default().push(change);
        Ok(())
    }

    async fn history(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Vec<Change>> {
        let place = self.check(scope, at)?;
        let partitions = self.partitions.read();
        let changes = partitions.get(&place).and_then(|s| s.changes.get(&id));
        changes.cloned().ok_or(Error::NotFound { id })
    }
}
