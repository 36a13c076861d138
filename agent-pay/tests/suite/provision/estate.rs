//! What resources cost, and whom they ask.

use std::time::Duration;

use agent_core::Classify;
use agent_pay::Error;
use agent_pay::authority::Vote;
use agent_pay::provision::{Condition, Provisioned, Provisioner, Spec};

use super::common::who;
use super::{HOUR, Yard, asked, plans, resource, spent};

#[tokio::test]
async fn an_order_is_made_and_paid_once() {
    let yard = Yard::open().await;
    let order = yard.order("o1", "notes", 0);
    for _ in 0..3 {
        let made = yard.estate.provision(order.clone()).await.unwrap();
        let made = made.into_resource().unwrap();
        assert_eq!(made.condition, Condition::Ready);
        assert_eq!(made.credentials, yard.vault.names());
    }
    assert_eq!(yard.money().await, spent("0.10 USD"));
    assert_eq!(yard.databases.list().await.unwrap(), [resource("notes")]);
    assert_eq!(yard.estate.orphans().await.unwrap(), []);
    let other = yard.order("o2", "notes", 0);
    let taken = yard.estate.provision(other).await.unwrap_err();
    assert_eq!(taken.code(), "pay.blocked");
    assert_eq!(yard.money().await, spent("0.10 USD"));
    yard.shop.check().await;
}

#[tokio::test]
async fn every_blocker_of_both_sides_comes_at_once() {
    let yard = Yard::open().await;
    let made = yard.estate.provision(yard.order("o1", "notes", 0)).await;
    made.unwrap().into_resource().unwrap();
    let mut order = yard.order("o2", "notes", 1);
    order.spec.offer = "no/offer".to_owned();
    let found = yard.estate.preflight(&order).await.unwrap();
    let codes: Vec<&str> = found.iter().map(|b| b.code.as_str()).collect();
    assert_eq!(codes, ["OFFER_UNKNOWN", "NAME_TAKEN", "APPROVAL_REQUIRED"]);
    assert!(found.iter().all(|b| !b.remedy.is_empty()));
    yard.shop
        .authority
        .halt(true, who("human:alice"))
        .await
        .unwrap();
    let found = yard.estate.preflight(&yard.order("o3", "more", 0)).await;
    let found = found.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].found.contains("halted"), "{}", found[0]);
}

#[tokio::test]
async fn above_the_threshold_somebody_is_asked_and_nothing_is_made_before() {
    let yard = Yard::open().await;
    let order = yard.order("o1", "notes", 1);
    let request = asked(yard.estate.provision(order.clone()).await.unwrap());
    assert_eq!(yard.databases.list().await.unwrap(), []);
    assert_eq!(yard.money().await, spent("0.00 USD"));
    let vote = yard
        .shop
        .authority
        .vote(request.digest, who("human:alice"), Vote::Approve);
    vote.await.unwrap();
    let made = yard.estate.provision(order).await.unwrap();
    made.into_resource().unwrap();
    assert_eq!(yard.money().await, spent("1.00 USD"));
    yard.shop.check().await;
}

#[tokio::test]
async fn a_budget_that_is_used_up_makes_nothing() {
    let yard = Yard::open().await;
    let mut order = yard.order("o1", "notes", 0);
    order.node = super::path("nobody");
    let denied = yard.estate.provision(order).await.unwrap();
    assert!(matches!(denied, Provisioned::Denied(_)));
    assert_eq!(yard.databases.list().await.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_paid_while_it_sleeps_and_each_period_once() {
    let yard = Yard::open().await;
    let name = resource("notes");
    let made = yard.estate.provision(yard.order("o1", "notes", 0)).await;
    made.unwrap().into_resource().unwrap();
    // In use for two hours: two more periods begin, and billing twice bills once.
    for _ in 0..12 {
        yard.shop.wait(599);
        yard.estate.touch(&name).await.unwrap();
        for _ in 0..2 {
            assert_eq!(yard.estate.meter(10).await.unwrap(), []);
        }
    }
    assert_eq!(yard.money().await, spent("0.20 USD"));
    yard.shop.wait(601);
    let asleep = yard.estate.meter(10).await.unwrap();
    assert_eq!(asleep[0].condition, Condition::Asleep);
    yard.shop.wait(1_000_000);
    assert_eq!(yard.estate.meter(10).await.unwrap(), []);
    assert_eq!(yard.money().await, spent("0.20 USD"));
    let until = yard.shop.now().after(HOUR);
    let woken = yard.estate.wake(&name, until).await.unwrap();
    assert_eq!(woken.into_resource().unwrap().condition, Condition::Ready);
    assert_eq!(yard.money().await, spent("0.30 USD"));
    // Within a period that is paid for, waking again costs nothing.
    yard.estate.sleep(&name).await.unwrap();
    let woken = yard.estate.wake(&name, until).await.unwrap();
    woken.into_resource().unwrap();
    assert_eq!(yard.money().await, spent("0.30 USD"));
    yard.shop.check().await;
}

#[tokio::test]
async fn a_resource_nobody_can_pay_for_falls_asleep() {
    let yard = Yard::open().await;
    let made = yard.estate.provision(yard.order("o1", "notes", 0)).await;
    made.unwrap().into_resource().unwrap();
    let node = super::path("acme");
    yard.shop.authority.revoke(node, true).await.unwrap();
    yard.shop.wait(3_601);
    yard.estate.touch(&resource("notes")).await.unwrap();
    let asleep = yard.estate.meter(10).await.unwrap();
    assert_eq!(asleep[0].condition, Condition::Asleep);
    assert_eq!(yard.money().await, spent("0.10 USD"));
    let until = yard.shop.now().after(HOUR);
    let denied = yard.estate.wake(&resource("notes"), until).await.unwrap();
    assert!(matches!(denied, Provisioned::Denied(_)));
    yard.shop.check().await;
}

#[tokio::test]
async fn a_dearer_plan_costs_the_difference_and_a_cheaper_one_gives_nothing_back() {
    let yard = Yard::open().await;
    let name = resource("notes");
    let made = yard.estate.provision(yard.order("o1", "notes", 0)).await;
    made.unwrap().into_resource().unwrap();
    let (until, large) = (yard.shop.now().after(HOUR), plans().swap_remove(1));
    let answer = yard.estate.change(&name, large.clone(), until).await;
    let request = asked(answer.unwrap());
    let vote = yard
        .shop
        .authority
        .vote(request.digest, who("human:alice"), Vote::Approve);
    vote.await.unwrap();
    let changed = yard.estate.change(&name, large.clone(), until).await;
    assert_eq!(changed.unwrap().into_resource().unwrap().plan, large);
    assert_eq!(yard.money().await, spent("1.00 USD"));
    let small = plans().swap_remove(0);
    let changed = yard.estate.change(&name, small.clone(), until).await;
    assert_eq!(changed.unwrap().into_resource().unwrap().plan, small);
    assert_eq!(yard.money().await, spent("1.00 USD"));
    yard.shop.check().await;
}

#[tokio::test]
async fn a_removed_resource_is_gone_and_its_key_used_up() {
    let yard = Yard::open().await;
    let order = yard.order("o1", "notes", 0);
    let made = yard.estate.provision(order.clone()).await.unwrap();
    made.into_resource().unwrap();
    let gone = yard.estate.deprovision(&resource("notes")).await.unwrap();
    assert_eq!(gone.condition, Condition::Gone);
    assert_eq!(yard.databases.list().await.unwrap(), []);
    assert_eq!(yard.vault.names(), []);
    let again = yard.estate.provision(order).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyFailed { .. }));
    // The name is free for another order.
    let made = yard.estate.provision(yard.order("o2", "notes", 0)).await;
    made.unwrap().into_resource().unwrap();
    assert_eq!(yard.money().await, spent("0.20 USD"));
    yard.shop.check().await;
}

#[tokio::test]
async fn what_no_order_names_is_an_orphan() {
    let yard = Yard::open().await;
    let spec = Spec::new(
        resource("stray"),
        agent_pay::provision::SqliteDatabases::OFFER,
        plans().swap_remove(0),
    );
    let created = yard.databases.create(&spec, yard.vault.as_ref()).await;
    created.unwrap();
    assert_eq!(yard.estate.orphans().await.unwrap(), [resource("stray")]);
}

#[tokio::test]
async fn records_survive_a_restart() {
    let yard = Yard::open().await;
    let order = yard.order("o1", "notes", 0);
    let made = yard.estate.provision(order).await.unwrap();
    let made = made.into_resource().unwrap();
    let Yard { shop, estate, .. } = yard;
    drop(estate);
    let shop = shop.restart().await;
    let databases = agent_pay::provision::SqliteDatabases::new(shop.dir.path(), plans());
    let clock: std::sync::Arc<dyn agent_core::Clock> =
        std::sync::Arc::<agent_core::ManualClock>::clone(&shop.clock);
    let estate = agent_pay::provision::Estate::open(
        shop.authority.clone(),
        std::sync::Arc::new(databases),
        std::sync::Arc::new(agent_pay::provision::MemoryVault::new()),
        clock,
    );
    let found = estate.await.unwrap().resource(&resource("notes")).await;
    assert_eq!(found.unwrap(), Some(made));
    shop.wait(Duration::from_secs(1).as_secs());
}
