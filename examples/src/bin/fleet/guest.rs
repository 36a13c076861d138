//! The check program: what is asked of it, what it answers, and the sandbox it runs in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Effect, EffectClass, Scope, Unit, Usage};
use agent_orch::merge::ObjectId;
use agent_orch::{Acted, Ctx};
use agent_sandbox::{Exec, FileTree, Limits, Mount, Program, Runtime, SandboxExt, Spec};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The compiled check program; its source lies beside it.
const CHECKS_WASM: &[u8] = include_bytes!("../../../../agent-sandbox/guests/checks/checks.wasm");
/// The resource its usage is priced by.
pub(crate) const RESOURCE: &str = "sandbox.wasm";
/// The most one execution may cost; the rest of the hold is released.
const COST_MAX_UNITS: i128 = 2_000;
/// The largest file the checks take.
pub(crate) const FILE_BYTES_MAX: usize = 10 << 20;

/// One finding of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) fixable: bool,
    pub(crate) severity: String,
}

/// A byte range of the input and what replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    start: usize,
    end: usize,
    insert: String,
}

/// The edits that fix what is fixable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Edit {
    bytes_before: usize,
    bytes_after: usize,
    ranges: Vec<Range>,
}

impl Edit {
    /// Applies the ranges and checks every promise the guest made about them.
    pub(crate) fn apply(&self, before: &[u8]) -> Result<Vec<u8>> {
        ensure!(
            before.len() == self.bytes_before,
            "the edit is for another file"
        );
        let mut after = Vec::with_capacity(self.bytes_after.min(before.len() + (1 << 20)));
        let mut at = 0;
        for range in &self.ranges {
            ensure!(
                range.start >= at && range.end >= range.start,
                "the ranges are not in order"
            );
            after.extend(
                before
                    .get(at..range.start)
                    .context("a range is outside the file")?,
            );
            after.extend(range.insert.as_bytes());
            at = range.end;
        }
        after.extend(before.get(at..).context("a range is outside the file")?);
        ensure!(
            after.len() == self.bytes_after,
            "the edit has another length than it says"
        );
        Ok(after)
    }
}

/// What the guest reports about one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) v: u32,
    pub(crate) check: String,
    pub(crate) skipped: Option<String>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) n_findings: u64,
    pub(crate) n_fixable: u64,
    pub(crate) truncated: bool,
    pub(crate) edit: Option<Edit>,
}

/// One question to the guest.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) check: String,
    pub(crate) path: String,
    pub(crate) options: Vec<String>,
    pub(crate) bytes: Arc<[u8]>,
}

/// Runs the check program, one fresh sandbox per file.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    runtime: Arc<dyn Runtime>,
    program: Program,
    /// The paths and Markdown files of the commit the run started from.
    tree: FileTree,
    cost_max: Amount,
}

impl Guest {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, tree: FileTree, cost_max: Amount) -> Self {
        Self {
            runtime,
            program: Program::wasm("checks", CHECKS_WASM),
            tree,
            cost_max,
        }
    }

    /// The most one execution may cost.
    pub(crate) fn cost_max(asset: agent_core::Asset) -> Amount {
        Amount::from_units(COST_MAX_UNITS, asset)
    }

    /// Asks the guest through the agent's door: journaled, held, metered.
    pub(crate) async fn ask(
        &self,
        cx: &Ctx,
        step: &str,
        at: ObjectId,
        question: Question,
    ) -> agent_orch::Result<Report> {
        let arguments = json!({
            "check": question.check, "path": question.path, "options": question.options,
            "at": at.to_string(), "program": blake3_hex(self.program.digest()),
        });
        let effect = Effect::new("sandbox.exec", "checks", EffectClass::Pure, arguments)
            .with_cost_max(self.cost_max);
        cx.effect(step, effect, |scope| async move {
            let (report, usage) = self.run(&scope, question).await?;
            Ok(Acted::new(report).with_usage(RESOURCE, usage))
        })
        .await
    }

    /// Asks the guest on the host's own account.
    pub(crate) async fn run(
        &self,
        scope: &Scope,
        question: Question,
    ) -> agent_orch::Result<(Report, Usage)> {
        let limits = Limits::new()
            .with_memory_bytes_max(128 << 20)
            .with_wall_max(Duration::from_secs(20))
            .with_output_bytes_max(4 << 20, 64 << 10);
        let mut args = vec![question.check, question.path];
        args.extend(question.options);
        let mut spec = Spec::new(self.program.clone()).with_limits(limits);
        if args.first().is_some_and(|check| check == "links") {
            spec = spec.with_mount("/tree", Mount::Shared(self.tree.clone()));
        }
        let sandbox = self.runtime.launch(scope, spec).await?;
        let exec = Exec::new()
            .with_args(args)
            .with_stdin(agent_sandbox::exec::Stdin::Bytes(question.bytes));
        let output = sandbox.output(scope, exec).await;
        sandbox.close().await?;
        let output = output?;
        if !output.is_success() {
            let reason = format!("{:?}: {}", output.outcome.exit, output.stdout_lossy());
            return Err(agent_orch::Error::invalid("check program", reason));
        }
        let report: Report = serde_json::from_slice(&output.stdout)
            .map_err(|e| agent_orch::Error::invalid("check program's report", e.to_string()))?;
        let mut usage = output.outcome.usage;
        if usage.get(Unit::Calls) == 0 {
            usage.add(Unit::Calls, 1);
        }
        Ok((report, usage))
    }
}

fn blake3_hex(digest: &[u8; 32]) -> String {
    agent_core::Digest::from_bytes(*digest).to_string()
}

/// Counts findings by severity, for outputs that need no more.
pub(crate) fn by_code(findings: &[Finding]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.code.clone()).or_default() += 1;
    }
    counts
}
