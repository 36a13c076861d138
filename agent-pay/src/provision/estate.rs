//! Resources with a durable record, paid from the budgets of those who ordered them.

mod bill;
mod drive;
mod order;
mod row;
mod turn;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use agent_core::Clock;
use agent_core::store::{Db, Tx};

use super::{Blocker, BlockerCode, Provisioner, ResourceName, Vault};
use crate::authority::{Authorization, Outcome};
use crate::backend::SqliteAuthority;
use crate::backend::sqlite::authority as spend;
use crate::error::{Error, Result};
pub use order::{Condition, Order, Provisioned, Resource};
use row::Row;

/// The resources of one provisioner. Cheap to clone.
///
/// Payments are authorized on the node of the order, so its limits, lists and approval threshold
/// hold: the payee is `provision:` and the provisioner's name, the category `provisioning`, the
/// rail `provision`, the resource the offer.
#[derive(Clone, Debug)]
pub struct Estate {
    authority: SqliteAuthority,
    provisioner: Arc<dyn Provisioner>,
    vault: Arc<dyn Vault>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    /// The tenant whose usage is recorded.
    usage_of: Option<Arc<str>>,
}

impl Estate {
    /// How long one call about a resource may take, unless the host says otherwise. After a crash
    /// in the middle, the resource waits so long for [`Self::resume`].
    pub const LEASE: Duration = Duration::from_secs(60);
    /// The rail intents name.
    pub const RAIL: &'static str = "provision";
    /// The category intents name.
    pub const CATEGORY: &'static str = "provisioning";

    /// Opens the records in the authority's store, creating their table. `clock` is the store's.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        authority: SqliteAuthority,
        provisioner: Arc<dyn Provisioner>,
        vault: Arc<dyn Vault>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        authority.db().migrate("pay_provision", row::STEPS).await?;
        Ok(Self {
            authority,
            provisioner,
            vault,
            clock,
            lease: Self::LEASE,
            usage_of: None,
        })
    }

    /// Records what is paid as usage of a tenant, in the write that takes the money, for reports and
    /// invoices: the time a plan runs that was paid for ([`Unit::WallUs`](agent_core::Unit)) and its
    /// price, under the offer and the plan, the payee, and the node as the pool. Default: nothing is
    /// recorded, since the books have it.
    #[must_use]
    pub fn with_usage_of(mut self, tenant: &str) -> Self {
        self.usage_of = Some(tenant.into());
        self
    }

    /// Sets how long one call about a resource may take. Default: a minute.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Returns everything that stands in the way of an order at once: what the provisioner finds,
    /// a name that is taken, and what the spend authority would say.
    ///
    /// # Errors
    /// Those of the provisioner and the store; `Invalid` for a malformed order.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn preflight(&self, order: &Order) -> Result<Vec<Blocker>> {
        let mut found = self.provisioner.preflight(&order.spec).await?;
        let intent = self.order_intent(order)?;
        let cache = Arc::clone(self.authority.cache());
        let (row, decision) = self
            .db()
            .read({
                let id = self.id(&order.spec.name);
                move |tx| {
                    let row = row::read(tx, &id)?;
                    Ok::<_, Error>((row, spend::preview(tx, &cache, &intent)?))
                }
            })
            .await?;
        if row.is_some_and(|row| row.is_of_another(&order.key)) {
            found.push(row::taken(order.spec.name.as_str()));
        }
        let reasons: Vec<String> = decision.rules.iter().map(ToString::to_string).collect();
        let blocker = |code, remedy: &str| Blocker::new(code, reasons.join(", "), remedy);
        match decision.outcome {
            Outcome::Allow => {}
            Outcome::Ask { .. } => found.push(blocker(
                BlockerCode::ApprovalRequired,
                "order it, and ask the approvers",
            )),
            Outcome::Deny => found.push(blocker(
                BlockerCode::SpendDenied,
                "choose a cheaper plan, or change the policy of the node",
            )),
        }
        Ok(found)
    }

    /// Orders a resource, pays its first period and returns when it can be used. Repeating an order
    /// finishes it, or returns what it made; it never makes or charges a second one.
    ///
    /// # Errors
    /// `Denied` ([`Error::Blocked`]) with every blocker of the provisioner, `Conflict` for a name
    /// that is taken, a key used otherwise, or while another call works on it. After an error that
    /// is safe to repeat or of unknown outcome the order stays: repeat it, or
    /// [`Self::deprovision`] to undo it.
    ///
    /// # Cancel safety
    /// Safe to drop: repeat it, or leave it to [`Self::resume`].
    pub async fn provision(&self, order: Order) -> Result<Provisioned> {
        if let Some(row) = self.row(&order.spec.name).await?
            && row.key == order.key
            && row.condition != Condition::Gone
        {
            return self.again(row, &order).await;
        }
        let blockers = self.provisioner.preflight(&order.spec).await?;
        if !blockers.is_empty() {
            return Err(Error::blocked(blockers));
        }
        let intent = self.order_intent(&order)?;
        let row = Row::ordered(self.id(&order.spec.name), &order)?;
        let cache = Arc::clone(self.authority.cache());
        let lease = self.lease;
        let (authorized, row) = self
            .db()
            .write(move |tx| {
                let mut row = row;
                row::check_free(tx, &row)?;
                let authorized = spend::authorize(tx, &cache, &intent)?;
                if let Authorization::Held { hold, .. } = &authorized {
                    // From here on only the outcome frees the money.
                    spend::submit(tx, &hold.key)?;
                    row.take(tx.now().after(lease));
                    row::insert(tx, &row)?;
                }
                Ok::<_, Error>((authorized, row))
            })
            .await?;
        match authorized {
            Authorization::Held { .. } => Ok(Provisioned::Done(self.carry_out(row).await?)),
            Authorization::NeedsApproval(request) => Ok(Provisioned::NeedsApproval(request)),
            Authorization::Denied(refusal) => Ok(Provisioned::Denied(refusal)),
        }
    }

    async fn again(&self, row: Row, order: &Order) -> Result<Provisioned> {
        if row.offer != order.spec.offer || row.node != order.node {
            let (key, differs) = (order.key.clone(), crate::journal::Difference::Entries);
            return Err(Error::KeyReused { key, differs });
        }
        let done = match row.condition {
            Condition::Ready | Condition::Asleep => row.resource(),
            _ => self.drive(&order.spec.name).await?,
        };
        Ok(Provisioned::Done(done))
    }

    /// Says that a resource is used, so that it stays awake.
    ///
    /// # Errors
    /// `NotFound` for an unknown name.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn touch(&self, name: &ResourceName) -> Result<()> {
        let id = self.id(name);
        let n_rows = self.db().write(move |tx| row::touch(tx, &id)).await?;
        match n_rows {
            0 => Err(Error::ResourceNotFound { name: name.clone() }),
            _ => Ok(()),
        }
    }

    /// Removes a resource and its credentials, or undoes an order that was not finished, whose
    /// money is free again. What was paid for a period that began is not given back.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; those of the provisioner: it stays [`Condition::Leaving`].
    ///
    /// # Cancel safety
    /// Safe to drop: repeat it, or leave it to [`Self::resume`].
    pub async fn deprovision(&self, name: &ResourceName) -> Result<Resource> {
        let id = self.id(name);
        let named = name.clone();
        self.db()
            .write(move |tx| {
                let mut row =
                    row::read(tx, &id)?.ok_or_else(|| Error::ResourceNotFound { name: named })?;
                row.check_unleased(tx)?;
                row.condition = match row.condition {
                    Condition::Gone => return Ok(()),
                    Condition::Ordered | Condition::Undoing => Condition::Undoing,
                    _ => Condition::Leaving,
                };
                row::update(tx, &row)
            })
            .await?;
        self.drive(name).await
    }

    /// Goes on with at most `limit` resources that something was begun with and nobody works on:
    /// what a crash or a lost answer left. Returns each with how it stands, or why it stays. The next call
    /// goes on with the names after these, so that each is reached, however many stay.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn resume(&self, limit: usize) -> Result<Vec<(ResourceName, Result<Condition>)>> {
        let of = self.provisioner.name().to_owned();
        let names = self
            .db()
            .write(move |tx| turn::next(tx, &turn::UNFINISHED, &of, limit))
            .await?;
        let mut done = Vec::new();
        for name in names {
            let driven = self.drive(&name).await.map(|resource| resource.condition);
            done.push((name, driven));
        }
        Ok(done)
    }

    /// Returns a resource.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn resource(&self, name: &ResourceName) -> Result<Option<Resource>> {
        Ok(self.row(name).await?.map(|row| row.resource()))
    }

    /// Returns what the provisioner made and no order names.
    ///
    /// # Errors
    /// Those of the provisioner and the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn orphans(&self) -> Result<Vec<ResourceName>> {
        let mut orphans = Vec::new();
        for name in self.provisioner.list().await? {
            let row = self.row(&name).await?;
            if row.is_none_or(|row| row.condition == Condition::Gone) {
                orphans.push(name);
            }
        }
        Ok(orphans)
    }

    fn db(&self) -> &Db {
        self.authority.db()
    }

    fn id(&self, name: &ResourceName) -> (String, ResourceName) {
        (self.provisioner.name().to_owned(), name.clone())
    }

    async fn row(&self, name: &ResourceName) -> Result<Option<Row>> {
        let id = self.id(name);
        self.db().read(move |tx: &Tx<'_>| row::read(tx, &id)).await
    }
}
