//! An agent that buys by the Agentic Commerce Protocol under the spend authority, from a seller that
//! loses answers.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use crate::acp_shop::{Served, env};
use crate::common::{Shop as Authority, money, op};
use agent_core::{BoxError, Entropy, EntropyExt, IdempotencyKey, Secret, SeededEntropy};
use agent_pay::acp::{
    AcpClient, AcpRail, Checkout, Credential, Credentials, FulfillmentDetails, Selected,
};
use agent_pay::authority::{Intent, SpendState};
use agent_pay::rail::{Outcome, Paid, Payer, Payment, Rail};
use agent_pay::transport::{Answer, Direct, DirectConfig, Lost, Request, Transport};
use serde_json::json;

pub(crate) const POLICY: &str =
    "[node.acme]\nlimits = [\"5000.00 USD lifetime\"]\nfirst_payee = \"allow\"";

#[derive(Debug)]
pub(crate) struct Token(pub(crate) &'static str);

#[async_trait::async_trait]
impl Credentials for Token {
    async fn credential(
        &self,
        _payment: &Payment,
        checkout: &Checkout,
    ) -> Result<(String, Credential), BoxError> {
        assert!(checkout.total().is_some());
        Ok(("card_tokenized".to_owned(), Credential::new("spt", self.0)))
    }
}

/// Loses requests and answers, of a million each.
#[derive(Debug)]
struct Lossy {
    direct: Direct,
    entropy: SeededEntropy,
    lost_requests: u32,
    lost_answers: u32,
}

#[async_trait::async_trait]
impl Transport for Lossy {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let entropy: &dyn Entropy = &self.entropy;
        if entropy.chance(self.lost_requests) {
            return Err(Lost::may_have_arrived("the request was lost"));
        }
        let answer = self.direct.send(request).await?;
        if entropy.chance(self.lost_answers) {
            return Err(Lost::may_have_arrived("the answer was lost"));
        }
        Ok(answer)
    }
}

fn client(base: &str, seed: u64, lost: (u32, u32)) -> AcpClient {
    let transport = Lossy {
        direct: Direct::new(DirectConfig::new()).unwrap(),
        entropy: SeededEntropy::new(seed),
        lost_requests: lost.0,
        lost_answers: lost.1,
    };
    AcpClient::new(base, &Secret::from("bearer_a"), Arc::new(transport)).unwrap()
}

/// A session of one cup by post: 20.00.
pub(crate) async fn ready(served: &Served, name: &str) -> String {
    let client = client(&served.base, 0, (0, 0));
    let key = |step: &str| IdempotencyKey::new(format!("{step}{name}")).unwrap();
    let made = client
        .create(&key("c"), &["cup"], "usd", None, None)
        .await
        .unwrap();
    let details: FulfillmentDetails = serde_json::from_value(json!({
        "address": { "name": "A", "line_one": "1", "city": "X", "state": "NY", "country": "US",
            "postal_code": "1" },
    }))
    .unwrap();
    let selected: Vec<Selected> = serde_json::from_value(json!([
        { "type": "shipping", "option_id": "slow", "item_ids": ["li_cup"] }
    ]))
    .unwrap();
    client
        .update(&key("u"), &made.id, Some(&details), Some(&selected))
        .await
        .unwrap();
    made.id
}

async fn payer(
    shop: &Authority,
    served: &Served,
    token: &'static str,
    seed: u64,
    lost: (u32, u32),
) -> (AcpRail, Payer) {
    let (client, env) = (client(&served.base, seed, lost), env(&shop.clock, 1));
    let db = shop.authority.db().clone();
    let rail = AcpRail::open(client, db, &env, Token(token)).await.unwrap();
    let rail = rail.with_grace(Duration::ZERO);
    let payer = Payer::new(shop.authority.clone(), Arc::new(rail.clone()));
    (rail, payer)
}

pub(crate) fn intent(shop: &Authority, key: &str, session: &str, amount: &str) -> Intent {
    shop.intent(key, "acme", amount)
        .with_rail("acp")
        .with_resource(session, "a cup")
}

#[tokio::test(flavor = "multi_thread")]
async fn books_of_agent_and_seller_agree_after_every_loss_and_restart() {
    for seed in 0..4 {
        let mut shop = Authority::open(POLICY).await;
        let mut served = Served::open().await;
        let mut sessions = Vec::new();
        for n in 0..20 {
            sessions.push(ready(&served, &format!("s{n}")).await);
        }
        let lost = (100_000, 200_000);
        for (n, session) in sessions.iter().enumerate() {
            if n == 10 {
                served = served.restart().await;
                shop = shop.restart().await;
            }
            let (_rail, payer) = payer(&shop, &served, "spt_1", seed * 100 + n as u64, lost).await;
            for _ in 0..2 {
                let intent = intent(&shop, &format!("k{n}"), session, "20.00 USD");
                let _paid = payer.pay(intent).await.unwrap();
            }
        }
        let (_rail, payer) = payer(&shop, &served, "spt_1", seed, (50_000, 50_000)).await;
        for _ in 0..60 {
            payer.reconcile(100).await.unwrap();
        }
        assert!(
            shop.authority.submitted(10).await.unwrap().is_empty(),
            "seed {seed}"
        );
        let mut captured = 0;
        for n in 0..20 {
            let hold = shop
                .authority
                .spend(op(&format!("k{n}")))
                .await
                .unwrap()
                .unwrap();
            captured += hold.captured.units() / 10_000;
        }
        assert_eq!(captured, served.shop.taken().await, "seed {seed}");
        assert!(captured > 0);
        shop.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_seller_asks_must_be_what_was_authorized() {
    let (shop, served) = (Authority::open(POLICY).await, Served::open().await);
    let (rail, payer) = payer(&shop, &served, "spt_1", 1, (0, 0)).await;
    let session = ready(&served, "a").await;
    for (key, amount) in [
        ("less", "19.99 USD"),
        ("more", "20.01 USD"),
        ("euro", "20.00 EUR"),
    ] {
        let outcome = rail
            .pay(Payment::new(op(key), "shop", money(amount)).with_resource(&session))
            .await;
        assert_eq!(outcome, Outcome::failed("another_total"), "{key}");
        assert_eq!(rail.look_up(op(key)).await, outcome);
    }
    assert!(served.shop.charges().is_empty());
    let paid = payer
        .pay(intent(&shop, "k", &session, "20.00 USD"))
        .await
        .unwrap();
    assert!(
        matches!(&paid, Paid::Settled(hold) if hold.captured == money("20.00 USD")),
        "{paid:?}"
    );
    // A second payment for the same session is none.
    let again = payer
        .pay(intent(&shop, "k2", &session, "20.00 USD"))
        .await
        .unwrap();
    assert!(matches!(again, Paid::Failed(_)), "{again:?}");
    assert_eq!(served.shop.taken().await, 2_000);
    for hostile in ["../../etc", "a/b", "a?b", "", "..", "a b"] {
        let payment = Payment::new(op(&format!("h{}", hostile.len())), "shop", money("1 USD"));
        let outcome = rail.pay(payment.with_resource(hostile)).await;
        assert!(
            matches!(outcome, Outcome::Failed { .. }),
            "{hostile} {outcome:?}"
        );
    }
    shop.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_stays_held_until_the_seller_knows() {
    let (shop, served) = (Authority::open(POLICY).await, Served::open().await);
    let (_rail, payer) = payer(&shop, &served, "spt_lost", 1, (0, 0)).await;
    let session = ready(&served, "a").await;
    let paid = payer
        .pay(intent(&shop, "k", &session, "20.00 USD"))
        .await
        .unwrap();
    assert!(matches!(paid, Paid::Unknown { .. }), "{paid:?}");
    served.shop.set_away(true);
    for _ in 0..3 {
        assert_eq!(payer.reconcile(10).await.unwrap(), 0);
    }
    let hold = shop.authority.spend(op("k")).await.unwrap().unwrap();
    assert_eq!(hold.state, SpendState::Submitted);
    served.shop.set_away(false);
    assert_eq!(served.seller.reconcile(10).await.unwrap(), 1);
    assert_eq!(payer.reconcile(10).await.unwrap(), 1);
    let hold = shop.authority.spend(op("k")).await.unwrap().unwrap();
    assert_eq!(
        (hold.state, hold.captured),
        (SpendState::Captured, money("20.00 USD"))
    );
    assert_eq!(
        (served.shop.charges().len(), served.shop.taken().await),
        (1, 2_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_checkout_frees_the_hold_and_an_unseen_one_is_closed() {
    let (shop, served) = (Authority::open(POLICY).await, Served::open().await);
    let (rail, payer) = payer(&shop, &served, "spt_declined", 1, (0, 0)).await;
    let session = ready(&served, "a").await;
    let paid = payer
        .pay(intent(&shop, "k", &session, "20.00 USD"))
        .await
        .unwrap();
    assert!(matches!(paid, Paid::Failed(_)), "{paid:?}");
    assert_eq!(
        rail.look_up(op("k")).await,
        Outcome::failed("payment_declined")
    );
    assert_eq!(
        rail.look_up(op("unseen")).await,
        Outcome::failed("never_sent")
    );
    let late = Payment::new(op("unseen"), "shop", money("20.00 USD")).with_resource(&session);
    assert_eq!(rail.pay(late).await, Outcome::failed("never_sent"));
    assert_eq!(served.shop.taken().await, 0);
    shop.check().await;
}
