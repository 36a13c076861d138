//! Gates in a row, and what a secret shows.

use std::sync::Arc;

use agent_core::Classify;
use agent_core::{
    Effect, EffectClass, Error, ErrorKind, ExposeSecret, Gate, Gates, Principal, Result, Scope,
    Secret, Verdict,
};
use async_trait::async_trait;

/// Says what its rule says about the effect's target.
#[derive(Debug)]
struct Rule(&'static str, fn() -> Result<Verdict>);

#[async_trait]
impl Gate for Rule {
    async fn check(&self, _scope: &Scope, effect: &Effect) -> Result<Verdict> {
        if effect.target == self.0 {
            (self.1)()
        } else {
            Ok(Verdict::Allow)
        }
    }
}

#[tokio::test]
async fn the_first_gate_that_does_not_allow_decides() {
    let gates = Gates::new(vec![
        Arc::new(Rule("bank", || {
            Ok(Verdict::ask("gate.large", "it is a lot"))
        })),
        Arc::new(Rule("bank", || {
            Ok(Verdict::deny("gate.closed", "it is closed"))
        })),
        Arc::new(Rule("away", || {
            Err(Error::denied("the rule", "it cannot be read"))
        })),
        Arc::new(Rule("casino", || Ok(Verdict::deny("gate.never", "never")))),
    ]);
    let scope = Scope::new(Principal::host());
    let check = async |target: &str| {
        let effect = Effect::new(
            "pay.transfer",
            target,
            EffectClass::Pure,
            serde_json::Value::Null,
        );
        gates.check(&scope, &effect).await
    };
    assert_eq!(check("shop").await.unwrap(), Verdict::Allow);
    assert_eq!(
        check("bank").await.unwrap(),
        Verdict::ask("gate.large", "it is a lot")
    );
    assert_eq!(
        check("casino").await.unwrap(),
        Verdict::deny("gate.never", "never")
    );
    assert_eq!(check("away").await.unwrap_err().kind(), ErrorKind::Denied);
    let effect = Effect::new("x.y", "z", EffectClass::Pure, serde_json::Value::Null);
    assert_eq!(
        Gates::default().check(&scope, &effect).await.unwrap(),
        Verdict::Allow
    );
}

#[test]
fn a_secret_does_not_show_itself() {
    let secret = Secret::from("hunter2");
    assert!(!format!("{secret:?}").contains("hunter2"));
    assert_eq!(secret.expose_secret(), "hunter2");
}
