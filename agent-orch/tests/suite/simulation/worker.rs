//! A worker: claims, intends, acts, settles, finishes, and makes of each answer what the door and
//! the runner make of it.

use std::sync::LazyLock;

use agent_core::{AgentId, Amount, Effect, EffectClass, ErrorKind, Failure, Retry, Timestamp};
use agent_orch::{
    Claim, Ended, Intended, Intent, NewRequest, Pass, Policy, Stage, StepKey, Transition, decide,
};
use agent_pay::BudgetPath;
use serde_json::{Value, json};

use crate::simulation::bug::Bug;
use crate::simulation::event::Event;
use crate::simulation::oracle;
use crate::simulation::sim::Sim;
use crate::simulation::store::{Answer, Command};

/// How often a call is repeated whose answer is missing.
const REPEATS_MAX: u32 = 2;

static BUDGET: LazyLock<BudgetPath> = LazyLock::new(|| BudgetPath::new("sim").unwrap());
static COST_MAX: LazyLock<Amount> = LazyLock::new(|| "3 USD".parse().unwrap());

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    id: AgentId,
    /// Rises when it starts anew: what was meant for an earlier life is not heard.
    pub(crate) life: u64,
    pub(crate) paused_until_ms: u64,
    claim: Option<Claim>,
    /// When its lease ends, as far as it knows.
    until: Timestamp,
    /// Which step it is at.
    step: u32,
    /// The permission it holds, between intent and outcome.
    pass: Option<Pass>,
    /// How the attempt ends once its question is asked.
    ends_with: Option<Box<Transition>>,
    /// The call it waits for: number, command, repeats.
    waits: Option<(u64, Command, u32)>,
    n_calls: u64,
}

impl Worker {
    pub(crate) const fn new(id: AgentId) -> Self {
        Self {
            id,
            life: 0,
            paused_until_ms: 0,
            claim: None,
            until: Timestamp::EPOCH,
            step: 0,
            pass: None,
            ends_with: None,
            waits: None,
            n_calls: 0,
        }
    }

    /// Ends this life; whatever it knew is forgotten.
    pub(crate) fn stop(&mut self) {
        let (id, life, n_calls) = (self.id, self.life + 1, self.n_calls);
        *self = Self {
            life,
            n_calls,
            ..Self::new(id)
        };
    }

    /// Notes a call under way and returns its number.
    pub(crate) fn next_call(&mut self, command: Command) -> u64 {
        self.n_calls += 1;
        let repeats = match &self.waits {
            Some((_, _, repeats)) => *repeats,
            None => 0,
        };
        // A renewal is not waited for.
        if !matches!(command, Command::Heartbeat { .. }) {
            self.waits = Some((self.n_calls, command, repeats));
        }
        self.n_calls
    }
}

/// The steps of an attempt: how many, and of which class each.
fn class_of(task: &str, step: u32) -> Option<EffectClass> {
    const CLASSES: [EffectClass; 4] = [
        EffectClass::Idempotent,
        EffectClass::Opaque,
        EffectClass::Probeable,
        EffectClass::Pure,
    ];
    let from = task.bytes().last().map_or(0, u32::from);
    let n_steps = 2 + from % 2;
    let n = usize::try_from((from + step) % 4).unwrap();
    (step < n_steps).then(|| CLASSES[n])
}

fn failure(retry: Retry, code: &'static str) -> Failure {
    Failure::new(ErrorKind::Unavailable, retry, code, "away", "wait")
}

impl Sim {
    /// Something happens to a worker that is not paused.
    pub(crate) fn worker_event(&mut self, n: usize, event: Event) -> Result<(), String> {
        let own_life = self.workers[n].life;
        match event {
            Event::Look { life, .. } if life == own_life && self.workers[n].waits.is_none() => {
                let pool = if self.chance.percent(50) {
                    "work"
                } else {
                    "verify"
                };
                let agent = self.workers[n].id;
                self.workers[n].claim = None;
                self.call(n, Command::Claim { agent, pool });
            }
            Event::Act { life, .. } if life == own_life => return self.act(n),
            Event::Renew { life, fence, .. } if life == own_life => self.renew(n, fence),
            Event::GiveUp { life, call, .. } if life == own_life => self.give_up(n, call),
            Event::Hear {
                life, call, answer, ..
            } if life == own_life => {
                return self.hear(n, call, answer);
            }
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self, n: usize, call: u64, answer: Answer) -> Result<(), String> {
        if let Answer::Until(until) = answer {
            self.workers[n].until = until;
            return Ok(());
        }
        let waits = self.workers[n]
            .waits
            .take_if(|(waited, ..)| *waited == call);
        let Some((_, command, _)) = waits else {
            return Ok(());
        };
        oracle::told(&command, &answer)?;
        match (command, answer) {
            (Command::Claim { .. }, Answer::Claimed(Some(claim))) => self.begin(n, *claim),
            (Command::Finish { .. } | Command::Claim { .. }, _) | (_, Answer::Lost) => {
                self.leave(n);
            }
            (Command::Intend { .. }, Answer::Intended(said)) => self.go_on(n, *said),
            (Command::Settle { result: Ok(_), .. }, Answer::Done) => {
                self.workers[n].step += 1;
                self.next_step(n);
            }
            (
                Command::Settle {
                    result: Err(failure),
                    ..
                },
                Answer::Done,
            ) => {
                match failure.code.as_str() {
                    // What was in doubt did not happen: it is intended anew.
                    "orch.did_not_happen" => self.next_step(n),
                    _ => self.end(n, Ended::failed(failure)),
                }
            }
            (Command::Ask { .. }, Answer::Asked(choice)) => self.asked(n, choice),
            (_, Answer::Refused(failure)) => self.end(n, Ended::failed(*failure)),
            (command, answer) => return Err(format!("{command:?} was answered {answer:?}")),
        }
        Ok(())
    }

    /// An answer is missing: the call is repeated, or what it was about has failed.
    fn give_up(&mut self, n: usize, call: u64) {
        let waits = self.workers[n]
            .waits
            .take_if(|(waited, ..)| *waited == call);
        let Some((_, command, repeats)) = waits else {
            return;
        };
        if repeats < REPEATS_MAX && self.chance.percent(60) {
            self.workers[n].waits = Some((call, command.clone(), repeats + 1));
            self.call(n, command);
            return;
        }
        match command {
            Command::Claim { .. } | Command::Finish { .. } => self.leave(n),
            _ => self.end(n, Ended::failed(failure(Retry::Unknown, "sim.no_answer"))),
        }
    }

    fn leave(&mut self, n: usize) {
        let worker = &mut self.workers[n];
        (worker.claim, worker.pass) = (None, None);
        let life = worker.life;
        self.after(4_000, Event::Look { worker: n, life });
    }

    fn begin(&mut self, n: usize, claim: Claim) {
        let worker = &mut self.workers[n];
        let (life, fence) = (worker.life, claim.lease.fence.0);
        (worker.until, worker.step, worker.pass) = (claim.lease.until, 0, None);
        worker.claim = Some(claim);
        self.after(
            10_000,
            Event::Renew {
                worker: n,
                life,
                fence,
            },
        );
        self.next_step(n);
    }

    fn renew(&mut self, n: usize, fence: u64) {
        let Some(claim) = &self.workers[n].claim else {
            return;
        };
        if claim.lease.fence.0 == fence {
            let (lease, life) = (claim.lease.clone(), self.workers[n].life);
            self.call(n, Command::Heartbeat { lease });
            self.after(
                10_000,
                Event::Renew {
                    worker: n,
                    life,
                    fence,
                },
            );
        }
    }

    /// Intends the next step, or ends the attempt after the last.
    fn next_step(&mut self, n: usize) {
        let Some(claim) = self.workers[n].claim.clone() else {
            return;
        };
        let (step, key) = (self.workers[n].step, claim.task.key.clone());
        let class = match claim.task.stage {
            Stage::Work => class_of(&key, step),
            _ => (step == 0).then_some(EffectClass::Pure),
        };
        let Some(class) = class else {
            let ended = match claim.task.stage {
                Stage::Work => Ended::done(json!(key)),
                _ if self.chance.percent(15) && self.has_faults() => Ended::refused(json!("no")),
                _ => Ended::accepted(Value::Null),
            };
            return self.end(n, ended);
        };
        let mut effect = Effect::new("tool.call", "outside", class, json!([key, step]));
        if step == 0 && class != EffectClass::Pure {
            effect = effect.with_cost_max(*COST_MAX);
        }
        let intent = Intent::new(StepKey::new("s", step), effect).with_budget(BUDGET.clone());
        let (lease, intent) = (claim.lease, Box::new(intent));
        self.call(n, Command::Intend { lease, intent });
    }

    fn go_on(&mut self, n: usize, said: Intended) {
        match said {
            Intended::Recorded(_) => {
                self.workers[n].step += 1;
                self.next_step(n);
            }
            Intended::Go(pass) => {
                self.workers[n].pass = Some(pass);
                let life = self.workers[n].life;
                self.after(6_000, Event::Act { worker: n, life });
            }
            Intended::InDoubt(pass) if pass.class == EffectClass::Probeable => {
                let happened = self.outside.knows(pass.key.as_str());
                self.resolve(n, pass, happened);
            }
            Intended::InDoubt(pass) => self.ask(n, pass),
            _ => {}
        }
    }

    /// Causes the effect, unless the lease has ended by the worker's own clock.
    fn act(&mut self, n: usize) -> Result<(), String> {
        let Some(pass) = self.workers[n].pass.take() else {
            return Ok(());
        };
        let is_over = self.workers[n].until <= self.now();
        if is_over && self.bug != Some(Bug::ActWithoutLease) {
            self.leave(n);
            return Ok(());
        }
        let (breaks, key) = (self.has_faults(), pass.key.as_str().to_owned());
        let result = match self.chance.below(20) {
            0 if breaks => Err(failure(Retry::Safe, "sim.error")),
            1 if breaks => Err(failure(Retry::Unknown, "sim.lost_request")),
            drawn => {
                self.outside.act(&key, pass.class)?;
                match drawn {
                    2 if breaks => Err(failure(Retry::Unknown, "sim.lost_answer")),
                    _ => Ok(json!(key)),
                }
            }
        };
        self.settle(n, pass, result);
        Ok(())
    }

    fn settle(&mut self, n: usize, pass: Pass, result: Result<Value, Failure>) {
        if let Some(claim) = &self.workers[n].claim {
            let (lease, pass) = (claim.lease.clone(), Box::new(pass));
            self.call(
                n,
                Command::Settle {
                    lease,
                    pass,
                    result,
                },
            );
        }
    }

    /// Records what was found out about an effect in doubt.
    fn resolve(&mut self, n: usize, pass: Pass, happened: bool) {
        let result = if happened {
            Ok(json!(pass.key.as_str()))
        } else {
            Err(failure(Retry::Safe, "orch.did_not_happen"))
        };
        self.settle(n, pass, result);
    }

    fn ask(&mut self, n: usize, pass: Pass) {
        let Some(claim) = self.workers[n].claim.clone() else {
            return;
        };
        let (task, lease) = (&claim.task, &claim.lease);
        let name = format!(
            "{}/in_doubt/{}/{}",
            lease.round, pass.step.ordinal, pass.n_try
        );
        let options = ["it happened", "repeat it"];
        let deadline = self.now().after(self.escalation.deadline);
        let mut request = NewRequest::new(task.run, task.id, name, "?", &options, deadline);
        request.details = json!({ "key": pass.key.as_str() });
        self.workers[n].pass = Some(pass);
        let request = Box::new(request);
        self.call(n, Command::Ask { request });
    }

    fn asked(&mut self, n: usize, choice: Option<String>) {
        let pass = self.workers[n].pass.take();
        match (choice, pass) {
            (Some(choice), Some(pass)) => self.resolve(n, pass, choice == "it happened"),
            // The question of a failed attempt is asked; the attempt can end.
            (_, None) => self.finish(n),
            (None, Some(_)) => self.end(n, Ended::Waiting),
        }
    }

    /// Ends an attempt as the recovery table says.
    fn end(&mut self, n: usize, ended: Ended) {
        let Some(claim) = self.workers[n].claim.clone() else {
            return self.leave(n);
        };
        self.workers[n].pass = None;
        let seed = self.chance.next();
        let mut policy = Policy::new(&self.recovery, "verify", &self.escalation);
        (policy.now, policy.seed, policy.has_others) = (self.now(), seed, true);
        let next = decide(&claim.task, ended, &policy);
        let (lease, transition) = (claim.lease, Box::new(next.transition));
        match next.request {
            Some(request) => {
                self.workers[n].ends_with = Some(transition);
                let request = Box::new(request);
                self.call(n, Command::Ask { request });
            }
            None => self.call(n, Command::Finish { lease, transition }),
        }
    }

    fn finish(&mut self, n: usize) {
        let transition = self.workers[n].ends_with.take();
        if let (Some(transition), Some(claim)) = (transition, &self.workers[n].claim) {
            let lease = claim.lease.clone();
            self.call(n, Command::Finish { lease, transition });
        }
    }
}
