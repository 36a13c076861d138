//! What the command line says, as far as it is used; other fields are passed over, since the
//! preview adds some with every version.

use std::collections::BTreeMap;

use agent_core::Secret;
use serde::Deserialize;
use serde_json::Value;

use crate::provision::{Blocker, BlockerCode, ResourceName};

/// The most rows that are read of a list.
const ROWS_MAX: usize = 10_000;
/// The most characters kept of a text another side wrote.
const TEXT_CHARS_MAX: usize = 500;

/// Around every answer.
#[derive(Deserialize)]
pub(super) struct Envelope {
    #[serde(rename = "ok")]
    pub(super) is_ok: bool,
    pub(super) data: Option<Value>,
    pub(super) error: Option<Failure>,
}

#[derive(Default, Deserialize)]
pub(super) struct Failure {
    #[serde(default)]
    pub(super) code: String,
    pub(super) remedy: Option<String>,
    pub(super) details: Option<Value>,
}

/// What a preflight found: in the data of one that passed, in the details of one that did not.
#[derive(Default, Deserialize)]
pub(super) struct Preflight {
    #[serde(default)]
    preflight: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    label: String,
    #[serde(rename = "pass")]
    is_passed: bool,
    code: Option<String>,
    remedy: Option<String>,
}

impl Preflight {
    /// Returns what did not pass.
    pub(super) fn blockers(self) -> Vec<Blocker> {
        let failed = self.preflight.into_iter().filter(|check| !check.is_passed);
        let blocker = |check: Check| {
            let code = BlockerCode::parse(check.code.as_deref().unwrap_or("CHECK_FAILED"));
            let remedy = check
                .remedy
                .unwrap_or_else(|| "see `stripe projects`".to_owned());
            Blocker::new(code, cut(&check.label), cut(&remedy))
        };
        failed.take(ROWS_MAX).map(blocker).collect()
    }
}

fn cut(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(TEXT_CHARS_MAX).collect()
}

/// The data of `catalog`.
#[derive(Deserialize)]
pub(super) struct Catalogue {
    pub(super) services: Vec<Service>,
}

#[derive(Deserialize)]
pub(super) struct Service {
    provider_name: String,
    service_id: String,
    pub(super) description: Option<String>,
}

impl Service {
    /// Returns what `add` calls it.
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.provider_name.to_lowercase(), self.service_id)
    }
}

/// The data of `services list`.
#[derive(Default, Deserialize)]
pub(super) struct Services {
    #[serde(default)]
    pub(super) services: Vec<Made>,
}

/// A service of the project.
#[derive(Deserialize)]
pub(super) struct Made {
    pub(super) name: String,
    reference: Option<String>,
    pub(super) plan: Option<String>,
}

impl Made {
    pub(super) const fn reference(&self) -> Option<&String> {
        self.reference.as_ref()
    }
}

impl Services {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.name.as_str())
    }
}

/// Returns the variables of one service: those that begin with its name in capitals, called by what
/// follows.
pub(super) fn variables_of(name: &ResourceName, text: &str) -> BTreeMap<String, Secret> {
    let prefix = format!("{}_", name.as_str().to_uppercase());
    let mut found = BTreeMap::new();
    for line in text.lines().take(ROWS_MAX) {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if let Some((variable, value)) = line.split_once('=')
            && let Some(part) = variable.trim().strip_prefix(&prefix)
        {
            let value = value.trim();
            let unquoted = ['"', '\''].into_iter().find_map(|quote| {
                let inner = value.strip_prefix(quote)?;
                inner.strip_suffix(quote)
            });
            let value = unquoted.unwrap_or(value).to_owned();
            found.insert(part.to_lowercase(), Secret::from(value));
        }
    }
    found
}
