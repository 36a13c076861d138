//! Limits of a time: calendar, rolling, counts, against a reference that adds up a list.

use std::time::Duration;

use crate::common::planted::{Bug, calendar, limit};
use crate::common::{NOON_MS, Shop, op, who};
use agent_core::Timestamp;
use agent_pay::authority::{Authorization, Calendar, Limit, SpendState};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

const HOUR: u64 = 3_600;

async fn shop(bug: Option<Bug>, limits: &str) -> Shop {
    let policy = format!(
        "[node.acme]\nlimits = [\"1000.00 USD lifetime\", {limits}]\nfirst_payee = \"allow\""
    );
    Shop::with(bug, &policy).await
}

pub(crate) async fn calendar_day_begins_at_midnight_of_its_place(bug: Option<Bug>) {
    // It is noon in UTC; at +05:30 midnight is 6.5 hours away.
    let shop = shop(bug, "\"10.00 USD day +05:30\"").await;
    shop.held(&shop.intent("k1", "acme", "10.00 USD")).await;
    shop.capture("k1", "10.00 USD").await;
    shop.wait(6 * HOUR + 1_799);
    assert_eq!(
        shop.denied(&shop.intent("k2", "acme", "0.01 USD")).await,
        "over_limit"
    );
    shop.wait(1);
    shop.held(&shop.intent("k2", "acme", "10.00 USD")).await;
    assert_eq!(
        shop.denied(&shop.intent("k3", "acme", "0.01 USD")).await,
        "over_limit"
    );
    shop.check().await;
}

pub(crate) async fn periods_begin_where_the_calendar_says(bug: Option<Bug>) {
    let start = |window: &str, at_ms: i64| {
        let start: Calendar = window.parse().unwrap();
        calendar(bug, start)
            .start(Timestamp::from_unix_ms(at_ms))
            .to_string()
    };
    assert_eq!(start("hour", NOON_MS + 1), "2026-11-25T12:00:00.000Z");
    assert_eq!(start("day", NOON_MS), "2026-11-25T00:00:00.000Z");
    assert_eq!(start("day -08:00", NOON_MS), "2026-11-25T08:00:00.000Z");
    assert_eq!(start("week", NOON_MS), "2026-11-23T00:00:00.000Z");
    assert_eq!(start("month", NOON_MS), "2026-11-01T00:00:00.000Z");
    assert_eq!(start("year +01:00", NOON_MS), "2025-12-31T23:00:00.000Z");
    // The last moment of a leap day, and a moment before the epoch.
    assert_eq!(
        start("month", 1_709_251_199_999),
        "2024-02-01T00:00:00.000Z"
    );
    assert_eq!(start("week", -1), "1969-12-29T00:00:00.000Z");
}

pub(crate) async fn rolling_limit_counts_each_spend_for_exactly_its_span(bug: Option<Bug>) {
    let shop = shop(bug, "\"10.00 USD rolling 1h\"").await;
    shop.held(&shop.intent("k1", "acme", "6.00 USD")).await;
    shop.capture("k1", "6.00 USD").await;
    shop.wait(1_800);
    shop.held(&shop.intent("k2", "acme", "4.00 USD")).await;
    shop.capture("k2", "3.00 USD").await;
    shop.wait(1_799);
    assert_eq!(
        shop.denied(&shop.intent("k3", "acme", "1.01 USD")).await,
        "over_limit"
    );
    shop.wait(1);
    shop.held(&shop.intent("k3", "acme", "7.00 USD")).await;
    assert_eq!(
        shop.denied(&shop.intent("k4", "acme", "0.01 USD")).await,
        "over_limit"
    );
    shop.check().await;
}

pub(crate) async fn hold_counts_in_its_rolling_window_as_long_as_it_is_held(bug: Option<Bug>) {
    let shop = shop(bug, "\"10.00 USD rolling 1m\"").await;
    shop.held(&shop.intent("k1", "acme", "10.00 USD")).await;
    shop.wait(600);
    assert_eq!(
        shop.denied(&shop.intent("k2", "acme", "0.01 USD")).await,
        "over_limit"
    );
    shop.capture("k1", "10.00 USD").await;
    shop.wait(1);
    shop.held(&shop.intent("k2", "acme", "10.00 USD")).await;
    shop.check().await;
}

pub(crate) async fn velocity_counts_what_is_held_or_captured(bug: Option<Bug>) {
    let shop = shop(bug, "\"2 count rolling 10m\", \"3 count day\"").await;
    shop.held(&shop.intent("k1", "acme", "0.01 USD")).await;
    shop.held(&shop.intent("k2", "acme", "0.01 USD")).await;
    assert_eq!(
        shop.denied(&shop.intent("k3", "acme", "0.01 USD")).await,
        "over_count"
    );
    // What was released did not happen.
    shop.authority.release(op("k2")).await.unwrap();
    shop.held(&shop.intent("k3", "acme", "0.01 USD")).await;
    shop.capture("k1", "0.01 USD").await;
    shop.capture("k3", "0.005 USD").await;
    shop.wait(600);
    shop.held(&shop.intent("k4", "acme", "0.01 USD")).await;
    shop.capture("k4", "0.01 USD").await;
    shop.wait(600);
    assert_eq!(
        shop.denied(&shop.intent("k5", "acme", "0.01 USD")).await,
        "over_count"
    );
    shop.wait(11 * HOUR + 2_400);
    shop.held(&shop.intent("k5", "acme", "0.01 USD")).await;
    shop.check().await;
}

pub(crate) async fn changed_limit_counts_from_then_on(bug: Option<Bug>) {
    let shop = shop(bug, "\"10.00 USD day\"").await;
    shop.held(&shop.intent("k1", "acme", "8.00 USD")).await;
    let lower = "[node.acme]\nlimits = [\"1000.00 USD lifetime\", \"9.00 USD day\"]\nfirst_payee = \"allow\"";
    shop.authority
        .apply(lower.parse().unwrap(), who("host"))
        .await
        .unwrap();
    assert_eq!(
        shop.denied(&shop.intent("k2", "acme", "1.01 USD")).await,
        "over_limit"
    );
    shop.held(&shop.intent("k2", "acme", "1.00 USD")).await;
    let lower = lower.replace("9.00 USD day", "5.00 USD day");
    shop.authority
        .apply(lower.parse().unwrap(), who("host"))
        .await
        .unwrap();
    assert_eq!(
        shop.denied(&shop.intent("k3", "acme", "0.01 USD")).await,
        "over_limit"
    );
    let shop = shop.restart().await;
    assert_eq!(
        shop.denied(&shop.intent("k3", "acme", "0.01 USD")).await,
        "over_limit"
    );
    shop.check().await;
}

pub(crate) async fn limits_read_back_as_written(bug: Option<Bug>) {
    for text in [
        "20.00 USD day +02:00",
        "5.00 USD rolling 1h",
        "30 count rolling 90s",
        "100.00 USD lifetime",
        "2.00 USD per_transaction",
        "700 JPY/0 month -11:30",
    ] {
        let read = limit(bug, text.parse().unwrap());
        assert_eq!(read.to_string(), text);
    }
    for text in [
        "",
        "20.00 USD",
        "20.00 day",
        "x USD day",
        "5 USD day +24:00",
        "5 USD day +2:00",
        "5 USD rolling",
        "5 USD rolling 0s",
        "5 USD rolling 9999999999d",
        "+5 count day",
        "5 count lifetime",
        "-1 USD day",
        "5 USD dayx",
        "1e3 USD day",
        "5 COUNT/0 day",
    ] {
        assert!(text.parse::<Limit>().is_err(), "{text}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Spend(i64),
    Capture(usize, i64),
    Release(usize),
    Wait(u64),
    Sweep,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..60_i64).prop_map(Op::Spend),
        3 => (0..40_usize, 0..60_i64).prop_map(|(n, units)| Op::Capture(n, units)),
        1 => (0..40_usize).prop_map(Op::Release),
        4 => (1..90_u64).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ];
    proptest::collection::vec(op, 1..60)
}

/// A spend: when, how much counts, and how it stands.
#[derive(Clone, Copy, Debug)]
struct Spent {
    at_s: u64,
    units: i64,
    state: SpendState,
}

const ROLLING_S: u64 = 120;
/// Holds last longer than any walk, so that none expires.
const MAX: (i64, i64, usize) = (200, 150, 6);

fn fits(spends: &[Spent], now_s: u64, units: i64) -> bool {
    let counts = |s: &&Spent| s.state != SpendState::Released;
    // What is held counts however old it is.
    let is_recent = |s: &&Spent| s.state == SpendState::Held || now_s - s.at_s < ROLLING_S;
    let all = spends.iter().filter(counts);
    let day: i64 = all
        .clone()
        .filter(|s| s.at_s / 3_600 == now_s / 3_600)
        .map(|s| s.units)
        .sum();
    let recent = all.filter(is_recent);
    let rolling: i64 = recent.clone().map(|s| s.units).sum();
    day + units <= MAX.0 && rolling + units <= MAX.1 && recent.count() < MAX.2
}

fn capture(spend: &mut Spent, units: i64) -> bool {
    let is_first = spend.state == SpendState::Held && units <= spend.units;
    if is_first {
        // Nothing captured is nothing counted.
        spend.at_s = if units == 0 { 0 } else { spend.at_s };
        spend.units = units;
        spend.state = SpendState::Captured;
    }
    is_first || spend.state == SpendState::Captured && units == spend.units
}

async fn run(bug: Option<Bug>, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let limits = "\"0.0002 USD hour\", \"0.00015 USD rolling 2m\", \"6 count rolling 2m\"";
    let shop = shop(bug, limits).await;
    // Moment 0 is long ago.
    let (mut spends, mut now_s) = (Vec::<Spent>::new(), 2 * 3_600_u64);
    let usd = |units: i64| agent_core::Amount::from_units(units.into(), agent_core::Asset::USD);
    for op_ in ops {
        match op_ {
            Op::Spend(units) => {
                let mut intent = shop.intent(&format!("k{}", spends.len()), "acme", "0 USD");
                intent.amount_max = usd(units);
                intent.expires_at = shop.now().after(Duration::from_secs(360_000));
                let expected = fits(&spends, now_s, units);
                let answer = shop.authorize(&intent).await;
                let is_held = matches!(answer, Authorization::Held { .. });
                prop_assert_eq!(
                    is_held,
                    expected,
                    "{:?} at {} of {:?}",
                    answer,
                    now_s,
                    spends
                );
                if is_held {
                    spends.push(Spent {
                        at_s: now_s,
                        units,
                        state: SpendState::Held,
                    });
                }
            }
            Op::Capture(n, units) if n < spends.len() => {
                let answer = shop
                    .authority
                    .capture(op(&format!("k{n}")), usd(units))
                    .await;
                prop_assert_eq!(answer.is_ok(), capture(&mut spends[n], units));
            }
            Op::Release(n) if n < spends.len() => {
                let spend = &mut spends[n];
                let is_ok = spend.state != SpendState::Captured;
                prop_assert_eq!(
                    shop.authority.release(op(&format!("k{n}"))).await.is_ok(),
                    is_ok
                );
                if is_ok {
                    spend.state = SpendState::Released;
                }
            }
            Op::Wait(seconds) => {
                now_s += seconds;
                shop.wait(seconds);
            }
            Op::Sweep => {
                shop.authority.sweep(1_000).await.unwrap();
            }
            Op::Capture(..) | Op::Release(_) => {}
        }
    }
    shop.check().await;
    Ok(())
}

fn walk(bug: Option<Bug>) -> Result<(), TestError<Vec<Op>>> {
    let is_sound = bug.is_none();
    let config = ProptestConfig {
        failure_persistence: None,
        // A bug ends the walk where it is found.
        cases: if is_sound { 20 } else { 1_000 },
        max_shrink_iters: if is_sound { 500 } else { 0 },
        ..ProptestConfig::default()
    };
    let mut runner = if is_sound {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    runner.run(&ops(), |ops| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(run(bug, ops))
    })
}

#[test]
fn windows_admit_what_adding_up_a_list_admits() {
    walk(None).unwrap();
}

#[test]
fn adding_up_a_list_finds_what_windows_admit_wrongly() {
    for bug in [Bug::FixesWindows, Bug::IgnoresCounts, Bug::KeepsReleased] {
        assert!(walk(Some(bug)).is_err(), "{bug:?} is not found");
    }
}
