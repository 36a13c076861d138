//! Bugs planted in a provisioner: each makes the laws fail that are there to find it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use agent_core::{ErrorKind, ExposeSecret, Retry};
use agent_pay::conformance::ProvisionerSubject;
use agent_pay::provision::{
    Blocker, BlockerCode, CredentialName, Inspected, MemoryVault, Offer, Provisioner, ResourceName,
    Spec, SqliteDatabases, Vault,
};
use agent_pay::{Error, Result};
use parking_lot::Mutex;

use super::{plans, resource, sqlite};
use crate::finds::laws_find;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// The dearest plan is listed first.
    DearestFirst,
    /// Nothing can be ordered.
    ListsNoOffers,
    /// A plan of the catalogue is blocked.
    BlocksPlans,
    /// Asking what stands in the way makes the resource.
    PreflightMakes,
    /// What was made stands in its own way.
    BlocksItsOwn,
    /// A blocker has no remedy.
    BlocksWithoutRemedy,
    /// An unknown plan is called an unknown offer.
    MistakesPlans,
    /// Whatever is asked for, the cheapest is made.
    AcceptsAnything,
    /// What is blocked is made all the same.
    MakesWhatItBlocks,
    /// Credentials open nothing.
    WrongCredentials,
    /// There are no credentials.
    NoCredentials,
    /// The credentials of the second open the first.
    GivesOthersCredentials,
    /// The credentials of what is found have other names.
    RenamesCredentials,
    /// It sleeps when it is created.
    CreatesAsleep,
    /// Creating again makes another.
    MakesSeconds,
    /// Creating again begins anew.
    Recreates,
    /// A name that was used is taken for ever.
    KeepsNamesTaken,
    /// It never sleeps.
    NeverSleeps,
    /// It never wakes.
    SleepsForever,
    /// What is as it should be cannot be brought there.
    RefusesRepeats,
    /// It is empty when it wakes or its plan is changed.
    EmptiesOnAlter,
    /// Changing the plan puts it to sleep.
    LocksOut,
    /// A cheaper plan is refused.
    RefusesDowngrades,
    /// What is not there is altered.
    AltersNothing,
    /// That it is not there is called something else.
    MistakesAbsence,
    /// What is not there is made when it is altered.
    MakesOnAlter,
    /// Credentials stay behind.
    KeepsCredentials,
    /// What is destroyed is not shown, and works.
    HidesOnly,
    /// What sleeps is not shown any more and is kept.
    HidesSleepers,
    /// What sleeps is not destroyed.
    RefusesSleepers,
    /// Without it, destroying fails.
    FailsWhenAbsent,
    /// Nothing is destroyed.
    DestroysNothing,
    /// Everything is destroyed.
    DestroysAll,
    /// All that is there is called asleep.
    SaysAsleep,
    /// All that is there is called awake.
    SaysAwake,
    /// What is not there is seen.
    SeesGhosts,
    /// What nobody made is listed.
    ListsGhosts,
    /// What sleeps is not listed.
    ForgetsSleepers,
    /// Nothing is listed.
    ListsNothing,
    /// The values of credentials are printed.
    ShowsValues,
}

#[derive(Default)]
struct State {
    hidden: BTreeSet<ResourceName>,
    used: BTreeSet<ResourceName>,
    values: Vec<String>,
    last_plan: String,
}

struct Planted {
    inner: SqliteDatabases,
    bug: Option<Bug>,
    state: Mutex<State>,
}

impl fmt::Debug for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planted")?;
        if self.is(Bug::ShowsValues) && f.alternate() {
            write!(f, "{:?}", self.state.lock().values)?;
        }
        Ok(())
    }
}

fn refused(kind: ErrorKind) -> Error {
    Error::backend("planted", "do it", kind, Retry::Never, "planted")
}

fn blocked(code: BlockerCode, remedy: &str) -> Blocker {
    Blocker::new(code, "planted", remedy)
}

/// What the catalogue has of it.
fn listed(spec: &Spec) -> Spec {
    let cheapest = plans().swap_remove(0);
    Spec::new(spec.name.clone(), SqliteDatabases::OFFER, cheapest)
}

impl Planted {
    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether a resource is there and awake, asleep, or not there.
    async fn is_awake(&self, name: &ResourceName) -> Result<Option<bool>> {
        Ok(self.inner.inspect(name).await?.map(|found| found.is_awake))
    }

    /// Makes it anew, and leaves its credentials as they are.
    async fn empty(&self, spec: &Spec) -> Result<()> {
        let nowhere = MemoryVault::new();
        self.inner.destroy(&spec.name, &nowhere).await?;
        self.inner.create(spec, &nowhere).await?;
        Ok(())
    }

    async fn create_again(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        match self.bug {
            Some(Bug::MakesSeconds) => {
                let mut second = spec.clone();
                second.name = resource(&format!("{}_2", spec.name));
                self.inner.create(&second, &MemoryVault::new()).await?;
            }
            Some(Bug::Recreates) => self.empty(spec).await?,
            _ => {}
        }
        let names = self.inner.create(spec, vault).await?;
        if self.is(Bug::RenamesCredentials) {
            let other = CredentialName::of(self.inner.name(), &spec.name, "file")?;
            let path = names.first().unwrap().to_string();
            vault.put(&other, path.into()).await?;
            return Ok(vec![other]);
        }
        Ok(names)
    }

    async fn create_first(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        if self.is(Bug::KeepsNamesTaken) && self.state.lock().used.contains(&spec.name) {
            let code = BlockerCode::NameTaken;
            return Err(Error::blocked(vec![blocked(code, "take another")]));
        }
        let seen = MemoryVault::new();
        let names = self.inner.create(spec, &seen).await?;
        for name in &names {
            let mut value = seen.get(name).unwrap();
            let text = value.expose_secret().to_owned();
            let first = self.state.lock().values.first().cloned();
            match (self.bug, first) {
                (Some(Bug::WrongCredentials), _) => value = format!("{text}.gone").into(),
                (Some(Bug::GivesOthersCredentials), Some(first)) => value = first.into(),
                _ => {}
            }
            self.state.lock().values.push(text);
            vault.put(name, value).await?;
        }
        if self.is(Bug::CreatesAsleep) {
            self.inner.alter(spec, false).await?;
        }
        Ok(names)
    }
}

#[async_trait::async_trait]
impl Provisioner for Planted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn catalogue(&self) -> Result<Vec<Offer>> {
        let mut offers = self.inner.catalogue().await?;
        match self.bug {
            Some(Bug::DearestFirst) => offers.iter_mut().for_each(|offer| offer.plans.reverse()),
            Some(Bug::ListsNoOffers) => offers.clear(),
            _ => {}
        }
        Ok(offers)
    }

    async fn preflight(&self, spec: &Spec) -> Result<Vec<Blocker>> {
        let mut found = self.inner.preflight(spec).await?;
        match self.bug {
            Some(Bug::BlocksPlans) if spec.plan.id == "large" => {
                found.push(blocked(BlockerCode::LimitReached, "take a smaller one"));
            }
            Some(Bug::PreflightMakes) => {
                self.inner.create(spec, &MemoryVault::new()).await?;
            }
            Some(Bug::BlocksItsOwn) if self.inner.inspect(&spec.name).await?.is_some() => {
                found.push(blocked(BlockerCode::NameTaken, "take another"));
            }
            Some(Bug::BlocksWithoutRemedy) => {
                found.iter_mut().for_each(|blocker| blocker.remedy.clear());
            }
            Some(Bug::MistakesPlans) => {
                found
                    .iter_mut()
                    .for_each(|blocker| blocker.code = BlockerCode::OfferUnknown);
            }
            Some(Bug::AcceptsAnything) => found.clear(),
            _ => {}
        }
        Ok(found)
    }

    async fn create(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        let is_hidden = self.state.lock().hidden.remove(&spec.name);
        let spec = if self.is(Bug::AcceptsAnything) {
            listed(spec)
        } else {
            spec.clone()
        };
        let blockers = spec.blockers_in(&self.inner.catalogue().await?);
        if self.is(Bug::MakesWhatItBlocks) && !blockers.is_empty() {
            self.inner.create(&listed(&spec), vault).await?;
            return Err(Error::blocked(blockers));
        }
        let is_there = !is_hidden && self.inner.inspect(&spec.name).await?.is_some();
        let names = if is_there {
            self.create_again(&spec, vault).await?
        } else {
            self.create_first(&spec, vault).await?
        };
        self.state.lock().used.insert(spec.name.clone());
        Ok(if self.is(Bug::NoCredentials) {
            Vec::new()
        } else {
            names
        })
    }

    async fn alter(&self, spec: &Spec, is_awake: bool) -> Result<()> {
        let was_awake = self.is_awake(&spec.name).await?;
        let last_plan = std::mem::replace(&mut self.state.lock().last_plan, spec.plan.id.clone());
        match (self.bug, was_awake) {
            (Some(Bug::AltersNothing), None) => return Ok(()),
            (Some(Bug::MistakesAbsence), None) => return Err(refused(ErrorKind::Invalid)),
            (Some(Bug::MakesOnAlter), None) => {
                self.inner.create(spec, &MemoryVault::new()).await?;
                return Err(refused(ErrorKind::NotFound));
            }
            (Some(Bug::NeverSleeps), _) if !is_awake => return Ok(()),
            (Some(Bug::SleepsForever), _) if is_awake => return Ok(()),
            (Some(Bug::RefusesRepeats), Some(was)) if was == is_awake => {
                return Err(refused(ErrorKind::Conflict));
            }
            (Some(Bug::EmptiesOnAlter), Some(_)) if is_awake => return self.empty(spec).await,
            (Some(Bug::LocksOut), Some(true)) if is_awake && last_plan != spec.plan.id => {
                return self.inner.alter(spec, false).await;
            }
            (Some(Bug::RefusesDowngrades), _)
                if last_plan == "large" && spec.plan.id == "small" =>
            {
                return Err(refused(ErrorKind::Invalid));
            }
            _ => {}
        }
        self.inner.alter(spec, is_awake).await
    }

    async fn destroy(&self, name: &ResourceName, vault: &dyn Vault) -> Result<()> {
        let is_awake = self.is_awake(name).await?;
        match (self.bug, is_awake) {
            (Some(Bug::DestroysNothing), _) => return Ok(()),
            (Some(Bug::FailsWhenAbsent), None) => {
                return Err(refused(ErrorKind::NotFound));
            }
            (Some(Bug::RefusesSleepers), Some(false)) => {
                return Err(refused(ErrorKind::Conflict));
            }
            (Some(Bug::HidesOnly), _) | (Some(Bug::HidesSleepers), Some(false)) => {
                self.state.lock().hidden.insert(name.clone());
                return vault.remove_all(self.inner.name(), name).await;
            }
            (Some(Bug::KeepsCredentials), _) => {
                return self.inner.destroy(name, &MemoryVault::new()).await;
            }
            (Some(Bug::DestroysAll), _) => {
                for name in self.inner.list().await? {
                    self.inner.destroy(&name, &MemoryVault::new()).await?;
                }
            }
            _ => {}
        }
        self.inner.destroy(name, vault).await
    }

    async fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>> {
        if self.state.lock().hidden.contains(name) {
            return Ok(None);
        }
        let mut found = self.inner.inspect(name).await?;
        match (self.bug, &mut found) {
            (Some(Bug::SaysAsleep), Some(found)) => found.is_awake = false,
            (Some(Bug::SaysAwake), Some(found)) => found.is_awake = true,
            (Some(Bug::SeesGhosts), None) => return Ok(Some(Inspected::new(true))),
            _ => {}
        }
        Ok(found)
    }

    async fn list(&self) -> Result<Vec<ResourceName>> {
        let mut names = Vec::new();
        for name in self.inner.list().await? {
            let is_asleep = self.is_awake(&name).await? == Some(false);
            let is_forgotten = is_asleep && self.is(Bug::ForgetsSleepers);
            if !is_forgotten && !self.state.lock().hidden.contains(&name) {
                names.push(name);
            }
        }
        match self.bug {
            Some(Bug::ListsNothing) => names.clear(),
            Some(Bug::ListsGhosts) => names.push(resource("ghost")),
            _ => {}
        }
        Ok(names)
    }
}

fn subject(bug: Option<Bug>) -> ProvisionerSubject {
    let dir = tempfile::tempdir().unwrap();
    let planted = Planted {
        inner: SqliteDatabases::new(dir.path(), plans()),
        bug,
        state: Mutex::default(),
    };
    sqlite::around(Arc::new(planted), dir)
}

laws_find! {
    what_is_listed_can_be_ordered: DearestFirst, ListsNoOffers, BlocksPlans, PreflightMakes, ListsGhosts;
    credentials_open_what_was_created: WrongCredentials, NoCredentials, CreatesAsleep, SaysAsleep;
    creating_again_makes_no_second: MakesSeconds, Recreates, RenamesCredentials, BlocksItsOwn, ListsNothing;
    destroying_leaves_nothing: KeepsCredentials, HidesOnly, FailsWhenAbsent, DestroysNothing, SeesGhosts;
    a_name_can_be_used_again: HidesOnly, KeepsNamesTaken;
    resources_are_apart: DestroysAll, GivesOthersCredentials, HidesOnly;
    what_is_not_listed_is_blocked: AcceptsAnything, MakesWhatItBlocks, BlocksWithoutRemedy, MistakesPlans;
    a_resource_sleeps_and_wakes: NeverSleeps, SleepsForever, RefusesRepeats, SaysAsleep, SaysAwake,
        ForgetsSleepers, EmptiesOnAlter;
    what_sleeps_can_be_destroyed: HidesSleepers, RefusesSleepers, KeepsCredentials;
    plans_change_both_ways: RefusesDowngrades, LocksOut, EmptiesOnAlter;
    what_is_absent_is_not_altered: AltersNothing, MistakesAbsence, MakesOnAlter, SeesGhosts;
    values_show_nowhere: ShowsValues, NoCredentials;
}
