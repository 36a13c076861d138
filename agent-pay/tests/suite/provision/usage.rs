//! What was paid for is in the reports, once and only where it is asked for.

use agent_core::{Asset, Unit};
use agent_pay::authority::Vote;
use agent_pay::backend::SqliteMeter;
use agent_pay::provision::Estate;
use agent_pay::{PriceBook, SpendBy, SpendQuery};

use super::common::who;
use super::{HOUR, Yard, asked, plans, resource, spent};

/// Groups with their hours, cost and number of records.
async fn report(yard: &Yard, by: SpendBy) -> Vec<(String, u64, String, u64)> {
    let db = yard.shop.authority.db().clone();
    let meter = SqliteMeter::open(db, PriceBook::new()).await.unwrap();
    let query = SpendQuery::new(by, Asset::USD).with_tenant("acme");
    let rows = meter.spend(query).await.unwrap();
    let hour_us = u64::try_from(HOUR.as_micros()).unwrap();
    let row = |row: agent_pay::SpendRow| {
        assert_eq!(
            (row.n_unpriced, row.usage.get(Unit::WallUs) % hour_us),
            (0, 0)
        );
        let hours = row.usage.get(Unit::WallUs) / hour_us;
        (
            row.group.unwrap(),
            hours,
            row.cost.to_string(),
            row.n_records,
        )
    };
    rows.into_iter().map(row).collect()
}

/// Two periods of one plan, and the difference to another.
async fn run(yard: &Yard, estate: &Estate) {
    let name = resource("notes");
    for _ in 0..2 {
        let made = estate.provision(yard.order("o1", "notes", 0)).await;
        made.unwrap().into_resource().unwrap();
    }
    yard.shop.wait(3_600);
    estate.touch(&name).await.unwrap();
    for _ in 0..2 {
        estate.meter(10).await.unwrap();
    }
    let (until, large) = (yard.shop.now().after(HOUR), plans().swap_remove(1));
    let request = asked(estate.change(&name, large.clone(), until).await.unwrap());
    let authority = &yard.shop.authority;
    let voted = authority.vote(request.digest, who("human:alice"), Vote::Approve);
    voted.await.unwrap();
    let changed = estate.change(&name, large, until).await.unwrap();
    changed.into_resource().unwrap();
    yard.shop.wait(60);
    assert_eq!(yard.money().await, spent("1.10 USD"));
}

#[tokio::test]
async fn what_was_paid_for_is_in_the_reports_once() {
    let yard = Yard::open().await;
    run(&yard, &yard.estate.clone().with_usage_of("acme")).await;
    let offer = agent_pay::provision::SqliteDatabases::OFFER;
    let expected = [
        (format!("{offer}/large"), 0, "0.90 USD".to_owned(), 1),
        (format!("{offer}/small"), 2, "0.20 USD".to_owned(), 2),
    ];
    assert_eq!(report(&yard, SpendBy::Resource).await, expected);
    let all = |group: &str| [(group.to_owned(), 2, "1.10 USD".to_owned(), 3)];
    assert_eq!(report(&yard, SpendBy::Pool).await, all("acme"));
    assert_eq!(report(&yard, SpendBy::Payee).await, all("provision:sqlite"));
    yard.shop.check().await;
}

#[tokio::test]
async fn nothing_is_recorded_where_nobody_asked_for_it() {
    let yard = Yard::open().await;
    run(&yard, &yard.estate).await;
    assert_eq!(report(&yard, SpendBy::Pool).await, []);
}
