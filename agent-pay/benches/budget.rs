//! What a reservation and its settlement cost, as the ledger grows and with many callers.
//!
//! `cargo bench -p agent-pay --bench budget`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench is a program"
)]

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability, Tx};
use agent_core::{Amount, Asset, Clock, Env, IdempotencyKey, SystemClock};
use agent_pay::backend::{SqliteLedger, sqlite};
use agent_pay::{BudgetPath, Budgets, Ledger, OpenBudget, Reserve, SetLimit, Settle};

/// Reservation and settlement of a path of three levels append this many transfers.
const TRANSFERS_PER_PAIR: u64 = 6;
const PAIRS_PER_WRITE: u64 = 1_000;

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

fn key(n: u64) -> IdempotencyKey {
    // Scattered over the index, as keys made of digests are.
    let digest = agent_core::Digest::of_bytes(&n.to_le_bytes());
    IdempotencyKey::new(digest.to_string()).unwrap()
}

fn reserve(tx_env: &Env, n: u64) -> Reserve {
    let path = BudgetPath::new(&format!("fleet/menders/agent_{:04}", n % 100)).unwrap();
    let expires_at = tx_env.clock.now().after(Duration::from_secs(86_400));
    Reserve::new(key(n), path, usd(10), expires_at)
}

async fn open(dir: &tempfile::TempDir, durability: Durability) -> Db {
    let config = Config::new(dir.path().join("pay.db")).with_durability(durability);
    let db = Db::open(config, &Env::system()).await.unwrap();
    SqliteLedger::open(db.clone()).await.unwrap();
    db.write::<_, agent_pay::Error, _>(|tx: &mut Tx<'_>| {
        let agents = (0..100).map(|n| format!("fleet/menders/agent_{n:04}"));
        let above = ["fleet", "fleet/menders"].map(str::to_owned);
        for path in above.into_iter().chain(agents) {
            let open = OpenBudget::new(BudgetPath::new(&path)?, usd(1 << 40));
            sqlite::open_budget(tx, &open)?;
        }
        agent_pay::Result::Ok(())
    })
    .await
    .unwrap();
    db
}

/// Returns the processor time of this thread, which other load on the machine does not change; wall
/// time where the system does not tell.
fn thread_time(clock: &SystemClock) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    ns.map_or(clock.monotonic(), Duration::from_nanos)
}

/// Runs reservations, then their settlements, in one transaction and times each half.
async fn pairs(db: &Db, from: u64) -> (Duration, Duration) {
    db.write::<_, agent_pay::Error, _>(move |tx: &mut Tx<'_>| {
        let (env, clock) = (Env::system(), SystemClock::new());
        let begun = thread_time(&clock);
        for n in from..from + PAIRS_PER_WRITE {
            sqlite::reserve(tx, &reserve(&env, n))?.into_hold()?;
        }
        let reserved = thread_time(&clock);
        for n in from..from + PAIRS_PER_WRITE {
            sqlite::settle(tx, &Settle::new(key(n), usd(7)))?;
        }
        agent_pay::Result::Ok((reserved - begun, thread_time(&clock) - reserved))
    })
    .await
    .unwrap()
}

async fn growth() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, Durability::Nothing).await;
    let mut n_pairs = 0;
    for target in [1_000, 10_000, 100_000, 1_000_000] {
        let mut window = Vec::new();
        while n_pairs * TRANSFERS_PER_PAIR < target || window.len() < 5 {
            window.push(pairs(&db, n_pairs).await);
            n_pairs += PAIRS_PER_WRITE;
        }
        let last = &mut window.split_off(window.len() - 5);
        let per_call = |all: Vec<Duration>| {
            let mut all = all;
            all.sort_unstable();
            all[2].as_nanos() / u128::from(PAIRS_PER_WRITE)
        };
        let reserve_ns = per_call(last.iter().map(|pair| pair.0).collect());
        let settle_ns = per_call(last.iter().map(|pair| pair.1).collect());
        let n_transfers = n_pairs * TRANSFERS_PER_PAIR;
        println!("{n_transfers:>9} transfers: reserve {reserve_ns} ns, settle {settle_ns} ns");
    }
    let clock = SystemClock::new();
    let ledger = SqliteLedger::open(db).await.unwrap();
    let verified = ledger.verify(None).await.unwrap();
    println!(
        "verify {} transfers: {:?}",
        verified.n_transfers,
        clock.monotonic()
    );
}

async fn callers(n_callers: u64, durability: Durability) {
    const PAIRS_EACH: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(
        SqliteLedger::open(open(&dir, durability).await)
            .await
            .unwrap(),
    );
    let clock = SystemClock::new();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..n_callers {
        let budgets = Budgets::new(Arc::clone(&ledger));
        tasks.spawn(async move {
            let env = Env::system();
            for n in 0..PAIRS_EACH {
                let reserve = reserve(&env, caller * PAIRS_EACH + n);
                let hold = budgets.reserve(reserve).await.unwrap().into_hold().unwrap();
                budgets.settle(Settle::new(hold.key, usd(7))).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let n_pairs = u128::from(n_callers * PAIRS_EACH);
    let per_second = n_pairs * 1_000_000 / clock.monotonic().as_micros();
    println!("{n_callers:>4} callers, {durability:?}: {per_second} reserve+settle pairs/s");
}

/// A hundred tasks race with 100,000 reservations for a limit that admits a tenth of them.
async fn race() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, Durability::ProcessKill).await;
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(db).await.unwrap());
    let budgets = Budgets::new(Arc::clone(&ledger));
    let limit = usd(100_000);
    let set = SetLimit::new(
        key(u64::MAX),
        BudgetPath::new("fleet/menders").unwrap(),
        limit,
    );
    budgets.set_limit(set).await.unwrap();
    let clock = SystemClock::new();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..100 {
        let budgets = budgets.clone();
        tasks.spawn(async move {
            let (env, mut n_admitted) = (Env::system(), 0_u64);
            for n in 0..1_000 {
                let admission = budgets.reserve(reserve(&env, task * 1_000 + n)).await;
                n_admitted += u64::from(admission.unwrap().into_hold().is_ok());
            }
            n_admitted
        });
    }
    let n_admitted: u64 = tasks.join_all().await.iter().sum();
    let elapsed = clock.monotonic();
    ledger.verify(None).await.unwrap();
    assert_eq!(n_admitted, 10_000);
    println!("100000 racing reservations: {n_admitted} admitted of 10000 possible, {elapsed:?}");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(async {
        growth().await;
        race().await;
        for durability in [Durability::PowerLoss, Durability::ProcessKill] {
            for n_callers in [1, 32, 128] {
                callers(n_callers, durability).await;
            }
        }
    });
}
