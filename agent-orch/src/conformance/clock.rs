//! The laws of schedules and of the outbox.

use std::time::Duration;

use agent_core::{EffectClass, Principal, Retry, RunId};
use serde_json::{Value, json};

use super::{Subject, agent, check, effect, failure};
use crate::error::{Error, Result};
use crate::fleet::{CatchUp, Escalation, Overlap, Schedule, ScheduleChange};
use crate::inbox::{Answer, NewRequest};
use crate::journal::{Intended, Intent, Outcome, StepKey};
use crate::outbox::{Message, NewMessage, Undelivered};
use crate::recovery::Backoff;
use crate::task::{Claim, Status, Transition};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

impl Subject {
    async fn plan(&self, run: RunId, name: &str, schedule: &Schedule) -> Result<()> {
        let change = ScheduleChange::Set(name.to_owned(), schedule.clone());
        self.journal
            .change_schedules(&Self::scope(), run, change)
            .await
    }

    async fn fired(&self, run: RunId) -> Result<u64> {
        let scope = Self::scope().with_run(run);
        Ok(self.journal.sweep(&scope).await?.fired)
    }

    /// Settles an effect with messages.
    async fn post(&self, claim: &Claim, step: &str, messages: Vec<NewMessage>) -> Result<()> {
        let (scope, step) = (Self::scope(), StepKey::new(step, 0));
        let intent = Intent::new(step, effect(EffectClass::Idempotent, "write"));
        let intended = self.journal.intend(&scope, &claim.lease, intent).await?;
        let Intended::Go(pass) = intended else {
            return check(false, "a fresh step goes ahead");
        };
        let mut outcome = Outcome::new(Ok(Value::Null));
        outcome.messages = messages;
        self.journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await
    }

    async fn mail(&self, run: RunId) -> Result<Vec<Message>> {
        let scope = Self::scope();
        let taken = self.journal.take_messages(&scope, run, 10).await?;
        Ok(taken.messages)
    }

    async fn bounce(&self, message: &Message, retry: Retry) -> Result<Undelivered> {
        let (failure, backoff) = (failure(retry), Backoff::default());
        let at = (self.env.clock.now(), 1);
        let next = Undelivered::of(message, &failure, &backoff, &Escalation::default(), at);
        self.journal
            .fail_message(&Self::scope(), message, failure, next.clone())
            .await?;
        Ok(next)
    }
}

fn hourly() -> Result<Schedule> {
    Ok(Schedule::new("0 * * * *".parse()?, "work", json!("tick")))
}

fn payloads(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|m| m.payload.clone()).collect()
}

fn only(mut messages: Vec<Message>) -> Result<Message> {
    let message = messages.pop().filter(|_| messages.is_empty());
    message.ok_or_else(|| Error::invalid("law", "there is one message"))
}

/// A schedule submits one task for each moment it is due, whoever sweeps and however often.
///
/// # Errors
/// If the law does not hold.
pub async fn a_schedule_fires_once_for_each_moment(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let schedule = hourly()?.with_overlap(Overlap::Queue);
    s.plan(run, "tick", &schedule).await?;
    check(s.fired(run).await? == 0, "it is not due yet")?;
    for n in 1..=3 {
        s.clock.advance(HOUR);
        check(s.fired(run).await? == 1, "it fires")?;
        check(s.fired(run).await? == 0, "once")?;
        // Another host that has not seen the firing submits the same task.
        let known = s.journal.schedules(run).await?;
        let last = known.first().and_then(|known| known.last);
        let last = last.ok_or_else(|| Error::not_found("firing", "tick"))?;
        let again = vec![schedule.task("tick", last)];
        let added = s.journal.submit(&Subject::scope(), run, again).await?;
        check(added == 0, "the key is the moment's")?;
        check(s.journal.counts(run).await?.total() == n, "one task each")?;
    }
    s.plan(run, "tick", &schedule).await?;
    let other = Subject::scope().with_run(RunId::from_bits(1));
    s.clock.advance(HOUR);
    check(
        s.journal.sweep(&other).await?.fired == 0,
        "the sweep of another run leaves it alone",
    )?;
    check(s.fired(run).await? == 1, "set again it goes on")?;
    let remove = ScheduleChange::Remove("tick".to_owned());
    s.journal
        .change_schedules(&Subject::scope(), run, remove)
        .await?;
    s.clock.advance(HOUR);
    check(s.fired(run).await? == 0, "removed it does not")
}

/// Firings missed while no host ran are left out, made up for by the last one, or all, as the
/// schedule says.
///
/// # Errors
/// If the law does not hold.
pub async fn missed_firings_are_made_up_for_as_said(s: Subject) -> Result<()> {
    let run = s.run().await?;
    for (name, catch_up) in [
        ("none", CatchUp::None),
        ("last", CatchUp::Last),
        ("all", CatchUp::All),
    ] {
        let schedule = hourly()?.with_catch_up(catch_up);
        s.plan(run, name, &schedule.with_overlap(Overlap::Queue))
            .await?;
    }
    let next = s
        .journal
        .schedules(run)
        .await?
        .first()
        .map(|known| known.next);
    let next = next.ok_or_else(|| Error::not_found("schedule", "none"))?;
    s.clock
        .advance(next.since(s.env.clock.now()) + 4 * HOUR + 2 * MINUTE);
    check(s.fired(run).await? == 6, "none, the last, all five")?;
    let known = s.journal.schedules(run).await?;
    let n_fired: Vec<u64> = known.iter().map(|known| known.n_fired).collect();
    check(n_fired == [5, 1, 0], "each as it says")?;
    s.clock.advance(58 * MINUTE);
    check(s.fired(run).await? == 3, "what is on time fires")?;
    s.clock.advance(1_000 * HOUR);
    let most = u64::try_from(Schedule::CATCH_UP_MAX).unwrap_or(0);
    check(s.fired(run).await? <= most + 2, "all has a bound")
}

/// A schedule that skips is left out while the task of its last firing has not ended.
///
/// # Errors
/// If the law does not hold.
pub async fn an_overlapping_firing_is_left_out(s: Subject) -> Result<()> {
    let run = s.run().await?;
    s.plan(run, "tick", &hourly()?).await?;
    s.clock.advance(HOUR);
    check(s.fired(run).await? == 1, "the first fires")?;
    s.clock.advance(HOUR);
    check(s.fired(run).await? == 0, "the next is left out")?;
    let claim = s.claim(run, "work", agent(1)).await?;
    let claim = claim.ok_or_else(|| Error::not_found("claim", "tick"))?;
    check(
        claim.task.input == json!("tick"),
        "with the schedule's input",
    )?;
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.journal
        .finish(&Subject::scope(), &claim.lease, end)
        .await?;
    s.clock.advance(HOUR);
    check(s.fired(run).await? == 1, "when it has ended the next fires")?;
    let known = s.journal.schedules(run).await?;
    let skipped = known.first().map(|known| known.n_skipped);
    check(skipped == Some(1), "what was left out is counted")
}

/// The manifest's schedules are replaced as a whole and keep when they are due; the host's stay.
///
/// # Errors
/// If the law does not hold.
pub async fn a_manifest_replaces_its_own_schedules(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let manifest = |names: &[&str]| -> Result<ScheduleChange> {
        let schedules = names.iter().map(|name| Ok(((*name).to_owned(), hourly()?)));
        Ok(ScheduleChange::Manifest(schedules.collect::<Result<_>>()?))
    };
    let scope = Subject::scope();
    s.plan(run, "own", &hourly()?).await?;
    let change = manifest(&["a", "b"])?;
    s.journal.change_schedules(&scope, run, change).await?;
    s.clock.advance(HOUR);
    let change = manifest(&["b", "c"])?;
    s.journal.change_schedules(&scope, run, change).await?;
    let known = s.journal.schedules(run).await?;
    let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
    check(names == ["b", "c", "own"], "the manifest's and the host's")?;
    check(
        s.fired(run).await? == 2,
        "what was due before the manifest was read again fires",
    )
}

/// A message comes until it is acknowledged, under the same id, and never after.
///
/// # Errors
/// If the law does not hold.
pub async fn a_message_comes_until_it_is_acknowledged(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    s.post(&claim, "w", vec![NewMessage::new("mail", json!(1))])
        .await?;
    let first = only(s.mail(run).await?)?;
    check(
        s.mail(run).await?.is_empty(),
        "it is its taker's for a while",
    )?;
    s.clock.advance(Message::LEASE);
    let second = only(s.mail(run).await?)?;
    check(
        second.id == first.id && second.n_try == 2,
        "then it comes again under the same id",
    )?;
    s.bounce(&first, Retry::Safe).await?;
    s.clock.advance(Duration::from_secs(5));
    check(
        s.mail(run).await?.is_empty(),
        "a failure of an earlier delivery changes nothing",
    )?;
    let next = s.bounce(&second, Retry::Safe).await?;
    check(s.mail(run).await?.is_empty(), "a failed one waits")?;
    let Undelivered::Retry(at) = next else {
        return check(false, "a failure that can be repeated is tried again");
    };
    s.clock.advance(at.since(s.env.clock.now()));
    let third = only(s.mail(run).await?)?;
    // The first delivery's acknowledgement comes late, but the message was delivered.
    s.journal.ack_message(&Subject::scope(), &first).await?;
    s.journal.ack_message(&Subject::scope(), &third).await?;
    s.clock.advance(100 * HOUR);
    check(s.mail(run).await?.is_empty(), "it never comes after that")
}

/// There is a message exactly when its step is done; a step that is recorded writes none again.
///
/// # Errors
/// If the law does not hold.
pub async fn a_message_is_written_with_its_step(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let (scope, step) = (Subject::scope(), StepKey::new("w", 0));
    let intent = || Intent::new(step.clone(), effect(EffectClass::Idempotent, "w"));
    for result in [Err(failure(Retry::Safe)), Ok(json!(1))] {
        let is_done = result.is_ok();
        let intended = s.journal.intend(&scope, &claim.lease, intent()).await?;
        let Intended::Go(pass) = intended else {
            return check(false, "a step that is not done goes ahead");
        };
        let mut outcome = Outcome::new(result);
        outcome.messages = vec![NewMessage::new("mail", json!("m"))];
        s.journal
            .settle(&scope, &claim.lease, &pass, outcome.clone())
            .await?;
        let taken = s.mail(run).await?;
        check(taken.len() == usize::from(is_done), "with the done step")?;
        let again = s.journal.settle(&scope, &claim.lease, &pass, outcome).await;
        check(again.is_err(), "an outcome is recorded once")?;
    }
    let again = s.journal.intend(&scope, &claim.lease, intent()).await?;
    check(matches!(again, Intended::Recorded(_)), "the step is done")?;
    s.clock.advance(Message::LEASE);
    check(s.mail(run).await?.len() == 1, "there is one message")
}

/// Messages of one topic and key come one after the other; others do not wait for them.
///
/// # Errors
/// If the law does not hold.
pub async fn messages_of_a_key_come_in_order(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let message = |n: u32, key: &str| NewMessage::new("mail", json!(n)).with_key(key);
    let messages = vec![message(1, "a"), message(2, "a"), message(3, "b")];
    s.post(&claim, "w", messages).await?;
    s.post(
        &claim,
        "x",
        vec![message(4, "a"), NewMessage::new("mail", json!(5))],
    )
    .await?;
    let taken = s.mail(run).await?;
    check(
        payloads(&taken) == [json!(1), json!(3), json!(5)],
        "the heads come",
    )?;
    for (acknowledged, next) in [(1, Some(2)), (2, Some(4)), (4, None)] {
        let acked = json!(acknowledged);
        s.clock.advance(Message::LEASE);
        let taken = s.mail(run).await?;
        let done = taken.iter().find(|m| m.payload == acked);
        let done = done.ok_or_else(|| Error::not_found("message", acked.to_string()))?;
        s.journal.ack_message(&Subject::scope(), done).await?;
        let after = s.mail(run).await?;
        let expected: Vec<Value> = next.map(|n: i32| json!(n)).into_iter().collect();
        check(payloads(&after) == expected, "the next one comes then")?;
    }
    Ok(())
}

/// A message that cannot be delivered becomes a question to a person, which outlives the task that
/// wrote it, and holds up what is ordered after it until that is answered.
///
/// # Errors
/// If the law does not hold.
pub async fn a_dead_letter_asks_a_person(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let message = |n: u32| NewMessage::new("mail", json!(n)).with_key("a");
    s.post(&claim, "w", vec![message(1), message(2)]).await?;
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.journal
        .finish(&Subject::scope(), &claim.lease, end)
        .await?;
    for (choice, retry) in [(Message::AGAIN, Retry::Never), (Message::DROP, Retry::Safe)] {
        let mut n_tries = 0;
        loop {
            let first = only(s.mail(run).await?)?;
            check(first.payload == json!(1), "the first comes again")?;
            n_tries += 1;
            match s.bounce(&first, retry).await? {
                Undelivered::Retry(at) => s.clock.advance(at.since(s.env.clock.now())),
                Undelivered::Dead(_) => break,
            }
        }
        let tries_max = if retry == Retry::Never {
            1
        } else {
            Message::TRIES_MAX
        };
        check(n_tries == tries_max, "tries are bounded")?;
        s.clock.advance(HOUR);
        check(s.mail(run).await?.is_empty(), "the next one waits")?;
        // A sweep closes the questions an ended task waited for, and no others.
        let until = s.env.clock.now().after(100 * HOUR);
        let other = NewRequest::new(run, claim.task.id, choice, "?", &["yes"], until);
        s.journal.ask(&Subject::scope(), other).await?;
        s.journal.sweep(&Subject::scope()).await?;
        let open = s.journal.open_requests(run).await?;
        let request = open.first().filter(|_| open.len() == 1);
        let request = request.ok_or_else(|| Error::not_found("question", choice))?;
        let answer = Answer::new(choice, Principal::new("human:a")?);
        s.journal
            .answer(&Subject::scope(), request.id, answer)
            .await?;
    }
    let second = only(s.mail(run).await?)?;
    check(second.payload == json!(2), "a dropped one makes room")?;
    s.journal.ack_message(&Subject::scope(), &second).await?;
    s.clock.advance(Duration::from_secs(1_000_000));
    check(s.mail(run).await?.is_empty(), "nothing is left")
}
