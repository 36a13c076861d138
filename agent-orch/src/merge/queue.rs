//! The merge queue: carries out plans against a repository and a check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_core::{AgentId, Failure, TaskId};
use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::check::{Candidate, Check, Verdict};
use super::error::{Error, Result};
use super::git::{Built, BuiltStep, LandItem, Repository};
use super::lane::Change;
use super::limits::Limits;
use super::object::ObjectId;
use super::plan::{Report, Round, Snapshot};
use super::status::{Rejection, Settled, Status};

/// How a queue is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueConfig {
    target: String,
    start: ObjectId,
    limits: Limits,
    snapshot: Snapshot,
}

impl QueueConfig {
    /// The target of a hygiene fleet.
    pub const TARGET_DEFAULT: &'static str = "refs/heads/agents/hygiene";

    /// Lands on [`QueueConfig::TARGET_DEFAULT`], which is created at `start`.
    #[must_use]
    pub fn new(start: ObjectId) -> Self {
        Self {
            target: Self::TARGET_DEFAULT.to_owned(),
            start,
            limits: Limits::default(),
            snapshot: Snapshot::default(),
        }
    }

    /// Sets the target. Default: [`QueueConfig::TARGET_DEFAULT`].
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Sets the numbers the plan goes by. Default: [`Limits::default`].
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what an earlier queue knew. Default: nothing.
    #[must_use]
    pub fn with_snapshot(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = snapshot;
        self
    }
}

/// A change handed to the queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Submission {
    /// The task the change settles; it names the change.
    pub task: TaskId,
    /// The agent that made it.
    pub agent: AgentId,
    /// Its commit.
    pub head: ObjectId,
    /// 0 is the most urgent, 4 the least.
    pub priority: u8,
    /// The tasks whose changes must land first.
    pub after: Vec<TaskId>,
}

impl Submission {
    /// Hands in a commit: priority 2, after nothing.
    #[must_use]
    pub const fn new(task: TaskId, agent: AgentId, head: ObjectId) -> Self {
        Self {
            task,
            agent,
            head,
            priority: 2,
            after: Vec::new(),
        }
    }

    /// Sets the priority. Default: 2.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the tasks whose changes must land first. Default: none.
    #[must_use]
    pub fn with_after(mut self, after: Vec<TaskId>) -> Self {
        self.after = after;
        self
    }
}

/// What a call did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The changes that reached a final status, in order.
    pub settled: Vec<Settled>,
    /// The changes that wait for a dependency that is not there.
    pub blocked: Vec<TaskId>,
    /// Why the check could not run; the changes it was for still wait.
    pub unavailable: Option<Failure>,
}

/// Lands changes on one target. One owner drives it; any number hand in changes by [`Intake`].
#[derive(Debug)]
pub struct MergeQueue {
    shared: Arc<Shared>,
    check: Arc<dyn Check>,
    limits: Limits,
    /// The target's tip at the last look. Elsewhere means that history must be read again.
    tip: Option<ObjectId>,
    /// Settled, and not returned to the caller yet.
    settled: Vec<Settled>,
}

/// Hands changes to a queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    repo: Repository,
    target: String,
    state: Mutex<Snapshot>,
    arrived: Notify,
}

/// Whether another round may find something to do.
enum Step {
    Again,
    Raced,
    Idle(Vec<TaskId>),
    Unavailable(Failure),
}

impl MergeQueue {
    /// Times in a row another writer may win the target before [`MergeQueue::drain`] gives up.
    pub const RACES_MAX: usize = 16;

    /// Opens a queue on a target, which is created if it is absent.
    ///
    /// # Errors
    /// As [`Repository::open_target`]; `Invalid` for a snapshot of another version.
    ///
    /// # Cancel safety
    /// Atomic and idempotent.
    pub async fn open(
        repo: Repository,
        config: QueueConfig,
        check: Arc<dyn Check>,
    ) -> Result<Self> {
        let QueueConfig {
            target,
            start,
            limits,
            snapshot,
        } = config;
        if !snapshot.is_readable() {
            return Err(Error::invalid(
                "snapshot",
                "another version of the library wrote it",
            ));
        }
        repo.open_target(&target, start).await?;
        let state = Mutex::new(snapshot);
        let shared = Arc::new(Shared {
            repo,
            target,
            state,
            arrived: Notify::new(),
        });
        let mut queue = Self {
            shared,
            check,
            limits,
            tip: None,
            settled: Vec::new(),
        };
        queue.look().await?;
        if queue.shared.state.lock().waiting().next().is_some() {
            queue.shared.arrived.notify_one();
        }
        Ok(queue)
    }

    /// Returns a handle to hand in changes.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Waits until a change is handed in. One that came before the call counts, as does one that
    /// waits in the snapshot, so nothing is missed between [`MergeQueue::drain`] and this.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait(&self) {
        self.shared.arrived.notified().await;
    }

    /// Runs rounds until nothing can be done: each waiting change landed, conflicted, was rejected,
    /// or is blocked by a dependency. Stops early if the check cannot run.
    ///
    /// # Errors
    /// `Moved` if another writer wins the target time and again; `Backend`, `Corrupt`. What settled
    /// before an error is returned by the next call.
    ///
    /// # Cancel safety
    /// Cancel safe: what landed is found in the target's history by the next call.
    pub async fn drain(&mut self) -> Result<Progress> {
        let mut progress = Progress::default();
        let mut n_races: usize = 0;
        loop {
            match self.round().await? {
                Step::Again => n_races = 0,
                Step::Raced if n_races < Self::RACES_MAX => n_races = n_races.saturating_add(1),
                Step::Raced => {
                    let reference = self.shared.target.clone();
                    let expected = self.shared.repo.tip(&reference).await?;
                    return Err(Error::Moved {
                        reference,
                        expected,
                    });
                }
                Step::Idle(blocked) => {
                    progress.blocked = blocked;
                    break;
                }
                Step::Unavailable(failure) => {
                    progress.unavailable = Some(failure);
                    break;
                }
            }
        }
        progress.settled = std::mem::take(&mut self.settled);
        Ok(progress)
    }

    /// Rejects every change that waits, so that each has a final status.
    #[must_use]
    pub fn close(mut self) -> Vec<Settled> {
        let mut state = self.shared.state.lock();
        let waiting: Vec<_> = state
            .waiting()
            .map(|task| (task, Rejection::Closed))
            .collect();
        self.settled.extend(state.reject(waiting));
        drop(state);
        self.settled
    }

    /// Reads what landed if the target is not where it was.
    async fn look(&mut self) -> Result<ObjectId> {
        let (repo, target) = (&self.shared.repo, &self.shared.target);
        let tip = repo.tip(target).await?;
        if self.tip != Some(tip) {
            let landed = repo.all_landed(target).await?;
            self.settled
                .extend(self.shared.state.lock().reconcile(landed));
            self.tip = Some(tip);
        }
        Ok(tip)
    }

    async fn round(&mut self) -> Result<Step> {
        let tip = self.look().await?;
        let plan = self.shared.state.lock().plan(&self.limits);
        if !plan.rejected.is_empty() {
            self.settled
                .extend(self.shared.state.lock().reject(plan.rejected));
            return Ok(Step::Again);
        }
        let Some(round) = plan.round else {
            return Ok(Step::Idle(plan.blocked));
        };
        let mut report = Report::default();
        let steps = self.build(&round, tip, &mut report).await?;
        let intact = steps.len() == report.heads.len();
        let candidates = candidates(&round, &steps, tip);
        let n_known = usize::from(intact && round.last_is_known_to_fail);
        let n_tested = candidates.len().saturating_sub(n_known);
        let (n_passed, trouble) = self
            .test(candidates.get(..n_tested).unwrap_or_default())
            .await;
        if let Some(passed) = n_passed
            .checked_sub(1)
            .and_then(|last| candidates.get(last))
        {
            let (repo, target) = (&self.shared.repo, &self.shared.target);
            match repo.land(target, tip, passed.commit, passed.tree).await {
                Ok(()) => self.tip = Some(passed.commit),
                Err(Error::Moved { .. }) => return Ok(Step::Raced),
                Err(e) => return Err(e),
            }
            let n_landed = passed.tasks.len();
            report.landed = steps
                .iter()
                .take(n_landed)
                .map(|s| (s.task, s.commit))
                .collect();
        }
        let summary = match &trouble {
            Some(Trouble::Failed(summary)) => Some(summary.clone()),
            Some(Trouble::Unavailable(_)) => None,
            None if n_known > 0 => Some("it fails with the changes it came with".to_owned()),
            None => None,
        };
        if let (Some(summary), Some(failed)) = (summary, candidates.get(n_passed)) {
            let before = n_passed
                .checked_sub(1)
                .and_then(|last| candidates.get(last));
            let n_before = before.map_or(0, |candidate| candidate.tasks.len());
            report.failed = Some((
                failed.tasks.iter().skip(n_before).copied().collect(),
                summary,
            ));
        }
        report.interrupted = matches!(trouble, Some(Trouble::Unavailable(_)));
        self.finish(&round, report).await;
        match trouble {
            Some(Trouble::Unavailable(failure)) => Ok(Step::Unavailable(failure)),
            _ => Ok(Step::Again),
        }
    }

    /// Merges the round's changes and sorts out those that conflict: with the target, or only with
    /// a change beside them.
    async fn build(
        &self,
        round: &Round,
        tip: ObjectId,
        report: &mut Report,
    ) -> Result<Vec<BuiltStep>> {
        let (repo, target) = (&self.shared.repo, &self.shared.target);
        let (changes, mut left_out) = {
            let state = self.shared.state.lock();
            let tasks = round.segments.iter().flatten();
            let changes: Vec<Change> = tasks.filter_map(|t| state.change(*t).cloned()).collect();
            let here: BTreeSet<TaskId> = changes.iter().map(|change| change.task).collect();
            let unmet = |task: &TaskId| {
                !here.contains(task) && !matches!(state.status(*task), Some(Status::Landed { .. }))
            };
            let orphans = changes
                .iter()
                .filter(|change| change.after.iter().any(unmet));
            let orphans: BTreeSet<TaskId> = orphans.map(|change| change.task).collect();
            (changes, orphans)
        };
        report.heads = changes
            .iter()
            .map(|change| (change.task, change.head))
            .collect();
        report.released = left_out.iter().copied().collect();
        loop {
            let items = changes
                .iter()
                .filter(|change| !left_out.contains(&change.task));
            let items: Vec<LandItem> = items.map(item).collect();
            let first = items.first().map(|item| item.task);
            let Built {
                steps, conflicted, ..
            } = repo.build(target, tip, items).await?;
            for (task, conflicts) in conflicted {
                left_out.insert(task);
                let alone: Vec<_> = changes
                    .iter()
                    .filter(|c| c.task == task)
                    .map(item)
                    .collect();
                let alone = match first {
                    Some(first) if first == task => Some((task, conflicts)),
                    _ => repo.build(target, tip, alone).await?.conflicted.pop(),
                };
                match alone {
                    Some((task, conflicts)) => report.conflicted.push((task, conflicts, tip)),
                    None => report.deferred.push(task),
                }
            }
            let orphans = changes
                .iter()
                .filter(|change| !left_out.contains(&change.task));
            let orphans =
                orphans.filter(|change| change.after.iter().any(|t| left_out.contains(t)));
            let orphans: Vec<TaskId> = orphans.map(|change| change.task).collect();
            if orphans.is_empty() {
                return Ok(steps);
            }
            left_out.extend(&orphans);
            report.released.extend(orphans);
        }
    }

    /// Tests candidates in order until one does not pass. Returns how many passed.
    async fn test(&self, candidates: &[Candidate]) -> (usize, Option<Trouble>) {
        // Collected, since a closure held across the waits would tie the future to one lifetime.
        let checks: Vec<_> = candidates
            .iter()
            .map(|candidate| self.check.check(candidate))
            .collect();
        let mut verdicts = stream::iter(checks).buffered(self.limits.checks_max);
        let mut n_passed: usize = 0;
        while let Some(verdict) = verdicts.next().await {
            match verdict {
                Ok(Verdict::Passed) => n_passed = n_passed.saturating_add(1),
                Ok(Verdict::Failed { summary }) => {
                    return (n_passed, Some(Trouble::Failed(summary)));
                }
                Err(source) => {
                    let failure = Failure::of(&Error::CheckUnavailable { source });
                    return (n_passed, Some(Trouble::Unavailable(failure)));
                }
            }
        }
        (n_passed, None)
    }

    async fn finish(&mut self, round: &Round, report: Report) {
        let heads: &BTreeMap<TaskId, ObjectId> = &report.heads;
        let landed = report
            .landed
            .iter()
            .filter_map(|(t, _)| heads.get(t).map(|h| (*t, *h)));
        let landed: Vec<(TaskId, ObjectId)> = landed.collect();
        let settled = self
            .shared
            .state
            .lock()
            .conclude(round, report, &self.limits);
        self.settled.extend(settled);
        // A branch left behind is found landed when it is handed in again.
        if let Err(error) = self.shared.repo.remove_branches(landed).await {
            tracing::warn!(%error, "the branches of landed changes were not removed");
        }
    }
}

impl Intake {
    /// Hands in a change and returns where it stands: `Waiting`, or the final status its commit or,
    /// if the task's change landed, its task already has.
    ///
    /// # Errors
    /// `NotFound` if the commit does not exist or shares no history with the target; `Invalid` for a
    /// path no checkout can hold; `TooLarge` if the queue is full.
    ///
    /// # Cancel safety
    /// Atomic and idempotent.
    pub async fn enqueue(&self, submission: Submission) -> Result<Status> {
        let Submission {
            task,
            agent,
            head,
            priority,
            after,
        } = submission;
        let (repo, target) = (&self.shared.repo, &self.shared.target);
        if let Some(commit) = repo.landed(target, task).await? {
            return Ok(Status::Landed { commit });
        }
        let paths = repo.touched(target, head).await?;
        let change = Change::new(task, agent, head, paths)
            .with_priority(priority)
            .with_after(after);
        let status = self.shared.state.lock().admit(change);
        let full = || Error::limit("the queue's changes", Snapshot::WAITING_MAX, usize::MAX);
        let Some(status) = status else {
            return full().map(|()| Status::Waiting);
        };
        self.shared.arrived.notify_one();
        Ok(status)
    }

    /// Returns where a task's change stands.
    #[must_use]
    pub fn status(&self, task: TaskId) -> Option<Status> {
        self.shared.state.lock().status(task)
    }

    /// Returns what the queue knows, to be kept and handed to [`QueueConfig::with_snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.state.lock().clone()
    }
}

/// Why a chain was not tested to its end.
enum Trouble {
    Failed(String),
    Unavailable(Failure),
}

const fn item(change: &Change) -> LandItem {
    LandItem::new(change.task, change.agent, change.head)
}

/// Returns the candidate at the end of each segment. A segment whose changes were all left out has
/// none.
fn candidates(round: &Round, steps: &[BuiltStep], onto: ObjectId) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for segment in &round.segments {
        let Some(end) = steps.iter().rposition(|step| segment.contains(&step.task)) else {
            continue;
        };
        if let Some(last) = steps.get(end) {
            let tasks = steps
                .iter()
                .take(end.saturating_add(1))
                .map(|step| step.task)
                .collect();
            candidates.push(Candidate {
                tree: last.tree,
                commit: last.commit,
                onto,
                tasks,
            });
        }
    }
    candidates
}
