//! What resources cost as time goes by: periods, other plans, sleep.

use agent_core::store::Tx;
use agent_core::{Amount, Digest, IdempotencyKey, Timestamp};

use super::row::{self, Row};
use super::{Condition, Estate, Order, Provisioned, Resource, turn};
use crate::authority::{Authorization, Intent, Origin, Payee, PriceBasis};
use crate::backend::sqlite::authority as spend;
use crate::error::{Error, Result};
use crate::provision::{Plan, ResourceName};

/// The most periods of one resource that one call bills, so that a resource nobody billed for long
/// holds up no other.
const PERIODS_MAX: u32 = 100;

/// What the next moment asks of a resource.
enum Due {
    Nothing,
    Sleep,
}

impl Estate {
    /// Brings a resource to another plan of its offer. A dearer plan of the same period costs the
    /// difference at once, however much of the period is over, so that an approval of it holds; one
    /// of another period costs its price and begins a period. A cheaper one costs less from the next
    /// period on, and nothing is given back.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `Conflict` unless it is ready; those of the provisioner: one
    /// that fails for good leaves the old plan and takes no money.
    ///
    /// # Cancel safety
    /// Safe to drop: repeat it once [`Self::resume`] has finished it.
    pub async fn change(
        &self,
        name: &ResourceName,
        plan: Plan,
        until: Timestamp,
    ) -> Result<Provisioned> {
        let spec = self.found(name).await?.spec(&plan);
        let catalogue = self.provisioner.catalogue().await?;
        let blockers = spec.blockers_in(&catalogue);
        if !blockers.is_empty() {
            return Err(Error::blocked(blockers));
        }
        self.begin(name, Condition::Ready, until, move |row, _now| {
            let price = difference(row, &plan)?;
            row.condition = Condition::Changing;
            row.next = Some(plan);
            Ok(Some(price))
        })
        .await
    }

    /// Scales a resource to zero: nothing of it runs, nobody can use it, and it begins no period.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` unless it is ready or while somebody uses it, `Unsupported` if the
    /// offer cannot sleep.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn sleep(&self, name: &ResourceName) -> Result<Resource> {
        let begun = self.begin(name, Condition::Ready, Timestamp::EPOCH, |row, _now| {
            row.condition = Condition::FallingAsleep;
            Ok(None)
        });
        begun.await?.into_resource()
    }

    /// Wakes a resource, paying a period if none is running, and returns when it can be used.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` unless it sleeps.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn wake(&self, name: &ResourceName, until: Timestamp) -> Result<Provisioned> {
        self.begin(name, Condition::Asleep, until, |row, now| {
            row.condition = Condition::Waking;
            Ok((row.paid_until <= now).then_some(row.plan.price))
        })
        .await
    }

    /// Bills at most `limit` resources up to this moment and puts those to sleep that nobody used
    /// for as long as their plan says, or whose next period the budget does not allow. Returns
    /// those that fell asleep. One that is in use, or cannot sleep, counts as used now. Those with
    /// nothing to do do not count; the next call goes on with the names after these, so that each is
    /// reached, however many stay.
    ///
    /// # Errors
    /// Those of the store, when all of these were looked at; those that fell asleep did all the same.
    ///
    /// # Cancel safety
    /// Safe to drop: each period is billed once.
    pub async fn meter(&self, limit: usize) -> Result<Vec<Resource>> {
        let of = self.provisioner.name().to_owned();
        let names = self
            .db()
            .write(move |tx| turn::next(tx, &turn::DUE, &of, limit))
            .await?;
        let (mut changed, mut failed) = (Vec::new(), None);
        for name in names {
            match self.meter_one(&name).await {
                Ok(asleep) => changed.extend(asleep),
                // One that cannot be billed must not keep the others from it.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(changed), Err)
    }

    /// Bills a resource and returns it if it falls asleep.
    async fn meter_one(&self, name: &ResourceName) -> Result<Option<Resource>> {
        let (id, estate) = (self.id(name), self.clone());
        let due = self.db().write(move |tx| estate.bill(tx, &id)).await?;
        if !matches!(due, Due::Sleep) {
            return Ok(None);
        }
        match self.sleep(name).await {
            Ok(resource) => Ok(Some(resource)),
            // In use, or unable to sleep: another call finds it again.
            Err(_awake) => self.touch(name).await.map(|()| None),
        }
    }

    /// Takes the price of every period that began, in the write that says it is paid.
    fn bill(&self, tx: &mut Tx<'_>, id: &(String, ResourceName)) -> Result<Due> {
        let Some(mut row) = row::read(tx, id)? else {
            return Ok(Due::Nothing);
        };
        if row.condition != Condition::Ready {
            return Ok(Due::Nothing);
        }
        let now = tx.now();
        let is_idle = |idle| row.used_at.after(idle) <= now;
        if row.plan.idle_after.is_some_and(is_idle) {
            return Ok(Due::Sleep);
        }
        for _ in 0..PERIODS_MAX {
            if row.paid_until > now {
                break;
            }
            let mut charged = row.clone();
            let until = row
                .paid_until
                .after(row.plan.period)
                .max(now.after(row.plan.period));
            let intent = self.charge_intent(&mut charged, until, None)?;
            let authorized = spend::authorize(tx, self.authority.cache(), &intent)?;
            let Authorization::Held { hold, .. } = authorized else {
                row::update(tx, &row)?;
                return Ok(Due::Sleep);
            };
            row = charged;
            spend::capture(tx, &hold.key, hold.amount)?;
            row.charge = None;
            let from = row.paid_until;
            row.paid_until = from.after(row.plan.period);
            self.record(tx, &row, (&hold.key, hold.amount), from)?;
        }
        row::update(tx, &row)?;
        Ok(Due::Nothing)
    }

    /// Records what is begun together with the hold of what it costs, and carries it out.
    async fn begin(
        &self,
        name: &ResourceName,
        from: Condition,
        until: Timestamp,
        change: impl FnOnce(&mut Row, Timestamp) -> Result<Option<Amount>> + Send + 'static,
    ) -> Result<Provisioned> {
        let (id, estate, named) = (self.id(name), self.clone(), name.clone());
        let lease = self.lease;
        let (authorized, row) = self
            .db()
            .write(move |tx| {
                let found = row::read(tx, &id)?;
                let mut row = found.ok_or_else(|| Error::ResourceNotFound {
                    name: named.clone(),
                })?;
                row.check_unleased(tx)?;
                if row.condition != from {
                    return Err(Error::ResourceInUse { name: named });
                }
                let price = change(&mut row, tx.now())?;
                let price = price.filter(|price| !price.is_zero());
                let mut authorized = None;
                if let Some(price) = price {
                    let intent = estate.charge_intent(&mut row, until, Some(price))?;
                    let asked = spend::authorize(tx, estate.authority.cache(), &intent)?;
                    if let Authorization::Held { hold, .. } = &asked {
                        spend::submit(tx, &hold.key)?;
                    } else {
                        // The number stays free, so that asking again is the same intent.
                        return Ok((Some(asked), row));
                    }
                    authorized = Some(asked);
                }
                row.take(tx.now().after(lease));
                row::update(tx, &row)?;
                Ok::<_, Error>((authorized, row))
            })
            .await?;
        match authorized {
            Some(Authorization::NeedsApproval(request)) => Ok(Provisioned::NeedsApproval(request)),
            Some(Authorization::Denied(refusal)) => Ok(Provisioned::Denied(refusal)),
            Some(Authorization::Held { .. }) | None => {
                Ok(Provisioned::Done(self.carry_out(row).await?))
            }
        }
    }

    async fn found(&self, name: &ResourceName) -> Result<Row> {
        let found = self.row(name).await?;
        found.ok_or_else(|| Error::ResourceNotFound { name: name.clone() })
    }

    /// Describes the first period's payment.
    pub(super) fn order_intent(&self, order: &Order) -> Result<Intent> {
        let plan = &order.spec.plan;
        let intent = Intent::new(
            order.key.clone(),
            order.node.clone(),
            order.actor.clone(),
            plan.price,
            self.payee(),
            order.until,
        );
        Ok(described(intent, &order.spec.offer, &order.spec.name, plan))
    }

    /// Describes the next charge of a resource: of a period, or of `price`. Its key counts the
    /// charges of the order, so that each is made once.
    fn charge_intent(
        &self,
        row: &mut Row,
        until: Timestamp,
        price: Option<Amount>,
    ) -> Result<Intent> {
        let plan = row.next.as_ref().unwrap_or(&row.plan);
        let number = format!("{}/{}", row.key.as_str(), row.n_charges);
        let key = format!("provision/{}", Digest::of_bytes(number.as_bytes()));
        let key = IdempotencyKey::new(key)?;
        let intent = Intent::new(
            key.clone(),
            row.node.clone(),
            row.actor.clone(),
            price.unwrap_or(plan.price),
            self.payee(),
            until,
        );
        let intent = described(intent, &row.offer, &row.id.1, plan);
        row.n_charges = row.n_charges.saturating_add(1);
        row.charge = Some(key);
        Ok(intent)
    }

    pub(super) fn payee(&self) -> Payee {
        let name = format!("provision:{}", self.provisioner.name());
        Payee::new(name, Origin::Catalogue)
    }
}

fn described(intent: Intent, offer: &str, name: &ResourceName, plan: &Plan) -> Intent {
    intent
        .with_basis(PriceBasis::RateCard)
        .with_category(Estate::CATEGORY)
        .with_rail(Estate::RAIL)
        .with_resource(offer, format!("{name}, plan {}", plan.id))
}

/// What a change costs at once.
fn difference(row: &Row, next: &Plan) -> Result<Amount> {
    if next.period != row.plan.period {
        return Ok(next.price);
    }
    let more = next.price.minus(row.plan.price)?;
    Ok(match more.is_negative() {
        true => Amount::zero(more.asset()),
        false => more,
    })
}
