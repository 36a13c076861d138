//! Usage records of what was paid for.

use std::sync::Arc;

use agent_core::store::Tx;
use agent_core::{Amount, IdempotencyKey, Scope, Timestamp, Unit, Usage, UsageRecord};

use super::Estate;
use super::row::Row;
use crate::backend::sqlite::record_usage;
use crate::error::Result;
use crate::ratio::Ratio;
use crate::spend::{Attribution, UsageEntry};

impl Estate {
    /// Records a charge that was taken: for the time from a moment until which the resource is paid for
    /// now, if that is later. A dearer plan of the same period takes no time.
    pub(super) fn record(
        &self,
        tx: &mut Tx<'_>,
        row: &Row,
        (charge, price): (&IdempotencyKey, Amount),
        from: Timestamp,
    ) -> Result<()> {
        let Some(tenant) = &self.usage_of else {
            return Ok(());
        };
        let paid_for = row.paid_until.since(from);
        let wall_us = u64::try_from(paid_for.as_micros()).unwrap_or(u64::MAX);
        let payee = self.payee().name;
        let mut attribution = Attribution::of(&Scope::new(row.actor.clone())).with_payee(&payee);
        attribution.tenant = Arc::clone(tenant);
        attribution.pool = Some(row.node.as_str().to_owned());
        let resource = format!("{}/{}", row.offer, row.plan.id);
        let usage = Usage::new().with(Unit::WallUs, wall_us);
        let record = UsageRecord::new(payee, charge.as_str(), resource, usage, from);
        let mut entry = UsageEntry::new(attribution, record)?;
        entry.exact = Some(Ratio::new(price.units(), 1)?);
        entry.cost = Some(price);
        record_usage(tx, &entry)?;
        Ok(())
    }
}
