//! Delegation from inside an attempt.

use crate::agent::Ctx;
use crate::error::{Error, Result};
use crate::task::NewTask;
use crate::tree::{Child, ChildEnd, NewChild, Spawn};

impl Ctx {
    /// Delegates a task. The key of `task` names it within this round of this one: the same step
    /// of another attempt finds the same child. A child is done and verified by the agents of its
    /// own pool, from their own budgets.
    ///
    /// A child that has not ended when this task's work is done, corrected or ended is canceled,
    /// unless it is [`NewTask::detached`]: join what is needed.
    ///
    /// # Errors
    /// `Conflict` if the lease is over, or another child of the name has other work; `NotFound`
    /// for a pool the fleet does not have; `Exhausted` past the pool's `limits`.
    ///
    /// # Cancel safety
    /// Atomic: the child is there or not; the next attempt finds it.
    pub async fn spawn(&self, task: NewTask) -> Result<Child> {
        let mut children = self.spawn_all(vec![task]).await?;
        children
            .pop()
            .ok_or_else(|| Error::not_found("child", self.lease.task.to_string()))
    }

    /// As [`Ctx::spawn`], for many at once.
    ///
    /// # Errors
    /// As [`Ctx::spawn`].
    ///
    /// # Cancel safety
    /// Atomic: all or none.
    pub async fn spawn_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Child>> {
        let fleet = self.shared.fleet();
        let mut pools = Vec::with_capacity(tasks.len());
        let mut children = Vec::with_capacity(tasks.len());
        for mut task in tasks {
            let pool = fleet
                .pools
                .get(&task.pool)
                .ok_or_else(|| Error::not_found("pool", task.pool.as_str()))?;
            pool.limits.bound(&mut task, self.door.now());
            pools.push(task.pool.clone());
            let step = self.next_step(&format!("spawn/{}", task.key))?;
            children.push(NewChild::new(task, step.ordinal));
        }
        let mut spawn = Spawn::new(children);
        if let Some(own) = fleet.pools.get(&self.home) {
            spawn.depth_max = own.limits.delegation_depth;
            spawn.children_max = own.limits.children_max;
        }
        let journal = self.door.journal();
        let ids = journal.spawn(&self.scope, &self.lease, spawn).await?;
        for pool in &pools {
            self.shared.ring(pool);
        }
        Ok(ids.into_iter().map(|id| Child { id }).collect())
    }

    /// Waits for the end of a child, without a lease.
    ///
    /// # Errors
    /// [`Error::Joining`] while it has not ended: return it, the task goes on when it has.
    /// `Conflict` if the lease is over; `NotFound` for what is no child of this task.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn join(&self, child: Child) -> Result<ChildEnd> {
        let mut ends = self.join_all(&[child]).await?;
        ends.pop()
            .ok_or_else(|| Error::not_found("child", child.id.to_string()))
    }

    /// Waits for the end of all of the children, in order, without a lease.
    ///
    /// # Errors
    /// As [`Ctx::join`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn join_all(&self, children: &[Child]) -> Result<Vec<ChildEnd>> {
        let ids = children.iter().map(|child| child.id).collect();
        let tasks = self.door.journal().join(&self.lease, ids).await?;
        let n = tasks.iter().filter(|t| !t.status.is_terminal()).count();
        if n > 0 {
            let task = self.lease.task;
            return Err(Error::Joining { task, n });
        }
        Ok(tasks.into_iter().map(ChildEnd::of).collect())
    }
}
