//! Admission: a task is begun only if the budget has what it may cost.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, Scope};
use agent_pay::backend::sqlite as ledger;
use rusqlite::OptionalExtension;
use serde_json::json;

use super::events::{self, Entry};
use super::rows::{from_json, task_bits};
use super::{requests, tasks};
use crate::decide::{GIVE_UP, TRY_AGAIN};
use crate::error::Result;
use crate::history;
use crate::inbox::{NewRequest, Severity};
use crate::journal::{Admission, ClaimRequest};
use crate::task::{Stage, Status, Task};

/// Names the question to whoever can raise the budget.
const UNBLOCK: &str = "unblock_budget";

/// Returns whether a task may be begun; one the budget does not cover is parked with a question.
pub(super) fn is_covered(
    tx: &Tx<'_>,
    scope: &Scope,
    request: &ClaimRequest,
    task: &Task,
) -> Result<bool> {
    let Some(admission) = &request.admission else {
        return Ok(true);
    };
    if task.stage != Stage::Work {
        return Ok(true);
    }
    let Some(estimate) = estimate(tx, task)? else {
        return Ok(true);
    };
    for level in admission.budget.levels() {
        let balance = ledger::balance(tx, estimate.asset(), &level)?;
        if balance.available().compare(&estimate)?.is_lt() {
            let budget = level.as_str().to_owned();
            park(tx, scope, admission, task, estimate, &budget)?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn estimate(tx: &Tx<'_>, task: &Task) -> Result<Option<Amount>> {
    tx.sql()
        .prepare_cached("SELECT estimate FROM orch_task WHERE id = ?1 AND estimate IS NOT NULL")
        .and_then(|mut s| {
            s.query_row([task_bits(task.id)], |row| row.get::<_, String>(0))
                .optional()
        })
        .map_err(sql("read an estimate"))?
        .as_deref()
        .map(from_json)
        .transpose()
}

/// Parks a task until somebody says that the budget was raised. Each time it comes back in vain
/// is a question of its own.
fn park(
    tx: &Tx<'_>,
    scope: &Scope,
    admission: &Admission,
    task: &Task,
    estimate: Amount,
    budget: &str,
) -> Result<()> {
    let name = format!("{UNBLOCK}#{}", tasks::wakes(tx, task.id)?);
    let question = format!(
        "{}: it may cost {estimate}, and the budget {budget} has less. Raise the budget and answer \
         `{TRY_AGAIN}`, or give the task up.",
        task.key
    );
    let deadline = tx.now().after(admission.deadline);
    let options = [TRY_AGAIN, GIVE_UP];
    let mut request = NewRequest::new(task.run, task.id, name, question, &options, deadline);
    request.severity = Severity::High;
    request.route.clone_from(&admission.route);
    request.reject = Some(GIVE_UP.to_owned());
    request.details = json!({ "estimate": estimate, "budget": budget });
    requests::ask(tx, scope, &request)?;
    let set = tasks::move_to(tx, task, Status::Parked)?;
    let payload = json!({ "estimate": estimate, "budget": budget });
    let payload = history::payload(payload, set);
    let mut entry = Entry::of(scope, "task.parked", task.stage.name(), payload);
    (entry.run, entry.task, entry.code) = (Some(task.run), Some(task.id), "orch.budget");
    events::append(tx, &entry)?;
    Ok(())
}
