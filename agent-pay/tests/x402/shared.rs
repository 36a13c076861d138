//! Sellers of two protocols that share a store, where one forgets what is over for it.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, Env, IdempotencyKey, ManualClock, SeededEntropy};
use agent_pay::backend::sqlite::authority;

use crate::house::House;
use crate::selling::{POLICIES, code, said};

const DAY_SECONDS: u64 = 86_400;
const REPLAYED: &str = "idempotent-replayed";

#[cfg(feature = "acp")]
mod forgetful {
    use agent_pay::acp::{Cart, Charge, Merchant, MerchantError, Quote, Seller, SellerConfig};
    use agent_pay::rail::Outcome;

    use super::{Arc, Clock, Duration, Env, House, IdempotencyKey, ManualClock, SeededEntropy};

    /// A shop that is closed.
    #[derive(Debug)]
    struct Closed;

    #[async_trait::async_trait]
    impl Merchant for Closed {
        async fn quote(&self, _cart: &Cart) -> Result<Quote, MerchantError> {
            Err(MerchantError::new(Duration::from_secs(1), "closed"))
        }

        async fn charge(&self, _charge: Charge) -> Outcome {
            Outcome::failed("closed")
        }

        async fn look_up(&self, _id: IdempotencyKey) -> Outcome {
            Outcome::failed("closed")
        }
    }

    /// A seller of the Agentic Commerce Protocol in the store of a house.
    pub(super) async fn seller(house: &House) -> Seller {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&house.clock);
        let env = Env::new(clock, Arc::new(SeededEntropy::new(2)));
        let orders = "https://shop.example.com/orders/";
        let config = SellerConfig::new("shop", orders, agent_core::Secret::from("digest"));
        let opened = Seller::open(config, house.db.clone(), &env, Closed);
        opened.await.unwrap()
    }
}

#[cfg(feature = "acp")]
#[tokio::test]
async fn what_another_seller_of_the_store_forgets_is_not_ours() {
    for policy in POLICIES {
        let house = House::open(100_000).await;
        let shop = house.sells_by(policy).await;
        let other = forgetful::seller(&house).await;
        let payment = house.payment().await;
        assert_eq!(shop.get("/a", &payment).await.status(), 200);
        house.wait(3 * DAY_SECONDS);
        let purged = other.purge(Duration::ZERO, 100).await.unwrap();
        assert_eq!(purged.n_answers, 0);
        let again = shop.get("/a", &payment).await;
        assert_eq!(again.status(), 200, "{policy:?}");
        assert!(again.headers().contains_key(REPLAYED));
        assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
    }
}

/// A host may purge what it likes: a payment buys once.
#[tokio::test]
async fn a_payment_whose_answer_was_forgotten_buys_nothing_more() {
    for policy in POLICIES {
        let house = House::open(100_000).await;
        let shop = house.sells_by(policy).await;
        let payment = house.payment().await;
        assert_eq!(shop.get("/a", &payment).await.status(), 200);
        house.wait(3 * DAY_SECONDS);
        let forget =
            |tx: &mut agent_core::store::Tx<'_>| authority::purge(tx, "x402/", Duration::ZERO, 100);
        assert_eq!(house.db.write(forget).await.unwrap(), 1);
        for _ in 0..2 {
            let again = shop.get("/a", &payment).await;
            assert_eq!(
                (again.status().as_u16(), code(&again).as_str()),
                (410, "answer_forgotten"),
                "{policy:?}"
            );
            assert!(said(&again).success);
        }
        assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
    }
}
