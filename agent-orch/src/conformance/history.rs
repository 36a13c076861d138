//! Laws of history: records fold to what is, forks go on from what was, and everything ends.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Classify, EffectClass, EntropyExt, ErrorKind, Event, IdempotencyKey, Retry};
use agent_core::{Principal, RunId, TaskId};
use serde_json::{Value, json};

use super::trees::{FAR, PARK};
use super::{Subject, agent, check, effect, failure};
use crate::error::{Error, Result};
use crate::inbox::{Answer, NewRequest};
use crate::journal::{Counts, Intended, Intent, NewRun, Outcome, Run, StepKey};
use crate::task::{Claim, NewTask, Status, Task, Transition};
use crate::tree::{Control, NewChild, Spawn, Target};
use crate::wait::{NewWait, Signal, Source};

/// How many operations a walk makes: enough for every pair of them.
const STEPS: u32 = 400;
const HOUR: Duration = Duration::from_secs(3_600);
const POOLS: [&str; 3] = ["work", "below", "verify"];

/// Random operations on one run, and what was seen on the way.
struct Walk<'a> {
    s: &'a Subject,
    run: RunId,
    claims: Vec<Claim>,
    tasks: Vec<TaskId>,
    seen: Vec<(u64, Task)>,
}

impl<'a> Walk<'a> {
    async fn make(s: &'a Subject) -> Result<Self> {
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

    async fn submit(&mut self, n: u32) -> Result<()> {
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

    async fn control(&self) -> Result<()> {
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

    async fn answer(&self) -> Result<()> {
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

    async fn ask(&self, claim: &Claim, n: u32) -> Result<()> {
        let until = self.s.env.clock.now().after(HOUR);
        let (id, name) = (claim.task.id, format!("q{n}"));
        let mut ask = NewRequest::new(self.run, id, name, "?", &["go on", "stop"], until);
        ask.reject = Some("stop".to_owned()).filter(|_| self.draw(2) == 0);
        self.s.journal.ask(&Subject::scope(), ask).await?;
        Ok(())
    }
}

/// Refusals are part of the walk; broken stores and promises are not.
fn is_bug(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt)
}

/// What the records of a task say it is, or was after any record, is what it is or was; counts
/// are those of the tasks.
///
/// # Errors
/// If the law does not hold.
pub async fn records_fold_to_what_is(s: Subject) -> Result<()> {
    let walk = Walk::make(&s).await?;
    let last = s.journal.verify().await?.records;
    let mut counts = BTreeMap::new();
    for id in &walk.tasks {
        let is = match s.journal.task(*id).await {
            Err(Error::NotFound { .. }) => continue,
            found => found?,
        };
        let folded = s.journal.task_at(*id, last).await?;
        check(folded == is, &format!("{folded:?} is {is:?}"))?;
        *counts.entry((is.stage, is.status)).or_insert(0) += 1;
    }
    for (at, was) in &walk.seen {
        let mut folded = s.journal.task_at(was.id, *at).await?;
        folded.priority = was.priority;
        check(folded == *was, &format!("{folded:?} was {was:?}"))?;
    }
    check(!walk.seen.is_empty(), "something was seen")?;
    let counted = s.journal.counts(walk.run).await?;
    check(
        counted == Counts(counts),
        "the counts are those of the tasks",
    )
}

/// Whatever was done, once nobody works any more every task comes to an end by time alone, and
/// after each sweep nothing is stuck.
///
/// # Errors
/// If the law does not hold.
pub async fn everything_ends(s: Subject) -> Result<()> {
    let walk = Walk::make(&s).await?;
    let (scope, target) = (Subject::scope(), Target::Run(walk.run));
    s.journal.control(&scope, target, Control::Resume).await?;
    for _ in 0..12 {
        s.clock.advance(HOUR);
        s.journal.sweep(&scope).await?;
        check(
            s.journal.stuck(walk.run).await?.is_empty(),
            "nothing is stuck",
        )?;
    }
    let counts = s.journal.counts(walk.run).await?;
    let open: Vec<_> = counts
        .0
        .iter()
        .filter(|((_, s), n)| !s.is_terminal() && **n > 0)
        .collect();
    check(open.is_empty(), &format!("{open:?} have not ended"))?;
    check(
        s.journal.open_requests(walk.run).await?.is_empty(),
        "nobody is asked",
    )
}

/// Makes a task with a done step, a step in doubt and an answered question; then forks, and
/// finishes both steps in the origin.
async fn forked(s: &Subject) -> Result<(Claim, IdempotencyKey, Run)> {
    let (run, claim) = s.with_task().await?;
    let (scope, lease) = (Subject::scope(), &claim.lease);
    let Intended::Go(done) = s.journal.intend(&scope, lease, opaque("done")).await? else {
        return Err(Error::not_found("pass", "done"));
    };
    let value = Outcome::new(Ok(json!("value")));
    s.journal.settle(&scope, lease, &done, value).await?;
    let ask = |run, task| NewRequest::new(run, task, "q", "?", &["yes", "no"], FAR);
    let asked = s.journal.ask(&scope, ask(run, claim.task.id)).await?;
    let answer = Answer::new("yes", Principal::new("human:a")?);
    s.journal.answer(&scope, asked.id, answer).await?;
    let Intended::Go(doubt) = s.journal.intend(&scope, lease, opaque("doubt")).await? else {
        return Err(Error::not_found("pass", "doubt"));
    };
    let at = s.journal.verify().await?.records;
    let later = Outcome::new(Ok(json!("later")));
    s.journal.settle(&scope, lease, &doubt, later).await?;
    let fork = s.journal.fork(&scope, run, at, "fork".to_owned()).await?;
    check(
        fork.forked_from == Some(run) && fork.forked_at == Some(at),
        "the fork knows its origin",
    )?;
    Ok((claim, doubt.key, fork))
}

fn opaque(name: &str) -> Intent {
    Intent::new(StepKey::new(name, 0), effect(EffectClass::Opaque, name))
}

/// A fork goes on from what was after a record: done steps return what they returned, steps in
/// doubt are in doubt under the key the other side knows, later ones are not known; answers stand.
/// Its origin stays as it is, and a fork of the fork knows the same.
///
/// # Errors
/// If the law does not hold.
pub async fn a_fork_acts_nothing_again(s: Subject) -> Result<()> {
    let (origin, key, fork) = forked(&s).await?;
    let scope = Subject::scope();
    let before = s.journal.task(origin.task.id).await?;
    let at = s.journal.verify().await?.records;
    let second = s.journal.fork(&scope, fork.id, at, "second".to_owned());
    for run in [fork.id, second.await?.id] {
        let claim = s.take(run, "work", 7).await?;
        let lease = &claim.lease;
        let done = s.journal.intend(&scope, lease, opaque("done")).await?;
        check(done == Intended::Recorded(json!("value")), "done is done")?;
        let doubt = s.journal.intend(&scope, lease, opaque("doubt")).await?;
        let same = matches!(&doubt, Intended::InDoubt(pass) if pass.key == key);
        check(same, "in doubt under the known key")?;
        let fresh = s.journal.intend(&scope, lease, opaque("fresh")).await?;
        check(
            matches!(fresh, Intended::Go(_)),
            "what came later is not known",
        )?;
        let ask = NewRequest::new(run, claim.task.id, "q", "?", &["yes", "no"], FAR);
        let asked = s.journal.ask(&scope, ask).await?;
        check(
            asked.answer.is_some_and(|a| a.choice == "yes"),
            "the answer stands",
        )?;
    }
    check(
        s.journal.task(origin.task.id).await? == before,
        "the origin is as it was",
    )?;
    check(
        s.journal.heartbeat(&origin.lease).await.is_ok(),
        "and goes on",
    )?;
    s.journal.verify().await?;
    Ok(())
}

/// A fork begins after a record that is there, under a subject no unfinished run has; tasks that
/// were submitted later are not in it.
///
/// # Errors
/// If the law does not hold.
pub async fn a_fork_knows_nothing_of_later(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let at = s.journal.verify().await?.records;
    let late = NewTask::new("late", "work", Value::Null);
    let late_id = late.id(run);
    s.journal.submit(&scope, run, vec![late]).await?;
    let was = s.journal.task_at(late_id, at).await;
    check(
        matches!(was, Err(Error::NotFound { .. })),
        "it was not there",
    )?;
    for (at, subject) in [(0, "f"), (at + 100, "f"), (at, "subject")] {
        let wrong = s.journal.fork(&scope, run, at, subject.to_owned()).await;
        check(matches!(wrong, Err(Error::Invalid { .. })), subject)?;
    }
    let fork = s.journal.fork(&scope, run, at, "f".to_owned()).await?;
    check(
        s.journal.counts(fork.id).await?.total() == 1,
        "one was there",
    )?;
    let new = NewRun::new("f", fork.spec, Value::Null);
    let again = s.journal.open_run(&scope, new).await?;
    check(
        again.id == fork.id && again.is_resumed,
        "it is opened like any run",
    )?;
    check(again.forked_from == Some(run), "and knows its origin")?;
    let fence = claim.lease.fence;
    let own = s.take(fork.id, "work", 7).await?;
    check(
        own.task.key == claim.task.key && own.lease.fence >= fence,
        "and is worked on",
    )?;
    let first = s.journal.task_at(claim.task.id, at).await?;
    check(first.status == Status::Leased, "history stands")
}
