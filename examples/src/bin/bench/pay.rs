//! The ledger: authorize and settle, against plain rows.

mod spend;

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Asset, Digest, IdempotencyKey, RunId};
use agent_pay::backend::SqliteLedger;
use agent_pay::{BudgetPath, Budgets, Ledger, OpenBudget, Reserve, Settle};
use anyhow::Result;
use rusqlite::{Connection, params};
use tokio::task::JoinSet;

use crate::host::{Bench, ROUND, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

/// What an agent's budget hangs under; a reservation holds on every level.
const LEVELS: [&str; 3] = ["fleet", "fleet/menders", "fleet/menders/agent"];
const LIMIT_UNITS: i128 = 1 << 50;
const HELD_UNITS: i128 = 10;
const SPENT_UNITS: i128 = 7;
const HOLD_LASTS: Duration = Duration::from_secs(3_600);

const TABLES: &str = "
    CREATE TABLE head (one INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
    INSERT INTO head VALUES (1, 0);
    CREATE TABLE account (id INTEGER PRIMARY KEY, pending INTEGER NOT NULL,
        posted INTEGER NOT NULL) STRICT;
    INSERT INTO account VALUES (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0);
    CREATE TABLE batch (seq INTEGER PRIMARY KEY, key TEXT UNIQUE) STRICT;
    CREATE TABLE transfer (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL,
        account INTEGER NOT NULL, units INTEGER NOT NULL) STRICT;
    CREATE INDEX transfer_account ON transfer (account);
    CREATE TABLE pending (batch INTEGER PRIMARY KEY) STRICT;";

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for n_callers in [1, 50] {
        let ledger = SqliteLedger::open(bench.db(&format!("pay-{n_callers}.db")).await?).await?;
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let budgets = Budgets::new(Arc::clone(&ledger));
        for level in LEVELS {
            budgets
                .open(OpenBudget::new(BudgetPath::new(level)?, usd(LIMIT_UNITS)))
                .await?;
        }
        let plain = bench.plain(&format!("pay-{n_callers}-plain.db"), TABLES)?;
        let (mut ours, mut baseline) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            plain_round(bench, &plain, &mut baseline)?;
            round(bench, &budgets, n_callers, &mut ours).await?;
        }
        // A fast ledger whose books do not balance is no ledger.
        let verified = ledger.verify(None).await?;
        let name = format!("pay/authorize_settle@{n_callers}");
        let environment = format!(
            "power_loss, {} levels, {} transfers verified",
            LEVELS.len(),
            verified.n_transfers
        );
        measures.push(Measure::of(
            name,
            Unit::PerSecond("pairs/s"),
            &ours,
            &baseline,
            environment,
        ));
    }
    measures.extend(spend::run(bench).await?);
    Ok(measures)
}

const fn usd(units: i128) -> Amount {
    Amount::from_units(units, Asset::USD)
}

/// A round of the ledger: each caller authorizes, waits until that is durable, and settles.
async fn round(
    bench: &Bench,
    budgets: &Budgets,
    n_callers: usize,
    samples: &mut Samples,
) -> Result<()> {
    let (start, mut callers) = (bench.now(), JoinSet::<agent_pay::Result<u32>>::new());
    for _ in 0..n_callers {
        let (budgets, env) = (budgets.clone(), bench.env.clone());
        callers.spawn(async move {
            let (mut n_done, caller) = (0_u32, RunId::generate(&env));
            while env.clock.monotonic().saturating_sub(start) < ROUND {
                let key = key(&format!("{caller}/{n_done}"))?;
                let path = BudgetPath::new("fleet/menders/agent")?;
                let until = env.clock.now().after(HOLD_LASTS);
                let reserve = Reserve::new(key.clone(), path, usd(HELD_UNITS), until);
                budgets.reserve(reserve).await?.into_hold()?;
                budgets.settle(Settle::new(key, usd(SPENT_UNITS))).await?;
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

/// Makes a key scattered over the index, as the keys of steps are.
fn key(name: &str) -> agent_core::Result<IdempotencyKey> {
    IdempotencyKey::new(Digest::of_bytes(name.as_bytes()).to_string())
}

/// A round of the baseline: as many rows as a reservation and its settlement write, in one
/// transaction.
fn plain_round(bench: &Bench, plain: &Connection, samples: &mut Samples) -> Result<()> {
    let (start, mut n_done) = (bench.now(), 0);
    let caller = RunId::generate(&bench.env);
    while bench.since(start) < ROUND {
        let transaction = plain.unchecked_transaction()?;
        let name = Digest::of_bytes(format!("{caller}/{n_done}").as_bytes()).to_string();
        let seq = post(plain, Some(&name), "pending = pending + 10")?;
        plain
            .prepare_cached("INSERT INTO pending VALUES (?1)")?
            .execute([seq])?;
        post(plain, None, "pending = pending - 10, posted = posted + 7")?;
        plain
            .prepare_cached("DELETE FROM pending WHERE batch = ?1")?
            .execute([seq])?;
        transaction.commit()?;
        n_done += 1;
    }
    samples.push_rate(n_done, bench.since(start));
    Ok(())
}

/// Writes a batch with a transfer for every level, and the accounts of both sides.
fn post(plain: &Connection, key: Option<&str>, change: &str) -> Result<i64> {
    let seq: i64 = plain
        .prepare_cached("UPDATE head SET seq = seq + 1 RETURNING seq")?
        .query_row([], |row| row.get(0))?;
    plain
        .prepare_cached("INSERT INTO batch VALUES (?1, ?2)")?
        .execute(params![seq, key])?;
    for account in 1..=3 {
        plain
            .prepare_cached("INSERT INTO transfer (batch, account, units) VALUES (?1, ?2, 7)")?
            .execute(params![seq, account])?;
    }
    for account in 1..=4 {
        plain
            .prepare_cached(&format!("UPDATE account SET {change} WHERE id = ?1"))?
            .execute([account])?;
    }
    Ok(seq)
}
