//! The two agents, and the points at which they are crashed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use agent_core::{Effect, EffectClass, ErrorKind, Failure, Retry, Scope};
use agent_orch::{Acted, Agent, Ctx, Ended, Error, Result, Task};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::trace::{Call, Trace, Traces};
use crate::world::{World, Written};

/// Where an agent is in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// The intent is recorded, nothing has happened.
    BeforeEffect,
    /// The effect has happened and nobody has noted it.
    AfterEffect,
    /// The outcome is recorded, the agent has not gone on.
    AfterOutcome,
}

/// Told of each point that is passed; may not return.
pub(crate) trait Points: fmt::Debug + Send + Sync {
    /// An agent passes a point of a task's call.
    fn pass(&self, task: &str, call: usize, point: Point);
}

/// Crashes an agent once at each of a set of points.
#[derive(Debug)]
pub(crate) struct Crashes(Mutex<BTreeSet<(String, usize, Point)>>);

impl Crashes {
    pub(crate) fn none() -> Self {
        Self(Mutex::default())
    }

    /// Three crashes at every call, and three at the look of each verifier.
    pub(crate) fn everywhere(traces: &Traces) -> Self {
        let mut points = BTreeSet::new();
        for trace in &traces.tasks {
            for call in 0..=trace.calls.len() {
                for point in [Point::BeforeEffect, Point::AfterEffect, Point::AfterOutcome] {
                    points.insert((trace.key(), call, point));
                }
            }
        }
        Self(Mutex::new(points))
    }

    /// Returns how many crashes have not happened.
    pub(crate) fn left(&self) -> usize {
        self.0.lock().len()
    }
}

impl Points for Crashes {
    fn pass(&self, task: &str, call: usize, point: Point) {
        let mut points = self.0.lock();
        let is_planned = points.remove(&(task.to_owned(), call, point));
        drop(points);
        if is_planned {
            // Unwinds the agent as a panic does, without its message.
            std::panic::resume_unwind(Box::new("an injected crash"));
        }
    }
}

/// What both agents know.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) world: Arc<World>,
    pub(crate) points: Arc<dyn Points>,
}

impl Desk {
    /// Makes one call against the world.
    fn call(&self, task: &str, n: usize, call: &Call, scope: &Scope) -> Result<Option<String>> {
        self.points.pass(task, n, Point::BeforeEffect);
        if call.write {
            let written = Written {
                task: task.to_owned(),
                call: n,
                what: call.written(),
                key: key_of(scope).to_owned(),
            };
            let written = self.world.write(written, call.class());
            written.map_err(|error| away(&error))?;
        }
        self.points.pass(task, n, Point::AfterEffect);
        Ok(call.result.clone())
    }
}

fn key_of(scope: &Scope) -> &str {
    scope
        .idempotency_key
        .as_ref()
        .map_or("", |key| key.as_str())
}

fn away(error: &std::io::Error) -> Error {
    let message = format!("the world cannot be written: {error}");
    let fix = "see whether its disk is full";
    Failure::new(
        ErrorKind::Unavailable,
        Retry::Unknown,
        "world.away",
        &message,
        fix,
    )
    .into()
}

/// Makes the calls of a trace.
#[derive(Debug)]
pub(crate) struct Replayer(pub(crate) Desk);

#[async_trait]
impl Agent for Replayer {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let trace = trace_of(task)?;
        let key = trace.key();
        let mut results: Vec<Option<String>> = Vec::with_capacity(trace.calls.len());
        for (n, call) in trace.calls.iter().enumerate() {
            // A service that can be asked by key says whether the call happened.
            let probe = async |scope: Scope| {
                let happened = self.0.world.knows(key_of(&scope));
                Ok(happened.then(|| call.result.clone()))
            };
            let act = async |scope: Scope| Ok(Acted::new(self.0.call(&key, n, call, &scope)?));
            let effect = trace.effect(n, call);
            results.push(cx.probed(&call.name, effect, probe, act).await?);
            self.0.points.pass(&key, n, Point::AfterOutcome);
        }
        Ok(Ended::done(json!(results)))
    }
}

/// Compares what the world has of a task with its trace, and what the author was told with what
/// the trace returned. Of a call that only a person could vouch for the result is not known.
#[derive(Debug)]
pub(crate) struct Inspector(pub(crate) Desk);

#[async_trait]
impl Agent for Inspector {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let trace = trace_of(task)?;
        let (key, n) = (trace.key(), trace.calls.len());
        let act = async |_scope| {
            self.0.points.pass(&key, n, Point::BeforeEffect);
            let seen = self.0.world.of(&key);
            self.0.points.pass(&key, n, Point::AfterEffect);
            Ok(Acted::new(seen))
        };
        let look = Effect::new("tool.call", "look", EffectClass::Pure, json!(key));
        let seen: Vec<String> = cx.effect("look", look, act).await?;
        self.0.points.pass(&key, n, Point::AfterOutcome);
        let told: Vec<Option<String>> = read(task.output.clone().unwrap_or_default())?;
        let wanted: Vec<String> = trace.writes().map(Call::written).collect();
        let is_told = told.len() == n
            && std::iter::zip(&told, &trace.calls).all(|(told, call)| {
                *told == call.result || (told.is_none() && call.class() == EffectClass::Opaque)
            });
        if seen == wanted && is_told {
            Ok(Ended::accepted(json!(seen.len())))
        } else {
            Ok(Ended::refused(json!({ "seen": seen, "told": told })))
        }
    }
}

fn trace_of(task: &Task) -> Result<Trace> {
    read(task.input.clone())
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| Error::invalid("task", e.to_string()))
}
