//! One run and one payment for one credential, and nothing for what was altered.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Env, ManualClock, SeededEntropy, Timestamp};
use agent_pay::authority::Vote;
use agent_pay::mpp::{Offer, OfferKey, Order, PaymentRequest, Receipt, Sale, Verdict};
use tokio::task::JoinSet;

use crate::common::{NOON_MS, money, who};
use crate::market::{Market, challenges, get, pay, problem, secret, with};

pub(crate) fn manual() -> (Arc<ManualClock>, Env) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(NOON_MS)));
    let shared: Arc<dyn agent_core::Clock> = Arc::<ManualClock>::clone(&clock);
    (clock, Env::new(shared, Arc::new(SeededEntropy::new(1))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_credential_a_hundred_times_runs_the_handler_once_and_is_answered_again() {
    let (clock, env) = manual();
    let market = Arc::new(Market::open(env).await);
    let challenge = market.challenge("/tea").await;
    let request = with(get(&market.at("/tea")), &pay(&challenge, "agent_buyer"));
    let mut copies = JoinSet::new();
    for _ in 0..100 {
        let (market, request) = (Arc::clone(&market), request.clone());
        copies.spawn(async move { market.send(request).await });
    }
    let answers = copies.join_all().await;
    assert_eq!(market.runs(), 1);
    let mut n_first = 0;
    for answer in &answers {
        match answer.status().as_u16() {
            200 => {
                assert_eq!(answer.body(), b"run 1");
                assert_eq!(answer.headers()["x-from"], "handler");
                assert_eq!(answer.headers()["cache-control"], "private");
                let receipt = answer.headers()["payment-receipt"].to_str().unwrap();
                let receipt = Receipt::parse(receipt).unwrap();
                assert_eq!(receipt.challenge_id.as_deref(), Some(&*challenge.id));
                n_first += usize::from(!answer.headers().contains_key("idempotent-replayed"));
            }
            409 => assert!(answer.headers().contains_key("retry-after")),
            other => panic!("{other}"),
        }
    }
    assert_eq!(n_first, 1);
    // Later, and after the offer is over, it is answered as it was.
    for wait in [1, 600] {
        clock.advance(Duration::from_secs(wait));
        let later = market.send(request.clone()).await;
        assert_eq!(
            (later.status().as_u16(), &later.body()[..]),
            (200, &b"run 1"[..])
        );
        assert_eq!(later.headers()["idempotent-replayed"], "true");
    }
    assert_eq!(market.runs(), 1);
    assert_eq!(market.sales().await, (money("0.00001 USD"), money("0 USD")));
    Arc::into_inner(market).unwrap().close().await;
}

#[tokio::test]
async fn what_was_altered_pays_for_nothing() {
    let market = Market::open(manual().1).await;
    let challenge = market.challenge("/tea").await;
    let honest = pay(&challenge, "agent_buyer");
    let cheap = PaymentRequest::charge(money("0.000001 USD"), "sales").encode();
    let mut altered = Vec::new();
    for n in 0..6 {
        let mut challenge = challenge.clone();
        match n {
            0 => challenge.request = cheap.as_ref().unwrap().clone(),
            1 => challenge.realm = "other.test".to_owned(),
            2 => challenge.expires = Some("2027-01-01T00:00:00Z".to_owned()),
            3 => challenge.opaque = None,
            4 => challenge.digest = Some("sha-256=:AAAA:".to_owned()),
            _ => challenge.intent = "session".to_owned(),
        }
        altered.push(pay(&challenge, "agent_buyer"));
    }
    for credential in altered {
        let answer = market
            .send(with(get(&market.at("/tea")), &credential))
            .await;
        assert_eq!(problem(&answer), ("invalid-challenge".to_owned(), false));
    }
    // Another resource, another query, another body, another method.
    let elsewhere = [
        get(&market.at("/dear")),
        get(&market.at("/tea?sugar=2")),
        http::Request::post(market.at("/tea"))
            .body(Vec::new())
            .unwrap(),
        http::Request::get(market.at("/tea"))
            .body(b"x".to_vec())
            .unwrap(),
    ];
    for request in elsewhere {
        let answer = market.send(with(request, &honest)).await;
        assert_eq!(problem(&answer).0, "invalid-challenge");
    }
    market.close().await;
}

#[tokio::test]
async fn a_proof_of_something_else_or_of_nothing_pays_for_nothing() {
    let market = Market::open(manual().1).await;
    let challenge = market.challenge("/tea").await;
    let honest = pay(&challenge, "agent_buyer");
    // A proof of somebody else, for another amount, or about another challenge.
    let other = market.challenge("/tea").await;
    let orders = [
        Order::pay(
            &challenge.id,
            &who("agent_buyer"),
            money("0.000001 USD"),
            "sales",
        ),
        Order::pay(
            &challenge.id,
            &who("agent_buyer"),
            money("0.00001 USD"),
            "bank",
        ),
        Order::pay(
            &challenge.id,
            &who("agent_poor"),
            money("0.00001 USD"),
            "sales",
        ),
        Order::pay(
            &other.id,
            &who("agent_buyer"),
            money("0.00001 USD"),
            "sales",
        ),
    ];
    for order in orders {
        let mut credential = honest.clone();
        credential.payload = order.payload(&crate::market::key("agent_buyer")).unwrap();
        let answer = market
            .send(with(get(&market.at("/tea")), &credential))
            .await;
        assert_eq!(problem(&answer).0, "verification-failed");
    }
    for field in ["Payment !!!", "Payment e30", "Payment ", "payment W10"] {
        let mut request = get(&market.at("/tea"));
        request
            .headers_mut()
            .insert("authorization", field.parse().unwrap());
        assert_eq!(
            problem(&market.send(request).await).0,
            "malformed-credential"
        );
    }
    let mut twice = with(get(&market.at("/tea")), &honest);
    let again = twice.headers()["authorization"].clone();
    twice.headers_mut().append("authorization", again);
    assert_eq!(market.send(twice).await.status(), 400);
    market.close().await;
}

#[tokio::test]
async fn only_an_answer_of_success_is_paid_for_and_a_failed_run_is_not_repeated() {
    let market = Market::open(manual().1).await;
    for (path, status) in [("/missing", 404), ("/broken", 500), ("/long", 500)] {
        let before = market.runs();
        let credential = pay(&market.challenge(path).await, "agent_buyer");
        let request = with(get(&market.at(path)), &credential);
        let answer = market.send(request.clone()).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert!(!answer.headers().contains_key("payment-receipt"));
        let again = market.send(request).await;
        match status {
            404 => assert_eq!(again.status(), 404),
            _ => assert_eq!(problem(&again), ("invalid-challenge".to_owned(), true)),
        }
        assert_eq!(market.runs(), before + 1, "{path}");
    }
    assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_loses_the_answer_and_neither_the_work_nor_the_payment() {
    let market = Arc::new(Market::open(manual().1).await);
    let credential = pay(&market.challenge("/slow").await, "agent_buyer");
    let request = with(get(&market.at("/slow")), &credential);
    let mut hung_up = JoinSet::new();
    let (sender, sent) = (Arc::clone(&market), request.clone());
    hung_up.spawn(async move { sender.send(sent).await });
    market.shelf.reached.notified().await;
    hung_up.shutdown().await;
    assert_eq!(market.send(request.clone()).await.status(), 409);
    market.shelf.go_on.notify_one();
    market.server.close().await;
    let answer = market.send(request).await;
    assert_eq!(answer.body(), b"slowly");
    assert_eq!(answer.headers()["idempotent-replayed"], "true");
    assert_eq!(market.runs(), 1);
    assert_eq!(market.sales().await, (money("0.00001 USD"), money("0 USD")));
    Arc::into_inner(market).unwrap().close().await;
}

#[tokio::test]
async fn a_run_that_is_cut_off_is_given_back_and_not_repeated() {
    let (clock, env) = manual();
    let market = Market::open(env).await;
    let credential = pay(&market.challenge("/tea").await, "agent_buyer");
    let sale = Sale::new("GET /tea", vec![Offer::Charge(money("0.00001 USD"))]);
    // As when the process is killed while the handler runs.
    let verdict = market.server.present(&credential, &sale, false).await;
    let Verdict::Run(lost) = verdict.unwrap() else {
        panic!("not run");
    };
    drop(lost);
    assert_eq!(market.sales().await.1, money("0.00001 USD"));
    let request = with(get(&market.at("/tea")), &credential);
    assert_eq!(market.send(request.clone()).await.status(), 409);
    // The lease ends before the hold does.
    clock.advance(Duration::from_secs(121));
    for _ in 0..2 {
        let late = market.send(request.clone()).await;
        assert_eq!(problem(&late), ("invalid-challenge".to_owned(), true));
    }
    assert_eq!(market.runs(), 0);
    assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_ended_and_not_paid_for() {
    let (clock, env) = manual();
    let market = Arc::new(Market::open(env).await);
    let credential = pay(&market.challenge("/stuck").await, "agent_buyer");
    let request = with(get(&market.at("/stuck")), &credential);
    let mut running = JoinSet::new();
    let sender = Arc::clone(&market);
    running.spawn(async move { sender.send(request).await.status().as_u16() });
    market.shelf.reached.notified().await;
    clock.advance(Duration::from_secs(61));
    assert_eq!(running.join_all().await, [504]);
    assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
    Arc::into_inner(market).unwrap().close().await;
}

#[tokio::test]
async fn a_stored_answer_is_for_its_buyer_alone() {
    let market = Market::open(manual().1).await;
    let challenge = market.challenge("/tea").await;
    let paid = with(get(&market.at("/tea")), &pay(&challenge, "agent_buyer"));
    assert_eq!(market.send(paid).await.status(), 200);
    for order in [
        Order::pay(
            &challenge.id,
            &who("agent_poor"),
            money("0.00001 USD"),
            "sales",
        ),
        Order::void(&challenge.id, &who("agent_poor")),
    ] {
        let mut credential = pay(&challenge, "agent_poor");
        credential.payload = order.payload(&crate::market::key("agent_poor")).unwrap();
        let answer = market
            .send(with(get(&market.at("/tea")), &credential))
            .await;
        assert_eq!(problem(&answer), ("invalid-challenge".to_owned(), false));
    }
    assert_eq!(market.runs(), 1);
    market.close().await;
}

#[tokio::test]
async fn an_empty_purse_and_a_late_payment_use_the_challenge_up() {
    let (clock, env) = manual();
    let market = Market::open(env).await;
    let poor = pay(&market.challenge("/tea").await, "agent_poor");
    let request = with(get(&market.at("/tea")), &poor);
    for _ in 0..2 {
        let answer = market.send(request.clone()).await;
        assert_eq!(problem(&answer), ("verification-failed".to_owned(), true));
    }
    let late = pay(&market.challenge("/tea").await, "agent_buyer");
    clock.advance(Duration::from_secs(300));
    let answer = market.send(with(get(&market.at("/tea")), &late)).await;
    assert_eq!(problem(&answer), ("payment-expired".to_owned(), true));
    assert_eq!((market.runs(), market.sales().await.0), (0, money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn what_a_person_must_approve_waits_and_is_then_paid_with_the_same_credential() {
    let market = Market::open(manual().1).await;
    let credential = pay(&market.challenge("/tea").await, "agent_watched");
    let request = with(get(&market.at("/tea")), &credential);
    assert_eq!(market.send(request.clone()).await.status(), 409);
    let open = market.seller.open_requests(None).await.unwrap();
    let vote = market
        .seller
        .vote(open[0].digest, who("human:alice"), Vote::Approve);
    vote.await.unwrap();
    assert_eq!(market.send(request).await.status(), 200);
    assert_eq!(market.runs(), 1);
    market.close().await;
}

#[tokio::test]
async fn offers_outlive_a_change_of_the_secret_and_no_other_secret_makes_one() {
    let (_, env) = manual();
    let fresh = OfferKey::new(secret(8)).unwrap();
    let fresh = fresh.with_former(secret(7)).unwrap();
    let changed = Market::open_with(env.clone(), fresh, |config| config).await;
    let before = Market::open(env.clone()).await;
    let strange = OfferKey::new(secret(9)).unwrap();
    let strange = Market::open_with(env, strange, |config| config).await;
    for (of, status) in [(&before, 200), (&strange, 402)] {
        let credential = pay(&of.challenge("/tea").await, "agent_buyer");
        let answer = changed
            .send(with(get(&changed.at("/tea")), &credential))
            .await;
        assert_eq!(answer.status(), status);
    }
    assert!(OfferKey::new(agent_core::SecretBytes::new(Box::new(vec![1; 31]))).is_err());
    for market in [changed, before, strange] {
        market.close().await;
    }
}

#[tokio::test]
async fn clients_are_offered_what_they_can_use() {
    let market = Market::open(manual().1).await;
    let offered = async |accepted: &str| {
        let mut request = get(&market.at("/both"));
        let accepted = accepted.parse().unwrap();
        request.headers_mut().insert("accept-payment", accepted);
        let offered = challenges(&market.send(request).await);
        offered.into_iter().map(|c| c.intent).collect::<Vec<_>>()
    };
    assert_eq!(offered("ledger/*").await, ["charge", "session"]);
    assert_eq!(
        offered("ledger/session, */*;q=0.1").await,
        ["session", "charge"]
    );
    assert_eq!(offered("ledger/*, ledger/charge;q=0").await, ["session"]);
    assert_eq!(offered("tempo/charge").await, ["charge", "session"]);
    assert_eq!(offered(";;;").await, ["charge", "session"]);
    assert_eq!(market.get("/free").await.status(), 200);
    market.close().await;
}
