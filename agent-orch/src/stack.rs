//! The layers of one host process, composed on one data directory.

mod agents;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{self, Db, Durability};
use agent_core::{AgentId, Amount, Digest, Env, Principal, RunId, Scope, Timestamp};
use agent_identity::backend::{SqliteGrantStore, SqliteKeyStore};
use agent_identity::vault::Unlock;
use agent_identity::{
    Capability, CapabilityGate, DidKey, GrantChain, GrantStore, Key, KeyName, KeyStore, Terms,
};
use agent_memory::MemoryStore;
use agent_pay::backend::sqlite as ledger;
use agent_pay::{BudgetPath, OpenBudget, RateCard};
use agent_sandbox::Runtime;
use agent_tools::Toolset;
use serde_json::Value;

use crate::audit::Sealer;
use crate::backend::sqlite::Sqlite;
use crate::error::{Error, Result};
use crate::fleet::{Fleet, GrantText, Pool, Probes};
use crate::journal::{Journal, NewRun, Run};
use crate::registry::NewAgent;
use crate::runner::Member;
use crate::throttle::Gauges;

/// How a stack is opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct StackConfig {
    data: PathBuf,
    unlock: Unlock,
    durability: Durability,
    rates: RateCard,
}

impl StackConfig {
    /// Describes a stack on a data directory, whose key vault `unlock` opens: durability
    /// `PowerLoss`. What agents consume is priced by `rates`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, unlock: Unlock, rates: RateCard) -> Self {
        Self {
            data: data.into(),
            unlock,
            durability: Durability::default(),
            rates,
        }
    }

    /// Sets what acknowledged writes survive. Default: `PowerLoss`.
    #[must_use]
    pub const fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// The composed layers. Cheap to clone.
#[derive(Clone)]
pub struct Stack {
    inner: Arc<Inner>,
}

struct Inner {
    data: PathBuf,
    env: Env,
    db: Db,
    journal: Arc<dyn Journal>,
    keys: Arc<dyn KeyStore>,
    grants: Arc<dyn GrantStore>,
    memory: Arc<dyn MemoryStore>,
    sandbox: Arc<dyn Runtime>,
    tools: Arc<dyn Toolset>,
    rates: Arc<RateCard>,
    host: Key,
    host_name: Principal,
    gauges: Gauges,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("data", &self.inner.data)
            .finish_non_exhaustive()
    }
}

/// One layer of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// The layer.
    pub layer: &'static str,
    /// Its backend.
    pub backend: &'static str,
    /// The version of the crate.
    pub version: &'static str,
    /// Whether the backend stands in for a service that will replace it.
    pub is_shim: bool,
}

/// The agents of a fleet and the gate of their grants.
pub(crate) struct Enlisted {
    pub(crate) members: Vec<Member>,
    pub(crate) grants: Arc<CapabilityGate>,
}

/// How long the grants of a run hold at least; opening it again renews them.
const GRANTS_LAST: Duration = Duration::from_secs(7 * DAY_S);
/// How long grants with limits hold from the start of their run, longer than runs last.
const LIMITED_GRANTS_LAST: Duration = Duration::from_secs(365 * DAY_S);
/// A day in seconds. Grants end at midnight, so that those issued again on the same day are the
/// same grants.
const DAY_S: u64 = 86_400;
/// The name of the host's own key.
const HOST_KEY: &str = "host";

impl Stack {
    /// Opens the embedded stack, creating the directory and everything in it where absent.
    ///
    /// # Errors
    /// `Conflict` if another process has the directory, `Corrupt` if a file in it is damaged,
    /// `Denied` if the vault does not open, `Exhausted` for a full disk, `Unavailable` if the
    /// directory cannot be made or written.
    ///
    /// # Cancel safety
    /// Not cancel safe in that directories and tables may have been made; opening again continues.
    pub async fn open(config: StackConfig, env: Env, layers: Layers) -> Result<Self> {
        let StackConfig {
            data,
            unlock,
            durability,
            rates,
        } = config;
        std::fs::create_dir_all(&data).map_err(|e| {
            Error::invalid(format!("data directory {}", data.display()), e.to_string())
        })?;
        let at = store::Config::new(data.join("stack.db")).with_durability(durability);
        let db = Db::open(at, &env).await?;
        let journal = Sqlite::open(db.clone(), env.clone()).await?;
        let keys = SqliteKeyStore::open(&db, unlock).await?;
        let grants = SqliteGrantStore::open(&db).await?;
        let embedder = Arc::new(agent_memory::StaticEmbedder::new()?);
        let config = agent_memory::backend::sqlite::Config::new();
        let memory =
            agent_memory::backend::Sqlite::open(db.clone(), env.clone(), embedder, config).await?;
        let scope = Scope::new(Principal::host());
        let host = one_key(&keys, &scope, HOST_KEY).await?;
        let host_name = Principal::try_from(host.did)?;
        Ok(Self {
            inner: Arc::new(Inner {
                journal: Arc::new(journal),
                keys: Arc::new(keys),
                grants: Arc::new(grants),
                memory: Arc::new(memory),
                sandbox: layers.sandbox,
                tools: layers.tools,
                rates: Arc::new(rates),
                host,
                host_name,
                gauges: Gauges::default(),
                data,
                env,
                db,
            }),
        })
    }

    /// Returns the directory all state lies in.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.inner.data
    }

    /// Returns the clock and the source of randomness.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Returns the embedded store.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Returns the journal.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.inner.journal)
    }

    /// Returns the key store.
    #[must_use]
    pub fn keys(&self) -> Arc<dyn KeyStore> {
        Arc::clone(&self.inner.keys)
    }

    /// Returns the memory store.
    #[must_use]
    pub fn memory(&self) -> Arc<dyn MemoryStore> {
        Arc::clone(&self.inner.memory)
    }

    /// Returns the sandbox runtime.
    #[must_use]
    pub fn sandbox(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.inner.sandbox)
    }

    /// Returns the tools.
    #[must_use]
    pub fn tools(&self) -> Arc<dyn Toolset> {
        Arc::clone(&self.inner.tools)
    }

    /// Returns the prices.
    #[must_use]
    pub fn rates(&self) -> Arc<RateCard> {
        Arc::clone(&self.inner.rates)
    }

    /// Returns the host's own key, which issues all grants.
    #[must_use]
    pub fn host_key(&self) -> &Key {
        &self.inner.host
    }

    /// Returns the limits on effects that all runs of this process share.
    pub(crate) fn gauges(&self) -> &Gauges {
        &self.inner.gauges
    }

    /// Returns a scope in which the host itself acts.
    #[must_use]
    pub fn host_scope(&self) -> Scope {
        Scope::new(self.inner.host_name.clone())
    }

    /// Returns what signs the audit chain with the host's key.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer::new(
            self.journal(),
            self.keys(),
            self.inner.env.clone(),
            self.host_scope(),
            self.inner.host.clone(),
        )
    }

    /// Opens the run of `subject`, or the unfinished one with what it was opened with.
    ///
    /// # Errors
    /// `Invalid` for an oversized subject; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open_run(&self, fleet: &Fleet, subject: &str, meta: Value) -> Result<Run> {
        let run = NewRun::new(subject, fleet.digest()?, meta);
        self.inner.journal.open_run(&self.host_scope(), run).await
    }

    /// Starts a run under another subject from what a run was after an audit record.
    ///
    /// # Errors
    /// As [`Journal::fork`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn fork(&self, run: RunId, at: u64, subject: &str) -> Result<Run> {
        let scope = self.host_scope();
        let journal = &self.inner.journal;
        journal.fork(&scope, run, at, subject.to_owned()).await
    }

    /// Returns what a budget has left, held and spent.
    ///
    /// # Errors
    /// `NotFound` for a budget that is not open; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn balance(&self, path: &str, limit: Amount) -> Result<agent_pay::Balance> {
        let (path, asset) = (BudgetPath::new(path)?, limit.asset());
        Ok(self
            .inner
            .db
            .read(move |tx| ledger::balance(tx, asset, &path))
            .await?)
    }

    /// Lists the layers and their backends.
    #[must_use]
    pub fn inventory(&self) -> Vec<Layer> {
        let version = env!("CARGO_PKG_VERSION");
        [
            ("agent-core", "sqlite"),
            ("agent-sandbox", "wasm"),
            ("agent-identity", "sqlite"),
            ("agent-memory", "sqlite"),
            ("agent-tools", "in_process"),
            ("agent-pay", "sqlite"),
            ("agent-orch", "sqlite"),
        ]
        .into_iter()
        .map(|(layer, backend)| Layer {
            layer,
            backend,
            version,
            is_shim: false,
        })
        .collect()
    }

    /// Ends the store's threads and releases the data directory.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    /// Gives the agents of a fleet their identities, wallets and grants: the same at every start.
    pub(crate) async fn enlist(&self, fleet: &Fleet, run: &Run) -> Result<Enlisted> {
        let root = OpenBudget::new(BudgetPath::new(&fleet.name)?, fleet.budget);
        self.open_budgets(vec![root]).await?;
        let gate = Arc::new(CapabilityGate::new(
            vec![self.inner.host.did],
            Arc::clone(&self.inner.grants),
            &self.inner.env,
        ));
        let mut members = Vec::new();
        for place in places(fleet) {
            let retired = self.retired(fleet, place.name).await?;
            let size = usize::try_from(place.size).unwrap_or(usize::MAX);
            let numbers = (1_u32..).filter(|n| !retired.contains(n)).take(size);
            let numbers: Vec<u32> = numbers.collect();
            members.extend(
                self.enlist_some(&gate, fleet, run.started, (place.name, &numbers))
                    .await?,
            );
        }
        Ok(Enlisted {
            members,
            grants: gate,
        })
    }

    /// Gives agents of a pool or lane their identities, wallets and grants, and enters them into
    /// the registry. `started` is when the run started.
    pub(crate) async fn enlist_some(
        &self,
        gate: &CapabilityGate,
        fleet: &Fleet,
        started: Timestamp,
        (name, numbers): (&str, &[u32]),
    ) -> Result<Vec<Member>> {
        let place = places(fleet)
            .find(|place| place.name == name)
            .ok_or_else(|| Error::not_found("pool or lane", name))?;
        let path = BudgetPath::new(&fleet.name)?.child(place.name)?;
        let mut budgets = vec![OpenBudget::new(path.clone(), place.budget)];
        let (holder, keys) = self.keys_of(&path, numbers).await?;
        let grants = self.grants(place.grants, started)?;
        let mut chains = Vec::new();
        for (capabilities, expires) in &grants {
            chains.push(self.pool_grant(&holder, capabilities, *expires).await?);
        }
        let version = fleet.version_of(place.name)?;
        let (mut members, mut agents) = (Vec::new(), Vec::new());
        for (number, key) in numbers.iter().zip(&keys) {
            let budget = path.child(&member_name(*number))?;
            budgets.push(OpenBudget::new(budget.clone(), place.budget));
            let (id, did) = (agent_id(&key.did), key.did.to_string());
            let mut agent = NewAgent::new(id, did, budget.as_str(), place.name, version);
            if let Some(pool) = fleet.pools.get(place.name) {
                (agent.owner, agent.purpose) = (pool.owner.clone(), pool.purpose.clone());
            }
            for (chain, (capabilities, expires)) in chains.iter().zip(&grants) {
                let terms = Terms::new(key.did, capabilities.clone(), *expires);
                let scope = self.host_scope();
                let own = chain.delegate(self.inner.keys.as_ref(), &scope, &holder, &terms);
                let own = gate.admit(&own.await?.to_string())?;
                let last = own.ids().last();
                agent.grants.extend(last.map(|id| (id, own.expires())));
            }
            agents.push(agent);
            members.push(member(place, key, budget, *number)?);
        }
        self.open_budgets(budgets).await?;
        let scope = self.host_scope();
        self.inner.journal.enroll(&scope, agents).await?;
        Ok(members)
    }

    async fn open_budgets(&self, budgets: Vec<OpenBudget>) -> Result<()> {
        self.inner
            .db
            .write(move |tx| {
                budgets
                    .iter()
                    .try_for_each(|open| ledger::open_budget(tx, open).map(|_| ()))
            })
            .await?;
        Ok(())
    }

    /// Returns the key of a pool's supervisor and those of its agents.
    async fn keys_of(&self, path: &BudgetPath, numbers: &[u32]) -> Result<(Key, Vec<Key>)> {
        let scope = self.host_scope();
        let holder = one_key(self.inner.keys.as_ref(), &scope, path.as_str()).await?;
        let names: Vec<KeyName> = numbers
            .iter()
            .map(|n| KeyName::new(format!("{}/{}", path.as_str(), member_name(*n))))
            .collect::<Result<_, _>>()?;
        let mut keys = Vec::with_capacity(names.len());
        for batch in names.chunks(agent_identity::key_store::NAMES_MAX) {
            keys.extend(self.inner.keys.generate(&scope, batch.to_vec()).await?);
        }
        Ok((holder, keys))
    }

    async fn pool_grant(
        &self,
        holder: &Key,
        capabilities: &[Capability],
        expires: Timestamp,
    ) -> Result<GrantChain> {
        let terms = Terms::new(holder.did, capabilities.to_vec(), expires).with_depth(1);
        let (keys, host) = (self.inner.keys.as_ref(), &self.inner.host);
        Ok(GrantChain::issue(keys, &self.host_scope(), host, &terms).await?)
    }

    /// Returns the capabilities of grants and when they end: those without limits are renewed by
    /// the day. What counts is counted per grant, so those with limits must be the same grants
    /// whenever the run is opened.
    fn grants(
        &self,
        grants: &[String],
        started: Timestamp,
    ) -> Result<Vec<(Vec<Capability>, Timestamp)>> {
        let (mut free, mut limited) = (Vec::new(), Vec::new());
        for text in grants {
            let grant = GrantText::parse(text).map_err(|e| Error::invalid("grants", e))?;
            let mut capability = Capability::new(grant.action, grant.target)?;
            (capability.calls_max, capability.spend_max) = (grant.calls_max, grant.spend_max);
            let group = if grant.is_limited() {
                &mut limited
            } else {
                &mut free
            };
            group.push(capability);
        }
        let day_ms = i64::try_from(DAY_S * 1_000).unwrap_or(i64::MAX);
        let until_ms = self.inner.env.clock.now().after(GRANTS_LAST).as_unix_ms();
        let midnight = Timestamp::from_unix_ms(until_ms - until_ms.rem_euclid(day_ms) + day_ms);
        let groups = [
            (free, midnight),
            (limited, started.after(LIMITED_GRANTS_LAST)),
        ];
        let filled = groups.into_iter().filter(|(group, _)| !group.is_empty());
        Ok(filled.collect())
    }
}

/// The layers a host chooses; the others are the embedded defaults.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layers {
    /// Where guests run.
    pub sandbox: Arc<dyn Runtime>,
    /// What agents may call.
    pub tools: Arc<dyn Toolset>,
}

impl Layers {
    /// Chooses the sandbox runtime and the tools.
    #[must_use]
    pub fn new(sandbox: Arc<dyn Runtime>, tools: Arc<dyn Toolset>) -> Self {
        Self { sandbox, tools }
    }
}

/// A pool or a lane: a number of agents with the same budget and grants.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    size: u32,
    size_max: u32,
    budget: Amount,
    grants: &'a [String],
    attempt_max: Duration,
    steps_max: u32,
    probes: Probes,
}

fn places(fleet: &Fleet) -> impl Iterator<Item = Place<'_>> {
    let pools = fleet.pools.iter().map(|(name, pool)| Place {
        name,
        size: pool.size,
        size_max: pool.size_max(),
        budget: pool.budget,
        grants: &pool.grants,
        attempt_max: pool.attempt_max,
        steps_max: pool.steps_max,
        probes: pool.probes,
    });
    let lanes = fleet.lanes.iter().map(|(name, lane)| {
        let defaults = Pool::new("", lane.size, fleet.budget);
        Place {
            name,
            size: lane.size,
            size_max: lane.size,
            budget: fleet.budget,
            grants: &lane.grants,
            attempt_max: defaults.attempt_max,
            steps_max: defaults.steps_max,
            probes: defaults.probes,
        }
    });
    pools.chain(lanes)
}

pub(crate) fn member_name(n: u32) -> String {
    format!("{n:04}")
}

fn member(place: Place<'_>, key: &Key, budget: BudgetPath, number: u32) -> Result<Member> {
    let id = agent_id(&key.did);
    let mut scope = Scope::new(Principal::try_from(key.did)?);
    scope.agent = Some(id);
    Ok(Member {
        pool: place.name.to_owned(),
        id,
        scope,
        budget,
        attempt_max: place.attempt_max,
        steps_max: place.steps_max,
        has_others: place.size_max > 1,
        number,
        probes: place.probes,
    })
}

async fn one_key(keys: &dyn KeyStore, scope: &Scope, name: &str) -> Result<Key> {
    let made = keys.generate(scope, vec![KeyName::new(name)?]).await?;
    made.into_iter()
        .next()
        .ok_or_else(|| Error::not_found("key", name))
}

/// Returns the id of the agent whose key this is.
#[must_use]
pub fn agent_id(did: &DidKey) -> AgentId {
    AgentId::from_bits(Digest::of_bytes(did.public_key()).to_bits())
}
