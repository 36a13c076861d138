//! Finishes or undoes what was begun: the effect between the two commits.

use agent_core::{Classify, Retry, Scope};

use super::row::{self, Row};
use super::{Condition, Estate, Resource};
use crate::backend::sqlite::authority as spend;
use crate::error::{Error, Result};
use crate::provision::{CredentialName, Plan, ResourceName};

/// What the effect did.
enum Done {
    Created(Vec<CredentialName>),
    Altered,
    Removed,
}

impl Estate {
    /// Works on a resource until nothing is begun with it. An effect that fails for good is undone
    /// and its error returned; after any other the row stays as it is for the next call.
    pub(super) async fn drive(&self, name: &ResourceName) -> Result<Resource> {
        let row = self.claim(name).await?;
        self.carry_out(row).await
    }

    /// Works on a resource whose lease is taken.
    pub(super) async fn carry_out(&self, mut row: Row) -> Result<Resource> {
        let mut refused = None;
        loop {
            if row.condition.is_settled() {
                return refused.map_or_else(|| Ok(row.resource()), Err);
            }
            match self.act(&row).await {
                Ok(done) => row = self.finish(row, done).await?,
                Err(error) if is_given_up(&row, &error) => {
                    row = self.give_up(row).await?;
                    refused.get_or_insert(error);
                }
                Err(error) => {
                    self.free(row).await?;
                    return Err(refused.unwrap_or(error));
                }
            }
        }
    }

    /// Takes the lease of a resource that something is begun with.
    async fn claim(&self, name: &ResourceName) -> Result<Row> {
        let (id, named, lease) = (self.id(name), name.clone(), self.lease);
        self.db()
            .write(move |tx| {
                let found = row::read(tx, &id)?;
                let mut row = found.ok_or(Error::ResourceNotFound { name: named })?;
                if !row.condition.is_settled() {
                    row.check_unleased(tx)?;
                    row.take(tx.now().after(lease));
                    row::update(tx, &row)?;
                }
                Ok(row)
            })
            .await
    }

    /// Does what the row says, within the lease: beyond it another may be at work.
    async fn act(&self, row: &Row) -> Result<Done> {
        let (name, vault) = (&row.id.1, self.vault.as_ref());
        let scope = Scope::new(row.actor.clone()).with_deadline(row.lease);
        let effect = async {
            let alter = async |plan: &Plan, is_awake| {
                let spec = row.spec(plan);
                self.provisioner.alter(&spec, is_awake).await?;
                Ok(Done::Altered)
            };
            match row.condition {
                Condition::Ordered => {
                    let spec = row.spec(&row.plan);
                    let credentials = self.provisioner.create(&spec, vault).await?;
                    Ok(Done::Created(credentials))
                }
                Condition::Changing => alter(row.next.as_ref().unwrap_or(&row.plan), true).await,
                Condition::FallingAsleep => alter(&row.plan, false).await,
                Condition::Waking => alter(&row.plan, true).await,
                _ => {
                    self.provisioner.destroy(name, vault).await?;
                    Ok(Done::Removed)
                }
            }
        };
        match scope.guard(self.clock.as_ref(), effect).await {
            Ok(done) => done,
            Err(late) => {
                let kind = agent_core::ErrorKind::Unavailable;
                let operation = "finish within the lease";
                Err(Error::backend(
                    "provisioner",
                    operation,
                    kind,
                    Retry::Unknown,
                    late,
                ))
            }
        }
    }

    /// Books what was done: the money that waited is taken, or free again.
    async fn finish(&self, row: Row, done: Done) -> Result<Row> {
        self.settle(row, move |row, now| match (row.condition, done) {
            (Condition::Ordered, Done::Created(credentials)) => {
                row.credentials = credentials;
                row.paid_until = now.after(row.plan.period);
                row.used_at = now;
                row.condition = Condition::Ready;
                true
            }
            (Condition::Changing, _) => {
                if let Some(next) = row.next.take() {
                    if next.period != row.plan.period {
                        row.paid_until = now.after(next.period);
                    }
                    row.plan = next;
                }
                row.condition = Condition::Ready;
                true
            }
            (Condition::Waking, _) => {
                if row.charge.is_some() {
                    row.paid_until = now.after(row.plan.period);
                }
                row.used_at = now;
                row.condition = Condition::Ready;
                true
            }
            (Condition::FallingAsleep, _) => {
                row.condition = Condition::Asleep;
                false
            }
            _ => {
                row.credentials.clear();
                row.condition = Condition::Gone;
                false
            }
        })
        .await
    }

    /// Turns back: to undoing what was not created, to the plan or the sleep that was.
    async fn give_up(&self, row: Row) -> Result<Row> {
        if row.condition == Condition::Changing {
            let spec = row.spec(&row.plan);
            self.provisioner.alter(&spec, true).await?;
        }
        self.settle(row, |row, _now| {
            row.next = None;
            row.condition = match row.condition {
                Condition::Ordered => Condition::Undoing,
                Condition::Waking => Condition::Asleep,
                _ => Condition::Ready,
            };
            false
        })
        .await
    }

    /// Leaves the row to the next call.
    async fn free(&self, row: Row) -> Result<()> {
        let fence = row.fence;
        self.db()
            .write(move |tx| {
                let found = row::read(tx, &row.id)?;
                if let Some(mut row) = found.filter(|found| found.fence == fence) {
                    row.lease = tx.now();
                    row::update(tx, &row)?;
                }
                Ok(())
            })
            .await
    }

    /// Changes a row and ends its spend in one commit, unless another has taken the lease since.
    async fn settle(
        &self,
        row: Row,
        change: impl FnOnce(&mut Row, agent_core::Timestamp) -> bool + Send + 'static,
    ) -> Result<Row> {
        let (lease, estate) = (self.lease, self.clone());
        self.db()
            .write(move |tx| {
                let found = row::read(tx, &row.id)?;
                if found.is_none_or(|found| found.fence != row.fence) {
                    let (key, retry_after) = (row.key, std::time::Duration::ZERO);
                    return Err(Error::InFlight { key, retry_after });
                }
                let mut row = row;
                let from = row.paid_until.max(tx.now());
                let is_taken = change(&mut row, tx.now());
                // An order that is being undone keeps its money until nothing is left of it.
                if row.condition != Condition::Undoing
                    && let Some(key) = row.charge.take()
                {
                    match is_taken {
                        true => {
                            let held = spend::spend(tx, &key)?;
                            let held = held.ok_or_else(|| Error::corrupt("a charge is missing"))?;
                            spend::capture(tx, &key, held.amount)?;
                            estate.record(tx, &row, (&key, held.amount), from)?;
                        }
                        false => {
                            spend::release(tx, &key)?;
                        }
                    }
                }
                row.lease = match row.condition.is_settled() {
                    true => tx.now(),
                    false => tx.now().after(lease),
                };
                row::update(tx, &row)?;
                Ok(row)
            })
            .await
    }
}

/// Returns whether an effect failed so that repeating it is useless and turning back is possible.
fn is_given_up(row: &Row, error: &Error) -> bool {
    match row.condition {
        Condition::Ordered | Condition::Changing | Condition::Waking => {
            error.retry() == Retry::Never
        }
        // Somebody uses it: it stays awake.
        Condition::FallingAsleep => error.retry() != Retry::Unknown,
        _ => false,
    }
}
