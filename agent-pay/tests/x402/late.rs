//! Both books of a payment whose answer was lost and whose seller forgot it before its buyer asked again.

use std::sync::Arc;
use std::time::Duration;

use agent_pay::x402::{BuyerConfig, Chain, Fetched, PaymentPayload, Sale, SettlePolicy, header};

use crate::desk::{Desk, Wire, merchant, token};
use crate::house::{House, asked};
use crate::selling::{POLICIES, code, said};

const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);

/// What a buyer comes to who heard nothing of its payment for a day.
struct Late {
    policy: SettlePolicy,
    has_chain: bool,
    is_purged: bool,
}

impl Late {
    /// Returns the buyer's books (spent, held), what the seller earned, and how often it worked.
    async fn books(&self) -> ((i128, i128), i128, u32) {
        let house = House::open(100_000).await;
        let sale = Sale::new(vec![asked()]).with_policy(self.policy);
        let shop = house.sells_at_its_own_url(sale).await;
        let mut config = BuyerConfig::new(vec![token()]).with_merchant(merchant(&shop));
        if self.has_chain {
            let chain: Arc<dyn Chain> = Arc::new(house.facilitator.inner.clone());
            config = config.with_chain(chain);
        }
        let desk = Desk::open(&house, config).await;
        let url = format!("{}/a", shop.url);
        *desk.wires.next.lock() = vec![Wire::LosesAnswer, Wire::Works];
        let first = desk.fetch("k1", &url).await.unwrap();
        assert!(matches!(first, Fetched::Unknown { .. }));
        assert_eq!(desk.books().await, (0, 1_000));
        // The first moment at which the seller may forget it, by whole seconds of `validBefore`.
        let ends_in = Duration::from_secs(asked().max_timeout_seconds);
        house.clock.advance(ends_in + DAY);
        if self.is_purged {
            let mut n_sold = 0;
            for _ in 0..=1_000 {
                n_sold += shop.seller.purge(Duration::ZERO, 100).await.unwrap().n_sold;
                if n_sold > 0 {
                    break;
                }
                house.clock.advance(MS);
            }
            assert_eq!(n_sold, 1);
        }
        let payer = desk.buyer.payer(&desk.authority);
        assert_eq!(payer.reconcile(10).await.unwrap(), 1);
        (desk.books().await, house.earned().await, house.n_worked())
    }
}

#[tokio::test]
async fn a_buyer_who_comes_after_the_purge_learns_that_it_paid() {
    for policy in POLICIES {
        for (has_chain, is_purged) in [(false, false), (true, false), (false, true), (true, true)] {
            let late = Late {
                policy,
                has_chain,
                is_purged,
            };
            assert_eq!(
                late.books().await,
                ((1_000, 0), 1_000, 1),
                "{policy:?}, a chain {has_chain}, purged {is_purged}"
            );
        }
    }
}

/// Only who signed the payment, or has a copy of it, is told: for another signature, nonce or amount
/// nothing is known.
#[tokio::test]
async fn what_is_told_of_a_forgotten_payment_is_told_to_a_copy_of_it_alone() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    let (payment, other) = (house.payment().await, house.payment().await);
    let first = shop.get("/a", &payment).await;
    assert_eq!(first.status(), 200);
    house.clock.advance(2 * DAY);
    let purged = shop.seller.purge(Duration::ZERO, 100).await.unwrap();
    assert_eq!(purged.n_sold, 1);
    let again = shop.get("/a", &payment).await;
    assert_eq!(
        (again.status().as_u16(), code(&again).as_str()),
        (410, "answer_forgotten")
    );
    assert_eq!(said(&again).transaction, said(&first).transaction);
    assert_eq!(said(&again).payer, said(&first).payer);
    let mut forged: PaymentPayload = payment.clone();
    forged.signed.signature = other.signed.signature;
    for strange in [forged, other] {
        let refused = shop.get("/a", &strange).await;
        assert_eq!(refused.status(), 402);
        assert!(!refused.headers().contains_key(header::PAYMENT_RESPONSE));
    }
    assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
}
