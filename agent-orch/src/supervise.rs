//! Supervision of running children: the tasks around the pure decisions of [`crate::restart`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, Clock, ClockExt, Failure};
use futures_util::future::BoxFuture;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::fleet::Supervision;
use crate::restart::{Decision, RestartState};

/// How long a child may take to stop before it is aborted.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Starts a child; it ends when its token is canceled.
pub(crate) type Start =
    Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// One child of a supervisor.
#[derive(Clone)]
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) start: Start,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How a supervisor ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Supervised {
    /// Every child ended and none was to be restarted, or the supervisor was canceled.
    Ended,
    /// Too many restarts; all children are stopped.
    Meltdown {
        /// The child whose failure was one too many.
        child: String,
        /// Its failure.
        failure: Failure,
    },
}

struct Running {
    tasks: JoinSet<Result<(), Failure>>,
    /// Which child a tokio task is.
    children: HashMap<Id, usize>,
    /// How each child is stopped, while it runs.
    handles: HashMap<usize, (CancellationToken, AbortHandle)>,
}

impl Running {
    fn start(&mut self, n: usize, child: &Child, parent: &CancellationToken) {
        let token = parent.child_token();
        let handle = self.tasks.spawn((child.start)(token.clone()));
        self.children.insert(handle.id(), n);
        self.handles.insert(n, (token, handle));
    }

    /// Waits for the next child to end.
    async fn next(&mut self) -> Option<(usize, Option<Failure>)> {
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => (id, result.err()),
            Err(error) => (error.id(), Some(panicked(&error))),
        };
        let n = self.children.remove(&id)?;
        self.handles.remove(&n);
        Some((n, result))
    }

    /// Stops one child and waits until it ended.
    async fn stop(&mut self, n: usize, clock: &dyn Clock) {
        let Some((token, handle)) = self.handles.get(&n).cloned() else {
            return;
        };
        token.cancel();
        let deadline = clock.now().after(SHUTDOWN_MAX);
        while self.handles.contains_key(&n) {
            if clock.deadline(deadline, self.next()).await.is_none() {
                handle.abort();
                self.next().await;
            }
        }
    }
}

fn panicked(error: &JoinError) -> Failure {
    Failure::new(
        agent_core::ErrorKind::Internal,
        agent_core::Retry::Unknown,
        "orch.panicked",
        if error.is_cancelled() {
            "the agent was aborted"
        } else {
            "the agent panicked"
        },
        "look at the panic's message in the host's log",
    )
}

/// Runs children until all have ended, the token is canceled, or there is a meltdown.
/// `restarted` is told about every restart before it happens.
pub(crate) async fn supervise<R, Fut>(
    children: &[Child],
    supervision: &Supervision,
    clock: &dyn Clock,
    cancel: &CancellationToken,
    restarted: R,
) -> Supervised
where
    R: Fn(String, Failure) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut state = RestartState::new(supervision.strategy, supervision.intensity);
    let mut running = Running {
        tasks: JoinSet::new(),
        children: HashMap::new(),
        handles: HashMap::new(),
    };
    for (n, child) in children.iter().enumerate() {
        running.start(n, child, cancel);
    }
    while let Some((n, failure)) = running.next().await {
        if cancel.is_cancelled() {
            continue;
        }
        let failed = failure.is_some();
        let decision = state.decide(n, children.len(), supervision.restart, failed, clock.now());
        let failure = failure.unwrap_or_else(ended);
        let name = children
            .get(n)
            .map(|child| child.name.clone())
            .unwrap_or_default();
        match decision {
            Decision::Leave => {}
            Decision::Restart(range) => {
                restarted(name, failure).await;
                for n in range.clone().rev() {
                    running.stop(n, clock).await;
                }
                for n in range {
                    if let Some(child) = children.get(n) {
                        running.start(n, child, cancel);
                    }
                }
            }
            Decision::Meltdown => {
                for n in (0..children.len()).rev() {
                    running.stop(n, clock).await;
                }
                return Supervised::Meltdown {
                    child: name,
                    failure,
                };
            }
        }
    }
    Supervised::Ended
}

/// What is reported of a permanent child that ended without a failure.
fn ended() -> Failure {
    Failure::new(
        agent_core::ErrorKind::Internal,
        agent_core::Retry::Safe,
        "orch.ended",
        "a permanent agent ended",
        "make it transient if it may end",
    )
}
