//! Applying decisions: read the slot, decide, write if nobody wrote in between, else again.

use std::collections::BTreeSet;

use agent_core::Scope;

use super::draft::{draft, resumed, slot_key, state_key, value_key};
use super::{Action, Belief, Curator, Decision, Neighbour, Reason, Snapshot, decide, labels};
use crate::error::{Error, Result};
use crate::extract::{Candidate, Cardinality, Claim, Slot, normalized};
use crate::memory::{Memory, MemoryId};
use crate::metadata::{Relabel, Value, label};
use crate::namespace::Namespace;
use crate::query::{Filter, Listing, Query, Test};
use crate::store::MemoryStore;

/// How often a decision is made anew because another writer was faster: each time, that writer's
/// work is done, so this many writers of one slot at once all end.
const TRIES_MAX: usize = 256;
/// How many records like a note are looked at.
const NEIGHBOURS_MAX: usize = 5;

/// What was decided on a candidate, and done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The decision.
    pub decision: Decision,
    /// The record that was added, or ended by a retraction.
    pub record: Option<MemoryId>,
}

impl<S: MemoryStore> Curator<S> {
    /// Decides on candidates in their order and applies the decisions. Each is applied whole or not
    /// at all; its reason and evidence are in the history of what it changed. Repeating the call
    /// changes nothing more.
    ///
    /// # Errors
    /// `Invalid` for candidates beyond the limits of a [`Draft`](crate::Draft); `Conflict` if other
    /// writers of the same slot were faster 256 times; the store's; the embedder's.
    ///
    /// # Cancel safety
    /// Not atomic: those before the one under way are applied. Repeat the call.
    pub async fn apply(
        &self,
        scope: &Scope,
        at: &Namespace,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<Applied>> {
        let mut scope = scope.clone();
        // Each write has a key of its own; one key for several would refuse the second.
        scope.idempotency_key = None;
        let mut applied = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            applied.extend(self.apply_one(&scope, at, candidate).await?);
        }
        Ok(applied)
    }

    async fn apply_one(
        &self,
        scope: &Scope,
        at: &Namespace,
        candidate: Candidate,
    ) -> Result<Vec<Applied>> {
        match &candidate.claim {
            Claim::Replaces { subject, old, new } => {
                let found = self.slot_of_value(scope, at, subject, old).await?;
                let Some((slot, cardinality)) = found else {
                    return Ok(vec![noop(&candidate)]);
                };
                let mut applied = Vec::new();
                if cardinality == Cardinality::Many {
                    let claim = Claim::IsNot {
                        slot: slot.clone(),
                        value: Some(old.clone()),
                    };
                    let ends = Candidate {
                        claim,
                        ..candidate.clone()
                    };
                    applied.extend(self.retract(scope, at, &ends).await?);
                }
                let claim = Claim::Is {
                    slot,
                    value: new.clone(),
                    cardinality,
                };
                let begins = Candidate { claim, ..candidate };
                applied.push(self.write(scope, at, &begins).await?);
                Ok(applied)
            }
            Claim::IsNot { .. } => self.retract(scope, at, &candidate).await,
            Claim::Is { .. } | Claim::Note => Ok(vec![self.write(scope, at, &candidate).await?]),
        }
    }

    async fn write(&self, scope: &Scope, at: &Namespace, candidate: &Candidate) -> Result<Applied> {
        let slot = slot_key(candidate).ok_or(Error::corrupt("a claim without a slot"))?;
        let mut n_erased = 0;
        for _ in 0..TRIES_MAX {
            let records = self.records(scope, at, &slot).await?;
            let neighbours = match candidate.claim {
                Claim::Note if records.is_empty() => self.neighbours(scope, at, candidate).await?,
                _ => Vec::new(),
            };
            let snapshot = Snapshot::new(records.iter().map(Belief::of).collect(), neighbours);
            let decision = decide(&snapshot, candidate);
            let old = match decision.action {
                Action::Noop(Some(id)) if is_said_again(&snapshot, &decision, candidate) => {
                    self.confirm(scope, at, id, candidate, &decision).await?;
                    continue;
                }
                Action::Noop(record) => return Ok(Applied { decision, record }),
                Action::Update(id) | Action::Supersede(id) => {
                    // As it was when it was decided on, not as it is by now.
                    let read = records.iter().find(|record| record.id == id);
                    let old = match read {
                        Some(read) => Ok(read.clone()),
                        None => self.store.get(scope, at.clone(), id).await,
                    };
                    match old {
                        Ok(old) => Some(old),
                        Err(Error::NotFound { .. }) => continue,
                        Err(error) => return Err(error),
                    }
                }
                Action::Add | Action::Retract(_) => None,
            };
            let draft = draft(candidate, &decision, old.as_ref());
            let mut drafts = vec![draft.with_key(state_key(&slot, &records, n_erased)?)];
            if let Some(resumed) = old.as_ref().and_then(|old| resumed(old, &decision)) {
                let key = state_key(&format!("{slot}\nresumed"), &records, n_erased)?;
                drafts.push(resumed.with_key(key));
            }
            match self.store.add(scope, at.clone(), drafts).await {
                Ok(added) => {
                    let record = added.first().filter(|added| added.is_new);
                    if let Some(record) = record.map(|added| added.id) {
                        let record = Some(record);
                        return Ok(Applied { decision, record });
                    }
                }
                Err(Error::Erased { .. }) => n_erased += 1,
                Err(error) if is_overtaken(&error, &decision) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended { slot })
    }

    /// Notes that a belief was said again: what arrives late and is older does not end it.
    async fn confirm(
        &self,
        scope: &Scope,
        at: &Namespace,
        id: MemoryId,
        candidate: &Candidate,
        decision: &Decision,
    ) -> Result<()> {
        // Raised, not set: another writer may have said it again, and later.
        let raised = Relabel::Raise(candidate.said_at.as_unix_ms());
        let change = vec![(labels::CONFIRMED_AT.to_owned(), raised)];
        let why = decision.to_string();
        match self.store.relabel(scope, at.clone(), id, change, why).await {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn retract(
        &self,
        scope: &Scope,
        at: &Namespace,
        candidate: &Candidate,
    ) -> Result<Vec<Applied>> {
        let Claim::IsNot { slot, value } = &candidate.claim else {
            return Ok(Vec::new());
        };
        let mut slots = BTreeSet::from([slot.key()]);
        match value {
            Some(value) => {
                slots.insert(value_key(slot, value));
            }
            None => slots.extend(self.slots_of(scope, at, slot).await?),
        }
        let mut applied = Vec::new();
        for slot in slots {
            let done = self.retract_in(scope, at, &slot, candidate).await?;
            applied.extend(done);
        }
        if applied.is_empty() {
            let decision = decide(&Snapshot::default(), candidate);
            applied.push(Applied {
                decision,
                record: None,
            });
        }
        Ok(applied)
    }

    async fn retract_in(
        &self,
        scope: &Scope,
        at: &Namespace,
        slot: &str,
        candidate: &Candidate,
    ) -> Result<Option<Applied>> {
        for _ in 0..TRIES_MAX {
            let records = self.records(scope, at, slot).await?;
            let snapshot = Snapshot::new(records.iter().map(Belief::of).collect(), Vec::new());
            let decision = decide(&snapshot, candidate);
            let Action::Retract(id) = decision.action else {
                let is_refused = decision.reason == Reason::LessTrusted;
                let record = None;
                return Ok(is_refused.then_some(Applied { decision, record }));
            };
            let why = decision.to_string();
            match self
                .store
                .retire(scope, at.clone(), id, decision.from, why)
                .await
            {
                Ok(()) => {
                    let record = Some(id);
                    return Ok(Some(Applied { decision, record }));
                }
                Err(error) if is_overtaken(&error, &decision) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended {
            slot: slot.to_owned(),
        })
    }

    /// Every record of a slot, ended ones too; what is in quarantine is not believed.
    pub(super) async fn records(
        &self,
        scope: &Scope,
        at: &Namespace,
        slot: &str,
    ) -> Result<Vec<Memory>> {
        let filter = Filter::new().label(label::SLOT, Test::Is(slot.into()));
        let listing = Listing::new().with_filter(filter).with_retired();
        self.pages(scope, at, listing).await
    }

    pub(super) async fn pages(
        &self,
        scope: &Scope,
        at: &Namespace,
        listing: Listing,
    ) -> Result<Vec<Memory>> {
        let mut listing = listing.with_limit(Listing::LIMIT_MAX);
        let mut found: Vec<Memory> = Vec::new();
        loop {
            let page = self.store.list(scope, at.clone(), listing.clone()).await?;
            let is_last = page.len() < Listing::LIMIT_MAX;
            found.extend(page);
            match found.last() {
                Some(last) if !is_last => listing = listing.after(last.id),
                _ => return Ok(found),
            }
        }
    }

    /// The keys of the slots that the values of an attribute fill at present.
    async fn slots_of(&self, scope: &Scope, at: &Namespace, slot: &Slot) -> Result<Vec<String>> {
        let filter = Filter::new()
            .label(labels::SUBJECT, Test::Is(slot.subject.as_str().into()))
            .label(labels::ATTRIBUTE, Test::Is(slot.attribute.as_str().into()));
        let found = self
            .pages(scope, at, Listing::new().with_filter(filter))
            .await?;
        Ok(found
            .iter()
            .filter_map(|m| text_of(m, label::SLOT))
            .collect())
    }

    /// The subject's slot that has a value at present; of several, the first by name.
    async fn slot_of_value(
        &self,
        scope: &Scope,
        at: &Namespace,
        subject: &str,
        value: &str,
    ) -> Result<Option<(Slot, Cardinality)>> {
        let filter = Filter::new().label(labels::SUBJECT, Test::Is(subject.into()));
        let found = self
            .pages(scope, at, Listing::new().with_filter(filter))
            .await?;
        let value = normalized(value);
        let slot = |memory: &Memory| {
            let is_it = text_of(memory, labels::VALUE).is_some_and(|v| normalized(&v) == value);
            let slot = Slot::new(subject, &text_of(memory, labels::ATTRIBUTE)?).ok()?;
            let key = text_of(memory, label::SLOT)?;
            let cardinality = if key == slot.key() {
                Cardinality::Single
            } else {
                Cardinality::Many
            };
            is_it.then_some((slot, cardinality))
        };
        let mut slots: Vec<(Slot, Cardinality)> = found.iter().filter_map(slot).collect();
        slots.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(slots.into_iter().next())
    }

    /// Records of the same kind that are like a note.
    async fn neighbours(
        &self,
        scope: &Scope,
        at: &Namespace,
        candidate: &Candidate,
    ) -> Result<Vec<Neighbour>> {
        let text: String = candidate.text.chars().take(2_000).collect();
        let query = Query::new(at.clone(), text)
            .with_filter(Filter::new().kind(candidate.kind))
            .with_limit(NEIGHBOURS_MAX);
        let hits = self.store.search(scope, query).await?;
        let is_note = |m: &Memory| text_of(m, label::SLOT).is_some_and(|s| s.starts_with("note="));
        let found: Vec<Memory> = hits
            .into_iter()
            .map(|hit| hit.memory)
            .filter(is_note)
            .collect();
        let Some(embedder) = self.embedder.as_deref().filter(|_| !found.is_empty()) else {
            let plain = |memory: &Memory| Neighbour::new(Belief::of(memory), None);
            return Ok(found.iter().map(plain).collect());
        };
        let mut texts: Vec<String> = found.iter().map(|memory| memory.text.clone()).collect();
        texts.push(candidate.text.clone());
        let vectors = crate::prepare::embed(&self.env, embedder, scope, &texts).await?;
        let own = vectors.last().and_then(Option::as_ref);
        let neighbour = |(memory, vector): (&Memory, &Option<crate::index::Quantized>)| {
            let cosine = own.zip(vector.as_ref()).map(|(a, b)| a.cosine(b));
            Neighbour::new(Belief::of(memory), Some(cosine.unwrap_or(0.0)))
        };
        Ok(found.iter().zip(&vectors).map(neighbour).collect())
    }
}

pub(super) fn text_of(memory: &Memory, name: &str) -> Option<String> {
    match memory.metadata.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

/// Whether a known claim was said later than its belief was before.
fn is_said_again(snapshot: &Snapshot, decision: &Decision, candidate: &Candidate) -> bool {
    let Action::Noop(Some(id)) = decision.action else {
        return false;
    };
    let belief = snapshot.slot.iter().find(|belief| belief.id == id);
    decision.reason == Reason::Known
        && matches!(candidate.claim, Claim::Is { .. })
        && belief.is_some_and(|belief| candidate.said_at > belief.confirmed_at)
}

fn noop(candidate: &Candidate) -> Applied {
    Applied {
        decision: decide(&Snapshot::default(), candidate),
        record: None,
    }
}

/// Whether the error means that another writer was faster: the decision rests on what is gone.
fn is_overtaken(error: &Error, decision: &Decision) -> bool {
    match (error, decision.action) {
        (Error::KeyReused { .. }, _) => true,
        (
            Error::Retired { id } | Error::Relabeled { id } | Error::NotFound { id },
            Action::Update(old) | Action::Supersede(old) | Action::Retract(old),
        ) => *id == old,
        _ => false,
    }
}
