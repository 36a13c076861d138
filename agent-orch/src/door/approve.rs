//! The gate, and the person it sends to.

use agent_core::{Effect, Verdict};
use serde_json::json;

use super::Door;
use crate::agent::Ctx;
use crate::error::{Error, Result};

impl Door {
    /// Asks the gate, and a person where the gate says so.
    pub(super) async fn admit(&self, cx: &Ctx, effect: &Effect) -> Result<()> {
        let refused = |code, reason| Error::Refused {
            action: effect.action.clone(),
            target: effect.target.clone(),
            code,
            reason,
        };
        match self.gate.check(&cx.scope, effect).await? {
            Verdict::Allow => Ok(()),
            Verdict::Deny { code, reason, .. } => Err(refused(code, reason)),
            Verdict::Ask { code, reason, .. } => {
                let digest = effect.digest()?;
                let question = format!("May {} {}? {reason}", effect.action, effect.target);
                let name = format!("approve/{digest}");
                let mut request = cx.question(&name, &question, &["approve", "deny"]);
                request.effect = Some(digest);
                request.details = json!({ "code": code, "effect": effect });
                match cx.put_question(request).await?.as_str() {
                    "approve" => Ok(()),
                    _ => Err(refused(code, "a person said no".to_owned())),
                }
            }
            _ => Err(refused(
                "gate.unknown".to_owned(),
                "the verdict is not known".to_owned(),
            )),
        }
    }
}
