//! What each law is tried on, and the words the laws share.

use std::sync::Arc;

use agent_core::{
    AgentId, Digest, Effect, EffectClass, Env, ErrorKind, Failure, ManualClock, Principal, Retry,
    RunId, Scope,
};
use serde_json::json;

use crate::error::{Error, Result};
use crate::journal::{ClaimRequest, Journal, NewRun};
use crate::task::{Claim, NewTask, Transition};

/// A fresh journal, the clock it reads, and whatever must live as long.
#[derive(Debug)]
#[non_exhaustive]
pub struct Subject {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Where ids come from.
    pub env: Env,
}

impl Subject {
    /// Joins a journal and its clock.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, clock: Arc<ManualClock>, env: Env) -> Self {
        Self {
            journal,
            clock,
            env,
        }
    }

    pub(super) fn scope() -> Scope {
        Scope::new(Principal::host())
    }

    pub(super) async fn run(&self) -> Result<RunId> {
        let run = NewRun::new("subject", Digest::of_bytes(b"spec"), json!({ "n": 1 }));
        Ok(self.journal.open_run(&Self::scope(), run).await?.id)
    }

    pub(super) async fn with_task(&self) -> Result<(RunId, Claim)> {
        let run = self.run().await?;
        let task = NewTask::new("a", "work", json!({}));
        self.journal.submit(&Self::scope(), run, vec![task]).await?;
        let claim = self.claim(run, "work", agent(1)).await?;
        Ok((run, claim.ok_or_else(|| Error::not_found("claim", "a"))?))
    }

    pub(super) async fn claim(
        &self,
        run: RunId,
        pool: &str,
        owner: AgentId,
    ) -> Result<Option<Claim>> {
        let scope = Scope::agent(owner).with_run(run);
        self.journal
            .claim(&scope, ClaimRequest::new(run, pool, owner))
            .await
    }

    pub(super) async fn verifying(&self) -> Result<(RunId, Claim)> {
        let (run, claim) = self.with_task().await?;
        let done = Transition::Verify {
            output: json!({ "n": 1 }),
            pool: "verify".to_owned(),
        };
        self.journal
            .finish(&Self::scope(), &claim.lease, done)
            .await?;
        Ok((run, claim))
    }
}

pub(super) fn agent(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

pub(super) fn effect(class: EffectClass, what: &str) -> Effect {
    Effect::new("tool.call", what, class, json!({ "what": what }))
}

pub(super) fn failure(retry: Retry) -> Failure {
    Failure::new(ErrorKind::Unavailable, retry, "test.away", "away", "wait")
}

pub(super) fn check(holds: bool, law: &str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::invalid("law", law))
    }
}

pub(super) fn is_conflict<T>(result: &Result<T>) -> bool {
    use agent_core::Classify;
    result
        .as_ref()
        .err()
        .is_some_and(|error| error.kind() == ErrorKind::Conflict)
}
