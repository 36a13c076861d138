//! Behind a page of what always fails is something that does not, and it is reached.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::IdempotencyKey;
use agent_pay::acp::{
    Allowance, CardToStore, Cart, Charge, Merchant, MerchantError, Quote, Seller, Vault, VaultError,
};
use agent_pay::rail::Outcome;

use crate::acp_shop::{Served, Shop, config, env, ready};
use crate::purge::{delegated, pay, status};
use crate::stubborn::Stubborn;

/// What a page has, and how many always fail.
const PAGE: usize = 2;
const STUCK: usize = 5;

/// A shop whose vault forgets no card of the first few, and whose till never says what became of the
/// first few payments.
#[derive(Clone, Debug)]
struct Stuck {
    shop: Shop,
    stubborn: Arc<Stubborn>,
}

#[async_trait::async_trait]
impl Merchant for Stuck {
    async fn quote(&self, cart: &Cart) -> Result<Quote, MerchantError> {
        self.shop.quote(cart).await
    }

    async fn charge(&self, charge: Charge) -> Outcome {
        self.shop.charge(charge).await
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        if self.stubborn.refuses(id.as_str()) {
            return Outcome::unknown(Duration::from_secs(1), "the till does not answer");
        }
        self.shop.look_up(id).await
    }
}

#[async_trait::async_trait]
impl Vault for Stuck {
    async fn store(
        &self,
        key: IdempotencyKey,
        card: CardToStore,
        allowance: &Allowance,
    ) -> Result<String, VaultError> {
        self.shop.store(key, card, allowance).await
    }

    async fn forget(&self, vaulted: &str) -> Result<(), VaultError> {
        if self.stubborn.refuses(vaulted) {
            return Err(VaultError::Unavailable("the vault is closed".into()));
        }
        self.shop.forget(vaulted).await
    }
}

/// A seller of the same store as one that serves.
async fn stuck(served: &Served) -> Seller {
    let shop = Stuck {
        shop: served.shop.clone(),
        stubborn: Arc::new(Stubborn::new(STUCK)),
    };
    let env = env(&served.clock, 3);
    let opened = Seller::open(config(), served.db.clone(), &env, shop.clone());
    opened.await.unwrap().with_vault(shop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_behind_cards_that_are_never_forgotten_is_forgotten() {
    let served = Served::open().await;
    for n in 0..=STUCK {
        let path = ready(&served.base, &n.to_string()).await;
        let _unused = delegated(&served, &format!("d{n}"), &path).await;
    }
    served.clock.advance(Duration::from_secs(2 * 3_600));
    let seller = stuck(&served).await;
    let mut n_tokens = 0;
    for _ in 0..=STUCK / PAGE {
        let purged = seller.purge(Duration::ZERO, PAGE).await.unwrap();
        assert_eq!(purged.n_tokens + purged.n_tokens_left, PAGE);
        n_tokens += purged.n_tokens;
    }
    assert_eq!(n_tokens, 1);
    assert_eq!(served.shop.vaulted().len(), STUCK);
    // They have their turns again.
    let purged = served
        .seller
        .purge(Duration::ZERO, STUCK + 1)
        .await
        .unwrap();
    assert_eq!((purged.n_tokens, purged.n_tokens_left), (STUCK, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_behind_payments_nobody_knows_about_is_asked_about() {
    let served = Served::open().await;
    served.shop.lose_answers();
    let mut paths = Vec::new();
    for n in 0..=STUCK {
        let path = ready(&served.base, &n.to_string()).await;
        let token = delegated(&served, &format!("d{n}"), &path).await;
        assert!(pay(&served, &path, &token).await >= 202);
        paths.push(path);
    }
    let seller = stuck(&served).await;
    let mut n_known = 0;
    for _ in 0..=STUCK / PAGE {
        n_known += seller.reconcile(PAGE).await.unwrap();
    }
    assert_eq!(n_known, 1);
    let mut n_completed = 0;
    for path in &paths {
        n_completed += usize::from(status(&served, path).await.as_deref() == Some("completed"));
    }
    assert_eq!(n_completed, 1);
    assert_eq!(served.seller.reconcile(STUCK + 1).await.unwrap(), STUCK);
}
