//! Memories in main memory, for tests and for agents that keep nothing.

mod carry;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use agent_core::{Embedder, Env, Scope, Timestamp};
use async_trait::async_trait;
use parking_lot::RwLock;

use crate::error::{Error, Result};
use crate::index::{Limits, Partition, Plan, Scored};
use crate::memory::{Added, Change, Draft, Memory, MemoryId, Receipt, Selection, Verb};
use crate::metadata::{Relabel, relabel};
use crate::namespace::{Namespace, tenant};
use crate::prepare::{check_reason, embed, prepare};
use crate::query::{Hit, Listing, Query};
use crate::relation::{Node, Path, Relation, Walk};
use crate::store::MemoryStore;
use crate::terms::query_words;
use crate::validity;
use state::State;

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

    fn empty(&self) -> State {
        State::new(self.fresh())
    }

    fn fresh(&self) -> Partition {
        let limits = Limits {
            postings_max: usize::MAX,
            exact_max: usize::MAX,
        };
        Partition::new(limits, self.embedder.as_ref(), None)
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
        let now = self.env.clock.now();
        let plan = Plan {
            text: &query.text,
            vector: vectors.first().and_then(Option::as_ref),
            former: None,
            filter: &query.filter,
            weights: &query.weights,
            limit: query.limit,
            now,
            view: query.as_of.view(now, query.is_with_retired),
            is_with_quarantined: query.is_with_quarantined,
            near: None,
            words: None,
        };
        let partitions = self.partitions.read();
        let mut found: Vec<(Scored, &State)> = Vec::new();
        for state in places.iter().filter_map(|place| partitions.get(place)) {
            let scored = state.index.search(&plan).into_iter();
            found.extend(scored.map(|scored| (scored, state)));
        }
        found.sort_by(|a, b| a.0.order(&b.0));
        found.truncate(query.limit);
        let hit = |(scored, state): (Scored, &State)| {
            Some(Hit {
                memory: state.as_known(scored.id, query.as_of.known)?,
                score: scored.score,
                explanation: scored.explanation,
            })
        };
        Ok(found.into_iter().filter_map(hit).collect())
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
            labels: None,
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
            state.index = self.fresh();
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
        state.relate(relations, self.env.clock.now())
    }

    async fn paths(&self, scope: &Scope, at: Namespace, walk: Walk) -> Result<Vec<Path>> {
        let place = self.check(scope, at)?;
        walk.check()?;
        let partitions = self.partitions.read();
        Ok(partitions.get(&place).map_or_else(Vec::new, |state| {
            state.index.paths(&walk, self.env.clock.now())
        }))
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
            .filter_map(|(id, _)| state.as_known(id, listing.as_of.known))
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
