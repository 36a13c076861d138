//! What becomes of settlements: the same answer every time, unknown until somebody says, undone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_pay::x402::{
    Authorization, CanonicalKey, Chain, Domain, Execution, LedgerFacilitator, header,
};
use agent_pay::x402::{Facilitator, Settlement, Verdict};
use agent_pay::x402::{Sale, SettlePolicy, Undo};
use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::house::{House, Mood, PRICE, Shop, Work, asked, config};
use crate::selling::{POLICIES, code, said, why};
use crate::stubborn::Stubborn;

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
            let shop = house.sells_by(policy).await;
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
        let shop = house.sells_by(policy).await;
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

/// Takes back no work of the first few payments it hears of, ever.
#[derive(Debug)]
struct Stuck {
    stubborn: Stubborn,
    n_undone: AtomicU32,
}

#[async_trait]
impl Undo for Stuck {
    async fn undo(&self, payment: CanonicalKey) -> agent_pay::Result<()> {
        if self.stubborn.refuses(payment.as_str()) {
            return Err(agent_pay::Error::invalid("undo", "it cannot be taken back"));
        }
        self.n_undone.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl Chain for Stuck {
    async fn look_up(
        &self,
        domain: Domain,
        authorization: Authorization,
    ) -> agent_pay::Result<Execution> {
        let payment = CanonicalKey::new(&domain, &authorization);
        Ok(if self.stubborn.refuses(payment.as_str()) {
            Execution::NotYet
        } else {
            Execution::never("expired")
        })
    }
}

/// What a page has, and how many always fail.
const PAGE: usize = 2;
const STUCK: usize = 5;

/// Pays a seller that is stuck so often that one more payment than it refuses is there.
async fn stuck(policy: SettlePolicy, mood: Mood) -> (House, Shop, Arc<Stuck>) {
    let house = House::open(100_000).await;
    let stuck = Arc::new(Stuck {
        stubborn: Stubborn::new(STUCK),
        n_undone: 0.into(),
    });
    // Nobody is asked and nothing is taken back while they are paid.
    let sale = Sale::new(vec![asked()]).with_policy(policy);
    let seller = house.seller(config().with_undo(Arc::new(Closed))).await;
    let layer = seller.layer(sale).unwrap();
    let shop = house.serve(seller, layer, Work::default()).await;
    *house.facilitator.moods.lock() = vec![mood; 40];
    for _ in 0..=STUCK {
        assert_eq!(shop.get("/a", &house.payment().await).await.status(), 503);
        house.wait(1);
    }
    let config = config()
        .with_undo(Arc::<Stuck>::clone(&stuck) as Arc<dyn Undo>)
        .with_chain(Arc::<Stuck>::clone(&stuck));
    let seller = house.seller(config).await;
    (house, Shop { seller, ..shop }, stuck)
}

/// Takes nothing back.
#[derive(Debug)]
struct Closed;

#[async_trait]
impl Undo for Closed {
    async fn undo(&self, _payment: CanonicalKey) -> agent_pay::Result<()> {
        Err(agent_pay::Error::invalid("undo", "it is closed"))
    }
}

#[tokio::test]
async fn work_behind_work_that_is_never_taken_back_is_taken_back() {
    let refuse = Mood::Refuse("insufficient_funds");
    let (_house, shop, stuck) = stuck(SettlePolicy::WorkFirst, refuse).await;
    for _ in 0..=STUCK / PAGE {
        assert_eq!(stuck.n_undone.load(Ordering::SeqCst), 0);
        let _one_that_failed = shop.seller.reconcile(PAGE).await.unwrap_err();
    }
    assert_eq!(stuck.n_undone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_payment_behind_payments_nobody_knows_about_is_asked_about() {
    let (house, shop, _stuck) = stuck(SettlePolicy::SettleFirst, Mood::Idle).await;
    let mut n_known = 0;
    for _ in 0..=STUCK / PAGE {
        n_known += shop.seller.reconcile(PAGE).await.unwrap();
    }
    assert_eq!((n_known, house.n_worked()), (1, 0));
}
