//! The contract over the store: each method is one transaction of the modules beside this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{AgentId, Asset, Digest, Event, Failure, RunId, Scope, TaskId, Timestamp};
use async_trait::async_trait;
use serde_json::Value;

use super::{
    Sqlite, agents, audit, claim, configure, control, drift, due, events, finish, fork, outbox,
    outcomes, queue, reaper, requests, runs, schedules, signals, steps, submit, sweep, tasks,
    trees, undo, waits,
};
use crate::audit::{Audit, ErasePayloads, Erased, EventQuery, Record, Root, Verification};
use crate::drift::{Drifted, Migration, RecordedStep};
use crate::error::Result;
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

#[async_trait]
impl Journal for Sqlite {
    async fn open_run(&self, scope: &Scope, run: NewRun) -> Result<Run> {
        let (scope, env, durability) = (scope.clone(), self.env.clone(), self.durability());
        self.write(move |tx| runs::open(tx, &env, &scope, &run, durability))
            .await
    }

    async fn end_run(&self, scope: &Scope, run: RunId) -> Result<()> {
        let scope = scope.clone();
        self.write(move |tx| runs::end(tx, &scope, run)).await
    }

    async fn submit(&self, scope: &Scope, run: RunId, tasks: Vec<NewTask>) -> Result<u64> {
        let scope = scope.clone();
        self.write(move |tx| submit::submit(tx, &scope, run, &tasks))
            .await
    }

    async fn configure(&self, scope: &Scope, run: RunId, scheduling: &Scheduling) -> Result<()> {
        scheduling.check().map_err(Box::new)?;
        let (scope, scheduling) = (scope.clone(), scheduling.clone());
        self.write(move |tx| configure::configure(tx, &scope, run, &scheduling))
            .await
    }

    async fn claim(&self, scope: &Scope, request: ClaimRequest) -> Result<Option<Claim>> {
        let look = request.clone();
        if !self.db.read(move |tx| claim::may_find(tx, &look)).await? {
            return Ok(None);
        }
        let (scope, env) = (scope.clone(), self.env.clone());
        let claimed = self
            .write(move |tx| {
                let Some(claim) = claim::claim(tx, &env, &scope, &request)? else {
                    return Ok(None);
                };
                let steps = steps::names(tx, &claim.lease)?;
                Ok(Some((claim, steps)))
            })
            .await?;
        Ok(claimed.map(|(claim, steps)| {
            self.seen.admit(&claim.lease, steps, self.db.now());
            claim
        }))
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<Timestamp> {
        let renewed = lease.clone();
        let until = self.write(move |tx| claim::heartbeat(tx, &renewed)).await?;
        self.seen.extend(lease, until);
        Ok(until)
    }

    async fn intend(&self, scope: &Scope, lease: &Lease, intent: Intent) -> Result<Intended> {
        let (scope, lease) = (scope.clone(), lease.clone());
        let prepared = steps::Prepared::new(&lease, intent)?;
        if self.seen.is_fresh(&lease, prepared.step(), self.db.now()) && !prepared.is_durable {
            return Ok(prepared.go());
        }
        if prepared.is_durable {
            self.write(move |tx| steps::intend(tx, &scope, &lease, prepared))
                .await
        } else {
            self.db
                .read(move |tx| steps::peek(tx, &lease, prepared))
                .await
        }
    }

    async fn settle(
        &self,
        scope: &Scope,
        lease: &Lease,
        pass: &Pass,
        outcome: Outcome,
    ) -> Result<()> {
        let (scope, lease, pass) = (scope.clone(), lease.clone(), pass.clone());
        let mut outcome = outcome;
        let messages = std::mem::take(&mut outcome.messages);
        let is_done = outcome.result.is_ok();
        let settlement = outcomes::Settlement::new(pass.clone(), outcome)?;
        self.write(move |tx| {
            outcomes::settle(tx, &scope, &lease, &settlement)?;
            if is_done {
                outbox::add(tx, &scope, &lease, &pass, &messages)?;
            }
            Ok(())
        })
        .await
    }

    async fn finish(&self, scope: &Scope, lease: &Lease, transition: Transition) -> Result<()> {
        self.seen.forget(lease);
        let (scope, lease) = (scope.clone(), lease.clone());
        self.write(move |tx| finish::finish(tx, &scope, &lease, transition))
            .await
    }

    async fn undos(&self, task: TaskId) -> Result<Vec<Undo>> {
        self.db.read(move |tx| undo::list(tx, task)).await
    }

    async fn ask(&self, scope: &Scope, request: NewRequest) -> Result<Request> {
        let scope = scope.clone();
        self.write(move |tx| requests::ask(tx, &scope, &request))
            .await
    }

    async fn answer(&self, scope: &Scope, id: RequestId, answer: Answer) -> Result<Request> {
        let scope = scope.clone();
        self.write(move |tx| requests::answer(tx, &scope, id, &answer))
            .await
    }

    async fn sweep(&self, scope: &Scope) -> Result<Swept> {
        let (scope, looked) = (scope.clone(), Arc::clone(&self.looked));
        self.write(move |tx| sweep::sweep(tx, &scope, &looked))
            .await
    }

    async fn wait(&self, scope: &Scope, lease: &Lease, wait: NewWait) -> Result<Wait> {
        let (scope, lease) = (scope.clone(), lease.clone());
        self.write(move |tx| waits::wait(tx, &scope, &lease, &wait))
            .await
    }

    async fn signal(&self, scope: &Scope, task: TaskId, signal: Signal) -> Result<bool> {
        let scope = scope.clone();
        self.write(move |tx| signals::send(tx, &scope, task, &signal))
            .await
    }

    async fn resolve(&self, scope: &Scope, id: WaitId, resolution: Resolution) -> Result<Wait> {
        let scope = scope.clone();
        self.write(move |tx| waits::resolve(tx, &scope, id, &resolution))
            .await
    }

    async fn recorded(&self, lease: &Lease, step: StepKey) -> Result<Option<RecordedStep>> {
        let lease = lease.clone();
        self.db
            .read(move |tx| drift::recorded(tx, &lease, &step))
            .await
    }

    async fn migrate(&self, scope: &Scope, drifted: Drifted, migration: Migration) -> Result<()> {
        let scope = scope.clone();
        self.write(move |tx| drift::migrate(tx, &scope, &drifted, &migration))
            .await
    }

    async fn change_schedules(
        &self,
        scope: &Scope,
        run: RunId,
        change: ScheduleChange,
    ) -> Result<()> {
        let scope = scope.clone();
        self.write(move |tx| schedules::change(tx, &scope, run, &change))
            .await
    }

    async fn schedules(&self, run: RunId) -> Result<Vec<Scheduled>> {
        self.db.read(move |tx| schedules::list(tx, run)).await
    }

    async fn take_messages(&self, _scope: &Scope, run: RunId, n_max: usize) -> Result<Taken> {
        self.write(move |tx| outbox::take(tx, run, n_max)).await
    }

    async fn ack_message(&self, scope: &Scope, message: &Message) -> Result<()> {
        let (scope, message) = (scope.clone(), message.clone());
        self.write(move |tx| outbox::ack(tx, &scope, &message))
            .await
    }

    async fn fail_message(
        &self,
        scope: &Scope,
        message: &Message,
        failure: Failure,
        next: Undelivered,
    ) -> Result<()> {
        let (scope, message) = (scope.clone(), message.clone());
        self.write(move |tx| outbox::fail(tx, &scope, &message, &failure, &next))
            .await
    }

    async fn open_waits(&self, run: RunId) -> Result<Vec<Wait>> {
        self.db.read(move |tx| waits::open(tx, run)).await
    }

    async fn queues(&self, run: RunId) -> Result<Vec<Queue>> {
        self.db.read(move |tx| queue::queues(tx, run)).await
    }

    async fn next_due(&self, scope: &Scope) -> Result<Option<Timestamp>> {
        let scope = scope.clone();
        self.db.read(move |tx| due::next(tx, &scope)).await
    }

    async fn is_recorded(&self, lease: &Lease, step: &StepKey) -> Result<bool> {
        let (lease, step) = (lease.clone(), step.clone());
        self.db
            .read(move |tx| steps::is_recorded(tx, &lease, &step))
            .await
    }

    async fn task(&self, id: TaskId) -> Result<Task> {
        self.db.read(move |tx| tasks::load(tx, id)).await
    }

    async fn counts(&self, run: RunId) -> Result<Counts> {
        self.db.read(move |tx| tasks::counts(tx, run)).await
    }

    async fn open_requests(&self, run: RunId) -> Result<Vec<Request>> {
        self.db.read(move |tx| requests::open(tx, run)).await
    }

    async fn events(&self, query: EventQuery) -> Result<Vec<Record>> {
        self.db.read(move |tx| events::page(tx, &query)).await
    }

    async fn verify(&self) -> Result<Audit> {
        self.verify_with(Verification::new()).await
    }

    async fn verify_with(&self, how: Verification) -> Result<Audit> {
        self.db.read(move |tx| events::verify(tx, how)).await
    }

    async fn head(&self) -> Result<Audit> {
        self.db.read(audit::head).await
    }

    async fn seal(&self, scope: &Scope, root: Root) -> Result<u64> {
        let scope = scope.clone();
        self.write(move |tx| audit::seal(tx, &scope, &root)).await
    }

    async fn roots(&self, after: u64) -> Result<Vec<Root>> {
        self.db.read(move |tx| audit::roots(tx, after)).await
    }

    async fn erase(&self, scope: &Scope, what: ErasePayloads) -> Result<Erased> {
        let scope = scope.clone();
        let erased = self.write(move |tx| audit::erase(tx, &scope, what)).await?;
        Ok(erased.with_scrubbed(self.scrub().await?))
    }

    async fn note(&self, event: Event) -> Result<u64> {
        self.write(move |tx| events::note(tx, event)).await
    }

    async fn enroll(&self, scope: &Scope, agents: Vec<NewAgent>) -> Result<()> {
        let scope = scope.clone();
        self.write(move |tx| agents::enroll(tx, &scope, &agents))
            .await
    }

    async fn agents(&self, query: AgentQuery, asset: Asset) -> Result<Vec<AgentRecord>> {
        self.db
            .read(move |tx| agents::page(tx, &query, asset))
            .await
    }

    async fn retire(
        &self,
        scope: &Scope,
        id: AgentId,
        asset: Asset,
        reason: String,
    ) -> Result<AgentRecord> {
        let scope = scope.clone();
        self.write(move |tx| agents::retire(tx, &scope, id, asset, &reason))
            .await
    }

    async fn held(&self, run: RunId) -> Result<BTreeMap<String, u64>> {
        self.db.read(move |tx| agents::held(tx, run)).await
    }

    async fn respec(&self, scope: &Scope, run: RunId, spec: Digest, payload: Value) -> Result<()> {
        let scope = scope.clone();
        self.write(move |tx| runs::respec(tx, &scope, run, spec, payload))
            .await
    }

    async fn spawn(&self, scope: &Scope, lease: &Lease, spawn: Spawn) -> Result<Vec<TaskId>> {
        let (scope, lease) = (scope.clone(), lease.clone());
        self.write(move |tx| trees::spawn(tx, &scope, &lease, &spawn))
            .await
    }

    async fn join(&self, lease: &Lease, children: Vec<TaskId>) -> Result<Vec<Task>> {
        let lease = lease.clone();
        self.write(move |tx| trees::join(tx, &lease, &children))
            .await
    }

    async fn control(&self, scope: &Scope, target: Target, control: Control) -> Result<Controlled> {
        let scope = scope.clone();
        let controlled = self
            .write(move |tx| control::control(tx, &scope, target, &control))
            .await;
        // Whoever holds a lease is to hear of it at the next step.
        self.seen.clear();
        controlled
    }

    async fn fork(&self, scope: &Scope, run: RunId, at: u64, subject: String) -> Result<Run> {
        let (scope, env, durability) = (scope.clone(), self.env.clone(), self.durability());
        self.write(move |tx| {
            fork::fork(
                tx,
                &env,
                &scope,
                fork::Origin { run, at },
                &subject,
                durability,
            )
        })
        .await
    }

    async fn task_at(&self, id: TaskId, at: u64) -> Result<Task> {
        self.db.read(move |tx| fork::task_at(tx, id, at)).await
    }

    async fn orphan(
        &self,
        scope: &Scope,
        run: RunId,
        pool: String,
        deadline: Timestamp,
    ) -> Result<u64> {
        let scope = scope.clone();
        self.write(move |tx| reaper::orphans(tx, &scope, run, &pool, deadline))
            .await
    }

    async fn stuck(&self, run: RunId) -> Result<Vec<Stuck>> {
        self.db.read(move |tx| reaper::stuck(tx, run)).await
    }
}
