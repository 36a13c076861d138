//! The text form of the sections `scheduling`, `tenant` and `limit`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Preemption, Scheduling};
use crate::error::Error;
use crate::fleet::{ConfigError, Limit, Rate, Remedy};

/// The tables of this topic in a manifest.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::fleet) struct SchedulingText {
    #[serde(default, deserialize_with = "crate::fleet::text::maybe_duration")]
    age: Option<Duration>,
    preempt_from: Option<u8>,
    preempt_gap: Option<u8>,
    #[serde(default)]
    preempt: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::fleet) struct TenantText {
    weight: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::fleet) struct LimitText {
    concurrency: Option<u32>,
    rate: Option<String>,
    burst: Option<u32>,
}

impl SchedulingText {
    /// Joins the tables.
    pub(in crate::fleet) fn with(
        self,
        tenants: BTreeMap<String, TenantText>,
        limits: BTreeMap<String, LimitText>,
    ) -> Result<Scheduling, ConfigError> {
        let default = Preemption::default();
        let preemption = Preemption {
            from: self
                .preempt_from
                .or(default.from)
                .filter(|_| self.preempt != Some(false)),
            gap: self.preempt_gap.unwrap_or(default.gap),
        };
        let limits = limits
            .into_iter()
            .map(|(key, text)| Ok((key.clone(), text.limit(&key)?)))
            .collect::<Result<_, ConfigError>>()?;
        Ok(Scheduling {
            weights: tenants.into_iter().map(|(k, t)| (k, t.weight)).collect(),
            limits,
            age: self.age.unwrap_or(Scheduling::AGE_DEFAULT),
            preemption,
        })
    }
}

impl LimitText {
    fn limit(self, key: &str) -> Result<Limit, ConfigError> {
        let at = |field: &str| format!("limit.{key}.{field}");
        let rate = match (self.rate, self.burst) {
            (Some(text), burst) => {
                let rate: Rate = text.parse().map_err(|_error: Error| {
                    let remedy = Remedy::Write("such as `10/s`, `600/m` or `5/h`".to_owned());
                    ConfigError::new(at("rate"), format!("`{text}` is no rate"), remedy)
                })?;
                Some(rate.with_burst(burst.unwrap_or(rate.burst)))
            }
            (None, Some(_)) => {
                let remedy = Remedy::Add("rate = \"10/s\"".to_owned());
                return Err(ConfigError::new(
                    at("burst"),
                    "a burst needs a rate",
                    remedy,
                ));
            }
            (None, None) => None,
        };
        Ok(Limit {
            concurrency: self.concurrency,
            rate,
        })
    }
}
