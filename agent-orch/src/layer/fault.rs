//! Loses and doubles calls, to show what of the journal may be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{
    AgentId, Asset, Digest, Entropy, EntropyExt, Failure, Retry, RunId, Scope, TaskId, Timestamp,
};
use async_trait::async_trait;
use serde_json::Value;

use crate::audit::{Audit, ErasePayloads, Erased, EventQuery, Record, Root, Verification};
use crate::drift::{Drifted, Migration, RecordedStep};
use crate::error::{Error, Result};
use crate::fleet::{ScheduleChange, Scheduled, Scheduling};
use crate::inbox::{Answer, NewRequest, Request, RequestId};
use crate::journal::{
    ClaimRequest, Counts, Intended, Intent, Journal, NewRun, Outcome, Pass, Queue, Run, StepKey,
    Swept,
};
use crate::outbox::{Message, Taken, Undelivered};
use crate::registry::{AgentQuery, AgentRecord, NewAgent};
use crate::stuck::Stuck;
use crate::task::{Claim, Lease, NewTask, Task, Transition};
use crate::tree::{Control, Controlled, Spawn, Target};
use crate::undo::Undo;
use crate::wait::{NewWait, Resolution, Signal, Wait, WaitId};

/// How often calls go wrong, of a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultRates {
    /// The call never reaches the journal.
    pub lost_requests: u32,
    /// The call has its effect and the answer is lost.
    pub lost_answers: u32,
    /// A call that may be repeated reaches the journal twice, and the second answer is returned.
    pub duplicates: u32,
}

impl FaultRates {
    /// Every third call is lost, before or after its effect, and every third that may be repeated
    /// is doubled.
    #[must_use]
    pub const fn harsh() -> Self {
        Self {
            lost_requests: 160_000,
            lost_answers: 160_000,
            duplicates: 330_000,
        }
    }
}

/// A journal whose calls are lost and doubled, as those of a remote one are.
#[derive(Debug)]
pub struct Fault<J> {
    inner: J,
    rates: FaultRates,
    entropy: Arc<dyn Entropy>,
}

impl<J: Journal> Fault<J> {
    /// Disturbs the calls of `inner` at the given rates; the same entropy, the same faults.
    #[must_use]
    pub const fn new(inner: J, rates: FaultRates, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            inner,
            rates,
            entropy,
        }
    }

    async fn disturb<T, F>(&self, call: impl Fn() -> F + Send, may_double: bool) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        if self.entropy.chance(self.rates.lost_requests) {
            return Err(lost("the request was lost"));
        }
        let mut answer = call().await;
        if may_double && self.entropy.chance(self.rates.duplicates) {
            answer = call().await;
        }
        if self.entropy.chance(self.rates.lost_answers) {
            return Err(lost("the answer was lost"));
        }
        answer
    }
}

fn lost(what: &'static str) -> Error {
    Error::Backend {
        operation: "reach the journal",
        retry: Retry::Unknown,
        source: what.into(),
    }
}

/// Forwards each method listed. Calling one marked `again` twice with the same arguments leaves what
/// calling it once does; one marked `once` would do more, or say that it is done.
macro_rules! disturbed {
    (@may_double again) => { true };
    (@may_double once) => { false };
    ($($kind:ident $name:ident($($argument:ident: $type:ty),* $(,)?) -> $answer:ty;)*) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a layer must not bypass a method"
        )]
        impl<J: Journal> Journal for Fault<J> {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                    let call = || self.inner.$name($(Clone::clone(&$argument)),*);
                    self.disturb(call, disturbed!(@may_double $kind)).await
                }
            )*
        }
    };
}

disturbed! {
    again open_run(scope: &Scope, run: NewRun) -> Run;
    again end_run(scope: &Scope, run: RunId) -> ();
    again submit(scope: &Scope, run: RunId, tasks: Vec<NewTask>) -> u64;
    again configure(scope: &Scope, run: RunId, scheduling: &Scheduling) -> ();
    once claim(scope: &Scope, request: ClaimRequest) -> Option<Claim>;
    again heartbeat(lease: &Lease) -> Timestamp;
    once intend(scope: &Scope, lease: &Lease, intent: Intent) -> Intended;
    once settle(scope: &Scope, lease: &Lease, pass: &Pass, outcome: Outcome) -> ();
    once finish(scope: &Scope, lease: &Lease, transition: Transition) -> ();
    once undos(task: TaskId) -> Vec<Undo>;
    again ask(scope: &Scope, request: NewRequest) -> Request;
    again answer(scope: &Scope, id: RequestId, answer: Answer) -> Request;
    once wait(scope: &Scope, lease: &Lease, wait: NewWait) -> Wait;
    once signal(scope: &Scope, task: TaskId, signal: Signal) -> bool;
    again resolve(scope: &Scope, id: WaitId, resolution: Resolution) -> Wait;
    once open_waits(run: RunId) -> Vec<Wait>;
    once recorded(lease: &Lease, step: StepKey) -> Option<RecordedStep>;
    once migrate(scope: &Scope, drifted: Drifted, migration: Migration) -> ();
    again change_schedules(scope: &Scope, run: RunId, change: ScheduleChange) -> ();
    once schedules(run: RunId) -> Vec<Scheduled>;
    once take_messages(scope: &Scope, run: RunId, n_max: usize) -> Taken;
    once ack_message(scope: &Scope, message: &Message) -> ();
    once fail_message(scope: &Scope, message: &Message, failure: Failure, next: Undelivered) -> ();
    again sweep(scope: &Scope) -> Swept;
    once task(id: TaskId) -> Task;
    once queues(run: RunId) -> Vec<Queue>;
    once next_due(scope: &Scope) -> Option<Timestamp>;
    once is_recorded(lease: &Lease, step: &StepKey) -> bool;
    once counts(run: RunId) -> Counts;
    once open_requests(run: RunId) -> Vec<Request>;
    once events(query: EventQuery) -> Vec<Record>;
    once verify() -> Audit;
    once verify_with(how: Verification) -> Audit;
    once head() -> Audit;
    once seal(scope: &Scope, root: Root) -> u64;
    once roots(after: u64) -> Vec<Root>;
    once erase(scope: &Scope, what: ErasePayloads) -> Erased;
    once note(event: agent_core::Event) -> u64;
    once spawn(scope: &Scope, lease: &Lease, spawn: Spawn) -> Vec<TaskId>;
    once join(lease: &Lease, children: Vec<TaskId>) -> Vec<Task>;
    again control(scope: &Scope, target: Target, control: Control) -> Controlled;
    once fork(scope: &Scope, run: RunId, at: u64, subject: String) -> Run;
    once task_at(id: TaskId, at: u64) -> Task;
    once orphan(scope: &Scope, run: RunId, pool: String, deadline: Timestamp) -> u64;
    once stuck(run: RunId) -> Vec<Stuck>;
    again enroll(scope: &Scope, agents: Vec<NewAgent>) -> ();
    once agents(query: AgentQuery, asset: Asset) -> Vec<AgentRecord>;
    again retire(scope: &Scope, id: AgentId, asset: Asset, reason: String) -> AgentRecord;
    once held(run: RunId) -> BTreeMap<String, u64>;
    again respec(scope: &Scope, run: RunId, spec: Digest, payload: Value) -> ();
}
