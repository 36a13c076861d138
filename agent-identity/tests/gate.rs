//! The gate asks an agent's grants: who, what, when, revoked or used up.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    Effect, EffectClass, Env, Gate, IdempotencyKey, ManualClock, OsEntropy, Principal, Scope,
    Timestamp, Verdict,
};
use agent_identity::backend::{InMemoryGrantStore, InMemoryKeyStore};
use agent_identity::grant_store::ChargeMode;
use agent_identity::{
    Capability, CapabilityGate, GrantChain, GrantStore, Key, KeyName, KeyStore, Terms,
};

const START: Timestamp = Timestamp::from_unix_ms(1_000_000);

struct World {
    clock: Arc<ManualClock>,
    grants: Arc<InMemoryGrantStore>,
    gate: CapabilityGate,
    agent: Scope,
    root: GrantChain,
    chain: GrantChain,
}

/// A host grants to a pool, the pool to an agent: `tool.*` on `search`, and two calls of `pay.*`.
async fn world() -> World {
    let clock = Arc::new(ManualClock::new(START));
    let env = Env::new(
        Arc::<ManualClock>::clone(&clock),
        Arc::new(OsEntropy::new()),
    );
    let keys = InMemoryKeyStore::new(&env);
    let host = Scope::new(Principal::host());
    let names = ["host", "pool", "agent"].map(|name| KeyName::new(name).unwrap());
    let made: Vec<Key> = keys.generate(&host, names.to_vec()).await.unwrap();
    let [issuer, pool, agent] = made.as_slice() else {
        panic!("three keys");
    };
    let all = vec![
        Capability::new("tool.*", "*").unwrap(),
        Capability::new("pay.*", "*").unwrap().with_calls_max(2),
    ];
    let end = START.after(Duration::from_secs(60));
    let terms = Terms::new(pool.did, all, end).with_depth(1);
    let root = GrantChain::issue(&keys, &host, issuer, &terms)
        .await
        .unwrap();
    let some = vec![
        Capability::new("tool.*", "search").unwrap(),
        Capability::new("pay.*", "*").unwrap().with_calls_max(2),
    ];
    let terms = Terms::new(agent.did, some, end);
    let chain = root.delegate(&keys, &host, pool, &terms).await.unwrap();
    let grants = Arc::new(InMemoryGrantStore::new(&env));
    let gate = CapabilityGate::new(
        vec![issuer.did],
        Arc::<InMemoryGrantStore>::clone(&grants),
        &env,
    );
    let actor = Scope::new(Principal::new("agent-1").unwrap());
    gate.bind(&actor, agent.did).unwrap();
    gate.admit(&chain.to_string()).unwrap();
    World {
        clock,
        grants,
        gate,
        agent: actor,
        root,
        chain,
    }
}

fn effect(action: &str, target: &str) -> Effect {
    Effect::new(action, target, EffectClass::Pure, serde_json::Value::Null)
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

impl World {
    async fn code(&self, scope: &Scope, effect: &Effect) -> String {
        match self.gate.check(scope, effect).await.unwrap() {
            Verdict::Deny { code, .. } => code,
            Verdict::Allow => "allow".to_owned(),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_agent_may_what_it_was_granted_and_nothing_else() {
    let w = world().await;
    let search = effect("tool.call", "search");
    assert_eq!(w.code(&w.agent, &search).await, "allow");
    assert_eq!(
        w.code(&w.agent, &effect("tool.call", "shell")).await,
        "grant.not_covered"
    );
    let stranger = Scope::new(Principal::new("agent-2").unwrap());
    assert_eq!(w.code(&stranger, &search).await, "grant.unknown_actor");
    let tenant = w.agent.clone().with_tenant("other");
    assert_eq!(w.code(&tenant, &search).await, "grant.unknown_actor");
    let did = w.chain.subject().unwrap();
    let itself = Scope::new(Principal::try_from(did).unwrap());
    assert_eq!(w.code(&itself, &search).await, "allow");
}

#[tokio::test]
async fn revoking_any_link_revokes_what_hangs_below() {
    for link in 0..2 {
        let w = world().await;
        let search = effect("tool.call", "search");
        assert_eq!(w.code(&w.agent, &search).await, "allow");
        let id = w.chain.ids().nth(link).unwrap();
        let grants = vec![(id, w.chain.expires())];
        w.grants
            .revoke(&w.agent, grants, "stop".to_owned())
            .await
            .unwrap();
        assert_eq!(w.code(&w.agent, &search).await, "grant.revoked");
        w.gate.admit(&w.chain.to_string()).unwrap();
        assert_eq!(w.code(&w.agent, &search).await, "grant.revoked");
        assert_eq!(w.gate.sweep(), 1);
        assert_eq!(w.code(&w.agent, &search).await, "grant.not_covered");
    }
}

#[tokio::test]
async fn a_grant_ends_by_itself_and_is_listed_before() {
    let w = world().await;
    let search = effect("tool.call", "search");
    let end = w.chain.expires();
    assert!(w.gate.expiring(end).is_empty());
    let soon = w.gate.expiring(end.after(Duration::from_millis(1)));
    let soon: Vec<_> = soon.iter().map(|grant| (grant.at, grant.grant)).collect();
    assert_eq!(soon, [(end, w.chain.ids().last().unwrap())]);
    w.clock.advance(Duration::from_secs(60));
    assert_eq!(w.code(&w.agent, &search).await, "grant.expired");
    assert_eq!(w.gate.sweep(), 1);
}

#[tokio::test]
async fn charged_effects_use_a_limit_up_and_repeats_do_not() {
    let w = world().await;
    let pay = effect("pay.transfer", "shop");
    for n in 0..2 {
        let scope = w.agent.clone().with_idempotency_key(key(&format!("k{n}")));
        for _ in 0..2 {
            assert_eq!(w.code(&scope, &pay).await, "allow");
            let charge = w
                .gate
                .charge(&scope, &pay, key(&format!("k{n}")))
                .unwrap()
                .unwrap();
            // The pool's limit and the agent's.
            assert_eq!(charge.ways.first().map(Vec::len), Some(2));
            w.grants
                .charge(&scope, charge, ChargeMode::Take)
                .await
                .unwrap();
        }
    }
    assert_eq!(w.code(&w.agent, &pay).await, "grant.used_up");
    let repeated = w.agent.clone().with_idempotency_key(key("k1"));
    assert_eq!(w.code(&repeated, &pay).await, "allow");
    let other = effect("pay.transfer", "elsewhere");
    assert_eq!(w.code(&repeated, &other).await, "grant.key_reused");
    let denied = w
        .gate
        .charge(&w.agent, &effect("x.y", "z"), key("k9"))
        .unwrap();
    assert!(matches!(denied, Err(Verdict::Deny { .. })));
    let search = w
        .gate
        .charge(&w.agent, &effect("tool.call", "search"), key("k9"));
    assert!(search.unwrap().unwrap().is_free());
}

#[tokio::test]
async fn untrusted_and_foreign_grants_are_not_admitted() {
    let w = world().await;
    let env = Env::system();
    let nobody = CapabilityGate::new(
        Vec::new(),
        Arc::<InMemoryGrantStore>::clone(&w.grants),
        &env,
    );
    nobody.admit(&w.chain.to_string()).unwrap_err();
    // The pool's own grant serves the pool, not the agent.
    w.gate.admit(&w.root.to_string()).unwrap();
    assert_eq!(
        w.code(&w.agent, &effect("tool.call", "shell")).await,
        "grant.not_covered"
    );
}
