//! More resources than a call looks at: each is reached, whatever those before it do.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use agent_pay::provision::{
    Blocker, Condition, CredentialName, Inspected, Offer, Provisioner, ResourceName, Spec,
    SqliteDatabases, Vault,
};
use agent_pay::{Error, Result};

use super::{Yard, resource, spent};

async fn make(yard: &Yard, n: usize) {
    for n in 0..n {
        let order = yard.order(&format!("o{n}"), &format!("n{n}"), 0);
        let made = yard.estate.provision(order).await.unwrap();
        made.into_resource().unwrap();
    }
}

async fn conditions(yard: &Yard, n: usize) -> Vec<Condition> {
    let mut found = Vec::new();
    for n in 0..n {
        let name = resource(&format!("n{n}"));
        found.push(
            yard.estate
                .resource(&name)
                .await
                .unwrap()
                .unwrap()
                .condition,
        );
    }
    found
}

/// Two of four are used all the time; a call looks at two.
#[tokio::test]
async fn resources_behind_those_in_use_are_put_to_sleep() {
    let yard = Yard::open().await;
    make(&yard, 4).await;
    for _ in 0..3 {
        yard.shop.wait(300);
        for n in 0..2 {
            yard.estate
                .touch(&resource(&format!("n{n}")))
                .await
                .unwrap();
        }
        yard.estate.meter(2).await.unwrap();
    }
    let expected = [
        Condition::Ready,
        Condition::Ready,
        Condition::Asleep,
        Condition::Asleep,
    ];
    assert_eq!(conditions(&yard, 4).await, expected);
}

/// All are used and each begins a period; a call bills one.
#[tokio::test]
async fn resources_behind_others_that_are_billed_are_billed() {
    let yard = Yard::open().await;
    make(&yard, 4).await;
    for n_periods in 1..=3 {
        assert_eq!(
            yard.money().await,
            spent(&format!(
                "{}.{}0 USD",
                n_periods * 4 / 10,
                n_periods * 4 % 10
            ))
        );
        yard.shop.wait(3_600);
        for n in 0..4 {
            yard.estate
                .touch(&resource(&format!("n{n}")))
                .await
                .unwrap();
        }
        for _ in 0..4 {
            assert_eq!(yard.estate.meter(1).await.unwrap().len(), 0);
        }
    }
    assert_eq!(yard.money().await, spent("1.60 USD"));
    yard.shop.check().await;
}

/// The first two are damaged: they fail at each call, alone in a page and together with others.
#[tokio::test]
async fn resources_behind_one_that_cannot_be_billed_are_billed() {
    for limit in [1, 2, 10] {
        let yard = Yard::open().await;
        make(&yard, 4).await;
        let damage = |tx: &mut agent_core::store::Tx<'_>| {
            let damage = "UPDATE pay_resource SET credentials = '' WHERE name IN ('n0', 'n1')";
            assert_eq!(tx.sql().execute(damage, []).unwrap(), 2);
            Ok::<_, Error>(())
        };
        yard.shop.authority.db().write(damage).await.unwrap();
        yard.shop.wait(3_600);
        for n in 2..4 {
            yard.estate
                .touch(&resource(&format!("n{n}")))
                .await
                .unwrap();
        }
        let mut n_failed = 0;
        for _ in 0..4 {
            n_failed += usize::from(yard.estate.meter(limit).await.is_err());
        }
        assert!(n_failed > 0);
        assert_eq!(yard.money().await, spent("0.60 USD"), "limit {limit}");
    }
}

/// Makes nothing the first four times, and never what begins with `bad`.
#[derive(Debug)]
struct Choosy(SqliteDatabases, AtomicUsize);

#[async_trait::async_trait]
impl Provisioner for Choosy {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn catalogue(&self) -> Result<Vec<Offer>> {
        self.0.catalogue().await
    }

    async fn preflight(&self, spec: &Spec) -> Result<Vec<Blocker>> {
        self.0.preflight(spec).await
    }

    async fn create(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        let n = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if n < 4 || spec.name.as_str().starts_with("bad") {
            let kind = agent_core::ErrorKind::Unavailable;
            let retry = agent_core::Retry::Safe;
            return Err(Error::backend("choosy", "create", kind, retry, "planted"));
        }
        self.0.create(spec, vault).await
    }

    async fn alter(&self, spec: &Spec, is_awake: bool) -> Result<()> {
        self.0.alter(spec, is_awake).await
    }

    async fn destroy(&self, name: &ResourceName, vault: &dyn Vault) -> Result<()> {
        self.0.destroy(name, vault).await
    }

    async fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>> {
        self.0.inspect(name).await
    }

    async fn list(&self) -> Result<Vec<ResourceName>> {
        self.0.list().await
    }
}

#[tokio::test]
async fn orders_behind_orders_that_always_fail_are_finished() {
    let yard =
        Yard::with(|databases| Arc::new(Choosy(databases.clone(), AtomicUsize::new(0)))).await;
    for name in ["bad1", "bad2", "good1", "good2"] {
        let order = yard.order(&format!("o-{name}"), name, 0);
        assert!(yard.estate.provision(order).await.is_err());
    }
    for _ in 0..2 {
        assert_eq!(yard.estate.resume(2).await.unwrap().len(), 2);
    }
    for name in ["good1", "good2"] {
        let found = yard.estate.resource(&resource(name)).await.unwrap();
        assert_eq!(found.unwrap().condition, Condition::Ready, "{name}");
    }
    let held = ("0.20 USD".to_owned(), "0.20 USD".to_owned());
    assert_eq!(yard.money().await, held);
}
