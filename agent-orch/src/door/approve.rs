//! Who decides before an effect: the grants, the host's policies, and the person they send to.

use agent_core::{Effect, Verdict};
use agent_identity::grant_store::Charge;
use serde_json::json;

use super::Door;
use crate::agent::Ctx;
use crate::error::{Error, Result};
use crate::journal::StepKey;
use crate::machine::step_key;

impl Door {
    /// Asks the grants and the policies, and a person where one says so. Returns what the effect
    /// counts against, to be taken in the transaction of its intent.
    pub(super) async fn admit(
        &self,
        cx: &Ctx,
        step: &StepKey,
        effect: &Effect,
    ) -> Result<Option<Charge>> {
        let charge = self.grants(cx, step, effect).await?;
        for policy in &self.gates.policies {
            match policy.check(&cx.scope, effect).await? {
                Verdict::Allow => {}
                Verdict::Ask { code, reason, .. } => {
                    self.approve(cx, step, effect, (&code, &reason)).await?;
                }
                other => return Err(refused(effect, other)),
            }
        }
        Ok(charge)
    }

    /// Asks the agent's grants. An effect that counts against a limit is asked about under the key
    /// of its step, under which it counts once for all tries.
    async fn grants(&self, cx: &Ctx, step: &StepKey, effect: &Effect) -> Result<Option<Charge>> {
        let grants = &self.gates.grants;
        match grants.is_counted(&cx.scope, effect) {
            Ok(false) => Ok(None),
            Err(verdict) => Err(refused(effect, verdict)),
            Ok(true) => {
                let key = step_key(&cx.lease, step, &effect.digest()?)?;
                let charge = grants.charge(&cx.scope, effect, key)?;
                charge.map(Some).map_err(|verdict| refused(effect, verdict))
            }
        }
    }

    /// Asks a person about this exact effect of this step: the answer covers the step's later
    /// tries, and no other step, however alike.
    async fn approve(
        &self,
        cx: &Ctx,
        step: &StepKey,
        effect: &Effect,
        (code, reason): (&str, &str),
    ) -> Result<()> {
        let digest = effect.digest()?;
        let question = format!("May {} {}? {reason}", effect.action, effect.target);
        let name = format!("approve/{}#{}/{digest}", step.name, step.ordinal);
        let mut request = cx.question(&name, &question, &["approve", "deny"]);
        request.effect = Some(digest);
        request.details = json!({ "code": code, "effect": effect });
        match cx.put_question(request).await?.as_str() {
            "approve" => Ok(()),
            _ => Err(refused(effect, Verdict::deny(code, "a person said no"))),
        }
    }
}

/// Makes an error of a verdict that does not allow.
fn refused(effect: &Effect, verdict: Verdict) -> Error {
    let (code, reason) = match verdict {
        Verdict::Deny { code, reason, .. } | Verdict::Ask { code, reason, .. } => (code, reason),
        _ => (
            "gate.unknown".to_owned(),
            "the verdict is not known".to_owned(),
        ),
    };
    Error::Refused {
        action: effect.action.clone(),
        target: effect.target.clone(),
        code,
        reason,
    }
}
