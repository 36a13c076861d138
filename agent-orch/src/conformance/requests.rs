//! Laws of requests: what a person is asked, and what an answer does.

use std::time::Duration;

use agent_core::{Principal, Timestamp};

use super::subject::{Subject, agent, check, is_conflict};
use crate::error::{Error, Result};
use crate::inbox::{Answer, NewRequest};
use crate::task::{Status, Transition};

/// A parked task goes on with the answer, whichever came first.
///
/// # Errors
/// If the law does not hold.
pub async fn an_answer_wakes_a_parked_task(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let deadline = Timestamp::from_unix_ms(i64::MAX / 2);
    let ask = |name| NewRequest::new(run, claim.task.id, name, "?", &["yes", "no"], deadline);
    let by = Principal::new("human:a")?;
    let first = s.journal.ask(&scope, ask("first")).await?;
    s.journal
        .finish(&scope, &claim.lease, Transition::Park { failure: None })
        .await?;
    check(
        s.claim(run, "work", agent(2)).await?.is_none(),
        "a parked task is not claimed",
    )?;
    s.journal
        .answer(&scope, first.id, Answer::new("yes", by.clone()))
        .await?;
    let again = s.claim(run, "work", agent(2)).await?;
    let again = again.ok_or_else(|| Error::not_found("claim", "after the answer"))?;
    let second = s.journal.ask(&scope, ask("second")).await?;
    s.journal
        .answer(&scope, second.id, Answer::new("no", by.clone()))
        .await?;
    s.journal
        .finish(&scope, &again.lease, Transition::Park { failure: None })
        .await?;
    check(
        s.claim(run, "work", agent(2)).await?.is_some(),
        "an early answer is not missed",
    )?;
    let changed = s
        .journal
        .answer(&scope, first.id, Answer::new("no", by.clone()))
        .await;
    check(is_conflict(&changed), "an answer stands")?;
    let unknown = s
        .journal
        .answer(&scope, second.id, Answer::new("maybe", by))
        .await;
    check(
        matches!(unknown, Err(Error::Invalid { .. })),
        "only the offered answers count",
    )
}

/// At its deadline a question is answered by its default; the rejecting option ends the task.
///
/// # Errors
/// If the law does not hold.
pub async fn a_deadline_applies_the_default(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let deadline = claim.lease.until.after(Duration::from_secs(60));
    let mut request = NewRequest::new(
        run,
        claim.task.id,
        "q",
        "?",
        &["go on", "give up"],
        deadline,
    );
    request.reject = Some("give up".to_owned());
    s.journal.ask(&scope, request).await?;
    s.journal
        .finish(&scope, &claim.lease, Transition::Park { failure: None })
        .await?;
    check(
        s.journal.open_requests(run).await?.len() == 1,
        "it waits in the inbox",
    )?;
    s.clock.advance(Duration::from_secs(3_600));
    check(
        s.journal.sweep(&scope).await?.requests == 1,
        "the deadline passed",
    )?;
    let task = s.journal.task(claim.task.id).await?;
    check(
        task.status == Status::Rejected,
        "the default ended the task",
    )?;
    check(
        s.journal.open_requests(run).await?.is_empty(),
        "nothing waits any longer",
    )
}
