//! Memories in a PostgreSQL database that several processes share.
//!
//! The tables hold the truth. The index of a namespace is derived from them in the main memory of
//! each process and caught up by the number of the last change before every search, so a search
//! sees every write that was acknowledged, by whichever process, and ranks as every other backend.
//!
//! # Isolation
//! Every statement names the partition. Behind that, row-level security compares every row with
//! the tenant and the partition the transaction has named, and shows nothing where none is named.
//! A superuser, or a role with `BYPASSRLS`, goes through that second wall:
//! [`Postgres::is_walled`] says whether it stands.
//!
//! # Erasure
//! [`forget`](crate::MemoryStore::forget) deletes the rows and has the tables vacuumed, so that no
//! statement finds them and their space is used again. The receipt still says `is_scrubbed: false`,
//! because a client cannot vouch for a server's files: freed pages keep their bytes until they are
//! written over, the write-ahead log keeps every row it carried until its files are recycled, and
//! replicas, archives and backups keep what was copied to them. [`Postgres::scrub`] rewrites the
//! tables without what was erased; log, replicas and backups remain with the operator. Columns
//! that hold remembered text are kept out of the planner's statistics.
//!
//! # Connections
//! The host makes the pool (`deadpool-postgres` 0.14), with the TLS and credentials it wants, and sets the time limits of
//! connections there (`connect_timeout`, `tcp_user_timeout`). A connection that is lost before a
//! commit was sent is `Unavailable` and safe to repeat; if it is lost while the commit is under
//! way, the outcome is unknown: repeat the call with the same idempotency keys.

mod carry;
mod catch_up;
mod config;
mod fault;
mod near;
mod read;
mod rows;
mod schema;
mod session;
mod write;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use agent_core::{Embedder, Env, Scope, Timestamp};
use async_trait::async_trait;
use deadpool_postgres::{Client, Pool};

use crate::error::{Error, Result};
use crate::memory::{Added, Change, Draft, Memory, MemoryId, Receipt, Selection};
use crate::metadata::Relabel;
use crate::namespace::{Namespace, tenant};
use crate::prepare::{embed, prepare};
use crate::query::{Hit, Listing, Query};
use crate::relation::{Path, Relation, Walk};
use crate::store::MemoryStore;
use crate::terms::query_words;
use catch_up::{Indexes, blocking};
use fault::db;
use session::{Mode, Session};

pub use config::Config;

/// Runs a write in a transaction that ends with the scope until it is asked to commit.
macro_rules! write {
    ($store:ident, $scope:ident, $tenant:expr, |$tx:ident| $work:expr) => {{
        let mut client = $store.guard($scope, $store.client()).await?;
        let begin = $store.begin(&mut client, Mode::Write, $tenant);
        let $tx = $store.guard($scope, begin).await?;
        let done = $store.guard($scope, $work).await?;
        $tx.commit().await?;
        done
    }};
}

/// Runs a read in a snapshot that ends with the scope.
macro_rules! read {
    ($store:ident, $scope:ident, $tenant:expr, |$tx:ident| $work:expr) => {
        $store
            .guard($scope, async {
                let mut client = $store.client().await?;
                let $tx = $store.begin(&mut client, Mode::Read, $tenant).await?;
                $work.await
            })
            .await
    };
}

// Below the macros, which it uses.
mod embed;

/// Memories in a PostgreSQL database. Cheap to clone; clones share the pool and the indexes.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    env: Env,
    lock_ms_max: u64,
    indexes: Arc<Indexes>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("embedder", &self.indexes.embedder)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Creates or updates the tables, in the first schema of the connections' search path. Indexes
    /// are loaded when first needed. Processes that open at once take turns.
    ///
    /// Clocks of processes that share a database should agree: what was known at a moment is
    /// decided by the time that the writing process gave.
    ///
    /// # Errors
    /// `Unsupported` if a later version wrote the tables or the database's encoding is not UTF-8;
    /// `Corrupt` if the embedder's space is known with another number of dimensions; `Denied` if
    /// the role may not log in or may not create tables that are missing; `Unavailable` if there is
    /// no connection.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        pool: Pool,
        env: Env,
        embedder: Arc<dyn Embedder>,
        config: Config,
    ) -> Result<Self> {
        let mut client = pool.get().await.map_err(fault::pool)?;
        schema::migrate(&mut client).await?;
        let space = schema::register_space(&client, embedder.as_ref()).await?;
        let former = config.former.filter(|one| one.space() != embedder.space());
        let former = match former {
            Some(former) => {
                let space = schema::register_space(&client, former.as_ref()).await?;
                Some((former, space))
            }
            None => None,
        };
        drop(client);
        let indexes = Indexes::new(config.limits, (embedder, space), former);
        Ok(Self {
            pool,
            env,
            lock_ms_max: config.lock_ms_max,
            indexes: Arc::new(indexes),
        })
    }

    /// Returns whether row-level security holds for the role of the connections. It does not for a
    /// superuser or a role with `BYPASSRLS`; every statement names the partition all the same.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn is_walled(&self) -> Result<bool> {
        let client = self.client().await?;
        client
            .query_one("SELECT row_security_active('memory_entry')", &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(db("look for row-level security"))
    }

    /// Rewrites the tables into new files without what was erased, and removes the old ones. The
    /// tables are locked meanwhile, for readers, too. What else keeps copies is said at the
    /// [module](self).
    ///
    /// # Errors
    /// `Denied` if the role does not own the tables; the database's.
    ///
    /// # Cancel safety
    /// Cancel safe: repeat it.
    pub async fn scrub(&self) -> Result<()> {
        self.vacuum("FULL").await
    }

    /// Builds the approximate index of a namespace that is larger than the limit for scans, in the
    /// database, and returns whether there is one: not without the extension pgvector, which only
    /// an operator can create, nor for vectors longer than 2,000. Writers of the namespace wait
    /// while the vectors are copied. What is added later is scanned until the next call.
    ///
    /// # Errors
    /// `Invalid` for a bad tenant; `Denied` if the role may not create tables; the database's.
    ///
    /// # Cancel safety
    /// Cancel safe: repeat it.
    pub async fn optimize(&self, scope: &Scope, at: Namespace) -> Result<bool> {
        let tenant = self.check(scope)?;
        let embedder = self.indexes.embedder.as_ref();
        let client = self.client().await?;
        if !near::prepare(&client, embedder).await? {
            return Ok(false);
        }
        let is_large: Result<Option<i64>> = read!(self, scope, &tenant, |tx| async {
            let Some(found) = tx.enter(&at).await? else {
                return Ok(None);
            };
            let cell = Box::pin(self.indexes.current(&tx, found)).await?;
            let is_large = cell.index.read().is_large();
            Ok(is_large.then_some(found.partition))
        });
        let Some(partition) = is_large? else {
            return Ok(false);
        };
        let space = self.indexes.space;
        write!(self, scope, &tenant, |tx| async {
            match tx.enter(&at).await? {
                Some(found) => near::copy(&tx, found, space).await,
                None => Ok(()),
            }
        });
        near::index(&client, partition, space, embedder.dimensions()).await?;
        Ok(true)
    }

    async fn vacuum(&self, how: &str) -> Result<()> {
        let client = self.client().await?;
        let has_near = "SELECT to_regclass('memory_near') IS NOT NULL";
        let near = if near::has(&client, has_near).await? {
            ", memory_near"
        } else {
            ""
        };
        let statement = format!("VACUUM ({how}) {}{near}", write::TOUCHED);
        client.batch_execute(&statement).await.map_err(db("vacuum"))
    }

    fn check(&self, scope: &Scope) -> Result<Arc<str>> {
        scope
            .check(self.env.clock.as_ref())
            .map_err(Error::stopped)?;
        tenant(scope)
    }

    /// Runs what has no effect before a commit until it ends or the scope does.
    async fn guard<T>(&self, scope: &Scope, work: impl Future<Output = Result<T>>) -> Result<T> {
        scope
            .guard(self.env.clock.as_ref(), work)
            .await
            .map_err(Error::stopped)?
    }

    async fn client(&self) -> Result<Client> {
        self.pool.get().await.map_err(fault::pool)
    }

    async fn begin<'c>(
        &self,
        client: &'c mut Client,
        mode: Mode,
        tenant: &str,
    ) -> Result<Session<'c>> {
        let now = self.env.clock.now();
        Session::begin(client, mode, tenant, self.lock_ms_max, now).await
    }
}

#[async_trait]
impl MemoryStore for Postgres {
    async fn add(&self, scope: &Scope, at: Namespace, drafts: Vec<Draft>) -> Result<Vec<Added>> {
        let embedder = self.indexes.embedder.as_ref();
        let prepared = prepare(&self.env, embedder, scope, at, drafts).await?;
        let space = self.indexes.space;
        Ok(write!(self, scope, &prepared.tenant, |tx| {
            write::add(&tx, &prepared, space)
        }))
    }

    async fn get(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Memory> {
        let tenant = self.check(scope)?;
        read!(self, scope, &tenant, |tx| async {
            let found = match tx.enter(&at).await? {
                Some(found) => rows::by_id(&tx, found.partition, &at, id).await?,
                None => None,
            };
            found.ok_or(Error::NotFound { id })
        })
    }

    async fn search(&self, scope: &Scope, query: Query) -> Result<Vec<Hit>> {
        let tenant = self.check(scope)?;
        query.check()?;
        if query_words(&query.text).is_empty() {
            return Ok(Vec::new());
        }
        let texts = [query.text.clone()];
        let embedder = self.indexes.embedder.as_ref();
        let vectors = embed(&self.env, embedder, scope, &texts).await?;
        let former = match &self.indexes.former {
            Some((former, _)) => embed(&self.env, former.as_ref(), scope, &texts).await?,
            None => Vec::new(),
        };
        let search = read::Search {
            query,
            vector: vectors.into_iter().next().flatten(),
            former: former.into_iter().next().flatten(),
            now: self.env.clock.now(),
        };
        read!(self, scope, &tenant, |tx| search.run(&tx, &self.indexes))
    }

    async fn retire(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        valid_to: Timestamp,
        reason: String,
    ) -> Result<()> {
        let tenant = self.check(scope)?;
        write!(self, scope, &tenant, |tx| {
            write::retire(&tx, scope, &at, id, valid_to, &reason)
        });
        Ok(())
    }

    async fn forget(
        &self,
        scope: &Scope,
        at: Namespace,
        what: Selection,
        reason: String,
    ) -> Result<Receipt> {
        let tenant = self.check(scope)?;
        let receipt = write!(self, scope, &tenant, |tx| {
            write::forget(&tx, scope, &at, &what, &reason)
        });
        // The rows are gone whether these succeed or not: the index catches up before the next
        // search, and the server vacuums by itself. So that neither waits, both are tried now.
        let caught_up: Result<()> = read!(self, scope, &tenant, |tx| async {
            if let Some(found) = tx.enter(&at).await? {
                self.indexes.current(&tx, found).await?;
            }
            Ok(())
        });
        drop(caught_up);
        let vacuumed = self.vacuum("INDEX_CLEANUP ON").await;
        drop(vacuumed);
        Ok(receipt)
    }

    async fn relate(&self, scope: &Scope, at: Namespace, relations: Vec<Relation>) -> Result<()> {
        let tenant = self.check(scope)?;
        write!(self, scope, &tenant, |tx| {
            write::relate(&tx, scope, &at, &relations)
        });
        Ok(())
    }

    async fn paths(&self, scope: &Scope, at: Namespace, walk: Walk) -> Result<Vec<Path>> {
        let tenant = self.check(scope)?;
        walk.check()?;
        let now = self.env.clock.now();
        read!(self, scope, &tenant, |tx| async {
            let Some(found) = tx.enter(&at).await? else {
                return Ok(Vec::new());
            };
            let cell = self.indexes.current(&tx, found).await?;
            blocking(move || cell.index.read().paths(&walk, now)).await
        })
    }

    async fn list(&self, scope: &Scope, at: Namespace, listing: Listing) -> Result<Vec<Memory>> {
        let tenant = self.check(scope)?;
        listing.check()?;
        let now = self.env.clock.now();
        read!(self, scope, &tenant, |tx| {
            read::list(&tx, &self.indexes, &at, listing, now)
        })
    }

    async fn relabel(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        labels: Vec<(String, Relabel)>,
        reason: String,
    ) -> Result<()> {
        let tenant = self.check(scope)?;
        write!(self, scope, &tenant, |tx| {
            write::relabel(&tx, scope, &at, id, &labels, &reason)
        });
        Ok(())
    }

    async fn history(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Vec<Change>> {
        let tenant = self.check(scope)?;
        read!(self, scope, &tenant, |tx| async {
            let changes = match tx.enter(&at).await? {
                Some(found) => rows::changes(&tx, found.partition, &[id])
                    .await?
                    .remove(&id),
                None => None,
            };
            changes.ok_or(Error::NotFound { id })
        })
    }
}
