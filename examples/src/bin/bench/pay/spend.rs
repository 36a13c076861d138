//! The spend authority: what a decision and its hold cost, alone and with many callers.

use std::time::Duration;

use agent_core::{Amount, Asset, Digest, IdempotencyKey, Principal, RunId};
use agent_pay::authority::{FirstPayee, Intent, Origin, Payee, Policy, PolicyBook, PriceBasis};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::{BudgetPath, Ledger};
use anyhow::Result;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::host::{Bench, ROUND, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

/// An organisation, a team and an agent: each has a budget that holds.
const LEVELS: [&str; 3] = ["acme", "acme/team", "acme/team/agent"];
const N_CALLERS: usize = 128;
const HOLD_LASTS: Duration = Duration::from_secs(3_600);
const ROW: &str = "CREATE TABLE row (x BLOB NOT NULL) STRICT;";

pub(super) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let authority = SqliteAuthority::open(bench.db("spend.db").await?).await?;
    authority.apply(book()?, Principal::host()).await?;
    let plain = Mutex::new(bench.plain("spend-plain.db", ROW)?);
    let (mut alone, mut row) = (Samples::default(), Samples::default());
    let (mut together, mut each) = (Samples::default(), Samples::default());
    let mut pairs = Samples::default();
    for _ in 0..ROUNDS {
        one_by_one(bench, &authority, &plain, &mut alone, &mut row).await?;
        round(bench, &authority, 1, false, &mut each).await?;
        round(bench, &authority, N_CALLERS, false, &mut together).await?;
        round(bench, &authority, N_CALLERS, true, &mut pairs).await?;
    }
    let ledger = SqliteLedger::open(authority.db().clone()).await?;
    let n_transfers = ledger.verify(None).await?.n_transfers;
    let environment = format!("power_loss, 3 levels, {n_transfers} transfers verified");
    Ok(vec![
        Measure::of("pay/authorize@1", Unit::Micros, &alone, &row, &environment),
        Measure::of(
            "pay/authorize@128",
            Unit::PerSecond("holds/s"),
            &together,
            &each,
            &environment,
        ),
        Measure::of(
            "pay/authorize_capture@128",
            Unit::PerSecond("pairs/s"),
            &pairs,
            &each,
            &environment,
        ),
    ])
}

fn book() -> Result<PolicyBook> {
    let mut book = PolicyBook::new();
    for level in LEVELS {
        let policy = Policy::new().with_limit("1000000000 USD lifetime".parse()?);
        let policy = policy.with_first_payee(FirstPayee::Allow);
        book = book.with(BudgetPath::new(level)?, policy)?;
    }
    Ok(book)
}

const fn usd(units: i128) -> Amount {
    Amount::from_units(units, Asset::USD)
}

fn intent(bench_now: agent_core::Timestamp, name: &str) -> agent_pay::Result<Intent> {
    // Scattered over the index, as the keys of steps are.
    let key = IdempotencyKey::new(Digest::of_bytes(name.as_bytes()).to_string())?;
    let node = BudgetPath::new("acme/team/agent")?;
    let payee = Payee::new("shop", Origin::Catalogue);
    let until = bench_now.after(HOLD_LASTS);
    let intent = Intent::new(key, node, Principal::host(), usd(10), payee, until);
    Ok(intent.with_basis(PriceBasis::RateCard))
}

/// Single durable authorizations and single durable rows take turns.
async fn one_by_one(
    bench: &Bench,
    authority: &SqliteAuthority,
    plain: &Mutex<Connection>,
    ours: &mut Samples,
    rows: &mut Samples,
) -> Result<()> {
    let (start, caller) = (bench.now(), RunId::generate(&bench.env));
    let mut n = 0_u32;
    while bench.since(start) < ROUND {
        let begun = bench.now();
        plain
            .lock()
            .execute("INSERT INTO row VALUES (zeroblob(100))", [])?;
        rows.push(Unit::Micros.of(bench.since(begun)));
        let intent = intent(bench.env.clock.now(), &format!("{caller}/{n}"))?;
        let begun = bench.now();
        authority.authorize(intent).await?.into_hold()?;
        ours.push(Unit::Micros.of(bench.since(begun)));
        n += 1;
    }
    Ok(())
}

/// A round of callers, each of whom waits until its hold is durable. One caller is one transaction
/// for each authorization.
async fn round(
    bench: &Bench,
    authority: &SqliteAuthority,
    n_callers: usize,
    is_captured: bool,
    samples: &mut Samples,
) -> Result<()> {
    let start = bench.now();
    let mut callers = JoinSet::<agent_pay::Result<u32>>::new();
    for _ in 0..n_callers {
        let (authority, env) = (authority.clone(), bench.env.clone());
        callers.spawn(async move {
            let (mut n_done, caller) = (0_u32, RunId::generate(&env));
            while env.clock.monotonic().saturating_sub(start) < ROUND {
                let intent = intent(env.clock.now(), &format!("{caller}/{n_done}"))?;
                let key = intent.key.clone();
                authority.authorize(intent).await?.into_hold()?;
                if is_captured {
                    authority.capture(key, usd(7)).await?;
                }
                n_done += 1;
            }
            Ok(n_done)
        });
    }
    let mut n_done = 0;
    while let Some(caller) = callers.join_next().await {
        n_done += caller??;
    }
    samples.push_rate(n_done, bench.since(start));
    Ok(())
}
