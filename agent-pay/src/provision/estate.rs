//! Resources with a durable record, paid from the budgets of those who ordered them.

mod bill;
mod drive;
mod row;

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Db, Tx};
use agent_core::{Clock, IdempotencyKey, Principal, Timestamp};

use super::{Blocker, BlockerCode, CredentialName, Plan, Provisioner, ResourceName, Spec, Vault};
use crate::authority::{ApprovalRequest, Authorization, Outcome, Refusal};
use crate::backend::SqliteAuthority;
use crate::backend::sqlite::authority as spend;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};
use row::Row;

/// How a resource stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// Its money is held; it is being created.
    Ordered,
    /// It can be used and is paid for.
    Ready,
    /// It is scaled to zero and costs nothing.
    Asleep,
    /// It is being brought to another plan.
    Changing,
    /// It is being scaled to zero.
    FallingAsleep,
    /// It is being woken.
    Waking,
    /// Its creation is being undone.
    Undoing,
    /// It is being removed.
    Leaving,
    /// It is gone.
    Gone,
}

/// What is ordered, by whom, from which budget.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Order {
    /// The key under which it is created and charged once.
    pub key: IdempotencyKey,
    /// What is to exist.
    pub spec: Spec,
    /// The node that pays.
    pub node: BudgetPath,
    /// Who orders.
    pub actor: Principal,
    /// Until when it may be authorized or approved. Repeating an order repeats this moment too:
    /// an approval holds for exactly one intent.
    pub until: Timestamp,
}

impl Order {
    /// Describes an order.
    #[must_use]
    pub const fn new(
        key: IdempotencyKey,
        spec: Spec,
        node: BudgetPath,
        actor: Principal,
        until: Timestamp,
    ) -> Self {
        Self {
            key,
            spec,
            node,
            actor,
            until,
        }
    }
}

/// A resource as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// Its name.
    pub name: ResourceName,
    /// The offer.
    pub offer: String,
    /// The plan it has.
    pub plan: Plan,
    /// The node that pays.
    pub node: BudgetPath,
    /// Who ordered it.
    pub actor: Principal,
    /// The key of its order.
    pub key: IdempotencyKey,
    /// How it stands.
    pub condition: Condition,
    /// Until when it is paid for.
    pub paid_until: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
    /// The names of its credentials.
    pub credentials: Vec<CredentialName>,
}

/// The answer to an order or a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "only a resource that is ready can be used"]
#[non_exhaustive]
pub enum Provisioned {
    /// It is done and paid for.
    Done(Resource),
    /// Nothing was made. Somebody must approve the spend; then order again.
    NeedsApproval(ApprovalRequest),
    /// Nothing was made: the budget does not allow it.
    Denied(Refusal),
}

impl Provisioned {
    /// Returns the resource.
    ///
    /// # Errors
    /// `Denied` ([`Error::SpendDenied`]) for a denial and for one that needs approval.
    pub fn into_resource(self) -> Result<Resource> {
        match self {
            Self::Done(resource) => Ok(resource),
            Self::NeedsApproval(request) => Err(Error::SpendDenied {
                code: "needs_approval",
                detail: request.reasons(),
            }),
            Self::Denied(refusal) => Err(Error::SpendDenied {
                code: refusal.code,
                detail: refusal.rule.to_string(),
            }),
        }
    }
}

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
        })
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
    /// what a crash or a lost answer left. Returns each with how it stands, or why it stays.
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
            .read(move |tx| row::unfinished(tx, &of, limit))
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
