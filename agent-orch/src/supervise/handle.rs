//! What a host asks of a running tree.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Child, Group};
use crate::error::{Error, Result};
use crate::fleet::Supervision;

/// A request to the task that runs a tree.
#[derive(Debug)]
pub(super) enum Command {
    AddChildren {
        group: String,
        children: Vec<Child>,
        reply: oneshot::Sender<Result<()>>,
    },
    AddGroup {
        parent: String,
        group: Group,
        reply: oneshot::Sender<Result<()>>,
    },
    Remove {
        name: String,
        drain: Option<Duration>,
        reply: oneshot::Sender<()>,
    },
    Release {
        name: String,
        reply: oneshot::Sender<bool>,
    },
    Supervise {
        name: String,
        supervision: Supervision,
    },
    Running {
        reply: oneshot::Sender<Vec<String>>,
    },
    Quarantined {
        reply: oneshot::Sender<Vec<String>>,
    },
}

/// Drives a running tree. The tree stops when all its handles are gone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
}

impl Handle {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Adds children to a supervisor and starts them.
    ///
    /// # Errors
    /// `NotFound` if there is no such supervisor or the tree has ended, `Invalid` if a name is
    /// taken. Nothing is added then.
    ///
    /// # Cancel safety
    /// Atomic: all are added or none.
    pub async fn add(&self, group: &str, children: Vec<Child>) -> Result<()> {
        let name = group.to_owned();
        self.ask(|reply| Command::AddChildren {
            group: name,
            children,
            reply,
        })
        .await
        .unwrap_or_else(|| Err(Error::not_found("running supervisor", group)))
    }

    /// Adds a supervisor and what it supervises under another, and starts it.
    ///
    /// # Errors
    /// As [`Handle::add`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn add_group(&self, parent: &str, group: Group) -> Result<()> {
        let name = parent.to_owned();
        self.ask(|reply| Command::AddGroup {
            parent: name,
            group,
            reply,
        })
        .await
        .unwrap_or_else(|| Err(Error::not_found("running supervisor", parent)))
    }

    /// Takes a child or a supervisor out of the tree and returns when it is gone. With `drain`, a
    /// child may first finish what it is at for that long; without, and a supervisor in any case,
    /// it is stopped. What is not there is gone already.
    ///
    /// # Cancel safety
    /// Atomic: it goes whether or not this is awaited to its end.
    pub async fn remove(&self, name: &str, drain: Option<Duration>) {
        let name = name.to_owned();
        self.ask(|reply| Command::Remove { name, drain, reply })
            .await;
    }

    /// Runs what was quarantined again and returns whether it was. What is quarantined under it is
    /// released with it.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn release(&self, name: &str) -> bool {
        let name = name.to_owned();
        let released = self.ask(|reply| Command::Release { name, reply }).await;
        released.unwrap_or(false)
    }

    /// Changes how a supervisor treats its children from their next failure on.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn supervise(&self, name: &str, supervision: Supervision) {
        let name = name.to_owned();
        let sent = self.commands.send(Command::Supervise { name, supervision });
        // A tree that has ended supervises nothing.
        let _ended = sent.await;
    }

    /// Returns the names of the children that run, sorted.
    ///
    /// # Errors
    /// `NotFound` if the tree has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn running(&self) -> Result<Vec<String>> {
        self.ask(|reply| Command::Running { reply })
            .await
            .ok_or_else(|| Error::not_found("running supervisor", "root"))
    }

    /// Returns the names of the supervisors that were given up, sorted.
    ///
    /// # Errors
    /// `NotFound` if the tree has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn quarantined(&self) -> Result<Vec<String>> {
        self.ask(|reply| Command::Quarantined { reply })
            .await
            .ok_or_else(|| Error::not_found("running supervisor", "root"))
    }
}
