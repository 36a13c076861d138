//! What the spend authority costs: alone against the disk, with many callers against one
//! transaction for each, and as ledger and tree grow.
//!
//! `cargo bench -p agent-pay --bench authority`; with `-- --large` to 1,000,000 transfers; with
//! `-- --pairs` 20,000 authorizations and their captures and nothing else, to count instructions; with
//! `-- --callers` only what many callers get; with `-- --together` only their authorizations, a tenth
//! of them with `--few`, and with `-- --alone` only one caller, for a profiler.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench is a program"
)]

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability, Tx};
use agent_core::{Amount, Asset, Clock, Env, IdempotencyKey, Principal, SystemClock};
use agent_pay::authority::{FirstPayee, Intent, Origin, Payee, Policy, PolicyBook, PriceBasis};
use agent_pay::backend::sqlite::authority as spend;
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::{BudgetPath, Ledger};
use rusqlite::Connection;

/// An authorization of three levels with a budget each and its capture append this many transfers.
const TRANSFERS_PER_PAIR: u64 = 6;
const PER_WRITE: u64 = 500;

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

fn key(n: u64) -> IdempotencyKey {
    let digest = agent_core::Digest::of_bytes(&n.to_le_bytes());
    IdempotencyKey::new(format!("op_{digest}")).unwrap()
}

fn agent(n: u64) -> BudgetPath {
    BudgetPath::new(&format!("acme/team/agent_{n:05}")).unwrap()
}

fn intent(env: &Env, n: u64, n_agents: u64) -> Intent {
    let until = env.clock.now().after(Duration::from_secs(86_400));
    let payee = Payee::new("shop:tea", Origin::Catalogue);
    Intent::new(
        key(n),
        agent(n % n_agents),
        Principal::host(),
        usd(10),
        payee,
        until,
    )
    .with_basis(PriceBasis::RateCard)
    .with_resource("tea", "to drink")
}

async fn open(dir: &tempfile::TempDir, durability: Durability, n_agents: u64) -> SqliteAuthority {
    let config = Config::new(dir.path().join("pay.db")).with_durability(durability);
    let db = Db::open(config, &Env::system()).await.unwrap();
    let authority = SqliteAuthority::open(db).await.unwrap();
    let limit = |text: &str| Policy::new().with_limit(text.parse().unwrap());
    let root = limit("1000000000 USD lifetime").with_first_payee(FirstPayee::Allow);
    let mut book = PolicyBook::new()
        .with(BudgetPath::new("acme").unwrap(), root)
        .unwrap()
        .with(
            BudgetPath::new("acme/team").unwrap(),
            limit("1000000000 USD lifetime"),
        )
        .unwrap();
    for n in 0..n_agents {
        let policy = limit("100000 USD lifetime").with_alone_up_to(usd(1_000));
        book = book.with(agent(n), policy).unwrap();
    }
    authority.apply(book, Principal::host()).await.unwrap();
    authority
}

/// Returns the processor time of this thread, which other load on the machine does not change; wall
/// time where the system does not tell.
fn thread_time(clock: &SystemClock) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    ns.map_or(clock.monotonic(), Duration::from_nanos)
}

/// Authorizes and captures in one transaction and times each half.
async fn pairs(authority: &SqliteAuthority, from: u64, n_agents: u64) -> (Duration, Duration) {
    let cache = Arc::clone(authority.cache());
    let work = move |tx: &mut Tx<'_>| -> agent_pay::Result<(Duration, Duration)> {
        let (env, clock) = (Env::system(), SystemClock::new());
        let begun = thread_time(&clock);
        for n in from..from + PER_WRITE {
            spend::authorize(tx, &cache, &intent(&env, n, n_agents))?.into_hold()?;
        }
        let held = thread_time(&clock);
        for n in from..from + PER_WRITE {
            spend::capture(tx, &key(n), usd(7))?;
        }
        Ok((held - begun, thread_time(&clock) - held))
    };
    authority.db().write(work).await.unwrap()
}

/// For tools that count instructions: nothing of it depends on time.
async fn count() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir, Durability::Nothing, 100).await;
    for n in 0..40 {
        pairs(&authority, n * PER_WRITE, 100).await;
    }
    println!("{:?}", authority.db().stats());
}

fn median_ns(mut all: Vec<Duration>) -> u128 {
    all.sort_unstable();
    all[all.len() / 2].as_nanos()
}

async fn growth(n_transfers_max: u64) {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir, Durability::Nothing, 100).await;
    let mut n_pairs = 0;
    for target in [1_000, 10_000, 100_000, 1_000_000] {
        if target > n_transfers_max {
            break;
        }
        let mut last = Vec::new();
        while n_pairs * TRANSFERS_PER_PAIR < target || last.len() < 5 {
            last.push(pairs(&authority, n_pairs, 100).await);
            n_pairs += PER_WRITE;
        }
        let last = last.split_off(last.len() - 5);
        let of = |half: fn(&(Duration, Duration)) -> Duration| {
            median_ns(last.iter().map(half).collect()) / u128::from(PER_WRITE)
        };
        let (authorize_ns, capture_ns) = (of(|pair| pair.0), of(|pair| pair.1));
        let n_transfers = n_pairs * TRANSFERS_PER_PAIR;
        println!(
            "{n_transfers:>9} transfers: authorize {authorize_ns} ns, capture {capture_ns} ns"
        );
    }
    let clock = SystemClock::new();
    let ledger = SqliteLedger::open(authority.db().clone()).await.unwrap();
    let n_transfers = ledger.verify(None).await.unwrap().n_transfers;
    println!("verify {n_transfers} transfers: {:?}", clock.monotonic());
}

async fn budgets() {
    for n_agents in [10, 100, 1_000, 10_000] {
        let dir = tempfile::tempdir().unwrap();
        let authority = open(&dir, Durability::Nothing, n_agents).await;
        let mut all = Vec::new();
        // Every budget once before it is timed, so that none is opened in the middle.
        let n_warm = n_agents.div_ceil(PER_WRITE);
        for n in 0..n_warm + 5 {
            let (authorize, _capture) = pairs(&authority, n * PER_WRITE, n_agents).await;
            if n >= n_warm {
                all.push(authorize);
            }
        }
        let authorize_ns = median_ns(all) / u128::from(PER_WRITE);
        println!("{n_agents:>9} budgets: authorize {authorize_ns} ns");
    }
}

/// A durable authorization alone, beside a durable row alone, in turns.
async fn alone() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir, Durability::PowerLoss, 100).await;
    let plain = Connection::open(dir.path().join("plain.db")).unwrap();
    plain
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x)")
        .unwrap();
    let (env, clock) = (Env::system(), SystemClock::new());
    let (mut ours, mut rows) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let begun = clock.monotonic();
        plain
            .execute("INSERT INTO t VALUES (zeroblob(100))", [])
            .unwrap();
        let between = clock.monotonic();
        authority
            .authorize(intent(&env, n, 100))
            .await
            .unwrap()
            .into_hold()
            .unwrap();
        rows.push(between - begun);
        ours.push(clock.monotonic() - between);
    }
    let (ours, row) = (median_ns(ours) / 1_000, median_ns(rows) / 1_000);
    let permille = ours * 1_000 / row.max(1);
    println!("alone, durable: authorize p50 {ours} us, one row p50 {row} us, {permille}/1000");
}

/// Authorizations a second of so many callers; behind a gate, each waits for the one before, which
/// is one transaction for each.
async fn callers(
    n_callers: u64,
    durability: Durability,
    is_gated: bool,
    n_each: u64,
) -> (u128, String) {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir, durability, 100).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(if is_gated {
        1
    } else {
        1_024
    }));
    let (clock, before) = (SystemClock::new(), Processor::now());
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..n_callers {
        let (authority, gate) = (authority.clone(), Arc::clone(&gate));
        tasks.spawn(async move {
            let env = Env::system();
            for n in 0..n_each {
                let intent = intent(&env, caller * n_each + n, 100);
                let _turn = gate.acquire().await.unwrap();
                authority
                    .authorize(intent)
                    .await
                    .unwrap()
                    .into_hold()
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    let used = Processor::now().since(before, n_callers * n_each);
    let stats = authority.db().stats();
    let used = format!("{} writes, {} commits, {used}", stats.writes, stats.commits);
    let each = u128::from(n_callers * n_each) * 1_000_000 / clock.monotonic().as_micros().max(1);
    (each, used)
}

async fn pairs_per_second(n_callers: u64, durability: Durability) {
    const EACH: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir, durability, 100).await;
    let (clock, before) = (SystemClock::new(), Processor::now());
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..n_callers {
        let authority = authority.clone();
        tasks.spawn(async move {
            let env = Env::system();
            for n in 0..EACH {
                let n = caller * EACH + n;
                authority
                    .authorize(intent(&env, n, 100))
                    .await
                    .unwrap()
                    .into_hold()
                    .unwrap();
                authority.capture(key(n), usd(7)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let used = Processor::now().since(before, n_callers * EACH);
    let pairs = u128::from(n_callers * EACH) * 1_000_000 / clock.monotonic().as_micros().max(1);
    println!(
        "{n_callers} callers, {durability:?}: {pairs} authorize+capture pairs/s, {used} a pair"
    );
}

/// Processor time, which other load on the machine changes little: of the newest writer, and of the
/// whole process.
#[derive(Clone, Copy)]
struct Processor {
    writer_ns: u64,
    all_ns: u64,
}

impl Processor {
    fn now() -> Self {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
        let mut tasks: Vec<_> = tasks.flatten().map(|task| task.path()).collect();
        tasks.sort_by_key(|path| path.file_name().map(|name| (name.len(), name.to_owned())));
        let (mut writer_ns, mut all_ns) = (0, 0);
        for task in tasks {
            let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
            let stat = read("schedstat");
            let ns: u64 = stat
                .split(' ')
                .next()
                .and_then(|ns| ns.parse().ok())
                .unwrap_or(0);
            if read("comm").starts_with("agent-store-wri") {
                writer_ns = ns;
            } else {
                all_ns += ns;
            }
        }
        all_ns += writer_ns;
        Self { writer_ns, all_ns }
    }

    fn since(self, before: Self, n: u64) -> String {
        let each = |now: u64, before: u64| now.saturating_sub(before) / n;
        format!(
            "writer {} ns, all threads {} ns",
            each(self.writer_ns, before.writer_ns),
            each(self.all_ns, before.all_ns)
        )
    }
}

fn main() {
    let is_large = std::env::args().any(|argument| argument == "--large");
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    if std::env::args().any(|argument| argument == "--pairs") {
        return runtime.block_on(count());
    }
    if std::env::args().any(|argument| argument == "--together") {
        let n_each = if std::env::args().any(|argument| argument == "--few") {
            60
        } else {
            600
        };
        let together = runtime.block_on(callers(128, Durability::PowerLoss, false, n_each));
        return println!("{}/s, {} a hold", together.0, together.1);
    }
    if std::env::args().any(|argument| argument == "--alone") {
        return runtime.block_on(alone());
    }
    runtime.block_on(async {
        alone().await;
        for round in 0..3 {
            let (one_by_one, _used) = callers(128, Durability::PowerLoss, true, 4).await;
            let (together, used) = callers(128, Durability::PowerLoss, false, 60).await;
            println!(
                "128 callers, durable, round {round}: {together}/s together, {one_by_one}/s one \
                 transaction each, {}x; {used} a hold",
                together / one_by_one.max(1)
            );
        }
        for durability in [Durability::PowerLoss, Durability::ProcessKill] {
            pairs_per_second(128, durability).await;
        }
        if std::env::args().any(|argument| argument == "--callers") {
            return;
        }
        budgets().await;
        growth(if is_large { 1_000_000 } else { 100_000 }).await;
    });
}
