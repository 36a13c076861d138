//! One round of the queue: look, build what is planned, test it, land what passed.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{Failure, TaskId};
use futures_util::{StreamExt, stream};

use super::MergeQueue;
use crate::merge::check::{Candidate, Verdict};
use crate::merge::error::{Error, Result};
use crate::merge::git::{Built, BuiltStep, LandItem};
use crate::merge::lane::Change;
use crate::merge::object::ObjectId;
use crate::merge::plan::{Report, Round};
use crate::merge::status::Status;

/// Whether another round may find something to do.
pub(super) enum Step {
    Again,
    Raced,
    Idle(Vec<TaskId>),
    Unavailable(Failure),
}

/// Why a chain was not tested to its end.
enum Trouble {
    Failed(String),
    Unavailable(Failure),
}

impl MergeQueue {
    /// Reads what landed if the target is not where it was.
    pub(super) async fn look(&mut self) -> Result<ObjectId> {
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

    pub(super) async fn round(&mut self) -> Result<Step> {
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
