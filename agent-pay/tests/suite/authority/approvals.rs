//! Approvals: for exactly one spend, once, by those who may, in time.

use crate::common::planted::Bug;
use crate::common::{Shop, money, op, path, who};
use agent_core::{Classify, ErrorKind};
use agent_pay::Error;
use agent_pay::authority::{ApprovalState, Intent, Vote};

const POLICY: &str = r#"
[node.acme]
limits = ["100.00 USD lifetime"]
first_payee = "allow"
alone_up_to = "1.00 USD"
approvers = ["human:alice", "human:bob", "agent_lead", "agent_a", "agent_child"]
quorum = 2

[node."acme/a"]
owner = "agent_a"

[node."acme/a/child"]
owner = "agent_child"

[node."acme/other"]
owner = "agent_lead"
"#;

async fn approve(shop: &Shop, intent: &Intent, voter: &str) -> ApprovalState {
    shop.vote(intent, voter, Vote::Approve).await.unwrap()
}

pub(crate) async fn quorum_of_different_people_approves_one_spend_once(bug: Option<Bug>) {
    let shop = Shop::with(bug, POLICY).await;
    let intent = shop.intent("k", "acme/a", "9.00 USD");
    let request = shop.asked(&intent).await;
    assert_eq!((request.quorum, request.state), (2, ApprovalState::Open));
    assert_eq!(
        approve(&shop, &intent, "human:alice").await,
        ApprovalState::Open
    );
    assert_eq!(
        approve(&shop, &intent, "human:alice").await,
        ApprovalState::Open
    );
    assert_eq!(shop.asked(&intent).await.state, ApprovalState::Open);
    assert_eq!(
        approve(&shop, &intent, "human:bob").await,
        ApprovalState::Granted
    );
    shop.held(&intent).await;
    let closed = shop
        .vote(&intent, "agent_lead", Vote::Approve)
        .await
        .unwrap_err();
    assert!(matches!(
        closed,
        Error::ApprovalClosed {
            state: ApprovalState::Used,
            ..
        }
    ));
    // The same thing again, under another key, is another spend.
    assert_eq!(
        shop.asked(&shop.intent("k2", "acme/a", "9.00 USD"))
            .await
            .state,
        ApprovalState::Open
    );
    // And releasing the hold does not bring the approval back.
    shop.authority.release(op("k")).await.unwrap();
    let again = shop.held(&intent).await;
    assert_eq!(again.state, agent_pay::authority::SpendState::Released);
    shop.check().await;
}

pub(crate) async fn approval_holds_for_every_part_of_the_intent_and_nothing_else(bug: Option<Bug>) {
    let shop = Shop::with(bug, POLICY).await;
    let intent = shop.intent("k", "acme/a", "9.00 USD");
    shop.asked(&intent).await;
    for voter in ["human:alice", "human:bob"] {
        approve(&shop, &intent, voter).await;
    }
    let changed = |change: fn(&mut Intent)| {
        let mut other = intent.clone();
        change(&mut other);
        other
    };
    for other in [
        changed(|i| i.amount_max = money("8.99 USD")),
        changed(|i| i.payee.name = "shop:evil".to_owned()),
        changed(|i| i.resource = "gold".to_owned()),
        changed(|i| i.rail = "x402".to_owned()),
        changed(|i| i.purpose = "to sell".to_owned()),
        changed(|i| i.expires_at = i.expires_at.after(std::time::Duration::from_millis(1))),
        changed(|i| i.actor = who("agent_y")),
        changed(|i| i.node = path("acme")),
        changed(|i| i.key = op("k2")),
    ] {
        assert_eq!(
            shop.asked(&other).await.state,
            ApprovalState::Open,
            "{other:?}"
        );
    }
    shop.held(&intent).await;
    shop.check().await;
}

pub(crate) async fn nobody_approves_their_own_spend_or_their_parents(bug: Option<Bug>) {
    let shop = Shop::with(bug, POLICY).await;
    let denied = |error: Error| {
        assert!(matches!(error, Error::NotAnApprover { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Denied);
    };
    let mut own = shop.intent("k1", "acme/a", "9.00 USD");
    own.actor = who("agent_a");
    shop.asked(&own).await;
    denied(shop.vote(&own, "agent_a", Vote::Approve).await.unwrap_err());
    // The child of the spender, at a node below.
    denied(
        shop.vote(&own, "agent_child", Vote::Approve)
            .await
            .unwrap_err(),
    );
    // An owner whose node it is, though somebody else acts.
    let node = shop.intent("k2", "acme/a", "9.00 USD");
    shop.asked(&node).await;
    denied(
        shop.vote(&node, "agent_a", Vote::Approve)
            .await
            .unwrap_err(),
    );
    // Somebody who sent the spender.
    let sent = shop.intent("k3", "acme/other", "9.00 USD");
    let sent = sent.with_delegation(vec![who("human:alice"), who("agent_a")]);
    shop.asked(&sent).await;
    for delegator in ["human:alice", "agent_a"] {
        denied(
            shop.vote(&sent, delegator, Vote::Approve)
                .await
                .unwrap_err(),
        );
    }
    // Somebody the policy does not name.
    denied(
        shop.vote(&own, "human:mallory", Vote::Approve)
            .await
            .unwrap_err(),
    );
    assert_eq!(shop.asked(&own).await.state, ApprovalState::Open);
    assert_eq!(
        approve(&shop, &own, "agent_lead").await,
        ApprovalState::Open
    );
    assert_eq!(
        approve(&shop, &own, "human:bob").await,
        ApprovalState::Granted
    );
}

pub(crate) async fn one_refusal_denies_whatever_others_said(bug: Option<Bug>) {
    let shop = Shop::with(bug, POLICY).await;
    let intent = shop.intent("k", "acme/a", "9.00 USD");
    shop.asked(&intent).await;
    approve(&shop, &intent, "human:alice").await;
    let refused = shop.vote(&intent, "human:bob", Vote::Refuse).await.unwrap();
    assert_eq!(refused, ApprovalState::Refused);
    assert_eq!(shop.denied(&intent).await, "approval_refused");
    let late = shop
        .vote(&intent, "agent_lead", Vote::Approve)
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    shop.check().await;
}

pub(crate) async fn approval_that_ran_out_is_void_and_its_votes_too(bug: Option<Bug>) {
    let shop = Shop::with(
        bug,
        &POLICY.replace("quorum = 2", "quorum = 2\napproval_seconds = 60"),
    )
    .await;
    let intent = shop.intent("k", "acme/a", "9.00 USD");
    shop.asked(&intent).await;
    approve(&shop, &intent, "human:alice").await;
    approve(&shop, &intent, "human:bob").await;
    shop.wait(60);
    let late = shop
        .vote(&intent, "agent_lead", Vote::Approve)
        .await
        .unwrap_err();
    assert!(matches!(
        late,
        Error::ApprovalClosed {
            state: ApprovalState::Expired,
            ..
        }
    ));
    assert_eq!(shop.asked(&intent).await.state, ApprovalState::Open);
    assert_eq!(
        approve(&shop, &intent, "human:alice").await,
        ApprovalState::Open
    );
    assert_eq!(
        approve(&shop, &intent, "human:bob").await,
        ApprovalState::Granted
    );
    shop.wait(59);
    shop.held(&intent).await;
    shop.check().await;
}

pub(crate) async fn requests_votes_and_grants_survive_a_restart(bug: Option<Bug>) {
    let shop = Shop::with(bug, POLICY).await;
    let intent = shop.intent("k", "acme/a", "9.00 USD");
    let request = shop.asked(&intent).await;
    approve(&shop, &intent, "human:alice").await;
    let shop = shop.restart().await;
    let open = shop.authority.open_requests(None).await.unwrap();
    assert_eq!(open.len(), 1);
    assert!(open.iter().all(|found| found.digest == request.digest));
    assert_eq!(
        approve(&shop, &intent, "human:bob").await,
        ApprovalState::Granted
    );
    let shop = shop.restart().await;
    assert!(shop.authority.open_requests(None).await.unwrap().is_empty());
    shop.held(&intent).await;
    let shop = shop.restart().await;
    let again = shop.authorize(&intent).await;
    let is_replayed = matches!(
        again,
        agent_pay::authority::Authorization::Held {
            is_replayed: true,
            ..
        }
    );
    assert!(is_replayed);
    shop.check().await;
}

pub(crate) async fn question_nobody_can_answer_is_a_denial(bug: Option<Bug>) {
    let shop = Shop::with(
        bug,
        "[node.acme]\nlimits = [\"9 USD lifetime\"]\nalone_up_to = \"1 USD\"",
    )
    .await;
    assert_eq!(
        shop.denied(&shop.intent("k", "acme", "2.00 USD")).await,
        "no_approver"
    );
}
