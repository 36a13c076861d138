//! Effects in doubt: an earlier holder of the task may or may not have caused them.

use agent_core::{Effect, EffectClass};
use serde_json::{Value, json};

use super::Door;
use crate::agent::Ctx;
use crate::error::{Error, Result};
use crate::journal::Pass;

impl Door {
    /// Finds out whether an effect happened: by probe, else by a person.
    pub(super) async fn resolve<Fut>(
        &self,
        cx: &Ctx,
        effect: &Effect,
        pass: &Pass,
        probe: Fut,
    ) -> Result<Option<Value>>
    where
        Fut: Future<Output = Result<Option<Value>>> + Send,
    {
        if pass.class == EffectClass::Probeable {
            return probe.await;
        }
        let name = format!("in_doubt/{}/{}", pass.step.name, pass.step.ordinal);
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
