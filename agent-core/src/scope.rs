//! Who acts for whom: the first argument of every layer call.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::id::{AgentId, AttemptId, RunId, TaskId};
use crate::time::{Clock, Timestamp};

/// Somebody who can act or own something: a DID, an agent id, `human:alice`, `host`.
///
/// Not empty, at most [`Principal::BYTES_MAX`] bytes, no white space or control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal(Arc<str>);

impl Principal {
    /// The longest name in bytes: a `did:key` of any common key type fits four times.
    pub const BYTES_MAX: usize = 256;

    /// Creates a principal from its name.
    ///
    /// # Errors
    /// `Invalid` if the name is empty, too long, or has white space or control characters.
    pub fn new(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > Self::BYTES_MAX {
            return Err(Error::invalid("principal", "a name has 1 to 256 bytes"));
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Error::invalid("principal", "a name has no white space"));
        }
        Ok(Self(name.into()))
    }

    /// The host program itself.
    #[must_use]
    pub fn host() -> Self {
        Self("host".into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl TryFrom<String> for Principal {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.0.as_ref().to_owned()
    }
}

impl From<AgentId> for Principal {
    fn from(agent: AgentId) -> Self {
        Self(agent.to_string().into())
    }
}

/// A number that rises each time a task changes hands; a write with an old one is refused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a number with a name; it will never carry more"
)]
pub struct Fence(pub u64);

/// The key that makes repeating a call harmless.
///
/// At most [`IdempotencyKey::BYTES_MAX`] printable ASCII bytes, so that it fits an HTTP header. Cheap
/// to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key in bytes, the limit of the strictest payment rails.
    pub const BYTES_MAX: usize = 255;

    /// Creates a key.
    ///
    /// # Errors
    /// `Invalid` if the key is empty, too long or not printable ASCII.
    pub fn new(key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        if key.is_empty()
            || key.len() > Self::BYTES_MAX
            || !key.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Error::invalid(
                "idempotency key",
                "1 to 255 printable ASCII bytes",
            ));
        }
        Ok(Self(key.into()))
    }

    /// Returns the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = Error;

    fn try_from(key: String) -> Result<Self> {
        Self::new(key)
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.as_str().to_owned()
    }
}

/// Who acts, for which work, until when, and how it is stopped.
///
/// Cheap to clone. A child scope narrows: its deadline is never later and its cancellation follows
/// the parent's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scope {
    /// Who acts.
    pub actor: Principal,
    /// Whose data and limits apply; tenants never see one another.
    pub tenant: Arc<str>,
    /// The agent that acts, where the actor is one.
    pub agent: Option<AgentId>,
    /// The run the call belongs to.
    pub run: Option<RunId>,
    /// The task the call belongs to.
    pub task: Option<TaskId>,
    /// The attempt at the task.
    pub attempt: Option<AttemptId>,
    /// The fence of the lease the caller holds.
    pub fence: Option<Fence>,
    /// For whom the actor acts: the first is the origin, the last the direct delegator.
    pub delegation: Arc<[Principal]>,
    /// When the call must have ended.
    pub deadline: Option<Timestamp>,
    /// The key under which the other side may recognize a repeated call. Child scopes keep it, so
    /// whoever makes several calls from one scope sets a key for each.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Stops the call when canceled.
    pub cancellation: CancellationToken,
}

impl Scope {
    /// The tenant of hosts that have only one.
    pub const TENANT_DEFAULT: &'static str = "default";

    /// Creates a scope for an actor: tenant `default`, no work bound to it, no deadline.
    #[must_use]
    pub fn new(actor: Principal) -> Self {
        Self {
            actor,
            tenant: Self::TENANT_DEFAULT.into(),
            agent: None,
            run: None,
            task: None,
            attempt: None,
            fence: None,
            delegation: Arc::from([]),
            deadline: None,
            idempotency_key: None,
            cancellation: CancellationToken::new(),
        }
    }

    /// Creates a scope for an agent, named by its id.
    #[must_use]
    pub fn agent(agent: AgentId) -> Self {
        Self {
            agent: Some(agent),
            ..Self::new(agent.into())
        }
    }

    /// Sets the tenant. Default: `default`.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Sets the run. Default: none.
    #[must_use]
    pub fn with_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Sets the task. Default: none.
    #[must_use]
    pub fn with_task(mut self, task: TaskId) -> Self {
        self.task = Some(task);
        self
    }

    /// Sets the attempt and the fence of its lease. Default: none.
    #[must_use]
    pub fn with_attempt(mut self, attempt: AttemptId, fence: Fence) -> Self {
        self.attempt = Some(attempt);
        self.fence = Some(fence);
        self
    }

    /// Sets the idempotency key. Default: none.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    /// Sets the deadline, unless an earlier one is set. Default: none.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(
            self.deadline
                .map_or(deadline, |earlier| earlier.min(deadline)),
        );
        self
    }

    /// Creates a scope in which `actor` acts for this scope's actor. Canceling this scope cancels
    /// the child; the reverse does not hold.
    #[must_use]
    pub fn delegate(&self, actor: Principal, agent: Option<AgentId>) -> Self {
        let delegation = self
            .delegation
            .iter()
            .cloned()
            .chain([self.actor.clone()])
            .collect();
        Self {
            actor,
            agent,
            delegation,
            cancellation: self.cancellation.child_token(),
            ..self.clone()
        }
    }

    /// Creates a scope of the same actor that can be canceled by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            cancellation: self.cancellation.child_token(),
            ..self.clone()
        }
    }

    /// Returns an error if the scope is canceled or its deadline has passed.
    ///
    /// # Errors
    /// `Canceled`, `TimedOut`.
    pub fn check(&self, clock: &dyn Clock) -> Result<()> {
        if self.cancellation.is_cancelled() {
            return Err(Error::Canceled);
        }
        match self.deadline {
            Some(deadline) if deadline <= clock.now() => Err(Error::TimedOut),
            _ => Ok(()),
        }
    }

    /// Runs `future` until it ends, the scope is canceled, or the deadline passes.
    ///
    /// # Errors
    /// `Canceled`, `TimedOut`; the future is dropped then.
    ///
    /// # Cancel safety
    /// As cancel safe as `future`.
    pub async fn guard<F: Future>(&self, clock: &dyn Clock, future: F) -> Result<F::Output> {
        self.check(clock)?;
        let deadline = async {
            match self.deadline {
                Some(deadline) => clock.sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancellation.cancelled() => Err(Error::Canceled),
            output = future => Ok(output),
            () = deadline => Err(Error::TimedOut),
        }
    }
}
