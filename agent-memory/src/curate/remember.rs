//! The whole way from what was said to what is believed.

use agent_core::Scope;

use super::{Applied, Curator};
use crate::error::{Error, Result};
use crate::extract::Utterance;
use crate::memory::{Draft, MemoryId};
use crate::metadata::label;
use crate::namespace::Namespace;
use crate::query::{Hit, Query};
use crate::safety::{self, Suspicion};
use crate::store::MemoryStore;

/// What became of an utterance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is kept as an event, and its claims were decided on.
    Kept(MemoryId),
    /// It is kept as an event in quarantine, and no claim was taken from it.
    Quarantined(MemoryId, Vec<Suspicion>),
    /// It came out of recall and adds nothing.
    Recalled,
}

/// An utterance's outcome and what its claims did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remembered {
    /// What became of it.
    pub outcome: Outcome,
    /// What was decided on its claims.
    pub applied: Vec<Applied>,
}

impl<S: MemoryStore> Curator<S> {
    /// The channel of what came out of recall: it adds nothing when it is offered again.
    pub const RECALL: &'static str = "recall";

    /// Keeps what `speaker` said as an event, takes its claims, and applies the decisions on them.
    ///
    /// What came out of recall, by its channel or because it repeats what [`Curator::search`]
    /// returned, adds nothing. Suspicious text (see [`safety::suspicions`]) goes into quarantine
    /// with its reasons and makes no claims. With a key on the draft, repeating the call is
    /// harmless, and completes one that was cut short.
    ///
    /// # Errors
    /// `Denied` with the kind of secret for text that holds one, which is not kept; `Invalid` for a
    /// draft beyond the limits or a record; the extractor's; as [`Curator::apply`].
    ///
    /// # Cancel safety
    /// Not atomic: the event may be kept without its claims. Repeat the call with the same key.
    pub async fn remember(
        &self,
        scope: &Scope,
        at: &Namespace,
        speaker: &str,
        event: Draft,
    ) -> Result<Remembered> {
        if event.kind.is_record() {
            return Err(Error::invalid("draft", "an event is what is remembered"));
        }
        safety::refuse_secrets(&event.text)?;
        let is_recalled = event.channel.as_deref() == Some(Self::RECALL);
        if is_recalled || self.echo.is_echo(scope, at, &event.text) {
            return Ok(Remembered {
                outcome: Outcome::Recalled,
                applied: Vec::new(),
            });
        }
        let suspicions = safety::suspicions(&event.text);
        if !suspicions.is_empty() {
            let why: Vec<&str> = suspicions.iter().map(|s| s.as_str()).collect();
            let event = event.with_label(label::QUARANTINE, why.join(", "));
            let id = self.keep(scope, at, event).await?;
            return Ok(Remembered {
                outcome: Outcome::Quarantined(id, suspicions),
                applied: Vec::new(),
            });
        }
        let id = self.keep(scope, at, event).await?;
        let event = self.store.get(scope, at.clone(), id).await?;
        let said = Utterance::of(&event, speaker);
        let claims = self.extractor.extract(scope, vec![said]).await?;
        let claims = claims.into_iter().flatten().collect();
        Ok(Remembered {
            outcome: Outcome::Kept(id),
            applied: self.apply(scope, at, claims).await?,
        })
    }

    async fn keep(&self, scope: &Scope, at: &Namespace, event: Draft) -> Result<MemoryId> {
        let added = self.store.add(scope, at.clone(), vec![event]).await?;
        let added = added
            .first()
            .ok_or(Error::corrupt("a store answered no draft"))?;
        Ok(added.id)
    }

    /// Searches the store, and knows what was found when it is offered to memory again.
    ///
    /// # Errors
    /// As [`MemoryStore::search`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn search(&self, scope: &Scope, query: Query) -> Result<Vec<Hit>> {
        let hits = self.store.search(scope, query).await?;
        for hit in &hits {
            self.echo
                .heard(scope, &hit.memory.namespace, &hit.memory.text);
        }
        Ok(hits)
    }

    /// Releases a memory from quarantine, with a reason for its history. What it claims is still
    /// not believed; remember it again for that.
    ///
    /// # Errors
    /// As [`MemoryStore::relabel`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn release(
        &self,
        scope: &Scope,
        at: &Namespace,
        id: MemoryId,
        reason: String,
    ) -> Result<()> {
        let labels = vec![(label::QUARANTINE.to_owned(), crate::Relabel::Remove)];
        self.store
            .relabel(scope, at.clone(), id, labels, reason)
            .await
    }
}
