//! What was consumed is billed once, exactly; budgets are compared with what happened.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    AgentId, Amount, Asset, Env, Meter, Principal, Scope, TaskId, Timestamp, Unit, Usage,
    UsageRecord,
};
use agent_pay::backend::{InMemoryLedger, SqliteMeter, sqlite};
use agent_pay::finops::{Alert, BudgetLine, Burn, Watch, forecast};
use agent_pay::{
    Attribution, BudgetPath, Budgets, Charge, Invoice, OpenBudget, Price, PriceBook, RateCard,
    Ratio, SpendBy, SpendQuery, UsageEntry,
};
use proptest::prelude::*;

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

/// A third of a smallest unit for a token, and from 1,000 ms on two thirds.
fn book() -> PriceBook {
    let card = |version: &str, units| {
        let price = |resource: &str, unit| Price::new(resource, unit, usd(units), 3);
        let mut card = RateCard::new(version, Asset::USD).unwrap();
        for (resource, unit) in [
            ("model/*", Unit::TokensIn),
            ("model/*", Unit::TokensReasoning),
            ("tool/*", Unit::Calls),
            ("sandbox/*", Unit::CpuUs),
            ("sandbox/*", Unit::MemoryMibMs),
            ("sandbox/*", Unit::Fuel),
            ("sandbox/*", Unit::EgressBytes),
        ] {
            card = card.with_price(price(resource, unit)).unwrap();
        }
        card
    };
    let book = PriceBook::new().with_card(at(0), card("old", 1)).unwrap();
    book.with_card(at(1_000), card("new", 2)).unwrap()
}

async fn meter(dir: &tempfile::TempDir) -> (Db, SqliteMeter) {
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &Env::system()).await.unwrap();
    (db.clone(), SqliteMeter::open(db, book()).await.unwrap())
}

fn scope() -> Scope {
    Scope::new(Principal::host())
}

async fn record(meter: &SqliteMeter, id: &str, resource: &str, unit: Unit, n: u64, at_ms: i64) {
    let usage = Usage::new().with(unit, n);
    let record = UsageRecord::new("m", id, resource, usage, at(at_ms));
    meter.record(&scope(), record).await.unwrap();
}

async fn close(db: &Db, until_ms: i64) -> agent_pay::Result<Invoice> {
    db.write(move |tx| sqlite::close_invoice(tx, "default", Asset::USD, at(until_ms)))
        .await
}

#[tokio::test]
async fn sums_are_rounded_once_and_the_fraction_goes_to_the_next_invoice() {
    let dir = tempfile::tempdir().unwrap();
    let (db, meter) = meter(&dir).await;
    for n in 0..4 {
        record(&meter, &format!("a{n}"), "model/x", Unit::TokensIn, 1, 10).await;
    }
    record(&meter, "b", "tool/y", Unit::Calls, 1, 10).await;
    let spent = meter
        .spend(SpendQuery::new(SpendBy::Resource, Asset::USD))
        .await
        .unwrap();
    // Four thirds, not four times zero.
    assert_eq!(
        (spent[0].cost, spent[0].exact),
        (usd(1), Ratio::new(4, 3).unwrap())
    );
    let first = close(&db, 100).await.unwrap();
    assert_eq!((first.number, first.total), (1, usd(1)));
    assert_eq!(first.carried_out, Ratio::new(2, 3).unwrap());
    assert_eq!(close(&db, 100).await.unwrap(), first);
    assert!(close(&db, 99).await.is_err());
    record(&meter, "c", "tool/y", Unit::Calls, 1, 150).await;
    let second = close(&db, 200).await.unwrap();
    assert_eq!((second.total, second.carried_out), (usd(1), Ratio::ZERO));
    assert_eq!(second.lines.len(), 1);
    let read = db
        .read(|tx| sqlite::invoice(tx, "default", Asset::USD, 1))
        .await;
    let read: agent_pay::Result<_> = read;
    assert_eq!(read.unwrap(), Some(first));
}

#[tokio::test]
async fn late_usage_costs_what_it_cost_then_and_is_billed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (db, meter) = meter(&dir).await;
    record(&meter, "a", "model/x", Unit::TokensIn, 3, 500).await;
    assert_eq!(close(&db, 1_000).await.unwrap().total, usd(1));
    record(&meter, "new", "model/x", Unit::TokensIn, 3, 1_500).await;
    record(&meter, "late", "model/x", Unit::TokensIn, 3, 500).await;
    record(&meter, "late", "model/x", Unit::TokensIn, 300, 500).await;
    record(&meter, "none", "model/x", Unit::StorageBytes, 3, 500).await;
    let second = close(&db, 2_000).await.unwrap();
    assert_eq!(
        (second.total, second.n_late, second.n_unpriced),
        (usd(3), 1, 1)
    );
    assert_eq!(close(&db, 3_000).await.unwrap().total, usd(0));
}

#[tokio::test]
async fn sandbox_and_model_units_are_reported_by_whatever_they_belong_to() {
    let dir = tempfile::tempdir().unwrap();
    let (db, meter) = meter(&dir).await;
    let env = Env::system();
    let (agent, task) = (AgentId::generate(&env), TaskId::generate(&env));
    let scope = Scope::agent(agent).with_task(task);
    let records = [
        ("model/x", Unit::TokensReasoning),
        ("tool/y", Unit::Calls),
        ("sandbox/wasm", Unit::CpuUs),
        ("sandbox/wasm", Unit::MemoryMibMs),
        ("sandbox/wasm", Unit::Fuel),
        ("sandbox/wasm", Unit::EgressBytes),
    ];
    for (n, (resource, unit)) in records.into_iter().enumerate() {
        let usage = Usage::new().with(unit, 3);
        let record = UsageRecord::new("m", n.to_string(), resource, usage, at(1));
        let attribution = Attribution::of(&scope).with_payee(resource);
        let entry = UsageEntry::new(attribution, record)
            .unwrap()
            .priced_from(&book())
            .unwrap();
        db.write(move |tx| sqlite::record_usage(tx, &entry))
            .await
            .unwrap();
    }
    let by = async |by| {
        let rows = meter.spend(SpendQuery::new(by, Asset::USD)).await.unwrap();
        let of = |row: &agent_pay::SpendRow| (row.group.clone(), row.cost.units());
        rows.iter().map(of).collect::<Vec<_>>()
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(by(SpendBy::Agent).await, [(named(&agent.to_string()), 6)]);
    assert_eq!(by(SpendBy::Task).await, [(named(&task.to_string()), 6)]);
    assert_eq!(by(SpendBy::Model).await, [(None, 5), (named("model/x"), 1)]);
    assert_eq!(by(SpendBy::Tool).await, [(None, 5), (named("tool/y"), 1)]);
    assert_eq!(by(SpendBy::Run).await, [(None, 6)]);
    let payees = [
        (named("model/x"), 1),
        (named("sandbox/wasm"), 4),
        (named("tool/y"), 1),
    ];
    assert_eq!(by(SpendBy::Payee).await, payees);
}

#[tokio::test]
async fn budget_is_compared_with_what_happened_and_warned_about() {
    let budgets = Budgets::new(std::sync::Arc::new(InMemoryLedger::new(&Env::system())));
    let path = BudgetPath::new("acme").unwrap();
    budgets
        .open(OpenBudget::new(path.clone(), usd(1_000)))
        .await
        .unwrap();
    let key = agent_core::IdempotencyKey::new("k").unwrap();
    budgets
        .charge(Charge::new(key, path.clone(), usd(850)))
        .await
        .unwrap();
    let balance = budgets.balance(Asset::USD, path).await.unwrap();
    let line = BudgetLine::of(balance.clone()).unwrap();
    assert_eq!((line.left, line.used_permille), (usd(150), 850));
    let day = Duration::from_secs(86_400);
    let burn = Burn::new(usd(100), day).unwrap();
    let end = at(0).after(day * 3);
    let seen = forecast(&balance, &burn, at(0), end).unwrap();
    assert_eq!((seen.used_at_end, seen.missing), (usd(1_150), usd(150)));
    assert_eq!(seen.exhausted_at, Some(at(0).after(day + day / 2)));
    let calm = forecast(&balance, &burn, at(0), at(0).after(day)).unwrap();
    assert_eq!((calm.missing, calm.exhausted_at), (usd(0), None));
    let alerts = Watch::over(day * 30).alerts(&balance, &burn).unwrap();
    let used = |alert: &Alert| {
        matches!(
            alert,
            Alert::Used {
                mark_permille: 800,
                ..
            }
        )
    };
    let runway =
        |alert: &Alert| matches!(alert, Alert::Runway { lasts, .. } if *lasts == day + day / 2);
    let rate = |alert: &Alert| {
        matches!(
            alert,
            Alert::BurnRate {
                factor_permille: 3_000,
                ..
            }
        )
    };
    assert!(
        used(&alerts[0]) && runway(&alerts[1]) && rate(&alerts[2]),
        "{alerts:?}"
    );
    let idle = Burn::new(usd(0), day).unwrap();
    assert_eq!(
        Watch::over(day * 30).alerts(&balance, &idle).unwrap().len(),
        1
    );
}

#[tokio::test]
async fn hostile_names_stay_text_in_a_printed_invoice() {
    let dir = tempfile::tempdir().unwrap();
    let (db, meter) = meter(&dir).await;
    let hostile = "tool/<script>alert('x')</script>\"&\u{202e}\u{7}";
    record(&meter, "a", hostile, Unit::Calls, 30, 10).await;
    record(&meter, "b", "model/large", Unit::TokensIn, 1_234_567, 20).await;
    record(&meter, "c", "gift", Unit::Calls, 5, 30).await;
    let invoice = close(&db, 100).await.unwrap();
    let html = invoice.to_html("Maps & Co\n1 Way");
    assert!(html.contains("<dd>Maps &amp; Co<br>1 Way</dd>"));
    assert!(html.contains("to 1970-01-01 00:00 UTC"));
    assert!(html.contains("tool/&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
    assert!(!html.contains("<script") && !html.contains('\u{202e}') && !html.contains('\u{7}'));
    let json: serde_json::Value = serde_json::from_str(&invoice.to_json().unwrap()).unwrap();
    assert_eq!(json["lines"][1]["resource"], hostile);
    assert!(html.contains(">0.000010<") && html.contains(">0.411532<"));
    assert!(html.contains("1\u{202f}234\u{202f}567 tokens in"));
    assert!(html.contains("Records without a price, not billed: 1."));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..<_>::default() })]

    #[test]
    fn invoices_lose_and_make_no_fraction(costs in proptest::collection::vec((0..500_i128, 1..40_i128), 0..60), n in 1..6_usize) {
        let row = |(numerator, denominator)| {
            let mut report = agent_pay::SpendReport::new(SpendBy::Resource, Asset::USD);
            let record = UsageRecord::new("m", "i", "r", Usage::new(), at(0));
            let mut entry = UsageEntry::new(Attribution::of(&scope()), record).unwrap();
            entry.cost = Some(usd(0));
            entry.exact = Some(Ratio::new(numerator, denominator).unwrap());
            report.add(&entry).unwrap();
            report.into_rows().remove(0)
        };
        let rows: Vec<_> = costs.iter().copied().map(row).collect();
        let (mut carry, mut total, mut exact) = (Ratio::ZERO, 0, Ratio::ZERO);
        for page in rows.chunks(rows.len().div_ceil(n).max(1)) {
            let Ok(invoice) = Invoice::new("t", Asset::USD, 1, at(0), carry, page) else {
                // The common denominator of forty numbers may not fit.
                return Ok(());
            };
            let lines: i128 = invoice.lines.iter().map(|line| line.amount.units()).sum();
            prop_assert_eq!(lines, invoice.total.units());
            carry = invoice.carried_out;
            total += invoice.total.units();
            for row in page {
                exact = exact.plus(row.exact).unwrap();
            }
        }
        prop_assert!(carry.compare(Ratio::ONE).unwrap().is_lt());
        let billed = Ratio::new(total, 1).unwrap().plus(carry).unwrap();
        prop_assert_eq!(billed, exact);
    }

    #[test]
    fn ratios_read_back_as_written(n in 0..i128::from(u64::MAX), d in 1..i128::from(u32::MAX)) {
        let ratio = Ratio::new(n, d).unwrap();
        prop_assert_eq!(ratio.to_string().parse::<Ratio>().unwrap(), ratio);
    }
}
