//! What an effect consumed, priced, and the record of how it ended.

use agent_core::{Amount, Effect, UsageRecord};
use serde_json::Value;

use super::Door;
use crate::agent::Acted;
use crate::error::{Result, failure_of};
use crate::journal::{Outcome, Pass};

impl Door {
    /// Prices what was consumed and forms the record of the outcome.
    pub(super) fn outcome(
        &self,
        effect: &Effect,
        pass: &Pass,
        acted: Result<Acted<Value>>,
    ) -> Result<(Result<Value>, Outcome)> {
        let acted = match acted {
            Ok(acted) => acted,
            Err(error) => {
                let outcome = Outcome::new(Err(failure_of(&error)));
                return Ok((Err(error), outcome));
            }
        };
        let mut outcome = Outcome::new(Ok(acted.value.clone()));
        outcome.messages = acted.messages;
        if let Some(max) = effect.cost_max {
            let mut cost = Amount::zero(max.asset());
            for (resource, usage) in &acted.usage {
                cost = cost.plus(self.rates.price(resource, usage)?)?;
            }
            // More than was held cannot be posted; the excess is the estimate's fault and stays
            // visible in the usage records.
            let over = cost.compare(&max)? == std::cmp::Ordering::Greater;
            outcome.cost = Some(if over { max } else { cost });
        }
        outcome.usage = (0..)
            .zip(acted.usage)
            .map(|(n, (resource, usage))| {
                let id = format!("{}.{}.{n}", pass.key.as_str(), pass.n_try);
                UsageRecord::new("agent-orch", id, resource, usage, self.now())
            })
            .collect::<Vec<_>>();
        Ok((Ok(acted.value), outcome))
    }
}
