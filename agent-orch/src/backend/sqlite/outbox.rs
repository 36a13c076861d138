//! Messages: written with an outcome, taken by a dispatcher, gone when they are delivered.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Failure, RunId, Scope, TaskId, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::events::{self, Entry};
use super::rows::{Bits, column, from_json, run_bits, task_bits};
use super::{requests, tasks};
use crate::error::{Error, Result};
use crate::inbox::RequestId;
use crate::journal::Pass;
use crate::outbox::{Message, MessageId, NewMessage, Taken, Undelivered};
use crate::task::Lease;

/// Writes the messages of an outcome.
pub(super) fn add(
    tx: &Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    pass: &Pass,
    messages: &[NewMessage],
) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    if messages.len() > NewMessage::PER_EFFECT_MAX {
        return Err(Error::invalid(
            "messages",
            "an effect writes at most 64 messages",
        ));
    }
    let run = tasks::load(tx, lease.task)?.run;
    for (n, message) in messages.iter().enumerate() {
        message.check()?;
        let named = format!("{}/{n}", pass.key.as_str());
        let id = MessageId::from_bits(Digest::of_bytes(named.as_bytes()).to_bits());
        tx.sql()
            .prepare_cached(
                "INSERT OR IGNORE INTO orch_outbox
                 (id, run, task, topic, key, payload, is_head, not_before_ms, created_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5 IS NULL OR NOT EXISTS (
                    SELECT 1 FROM orch_outbox WHERE run = ?2 AND topic = ?4 AND key = ?5), ?7, ?7)",
            )
            .and_then(|mut s| {
                s.execute(params![
                    Bits(id.to_bits()),
                    run_bits(run),
                    task_bits(lease.task),
                    message.topic,
                    message.key,
                    message.payload.to_string(),
                    tx.now().as_unix_ms(),
                ])
            })
            .map_err(sql("write a message"))?;
        let payload = json!({ "message": id, "key": message.key, "payload": message.payload });
        let mut entry = Entry::of(scope, "message.written", &message.topic, payload);
        (entry.run, entry.task, entry.fence) = (Some(run), Some(lease.task), Some(lease.fence));
        entry.cause = pass.intent;
        events::append(tx, &entry)?;
    }
    Ok(())
}

/// Gives due messages to a dispatcher for a while.
pub(super) fn take(tx: &Tx<'_>, run: RunId, n_max: usize) -> Result<Taken> {
    let mut messages = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "UPDATE orch_outbox SET n_try = n_try + 1, not_before_ms = ?3 WHERE seq IN (
                    SELECT seq FROM orch_outbox
                    WHERE run = ?1 AND is_head = 1 AND is_dead = 0 AND not_before_ms <= ?2
                    ORDER BY not_before_ms, seq LIMIT ?4)
                 RETURNING *",
            )
            .map_err(sql("take messages"))?;
        let mut rows = statement
            .query(params![
                run_bits(run),
                tx.now().as_unix_ms(),
                tx.now().after(Message::LEASE).as_unix_ms(),
                i64::try_from(n_max.min(Message::TAKE_MAX)).unwrap_or(0),
            ])
            .map_err(sql("take messages"))?;
        let mut taken: Vec<(i64, Message)> = Vec::new();
        while let Some(row) = rows.next().map_err(sql("take messages"))? {
            taken.push((column(row, "seq")?, parse(row)?));
        }
        taken
    };
    messages.sort_by_key(|(seq, _)| *seq);
    let next: Option<i64> = tx
        .sql()
        .prepare_cached(
            "SELECT min(not_before_ms) FROM orch_outbox
             WHERE run = ?1 AND is_head = 1 AND is_dead = 0",
        )
        .and_then(|mut s| s.query_row([run_bits(run)], |row| row.get(0)))
        .map_err(sql("find the next message"))?;
    Ok(Taken {
        messages: messages.into_iter().map(|(_, message)| message).collect(),
        next: next.map(Timestamp::from_unix_ms),
    })
}

/// Notes that a message was delivered, whoever holds it by then.
pub(super) fn ack(tx: &Tx<'_>, scope: &Scope, message: &Message) -> Result<()> {
    if remove(tx, message.id)? {
        note(tx, scope, message, "message.delivered", Value::Null)?;
    }
    Ok(())
}

/// Removes a message; the next one of its topic and key is delivered from then on.
fn remove(tx: &Tx<'_>, id: MessageId) -> Result<bool> {
    let removed: Option<(Bits, String, Option<String>)> = tx
        .sql()
        .prepare_cached("DELETE FROM orch_outbox WHERE id = ?1 RETURNING run, topic, key")
        .and_then(|mut s| {
            s.query_row([Bits(id.to_bits())], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
        })
        .map_err(sql("remove a message"))?;
    let Some((run, topic, key)) = removed else {
        return Ok(false);
    };
    if key.is_some() {
        tx.sql()
            .prepare_cached(
                "UPDATE orch_outbox SET is_head = 1 WHERE seq = (
                    SELECT min(seq) FROM orch_outbox WHERE run = ?1 AND topic = ?2 AND key = ?3)",
            )
            .and_then(|mut s| s.execute(params![run, topic, key]))
            .map_err(sql("go on to the next message"))?;
    }
    Ok(true)
}

/// Notes that a delivery failed. It counts only for the delivery it was: a message that went to
/// somebody else meanwhile is theirs.
pub(super) fn fail(
    tx: &Tx<'_>,
    scope: &Scope,
    message: &Message,
    failure: &Failure,
    next: &Undelivered,
) -> Result<()> {
    let (at, request) = match next {
        Undelivered::Retry(at) => (*at, None),
        Undelivered::Dead(request) => (tx.now(), Some(request.id())),
    };
    let changed = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_outbox SET not_before_ms = ?3, is_dead = ?4 IS NOT NULL, request = ?4
             WHERE id = ?1 AND n_try = ?2 AND is_dead = 0",
        )
        .and_then(|mut s| {
            s.execute(params![
                Bits(message.id.to_bits()),
                message.n_try,
                at.as_unix_ms(),
                request.map(|id| Bits(id.to_bits())),
            ])
        })
        .map_err(sql("put a message off"))?;
    if changed == 0 {
        return Ok(());
    }
    if let Undelivered::Dead(request) = next {
        requests::ask(tx, scope, request)?;
    }
    let kind = match request {
        Some(_) => "message.dead",
        None => "message.put_off",
    };
    note(
        tx,
        scope,
        message,
        kind,
        json!({ "failure": failure, "request": request }),
    )
}

/// Applies the answer to a question about a dead letter.
pub(super) fn answered(tx: &Tx<'_>, scope: &Scope, request: RequestId, choice: &str) -> Result<()> {
    let Some(message) = dead(tx, request)? else {
        return Ok(());
    };
    if choice == Message::DROP {
        remove(tx, message.id)?;
        return note(tx, scope, &message, "message.dropped", Value::Null);
    }
    tx.sql()
        .prepare_cached(
            "UPDATE orch_outbox SET is_dead = 0, request = NULL, n_try = 0, not_before_ms = ?2
             WHERE id = ?1",
        )
        .and_then(|mut s| s.execute(params![Bits(message.id.to_bits()), tx.now().as_unix_ms()]))
        .map_err(sql("deliver a dead letter again"))?;
    note(tx, scope, &message, "message.revived", Value::Null)
}

fn dead(tx: &Tx<'_>, request: RequestId) -> Result<Option<Message>> {
    tx.sql()
        .prepare_cached("SELECT * FROM orch_outbox WHERE request = ?1")
        .and_then(|mut s| {
            s.query_row([Bits(request.to_bits())], |row| Ok(parse(row)))
                .optional()
        })
        .map_err(sql("find a dead letter"))?
        .transpose()
}

/// Takes back what the dispatcher of an earlier process had taken.
pub(super) fn take_back(tx: &Tx<'_>, run: RunId) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE orch_outbox SET not_before_ms = min(not_before_ms, ?2)
             WHERE run = ?1 AND is_head = 1 AND is_dead = 0",
        )
        .and_then(|mut s| s.execute(params![run_bits(run), tx.now().as_unix_ms()]))
        .map_err(sql("take messages back"))?;
    Ok(())
}

fn note(
    tx: &Tx<'_>,
    scope: &Scope,
    message: &Message,
    kind: &str,
    mut payload: Value,
) -> Result<()> {
    if payload.is_null() {
        payload = json!({});
    }
    if let Some(payload) = payload.as_object_mut() {
        payload.insert("message".to_owned(), json!(message.id));
        payload.insert("try".to_owned(), json!(message.n_try));
    }
    let mut entry = Entry::of(scope, kind, &message.topic, payload);
    (entry.run, entry.task) = (Some(message.run), Some(message.task));
    events::append(tx, &entry)?;
    Ok(())
}

fn parse(row: &Row<'_>) -> Result<Message> {
    Ok(Message {
        id: MessageId::from_bits(column::<Bits>(row, "id")?.0),
        run: RunId::from_bits(column::<Bits>(row, "run")?.0),
        task: TaskId::from_bits(column::<Bits>(row, "task")?.0),
        topic: column(row, "topic")?,
        key: column(row, "key")?,
        payload: from_json(&column::<String>(row, "payload")?)?,
        n_try: column(row, "n_try")?,
        created: Timestamp::from_unix_ms(column(row, "created_ms")?),
    })
}
