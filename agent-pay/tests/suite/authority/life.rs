//! What becomes of a spend: topped up, captured, given back, expired, asked for again.

use crate::common::planted::Bug;
use crate::common::{Shop, TREE, money, op, path, who};
use agent_core::{Asset, Classify, ErrorKind, RunId};
use agent_pay::authority::{Authorization, SpendState, operation_key};
use agent_pay::backend::sqlite::authority as spend;
use agent_pay::{Budgets, Error};
use serde_json::json;

pub(crate) async fn stream_tops_up_under_the_same_rules_and_releases_the_rest(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    let first = shop.intent("k", "acme/team/a", "2.00 USD");
    shop.held(&first).await;
    let top_up = |part, amount| shop.authority.top_up(op("k"), part, money(amount));
    let more = top_up(1, "3.00 USD").await.unwrap().into_hold().unwrap();
    assert_eq!(more.amount, money("5.00 USD"));
    let again = top_up(1, "3.00 USD").await.unwrap();
    assert!(matches!(
        again,
        Authorization::Held {
            is_replayed: true,
            ..
        }
    ));
    assert_eq!(
        top_up(1, "2.00 USD").await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        top_up(3, "1.00 USD").await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    // The whole counts, not the part: 5 alone, 6 not.
    let asked = top_up(2, "1.00 USD").await.unwrap();
    let Authorization::NeedsApproval(request) = asked else {
        return assert!(matches!(asked, Authorization::NeedsApproval(_)));
    };
    let vote = agent_pay::authority::Vote::Approve;
    shop.authority
        .vote(request.digest, who("human:alice"), vote)
        .await
        .unwrap();
    let more = top_up(2, "1.00 USD").await.unwrap().into_hold().unwrap();
    assert_eq!(more.amount, money("6.00 USD"));
    let over = shop
        .authority
        .capture(op("k"), money("6.01 USD"))
        .await
        .unwrap_err();
    assert!(matches!(over, Error::ExceedsHold { .. }));
    let done = shop
        .authority
        .capture(op("k"), money("4.50 USD"))
        .await
        .unwrap();
    assert_eq!(
        (done.captured, done.state),
        (money("4.50 USD"), SpendState::Captured)
    );
    assert_eq!(
        shop.authority
            .capture(op("k"), money("4.50 USD"))
            .await
            .unwrap(),
        done
    );
    let other = shop
        .authority
        .capture(op("k"), money("4.00 USD"))
        .await
        .unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    let budgets = Budgets::new(std::sync::Arc::new(shop.ledger.clone()));
    let balance = budgets.balance(Asset::USD, path("acme")).await.unwrap();
    assert_eq!(
        (balance.spent, balance.held),
        (money("4.50 USD"), money("0 USD"))
    );
    shop.check().await;
}

pub(crate) async fn refunds_never_exceed_what_was_captured(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    shop.held(&shop.intent("k", "acme/team", "10.00 USD")).await;
    let refund = |key, amount| shop.authority.refund(op("k"), op(key), money(amount));
    assert!(refund("r0", "1.00 USD").await.is_err());
    shop.authority
        .capture(op("k"), money("8.00 USD"))
        .await
        .unwrap();
    assert_eq!(
        refund("r1", "3.00 USD").await.unwrap().refunded,
        money("3.00 USD")
    );
    assert_eq!(
        refund("r1", "3.00 USD").await.unwrap().refunded,
        money("3.00 USD")
    );
    assert_eq!(
        refund("r1", "2.00 USD").await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let over = refund("r2", "5.01 USD").await.unwrap_err();
    assert!(matches!(over, Error::ExceedsHold { held, .. } if held == money("5.00 USD")));
    assert_eq!(
        refund("r3", "5.00 USD").await.unwrap().refunded,
        money("8.00 USD")
    );
    let budgets = Budgets::new(std::sync::Arc::new(shop.ledger.clone()));
    let balance = budgets
        .balance(Asset::USD, path("acme/team"))
        .await
        .unwrap();
    assert_eq!(balance.spent, money("0 USD"));
    shop.check().await;
}

pub(crate) async fn expired_hold_is_free_and_a_submitted_one_never_expires(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    for key in ["k1", "k2"] {
        shop.held(&shop.intent(key, "acme/team", "25.00 USD")).await;
    }
    shop.authority.submit(op("k2")).await.unwrap();
    shop.wait(3_600);
    let late = shop
        .authority
        .capture(op("k1"), money("1.00 USD"))
        .await
        .unwrap_err();
    assert!(matches!(late, Error::Expired { .. }));
    // Nobody swept: asking does.
    shop.held(&shop.intent("k3", "acme/team", "25.00 USD"))
        .await;
    assert_eq!(
        shop.denied(&shop.intent("k4", "acme/team", "0.01 USD"))
            .await,
        "over_limit"
    );
    let expired = shop.authority.spend(op("k1")).await.unwrap().unwrap();
    assert_eq!(expired.state, SpendState::Expired);
    let done = shop
        .authority
        .capture(op("k2"), money("25.00 USD"))
        .await
        .unwrap();
    assert_eq!(done.state, SpendState::Captured);
    shop.check().await;
}

pub(crate) async fn same_key_and_body_is_replayed_and_another_body_is_a_conflict(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    let intent = shop.intent("k", "acme/team/a", "5.00 USD");
    shop.held(&intent).await;
    let again = shop.authorize(&intent).await;
    assert!(matches!(
        again,
        Authorization::Held {
            is_replayed: true,
            ..
        }
    ));
    for other in [
        shop.intent("k", "acme/team/a", "4.00 USD"),
        shop.intent("k", "acme/team", "5.00 USD"),
        intent.clone().with_resource("coffee", "to drink"),
    ] {
        let refused = shop.authority.authorize(other).await.unwrap_err();
        assert!(matches!(refused, Error::KeyReused { .. }));
    }
    // A denial leaves the key free.
    let big = shop.intent("k2", "acme", "40.01 USD");
    assert_eq!(shop.denied(&big).await, "over_transaction");
    shop.held(&shop.intent("k2", "acme", "40.00 USD")).await;
    shop.check().await;
}

pub(crate) async fn operation_keys_come_from_the_step_and_not_from_chance(bug: Option<Bug>) {
    let run = RunId::from_bits(7);
    let key = |step, arguments: serde_json::Value| {
        let is_ignored = bug == Some(Bug::IgnoresSteps);
        operation_key(run, if is_ignored { "s" } else { step }, "pay", &arguments)
    };
    let first = key("s1", json!({"to": "shop", "amount": "1.00"})).unwrap();
    assert_eq!(
        first,
        key("s1", json!({"amount": "1.00", "to": "shop"})).unwrap()
    );
    assert_ne!(
        first,
        key("s2", json!({"to": "shop", "amount": "1.00"})).unwrap()
    );
    assert_ne!(
        first,
        key("s1", json!({"to": "shop", "amount": "1.01"})).unwrap()
    );
    assert!(key("s1", json!({"amount": 9_007_199_254_740_993_u64})).is_err());
}

pub(crate) async fn answers_are_given_again_as_the_commerce_protocol_asks(bug: Option<Bug>) {
    use agent_core::Digest;
    use spend::{Answer, Begin};
    use std::time::Duration;
    let shop = Shop::with(bug, TREE).await;
    let begin = |body: &'static str| {
        let is_ignored = bug == Some(Bug::LooksAtKeysOnly);
        let body = if is_ignored { "" } else { body };
        shop.authority.db().write(move |tx| {
            let request = Digest::of_bytes(body.as_bytes());
            spend::begin(
                tx,
                "agent_x/checkout",
                &op("k"),
                &request,
                Duration::from_secs(30),
            )
        })
    };
    let finish = |status, body: &str| {
        let is_kept = bug == Some(Bug::KeepsErrors);
        let status = if is_kept { 200 } else { status };
        let answer = Answer::new(status, body.to_owned());
        let db = shop.authority.db();
        db.write(move |tx| spend::finish(tx, "agent_x/checkout", &op("k"), &answer))
    };
    assert_eq!(begin("{}").await.unwrap(), Begin::Run);
    let busy = begin("{}").await.unwrap_err();
    assert_eq!(busy.retry_after(), Some(Duration::from_secs(30)));
    assert!(matches!(begin("{1}").await, Err(Error::KeyReused { .. })));
    // An error is not kept: the key is free for the same request.
    finish(503, "down").await.unwrap();
    assert_eq!(begin("{}").await.unwrap(), Begin::Run);
    finish(201, "done").await.unwrap();
    assert_eq!(
        begin("{}").await.unwrap(),
        Begin::Replay(Answer::new(201, "done".to_owned()))
    );
    assert!(matches!(begin("{1}").await, Err(Error::KeyReused { .. })));
    let purge = |prefix: &'static str| {
        let db = shop.authority.db();
        db.write(move |tx| spend::purge(tx, prefix, Duration::ZERO, 10))
    };
    shop.wait(86_400);
    assert_eq!(purge("agent_x/").await.unwrap(), 0);
    shop.wait(1);
    // What others keep stays.
    for other in ["agent_w", "agent_x/b", "agent_x/checkouts", "agent_y", "%"] {
        assert_eq!(purge(other).await.unwrap(), 0, "{other}");
    }
    assert!(purge("").await.is_err());
    assert_eq!(purge("agent_x/").await.unwrap(), 1);
    assert_eq!(begin("{1}").await.unwrap(), Begin::Run);
    // A process that died in the middle blocks the key for the lease and no longer.
    shop.wait(30);
    assert_eq!(begin("{1}").await.unwrap(), Begin::Run);
}
