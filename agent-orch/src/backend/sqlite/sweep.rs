//! One sweep: everything that the passing of time changes.

use std::sync::atomic::AtomicI64;

use agent_core::Scope;
use agent_core::store::Tx;

use super::{claim, due, reaper, requests, schedules, waits};
use crate::error::Result;
use crate::journal::Swept;

/// Does what is due. `looked` is when the reaper last looked at everything that waits.
pub(super) fn sweep(tx: &mut Tx<'_>, scope: &Scope, looked: &AtomicI64) -> Result<Swept> {
    let leases = claim::take_back(tx, scope, None)?;
    let requests = requests::time_out(tx, scope)?;
    let waits = waits::ring(tx, scope)?;
    let delayed = claim::promote(tx)?;
    let raised = due::age(tx, scope)?;
    let reaped = reaper::reap(tx, scope, looked)?;
    let fired = schedules::fire(tx, scope)?;
    Ok(Swept {
        leases,
        requests,
        waits,
        delayed,
        raised,
        reaped,
        fired,
    })
}
