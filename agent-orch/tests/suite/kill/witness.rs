//! The witness: one line per acknowledged call and per effect, in a file that outlives the store's
//! process. Each line is one write, so a kill leaves whole lines.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use agent_core::{EffectClass, TaskId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What a worker knows to be so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Line {
    /// The task was submitted.
    Submitted { task: TaskId },
    /// The lease was given.
    Claimed { task: TaskId, fence: u64 },
    /// The intent was recorded.
    Intended {
        task: TaskId,
        key: String,
        n_try: u32,
    },
    /// The effect happened. Written by the outside world.
    Happened { key: String, class: EffectClass },
    /// The outcome was recorded.
    Settled {
        task: TaskId,
        key: String,
        n_try: u32,
    },
    /// The lease ended and the task moved on.
    Finished {
        task: TaskId,
        fence: u64,
        kind: String,
    },
}

/// The file, and the keys the world knows.
#[derive(Debug)]
pub(crate) struct Witness {
    file: Mutex<File>,
    known: Mutex<BTreeSet<String>>,
}

impl Witness {
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join("witness.jsonl");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        let known = read(dir).into_iter().filter_map(|line| match line {
            Line::Happened { key, .. } => Some(key),
            _ => None,
        });
        Self {
            known: Mutex::new(known.collect()),
            file: Mutex::new(file),
        }
    }

    pub(crate) fn note(&self, line: &Line) {
        let text = format!("{}\n", serde_json::to_string(line).unwrap());
        self.file.lock().write_all(text.as_bytes()).unwrap();
    }

    /// The outside world does something. Only what recognizes keys does it once per key.
    pub(crate) fn act(&self, key: &str, class: EffectClass) {
        let is_fresh = self.known.lock().insert(key.to_owned());
        if is_fresh || class != EffectClass::Idempotent {
            let key = key.to_owned();
            self.note(&Line::Happened { key, class });
        }
    }

    /// The outside world is asked.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.known.lock().contains(key)
    }
}

/// Reads all lines.
pub(crate) fn read(dir: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(dir.join("witness.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}
