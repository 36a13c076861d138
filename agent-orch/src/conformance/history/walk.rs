//! A random walk: an agent, a host and a person who do whatever is possible.

use std::time::Duration;

use agent_core::{EffectClass, EntropyExt, Event, IdempotencyKey, Principal, Retry, RunId, TaskId};
use serde_json::{Value, json};

use super::{STEPS, is_bug};
use crate::conformance::trees::PARK;
use crate::conformance::{Subject, agent, effect, failure};
use crate::error::Result;
use crate::inbox::{Answer, NewRequest};
use crate::journal::{Intended, Intent, Outcome, StepKey};
use crate::task::{Claim, NewTask, Status, Task, Transition};
use crate::tree::{Control, NewChild, Spawn};
use crate::wait::{NewWait, Signal, Source};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

const POOLS: [&str; 3] = ["work", "below", "verify"];

/// Random operations on one run, and what was seen on the way.
pub(super) struct Walk<'a> {
    s: &'a Subject,
    pub(super) run: RunId,
    claims: Vec<Claim>,
    pub(super) tasks: Vec<TaskId>,
    pub(super) seen: Vec<(u64, Task)>,
}

impl<'a> Walk<'a> {
    pub(super) async fn make(s: &'a Subject) -> Result<Self> {
        let mut walk = Self {
            s,
            run: s.run().await?,
            claims: Vec::new(),
            tasks: Vec::new(),
            seen: Vec::new(),
        };
        for n in 0..STEPS {
            match walk.step(n).await {
                Err(error) if is_bug(&error) => return Err(error),
                _ => {}
            }
            if walk.draw(4) == 0 {
                walk.look().await?;
            }
        }
        Ok(walk)
    }

    fn draw(&self, n: u64) -> u64 {
        self.s.env.entropy.next_u64() % n
    }

    fn one_of<T: Clone>(&self, all: &[T]) -> Option<T> {
        let n = u64::try_from(all.len()).ok().filter(|n| *n > 0)?;
        all.get(usize::try_from(self.draw(n)).ok()?).cloned()
    }

    /// Remembers a task as it stands, and the last record.
    async fn look(&mut self) -> Result<()> {
        let Some(id) = self.one_of(&self.tasks) else {
            return Ok(());
        };
        let now = self.s.env.clock.now();
        let event = Event::new(&Subject::scope(), now, "test.looked", Value::Null);
        let at = self.s.journal.note(event).await?;
        self.seen.push((at, self.s.journal.task(id).await?));
        Ok(())
    }

    async fn step(&mut self, n: u32) -> Result<()> {
        match self.draw(18) {
            0 | 1 => self.submit(n).await,
            2..=5 => self.claim().await,
            6 => self.control().await,
            7 => self.answer().await,
            8 => {
                self.s.clock.advance(Duration::from_secs(self.draw(40)));
                self.s.journal.sweep(&Subject::scope()).await.map(|_| ())
            }
            9 => self.spawn(n).await,
            10 => self.act().await,
            11 => self.wait(n).await,
            _ => self.finish(n).await,
        }
    }

    pub(super) async fn submit(&mut self, n: u32) -> Result<()> {
        let task = NewTask::new(format!("t{n}"), "work", json!(n))
            .with_wall(HOUR)
            .with_deadline(self.s.env.clock.now().after(HOUR * 8))
            .with_tree_retries(4);
        self.tasks.push(task.id(self.run));
        let scope = Subject::scope();
        self.s.journal.submit(&scope, self.run, vec![task]).await?;
        Ok(())
    }

    async fn claim(&mut self) -> Result<()> {
        let pool = self.one_of(&POOLS).unwrap_or("work");
        let owner = agent(1 + u128::from(self.draw(4)));
        if let Some(claim) = self.s.claim(self.run, pool, owner).await? {
            self.claims.push(claim);
        }
        Ok(())
    }

    pub(super) async fn control(&self) -> Result<()> {
        let Some(id) = self.one_of(&self.tasks) else {
            return Ok(());
        };
        let control = match self.draw(5) {
            0 | 1 => Control::Pause,
            2 | 3 => Control::Resume,
            _ => Control::cancel("drawn"),
        };
        self.s.control(id, control).await.map(|_| ())
    }

    pub(super) async fn answer(&self) -> Result<()> {
        let open = self.s.journal.open_requests(self.run).await?;
        let Some(request) = self.one_of(&open) else {
            return Ok(());
        };
        let choice = self.one_of(&request.options).unwrap_or_default();
        let answer = Answer::new(choice, Principal::new("human:a")?);
        let scope = Subject::scope();
        self.s.journal.answer(&scope, request.id, answer).await?;
        Ok(())
    }

    async fn spawn(&mut self, n: u32) -> Result<()> {
        let Some(claim) = self.one_of(&self.claims) else {
            return Ok(());
        };
        let until = self.s.env.clock.now().after(HOUR * 8);
        let task = NewTask::new(format!("c{n}"), "below", json!(n)).with_wall(HOUR);
        let mut task = task.with_deadline(until);
        task.is_detached = self.draw(4) == 0;
        let (scope, spawn) = (Subject::scope(), Spawn::new(vec![NewChild::new(task, 0)]));
        let ids = self.s.journal.spawn(&scope, &claim.lease, spawn).await?;
        self.tasks.extend(&ids);
        if self.draw(2) == 0 {
            self.s.journal.join(&claim.lease, ids).await?;
            self.s.finish(&claim, PARK).await?;
        }
        Ok(())
    }

    async fn act(&self) -> Result<()> {
        let Some(claim) = self.one_of(&self.claims) else {
            return Ok(());
        };
        let class = self.one_of(&[EffectClass::Pure, EffectClass::Opaque]);
        let name = format!("s{}", self.draw(3));
        let effect = effect(class.unwrap_or(EffectClass::Pure), &name);
        let (scope, intent) = (Subject::scope(), Intent::new(StepKey::new(name, 0), effect));
        let intended = self.s.journal.intend(&scope, &claim.lease, intent).await?;
        if let Intended::Go(pass) = intended {
            let outcome = Outcome::new(Ok(json!(pass.n_try)));
            let lease = &claim.lease;
            self.s.journal.settle(&scope, lease, &pass, outcome).await?;
        }
        Ok(())
    }

    async fn finish(&self, n: u32) -> Result<()> {
        let Some(claim) = self.one_of(&self.claims) else {
            return Ok(());
        };
        let now = self.s.env.clock.now();
        let transition = match self.draw(8) {
            0 | 1 => Transition::Verify {
                output: json!({ "n": n }),
                pool: "verify".to_owned(),
            },
            2 => Transition::Correct {
                feedback: json!(n),
                failure: failure(Retry::Never),
                same_agent: self.draw(2) == 0,
            },
            3 => Transition::Retry {
                failure: failure(Retry::Safe),
                at: now.after(Duration::from_secs(self.draw(30))),
            },
            4 => Transition::End {
                status: Status::Failed,
                failure: failure(Retry::Never),
            },
            5 => Transition::Release,
            6 => Transition::Accept {
                evidence: Value::Null,
                lane: None,
            },
            _ => {
                self.ask(&claim, n).await?;
                PARK
            }
        };
        self.s.finish(&claim, transition).await
    }

    /// Waits for a signal that comes or does not, and in half of the cases for a moment.
    async fn wait(&self, n: u32) -> Result<()> {
        let Some(claim) = self.one_of(&self.claims) else {
            return Ok(());
        };
        let scope = Subject::scope();
        let mut sources = vec![Source::signal("s")];
        if self.draw(2) == 0 {
            sources.push(Source::due(self.s.env.clock.now().after(HOUR)));
        }
        let wait = NewWait::new(StepKey::new(format!("w{n}"), 0), sources);
        self.s.journal.wait(&scope, &claim.lease, wait).await?;
        if self.draw(3) == 0 {
            let key = IdempotencyKey::new(format!("k{n}"))?;
            let signal = Signal::new("s", Value::Null, key);
            self.s.journal.signal(&scope, claim.task.id, signal).await?;
        }
        self.s.finish(&claim, PARK).await
    }

    pub(super) async fn ask(&self, claim: &Claim, n: u32) -> Result<()> {
        let until = self.s.env.clock.now().after(HOUR);
        let (id, name) = (claim.task.id, format!("q{n}"));
        let mut ask = NewRequest::new(self.run, id, name, "?", &["go on", "stop"], until);
        ask.reject = Some("stop".to_owned()).filter(|_| self.draw(2) == 0);
        self.s.journal.ask(&Subject::scope(), ask).await?;
        Ok(())
    }
}
