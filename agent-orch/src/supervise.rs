//! Supervision of running children: one task runs a whole tree of them and does what the pure
//! [`Tree`] decides.
//!
//! A child is a future that is made anew at each start. It is told to stop by a [`Signal`]; one
//! that never awaits cannot be stopped or aborted and holds its thread, as any future does.
//!
//! ```
//! use std::sync::Arc;
//! use agent_core::{CancellationToken, Env};
//! use agent_orch::Supervision;
//! use agent_orch::supervise::{Child, Group, Supervise, Unwatched};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> agent_orch::Result<()> {
//! let child = Child::new("greeter", |signal| async move {
//!     signal.canceled().await;
//!     Ok(())
//! });
//! let root = Group::new("root", Supervision::new()).with_child(child);
//! let (tree, handle) = Supervise::new(root, &Env::system(), Arc::new(Unwatched))?;
//! let cancel = CancellationToken::new();
//! let (_ended, running) = tokio::join!(tree.run(cancel.clone()), async {
//!     let running = handle.running().await;
//!     cancel.cancel();
//!     running
//! });
//! assert_eq!(running?, ["greeter"]);
//! # Ok(())
//! # }
//! ```

mod handle;
mod runtime;
mod tree;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, Failure};
use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::fleet::Supervision;

pub use handle::Handle;
pub use runtime::Supervise;
pub use tree::{Action, Event, NodeId, Tree};

/// What a running child is told.
#[derive(Clone, Debug, Default)]
pub struct Signal {
    drain: CancellationToken,
    cancel: CancellationToken,
}

impl Signal {
    /// Returns whether the child is to end when it has finished what it is at.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Waits until the child is to end when it has finished what it is at, or at once.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until the child is to end at once.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn canceled(&self) {
        self.cancel.cancelled().await;
    }

    /// Returns what is canceled when the child is to end at once.
    #[must_use]
    pub const fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    fn drain(&self) {
        self.drain.cancel();
    }

    fn cancel(&self) {
        self.drain.cancel();
        self.cancel.cancel();
    }
}

type Start = Arc<dyn Fn(Signal) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// A child: a future that is made anew at each start.
#[derive(Clone)]
pub struct Child {
    name: Arc<str>,
    start: Start,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Child {
    /// Describes a child. Its name is unique in its tree.
    pub fn new<F, Fut>(name: impl Into<Arc<str>>, start: F) -> Self
    where
        F: Fn(Signal) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        Self {
            name: name.into(),
            start: Arc::new(move |signal| Box::pin(start(signal))),
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A supervisor and what it supervises.
#[derive(Clone, Debug)]
pub struct Group {
    name: Arc<str>,
    supervision: Supervision,
    is_pool: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Child(Child),
    Group(Group),
}

impl Group {
    /// Describes a supervisor without children. Its name is unique in its tree.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, supervision: Supervision) -> Self {
        Self {
            name: name.into(),
            supervision,
            is_pool: false,
            parts: Vec::new(),
        }
    }

    /// As [`Group::new`], for children that are alike: they stop all at once, not one after the
    /// other in reverse order.
    #[must_use]
    pub fn pool(name: impl Into<Arc<str>>, supervision: Supervision) -> Self {
        Self {
            is_pool: true,
            ..Self::new(name, supervision)
        }
    }

    /// Adds a child after the others. Default: none.
    #[must_use]
    pub fn with_child(mut self, child: Child) -> Self {
        self.parts.push(Part::Child(child));
        self
    }

    /// Adds a supervisor after the other children. Default: none.
    #[must_use]
    pub fn with_group(mut self, group: Self) -> Self {
        self.parts.push(Part::Group(group));
        self
    }
}

/// What supervision did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A child ended and is restarted, with whom its supervisor restarts with it.
    Restarting {
        /// The child, or the supervisor that failed as one.
        child: Arc<str>,
        /// How it ended.
        failure: Failure,
        /// How long after all to be stopped are down.
        wait: Duration,
    },
    /// A child failed and is not restarted.
    Left {
        /// The child.
        child: Arc<str>,
        /// How it ended.
        failure: Failure,
    },
    /// A supervisor had too many restarts and fails as a child of the one above it.
    Escalated {
        /// The supervisor.
        group: Arc<str>,
        /// The child whose failure was one too many.
        child: Arc<str>,
        /// That failure.
        failure: Failure,
    },
    /// A supervisor had too many restarts; what it supervises is stopped until it is released.
    Quarantined {
        /// The supervisor.
        group: Arc<str>,
        /// The child whose failure was one too many.
        child: Arc<str>,
        /// That failure.
        failure: Failure,
    },
}

/// Sees what supervision does, in order and before it is done.
///
/// Supervision waits for it, so that nothing is lost and nothing piles up: an implementation that
/// records should queue.
#[async_trait]
pub trait Watch: fmt::Debug + Send + Sync + 'static {
    /// Takes one notice.
    async fn notice(&self, notice: Notice);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has nothing to hold")]
pub struct Unwatched;

#[async_trait]
impl Watch for Unwatched {
    async fn notice(&self, _notice: Notice) {}
}
