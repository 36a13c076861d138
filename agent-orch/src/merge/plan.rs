//! Which changes to batch, test, split and settle: a pure function of a snapshot, without a clock
//! or IO.
//!
//! A round is a chain of segments on top of the target. The candidate of segment *n* is the target
//! with the segments up to *n* merged, so whatever prefix of the chain passes can land as tested.
//! A failed segment becomes a group of suspects, which is split in later rounds and never batched
//! with anything else. A change found guilty is tried alone before it is rejected.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::TaskId;
use serde::{Deserialize, Serialize};

use super::conflict::Conflict;
use super::lane::{Change, lanes};
use super::limits::Limits;
use super::object::ObjectId;
use super::status::{Rejection, Resolution, Settled, Status};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    change: Change,
    seq: u64,
    status: Status,
    failures: u32,
    conflicts: u32,
}

/// All a queue knows. What it holds beyond the repository is which changes failed together, how
/// often, and in which order they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    version: u32,
    window: u32,
    next_seq: u64,
    suspects_next: bool,
    items: BTreeMap<TaskId, Item>,
    suspects: Vec<Vec<TaskId>>,
    /// Not stored: the target's history says it.
    #[serde(skip)]
    landed: BTreeMap<TaskId, ObjectId>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            window: 0,
            next_seq: 0,
            suspects_next: false,
            items: BTreeMap::new(),
            suspects: Vec::new(),
            landed: BTreeMap::new(),
        }
    }
}

/// A chain of segments to merge and test.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Round {
    /// The changes, segment by segment, in the order they are merged.
    pub segments: Vec<Vec<TaskId>>,
    /// The last segment completes a chain that is known to fail, and is not tested again.
    pub last_is_known_to_fail: bool,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What to merge and test; `None` if nothing can be.
    pub round: Option<Round>,
    /// Changes whose dependency was rejected.
    pub rejected: Vec<(TaskId, Rejection)>,
    /// Changes that wait for a dependency.
    pub blocked: Vec<TaskId>,
}

/// What came of a round.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The commits that were tried. What is reported of a commit that was replaced meanwhile does
    /// not count against the one that replaced it.
    pub heads: BTreeMap<TaskId, ObjectId>,
    /// The changes that landed, with their merge commits.
    pub landed: Vec<(TaskId, ObjectId)>,
    /// The changes that conflict with another change of the round, and not with the target.
    pub deferred: Vec<TaskId>,
    /// The changes that conflict with the target itself.
    pub conflicted: Vec<(TaskId, Vec<Conflict>, ObjectId)>,
    /// The changes left out because what they wait for was left out.
    pub released: Vec<TaskId>,
    /// The check could not run to the end.
    pub interrupted: bool,
    /// The segment whose candidate failed first, with what the check said.
    pub failed: Option<(Vec<TaskId>, String)>,
}

impl Snapshot {
    /// The version of the stored form.
    pub const VERSION: u32 = 1;

    /// The most changes that wait at once: ten for each task of a fleet of a thousand.
    pub const WAITING_MAX: usize = 10_000;

    /// Later arrivals that raise a waiting change by one priority, so that none starves.
    const AGING: u64 = 256;

    /// Tells whether this library wrote the stored form it was read from.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.version == Self::VERSION
    }

    /// Returns where a task's change stands.
    #[must_use]
    pub fn status(&self, task: TaskId) -> Option<Status> {
        match self.landed.get(&task) {
            Some(commit) => Some(Status::Landed { commit: *commit }),
            None => self.items.get(&task).map(|item| item.status.clone()),
        }
    }

    /// Returns a task's change, unless it landed.
    #[must_use]
    pub fn change(&self, task: TaskId) -> Option<&Change> {
        self.items.get(&task).map(|item| &item.change)
    }

    /// Returns the tasks whose changes wait.
    pub fn waiting(&self) -> impl Iterator<Item = TaskId> + '_ {
        let waits = |(task, item): (&TaskId, &Item)| item.waits().then_some(*task);
        self.items.iter().filter_map(waits)
    }

    /// Takes a change in. A commit that already has a final status keeps it; another commit of the
    /// same task replaces the one before, unless that landed. Returns where the change stands, or
    /// `None` if the queue is full.
    pub fn admit(&mut self, change: Change) -> Option<Status> {
        let task = change.task;
        let before = self.items.get(&task);
        if self.landed.contains_key(&task)
            || before.is_some_and(|item| item.change.head == change.head)
        {
            return self.status(task);
        }
        let conflicts = before.map_or(0, |item| item.conflicts);
        let full = self.items.len() >= Self::WAITING_MAX;
        if full && self.waiting().count() >= Self::WAITING_MAX {
            return None;
        }
        let seq = self.next_seq;
        self.next_seq = seq.saturating_add(1);
        self.forget_suspect(task);
        let item = Item {
            change,
            seq,
            status: Status::Waiting,
            failures: 0,
            conflicts,
        };
        self.items.insert(task, item);
        Some(Status::Waiting)
    }

    /// Takes in what the target's history says landed, for instance before a crash, and returns the
    /// changes this settles.
    pub fn reconcile(&mut self, landed: BTreeMap<TaskId, ObjectId>) -> Vec<Settled> {
        let settled = landed
            .into_iter()
            .filter_map(|(t, commit)| self.settle_landed(t, commit));
        settled.collect()
    }

    /// Decides what to do next.
    #[must_use]
    pub fn plan(&self, limits: &Limits) -> Plan {
        let mut plan = Plan::default();
        let suspects: BTreeSet<TaskId> = self.suspects.iter().flatten().copied().collect();
        let mut order: Vec<&Item> = self
            .items
            .values()
            .filter(|item| item.waits() && !suspects.contains(&item.change.task))
            .collect();
        order.sort_by_key(|item| (self.urgency(item), item.seq));
        let mut chosen: Vec<&Change> = Vec::new();
        let mut taken = BTreeSet::new();
        let room = self.window(limits).saturating_mul(limits.checks_max);
        for item in order {
            let change = &item.change;
            if let Some(task) = change.after.iter().find(|task| self.is_rejected(**task)) {
                let rejection = Rejection::DependencyRejected { task: *task };
                plan.rejected.push((change.task, rejection));
            } else if !change
                .after
                .iter()
                .all(|t| taken.contains(t) || self.landed.contains_key(t))
            {
                plan.blocked.push(change.task);
            } else if chosen.len() < room {
                chosen.push(change);
                taken.insert(change.task);
            }
        }
        let group = self
            .suspects
            .first()
            .filter(|_| self.suspects_next || chosen.is_empty());
        plan.round = match group {
            Some(group) => Some(split(group, limits.split_ways)),
            None if chosen.is_empty() => None,
            None => {
                let by_lane: Vec<TaskId> = lanes(&chosen).into_iter().flatten().collect();
                let segments = by_lane.chunks(self.window(limits)).map(<[TaskId]>::to_vec);
                Some(Round {
                    segments: segments.collect(),
                    last_is_known_to_fail: false,
                })
            }
        };
        plan
    }

    /// Takes in what came of a round and returns the changes that reached a final status.
    pub fn conclude(&mut self, round: &Round, report: Report, limits: &Limits) -> Vec<Settled> {
        let mut settled = Vec::new();
        let tried: Vec<TaskId> = round.segments.iter().flatten().copied().collect();
        let was_suspect = self
            .suspects
            .iter()
            .flatten()
            .any(|task| tried.contains(task));
        for task in &tried {
            self.forget_suspect(*task);
        }
        let whole = report.landed.len() == tried.len();
        for (task, commit) in report.landed {
            settled.extend(self.settle_landed(task, commit));
        }
        let heads = report.heads;
        for (task, conflicts, onto) in report.conflicted {
            if self.is_at(task, &heads) {
                settled.extend(self.settle_conflict(task, conflicts, onto, limits));
            }
        }
        let mut suspects = report.deferred;
        match report.failed {
            Some((mut group, summary)) => {
                group.retain(|task| self.is_at(*task, &heads));
                if let [culprit] = *group.as_slice() {
                    settled.extend(self.blame(culprit, summary, limits));
                } else {
                    self.suspect(group);
                }
            }
            None if whole && !was_suspect => self.resize(self.window(limits).saturating_mul(2)),
            // What was suspect stays so until it was tested.
            None if report.interrupted => suspects = tried,
            None => {}
        }
        if was_suspect {
            suspects.retain(|t| self.is_at(*t, &heads) && !report.released.contains(t));
            self.suspect(suspects);
        }
        if settled
            .iter()
            .any(|s| matches!(s.status, Status::Rejected { .. }))
        {
            self.resize(self.window(limits) / 2);
        }
        self.suspects_next = !was_suspect;
        settled
    }

    /// Rejects changes.
    pub fn reject(&mut self, rejected: Vec<(TaskId, Rejection)>) -> Vec<Settled> {
        let status = |rejection| Status::Rejected { rejection };
        rejected
            .into_iter()
            .filter_map(|(t, r)| self.settle(t, status(r)))
            .collect()
    }

    fn window(&self, limits: &Limits) -> usize {
        let window = match usize::try_from(self.window) {
            Ok(0) => limits.window_max / 2,
            window => window.unwrap_or(usize::MAX),
        };
        window.clamp(limits.window_min, limits.window_max)
    }

    fn resize(&mut self, window: usize) {
        self.window = u32::try_from(window).unwrap_or(u32::MAX);
    }

    fn urgency(&self, item: &Item) -> u64 {
        let age = self.next_seq.saturating_sub(item.seq) / Self::AGING;
        u64::from(item.change.priority).saturating_sub(age)
    }

    fn is_rejected(&self, task: TaskId) -> bool {
        matches!(self.status(task), Some(Status::Rejected { .. }))
    }

    /// Tells whether a task's change waits at the commit that was tried.
    fn is_at(&self, task: TaskId, heads: &BTreeMap<TaskId, ObjectId>) -> bool {
        let item = self.items.get(&task).filter(|item| item.waits());
        item.is_some_and(|item| heads.get(&task) == Some(&item.change.head))
    }

    fn suspect(&mut self, group: Vec<TaskId>) {
        if !group.is_empty() {
            self.suspects.push(group);
        }
    }

    /// Counts a failure against a change, which is tried alone next, or rejected.
    fn blame(&mut self, task: TaskId, summary: String, limits: &Limits) -> Option<Settled> {
        let item = self.items.get_mut(&task).filter(|item| item.waits())?;
        item.failures = item.failures.saturating_add(1);
        if item.failures < limits.failures_max {
            self.suspects.push(vec![task]);
            return None;
        }
        let rejection = Rejection::CheckFailed { summary };
        self.settle(task, Status::Rejected { rejection })
    }

    fn settle_conflict(
        &mut self,
        task: TaskId,
        conflicts: Vec<Conflict>,
        onto: ObjectId,
        limits: &Limits,
    ) -> Option<Settled> {
        let item = self.items.get_mut(&task).filter(|item| item.waits())?;
        item.conflicts = item.conflicts.saturating_add(1);
        let author = limits.author_rounds_max;
        let resolver = author.saturating_add(limits.resolver_rounds_max);
        let resolution = match item.conflicts {
            n if n <= author => Resolution::Author,
            n if n <= resolver => Resolution::Resolver,
            _ => Resolution::Human,
        };
        self.settle(
            task,
            Status::Conflicted {
                conflicts,
                onto,
                resolution,
            },
        )
    }

    fn settle_landed(&mut self, task: TaskId, commit: ObjectId) -> Option<Settled> {
        let settled = self.settle(task, Status::Landed { commit });
        self.items.remove(&task);
        self.landed.insert(task, commit);
        settled
    }

    fn settle(&mut self, task: TaskId, status: Status) -> Option<Settled> {
        self.forget_suspect(task);
        let item = self.items.get_mut(&task).filter(|item| item.waits())?;
        item.status = status.clone();
        item.change.paths.clear();
        Some(Settled {
            task,
            head: item.change.head,
            status,
        })
    }

    fn forget_suspect(&mut self, task: TaskId) {
        self.suspects
            .iter_mut()
            .for_each(|group| group.retain(|t| *t != task));
        self.suspects.retain(|group| !group.is_empty());
    }
}

impl Item {
    fn waits(&self) -> bool {
        self.status == Status::Waiting
    }
}

/// Splits a group that failed as a whole. A group of one is tested by itself.
fn split(group: &[TaskId], ways: usize) -> Round {
    let size = group.len().div_ceil(ways).max(1);
    let segments: Vec<Vec<TaskId>> = group.chunks(size).map(<[TaskId]>::to_vec).collect();
    Round {
        last_is_known_to_fail: segments.len() > 1,
        segments,
    }
}
