//! Steps whose effect is not the recorded one.

use super::Door;
use crate::agent::Ctx;
use crate::drift::{Drifted, Migration};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent};

impl Door {
    /// Records an intent; for a step that drifted, does what the host's rule says first.
    pub(super) async fn intend(&self, cx: &Ctx, intent: Intent) -> Result<Intended> {
        let (scope, lease) = (&cx.scope, &cx.lease);
        let drift = match self.journal.intend(scope, lease, intent.clone()).await {
            Err(drift @ Error::Drift { .. }) => drift,
            intended => return intended,
        };
        let Some(migrate) = &cx.shared.migrate else {
            return Err(drift);
        };
        let recorded = self.journal.recorded(lease, intent.step.clone()).await?;
        let Some(recorded) = recorded else {
            return Err(drift);
        };
        let (step, effect) = (intent.step.clone(), intent.effect.clone());
        let drifted = Drifted::new(lease.clone(), step, effect, recorded);
        let migration = migrate(&drifted);
        if migration == Migration::Fail {
            return Err(drift);
        }
        self.journal.migrate(scope, drifted, migration).await?;
        self.journal.intend(scope, lease, intent).await
    }
}
