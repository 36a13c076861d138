//! The pure core under simulation: workers, a store and an outside world in virtual time, with
//! lost and torn writes, lost, late and doubled messages, crashes, and workers that pause past the
//! end of their lease. What becomes of a step, a task and an attempt is decided by the crate's own
//! `machine`, `decide` and supervision `Tree`.
//!
//! ```text
//! SIM_SEEDS=100000 cargo test --release -p agent-orch --test suite simulation::    more seeds
//! SIM_FROM=5000 …                                                          other seeds
//! SIM_SEED=4711 cargo test -p agent-orch --test suite simulation::one_seed -- --nocapture
//! ```
//!
//! Checked after each event: nothing happens outside twice for one intention, no write under a
//! lease that is over is accepted, nothing that was acknowledged is lost in a crash, no author
//! verifies itself, no money is made or lost. Once faults stop every task ends and nothing is held.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
#![expect(clippy::print_stdout, reason = "a seed is shown event by event")]
#![expect(
    clippy::disallowed_methods,
    reason = "a person names seeds by variables and wants to know the rate"
)]

mod bug;
mod chance;
mod event;
mod money;
mod oracle;
mod outside;
mod sim;
mod store;
mod worker;

use std::time::Instant;

use bug::Bug;

/// Seeds that found a planted bug or a mistake in the simulation itself.
const CORPUS: &[u64] = &[0, 4, 7, 8, 34, 57, 145, 351];
/// Within how many seeds a planted bug must be found.
const FOUND_WITHIN: u64 = 2_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn must_hold(seed: u64) -> u64 {
    match sim::run(seed, None, false) {
        Ok((events, _)) => events,
        Err(broken) => panic!("SIM_SEED={seed}: {broken}"),
    }
}

#[test]
fn the_laws_hold_for_every_seed() {
    let (from, n) = (
        variable("SIM_FROM").unwrap_or(0),
        variable("SIM_SEEDS").unwrap_or(2_000),
    );
    let started = Instant::now();
    let events: u64 = (from..from + n).map(must_hold).sum();
    let rate = u128::from(n) * 60_000_000 / started.elapsed().as_micros().max(1);
    println!("{n} seeds from {from}: {events} events, {rate} seeds a minute");
}

#[test]
fn seeds_that_broke_a_law_hold() {
    CORPUS.iter().for_each(|seed| {
        must_hold(*seed);
    });
}

#[test]
fn one_seed() {
    if let Some(seed) = variable("SIM_SEED") {
        let ended = sim::run(seed, None, true);
        assert!(ended.is_ok(), "SIM_SEED={seed}: {ended:?}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..20 {
        assert_eq!(sim::run(seed, None, false), sim::run(seed, None, false));
    }
}

/// Returns how many seeds it takes to find a planted bug, and what is said about it.
fn found(bug: Bug) -> Option<(u64, String)> {
    (0..FOUND_WITHIN).find_map(|seed| Some((seed, sim::run(seed, Some(bug), false).err()?)))
}

#[test]
fn planted_bugs_are_found() {
    for (bug, law) in [
        (Bug::SkipFence, "a zombie's write was accepted"),
        (Bug::AckBeforeSync, "were acknowledged and"),
        (Bug::RepeatOpaque, "Opaque happened 2 times"),
        (Bug::LoseWakeUp, "parked for ever"),
        (Bug::AcceptOwnWork, "was verified by its author"),
        (Bug::ActWithoutLease, "happened 2 times"),
        (Bug::TrustTorn, "happened 2 times"),
    ] {
        let (seeds, said) = found(bug).unwrap_or_else(|| panic!("{bug:?} is not found"));
        println!("{bug:?}: found by seed {seeds}: {said}");
        assert!(said.contains(law), "{bug:?}: {said}");
    }
}
