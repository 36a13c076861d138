//! The tables, and what each command does to them by the rules of the pure core.

use std::collections::BTreeMap;

use agent_core::{
    AgentId, AttemptId, EffectClass, ErrorKind, Failure, Fence, Retry, TaskId, Timestamp,
};
use agent_orch::machine::{
    self, IntentDecision, KnownStep, OutcomeDecision, StepState, decide_intent, decide_outcome,
    is_intent_durable, step_key,
};
use agent_orch::{
    Claim, ClaimRequest, Intended, Intent, Lease, NewRequest, Pass, RequestId, Stage, Status, Task,
    Transition,
};
use serde_json::Value;

use super::{Answer, Command};
use crate::simulation::bug::Bug;
use crate::simulation::money::Money;

/// A task as the store keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) task: Task,
    pub(crate) fence: u64,
    pub(crate) until: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) avoid: Option<AgentId>,
    pub(super) wakes: u64,
}

type StepId = (TaskId, u32, Stage, String, u32);

/// A step as the store keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) known: KnownStep,
    pub(crate) value: Value,
    key: String,
}

/// A question and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) request: NewRequest,
    pub(crate) choice: Option<String>,
}

fn refused(kind: ErrorKind, code: &'static str) -> Answer {
    Answer::Refused(Box::new(Failure::new(
        kind,
        Retry::Never,
        code,
        code,
        "see the code",
    )))
}

/// All that is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) rows: BTreeMap<TaskId, Row>,
    pub(crate) steps: BTreeMap<StepId, Step>,
    pub(crate) questions: BTreeMap<RequestId, Question>,
    pub(crate) money: Money,
    pub(super) n_applied: u64,
}

impl Tables {
    pub(super) fn apply(&mut self, command: Command, now: Timestamp, bug: Option<Bug>) -> Answer {
        self.n_applied += 1;
        if let Some(lease) = command.lease()
            && bug != Some(Bug::SkipFence)
            && !self.holds(lease, now)
        {
            return Answer::Lost;
        }
        match command {
            Command::Claim { agent, pool } => self.claim(agent, pool, now, bug),
            Command::Heartbeat { lease } => self.heartbeat(&lease, now),
            Command::Intend { lease, intent } => self.intend(&lease, &intent, bug),
            Command::Settle {
                lease,
                pass,
                result,
            } => self.settle(&lease, &pass, result),
            Command::Ask { request } => self.ask(*request),
            Command::Finish { lease, transition } => self.finish(lease, *transition, bug),
            Command::Answer { id, choice } => self.answer(id, choice),
            Command::Sweep => self.sweep(now),
        }
    }

    /// Returns whether a lease is the current one and has not ended.
    pub(crate) fn holds(&self, lease: &Lease, now: Timestamp) -> bool {
        self.rows.get(&lease.task).is_some_and(|row| {
            let is_current = row.fence == lease.fence.0 && row.until > now;
            is_current && row.task.status == Status::Leased
        })
    }

    fn claim(&mut self, agent: AgentId, pool: &str, now: Timestamp, bug: Option<Bug>) -> Answer {
        self.promote(now);
        let may_own = bug == Some(Bug::AcceptOwnWork);
        let found = self.rows.values_mut().find(|row| {
            let is_own = row.task.stage == Stage::Verify && row.task.author == Some(agent);
            let is_ready = row.task.status == Status::Ready && row.task.pool == pool;
            is_ready && (!is_own || may_own) && row.avoid != Some(agent)
        });
        let Some(row) = found else {
            return Answer::Claimed(None);
        };
        row.fence += 1;
        row.until = now.after(ClaimRequest::LEASE_DEFAULT);
        row.task.status = Status::Leased;
        row.task.attempts += 1;
        let attempt = AttemptId::from_bits(u128::from(row.fence));
        let mut lease = Lease::new(&row.task, Fence(row.fence), agent, attempt, row.until);
        lease.wakes = row.wakes;
        Answer::Claimed(Some(Box::new(Claim::new(row.task.clone(), lease))))
    }

    fn promote(&mut self, now: Timestamp) {
        for row in self.rows.values_mut() {
            let is_due = row.not_before.is_none_or(|at| at <= now);
            if row.task.status == Status::Delayed && is_due {
                row.task.status = Status::Ready;
            }
        }
    }

    fn heartbeat(&mut self, lease: &Lease, now: Timestamp) -> Answer {
        let Some(row) = self.rows.get_mut(&lease.task) else {
            return Answer::Lost;
        };
        row.until = now.after(ClaimRequest::LEASE_DEFAULT);
        Answer::Until(row.until)
    }

    fn intend(&mut self, lease: &Lease, intent: &Intent, bug: Option<Bug>) -> Answer {
        let digest = intent.effect.digest().unwrap();
        let key = step_key(lease, &intent.step, &digest).unwrap();
        let id = step_id(lease, &intent.step.name, intent.step.ordinal);
        let known = self.steps.get(&id).map(|step| step.known);
        let mut class = intent.effect.class;
        if bug == Some(Bug::RepeatOpaque) && class == EffectClass::Opaque {
            class = EffectClass::Idempotent;
        }
        let mut pass = Pass::new(intent.step.clone(), key, intent.effect.clone(), digest);
        let said = match decide_intent(known.as_ref(), &digest, class) {
            IntentDecision::Recorded => {
                let value = self.steps.get(&id).map(|step| step.value.clone());
                Intended::Recorded(value.unwrap_or_default())
            }
            IntentDecision::InDoubt { n_try, intent, .. } => {
                (pass.n_try, pass.intent) = (n_try, intent);
                Intended::InDoubt(pass)
            }
            IntentDecision::Go { n_try, is_held, .. } => {
                pass.n_try = n_try;
                if is_intent_durable(intent) {
                    pass.intent = Some(self.n_applied);
                    if !self.open(id, &pass, intent, is_held) {
                        return refused(ErrorKind::Exhausted, "pay.exhausted");
                    }
                }
                Intended::Go(pass)
            }
            _ => return refused(ErrorKind::Conflict, "orch.drift"),
        };
        Answer::Intended(Box::new(said))
    }

    /// Writes an intent and holds its money. Returns whether there was enough.
    fn open(&mut self, id: StepId, pass: &Pass, intent: &Intent, is_held: bool) -> bool {
        let mut known = KnownStep::new(pass.digest, StepState::Intended, pass.n_try);
        (known.intent, known.is_held) = (pass.intent, is_held);
        if !is_held && intent.budget.is_some() && intent.effect.cost_max.is_some() {
            if !self.money.hold(hold_key(pass)) {
                return false;
            }
            known.is_held = true;
        }
        let key = pass.key.as_str().to_owned();
        let value = Value::Null;
        self.steps.insert(id, Step { known, value, key });
        true
    }

    fn settle(&mut self, lease: &Lease, pass: &Pass, result: Result<Value, Failure>) -> Answer {
        let id = step_id(lease, &pass.step.name, pass.step.ordinal);
        let known = self.steps.get(&id).map(|step| step.known);
        let OutcomeDecision::Record { is_held, .. } = decide_outcome(known.as_ref(), pass) else {
            return refused(ErrorKind::NotFound, "orch.not_found");
        };
        let state = StepState::after(&result);
        let is_settled = !state.is_open();
        if is_held && is_settled {
            self.money.settle(&hold_key(pass), result.is_ok());
        }
        let mut known = KnownStep::new(pass.digest, state, pass.n_try);
        (known.intent, known.is_held) = (pass.intent, is_held && !is_settled);
        let (key, value) = (pass.key.as_str().to_owned(), result.unwrap_or_default());
        self.steps.insert(id, Step { known, value, key });
        Answer::Done
    }

    fn ask(&mut self, request: NewRequest) -> Answer {
        let choice = None;
        let asked = self.questions.entry(request.id());
        let asked = asked.or_insert(Question { request, choice });
        Answer::Asked(asked.choice.clone())
    }

    fn finish(&mut self, mut lease: Lease, transition: Transition, bug: Option<Bug>) -> Answer {
        if bug == Some(Bug::AcceptOwnWork) && matches!(transition, Transition::Accept { .. }) {
            lease.owner = AgentId::from_bits(0);
        }
        let is_waiting = self.is_waiting(lease.task);
        let Some(row) = self.rows.get_mut(&lease.task) else {
            return Answer::Lost;
        };
        let round = row.task.round;
        let Ok(moved) = machine::apply(&mut row.task, &lease, transition) else {
            return refused(ErrorKind::Conflict, "orch.wrong_state");
        };
        let was_woken = row.wakes != lease.wakes && bug != Some(Bug::LoseWakeUp);
        let is_waiting = is_waiting || bug == Some(Bug::LoseWakeUp);
        if row.task.status == Status::Parked && (was_woken || !is_waiting) {
            row.task.status = Status::Ready;
        }
        (row.not_before, row.avoid) = (moved.not_before, moved.avoid);
        if row.task.round != round || row.task.status.is_terminal() {
            self.abandon(lease.task, round);
        }
        Answer::Done
    }

    fn is_waiting(&self, task: TaskId) -> bool {
        let mut of_task = self.questions.values().filter(|q| q.request.task == task);
        of_task.any(|question| question.choice.is_none())
    }

    /// Frees the money of steps that no round will resolve.
    fn abandon(&mut self, task: TaskId, round: u32) {
        for (id, step) in &mut self.steps {
            if id.0 == task && id.1 == round && step.known.is_held {
                self.money
                    .settle(&format!("{}.{}", step.key, step.known.n_try), false);
                step.known.is_held = false;
            }
        }
    }

    fn answer(&mut self, id: RequestId, choice: String) -> Answer {
        let Some(question) = self.questions.get_mut(&id) else {
            return refused(ErrorKind::NotFound, "orch.not_found");
        };
        if question.choice.is_some() {
            return Answer::Done;
        }
        let is_rejection = question.request.reject.as_ref() == Some(&choice);
        question.choice = Some(choice);
        let task = question.request.task;
        let Some(row) = self.rows.get_mut(&task) else {
            return Answer::Done;
        };
        row.wakes += 1;
        if row.task.status == Status::Parked {
            row.task.status = Status::Ready;
            if is_rejection {
                row.task.status = Status::Rejected;
                let round = row.task.round;
                self.abandon(task, round);
            }
        }
        Answer::Done
    }

    fn sweep(&mut self, now: Timestamp) -> Answer {
        for row in self.rows.values_mut() {
            if row.task.status == Status::Leased && row.until <= now {
                row.task.status = Status::Ready;
            }
        }
        Answer::Done
    }
}

fn step_id(lease: &Lease, name: &str, ordinal: u32) -> StepId {
    (
        lease.task,
        lease.round,
        lease.stage,
        name.to_owned(),
        ordinal,
    )
}

fn hold_key(pass: &Pass) -> String {
    format!("{}.{}", pass.key.as_str(), pass.n_try)
}
