//! What can go wrong with orchestration, as decisions for the host.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::{Amount, BoxError, Classify, ErrorKind, Failure, Fence, Retry, TaskId, store};

use crate::fleet::ConfigError;
use crate::wait::Awaited;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's lease ended or passed to somebody else; whatever it was doing must stop.
    #[error("the lease on {task} with fence {} is over", fence.0)]
    #[non_exhaustive]
    LeaseLost {
        /// The task.
        task: TaskId,
        /// The fence the caller holds.
        fence: Fence,
    },
    /// A resumed step has other inputs than the recorded one of the same name and ordinal.
    #[error("step {name}#{ordinal} of {task} drifted from its recorded inputs")]
    #[non_exhaustive]
    Drift {
        /// The task.
        task: TaskId,
        /// The step's name.
        name: String,
        /// Which of the steps of that name.
        ordinal: u32,
    },
    /// A gate, a policy or an approver refused an effect.
    #[error("{action} on {target} was refused ({code}): {reason}")]
    #[non_exhaustive]
    Refused {
        /// The effect's action.
        action: String,
        /// The effect's target.
        target: String,
        /// The gate's code.
        code: String,
        /// The gate's reason.
        reason: String,
    },
    /// Nobody can tell whether an effect happened before a crash.
    #[error("it is not known whether {action} on {target} happened")]
    #[non_exhaustive]
    InDoubt {
        /// The effect's action.
        action: String,
        /// The effect's target.
        target: String,
    },
    /// Something must happen first; the task continues when it has.
    #[error("waits for {on}")]
    #[non_exhaustive]
    Waiting {
        /// What must happen.
        on: Awaited,
    },
    /// The task is wanted back: it was paused, or something more urgent came. Return it; the task
    /// is released without counting a failure.
    #[error("{task} is wanted back at its next step")]
    #[non_exhaustive]
    Yielded {
        /// The task.
        task: TaskId,
    },
    /// Children must end first; the task continues when they have. Return it from the agent.
    #[error("waits for {n} children of {task}")]
    #[non_exhaustive]
    Joining {
        /// The task that waits.
        task: TaskId,
        /// How many children have not ended.
        n: usize,
    },
    /// A delegation tree was retried as often as it may be.
    #[error("the delegation tree of {root} may be retried {limit} times")]
    #[non_exhaustive]
    RetriesExhausted {
        /// The task at the top of the tree.
        root: TaskId,
        /// The limit.
        limit: u32,
    },
    /// A delegation tree would cost more than it may.
    #[error("the delegation tree of {root} may cost no more than {limit}")]
    #[non_exhaustive]
    TreeBudget {
        /// The task at the top of the tree.
        root: TaskId,
        /// The most the tree may cost.
        limit: Amount,
    },
    /// An audit record does not hold what became of a task: its payload was erased, or an earlier
    /// format wrote it.
    #[error("record {seq} does not hold what became of {task}")]
    #[non_exhaustive]
    HistoryGone {
        /// The task.
        task: TaskId,
        /// The record.
        seq: u64,
    },
    /// The other side has not answered for a while, so it is not asked.
    #[error("{action} on {target} is not tried: it did not answer lately")]
    #[non_exhaustive]
    BreakerOpen {
        /// The effect's action.
        action: String,
        /// The effect's target.
        target: String,
        /// When it is tried again.
        retry_after: Duration,
    },
    /// A limit of the pool was reached.
    #[error("{what} is limited to {limit}")]
    #[non_exhaustive]
    LimitReached {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A worker asked for what the task's state does not allow.
    #[error("{task} cannot {verb} while it is {state}")]
    #[non_exhaustive]
    WrongState {
        /// The task.
        task: TaskId,
        /// What was asked for.
        verb: &'static str,
        /// The state it is in.
        state: String,
    },
    /// The named thing does not exist.
    #[error("there is no {what} {name}")]
    #[non_exhaustive]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A manifest, task or answer is wrong.
    #[error("{key}: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// The key, field or place in the text.
        key: String,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// A manifest is wrong at a place that is named.
    #[error(transparent)]
    Config(#[from] Box<ConfigError>),
    /// The audit chain does not verify.
    #[error("audit record {seq} {found}")]
    #[non_exhaustive]
    AuditBroken {
        /// The first bad record.
        seq: u64,
        /// What is wrong with it.
        found: &'static str,
    },
    /// The agent's own code failed; the failure is classified by the agent.
    #[error(transparent)]
    Agent(#[from] Failure),
    /// The vocabulary refused a value, a scope ended, or a seam failed.
    #[error(transparent)]
    Core(#[from] agent_core::Error),
    /// The embedded store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The ledger or a budget refused or failed.
    #[error(transparent)]
    Pay(#[from] agent_pay::Error),
    /// Keys, grants or signatures failed.
    #[error(transparent)]
    Identity(#[from] agent_identity::Error),
    /// The sandbox failed on the host's side.
    #[error(transparent)]
    Sandbox(#[from] agent_sandbox::Error),
    /// The memory store failed.
    #[error(transparent)]
    Memory(#[from] agent_memory::Error),
    /// A tool call failed before the tool could answer.
    #[error(transparent)]
    Tools(#[from] agent_tools::Error),
    /// Something below failed.
    #[error("failed to {operation}")]
    #[non_exhaustive]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// Whether it may be repeated.
        retry: Retry,
        /// The cause.
        source: BoxError,
    },
}

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an [`Error::Invalid`].
    #[must_use]
    pub fn invalid(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            key: key.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn not_found(what: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound {
            what,
            name: name.into(),
        }
    }

    /// Wraps the failure of something below, with what is known about repeating it.
    #[cfg(feature = "git")]
    pub(crate) fn backend(
        operation: &'static str,
        retry: Retry,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend {
            operation,
            retry,
            source: source.into(),
        }
    }

    /// Returns the classified error of the layer this one passes on.
    fn inner(&self) -> Option<&dyn Classify> {
        match self {
            Self::Core(e) => Some(e),
            Self::Store(e) => Some(e),
            Self::Pay(e) => Some(e),
            Self::Identity(e) => Some(e),
            Self::Sandbox(e) => Some(e),
            Self::Memory(e) => Some(e),
            Self::Tools(e) => Some(e),
            _ => None,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::LeaseLost { .. } | Self::Drift { .. } | Self::WrongState { .. } => {
                ErrorKind::Conflict
            }
            Self::Refused { .. } => ErrorKind::Denied,
            Self::LimitReached { .. } | Self::RetriesExhausted { .. } | Self::TreeBudget { .. } => {
                ErrorKind::Exhausted
            }
            Self::NotFound { .. } | Self::HistoryGone { .. } => ErrorKind::NotFound,
            Self::Invalid { .. } | Self::Config(_) => ErrorKind::Invalid,
            Self::AuditBroken { .. } => ErrorKind::Corrupt,
            Self::Waiting { .. }
            | Self::Yielded { .. }
            | Self::Joining { .. }
            | Self::InDoubt { .. }
            | Self::BreakerOpen { .. }
            | Self::Backend { .. } => ErrorKind::Unavailable,
            Self::Agent(failure) => failure.kind,
            layer => layer.inner().map_or(ErrorKind::Internal, Classify::kind),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::InDoubt { .. } => Retry::Unknown,
            Self::BreakerOpen { .. } => Retry::Safe,
            Self::Backend { retry, .. } => *retry,
            Self::Agent(failure) => failure.retry,
            layer => layer.inner().map_or(Retry::Never, Classify::retry),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::LeaseLost { .. } => "orch.lease_lost",
            Self::Drift { .. } => "orch.drift",
            Self::Refused { .. } => "orch.refused",
            Self::InDoubt { .. } => "orch.in_doubt",
            Self::Waiting { .. } => "orch.waiting",
            Self::Yielded { .. } => "orch.yielded",
            Self::Joining { .. } => "orch.joining",
            Self::RetriesExhausted { .. } => "orch.retries",
            Self::TreeBudget { .. } => "pay.tree_budget",
            Self::HistoryGone { .. } => "orch.history_gone",
            Self::BreakerOpen { .. } => "orch.breaker_open",
            Self::LimitReached { .. } => "orch.limit",
            Self::WrongState { .. } => "orch.wrong_state",
            Self::NotFound { .. } => "orch.not_found",
            Self::Invalid { .. } => "orch.invalid",
            Self::Config(_) => "orch.config",
            Self::AuditBroken { .. } => "orch.audit_broken",
            Self::Agent(_) => "orch.agent",
            Self::Backend { .. } => "orch.backend",
            layer => layer.inner().map_or("orch.internal", Classify::code),
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::LeaseLost { .. } => "stop; whoever holds the task continues it",
            Self::Drift { .. } => "start a new round of the task, or restore the code that ran it",
            Self::Refused { .. } => "widen the grant, or do without this effect",
            Self::InDoubt { .. } => "look at the other side and answer the request in the inbox",
            Self::Waiting { .. } => "return it from the agent; answer what it waits for",
            Self::Joining { .. } => "return it from the agent; it goes on when they have ended",
            Self::RetriesExhausted { .. } => "see why it fails, or raise `limits.tree_retries`",
            Self::TreeBudget { .. } => "raise the budget of the tree, or delegate less",
            Self::HistoryGone { .. } => "choose a later record, or the task as it stands",
            Self::Yielded { .. } => "return the error; the attempt is made again later",
            Self::BreakerOpen { .. } => "wait, or fall back on something else",
            Self::LimitReached { .. } => "raise the limit in the pool, or split the task",
            Self::WrongState { .. } => "read the task again and decide on its current state",
            Self::NotFound { .. } => "check the name",
            Self::Invalid { .. } => "correct the value the message names",
            Self::AuditBroken { .. } => {
                "restore a backup; the record was changed after it was written"
            }
            Self::Config(error) => return Cow::Owned(error.remedy.to_string()),
            Self::Agent(failure) => return Cow::Owned(failure.fix.clone()),
            Self::Backend { .. } => "see the cause; repeat only as the error's retry says",
            layer => {
                return layer
                    .inner()
                    .map_or(Cow::Borrowed("report this as a bug"), Classify::fix);
            }
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BreakerOpen { retry_after, .. } => Some(*retry_after),
            Self::Agent(failure) => failure.retry_after_ms.map(Duration::from_millis),
            layer => layer.inner().and_then(Classify::retry_after),
        }
    }
}

/// Describes an error as data; an agent's own failure is passed on as it is.
#[must_use]
pub(crate) fn failure_of(error: &Error) -> Failure {
    match error {
        Error::Agent(failure) => failure.clone(),
        other => Failure::of(other),
    }
}
