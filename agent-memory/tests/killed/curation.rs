//! A curator that is killed in the middle of its work, on any store: every decision is there whole
//! or not at all.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Principal, Scope, Timestamp};
use agent_memory::backend::InMemory;
use agent_memory::conformance::Bench;
use agent_memory::curate::{Curator, labels};
use agent_memory::extract::{Candidate, Cardinality, DeterministicExtractor, Slot};
use agent_memory::{Listing, MemoryStore, Namespace, Value};

/// Claims in one call.
const BATCH: u64 = 5;
/// The most claims that were decided on since the last call that returned.
const UNKNOWN_MAX: u64 = 100 * BATCH;

/// What holds from when until when.
type Held = (Timestamp, Option<Timestamp>, String);

fn curator(bench: &Bench, store: Arc<dyn MemoryStore>) -> Curator<Arc<dyn MemoryStore>> {
    Curator::new(
        store,
        bench.env.clone(),
        Arc::new(DeterministicExtractor::new()),
    )
}

fn at() -> Namespace {
    Namespace::new("ana").unwrap()
}

fn scope() -> Scope {
    Scope::new(Principal::host())
}

/// Every third claim was said before the one that came before it, and every fourth says again what
/// was said before.
fn claim(n: u64) -> Candidate {
    let day = if n.is_multiple_of(3) {
        4 * n + 1
    } else {
        4 * n + 10
    };
    let town = if n.is_multiple_of(4) {
        n.saturating_sub(1)
    } else {
        n
    };
    let start = Timestamp::from_unix_ms(1_700_000_000_000);
    let said = start.after(Duration::from_secs(day * 86_400));
    let slot = Slot::new("Ana", "home").unwrap();
    Candidate::is(slot, format!("Town {town}"), Cardinality::Single, said)
}

async fn tell(curator: &Curator<Arc<dyn MemoryStore>>, claims: impl Iterator<Item = u64>) {
    let claims = claims.map(claim).collect();
    curator.apply(&scope(), &at(), claims).await.unwrap();
}

/// Decides batch after batch, and says after each that it is done.
#[expect(
    clippy::print_stdout,
    reason = "it reports to the process that kills it"
)]
pub(crate) async fn curate_until_killed(bench: &Bench, store: Arc<dyn MemoryStore>) {
    let curator = curator(bench, store);
    for batch in 0.. {
        tell(&curator, batch * BATCH..(batch + 1) * BATCH).await;
        println!("acknowledged {}", batch + 1);
    }
}

/// Kills the curator after some batches and returns how many claims it said it was done with.
pub(crate) fn killed(mut child: Child, output: ChildStdout) -> u64 {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let n = lines.by_ref().filter(|line| line.contains("acknowledged"));
    let n_batches = n.take(6).count();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died.
    let rest = lines.filter(|line| line.contains("acknowledged")).count();
    assert_eq!(n_batches, 6);
    u64::try_from(n_batches + rest).unwrap() * BATCH
}

/// What is believed when, from every record; each successor that is named is there.
async fn held(store: &Arc<dyn MemoryStore>) -> Vec<Held> {
    let listing = Listing::new().with_retired().with_limit(1_000);
    let all = store.list(&scope(), at(), listing).await.unwrap();
    for record in &all {
        if let Some(successor) = record.superseded_by {
            let successor = all.iter().find(|other| other.id == successor);
            assert!(successor.is_some_and(|other| Some(other.valid_from) >= record.valid_to));
        }
    }
    let value = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let mut held: Vec<Held> = all
        .iter()
        .filter(|record| record.valid_to.is_none_or(|to| record.valid_from < to))
        .map(|record| {
            (
                record.valid_from,
                record.valid_to,
                value(&record.metadata[labels::VALUE]),
            )
        })
        .collect();
    held.sort();
    held
}

/// The store believes what some number of whole decisions leaves, at least those acknowledged.
pub(crate) async fn is_whole(store: Arc<dyn MemoryStore>, n_acknowledged: u64) {
    let found = held(&store).await;
    for pair in found.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        assert!(
            before.1.is_some_and(|to| to <= after.0),
            "{before:?} {after:?}"
        );
    }
    let bench = Bench::new();
    let other: Arc<dyn MemoryStore> = Arc::new(InMemory::new(
        bench.env.clone(),
        Arc::clone(&bench.embedder),
    ));
    let whole = curator(&bench, Arc::clone(&other));
    tell(&whole, 0..n_acknowledged).await;
    let mut n = n_acknowledged;
    while held(&other).await != found {
        let is_possible = n < n_acknowledged + UNKNOWN_MAX;
        assert!(is_possible, "a decision is there by half");
        tell(&whole, n..n + 1).await;
        n += 1;
    }
}
