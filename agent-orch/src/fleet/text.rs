//! The manifest's text form. Each section is a type of its own that denies unknown fields; the
//! [`Document`] gives whatever refuses a value its line and full key.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::Amount;
use serde::{Deserialize, Deserializer};

use super::place::Document;
use super::recovery::{FallbackText, PoolRecoveryText};
use super::scheduling::text::{LimitText, SchedulingText, TenantText};
use super::{ConfigError, Escalation, Fleet, Lane, Pool, Remedy, Supervision, UndoWhen, check};
use crate::error::Error;
use crate::recovery::{Backoff, Class, RecoveryTable, Rung};
use crate::restart::{Intensity, Restart, Strategy};

/// The largest manifest in bytes: a thousand pools fit.
const TEXT_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    fleet: Head,
    #[serde(default)]
    supervisor: Supervisor,
    pool: BTreeMap<String, PoolText>,
    #[serde(default)]
    lane: BTreeMap<String, LaneText>,
    #[serde(default)]
    recovery: BTreeMap<Class, Vec<Rung>>,
    #[serde(default)]
    backoff: BackoffText,
    #[serde(default)]
    escalation: EscalationText,
    #[serde(default)]
    scheduling: SchedulingText,
    #[serde(default)]
    tenant: BTreeMap<String, TenantText>,
    #[serde(default)]
    limit: BTreeMap<String, LimitText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    budget: Amount,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Supervisor {
    #[serde(default)]
    strategy: Strategy,
    #[serde(default)]
    restart: Restart,
    intensity: Option<u32>,
    #[serde(default, deserialize_with = "maybe_duration")]
    period: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolText {
    agent: String,
    size: u32,
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
fn duration(text: &str) -> Option<Duration> {
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

/// Reads a manifest and checks it.
pub(super) fn parse(text: &str) -> Result<Fleet, ConfigError> {
    if text.len() > TEXT_BYTES_MAX {
        let remedy = Remedy::Write("at most 1 MiB".to_owned());
        return Err(ConfigError::new("", "the manifest is too large", remedy));
    }
    let document = Document::parse(text)?;
    let manifest: Manifest = document.read()?;
    let fleet = manifest.into_fleet();
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
    fn into_fleet(self) -> Result<Fleet, ConfigError> {
        let manifest = self;
        let mut recovery = RecoveryTable::default();
        for (class, ladder) in manifest.recovery {
            recovery = recovery.with(class, ladder).map_err(|e| refused(&e))?;
        }
        let (intensity, backoff, escalation) = (
            Intensity::default(),
            Backoff::default(),
            Escalation::default(),
        );
        Ok(Fleet {
            name: manifest.fleet.name,
            budget: manifest.fleet.budget,
            supervisor: Supervision {
                strategy: manifest.supervisor.strategy,
                restart: manifest.supervisor.restart,
                intensity: Intensity::new(
                    manifest.supervisor.intensity.unwrap_or(intensity.restarts),
                    manifest.supervisor.period.unwrap_or(intensity.period),
                ),
            },
            pools: manifest
                .pool
                .into_iter()
                .map(|(name, pool)| Ok((name.clone(), pool.read(&name)?)))
                .collect::<Result<_, ConfigError>>()?,
            lanes: manifest
                .lane
                .into_iter()
                .map(|(name, lane)| (name, lane.into()))
                .collect(),
            recovery,
            backoff: Backoff::new(
                manifest.backoff.first.unwrap_or(backoff.first),
                manifest.backoff.cap.unwrap_or(backoff.cap),
            ),
            escalation: Escalation {
                route: manifest.escalation.route.unwrap_or(escalation.route),
                deadline: manifest.escalation.deadline.unwrap_or(escalation.deadline),
            },
            scheduling: manifest.scheduling.with(manifest.tenant, manifest.limit)?,
        })
    }
}

impl PoolText {
    fn read(self, name: &str) -> Result<Pool, ConfigError> {
        let defaults = Pool::new(self.agent, self.size, self.budget);
        let recovery = PoolRecoveryText {
            recovery: self.recovery,
            retries_max: self.retries_max,
            fallback: self.fallback,
            undo: self.undo,
            identical_calls_max: self.identical_calls_max,
        };
        Ok(Pool {
            verifier: self.verifier,
            lane: self.lane,
            grants: self.grants,
            attempt_max: self.attempt_max.unwrap_or(defaults.attempt_max),
            steps_max: self.steps_max.unwrap_or(defaults.steps_max),
            recovery: recovery.read(name)?,
            ..defaults
        })
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
