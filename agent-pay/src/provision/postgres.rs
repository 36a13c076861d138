//! Databases and roles on a PostgreSQL server that the host names.

mod fault;
mod make;

use std::fmt;
use std::sync::Arc;

use agent_core::{Entropy, Env};
use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};

use super::{
    Blocker, BlockerCode, CredentialName, Inspected, Offer, Plan, Provisioner, ResourceName, Spec,
    Vault,
};
use crate::error::{Error, Result};
use fault::{db, pool};

const NAME: &str = "postgres";
/// Every role made here has this comment from its first moment, so that another is never taken for
/// one; every database has it once it is closed to others.
const MARK: &str = "made by agent-pay";
/// The oldest server: earlier ones copy a template without the log, between two checkpoints.
const VERSION_MIN: i32 = 150_000;

/// How databases are made on a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PostgresSettings {
    prefix: String,
    host: String,
    port: u16,
    n_max: usize,
    n_warm: usize,
}

impl PostgresSettings {
    /// The most databases on a server, unless the host says otherwise.
    pub const N_MAX: usize = 1_000;
    /// The longest prefix in bytes: with a name of 40 it fits PostgreSQL's 63.
    pub const PREFIX_BYTES_MAX: usize = 16;

    /// Describes a server by the host name, or the directory of its socket, and the port that go
    /// into credentials. Databases are called `agent_` and the resource's name, none is made ahead.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            prefix: "agent_".to_owned(),
            host: host.into(),
            port,
            n_max: Self::N_MAX,
            n_warm: 0,
        }
    }

    /// Sets what the names of databases and roles begin with: at most 16 of `a-z`, `0-9` and `_`.
    /// Two provisioners of one server need two that do not begin with one another. Default:
    /// `agent_`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the most databases. Default: 1,000.
    #[must_use]
    pub const fn with_n_max(mut self, n_max: usize) -> Self {
        self.n_max = n_max;
        self
    }

    /// Sets how many empty databases [`PostgresDatabases::fill`] keeps ahead. Each takes about 7 MB of
    /// disk. Default: none.
    #[must_use]
    pub const fn with_n_warm(mut self, n_warm: usize) -> Self {
        self.n_warm = n_warm;
        self
    }
}

/// Makes databases on a PostgreSQL server, each with a role of its own.
///
/// The role owns its database and nothing else, and is neither superuser nor may it create databases
/// or roles; of the databases made here it may connect to its own alone. PostgreSQL lets every role
/// connect to databases that do not forbid it: revoke `CONNECT` on the server's other databases
/// from `PUBLIC`.
///
/// The password is 32 random bytes; the server gets its SCRAM-SHA-256 verifier only, so no statement
/// and no log has it.
///
/// The pool connects as a role with `CREATEDB` and `CREATEROLE`; it need not be a superuser.
///
/// # Speed
/// `CREATE DATABASE` copies a template of about 7 MB. Where that is too slow, [`Self::fill`] makes
/// databases ahead, closed and without a password, and creating one renames it.
///
/// # Quota
/// A plan's sessions are limited by the role. PostgreSQL has no limit on a database's size: it is
/// measured, by [`Provisioner::inspect`].
#[derive(Clone)]
pub struct PostgresDatabases {
    pool: Pool,
    entropy: Arc<dyn Entropy>,
    settings: Arc<PostgresSettings>,
    offer: Arc<Offer>,
}

impl fmt::Debug for PostgresDatabases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDatabases")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl PostgresDatabases {
    /// The offer's name.
    pub const OFFER: &'static str = "postgres/database";

    /// Makes databases over a pool of connections to any database of the server that it does not
    /// make itself, with the host's plans. Nothing is asked of the server yet.
    ///
    /// # Errors
    /// `Invalid` for a prefix of another form.
    pub fn new(
        pool: Pool,
        env: &Env,
        settings: PostgresSettings,
        plans: Vec<Plan>,
    ) -> Result<Self> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let prefix = settings.prefix.as_bytes();
        let is_first = prefix.first().is_some_and(u8::is_ascii_lowercase);
        if !is_first
            || prefix.len() > PostgresSettings::PREFIX_BYTES_MAX
            || !prefix.iter().copied().all(is_plain)
        {
            let form = "1 to 16 of a-z, 0-9 and _, a letter first";
            return Err(Error::invalid("prefix", form));
        }
        let description = "a PostgreSQL database with a role of its own";
        Ok(Self {
            pool,
            entropy: Arc::clone(&env.entropy),
            settings: Arc::new(settings),
            offer: Arc::new(Offer::new(Self::OFFER, description, plans)),
        })
    }

    /// Makes empty databases ahead until there are as many as the settings say, and returns how
    /// many it made. Call it when there is time, after each creation for example.
    ///
    /// # Errors
    /// Those of the server.
    ///
    /// # Cancel safety
    /// Safe to drop: what was begun is finished by the next call.
    pub async fn fill(&self) -> Result<usize> {
        let client = self.client().await?;
        self.finish_warm(&client).await?;
        let n_ready = self.warm(&client).await?.len();
        let n_missing = self.settings.n_warm.saturating_sub(n_ready);
        for _ in 0..n_missing {
            let database = self.warm_name();
            self.make_closed(&client, &database).await?;
        }
        Ok(n_missing)
    }

    async fn client(&self) -> Result<Object> {
        self.pool.get().await.map_err(pool)
    }

    fn database(&self, name: &ResourceName) -> String {
        format!("{}{name}", self.settings.prefix)
    }

    /// Returns the identifier of something PostgreSQL calls by a name from here. Names are of `a-z`,
    /// `0-9`, `_` and, for what is made ahead, `-`; they are quoted all the same.
    fn quoted(name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    async fn server_blockers(&self, spec: &Spec) -> Result<Vec<Blocker>> {
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => {
                return Ok(vec![Blocker::new(
                    BlockerCode::ServerUnreachable,
                    error.to_string(),
                    "start the server, or correct its address and credentials",
                )]);
            }
        };
        let about = "SELECT current_setting('server_version_num')::int, rolcreatedb OR rolsuper, \
             rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user";
        let row = client.query_one(about, &[]).await.map_err(db("look"))?;
        let mut found = Vec::new();
        let version: i32 = row.get(0);
        let checks: [(bool, BlockerCode, String, &str); 3] = [
            (
                version >= VERSION_MIN,
                BlockerCode::ServerTooOld,
                format!("the server is of version {version}"),
                "use PostgreSQL 15 or later",
            ),
            (
                row.get(1),
                BlockerCode::MayNotCreateDatabases,
                "the role may not create databases".to_owned(),
                "ALTER ROLE … CREATEDB",
            ),
            (
                row.get(2),
                BlockerCode::MayNotCreateRoles,
                "the role may not create roles".to_owned(),
                "ALTER ROLE … CREATEROLE",
            ),
        ];
        for (is_met, code, what, remedy) in checks {
            if !is_met {
                found.push(Blocker::new(code, what, remedy));
            }
        }
        let names = self.names(&client).await?;
        let database = self.database(&spec.name);
        if !names.contains(&database) {
            if names.len() >= self.settings.n_max {
                found.push(Blocker::new(
                    BlockerCode::LimitReached,
                    format!("there are {} databases", names.len()),
                    "remove one, or raise the limit",
                ));
            }
            let is_taken = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) \
                 OR EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
            let is_taken = client.query_one(is_taken, &[&database]).await;
            if is_taken.map_err(db("look for a name"))?.get(0) {
                found.push(make::taken(&database));
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Provisioner for PostgresDatabases {
    fn name(&self) -> &str {
        NAME
    }

    async fn catalogue(&self) -> Result<Vec<Offer>> {
        Ok(vec![Offer::clone(&self.offer)])
    }

    async fn preflight(&self, spec: &Spec) -> Result<Vec<Blocker>> {
        let mut found = spec.blockers_in(std::slice::from_ref(self.offer.as_ref()));
        found.extend(self.server_blockers(spec).await?);
        Ok(found)
    }

    async fn create(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        let blockers = spec.blockers_in(std::slice::from_ref(self.offer.as_ref()));
        if !blockers.is_empty() {
            return Err(Error::blocked(blockers));
        }
        let client = self.client().await?;
        let database = self.database(&spec.name);
        let password = self.password();
        if !self.claim(&client, &database).await? {
            self.make_closed(&client, &database).await?;
        }
        self.open_to(&client, &database, &spec.plan, Some(&password))
            .await?;
        let url = self.url(&database, &password);
        let credential = CredentialName::of(NAME, &spec.name, "url")?;
        vault.put(&credential, url.into()).await?;
        Ok(vec![credential])
    }

    async fn alter(&self, spec: &Spec, is_awake: bool) -> Result<()> {
        let client = self.client().await?;
        let database = self.database(&spec.name);
        if !self.names(&client).await?.contains(&database) {
            let name = spec.name.clone();
            return Err(Error::ResourceNotFound { name });
        }
        if is_awake {
            return self.open_to(&client, &database, &spec.plan, None).await;
        }
        match self.close(&client, &database).await? {
            true => Ok(()),
            false => {
                self.open_to(&client, &database, &spec.plan, None).await?;
                let name = spec.name.clone();
                Err(Error::ResourceInUse { name })
            }
        }
    }

    async fn destroy(&self, name: &ResourceName, vault: &dyn Vault) -> Result<()> {
        let client = self.client().await?;
        self.remove(&client, &self.database(name)).await?;
        vault.remove_all(NAME, name).await
    }

    async fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>> {
        let client = self.client().await?;
        let database = self.database(name);
        if !self.names(&client).await?.contains(&database) {
            return Ok(None);
        }
        let statement = "SELECT d.datallowconn AND coalesce(r.rolcanlogin, false), \
             pg_database_size(d.oid), \
             (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid) \
             FROM pg_database d JOIN pg_roles r ON r.rolname = d.datname WHERE d.datname = $1";
        let row = client.query_opt(statement, &[&database]).await;
        let Some(row) = row.map_err(db("look at a database"))? else {
            return Ok(None);
        };
        let mut found = Inspected::new(row.get(0));
        let count = |n: i64| u64::try_from(n).ok();
        found.storage_bytes = count(row.get(1));
        found.n_sessions = count(row.get(2));
        Ok(Some(found))
    }

    async fn list(&self) -> Result<Vec<ResourceName>> {
        let client = self.client().await?;
        let names = self.names(&client).await?;
        let of = |name: &String| {
            let name = name.strip_prefix(&self.settings.prefix)?;
            ResourceName::new(name).ok()
        };
        Ok(names.iter().filter_map(of).collect())
    }
}
