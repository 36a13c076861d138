//! The selling side behind real HTTP: one payment does its work once, whatever is sent how often.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_pay::x402::{Identifier, Sale, SettlePolicy};
use agent_pay::x402::{Network, PaymentPayload, PaymentRequired, SettleResponse, Version, header};
use serde_json::json;
use tokio::task::JoinSet;

use crate::house::{House, PRICE, Shop, Work, asked, config};

pub(crate) fn header_of(
    answer: &http::Response<Vec<u8>>,
    name: &http::HeaderName,
) -> Option<String> {
    answer
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
}

pub(crate) fn said(answer: &http::Response<Vec<u8>>) -> SettleResponse {
    let value = answer.headers().get(header::PAYMENT_RESPONSE).unwrap();
    SettleResponse::read(&header::decode(value).unwrap()).unwrap()
}

pub(crate) fn why(answer: &http::Response<Vec<u8>>) -> String {
    assert_eq!(answer.status(), 402);
    let value = answer.headers().get(header::PAYMENT_REQUIRED).unwrap();
    let required = PaymentRequired::read(&header::decode(value).unwrap()).unwrap();
    required.error.unwrap()
}

pub(crate) fn code(answer: &http::Response<Vec<u8>>) -> String {
    let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    body["error"].as_str().unwrap().to_owned()
}

pub(crate) const POLICIES: [SettlePolicy; 2] = [SettlePolicy::SettleFirst, SettlePolicy::WorkFirst];

#[tokio::test]
async fn what_is_not_paid_costs_what_it_says_in_both_versions() {
    let house = House::open(0).await;
    let shop = house
        .sells(Sale::new(vec![asked()]).with_description("words", "text/plain"))
        .await;
    let answer = shop.send("GET", "/a?x=1", "", "").await;
    assert_eq!(why(&answer), "payment required");
    assert_eq!(
        header_of(&answer, &http::header::CACHE_CONTROL).as_deref(),
        Some("no-store")
    );
    let v2 = answer.headers().get(header::PAYMENT_REQUIRED).unwrap();
    let v2 = PaymentRequired::read(&header::decode(v2).unwrap()).unwrap();
    let v1 = PaymentRequired::read(answer.body()).unwrap();
    assert_eq!((v1.version, v2.version), (Version::V1, Version::V2));
    assert_eq!((&v1.accepts, &v2.accepts), (&vec![asked()], &vec![asked()]));
    assert_eq!(v2.resource.unwrap().url, "https://api.example/a?x=1");
    assert_eq!(house.n_worked(), 0);
}

/// The official middleware runs the handler 7 times for 10 replays in parallel, and answers 402 to
/// a replay later.
#[tokio::test]
async fn one_payment_replayed_100_times_in_parallel_works_once() {
    for policy in POLICIES {
        let house = House::open(100_000).await;
        let shop = house.sells_by(policy).await;
        let shop = Arc::new(shop);
        let payment = house.payment().await;
        let mut replays = JoinSet::new();
        for _ in 0..100 {
            let (shop, payment) = (Arc::<Shop>::clone(&shop), payment.clone());
            replays.spawn(async move { shop.get("/a", &payment).await });
        }
        let mut n_answered = 0;
        while let Some(answer) = replays.join_next().await {
            let answer = answer.unwrap();
            match answer.status().as_u16() {
                200 => {
                    assert_eq!(answer.body(), b"work 1 of ");
                    assert!(said(&answer).success);
                    n_answered += 1;
                }
                409 => assert!(answer.headers().contains_key(http::header::RETRY_AFTER)),
                // Work first: the settlement is another's at the moment.
                503 => assert!(policy == SettlePolicy::WorkFirst),
                other => assert_eq!(other, 200, "{policy:?}"),
            }
        }
        assert!(n_answered >= 1);
        assert_eq!(house.n_worked(), 1, "{policy:?}");
        assert_eq!(house.earned().await, i128::try_from(PRICE).unwrap());

        // An hour later, when the authorization itself is over.
        house.wait(3_600);
        let later = shop.get("/a", &payment).await;
        assert_eq!(
            (later.status().as_u16(), later.body().as_slice()),
            (200, &b"work 1 of "[..])
        );
        let replayed = http::HeaderName::from_static("idempotent-replayed");
        assert_eq!(header_of(&later, &replayed).as_deref(), Some("true"));
        assert_eq!(
            header_of(&later, &http::HeaderName::from_static("x-work")).as_deref(),
            Some("1")
        );
        assert!(
            !later.headers().contains_key("set-cookie"),
            "it was another answer's"
        );
        assert_eq!(house.n_worked(), 1);
        shop.seller.close().await;
    }
}

/// Of the same answers nothing may come from a cache that others share.
#[tokio::test]
async fn what_is_bought_is_kept_out_of_caches() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    let payment = house.payment().await;
    for _ in 0..2 {
        let answer = shop.get("/a", &payment).await;
        let cache = header_of(&answer, &http::header::CACHE_CONTROL);
        assert_eq!(cache.as_deref(), Some("private, no-store"));
        assert!(
            header_of(&answer, &http::header::VARY)
                .unwrap()
                .contains("payment-signature")
        );
    }
}

pub(crate) fn named(payment: &PaymentPayload, id: &str) -> String {
    let mut json = payment.to_json();
    json["extensions"]["payment-identifier"] = json!({ "info": { "required": false, "id": id } });
    json.to_string()
}

#[tokio::test]
async fn a_payment_identifier_names_one_payment() {
    let house = House::open(100_000).await;
    let sale = Sale::new(vec![asked()]).with_identifier(Identifier::Required);
    let shop = house.sells(sale).await;
    let answer = shop.send("GET", "/a", "", "").await;
    let value = answer.headers().get(header::PAYMENT_REQUIRED).unwrap();
    let required = PaymentRequired::read(&header::decode(value).unwrap()).unwrap();
    assert_eq!(
        required.extensions["payment-identifier"]["info"],
        json!({ "required": true })
    );

    let (one, two) = (house.payment().await, house.payment().await);
    let nameless = shop.get("/a", &one).await;
    assert_eq!(
        (nameless.status().as_u16(), code(&nameless).as_str()),
        (400, "invalid_payment_identifier")
    );
    let long = "x".repeat(129);
    for bad in [
        "too_short",
        "with space 0123456",
        long.as_str(),
        "über_0123456789ab",
    ] {
        assert_eq!(
            shop.send("GET", "/a", "", &named(&one, bad)).await.status(),
            400
        );
    }
    let id = "pay_7d5d747be160e280504c099d984bcfe0";
    assert_eq!(
        shop.send("GET", "/a", "", &named(&one, id)).await.status(),
        200
    );
    assert_eq!(
        shop.send("GET", "/a", "", &named(&one, id)).await.body(),
        b"work 1 of "
    );
    // Signed anew under the same name: not paid a second time.
    let answer = shop.send("GET", "/a", "", &named(&two, id)).await;
    assert_eq!(
        (answer.status().as_u16(), code(&answer).as_str()),
        (409, "payment_used_otherwise")
    );
    let answer = shop.send("GET", "/b", "", &named(&one, id)).await;
    assert_eq!(answer.status(), 409);
    assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
}

#[tokio::test]
async fn work_that_fails_is_done_again_without_another_payment() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    *shop.work.statuses.lock() = vec![500, 503];
    let payment = house.payment().await;
    let statuses = [503, 500, 200, 200];
    for expected in statuses {
        assert_eq!(shop.get("/a", &payment).await.status().as_u16(), expected);
    }
    assert_eq!((house.n_worked(), house.earned().await), (3, 1_000));
    assert_eq!(house.facilitator.n_settles.load(Ordering::SeqCst), 1);

    // Work first: an error costs nothing.
    let house = House::open(100_000).await;
    let sale = Sale::new(vec![asked()]).with_policy(SettlePolicy::WorkFirst);
    let shop = house.sells(sale).await;
    *shop.work.statuses.lock() = vec![404];
    let payment = house.payment().await;
    assert_eq!(shop.get("/a", &payment).await.status(), 404);
    assert_eq!(house.earned().await, 0);
    assert_eq!(shop.get("/a", &payment).await.status(), 200);
    assert_eq!((house.n_worked(), house.earned().await), (2, 1_000));
}

#[tokio::test]
async fn a_client_that_hangs_up_loses_the_answer_and_not_the_work() {
    let house = House::open(100_000).await;
    let seller = house.seller(config()).await;
    let layer = seller.layer(Sale::new(vec![asked()])).unwrap();
    let gate = Some(tokio::sync::Semaphore::new(0));
    let work = Work {
        gate,
        ..Work::default()
    };
    let shop = Arc::new(house.serve(seller, layer, work).await);
    let payment = house.payment().await;
    let mut first = JoinSet::new();
    {
        let (shop, payment) = (Arc::<Shop>::clone(&shop), payment.clone());
        first.spawn(async move { shop.get("/a", &payment).await });
    }
    while house.n_worked() == 0 {
        tokio::task::yield_now().await;
    }
    first.shutdown().await;
    let meanwhile = shop.get("/a", &payment).await;
    assert_eq!(
        (meanwhile.status().as_u16(), code(&meanwhile).as_str()),
        (409, "payment_in_progress")
    );
    shop.work.gate.as_ref().unwrap().add_permits(1);
    shop.seller.close().await;
    let answer = shop.get("/a", &payment).await;
    assert_eq!(
        (answer.status().as_u16(), answer.body().as_slice()),
        (200, &b"work 1 of "[..])
    );
    assert_eq!(house.n_worked(), 1);
}

#[tokio::test]
async fn a_client_of_version_1_pays_and_is_told_in_version_1() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    let v1 = PaymentPayload::new_v1(Network::evm(84_532), house.payment().await.signed);
    let answer = shop.get("/a", &v1).await;
    assert_eq!(answer.status(), 200);
    let value = answer.headers().get(header::X_PAYMENT_RESPONSE).unwrap();
    let said = SettleResponse::read(&header::decode(value).unwrap()).unwrap();
    assert_eq!(
        (said.success, said.network.as_str()),
        (true, "base-sepolia")
    );
    assert!(!answer.headers().contains_key(header::PAYMENT_RESPONSE));
}
