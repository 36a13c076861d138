//! Waiting: what an agent waits for without a thread or a lease.

use std::time::Duration;

use agent_core::{Failure, Timestamp};
use serde_json::Value;

use super::Ctx;
use crate::error::{Error, Result};
use crate::journal::StepKey;
use crate::wait::{Awaited, Due, First, Happened, NewWait, Source, WaitId};

/// A place for an answer from outside: hand its id to whoever answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Awakeable {
    id: WaitId,
    step: StepKey,
    due: Due,
}

impl Awakeable {
    /// Returns what [`crate::RunHandle::resolve`] and [`crate::RunHandle::reject`] take.
    #[must_use]
    pub const fn id(&self) -> WaitId {
        self.id
    }

    /// Returns it as one of several sources of [`Ctx::first`].
    #[must_use]
    pub const fn source(&self) -> Source {
        Source::Awakeable(self.id)
    }
}

/// Each wait is a step: the first call fixes its moments in the store's time, and once it has ended,
/// a resumed attempt gets the same end again. While nothing has happened a wait returns
/// [`Error::Waiting`]: return it, and the task parks until something has.
///
/// All of them are atomic: dropped before they answer, the wait was begun or not, and what they
/// consumed is recorded for the next attempt.
impl Ctx {
    /// Waits for a time.
    ///
    /// # Errors
    /// [`Error::Waiting`] until then; `Conflict` if the lease is over or the step drifted;
    /// `Exhausted` beyond the pool's steps.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn sleep(&self, name: &str, duration: Duration) -> Result<()> {
        self.first(name, vec![Source::due(duration)]).await?;
        Ok(())
    }

    /// Waits until a moment.
    ///
    /// # Errors
    /// As [`Ctx::sleep`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn sleep_until(&self, name: &str, at: Timestamp) -> Result<()> {
        self.first(name, vec![Source::due(at)]).await?;
        Ok(())
    }

    /// Takes the next signal of a name, in the order they came, those included that came before
    /// anybody waited.
    ///
    /// # Errors
    /// As [`Ctx::sleep`].
    ///
    /// # Cancel safety
    /// Atomic: the signal is taken by this step or stays.
    pub async fn signal(&self, name: &str) -> Result<Value> {
        let first = self.first(name, vec![Source::signal(name)]).await?;
        Ok(first.happened.into_answer()?)
    }

    /// As [`Ctx::signal`], but `None` if none came before the deadline.
    ///
    /// # Errors
    /// As [`Ctx::sleep`].
    ///
    /// # Cancel safety
    /// As [`Ctx::signal`].
    pub async fn signal_until(&self, name: &str, due: impl Into<Due>) -> Result<Option<Value>> {
        let sources = vec![Source::signal(name), Source::due(due)];
        Ok(match self.first(name, sources).await?.happened {
            Happened::Due => None,
            signal => Some(signal.into_answer()?),
        })
    }

    /// Makes a place for an answer from outside, with a deadline. Its id is the same in every
    /// attempt of the round, and no two have the same one.
    ///
    /// # Errors
    /// `Conflict` if the lease is over or the step drifted; `Exhausted` beyond the pool's steps.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn awakeable(&self, name: &str, due: impl Into<Due>) -> Result<Awakeable> {
        let (step, due) = (self.next_step(name)?, due.into());
        let wait = self.look(step.clone(), awakeable_sources(due)).await?;
        Ok(Awakeable {
            id: wait.id,
            step,
            due,
        })
    }

    /// Returns what an awakeable was resolved with, or the failure it was rejected with; a
    /// `TimedOut` failure once its deadline has passed.
    ///
    /// # Errors
    /// As [`Ctx::sleep`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn resolved(&self, awakeable: &Awakeable) -> Result<Result<Value, Failure>> {
        let sources = awakeable_sources(awakeable.due);
        let wait = self.look(awakeable.step.clone(), sources).await?;
        match wait.first {
            Some(first) => Ok(first.happened.into_answer()),
            None => Err(Error::Waiting {
                on: Awaited::Wait(wait.id),
            }),
        }
    }

    /// Waits for whichever of several sources happens first, by the store's time.
    ///
    /// # Errors
    /// As [`Ctx::sleep`]; `Invalid` for no sources or too many.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn first(&self, name: &str, sources: Vec<Source>) -> Result<First> {
        let wait = self.look(self.next_step(name)?, sources).await?;
        wait.first.ok_or(Error::Waiting {
            on: Awaited::Wait(wait.id),
        })
    }

    async fn look(&self, step: StepKey, sources: Vec<Source>) -> Result<crate::wait::Wait> {
        let new = NewWait::new(step, sources);
        let wait = self
            .door
            .journal()
            .wait(&self.scope, &self.lease, new)
            .await?;
        if let (None, Some(due)) = (&wait.first, wait.due()) {
            self.alarm.set(due);
        }
        Ok(wait)
    }
}

fn awakeable_sources(due: Due) -> Vec<Source> {
    vec![Source::Answer, Source::Due(due)]
}
