//! What a task was: its audit records, folded. Pure, so that every backend reads history alike.
//!
//! Each record that moves a task carries what changed under `set`. An output or failure that the
//! record names anyway is not named twice.

use std::collections::BTreeMap;

use agent_core::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audit::Record;
use crate::error::{Error, Result};
use crate::inbox::RequestId;
use crate::machine::StepState;
use crate::task::{NewTask, Stage, Task};

/// What a record names at its top rather than under `set`.
const AT_TOP: [&str; 2] = ["output", "failure"];

macro_rules! moving_parts {
    ($($field:ident),+ $(,)?) => {
        /// Returns what changed between two states of a task.
        pub(crate) fn delta(before: &Task, after: &Task) -> Map<String, Value> {
            let mut set = Map::new();
            $(
                if before.$field != after.$field {
                    set.insert(stringify!($field).to_owned(), json!(after.$field));
                }
            )+
            set
        }

        /// Returns every part of a task that ever changes.
        pub(crate) fn whole(task: &Task) -> Map<String, Value> {
            let mut set = Map::new();
            $(set.insert(stringify!($field).to_owned(), json!(task.$field));)+
            set
        }

        fn put(task: &mut Task, part: &str, value: &Value) -> Option<()> {
            match part {
                $(stringify!($field) => {
                    task.$field = serde_json::from_value(value.clone()).ok()?;
                })+
                _ => return None,
            }
            Some(())
        }
    };
}

moving_parts!(
    stage,
    status,
    pool,
    round,
    attempts,
    author,
    output,
    feedback,
    failures,
    failure,
    not_before,
    avoid,
    paused_from,
    is_pausing,
    home,
    retries,
    choices,
    ends_as,
);

/// Adds what changed to the payload of a record.
pub(crate) fn payload(mut payload: Value, mut set: Map<String, Value>) -> Value {
    for part in AT_TOP {
        if payload
            .get(part)
            .is_some_and(|named| set.get(part) == Some(named))
        {
            set.remove(part);
        }
    }
    match payload.as_object_mut() {
        Some(fields) => {
            fields.insert("set".to_owned(), Value::Object(set));
            payload
        }
        None => json!({ "set": set }),
    }
}

/// Returns a task as it was submitted to a pool. Its priority is the present one: age is nothing
/// that happened.
pub(crate) fn submitted(task: &Task, pool: String) -> Task {
    let new = NewTask::new(task.key.clone(), pool, task.input.clone());
    Task {
        id: task.id,
        parent: task.parent,
        root: task.root,
        depth: task.depth,
        is_detached: task.is_detached,
        deadline: task.deadline,
        priority: task.priority,
        fair_key: task.fair_key.clone(),
        ..new.as_task(task.run)
    }
}

/// Applies one record to the task it is about.
pub(crate) fn fold(task: &mut Task, record: &Record) -> Result<()> {
    if !(record.kind.starts_with("task.") || record.kind == "lease.ended") {
        return Ok(());
    }
    let (id, seq) = (task.id, record.seq);
    let gone = || Error::HistoryGone { task: id, seq };
    let payload = record.payload.as_ref().ok_or_else(gone)?;
    let set = payload
        .get("set")
        .and_then(Value::as_object)
        .ok_or_else(gone)?;
    let top = AT_TOP
        .iter()
        .filter_map(|part| Some((*part, payload.get(*part)?)));
    for (part, value) in top.chain(set.iter().map(|(part, value)| (part.as_str(), value))) {
        put(task, part, value).ok_or_else(gone)?;
    }
    Ok(())
}

/// Which step of a task: round, stage, name and ordinal.
pub(crate) type StepName = (u32, Stage, String, u32);

/// A step as it stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepThen {
    pub(crate) name: StepName,
    pub(crate) digest: Digest,
    pub(crate) state: String,
    pub(crate) n_try: u32,
    pub(crate) intent: Option<u64>,
    /// The key under which the other side knows it.
    pub(crate) key: String,
    pub(crate) failure: Option<Value>,
    /// The first record about it: the order of the steps.
    #[serde(default)]
    pub(crate) first: u64,
    /// The digest of what it returned.
    #[serde(default)]
    pub(crate) result: Option<Digest>,
}

/// A task as it stood, with its steps and questions.
#[derive(Clone, Debug)]
pub(crate) struct Then {
    pub(crate) task: Task,
    pub(crate) steps: BTreeMap<StepName, StepThen>,
    /// The questions, and whether they were answered.
    pub(crate) requests: BTreeMap<RequestId, bool>,
}

impl Then {
    pub(crate) fn submitted(task: &Task, pool: String) -> Self {
        Self {
            task: submitted(task, pool),
            steps: BTreeMap::new(),
            requests: BTreeMap::new(),
        }
    }

    /// Applies one record of the task.
    pub(crate) fn fold(&mut self, record: &Record) -> Result<()> {
        fold(&mut self.task, record)?;
        let kind = record.kind.as_str();
        let state = match kind {
            "effect.intended" => StepState::Intended,
            "effect.done" => StepState::Done,
            "effect.failed" => StepState::Failed,
            "effect.in_doubt" => StepState::Unknown,
            "task.forked" | "step.migrated" | "request.asked" | "request.answered"
            | "request.closed" => {
                let known = match kind {
                    "task.forked" => self.carried(record),
                    "step.migrated" => self.migrated(record),
                    _ => self.asked(record),
                };
                return known.ok_or_else(|| self.gone(record));
            }
            _ => return Ok(()),
        };
        self.step(record, state).ok_or_else(|| self.gone(record))
    }

    const fn gone(&self, record: &Record) -> Error {
        Error::HistoryGone {
            task: self.task.id,
            seq: record.seq,
        }
    }

    fn carried(&mut self, record: &Record) -> Option<()> {
        let steps = record.payload.as_ref()?.get("steps")?;
        let steps: Vec<StepThen> = serde_json::from_value(steps.clone()).ok()?;
        self.steps = steps
            .into_iter()
            .map(|step| (step.name.clone(), step))
            .collect();
        Some(())
    }

    /// Forgets the steps that are done anew, or gives the step the value it keeps.
    fn migrated(&mut self, record: &Record) -> Option<()> {
        let payload = record.payload.as_ref()?;
        let (round, stage) = (self.task.round, self.task.stage);
        let named = |name: &Value, ordinal: &Value| {
            let ordinal = u32::try_from(ordinal.as_u64()?).ok()?;
            Some((round, stage, name.as_str()?.to_owned(), ordinal))
        };
        let name = named(payload.get("step")?, payload.get("ordinal")?)?;
        if payload.get("how")? == "keep" {
            let step = self.steps.get_mut(&name)?;
            step.digest = serde_json::from_value(payload.get("to")?.clone()).ok()?;
            let result = payload.get("result").cloned().unwrap_or_default();
            step.result = serde_json::from_value(result).ok()?;
            return Some(());
        }
        self.steps.remove(&name);
        let others = payload.get("forgotten").and_then(Value::as_array);
        for forgotten in others.into_iter().flatten() {
            let name = named(forgotten.get(0)?, forgotten.get(1)?)?;
            self.steps.remove(&name);
        }
        Some(())
    }

    fn asked(&mut self, record: &Record) -> Option<()> {
        let id = record.payload.as_ref()?.get("request")?;
        let id: RequestId = serde_json::from_value(id.clone()).ok()?;
        self.requests.insert(id, record.kind != "request.asked");
        Some(())
    }

    fn step(&mut self, record: &Record, state: StepState) -> Option<()> {
        let payload = record.payload.as_ref()?;
        let part = |name| payload.get(name);
        let name = (
            self.task.round,
            self.task.stage,
            part("step")?.as_str()?.to_owned(),
            u32::try_from(part("ordinal")?.as_u64()?).ok()?,
        );
        let n_try = u32::try_from(part("try")?.as_u64()?).ok()?;
        let failure = part("failure").filter(|f| !f.is_null()).cloned();
        let result = match part("result") {
            Some(digest) => serde_json::from_value(digest.clone()).ok()?,
            None => None,
        };
        let known = self.steps.get(&name);
        let first = known.map_or(record.seq, |step| step.first);
        // An outcome without an intent of its own names the effect itself.
        if let (Some(digest), Some(key)) = (part("digest"), part("key")) {
            let step = StepThen {
                name: name.clone(),
                digest: serde_json::from_value(digest.clone()).ok()?,
                state: state.name().to_owned(),
                n_try,
                intent: Some(record.seq).filter(|_| state == StepState::Intended),
                key: key.as_str()?.to_owned(),
                failure,
                first,
                result,
            };
            self.steps.insert(name, step);
            return Some(());
        }
        let step = self.steps.get_mut(&name)?;
        (step.state, step.n_try, step.failure) = (state.name().to_owned(), n_try, failure);
        step.result = result;
        Some(())
    }
}
