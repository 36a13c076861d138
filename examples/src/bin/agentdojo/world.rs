//! The outside world: a log of writes that outlives whoever wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use agent_core::{Digest, EffectClass};
use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// One write, as the world keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    /// `suite/task`.
    pub(crate) task: String,
    /// Which call of the task.
    pub(crate) call: usize,
    /// The function and its arguments.
    pub(crate) what: String,
    /// The idempotency key it came with.
    pub(crate) key: String,
}

/// A world in memory or in a file. The file is no part of the agents' store: killing them leaves
/// it as it is.
#[derive(Debug)]
pub(crate) struct World {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    log: Vec<Written>,
    keys: BTreeSet<String>,
    asked_again: u64,
    file: Option<File>,
}

impl World {
    pub(crate) fn in_memory() -> Self {
        Self {
            inner: Mutex::default(),
        }
    }

    /// Opens the world of a file. Half a line at its end was never a write.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let about = || format!("cannot open the world {}", path.display());
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .append(true)
            .open(path)
            .with_context(about)?;
        let text = std::fs::read_to_string(path).with_context(about)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(u64::try_from(whole)?).with_context(about)?;
        let mut inner = Inner::default();
        for line in text.get(..whole).unwrap_or_default().lines() {
            let written: Written = serde_json::from_str(line).with_context(about)?;
            inner.keys.insert(written.key.clone());
            inner.log.push(written);
        }
        inner.file = Some(file);
        Ok(Self {
            inner: Mutex::new(inner),
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock())
    }

    /// Takes a write. Only a service that recognizes keys takes it once per key; all others do
    /// what they are told as often as they are told.
    pub(crate) fn write(&self, written: Written, class: EffectClass) -> io::Result<()> {
        self.with(|inner| {
            if !inner.keys.insert(written.key.clone()) {
                inner.asked_again += 1;
                if class == EffectClass::Idempotent {
                    return Ok(());
                }
            }
            if let Some(file) = &mut inner.file {
                let line = format!("{}\n", serde_json::to_string(&written)?);
                file.write_all(line.as_bytes())?;
            }
            inner.log.push(written);
            Ok(())
        })
    }

    /// Returns whether a write came under the key.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.with(|inner| inner.keys.contains(key))
    }

    /// Returns whether a call of a task was written: what a person sees who looks at the outbox.
    pub(crate) fn has(&self, task: &str, call: usize) -> bool {
        self.with(|inner| inner.log.iter().any(|w| w.task == task && w.call == call))
    }

    /// Returns the writes of one task in order.
    pub(crate) fn of(&self, task: &str) -> Vec<String> {
        self.with(|inner| {
            let own = inner.log.iter().filter(|w| w.task == task);
            own.map(|w| w.what.clone()).collect()
        })
    }

    /// Returns the writes in order, by task: tasks run side by side, so that only the order within
    /// one means something.
    pub(crate) fn log(&self) -> BTreeMap<String, Vec<String>> {
        self.with(|inner| {
            let mut log: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for written in &inner.log {
                let own = log.entry(written.task.clone()).or_default();
                own.push(written.what.clone());
            }
            log
        })
    }

    /// Returns the hash of each suite's state, the sum of what was written to it.
    pub(crate) fn state(&self) -> BTreeMap<String, Digest> {
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        for (task, writes) in self.log() {
            let suite = task.split('/').next().unwrap_or_default();
            let text = texts.entry(suite.to_owned()).or_default();
            for write in writes {
                text.push_str(&format!("{task} {write}\n"));
            }
        }
        let hashed = |(suite, text): (String, String)| (suite, Digest::of_bytes(text.as_bytes()));
        texts.into_iter().map(hashed).collect()
    }

    /// Returns how many writes came under a key that was known.
    pub(crate) fn asked_again(&self) -> u64 {
        self.with(|inner| inner.asked_again)
    }
}
