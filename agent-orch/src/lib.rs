#![doc = include_str!("../README.md")]

mod agent;
mod alarm;
mod attempts;
pub mod audit;
pub mod backend;
mod bell;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cron;
mod decide;
mod door;
mod drift;
mod error;
mod fleet;
mod history;
mod inbox;
mod journal;
#[cfg(feature = "git")]
mod lander;
pub mod layer;
pub mod machine;
mod memory_tools;
#[cfg(feature = "git")]
pub mod merge;
mod outbox;
mod probe;
mod recovery;
mod registry;
pub mod report;
mod restart;
mod runner;
mod stack;
mod stuck;
pub mod supervise;
mod supervisor;
mod task;
mod throttle;
mod tree;
mod undo;
mod wait;

pub use agent::{Acted, Agent, Awakeable, Ctx, Step};
pub use audit::{Audit, EventQuery, Record};
pub use cron::Cron;
pub use decide::{Ended, GIVE_UP, Next, Policy, TRY_AGAIN, decide};
pub use door::{BreakerState, Chaos, FailPoint, Fault, Hook, Point};
pub use drift::{Drifted, Migrate, Migration, RecordedStep};
pub use error::{Error, Result};
pub use fleet::{
    Branch, BreakerPolicy, CatchUp, ConfigError, Escalation, Fallback, Fleet, Lane, Limit, Limits,
    Overlap, Pool, PoolRecovery, Preemption, Probes, Rate, Remedy, Retirement, Scale, Scaler,
    Schedule, ScheduleChange, Scheduled, Scheduling, Supervision, UndoWhen,
};
pub use inbox::{Answer, NewRequest, Request, RequestId, Severity};
pub use journal::{
    Admission, ClaimRequest, Counts, Intended, Intent, Journal, NewRun, Outcome, Pass, Queue, Run,
    StepKey, Swept,
};
#[cfg(feature = "git")]
pub use lander::Lander;
pub use memory_tools::MemoryTools;
pub use outbox::{Deliver, Message, MessageId, NewMessage, Taken, Undelivered};
pub use recovery::{Action, Backoff, Class, RecoveryTable, Rung};
pub use registry::{AgentQuery, AgentRecord, AgentState, NewAgent, Sprawl};
pub use restart::{Intensity, OnMeltdown, Restart, RestartDelay, Strategy};
pub use runner::AgentFactory;
pub use stack::{Layer, Layers, Stack, StackConfig, agent_id};
pub use stuck::{Stuck, Why};
pub use supervisor::{Progress, Reloaded, RunHandle, Supervisor};
pub use task::{Alternative, Claim, Lease, NewTask, Stage, Status, Task, Transition};
pub use tree::{Child, ChildEnd, Control, Controlled, NewChild, Spawn, Target};
pub use undo::{NewUndo, Undo};
pub use wait::{
    Awaited, Due, First, Happened, NewWait, Resolution, Signal, Source, TaskRef, Wait, WaitId,
};

/// Compiles and runs the example of the workspace's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct WorkspaceReadme;
