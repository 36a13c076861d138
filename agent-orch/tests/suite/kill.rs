//! `kill -9` at random moments: what was acknowledged is there, and nothing happened twice.
//!
//! The parent starts this test binary again as a child whose eight workers submit, claim, intend,
//! act, settle and finish as fast as they can. Each writes what the journal acknowledged to a
//! witness: an append-only file outside the store, which is the outside world as well. The parent
//! kills the child, opens the store and compares.
//!
//! `KILLS=1000 cargo test -p agent-orch --test suite kill::` kills so often; 200 times otherwise.
//! `KILL_SEED` repeats the moments of a run, as far as a scheduler lets itself be repeated.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "a killer of processes waits in real time and is told by variables"
)]
#![expect(clippy::print_stdout, reason = "a child talks to its parent")]

mod check;
mod store;
mod witness;
mod worker;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_core::{EntropyExt, OsEntropy, SeededEntropy};
use tempfile::TempDir;

/// Names the directory a child works in.
const DIR: &str = "KILL_DIR";
/// How many kills one directory gets: each check reads the whole history.
const KILLS_OF_DIR: u64 = 10;
/// The longest a child lives after its first acknowledged write.
const LIFE_US_MAX: u64 = 50_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_kill_loses_what_was_acknowledged_or_repeats_an_effect() {
    let kills = variable("KILLS").unwrap_or(200);
    let seed = variable("KILL_SEED").unwrap_or_else(|| OsEntropy::new().next_u64());
    println!("KILL_SEED={seed} KILLS={kills}");
    let entropy = SeededEntropy::new(seed);
    let runtime = store::runtime();
    let (mut left, mut totals) = (kills, check::Totals::default());
    while left > 0 {
        let dir = TempDir::new().unwrap();
        for n in 0..left.min(KILLS_OF_DIR) {
            kill_one(
                dir.path(),
                Duration::from_micros(entropy.next_u64() % LIFE_US_MAX),
            );
            if let Err(broken) = runtime.block_on(check::after_kill(dir.path())) {
                let kept = dir.keep();
                panic!(
                    "after kill {n} (KILL_SEED={seed}), see {}: {broken}",
                    kept.display()
                );
            }
        }
        left = left.saturating_sub(KILLS_OF_DIR);
        runtime.block_on(worker::drain(dir.path()));
        match runtime.block_on(check::at_the_end(dir.path())) {
            Ok(of_dir) => totals.add(&of_dir),
            Err(broken) => {
                let kept = dir.keep();
                panic!(
                    "in the end (KILL_SEED={seed}), see {}: {broken}",
                    kept.display()
                );
            }
        }
    }
    println!("{totals:?}");
    assert!(
        totals.effects > kills,
        "the children did something: {totals:?}"
    );
    assert!(
        totals.in_doubt > 0,
        "some kills left effects in doubt: {totals:?}"
    );
}

/// Starts a child, waits for its first acknowledged write, and kills it a while later.
fn kill_one(dir: &Path, life: Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.any(|line| line.unwrap().contains(worker::STARTED));
    assert!(started, "the child failed on its own");
    std::thread::sleep(life);
    child.kill().unwrap();
    assert!(
        !child.wait().unwrap().success(),
        "the child ended on its own"
    );
}

#[test]
#[ignore = "the child process of no_kill_loses_what_was_acknowledged_or_repeats_an_effect"]
fn child() {
    let dir = std::env::var_os(DIR).unwrap();
    store::runtime().block_on(worker::work_until_killed(Path::new(&dir)));
}
