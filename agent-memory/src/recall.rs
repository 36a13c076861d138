//! A search within budgets of time and tokens, its best hits ordered anew by a reranker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{ClockExt, Env, Failure, Scope};
use async_trait::async_trait;

use crate::context::CountTokens;
use crate::error::{Error, Result};
use crate::query::{Hit, Query};
use crate::store::MemoryStore;

/// Judges how well memories answer a question, by looking at both together: a cross-encoder, a
/// model, a rule of the host.
#[async_trait]
pub trait Reranker: fmt::Debug + Send + Sync + 'static {
    /// Returns a score for each hit, in their order; higher is better, and only the order of the
    /// scores counts.
    ///
    /// # Errors
    /// Any; the hits keep the order of the search then.
    ///
    /// # Cancel safety
    /// Must be cancel safe: it is dropped when its time is over.
    async fn score(
        &self,
        scope: &Scope,
        question: &str,
        hits: &[Hit],
    ) -> agent_core::Result<Vec<f32>>;
}

/// A search, and what it may take.
#[derive(Clone)]
pub struct Recall {
    pub(crate) query: Query,
    reranker: Option<(Arc<dyn Reranker>, Duration)>,
    n_candidates: usize,
    tokens: Option<(usize, Arc<dyn CountTokens>)>,
}

impl fmt::Debug for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recall")
            .field("query", &self.query)
            .field("reranker", &self.reranker)
            .finish_non_exhaustive()
    }
}

impl Recall {
    /// Searches for a query: no reranker, any number of tokens.
    #[must_use]
    pub const fn new(query: Query) -> Self {
        Self {
            query,
            reranker: None,
            n_candidates: 50,
            tokens: None,
        }
    }

    /// Orders the hits anew, if the reranker is done within this time; a later answer is dropped
    /// and the hits keep the order of the search. Default: none.
    #[must_use]
    pub fn with_reranker(mut self, reranker: Arc<dyn Reranker>, within: Duration) -> Self {
        self.reranker = Some((reranker, within));
        self
    }

    /// Sets how many hits the reranker is given, at least the query's limit, at most
    /// [`Query::LIMIT_MAX`]. Default: 50.
    #[must_use]
    pub const fn with_candidates(mut self, n: usize) -> Self {
        self.n_candidates = n;
        self
    }

    /// Returns only hits whose texts together have at most this many tokens: the best, and after
    /// one that does not fit the next that do. Default: no limit.
    #[must_use]
    pub fn with_tokens(mut self, budget: usize, counter: Arc<dyn CountTokens>) -> Self {
        self.tokens = Some((budget, counter));
        self
    }

    /// Searches. The time of the search itself is bounded by the scope's deadline.
    ///
    /// # Errors
    /// `Invalid` for more than [`Query::LIMIT_MAX`] candidates; as [`MemoryStore::search`]. Those
    /// of a reranker are in [`Recalled::order`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn run<S: MemoryStore + ?Sized>(
        &self,
        store: &S,
        scope: &Scope,
        env: &Env,
    ) -> Result<Recalled> {
        if self.n_candidates > Query::LIMIT_MAX {
            return Err(Error::invalid("recall", "at most 1,000 candidates"));
        }
        let n_wanted = self.query.limit;
        let mut query = self.query.clone();
        if self.reranker.is_some() {
            query.limit = n_wanted.max(self.n_candidates);
        }
        let mut hits = store.search(scope, query).await?;
        let order = self.reorder(scope, env, &mut hits).await;
        hits.truncate(n_wanted);
        let mut left_out = Vec::new();
        if let Some((budget, counter)) = &self.tokens {
            let mut left = *budget;
            let tokens = |hit: &mut Hit| counter.count(&hit.memory.text);
            let over = hits.extract_if(.., |hit| {
                let n = tokens(hit);
                let fits = n <= left;
                left -= if fits { n } else { 0 };
                !fits
            });
            left_out.extend(over);
        }
        Ok(Recalled {
            hits,
            order,
            left_out,
        })
    }

    async fn reorder(&self, scope: &Scope, env: &Env, hits: &mut Vec<Hit>) -> Order {
        let Some((reranker, within)) = &self.reranker else {
            return Order::OfSearch;
        };
        if hits.is_empty() {
            return Order::OfSearch;
        }
        let deadline = env.clock.now().after(*within);
        let scoring = reranker.score(scope, &self.query.text, hits);
        let scores = match env.clock.deadline(deadline, scoring).await {
            None => return Order::Late,
            Some(Err(error)) => return Order::Failed(Failure::of(&error)),
            Some(Ok(scores)) => scores,
        };
        if scores.len() != hits.len() || scores.iter().any(|score| score.is_nan()) {
            let found = "another number of scores than hits, or one that is no number";
            let error = agent_core::Error::invalid("scores", found);
            return Order::Failed(Failure::of(&error));
        }
        let mut scored: Vec<(f32, Hit)> = scores.into_iter().zip(hits.drain(..)).collect();
        // The sort is stable: equal scores keep the order of the search.
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        hits.extend(scored.into_iter().map(|(_, hit)| hit));
        Order::Reranked
    }
}

/// What a recall found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recalled {
    /// The hits, best first by `order`. Scores and explanations are those of the search.
    pub hits: Vec<Hit>,
    /// Whose order it is.
    pub order: Order,
    /// The hits that the budget of tokens left out, in the same order.
    pub left_out: Vec<Hit>,
}

/// Whose order hits have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The search's: there was no reranker or nothing to order.
    OfSearch,
    /// The reranker's.
    Reranked,
    /// The search's: the reranker was late.
    Late,
    /// The search's: the reranker failed.
    Failed(Failure),
}
