//! The buying side under a spend authority, against the selling side behind real HTTP.

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, Clock, Env, Principal, SeededEntropy};
use agent_pay::authority::{PolicyBook, Vote};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::conformance::RailSubject;
use agent_pay::rail::{Outcome, Paid, Payment, Rail};
use agent_pay::transport::{Answer, Direct, DirectConfig, Lost, Request, Transport};
use agent_pay::x402::Chain;
use agent_pay::x402::Facilitator;
use agent_pay::x402::Sale;
use agent_pay::x402::{
    Atomic, Domain, LocalKey, PayBack, Requirements, Signer, header, is_signed, sign_offers,
};
use agent_pay::x402::{Buyer, BuyerConfig, Fetched, Merchant, Purchase, Token};
use agent_pay::{BudgetPath, Budgets};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::house::{House, Mood, PRICE, Shop, asked, domain, payee};

/// What goes wrong on the wire next.
#[derive(Clone, Copy, Debug)]
enum Wire {
    /// The request arrives and its answer is lost.
    LosesAnswer,
    /// The request is lost on the way.
    LosesRequest,
    /// Nothing is sent.
    IsCut,
    /// It works.
    Works,
}

/// A transport that goes wrong, the last first, and counts payments that were sent.
#[derive(Debug)]
struct Wires {
    direct: Direct,
    next: Mutex<Vec<Wire>>,
    payments: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Wires {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let names = [header::PAYMENT_SIGNATURE, header::X_PAYMENT];
        let payment = names.iter().find_map(|name| request.headers().get(name));
        if let Some(payment) = payment {
            self.payments
                .lock()
                .push(payment.to_str().unwrap().to_owned());
        }
        let next = self.next.lock().pop();
        match next.unwrap_or(Wire::Works) {
            Wire::Works => self.direct.send(request).await,
            Wire::LosesAnswer => {
                let _lost = self.direct.send(request).await;
                Err(Lost::may_have_arrived("no answer in time"))
            }
            Wire::LosesRequest => Err(Lost::may_have_arrived("no answer in time")),
            Wire::IsCut => Err(Lost::not_sent("no route")),
        }
    }
}

const POLICY: &str = r#"
[node.acme]
limits = ["0.01 USD lifetime"]
first_payee = "allow"
rails = ["x402"]
payees = ["eip155:84532:*"]
approvers = ["human:alice"]
[node."acme/agent"]
alone_up_to = "0.005 USD"
"#;

struct Desk {
    authority: SqliteAuthority,
    buyer: Buyer,
    wires: Arc<Wires>,
    db: Db,
    _dir: tempfile::TempDir,
}

fn usd(units: i128) -> Amount {
    Amount::from_units(units, Asset::USD)
}

fn token() -> Token {
    Token::new(domain(), 6, usd(5_000)).unwrap()
}

fn env(house: &House, seed: u64) -> Env {
    let clock: Arc<dyn Clock> = Arc::<agent_core::ManualClock>::clone(&house.clock);
    Env::new(clock, Arc::new(SeededEntropy::new(seed)))
}

impl Desk {
    async fn open(house: &House, config: BuyerConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
        let db = Db::open(store, &env(house, 2)).await.unwrap();
        let authority = SqliteAuthority::open(db.clone()).await.unwrap();
        let book: PolicyBook = POLICY.parse().unwrap();
        authority.apply(book, Principal::host()).await.unwrap();
        let direct = Direct::new(DirectConfig::new()).unwrap();
        let wires = Arc::new(Wires {
            direct,
            next: Mutex::default(),
            payments: Mutex::default(),
        });
        let (signer, transport) = (
            Arc::<LocalKey>::clone(&house.key),
            Arc::<Wires>::clone(&wires),
        );
        let buyer = Buyer::open(db.clone(), env(house, 3), transport, signer, config)
            .await
            .unwrap();
        Self {
            authority,
            buyer,
            wires,
            db,
            _dir: dir,
        }
    }

    async fn fetch(&self, key: &str, url: &str) -> agent_pay::Result<Fetched> {
        let request = http::Request::get(url).body(Vec::new()).unwrap();
        let node = BudgetPath::new("acme/agent").unwrap();
        let who = Principal::new("agent_x").unwrap();
        let purchase = Purchase::new(
            agent_core::IdempotencyKey::new(key).unwrap(),
            node,
            who,
            request,
        );
        self.buyer.fetch(&self.authority, purchase).await
    }

    async fn bought(&self, key: &str, url: &str) -> Vec<u8> {
        match self.fetch(key, url).await.unwrap() {
            Fetched::Bought { answer, .. } => Ok(answer.unwrap().into_body()),
            other => Err(other),
        }
        .unwrap()
    }

    /// What is spent and what is held.
    async fn books(&self) -> (i128, i128) {
        let ledger = SqliteLedger::open(self.db.clone()).await.unwrap();
        let balance = Budgets::new(Arc::new(ledger))
            .balance(Asset::USD, BudgetPath::new("acme").unwrap())
            .await
            .unwrap();
        (balance.spent.units(), balance.held.units())
    }

    fn n_signed(&self) -> (usize, usize) {
        let sent = self.wires.payments.lock().clone();
        let different: std::collections::BTreeSet<_> = sent.iter().cloned().collect();
        (sent.len(), different.len())
    }
}

fn merchant(shop: &Shop) -> Merchant {
    Merchant::new(&shop.url, payee(), usd(1_000))
}

async fn market() -> (House, Shop, Desk) {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let chain: Arc<dyn Chain> = Arc::new(house.facilitator.inner.clone());
    let config = BuyerConfig::new(vec![token()])
        .with_merchant(merchant(&shop))
        .with_chain(chain);
    let desk = Desk::open(&house, config).await;
    (house, shop, desk)
}

mod rail {
    use super::*;

    async fn make() -> RailSubject {
        let house = House::open(100_000).await;
        let asked = Requirements::new(&domain(), house.shopkeeper.address(), Atomic::new(10), 60);
        let shop = house
            .sells_at_its_own_url(Sale::new(vec![asked.unwrap()]))
            .await;
        let payee = format!("eip155:84532:{}", house.shopkeeper.address());
        let chain: Arc<dyn Chain> = Arc::new(house.facilitator.inner.clone());
        let facilitator: Arc<dyn Facilitator> = Arc::new(house.facilitator.inner.clone());
        let keeper: Arc<dyn Signer> = Arc::<LocalKey>::clone(&house.shopkeeper);
        let back = PayBack::open(
            house.db.clone(),
            env(&house, 9),
            keeper,
            facilitator,
            Arc::clone(&chain),
        );
        let config = BuyerConfig::new(vec![token()])
            .with_shop(&payee, &format!("{}/a", shop.url))
            .with_chain(chain)
            .with_refunds(Arc::new(back.await.unwrap()));
        let desk = Desk::open(&house, config).await;
        let rail = desk.buyer.clone();
        let keep = Arc::new((house, shop, desk));
        RailSubject::new(Arc::new(rail), &payee, move || {
            let keep = Arc::clone(&keep);
            async move { usd(keep.0.balance(&keep.0.shopkeeper.address()).await) }
        })
    }

    agent_pay::rail_conformance!(make);
}

#[tokio::test]
async fn a_purchase_is_paid_once_booked_and_answered_again() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    for _ in 0..3 {
        assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
    }
    assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
    assert_eq!((desk.books().await, desk.n_signed()), ((1_000, 0), (1, 1)));
    // The same key for something else is a conflict.
    let other = desk.fetch("k1", &format!("{}/b", shop.url)).await;
    assert!(matches!(other, Err(agent_pay::Error::KeyReused { .. })));
}

#[tokio::test]
async fn what_is_free_costs_nothing() {
    let (_house, shop, desk) = market().await;
    let answer = desk
        .fetch("k1", &format!("{}/nothing", shop.url))
        .await
        .unwrap();
    assert!(matches!(answer, Fetched::Free(answer) if answer.status() == 404));
    assert_eq!(desk.books().await, (0, 0));
}

/// aws-samples: a settlement whose answer is lost is answered with 402, and the payer signs again and
/// pays twice. Here nothing is signed again, whatever the server and the wire do.
#[tokio::test]
async fn a_purchase_is_signed_once_whatever_goes_wrong() {
    for faults in [
        vec![Wire::LosesAnswer],
        vec![Wire::LosesRequest],
        vec![Wire::LosesAnswer, Wire::LosesRequest, Wire::LosesAnswer],
        vec![Wire::LosesRequest, Wire::IsCut, Wire::IsCut],
    ] {
        for moods in [
            vec![],
            vec![Mood::Idle],
            vec![Mood::Deaf],
            vec![Mood::Lie("anything"), Mood::Deaf],
        ] {
            let (house, shop, desk) = market().await;
            let url = format!("{}/a", shop.url);
            house.facilitator.moods.lock().clone_from(&moods);
            // The first request asks for the price.
            let mut next: Vec<Wire> = faults.iter().rev().copied().collect();
            next.push(Wire::Works);
            *desk.wires.next.lock() = next;
            for _ in 0..8 {
                match desk.fetch("k1", &url).await.unwrap() {
                    Fetched::Bought { .. } => break,
                    Fetched::Unknown { hold, .. } => assert_eq!(hold.amount, usd(1_000)),
                    other => assert!(matches!(other, Fetched::Bought { .. }), "{other:?}"),
                }
                assert_eq!(desk.books().await, (0, 1_000));
            }
            assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
            assert_eq!(desk.n_signed().1, 1, "{faults:?} {moods:?}");
            assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
            assert_eq!(desk.books().await, (1_000, 0));
        }
    }
}

/// A server that has the payment and says 402 is not believed: it may have it carried out yet.
#[tokio::test]
async fn a_402_to_a_payment_is_unknown_until_the_chain_says_never() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    *house.facilitator.moods.lock() = vec![Mood::Refuse("insufficient_funds"); 9];
    for _ in 0..3 {
        let fetched = desk.fetch("k1", &url).await.unwrap();
        assert!(matches!(fetched, Fetched::Unknown { .. }), "{fetched:?}");
        assert_eq!(
            desk.buyer
                .payer(&desk.authority)
                .reconcile(10)
                .await
                .unwrap(),
            0
        );
    }
    assert_eq!((desk.books().await, desk.n_signed().1), ((0, 1_000), 1));
    house.wait(61);
    assert_eq!(
        desk.buyer
            .payer(&desk.authority)
            .reconcile(10)
            .await
            .unwrap(),
        1
    );
    assert!(matches!(
        desk.fetch("k1", &url).await.unwrap(),
        Fetched::Failed(_)
    ));
    assert_eq!((desk.books().await, house.earned().await), ((0, 0), 0));
}

/// A payment the server carried out and denies is found on the chain.
#[tokio::test]
async fn what_the_server_denies_the_chain_tells() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    *house.facilitator.moods.lock() = vec![Mood::Refuse("x"), Mood::Lie("insufficient_funds")];
    let _unknown = desk.fetch("k1", &url).await.unwrap();
    assert_eq!(house.earned().await, 1_000);
    // The seller does not answer any more.
    *desk.wires.next.lock() = vec![Wire::LosesRequest; 9];
    assert_eq!(
        desk.buyer
            .payer(&desk.authority)
            .reconcile(10)
            .await
            .unwrap(),
        1
    );
    let fetched = desk.fetch("k1", &url).await.unwrap();
    assert!(
        matches!(fetched, Fetched::Bought { answer: None, .. }),
        "{fetched:?}"
    );
    assert_eq!(desk.books().await, (1_000, 0));
}

#[tokio::test]
async fn what_was_never_sent_has_failed_at_once() {
    let (house, shop, desk) = market().await;
    *desk.wires.next.lock() = vec![Wire::IsCut, Wire::Works];
    let fetched = desk.fetch("k1", &format!("{}/a", shop.url)).await.unwrap();
    assert!(matches!(fetched, Fetched::Failed(_)), "{fetched:?}");
    assert_eq!((desk.books().await, house.earned().await), ((0, 0), 0));
}

#[tokio::test]
async fn the_authority_decides_what_is_bought() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    desk.authority.halt(true, Principal::host()).await.unwrap();
    let fetched = desk.fetch("k0", &url).await.unwrap();
    assert!(matches!(fetched, Fetched::Denied(refusal) if refusal.code == "halted"));
    desk.authority.halt(false, Principal::host()).await.unwrap();
    for n in 0..10 {
        desk.bought(&format!("k{n}"), &url).await;
    }
    let fetched = desk.fetch("k10", &url).await.unwrap();
    assert!(matches!(fetched, Fetched::Denied(refusal) if refusal.code == "over_limit"));
    assert_eq!(
        (house.earned().await, desk.books().await),
        (10_000, (10_000, 0))
    );
    assert_eq!(desk.n_signed(), (10, 10));
}

/// A price nobody vouches for and a payee nobody knows are asked about, and what is approved is
/// exactly what was asked.
#[tokio::test]
async fn strangers_are_asked_about() {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let desk = Desk::open(&house, BuyerConfig::new(vec![token()])).await;
    let url = format!("{}/a", shop.url);
    let request = match desk.fetch("k1", &url).await.unwrap() {
        Fetched::NeedsApproval(request) => Ok(request),
        other => Err(other),
    }
    .unwrap();
    let reasons = request.reasons();
    assert!(
        reasons.contains("payee_tainted") && reasons.contains("price_unknown"),
        "{reasons}"
    );
    assert_eq!(desk.n_signed(), (0, 0));
    let alice = Principal::new("human:alice").unwrap();
    desk.authority
        .vote(request.digest, alice, Vote::Approve)
        .await
        .unwrap();
    assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
}

#[tokio::test]
async fn only_listed_tokens_within_their_cap_are_paid_with() {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let url = format!("{}/a", shop.url);
    let other = |chain, name: &str| Domain::new(name, "2", chain, domain().contract);
    let tokens = [
        vec![],
        vec![Token::new(domain(), 6, usd(999)).unwrap()],
        vec![Token::new(other(1, "USD Coin"), 6, usd(5_000)).unwrap()],
        // The signature would be for another domain than the token's.
        vec![Token::new(other(84_532, "Other"), 6, usd(5_000)).unwrap()],
        // A thousand atoms of a token with 18 decimals are no whole millionth.
        vec![Token::new(domain(), 18, usd(5_000)).unwrap()],
    ];
    for tokens in tokens {
        let config = BuyerConfig::new(tokens.clone()).with_merchant(merchant(&shop));
        let desk = Desk::open(&house, config).await;
        let refused = desk.fetch("k1", &url).await;
        assert!(
            matches!(
                refused,
                Err(agent_pay::Error::SpendDenied {
                    code: "no_acceptable_offer",
                    ..
                })
            ),
            "{tokens:?} {refused:?}"
        );
        assert_eq!(desk.n_signed(), (0, 0));
    }
    // Eighteen decimals, booked exactly.
    let price = Requirements::new(&domain(), payee(), Atomic::new(3_000_000_000_000), 60).unwrap();
    let shop = house.sells_at_its_own_url(Sale::new(vec![price])).await;
    let config = BuyerConfig::new(vec![Token::new(domain(), 18, usd(5_000)).unwrap()]);
    let desk = Desk::open(&house, config.with_merchant(merchant(&shop))).await;
    let fetched = desk.fetch("k1", &format!("{}/a", shop.url)).await.unwrap();
    assert!(
        matches!(&fetched, Fetched::Unknown { hold, .. } if hold.amount == usd(3)),
        "{fetched:?}"
    );
}

/// A known seller under whose URL somebody else wants to be paid is no known seller.
#[tokio::test]
async fn a_known_seller_is_paid_where_it_is_known_to_be() {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let url = format!("{}/a", shop.url);
    let elsewhere = house.shopkeeper.address();
    // The beginning of a URL is not the seller's when it ends within a name or a number.
    let mut near = shop.url.clone();
    near.pop();
    for merchant in [
        Merchant::new(&shop.url, elsewhere, usd(1_000)),
        Merchant::new(&shop.url, payee(), usd(999)),
        Merchant::new(&near, payee(), usd(1_000)),
    ] {
        let config = BuyerConfig::new(vec![token()]).with_merchant(merchant);
        let desk = Desk::open(&house, config).await;
        let fetched = desk.fetch("k1", &url).await.unwrap();
        assert!(matches!(fetched, Fetched::NeedsApproval(_)), "{fetched:?}");
    }
}

/// The offer of viem 2.57.20 (`signTypedData`, domain `x402 offer`), by the public test key.
#[tokio::test]
async fn a_signed_offer_vouches_for_payee_and_price() {
    let payload = serde_json::json!({
        "version": 1, "resourceUrl": "https://api.example.com/premium-data", "scheme": "exact",
        "network": "eip155:8453", "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "10000",
        "validUntil": 1_703_123_516,
    });
    let signature = "0xd42c3a7038235e6308a22affc8112bd3d609ae4d19a0eb1fb49ac70847b65d3701cdacb60d37f52dc77a20c790c588c20aa133bc8ffd22a559d2385b3af0c54b1c";
    let extension = serde_json::json!({ "info": { "offers": [
        { "format": "eip712", "acceptIndex": 0, "payload": payload, "signature": signature },
    ] } });
    let extensions = serde_json::Map::from_iter([("offer-receipt".to_owned(), extension)]);
    let usdc = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
        .parse()
        .unwrap();
    let key = crate::wire::test_key();
    let base = Domain::new("USD Coin", "2", 8_453, usdc);
    let price = |atoms| Requirements::new(&base, key.address(), Atomic::new(atoms), 60).unwrap();
    let url = "https://api.example.com/premium-data";
    assert!(is_signed(&extensions, url, &price(10_000), 1_703_123_516));
    assert!(
        !is_signed(&extensions, url, &price(10_000), 1_703_123_517),
        "its time is over"
    );
    assert!(
        !is_signed(&extensions, url, &price(10_001), 0),
        "another amount"
    );
    assert!(!is_signed(
        &extensions,
        "https://api.example.com/other",
        &price(10_000),
        0
    ));
    let (name, made) = sign_offers(&key, url, &[price(10_000)], 1_703_123_516)
        .await
        .unwrap();
    assert_eq!(made, extensions[&name], "the same as viem makes");

    // From end to end: nobody is asked about what is signed by who is paid.
    let house = House::open(100_000).await;
    let asked = Requirements::new(
        &domain(),
        house.shopkeeper.address(),
        Atomic::new(PRICE),
        60,
    );
    let keeper: Arc<dyn Signer> = Arc::<LocalKey>::clone(&house.shopkeeper);
    let sale = Sale::new(vec![asked.unwrap()]).with_offers_signed_by(keeper);
    let shop = house.sells_at_its_own_url(sale).await;
    let desk = Desk::open(&house, BuyerConfig::new(vec![token()])).await;
    assert_eq!(
        desk.bought("k1", &format!("{}/a", shop.url)).await,
        b"work 1 of "
    );
}

/// A server that speaks version 1 alone: the offer in the body, the payment in `X-PAYMENT`.
#[derive(Debug)]
struct OnlyV1(Arc<Wires>);

#[async_trait]
impl Transport for OnlyV1 {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let mut answer = self.0.send(request).await?;
        answer.headers_mut().remove(header::PAYMENT_REQUIRED);
        Ok(answer)
    }
}

#[tokio::test]
async fn version_1_is_paid_too() {
    let (house, shop, desk) = market().await;
    let (transport, signer) = (
        OnlyV1(Arc::clone(&desk.wires)),
        Arc::<LocalKey>::clone(&house.key),
    );
    let config = BuyerConfig::new(vec![token()]).with_merchant(merchant(&shop));
    let opened = Buyer::open(
        desk.db.clone(),
        env(&house, 5),
        Arc::new(transport),
        signer,
        config,
    );
    let desk = Desk {
        buyer: opened.await.unwrap(),
        ..desk
    };
    assert_eq!(
        desk.bought("k1", &format!("{}/a", shop.url)).await,
        b"work 1 of "
    );
    let sent = desk.wires.payments.lock().clone();
    let json = header::decode(&sent[0].parse().unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["x402Version"], 1);
}

/// A purchase survives the process: the store knows what was signed and what was bought.
#[tokio::test]
async fn a_purchase_is_taken_up_by_another_process() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    *desk.wires.next.lock() = vec![Wire::LosesAnswer, Wire::Works];
    assert!(matches!(
        desk.fetch("k1", &url).await.unwrap(),
        Fetched::Unknown { .. }
    ));
    let (wires, signer) = (
        Arc::<Wires>::clone(&desk.wires),
        Arc::<LocalKey>::clone(&house.key),
    );
    let config = BuyerConfig::new(vec![token()]).with_merchant(merchant(&shop));
    // Other entropy: another nonce, if one were drawn.
    let opened = Buyer::open(desk.db.clone(), env(&house, 77), wires, signer, config);
    let desk = Desk {
        buyer: opened.await.unwrap(),
        ..desk
    };
    assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
    assert_eq!((desk.n_signed(), house.earned().await), ((2, 1), 1_000));
    let found = desk
        .buyer
        .bought(agent_core::IdempotencyKey::new("k1").unwrap())
        .await
        .unwrap();
    assert_eq!(found.unwrap().body(), b"work 1 of ");
}

#[tokio::test]
async fn a_refund_that_is_not_offered_fails_and_one_that_is_comes_back() {
    let (house, shop, desk) = market().await;
    desk.bought("k1", &format!("{}/a", shop.url)).await;
    let key = |text: &str| agent_core::IdempotencyKey::new(text).unwrap();
    let refund = Payment::new(key("r1"), "", usd(400));
    let outcome = desk.buyer.refund(key("k1"), refund).await;
    assert!(matches!(outcome, Outcome::Failed { .. }));
    let refunded = desk
        .buyer
        .payer(&desk.authority)
        .refund(key("k1"), key("r1"), usd(400))
        .await;
    assert!(matches!(refunded.unwrap(), Paid::Failed(_)));
    assert_eq!(
        (desk.books().await, house.earned().await),
        ((1_000, 0), 1_000)
    );
}
