//! Steps with options, and what recovery chose for an attempt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::{Effect, EffectClass, Scope};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Acted, Ctx, to_value};
use crate::error::{Error, Result};
use crate::fleet::{PoolRecovery, UndoWhen};
use crate::journal::Intent;
use crate::task::Task;
use crate::undo::NewUndo;

/// One step: an effect under a name, and what is to be known about it beside.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The name the agent's code gives the step.
    pub name: String,
    /// What is about to happen.
    pub effect: Effect,
    /// What undoes it if its task ends without success.
    pub undo: Option<Effect>,
}

impl Step {
    /// Names an effect that nothing undoes.
    #[must_use]
    pub fn new(name: impl Into<String>, effect: Effect) -> Self {
        Self {
            name: name.into(),
            effect,
            undo: None,
        }
    }

    /// Sets the undo action: an effect that takes this one back, and does nothing where this one
    /// never happened. What runs it is registered by its action with
    /// [`crate::Supervisor::with_undo`]. Default: none.
    #[must_use]
    pub fn with_undo(mut self, undo: Effect) -> Self {
        self.undo = Some(undo);
        self
    }
}

/// What recovery chose for one attempt.
#[derive(Debug)]
pub(crate) struct Course {
    task_key: String,
    choices: BTreeMap<String, String>,
    undo_on_end: bool,
    identical_calls_max: Option<u32>,
}

impl Course {
    /// Takes what the pool of a task says; a task without one has no choices and no limits.
    pub(crate) fn new(recovery: Option<&PoolRecovery>, task: &Task) -> Self {
        let mut choices = recovery.map(|r| r.fallback.first()).unwrap_or_default();
        choices.extend(task.choices.clone());
        Self {
            task_key: task.key.clone(),
            choices,
            undo_on_end: recovery.is_none_or(|r| r.undo == UndoWhen::OnFailure),
            identical_calls_max: recovery.and_then(|r| r.identical_calls_max),
        }
    }

    /// Returns the key of the task, which is the same in every run.
    pub(crate) fn task_key(&self) -> &str {
        &self.task_key
    }
}

impl Ctx {
    /// Returns which of a choice's names this attempt is to use: the first of the pool's
    /// `fallback.choices`, or what was fallen back on. It stays the same until the next fallback,
    /// whatever the manifest says later. None if the pool has no such choice.
    ///
    /// A step whose effect depends on a choice carries it in its name: a step in doubt is
    /// recognized by name, and another effect under it would be a drift.
    #[must_use]
    pub fn choice(&self, what: &str) -> Option<&str> {
        self.course.choices.get(what).map(String::as_str)
    }

    /// As [`Ctx::effect`], with the options of a [`Step`].
    ///
    /// # Errors
    /// As [`Ctx::effect`].
    ///
    /// # Cancel safety
    /// As [`Ctx::effect`].
    pub async fn step<T, F, Fut>(&self, step: Step, act: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<T>>> + Send,
    {
        self.probed_step(step, |_scope| std::future::ready(Ok(None)), act)
            .await
    }

    /// As [`Ctx::probed`], with the options of a [`Step`].
    ///
    /// # Errors
    /// As [`Ctx::probed`].
    ///
    /// # Cancel safety
    /// As [`Ctx::effect`].
    pub async fn probed_step<T, P, PFut, F, Fut>(&self, step: Step, probe: P, act: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        P: FnOnce(Scope) -> PFut + Send,
        PFut: Future<Output = Result<Option<T>>> + Send,
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<T>>> + Send,
    {
        let class = step.effect.class;
        let probe = |scope| async {
            match class {
                EffectClass::Probeable => probe(scope).await?.map(|v| to_value(&v)).transpose(),
                _ => Ok(None),
            }
        };
        let has_mail = AtomicBool::new(false);
        let act = |scope| async {
            let acted = act(scope).await?;
            has_mail.store(!acted.messages.is_empty(), Ordering::Release);
            Ok(Acted {
                value: to_value(&acted.value)?,
                usage: acted.usage,
                messages: acted.messages,
            })
        };
        let name = step.name.clone();
        let value = self.door.pass(self, self.intent(step)?, probe, act).await?;
        if has_mail.load(Ordering::Acquire) {
            self.mail.notify_one();
        }
        serde_json::from_value(value)
            .map_err(|e| Error::invalid(format!("recorded result of step {name}"), e.to_string()))
    }

    /// Forms the intent of a step and counts it against the limits of the attempt.
    fn intent(&self, step: Step) -> Result<Intent> {
        let key = self.next_step(&step.name)?;
        if let Some(limit) = self.course.identical_calls_max {
            let mut calls = self.calls.lock();
            let n = calls.entry(step.effect.digest()?).or_default();
            *n = n.saturating_add(1);
            if *n > limit {
                return Err(Error::LimitReached {
                    what: "how often one attempt makes the identical call",
                    limit: limit.into(),
                });
            }
        }
        let mut intent = Intent::new(key, step.effect).with_budget(self.budget.clone());
        intent.undo = step.undo.map(|effect| NewUndo {
            on_end: self.course.undo_on_end,
            ..NewUndo::new(effect)
        });
        Ok(intent)
    }
}
