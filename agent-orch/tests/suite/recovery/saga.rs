//! A buyer whose steps can be refunded, and a log of what was done and undone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::{Effect, EffectClass, ErrorKind, Failure, Retry};
use agent_orch::{
    Acted, Action, Chaos, Class, Ctx, Error, Fleet, PoolRecovery, RecoveryTable, Result, Rung,
    Stack, Step, Supervisor, Undo,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::common::{Does, Rig, fleet, staff, submit};

/// What was done and undone, in order.
pub(super) type Log = Arc<Mutex<Vec<String>>>;

pub(super) fn failure(kind: ErrorKind) -> Error {
    Error::Agent(Failure::new(kind, Retry::Safe, "test.failed", "no", "none"))
}

pub(super) fn tool(what: &str, class: EffectClass) -> Effect {
    Effect::new("tool.call", what, class, json!({ "what": what }))
}

pub(super) fn refund(what: &str) -> Effect {
    Effect::new(
        "pay.refund",
        what,
        EffectClass::Idempotent,
        json!({ "what": what }),
    )
}

/// Does a step that can be refunded, and notes it.
pub(super) async fn pay(cx: &Ctx, log: &Log, what: &str) -> Result<String> {
    let (log, name) = (Arc::clone(log), what.to_owned());
    let step = Step::new(what, tool(what, EffectClass::Idempotent)).with_undo(refund(what));
    cx.step(step, |_scope| async move {
        log.lock().push(name.clone());
        Ok(Acted::new(name))
    })
    .await
}

/// Notes what is undone; an undo action that is repeated under its key is noted once.
pub(super) fn undoing(supervisor: Supervisor, log: &Log, n_failures: u32) -> Supervisor {
    let (log, fails) = (Arc::clone(log), Arc::new(AtomicU32::new(n_failures)));
    supervisor.with_undo("pay.refund", move |_scope, undo: Undo| {
        let (log, fails) = (Arc::clone(&log), Arc::clone(&fails));
        async move {
            if fails.load(Ordering::SeqCst) > 0 {
                fails.fetch_sub(1, Ordering::SeqCst);
                return Err(failure(ErrorKind::Unavailable));
            }
            let result = undo
                .result
                .map_or("?".to_owned(), |result| result.to_string());
            log.lock().push(format!("undo {} {result}", undo.step.name));
            Ok(Acted::new(Value::Null))
        }
    })
}

/// Pays twice, then fails with a bug.
fn buyer(log: &Log) -> Does {
    let log = Arc::clone(log);
    Does::new(move |cx, _task| {
        let log = Arc::clone(&log);
        Box::pin(async move {
            pay(cx, &log, "one").await?;
            pay(cx, &log, "two").await?;
            Err(failure(ErrorKind::Internal))
        })
    })
}

pub(super) fn with_recovery(edit: impl FnOnce(&mut PoolRecovery)) -> Fleet {
    let mut fleet = fleet();
    let mut recovery = PoolRecovery::default();
    recovery.ladders = fails_at_once();
    edit(&mut recovery);
    fleet.pools.get_mut("work").unwrap().recovery = recovery;
    fleet
}

fn fails_at_once() -> RecoveryTable {
    let fail = vec![Rung::new(Action::Fail, 1)];
    RecoveryTable::empty().with(Class::Bug, fail).unwrap()
}

pub(super) struct Saga {
    pub(super) stack: Stack,
    pub(super) handle: agent_orch::RunHandle,
    pub(super) log: Log,
}

/// Starts the buyer.
pub(super) async fn saga(rig: &Rig, fleet: Fleet, chaos: Chaos, n_failures: u32) -> Saga {
    let log = Log::default();
    let work = buyer(&log);
    start(rig, fleet, (work, log), chaos, n_failures).await
}

/// Starts agents that do what `work` makes of the log; nothing else goes wrong.
pub(super) async fn saga_of(rig: &Rig, work: impl FnOnce(Log) -> Does) -> Saga {
    let log = Log::default();
    let work = work(Arc::clone(&log));
    start(rig, with_recovery(|_| {}), (work, log), Chaos::new(0), 0).await
}

async fn start(
    rig: &Rig,
    fleet: Fleet,
    (work, log): (Does, Log),
    chaos: Chaos,
    n_failures: u32,
) -> Saga {
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            staff(undoing(supervisor, &log, n_failures), work).with_chaos(chaos)
        })
        .await;
    submit(&handle, 1).await;
    Saga { stack, handle, log }
}
