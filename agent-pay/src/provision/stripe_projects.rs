//! Services of other companies by the command line of Stripe Projects.

mod command;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Clock, ErrorKind, ExposeSecret, Retry, Secret};
use async_trait::async_trait;

use super::{
    Blocker, BlockerCode, CredentialName, Inspected, Offer, Plan, Provisioner, ResourceName, Spec,
    Vault,
};
use crate::error::{Error, Result};
use wire::{Catalogue, Services};

const NAME: &str = "stripe";

/// How the command line is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StripeProjectsSettings {
    program: PathBuf,
    dir: PathBuf,
    variables: BTreeMap<OsString, OsString>,
    plans: BTreeMap<String, Vec<Plan>>,
    accepts_terms: bool,
    time: Duration,
}

impl StripeProjectsSettings {
    /// How long one command may take, unless the host says otherwise.
    pub const TIME: Duration = Duration::from_secs(120);

    /// Runs `program` in `dir`, the directory of a project (`stripe projects init` makes one there):
    /// with no variables, no plan of a known price, no terms accepted, two minutes a command.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            dir: dir.into(),
            variables: BTreeMap::new(),
            plans: BTreeMap::new(),
            accepts_terms: false,
            time: Self::TIME,
        }
    }

    /// Sets a variable of the program's environment, which is empty but for these: it needs `HOME`
    /// and `PATH`. Default: none.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sets a plan of a service such as `neon/postgres`, with the most that a period of it costs: a
    /// service without a known price cannot be ordered. Default: none.
    #[must_use]
    pub fn with_plan(mut self, service: impl Into<String>, plan: Plan) -> Self {
        let plans = self.plans.entry(service.into()).or_default();
        plans.push(plan);
        plans.sort_by_key(|plan| plan.price.units());
        self
    }

    /// Says that the host has read and accepts the terms of the services it orders. Default: they
    /// are a blocker.
    #[must_use]
    pub const fn with_terms_accepted(mut self) -> Self {
        self.accepts_terms = true;
        self
    }

    /// Sets how long one command may take. Default: two minutes.
    #[must_use]
    pub const fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }
}

/// Orders services through `stripe projects … --json`, the command line of Stripe Projects (public
/// preview of 2026).
///
/// Every answer is the envelope `{ok, command, version, data, error}`. Commands: `init --preflight`,
/// `catalog`, `services list`, `add`, `upgrade`, `downgrade`, `remove` and `env --pull`, which writes
/// a file of variables into the project's directory: the values that begin with the resource's name
/// go into the vault and the file is removed. Use a directory of its own for a project, and one
/// `StripeProjects` for a directory: what belongs to which order is known by the services' names.
///
/// The arguments of `upgrade` and `downgrade` are not documented where this was written, and no
/// command scales to zero. Prices are the host's, since the catalogue's are not the caller's: the
/// most that a period costs is charged to the budget, while Stripe bills what it does.
#[derive(Clone, Debug)]
pub struct StripeProjects {
    settings: Arc<StripeProjectsSettings>,
    clock: Arc<dyn Clock>,
}

impl StripeProjects {
    /// Orders through a command line.
    #[must_use]
    pub fn new(settings: StripeProjectsSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings: Arc::new(settings),
            clock,
        }
    }

    async fn services(&self) -> Result<Services> {
        self.run(&["services", "list"]).await
    }

    async fn has(&self, name: &ResourceName) -> Result<bool> {
        let services = self.services().await?;
        Ok(services.names().any(|found| found == name.as_str()))
    }

    fn consent(&self) -> &'static [&'static str] {
        match self.settings.accepts_terms {
            true => &["--yes", "--accept-tos"],
            false => &["--yes"],
        }
    }

    /// Fetches the variables of all services and returns those of one.
    async fn variables(&self, name: &ResourceName) -> Result<BTreeMap<String, Secret>> {
        let file = self.settings.dir.join(".env");
        if std::fs::symlink_metadata(&file).is_ok() {
            // Somebody else's: it would be written over, or its values taken for a service's.
            return Err(Error::blocked(vec![Blocker::new(
                BlockerCode::DirectoryUnusable,
                "there is a file .env in the project's directory",
                "move it away, or name a directory of its own",
            )]));
        }
        let pulled: Result<serde_json::Value> = self.run(&["env", "--pull"]).await;
        let text = take_file(&file);
        pulled?;
        Ok(wire::variables_of(name, text?.expose_secret()))
    }
}

/// The longest file of variables in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file of secrets and removes it.
fn take_file(file: &Path) -> Result<Secret> {
    let failed = |error| {
        let kind = ErrorKind::Unavailable;
        Error::backend(NAME, "read variables", kind, Retry::Safe, error)
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(failed)?;
    let read = opened.take(FILE_BYTES_MAX).read_to_string(&mut text);
    let text = Secret::from(text);
    std::fs::remove_file(file).map_err(failed)?;
    read.map_err(failed)?;
    Ok(text)
}

#[async_trait]
impl Provisioner for StripeProjects {
    fn name(&self) -> &str {
        NAME
    }

    /// Lists the services with a plan of the host; [`Provisioner::preflight`] says of another that
    /// its price is not known.
    async fn catalogue(&self) -> Result<Vec<Offer>> {
        let catalogue: Catalogue = self.run(&["catalog"]).await?;
        let offer = |service: &wire::Service| {
            let id = service.reference();
            let plans = self.settings.plans.get(&id)?.clone();
            let offer = Offer::new(id, service.description.clone().unwrap_or_default(), plans);
            Some(offer.with_can_sleep(false))
        };
        Ok(catalogue.services.iter().filter_map(offer).collect())
    }

    async fn preflight(&self, spec: &Spec) -> Result<Vec<Blocker>> {
        let mut arguments = vec!["init", "--preflight"];
        arguments.extend(self.consent());
        let mut found = self.checked(&arguments).await?;
        // Without a program or an account there is no catalogue to compare with.
        let Ok(catalogue) = self.run::<Catalogue>(&["catalog"]).await else {
            return Ok(found);
        };
        let is_listed = catalogue
            .services
            .iter()
            .any(|service| service.reference() == spec.offer);
        match self.settings.plans.get(&spec.offer) {
            None if is_listed => found.push(Blocker::new(
                BlockerCode::PriceUnknown,
                format!("no price of {} is known", spec.offer),
                "name the most that a period costs with `with_plan`",
            )),
            _ => found.extend(spec.blockers_in(&self.catalogue().await?)),
        }
        let services = self.services().await.unwrap_or_default();
        let is_other = |service: &wire::Made| {
            service.name == spec.name.as_str() && service.reference() != Some(&spec.offer)
        };
        if services.services.iter().any(is_other) {
            found.push(Blocker::new(
                BlockerCode::NameTaken,
                format!("the project has another service {}", spec.name),
                "choose another name",
            ));
        }
        Ok(found)
    }

    async fn create(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        let plans = self.settings.plans.get(&spec.offer);
        if !plans.is_some_and(|plans| plans.contains(&spec.plan)) {
            let blockers = spec.blockers_in(&self.catalogue().await?);
            return Err(Error::blocked(blockers));
        }
        // An answer that was lost shows here: the service is not added twice.
        if !self.has(&spec.name).await? {
            let mut arguments = vec!["add", spec.offer.as_str(), "--name", spec.name.as_str()];
            arguments.extend(self.consent());
            let _added: serde_json::Value = self.run(&arguments).await?;
        }
        let mut names = Vec::new();
        for (part, value) in self.variables(&spec.name).await? {
            let name = CredentialName::of(NAME, &spec.name, &part)?;
            vault.put(&name, value).await?;
            names.push(name);
        }
        Ok(names)
    }

    async fn alter(&self, spec: &Spec, is_awake: bool) -> Result<()> {
        if !is_awake {
            let (kind, why) = (
                ErrorKind::Unsupported,
                "no command scales a service to zero",
            );
            return Err(Error::backend(
                NAME,
                "put a service to sleep",
                kind,
                Retry::Never,
                why,
            ));
        }
        let services = self.services().await?;
        let made = services
            .services
            .iter()
            .find(|s| s.name == spec.name.as_str());
        let Some(made) = made else {
            let name = spec.name.clone();
            return Err(Error::ResourceNotFound { name });
        };
        if made.plan.as_deref() == Some(spec.plan.id.as_str()) {
            return Ok(());
        }
        let plans = self.settings.plans.get(&spec.offer);
        let price_of =
            |id: &str| -> Option<Amount> { Some(plans?.iter().find(|plan| plan.id == id)?.price) };
        let before = made.plan.as_deref().and_then(price_of);
        let is_cheaper = before.is_some_and(|price| spec.plan.price.units() < price.units());
        let command = if is_cheaper { "downgrade" } else { "upgrade" };
        let arguments = [
            command,
            spec.name.as_str(),
            "--plan",
            spec.plan.id.as_str(),
            "--yes",
        ];
        let _changed: serde_json::Value = self.run(&arguments).await?;
        Ok(())
    }

    async fn destroy(&self, name: &ResourceName, vault: &dyn Vault) -> Result<()> {
        if self.has(name).await? {
            let arguments = ["remove", name.as_str(), "--yes"];
            let _removed: serde_json::Value = self.run(&arguments).await?;
        }
        vault.remove_all(NAME, name).await
    }

    async fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>> {
        Ok(self.has(name).await?.then(|| Inspected::new(true)))
    }

    async fn list(&self) -> Result<Vec<ResourceName>> {
        let services = self.services().await?;
        let names = services.names();
        Ok(names
            .filter_map(|name| ResourceName::new(name).ok())
            .collect())
    }
}
