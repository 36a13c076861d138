//! The manifest's text form. Each section is a type of its own that denies unknown fields; the
//! [`Document`] gives whatever refuses a value its line and full key.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::Amount;
use serde::{Deserialize, Deserializer};

use super::breaker::BreakerText;
use super::limits::LimitsText;
use super::place::Document;
use super::probes::ProbesText;
use super::recovery::{FallbackText, PoolRecoveryText};
use super::registry::RegistryText;
use super::scale::ScaleText;
use super::scheduling::text::{LimitText, SchedulingText, TenantText};
use super::supervision::{BranchText, SupervisionText};
use super::{
    Branch, ConfigError, Escalation, Fleet, Lane, Pool, Remedy, Schedule, Supervision, UndoWhen,
    check,
};
use crate::error::Error;
use crate::recovery::{Backoff, Class, Rung};

/// The largest manifest in bytes: a thousand pools fit.
const TEXT_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    fleet: Head,
    pool: BTreeMap<String, PoolText>,
    #[serde(default)]
    lane: BTreeMap<String, LaneText>,
    #[serde(default)]
    recovery: BTreeMap<Class, Vec<Rung>>,
    #[serde(default)]
    backoff: BackoffText,
    #[serde(default)]
    breaker: BreakerText,
    #[serde(default)]
    escalation: EscalationText,
    #[serde(default)]
    scheduling: SchedulingText,
    #[serde(default)]
    tenant: BTreeMap<String, TenantText>,
    #[serde(default)]
    limit: BTreeMap<String, LimitText>,
    #[serde(default)]
    registry: RegistryText,
    #[serde(default)]
    schedule: BTreeMap<String, Schedule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    budget: Amount,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolText {
    agent: String,
    size: Option<u32>,
    min: Option<u32>,
    max: Option<u32>,
    scale: Option<ScaleText>,
    supervisor: Option<SupervisionText>,
    #[serde(default)]
    probes: ProbesText,
    owner: Option<String>,
    purpose: Option<String>,
    budget: Amount,
    verifier: Option<String>,
    lane: Option<String>,
    #[serde(default)]
    grants: Vec<String>,
    #[serde(default, deserialize_with = "maybe_duration")]
    attempt_max: Option<Duration>,
    steps_max: Option<u32>,
    #[serde(default)]
    recovery: BTreeMap<Class, Vec<Rung>>,
    retries_max: Option<u32>,
    #[serde(default)]
    fallback: FallbackText,
    #[serde(default)]
    undo: UndoWhen,
    identical_calls_max: Option<u32>,
    #[serde(default)]
    limits: LimitsText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneText {
    agent: String,
    size: Option<u32>,
    target: String,
    #[serde(default)]
    grants: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffText {
    #[serde(default, deserialize_with = "maybe_duration")]
    first: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    cap: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EscalationText {
    route: Option<String>,
    #[serde(default, deserialize_with = "maybe_duration")]
    deadline: Option<Duration>,
}

/// Reads `500ms`, `30s`, `5m`, `2h` or `1d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

/// Reads a time, if there is one.
pub(super) fn maybe_duration<'de, D>(from: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let expected = "a time such as `500ms`, `30s`, `5m`, `2h` or `1d`";
    let found = serde::de::Unexpected::Str(&text);
    match duration(&text) {
        Some(time) => Ok(Some(time)),
        None => Err(serde::de::Error::invalid_value(found, &expected)),
    }
}

/// Reads a value that is written as text, if there is one.
pub(super) fn parsed<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = Error>,
{
    let text = Option::<String>::deserialize(from)?;
    let value = text.map(|text| text.parse()).transpose();
    value.map_err(serde::de::Error::custom)
}

/// Reads a manifest and checks it.
pub(super) fn parse(text: &str) -> Result<Fleet, ConfigError> {
    if text.len() > TEXT_BYTES_MAX {
        let remedy = Remedy::Write("at most 1 MiB".to_owned());
        return Err(ConfigError::new("", "the manifest is too large", remedy));
    }
    let document = Document::parse(text)?;
    let (rest, supervisor) = document.split("supervisor");
    let manifest: Manifest = rest.read()?;
    let (branches, root) = supervisor.tables();
    let root: SupervisionText = root.read()?;
    let branches: BTreeMap<String, BranchText> = branches.read()?;
    let fleet = manifest.into_fleet(&root, branches);
    let checked = fleet.and_then(|fleet| check::check(&fleet).map(|()| fleet));
    checked.map_err(|error| document.locate(error))
}

/// Places what another part of the crate refused.
fn refused(error: &Error) -> ConfigError {
    match error {
        Error::Invalid { key, reason } => ConfigError::new(
            key,
            reason,
            Remedy::Write("what the reason asks for".to_owned()),
        ),
        other => ConfigError::new("", other.to_string(), Remedy::Remove),
    }
}

impl Manifest {
    fn into_fleet(
        self,
        root: &SupervisionText,
        branches: BTreeMap<String, BranchText>,
    ) -> Result<Fleet, ConfigError> {
        let mut fleet = Fleet::new(self.fleet.name, self.fleet.budget);
        fleet.supervisor = root.over(Supervision::new());
        let branches = branches.into_iter();
        fleet.supervisors = branches
            .map(|(name, branch)| (name, Branch::from(branch)))
            .collect();
        for (class, ladder) in self.recovery {
            let table = fleet.recovery.with(class, ladder);
            fleet.recovery = table.map_err(|e| refused(&e))?;
        }
        for (name, text) in self.pool {
            let base = fleet.supervision_by_default(&format!("pool.{name}"));
            let pool = text.into_pool(&name, base)?;
            fleet.pools.insert(name, pool);
        }
        let lanes = self.lane.into_iter();
        fleet.lanes = lanes.map(|(name, lane)| (name, lane.into())).collect();
        let (backoff, escalation) = (Backoff::default(), Escalation::default());
        fleet.backoff = Backoff::new(
            self.backoff.first.unwrap_or(backoff.first),
            self.backoff.cap.unwrap_or(backoff.cap),
        );
        fleet.escalation = Escalation {
            route: self.escalation.route.unwrap_or(escalation.route),
            deadline: self.escalation.deadline.unwrap_or(escalation.deadline),
        };
        fleet.breaker = self.breaker.into();
        fleet.registry = self.registry.into();
        fleet.scheduling = self.scheduling.with(self.tenant, self.limit)?;
        fleet.schedules = self.schedule;
        Ok(fleet)
    }
}

impl PoolText {
    fn into_pool(self, name: &str, base: Supervision) -> Result<Pool, ConfigError> {
        let recovery = PoolRecoveryText {
            recovery: self.recovery,
            retries_max: self.retries_max,
            fallback: self.fallback,
            undo: self.undo,
            identical_calls_max: self.identical_calls_max,
        };
        let key = |field: &str| format!("pool.{name}.{field}");
        let (size, min, max) = (self.size, self.min, self.max);
        let least = match (size, min) {
            (Some(_), Some(_)) => {
                let reason = "`size` is both the least and the most";
                return Err(ConfigError::new(key("size"), reason, Remedy::Remove));
            }
            (None, None) => {
                let add = Remedy::Add("size".to_owned());
                return Err(ConfigError::new(key("size"), "`size` is missing", add));
            }
            (size, min) => size.or(min).unwrap_or(1),
        };
        let scale = match (max, self.scale) {
            (Some(_), _) if size.is_some() => {
                let reason = "a pool with a `size` does not scale";
                return Err(ConfigError::new(key("max"), reason, Remedy::Remove));
            }
            (None, Some(_)) => {
                let reason = "a pool that scales needs a `max`";
                let add = Remedy::Add("max".to_owned());
                return Err(ConfigError::new(key("max"), reason, add));
            }
            (Some(max), scale) => Some(scale.unwrap_or_default().into_scale(max)),
            (None, None) => None,
        };
        let mut pool = Pool::new(self.agent, least, self.budget);
        pool.scale = scale;
        pool.supervision = self.supervisor.map(|stated| stated.over(base));
        pool.probes = self.probes.into();
        (pool.owner, pool.purpose) = (self.owner, self.purpose);
        (pool.verifier, pool.lane, pool.grants) = (self.verifier, self.lane, self.grants);
        pool.attempt_max = self.attempt_max.unwrap_or(pool.attempt_max);
        pool.steps_max = self.steps_max.unwrap_or(pool.steps_max);
        pool.recovery = recovery.read(name)?;
        pool.limits = self.limits.into();
        Ok(pool)
    }
}

impl From<LaneText> for Lane {
    fn from(text: LaneText) -> Self {
        let size = text.size.unwrap_or(Self::SIZE_DEFAULT);
        Self {
            agent: text.agent,
            size,
            target: text.target,
            grants: text.grants,
        }
    }
}
