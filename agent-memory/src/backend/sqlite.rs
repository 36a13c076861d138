//! Memories in the embedded store: SQLite holds the truth, the indexes in main memory are derived
//! from it and caught up before every search.

mod carry;
mod catch_up;
mod config;
mod embed;
mod indexes;
mod optimize;
mod read;
mod rows;
mod schema;
mod snapshot;
pub mod write;

pub use config::Config;

use std::fmt;
use std::sync::Arc;

use agent_core::store::{Db, Tx, sql};
use agent_core::{Embedder, Env, Scope, Timestamp};
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{OptionalExtension, params};

use indexes::Indexes;
use snapshot::Snapshots;

use crate::error::{Error, Result};
use crate::memory::{Added, Change, Draft, Memory, MemoryId, Receipt, Selection};
use crate::metadata::Relabel;
use crate::namespace::{Namespace, tenant};
use crate::prepare::{embed, prepare};
use crate::query::{Hit, Listing, Query};
use crate::relation::{Path, Relation, Walk};
use crate::store::MemoryStore;
use crate::terms::query_words;

/// Memories in the embedded store. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite {
    db: Db,
    env: Env,
    embedder: Arc<dyn Embedder>,
    indexes: Arc<Indexes>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("db", &self.db)
            .field("embedder", &self.embedder)
            .finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Creates or updates the tables in the store. Indexes are loaded when first needed.
    ///
    /// # Errors
    /// `Unsupported` if a later version wrote the tables, `Corrupt` if the embedder's space is
    /// known with another number of dimensions; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        db: Db,
        env: Env,
        embedder: Arc<dyn Embedder>,
        config: Config,
    ) -> Result<Self> {
        db.migrate(schema::LAYER, schema::STEPS).await?;
        let space = register(&db, embedder.as_ref()).await?;
        let former = config
            .former
            .filter(|former| former.space() != embedder.space());
        let former = match former {
            Some(former) => {
                let space = register(&db, former.as_ref()).await?;
                Some((former, space))
            }
            None => None,
        };
        let snapshots = Snapshots::new(db.path(), embedder.space());
        Ok(Self {
            db,
            env,
            embedder: Arc::clone(&embedder),
            indexes: Arc::new(Indexes {
                snapshots,
                limits: config.limits,
                embedder,
                space,
                former,
                by_partition: Mutex::default(),
            }),
        })
    }

    /// Empties the write-ahead log and removes the index files that were written before something
    /// was erased, so that no file holds a copy of it. Returns false if another connection is still reading from it.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe: repeat it.
    pub async fn scrub(&self) -> Result<bool> {
        let indexes = Arc::clone(&self.indexes);
        self.db
            .read(move |tx| indexes.snapshots.remove_outdated(tx))
            .await?;
        // A read of its own: one that has read anything holds up the emptying.
        self.db
            .read(|tx| {
                tx.sql()
                    .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                        row.get::<_, i64>(0)
                    })
                    .map(|is_busy| is_busy == 0)
                    .map_err(sql("empty the write-ahead log"))
                    .map_err(Error::from)
            })
            .await
    }

    fn check(&self, scope: &Scope) -> Result<Arc<str>> {
        scope
            .check(self.env.clock.as_ref())
            .map_err(Error::stopped)?;
        tenant(scope)
    }
}

async fn register(db: &Db, embedder: &dyn Embedder) -> Result<i64> {
    let dimensions = embedder.dimensions();
    let name = embedder.space().to_owned();
    db.write(move |tx| register_space(tx, &name, dimensions))
        .await
}

fn register_space(tx: &Tx<'_>, name: &str, dimensions: usize) -> Result<i64> {
    let dimensions = i64::try_from(dimensions)
        .map_err(|_too_large| Error::invalid("embedder", "its vectors are too long"))?;
    let known: Option<(i64, i64)> = tx
        .sql()
        .query_row(
            "SELECT id, dimensions FROM memory_space WHERE name = ?1",
            [name],
            |row| row.try_into(),
        )
        .optional()
        .map_err(sql("find a vector space"))?;
    match known {
        Some((id, known)) if known == dimensions => Ok(id),
        Some(_) => Err(Error::corrupt("a vector space has another length")),
        None => tx
            .sql()
            .prepare_cached("INSERT INTO memory_space (name, dimensions) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.insert(params![name, dimensions]))
            .map_err(sql("register a vector space"))
            .map_err(Error::from),
    }
}

#[async_trait]
impl MemoryStore for Sqlite {
    async fn add(&self, scope: &Scope, at: Namespace, drafts: Vec<Draft>) -> Result<Vec<Added>> {
        let prepared = prepare(&self.env, self.embedder.as_ref(), scope, at, drafts).await?;
        self.db.write(move |tx| write::add(tx, &prepared)).await
    }

    async fn get(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Memory> {
        let tenant = self.check(scope)?;
        self.db
            .read(move |tx| {
                let found = match rows::find_partition(tx, &tenant, &at)? {
                    Some(partition) => rows::by_id(tx, partition, &at, id)?,
                    None => None,
                };
                found.ok_or(Error::NotFound { id })
            })
            .await
    }

    async fn search(&self, scope: &Scope, query: Query) -> Result<Vec<Hit>> {
        let tenant = self.check(scope)?;
        query.check()?;
        if query_words(&query.text).is_empty() {
            return Ok(Vec::new());
        }
        let texts = [query.text.clone()];
        let vectors = embed(&self.env, self.embedder.as_ref(), scope, &texts).await?;
        let former = match &self.indexes.former {
            Some((former, _)) => embed(&self.env, former.as_ref(), scope, &texts).await?,
            None => Vec::new(),
        };
        let search = read::Search {
            tenant,
            query,
            vector: vectors.into_iter().next().flatten(),
            former: former.into_iter().next().flatten(),
            now: self.env.clock.now(),
        };
        let indexes = Arc::clone(&self.indexes);
        self.db.read(move |tx| search.run(tx, &indexes)).await
    }

    async fn retire(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        valid_to: Timestamp,
        reason: String,
    ) -> Result<()> {
        self.check(scope)?;
        let scope = scope.clone();
        self.db
            .write(move |tx| write::retire(tx, &scope, &at, id, valid_to, &reason))
            .await
    }

    async fn forget(
        &self,
        scope: &Scope,
        at: Namespace,
        what: Selection,
        reason: String,
    ) -> Result<Receipt> {
        let tenant = self.check(scope)?;
        let (author, namespace) = (scope.clone(), at.clone());
        let mut receipt = self
            .db
            .write(move |tx| write::forget(tx, &author, &namespace, &what, &reason))
            .await?;
        let indexes = Arc::clone(&self.indexes);
        self.db
            .read(move |tx| match rows::find_partition(tx, &tenant, &at)? {
                Some(partition) => indexes.with(tx, partition, |_caught_up| Ok(())),
                None => Ok(()),
            })
            .await?;
        receipt.is_scrubbed = self.scrub().await?;
        Ok(receipt)
    }

    async fn relate(&self, scope: &Scope, at: Namespace, relations: Vec<Relation>) -> Result<()> {
        self.check(scope)?;
        let scope = scope.clone();
        self.db
            .write(move |tx| write::relate(tx, &scope, &at, &relations))
            .await
    }

    async fn paths(&self, scope: &Scope, at: Namespace, walk: Walk) -> Result<Vec<Path>> {
        let tenant = self.check(scope)?;
        walk.check()?;
        let indexes = Arc::clone(&self.indexes);
        let now = self.env.clock.now();
        self.db
            .read(move |tx| match rows::find_partition(tx, &tenant, &at)? {
                Some(partition) => indexes.with(tx, partition, |index| Ok(index.paths(&walk, now))),
                None => Ok(Vec::new()),
            })
            .await
    }

    async fn list(&self, scope: &Scope, at: Namespace, listing: Listing) -> Result<Vec<Memory>> {
        let tenant = self.check(scope)?;
        listing.check()?;
        let now = self.env.clock.now();
        let indexes = Arc::clone(&self.indexes);
        self.db
            .read(move |tx| read::list(tx, &indexes, &tenant, &at, &listing, now))
            .await
    }

    async fn relabel(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        labels: Vec<(String, Relabel)>,
        reason: String,
    ) -> Result<()> {
        self.check(scope)?;
        let scope = scope.clone();
        self.db
            .write(move |tx| write::relabel(tx, &scope, &at, id, &labels, &reason))
            .await
    }

    async fn history(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Vec<Change>> {
        let tenant = self.check(scope)?;
        self.db
            .read(move |tx| {
                let changes = match rows::find_partition(tx, &tenant, &at)? {
                    Some(partition) => rows::changes(tx, partition, id)?,
                    None => Vec::new(),
                };
                if changes.is_empty() {
                    Err(Error::NotFound { id })
                } else {
                    Ok(changes)
                }
            })
            .await
    }
}
