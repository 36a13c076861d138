//! Calls that fail at every place: afterwards nothing is half there, and money agrees with it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use agent_pay::provision::{Condition, Provisioned, Provisioner, Resource};

use super::faulty::{Fault, Faulty};
use super::{HOUR, Yard, resource};

async fn yard(fails: std::ops::Range<usize>, fault: Fault) -> Yard {
    Yard::with(move |databases| {
        Arc::new(Faulty {
            inner: databases.clone(),
            n_calls: Arc::new(AtomicUsize::new(0)),
            fails: fails.clone(),
            fault,
        })
    })
    .await
}

/// Orders, sleeps, wakes, removes, whatever each call answers.
async fn life(yard: &Yard) {
    let (name, until) = (resource("notes"), yard.shop.now().after(100 * HOUR));
    let _made = yard.estate.provision(yard.order("o1", "notes", 0)).await;
    let _asleep = yard.estate.sleep(&name).await;
    yard.shop.wait(3_601);
    let _awake = yard.estate.wake(&name, until).await;
}

/// Goes on until nothing is begun any more.
async fn settle(yard: &Yard) -> Option<Resource> {
    for _ in 0..20 {
        yard.shop.wait(61);
        if yard.estate.resume(10).await.unwrap().is_empty() {
            break;
        }
    }
    let found = yard.estate.resource(&resource("notes")).await.unwrap();
    if let Some(found) = &found {
        let is_settled = matches!(
            found.condition,
            Condition::Ready | Condition::Asleep | Condition::Gone
        );
        assert!(is_settled, "{found:?}");
    }
    found
}

async fn check(yard: &Yard, what: &str) {
    let found = settle(yard).await;
    let listed = yard.databases.list().await.unwrap();
    let is_there = found.is_some_and(|found| found.condition != Condition::Gone);
    assert_eq!(listed.len(), usize::from(is_there), "{what}");
    assert_eq!(yard.estate.orphans().await.unwrap(), [], "{what}");
    let (spent, held) = yard.money().await;
    assert_eq!(held, "0.00 USD", "{what}");
    let paid = ["0.00 USD", "0.10 USD", "0.20 USD"];
    assert!(paid.contains(&spent.as_str()), "{what}: {spent}");
    assert!(!is_there || spent != "0.00 USD", "{what}: free of charge");
    yard.shop.check().await;
}

#[tokio::test]
async fn a_fault_at_any_call_leaves_no_orphan_and_no_hold() {
    for fault in [Fault::Lost, Fault::AnswerLost, Fault::Refused] {
        for at in 0..5 {
            for n in 1..4 {
                let yard = yard(at..at + n, fault).await;
                life(&yard).await;
                check(&yard, &format!("{fault:?} at {at}, {n} times")).await;
                let _gone = yard.estate.deprovision(&resource("notes")).await;
                let what = format!("{fault:?} at {at}, {n} times, removed");
                check(&yard, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn what_was_refused_is_undone_and_costs_nothing() {
    let yard = yard(0..1, Fault::Refused).await;
    let refused = yard.estate.provision(yard.order("o1", "notes", 0)).await;
    assert!(refused.is_err());
    assert_eq!(yard.databases.list().await.unwrap(), []);
    assert_eq!(yard.money().await, super::spent("0.00 USD"));
    let found = yard.estate.resource(&resource("notes")).await.unwrap();
    assert_eq!(found.unwrap().condition, Condition::Gone);
}

#[tokio::test]
async fn a_lost_answer_is_found_by_asking_again_and_paid_once() {
    let yard = yard(0..1, Fault::AnswerLost).await;
    let order = yard.order("o1", "notes", 0);
    assert!(yard.estate.provision(order.clone()).await.is_err());
    let (spent, held) = yard.money().await;
    assert_eq!((spent.as_str(), held.as_str()), ("0.00 USD", "0.10 USD"));
    let made = yard.estate.provision(order).await.unwrap();
    assert!(matches!(made, Provisioned::Done(_)));
    assert_eq!(yard.money().await, super::spent("0.10 USD"));
}

#[tokio::test]
async fn a_change_that_is_refused_keeps_the_old_plan_and_the_money() {
    let yard = yard(1..2, Fault::Refused).await;
    let made = yard.estate.provision(yard.order("o1", "notes", 0)).await;
    let made = made.unwrap().into_resource().unwrap();
    let mut plan = super::plans().swap_remove(1);
    let offers = yard.databases.catalogue().await.unwrap();
    assert!(offers[0].plans.contains(&plan));
    yard.shop
        .authority
        .apply(
            super::POLICY
                .replace("alone_up_to = \"0.50 USD\"\n", "")
                .parse()
                .unwrap(),
            super::who("host"),
        )
        .await
        .unwrap();
    let until = yard.shop.now().after(HOUR);
    let refused = yard.estate.change(&made.name, plan.clone(), until).await;
    assert!(refused.is_err());
    plan = yard
        .estate
        .resource(&made.name)
        .await
        .unwrap()
        .unwrap()
        .plan;
    assert_eq!(plan.id, "small");
    assert_eq!(yard.money().await, super::spent("0.10 USD"));
    yard.shop.check().await;
}
