//! The rail `mpp`: the laws of rails, offers that are not as allowed, and answers that are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_core::Amount;
use agent_pay::authority::{Intent, Origin, Payee, PriceBasis, SpendState};
use agent_pay::conformance::RailSubject;
use agent_pay::mpp::{Challenge, Fetched, OfferKey, PaymentRequest, RailConfig};
use agent_pay::rail::{Paid, Rail};
use agent_pay::transport::{Answer, Lost, Request, Transport};
use async_trait::async_trait;

use crate::common::{money, op, path, who};
use crate::market::{Market, get, secret};
use crate::seller::manual;

mod laws {
    use super::*;

    async fn make() -> RailSubject {
        let market = Arc::new(Market::open(manual().1).await);
        let config = RailConfig::new().with_endpoint("sales", market.at("/tea"));
        let transport = Arc::clone(&market.transport);
        let rail: Arc<dyn Rail> = Arc::new(market.rail(transport, config).await);
        RailSubject::new(rail, "sales", move || {
            let market = Arc::clone(&market);
            async move { market.sales().await.0 }
        })
    }

    agent_pay::rail_conformance!(make);
}

pub(crate) fn intent(market: &Market, key: &str, path_of: &str, amount: &str) -> Intent {
    let payee = Payee::new("sales", Origin::Catalogue);
    let until = market.env.clock.now().after(Duration::from_secs(3_600));
    let (node, actor) = (path("acme"), who("agent_buyer"));
    Intent::new(op(key), node, actor, money(amount), payee, until)
        .with_basis(PriceBasis::RateCard)
        .with_rail("mpp")
        .with_resource(market.at(path_of), "to drink")
}

pub(crate) async fn spent(market: &Market, key: &str) -> Option<(SpendState, Amount)> {
    let hold = market.buyer.spend(op(key)).await.unwrap();
    hold.map(|hold| (hold.state, hold.captured))
}

#[tokio::test]
async fn what_is_allowed_is_bought_once_and_booked_on_both_sides() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "k", "/tea", "0.50 USD");
    let bought = shopper.fetch(get(&market.at("/tea")), wanted.clone()).await;
    let Fetched::Bought { answer, hold, .. } = bought.unwrap() else {
        panic!("not bought");
    };
    assert_eq!(answer.unwrap().body(), b"run 1");
    assert_eq!(hold.captured, money("0.00001 USD"));
    let again = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap();
    assert!(matches!(again, Fetched::Bought { .. }));
    assert_eq!(
        (market.runs(), market.sales().await.0),
        (1, money("0.00001 USD"))
    );
    let free = intent(&market, "f", "/free", "0.50 USD");
    let free = shopper.fetch(get(&market.at("/free")), free).await.unwrap();
    assert!(matches!(free, Fetched::Free(answer) if answer.status() == 200));
    assert_eq!(spent(&market, "f").await, None);
    // A body is part of what is bought.
    let request = http::Request::post(market.at("/tea")).body(b"two cups".to_vec());
    let wanted = intent(&market, "b", "/tea", "0.50 USD");
    let bought = shopper.fetch(request.unwrap(), wanted).await.unwrap();
    assert!(matches!(bought, Fetched::Bought { .. }));
    market.close().await;
}

#[tokio::test]
async fn what_the_authority_denies_is_not_asked_of_the_purse() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "k", "/tea", "100.01 USD");
    let denied = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap();
    assert!(matches!(denied, Fetched::NotBought(Paid::Denied(_))));
    let mut wanted = intent(&market, "k2", "/tea", "1.00 USD");
    wanted.basis = PriceBasis::Unknown;
    let asked = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap();
    assert!(!matches!(asked, Fetched::Bought { .. }));
    let wanted = intent(&market, "k3", "/free", "1.00 USD");
    assert!(
        shopper
            .fetch(get(&market.at("/tea")), wanted)
            .await
            .is_err()
    );
    assert_eq!(market.runs(), 0);
    market.close().await;
}

/// A seller that asks for something else than it is known for.
#[derive(Debug)]
struct Greedy(Challenge, AtomicUsize);

#[async_trait]
impl Transport for Greedy {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let is_paid = request.headers().contains_key("authorization");
        self.1.fetch_add(usize::from(is_paid), Ordering::SeqCst);
        let field = self.0.to_field().unwrap();
        let answer = http::Response::builder().status(402);
        Ok(answer
            .header("www-authenticate", field)
            .body(Vec::new())
            .unwrap())
    }
}

#[tokio::test]
async fn an_offer_that_is_not_as_allowed_is_not_paid_whatever_it_says_of_itself() {
    let market = Market::open(manual().1).await;
    let usd = |amount: &str, to: &str| PaymentRequest::charge(money(amount), to);
    let hour = market.env.clock.now().after(Duration::from_secs(3_601));
    let cases = [
        (usd("0.500001 USD", "sales"), None),
        (usd("0.10 USD", "thief"), None),
        (PaymentRequest::charge(money("0.10 EUR"), "sales"), None),
        (PaymentRequest::charge(money("0.10 USD/2"), "sales"), None),
        (usd("0.10 USD", "sales"), Some(hour.to_string())),
        (
            usd("0.10 USD", "sales"),
            Some("2026-11-25T11:59:59Z".to_owned()),
        ),
        (usd("0.10 USD", "sales"), Some("soon".to_owned())),
    ];
    let honest = market.challenge("/tea").await;
    for (n, (request, expires)) in cases.into_iter().enumerate() {
        let mut challenge = honest.clone();
        challenge.request = request.encode().unwrap();
        challenge.expires = expires.or(challenge.expires);
        challenge.description = Some("0.00001 USD for tea, trust me".to_owned());
        let greedy = Arc::new(Greedy(challenge, AtomicUsize::new(0)));
        let shopper = market.shopper(Arc::<Greedy>::clone(&greedy)).await;
        let key = format!("k{n}");
        let wanted = intent(&market, &key, "/tea", "0.50 USD");
        let fetched = shopper.fetch(get(&market.at("/tea")), wanted.clone()).await;
        assert!(
            matches!(fetched.unwrap(), Fetched::NotAsAllowed),
            "case {n}"
        );
        // Nor by the rail alone, which asks for the price itself.
        let paid = shopper.payer().pay(wanted).await.unwrap();
        assert!(matches!(paid, Paid::Failed(_)), "case {n}");
        assert_eq!(greedy.1.load(Ordering::SeqCst), 0, "case {n}");
    }
    market.close().await;
}

/// Loses answers: every request arrives.
#[derive(Debug)]
pub(crate) struct Deaf {
    inner: Arc<dyn Transport>,
    n_paid: AtomicUsize,
    lost: usize,
}

impl Deaf {
    /// Loses the first answers to what pays.
    pub(crate) fn new(inner: &Arc<dyn Transport>, lost: usize) -> Self {
        let (inner, n_paid) = (Arc::clone(inner), AtomicUsize::new(0));
        Self {
            inner,
            n_paid,
            lost,
        }
    }
}

#[async_trait]
impl Transport for Deaf {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let is_paid = request.headers().contains_key("authorization");
        let answer = self.inner.send(request).await;
        if is_paid && self.n_paid.fetch_add(1, Ordering::SeqCst) < self.lost {
            return Err(Lost::may_have_arrived("nobody heard it"));
        }
        answer
    }
}

#[tokio::test]
async fn what_is_not_known_is_asked_about_and_never_paid_again() {
    let market = Market::open(manual().1).await;
    let deaf = Arc::new(Deaf::new(&market.transport, 3));
    let shopper = market.shopper(deaf).await;
    let wanted = intent(&market, "k", "/tea", "0.50 USD");
    let first = shopper.fetch(get(&market.at("/tea")), wanted.clone()).await;
    assert!(matches!(
        first.unwrap(),
        Fetched::NotBought(Paid::Unknown { .. })
    ));
    assert_eq!(
        spent(&market, "k").await,
        Some((SpendState::Submitted, money("0 USD")))
    );
    assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 0);
    // Somebody impatient, and another process with nothing but the store.
    let again = shopper.fetch(get(&market.at("/tea")), wanted.clone()).await;
    assert!(matches!(
        again.unwrap(),
        Fetched::NotBought(Paid::Unknown { .. })
    ));
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let Fetched::Bought { answer, hold, .. } = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap()
    else {
        panic!("not bought");
    };
    assert_eq!(answer.unwrap().body(), b"run 1");
    assert_eq!(hold.captured, money("0.00001 USD"));
    assert_eq!(
        (market.runs(), market.sales().await.0),
        (1, money("0.00001 USD"))
    );
    market.close().await;
}

/// Loses requests that pay: none of them arrives, though nobody can tell.
#[derive(Debug)]
struct Hole(Arc<dyn Transport>);

#[async_trait]
impl Transport for Hole {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        if request.headers().contains_key("authorization") {
            return Err(Lost::may_have_arrived("no answer"));
        }
        self.0.send(request).await
    }
}

#[tokio::test]
async fn a_payment_that_never_arrived_is_closed_before_its_money_is_free() {
    let market = Market::open(manual().1).await;
    let shopper = market
        .shopper(Arc::new(Hole(Arc::clone(&market.transport))))
        .await;
    let wanted = intent(&market, "k", "/tea", "0.50 USD");
    let lost = shopper
        .fetch(get(&market.at("/tea")), wanted.clone())
        .await
        .unwrap();
    assert!(matches!(lost, Fetched::NotBought(Paid::Unknown { .. })));
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 1);
    assert_eq!(
        spent(&market, "k").await,
        Some((SpendState::Released, money("0 USD")))
    );
    let failed = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap();
    assert!(matches!(failed, Fetched::NotBought(Paid::Failed(_))));
    assert_eq!((market.runs(), market.sales().await.0), (0, money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn what_was_paid_can_be_given_back_if_the_seller_does_so() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "k", "/tea", "0.50 USD");
    let _bought = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap();
    let part = money("0.000004 USD");
    let back = shopper
        .payer()
        .refund(op("k"), op("r"), part)
        .await
        .unwrap();
    assert!(matches!(back, Paid::Settled(hold) if hold.refunded == part));
    assert_eq!(market.sales().await.0, money("0.000006 USD"));
    market.close().await;

    let strict = OfferKey::new(secret(7)).unwrap();
    let market = Market::open_with(manual().1, strict, |config| config).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "k", "/tea", "0.50 USD");
    let _bought = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap();
    let back = shopper.payer().refund(op("k"), op("r"), part).await;
    assert!(matches!(back.unwrap(), Paid::Failed(_)));
    assert_eq!(market.sales().await.0, money("0.00001 USD"));
    market.close().await;
}

#[tokio::test]
async fn a_refund_whose_answer_is_lost_is_found_again_and_goes_back_once() {
    let market = Market::open(manual().1).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let wanted = intent(&market, "k", "/tea", "0.50 USD");
    let _bought = shopper
        .fetch(get(&market.at("/tea")), wanted)
        .await
        .unwrap();
    let lossy = Arc::new(Deaf::new(&market.transport, 2));
    let shopper = market.shopper(lossy).await;
    let part = money("0.000004 USD");
    for _ in 0..2 {
        let back = shopper.payer().refund(op("k"), op("r"), part).await;
        assert!(matches!(back.unwrap(), Paid::Unknown { .. }));
    }
    let back = shopper.payer().refund(op("k"), op("r"), part).await;
    assert!(matches!(back.unwrap(), Paid::Settled(hold) if hold.refunded == part));
    assert_eq!(market.sales().await.0, money("0.000006 USD"));
    market.close().await;
}
