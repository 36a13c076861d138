//! The traces: what each agent does, read from a file of one JSON object a line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agent_core::{Effect, EffectClass};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One call of a tool and what it returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    #[serde(rename = "fn")]
    pub(crate) name: String,
    pub(crate) args: Value,
    pub(crate) result: Option<String>,
    pub(crate) err: Option<String>,
    /// Whether it changes the world.
    pub(crate) write: bool,
}

impl Call {
    /// What a service of this kind can promise: payments and bookings take an idempotency key,
    /// messages to people cannot even be looked up, files and calendars can.
    pub(crate) fn class(&self) -> EffectClass {
        const KEYED: &[&str] = &["send_money", "schedule_transaction", "reserve_hotel"];
        const KEYED_PREFIX: &str = "update_";
        const UNSEEN: &[&str] = &[
            "send_email",
            "send_direct_message",
            "send_channel_message",
            "invite_user_to_slack",
            "post_webpage",
        ];
        let name = self.name.as_str();
        if !self.write {
            EffectClass::Pure
        } else if KEYED.contains(&name) || name.starts_with(KEYED_PREFIX) {
            EffectClass::Idempotent
        } else if UNSEEN.contains(&name) {
            EffectClass::Opaque
        } else {
            EffectClass::Probeable
        }
    }

    /// The line a write leaves in the world's log.
    pub(crate) fn written(&self) -> String {
        format!("{} {}", self.name, self.args)
    }
}

/// One task: the calls an agent makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) suite: String,
    pub(crate) task: String,
    pub(crate) calls: Vec<Call>,
}

impl Trace {
    /// Names the task among all suites.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.suite, self.task)
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.write)
    }

    /// The effect of call number `n`.
    pub(crate) fn effect(&self, n: usize, call: &Call) -> Effect {
        let arguments =
            json!({ "task": self.key(), "call": n, "fn": call.name, "args": call.args });
        Effect::new("tool.call", self.suite.as_str(), call.class(), arguments)
    }
}

/// All tasks of a file.
#[derive(Debug)]
pub(crate) struct Traces {
    pub(crate) tasks: Vec<Trace>,
}

impl Traces {
    /// Reads a file. An error names the line.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the traces {shown}; give the path of a JSONL file of tasks")
        })?;
        let (mut tasks, mut seen) = (Vec::new(), BTreeSet::new());
        for (n, line) in (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let trace: Trace = serde_json::from_str(line).with_context(|| {
                format!("{shown}:{n} is no task {{suite, task, calls: [{{fn, args, result, err, write}}]}}")
            })?;
            if !seen.insert(trace.key()) {
                bail!("{shown}:{n} has the task {} a second time", trace.key());
            }
            tasks.push(trace);
        }
        ensure!(!tasks.is_empty(), "{shown} has no tasks");
        Ok(Self { tasks })
    }

    pub(crate) fn suites(&self) -> BTreeSet<&str> {
        self.tasks
            .iter()
            .map(|trace| trace.suite.as_str())
            .collect()
    }

    pub(crate) fn n_calls(&self) -> usize {
        self.tasks.iter().map(|trace| trace.calls.len()).sum()
    }

    pub(crate) fn n_writes(&self) -> usize {
        self.tasks.iter().map(|trace| trace.writes().count()).sum()
    }

    /// What the world's log says of each task in the end.
    pub(crate) fn writes(&self) -> BTreeMap<String, Vec<String>> {
        let of = |trace: &Trace| (trace.key(), trace.writes().map(Call::written).collect());
        let all = self.tasks.iter().map(of);
        all.filter(|(_, writes): &(String, Vec<String>)| !writes.is_empty())
            .collect()
    }
}
