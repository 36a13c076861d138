//! The selling side behind real HTTP: one payment does its work once, whatever is sent how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_pay::x402::{
    Authorization, CanonicalKey, Chain, Domain, Execution, LedgerFacilitator, Network,
    PaymentPayload, PaymentRequired, SettleResponse, Version, header,
};
use agent_pay::x402::{Facilitator, Settlement, Verdict};
use agent_pay::x402::{Identifier, Sale, SettlePolicy, Undo};
use async_trait::async_trait;
use serde_json::json;
use tokio::task::JoinSet;

use crate::house::{House, Mood, PRICE, Shop, Work, asked, config};

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
        let shop = house
            .sells(Sale::new(vec![asked()]).with_policy(policy))
            .await;
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

/// The reference facilitator answers 1 success and 4 errors in parallel, and an error later.
#[tokio::test]
async fn a_settlement_is_the_same_success_every_time() {
    let house = House::open(100_000).await;
    let payment = house.payment().await;
    let mut settles = JoinSet::new();
    for _ in 0..5 {
        let (facilitator, payment) = (house.facilitator.inner.clone(), payment.clone());
        settles.spawn(async move { facilitator.settle(payment, asked()).await });
    }
    let first = settles.join_next().await.unwrap().unwrap();
    assert!(matches!(first, Settlement::Settled { .. }), "{first:?}");
    while let Some(again) = settles.join_next().await {
        assert_eq!(again.unwrap(), first);
    }
    // After its time too.
    house.wait(3_600);
    assert_eq!(
        house
            .facilitator
            .inner
            .settle(payment.clone(), asked())
            .await,
        first
    );
    assert_eq!(house.earned().await, i128::try_from(PRICE).unwrap());
    let verdict = house.facilitator.inner.verify(payment, asked()).await;
    assert!(matches!(verdict, Verdict::Invalid { .. }));
}

/// Behind a facilitator that is not idempotent the seller's answer is the same all the same: it says
/// once that a transaction failed though it did not, and ever after that the nonce is used.
#[tokio::test]
async fn a_lying_facilitator_is_not_believed() {
    for policy in POLICIES {
        for n_lies in 1..4 {
            let house = House::open(100_000).await;
            let shop = house
                .sells(Sale::new(vec![asked()]).with_policy(policy))
                .await;
            let mut moods = vec![Mood::Lie("invalid_exact_evm_nonce_already_used"); n_lies];
            moods.push(Mood::Deaf);
            *house.facilitator.moods.lock() = moods;
            let payment = house.payment().await;
            // The chain says what became of the first try, whose answer was lost.
            for _ in 0..3 {
                let answer = shop.get("/a", &payment).await;
                assert_eq!(answer.status(), 200, "{policy:?} {n_lies}");
                assert!(said(&answer).success);
            }
            assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
        }
    }
}

/// A chain that does not answer at first.
#[derive(Debug)]
struct Blind {
    chain: LedgerFacilitator,
    n_blind: AtomicU32,
}

#[async_trait]
impl Chain for Blind {
    async fn look_up(
        &self,
        domain: Domain,
        authorization: Authorization,
    ) -> agent_pay::Result<Execution> {
        let is_blind = |n: u32| n.checked_sub(1);
        let was = self
            .n_blind
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_blind);
        match was {
            Ok(_) => Err(agent_pay::Error::invalid("chain", "it does not answer")),
            Err(_) => self.chain.look_up(domain, authorization).await,
        }
    }
}

/// What fails after a try whose answer was lost may have failed because of it.
#[tokio::test]
async fn a_failure_after_an_unknown_try_is_unknown_until_the_chain_says() {
    for policy in POLICIES {
        let house = House::open(1_000).await;
        let chain = house.facilitator.inner.clone();
        let chain = Arc::new(Blind {
            chain,
            n_blind: 2.into(),
        });
        let seller = house.seller(config().with_chain(chain)).await;
        let layer = seller
            .layer(Sale::new(vec![asked()]).with_policy(policy))
            .unwrap();
        let shop = house.serve(seller, layer, Work::default()).await;
        *house.facilitator.moods.lock() = vec![
            Mood::Refuse("insufficient_funds"),
            Mood::Refuse("insufficient_funds"),
            Mood::Deaf,
        ];
        let payment = house.payment().await;
        for expected in [503, 503, 200, 200] {
            assert_eq!(
                shop.get("/a", &payment).await.status().as_u16(),
                expected,
                "{policy:?}"
            );
        }
        assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
    }
}

/// Of 20 different payments in parallel the reference stack answers most with 402, though it does
/// not know what became of them.
#[tokio::test]
async fn twenty_payments_in_parallel_are_paid_or_unknown_and_never_signed_again() {
    let house = House::open(100_000).await;
    // Without a chain to ask nothing is known of what fails.
    let seller = house.seller(config()).await;
    let layer = seller.layer(Sale::new(vec![asked()])).unwrap();
    let shop = Arc::new(house.serve(seller, layer, Work::default()).await);
    *house.facilitator.moods.lock() = [Mood::Idle, Mood::Deaf].repeat(6);
    let mut payments = Vec::new();
    for _ in 0..20 {
        payments.push(house.payment().await);
    }
    let mut sent = JoinSet::new();
    for payment in payments.clone() {
        let shop = Arc::<Shop>::clone(&shop);
        sent.spawn(async move { shop.get("/a", &payment).await });
    }
    let (mut n_paid, mut n_unknown) = (0, 0);
    while let Some(answer) = sent.join_next().await {
        let answer = answer.unwrap();
        if answer.status() == 200 {
            n_paid += 1;
        } else {
            assert_eq!(
                (answer.status().as_u16(), code(&answer).as_str()),
                (503, "settlement_unknown")
            );
            assert!(answer.headers().contains_key(http::header::RETRY_AFTER));
            assert!(!answer.headers().contains_key(header::PAYMENT_REQUIRED));
            n_unknown += 1;
        }
    }
    assert_eq!((n_paid, n_unknown), (8, 12));
    assert_eq!(shop.seller.reconcile(100).await.unwrap(), 12);
    for payment in &payments {
        assert_eq!(shop.get("/a", payment).await.status(), 200);
    }
    assert_eq!((house.n_worked(), house.earned().await), (20, 20_000));
}

#[tokio::test]
async fn unknown_is_never_answered_with_402() {
    for policy in POLICIES {
        let house = House::open(100_000).await;
        let shop = house
            .sells(Sale::new(vec![asked()]).with_policy(policy))
            .await;
        *house.facilitator.moods.lock() = vec![Mood::Idle; 2];
        let payment = house.payment().await;
        for _ in 0..2 {
            let answer = shop.get("/a", &payment).await;
            assert_eq!(
                (answer.status().as_u16(), code(&answer).as_str()),
                (503, "settlement_unknown")
            );
            assert!(!answer.headers().contains_key(header::PAYMENT_RESPONSE));
        }
        let answer = shop.get("/a", &payment).await;
        assert_eq!(answer.status(), 200, "the same payment, in the end");
        assert_eq!(
            (house.n_worked(), house.earned().await),
            (1, 1_000),
            "{policy:?}"
        );
    }
}

/// An unknown payment whose time is over is known: the chain closes it.
#[tokio::test]
async fn what_was_never_carried_out_is_known_after_its_time() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    *house.facilitator.moods.lock() = vec![Mood::Idle; 2];
    assert_eq!(shop.get("/a", &house.payment().await).await.status(), 503);
    assert_eq!(shop.seller.reconcile(100).await.unwrap(), 0);
    house.wait(61);
    assert_eq!(shop.seller.reconcile(100).await.unwrap(), 1);
    assert_eq!(shop.seller.reconcile(100).await.unwrap(), 0);
    assert_eq!((house.n_worked(), house.earned().await), (0, 0));
}

fn named(payment: &PaymentPayload, id: &str) -> String {
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

#[derive(Debug, Default)]
struct Undone(AtomicU32);

#[async_trait]
impl Undo for Undone {
    async fn undo(&self, _payment: CanonicalKey) -> agent_pay::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn work_whose_payment_fails_is_withheld_and_undone_once() {
    let house = House::open(100_000).await;
    let undone = Arc::new(Undone::default());
    let sale = Sale::new(vec![asked()]).with_policy(SettlePolicy::WorkFirst);
    let config = config().with_undo(Arc::<Undone>::clone(&undone) as Arc<dyn Undo>);
    let seller = house.seller(config).await;
    let layer = seller.layer(sale).unwrap();
    let shop = house.serve(seller, layer, Work::default()).await;
    *house.facilitator.moods.lock() = vec![Mood::Refuse("insufficient_funds")];
    let payment = house.payment().await;
    for _ in 0..3 {
        let answer = shop.get("/a", &payment).await;
        assert_eq!(why(&answer), "insufficient_funds");
        assert!(!said(&answer).success);
    }
    assert_eq!((house.n_worked(), house.earned().await), (1, 0));
    assert_eq!(undone.0.load(Ordering::SeqCst), 1);
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
