//! The laws of a journal, for whoever writes a backend. Unstable: may change in any release.
//!
//! Each law gets a fresh journal and the clock it reads. `journal_conformance!(make)` runs them
//! all.

mod audit;
mod clock;
mod control;
mod drift;
mod history;
mod queue;
mod recovery;
mod registry;
mod steps;
mod trees;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentId, Digest, Effect, EffectClass, Env, ErrorKind, Failure, ManualClock, Principal, Retry,
    RunId, Scope, Timestamp,
};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::inbox::{Answer, NewRequest};
use crate::journal::{ClaimRequest, Intended, Intent, Journal, NewRun, Outcome, StepKey};
use crate::task::{Claim, NewTask, Status, Transition};

pub use audit::{
    a_root_of_another_chain_is_refused, a_signed_root_stands_for_what_is_before_it,
    erasing_leaves_the_chain_whole, records_name_what_they_belong_to,
};
pub use clock::{
    a_dead_letter_asks_a_person, a_manifest_replaces_its_own_schedules,
    a_message_comes_until_it_is_acknowledged, a_message_is_written_with_its_step,
    a_schedule_fires_once_for_each_moment, an_overlapping_firing_is_left_out,
    messages_of_a_key_come_in_order, missed_firings_are_made_up_for_as_said,
};
pub use control::{
    a_canceled_tree_can_do_nothing, a_paused_task_hears_its_answer_when_it_goes_on,
    a_paused_tree_stands_still, a_run_is_controlled_as_a_whole,
};
pub use drift::{
    a_drifted_step_is_migrated_once_it_is_done, a_fork_at_a_drifted_step_does_the_rest_anew,
    no_fork_passes_over_a_step_in_doubt,
};
pub use history::{
    a_fork_acts_nothing_again, a_fork_knows_nothing_of_later, everything_ends,
    records_fold_to_what_is,
};
pub use queue::{
    a_reached_limit_is_passed_over, an_idle_key_gets_no_credit, nobody_starves,
    the_order_within_a_key_is_kept, the_queues_count_what_can_be_claimed,
    turns_are_taken_by_weight, what_is_due_next_is_known,
};
pub use recovery::{
    a_failed_repeat_leaves_a_step_in_doubt, a_task_undoes_its_steps_before_it_ends,
    only_a_ladder_runs_what_waits_for_its_word, what_was_fallen_back_on_is_kept,
};
pub use registry::{
    a_retired_agent_claims_nothing, a_run_goes_on_under_another_configuration,
    leases_are_counted_by_pool, the_registry_follows_what_agents_do,
};
pub use steps::{a_late_pure_outcome_is_refused, a_pure_step_is_recorded_by_its_outcome};
pub use trees::{
    a_child_is_added_once_by_its_step, a_parent_waits_for_its_children,
    a_tree_has_a_depth_and_a_width, a_tree_is_retried_as_often_as_it_may,
    an_old_fence_delegates_nothing, children_end_with_their_parent, overdue_tasks_fail,
    tasks_without_a_pool_are_escalated_and_fail,
};
pub use waits::{
    a_timer_fires_once_at_its_moment, a_wait_keeps_its_moment, an_awakeable_is_answered_once,
    an_awakeable_times_out, awakeables_are_never_mixed_up, no_wake_up_is_lost_before_parking,
    signals_are_kept_in_order, the_first_of_several_ends_a_wait, waits_end_with_their_round,
    wrong_signals_are_refused,
};

/// A fresh journal, the clock it reads, and whatever must live as long.
#[derive(Debug)]
#[non_exhaustive]
pub struct Subject {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Where ids come from.
    pub env: Env,
}

impl Subject {
    /// Joins a journal and its clock.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, clock: Arc<ManualClock>, env: Env) -> Self {
        Self {
            journal,
            clock,
            env,
        }
    }

    fn scope() -> Scope {
        Scope::new(Principal::host())
    }

    async fn run(&self) -> Result<RunId> {
        let run = NewRun::new("subject", Digest::of_bytes(b"spec"), json!({ "n": 1 }));
        Ok(self.journal.open_run(&Self::scope(), run).await?.id)
    }

    async fn with_task(&self) -> Result<(RunId, Claim)> {
        let run = self.run().await?;
        let task = NewTask::new("a", "work", json!({}));
        self.journal.submit(&Self::scope(), run, vec![task]).await?;
        let claim = self.claim(run, "work", agent(1)).await?;
        Ok((run, claim.ok_or_else(|| Error::not_found("claim", "a"))?))
    }

    async fn claim(&self, run: RunId, pool: &str, owner: AgentId) -> Result<Option<Claim>> {
        let scope = Scope::agent(owner).with_run(run);
        self.journal
            .claim(&scope, ClaimRequest::new(run, pool, owner))
            .await
    }

    async fn verifying(&self) -> Result<(RunId, Claim)> {
        let (run, claim) = self.with_task().await?;
        let done = Transition::Verify {
            output: json!({ "n": 1 }),
            pool: "verify".to_owned(),
        };
        self.journal
            .finish(&Self::scope(), &claim.lease, done)
            .await?;
        Ok((run, claim))
    }
}

fn agent(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

fn effect(class: EffectClass, what: &str) -> Effect {
    Effect::new("tool.call", what, class, json!({ "what": what }))
}

fn failure(retry: Retry) -> Failure {
    Failure::new(ErrorKind::Unavailable, retry, "test.away", "away", "wait")
}

fn check(holds: bool, law: &str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::invalid("law", law))
    }
}

fn is_conflict<T>(result: &Result<T>) -> bool {
    use agent_core::Classify;
    result
        .as_ref()
        .err()
        .is_some_and(|error| error.kind() == ErrorKind::Conflict)
}

/// Submitting a task again changes nothing.
///
/// # Errors
/// If the law does not hold.
pub async fn submitting_again_changes_nothing(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let tasks = || {
        vec![
            NewTask::new("a", "p", json!(1)),
            NewTask::new("b", "p", json!(2)),
        ]
    };
    check(
        s.journal.submit(&Subject::scope(), run, tasks()).await? == 2,
        "both are new",
    )?;
    check(
        s.journal.submit(&Subject::scope(), run, tasks()).await? == 0,
        "none is new",
    )?;
    check(s.journal.counts(run).await?.total() == 2, "there are two")
}

/// Of two claimers one gets the task.
///
/// # Errors
/// If the law does not hold.
pub async fn one_claimer_gets_the_task(s: Subject) -> Result<()> {
    let (run, _claim) = s.with_task().await?;
    check(
        s.claim(run, "work", agent(2)).await?.is_none(),
        "the second gets nothing",
    )
}

/// The most urgent task is claimed first, among equals the oldest.
///
/// # Errors
/// If the law does not hold.
pub async fn urgent_then_old_tasks_are_claimed_first(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let tasks = [("late", 3), ("old", 1), ("young", 1), ("now", 0)];
    let tasks = tasks.map(|(key, p)| NewTask::new(key, "p", Value::Null).with_priority(p));
    s.journal
        .submit(&Subject::scope(), run, tasks.to_vec())
        .await?;
    for expected in ["now", "old", "young", "late"] {
        let claim = s.claim(run, "p", agent(1)).await?;
        check(
            claim.is_some_and(|claim| claim.task.key == expected),
            expected,
        )?;
    }
    Ok(())
}

/// A lease that ended goes to somebody else, and its holder can do nothing any more.
///
/// # Errors
/// If the law does not hold.
pub async fn an_old_fence_can_do_nothing(s: Subject) -> Result<()> {
    let (run, old) = s.with_task().await?;
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    check(
        is_conflict(&s.journal.heartbeat(&old.lease).await),
        "an ended lease is not renewed",
    )?;
    let swept = s.journal.sweep(&Subject::scope()).await?;
    check(swept.leases == 1, "the sweep takes it back")?;
    let new = s.claim(run, "work", agent(2)).await?;
    let new = new.ok_or_else(|| Error::not_found("claim", "a"))?;
    check(new.lease.fence > old.lease.fence, "the fence rises")?;
    let scope = Subject::scope();
    let intent = Intent::new(StepKey::new("s", 0), effect(EffectClass::Pure, "x"));
    check(
        is_conflict(&s.journal.intend(&scope, &old.lease, intent).await),
        "no intent",
    )?;
    let end = s
        .journal
        .finish(&scope, &old.lease, Transition::Release)
        .await;
    check(is_conflict(&end), "no transition")?;
    check(
        s.journal.heartbeat(&new.lease).await.is_ok(),
        "the new holder goes on",
    )
}

/// An author neither claims its own work for verification nor accepts it.
///
/// # Errors
/// If the law does not hold.
pub async fn an_author_never_verifies_its_own_work(s: Subject) -> Result<()> {
    let (run, claim) = s.verifying().await?;
    let own = s.claim(run, "verify", claim.lease.owner).await?;
    check(own.is_none(), "the author gets nothing")?;
    let other = s.claim(run, "verify", agent(2)).await?;
    let other = other.ok_or_else(|| Error::not_found("claim", "a"))?;
    let accept = Transition::Accept {
        evidence: Value::Null,
        lane: None,
    };
    s.journal
        .finish(&Subject::scope(), &other.lease, accept)
        .await?;
    let task = s.journal.task(claim.task.id).await?;
    check(
        task.status == Status::Completed,
        "another agent's word completes it",
    )
}

/// A recorded step returns what it returned, also to the next holder; another effect under its
/// name drifts.
///
/// # Errors
/// If the law does not hold.
pub async fn a_recorded_step_returns_its_value(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let (scope, step) = (Subject::scope(), StepKey::new("s", 0));
    let intent = || Intent::new(step.clone(), effect(EffectClass::Opaque, "x"));
    let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent()).await? else {
        return check(false, "a fresh step goes ahead");
    };
    let outcome = Outcome::new(Ok(json!("value")));
    s.journal
        .settle(&scope, &claim.lease, &pass, outcome)
        .await?;
    s.journal
        .finish(&scope, &claim.lease, Transition::Release)
        .await?;
    let next = s.claim(run, "work", agent(2)).await?;
    let next = next.ok_or_else(|| Error::not_found("claim", "a"))?;
    let again = s.journal.intend(&scope, &next.lease, intent()).await?;
    check(
        again == Intended::Recorded(json!("value")),
        "the value is returned",
    )?;
    let other = Intent::new(step, effect(EffectClass::Opaque, "y"));
    let drift = s.journal.intend(&scope, &next.lease, other).await;
    check(
        matches!(drift, Err(Error::Drift { .. })),
        "another effect drifts",
    )
}

/// After a crash a pure step goes on under its key, an opaque one is in doubt.
///
/// # Errors
/// If the law does not hold.
pub async fn a_crash_leaves_opaque_steps_in_doubt(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let mut keys = Vec::new();
    for class in [EffectClass::Pure, EffectClass::Opaque] {
        let intent = Intent::new(StepKey::new(format!("{class:?}"), 0), effect(class, "x"));
        if let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent).await? {
            keys.push(pass.key);
        }
    }
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    s.journal.sweep(&scope).await?;
    let next = s.claim(run, "work", agent(2)).await?;
    let next = next.ok_or_else(|| Error::not_found("claim", "a"))?;
    let pure = Intent::new(StepKey::new("Pure", 0), effect(EffectClass::Pure, "x"));
    let opaque = Intent::new(StepKey::new("Opaque", 0), effect(EffectClass::Opaque, "x"));
    let pure = s.journal.intend(&scope, &next.lease, pure).await?;
    let opaque = s.journal.intend(&scope, &next.lease, opaque).await?;
    let goes_on = matches!(&pure, Intended::Go(pass) if keys.first() == Some(&pass.key));
    check(goes_on, "the pure step goes on under its key")?;
    let in_doubt = matches!(&opaque, Intended::InDoubt(pass) if keys.get(1) == Some(&pass.key));
    check(in_doubt, "the opaque step is in doubt under its key")
}

/// A failed try may be tried again; one whose effect is unknown is in doubt unless repeatable.
///
/// # Errors
/// If the law does not hold.
pub async fn a_lost_answer_is_in_doubt(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    for (name, retry, again) in [
        ("failed", Retry::Safe, true),
        ("lost", Retry::Unknown, false),
    ] {
        let intent = || Intent::new(StepKey::new(name, 0), effect(EffectClass::Opaque, name));
        let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent()).await? else {
            return check(false, "a fresh step goes ahead");
        };
        let outcome = Outcome::new(Err(failure(retry)));
        s.journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await?;
        let next = s.journal.intend(&scope, &claim.lease, intent()).await?;
        check(matches!(next, Intended::Go(_)) == again, name)?;
    }
    Ok(())
}

/// A parked task goes on with the answer, whichever came first.
///
/// # Errors
/// If the law does not hold.
pub async fn an_answer_wakes_a_parked_task(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let deadline = Timestamp::from_unix_ms(i64::MAX / 2);
    let ask = |name| NewRequest::new(run, claim.task.id, name, "?", &["yes", "no"], deadline);
    let by = Principal::new("human:a")?;
    let first = s.journal.ask(&scope, ask("first")).await?;
    s.journal
        .finish(&scope, &claim.lease, Transition::Park { failure: None })
        .await?;
    check(
        s.claim(run, "work", agent(2)).await?.is_none(),
        "a parked task is not claimed",
    )?;
    s.journal
        .answer(&scope, first.id, Answer::new("yes", by.clone()))
        .await?;
    let again = s.claim(run, "work", agent(2)).await?;
    let again = again.ok_or_else(|| Error::not_found("claim", "after the answer"))?;
    let second = s.journal.ask(&scope, ask("second")).await?;
    s.journal
        .answer(&scope, second.id, Answer::new("no", by.clone()))
        .await?;
    s.journal
        .finish(&scope, &again.lease, Transition::Park { failure: None })
        .await?;
    check(
        s.claim(run, "work", agent(2)).await?.is_some(),
        "an early answer is not missed",
    )?;
    let changed = s
        .journal
        .answer(&scope, first.id, Answer::new("no", by.clone()))
        .await;
    check(is_conflict(&changed), "an answer stands")?;
    let unknown = s
        .journal
        .answer(&scope, second.id, Answer::new("maybe", by))
        .await;
    check(
        matches!(unknown, Err(Error::Invalid { .. })),
        "only the offered answers count",
    )
}

/// At its deadline a question is answered by its default; the rejecting option ends the task.
///
/// # Errors
/// If the law does not hold.
pub async fn a_deadline_applies_the_default(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let deadline = claim.lease.until.after(Duration::from_secs(60));
    let mut request = NewRequest::new(
        run,
        claim.task.id,
        "q",
        "?",
        &["go on", "give up"],
        deadline,
    );
    request.reject = Some("give up".to_owned());
    s.journal.ask(&scope, request).await?;
    s.journal
        .finish(&scope, &claim.lease, Transition::Park { failure: None })
        .await?;
    check(
        s.journal.open_requests(run).await?.len() == 1,
        "it waits in the inbox",
    )?;
    s.clock.advance(Duration::from_secs(3_600));
    check(
        s.journal.sweep(&scope).await?.requests == 1,
        "the deadline passed",
    )?;
    let task = s.journal.task(claim.task.id).await?;
    check(
        task.status == Status::Rejected,
        "the default ended the task",
    )?;
    check(
        s.journal.open_requests(run).await?.is_empty(),
        "nothing waits any longer",
    )
}

/// A correction begins a new round with feedback, in which steps act anew.
///
/// # Errors
/// If the law does not hold.
pub async fn a_correction_begins_a_new_round(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let intent = || Intent::new(StepKey::new("s", 0), effect(EffectClass::Pure, "x"));
    if let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent()).await? {
        let outcome = Outcome::new(Ok(json!(1)));
        s.journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await?;
    }
    let feedback = json!("try otherwise");
    let correct = Transition::Correct {
        feedback,
        failure: failure(Retry::Never),
        same_agent: false,
    };
    s.journal.finish(&scope, &claim.lease, correct).await?;
    check(
        s.claim(run, "work", claim.lease.owner).await?.is_none(),
        "another agent takes it",
    )?;
    let next = s.claim(run, "work", agent(2)).await?;
    let next = next.ok_or_else(|| Error::not_found("claim", "a"))?;
    check(
        next.task.round == 1 && next.task.feedback == [json!("try otherwise")],
        "feedback",
    )?;
    let again = s.journal.intend(&scope, &next.lease, intent()).await?;
    check(matches!(again, Intended::Go(_)), "the step acts anew")
}

/// A delayed task becomes ready at its time and not before.
///
/// # Errors
/// If the law does not hold.
pub async fn a_retry_waits_for_its_time(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let at = claim.lease.until;
    let retry = Transition::Retry {
        failure: failure(Retry::Safe),
        at,
    };
    s.journal
        .finish(&Subject::scope(), &claim.lease, retry)
        .await?;
    check(
        s.claim(run, "work", agent(1)).await?.is_none(),
        "not before its time",
    )?;
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    check(
        s.claim(run, "work", agent(1)).await?.is_some(),
        "at its time",
    )
}

/// Opening the run of a subject again resumes it and takes its leases back; ending it lets the
/// next one start afresh.
///
/// # Errors
/// If the law does not hold.
pub async fn a_run_is_resumed_until_it_ends(s: Subject) -> Result<()> {
    let (run, _claim) = s.with_task().await?;
    let new = NewRun::new("subject", Digest::of_bytes(b"spec"), json!({ "n": 2 }));
    let again = s.journal.open_run(&Subject::scope(), new.clone()).await?;
    let same = again.id == run && again.is_resumed && again.meta == json!({ "n": 1 });
    check(same, "it is the same run with what it was opened with")?;
    check(
        s.claim(run, "work", agent(2)).await?.is_some(),
        "the lease was taken back",
    )?;
    s.journal.end_run(&Subject::scope(), run).await?;
    let fresh = s.journal.open_run(&Subject::scope(), new).await?;
    check(
        fresh.id != run && !fresh.is_resumed,
        "the next one is fresh",
    )
}

/// The counts equal the tasks, and the audit chain verifies.
///
/// # Errors
/// If the law does not hold.
pub async fn counts_and_chain_hold(s: Subject) -> Result<()> {
    let (run, claim) = s.verifying().await?;
    let counts = s.journal.counts(run).await?;
    check(
        counts.total() == 1 && counts.moving() == 1,
        "one task moves",
    )?;
    let other = s.claim(run, "verify", agent(2)).await?;
    let other = other.ok_or_else(|| Error::not_found("claim", "a"))?;
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.journal
        .finish(&Subject::scope(), &other.lease, end)
        .await?;
    let counts = s.journal.counts(run).await?;
    check(
        counts.of(Status::Failed) == 1 && counts.moving() == 0,
        "it ended",
    )?;
    let audit = s.journal.verify().await?;
    let records = s.journal.events(crate::EventQuery::after(0)).await?;
    check(
        u64::try_from(records.len()).is_ok_and(|n| n == audit.records),
        "all are in the chain",
    )?;
    check(
        records.last().is_some_and(|last| last.hash == audit.head),
        "the head is the last",
    )?;
    let of_task = crate::EventQuery::after(0).with_task(claim.task.id);
    check(
        s.journal.events(of_task).await?.len() >= 4,
        "a task's records are found",
    )
}

/// Runs every law on fresh journals that `make` returns: `async fn() -> (Subject, Guard)`.
#[macro_export]
macro_rules! journal_conformance {
    ($make:path) => {
        $crate::journal_conformance!(@laws $make:
            submitting_again_changes_nothing,
            one_claimer_gets_the_task,
            urgent_then_old_tasks_are_claimed_first,
            an_old_fence_can_do_nothing,
            an_author_never_verifies_its_own_work,
            a_recorded_step_returns_its_value,
            a_crash_leaves_opaque_steps_in_doubt,
            a_lost_answer_is_in_doubt,
            an_answer_wakes_a_parked_task,
            a_deadline_applies_the_default,
            a_correction_begins_a_new_round,
            a_retry_waits_for_its_time,
            a_run_is_resumed_until_it_ends,
            counts_and_chain_hold,
            a_failed_repeat_leaves_a_step_in_doubt,
            a_task_undoes_its_steps_before_it_ends,
            only_a_ladder_runs_what_waits_for_its_word,
            what_was_fallen_back_on_is_kept,
            a_pure_step_is_recorded_by_its_outcome,
            a_late_pure_outcome_is_refused,
            a_timer_fires_once_at_its_moment,
            a_wait_keeps_its_moment,
            signals_are_kept_in_order,
            no_wake_up_is_lost_before_parking,
            wrong_signals_are_refused,
            awakeables_are_never_mixed_up,
            an_awakeable_is_answered_once,
            an_awakeable_times_out,
            the_first_of_several_ends_a_wait,
            waits_end_with_their_round,
            turns_are_taken_by_weight,
            an_idle_key_gets_no_credit,
            the_order_within_a_key_is_kept,
            nobody_starves,
            a_reached_limit_is_passed_over,
            the_queues_count_what_can_be_claimed,
            what_is_due_next_is_known,
            a_child_is_added_once_by_its_step,
            an_old_fence_delegates_nothing,
            a_tree_has_a_depth_and_a_width,
            a_parent_waits_for_its_children,
            children_end_with_their_parent,
            a_paused_tree_stands_still,
            a_paused_task_hears_its_answer_when_it_goes_on,
            a_canceled_tree_can_do_nothing,
            a_run_is_controlled_as_a_whole,
            a_tree_is_retried_as_often_as_it_may,
            overdue_tasks_fail,
            tasks_without_a_pool_are_escalated_and_fail,
            records_fold_to_what_is,
            everything_ends,
            a_fork_acts_nothing_again,
            a_fork_knows_nothing_of_later,
            a_drifted_step_is_migrated_once_it_is_done,
            a_fork_at_a_drifted_step_does_the_rest_anew,
            no_fork_passes_over_a_step_in_doubt,
            a_schedule_fires_once_for_each_moment,
            missed_firings_are_made_up_for_as_said,
            an_overlapping_firing_is_left_out,
            a_manifest_replaces_its_own_schedules,
            a_message_comes_until_it_is_acknowledged,
            a_message_is_written_with_its_step,
            messages_of_a_key_come_in_order,
            a_dead_letter_asks_a_person,
            a_signed_root_stands_for_what_is_before_it,
            a_root_of_another_chain_is_refused,
            erasing_leaves_the_chain_whole,
            records_name_what_they_belong_to,
            the_registry_follows_what_agents_do,
            a_retired_agent_claims_nothing,
            leases_are_counted_by_pool,
            a_run_goes_on_under_another_configuration,
        );
    };
    (@laws $make:path: $($law:ident,)+) => {
        $(
            #[tokio::test]
            async fn $law() {
                let (subject, _guard) = $make().await;
                if let Err(broken) = $crate::conformance::$law(subject).await {
                    panic!("{broken}");
                }
            }
        )+
    };
}
