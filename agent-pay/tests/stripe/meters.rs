//! Usage exported to the meters of Stripe.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::common;

use std::sync::Arc;

use crate::common::Shop;
use crate::fake_stripe::{FakeStripe, Faults};
use agent_core::store::Db;
use agent_core::{
    Env, ManualClock, Scope, Secret, SeededEntropy, Timestamp, Unit, Usage, UsageRecord,
};
use agent_pay::backend::sqlite::record_usage;
use agent_pay::stripe::{CustomerId, Exported, MeterExport, Stripe, StripeConfig};
use agent_pay::{Attribution, UsageEntry};

/// Usage of a tenant: `n` records of 10 tokens in and 1 call.
async fn metered(db: &Db, n: usize, at: Timestamp) {
    for n in 0..n {
        let usage = Usage::new()
            .with(Unit::TokensIn, 10)
            .with(Unit::Calls, 1)
            .with(Unit::CpuUs, 5);
        let record = UsageRecord::new("meter", format!("r{n}"), "model/x", usage, at);
        let scope = Scope::new(common::who("agent_a"));
        let entry = UsageEntry::new(Attribution::of(&scope), record).unwrap();
        db.write(move |tx| record_usage(tx, &entry)).await.unwrap();
    }
}

async fn export(shop: &Shop, fake: &Arc<FakeStripe>, customer: &str) -> MeterExport {
    let env = Env::new(
        Arc::<ManualClock>::clone(&shop.clock),
        Arc::new(SeededEntropy::new(1)),
    );
    let config = StripeConfig::new(Secret::from("sk_test_1"));
    let client = Stripe::new(config, Arc::<FakeStripe>::clone(fake)).unwrap();
    let opened = MeterExport::open(client, shop.authority.db().clone(), &env).await;
    opened
        .unwrap()
        .with_meter(Unit::TokensIn, "tokens")
        .with_meter(Unit::Calls, "calls")
        .with_customer(Scope::TENANT_DEFAULT, CustomerId::new(customer).unwrap())
}

#[tokio::test]
async fn usage_is_counted_once_whatever_is_lost_on_the_way() {
    let faults = Faults {
        lost_requests: 100_000,
        lost_answers: 200_000,
        errors_after: 0,
        busy: 100_000,
    };
    for seed in 0..5 {
        let mut shop = Shop::open("").await;
        let fake = FakeStripe::new(faults, seed);
        metered(shop.authority.db(), 25, shop.now()).await;
        let (mut n_sent, mut n_runs) = (0, 0);
        loop {
            let meters = export(&shop, &fake, "cus_a").await;
            if let Ok(exported) = meters.run(7).await {
                n_sent += exported.n_sent;
                if !exported.has_more {
                    break;
                }
            }
            drop(meters);
            n_runs += 1;
            assert!(n_runs < 500);
            if n_runs % 5 == 0 {
                shop = shop.restart().await;
            }
        }
        assert!(n_sent <= 50);
        let counted = fake.counted();
        assert_eq!(
            (counted.len(), counted.values().sum::<u64>()),
            (50, 25 * 11),
            "seed {seed}"
        );
        let sent = fake.seen();
        assert!(
            sent.iter()
                .all(|s| s.form["identifier"] == s.headers["idempotency-key"])
        );
    }
}

#[tokio::test]
async fn what_may_have_counted_a_day_ago_waits_for_a_person() {
    let shop = Shop::open("").await;
    let fake = FakeStripe::new(Faults::default(), 1);
    metered(shop.authority.db(), 1, shop.now()).await;
    let meters = export(&shop, &fake, "cus_a").await;
    fake.end_after(Some(1));
    assert!(meters.run(10).await.is_err());
    shop.wait(23 * 3_600);
    fake.end_after(None);
    let n_before = fake.seen().len();
    let exported = meters.run(10).await.unwrap();
    assert_eq!((exported.n_sent, exported.n_withheld), (0, 1));
    assert_eq!(fake.seen().len(), n_before);
    let withheld = meters.withheld(10).await.unwrap();
    assert_eq!(withheld.len(), 1);
    assert_eq!(
        (&*withheld[0].reason, &*withheld[0].usage.1),
        ("uncertain", "r0")
    );
    assert_eq!(meters.run(10).await.unwrap(), Exported::default());
}

#[tokio::test]
async fn what_stripe_refuses_or_takes_no_more_is_withheld_and_holds_up_nothing() {
    let shop = Shop::open("").await;
    let fake = FakeStripe::new(Faults::default(), 1);
    metered(shop.authority.db(), 2, shop.now()).await;
    let meters = export(&shop, &fake, "cus_gone").await;
    let exported = meters.run(10).await.unwrap();
    assert_eq!((exported.n_sent, exported.n_withheld), (0, 4));
    let reasons = meters.withheld(10).await.unwrap();
    assert!(reasons.iter().all(|w| w.reason == "customer_missing"));
    let old = Timestamp::from_unix_ms(shop.now().as_unix_ms() - 35 * 86_400_000);
    let usage = Usage::new().with(Unit::Calls, 1);
    let record = UsageRecord::new("meter", "old", "model/x", usage, old);
    let scope = Scope::new(common::who("agent_a"));
    let entry = UsageEntry::new(Attribution::of(&scope), record).unwrap();
    shop.authority
        .db()
        .write(move |tx| record_usage(tx, &entry))
        .await
        .unwrap();
    let exported = meters.run(10).await.unwrap();
    assert_eq!((exported.n_sent, exported.n_withheld), (0, 1));
    assert_eq!(fake.seen().len(), 4);
}
