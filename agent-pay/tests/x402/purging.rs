//! What a seller forgets when it is over, and that nothing is bought with it again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_core::{Clock, ManualClock, Timestamp};
use agent_pay::x402::{
    Atomic, Authorization, Bytes32, CanonicalKey, PaymentPayload, Purged, Requirements, Sale,
    Seller, SettlePolicy, Signed, Signer, Undo,
};
use async_trait::async_trait;

use crate::house::{House, Mood, PRICE, Shop, Work, asked, config, domain, payee};
use crate::selling::{POLICIES, code, named, said, why};
use crate::stubborn::Stubborn;

const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);

/// Asks for payments that hold for so many seconds.
fn asked_for(seconds: u64) -> Requirements {
    Requirements::new(&domain(), payee(), Atomic::new(PRICE), seconds).unwrap()
}

/// Signs a payment that holds for so many seconds from now on.
async fn lasting(house: &House, seconds: u64, nonce: u8) -> PaymentPayload {
    let parties = (house.key.address(), payee());
    let times = (house.now() - 600, house.now() + seconds);
    let nonce = Bytes32::from_bytes([nonce; 32]);
    let authorization = Authorization::new(parties, Atomic::new(PRICE), times, nonce);
    let signed = house.key.sign(domain().digest(&authorization));
    let signed = Signed::new(authorization, signed.await.unwrap());
    PaymentPayload::new(asked_for(seconds), signed)
}

async fn purge(shop: &Shop) -> Purged {
    shop.seller.purge(Duration::ZERO, 100).await.unwrap()
}

/// Buys nothing, and says that it was paid.
async fn is_used_up(shop: &Shop, payment: &PaymentPayload) -> bool {
    let again = shop.get("/a", payment).await;
    let said = said(&again);
    (again.status().as_u16(), code(&again).as_str()) == (410, "answer_forgotten")
        && said.success
        && !said.transaction.is_empty()
}

#[tokio::test]
async fn an_answer_is_kept_a_day_after_its_payment_ended_and_then_buys_nothing_more() {
    for policy in POLICIES {
        for seconds in [60, 3_600] {
            let house = House::open(100_000).await;
            let sale = Sale::new(vec![asked_for(seconds)]).with_policy(policy);
            let shop = house.sells(sale).await;
            let payment = lasting(&house, seconds, 1).await;
            assert_eq!(shop.get("/a", &payment).await.status(), 200);
            // Until it cannot be carried out any more, and for a day after that.
            let replays = async |time: Duration| {
                house.clock.advance(time);
                assert_eq!(purge(&shop).await, Purged::default());
                let again = shop.get("/a", &payment).await;
                assert_eq!(
                    (again.status().as_u16(), again.body().as_slice()),
                    (200, &b"work 1 of "[..])
                );
            };
            replays(Duration::from_secs(seconds) - MS).await;
            replays(MS).await;
            replays(DAY).await;
            house.clock.advance(MS);
            let purged = purge(&shop).await;
            assert_eq!(
                (purged.n_sold, purged.n_unpaid),
                (1, 0),
                "{policy:?} {seconds}"
            );
            assert_eq!(purge(&shop).await, Purged::default());
            for _ in 0..2 {
                assert!(is_used_up(&shop, &payment).await);
            }
            assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
        }
    }
}

/// For a seller whose clock was set back a payment that is forgotten holds still.
#[tokio::test]
async fn a_forgotten_payment_buys_nothing_by_a_clock_that_went_back() {
    for policy in POLICIES {
        let house = House::open(100_000).await;
        let sale = Sale::new(vec![asked()]).with_policy(policy);
        let shop = house.sells(sale.clone()).await;
        let (payment, before) = (house.payment().await, house.clock.now());
        assert_eq!(shop.get("/a", &payment).await.status(), 200);
        house.clock.advance(2 * DAY);
        assert_eq!(purge(&shop).await.n_sold, 1);
        let back: Arc<dyn Clock> = Arc::new(ManualClock::new(before));
        let chain = Arc::new(house.facilitator.inner.clone());
        let facilitator = Arc::clone(&house.facilitator);
        let config = config().with_chain(chain);
        let seller = Seller::open(house.db.clone(), back, facilitator, config)
            .await
            .unwrap();
        let layer = seller.layer(sale).unwrap();
        let shop = house.serve(seller, layer, Work::default()).await;
        assert!(is_used_up(&shop, &payment).await);
        assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
    }
}

#[tokio::test]
async fn a_payment_nobody_knows_about_is_kept_until_somebody_does() {
    for policy in POLICIES {
        let house = House::open(100_000).await;
        // Nobody is asked but the facilitator, which does not know.
        let seller = house.seller(config()).await;
        let layer = seller
            .layer(Sale::new(vec![asked()]).with_policy(policy))
            .unwrap();
        let shop = house.serve(seller, layer, Work::default()).await;
        let payment = house.payment().await;
        *house.facilitator.moods.lock() = vec![Mood::Deaf];
        assert_eq!(shop.get("/a", &payment).await.status(), 503);
        house.clock.advance(100 * DAY);
        assert_eq!(purge(&shop).await, Purged::default());
        // It was carried out, and who paid gets what it is for.
        let answer = shop.get("/a", &payment).await;
        assert_eq!(
            (answer.status().as_u16(), house.n_worked()),
            (200, 1),
            "{policy:?}"
        );
        // Work that is done late is answered for a day, too.
        let is_fresh = policy == SettlePolicy::SettleFirst;
        assert_eq!(purge(&shop).await.n_sold, usize::from(!is_fresh));
        house.clock.advance(DAY + MS);
        assert_eq!(purge(&shop).await.n_sold, usize::from(is_fresh));
        assert!(is_used_up(&shop, &payment).await);
        assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
    }
}

#[tokio::test]
async fn what_is_paid_and_not_answered_is_kept() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    shop.work.statuses.lock().push(500);
    let payment = house.payment().await;
    assert_eq!(shop.get("/a", &payment).await.status(), 500);
    house.clock.advance(100 * DAY);
    assert_eq!(purge(&shop).await, Purged::default());
    assert_eq!(shop.get("/a", &payment).await.status(), 200);
    assert_eq!(house.earned().await, 1_000);
}

#[derive(Debug)]
struct Reluctant(Stubborn);

#[async_trait]
impl Undo for Reluctant {
    async fn undo(&self, payment: CanonicalKey) -> agent_pay::Result<()> {
        if self.0.refuses(payment.as_str()) {
            return Err(agent_pay::Error::invalid("undo", "it cannot be taken back"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn of_what_never_moved_nothing_is_left_once_its_work_is_taken_back() {
    let house = House::open(100_000).await;
    let undo: Arc<dyn Undo> = Arc::new(Reluctant(Stubborn::new(1)));
    let seller = house.seller(config().with_undo(undo)).await;
    let sale = Sale::new(vec![asked()]).with_policy(SettlePolicy::WorkFirst);
    let layer = seller.layer(sale).unwrap();
    let shop = house.serve(seller, layer, Work::default()).await;
    *house.facilitator.moods.lock() = vec![Mood::Refuse("insufficient_funds"); 2];
    let (stuck, payment) = (house.payment().await, house.payment().await);
    assert_eq!(shop.get("/a", &stuck).await.status(), 503);
    assert_eq!(why(&shop.get("/a", &payment).await), "insufficient_funds");
    house.wait(60);
    house.clock.advance(DAY);
    assert_eq!(purge(&shop).await, Purged::default());
    house.clock.advance(MS);
    let purged = purge(&shop).await;
    assert_eq!((purged.n_sold, purged.n_unpaid), (0, 1));
    let late = "invalid_exact_evm_payload_authorization_valid_before";
    assert_eq!(why(&shop.get("/a", &payment).await), late);
    assert_eq!((house.n_worked(), house.earned().await), (2, 0));
    // Signed anew under its nonce it is another payment, for which the work is done again.
    let nonce = payment.signed.authorization.nonce;
    let anew = house.signed(payee(), nonce).await;
    assert_eq!(shop.get("/a", &anew).await.status(), 200);
    assert_eq!((house.n_worked(), house.earned().await), (3, 1_000));
}

#[tokio::test]
async fn a_name_of_a_payment_is_kept_until_the_payment_is_over() {
    let house = House::open(100_000).await;
    let seconds = 3_600;
    let shop = house.sells(Sale::new(vec![asked_for(seconds)])).await;
    let id = "pay_7d5d747be160e280504c099d984bcfe0";
    let status = async |nonce| {
        let payment = lasting(&house, seconds, nonce).await;
        let answer = shop.send("GET", "/a", "", &named(&payment, id)).await;
        answer.status().as_u16()
    };
    assert_eq!(status(1).await, 200);
    house.wait(seconds);
    house.clock.advance(DAY);
    assert_eq!(purge(&shop).await, Purged::default());
    assert_eq!((status(2).await, house.n_worked()), (409, 1));
    house.clock.advance(MS);
    let purged = purge(&shop).await;
    assert_eq!((purged.n_sold, purged.n_identifiers), (1, 1));
    assert_eq!((status(3).await, house.n_worked()), (200, 2));
}

/// At most so many at a time, and those of a store of before there was a purge.
#[tokio::test]
async fn what_was_there_before_anything_was_forgotten_is_forgotten_too() {
    let house = House::open(100_000).await;
    let sale = Sale::new(vec![asked()]);
    let shop = house.sells(sale.clone()).await;
    let mut payments = Vec::new();
    for _ in 0..3 {
        payments.push(house.payment().await);
        assert_eq!(shop.get("/a", payments.last().unwrap()).await.status(), 200);
    }
    let earlier = "DROP INDEX pay_x402_sale_over; ALTER TABLE pay_x402_sale DROP COLUMN ends_ms; \
                   DELETE FROM core_migration WHERE layer = 'pay-x402' AND version = \
                   (SELECT max(version) FROM core_migration WHERE layer = 'pay-x402');";
    let write = |tx: &mut agent_core::store::Tx<'_>| {
        tx.sql().execute_batch(earlier).unwrap();
        Ok::<_, agent_pay::Error>(())
    };
    house.db.write(write).await.unwrap();
    let shop = house.sells(sale).await;
    let until = Timestamp::from_unix_ms(i64::try_from(house.now() + 60).unwrap() * 1_000);
    house
        .clock
        .advance(until.after(DAY).since(house.clock.now()));
    assert_eq!(purge(&shop).await, Purged::default());
    house.clock.advance(MS);
    for n_sold in [2, 1, 0] {
        let purged = shop.seller.purge(Duration::ZERO, 2).await.unwrap();
        assert_eq!(purged.n_sold, n_sold);
    }
    for payment in &payments {
        assert!(is_used_up(&shop, payment).await);
    }
    assert_eq!((house.n_worked(), house.earned().await), (3, 3_000));
    assert_eq!(house.facilitator.n_settles.load(Ordering::SeqCst), 3);
}
