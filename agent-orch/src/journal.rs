//! The journal: runs, tasks, steps, requests and the audit chain behind one transaction boundary.
//!
//! It is one contract because its promises are joint ones: a lease, the step it allows, the money
//! it holds and the audit record of it are written together or not at all.

mod queue;
mod run;
mod step;

use std::collections::BTreeMap;
use std::fmt;

use agent_core::{AgentId, Asset, Digest, Failure, RunId, Scope, TaskId, Timestamp};
use async_trait::async_trait;
use serde_json::Value;

use crate::audit::{Audit, ErasePayloads, Erased, EventQuery, Record, Root, Verification};
use crate::drift::{Drifted, Migration, RecordedStep};
use crate::error::Result;
use crate::fleet::Scheduling;
use crate::fleet::{ScheduleChange, Scheduled};
use crate::inbox::{Answer, NewRequest, Request, RequestId};
use crate::outbox::{Message, Taken, Undelivered};
use crate::registry::{AgentQuery, AgentRecord, NewAgent};
use crate::stuck::Stuck;
use crate::task::{Claim, Lease, NewTask, Task, Transition};
use crate::tree::{Control, Controlled, Spawn, Target};
use crate::undo::Undo;
use crate::wait::{NewWait, Resolution, Signal, Wait, WaitId};

pub use queue::{Admission, ClaimRequest, Counts, Queue, Swept};
pub use run::{NewRun, Run};
pub use step::{Intended, Intent, Outcome, Pass, StepKey};

/// Keeps what happened and decides who may go on.
///
/// This is the contract for _implementors_. Each method is one transaction at the durability the
/// journal was opened with. An implementation must pass [`crate::conformance`].
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync + 'static {
    /// Opens a run, or the unfinished one of the same subject. All leases of the run are taken
    /// back, since whoever held them belonged to an earlier process.
    ///
    /// # Errors
    /// `Invalid` for an oversized subject; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn open_run(&self, scope: &Scope, run: NewRun) -> Result<Run>;

    /// Ends a run; the next one of its subject starts afresh.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn end_run(&self, scope: &Scope, run: RunId) -> Result<()>;

    /// Adds tasks and returns how many were not there yet.
    ///
    /// # Errors
    /// `Invalid` for oversized keys and inputs; the store's. Nothing is added then.
    ///
    /// # Cancel safety
    /// Atomic: all or none.
    async fn submit(&self, scope: &Scope, run: RunId, tasks: Vec<NewTask>) -> Result<u64>;

    /// Sets how the tasks of a run are shared: the weights of its fairness keys, how its tasks age,
    /// and the concurrency of limit keys, which holds for all runs of the store.
    ///
    /// # Errors
    /// `Invalid` for values out of range; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn configure(&self, scope: &Scope, run: RunId, scheduling: &Scheduling) -> Result<()>;

    /// Gives the next ready task of a pool to an agent: by priority, then by weighted turns of the
    /// fairness keys, then by age. Passed over are tasks whose limits are reached, and those the
    /// agent may not have: nobody verifies their own work. A task whose estimate the budget does
    /// not cover is parked with a question `unblock_budget`.
    ///
    /// # Errors
    /// The store's; those of reading a budget.
    ///
    /// # Cancel safety
    /// Atomic; a lease whose answer is lost ends by itself.
    async fn claim(&self, scope: &Scope, request: ClaimRequest) -> Result<Option<Claim>>;

    /// Extends a lease and returns its new end.
    ///
    /// # Errors
    /// `Conflict` if the lease is over; the holder must stop.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn heartbeat(&self, lease: &Lease) -> Result<Timestamp>;

    /// Records an intent with its undo action, holds its money and counts it against its grants,
    /// or answers with what is known of the step.
    ///
    /// The intent of a pure effect that holds no money need not be recorded
    /// ([`crate::machine::is_intent_durable`]); whether its lease still holds is then certain only
    /// when its outcome is recorded.
    ///
    /// # Errors
    /// `Conflict` if the lease is over or the step drifted; `Exhausted` if the budget refuses;
    /// `Denied` if a grant is used up.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn intend(&self, scope: &Scope, lease: &Lease, intent: Intent) -> Result<Intended>;

    /// Records how an effect ended and settles its money.
    ///
    /// # Errors
    /// `Conflict` if the lease is over: then the effect stays in doubt for the next holder.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn settle(
        &self,
        scope: &Scope,
        lease: &Lease,
        pass: &Pass,
        outcome: Outcome,
    ) -> Result<()>;

    /// Ends a lease and moves the task on. A task that would end without success but has steps to
    /// undo goes to stage `undo` first.
    ///
    /// # Errors
    /// `Conflict` if the lease is over or the task is not in a state that allows the transition;
    /// `Denied` if an author would accept its own work.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn finish(&self, scope: &Scope, lease: &Lease, transition: Transition) -> Result<()>;

    /// Returns the steps of a task that have an undo action and may have had their effect, the
    /// latest first.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn undos(&self, task: TaskId) -> Result<Vec<Undo>>;

    /// Asks a person; asking the same again returns the request as it stands.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn ask(&self, scope: &Scope, request: NewRequest) -> Result<Request>;

    /// Answers a request once and makes its task ready again.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if the choice is not offered; `Conflict` if it has another answer.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn answer(&self, scope: &Scope, id: RequestId, answer: Answer) -> Result<Request>;

    /// Begins a wait, or finds it as an earlier attempt left it, and ends it if one of its sources
    /// has happened: the earliest by the store's time. What ended it is the same for every later
    /// look; a signal is taken by one wait.
    ///
    /// # Errors
    /// `Conflict` if the lease is over or the step waited for something else; `Invalid` for no
    /// sources or too many; `NotFound` for an awakeable that is not the task's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn wait(&self, scope: &Scope, lease: &Lease, wait: NewWait) -> Result<Wait>;

    /// Keeps a signal for a task, in order, until a wait takes it, and returns whether it was not
    /// there yet. A parked task that waits for it becomes ready.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an oversized name or payload; `Conflict` if the task has ended or
    /// the key was used for something else; `Exhausted` if too many are unread.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn signal(&self, scope: &Scope, task: TaskId, signal: Signal) -> Result<bool>;

    /// Answers an awakeable once and makes its task ready; the same answer again changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an oversized value; `Conflict` if it has another answer, its
    /// deadline has passed, or its task has gone on without it.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn resolve(&self, scope: &Scope, id: WaitId, resolution: Resolution) -> Result<Wait>;

    /// Returns the waits of a run that nothing has ended, those due next first, at most
    /// [`Wait::PAGE_MAX`].
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn open_waits(&self, run: RunId) -> Result<Vec<Wait>>;

    /// Returns what a step of the lease's round recorded, if it is done.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn recorded(&self, lease: &Lease, step: StepKey) -> Result<Option<RecordedStep>>;

    /// Gives a done step that drifted another value under the effect the code causes, or forgets it
    /// so that it is done again. What it was stays in the audit record.
    ///
    /// # Errors
    /// `Conflict` if the lease is over; `NotFound` if the step is not done, or not what was
    /// recorded; `Invalid` for an oversized value.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn migrate(&self, scope: &Scope, drifted: Drifted, migration: Migration) -> Result<()>;

    /// Changes the schedules of a run. One that stays as it is keeps the moment it is due next, so
    /// that what was missed is made up for as it says.
    ///
    /// # Errors
    /// `NotFound` if there is none to remove; `Exhausted` beyond
    /// [`crate::Schedule::PER_RUN_MAX`]; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn change_schedules(
        &self,
        scope: &Scope,
        run: RunId,
        change: ScheduleChange,
    ) -> Result<()>;

    /// Returns the schedules of a run by name.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn schedules(&self, run: RunId) -> Result<Vec<Scheduled>>;

    /// Gives due messages of a run to a dispatcher for [`Message::LEASE`]: at most `n_max`, the
    /// oldest of each topic and key. One that is neither acknowledged nor failed by then is given
    /// again, with the same id.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Atomic; messages whose answer is lost come again after their lease.
    async fn take_messages(&self, scope: &Scope, run: RunId, n_max: usize) -> Result<Taken>;

    /// Notes that a message was delivered; it does not come again. Noting it twice changes nothing.
    ///
    /// # Errors
    /// The store's; then the message comes again.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn ack_message(&self, scope: &Scope, message: &Message) -> Result<()>;

    /// Notes that a delivery failed and what is done about it, unless the message was given to
    /// somebody else meanwhile.
    ///
    /// # Errors
    /// The store's; then the message comes again after its lease.
    ///
    /// # Cancel safety
    /// Atomic: the question about a dead letter is asked with it.
    async fn fail_message(
        &self,
        scope: &Scope,
        message: &Message,
        failure: Failure,
        next: Undelivered,
    ) -> Result<()>;

    /// Takes back leases that have ended, applies the default of overdue requests, wakes the tasks of
    /// waits that are due, makes delayed tasks ready whose time has come, moves tasks that waited
    /// long up one priority, and reaps: ends overdue tasks, wakes tasks that wait for nothing,
    /// closes questions of ended tasks; at most one batch of each of the latter three. Submits the
    /// tasks of the schedules of the scope's run that are due.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn sweep(&self, scope: &Scope) -> Result<Swept>;

    /// Returns a task.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn task(&self, id: TaskId) -> Result<Task>;

    /// Returns what agents of a run could claim, by pool and priority.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn queues(&self, run: RunId) -> Result<Vec<Queue>>;

    /// Returns the earliest moment at which [`Journal::sweep`] of the same scope has something to do;
    /// it may lie in the past.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn next_due(&self, scope: &Scope) -> Result<Option<Timestamp>>;

    /// Returns whether a step of the lease's round and stage has a recorded result.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn is_recorded(&self, lease: &Lease, step: &StepKey) -> Result<bool>;

    /// Counts the tasks of a run.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn counts(&self, run: RunId) -> Result<Counts>;

    /// Returns the open requests of a run, oldest first, at most [`Request::PAGE_MAX`].
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn open_requests(&self, run: RunId) -> Result<Vec<Request>>;

    /// Returns audit records in order, at most [`EventQuery::PAGE_MAX`].
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn events(&self, query: EventQuery) -> Result<Vec<Record>>;

    /// Recomputes the whole audit chain and returns its head. As
    /// [`verify_with`](Journal::verify_with) with nothing but the chain to trust.
    ///
    /// # Errors
    /// `Corrupt` naming the first record that was altered, removed, reordered or cut off.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn verify(&self) -> Result<Audit>;

    /// Recomputes the audit chain as told: with whom to trust, from which root, to which root.
    ///
    /// # Errors
    /// `Corrupt` naming the first record that was altered, removed, reordered or cut off, whose
    /// payload was altered or removed without an erasure, or whose root was altered, removed or
    /// forged.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn verify_with(&self, how: Verification) -> Result<Audit>;

    /// Returns the end of the audit chain and what is signed of it, without verifying.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn head(&self) -> Result<Audit>;

    /// Stores a signed root, takes note of it in the chain, and returns the record that does.
    ///
    /// # Errors
    /// `Denied` if the signature does not hold; `Invalid` if the root does not stand for one of the
    /// latest [`Root::LAG_MAX`] records; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn seal(&self, scope: &Scope, root: Root) -> Result<u64>;

    /// Returns the signed roots that stand for more than `after` records, oldest first, at most
    /// [`Root::PAGE_MAX`].
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn roots(&self, after: u64) -> Result<Vec<Root>>;

    /// Erases text that must not be kept and takes note of it in the chain, which stays whole.
    /// [`ErasePayloads`] says what goes and what stays.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if a task has not ended; `Invalid` for the record of an erasure or
    /// of a root; the store's.
    ///
    /// # Cancel safety
    /// Atomic; whether the store's files are cleaned up too is only known from the answer.
    async fn erase(&self, scope: &Scope, what: ErasePayloads) -> Result<Erased>;

    /// Appends an audit record of the host's own.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn note(&self, event: agent_core::Event) -> Result<u64>;

    /// Adds children to a task that is held; those that are there already are not added again.
    /// Returns all in order.
    ///
    /// # Errors
    /// `Conflict` if the lease is over or a known child has other work; `Exhausted` past a limit
    /// of the tree; `Invalid` as [`Journal::submit`] says.
    ///
    /// # Cancel safety
    /// Atomic: all or none.
    async fn spawn(&self, scope: &Scope, lease: &Lease, spawn: Spawn) -> Result<Vec<TaskId>>;

    /// Returns children of a task that is held. If it parks, it goes on when those of them that
    /// have not ended have.
    ///
    /// # Errors
    /// `Conflict` if the lease is over; `NotFound` for what is no child of it.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn join(&self, lease: &Lease, children: Vec<TaskId>) -> Result<Vec<Task>>;

    /// Pauses, resumes or cancels tasks with what they delegated. Tasks that have ended or stand
    /// so already are left alone.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Atomic: all or none.
    async fn control(&self, scope: &Scope, target: Target, control: Control) -> Result<Controlled>;

    /// Starts a run whose tasks stand as those of another stood after an audit record, with the
    /// steps recorded until then. A task that was held is ready; money is not carried; steps that
    /// were in doubt are in doubt under the key the other side knows. Timers and signals are not
    /// carried: what waited for them waits anew; nor are undo actions and deadlines, which are the
    /// origin's.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a record that is not there, or a subject an unfinished run has;
    /// [`crate::Error::HistoryGone`] if a payload that is needed was erased.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn fork(&self, scope: &Scope, run: RunId, at: u64, subject: String) -> Result<Run>;

    /// Returns a task as it stood after an audit record.
    ///
    /// # Errors
    /// `NotFound`, also if it was submitted later; [`crate::Error::HistoryGone`] if a payload that
    /// is needed was erased.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn task_at(&self, id: TaskId, at: u64) -> Result<Task>;

    /// Parks tasks that wait for a pool nobody runs and asks a person, until `deadline`; those
    /// that were asked about before fail. Returns how many there were.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn orphan(
        &self,
        scope: &Scope,
        run: RunId,
        pool: String,
        deadline: Timestamp,
    ) -> Result<u64>;

    /// Lists tasks of a run that should have moved and did not: none after a sweep.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn stuck(&self, run: RunId) -> Result<Vec<Stuck>>;

    /// Enters agents into the registry, or brings them up to date.
    ///
    /// # Errors
    /// `Denied` if one of them is retired: then none is entered; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn enroll(&self, scope: &Scope, agents: Vec<NewAgent>) -> Result<()>;

    /// Returns agents by name, at most [`AgentQuery::PAGE_MAX`], with what they spent of an asset.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn agents(&self, query: AgentQuery, asset: Asset) -> Result<Vec<AgentRecord>>;

    /// Retires an agent, whose identity cannot claim from then on, and returns it as it was.
    /// Retiring it again changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it holds a task; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn retire(
        &self,
        scope: &Scope,
        id: AgentId,
        asset: Asset,
        reason: String,
    ) -> Result<AgentRecord>;

    /// Counts the leased tasks of a run by pool.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn held(&self, run: RunId) -> Result<BTreeMap<String, u64>>;

    /// Records that a run goes on under another configuration; `payload` says what changes.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn respec(&self, scope: &Scope, run: RunId, spec: Digest, payload: Value) -> Result<()>;
}
