//! What the checks found, from the audit records of the run.

use std::collections::BTreeMap;

use agent_core::{RunId, TaskId};
use agent_orch::{EventQuery, Journal};
use anyhow::Result;

use crate::agents::Work;
use crate::html::CheckRow;

/// Sums the last round of every task by check.
pub(crate) async fn by_check(journal: &dyn Journal, run: RunId) -> Result<Vec<CheckRow>> {
    let mut works: BTreeMap<TaskId, (Work, bool)> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = journal
            .events(EventQuery::after(after).with_run(run))
            .await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for record in page {
            let Some(task) = record.task else { continue };
            match record.kind.as_str() {
                "task.done" => {
                    let output = record.payload.and_then(|p| p.get("output").cloned());
                    let work = output.and_then(|output| serde_json::from_value(output).ok());
                    if let Some(work) = work {
                        works.insert(task, (work, false));
                    }
                }
                "task.landed" => {
                    if let Some((_, landed)) = works.get_mut(&task) {
                        *landed = true;
                    }
                }
                _ => {}
            }
        }
    }
    let mut rows: BTreeMap<String, CheckRow> = BTreeMap::new();
    for (work, landed) in works.into_values() {
        let row = rows.entry(work.check.clone()).or_default();
        row.check = work.check;
        row.files += 1;
        row.findings += work.n_findings;
        if work.change.is_some() {
            row.fixed += work.n_fixable;
        }
        row.landed += u64::from(landed);
    }
    Ok(rows.into_values().collect())
}
