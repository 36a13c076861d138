//! Sealed keys in the embedded store.

use std::sync::Arc;

use agent_core::store::{Db, Tx, sql};
use agent_core::{ErrorKind, Retry, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, params};

use super::schema;
use crate::key_store::{self, GENERATIONS_MAX, Key, KeyId, KeyName, KeyStore};
use crate::vault::{Header, SealedKey, Unlock, Vault};
use crate::{DidKey, Error, Purpose, Result, Signature};

/// Private keys in the embedded store, sealed by a [`Vault`] whose header lies beside them.
///
/// A copy of the file opens nothing without the secret. Who can write to the file can still delete
/// keys or put back an old copy; sealing detects change, not absence.
#[derive(Clone, Debug)]
pub struct SqliteKeyStore {
    db: Db,
    vault: Arc<Vault>,
}

const COLUMNS: &str = "tenant, name, generation, did, key_id, created_ms, retired_ms, sealed";

impl SqliteKeyStore {
    /// Opens the vault in a store, or creates it if there is none.
    ///
    /// # Errors
    /// `Denied` for a wrong secret, `Invalid` for an unusable one, `Corrupt` for a damaged header;
    /// those of the store.
    ///
    /// # Cancel safety
    /// Atomic: a vault is created whole or not at all.
    pub async fn open(db: &Db, unlock: Unlock) -> Result<Self> {
        db.migrate(schema::LAYER, schema::STEPS).await?;
        let unlock = Arc::new(unlock);
        loop {
            // Deriving is slow, so it runs on a reader's thread and never on the writer's.
            let reader_unlock = Arc::clone(&unlock);
            let (vault, fresh) = db
                .read(move |tx| match stored_header(tx)? {
                    Some(header) => Ok((Vault::open(&header, &reader_unlock)?, None)),
                    None => {
                        Vault::create(&reader_unlock).map(|(vault, header)| (vault, Some(header)))
                    }
                })
                .await?;
            let is_ours = match fresh {
                None => true,
                Some(header) => db.write(move |tx| store_first(tx, &header)).await?,
            };
            // Another caller may have created the vault in between; then that one is opened.
            if is_ours {
                return Ok(Self {
                    db: db.clone(),
                    vault: Arc::new(vault),
                });
            }
        }
    }

    /// Replaces the secret the vault is opened with. The keys stay the same and the old secret
    /// stops working; copies of the file made before still open with it.
    ///
    /// # Errors
    /// `Invalid` for an unusable secret; those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn change_secret(&self, unlock: Unlock) -> Result<()> {
        let vault = Arc::clone(&self.vault);
        let header = self
            .db
            .read(move |_tx| vault.rewrap(&unlock))
            .await?
            .to_string();
        self.db
            .write(move |tx| {
                tx.sql()
                    .prepare_cached("UPDATE identity_vault SET header = ?1 WHERE id = 1")
                    .and_then(|mut statement| statement.execute([&header]))
                    .map_err(sql("store the vault's header"))?;
                Ok(())
            })
            .await
    }

    /// [`KeyStore::generate`] as part of a transaction.
    ///
    /// # Errors
    /// As [`KeyStore::generate`].
    pub fn generate_in(&self, tx: &Tx<'_>, tenant: &str, names: &[KeyName]) -> Result<Vec<Key>> {
        key_store::check_names(names)?;
        names
            .iter()
            .map(|name| match current(tx, tenant, name)? {
                Some(sealed) => Ok(sealed.key),
                None => {
                    let sealed = self.vault.generate(tenant, name, 0, tx.now())?;
                    insert(tx, &sealed)?;
                    Ok(sealed.key)
                }
            })
            .collect()
    }

    /// [`KeyStore::rotate`] as part of a transaction.
    ///
    /// # Errors
    /// As [`KeyStore::rotate`].
    pub fn rotate_in(
        &self,
        tx: &Tx<'_>,
        tenant: &str,
        name: &KeyName,
        expected: KeyId,
    ) -> Result<Key> {
        let Some(old) = current(tx, tenant, name)? else {
            return Err(Error::UnknownName { name: name.clone() });
        };
        if old.key.id != expected {
            return Err(Error::NotCurrent {
                expected,
                current: old.key.id,
            });
        }
        let generation = old.key.generation.saturating_add(1);
        if generation >= GENERATIONS_MAX {
            return Err(Error::TooMany {
                what: "keys of one name",
                max: usize::try_from(GENERATIONS_MAX).unwrap_or(usize::MAX),
            });
        }
        tx.sql()
            .prepare_cached(
                "UPDATE identity_key SET retired_ms = ?2, sealed = x'' WHERE key_id = ?1",
            )
            .and_then(|mut statement| {
                statement.execute(params![old.key.id.to_string(), tx.now().as_unix_ms()])
            })
            .map_err(sql("retire a key"))?;
        let next = self.vault.generate(tenant, name, generation, tx.now())?;
        insert(tx, &next)?;
        Ok(next.key)
    }

    /// [`KeyStore::remove`] as part of a transaction.
    ///
    /// # Errors
    /// As [`KeyStore::remove`].
    pub fn remove_in(&self, tx: &Tx<'_>, tenant: &str, name: &KeyName) -> Result<bool> {
        let n_removed = tx
            .sql()
            .prepare_cached("DELETE FROM identity_key WHERE tenant = ?1 AND name = ?2")
            .and_then(|mut statement| statement.execute([tenant, name.as_str()]))
            .map_err(sql("remove a key"))?;
        Ok(n_removed > 0)
    }
}

#[async_trait]
impl KeyStore for SqliteKeyStore {
    async fn generate(&self, scope: &Scope, names: Vec<KeyName>) -> Result<Vec<Key>> {
        let (this, tenant) = (self.clone(), Arc::clone(&scope.tenant));
        self.db
            .write(move |tx| this.generate_in(tx, &tenant, &names))
            .await
    }

    async fn list(&self, scope: &Scope, after: Option<KeyName>, limit: usize) -> Result<Vec<Key>> {
        let tenant = Arc::clone(&scope.tenant);
        let limit = i64::try_from(limit.min(key_store::PAGE_MAX)).unwrap_or(0);
        let after = after.map_or_else(String::new, |name| name.as_str().to_owned());
        let query = format!(
            "SELECT {COLUMNS} FROM identity_key
             WHERE tenant = ?1 AND name > ?2 AND retired_ms IS NULL ORDER BY name LIMIT ?3"
        );
        self.db
            .read(move |tx| select(tx, &query, params![&*tenant, after, limit]))
            .await
    }

    async fn history(&self, scope: &Scope, name: KeyName) -> Result<Vec<Key>> {
        let tenant = Arc::clone(&scope.tenant);
        let query = format!(
            "SELECT {COLUMNS} FROM identity_key
             WHERE tenant = ?1 AND name = ?2 ORDER BY generation DESC"
        );
        self.db
            .read(move |tx| select(tx, &query, params![&*tenant, name.as_str()]))
            .await
    }

    async fn sign(
        &self,
        scope: &Scope,
        key: KeyId,
        purpose: Purpose,
        bytes: Vec<u8>,
    ) -> Result<Signature> {
        key_store::check_message(&bytes)?;
        let (vault, tenant) = (Arc::clone(&self.vault), Arc::clone(&scope.tenant));
        let query = format!("SELECT {COLUMNS} FROM identity_key WHERE key_id = ?1 AND tenant = ?2");
        self.db
            .read(move |tx| {
                let sealed = one(tx, &query, params![key.to_string(), &*tenant])?;
                vault.sign(&sealed.ok_or(Error::UnknownKey { key })?, &purpose, &bytes)
            })
            .await
    }

    async fn rotate(&self, scope: &Scope, name: KeyName, expect: KeyId) -> Result<Key> {
        let (this, tenant) = (self.clone(), Arc::clone(&scope.tenant));
        self.db
            .write(move |tx| this.rotate_in(tx, &tenant, &name, expect))
            .await
    }

    async fn remove(&self, scope: &Scope, name: KeyName) -> Result<bool> {
        let (this, tenant) = (self.clone(), Arc::clone(&scope.tenant));
        self.db
            .write(move |tx| this.remove_in(tx, &tenant, &name))
            .await
    }
}

fn stored_header(tx: &Tx<'_>) -> Result<Option<Header>> {
    tx.sql()
        .query_row(
            "SELECT header FROM identity_vault WHERE id = 1",
            [],
            |row| row.get::<_, String>(0),
        )
        .optional()
        .map_err(sql("read the vault's header"))?
        .map(|text| text.parse())
        .transpose()
}

/// Stores the header of a vault if there is none, and returns whether it did.
fn store_first(tx: &Tx<'_>, header: &Header) -> Result<bool> {
    let n_inserted = tx
        .sql()
        .execute(
            "INSERT INTO identity_vault VALUES (1, ?1) ON CONFLICT DO NOTHING",
            [header.to_string()],
        )
        .map_err(sql("store the vault's header"))?;
    Ok(n_inserted == 1)
}

fn current(tx: &Tx<'_>, tenant: &str, name: &KeyName) -> Result<Option<SealedKey>> {
    let query = format!(
        "SELECT {COLUMNS} FROM identity_key
         WHERE tenant = ?1 AND name = ?2 ORDER BY generation DESC LIMIT 1"
    );
    one(tx, &query, params![tenant, name.as_str()])
}

fn insert(tx: &Tx<'_>, sealed: &SealedKey) -> Result<()> {
    let key = &sealed.key;
    tx.sql()
        .prepare_cached("INSERT INTO identity_key VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7)")
        .and_then(|mut statement| {
            statement.execute(params![
                sealed.tenant,
                key.name.as_str(),
                key.generation,
                key.did.to_string(),
                key.id.to_string(),
                key.created.as_unix_ms(),
                sealed.sealed,
            ])
        })
        .map_err(sql("store a key"))?;
    Ok(())
}

fn one(tx: &Tx<'_>, query: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Option<SealedKey>> {
    tx.sql()
        .prepare_cached(query)
        .and_then(|mut statement| statement.query_row(params, stored).optional())
        .map_err(sql("read a key"))?
        .map(Stored::read)
        .transpose()
}

fn select(tx: &Tx<'_>, query: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Vec<Key>> {
    let rows: Vec<Stored> = tx
        .sql()
        .prepare_cached(query)
        .and_then(|mut statement| statement.query_map(params, stored)?.collect())
        .map_err(sql("read the keys"))?;
    let sealed = rows.into_iter().map(Stored::read);
    sealed.map(|sealed| Ok(sealed?.key)).collect()
}

/// A row as it is stored.
struct Stored {
    tenant: String,
    name: String,
    generation: u32,
    did: String,
    key_id: String,
    created_ms: i64,
    retired_ms: Option<i64>,
    sealed: Vec<u8>,
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        tenant: row.get(0)?,
        name: row.get(1)?,
        generation: row.get(2)?,
        did: row.get(3)?,
        key_id: row.get(4)?,
        created_ms: row.get(5)?,
        retired_ms: row.get(6)?,
        sealed: row.get(7)?,
    })
}

impl Stored {
    fn read(self) -> Result<SealedKey> {
        let damaged = |source: Error| {
            Error::backend(
                "sqlite",
                "read a key",
                ErrorKind::Corrupt,
                Retry::Never,
                source,
            )
        };
        let did: DidKey = self.did.parse().map_err(damaged)?;
        let name = KeyName::new(self.name).map_err(damaged)?;
        let created = Timestamp::from_unix_ms(self.created_ms);
        let key = Key::new(name, did, self.generation, created)
            .with_retired(self.retired_ms.map(Timestamp::from_unix_ms));
        if key.id.to_string() != self.key_id {
            return Err(Error::Tampered { key: key.id });
        }
        Ok(SealedKey::new(self.tenant, key, self.sealed))
    }
}
