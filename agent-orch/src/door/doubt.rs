//! Effects in doubt: an earlier holder of the task may or may not have caused them.

use agent_core::{Effect, EffectClass, ErrorKind, Failure, Retry};
use serde_json::{Value, json};

use super::Door;
use crate::agent::Ctx;
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Outcome, Pass};

/// What became of an effect in doubt.
pub(super) enum Resolved {
    /// It happened and returned this; both are recorded.
    Happened(Value),
    /// It did not happen, and a further try is intended.
    Again(Pass),
}

impl Door {
    /// Finds out whether an effect happened, and records what was found out. An effect that did
    /// not happen is intended anew: if that try ends in doubt too, what was found out about this
    /// one says nothing about it.
    pub(super) async fn resolve<Fut>(
        &self,
        cx: &Ctx,
        intent: Intent,
        pass: &Pass,
        probe: Fut,
    ) -> Result<Resolved>
    where
        Fut: Future<Output = Result<Option<Value>>> + Send,
    {
        let found = match pass.class {
            EffectClass::Probeable => probe.await?,
            _ => self.ask_about(cx, &intent.effect, pass).await?,
        };
        let (journal, scope, lease) = (self.journal(), &cx.scope, &cx.lease);
        if let Some(value) = found {
            let outcome = Outcome::new(Ok(value.clone()));
            journal.settle(scope, lease, pass, outcome).await?;
            return Ok(Resolved::Happened(value));
        }
        let outcome = Outcome::new(Err(did_not_happen()));
        journal.settle(scope, lease, pass, outcome).await?;
        let (action, target) = (intent.effect.action.clone(), intent.effect.target.clone());
        match journal.intend(scope, lease, intent).await? {
            Intended::Go(pass) => Ok(Resolved::Again(pass)),
            Intended::Recorded(value) => Ok(Resolved::Happened(value)),
            Intended::InDoubt(_) => Err(Error::InDoubt { action, target }),
        }
    }

    /// Asks a person. Each try has its own question.
    async fn ask_about(&self, cx: &Ctx, effect: &Effect, pass: &Pass) -> Result<Option<Value>> {
        let (step, n_try) = (&pass.step, pass.n_try);
        let name = format!("in_doubt/{}/{}/{n_try}", step.name, step.ordinal);
        let question = format!(
            "Did {} on {} happen before the crash? Its idempotency key is {}.",
            effect.action,
            effect.target,
            pass.key.as_str()
        );
        let mut request = cx.question(&name, &question, &["it happened", "repeat it", "give up"]);
        request.reject = Some("give up".to_owned());
        request.details = json!({ "effect": effect });
        match cx.put_question(request).await?.as_str() {
            "it happened" => Ok(Some(Value::Null)),
            "repeat it" => Ok(None),
            _ => Err(Error::InDoubt {
                action: effect.action.clone(),
                target: effect.target.clone(),
            }),
        }
    }
}

fn did_not_happen() -> Failure {
    Failure::new(
        ErrorKind::Unavailable,
        Retry::Safe,
        "orch.did_not_happen",
        "the effect of an earlier try did not happen",
        "none needed: it is tried again",
    )
}
