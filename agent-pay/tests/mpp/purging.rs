//! What a server forgets when it is over, and that nothing is bought with it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::ManualClock;
use agent_pay::mpp::{
    Credential, Offer, OfferKey, Order, Purged, Purse, Sale, Server, ServerConfig, Verdict,
};
use agent_pay::transport::Answer;
use serde_json::json;

use crate::common::{money, op, who};
use crate::market::{Market, account, get, key, keys, pay, problem, secret, with};
use crate::seller::manual;
use crate::session::{act, opened, voucher};

const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);

/// A market whose offers hold for so long, and its sessions for so long after them.
async fn market(offers: Duration, sessions: Duration) -> (Arc<ManualClock>, Market) {
    let (clock, env) = manual();
    let key = OfferKey::new(secret(7)).unwrap();
    let configure = |config: ServerConfig| {
        config
            .with_offers_for(offers)
            .with_session_max(sessions)
            .with_refunds()
    };
    (clock, Market::open_with(env, key, configure).await)
}

async fn purge(market: &Market) -> Purged {
    market.server.purge(Duration::ZERO, 100).await.unwrap()
}

fn is_replayed(answer: &Answer) -> bool {
    answer.status() == 200 && answer.headers()["idempotent-replayed"] == "true"
}

#[tokio::test]
async fn an_answer_is_kept_a_day_and_as_long_as_its_offer_and_then_buys_nothing_more() {
    // An offer that holds for less than answers are kept, and one that holds for longer.
    for offers in [Duration::from_secs(300), 3 * DAY] {
        let (clock, market) = market(offers, DAY).await;
        let challenge = market.challenge("/tea").await;
        let request = with(get(&market.at("/tea")), &pay(&challenge, "agent_buyer"));
        assert_eq!(market.send(request.clone()).await.status(), 200);
        let ends = offers.max(DAY);
        for time in [ends - MS, MS] {
            clock.advance(time);
            assert_eq!(purge(&market).await, Purged::default());
            assert!(is_replayed(&market.send(request.clone()).await));
        }
        clock.advance(MS);
        assert_eq!(purge(&market).await.n_charges, 1);
        assert_eq!(purge(&market).await, Purged::default());
        // What it paid is not given back on its buyer's word.
        let refund = Order::refund(
            &challenge.id,
            &who("agent_buyer"),
            op("r"),
            money("0.00001 USD"),
        );
        let payload = refund.payload(&key("agent_buyer")).unwrap();
        let refund = Credential::new(challenge.clone(), None, payload);
        let sale = Sale::new("GET /tea", vec![Offer::Charge(money("0.00001 USD"))]);
        let given = market.server.present(&refund, &sale, false).await.unwrap();
        assert!(matches!(given, Verdict::Refused(refused) if refused.is_final));
        // A receipt, and not what it bought.
        for _ in 0..2 {
            let again = market.send(request.clone()).await;
            assert!(again.headers().contains_key("payment-receipt"));
            assert!(
                again.body().is_empty() && !again.headers().contains_key("idempotent-replayed")
            );
        }
        assert_eq!(market.runs(), 1);
        assert_eq!(market.sales().await, (money("0.00001 USD"), money("0 USD")));
        market.close().await;
    }
}

/// A buyer closed a challenge, so that a copy of the payment on its way counts for nothing.
#[tokio::test]
async fn what_its_buyer_closed_stays_closed_while_its_offer_holds_and_after() {
    let (clock, market) = market(3 * DAY, DAY).await;
    let challenge = market.challenge("/tea").await;
    let request = with(get(&market.at("/tea")), &pay(&challenge, "agent_buyer"));
    let void = Order::void(&challenge.id, &who("agent_buyer"));
    let void = void.payload(&key("agent_buyer")).unwrap();
    let void = Credential::new(challenge, None, void);
    let closed = market.send(with(get(&market.at("/tea")), &void)).await;
    assert_eq!(problem(&closed), ("invalid-challenge".to_owned(), true));
    for (time, n_charges) in [(3 * DAY - MS, 0), (MS, 0), (MS, 1)] {
        clock.advance(time);
        assert_eq!(purge(&market).await.n_charges, n_charges);
        let again = market.send(request.clone()).await;
        assert!(problem(&again).1);
    }
    assert_eq!(market.runs(), 0);
    assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
    market.close().await;
}

/// A handler that never came to an end.
#[tokio::test]
async fn what_money_is_held_for_is_kept() {
    let (clock, market) = market(Duration::from_secs(300), DAY).await;
    let challenge = market.challenge("/tea").await;
    let credential = pay(&challenge, "agent_buyer");
    let sale = Sale::new("GET /tea", vec![Offer::Charge(money("0.00001 USD"))]);
    let lost = market
        .server
        .present(&credential, &sale, false)
        .await
        .unwrap();
    assert!(matches!(lost, Verdict::Run(_)));
    clock.advance(30 * DAY);
    assert_eq!(purge(&market).await, Purged::default());
    market.seller.sweep(100).await.unwrap();
    assert_eq!(purge(&market).await.n_charges, 1);
    let again = market
        .send(with(get(&market.at("/tea")), &credential))
        .await;
    assert!(problem(&again).1);
    assert_eq!(market.runs(), 0);
    assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn an_answer_to_a_voucher_is_kept_as_long_as_its_session_and_then_buys_nothing_more() {
    for sessions in [Duration::from_secs(3_600), 3 * DAY] {
        let offers = Duration::from_secs(300);
        let (clock, market) = market(offers, sessions).await;
        let open = opened(&market).await;
        let id = open.challenge.id.clone();
        // It promises more than its answer cost.
        let promise = voucher(&id, "0.90 USD", "agent_buyer");
        let payload = json!({ "action": "voucher", "channelId": id, "voucher": promise });
        assert_eq!(act(&market, &open, payload.clone()).await.status(), 200);
        let session = offers + sessions;
        let last = session.max(DAY);
        let mut time = Duration::ZERO;
        for until in [session - MS, last - MS, last] {
            clock.advance(until.saturating_sub(time));
            time = time.max(until);
            assert_eq!(purge(&market).await, Purged::default());
            assert!(is_replayed(&act(&market, &open, payload.clone()).await));
            assert_eq!(market.runs(), 1);
        }
        clock.advance(MS);
        // The one that opened it, and the one that bought something.
        assert_eq!(purge(&market).await.n_vouchers, 2);
        let again = act(&market, &open, payload.clone()).await;
        assert_eq!(problem(&again).0, "session/channel-finalized");
        // The deposit is held until somebody closes the session.
        clock.advance(10 * DAY);
        assert_eq!(purge(&market).await, Purged::default());
        assert_eq!(market.server.close_ended(10).await.unwrap(), 1);
        assert_eq!(purge(&market).await.n_sessions, 1);
        let again = act(&market, &open, payload).await;
        assert_eq!(problem(&again).0, "session/channel-not-found");
        let reopened = market.send(with(get(&market.at("/metered")), &open)).await;
        assert_eq!(problem(&reopened).0, "payment-expired");
        assert_eq!(market.runs(), 1);
        market.close().await;
    }
}

/// One whose deposit nobody captured in time keeps nobody else's from being captured.
#[tokio::test]
async fn a_session_whose_deposit_is_gone_keeps_no_other_from_being_closed() {
    let (clock, market) = market(Duration::from_secs(300), Duration::from_secs(3_600)).await;
    let buy = async || {
        let open = opened(&market).await;
        let id = open.challenge.id.clone();
        let promise = voucher(&id, "0.90 USD", "agent_buyer");
        let payload = json!({ "action": "voucher", "channelId": id, "voucher": promise });
        assert_eq!(act(&market, &open, payload).await.status(), 200);
    };
    buy().await;
    clock.advance(DAY);
    buy().await;
    clock.advance(Duration::from_secs(4_000));
    assert_eq!(market.server.close_ended(10).await.unwrap(), 2);
    assert_eq!(market.server.close_ended(10).await.unwrap(), 0);
    assert_eq!(market.sales().await.0, money("0.10 USD"));
    market.close().await;
}

/// Two servers may share a store, and each says how long it keeps what is its own.
#[tokio::test]
async fn a_server_keeps_the_sessions_of_another_realm() {
    let (clock, market) = market(Duration::from_secs(300), Duration::from_secs(3_600)).await;
    opened(&market).await;
    clock.advance(Duration::from_secs(3_900));
    assert_eq!(market.server.close_ended(10).await.unwrap(), 1);
    clock.advance(2 * DAY);
    let purses: BTreeMap<agent_core::Principal, Purse> = BTreeMap::new();
    let config = ServerConfig::new(
        "other.test",
        account("sales"),
        OfferKey::new(secret(7)).unwrap(),
        Arc::new(keys()),
        Arc::new(purses),
    );
    let other = Server::open(market.seller.clone(), market.env.clone(), config);
    let forgotten = other.await.unwrap().purge(Duration::ZERO, 100).await;
    assert_eq!(forgotten.unwrap(), Purged::default());
    assert_eq!(purge(&market).await.n_sessions, 1);
    market.close().await;
}
