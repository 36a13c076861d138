//! The handover of a task under every kind of schedule that `shuttle` tries: its holder renews the
//! lease, intends, settles and finishes while the lease is taken back and given to another.
//!
//! The journal runs each call as one transaction on the store's one writer, so a call is modeled
//! as one critical section; what is decided inside is the crate's own pure core. The planted bug
//! is the one that transactions prevent: the fence is looked at in one and the write made in the
//! next.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::{AgentId, AttemptId, Effect, EffectClass, Fence, RunId, Timestamp};
use agent_orch::machine::{
    self, IntentDecision, KnownStep, OutcomeDecision, StepState, decide_intent, decide_outcome,
    step_key,
};
use agent_orch::{
    Ended, Escalation, Lease, NewTask, Pass, Policy, RecoveryTable, Status, StepKey, Task, decide,
};
use serde_json::{Value, json};
use shuttle::sync::{Arc, Mutex};
use shuttle::{check_pct, check_random, thread};

const SCHEDULES: usize = 3_000;
const LEASE_MS: i64 = 30;

struct Store {
    task: Task,
    fence: u64,
    until_ms: i64,
    now_ms: i64,
    step: Option<KnownStep>,
    /// The fences of accepted outcomes and ends.
    settled: Vec<u64>,
    finished: Vec<u64>,
}

impl Store {
    fn holds(&self, lease: &Lease) -> bool {
        let is_current = self.fence == lease.fence.0 && self.until_ms > self.now_ms;
        is_current && self.task.status == Status::Leased
    }
}

#[derive(Clone)]
struct Journal {
    store: Arc<Mutex<Store>>,
    /// Whether the fence is checked in the transaction that writes.
    is_atomic: bool,
}

impl Journal {
    fn new(is_atomic: bool) -> Self {
        let task = NewTask::new("t", "work", Value::Null).as_task(RunId::from_bits(1));
        let store = Store {
            task,
            fence: 0,
            until_ms: 0,
            now_ms: 0,
            step: None,
            settled: Vec::new(),
            finished: Vec::new(),
        };
        Self {
            store: Arc::new(Mutex::new(store)),
            is_atomic,
        }
    }

    fn claim(&self, owner: u128) -> Option<(Task, Lease)> {
        let mut store = self.store.lock().unwrap();
        if store.task.status != Status::Ready || store.task.pool != "work" {
            return None;
        }
        store.fence += 1;
        store.until_ms = store.now_ms + LEASE_MS;
        store.task.status = Status::Leased;
        let until = Timestamp::from_unix_ms(store.until_ms);
        let (owner, attempt) = (AgentId::from_bits(owner), AttemptId::from_bits(owner));
        let lease = Lease::new(&store.task, Fence(store.fence), owner, attempt, until);
        Some((store.task.clone(), lease))
    }

    /// Runs a write under a lease; nothing if the lease is over.
    fn write<T>(&self, lease: &Lease, write: impl FnOnce(&mut Store) -> T) -> Option<T> {
        let mut store = self.store.lock().unwrap();
        if !store.holds(lease) {
            return None;
        }
        if !self.is_atomic {
            drop(store);
            thread::yield_now();
            store = self.store.lock().unwrap();
        }
        Some(write(&mut store))
    }

    fn heartbeat(&self, lease: &Lease) -> bool {
        let renew = |store: &mut Store| store.until_ms = store.now_ms + LEASE_MS;
        self.write(lease, renew).is_some()
    }

    /// Makes the one step of the task and ends the attempt. Returns whether it came to its end.
    fn attempt(&self, task: &Task, lease: &Lease) -> Option<()> {
        let effect = Effect::new("tool.call", "a", EffectClass::Idempotent, json!(1));
        let (digest, step) = (effect.digest().unwrap(), StepKey::new("s", 0));
        let key = step_key(lease, &step, &digest).unwrap();
        let mut pass = Pass::new(step, key, effect, digest);
        let said = self.write(lease, |store| {
            let said = decide_intent(store.step.as_ref(), &digest, pass.class);
            if let IntentDecision::Go { n_try, .. } = said {
                pass.n_try = n_try;
                pass.intent = Some(1);
                store.step = Some(KnownStep::new(digest, StepState::Intended, n_try));
            }
            said
        })?;
        if said != IntentDecision::Recorded {
            let settled = self.write(lease, |store| {
                let decision = decide_outcome(store.step.as_ref(), &pass);
                let is_recorded = matches!(decision, OutcomeDecision::Record { .. });
                if is_recorded {
                    store.step = Some(KnownStep::new(digest, StepState::Done, pass.n_try));
                    store.settled.push(lease.fence.0);
                    assert!(store.holds(lease), "an outcome under a lease that is over");
                }
                is_recorded
            });
            assert!(settled?, "an open try takes its outcome");
        }
        let (recovery, escalation) = (RecoveryTable::default(), Escalation::default());
        let policy = Policy::new(&recovery, "verify", &escalation);
        let next = decide(task, Ended::done(Value::Null), &policy);
        self.write(lease, |store| {
            assert!(store.holds(lease), "an end under a lease that is over");
            machine::apply(&mut store.task, lease, next.transition).unwrap();
            store.finished.push(lease.fence.0);
        })
    }

    /// Time passes and ended leases are taken back.
    fn sweep(&self, after_ms: i64) {
        let mut store = self.store.lock().unwrap();
        store.now_ms += after_ms;
        if store.task.status == Status::Leased && store.until_ms <= store.now_ms {
            store.task.status = Status::Ready;
        }
    }
}

fn handover(is_atomic: bool) {
    let journal = Journal::new(is_atomic);
    let (task, lease) = journal.claim(1).unwrap();
    let (own, held) = (journal.clone(), lease.clone());
    let first = thread::spawn(move || own.attempt(&task, &held).is_some());
    let own = journal.clone();
    let renewer = thread::spawn(move || own.heartbeat(&lease));
    let own = journal.clone();
    let sweeper = thread::spawn(move || (0..3).for_each(|_| own.sweep(LEASE_MS / 2 + 1)));
    let own = journal.clone();
    let second = thread::spawn(move || {
        let claim = (0..3).find_map(|_| {
            thread::yield_now();
            own.claim(2)
        });
        claim.is_some_and(|(task, lease)| own.attempt(&task, &lease).is_some())
    });
    let by_first = first.join().unwrap();
    let by_second = second.join().unwrap();
    renewer.join().unwrap();
    sweeper.join().unwrap();
    let store = journal.store.lock().unwrap();
    assert!(!(by_first && by_second), "both holders ended the attempt");
    assert!(
        store.settled.len() <= 1,
        "two outcomes: {:?}",
        store.settled
    );
    assert!(store.finished.len() <= 1, "two ends: {:?}", store.finished);
}

#[test]
fn a_task_has_one_holder_in_every_schedule() {
    check_random(|| handover(true), SCHEDULES);
    check_pct(|| handover(true), SCHEDULES, 3);
}

#[test]
#[should_panic(expected = "under a lease that is over")]
fn a_fence_checked_before_the_transaction_is_found() {
    check_random(|| handover(false), SCHEDULES);
}
