//! Vouchers on a deposit.

use std::sync::Arc;
use std::time::Duration;

use agent_pay::authority::SpendState;
use agent_pay::mpp::{Credential, Order, Receipt};
use agent_pay::trade::Voucher;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::buyer::{intent, spent};
use crate::common::{money, op, who};
use crate::market::{Market, get, key, problem, with};
use crate::seller::manual;

pub(crate) fn voucher(channel: &str, sum: &str, signer: &str) -> String {
    let spend = op(&format!("mpp_{channel}"));
    let voucher = Voucher::new(spend, who(signer), money(sum));
    voucher.sign(&key(signer)).unwrap()
}

fn receipt(answer: &agent_pay::transport::Answer) -> Receipt {
    let field = answer.headers()["payment-receipt"].to_str().unwrap();
    Receipt::parse(field).unwrap()
}

#[tokio::test]
async fn a_session_books_what_was_used_and_frees_the_rest() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "s", "/metered", "0.25 USD");
    let unit = money("0.10 USD");
    let request = get(&market.at("/metered"));
    let mut stream = shopper
        .open_session(request.clone(), wanted, unit)
        .await
        .unwrap();
    assert_eq!(market.sales().await.1, money("0.25 USD"));
    for n in 1..=2 {
        let answer = stream.fetch(request.clone()).await.unwrap();
        assert_eq!(answer.body(), format!("run {n}").as_bytes());
    }
    // The deposit has no unit left.
    assert!(stream.fetch(request).await.is_err());
    let hold = stream.close().await.unwrap().unwrap();
    assert_eq!(
        (hold.state, hold.captured),
        (SpendState::Captured, money("0.20 USD"))
    );
    assert_eq!(market.sales().await, (money("0.20 USD"), money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn a_session_that_is_dropped_is_closed_by_reconciling() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "s", "/metered", "1.00 USD");
    let request = get(&market.at("/metered"));
    let stream = shopper.open_session(request.clone(), wanted, money("0.10 USD"));
    let mut stream = stream.await.unwrap();
    stream.fetch(request).await.unwrap();
    drop(stream);
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 1);
    let captured = Some((SpendState::Captured, money("0.10 USD")));
    assert_eq!(spent(&market, "s").await, captured);
    market.close().await;
}

/// What one session does is nothing to another.
#[tokio::test]
async fn a_session_stays_open_when_another_ends_or_is_refused() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let request = get(&market.at("/metered"));
    let mut streams = Vec::new();
    for key in ["s1", "s2"] {
        let wanted = intent(&market, key, "/metered", "1.00 USD");
        let stream = shopper.open_session(request.clone(), wanted, money("0.10 USD"));
        streams.push(stream.await.unwrap());
    }
    let mut second = streams.pop().unwrap();
    second.fetch(request.clone()).await.unwrap();
    let closed = streams.pop().unwrap().close().await.unwrap().unwrap();
    assert_eq!(closed.captured, money("0 USD"));
    // More than the purse has.
    let wanted = intent(&market, "s3", "/metered", "60.00 USD");
    let refused = shopper.open_session(request.clone(), wanted, money("0.10 USD"));
    assert!(refused.await.is_err());
    let submitted = Some((SpendState::Submitted, money("0 USD")));
    assert_eq!(spent(&market, "s2").await, submitted);
    assert_eq!(second.fetch(request).await.unwrap().body(), b"run 2");
    let closed = second.close().await.unwrap().unwrap();
    assert_eq!(closed.captured, money("0.20 USD"));
    assert_eq!(market.sales().await, (money("0.20 USD"), money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn a_session_dearer_than_allowed_is_not_opened() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "s", "/metered", "1.00 USD");
    let request = get(&market.at("/metered"));
    let opened = shopper
        .open_session(request, wanted, money("0.09 USD"))
        .await;
    assert!(opened.is_err());
    assert_eq!(spent(&market, "s").await, None);
    assert_eq!(market.sales().await.1, money("0 USD"));
    market.close().await;
}

/// Opens a channel by hand and returns its credential's challenge, for what follows.
pub(crate) async fn opened(market: &Market) -> Credential {
    let challenge = market.challenge("/metered").await;
    let order = Order::pay(
        &challenge.id,
        &who("agent_buyer"),
        money("1.00 USD"),
        "sales",
    );
    let mut payload = order.payload(&key("agent_buyer")).unwrap();
    payload["action"] = json!("open");
    let credential = Credential::new(challenge, None, payload);
    let answer = market
        .send(with(get(&market.at("/metered")), &credential))
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(receipt(&answer).spent.as_deref(), Some("0"));
    credential
}

pub(crate) async fn act(
    market: &Market,
    opened: &Credential,
    payload: Value,
) -> agent_pay::transport::Answer {
    let credential = Credential::new(opened.challenge.clone(), None, payload);
    market
        .send(with(get(&market.at("/metered")), &credential))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_voucher_a_hundred_times_runs_the_handler_once() {
    let market = Arc::new(Market::open(manual().1).await);
    let open = opened(&market).await;
    let id = open.challenge.id.clone();
    let payload = json!({ "action": "voucher", "channelId": id, "voucher": voucher(&id, "0.50 USD", "agent_buyer") });
    let mut copies = JoinSet::new();
    for _ in 0..100 {
        let (market, open, payload) = (Arc::clone(&market), open.clone(), payload.clone());
        copies.spawn(async move { act(&market, &open, payload).await.status().as_u16() });
    }
    let statuses = copies.join_all().await;
    assert!(statuses.iter().all(|status| [200, 409].contains(status)));
    assert!(statuses.contains(&200));
    let later = act(&market, &open, payload).await;
    assert_eq!(later.headers()["idempotent-replayed"], "true");
    assert_eq!(receipt(&later).spent.as_deref(), Some("100000"));
    assert_eq!(market.runs(), 1);
    Arc::into_inner(market).unwrap().close().await;
}

#[tokio::test]
async fn vouchers_only_grow_within_the_deposit_and_are_the_buyers() {
    let market = Market::open(manual().1).await;
    let open = opened(&market).await;
    let id = open.challenge.id.clone();
    let say = |channel: &str, token: String| json!({ "action": "voucher", "channelId": channel, "voucher": token });
    let mine = |sum: &str| say(&id, voucher(&id, sum, "agent_buyer"));
    assert_eq!(act(&market, &open, mine("0.30 USD")).await.status(), 200);
    let cases = [
        (mine("0.29 USD"), "session/delta-too-small"),
        (mine("1.01 USD"), "session/amount-exceeds-deposit"),
        (mine("0.31 EUR"), "session/invalid-signature"),
        (
            say(&id, voucher(&id, "0.40 USD", "agent_poor")),
            "session/invalid-signature",
        ),
        (
            say(&id, voucher("other", "0.40 USD", "agent_buyer")),
            "session/invalid-signature",
        ),
        (say(&id, "x.y.z".to_owned()), "session/invalid-signature"),
        (
            say("other", voucher(&id, "0.40 USD", "agent_buyer")),
            "session/channel-not-found",
        ),
        (json!({ "action": "dance" }), "malformed-credential"),
        (
            json!({ "action": "close", "channelId": id }),
            "session/invalid-signature",
        ),
    ];
    for (payload, code) in cases {
        let answer = act(&market, &open, payload.clone()).await;
        assert_eq!(problem(&answer).0, code, "{payload}");
    }
    assert_eq!(market.runs(), 1);
    // A deposit that grows takes vouchers that grow; a promise alone runs nothing.
    let order = Order::top_up(&id, &who("agent_buyer"), 1, money("1.00 USD"));
    let mut payload = order.payload(&key("agent_buyer")).unwrap();
    payload["action"] = json!("topUp");
    payload["channelId"] = json!(id);
    for _ in 0..2 {
        assert_eq!(act(&market, &open, payload.clone()).await.status(), 200);
    }
    assert_eq!(market.sales().await.1, money("2.00 USD"));
    let credential = Credential::new(open.challenge.clone(), None, mine("1.50 USD"));
    let head = http::Request::head(market.at("/metered"))
        .body(Vec::new())
        .unwrap();
    let head = market.send(with(head, &credential)).await;
    assert_eq!(head.status(), 200);
    assert_eq!(
        receipt(&head).accepted_cumulative.as_deref(),
        Some("1500000")
    );
    assert_eq!(market.runs(), 1);
    assert_eq!(act(&market, &open, mine("1.50 USD")).await.status(), 200);
    let close = json!({ "action": "close", "channelId": id, "voucher": voucher(&id, "1.50 USD", "agent_buyer") });
    for _ in 0..2 {
        let closed = act(&market, &open, close.clone()).await;
        assert_eq!(receipt(&closed).spent.as_deref(), Some("200000"));
    }
    assert_eq!(market.sales().await, (money("0.20 USD"), money("0 USD")));
    let answer = act(&market, &open, mine("1.60 USD")).await;
    assert_eq!(problem(&answer).0, "session/channel-finalized");
    market.close().await;
}

#[tokio::test]
async fn a_session_nobody_closes_is_captured_when_its_time_is_over() {
    let (clock, env) = manual();
    let market = Market::open(env).await;
    let open = opened(&market).await;
    let id = open.challenge.id.clone();
    let payload = json!({ "action": "voucher", "channelId": id, "voucher": voucher(&id, "0.90 USD", "agent_buyer") });
    assert_eq!(act(&market, &open, payload).await.status(), 200);
    assert_eq!(market.server.close_ended(10).await.unwrap(), 0);
    clock.advance(Duration::from_secs(4_000));
    assert_eq!(market.server.close_ended(10).await.unwrap(), 1);
    assert_eq!(market.server.close_ended(10).await.unwrap(), 0);
    assert_eq!(market.sales().await, (money("0.10 USD"), money("0 USD")));
    market.close().await;
}
