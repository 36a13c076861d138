//! What happens to a run by itself: leases end, delays pass, questions time out, tasks age, audit
//! records are sealed; and
//! work that became claimable is announced to as many agents as it takes.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, Scope, Timestamp};

use super::control::find_orphans;
use super::signed;
use crate::audit::Sealer;
use crate::error::Result;
use crate::journal::Swept;
use crate::runner::{Shared, check_leases};

/// How often a run is swept though nothing is known to be due, for what another process changed
/// and what nothing else moves.
const SWEEP: Duration = Duration::from_secs(1);
/// The shortest time between two sweeps that find nothing to do.
const REST: Duration = Duration::from_millis(10);

/// Looks after a run until it is canceled: at the moment something is due, and when its alarm says
/// so.
pub(super) async fn sweep(
    shared: Arc<Shared>,
    host: Scope,
    sealer: Sealer,
    cancel: CancellationToken,
) {
    let clock = Arc::clone(&shared.env.clock);
    let mut routine = clock.now();
    loop {
        signed(sealer.seal_if_due().await);
        let next = look(&shared, &host, &mut routine)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "the journal was not swept");
                clock.now().after(SWEEP)
            });
        tokio::select! {
            () = shared.alarm.wait(clock.as_ref(), next) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Does what is due, at least when the `routine` is, and returns when to look again.
async fn look(shared: &Shared, host: &Scope, routine: &mut Timestamp) -> Result<Timestamp> {
    let now = shared.env.clock.now();
    let (mut earliest, mut due) = (now, shared.journal.next_due(host).await?);
    let is_routine = *routine <= now;
    if is_routine || due.is_some_and(|due| due <= now) {
        let swept = shared.journal.sweep(host).await?;
        if swept.is_empty() {
            earliest = now.after(REST);
        } else {
            follow(shared, swept).await;
            due = shared.journal.next_due(host).await?;
        }
    }
    if is_routine {
        *routine = now.after(SWEEP);
        find_orphans(shared, host).await?;
    }
    announce(shared).await?;
    Ok(due.map_or(*routine, |due| due.min(*routine).max(earliest)))
}

/// Tells this process what a sweep changed.
async fn follow(shared: &Shared, swept: Swept) {
    if swept.leases + swept.reaped > 0 {
        check_leases(shared, shared.attempts.leases()).await;
    }
    shared.mail.notify_one();
    shared.moved.notify_waiters();
}

/// Wakes an agent for each task that can be claimed. Where none is free, attempts at much less
/// urgent tasks are asked to give way.
async fn announce(shared: &Shared) -> Result<()> {
    let fleet = shared.fleet();
    let preemption = &fleet.scheduling.preemption;
    for queue in shared.journal.queues(shared.run).await? {
        let Some(bell) = shared.bell(&queue.pool) else {
            continue;
        };
        if bell.n_free() > 0 {
            bell.ring(queue.n_ready);
        } else if let Some(victim) = preemption.victim(queue.priority) {
            shared.attempts.preempt(&queue.pool, victim, queue.n_ready);
        }
    }
    Ok(())
}
