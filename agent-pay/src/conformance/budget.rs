//! The laws of budgets.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Asset, Classify, ErrorKind};

use super::{Subject, at, key, usd};
use crate::budget::{
    Admission, Allocation, BudgetPath, Budgets, Charge, Denial, HoldState, Member, MoveLimit,
    OpenBudget, Reserve, SetLimit, Settle,
};
use crate::error::Error;

fn path(text: &str) -> BudgetPath {
    BudgetPath::new(text).unwrap()
}

/// Opens `fleet` with 100, `fleet/menders` with 60 and two agents with 50 each.
async fn tree(subject: &Subject) -> Budgets {
    let budgets = Budgets::new(Arc::clone(&subject.ledger));
    let limits = [
        ("fleet", 100),
        ("fleet/menders", 60),
        ("fleet/menders/a", 50),
        ("fleet/menders/b", 50),
    ];
    for (node, limit) in limits {
        let open = OpenBudget::new(path(node), usd(limit));
        budgets.open(open).await.unwrap();
    }
    budgets
}

fn reserve(subject: &Subject, k: &str, node: &str, units: i64) -> Reserve {
    let expires_at = at(&subject.clock, 60_000);
    Reserve::new(key(k), path(node), usd(units), expires_at)
}

async fn has(budgets: &Budgets, node: &str, spent: i64, held: i64) {
    let balance = budgets.balance(Asset::USD, path(node)).await.unwrap();
    assert_eq!(
        (balance.spent, balance.held),
        (usd(spent), usd(held)),
        "{node}"
    );
}

async fn denied(budgets: &Budgets, reserve: Reserve) -> Denial {
    let admission = budgets.reserve(reserve).await.unwrap();
    let error = admission.into_hold().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let denial = match error {
        Error::OverBudget(denial) => Ok(*denial),
        other => Err(other),
    };
    denial.unwrap()
}

/// A budget nobody opened has the limit zero, on every level of a path.
pub async fn budget_that_is_not_open_denies(subject: Subject) {
    let budgets = Budgets::new(Arc::clone(&subject.ledger));
    let denial = denied(&budgets, reserve(&subject, "k", "fleet/x", 1)).await;
    assert_eq!((denial.node, denial.limit), (path("fleet"), usd(0)));
    let budgets = tree(&subject).await;
    let denial = denied(&budgets, reserve(&subject, "k", "fleet/menders/new", 1)).await;
    assert_eq!(
        (denial.node, denial.limit),
        (path("fleet/menders/new"), usd(0))
    );
    has(&budgets, "fleet", 0, 0).await;
}

/// A reservation holds on every level; if one level has too little, on none, and the denial says
/// which.
pub async fn reservation_holds_on_every_level_or_on_none(subject: Subject) {
    let budgets = tree(&subject).await;
    let first = reserve(&subject, "k1", "fleet/menders/a", 40);
    let admission = budgets.reserve(first.clone()).await.unwrap();
    assert!(matches!(&admission, Admission::Reserved(hold) if hold.amount == usd(40)));
    assert_eq!(budgets.reserve(first).await.unwrap(), admission);
    for node in ["fleet", "fleet/menders", "fleet/menders/a"] {
        has(&budgets, node, 0, 40).await;
    }
    let denial = denied(&budgets, reserve(&subject, "k2", "fleet/menders/b", 30)).await;
    assert_eq!(denial.node, path("fleet/menders"));
    assert_eq!((denial.limit, denial.spent), (usd(60), usd(0)));
    assert_eq!((denial.held, denial.asked), (usd(40), usd(30)));
    has(&budgets, "fleet", 0, 40).await;
    has(&budgets, "fleet/menders/b", 0, 0).await;
    // A denial leaves the key free.
    let admission = budgets
        .reserve(reserve(&subject, "k2", "fleet/menders/b", 20))
        .await;
    assert!(admission.unwrap().into_hold().is_ok());
    has(&budgets, "fleet", 0, 60).await;
    let other = budgets
        .reserve(reserve(&subject, "k1", "fleet/menders/a", 1))
        .await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Conflict);
}

/// Opening a budget again with its limit changes nothing; another limit is a conflict.
pub async fn opening_again_keeps_the_budget(subject: Subject) {
    let budgets = tree(&subject).await;
    let _held = budgets
        .reserve(reserve(&subject, "k", "fleet", 10))
        .await
        .unwrap();
    let same = OpenBudget::new(path("fleet"), usd(100));
    let balance = budgets.open(same.clone()).await.unwrap();
    assert_eq!((balance.limit, balance.held), (usd(100), usd(10)));
    let other = OpenBudget::new(path("fleet"), usd(101));
    let refused = budgets.open(other.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::LimitDiffers { limit, .. } if limit == usd(100)));
    // What counts is the limit it has, not the one it was opened with.
    let set = SetLimit::new(key("raise"), path("fleet"), usd(101));
    budgets.set_limit(set).await.unwrap();
    assert_eq!(budgets.open(other).await.unwrap().limit, usd(101));
    assert_eq!(
        budgets.open(same).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

/// A limit can be lowered to what is spent and held, not further.
pub async fn limit_cannot_fall_below_what_is_taken(subject: Subject) {
    let budgets = tree(&subject).await;
    let _held = budgets
        .reserve(reserve(&subject, "k", "fleet", 30))
        .await
        .unwrap();
    let set = |k: &str, units| SetLimit::new(key(k), path("fleet"), usd(units));
    let refused = budgets.set_limit(set("l1", 29)).await.unwrap_err();
    assert!(matches!(refused, Error::OverBudget(_)), "{refused:?}");
    budgets.set_limit(set("l2", 30)).await.unwrap();
    let denial = denied(&budgets, reserve(&subject, "k2", "fleet", 1)).await;
    assert_eq!(denial.limit, usd(30));
    budgets.set_limit(set("l3", 31)).await.unwrap();
    // Repeating an earlier change is harmless: the limit stays.
    budgets.set_limit(set("l2", 30)).await.unwrap();
    let balance = budgets.balance(Asset::USD, path("fleet")).await.unwrap();
    assert_eq!((balance.limit, balance.available()), (usd(31), usd(1)));
    let unopened = SetLimit::new(key("l4"), path("other"), usd(1));
    assert!(budgets.set_limit(unopened).await.is_err());
}

/// A settlement posts the actual cost on every level and frees the rest, once.
pub async fn settlement_posts_the_actual_and_frees_the_rest(subject: Subject) {
    let budgets = tree(&subject).await;
    let held = budgets
        .reserve(reserve(&subject, "k", "fleet/menders/a", 40))
        .await;
    assert!(held.unwrap().into_hold().is_ok());
    let refused = budgets.settle(Settle::new(key("k"), usd(41))).await;
    assert!(matches!(refused, Err(Error::ExceedsHold { .. })));
    let settle = Settle::new(key("k"), usd(25));
    let settled = budgets.settle(settle.clone()).await.unwrap();
    assert_eq!((settled.spent, settled.released), (usd(25), usd(15)));
    assert_eq!(budgets.settle(settle).await.unwrap(), settled);
    let refused = budgets.settle(Settle::new(key("k"), usd(24))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(
        budgets.release(key("k")).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    for node in ["fleet", "fleet/menders", "fleet/menders/a"] {
        has(&budgets, node, 25, 0).await;
    }
    let state = budgets.hold(key("k")).await.unwrap().unwrap();
    assert_eq!(state, HoldState::Settled(settled));
    assert_eq!(budgets.hold(key("unknown")).await.unwrap(), None);
}

/// A released or expired reservation holds nothing, and releasing it again is harmless.
pub async fn released_reservation_is_free(subject: Subject) {
    let budgets = tree(&subject).await;
    for k in ["k1", "k2"] {
        let held = budgets
            .reserve(reserve(&subject, k, "fleet/menders/a", 20))
            .await;
        assert!(held.unwrap().into_hold().is_ok());
    }
    let state = budgets.hold(key("k1")).await.unwrap().unwrap();
    assert!(matches!(state, HoldState::Pending(hold) if hold.path == path("fleet/menders/a")));
    budgets.release(key("k1")).await.unwrap();
    budgets.release(key("k1")).await.unwrap();
    has(&budgets, "fleet", 0, 20).await;
    subject.clock.advance(Duration::from_secs(60));
    let late = budgets.settle(Settle::new(key("k2"), usd(5))).await;
    assert!(matches!(late, Err(Error::Expired { .. })));
    budgets.expire(10).await.unwrap();
    budgets.release(key("k2")).await.unwrap();
    has(&budgets, "fleet", 0, 0).await;
    let k1 = budgets.hold(key("k1")).await.unwrap();
    let k2 = budgets.hold(key("k2")).await.unwrap();
    assert_eq!(
        (k1, k2),
        (Some(HoldState::Released), Some(HoldState::Expired))
    );
}

/// A charge without a reservation is admitted by the same limits.
pub async fn charge_is_admitted_by_the_same_limits(subject: Subject) {
    let budgets = tree(&subject).await;
    let charge = |k: &str, units| Charge::new(key(k), path("fleet/menders/a"), usd(units));
    budgets.charge(charge("c1", 45)).await.unwrap();
    budgets.charge(charge("c1", 45)).await.unwrap();
    let refused = budgets.charge(charge("c2", 6)).await;
    let Err(Error::OverBudget(denial)) = refused else {
        return assert!(matches!(refused, Err(Error::OverBudget(_))));
    };
    assert_eq!(
        (denial.node, denial.spent),
        (path("fleet/menders/a"), usd(45))
    );
    has(&budgets, "fleet", 45, 0).await;
}

/// The budgets below a path are listed with their spending, and no others.
pub async fn spending_is_listed_by_prefix(subject: Subject) {
    let budgets = tree(&subject).await;
    let open = OpenBudget::new(path("fleet2"), usd(1));
    budgets.open(open).await.unwrap();
    let charge = Charge::new(key("c"), path("fleet/menders/b"), usd(7));
    budgets.charge(charge).await.unwrap();
    let listed = budgets
        .balances(Asset::USD, path("fleet"), None)
        .await
        .unwrap();
    let spent: Vec<_> = listed
        .iter()
        .map(|balance| (balance.path.as_str(), balance.spent.units()))
        .collect();
    let expected = [
        ("fleet", 7),
        ("fleet/menders", 7),
        ("fleet/menders/a", 0),
        ("fleet/menders/b", 7),
    ];
    assert_eq!(spent, expected);
    let rest = budgets.balances(Asset::USD, path("fleet"), Some(path("fleet/menders/a")));
    assert_eq!(rest.await.unwrap().len(), 1);
}

/// A limit moves whole, only what is free of it, and the sum of limits stays.
pub async fn limit_moves_between_budgets_and_creates_nothing(subject: Subject) {
    let budgets = tree(&subject).await;
    let held = reserve(&subject, "k", "fleet/menders/a", 40);
    assert!(budgets.reserve(held).await.unwrap().into_hold().is_ok());
    let (a, b) = (path("fleet/menders/a"), path("fleet/menders/b"));
    let step = |k: &str, units| MoveLimit::new(key(k), a.clone(), b.clone(), usd(units));
    let refused = budgets.move_limit(step("m1", 11)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    budgets.move_limit(step("m2", 10)).await.unwrap();
    budgets.move_limit(step("m2", 10)).await.unwrap();
    let limit = |path| budgets.balance(Asset::USD, path);
    let (of_a, of_b) = (
        limit(a.clone()).await.unwrap(),
        limit(b.clone()).await.unwrap(),
    );
    assert_eq!((of_a.limit, of_b.limit), (usd(40), usd(60)));
    let closed = MoveLimit::new(key("m3"), b, path("fleet/none"), usd(1));
    assert!(budgets.move_limit(closed).await.is_err());
    subject.ledger.verify(None).await.unwrap();
}

/// Plans share what is free by weight, pay for successes, and follow what is burned; carrying a
/// plan out twice is harmless, and no plan gives more than there is.
pub async fn allocation_plans_move_what_is_free(subject: Subject) {
    let budgets = tree(&subject).await;
    let held = reserve(&subject, "k", "fleet/menders/a", 45);
    assert!(budgets.reserve(held).await.unwrap().into_hold().is_ok());
    budgets
        .open(OpenBudget::new(path("fleet/spare"), usd(41)))
        .await
        .unwrap();
    let member = |node: &str| Member::new(path(node), Asset::USD);
    let carry_out = async |plan: Allocation, name: &str, members: Vec<Member>| {
        let pool = path("fleet/spare");
        let standing = budgets.standing(Asset::USD, pool, members).await.unwrap();
        for (n, step) in plan.plan(&standing).unwrap().into_iter().enumerate() {
            let step = step.keyed(name, n).unwrap();
            budgets.move_limit(step.clone()).await.unwrap();
            budgets.move_limit(step).await.unwrap();
        }
    };
    let free = async || {
        let mut free = Vec::new();
        for node in ["fleet/spare", "fleet/menders/a", "fleet/menders/b"] {
            let balance = budgets.balance(Asset::USD, path(node)).await.unwrap();
            free.push(balance.available().units());
        }
        free
    };
    assert_eq!(free().await, [41, 5, 50]);
    let [a, b] = ["fleet/menders/a", "fleet/menders/b"].map(member);
    let members = vec![a.clone().with_weight(2), b.clone()];
    carry_out(Allocation::Shares, "p1", members).await;
    assert_eq!(free().await, [0, 64, 32]);
    let members = vec![a.clone().with_spent_recently(usd(20)), b.clone()];
    let burn = Allocation::OnBurnRate {
        n_spans: 2,
        least: usd(10),
    };
    carry_out(burn, "p2", members).await;
    assert_eq!(free().await, [46, 40, 10]);
    let members = vec![a.with_successes(3), b.with_successes(9)];
    carry_out(Allocation::OnSuccess(usd(10)), "p3", members).await;
    assert_eq!(free().await, [0, 70, 26]);
    subject.ledger.verify(None).await.unwrap();
}
