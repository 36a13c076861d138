//! The decision core against a simulated check: no repository, thousands of queues.

#![cfg(feature = "git")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{AgentId, TaskId};
use agent_orch::merge::plan::{Report, Round};
use agent_orch::merge::{Change, Limits, ObjectId, RepoPath, Snapshot, Status, lanes};
use proptest::prelude::*;

fn task(n: usize) -> TaskId {
    TaskId::from_bits(n as u128)
}

fn id(n: usize) -> ObjectId {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    ObjectId::from_bytes(bytes)
}

fn change(n: usize, paths: &[&str]) -> Change {
    let paths: BTreeSet<RepoPath> = paths.iter().map(|p| p.parse().unwrap()).collect();
    Change::new(task(n), AgentId::from_bits(1), id(n), paths)
}

/// Tests candidates as a check would that fails whenever a culprit is in, or both of a pair.
#[derive(Clone, Debug)]
struct World {
    culprits: BTreeSet<TaskId>,
    pair: Option<(TaskId, TaskId)>,
    landed: BTreeSet<TaskId>,
    n_checks: usize,
}

impl World {
    fn passes(&mut self, tasks: &[TaskId]) -> bool {
        self.n_checks += 1;
        let has = |task: &TaskId| tasks.contains(task) || self.landed.contains(task);
        !tasks.iter().any(|task| self.culprits.contains(task))
            && !self.pair.is_some_and(|(a, b)| has(&a) && has(&b))
    }

    fn run(&mut self, round: &Round, heads: &BTreeMap<TaskId, ObjectId>) -> Report {
        let mut report = Report::default();
        report.heads.clone_from(heads);
        let n_known = usize::from(round.last_is_known_to_fail);
        let n_tested = round.segments.len() - n_known;
        let mut chain: Vec<TaskId> = Vec::new();
        for (i, segment) in round.segments.iter().enumerate() {
            chain.extend(segment);
            if i >= n_tested || !self.passes(&chain) {
                report.failed = Some((segment.clone(), "failed".to_owned()));
                break;
            }
            for task in segment {
                report.landed.push((*task, id(0)));
            }
        }
        self.landed
            .extend(report.landed.iter().map(|(task, _)| *task));
        report
    }
}

/// Runs a queue to its end and checks that every change settles once.
fn run(snapshot: &mut Snapshot, world: &mut World, limits: &Limits) -> BTreeMap<TaskId, Status> {
    let heads: BTreeMap<TaskId, ObjectId> = snapshot
        .waiting()
        .map(|t| (t, snapshot.change(t).unwrap().head))
        .collect();
    let mut settled = BTreeMap::new();
    for _ in 0..10 * heads.len() + 10 {
        let plan = snapshot.plan(limits);
        let mut batch = snapshot.reject(plan.rejected.clone());
        let idle = plan.rejected.is_empty() && plan.round.is_none();
        if let Some(round) = plan.round.filter(|_| plan.rejected.is_empty()) {
            let report = world.run(&round, &heads);
            batch.extend(snapshot.conclude(&round, report, limits));
        }
        for one in batch {
            assert!(
                settled.insert(one.task, one.status).is_none(),
                "settled twice"
            );
        }
        if idle {
            return settled;
        }
    }
    panic!("the queue does not end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every change reaches a final status; the innocent land, the guilty do not, and finding E
    /// guilty among N takes few checks.
    #[test]
    fn every_change_settles_and_only_the_guilty_are_rejected(
        n in 1..120_usize,
        culprits in prop::collection::btree_set(0..120_usize, 0..6),
        ways in 2..6_usize,
        checks in 1..4_usize,
        failures in 2..4_u32,
    ) {
        let culprits: BTreeSet<TaskId> = culprits.into_iter().filter(|c| *c < n).map(task).collect();
        let limits = Limits::default()
            .with_split_ways(ways)
            .with_checks_max(checks)
            .with_failures_max(failures);
        let mut snapshot = Snapshot::default();
        for i in 0..n {
            let path = format!("f{}", i % 17);
            prop_assert_eq!(snapshot.admit(change(i, &[&path])), Some(Status::Waiting));
        }
        let mut world = World {
            culprits: culprits.clone(), pair: None, landed: BTreeSet::new(), n_checks: 0,
        };
        let settled = run(&mut snapshot, &mut world, &limits);
        prop_assert_eq!(settled.len(), n);
        for (task, status) in settled {
            prop_assert_eq!(culprits.contains(&task), matches!(status, Status::Rejected { .. }));
        }
        let per_culprit = 4 * ways + failures as usize + 8;
        prop_assert!(world.n_checks <= n / 4 + 2 + culprits.len() * per_culprit, "{}", world.n_checks);
    }

    /// A pair that fails only together costs one of the two and nobody else.
    #[test]
    fn of_a_bad_pair_one_lands(n in 2..80_usize, a in 0..80_usize, b in 0..80_usize) {
        let (a, b) = (a % n, b % n);
        prop_assume!(a != b);
        let mut snapshot = Snapshot::default();
        for i in 0..n {
            snapshot.admit(change(i, &[]));
        }
        let pair = Some((task(a), task(b)));
        let mut world =
            World { culprits: BTreeSet::new(), pair, landed: BTreeSet::new(), n_checks: 0 };
        run(&mut snapshot, &mut world, &Limits::default());
        prop_assert_eq!(world.landed.len(), n - 1);
    }
}

#[test]
fn a_known_culprit_is_never_batched_with_others() {
    let limits = Limits::default();
    let mut snapshot = Snapshot::default();
    snapshot.admit(change(0, &[]));
    let round = snapshot.plan(&limits).round.unwrap();
    let mut report = Report::default();
    report.heads = BTreeMap::from([(task(0), id(0))]);
    report.failed = Some((vec![task(0)], "failed".to_owned()));
    assert!(snapshot.conclude(&round, report, &limits).is_empty());
    for i in 1..40 {
        snapshot.admit(change(i, &[]));
    }
    let mut world = World {
        culprits: BTreeSet::from([task(0)]),
        pair: None,
        landed: BTreeSet::new(),
        n_checks: 0,
    };
    let round = snapshot.plan(&limits).round.unwrap();
    assert!(round.segments == [[task(0)]] || !round.segments.concat().contains(&task(0)));
    let settled = run(&mut snapshot, &mut world, &limits);
    assert_eq!(settled.len(), 40);
    assert!(world.n_checks <= 4, "{}", world.n_checks);
}

#[test]
fn urgent_changes_go_first_and_old_ones_do_not_starve() {
    let limits = Limits::default().with_window(1, 1);
    let mut snapshot = Snapshot::default();
    snapshot.admit(change(0, &[]).with_priority(4));
    snapshot.admit(change(1, &[]).with_priority(1));
    let first = |snapshot: &Snapshot| snapshot.plan(&limits).round.unwrap().segments.concat();
    assert_eq!(first(&snapshot), [task(1)]);
    let mut n = 2;
    while first(&snapshot) != [task(0)] {
        snapshot.admit(change(n, &[]).with_priority(1));
        n += 1;
        assert!(n < 2_000, "the old change starves");
    }
}

#[test]
fn a_newer_commit_is_not_judged_by_the_older_ones_verdict() {
    let limits = Limits::default().with_failures_max(1);
    let mut snapshot = Snapshot::default();
    snapshot.admit(change(0, &[]));
    let round = snapshot.plan(&limits).round.unwrap();
    let mut newer = change(0, &[]);
    newer.head = id(99);
    assert_eq!(snapshot.admit(newer), Some(Status::Waiting));
    let mut report = Report::default();
    report.heads = BTreeMap::from([(task(0), id(0))]);
    report.failed = Some((vec![task(0)], "failed".to_owned()));
    assert!(snapshot.conclude(&round, report, &limits).is_empty());
    assert_eq!(snapshot.status(task(0)), Some(Status::Waiting));
}

#[test]
fn lanes_are_the_connected_components_of_shared_paths() {
    let changes = [
        change(0, &["a", "b"]),
        change(1, &["x"]),
        change(2, &["c"]),
        change(3, &["b", "c"]),
        change(4, &["y"]).with_after(vec![task(1)]),
        change(5, &["dir/a"]),
    ];
    let changes: Vec<&Change> = changes.iter().collect();
    let expected = vec![
        vec![task(0), task(2), task(3)],
        vec![task(1), task(4)],
        vec![task(5)],
    ];
    assert_eq!(lanes(&changes), expected);
}

#[test]
fn a_full_queue_refuses() {
    let mut snapshot = Snapshot::default();
    for i in 0..Snapshot::WAITING_MAX {
        assert!(snapshot.admit(change(i, &[])).is_some());
    }
    assert_eq!(snapshot.admit(change(Snapshot::WAITING_MAX, &[])), None);
    assert_eq!(snapshot.admit(change(0, &[])), Some(Status::Waiting));
    assert!(snapshot.plan(&Limits::default()).round.is_some());
}
