//! What an agent is shown of its memory for a task: chosen within a budget of tokens, without
//! repetition, quoted as data, each piece with where it comes from.

mod compose;
mod tokens;

use std::fmt;
use std::sync::Arc;

use agent_core::{Env, Scope};

use crate::error::{Error, Result};
use crate::memory::{Memory, MemoryId};
use crate::namespace::Namespace;
use crate::query::{Filter, Listing, Query};
use crate::recall::{Order, Recall, Recalled};
use crate::store::MemoryStore;

pub use tokens::{BytesPerToken, CountTokens};

/// Builds the context of a task from memory.
///
/// The text has a *prefix* that depends on the profile alone, so that a model's prompt cache keeps
/// it from one task to the next, and after it what was recalled for the task, oldest first. The same
/// store, query and clock give the same text.
///
/// ```
/// # use std::sync::Arc;
/// # use agent_core::{Env, Principal, Scope};
/// # use agent_memory::backend::InMemory;
/// # use agent_memory::{ContextBuilder, Draft, Filter, Kind, MemoryStoreExt, Namespace, StaticEmbedder};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let memory = InMemory::new(Env::system(), Arc::new(StaticEmbedder::new()?));
/// # let (scope, at) = (Scope::new(Principal::new("human:ana")?), Namespace::new("ana")?);
/// let seat = Draft::new(Kind::Preference, "Ana prefers window seats.");
/// memory.add_one(&scope, at.clone(), seat).await?;
/// memory.add_one(&scope, at.clone(), Draft::event("Ana: my flight to Oslo is on Friday.")).await?;
/// let context = ContextBuilder::new(at, "Book a seat on the flight to Oslo")
///     .with_profile(Filter::new().kind(Kind::Preference), 100)
///     .with_budget(400)
///     .build(&memory, &scope)
///     .await?;
/// assert!(context.text.contains("> Ana prefers window seats."));
/// assert!(context.tokens <= 400);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ContextBuilder {
    recall: Recall,
    /// The clock of a recall with a reranker.
    env: Option<Env>,
    budget: usize,
    profile: Option<(Filter, usize)>,
    counter: Arc<dyn CountTokens>,
}

impl fmt::Debug for ContextBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextBuilder")
            .field("recall", &self.recall)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl ContextBuilder {
    /// The budget unless another is set, in tokens.
    pub const BUDGET_DEFAULT: usize = 1_000;
    /// How many memories are looked at for a task.
    pub const CANDIDATES: usize = 50;
    /// The most memories of a profile in one namespace.
    pub const PROFILE_MAX: usize = Listing::LIMIT_MAX;

    /// Recalls for a task from one namespace: at most [`ContextBuilder::CANDIDATES`] memories, a
    /// budget of [`ContextBuilder::BUDGET_DEFAULT`], no profile, tokens estimated by
    /// [`BytesPerToken`].
    #[must_use]
    pub fn new(namespace: Namespace, task: impl Into<String>) -> Self {
        Self::of(Query::new(namespace, task).with_limit(Self::CANDIDATES))
    }

    /// As [`ContextBuilder::new`], for what a query finds, with its namespaces, filter, weights and
    /// limit.
    #[must_use]
    pub fn of(query: Query) -> Self {
        Self {
            recall: Recall::new(query),
            env: None,
            budget: Self::BUDGET_DEFAULT,
            profile: None,
            counter: Arc::new(BytesPerToken::default()),
        }
    }

    /// As [`ContextBuilder::of`], for what a recall finds, in its order: with its reranker, whose
    /// time is taken from the clock of `env`, and within its budget of tokens beside the one of the
    /// whole text.
    #[must_use]
    pub fn recalling(recall: Recall, env: &Env) -> Self {
        let mut builder = Self::of(recall.query.clone());
        (builder.recall, builder.env) = (recall, Some(env.clone()));
        builder
    }

    /// Sets how many tokens the whole text may have, at least 1.
    #[must_use]
    pub const fn with_budget(mut self, tokens: usize) -> Self {
        self.budget = tokens;
        self
    }

    /// Shows what passes a filter before anything else, whatever the task, in the order in which it
    /// was recorded and in at most this many of the budget's tokens. Default: nothing.
    #[must_use]
    pub fn with_profile(mut self, filter: Filter, tokens: usize) -> Self {
        self.profile = Some((filter, tokens));
        self
    }

    /// Counts tokens as the model at hand does. Default: [`BytesPerToken`].
    #[must_use]
    pub fn with_counter(mut self, counter: Arc<dyn CountTokens>) -> Self {
        self.counter = counter;
        self
    }

    /// Recalls and composes.
    ///
    /// # Errors
    /// `Invalid` for a budget of 0 and for what the query's limits forbid; those of
    /// [`Recall::run`] and [`MemoryStore::list`]. Those of a reranker are in [`Context::order`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn build<S: MemoryStore + ?Sized>(
        &self,
        store: &S,
        scope: &Scope,
    ) -> Result<Context> {
        if self.budget == 0 {
            return Err(Error::invalid("context", "a budget of at least 1 token"));
        }
        let mut profile = Vec::new();
        if let Some((filter, _)) = &self.profile {
            for namespace in &self.recall.query.namespaces {
                let listing = Listing::new().with_filter(filter.clone());
                profile.extend(store.list(scope, namespace.clone(), listing).await?);
            }
        }
        let Recalled {
            hits,
            order,
            left_out,
        } = self.recalled(store, scope).await?;
        let recalled = hits.into_iter().map(|hit| (hit.memory, hit.score));
        let profile_budget = self.profile.as_ref().map_or(0, |(_, tokens)| *tokens);
        let budget = compose::Budget {
            whole: self.budget,
            profile: profile_budget.min(self.budget),
        };
        let counter = self.counter.as_ref();
        let mut context = compose::compose(profile, recalled.collect(), budget, counter);
        context.order = order;
        for hit in left_out {
            let is_known = context
                .items
                .iter()
                .any(|item| item.memory.id == hit.memory.id)
                || context.left_out.iter().any(|left| left.id == hit.memory.id);
            if !is_known {
                let tokens = counter.count(&hit.memory.text);
                let (id, why) = (hit.memory.id, Why::Budget { tokens });
                context.left_out.push(LeftOut { id, why });
            }
        }
        Ok(context)
    }

    async fn recalled<S: MemoryStore + ?Sized>(
        &self,
        store: &S,
        scope: &Scope,
    ) -> Result<Recalled> {
        match &self.env {
            Some(env) => self.recall.run(store, scope, env).await,
            None => Ok(Recalled {
                hits: store.search(scope, self.recall.query.clone()).await?,
                order: Order::OfSearch,
                left_out: Vec::new(),
            }),
        }
    }
}

/// What an agent is shown.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Context {
    /// The text for the prompt; empty if there is nothing to show.
    pub text: String,
    /// How many bytes of it depend on the profile alone.
    pub prefix_bytes: usize,
    /// How many tokens the text has, by the counter. Never more than the budget.
    pub tokens: usize,
    /// What is shown, in the order of the text. The first is `[1]` there, the next `[2]`.
    pub items: Vec<Item>,
    /// What would have been shown, in the order of its rank.
    pub left_out: Vec<LeftOut>,
    /// By whose order what was recalled was chosen.
    pub order: Order,
}

/// A memory that is shown.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Item {
    /// The memory.
    pub memory: Memory,
    /// How well it fits the task; none for one of the profile.
    pub score: Option<f32>,
    /// How many tokens it takes.
    pub tokens: usize,
}

/// A memory that is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Which.
    pub id: MemoryId,
    /// Why.
    pub why: Why,
}

/// Why a memory is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It did not fit into the tokens that were left.
    Budget {
        /// How many it would have taken.
        tokens: usize,
    },
    /// This one says the same, in nearly the same words.
    Repeats(MemoryId),
    /// It is derived from this one alone.
    Restates(MemoryId),
}
