//! Questions to people.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Principal, RunId, Scope, TaskId, Timestamp};
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::events::{self, Entry};
use super::rows::{Bits, column, from_json, run_bits, task_bits, to_json};
use super::{finish, outbox, tasks};
use crate::error::{Error, Result};
use crate::inbox::{Answer, NewRequest, Request, RequestId, Severity};
use crate::task::{Status, Task};

/// The stored form of what was asked.
#[derive(Serialize, Deserialize)]
struct Body {
    name: String,
    severity: Severity,
    route: String,
    question: String,
    options: Vec<String>,
    details: Value,
    effect: Option<Digest>,
    default: String,
    reject: Option<String>,
}

/// The open questions a task waits for. A question about a message it wrote is not one of them: the
/// message outlives its task.
const OF_TASK: &str = "
    SELECT id FROM orch_request r WHERE task = ?1 AND answer IS NULL
        AND NOT EXISTS (SELECT 1 FROM orch_outbox o WHERE o.request = r.id)";

/// Asks, or returns the request as it stands.
pub(super) fn ask(tx: &Tx<'_>, scope: &Scope, new: &NewRequest) -> Result<Request> {
    new.check()?;
    let id = new.id();
    if let Some(known) = load(tx, id)? {
        return Ok(known);
    }
    let body = Body {
        name: new.name.clone(),
        severity: new.severity,
        route: new.route.clone(),
        question: new.question.clone(),
        options: new.options.clone(),
        details: new.details.clone(),
        effect: new.effect,
        default: new.default.clone(),
        reject: new.reject.clone(),
    };
    tx.sql()
        .prepare_cached("INSERT INTO orch_request VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL)")
        .and_then(|mut s| {
            s.execute(params![
                Bits(id.to_bits()),
                run_bits(new.run),
                task_bits(new.task),
                serde_json::to_string(&body).unwrap_or_default(),
                new.deadline.as_unix_ms(),
                tx.now().as_unix_ms(),
            ])
        })
        .map_err(sql("ask a person"))?;
    let payload = json!({ "request": id, "asked": body });
    let mut entry = Entry::of(scope, "request.asked", &new.route, payload);
    (entry.run, entry.task) = (Some(new.run), Some(new.task));
    events::append(tx, &entry)?;
    load(tx, id)?.ok_or_else(|| Error::not_found("request", id.to_string()))
}

/// Answers once and makes the task ready again.
pub(super) fn answer(
    tx: &mut Tx<'_>,
    scope: &Scope,
    id: RequestId,
    answer: &Answer,
) -> Result<Request> {
    let request = load(tx, id)?.ok_or_else(|| Error::not_found("request", id.to_string()))?;
    if !request.options.contains(&answer.choice) {
        let reason = format!("`{}` is not one of {:?}", answer.choice, request.options);
        return Err(Error::invalid("answer.choice", reason));
    }
    match &request.answer {
        Some(given) if given.choice == answer.choice => return Ok(request),
        Some(given) => {
            let state = format!("answered `{}` by {}", given.choice, given.by);
            return Err(Error::WrongState {
                task: request.task,
                verb: "be answered again",
                state,
            });
        }
        None => {}
    }
    give(tx, id, answer)?;
    outbox::answered(tx, scope, id, &answer.choice)?;
    let task = tasks::load(tx, request.task)?;
    let waits = task.status == Status::Parked || task.paused_from == Some(Status::Parked);
    if waits && request.reject.as_ref() == Some(&answer.choice) {
        finish::reject(tx, &task, &answer.by)?;
    } else {
        tasks::wake(tx, task.id)?;
    }
    let payload = json!({ "request": id, "answer": answer });
    let mut entry = Entry::of(scope, "request.answered", &request.route, payload);
    (entry.run, entry.task, entry.actor) = (Some(request.run), Some(request.task), &answer.by);
    events::append(tx, &entry)?;
    Ok(Request {
        answer: Some(answer.clone()),
        ..request
    })
}

/// Applies the default of every overdue request.
pub(super) fn time_out(tx: &mut Tx<'_>, scope: &Scope) -> Result<u64> {
    let due: Vec<Bits> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "SELECT id FROM orch_request WHERE answer IS NULL AND deadline_ms <= ?1",
            )
            .map_err(sql("find overdue requests"))?;
        let rows = statement.query_map([tx.now().as_unix_ms()], |row| row.get(0));
        rows.and_then(Iterator::collect)
            .map_err(sql("find overdue requests"))?
    };
    let by = Principal::new("timeout")?;
    for Bits(bits) in &due {
        let id = RequestId::from_bits(*bits);
        let Some(request) = load(tx, id)? else {
            continue;
        };
        answer(tx, scope, id, &Answer::new(request.default, by.clone()))?;
    }
    Ok(u64::try_from(due.len()).unwrap_or(u64::MAX))
}

/// Returns the next moment at which [`time_out`] has something to do.
pub(super) fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>> {
    let next: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT min(deadline_ms) FROM orch_request WHERE answer IS NULL")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(sql("find the next deadline"))?;
    Ok(next.map(Timestamp::from_unix_ms))
}

/// Closes the open questions of a task that ended: nobody needs the answer, unless a message of the
/// task waits for it.
pub(super) fn close(tx: &Tx<'_>, by: &Principal, task: &Task) -> Result<u64> {
    let ids: Vec<Bits> = {
        let mut statement = tx
            .sql()
            .prepare_cached(OF_TASK)
            .map_err(sql("find open requests"))?;
        let rows = statement.query_map([task_bits(task.id)], |row| row.get(0));
        rows.and_then(Iterator::collect)
            .map_err(sql("find open requests"))?
    };
    for id in &ids {
        let Some(request) = load(tx, RequestId::from_bits(id.0))? else {
            continue;
        };
        let mut answer = Answer::new(request.default, by.clone());
        answer.note = format!("the task ended as {}", task.status);
        give(tx, request.id, &answer)?;
        let entry = Entry {
            kind: "request.closed",
            subject: &request.route,
            code: "",
            actor: by,
            run: Some(task.run),
            task: Some(task.id),
            fence: None,
            cause: None,
            payload: json!({ "request": request.id }),
        };
        events::append(tx, &entry)?;
    }
    Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
}

/// Asks for a task of a fork what was asked before it, with the answer if there was one then.
pub(super) fn carry(
    tx: &Tx<'_>,
    scope: &Scope,
    from: RequestId,
    to: &Task,
    was_answered: bool,
) -> Result<()> {
    let Some(old) = load(tx, from)? else {
        return Ok(());
    };
    let new = NewRequest {
        run: to.run,
        task: to.id,
        name: old.name,
        severity: old.severity,
        route: old.route,
        question: old.question,
        options: old.options,
        details: old.details,
        effect: old.effect,
        deadline: old.deadline,
        default: old.default,
        reject: old.reject,
    };
    let new = ask(tx, scope, &new)?;
    let Some(answer) = old.answer.filter(|_| was_answered) else {
        return Ok(());
    };
    give(tx, new.id, &answer)?;
    let payload = json!({ "request": new.id, "answer": answer });
    let mut entry = Entry::of(scope, "request.answered", &new.route, payload);
    (entry.run, entry.task, entry.actor) = (Some(to.run), Some(to.id), &answer.by);
    events::append(tx, &entry)?;
    Ok(())
}

/// Lets a question be asked again. One about a message stays, since the message does.
pub(super) fn forget(tx: &Tx<'_>, id: RequestId) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "DELETE FROM orch_request WHERE id = ?1
               AND NOT EXISTS (SELECT 1 FROM orch_outbox o WHERE o.request = ?1)",
        )
        .and_then(|mut s| s.execute([Bits(id.to_bits())]))
        .map_err(sql("forget a question"))?;
    Ok(())
}

/// Writes an answer down.
fn give(tx: &Tx<'_>, id: RequestId, answer: &Answer) -> Result<()> {
    let (id, body) = (Bits(id.to_bits()), to_json(answer)?);
    tx.sql()
        .prepare_cached("UPDATE orch_request SET answer = ?2, answered_ms = ?3 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id, body, tx.now().as_unix_ms()]))
        .map_err(sql("answer a request"))?;
    Ok(())
}

/// Returns whether a task waits for an answer.
pub(super) fn is_waiting(tx: &Tx<'_>, task: TaskId) -> Result<bool> {
    Ok(tx
        .sql()
        .prepare_cached(OF_TASK)
        .and_then(|mut s| s.exists([task_bits(task)]))
        .map_err(sql("look for an open request"))?)
}

/// Returns the open requests of a run, oldest first.
pub(super) fn open(tx: &Tx<'_>, run: RunId) -> Result<Vec<Request>> {
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT * FROM orch_request WHERE run = ?1 AND answer IS NULL
             ORDER BY created_ms, id LIMIT ?2",
        )
        .map_err(sql("list open requests"))?;
    let limit = i64::try_from(Request::PAGE_MAX).unwrap_or(i64::MAX);
    let mut rows = statement
        .query(params![run_bits(run), limit])
        .map_err(sql("list open requests"))?;
    let mut open = Vec::new();
    while let Some(row) = rows.next().map_err(sql("list open requests"))? {
        open.push(parse(row)?);
    }
    Ok(open)
}

fn load(tx: &Tx<'_>, id: RequestId) -> Result<Option<Request>> {
    let mut statement = tx
        .sql()
        .prepare_cached("SELECT * FROM orch_request WHERE id = ?1")
        .map_err(sql("read a request"))?;
    let mut rows = statement
        .query([Bits(id.to_bits())])
        .map_err(sql("read a request"))?;
    rows.next()
        .map_err(sql("read a request"))?
        .map(parse)
        .transpose()
}

fn parse(row: &Row<'_>) -> Result<Request> {
    let body: Body = from_json(&column::<String>(row, "body")?)?;
    let answer = column::<Option<String>>(row, "answer")?;
    Ok(Request {
        id: RequestId::from_bits(column::<Bits>(row, "id")?.0),
        task: TaskId::from_bits(column::<Bits>(row, "task")?.0),
        run: RunId::from_bits(column::<Bits>(row, "run")?.0),
        name: body.name,
        severity: body.severity,
        route: body.route,
        question: body.question,
        options: body.options,
        details: body.details,
        effect: body.effect,
        deadline: Timestamp::from_unix_ms(column(row, "deadline_ms")?),
        default: body.default,
        reject: body.reject,
        answer: answer.as_deref().map(from_json).transpose()?,
    })
}
