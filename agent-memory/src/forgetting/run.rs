//! Making plans of a store, and applying them.

use agent_core::{Digest, Env, IdempotencyKey, Scope};

use super::plan::plan;
use super::{Consolidation, ForgetPlan, Policy, labels};
use crate::error::{Error, Result};
use crate::memory::{Draft, Memory, MemoryId, Receipt, Selection};
use crate::metadata::{Relabel, Value, label};
use crate::namespace::Namespace;
use crate::query::Listing;
use crate::store::MemoryStore;

/// Forgets by a policy.
#[derive(Clone, Debug)]
pub struct Forgetter<S> {
    store: S,
    env: Env,
    policy: Policy,
}

/// What applying a plan did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The erased memories, in the order of their ids: those of the plan.
    pub erased: Vec<MemoryId>,
    /// The summaries, in the order of the plan.
    pub summaries: Vec<MemoryId>,
    /// Whether the files hold no copy of what was erased any more.
    pub is_scrubbed: bool,
}

impl<S: MemoryStore> Forgetter<S> {
    /// Forgets in a store by a policy, when told to.
    ///
    /// # Errors
    /// `Invalid` for a half-life of 0 or a strength that is none.
    pub fn new(store: S, env: Env, policy: Policy) -> Result<Self> {
        policy.check()?;
        Ok(Self { store, env, policy })
    }

    /// Notes that a memory was used: that it served an answer or an act, not that it was found.
    ///
    /// # Errors
    /// As [`MemoryStore::relabel`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn used(&self, scope: &Scope, at: &Namespace, id: MemoryId) -> Result<()> {
        let now = self.env.clock.now().as_unix_ms();
        let changes = vec![
            (labels::USES.to_owned(), Relabel::Count(1)),
            (
                labels::USED_AT.to_owned(),
                Relabel::Set(Value::Integer(now)),
            ),
        ];
        let reason = "used".to_owned();
        self.store
            .relabel(scope, at.clone(), id, changes, reason)
            .await
    }

    /// Says what would go and why. Nothing changes. The same namespace and moment give the same
    /// plan. It reads the whole namespace into main memory.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn plan(&self, scope: &Scope, at: &Namespace) -> Result<ForgetPlan> {
        let now = self.env.clock.now();
        let mut listing = Listing::new().with_retired().with_quarantined();
        let mut memories: Vec<Memory> = Vec::new();
        loop {
            let page = self.store.list(scope, at.clone(), listing.clone()).await?;
            let is_last = page.len() < Listing::LIMIT_MAX;
            memories.extend(page);
            match memories.last() {
                Some(last) if !is_last => listing = listing.after(last.id),
                _ => break,
            }
        }
        Ok(plan(&self.policy, at.clone(), &memories, now))
    }

    /// Does what the plan says: writes the summaries, archives their episodes, erases the rest.
    ///
    /// # Errors
    /// `Conflict` with the memory if one of the plan was pinned or used since, or is gone in a way
    /// the plan does not say: plan again; `Denied` if one came under legal hold. In both cases
    /// nothing is erased. The store's.
    ///
    /// # Cancel safety
    /// Not atomic: up to 1,000 memories are erased at a time, summaries one by one. Repeat the
    /// call; what is done stays done.
    pub async fn apply(&self, scope: &Scope, plan: &ForgetPlan) -> Result<Report> {
        let mut scope = scope.clone();
        scope.idempotency_key = None;
        let at = &plan.namespace;
        self.check(&scope, plan).await?;
        let mut report = Report {
            is_scrubbed: true,
            ..Report::default()
        };
        for consolidation in &plan.consolidations {
            let summary = self.consolidate(&scope, at, consolidation).await?;
            report.summaries.push(summary);
        }
        let ids: Vec<MemoryId> = plan.doomed.iter().map(|doomed| doomed.id).collect();
        for ids in ids.chunks(Selection::IDS_MAX) {
            let what = Selection::Ids(ids.to_vec());
            let reason = "by policy".to_owned();
            let receipt: Receipt = self.store.forget(&scope, at.clone(), what, reason).await?;
            report.erased.extend(receipt.erased);
            report.is_scrubbed &= receipt.is_scrubbed;
        }
        report.erased.sort_unstable();
        Ok(report)
    }

    /// Whether the memories of the plan are as the plan saw them.
    async fn check(&self, scope: &Scope, plan: &ForgetPlan) -> Result<()> {
        for doomed in &plan.doomed {
            let memory = match self
                .store
                .get(scope, plan.namespace.clone(), doomed.id)
                .await
            {
                Ok(memory) => memory,
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            if label::is_set(&memory.metadata, label::HOLD) {
                return Err(Error::Held { id: doomed.id });
            }
            let uses = match memory.metadata.get(labels::USES) {
                Some(Value::Integer(uses)) => *uses,
                _ => 0,
            };
            if label::is_set(&memory.metadata, label::PIN) || uses > doomed.uses {
                return Err(Error::StalePlan { id: doomed.id });
            }
        }
        Ok(())
    }

    async fn consolidate(
        &self,
        scope: &Scope,
        at: &Namespace,
        consolidation: &Consolidation,
    ) -> Result<MemoryId> {
        let text = format!("{:?}", consolidation.episodes);
        let key = format!("consolidate:{}", Digest::of_bytes(text.as_bytes()));
        let key = IdempotencyKey::new(key)
            .map_err(|_key| Error::corrupt("a digest has no known form"))?;
        let draft = Draft::fact(consolidation.text.clone())
            .with_key(key)
            .in_thread(consolidation.thread.clone())
            .occurred_at(consolidation.from)
            .with_label(labels::SUMMARY, true)
            .because("summary of old episodes");
        let draft = consolidation
            .episodes
            .iter()
            .fold(draft, |draft, id| draft.derived_from(*id));
        let added = self.store.add(scope, at.clone(), vec![draft]).await?;
        let added = added
            .first()
            .ok_or(Error::corrupt("a store answered no draft"))?;
        for id in &consolidation.episodes {
            let labels = vec![(
                label::ARCHIVED.to_owned(),
                Relabel::Set(Value::Text(added.id.to_string())),
            )];
            let reason = format!("summarised by {}", added.id);
            self.store
                .relabel(scope, at.clone(), *id, labels, reason)
                .await?;
        }
        Ok(added.id)
    }
}
